//! A caller that is slow, sends too much or vanishes costs little, and the upstream hears of it.

use crate::behind::{Behind, READ_AND_UPDATE, route};
use crate::raw::Connection;
use crate::upstream::{OK, Upstream};
use reqwest::Method;
use std::time::Duration;

const QUICK: &str = "response_timeout_seconds = 1\nidle_timeout_seconds = 1\n";

/// An upstream that reads what comes until the server closes the connection, and says so.
async fn listener() -> Upstream {
    Upstream::playing(|mut connection| async move {
        connection.read_to_end().await;
        connection.note("closed by the server");
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_vanishes_within_its_body_takes_the_upstreams_request_with_it() {
    for (framing, part) in [
        ("Content-Length: 1000", "half"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
    ] {
        let behind = Behind::of(listener().await).await;
        let mut connection = Connection::to(&behind.scene.url);
        connection
            .send(&behind.head("POST /api/a", &[framing]))
            .send(part.as_bytes());
        behind
            .upstream
            .wait_for("the half", |all| all.iter().any(|bytes| contains(bytes, b"half")))
            .await;
        drop(connection);
        behind.upstream.wait_for_note("closed by the server").await;
        let [received] = &behind.upstream.received()[..] else {
            panic!("one connection")
        };
        assert!(
            !contains(received, b"0\r\n\r\n"),
            "it looks whole: {}",
            String::from_utf8_lossy(received)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_ends_its_side_within_its_body_has_not_sent_it() {
    let behind = Behind::of(listener().await).await;
    let mut connection = Connection::to(&behind.scene.url);
    connection.send(&behind.head("POST /api/a", &["Transfer-Encoding: chunked"]));
    let answer = connection.send(b"4\r\nhalf\r\n").finish().receive();
    assert!(answer.is_none_or(|answer| answer.status == 400));
    behind.upstream.wait_for_note("closed by the server").await;
    let received = behind.upstream.received().concat();
    assert!(
        !contains(&received, b"0\r\n\r\n"),
        "it looks whole: {}",
        String::from_utf8_lossy(&received)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_vanishes_within_the_answer_ends_it_at_the_upstream() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.request().await;
        connection
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        while connection.sends(b"4\r\nhalf\r\n").await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        connection.note("closed by the server");
    });
    let behind = Behind::of(upstream.await).await;
    let mut answer = behind.call(Method::GET, "/api/a").send().await.expect("a head");
    assert_eq!(answer.chunk().await.expect("a part").expect("a part"), "half");
    drop(answer);
    behind.upstream.wait_for_note("closed by the server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_takes_no_answer_loses_it_and_holds_nothing() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.request().await;
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
            .await;
        let part = vec![b'a'; 64 * 1024];
        while connection.sends(&part).await {}
        connection.note("closed by the server");
    });
    let keys = format!("max_in_flight = 1\n{QUICK}");
    let behind = Behind::with(upstream.await, &keys, READ_AND_UPDATE).await;
    let answer = behind.call(Method::GET, "/api/a").send().await.expect("a head");
    behind.upstream.wait_for_note("closed by the server").await;
    answer.bytes().await.expect_err("it broke off");
    // Its place is free again.
    let started = std::time::Instant::now();
    while behind
        .call(Method::GET, "/api/a")
        .send()
        .await
        .expect("a head")
        .status()
        != 200
    {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "its place is not free again"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_sends_no_body_is_told_so_and_the_upstream_is_left() {
    let behind = Behind::with(listener().await, QUICK, READ_AND_UPDATE).await;
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head("POST /api/a", &[framing])).receive();
        assert_eq!(answer.expect("an answer").status, 408, "{framing}");
        assert!(connection.is_closed_by_server(), "{framing}");
        behind.upstream.wait_for_note("closed by the server").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_413_at_once_or_when_it_is() {
    let behind = Behind::with(listener().await, "max_body_bytes = 10", READ_AND_UPDATE).await;
    let mut connection = Connection::to(&behind.scene.url);
    let answer = connection
        .send(&behind.head("POST /api/a", &["Content-Length: 11"]))
        .receive();
    let announced = answer.expect("an answer");
    assert_eq!(announced.status, 413);
    assert!(behind.upstream.received().is_empty(), "the upstream never hears of it");

    let mut connection = Connection::to(&behind.scene.url);
    connection.send(&behind.head("POST /api/a", &["Transfer-Encoding: chunked"]));
    let answer = connection
        .send(b"8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n")
        .receive();
    let sent = answer.expect("an answer");
    assert_eq!((sent.status, sent.body), (413, announced.body), "it is one problem");
    behind.upstream.wait_for_note("closed by the server").await;
    assert!(
        !contains(&behind.upstream.received().concat(), b"0\r\n\r\n"),
        "it looks whole"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_giant_heads_are_ended_and_others_are_served_meanwhile() {
    let upstream = Upstream::answering(OK).await;
    let config =
        "[server]\nclient_request_timeout_seconds = 1\n".to_owned() + &route(&upstream.url, "", READ_AND_UPDATE);
    let behind = Behind::with_config(upstream, &config).await;
    let head = behind.head("GET /api/a", &[]);
    let mut slow: Vec<_> = (0..200).map(|_| Connection::to(&behind.scene.url)).collect();
    for connection in &mut slow {
        connection.send(&head[..head.len() - 1]);
    }
    assert_eq!(
        behind
            .call(Method::GET, "/api/b")
            .send()
            .await
            .expect("an answer")
            .status(),
        200
    );
    for mut connection in slow {
        assert!(connection.receive().is_none_or(|answer| answer.status == 408));
    }
    let large = format!("X-Large: {}", "a".repeat(1024 * 1024));
    let many: Vec<String> = (0..1_000).map(|number| format!("X-{number}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for headers in [&[large.as_str()][..], &many] {
        let answer = Connection::to(&behind.scene.url)
            .send(&behind.head("GET /api/a", headers))
            .receive();
        assert!(answer.is_none_or(|answer| matches!(answer.status, 400 | 431)));
    }
    assert_eq!(behind.upstream.request_lines(), ["GET /api/b HTTP/1.1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_that_vanish_leave_the_server_as_it_was() {
    let behind = Behind::with(Upstream::answering(OK).await, QUICK, READ_AND_UPDATE).await;
    let request = behind.head("POST /api/a", &["Content-Length: 1000"]);
    for _ in 0..1_000 {
        Connection::to(&behind.scene.url).send(&request).send(b"half");
    }
    let started = std::time::Instant::now();
    loop {
        let answer = behind.call(Method::GET, "/api/b").send().await.expect("an answer");
        if answer.status() == 200 {
            break;
        }
        // All places may be taken by those that are being given up, and the upstream has only a second.
        assert!(matches!(answer.status().as_u16(), 503 | 504), "{}", answer.status());
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    behind.scene.token(&behind.application, &[]).await;
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
