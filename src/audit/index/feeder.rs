//! The thread that follows the log: decodes each event, adds it to the memory, and writes complete segments
//! to the database. An event that cannot be read stops it: nothing is ever skipped.

use super::database::Writer;
use super::skim::skim;
use super::{Progress, Shared};
use crate::event_store::codec::{self, DecodeError};
use crate::event_store::{EventStore, ReadError, StoredEvent};
use crate::priority;
use grantlog_projections::audit_record::AuditRecord;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Events behind the log from which on the feeder tells of its progress.
const LAG_WORTH_TELLING: u64 = 100_000;
/// How often it does.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Events that are committed within so short a time are indexed together: to be woken by each commit costs the
/// token endpoint more. An event that comes alone is indexed at once.
const GATHER: Duration = Duration::from_millis(5);

/// Why the feeder stopped.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Event(#[from] DecodeError),
    #[error("the log went on with event {found} where {expected} follows")]
    Gap { expected: u64, found: u64 },
    #[error("its database cannot be written: {0}")]
    Database(#[from] rusqlite::Error),
}

/// Starts the thread. It ends when `stop` turns true or its sender is gone.
pub(super) fn start(
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    writer: Writer,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("audit-index".into()).spawn(move || {
        priority::give_way();
        let unfinished = Unfinished(shared.clone());
        let mut feeder = Feeder {
            shared,
            store,
            writer,
            stop,
            runtime,
        };
        if let Err(error) = feeder.follow() {
            match &error {
                // Why the log has ended is told where it is known.
                FeedError::Log(_) if feeder.store.has_ended() => {
                    feeder.shared.end("the audit index has read all that its log had");
                }
                error => fail(&feeder.shared, &error.to_string()),
            }
            if let FeedError::Database(error) = &error {
                feeder.shared.remove_if_damaged(error);
            }
        }
        std::mem::forget(unfinished);
    })
}

/// Tells of a thread that ended without having come to its end.
struct Unfinished(Arc<Shared>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        fail(&self.0, "its feeder panicked: this is a bug");
    }
}

fn fail(shared: &Shared, reason: &str) {
    let at = shared.memory.indexed_through();
    shared.stop(format!("the audit index stopped at event {at}: {reason}"));
}

struct Feeder {
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    writer: Writer,
    stop: watch::Receiver<bool>,
    runtime: Runtime,
}

impl Feeder {
    fn follow(&mut self) -> Result<(), FeedError> {
        let mut next = self.shared.memory.indexed_through();
        let mut catching_up = CatchingUp::start(next, self.store.log_size());
        let mut subscription = self.store.subscribe_to_all(next);
        let mut pause = Duration::ZERO;
        loop {
            let (stop, batch) = (&mut self.stop, self.shared.settings.feed_batch);
            let woken = Instant::now();
            let events = self.runtime.block_on(async {
                let gathered = async {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    subscription.next_batch(batch).await
                };
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => None,
                    events = gathered => Some(events),
                }
            });
            let Some(events) = events else { return Ok(()) };
            let events = events?;
            // Nothing is gathered after a long wait, nor while there is a backlog.
            let is_busy = woken.elapsed() < GATHER * 2 && events.len() < batch;
            pause = if is_busy { GATHER } else { Duration::ZERO };
            next = self.add(next, &events)?;
            self.write(self.store.log_size().saturating_sub(next))?;
            if let Some(telling) = &mut catching_up
                && telling.tell(next, self.store.log_size())
            {
                catching_up = None;
            }
        }
    }

    fn add(&self, mut next: u64, events: &[StoredEvent]) -> Result<u64, FeedError> {
        let (added, indexed_through) = self.shared.memory.add(|memory| {
            for event in events {
                if event.index != next {
                    return Err(FeedError::Gap {
                        expected: next,
                        found: event.index,
                    });
                }
                match skim(event) {
                    Some(record) => memory.push(&record, &event.bytes),
                    None => memory.push(&AuditRecord::from(&codec::decode(event)?), &event.bytes),
                }
                next += 1;
            }
            Ok(next)
        });
        // What comes before an event that cannot be read is indexed.
        self.shared.progress.send_modify(
            |Progress {
                 indexed_through: known, ..
             }| *known = indexed_through,
        );
        added
    }

    /// Writes the complete segments: at once when the log is near, else several in one transaction.
    fn write(&mut self, behind: u64) -> Result<(), FeedError> {
        let settings = self.shared.settings;
        let complete = self.shared.memory.complete();
        let enough = match behind > settings.segment_events as u64 {
            true => settings.segments_per_commit,
            false => 1,
        };
        if complete.len() >= enough.max(1) {
            self.writer.append(&complete)?;
            self.shared.memory.written(complete.len());
        }
        Ok(())
    }
}

/// Tells the operator how an index gets on that has much to read.
struct CatchingUp {
    first: u64,
    started: Instant,
    told: Instant,
}

impl CatchingUp {
    fn start(next: u64, log_size: u64) -> Option<Self> {
        let behind = log_size.saturating_sub(next);
        (behind > LAG_WORTH_TELLING).then(|| {
            tracing::info!(behind, "the audit index has events of the log to read");
            let now = Instant::now();
            Self {
                first: next,
                started: now,
                told: now,
            }
        })
    }

    /// Whether there is nothing more to tell.
    fn tell(&mut self, next: u64, log_size: u64) -> bool {
        let caught_up = next >= log_size;
        if caught_up || self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let behind = log_size.saturating_sub(next);
            let per_second = (next - self.first) as f64 / self.started.elapsed().as_secs_f64().max(1e-6);
            tracing::info!(
                indexed_through = next,
                behind,
                per_second = per_second.round(),
                "the audit index reads the log"
            );
        }
        caught_up
    }
}
