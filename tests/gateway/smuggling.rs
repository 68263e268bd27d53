//! No request within a request: what two servers could take apart in two places never reaches the upstream, whatever
//! comes behind it on the connection.

use crate::behind::Behind;
use crate::raw::{Connection, RawAnswer};
use crate::upstream::{OK, Seen, Upstream, unchunked};

/// Sends bytes on a connection of their own; the answers to them.
fn answers(behind: &Behind, bytes: &[u8]) -> Vec<RawAnswer> {
    let mut connection = Connection::to(&behind.scene.url);
    connection.send(bytes).finish();
    std::iter::from_fn(|| connection.receive()).collect()
}

/// A POST with these headers as they are (each line with its own end), and whatever comes behind its head.
fn post(behind: &Behind, headers: &str, rest: &str) -> Vec<u8> {
    format!(
        "POST /api/outer HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n{headers}\r\n{rest}",
        behind.token
    )
    .into_bytes()
}

/// What the upstream has, all of it proper requests to `/api/outer` with the same body both sides agree on.
fn outer_requests(behind: &Behind) -> Vec<Seen> {
    let all = behind.upstream.requests();
    for seen in &all {
        assert_eq!(seen.line(), "POST /api/outer HTTP/1.1", "{all:#?}");
        let lengths = seen.all("content-length").len() + seen.all("transfer-encoding").len();
        assert_eq!(lengths, 1, "{}", seen.head);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_doubtful_length_never_reaches_the_upstream() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let hidden = String::from_utf8(behind.head("GET /api/hidden", &[])).expect("ASCII");
    let chunked = format!("0\r\n\r\n{hidden}");
    for headers in [
        // Two lengths.
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        // Odd lengths.
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5abc\r\n",
        "Content-Length: \"5\"\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Content-Length:\r\n",
        // Odd codings.
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding:\r\n",
        // Odd names and lines.
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Transfer\u{0}-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\u{0}z\r\n",
        "X\r\nTransfer-Encoding: chunked\r\n",
        ": x\r\n",
    ] {
        let before = behind.upstream.received().len();
        let given = answers(&behind, &post(&behind, headers, &chunked));
        assert!(
            given.iter().all(|answer| answer.status == 400),
            "{headers:?}: {given:?}"
        );
        assert!(given.len() <= 1, "{headers:?}: {given:?}");
        assert_eq!(behind.upstream.received().len(), before, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_read_in_one_way_only_is_written_anew() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    for (headers, rest, data) in [
        ("Content-Length: 5\r\n", "abcde", "abcde"),
        ("Content-Length:5\r\n", "abcde", "abcde"),
        ("Content-Length: 005\r\n", "abcde", "abcde"),
        ("content-LENGTH: \t5 \r\n", "abcde", "abcde"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\n\r\n", "abcde"),
        (
            "Transfer-Encoding: CHUNKED\r\n",
            "5;ext=1\r\nabcde\r\n0\r\n\r\n",
            "abcde",
        ),
        ("Transfer-Encoding: chunked\r\n", "05\r\nabcde\r\n0\r\n\r\n", "abcde"),
        // To some servers this is Transfer-Encoding.
        (
            "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
            "0\r\n\r\n",
        ),
        ("Connection: content-length\r\nContent-Length: 5\r\n", "abcde", "abcde"),
        (
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            "1\r\na\r\n0\r\n\r\n",
            "a",
        ),
    ] {
        let before = outer_requests(&behind).len();
        let given = answers(&behind, &post(&behind, headers, rest));
        assert_eq!(
            given.iter().map(|answer| answer.status).collect::<Vec<_>>(),
            [200],
            "{headers:?}"
        );
        let seen = outer_requests(&behind);
        assert_eq!(seen.len(), before + 1, "{headers:?}");
        let bodies: Vec<_> = seen
            .iter()
            .map(|seen| match seen.header("content-length") {
                Some(length) => {
                    assert_eq!(length, seen.body.len().to_string());
                    seen.body.clone()
                }
                None => unchunked(&seen.body).expect("a whole body"),
            })
            .collect();
        assert!(
            bodies.iter().any(|body| body == data.as_bytes()),
            "{headers:?}: {bodies:?}"
        );
        assert!(
            seen.iter().all(|seen| seen.all("transfer_encoding").is_empty()),
            "{headers:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_that_is_none_breaks_off_and_hides_no_request() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let hidden = String::from_utf8(behind.head("GET /api/hidden", &[])).expect("ASCII");
    for body in [
        "5\r\nabcdeX\r\n0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "0x5\r\nabcde\r\n0\r\n\r\n",
        "g\r\nabcde\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n",
        "5 \u{1}\r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde0\r\n\r\n",
    ] {
        let bytes = post(&behind, "Transfer-Encoding: chunked\r\n", &format!("{body}{hidden}"));
        let given = answers(&behind, &bytes);
        assert!(given.is_empty(), "{body:?}: {given:?}");
    }
    for seen in outer_requests(&behind) {
        assert_eq!(
            unchunked(&seen.body),
            None,
            "it looks whole: {:?}",
            String::from_utf8_lossy(&seen.body)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_of_a_refused_request_is_not_the_next_request() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let hidden = behind.head("GET /api/hidden", &[]);
    for line in ["POST /api/outer", "POST /api/x/../outer", "POST /nothing"] {
        let head = format!("{line} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", hidden.len());
        let given = answers(&behind, &[head.as_bytes(), &hidden].concat());
        assert!(given.iter().all(|answer| answer.status >= 400), "{line}: {given:?}");
        assert_eq!(given.len(), 1, "{line}: {given:?}");
    }
    assert!(behind.upstream.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstreams_answer_hides_no_other_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 50\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 50\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let behind = Behind::of(Upstream::answering(answer).await).await;
        let given = answers(&behind, &post(&behind, "Content-Length: 0\r\n", ""));
        assert!(given.iter().all(|answer| answer.status == 502), "{answer:?}: {given:?}");
    }
    // More than its length, and both lengths: what is too much is never an answer to anybody.
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let behind = Behind::of(Upstream::answering(answer).await).await;
        for _ in 0..3 {
            let mut connection = Connection::to(&behind.scene.url);
            let given = connection
                .send(&post(&behind, "Content-Length: 0\r\n", ""))
                .finish()
                .receive_to_end();
            assert!(!given.contains("evil"), "{given:?}");
            assert_eq!(given.matches("HTTP/1.1 ").count(), 1, "{given:?}");
        }
    }
}
