//! The state that requests read: directory and key ring, folded from the log as it grows.
//!
//! Readers take a snapshot without a lock. A change of an administrator is answered when the snapshot
//! has it ([`LiveState::reached`]), so that whoever asks next on this node sees it.

use crate::event_store::{EventStore, MAX_EVENTS_PER_READ, ReadError, StoredEvent, Subscription, codec};
use crate::service::checkpoint::{Checkpoint, CheckpointError, Saving};
use crate::service::keys::Keys;
use crate::service::lag::Lag;
use crate::service::snapshot::{Changed, Folded, Snapshot};
use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinHandle};

/// Events folded before the snapshot is published anew.
const MAX_BATCH_EVENTS: usize = 512;
/// After events that change no state, which are nearly all under load, the log is left alone for so long: to be
/// woken by each commit costs the token endpoint more than folding. Whoever waits for an event ends the pause.
const CALM_PAUSE: Duration = Duration::from_millis(10);
/// A change that the own log has taken must show within this time.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);

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
    Read(#[from] ReadError),
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
    lag: Lag,
    hurry: Arc<Notify>,
    stop: watch::Sender<bool>,
    follower: tokio::sync::Mutex<Option<JoinHandle<()>>>,
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
                .read_all(
                    fold.position,
                    crate::event_store::Direction::Forwards,
                    MAX_EVENTS_PER_READ,
                )
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
        let hurry = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(false);
        let subscription = store.subscribe_to_all(fold.position);
        let follower = Follower {
            store,
            snapshot,
            published: published.clone(),
            saved: restored,
            begun: restored,
            begun_at: Instant::now(),
            fold,
            checkpoint,
            saving: None,
            every,
            keys,
            position_out,
            hurry: hurry.clone(),
        };
        let task = follower.spawn(subscription, stopped, failure.clone());
        Ok(Self {
            snapshot: published,
            position,
            failure,
            lag: Lag::default(),
            hurry,
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

    /// Whether the state has been behind the log for too long to decide anything by it.
    pub fn is_too_old(&self, log_size: u64) -> bool {
        self.lag.is_too_long(self.position(), log_size, Instant::now)
    }

    /// Folds what there is now: somebody waits for it and looks again.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until the event at this index is folded: read your own writes.
    pub async fn reached(&self, index: u64) -> Result<(), NotReached> {
        let mut position = self.position.clone();
        if *position.borrow() > index {
            return Ok(());
        }
        // From now on the state is behind, whoever looks next.
        self.is_too_old(index + 1);
        self.hurry();
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
    let Some(checkpoint) = checkpoint else {
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
    tracing::error!(
        %error,
        "the projections are not saved in this run: the next start reads the whole log; the file is safe to delete"
    );
}

/// What has been folded and not saved yet.
struct Fold {
    changed: Changed,
    position: u64,
    last_event: Option<Arc<[u8]>>,
}

impl Fold {
    /// Folds the batch in and says what the most that an event of it did is.
    fn apply(&mut self, snapshot: &mut Snapshot, batch: &[StoredEvent]) -> Result<Folded, codec::DecodeError> {
        let mut most = Folded::Nothing;
        for stored in batch {
            most = most.max(snapshot.fold(stored, &mut self.changed)?);
            self.position = stored.index + 1;
        }
        if let Some(last) = batch.last() {
            self.last_event = Some(last.bytes.clone());
        }
        Ok(most)
    }
}

struct Follower {
    store: Arc<dyn EventStore>,
    snapshot: Snapshot,
    published: Arc<ArcSwap<Snapshot>>,
    fold: Fold,
    checkpoint: Option<Checkpoint>,
    /// The save under way: one at a time, and nothing waits for it but the next.
    saving: Option<Saving>,
    /// How many events the saved state has read.
    saved: u64,
    /// The same of the last save that was begun, and when.
    begun: u64,
    begun_at: Instant,
    every: CheckpointEvery,
    keys: Arc<Keys>,
    position_out: watch::Sender<u64>,
    hurry: Arc<Notify>,
}

/// What a follower wakes for.
enum Woken {
    Log(Result<Vec<StoredEvent>, ReadError>),
    Saved(Saved),
    SaveIsDue,
}

type Saved = Result<Result<(), (CheckpointError, Box<Changed>)>, JoinError>;

impl Follower {
    fn spawn(
        mut self,
        subscription: Box<dyn Subscription>,
        stopped: watch::Receiver<bool>,
        failure: Arc<OnceLock<String>>,
    ) -> JoinHandle<()> {
        let mut end = End {
            failure,
            is_known: false,
        };
        tokio::spawn(async move {
            let followed = self.run(subscription, stopped).await;
            end.is_known = true;
            if let Err(error) = followed {
                end.fail(match error {
                    // Why the log has ended is told where it is known.
                    LiveStateError::Read(_) if self.store.has_ended() => "their log has ended".into(),
                    error => {
                        tracing::error!(%error, "projections stopped following the log");
                        error.to_string()
                    }
                });
            }
        })
    }

    async fn run(
        &mut self,
        mut subscription: Box<dyn Subscription>,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), LiveStateError> {
        loop {
            let pause = self.every.time.saturating_sub(self.begun_at.elapsed());
            let woken = tokio::select! {
                batch = subscription.next_batch(MAX_BATCH_EVENTS) => Woken::Log(batch),
                saved = finished(&mut self.saving) => Woken::Saved(saved),
                () = tokio::time::sleep(pause), if self.can_save() => Woken::SaveIsDue,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            match woken {
                Woken::Log(Ok(batch)) => {
                    let folded = self.fold_and_publish(&batch)?;
                    if folded < Folded::State && batch.len() < MAX_BATCH_EVENTS {
                        tokio::select! {
                            () = tokio::time::sleep(CALM_PAUSE) => {}
                            () = self.hurry.notified() => {}
                            _ = stopped.wait_for(|stop| *stop) => {}
                        }
                    }
                }
                Woken::Log(Err(_)) if *stopped.borrow() => break,
                Woken::Log(Err(error)) => {
                    // A log that failed leaves a disk that takes nothing: the next start reads what is not saved.
                    if !self.store.has_ended() {
                        self.save_the_rest().await;
                    }
                    return Err(error.into());
                }
                Woken::Saved(saved) => self.take_in(saved),
                Woken::SaveIsDue => {}
            }
            let is_due =
                self.fold.position - self.begun >= self.every.events || self.begun_at.elapsed() >= self.every.time;
            if is_due && self.can_save() {
                self.begin_saving();
            }
        }
        self.save_the_rest().await;
        Ok(())
    }

    /// Folds the batch in and says what the most that an event of it did is.
    fn fold_and_publish(&mut self, batch: &[StoredEvent]) -> Result<Folded, LiveStateError> {
        let keys_were = self.snapshot.key_ring.revision;
        let folded = self.fold.apply(&mut self.snapshot, batch)?;
        if self.snapshot.key_ring.revision != keys_were {
            self.keys.refresh(&self.snapshot.key_ring)?;
        }
        if folded > Folded::Nothing {
            self.published.store(Arc::new(self.snapshot.clone()));
        }
        self.position_out.send_replace(self.fold.position);
        Ok(folded)
    }

    fn can_save(&self) -> bool {
        self.saving.is_none() && self.checkpoint.is_some() && self.fold.position > self.saved
    }

    /// Hands a copy of the state, which is cheap, to a thread that saves it. No save is under way.
    fn begin_saving(&mut self) {
        let (Some(checkpoint), Some(last_event)) = (&self.checkpoint, &self.fold.last_event) else {
            return;
        };
        let digest: [u8; 32] = Sha256::digest(last_event).into();
        let changed = std::mem::take(&mut self.fold.changed);
        (self.begun, self.begun_at) = (self.fold.position, Instant::now());
        self.saving = Some(checkpoint.save(self.snapshot.clone(), changed, self.begun, digest));
    }

    /// A checkpoint that cannot be saved costs the next start some time, nothing else: what was not saved is saved
    /// with the next.
    fn take_in(&mut self, saved: Saved) {
        match saved {
            Ok(Ok(())) => self.saved = self.begun,
            Ok(Err((error, unsaved))) => {
                self.fold.changed.merge(*unsaved);
                if !self.store.has_ended() {
                    tracing::warn!(%error, "the projections' checkpoint could not be saved");
                }
            }
            Err(panicked) => {
                // What it was to save is gone with it.
                self.fold.changed = Changed::all(&self.snapshot);
                tracing::error!(%panicked, "the projections' checkpoint could not be saved: this is a bug");
            }
        }
    }

    /// After the save under way, if there is one.
    async fn save_the_rest(&mut self) {
        if self.saving.is_some() {
            let saved = finished(&mut self.saving).await;
            self.take_in(saved);
        }
        if self.can_save() {
            self.begin_saving();
        }
        if self.saving.is_some() {
            let saved = finished(&mut self.saving).await;
            self.take_in(saved);
        }
    }
}

/// Resolves when the save under way has ended, never without one. May be dropped and called anew.
async fn finished(saving: &mut Option<Saving>) -> Saved {
    let Some(task) = saving else {
        return std::future::pending().await;
    };
    let saved = task.await;
    *saving = None;
    saved
}

/// Tells of a follower that ended without having come to its end: a state that nobody goes on with must not
/// decide anything.
struct End {
    failure: Arc<OnceLock<String>>,
    is_known: bool,
}

impl End {
    fn fail(&self, reason: String) {
        // Only the first reason counts.
        let _ = self.failure.set(reason);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.is_known {
            return;
        }
        self.fail("their follower broke off: this is a bug".into());
        if std::thread::panicking() {
            tracing::error!("projections stopped following the log: their follower panicked, this is a bug");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::{MemoryLog, tokens};
    use crate::credentials::sealing::MasterKey;
    use crate::event_store::BoxFuture;
    use grantlog_projections::values::ApplicationId;
    use std::path::{Path, PathBuf};

    const AT_ONCE: Duration = Duration::from_secs(2);

    fn golden(file: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
        std::fs::read(path).unwrap().trim_ascii_end().to_vec()
    }

    fn keys() -> Arc<Keys> {
        Arc::new(Keys::new(Arc::new(MasterKey::generate().unwrap())))
    }

    fn state_file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("projections.db");
        (folder, path)
    }

    async fn opened(log: &Arc<MemoryLog>, checkpoint: Option<Checkpoint>) -> LiveState {
        let every = CheckpointEvery {
            events: 1,
            time: Duration::from_secs(3_600),
        };
        LiveState::open(log.clone(), checkpoint, every, keys()).await.unwrap()
    }

    /// Until it is dropped nobody else writes to the file.
    fn lock(path: &Path) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        connection
    }

    fn application() -> ApplicationId {
        ApplicationId::of_client_id("my.trusted.app/service")
    }

    fn is_enabled(snapshot: &Snapshot) -> Option<bool> {
        let found = snapshot.directory.application(application())?;
        Some(found.is_enabled)
    }

    #[tokio::test]
    async fn the_kill_switch_works_while_the_state_is_being_saved() {
        let (_folder, path) = state_file();
        let log = MemoryLog::of(&[]);
        let live = opened(&log, Some(Checkpoint::open(&path).unwrap())).await;
        let lock = lock(&path);
        log.add_bytes(golden("ApplicationRegistered.json"));
        live.reached(0).await.unwrap();
        assert_eq!(is_enabled(&live.snapshot()), Some(true));
        // By then the save of that waits for the file.
        tokio::time::sleep(Duration::from_millis(100)).await;
        log.add_bytes(golden("ApplicationDisabled.json"));
        tokio::time::timeout(AT_ONCE, live.reached(1)).await.unwrap().unwrap();
        assert_eq!(is_enabled(&live.snapshot()), Some(false));
        drop(lock);
        live.close().await;
        let saved = Checkpoint::open(&path)
            .unwrap()
            .saved_for(&*log)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((is_enabled(&saved.0), saved.1), (Some(false), 2));
    }

    #[tokio::test]
    async fn what_a_failed_save_did_not_save_is_saved_with_the_next() {
        let (_folder, path) = state_file();
        let log = MemoryLog::of(&[]);
        let live = opened(&log, Some(Checkpoint::open(&path).unwrap().without_patience())).await;
        let lock = lock(&path);
        log.add_bytes(golden("ApplicationRegistered.json"));
        live.reached(0).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(lock);
        log.add_bytes(golden("ApiRegistered.json"));
        live.reached(1).await.unwrap();
        live.close().await;
        let saved = Checkpoint::open(&path).unwrap().saved_for(&*log).await.unwrap();
        assert_eq!(saved, Some((Snapshot::clone(&live.snapshot()), 2)));
    }

    #[tokio::test]
    async fn after_a_save_that_panicked_everything_is_saved() {
        let (_folder, path) = state_file();
        let log = MemoryLog::of(&[]);
        log.add_bytes(golden("ApplicationRegistered.json"));
        let mut follower = follower(&log, Some(Checkpoint::open(&path).unwrap()));
        let batch = log
            .read_all(0, crate::event_store::Direction::Forwards, 9)
            .await
            .unwrap();
        follower.fold_and_publish(&batch).unwrap();
        follower.fold.changed = Changed::default();
        follower.begun = follower.fold.position;
        follower.saving = Some(tokio::task::spawn_blocking(|| panic!("while saving")));
        follower.save_the_rest().await;
        let saved = Checkpoint::open(&path).unwrap().saved_for(&*log).await.unwrap();
        assert_eq!(saved, Some((follower.snapshot.clone(), 1)));
    }

    #[tokio::test]
    async fn a_follower_that_panicked_is_a_failure() {
        struct Panicking;
        impl Subscription for Panicking {
            fn next_batch(&mut self, _: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
                panic!("while following")
            }
        }
        let (_stop, stopped) = watch::channel(false);
        let failure = Arc::new(OnceLock::new());
        let follower = follower(&MemoryLog::of(&[]), None);
        let ended = follower.spawn(Box::new(Panicking), stopped, failure.clone()).await;
        assert!(ended.unwrap_err().is_panic());
        assert_eq!(failure.get().unwrap(), "their follower broke off: this is a bug");
    }

    #[tokio::test]
    async fn a_stop_is_no_failure_and_the_end_of_the_log_is_one() {
        let log = MemoryLog::of(&tokens(3));
        let live = opened(&log, None).await;
        live.close().await;
        assert_eq!(live.failure(), None);
        let live = opened(&log, None).await;
        log.end();
        assert_eq!(live.reached(3).await, Err(NotReached(3)));
        assert_eq!(live.failure().unwrap(), "their log has ended");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_change_makes_a_state_old_that_does_not_get_there() {
        let log = MemoryLog::of(&tokens(3));
        let live = opened(&log, None).await;
        assert!(!live.is_too_old(3));
        let waiting = tokio::time::timeout(Duration::from_millis(1_200), live.reached(3));
        assert!(waiting.await.is_err());
        assert!(live.is_too_old(4));
    }

    fn follower(log: &Arc<MemoryLog>, checkpoint: Option<Checkpoint>) -> Follower {
        Follower {
            store: log.clone(),
            snapshot: Snapshot::default(),
            published: Arc::default(),
            fold: Fold {
                changed: Changed::default(),
                position: 0,
                last_event: None,
            },
            checkpoint,
            saving: None,
            saved: 0,
            begun: 0,
            begun_at: Instant::now(),
            every: CheckpointEvery {
                events: 1,
                time: Duration::from_secs(3_600),
            },
            keys: keys(),
            position_out: watch::channel(0).0,
            hurry: Arc::new(Notify::new()),
        }
    }
}
