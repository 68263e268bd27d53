//! The state that requests read: directory and key ring, folded from the log as it grows.
//!
//! Readers take a snapshot without a lock. A change of an administrator is answered when the snapshot
//! has it ([`LiveState::reached`]), so that whoever asks next on this node sees it.

use crate::event_store::{EventStore, StoredEvent, codec};
use crate::service::checkpoint::{Changed, Checkpoint, CheckpointError};
use crate::service::keys::Keys;
use arc_swap::ArcSwap;
use grantlog_projections::directory::{Directory, Touched};
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::service_run::ServiceRun;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Events folded before the snapshot is published anew.
const MAX_BATCH_EVENTS: usize = 1_024;
/// A change that the own log has taken must show within this time.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);

/// The projections at one point of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Applications and APIs.
    pub directory: Directory,
    /// Signing keys.
    pub key_ring: Arc<KeyRing>,
    /// Starts and stops.
    pub service_run: ServiceRun,
}

impl Snapshot {
    /// Folds one event in and notes what it changed.
    pub fn apply(&mut self, recorded: &RecordedEvent, changed: &mut Changed) {
        match self.directory.apply(recorded) {
            Touched::Nothing => {}
            Touched::Application(id) => {
                changed.applications.insert(id);
            }
            Touched::Api(id) => {
                changed.apis.insert(id);
            }
        }
        changed.key_ring |= Arc::make_mut(&mut self.key_ring).apply(recorded);
        changed.service_run |= self.service_run.apply(recorded);
    }
}

/// Whether an event of this type can change a [`Snapshot`]: most of a log cannot, and need not be read.
/// An unknown type has to be read: it is the codec that says what is wrong with it.
pub fn can_change_state(event_type: Option<&str>) -> bool {
    !matches!(
        event_type,
        Some(
            "TokenIssued"
                | "TokenRefused"
                | "RequestsThrottled"
                | "ApiCallAuthorized"
                | "ApiCallDenied"
                | "AuditTrailRead"
        )
    )
}

/// How often the state is saved, so that a start does not replay the log.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointEvery {
    /// After so many events.
    pub events: u64,
    /// Or after so long, when there was an event at all.
    pub time: Duration,
}

/// Why the live state could not be built.
#[derive(Debug, thiserror::Error)]
pub enum LiveStateError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] crate::event_store::ReadError),
    /// An event cannot be understood.
    #[error(transparent)]
    Decode(#[from] codec::DecodeError),
    /// The checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A signing key cannot be unsealed.
    #[error(transparent)]
    Keys(#[from] crate::credentials::sealing::SealError),
}

/// The state that requests read.
pub struct LiveState {
    snapshot: Arc<ArcSwap<Snapshot>>,
    position: watch::Receiver<u64>,
    failure: Arc<OnceLock<String>>,
    stop: watch::Sender<bool>,
    follower: tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// The snapshot did not reach an event in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the projections have not reached event {0} yet")]
pub struct NotReached(pub u64);

impl LiveState {
    /// Restores the last checkpoint, folds what the log has since, and goes on following the log.
    /// Answers when it has caught up. Without a checkpoint it folds the whole log and saves nothing.
    pub async fn open(
        store: Arc<dyn EventStore>,
        checkpoint: Option<Checkpoint>,
        every: CheckpointEvery,
        keys: Arc<Keys>,
    ) -> Result<Self, LiveStateError> {
        let (mut snapshot, restored, checkpoint) = restore(&*store, checkpoint).await?;
        let mut fold = Fold {
            changed: Changed::default(),
            position: restored,
            last_event: None,
        };
        let target = store.log_size();
        let started = Instant::now();
        while fold.position < target {
            let batch = store
                .read_all(fold.position, crate::event_store::Direction::Forwards, MAX_BATCH_EVENTS)
                .await?;
            fold.apply(&mut snapshot, &batch)?;
        }
        tracing::info!(
            from = restored,
            through = fold.position,
            milliseconds = started.elapsed().as_millis(),
            "projections have caught up with the log"
        );
        keys.refresh(&snapshot.key_ring)?;

        let published = Arc::new(ArcSwap::from_pointee(snapshot.clone()));
        let (position_out, position) = watch::channel(fold.position);
        let failure = Arc::new(OnceLock::new());
        let failure_out = failure.clone();
        let (stop, stopped) = watch::channel(false);
        let subscription = store.subscribe_to_all(fold.position);
        let follower = Follower {
            snapshot,
            published: published.clone(),
            fold,
            checkpoint,
            every,
            keys,
            position_out,
        };
        let task = tokio::spawn(async move {
            if let Err(error) = follower.run(subscription, stopped).await {
                tracing::error!(%error, "projections stopped following the log");
                // The one place that sets it, once.
                let _ = failure_out.set(error.to_string());
            }
        });
        Ok(Self {
            snapshot: published,
            position,
            failure,
            stop,
            follower: tokio::sync::Mutex::new(Some(task)),
        })
    }

    /// The state as of now; lock-free.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// How many events are folded.
    pub fn position(&self) -> u64 {
        *self.position.borrow()
    }

    /// Why the state no longer follows the log, if so.
    pub fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// Waits until the event at this index is folded: read your own writes.
    pub async fn reached(&self, index: u64) -> Result<(), NotReached> {
        let mut position = self.position.clone();
        let reached = position.wait_for(|position| *position > index);
        match tokio::time::timeout(REACH_TIMEOUT, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotReached(index)),
        }
    }

    /// Stops following and saves a last checkpoint.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        if let Some(task) = self.follower.lock().await.take() {
            // The task's own failure is in `failure` already.
            let _ = task.await;
        }
    }
}

/// The state to go on from. A file that cannot be read, though it may be whole, costs a replay of the log, and
/// is no reason not to serve.
async fn restore(
    store: &dyn EventStore,
    checkpoint: Option<Checkpoint>,
) -> Result<(Snapshot, u64, Option<Checkpoint>), LiveStateError> {
    let Some(mut checkpoint) = checkpoint else {
        return Ok((Snapshot::default(), 0, None));
    };
    match checkpoint.load_for(store).await {
        Ok((snapshot, events)) => Ok((snapshot, events, Some(checkpoint))),
        Err(CheckpointError::Log(error)) => Err(error.into()),
        Err(error) => {
            tell_unsaved(&error);
            Ok((Snapshot::default(), 0, None))
        }
    }
}

/// Tells the operator that the state is not saved in this run.
pub fn tell_unsaved(error: &CheckpointError) {
    tracing::error!(%error, "the projections are not saved in this run: the next start reads the whole log");
}

/// What has been folded and not saved yet.
struct Fold {
    changed: Changed,
    position: u64,
    last_event: Option<Arc<[u8]>>,
}

impl Fold {
    /// Folds the batch in and says whether any of it could change the snapshot.
    fn apply(&mut self, snapshot: &mut Snapshot, batch: &[StoredEvent]) -> Result<bool, codec::DecodeError> {
        let mut is_changed = false;
        for stored in batch {
            if can_change_state(codec::peek_type(&stored.bytes)) {
                snapshot.apply(&codec::decode(stored)?, &mut self.changed);
                is_changed = true;
            }
            self.position = stored.index + 1;
        }
        if let Some(last) = batch.last() {
            self.last_event = Some(last.bytes.clone());
        }
        Ok(is_changed)
    }
}

struct Follower {
    snapshot: Snapshot,
    published: Arc<ArcSwap<Snapshot>>,
    fold: Fold,
    checkpoint: Option<Checkpoint>,
    every: CheckpointEvery,
    keys: Arc<Keys>,
    position_out: watch::Sender<u64>,
}

impl Follower {
    async fn run(
        mut self,
        mut subscription: Box<dyn crate::event_store::Subscription>,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), LiveStateError> {
        let mut saved_at = Instant::now();
        let mut saved = self
            .checkpoint
            .as_ref()
            .map_or(self.fold.position, Checkpoint::position);
        loop {
            let pause = self.every.time.saturating_sub(saved_at.elapsed());
            let batch = tokio::select! {
                batch = subscription.next_batch(MAX_BATCH_EVENTS) => Some(batch),
                () = tokio::time::sleep(pause), if self.fold.position > saved => None,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            match batch {
                Some(Ok(batch)) => self.fold_and_publish(&batch)?,
                Some(Err(_)) if *stopped.borrow() => break,
                Some(Err(error)) => {
                    self.save().await;
                    return Err(error.into());
                }
                None => {}
            }
            let due = self.fold.position - saved >= self.every.events || saved_at.elapsed() >= self.every.time;
            if due && self.fold.position > saved {
                self.save().await;
                (saved, saved_at) = (self.fold.position, Instant::now());
            }
        }
        self.save().await;
        Ok(())
    }

    fn fold_and_publish(&mut self, batch: &[StoredEvent]) -> Result<(), LiveStateError> {
        let keys_were = self.snapshot.key_ring.revision;
        let is_changed = self.fold.apply(&mut self.snapshot, batch)?;
        if self.snapshot.key_ring.revision != keys_were {
            self.keys.refresh(&self.snapshot.key_ring)?;
        }
        if is_changed {
            self.published.store(Arc::new(self.snapshot.clone()));
        }
        self.position_out.send_replace(self.fold.position);
        Ok(())
    }

    /// A checkpoint that cannot be saved costs the next start some time, nothing else.
    async fn save(&mut self) {
        let Some(last_event) = &self.fold.last_event else {
            return;
        };
        let digest: [u8; 32] = Sha256::digest(last_event).into();
        let changed = std::mem::take(&mut self.fold.changed);
        let Some(checkpoint) = &mut self.checkpoint else {
            return;
        };
        let saving = checkpoint.save(self.snapshot.clone(), changed, self.fold.position, digest);
        if let Err((error, unsaved)) = saving.await {
            tracing::warn!(%error, "the projections' checkpoint could not be saved");
            self.fold.changed = unsaved;
        }
    }
}
