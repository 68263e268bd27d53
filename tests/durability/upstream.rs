//! The API behind all servers of this test run. It remembers whose calls have reached it, byte for byte as they came,
//! so that nothing has reached it that is not in the log.
#![allow(dead_code)] // other test targets have no API behind them

use crate::told::RequestName;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// What it is sent as the name of a request.
const NAME: &str = "user-agent:";

/// How often each call has reached it.
static REACHED: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// Where it is; it begins to listen when somebody asks.
pub fn url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(stream));
            }
        });
        url
    })
}

/// How often the call has reached it. Each is asked for once.
pub fn reached(name: &RequestName) -> usize {
    let mut reached = REACHED.lock().expect("nobody panics in here");
    reached
        .as_mut()
        .and_then(|reached| reached.remove(&name.0))
        .unwrap_or(0)
}

fn serve(stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let mut stream = stream;
    loop {
        // A line is enough for it to have heard of the call, whatever comes of the rest.
        let line = lines.next()?.ok()?;
        if let Some(name) = line.to_ascii_lowercase().strip_prefix(NAME) {
            let mut reached = REACHED.lock().expect("nobody panics in here");
            *reached
                .get_or_insert_default()
                .entry(name.trim().to_owned())
                .or_default() += 1;
        }
        if line.is_empty() {
            stream.write_all(ANSWER).ok()?;
        }
    }
}
