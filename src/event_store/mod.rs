//! The event log as the rest of Grantlog sees it: append, read, follow. A store moves bytes: what an
//! event means is the codec's business. Every store passes `tests/event_store_contract`.

pub mod codec;

pub mod stream;

pub mod removal;

pub mod sqlite;

pub mod kurrentdb;

mod answers;

mod end;

mod tail;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Told after each commit, on the store's own thread: how many events it made durable and how long it took. It must
/// not block.
pub type OnCommit = Arc<dyn Fn(usize, Duration) + Send + Sync>;

/// A boxed future: the trait is used as `dyn EventStore`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An event may be at most this many bytes: a transparency log entry carries a 16-bit length.
pub const MAX_EVENT_BYTES: usize = 65_535;
/// Events in one append.
pub const MAX_EVENTS_PER_APPEND: usize = 128;
/// A stream's name may be at most this many bytes.
pub const MAX_STREAM_NAME_BYTES: usize = 256;
/// Events in one removal.
pub const MAX_EVENTS_PER_REMOVAL: usize = 1_024;
/// Events that one read answers with at the most.
pub const MAX_EVENTS_PER_READ: usize = 4_096;

/// What the writer believes of the stream it appends to (optimistic concurrency).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// No belief: append whatever the stream's state.
    Any,
    /// The stream has no event yet.
    NoStream,
    /// The stream's last event has exactly this revision (the first event's is 0).
    Exact(u64),
}

/// One event on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventToAppend {
    /// The event's id; what makes a repeated append recognisable.
    pub id: Uuid,
    /// The wire name of the event's type.
    pub event_type: &'static str,
    /// The event as it will be stored and returned, verbatim, for ever. The codec writes a JSON object
    /// with the id as its top-level `id`: a store that keeps the bytes and nothing else finds the id
    /// there when it has to recognise a repeat. To a store the bytes are otherwise opaque.
    pub bytes: Arc<[u8]>,
}

/// Events that go to one stream together: all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The stream's name.
    pub stream: String,
    /// What the stream must look like for the append to be accepted.
    pub expected: ExpectedRevision,
    /// 1 to [`MAX_EVENTS_PER_APPEND`] events.
    pub events: Vec<EventToAppend>,
}

impl Append {
    /// Refuses what no store may accept. Every store asks this first, so that all have the same bounds.
    pub fn check_bounds(&self) -> Result<(), AppendError> {
        let broken = if self.stream.is_empty() {
            "the stream has no name"
        } else if self.stream.len() > MAX_STREAM_NAME_BYTES {
            "the stream's name is longer than 256 bytes"
        } else if self.events.is_empty() {
            "it holds no event"
        } else if self.events.len() > MAX_EVENTS_PER_APPEND {
            "it holds more than 128 events"
        } else if self.events.iter().any(|event| event.bytes.len() > MAX_EVENT_BYTES) {
            "an event is larger than 65,535 bytes"
        } else {
            return Ok(());
        };
        Err(AppendError::OutOfBounds(broken))
    }
}

/// Where a durable append ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Index of its first event in the log; the others follow without a gap.
    pub first_index: u64,
    /// Index of its last event in the log.
    pub last_index: u64,
    /// The stream's revision now: that of its last event.
    pub revision: u64,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the log: dense, from 0.
    pub index: u64,
    /// Its place in its stream: dense, from 0.
    pub revision: u64,
    /// The stored bytes.
    pub bytes: Arc<[u8]>,
}

/// Which way a read of the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first: `from` and what follows it.
    Forwards,
    /// Newest first: `from` and what precedes it.
    Backwards,
}

/// Why an append was not accepted. Only `Indeterminate` leaves open whether the events are in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Someone else wrote to the stream first.
    #[error("the stream's revision is {actual:?}, expected was {expected:?}")]
    WrongExpectedRevision {
        /// What the append expected.
        expected: ExpectedRevision,
        /// The stream's revision, `None` when it has no event.
        actual: Option<u64>,
    },
    /// The writer's queue is full; nothing was written. Try again later.
    #[error("the event log's queue is full")]
    Overloaded,
    /// The append breaks a bound of the log; nothing was written.
    #[error("the append breaks a bound: {0}")]
    OutOfBounds(&'static str),
    /// The commit failed, or a cluster did not say how it went: whether the events are in the log, only the log can
    /// tell.
    #[error("the event log could not commit: {0}")]
    Indeterminate(String),
    /// A removal could not be done and was undone: the log is as it was.
    #[error("the event log could not remove what it was to: {0}")]
    NotRemoved(String),
    /// The store has stopped accepting (poisoned by a failed commit, or closed); nothing was written.
    #[error("the event log does not accept events: {0}")]
    Closed(String),
}

/// Why the log could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event log cannot be read: {0}")]
pub struct ReadError(pub String);

/// The event log.
pub trait EventStore: Send + Sync + 'static {
    /// Appends all events or none. The future resolves when they are on stable storage.
    ///
    /// The append is under way when this returns, whether or not the future is polled: a caller may
    /// do other work meanwhile, and dropping the future does not withdraw the append.
    ///
    /// An append that is repeated with the same event ids and the same `Exact` or `NoStream`
    /// expectation is answered as the first time and writes nothing.
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>>;

    /// The stream's events from `from_revision` on, oldest first, at most `limit`
    /// (and at most [`MAX_EVENTS_PER_READ`]). Empty when there is no such stream.
    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>>;

    /// The log's events from index `from` in the given direction, at most `limit`
    /// (and at most [`MAX_EVENTS_PER_READ`]). Forwards from beyond the end there is nothing;
    /// backwards from beyond the end begins at the newest event.
    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>>;

    /// In which stream the store has each event of the range, whatever its bytes say: the names that `read_stream` and
    /// expectations go by. An event that is in no stream that can be read is left out. At most
    /// [`MAX_EVENTS_PER_READ`] events.
    fn streams_of(&self, range: Range<u64>) -> BoxFuture<'_, Result<Vec<(u64, String)>, ReadError>>;

    /// The events at these indexes, in the order asked for. More than [`MAX_EVENTS_PER_READ`]
    /// indexes, or an index beyond the log's end, is an error.
    fn read_indexes(&self, indexes: &[u64]) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>>;

    /// Follows the log from index `from`: what is there first, then what is committed as it is
    /// committed. From beyond the log's end: nothing until the log has grown to there.
    fn subscribe_to_all(&self, from: u64) -> Box<dyn Subscription>;

    /// Puts what is left of removed events (see `removal`) in their places, all or none: the only change that a
    /// log knows. The future resolves when it is on stable storage. Who follows the log closely may still get an
    /// event as it was. More than [`MAX_EVENTS_PER_REMOVAL`] events, one that is not there, and a store that
    /// cannot change what it holds are answered with `OutOfBounds`.
    fn remove(&self, removed: Vec<StoredEvent>) -> BoxFuture<'static, Result<(), AppendError>>;

    /// Bytes that the log takes on disk; what can be used again is not counted.
    fn used_bytes(&self) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// How many events are durable: the index that the next one gets.
    fn log_size(&self) -> u64;

    /// Resolves when the store has failed for good, with what the operator should know. A store that
    /// never fails never resolves it, not even by closing.
    fn failed(&self) -> BoxFuture<'static, String>;

    /// The same at once: why the store has failed, if it has.
    fn failure(&self) -> Option<String>;

    /// Why this node does not know the newest state of the log, which others may have changed since: who decides
    /// grants nothing until it is `None` again, which it becomes by itself. Always `None` where nobody else writes.
    fn cut_off(&self) -> Option<String>;

    /// Whether no event will follow, because the store has failed or is closed.
    fn has_ended(&self) -> bool;

    /// Appends that wait to be written at this moment.
    fn queue_depth(&self) -> u64;

    /// Stops accepting appends, commits what is queued, and closes: afterwards reads fail too.
    /// Resolves when that is done, for every caller. Idempotent.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// A reader that follows the log.
pub trait Subscription: Send {
    /// The next events in the log's order, without gap or repetition: waits until there is at least
    /// one, answers with at most `limit` (and at most [`MAX_EVENTS_PER_READ`]). `Err` when the log
    /// cannot be read or has closed. A future that is dropped unfinished skips no event.
    fn next_batch(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>>;
}
