//! What clients were told: only answers that were read to their end count.
//!
//! Each request carries a name of its own as User-Agent, which its events keep: an answer leads to exactly
//! the events of its request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use uuid::Uuid;

/// A request's name, given out once in a test run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestName(pub String);

impl RequestName {
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(format!("durability/{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A token that somebody holds.
#[derive(Debug, Clone)]
pub struct Token {
    pub request: RequestName,
    pub client_id: String,
    pub jti: Uuid,
    /// Its last 8 characters.
    pub hint: String,
    /// When it was asked for.
    pub asked: Instant,
}

/// A request for a token that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub request: RequestName,
    pub error: String,
}

/// A call of an administrator that was answered as done.
#[derive(Debug, Clone)]
pub struct Change {
    pub request: RequestName,
    /// The event that says so; none: the call changed nothing.
    pub event_type: Option<&'static str>,
    /// The revision of the application after it.
    pub revision: Option<u64>,
}

/// A call of the API behind the server.
#[derive(Debug, Clone)]
pub struct ForwardedCall {
    pub request: RequestName,
    /// How often it has reached the API.
    pub reached: usize,
    /// Whether it was answered as let through; none: without a whole answer.
    pub is_let_through: Option<bool>,
    /// When it was begun.
    pub asked: Instant,
}

/// Everything that the clients of a server were told.
#[derive(Debug, Default)]
pub struct Told {
    pub tokens: Vec<Token>,
    pub refusals: Vec<Refusal>,
    pub changes: Vec<Change>,
    pub forwarded: Vec<ForwardedCall>,
    /// Answers 503 that are as they should be.
    pub unavailable: usize,
    /// When the first of them was read in this run of the server.
    pub first_unavailable: Option<Instant>,
    /// Requests without a whole answer.
    pub broken_off: usize,
    /// Answers that no server may give.
    pub wrong: Vec<String>,
}

impl Told {
    pub fn add(&mut self, other: Self) {
        self.tokens.extend(other.tokens);
        self.refusals.extend(other.refusals);
        self.changes.extend(other.changes);
        self.forwarded.extend(other.forwarded);
        self.unavailable += other.unavailable;
        self.first_unavailable = match (self.first_unavailable, other.first_unavailable) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
        self.broken_off += other.broken_off;
        self.wrong.extend(other.wrong);
    }

    /// Adds what the clients of another run of the server were told: its failure is behind it.
    pub fn add_run(&mut self, other: Self) {
        self.add(Self {
            first_unavailable: None,
            ..other
        });
    }

    pub fn is_unavailable(&mut self) {
        self.unavailable += 1;
        self.first_unavailable.get_or_insert_with(Instant::now);
    }
}
