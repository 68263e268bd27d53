//! The thread that folds the log into the uses and saves what changed, seldom and in large batches.

use super::Shared;
use super::database::Database;
use super::skim::skim;
use crate::event_store::codec::{self, DecodeError};
use crate::event_store::{EventStore, MAX_EVENTS_PER_READ, ReadError, StoredEvent};
use crate::priority;
use crate::rebuildable;
use grantlog_projections::usage::{Usage, UsageRecord};
use grantlog_projections::values::ApplicationId;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Events that are folded without giving readers a turn.
const BATCH: usize = 1_024;
/// Events that come within this time are folded together: to be woken by each commit would cost the token endpoint.
const GATHER: Duration = Duration::from_millis(50);
/// What changed is saved after this time,
const SAVE_AFTER: Duration = Duration::from_secs(30);
/// or after so many events.
const SAVE_AFTER_EVENTS: u64 = 500_000;

#[derive(Debug, thiserror::Error)]
enum FollowError {
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
    database: Database,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("usage".into()).spawn(move || {
        priority::give_way();
        let unfinished = Unfinished(shared.clone());
        let next = shared.progress.borrow().through;
        let mut follower = Follower {
            shared,
            store,
            database,
            stop,
            runtime,
            next,
            unsaved: Unsaved::default(),
        };
        let followed = follower.follow();
        // What was folded up to a failure is as good as any.
        let saved = follower.save();
        match followed.and(saved.map_err(FollowError::from)) {
            Ok(()) => {}
            // Why the log has ended is told where it is known.
            Err(FollowError::Log(_)) if follower.store.has_ended() => {
                follower.shared.end("the usage has folded all that its log had");
            }
            Err(error) => follower.fail(&error),
        }
        std::mem::forget(unfinished);
    })
}

/// Tells of a thread that ended without having come to its end.
struct Unfinished(Arc<Shared>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0
            .fail("the usage stopped: its follower panicked: this is a bug".into());
    }
}

struct Follower {
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    database: Database,
    stop: watch::Receiver<bool>,
    runtime: Runtime,
    next: u64,
    unsaved: Unsaved,
}

/// What has been folded since the last save.
#[derive(Default)]
struct Unsaved {
    applications: BTreeSet<ApplicationId>,
    events: u64,
    last_event: Option<Arc<[u8]>>,
    since: Option<Instant>,
}

impl Follower {
    fn follow(&mut self) -> Result<(), FollowError> {
        let mut subscription = self.store.subscribe_to_all(self.next);
        let mut pause = Duration::ZERO;
        loop {
            let due = self.unsaved.since.map(|since| since + SAVE_AFTER);
            let stop = &mut self.stop;
            let woken = self.runtime.block_on(async {
                let gathered = async {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    subscription.next_batch(MAX_EVENTS_PER_READ).await
                };
                let due = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => Woken::Stop,
                    () = due => Woken::Save,
                    events = gathered => Woken::Events(events),
                }
            });
            match woken {
                Woken::Stop => return Ok(()),
                Woken::Save => self.save()?,
                Woken::Events(events) => {
                    let events = events?;
                    for batch in events.chunks(BATCH) {
                        self.fold(batch)?;
                    }
                    // Nothing is gathered while there is a backlog: who falls far behind reads from disk.
                    let has_backlog = self.next < self.store.log_size();
                    pause = if has_backlog { Duration::ZERO } else { GATHER };
                    if self.unsaved.events >= SAVE_AFTER_EVENTS {
                        self.save()?;
                    }
                }
            }
        }
    }

    fn fold(&mut self, events: &[StoredEvent]) -> Result<(), FollowError> {
        let mut usage = self.shared.usage.write().unwrap_or_else(PoisonError::into_inner);
        let mut folded = Ok(());
        for event in events {
            if event.index != self.next {
                let (expected, found) = (self.next, event.index);
                folded = Err(FollowError::Gap { expected, found });
                break;
            }
            match fold_one(&mut usage, event) {
                Ok(touched) => self.unsaved.applications.extend(touched),
                Err(error) => {
                    folded = Err(error.into());
                    break;
                }
            }
            self.next += 1;
            self.unsaved.events += 1;
            self.unsaved.last_event = Some(event.bytes.clone());
        }
        self.unsaved.since.get_or_insert_with(Instant::now);
        let next = self.next;
        self.shared.progress.send_modify(|progress| progress.through = next);
        folded
    }

    fn save(&mut self) -> rusqlite::Result<()> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let Some(last_event) = unsaved.last_event else {
            return Ok(());
        };
        // This thread alone writes: readers are not held up while it saves.
        let usage = self.shared.usage.read().unwrap_or_else(PoisonError::into_inner);
        self.database
            .save(&usage, &unsaved.applications, self.next, &last_event)
    }

    fn fail(&self, error: &FollowError) {
        let mut reason = format!("the usage stopped at event {}: {error}", self.next);
        if let FollowError::Database(error) = error
            && rebuildable::is_damage(error)
        {
            let removed = rebuildable::remove(&self.shared.path);
            reason.push_str(match removed {
                Ok(()) => "; the file is removed: start again, and it is built from the log",
                Err(_) => "; remove the file and start again, and it is built from the log",
            });
        }
        self.shared.fail(reason);
    }
}

enum Woken {
    Stop,
    Save,
    Events(Result<Vec<StoredEvent>, ReadError>),
}

/// Folds one stored event in.
pub(super) fn fold_one(usage: &mut Usage, event: &StoredEvent) -> Result<Option<ApplicationId>, DecodeError> {
    if let Some(record) = skim(event) {
        return Ok(Some(usage.add(&record)));
    }
    let recorded = codec::decode(event)?;
    Ok(UsageRecord::of(&recorded).map(|record| usage.add(&record)))
}
