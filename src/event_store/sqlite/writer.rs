//! The one thread that writes: it takes whatever waits, commits it in one transaction, and wakes everyone.

use super::opening::LogLock;
use super::stream_heads::{StreamHead, StreamHeads};
use super::{Log, SqliteOptions, failure};
use crate::event_store::answers::{Outcome, Reply, WakeUps};
use crate::event_store::end::End;
use crate::event_store::{Append, AppendError, Appended, EventToAppend, ExpectedRevision, OnCommit, StoredEvent};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Pages in the write-ahead log from which on it is moved into the file: 8 MB, which keeps the writer for some
/// 7 ms. Four times as much would keep it 17 ms for a tenth more throughput; a thread of its own gained nothing
/// and let the write-ahead log grow to several times the size (measured on two cores).
const CHECKPOINT_PAGES: i64 = 1_024;
/// When a reader kept a checkpoint from finishing, the next attempt comes this many pages later.
const CHECKPOINT_RETRY_PAGES: i64 = 256;
/// How long closing waits for readers in other processes, whose presence only costs tidiness.
const CLOSING_PATIENCE: Duration = Duration::from_millis(250);

/// What the operator reads of a checkpoint that failed.
const MOVING: &str = "moving its write-ahead log into the file";

/// An append on its way to the writer.
pub(super) struct Queued {
    append: Append,
    reply: Reply,
    /// What it counts against the bound on queued bytes.
    pub(super) bytes: usize,
}

impl Queued {
    pub(super) fn new(append: Append, reply: Reply) -> Self {
        let bytes = append.events.iter().map(|event| event.bytes.len()).sum();
        Self { append, reply, bytes }
    }
}

/// What the writer has to do.
pub(super) enum Work {
    Append(Queued),
    Remove(Removal),
}

/// What is left of events, on its way into their places.
pub(super) struct Removal {
    pub(super) removed: Vec<StoredEvent>,
    pub(super) reply: oneshot::Sender<Result<(), AppendError>>,
}

/// The writer's state. The connection comes before the lock: the files are closed before others may lock.
pub(super) struct Writer {
    connection: Connection,
    heads: StreamHeads,
    queue: mpsc::Receiver<Work>,
    /// Work that waited behind a batch of appends and is next.
    set_aside: Option<Removal>,
    /// How many events the log holds, those of the open transaction included.
    size: u64,
    next_checkpoint: i64,
    max_batch_events: usize,
    on_commit: Option<OnCommit>,
    log: Arc<Log>,
    _lock: LogLock,
}

/// What becomes of one append.
enum Decision {
    /// Its events go behind this end of the stream; `None`: it is the stream's first append.
    Insert(Option<StreamHead>),
    /// It is answered without inserting anything.
    Answer(Outcome),
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        lock: LogLock,
        queue: mpsc::Receiver<Work>,
        log: Arc<Log>,
        options: &SqliteOptions,
    ) -> Self {
        let size = *log.size.borrow();
        Self {
            connection,
            heads: StreamHeads::new(),
            queue,
            set_aside: None,
            size,
            next_checkpoint: CHECKPOINT_PAGES,
            max_batch_events: options.max_batch_events,
            on_commit: options.on_commit.clone(),
            log,
            _lock: lock,
        }
    }

    /// Writes until every sender is gone, or until a commit fails.
    pub(super) fn run(mut self) {
        while let Some(work) = self.next() {
            let first = match work {
                Work::Append(first) => first,
                Work::Remove(removal) => {
                    let outcome = self.remove(&removal.removed);
                    let answer = match &outcome {
                        Ok(outcome) => outcome.clone(),
                        Err(error) => Err(AppendError::Indeterminate(failure::in_words(error))),
                    };
                    // Whoever asked may have gone.
                    let _ = removal.reply.send(answer);
                    if let Err(error) = outcome {
                        let attempt = format!("removing {} events", removal.removed.len());
                        return self.fail(Vec::new(), &attempt, &error);
                    }
                    if let Err(error) = self.checkpoint_when_due() {
                        return self.fail(Vec::new(), MOVING, &error);
                    }
                    continue;
                }
            };
            let batch = self.take_batch(first);
            let events_before = self.size;
            let begin = Instant::now();
            match self.commit(&batch) {
                Ok((outcomes, events)) => {
                    let duration = begin.elapsed();
                    self.publish(events);
                    self.answer(batch, outcomes);
                    let committed = (self.size - events_before) as usize;
                    if let Some(on_commit) = self.on_commit.as_ref().filter(|_| committed > 0) {
                        on_commit(committed, duration);
                    }
                }
                Err(error) => {
                    let events: usize = batch.iter().map(|queued| queued.append.events.len()).sum();
                    let attempt = format!("committing {events} events");
                    return self.fail(batch, &attempt, &error);
                }
            }
            if let Err(error) = self.checkpoint_when_due() {
                return self.fail(Vec::new(), MOVING, &error);
            }
        }
        self.finish();
    }

    fn next(&mut self) -> Option<Work> {
        match self.set_aside.take() {
            Some(removal) => Some(Work::Remove(removal)),
            None => self.queue.blocking_recv(),
        }
    }

    /// Puts what is left of events in their places, in one transaction. A row is deleted and inserted again, not
    /// updated: only then does SQLite join pages that have become almost empty. `Err` means that what is on disk is
    /// unknown, and that the caller must stop; what goes wrong before the commit is undone, and only answered.
    fn remove(&self, removed: &[StoredEvent]) -> rusqlite::Result<Result<(), AppendError>> {
        if removed.iter().any(|left| left.index >= self.size) {
            return Ok(Err(AppendError::OutOfBounds("an event beyond the log's end")));
        }
        let replace = |connection: &Connection| -> rusqlite::Result<()> {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut stream = connection.prepare_cached("SELECT stream FROM events WHERE position = ?1")?;
            let mut delete = connection.prepare_cached("DELETE FROM events WHERE position = ?1")?;
            let mut insert = connection
                .prepare_cached("INSERT INTO events (position, stream, revision, bytes) VALUES (?1, ?2, ?3, ?4)")?;
            for left in removed {
                let position = left.index as i64; // below the log's size
                let stream: i64 = stream.query_row([position], |row| row.get(0))?;
                delete.execute([position])?;
                insert.execute(params![position, stream, left.revision as i64, &*left.bytes])?;
            }
            Ok(())
        };
        if let Err(error) = replace(&self.connection) {
            // SQLite may have ended the transaction by itself.
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            return Ok(Err(AppendError::NotRemoved(failure::in_words(&error))));
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(Ok(()))
    }

    /// The first append and whatever else waits already, up to the bound.
    fn take_batch(&mut self, first: Queued) -> Vec<Queued> {
        let mut events = first.append.events.len();
        let mut batch = vec![first];
        while events < self.max_batch_events {
            let next = match self.queue.try_recv() {
                Ok(Work::Append(next)) => next,
                Ok(Work::Remove(removal)) => {
                    self.set_aside = Some(removal);
                    break;
                }
                Err(_) => break,
            };
            events += next.append.events.len();
            batch.push(next);
        }
        batch
    }

    /// One transaction for all. `Err` means that what is on disk is unknown, and that the caller must stop.
    fn commit(&mut self, batch: &[Queued]) -> rusqlite::Result<(Vec<Outcome>, Vec<StoredEvent>)> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for queued in batch {
            outcomes.push(match self.decide(&queued.append)? {
                Decision::Insert(head) => Ok(self.insert(&queued.append, head, &mut events)?),
                Decision::Answer(outcome) => outcome,
            });
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok((outcomes, events))
    }

    /// Compares the expectation with the stream's end as the appends before this one leave it, before
    /// anything of this one is written: a refusal has nothing to undo and cannot harm its neighbours.
    fn decide(&mut self, append: &Append) -> rusqlite::Result<Decision> {
        let head = self.heads.get(&self.connection, &append.stream)?;
        let actual = head.map(|head| head.revision);
        let first_expected = match (append.expected, actual) {
            (ExpectedRevision::Any, _) | (ExpectedRevision::NoStream, None) => return Ok(Decision::Insert(head)),
            (ExpectedRevision::Exact(expected), Some(actual)) if expected == actual => {
                return Ok(Decision::Insert(head));
            }
            (ExpectedRevision::NoStream, Some(_)) => Some(0),
            (ExpectedRevision::Exact(expected), Some(actual)) if expected < actual => Some(expected + 1),
            (ExpectedRevision::Exact(_), _) => None,
        };
        if let (Some(first), Some(head)) = (first_expected, head)
            && let Some(appended) = self.find_repeated(&append.events, head, first)?
        {
            return Ok(Decision::Answer(Ok(appended)));
        }
        Ok(Decision::Answer(Err(AppendError::WrongExpectedRevision {
            expected: append.expected,
            actual,
        })))
    }

    /// The place of these very events, when they stand where they were expected to go: the append is then
    /// the repetition of one whose answer was lost.
    fn find_repeated(
        &self,
        events: &[EventToAppend],
        head: StreamHead,
        first: u64,
    ) -> rusqlite::Result<Option<Appended>> {
        let last = first + events.len() as u64 - 1;
        if last > head.revision {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT position, bytes FROM events WHERE stream = ?1 AND revision BETWEEN ?2 AND ?3 ORDER BY revision",
        )?;
        let mut rows = statement.query(params![head.id, first as i64, last as i64])?;
        let mut first_index = None;
        for (offset, event) in events.iter().enumerate() {
            let Some(row) = rows.next()? else { return Ok(None) };
            let position = row.get::<_, i64>(0)?.unsigned_abs();
            let begins_at = *first_index.get_or_insert(position);
            let is_the_same = stored_id(row.get_ref(1)?.as_blob()?) == Some(event.id);
            if !is_the_same || position != begins_at + offset as u64 {
                return Ok(None);
            }
        }
        Ok(first_index.map(|first_index| Appended {
            first_index,
            last_index: first_index + events.len() as u64 - 1,
            revision: last,
        }))
    }

    fn insert(
        &mut self,
        append: &Append,
        head: Option<StreamHead>,
        inserted: &mut Vec<StoredEvent>,
    ) -> rusqlite::Result<Appended> {
        let (stream, first_revision) = match head {
            Some(head) => (head.id, head.revision + 1),
            None => {
                self.connection
                    .prepare_cached("INSERT INTO streams (name) VALUES (?1)")?
                    .execute([&append.stream])?;
                (self.connection.last_insert_rowid(), 0)
            }
        };
        let first_index = self.size;
        let mut revision = first_revision;
        {
            let mut statement = self
                .connection
                .prepare_cached("INSERT INTO events (position, stream, revision, bytes) VALUES (?1, ?2, ?3, ?4)")?;
            for (offset, event) in append.events.iter().enumerate() {
                revision = first_revision + offset as u64;
                statement.execute(params![self.size as i64, stream, revision as i64, &*event.bytes])?;
                inserted.push(StoredEvent {
                    index: self.size,
                    revision,
                    bytes: event.bytes.clone(),
                });
                self.size += 1;
            }
        }
        self.heads.set(&append.stream, StreamHead { id: stream, revision });
        Ok(Appended {
            first_index,
            last_index: self.size - 1,
            revision,
        })
    }

    /// Shows readers and subscriptions what has become durable.
    fn publish(&self, events: Vec<StoredEvent>) {
        if !events.is_empty() {
            self.log.tail.push(events);
            self.log.size.send_replace(self.size);
        }
    }

    fn answer(&self, batch: Vec<Queued>, outcomes: Vec<Outcome>) {
        let bytes = batch.iter().map(|queued| queued.bytes).sum();
        self.log.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut wake_ups = WakeUps::default();
        for (queued, outcome) in batch.into_iter().zip(outcomes) {
            queued.reply.send(outcome, &mut wake_ups);
        }
        wake_ups.wake();
    }

    /// Keeps the write-ahead log bounded. It runs after the batch has been answered, and never waits for
    /// readers: what they hold back is moved by a later attempt.
    fn checkpoint_when_due(&mut self) -> rusqlite::Result<()> {
        let pages_in_log = |row: &rusqlite::Row<'_>| row.get::<_, i64>(1);
        // NOOP moves nothing and tells how many pages there are.
        let pages = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
            .query_row([], pages_in_log)?;
        if pages < self.next_checkpoint {
            if pages < CHECKPOINT_PAGES {
                self.next_checkpoint = CHECKPOINT_PAGES;
            }
            return Ok(());
        }
        self.connection
            .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
            .query_row([], pages_in_log)?;
        // The next commit starts the write-ahead log over, unless a reader was in the way.
        self.next_checkpoint = pages + CHECKPOINT_RETRY_PAGES;
        Ok(())
    }

    /// The end of a log that can no longer be trusted: nothing further is done to the files, not even by
    /// closing them.
    ///
    /// A commit whose fsync failed can be absent now and present after a crash. Whoever carried on would
    /// give its index to another event.
    fn fail(mut self, batch: Vec<Queued>, attempt: &str, error: &rusqlite::Error) {
        // It ends the transaction in memory. Whether it succeeds makes no difference.
        let _ = self.connection.execute_batch("ROLLBACK");
        self.queue.close();
        let reason = failure::in_words(error);
        let message = failure::for_operator(&self.log.path, attempt, error);
        self.log.end.send_replace(Some(End::Failed(message)));
        let mut wake_ups = WakeUps::default();
        for queued in batch {
            let outcome = Err(AppendError::Indeterminate(reason.clone()));
            queued.reply.send(outcome, &mut wake_ups);
        }
        wake_ups.wake();
        let mut wake_ups = WakeUps::default();
        // A removal's reply is dropped, which says the same.
        drop(self.set_aside.take());
        while let Some(work) = self.queue.blocking_recv() {
            if let Work::Append(queued) = work {
                queued.reply.send(Err(self.log.refusal()), &mut wake_ups);
            }
        }
        wake_ups.wake();
    }

    /// Leaves one tidy file behind. A failure here loses nothing: the next start moves the write-ahead log.
    fn finish(self) {
        self.log.end.send_replace(Some(End::Closed));
        self.log.readers.close();
        let _ = self.connection.busy_timeout(CLOSING_PATIENCE);
        // As the last connection it may now move the write-ahead log and remove it.
        let _ = self
            .connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queue.close();
            let message = "the event log's writer has stopped by a fault of the program; start it again: the log is \
                           replayed from what really is on disk";
            self.log.end.send_replace(Some(End::Failed(message.to_owned())));
        }
    }
}

/// The id inside a stored event, `None` when the bytes are not what the codec writes.
fn stored_id(bytes: &[u8]) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Identified {
        id: Uuid,
    }
    serde_json::from_slice::<Identified>(bytes).ok().map(|event| event.id)
}
