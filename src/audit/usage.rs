//! What each application uses, kept up to date beside the log: its last tokens, by which secret, for which scopes,
//! from which networks.
//!
//! One thread (`follower`) folds the log into memory and saves the applications that changed in a SQLite file of
//! its own (`database`) now and then: a start reads what is saved and folds what came since. The file is safe to
//! delete. Nobody waits for any of this.

pub mod answer;

mod database;

mod follower;

mod skim;

pub mod rebuild;

pub(in crate::audit) use grantlog_projections::usage::{UsageRecord, Used};
pub(in crate::audit) use skim::{skim, usage_record};

use crate::event_store::{EventStore, ReadError};
use grantlog_projections::usage::{ApplicationUsage, Usage};
use grantlog_projections::values::{ApplicationId, SecretId, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::watch;
use uuid::Uuid;

/// Why the uses cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// SQLite refused.
    #[error("the usage database {} cannot be used: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A file that has to be built again cannot be removed.
    #[error("the usage database {} has to be built again and cannot be removed: {source}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The thread or its runtime cannot be started.
    #[error("the follower of the usage cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// It has stopped.
    #[error("{0}")]
    Stopped(String),
}

/// The uses of all applications, following the log by itself.
pub struct UsageProjection {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
}

/// What the follower and its readers share.
struct Shared {
    path: PathBuf,
    usage: RwLock<Usage>,
    progress: watch::Sender<Progress>,
}

/// How far the follower has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    through: u64,
    failure: Option<Arc<str>>,
}

impl UsageProjection {
    /// Opens the file, or makes it, and starts to follow the log. A file that is damaged, of another version or of
    /// another log is built again, with a warning.
    pub async fn open(path: &Path, store: Arc<dyn EventStore>) -> Result<Self, UsageError> {
        let (database, usage, through) = database::open_for(path, &*store).await?;
        let shared = Arc::new(Shared {
            path: path.into(),
            usage: RwLock::new(usage),
            progress: watch::Sender::new(Progress { through, failure: None }),
        });
        let (stop, stopped) = watch::channel(false);
        let thread = follower::start(shared.clone(), store, database, stopped).map_err(UsageError::Thread)?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
            stop,
        })
    }

    /// One that has stopped before it began: nothing is known, and it says why. The server can do without it.
    pub fn stopped(path: &Path, reason: &UsageError) -> Self {
        let shared = Arc::new(Shared {
            path: path.into(),
            usage: RwLock::default(),
            progress: watch::Sender::default(),
        });
        shared.fail(reason.to_string());
        Self {
            shared,
            thread: Mutex::new(None),
            stop: watch::Sender::new(true),
        }
    }

    /// How many events of the log are folded in.
    pub fn through(&self) -> u64 {
        self.shared.progress.borrow().through
    }

    /// Why it no longer follows the log, when it does not.
    pub fn failed(&self) -> Option<String> {
        self.shared.progress.borrow().failure.as_deref().map(str::to_owned)
    }

    /// An application's uses, and how many events of the log they speak of.
    pub fn application(&self, id: ApplicationId) -> (ApplicationUsage, u64) {
        let usage = self.shared.usage.read().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: the follower moves the one with the other.
        (usage.application(id).cloned().unwrap_or_default(), self.through())
    }

    /// How often a secret was used, and when last.
    pub fn secret(&self, id: ApplicationId, secret: SecretId) -> Option<(u64, Timestamp)> {
        let usage = self.shared.usage.read().unwrap_or_else(PoisonError::into_inner);
        let secret = usage.application(id)?.secrets.get(&secret)?;
        Some((secret.used.count, secret.used.last.time))
    }

    /// How often a reference token was used, and when last.
    pub fn reference_token(&self, id: ApplicationId, token: Uuid) -> Option<(u64, Timestamp)> {
        let usage = self.shared.usage.read().unwrap_or_else(PoisonError::into_inner);
        let used = usage.application(id)?.reference_tokens.get(&token)?;
        Some((used.count, used.last.time))
    }

    /// Waits until the first `log_size` events are folded in, or the follower has failed.
    pub async fn wait_until_through(&self, log_size: u64) -> Result<(), UsageError> {
        let mut progress = self.shared.progress.subscribe();
        let reached = progress
            .wait_for(|progress| progress.through >= log_size || progress.failure.is_some())
            .await;
        match reached {
            Ok(progress) if progress.through >= log_size => Ok(()),
            Ok(progress) => Err(UsageError::Stopped(
                progress.failure.as_deref().unwrap_or_default().into(),
            )),
            // The sender is `self`'s.
            Err(_) => Err(UsageError::Stopped("the usage is closed".into())),
        }
    }

    /// Stops following the log, once what is folded is saved. Idempotent. Close it before the store.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Fails only when the thread panicked, which `failed` then says.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for UsageProjection {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Shared {
    fn fail(&self, reason: String) {
        tracing::error!("{reason}");
        self.end(&reason);
    }

    fn end(&self, reason: &str) {
        self.progress
            .send_modify(|progress| progress.failure = Some(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::rebuild::rebuild_usage;
    use super::*;
    use crate::audit::memory_log::{CLIENTS, Fact, MemoryLog, tokens};
    use grantlog_projections::values::ApplicationUri;
    use tempfile::TempDir;

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        (folder, path)
    }

    fn orders() -> ApplicationId {
        ApplicationId::of(&ApplicationUri::parse(CLIENTS[0]).unwrap())
    }

    async fn opened(path: &Path, log: &Arc<MemoryLog>) -> UsageProjection {
        let usage = UsageProjection::open(path, log.clone()).await.unwrap();
        usage.wait_until_through(log.log_size()).await.unwrap();
        usage
    }

    fn issued(usage: &UsageProjection) -> u64 {
        usage.application(orders()).0.issued.map_or(0, |used| used.count)
    }

    #[tokio::test]
    async fn it_follows_the_log_and_says_how_far() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(5));
        let usage = opened(&path, &log).await;
        assert_eq!((issued(&usage), usage.application(orders()).1), (5, 5));
        log.add(&tokens(2));
        usage.wait_until_through(7).await.unwrap();
        assert_eq!(issued(&usage), 7);
        assert_eq!(usage.secret(orders(), SecretId(uuid::Uuid::nil())).unwrap().0, 7);
    }

    #[tokio::test]
    async fn what_was_saved_is_not_folded_again_and_equals_what_the_log_gives() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(9));
        opened(&path, &log).await.close().await;
        let (_, saved, through) = database::open_for(&path, &*log).await.unwrap();
        assert_eq!((saved.len(), through), (1, 9));
        let usage = opened(&path, &log).await;
        log.add(&tokens(1));
        usage.wait_until_through(10).await.unwrap();
        assert_eq!(issued(&usage), 10);
        usage.close().await;
        let compared = rebuild_usage(&path, &*log, |_| {}).await.unwrap();
        assert!(compared.is_compared);
        assert_eq!((compared.events, compared.differences), (10, Vec::new()));
    }

    #[tokio::test]
    async fn an_edited_file_is_found_out_and_a_damaged_one_is_built_again() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(9));
        opened(&path, &log).await.close().await;
        let other = MemoryLog::of(&[tokens(9), tokens(4)].concat());
        let (mut database, mut saved, _) = database::open_for(&path, &*log).await.unwrap();
        let more = opened(&path.with_extension("more"), &other).await;
        saved.restore(orders(), more.application(orders()).0);
        let last = log.read_indexes(&[8]).await.unwrap();
        database.save(&saved, &[orders()].into(), 9, &last[0].bytes).unwrap();
        drop(database);
        let compared = rebuild_usage(&path, &*log, |_| {}).await.unwrap();
        assert_eq!(compared.differences.len(), 1, "{compared:?}");

        std::fs::write(&path, [b'x'; 4_096]).unwrap();
        let usage = opened(&path, &log).await;
        assert_eq!(issued(&usage), 9);
    }

    #[tokio::test]
    async fn the_uses_of_another_log_are_dropped() {
        let (_folder, path) = folder();
        opened(&path, &MemoryLog::of(&tokens(9))).await.close().await;
        for log in [
            MemoryLog::of(&tokens(3)),
            MemoryLog::of(&[shifted(), shifted()].concat()),
        ] {
            let usage = opened(&path, &log).await;
            assert_eq!(issued(&usage), log.log_size());
            usage.close().await;
        }
    }

    /// Tokens of other times.
    fn shifted() -> Vec<Fact> {
        let later = |fact: Fact| Fact {
            micros: fact.micros + 60_000_000,
            ..fact
        };
        tokens(6).into_iter().map(later).collect()
    }

    #[tokio::test]
    async fn an_event_that_cannot_be_read_stops_it_and_the_reason_is_told() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(2));
        log.add_bytes(&b"{}"[..]);
        let usage = UsageProjection::open(&path, log.clone()).await.unwrap();
        assert!(usage.wait_until_through(3).await.is_err());
        assert_eq!(usage.through(), 2);
        assert!(usage.failed().unwrap().contains("event 2"), "{:?}", usage.failed());
    }

    #[tokio::test]
    async fn a_log_that_ends_is_no_failure_of_its_own_and_what_was_folded_is_saved() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(4));
        let usage = opened(&path, &log).await;
        log.end();
        usage.close().await;
        let (_, saved, through) = database::open_for(&path, &*log).await.unwrap();
        assert_eq!((saved.len(), through), (1, 4));
    }
}
