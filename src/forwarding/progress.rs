//! How a sink is doing, for the operator: without the secrets of the sink, and without what it answered.

use super::settings::SinkSettings;
use super::sink::{DeliveryError, FailureClass};
use chrono::Utc;
use grantlog_projections::values::Timestamp;
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared by the one that delivers and those who ask.
#[derive(Debug)]
pub struct Progress {
    name: String,
    kind: &'static str,
    target: String,
    filter: String,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    state: SinkState,
    acknowledged_through: u64,
    delivered: u64,
    rejected: u64,
    failures: u64,
    last_delivery: Option<Timestamp>,
    last_error: Option<LastError>,
    next_attempt: Option<Timestamp>,
}

/// What a sink is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// The last attempt went well, or there was none yet.
    Delivering,
    /// The last attempt failed; there will be another.
    Retrying,
    /// The sink wants no more: nothing is sent until the server is started again.
    Paused,
    /// Nothing is sent any more: the server stops, or the log cannot be read.
    Stopped,
}

/// What went wrong last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// Its class.
    pub class: FailureClass,
    /// In words.
    pub message: String,
    /// When.
    pub time: Timestamp,
}

/// How a sink is doing.
#[derive(Debug, Clone, Serialize)]
pub struct SinkStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `otlp`, `syslog` or `webhook`.
    pub kind: &'static str,
    /// Scheme, host and port.
    pub target: String,
    /// The filter, empty when it gets every event.
    pub filter: String,
    /// What it is at.
    pub state: SinkState,
    /// How many events of the log are done with: acknowledged, or not for this sink.
    pub acknowledged_through: u64,
    /// How many are not.
    pub lag: u64,
    /// Events that it has acknowledged since the server started.
    pub delivered: u64,
    /// Events that it has refused for good (OTLP's partial success) since the server started.
    pub rejected: u64,
    /// Attempts that failed since the server started.
    pub failures: u64,
    /// When it acknowledged something last, since the server started.
    pub last_delivery: Option<Timestamp>,
    /// What went wrong last, since the server started.
    pub last_error: Option<LastError>,
    /// When it is tried again.
    pub next_attempt: Option<Timestamp>,
}

impl SinkState {
    /// Whether the last attempt went well.
    pub fn is_up(self) -> bool {
        self == Self::Delivering
    }
}

impl Progress {
    /// Nothing has happened yet.
    pub fn new(settings: &SinkSettings) -> Self {
        Self {
            name: settings.name.to_string(),
            kind: settings.target.kind(),
            target: settings.target.place(),
            filter: settings.filter.to_string(),
            now: Mutex::new(Now {
                state: SinkState::Delivering,
                acknowledged_through: 0,
                delivered: 0,
                rejected: 0,
                failures: 0,
                last_delivery: None,
                last_error: None,
                next_attempt: None,
            }),
        }
    }

    /// Everything before this index is done with.
    pub fn acknowledged(&self, next: u64) {
        self.now().acknowledged_through = next;
    }

    /// A delivery went well; whether the one before had not.
    pub fn delivered(&self, events: u64, rejected: u64) -> bool {
        let mut now = self.now();
        now.delivered += events - rejected.min(events);
        now.rejected += rejected;
        now.last_delivery = Some(clock());
        now.next_attempt = None;
        let has_recovered = now.state == SinkState::Retrying;
        now.state = SinkState::Delivering;
        has_recovered
    }

    /// A delivery failed; whether this is news.
    pub fn failed(&self, error: &DeliveryError, pause_seconds: Option<f64>) -> bool {
        let mut now = self.now();
        now.failures += 1;
        let time = clock();
        let is_news = now.state == SinkState::Delivering
            || now.last_error.as_ref().is_none_or(|last| last.class != error.class)
            || pause_seconds.is_none();
        now.last_error = Some(LastError {
            class: error.class,
            message: error.message.clone(),
            time,
        });
        now.state = match pause_seconds {
            Some(_) => SinkState::Retrying,
            None => SinkState::Paused,
        };
        now.next_attempt =
            pause_seconds.map(|seconds| Timestamp::from_unix_micros(time.unix_micros() + (seconds * 1e6) as i64));
        is_news
    }

    /// Nothing is sent any more.
    pub fn ended(&self) {
        let mut now = self.now();
        now.next_attempt = None;
        now.state = SinkState::Stopped;
    }

    /// As an answer shows it.
    pub fn status(&self, log_size: u64) -> SinkStatus {
        let now = self.now();
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind,
            target: self.target.clone(),
            filter: self.filter.clone(),
            state: now.state,
            acknowledged_through: now.acknowledged_through,
            lag: log_size.saturating_sub(now.acknowledged_through),
            delivered: now.delivered,
            rejected: now.rejected,
            failures: now.failures,
            last_delivery: now.last_delivery,
            last_error: now.last_error.clone(),
            next_attempt: now.next_attempt,
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clock() -> Timestamp {
    Timestamp::new(Utc::now())
}
