//! Bodies pass while they come, in both directions, whatever their size.

use crate::behind::{Behind, READ_AND_UPDATE};
use crate::raw::Connection;
use crate::upstream::{Upstream, unchunked};
use futures_util::{StreamExt, stream};
use reqwest::{Body, Method};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

const PATIENCE: Duration = Duration::from_secs(20);
/// More than all buffers on the way hold, sockets included.
const LARGE_BYTES: usize = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_part_of_an_answer_arrives_before_the_last_is_sent() {
    for head in [
        "transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        "content-length: 9\r\n\r\nfirst",
    ] {
        let is_chunked = head.contains("chunked");
        let go_on = Arc::new(Notify::new());
        let (head, heard) = (format!("HTTP/1.1 200 OK\r\n{head}"), go_on.clone());
        let upstream = Upstream::playing(move |mut connection| {
            let (head, heard) = (head.clone(), heard.clone());
            async move {
                connection.request().await;
                connection.send(head).await;
                heard.notified().await;
                connection
                    .send(if is_chunked { "4\r\nlast\r\n0\r\n\r\n" } else { "last" })
                    .await;
                connection.read_to_end().await;
            }
        });
        let behind = Behind::of(upstream.await).await;
        let mut answer = behind.call(Method::GET, "/api/a").send().await.expect("an answer");
        assert_eq!(answer.content_length(), (!is_chunked).then_some(9));
        let first = tokio::time::timeout(PATIENCE, answer.chunk())
            .await
            .expect("it is there");
        assert_eq!(first.expect("a part").expect("a part"), "first");
        go_on.notify_one();
        assert_eq!(answer.text().await.expect("the rest"), "last");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_part_of_a_request_arrives_before_the_last_is_sent_and_an_answer_may_come_first() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        // An echo: each part comes back while the next is not sent yet.
        let mut seen = 0;
        loop {
            if connection.read().await == 0 {
                return;
            }
            let text = String::from_utf8_lossy(connection.unread()).into_owned();
            while let Some(at) = text[seen..].find("part") {
                seen += at + 4;
                connection.send("4\r\npart\r\n").await;
            }
            if text.ends_with("0\r\n\r\n") {
                connection.send("0\r\n\r\n").await;
                return;
            }
        }
    });
    let behind = Behind::of(upstream.await).await;
    let (parts, given) = mpsc::channel::<Result<&'static str, Infallible>>(1);
    let body = Body::wrap_stream(stream::unfold(given, |mut given| async {
        given.recv().await.map(|part| (part, given))
    }));
    let mut answer = behind
        .call(Method::POST, "/api/a")
        .body(body)
        .send()
        .await
        .expect("an answer");
    for _ in 0..3 {
        parts.send(Ok("part")).await.expect("it is taken");
        let echo = tokio::time::timeout(PATIENCE, answer.chunk())
            .await
            .expect("it comes back");
        assert_eq!(echo.expect("a part").expect("a part"), "part");
    }
    drop(parts);
    assert_eq!(answer.chunk().await.expect("an end"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_passes_both_ways_and_is_not_held() {
    let upstream = Upstream::playing(|mut connection| async move {
        let head = connection.head().await.expect("a head");
        let mut left = match head.to_ascii_lowercase().contains("content-length") {
            true => LARGE_BYTES - connection.take_unread(),
            false => 0,
        };
        while left > 0 {
            left -= connection.read_unrecorded().await;
        }
        connection
            .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n"))
            .await;
        let part = vec![b'a'; 64 * 1024];
        for _ in 0..LARGE_BYTES / part.len() {
            connection.send(&part).await;
        }
        connection.read_to_end().await;
    });
    let keys = format!("max_body_bytes = {LARGE_BYTES}");
    let behind = Behind::with(upstream.await, &keys, READ_AND_UPDATE).await;
    let before = behind.peak_memory();
    let body = vec![b'b'; LARGE_BYTES];
    let mut answer = behind
        .call(Method::POST, "/api/a")
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    // The server is ahead of a caller that takes nothing by what its buffers hold, and no more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut bytes = 0;
    while let Some(part) = answer.chunk().await.expect("a part") {
        bytes += part.len();
    }
    assert_eq!(bytes, LARGE_BYTES);
    let more = behind.peak_memory() - before;
    assert!(more < LARGE_BYTES / 4, "{more} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_unknown_length_stays_one_and_one_of_known_length_too() {
    let behind = Behind::of(Upstream::answering(crate::upstream::OK).await).await;
    let parts = stream::iter(["ab", "cd"]).map(Ok::<_, Infallible>);
    let chunked = behind.call(Method::PUT, "/api/chunked").body(Body::wrap_stream(parts));
    assert_eq!(chunked.send().await.expect("an answer").status(), 200);
    let sized = behind.call(Method::PUT, "/api/sized").body("abcd");
    assert_eq!(sized.send().await.expect("an answer").status(), 200);
    let empty = behind.head("PUT /api/empty", &["Content-Length: 0"]);
    let answer = Connection::to(&behind.scene.url).send(&empty).receive();
    assert_eq!(answer.expect("an answer").status, 200);
    for seen in behind.upstream.requests() {
        match seen.line() {
            "PUT /api/chunked HTTP/1.1" => {
                assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
                assert_eq!(unchunked(&seen.body).expect("whole"), b"abcd");
            }
            "PUT /api/sized HTTP/1.1" => {
                assert_eq!(seen.header("content-length"), Some("4"));
                assert_eq!(seen.body, b"abcd");
            }
            _ => assert_eq!(seen.header("content-length"), Some("0")),
        }
    }
    assert_eq!(behind.upstream.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_the_upstream_is_used_again() {
    let upstream = Upstream::answering(crate::upstream::OK).await;
    let config = "[server]\nworkers = 1\n".to_owned() + &crate::behind::route(&upstream.url, "", READ_AND_UPDATE);
    let behind = Behind::with_config(upstream, &config).await;
    for _ in 0..10 {
        assert_eq!(
            behind
                .call(Method::GET, "/api/a")
                .send()
                .await
                .expect("an answer")
                .status(),
            200
        );
    }
    assert_eq!(behind.upstream.requests().len(), 10);
    assert_eq!(behind.upstream.received().len(), 1);
}
