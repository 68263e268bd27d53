//! The event log in a KurrentDB (formerly EventStoreDB) cluster, for those who outgrow one machine.
//!
//! Every node follows `$all`, filtered on the streams of this log, and counts: an event's index is the number of
//! events of this log before it, so all nodes agree without asking one another. An append is answered when the
//! cluster has it on a majority of its nodes and this node has read it back.
//!
//! ```text
//! append_to_stream ─> lanes ─> connections ─> the cluster's leader
//!                                                    │ $all
//! log size, tail, subscriptions <── log <── follower ┘        positions.db: where each event is
//! reads ─> the tail, else the cluster                        (a cache, safe to delete)
//! ```

mod connections;
mod follower;
mod freshness;
mod lanes;
mod log;
mod loss;
mod nodelay;
mod positions;
mod reading;
mod url;

use self::connections::{CallError, Connections};
use self::follower::Follower;
use self::freshness::Freshness;
use self::lanes::Lanes;
use self::log::Log;
use self::loss::{LOST, LOST_PATIENCE, Loss};
use self::positions::{Positions, reaches};
use self::reading::{Reading, Unread};
use super::end::{self, End};
use super::tail::{Followed, LogSubscription, Tail};
use super::{
    Append, AppendError, Appended, BoxFuture, Direction, EventStore, MAX_EVENTS_PER_READ, OnCommit, ReadError,
    StoredEvent, Subscription,
};
use eventstore::{Error, Position};
use std::io;
use std::mem::{Discriminant, discriminant};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

pub use self::url::{InvalidKurrentDbUrl, KurrentDbUrl};

/// Threads that carry calls and their answers.
const THREADS: usize = 2;
/// How often it is asked at least how far the cluster is, however little staleness is allowed.
const LONGEST_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A probe that is answered later counts as failed.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// A subscription that does not come to where the cluster was within this time, nor any nearer, is begun anew.
const STALL: Duration = Duration::from_secs(1);
/// A server that is being started may know no user for a moment.
const DENIED_PATIENCE: Duration = Duration::from_secs(5);
/// Between the first two looks of a start at how far it is; doubled for each further one, for the KurrentDB may have to
/// look through much that is not this log's to answer it.
const FIRST_CATCH_UP_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two of them.
const LONGEST_CATCH_UP_PAUSE: Duration = Duration::from_millis(500);
/// How often a start that takes long says so.
const SAY_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether appends have waited for too long.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where the log is and what may be expected of it.
#[derive(Clone)]
pub struct KurrentDbOptions {
    /// The KurrentDB.
    pub url: KurrentDbUrl,
    /// What the names of this log's streams begin with in the KurrentDB. Nobody else may write to such streams.
    pub stream_prefix: String,
    /// The file that keeps where events are, `positions.db` in the data folder. The folder must exist.
    pub positions: PathBuf,
    /// Appends that may be under way (at least 1); one more is refused as `Overloaded`.
    pub queue_capacity: usize,
    /// Events after which a call takes in no further append (at least 1).
    pub max_batch_events: usize,
    /// A node that has not known for so long what the cluster knows says so.
    pub max_staleness: Duration,
    /// The outcome of an append that is not known after so long counts as unknown.
    pub append_timeout: Duration,
    /// How long the start waits for a cluster that does not answer.
    pub connect_timeout: Duration,
    /// Told after each call that has appended.
    pub on_commit: Option<OnCommit>,
}

impl KurrentDbOptions {
    /// The log in this KurrentDB, with the default bounds.
    pub fn new(url: KurrentDbUrl, positions: impl Into<PathBuf>) -> Self {
        Self {
            url,
            stream_prefix: "grantlog.".to_owned(),
            positions: positions.into(),
            queue_capacity: 4_096,
            max_batch_events: 1_024,
            max_staleness: Duration::from_secs(5),
            append_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(60),
            on_commit: None,
        }
    }
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing answers, or not as it should.
    #[error("the KurrentDB at {url} did not answer within {waited:?}: {why}. Is it running, and is store.url right?")]
    Unreachable {
        /// Where it should be.
        url: KurrentDbUrl,
        /// How long it was tried.
        waited: Duration,
        /// The last failure.
        why: String,
    },
    /// It answers that this is not allowed.
    #[error(
        "the KurrentDB at {url} does not let this node in: are the user and the password in store.url right, or may it \
         not read $all? See docs/cluster.md"
    )]
    AccessDenied {
        /// Where it is.
        url: KurrentDbUrl,
    },
    /// The file with the positions of events.
    #[error("{path}: {source}")]
    Positions {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key that store.url names.
    #[error("store.url names {path}, which cannot be used: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// It is not the log that this node knows.
    #[error(
        "the KurrentDB at {url} does not hold the log that this node has read: {why}. If it is meant to be another \
         log, start with another data folder; if it was restored from a backup, see docs/cluster.md"
    )]
    AnotherLog {
        /// Where it is.
        url: KurrentDbUrl,
        /// What differs.
        why: String,
    },
    /// It cannot be gone on with.
    #[error("the log of the KurrentDB at {url} cannot be followed: {why}")]
    Failed {
        /// Where it is.
        url: KurrentDbUrl,
        /// Why not.
        why: String,
    },
    /// No threads.
    #[error("no threads for the KurrentDB: {0}")]
    Threads(io::Error),
}

/// The event log in a KurrentDB cluster.
pub struct KurrentDbEventStore {
    log: Arc<Log>,
    lanes: Arc<Lanes>,
    reading: Arc<Reading>,
    connections: Arc<Connections>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
    /// Closed when the follower's thread has ended.
    follower_is_gone: watch::Receiver<()>,
}

impl KurrentDbEventStore {
    /// Connects, finds out where the log's end is, and reads up to there: from the beginning on a node that has
    /// never done it, else from where it was.
    pub async fn open(options: KurrentDbOptions) -> Result<Self, OpenError> {
        let positions = Positions::open(&options.positions, &options.stream_prefix);
        Self::opened(options, positions).await
    }

    /// Opens the log as it is now for reading, even while a server is using the same data folder: the log size stays
    /// what it is at this moment, appends are answered with `Closed`, and a subscription ends with an error when it
    /// has delivered everything.
    pub async fn open_read_only(options: KurrentDbOptions) -> Result<Self, OpenError> {
        let positions = Positions::copy_of(&options.positions, &options.stream_prefix);
        let store = Self::opened(options, positions).await?;
        store.log.end.send_replace(Some(End::ReadOnly));
        let mut gone = store.follower_is_gone.clone();
        while gone.changed().await.is_ok() {}
        Ok(store)
    }

    async fn opened(options: KurrentDbOptions, positions: io::Result<Positions>) -> Result<Self, OpenError> {
        let of_positions = |source| OpenError::Positions {
            path: options.positions.clone(),
            source,
        };
        // The client would try again and again, and not say why.
        options
            .url
            .check_files()
            .map_err(|(path, why)| OpenError::Certificate { path, why })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("kurrentdb")
            .enable_all()
            .build()
            .map_err(OpenError::Threads)?;
        let handle = runtime.handle().clone();
        let freshness = Freshness::new(options.max_staleness);
        let log = Log::new(
            positions.map_err(of_positions)?,
            options.stream_prefix.clone(),
            freshness,
        );
        let log = Arc::new(log.map_err(of_positions)?);
        if let Some(id) = log.positions.last_id() {
            log.set_last_id(id);
        }
        let connections = Arc::new(Connections::new(options.url.clone(), handle.clone()));
        let reading = Arc::new(Reading::new(log.clone(), connections.clone()));
        let lanes = Arc::new(Lanes::new(
            log.clone(),
            connections.clone(),
            reading.clone(),
            handle.clone(),
            &options,
        ));
        let (gone, follower_is_gone) = watch::channel(());
        let store = Self {
            log: log.clone(),
            lanes,
            reading: reading.clone(),
            connections: connections.clone(),
            runtime: Some(runtime),
            follower_is_gone,
        };
        store.is_the_same_log(&options).await?;

        let renew = Arc::new(Notify::new());
        let follower = Follower {
            log: log.clone(),
            connections,
            reading: reading.clone(),
            renew: renew.clone(),
        };
        let thread = follower.spawn().map_err(OpenError::Threads)?;
        handle.spawn_blocking(move || {
            // A panic of it is told where it happens.
            let _ = thread.join();
            drop(gone);
        });
        store.caught_up(&options).await?;
        handle.spawn(keep_fresh(log.clone(), reading, store.connections.clone(), renew));
        handle.spawn(give_up_late(log));
        Ok(store)
    }

    /// Waits until the cluster answers. The last event that this node has read must still be where it was.
    async fn is_the_same_log(&self, options: &KurrentDbOptions) -> Result<(), OpenError> {
        let began = Instant::now();
        // What it last said, and since when it says so.
        let mut said: Option<(Discriminant<OpenError>, Instant)> = None;
        let (last, id) = (self.log_size().checked_sub(1), self.log.last_id());
        loop {
            let asked = self.on_runtime(move |reading| async move {
                // Nobody knows a better reason for a failure than the cheapest question has.
                reading.end_of_all(PROBE_DEADLINE).await?;
                match last {
                    Some(last) => reading.has(last, id).await,
                    None => Ok(true),
                }
            });
            let (error, why) = match asked.await {
                Ok(true) => return Ok(()),
                // A leader that is new may not show it yet.
                Ok(false) => {
                    let why = "the last event that this node has read is not there".to_owned();
                    let url = options.url.clone();
                    (OpenError::AnotherLog { url, why: why.clone() }, why)
                }
                Err(CallError::Refused(Error::AccessDenied)) => {
                    let url = options.url.clone();
                    (OpenError::AccessDenied { url }, "access denied".to_owned())
                }
                Err(error) => {
                    let (url, waited, why) = (options.url.clone(), options.connect_timeout, error.to_string());
                    let unreachable = OpenError::Unreachable {
                        url,
                        waited,
                        why: why.clone(),
                    };
                    (unreachable, why)
                }
            };
            let patience = match error {
                OpenError::AccessDenied { .. } => DENIED_PATIENCE.min(options.connect_timeout),
                OpenError::AnotherLog { .. } => LOST_PATIENCE.min(options.connect_timeout),
                _ => options.connect_timeout,
            };
            let kind = discriminant(&error);
            let since = match said {
                Some((last, since)) if last == kind => since,
                _ => said.insert((kind, Instant::now())).1,
            };
            if since.elapsed() >= patience || began.elapsed() >= options.connect_timeout + patience {
                return Err(error);
            }
            tracing::debug!(why, "the KurrentDB is asked again");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until this node has read all that there is. Others may write meanwhile, so what counts is a moment that
    /// is not long ago.
    async fn caught_up(&self, options: &KurrentDbOptions) -> Result<(), OpenError> {
        let (began, from) = (Instant::now(), self.log_size());
        let mut progress = Progress::new(self.log.through());
        let mut looks = Looks::of(&self.log);
        loop {
            let asked = Instant::now();
            let end = self.on_runtime(|reading| async move { reading.end_of_all(PROBE_DEADLINE).await });
            let why = match end.await {
                Ok(end) => loop {
                    if reaches(self.log.through(), end) {
                        self.log.freshness.heard_at(asked);
                        break None;
                    }
                    let asked = Instant::now();
                    let unread = self.on_runtime(|reading| async move { reading.next_unread(PROBE_DEADLINE).await });
                    match unread.await {
                        Ok(None) => {
                            self.log.freshness.heard_at(asked);
                            break None;
                        }
                        Ok(Some(_)) => {}
                        Err(error) => break Some(error.to_string()),
                    }
                    self.still_on_its_way(&mut progress, from, began, options)?;
                    looks.pause_before_next(end).await;
                },
                Err(error) => Some(error.to_string()),
            };
            if why.is_none() && self.log.freshness.age(Instant::now()) < options.max_staleness / 2 {
                break;
            }
            if let Some(why) = why {
                progress.why = why;
                looks.pause_before_next(None).await;
            }
            self.still_on_its_way(&mut progress, from, began, options)?;
        }
        tracing::info!(
            from,
            through = self.log_size(),
            milliseconds = began.elapsed().as_millis(),
            "the log of the KurrentDB is read"
        );
        Ok(())
    }

    /// Says how far it is, and gives up when it does not go on.
    fn still_on_its_way(
        &self,
        progress: &mut Progress,
        from: u64,
        began: Instant,
        options: &KurrentDbOptions,
    ) -> Result<(), OpenError> {
        let url = options.url.clone();
        if let Some(End::Failed(why)) = &*self.log.end.borrow() {
            return Err(OpenError::Failed { url, why: why.clone() });
        }
        let now = Instant::now();
        // A subscription that is begun anew begins further back.
        if !reaches(progress.through, self.log.through()) {
            (progress.through, progress.moved) = (self.log.through(), now);
        } else if now.duration_since(progress.moved) >= options.connect_timeout {
            return Err(OpenError::Unreachable {
                url,
                waited: options.connect_timeout,
                why: progress.why.clone(),
            });
        }
        if now.duration_since(progress.said) >= SAY_EVERY {
            progress.said = now;
            let size = self.log_size();
            let rate = (size - from) as f64 / began.elapsed().as_secs_f64();
            tracing::info!(
                events = size,
                events_per_second = rate as u64,
                "reading the log from the KurrentDB"
            );
        }
        Ok(())
    }

    /// Runs a read on the store's own threads: connections are served there, whoever asks.
    async fn on_runtime<T, F>(&self, read: impl FnOnce(Arc<Reading>) -> F) -> T
    where
        T: Send + OnceFailed + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let is_closed = matches!(*self.log.end.borrow(), Some(End::Closed));
        let Some(runtime) = self.runtime.as_ref().filter(|_| !is_closed) else {
            return T::failed("it is closed");
        };
        let reading = read(self.reading.clone());
        runtime
            .spawn(reading)
            .await
            .unwrap_or_else(|error| T::failed(&error.to_string()))
    }
}

/// What a read is answered with that could not be made.
trait OnceFailed {
    fn failed(why: &str) -> Self;
}

impl<T> OnceFailed for Result<T, ReadError> {
    fn failed(why: &str) -> Self {
        Err(ReadError(why.to_owned()))
    }
}

impl<T> OnceFailed for Result<T, CallError> {
    fn failed(why: &str) -> Self {
        Err(CallError::Broken(why.to_owned()))
    }
}

/// How a start that takes long is going.
struct Progress {
    through: Option<Position>,
    moved: Instant,
    said: Instant,
    why: String,
}

impl Progress {
    fn new(through: Option<Position>) -> Self {
        Self {
            through,
            moved: Instant::now(),
            said: Instant::now(),
            why: "its subscription does not come there".to_owned(),
        }
    }
}

/// The looks of a start at how far it is.
struct Looks {
    looked_through: watch::Receiver<Option<Position>>,
    pause: Duration,
}

impl Looks {
    fn of(log: &Log) -> Self {
        Self {
            looked_through: log.looked_through.subscribe(),
            pause: FIRST_CATCH_UP_PAUSE,
        }
    }

    /// Ends early when this node comes to where the cluster was.
    async fn pause_before_next(&mut self, end: Option<Position>) {
        let comes_there = self
            .looked_through
            .wait_for(|through| end.is_some() && reaches(*through, end));
        // What it gives is a lock on what the follower writes: it must not be kept.
        let _ = tokio::time::timeout(self.pause, comes_there).await.is_ok();
        self.pause = longer(self.pause);
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_CATCH_UP_PAUSE)
}

/// Asks the leader again and again how far the cluster is, and looks whether this node comes there.
async fn keep_fresh(log: Arc<Log>, reading: Arc<Reading>, connections: Arc<Connections>, renew: Arc<Notify>) {
    let mut failed = connections.failed();
    let interval = (log.freshness.max_staleness() / 5).min(LONGEST_PROBE_INTERVAL);
    let deadline = PROBE_DEADLINE.min(log.freshness.max_staleness());
    let mut loss = Loss::default();
    // What had been heard from subscriptions when a question remained without an answer.
    let mut doubtful = None;
    while log.end.borrow().is_none() {
        let asked = Instant::now();
        let heard = log.heard.load(Ordering::Relaxed);
        failed.mark_unchanged();
        let end = tokio::select! {
            end = reading.end_of_all(deadline) => end,
            // Somebody else has waited long enough for the same server.
            _ = failed.changed() => Err(CallError::Broken("its connection is given up".to_owned())),
        };
        if end.is_err() {
            doubtful.get_or_insert(heard);
        } else if doubtful.take() == Some(log.heard.load(Ordering::Relaxed)) {
            // Most likely it is with a server that is silent, which would not be noticed before the next event.
            renew.notify_one();
        }
        match end {
            // It knows less than this node: nothing that it says is news.
            Ok(end) if !reaches(end, *log.position.borrow()) => {
                if loss.is_certain(asked) {
                    return log.fail(LOST.to_owned());
                }
            }
            Ok(end) => {
                loss.found();
                look_whether_it_comes_to(end, asked, &log, &reading, deadline, &renew).await;
            }
            Err(_) => loss.unknown(),
        }
        tokio::time::sleep(interval.saturating_sub(asked.elapsed()).max(interval / 4)).await;
    }
}

/// Everything that was there when it was asked is before this end. What is there of others need not have been looked at.
async fn look_whether_it_comes_to(
    end: Option<Position>,
    asked: Instant,
    log: &Log,
    reading: &Reading,
    deadline: Duration,
    renew: &Notify,
) {
    let mut looked_through = log.looked_through.subscribe();
    let heard = log.heard.load(Ordering::Relaxed);
    if reaches(log.through(), end) {
        return log.freshness.heard_at(asked);
    }
    let until = tokio::time::Instant::now() + STALL;
    loop {
        let asked_again = Instant::now();
        let next = match reading.next_unread(deadline).await {
            Ok(None) => return log.freshness.heard_at(asked_again),
            Ok(Some(next)) => next,
            Err(_) => return,
        };
        let comes_there = looked_through.wait_for(|through| reaches(*through, Some(next)));
        // What it gives is a lock on what the follower writes: it must not be kept.
        let has_come = tokio::time::timeout_at(until, comes_there).await.is_ok();
        match has_come {
            true if reaches(log.through(), end) => return log.freshness.heard_at(asked),
            // What is behind it may be of others.
            true => {}
            false if log.heard.load(Ordering::Relaxed) == heard => return renew.notify_one(),
            // It is behind, and on its way.
            false => return,
        }
    }
}

async fn give_up_late(log: Arc<Log>) {
    while !matches!(*log.end.borrow(), Some(End::Closed)) {
        tokio::time::sleep(LOOK_EVERY).await;
        log.give_up_late(Instant::now());
    }
}

impl EventStore for KurrentDbEventStore {
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let queued = self.lanes.enqueue(append);
        Box::pin(async move { queued?.await })
    }

    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let stream = stream.to_owned();
        Box::pin(self.on_runtime(move |reading| async move { reading.stream(&stream, from_revision, limit).await }))
    }

    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let (size, limit) = (self.log_size(), limit.min(MAX_EVENTS_PER_READ) as u64);
        let (first, end) = match direction {
            Direction::Forwards => (from.min(size), from.saturating_add(limit).min(size)),
            Direction::Backwards => {
                let end = from.saturating_add(1).min(size);
                (end.saturating_sub(limit), end)
            }
        };
        Box::pin(self.on_runtime(move |reading| async move {
            let mut events = reading.range(first, end).await.map_err(ReadError::from)?;
            if direction == Direction::Backwards {
                events.reverse();
            }
            Ok(events)
        }))
    }

    fn streams_of(&self, range: Range<u64>) -> BoxFuture<'_, Result<Vec<(u64, String)>, ReadError>> {
        let most = range.start.saturating_add(MAX_EVENTS_PER_READ as u64);
        let (first, end) = (range.start, range.end.min(self.log_size()).min(most));
        Box::pin(self.on_runtime(move |reading| async move { reading.streams_of(first, end).await }))
    }

    fn read_indexes(&self, indexes: &[u64]) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let indexes = indexes.to_vec();
        Box::pin(self.on_runtime(move |reading| async move { reading.indexes(&indexes).await }))
    }

    fn subscribe_to_all(&self, from: u64) -> Box<dyn Subscription> {
        let followed = Arc::new(FollowedLog {
            log: self.log.clone(),
            reading: self.reading.clone(),
            runtime: self.runtime.as_ref().map(|runtime| runtime.handle().clone()),
        });
        Box::new(LogSubscription::new(followed, from))
    }

    fn remove(&self, _: Vec<StoredEvent>) -> BoxFuture<'static, Result<(), AppendError>> {
        Box::pin(async {
            Err(AppendError::OutOfBounds(
                "a KurrentDB does not change what it holds: nothing can be removed from its log",
            ))
        })
    }

    fn used_bytes(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        // A position in `$all` is a place in the log's bytes.
        let bytes = self.log.position.borrow().map_or(0, |position| position.commit);
        Box::pin(async move { Ok(bytes) })
    }

    fn cut_off(&self) -> Option<String> {
        let age = self.log.freshness.too_old(Instant::now())?;
        let max = self.log.freshness.max_staleness();
        let why = self.connections.trouble_now();
        Some(format!(
            "this node has not known for {} s what the KurrentDB at {} knows, {} s is the most \
             (store.max_staleness_seconds): {}",
            age.as_secs(),
            self.connections.url(),
            max.as_secs(),
            why.as_deref().unwrap_or("its subscription does not come there")
        ))
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

    fn has_ended(&self) -> bool {
        self.log.end.borrow().is_some()
    }

    fn queue_depth(&self) -> u64 {
        self.log.open.appends.load(Ordering::Relaxed) as u64
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let (lanes, log) = (self.lanes.clone(), self.log.clone());
        let mut follower_is_gone = self.follower_is_gone.clone();
        Box::pin(async move {
            lanes.close().await;
            log.end.send_if_modified(|end| {
                let was_open = end.is_none() || *end == Some(End::ReadOnly);
                if was_open {
                    *end = Some(End::Closed);
                }
                was_open
            });
            while follower_is_gone.changed().await.is_ok() {}
        })
    }
}

impl Drop for KurrentDbEventStore {
    fn drop(&mut self) {
        self.log.end.send_if_modified(|end| {
            let was_open = end.is_none();
            if was_open {
                *end = Some(End::Closed);
            }
            was_open
        });
        self.log.abandon();
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped where nothing may block.
            runtime.shutdown_background();
        }
    }
}

/// What subscriptions follow.
struct FollowedLog {
    log: Arc<Log>,
    reading: Arc<Reading>,
    runtime: Option<tokio::runtime::Handle>,
}

impl Followed for FollowedLog {
    fn size(&self) -> &watch::Sender<u64> {
        &self.log.size
    }

    fn end(&self) -> &watch::Sender<Option<End>> {
        &self.log.end
    }

    fn tail(&self) -> &Tail {
        &self.log.tail
    }

    /// Whoever follows the log must not end because a cluster was away for a while.
    fn read_on(&self, from: u64, limit: usize, size: u64) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let end = from.saturating_add(limit as u64).min(size);
        Box::pin(async move {
            let mut missing_since = None;
            loop {
                let Some(runtime) = &self.runtime else {
                    return Err(ReadError("it is closed".to_owned()));
                };
                let reading = self.reading.clone();
                let read = runtime.spawn(async move { reading.range(from, end).await });
                let unread = match read.await {
                    Ok(Ok(events)) => return Ok(events),
                    Ok(Err(unread)) => unread,
                    Err(ended) => return Err(ReadError(ended.to_string())),
                };
                let why = ReadError::from(unread.clone());
                if matches!(*self.log.end.borrow(), Some(End::Closed | End::Failed(_))) {
                    return Err(why);
                }
                // A leader that is new may not show it yet.
                if matches!(unread, Unread::Missing(_)) {
                    let since = *missing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > LOST_PATIENCE {
                        self.log.fail(why.0.clone());
                        return Err(why);
                    }
                } else {
                    missing_since = None;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_looks_less_and_less_often_and_never_less_than_twice_a_second() {
        let pauses: Vec<Duration> = std::iter::successors(Some(FIRST_CATCH_UP_PAUSE), |pause| Some(longer(*pause)))
            .take(20)
            .collect();
        assert!(pauses.is_sorted() && pauses[0] * 2 == pauses[1], "{pauses:?}");
        assert_eq!(pauses.last(), Some(&LONGEST_CATCH_UP_PAUSE));
    }
}
