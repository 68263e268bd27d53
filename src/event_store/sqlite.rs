//! The event log in one SQLite file: the store that needs nothing installed.
//!
//! ```text
//! append_to_stream ─> bounded queue ─> writer thread ─> one transaction ─> COMMIT (fsync) ─> all waiters
//!                     (full: Overloaded)                                         │
//!                                                            log size, tail ─────┴─> subscriptions
//! reads ─> a few read-only connections, which see nothing beyond the log size
//! ```
//!
//! There is no timer in the way of an append: the writer commits as soon as it is free whatever has
//! queued up meanwhile. An idle server commits at once, a busy one commits for many with one fsync.

mod failure;
mod opening;
mod reading;
mod stream_heads;
mod writer;

use self::opening::{LogFile, LogLock};
use self::reading::Readers;
use self::writer::{Queued, Removal, Work, Writer};
use super::answers::{self, Answer};
use super::end::{self, End};
use super::tail::{Followed, LogSubscription, Tail};
use super::{
    Append, AppendError, Appended, BoxFuture, Direction, EventStore, MAX_EVENTS_PER_REMOVAL, OnCommit, ReadError,
    StoredEvent, Subscription,
};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::opening::OpenError;

/// Bytes of events that may wait in the queue, whatever its capacity in appends: what bounds the
/// writer's memory when the events are large.
const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// When SQLite calls fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// `synchronous=FULL`: an acknowledged event is on stable storage.
    #[default]
    Full,
    /// `synchronous=NORMAL`: **acknowledged events can be lost**, which breaks Grantlog's first promise.
    /// It exists so that the durability tests can show that they notice; no configuration reaches it.
    UnsafeNormal,
}

/// Where the log is and how much it may hold in memory.
#[derive(Clone)]
pub struct SqliteOptions {
    /// The log's file, `events.db` in the data folder. The folder must exist.
    pub path: PathBuf,
    /// Appends that may wait for the writer (at least 1); one more is refused as `Overloaded`.
    pub queue_capacity: usize,
    /// Events after which a transaction takes in no further append (at least 1).
    pub max_batch_events: usize,
    /// Connections for reading, which is how many reads can run at the same time (at least 1).
    pub readers: usize,
    /// Anything but [`Durability::Full`] is for tests.
    pub durability: Durability,
    /// Told after each commit.
    pub on_commit: Option<OnCommit>,
}

impl SqliteOptions {
    /// The log in this file, with the default bounds.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            queue_capacity: 4_096,
            max_batch_events: 1_024,
            readers: 4,
            durability: Durability::Full,
            on_commit: None,
        }
    }
}

/// The event log in one SQLite file. Dropping it ends the writer after it has committed what is queued;
/// [`EventStore::close`] also tells when that is done.
pub struct SqliteEventStore {
    /// `None` once the store is closed, and always when it is for reading only.
    intake: RwLock<Option<mpsc::Sender<Work>>>,
    log: Arc<Log>,
    /// Closed when the writer's thread has let go of the files.
    writer_is_gone: watch::Receiver<()>,
}

/// What the store, its writer and its subscriptions share.
struct Log {
    path: PathBuf,
    /// How many events are durable. Advanced after COMMIT has returned OK and before anyone is told.
    size: watch::Sender<u64>,
    /// Why no event will follow.
    end: watch::Sender<Option<End>>,
    tail: Tail,
    readers: Readers,
    queued_bytes: AtomicUsize,
}

impl SqliteEventStore {
    /// Opens the log for this process alone and starts its writer; makes the file if there is none.
    ///
    /// What a crash left in the write-ahead log is first moved into the file and synced: pages that an
    /// fsync failed to write can look intact in memory, and nothing may be appended behind them.
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let lock = LogLock::take(&options.path)?;
        let LogFile { connection, size } = opening::open_for_writing(&options.path, options.durability)?;
        let log = Arc::new(Log::new(&options, size, None));
        let (intake, queue) = mpsc::channel(options.queue_capacity.max(1));
        let (gone, writer_is_gone) = watch::channel(());
        let writer = Writer::new(connection, lock, queue, log.clone(), &options);
        std::thread::Builder::new()
            .name("event-log-writer".to_owned())
            .spawn(move || {
                writer.run();
                drop(gone);
            })
            .map_err(|source| OpenError::Io {
                path: options.path.clone(),
                source,
            })?;
        Ok(Self {
            intake: RwLock::new(Some(intake)),
            log,
            writer_is_gone,
        })
    }

    /// Opens the log as it is now for reading, even while another process is writing to it: the log size
    /// stays what it is at this moment, appends are answered with `Closed`, and a subscription ends
    /// with an error when it has delivered everything.
    pub fn open_read_only(options: SqliteOptions) -> Result<Self, OpenError> {
        let LogFile { connection: _, size } = opening::open_for_reading(&options.path)?;
        let log = Arc::new(Log::new(&options, size, Some(End::ReadOnly)));
        let (_, writer_is_gone) = watch::channel(());
        Ok(Self {
            intake: RwLock::new(None),
            log,
            writer_is_gone,
        })
    }

    fn enqueue(&self, append: Append) -> Result<Answer, AppendError> {
        append.check_bounds()?;
        let intake = self.intake.read().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = intake.as_ref() else {
            return Err(self.log.refusal());
        };
        let (reply, answer) = answers::answer();
        let queued = Queued::new(append, reply);
        let bytes = queued.bytes;
        if self.log.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_QUEUED_BYTES {
            self.log.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(AppendError::Overloaded);
        }
        queue.try_send(Work::Append(queued)).map_err(|refused| {
            self.log.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => AppendError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => self.log.refusal(),
            }
        })?;
        Ok(answer)
    }
}

impl EventStore for SqliteEventStore {
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let queued = self.enqueue(append);
        Box::pin(async move { queued?.await })
    }

    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let stream = stream.to_owned();
        let size = self.log_size();
        Box::pin(
            self.log
                .readers
                .run(move |log| reading::read_stream(log, &stream, from_revision, limit, size)),
        )
    }

    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let size = self.log_size();
        Box::pin(
            self.log
                .readers
                .run(move |log| reading::read_all(log, from, direction, limit, size)),
        )
    }

    fn streams_of(&self, range: Range<u64>) -> BoxFuture<'_, Result<Vec<(u64, String)>, ReadError>> {
        let size = self.log_size();
        Box::pin(self.log.readers.run(move |log| reading::streams_of(log, range, size)))
    }

    fn read_indexes(&self, indexes: &[u64]) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let indexes = indexes.to_vec();
        let size = self.log_size();
        Box::pin(
            self.log
                .readers
                .run(move |log| reading::read_indexes(log, &indexes, size)),
        )
    }

    fn remove(&self, removed: Vec<StoredEvent>) -> BoxFuture<'static, Result<(), AppendError>> {
        let log = self.log.clone();
        if removed.len() > MAX_EVENTS_PER_REMOVAL {
            return Box::pin(async { Err(AppendError::OutOfBounds("more events than one removal may have")) });
        }
        let intake = self.intake.read().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let Some(queue) = intake else { return Err(log.refusal()) };
            let (reply, answer) = oneshot::channel();
            // It waits for a place like anybody, but nobody waits for it.
            let removal = Work::Remove(Removal { removed, reply });
            if queue.send(removal).await.is_err() {
                return Err(log.refusal());
            }
            drop(queue);
            answer.await.unwrap_or_else(|_| Err(log.refusal()))
        })
    }

    fn used_bytes(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        Box::pin(self.log.readers.run(reading::used_bytes))
    }

    fn subscribe_to_all(&self, from: u64) -> Box<dyn Subscription> {
        Box::new(LogSubscription::new(self.log.clone(), from))
    }

    fn log_size(&self) -> u64 {
        *self.log.size.borrow()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        end::failed(&self.log.end)
    }

    fn failure(&self) -> Option<String> {
        end::failure(&self.log.end)
    }

    fn cut_off(&self) -> Option<String> {
        // The log is on this machine: whoever can read it knows all of it.
        None
    }

    fn has_ended(&self) -> bool {
        self.log.end.borrow().is_some()
    }

    fn queue_depth(&self) -> u64 {
        let intake = self.intake.read().unwrap_or_else(PoisonError::into_inner);
        intake
            .as_ref()
            .map_or(0, |queue| (queue.max_capacity() - queue.capacity()) as u64)
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        // Without a sender the writer commits what is queued and ends.
        let intake = self.intake.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(intake);
        let log = self.log.clone();
        let mut writer_is_gone = self.writer_is_gone.clone();
        Box::pin(async move {
            while writer_is_gone.changed().await.is_ok() {}
            log.readers.close();
        })
    }
}

impl Followed for Log {
    fn size(&self) -> &watch::Sender<u64> {
        &self.size
    }

    fn end(&self) -> &watch::Sender<Option<End>> {
        &self.end
    }

    fn tail(&self) -> &Tail {
        &self.tail
    }

    fn read_on(&self, from: u64, limit: usize, size: u64) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        Box::pin(
            self.readers
                .run(move |log| reading::read_all(log, from, Direction::Forwards, limit, size)),
        )
    }
}

impl Log {
    fn new(options: &SqliteOptions, size: u64, end: Option<End>) -> Self {
        Self {
            path: options.path.clone(),
            size: watch::Sender::new(size),
            end: watch::Sender::new(end),
            tail: Tail::default(),
            readers: Readers::new(&options.path, options.readers),
            queued_bytes: AtomicUsize::new(0),
        }
    }

    /// Why appends are no longer accepted.
    fn refusal(&self) -> AppendError {
        AppendError::Closed(self.end.borrow().as_ref().unwrap_or(&End::Closed).to_string())
    }
}
