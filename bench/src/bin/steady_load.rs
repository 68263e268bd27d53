//! Requests at a steady rate, whatever the server answers: an open loop.
//!
//! Each connection has its own timetable. A request that is sent late, because the answer before it was late,
//! still counts from the moment when it was due, so that a stall is seen by every request it held up and not by
//! one alone (Gil Tene's "coordinated omission").

use clap::Parser;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// An answer is at most this long; a token and its headers take a fifth of it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Whatever does not answer within this time is broken.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Arguments {
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// Where to post the form, or what to get.
    #[arg(long, default_value = "/connect/token")]
    path: String,
    /// The form. None: nothing is posted.
    #[arg(long)]
    body: Option<String>,
    /// A further header, `Name: value`.
    #[arg(long)]
    header: Vec<String>,
    /// Requests per second, over all connections.
    #[arg(long)]
    rate: f64,
    /// Connections, a thread each.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long to run at the same rate before.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let request = request(&arguments);
    let ready = Barrier::new(arguments.connections as usize);
    let taken: Vec<anyhow::Result<Vec<u32>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.connections)
            .map(|number| {
                scope.spawn({
                    let (arguments, request, ready) = (&arguments, request.as_bytes(), &ready);
                    move || run(number, arguments, request, ready)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
            .collect()
    });
    let mut latencies = Vec::new();
    for of_connection in taken {
        latencies.extend(of_connection?);
    }
    latencies.sort_unstable();
    let at = |percent: f64| {
        let index = ((latencies.len() as f64 * percent / 100.0).ceil() as usize).saturating_sub(1);
        latencies.get(index).copied().unwrap_or(0)
    };
    let report = serde_json::json!({
        "requests": latencies.len(),
        "requests_per_second": latencies.len() as f64 / arguments.seconds,
        "p50_us": at(50.0),
        "p90_us": at(90.0),
        "p99_us": at(99.0),
        "p99_9_us": at(99.9),
        "max_us": at(100.0),
    });
    println!("{report}");
    Ok(())
}

/// The bytes of a request.
fn request(arguments: &Arguments) -> String {
    let headers: String = arguments.header.iter().map(|header| format!("{header}\r\n")).collect();
    let (path, host) = (&arguments.path, arguments.address);
    match &arguments.body {
        Some(form) => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
        None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"),
    }
}

/// One connection's timetable, kept as well as the server lets it: the latencies in microseconds.
fn run(number: u32, arguments: &Arguments, request: &[u8], ready: &Barrier) -> anyhow::Result<Vec<u32>> {
    let connected = TcpStream::connect(arguments.address);
    ready.wait();
    let mut connection = Connection::new(connected?)?;
    let interval = f64::from(arguments.connections) / arguments.rate;
    let begin = Instant::now();
    // The connections' turns are spread over the interval.
    let first = interval * f64::from(number) / f64::from(arguments.connections);
    let end = arguments.warm_up_seconds + arguments.seconds;
    let mut latencies = Vec::with_capacity((arguments.seconds / interval) as usize + 1);
    for turn in 0_u32.. {
        let due = first + interval * f64::from(turn);
        if due >= end {
            break;
        }
        let due_at = begin + Duration::from_secs_f64(due);
        std::thread::sleep(due_at.saturating_duration_since(Instant::now()));
        connection.exchange(request)?;
        if due >= arguments.warm_up_seconds {
            latencies.push(u32::try_from(due_at.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    Ok(latencies)
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            answer: vec![0; MAX_ANSWER_BYTES],
        })
    }

    /// One request and its answer, which has to be 200 with a Content-Length.
    fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            let space = self.answer.get_mut(filled..).unwrap_or_default();
            anyhow::ensure!(!space.is_empty(), "an answer is longer than {MAX_ANSWER_BYTES} bytes");
            match self.stream.read(space) {
                Ok(0) => anyhow::bail!("the server closed the connection"),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            let so_far = self.answer.get(..filled).unwrap_or_default();
            if let Some(length) = answer_length(so_far)?
                && filled >= length
            {
                return Ok(());
            }
        }
    }
}

/// How long the answer is that begins like this; `None` while its head is not complete.
fn answer_length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head_length) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(answer.get(..head_length).unwrap_or_default())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    anyhow::ensure!(status.starts_with("HTTP/1.1 200"), "the server answered {status}");
    let length = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let Some((_, length)) = length else {
        anyhow::bail!("the answer has no Content-Length")
    };
    Ok(Some(head_length + 4 + length.parse::<usize>()?))
}
