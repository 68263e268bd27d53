//! HTTP/1.1 by hand: what no client library would send, and what is really on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the server.
pub struct Connection(TcpStream);

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl RawAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub fn to(url: &str) -> Self {
        let address = url.split('/').nth(2).expect("an authority");
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        // The server may have answered and closed before everything was sent.
        let _ = self.0.write_all(bytes);
        self
    }

    /// Ends the sending side.
    pub fn finish(&mut self) -> &mut Self {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
        self
    }

    /// The next answer; `None` when the server closed the connection without one.
    pub fn receive(&mut self) -> Option<RawAnswer> {
        let mut answer = self.receive_head()?;
        if answer.status == 100 {
            return Some(answer);
        }
        let length: usize = answer
            .header("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        answer.body = String::from_utf8(body).expect("a body is UTF-8");
        Some(answer)
    }

    /// The head of the next answer.
    pub fn receive_head(&mut self) -> Option<RawAnswer> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(self.byte()?);
        }
        let head = String::from_utf8(bytes).expect("a head is ASCII");
        let mut lines = head.split("\r\n");
        let status = lines
            .next()?
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a number");
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(RawAnswer {
            status,
            headers,
            body: String::new(),
        })
    }

    /// Whatever comes until the server closes the connection.
    #[allow(dead_code)] // each test target uses its own part of this
    pub fn receive_to_end(&mut self) -> String {
        let bytes: Vec<u8> = std::iter::from_fn(|| self.byte()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether the server closes the connection without another word.
    pub fn is_closed_by_server(&mut self) -> bool {
        self.receive_to_end().is_empty()
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            _ => None,
        }
    }
}

/// One request on a connection of its own.
pub fn exchange(url: &str, request: &[u8]) -> Option<RawAnswer> {
    Connection::to(url).send(request).receive()
}

/// A POST with a body; `headers` are lines without their end.
pub fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for header in headers {
        request.extend_from_slice(header.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    request
}
