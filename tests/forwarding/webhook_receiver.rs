//! A receiver of webhooks that answers as it is told.

use crate::receiver::{Received, Receiver};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What is answered to a request; the second is its number, from 0.
pub type Behaviour = dyn Fn(&mut TcpStream, usize) + Send + Sync;

pub struct WebhookReceiver {
    state: Arc<State>,
    port: u16,
}

struct State {
    seen: Mutex<Vec<Request>>,
    requests: AtomicUsize,
    behaviour: Box<Behaviour>,
    stops: AtomicBool,
}

/// A request, whole.
#[derive(Debug, Clone)]
pub struct Request {
    pub head: Vec<String>,
    pub body: serde_json::Value,
    pub raw_body: Vec<u8>,
    /// When all of it was there.
    pub at: Instant,
    /// Whether the answer was a 2xx.
    pub accepted: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The events in it.
    pub fn events(&self) -> Vec<serde_json::Value> {
        match &self.body {
            serde_json::Value::Array(events) => events.clone(),
            event => vec![event.clone()],
        }
    }
}

thread_local! {
    /// Whether the answer that this thread gave was an acceptance.
    static ACCEPTED: Cell<bool> = const { Cell::new(false) };
}

/// 204: the request counts as received.
pub fn accept(stream: &mut TcpStream) {
    ACCEPTED.set(true);
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
}

/// A status without a body, with more headers.
pub fn refuse(stream: &mut TcpStream, status: &str, more: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n");
}

impl WebhookReceiver {
    /// Answers as `behaviour` says.
    pub fn with(port: u16, behaviour: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            seen: Mutex::default(),
            requests: AtomicUsize::new(0),
            behaviour: Box::new(behaviour),
            stops: AtomicBool::new(false),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stops.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, shared.clone()) else {
                    continue;
                };
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { state, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Requests that have arrived, answered or not.
    pub fn requests(&self) -> Vec<Request> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Receiver for WebhookReceiver {
    fn config(port: u16, folder: &Path) -> String {
        let secret = folder.join("webhook-secret");
        std::fs::write(&secret, SECRET).expect("a file");
        format!(
            "[[forwarding]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/hooks/hidden-path\"\n\
             secret_file = {secret:?}\nfrom = \"beginning\"\nretry_max_seconds = 1\n"
        )
    }

    async fn start(port: u16, _: &Path) -> Self {
        Self::with(port, |stream, _| accept(stream))
    }

    fn received(&self) -> Vec<Received> {
        let requests = self.requests();
        let events = requests
            .iter()
            .filter(|request| request.accepted)
            .flat_map(Request::events);
        events.map(|event| Received::of(&event["data"])).collect()
    }

    async fn stop(self) {}
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        self.state.stops.store(true, Ordering::SeqCst);
        // Wakes the listener, which closes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => head.push(line.trim_end().to_owned()),
            }
        }
        let mut request = Request {
            head,
            body: serde_json::Value::Null,
            raw_body: Vec::new(),
            at: Instant::now(),
            accepted: false,
        };
        let length = request
            .header("content-length")
            .map_or(0, |text| text.parse().expect("a number"));
        request.raw_body = vec![0; length];
        if reader.read_exact(&mut request.raw_body).is_err() || state.stops.load(Ordering::SeqCst) {
            return;
        }
        request.body = serde_json::from_slice(&request.raw_body).expect("JSON");
        request.at = Instant::now();
        let number = state.requests.fetch_add(1, Ordering::SeqCst);
        let at = {
            let mut requests = state.seen.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        ACCEPTED.set(false);
        (state.behaviour)(&mut stream, number);
        state.seen.lock().unwrap()[at].accepted = ACCEPTED.get();
    }
}

/// Never answers as long as the other side waits.
pub fn hang(stream: &mut TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(600)));
    let _ = stream.read(&mut [0]);
}
