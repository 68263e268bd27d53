//! What the tests want of a receiver, whatever it speaks.

use crate::scene::Logged;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Retries have pauses, and a machine under load its own.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A receiver on a port that was chosen before it is there.
pub trait Receiver {
    /// The sink's table in the configuration; what it needs goes into `folder`.
    fn config(port: u16, folder: &Path) -> String;
    /// Begins to receive.
    async fn start(port: u16, folder: &Path) -> Self;
    /// What has arrived, in the order in which it did.
    fn received(&self) -> Vec<Received>;
    /// Ends, and leaves the port.
    async fn stop(self);
}

/// An event that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub index: u64,
    pub id: String,
}

impl Received {
    /// From the JSON that every kind of sink carries.
    pub fn of(event: &serde_json::Value) -> Self {
        Self {
            index: event["index"].as_u64().expect("an index"),
            id: event["id"].as_str().expect("an id").to_owned(),
        }
    }
}

/// A port below those that the system gives out by itself, so that nobody takes it while its receiver is away.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 150) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until something is so.
pub async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until what has arrived is the log up to its end of now, and says what has arrived.
pub async fn wait_for_log(receiver: &impl Receiver, log: &[Logged]) -> Vec<Received> {
    let last = log.last().expect("there is a log").index;
    wait_until(&format!("event {last} arrives"), || {
        receiver.received().iter().any(|received| received.index >= last)
    })
    .await;
    receiver.received()
}

/// Nothing is missing, nothing is out of order, and what has come twice has come again from where it broke off:
/// each event is the one after the newest so far, or belongs to a repeat that goes on to there without a gap.
pub fn assert_is_the_log(received: &[Received], log: &[Logged], from: u64) {
    let (mut next, mut before) = (from, None);
    for Received { index, id } in received {
        assert_eq!(log[*index as usize].event["id"], id.as_str(), "event {index}");
        if *index == next {
            next += 1;
        } else {
            assert!(*index < next, "{index} has come before {next}");
        }
        if let Some(before) = before {
            assert!(*index <= before + 1, "{index} has come after {before}");
        }
        before = Some(*index);
    }
    assert!(next > from, "something has come");
    assert_eq!(before, Some(next - 1), "a repeat goes on to where it broke off");
}
