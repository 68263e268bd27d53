//! An upstream that is dead, slow, or speaks no HTTP is a problem of its callers alone, and one that they are told of.

use crate::behind::{Behind, READ_AND_UPDATE, route};
use crate::scene::Answer;
use crate::upstream::{OK, Upstream};
use reqwest::{Method, StatusCode};
use std::time::Duration;
use tokio::net::TcpListener;

const QUICK: &str = "connect_timeout_seconds = 1\nresponse_timeout_seconds = 1\nidle_timeout_seconds = 1\n";

async fn call(behind: &Behind, method: Method) -> Answer {
    Answer::of(behind.call(method, "/api/orders").send().await.expect("an answer")).await
}

fn assert_problem(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("urn:grantlog:problem:{kind}"));
    assert!(
        !answer.body.contains("127.0.0.1"),
        "where the upstream is, is nobody's business: {}",
        answer.body
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_upstream_is_502_and_its_call_stays_on_the_record() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let config = route(&dead, "", READ_AND_UPDATE);
    let behind = Behind::with_config(Upstream::answering(OK).await, &config).await;
    assert_problem(&call(&behind, Method::GET).await, 502, "upstream_unreachable");
    assert_problem(&call(&behind, Method::POST).await, 502, "upstream_unreachable");
    let kinds: Vec<_> = behind
        .recorded()
        .await
        .iter()
        .map(|call| call.kind().to_owned())
        .collect();
    assert_eq!(kinds, ["ApiCallAuthorized", "ApiCallAuthorized"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_whose_name_nobody_knows_is_502() {
    let config = route(
        "http://upstream.invalid:9",
        "connect_timeout_seconds = 60\n",
        READ_AND_UPDATE,
    );
    let behind = Behind::with_config(Upstream::answering(OK).await, &config).await;
    assert_problem(&call(&behind, Method::GET).await, 502, "upstream_unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_takes_no_connection_is_504() {
    // A queue of one that nobody takes from is soon full: then the kernel answers nobody.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let connect = tokio::net::TcpStream::connect(address);
        if let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), connect).await {
            waiting.push(connected);
        }
    }
    let config = route(&format!("http://{address}"), QUICK, READ_AND_UPDATE);
    let behind = Behind::with_config(Upstream::answering(OK).await, &config).await;
    assert_problem(&call(&behind, Method::GET).await, 504, "upstream_timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_answer_is_504_and_is_left() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.request().await;
        connection.read_to_end().await;
        connection.note("closed by the server");
    });
    let behind = Behind::with(upstream.await, QUICK, READ_AND_UPDATE).await;
    assert_problem(&call(&behind, Method::GET).await, 504, "upstream_timeout");
    behind.upstream.wait_for_note("closed by the server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_speaks_no_http_is_502() {
    let too_large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(100 * 1024));
    let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    for answer in [
        "",
        "\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 999999 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: \u{0}\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: y",
        &too_large,
        &too_many,
    ] {
        let bytes = answer.to_owned();
        let upstream = Upstream::playing(move |mut connection| {
            let bytes = bytes.clone();
            async move {
                connection.request().await;
                connection.send(bytes).await;
            }
        });
        let behind = Behind::of(upstream.await).await;
        let cut = &answer[..answer.len().min(60)];
        let given = call(&behind, Method::GET).await;
        assert_eq!(given.status, StatusCode::BAD_GATEWAY, "{cut:?}: {}", given.body);
        assert_problem(&given, 502, "upstream_failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
    ] {
        let upstream = Upstream::playing(move |mut connection| async move {
            connection.request().await;
            connection.send(answer).await;
        });
        let behind = Behind::of(upstream.await).await;
        let given = behind.call(Method::GET, "/api/a").send().await.expect("a head");
        // When it is seen before anything has left, there is still time to say so.
        match given.status().as_u16() {
            502 => assert_problem(&Answer::of(given).await, 502, "upstream_failed"),
            status => {
                assert_eq!(status, 200);
                given.bytes().await.expect_err("a body that broke off");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_stands_still_is_broken_off() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.request().await;
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await;
        connection.read_to_end().await;
        connection.note("closed by the server");
    });
    let behind = Behind::with(upstream.await, QUICK, READ_AND_UPDATE).await;
    let given = behind.call(Method::GET, "/api/a").send().await.expect("a head");
    given.bytes().await.expect_err("a body that broke off");
    behind.upstream.wait_for_note("closed by the server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_takes_no_body_is_504() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.head().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
    let behind = Behind::with(upstream.await, QUICK, READ_AND_UPDATE).await;
    let body = vec![b'a'; 32 * 1024 * 1024];
    let call = behind.call(Method::POST, "/api/a").body(body).send();
    // A caller that still sends may find the connection closed before it reads the answer.
    if let Ok(answer) = call.await {
        assert_problem(&Answer::of(answer).await, 504, "upstream_timeout");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_wants_no_body_may_say_so_at_once() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!")
            .await;
        connection.read_to_end().await;
    });
    let behind = Behind::of(upstream.await).await;
    let mut connection = crate::raw::Connection::to(&behind.scene.url);
    connection.send(&behind.head("POST /api/a", &["Content-Length: 1000000"]));
    let answer = connection.send(&[b'a'; 1_000]).receive().expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (413, "no!"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upstream_takes_so_many_calls_and_ties_up_nothing_else() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.request().await;
        connection.read_to_end().await;
    });
    let behind = Behind::with(upstream.await, "max_in_flight = 4\n", READ_AND_UPDATE).await;
    let stuck: Vec<_> = (0..4)
        .map(|_| tokio::spawn(behind.call(Method::GET, "/api/slow").send()))
        .collect();
    behind
        .upstream
        .wait_for("four calls", |all| {
            all.iter().filter(|bytes| bytes.ends_with(b"\r\n\r\n")).count() == 4
        })
        .await;
    let recorded = behind.recorded().await.len();
    let fifth = call(&behind, Method::GET).await;
    assert_problem(&fifth, 503, "busy");
    assert!(fifth.header("retry-after").is_some());
    assert_eq!(behind.recorded().await.len(), recorded, "what is not let in is no call");
    for _ in 0..20 {
        behind.scene.token(&behind.application, &[]).await;
    }
    for call in &stuck {
        call.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_upstream_closed_meanwhile_is_not_used_again() {
    let upstream = Upstream::playing(|mut connection| async move {
        connection.request().await;
        connection.send(OK).await;
    })
    .await;
    let behind = Behind::of(upstream).await;
    for _ in 0..5 {
        assert_eq!(call(&behind, Method::GET).await.status, 200);
        // The gateway does not repeat a call: it has to have seen that the connection was closed.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
