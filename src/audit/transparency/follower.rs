//! The thread that follows the log: hashes each event, keeps full tiles, and holds the tree against what was
//! published before. Now and then it publishes by itself, so that there is evidence even when nobody asks.

use super::leaf::leaf_of;
use super::log::{Progress, Shared, SignedCheckpoint, TransparencyError, mismatch};
use super::tile_file::TileWriter;
use super::tiles::Edge;
use crate::event_store::{EventStore, MAX_EVENTS_PER_READ, ReadError, StoredEvent};
use crate::priority;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Events that are committed within so short a time are hashed together: to be woken by each commit costs the
/// token endpoint more. An event that comes alone is hashed at once.
const GATHER: Duration = Duration::from_millis(20);
/// A log that has grown is published this often when nobody asks.
const PUBLISH_UNASKED: Duration = Duration::from_secs(60);

/// Why the follower stopped.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("the log went on with event {found} where {expected} follows")]
    Gap { expected: u64, found: u64 },
    #[error("its tiles cannot be written: {0}")]
    Tiles(#[from] rusqlite::Error),
    #[error(transparent)]
    Tree(#[from] TransparencyError),
    #[error("{}", mismatch(*.0))]
    NotAsPublished(u64),
}

/// Starts the thread. It ends when `stop` turns true or its sender is gone.
pub(super) fn start(
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    writer: TileWriter,
    edge: Edge,
    expected: Option<SignedCheckpoint>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("transparency".into()).spawn(move || {
        priority::give_way();
        let unfinished = Unfinished(shared.clone());
        let mut follower = Follower {
            shared,
            store,
            writer,
            edge,
            expected,
            stop,
            runtime,
            published: Instant::now(),
        };
        if let Err(error) = follower.follow() {
            let shared = &follower.shared;
            match &error {
                // Why the log has ended is told where it is known.
                FollowError::Log(_) if follower.store.has_ended() => {
                    shared.end("the tree has read all that its log had")
                }
                FollowError::NotAsPublished(_) => shared.stop(error.to_string()),
                error => {
                    let at = shared.progress.borrow().size;
                    shared.stop(format!("the tree of the log stopped at event {at}: {error}"));
                }
            }
        }
        std::mem::forget(unfinished);
    })
}

/// Tells of a thread that ended without having come to its end.
struct Unfinished(Arc<Shared>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0
            .stop("the tree of the log stopped: its thread panicked, which is a bug".into());
    }
}

struct Follower {
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    writer: TileWriter,
    edge: Edge,
    /// The newest checkpoint of earlier runs, until the tree is known to have its root.
    expected: Option<SignedCheckpoint>,
    stop: watch::Receiver<bool>,
    runtime: Runtime,
    /// When this thread has published last.
    published: Instant,
}

impl Follower {
    fn follow(&mut self) -> Result<(), FollowError> {
        let mut subscription = self.store.subscribe_to_all(self.edge.size());
        let mut pause = Duration::ZERO;
        self.prove()?;
        loop {
            let woken = Instant::now();
            let stop = &mut self.stop;
            let is_behind = self.shared.published_size() < self.edge.size();
            let due = match is_behind {
                true => PUBLISH_UNASKED.saturating_sub(self.published.elapsed()),
                // Nothing to publish: whatever comes next wakes it.
                false => PUBLISH_UNASKED,
            };
            let events = self.runtime.block_on(async {
                let gathered = async {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    subscription.next_batch(MAX_EVENTS_PER_READ).await
                };
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => None,
                    events = gathered => Some(events),
                    () = tokio::time::sleep(due) => Some(Ok(Vec::new())),
                }
            });
            let Some(events) = events else { return Ok(()) };
            let events = events?;
            // Nothing is gathered after a long wait, nor while there is a backlog.
            let has_backlog = self.edge.size() + (events.len() as u64) < self.store.log_size();
            let is_busy = woken.elapsed() < GATHER * 2 && !has_backlog;
            pause = if is_busy { GATHER } else { Duration::ZERO };
            self.add(&events)?;
            self.prove()?;
            self.publish_unasked();
        }
    }

    fn add(&mut self, events: &[StoredEvent]) -> Result<(), FollowError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut full = Vec::new();
        for event in events {
            if event.index != self.edge.size() {
                return Err(FollowError::Gap {
                    expected: self.edge.size(),
                    found: event.index,
                });
            }
            self.edge.push(leaf_of(&event.bytes), &mut full);
        }
        if !full.is_empty() {
            self.writer.append(&full)?;
        }
        // Only now: whoever sees this edge finds the tiles below it.
        self.shared.show(self.edge.clone());
        let reached = self.edge.size();
        self.shared
            .progress
            .send_modify(|Progress { size, .. }| *size = reached);
        Ok(())
    }

    /// Once the tree reaches what was published by earlier runs, it must have its root.
    fn prove(&mut self) -> Result<(), FollowError> {
        let Some(expected) = self.expected.take_if(|expected| expected.size <= self.edge.size()) else {
            return Ok(());
        };
        if self.shared.root(expected.size)? != expected.root {
            return Err(FollowError::NotAsPublished(expected.size));
        }
        self.shared.progress.send_modify(|progress| progress.is_proven = true);
        Ok(())
    }

    fn publish_unasked(&mut self) {
        let is_due = self.expected.is_none() && self.published.elapsed() >= PUBLISH_UNASKED;
        if !is_due || self.shared.published_size() >= self.edge.size() {
            return;
        }
        self.published = Instant::now();
        if let Err(error) = self.shared.publish(self.edge.size()) {
            tracing::warn!(%error, "a checkpoint could not be published; it is tried again");
        }
    }
}
