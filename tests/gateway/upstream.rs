//! An upstream that a test plays: it keeps what it received byte for byte, and answers what the test says.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);
/// A well-behaved answer.
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub struct Upstream {
    pub url: String,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    notes: Arc<Mutex<Vec<&'static str>>>,
    task: JoinHandle<()>,
}

/// A request as it came: a head, and its body with whatever framing it had.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().expect("a request line")
    }

    /// The values of a header, each on a line of its own.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there twice: {}", self.head);
        all.first().copied()
    }
}

impl Upstream {
    /// Answers each request with the same bytes, on connections that it keeps.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::playing(move |mut connection| {
            let answer = answer.clone();
            async move {
                while connection.request().await.is_some() {
                    connection.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// Does with each connection whatever the test wants.
    pub async fn playing<F, Fut>(play: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let connections: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let notes: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let (all, of_all) = (connections.clone(), notes.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut all = all.lock().expect("no test panics in here");
                    all.push(Vec::new());
                    all.len() - 1
                };
                let connection = Connection {
                    stream,
                    unread: Vec::new(),
                    number,
                    all: all.clone(),
                    notes: of_all.clone(),
                };
                tokio::spawn(play(connection));
            }
        });
        Self {
            url,
            connections,
            notes,
            task,
        }
    }

    /// Whatever it received, a text per connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.connections.lock().expect("no test panics in here").clone()
    }

    /// Every request that it received, as a server reads them that takes RFC 9112 to the letter.
    pub fn requests(&self) -> Vec<Seen> {
        self.received().iter().flat_map(|bytes| requests(bytes)).collect()
    }

    /// Their first lines in the order of the alphabet: which connection is used when is nobody's business.
    pub fn request_lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.requests().iter().map(|seen| seen.line().to_owned()).collect();
        lines.sort();
        lines
    }

    pub fn only_request(&self) -> Seen {
        let mut all = self.requests();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }

    /// Waits until it has received what the test looks for.
    pub async fn wait_for(&self, what: &str, is_there: impl Fn(&[Vec<u8>]) -> bool) {
        let started = Instant::now();
        while !is_there(&self.received()) {
            assert!(started.elapsed() < PATIENCE, "the upstream has not received {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Upstream {
    /// Waits until a connection has noted this.
    pub async fn wait_for_note(&self, note: &str) {
        let started = Instant::now();
        while !self.notes.lock().expect("no test panics in here").contains(&note) {
            assert!(started.elapsed() < PATIENCE, "no connection of the upstream was {note}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Connection {
    pub stream: TcpStream,
    unread: Vec<u8>,
    number: usize,
    all: Arc<Mutex<Vec<Vec<u8>>>>,
    notes: Arc<Mutex<Vec<&'static str>>>,
}

impl Connection {
    /// The next request, whole; none when the connection ends before.
    pub async fn request(&mut self) -> Option<Seen> {
        let head = self.head().await?;
        let mut seen = Seen { head, body: Vec::new() };
        while !is_whole(&seen) {
            if self.unread.is_empty() && self.read().await == 0 {
                return None;
            }
            seen.body.push(self.unread.remove(0));
        }
        Some(seen)
    }

    /// For the test to see.
    pub fn note(&self, note: &'static str) {
        self.notes.lock().expect("no test panics in here").push(note);
    }

    /// The next head.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = end_of_head(&self.unread) {
                let head = self.unread.drain(..end).collect();
                return Some(String::from_utf8(head).expect("a head is ASCII"));
            }
            if self.read().await == 0 {
                return None;
            }
        }
    }

    /// Reads what comes; none and errors are the end.
    pub async fn read(&mut self) -> usize {
        let mut bytes = [0; 16 * 1024];
        let read = self.stream.read(&mut bytes).await.unwrap_or(0);
        self.unread.extend_from_slice(&bytes[..read]);
        let mut all = self.all.lock().expect("no test panics in here");
        all[self.number].extend_from_slice(&bytes[..read]);
        read
    }

    /// What came behind the last head or request.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Forgets it; how much it was.
    pub fn take_unread(&mut self) -> usize {
        std::mem::take(&mut self.unread).len()
    }

    /// Reads and forgets what comes.
    pub async fn read_unrecorded(&mut self) -> usize {
        let mut bytes = vec![0; 64 * 1024];
        let read = self.stream.read(&mut bytes).await.expect("more comes");
        assert!(read > 0, "the body broke off");
        read
    }

    /// Reads until the other side closes.
    pub async fn read_to_end(&mut self) {
        while self.read().await > 0 {
            self.unread.clear();
        }
    }

    /// Whether the other side still takes something.
    pub async fn sends(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Whoever went away does not read it.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn is_whole(seen: &Seen) -> bool {
    match (seen.header("content-length"), seen.header("transfer-encoding")) {
        (None, None) => true,
        (Some(length), None) => seen.body.len() == length.parse::<usize>().expect("a length"),
        (None, Some("chunked")) => unchunked(&seen.body).is_some(),
        both => panic!("two lengths: {both:?}"),
    }
}

/// The data of a chunked body that is whole.
pub fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        let chunk = bytes.get(end + 2..end + 2 + size)?;
        data.extend_from_slice(chunk);
        if bytes.get(end + 2 + size..end + 4 + size)? != b"\r\n" {
            return None;
        }
        bytes = &bytes[end + 4 + size..];
        if size == 0 {
            return bytes.is_empty().then_some(data);
        }
    }
}

fn requests(mut bytes: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    while let Some(end) = end_of_head(bytes) {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end..];
        let mut seen = Seen { head, body: Vec::new() };
        let length = match (seen.header("content-length"), seen.header("transfer-encoding")) {
            (None, None) => 0,
            (Some(length), None) => length.parse().expect("a length"),
            _ => (0..=bytes.len())
                .find(|at| unchunked(&bytes[..*at]).is_some())
                .unwrap_or(bytes.len()),
        };
        let (body, rest) = bytes.split_at(length.min(bytes.len()));
        seen.body = body.to_vec();
        bytes = rest;
        all.push(seen);
    }
    all
}
