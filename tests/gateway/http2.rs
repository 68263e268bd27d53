//! HTTP/2 towards callers: the same calls, and floods that would fill a server without bounds.

use crate::behind::{AUDIENCE, READ_AND_UPDATE, route};
use crate::running_server::{Administrator, RunningServer, Start, request_token};
use crate::upstream::{OK, Upstream};
use futures_util::{StreamExt, stream};
use reqwest::{Certificate, Client, Version};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
/// Far more than a server that bounds its connections needs for one of them.
const MORE_MEMORY_BYTES: usize = 48 * 1024 * 1024;
const FLOOD: usize = 200_000;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Secure {
    server: RunningServer,
    upstream: Upstream,
    /// Speaks HTTP/2 only.
    http: Client,
    token: String,
    certificate: Vec<u8>,
    _folder: TempDir,
}

impl Secure {
    async fn of(upstream: Upstream) -> Self {
        Self::with(upstream, "").await
    }

    async fn with(upstream: Upstream, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        let (certificate_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate_file, made.cert.pem()).expect("a file");
        std::fs::write(&key_file, made.signing_key.serialize_pem()).expect("a file");
        let config = format!(
            "{config}[tls]\ncertificate_file = {certificate_file:?}\nkey_file = {key_file:?}\n{}",
            route(&upstream.url, "", READ_AND_UPDATE)
        );
        let server = Start::over(&folder.path().join("data")).with_config(&config).start();
        let trusted = Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
        let client = Client::builder().tls_certs_only([trusted]).no_proxy();
        let http = client.http2_prior_knowledge().build().expect("a client");
        let administrator = Administrator::with(http.clone(), &server).await;
        administrator.post("/admin/apis", &json!({"audience": AUDIENCE})).await;
        let made_application = administrator
            .register(json!({
                "application_uri": "worker", "scope": "read update", "system_user": "svc", "audiences": [AUDIENCE],
            }))
            .await;
        let secret = made_application["client_secret"].as_str().expect("a secret");
        let (_, answer) = request_token(&http, &server.url, "worker", secret, &[]).await;
        Self {
            token: answer["access_token"].as_str().expect("a token").to_owned(),
            certificate: made.cert.der().to_vec(),
            server,
            upstream,
            http,
            _folder: folder,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    /// That it still serves everybody else.
    async fn assert_serves(&self) {
        let alive = self.http.get(self.url("/health/live")).timeout(PATIENCE).send();
        assert_eq!(alive.await.expect("an answer").status(), 200);
        let call = self
            .http
            .get(self.url("/api/a"))
            .bearer_auth(&self.token)
            .timeout(PATIENCE);
        assert_eq!(call.send().await.expect("an answer").status(), 200);
    }

    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("a figure");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1_024
    }

    /// A connection on which a test writes what it wants.
    fn raw(&self) -> Raw {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone().into()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = self.server.url.strip_prefix("https://").expect("its address");
        let tcp = TcpStream::connect(address).expect("it accepts");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        tcp.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let tls = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut raw = Raw(rustls::StreamOwned::new(tls, tcp));
        raw.0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .expect("it takes the preface");
        assert!(raw.send(&frame(SETTINGS, 0, 0, &[])));
        raw
    }
}

struct Raw(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Raw {
    /// Whether the server still takes it.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).is_ok()
    }

    /// The next frame: type, stream and payload; none when the connection is over.
    fn receive(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        Some((
            head[3],
            u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        ))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block by RFC 7541: GET, https, this path, and these fields.
fn block(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    let mut literal = |name: Option<&str>, index: u8, value: &str| {
        block.push(index);
        for text in name.into_iter().chain([value]) {
            // A length of 7 bits, and the rest in further bytes (RFC 7541 §5.1).
            match text.len() {
                short if short < 127 => block.push(short as u8),
                long => {
                    block.push(127);
                    let mut rest = long - 127;
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend_from_slice(text.as_bytes());
        }
    };
    literal(None, 0x04, path);
    literal(None, 0x01, "127.0.0.1");
    for (name, value) in fields {
        literal(Some(name), 0x00, value);
    }
    block
}

fn stream_id(number: usize) -> u32 {
    number as u32 * 2 + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_over_http2_are_the_same_calls() {
    let secure = Secure::of(Upstream::answering(OK).await).await;
    let call = secure
        .http
        .post(secure.url("/api/orders?$top=10"))
        .bearer_auth(&secure.token)
        .header("x-client-id", "forged")
        .header("cookie", "a=1; b=2")
        .body(reqwest::Body::wrap_stream(
            stream::iter(["ab", "cd"]).map(Ok::<_, Infallible>),
        ));
    let answer = call.send().await.expect("an answer");
    assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
    assert_eq!(answer.headers()["content-length"], "2");
    assert_eq!(answer.text().await.expect("a body"), "ok");
    let seen = secure.upstream.only_request();
    assert_eq!(seen.line(), "POST /api/orders?$top=10 HTTP/1.1");
    assert_eq!(seen.header("x-client-id"), Some("worker"));
    assert_eq!(seen.header("via"), Some("2.0 grantlog"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        seen.header("x-forwarded-host"),
        secure.server.url.strip_prefix("https://")
    );
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
    assert_eq!(seen.header("transfer-encoding"), Some("chunked"));

    let head = secure.http.head(secure.url("/api/orders")).bearer_auth(&secure.token);
    let head = head.send().await.expect("an answer");
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &"2".parse().expect("a value"))
    );
    let refused = secure
        .http
        .get(secure.url("/api/orders"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status(), 401);
    let challenge = refused.headers()["www-authenticate"].to_str().expect("text");
    assert!(
        challenge.starts_with("Bearer realm=\"") && !challenge.contains("error"),
        "{challenge}"
    );
    let twice = secure
        .http
        .get(secure.url("/api/x/..%2forders"))
        .bearer_auth(&secure.token);
    assert_eq!(twice.send().await.expect("an answer").status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_a_connection_and_an_answer_that_breaks_off_breaks_its_stream_alone() {
    let upstream = Upstream::playing(|mut connection| async move {
        while let Some(seen) = connection.request().await {
            match seen.line().contains("broken") {
                true => {
                    return connection
                        .send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
                        .await;
                }
                false => connection.send(OK).await,
            }
        }
    });
    let secure = Secure::of(upstream.await).await;
    let calls = (0..300).map(|number| {
        let path = if number % 10 == 0 { "/api/broken" } else { "/api/a" };
        let call = secure.http.get(secure.url(path)).bearer_auth(&secure.token).send();
        async move {
            let answer = call.await.expect("a head");
            let is_whole = answer.status() == 200 && answer.bytes().await.is_ok();
            assert_eq!(is_whole, number % 10 != 0, "{number}");
        }
    });
    tokio::time::timeout(PATIENCE, futures_util::future::join_all(calls))
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_how_many_streams_it_takes_and_ends_who_takes_more() {
    let stuck = Upstream::playing(|mut connection| async move {
        match connection.request().await {
            Some(seen) if seen.line().contains("stuck") => connection.read_to_end().await,
            _ => connection.send(OK).await,
        }
    });
    let secure = Secure::of(stuck.await).await;
    secure.assert_serves().await;
    let before = secure.memory();
    let mut raw = secure.raw();
    let (kind, _, settings) = raw.receive().expect("its settings");
    assert_eq!(kind, SETTINGS);
    let of = |id: u16| {
        let mut all = settings.chunks(6).filter(|six| six[..2] == id.to_be_bytes());
        all.next()
            .map(|six| u32::from_be_bytes([six[2], six[3], six[4], six[5]]))
    };
    assert_eq!(of(3), Some(100), "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(of(6), Some(64 * 1024), "SETTINGS_MAX_HEADER_LIST_SIZE");

    let bearer = format!("Bearer {}", secure.token);
    let block = block("/api/stuck", &[("authorization", &bearer)]);
    let is_over =
        (0..FLOOD).any(|number| !raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream_id(number), &block)));
    assert!(is_over, "the server took {FLOOD} streams of one connection");
    secure.assert_serves().await;
    let more = secure.memory() - before;
    assert!(more < MORE_MEMORY_BYTES, "{more} bytes more");
    assert!(
        secure.upstream.requests().len() <= 110,
        "{}",
        secure.upstream.requests().len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_that_cost_the_sender_nothing_end_its_connection_or_cost_nothing() {
    let secure = Secure::of(Upstream::answering(OK).await).await;
    secure.assert_serves().await;
    let before = secure.memory();
    let get = block("/health/live", &[]);
    // CVE-2023-44487: a stream is begun and reset, again and again.
    let mut raw = secure.raw();
    let is_over = (0..FLOOD).any(|number| {
        let begun = frame(HEADERS, END_HEADERS | END_STREAM, stream_id(number), &get);
        !raw.send(&[begun, frame(RST_STREAM, 0, stream_id(number), &8_u32.to_be_bytes())].concat())
    });
    assert!(is_over || raw.receive().is_some());
    secure.assert_serves().await;
    // CVE-2024-27316: a head without an end.
    let mut raw = secure.raw();
    raw.send(&frame(HEADERS, 0, 1, &get));
    let more = block("/", &[("x-more", &"a".repeat(8_000))])[2..].to_vec();
    assert!(
        (0..FLOOD).any(|_| !raw.send(&frame(CONTINUATION, 0, 1, &more))),
        "it took a head without an end"
    );
    // Frames that want an answer, from a client that reads none.
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
        let mut raw = secure.raw();
        let started = Instant::now();
        let _ = (0..FLOOD).any(|_| started.elapsed() > PATIENCE || !raw.send(&frame(kind, 0, 0, payload)));
    }
    secure.assert_serves().await;
    let more = secure.memory() - before;
    assert!(more < MORE_MEMORY_BYTES, "{more} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_no_answer_holds_as_many_as_its_streams_and_little_of_each() {
    let upstream = Upstream::playing(|mut connection| async move {
        match connection.request().await {
            Some(seen) if seen.line().contains("large") => {
                connection
                    .send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
                    .await;
                while connection.sends(&[b'a'; 64 * 1024]).await {}
            }
            _ => connection.send(OK).await,
        }
    });
    let secure = Secure::of(upstream.await).await;
    secure.assert_serves().await;
    let before = secure.memory();
    let mut raw = secure.raw();
    let bearer = format!("Bearer {}", secure.token);
    let block = block("/api/large", &[("authorization", &bearer)]);
    for number in 0..100 {
        assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream_id(number), &block)));
    }
    secure
        .upstream
        .wait_for("a hundred calls", |all| all.len() >= 100)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    secure.assert_serves().await;
    let more = secure.memory() - before;
    assert!(more < 2 * MORE_MEMORY_BYTES, "{more} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_or_names_two_hosts_is_refused() {
    let secure = Secure::of(Upstream::answering(OK).await).await;
    let large = secure
        .http
        .get(secure.url("/health/live"))
        .header("x-large", "a".repeat(100_000));
    match large.send().await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(error) => assert!(!error.is_timeout(), "{error}"),
    }
    let mut raw = secure.raw();
    raw.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &block("/health/live", &[("host", "other.example.com")]),
    ));
    let status = loop {
        let (kind, stream, payload) = raw.receive().expect("an answer");
        assert_ne!(kind, GOAWAY);
        if (kind, stream) == (HEADERS, 1) {
            break payload[0];
        }
    };
    // RFC 7541 appendix A: 12 is `:status 400`.
    assert_eq!(status, 0x80 | 12);
    secure.assert_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_what_is_in_flight_over_http2() {
    let upstream = Upstream::playing(|mut connection| async move {
        while connection.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            connection.send(OK).await;
        }
    });
    let secure = Secure::of(upstream.await).await;
    let call = tokio::spawn(secure.http.get(secure.url("/api/a")).bearer_auth(&secure.token).send());
    secure.upstream.wait_for("the call", |all| !all.is_empty()).await;
    let Secure { server, .. } = secure;
    let status = tokio::task::spawn_blocking(move || server.stop())
        .await
        .expect("it stops");
    assert_eq!(status.code(), Some(0));
    assert_eq!(call.await.expect("no panic").expect("an answer").status(), 200);
}

/// Longer than the time between two looks for peers that take nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_idle_after_its_requests_is_ended() {
    let config = "[server]\nkeep_alive_seconds = 7\n";
    let secure = Secure::with(Upstream::answering(OK).await, config).await;
    let mut raw = secure.raw();
    let live = block("/health/live", &[]);
    assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &live)));
    let mut is_answered = false;
    while let Some((kind, ..)) = raw.receive() {
        is_answered |= kind == HEADERS;
    }
    assert!(is_answered);
    assert!(!raw.send(&frame(PING, 0, 0, &[0; 8])) || raw.receive().is_none());
    secure.assert_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_handshake_a_preface_or_a_request_is_ended() {
    let secure = Secure::of(Upstream::answering(OK).await).await;
    let address = secure.server.url.strip_prefix("https://").expect("its address");
    let mut silent = TcpStream::connect(address).expect("it accepts");
    silent.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(silent.read(&mut [0]).expect("an end, and no timeout"), 0);
    let mut raw = secure.raw();
    while raw.receive().is_some() {}
    assert!(!raw.send(&frame(PING, 0, 0, &[0; 8])) || raw.receive().is_none());
    secure.assert_serves().await;
}
