//! The audit index: which events of the log have which values, and when they happened.
//!
//! The log is cut into segments of [`SEGMENT_EVENTS`] consecutive events. Complete segments are rows of a
//! SQLite file of its own (`database`); the newest, incomplete one is in memory (`segment`) and read from the
//! log again at start-up. One thread (`feeder`) follows the log. The file is safe to delete.
//!
//! A search takes its view of the memory first and asks the database only for segments below it; a segment
//! leaves the memory only after its commit. So no segment is missed or counted twice while it moves.

mod field;

mod varint;

mod offsets;

mod identifier;

mod listing;

pub(super) mod plan;

mod times;

mod segment;

mod database;

mod skim;

mod feeder;

mod view;

mod pruning;

pub mod rebuild;

pub(super) use database::Reader;
pub(super) use field::{Field, Flag};
pub(super) use identifier::Identifier;
pub(super) use offsets::OffsetSet;
pub(super) use segment::Row;
pub(super) use times::{TimeBounds, TimeWindow};
pub(super) use view::View;

use crate::audit::search::AuditSearchError;
use crate::event_store::codec::{self, DecodeError};
use crate::event_store::stream::read_stream;
use crate::event_store::{EventStore, MAX_EVENTS_PER_READ, ReadError};
use crate::rebuildable;
use database::{SegmentRow, Unusable, Writer};
use grantlog_projections::retention::Retention;
use grantlog_projections::values::StreamName;
use plan::Plan;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, watch};
use view::Memory;

/// Events per segment. Larger ones make the index smaller and cheaper to feed where many applications are
/// active; smaller ones make start-up shorter, which reads up to this many events of the log again.
pub const SEGMENT_EVENTS: usize = 16_384;
/// Complete segments that are written in one transaction while the index is catching up.
pub const SEGMENTS_PER_COMMIT: usize = 4;
/// Events that the feeder takes from the log at a time.
pub const FEED_BATCH: usize = 512;
/// Searches that read the database at the same time.
pub const SEARCH_READERS: usize = 2;
/// Searches that wait for one of the readers; more are refused.
pub const MAX_WAITING_SEARCHES: usize = 64;
/// Segments that one search opens at the most before it answers with what it has found so far.
pub const SEGMENTS_PER_SEARCH: usize = 4_096;

/// Why the audit index could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditIndexError {
    /// SQLite refused.
    #[error("the audit index {} cannot be opened: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A file that has to be built again cannot be removed.
    #[error("the audit index {} has to be built again and cannot be removed: {source}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event that says what was given up cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// The feeder's thread or its runtime cannot be started.
    #[error("the audit index's feeder cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The feeder has stopped: what `failed` says.
    #[error("{0}")]
    Stopped(String),
}

/// The index of the audit trail: follows the log by itself and answers searches (`search`).
pub struct AuditIndex {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<dyn EventStore>,
    /// One permit for every search that runs or waits.
    pub(super) places: Arc<Semaphore>,
    /// One permit for every search that runs.
    pub(super) running: Arc<Semaphore>,
    feeder: Mutex<Option<JoinHandle<()>>>,
    /// Ends the feeder, and a pruning that is under way.
    stop: watch::Sender<bool>,
}

/// What the feeder and the searches share.
pub(super) struct Shared {
    path: PathBuf,
    pub settings: Settings,
    memory: Memory,
    progress: watch::Sender<Progress>,
    /// Searches find nothing before this index.
    pruned_through: AtomicU64,
    /// Those that no search uses.
    pub(super) readers: Mutex<Vec<Reader>>,
}

/// Sizes that tests make small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub segment_events: usize,
    pub segments_per_commit: usize,
    pub feed_batch: usize,
    pub segments_per_search: usize,
    pub events_looked_at_per_search: usize,
    pub page_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_events: SEGMENT_EVENTS,
            segments_per_commit: SEGMENTS_PER_COMMIT,
            feed_batch: FEED_BATCH,
            segments_per_search: SEGMENTS_PER_SEARCH,
            events_looked_at_per_search: super::search::EVENTS_LOOKED_AT_PER_SEARCH,
            page_bytes: super::search::MAX_PAGE_BYTES,
        }
    }
}

/// How far the feeder has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Events indexed: the index of the next one.
    indexed_through: u64,
    /// Why there will be no more, when the feeder has failed.
    failure: Option<Arc<str>>,
}

impl AuditIndex {
    /// Opens the index database, or makes it, and starts to follow the log. A file of another version, a
    /// damaged one and one that does not fit the log are built again, with a warning.
    pub async fn open(path: &Path, store: Arc<dyn EventStore>) -> Result<Self, AuditIndexError> {
        Self::open_with(path, store, Settings::default()).await
    }

    #[cfg(test)]
    pub(crate) async fn open_in_segments_of(
        segment_events: usize,
        path: &Path,
        store: Arc<dyn EventStore>,
    ) -> Result<Self, AuditIndexError> {
        let settings = Settings {
            segment_events,
            ..Settings::default()
        };
        Self::open_with(path, store, settings).await
    }

    pub(super) async fn open_with(
        path: &Path,
        store: Arc<dyn EventStore>,
        settings: Settings,
    ) -> Result<Self, AuditIndexError> {
        let (writer, segments) = open_database(path, &*store, settings.segment_events).await?;
        let pruned = pruned_of(&writer, path)?;
        let failed = |source| AuditIndexError::Database {
            path: path.into(),
            source,
        };
        let readers = (0..SEARCH_READERS)
            .map(|_| Reader::open(path, settings.segment_events))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let memory = Memory::new(segments.iter().map(|segment| segment.bounds), settings.segment_events);
        let indexed_through = memory.indexed_through();
        let shared = Arc::new(Shared {
            path: path.into(),
            settings,
            memory,
            progress: watch::Sender::new(Progress {
                indexed_through,
                failure: None,
            }),
            pruned_through: AtomicU64::new(pruned * settings.segment_events as u64),
            readers: Mutex::new(readers),
        });
        let (stop, stopped) = watch::channel(false);
        let feeder = feeder::start(shared.clone(), store.clone(), writer, stopped).map_err(AuditIndexError::Thread)?;
        Ok(Self {
            shared,
            store,
            places: Arc::new(Semaphore::new(SEARCH_READERS + MAX_WAITING_SEARCHES)),
            running: Arc::new(Semaphore::new(SEARCH_READERS)),
            feeder: Mutex::new(Some(feeder)),
            stop,
        })
    }

    /// An index that has stopped before it began, because its file cannot be used: nothing is found, and
    /// `failed` says why. The rest of the server can do without it.
    pub fn stopped(path: &Path, store: Arc<dyn EventStore>, reason: &AuditIndexError) -> Self {
        let settings = Settings::default();
        let shared = Arc::new(Shared {
            path: path.into(),
            settings,
            memory: Memory::new([].into_iter(), settings.segment_events),
            progress: watch::Sender::new(Progress::default()),
            pruned_through: AtomicU64::new(0),
            readers: Mutex::new(Vec::new()),
        });
        shared.stop(reason.to_string());
        Self {
            shared,
            store,
            places: Arc::new(Semaphore::new(SEARCH_READERS + MAX_WAITING_SEARCHES)),
            running: Arc::new(Semaphore::new(SEARCH_READERS)),
            feeder: Mutex::new(None),
            stop: watch::Sender::new(true),
        }
    }

    /// How many events are indexed: the index of the next one. What is in memory counts.
    pub fn indexed_through(&self) -> u64 {
        self.shared.progress.borrow().indexed_through
    }

    /// How many events of the log are not indexed yet.
    pub fn lag(&self) -> u64 {
        let indexed = self.indexed_through();
        self.store.log_size().saturating_sub(indexed)
    }

    /// Why the index no longer follows the log, when it does not. It then still answers what it has indexed.
    pub fn failed(&self) -> Option<String> {
        self.shared.progress.borrow().failure.as_deref().map(str::to_owned)
    }

    /// Waits until the first `log_size` events are indexed, or the feeder has failed.
    pub async fn wait_until_indexed(&self, log_size: u64) -> Result<(), AuditIndexError> {
        let mut progress = self.shared.progress.subscribe();
        let reached = progress
            .wait_for(|progress| progress.indexed_through >= log_size || progress.failure.is_some())
            .await;
        match reached {
            Ok(progress) if progress.indexed_through >= log_size => Ok(()),
            Ok(progress) => Err(AuditIndexError::Stopped(
                progress.failure.as_deref().unwrap_or_default().into(),
            )),
            // The sender is `self`'s.
            Err(_) => Err(AuditIndexError::Stopped("the audit index is closed".into())),
        }
    }

    /// Stops following the log and waits until what is complete is written. Idempotent. Searches still answer
    /// what is indexed. Close the index before the store: a log that ends under the feeder is a failure.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let feeder = self.feeder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(feeder) = feeder {
            // Fails only when the thread panicked, which `failed` then says.
            let _ = tokio::task::spawn_blocking(move || feeder.join()).await;
        }
    }
}

impl Drop for AuditIndex {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Shared {
    /// What is indexed now, and what of the memory the plan asks for.
    pub fn view(&self, plan: &Plan) -> View {
        let pruned_through = self.pruned_through.load(Ordering::Relaxed);
        View {
            pruned_through,
            ..self.memory.view(plan)
        }
    }

    /// Lends a reader of the database. The caller holds a permit of `running`.
    pub fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T, AuditSearchError>) -> Result<T, AuditSearchError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            // A reader is missing only when a search panicked with it.
            None => Reader::open(&self.path, self.settings.segment_events)?,
        };
        let result = read(&reader);
        {
            let mut idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < SEARCH_READERS {
                idle.push(reader);
            }
        }
        if let Err(AuditSearchError::Index(error)) = &result {
            self.remove_if_damaged(error);
        }
        result
    }

    /// A damaged file is of no use: it is removed, so that the next start builds it again.
    fn remove_if_damaged(&self, error: &rusqlite::Error) {
        if !rebuildable::is_damage(error) {
            return;
        }
        let path = self.path.display();
        self.stop(match rebuildable::remove(&self.path) {
            Ok(()) => format!("{path} is damaged ({error}) and removed: start again, and it is built from the log"),
            Err(remove) => format!("{path} is damaged ({error}) and cannot be removed: {remove}"),
        });
    }

    /// Says why there will be no more. The last word counts: it says what to do.
    fn stop(&self, failure: String) {
        tracing::error!("{failure}");
        self.end(&failure);
    }

    /// The same without a word to the operator.
    fn end(&self, failure: &str) {
        self.progress
            .send_modify(|progress| progress.failure = Some(failure.into()));
    }
}

/// Opens the database, and removes it first when it is no use for this log.
async fn open_database(
    path: &Path,
    store: &dyn EventStore,
    size: usize,
) -> Result<(Writer, Vec<SegmentRow>), AuditIndexError> {
    let stale = match Writer::open(path, size) {
        Ok((writer, segments)) => match misfit(pruned_of(&writer, path)?, &segments, store, size).await? {
            None => {
                let log_size = store.log_size();
                if segments.is_empty() && log_size >= size as u64 {
                    tracing::warn!(path = %path.display(), log_size, "there is no audit index of this log: it is built from it");
                }
                return Ok((writer, segments));
            }
            Some(reason) => reason,
        },
        Err(Unusable::Stale(reason)) => reason,
        Err(Unusable::Failed(source)) => {
            return Err(AuditIndexError::Database {
                path: path.into(),
                source,
            });
        }
    };
    tracing::warn!(path = %path.display(), reason = stale, "the audit index is dropped and built again from the log");
    rebuildable::remove(path).map_err(|source| AuditIndexError::Remove {
        path: path.into(),
        source,
    })?;
    Writer::open(path, size).map_err(|unusable| AuditIndexError::Database {
        path: path.into(),
        source: match unusable {
            Unusable::Failed(source) => source,
            // A file that has just been made.
            Unusable::Stale(reason) => rusqlite::Error::InvalidParameterName(reason),
        },
    })
}

fn pruned_of(writer: &Writer, path: &Path) -> Result<u64, AuditIndexError> {
    writer.pruned_segments().map_err(|source| AuditIndexError::Database {
        path: path.into(),
        source,
    })
}

/// Why these segments are not this log's, if they are not: the data folder was rolled back, or is another.
async fn misfit(
    pruned: u64,
    segments: &[SegmentRow],
    store: &dyn EventStore,
    size: usize,
) -> Result<Option<String>, AuditIndexError> {
    // No index gives up what the log does not say.
    let given_up = match pruned {
        0 => 0,
        _ => retention_of(store).await?.searched_from() / size as u64,
    };
    if pruned > given_up {
        return Ok(Some(format!(
            "its first {pruned} segments are given up, and the log says so of {given_up}"
        )));
    }
    let Some(last) = segments.last() else { return Ok(None) };
    let (indexed, log_size) = (segments.len() as u64 * size as u64, store.log_size());
    if log_size < indexed {
        return Ok(Some(format!(
            "it holds {indexed} events and the log only {log_size}: was the log rolled back?"
        )));
    }
    let event = store.read_indexes(&[indexed - 1]).await?;
    let same = event
        .first()
        .is_some_and(|event| segment::last_event_digest(&event.bytes)[..] == last.last_event);
    Ok((!same).then(|| format!("event {} of the log is not the one that was indexed", indexed - 1)))
}

/// What the log says was given up.
async fn retention_of(store: &dyn EventStore) -> Result<Retention, AuditIndexError> {
    let (stream, mut retention, mut next) = (StreamName::retention(), Retention::default(), 0);
    loop {
        let read = read_stream(store, &stream, next, MAX_EVENTS_PER_READ).await?;
        for stored in &read {
            retention.apply(&codec::decode(stored)?);
            next = stored.revision + 1;
        }
        if read.len() < MAX_EVENTS_PER_READ {
            return Ok(retention);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rebuild::{RebuildComparison, compare_with};
    use super::*;
    use crate::audit::AuditQuery;
    use crate::audit::memory_log::{Fact, MemoryLog, facts, tokens};
    use proptest::prelude::*;
    use std::time::Duration;
    use tempfile::TempDir;

    const SMALL: usize = 8;

    fn small() -> Settings {
        Settings {
            segment_events: SMALL,
            ..Settings::default()
        }
    }

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.db");
        (folder, path)
    }

    async fn indexed(path: &Path, log: &Arc<MemoryLog>) -> AuditIndex {
        let index = AuditIndex::open_with(path, log.clone(), small()).await.unwrap();
        index.wait_until_indexed(log.log_size()).await.unwrap();
        index
    }

    async fn all(index: &AuditIndex) -> Vec<u64> {
        let query = AuditQuery {
            client_id: Some("orders".into()),
            order: crate::audit::Order::Asc,
            limit: 1_000,
            ..AuditQuery::default()
        };
        let page = index.search(&query).await.unwrap();
        page.events.iter().map(|event| event.index).collect()
    }

    async fn compared(path: &Path, log: &Arc<MemoryLog>) -> RebuildComparison {
        compare_with(path, log.clone(), SMALL, |_| {}).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_in_the_log_is_found_and_counted() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(21));
        let index = indexed(&path, &log).await;
        assert_eq!((index.indexed_through(), index.lag(), index.failed()), (21, 0, None));
        assert_eq!(all(&index).await, (0..21).collect::<Vec<_>>());
        log.add(&tokens(1));
        index.wait_until_indexed(22).await.unwrap();
        assert_eq!(all(&index).await.len(), 22);
    }

    #[tokio::test]
    async fn a_restarted_index_goes_on_from_its_last_complete_segment() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(21));
        indexed(&path, &log).await.close().await;
        let (_, segments) = Writer::open(&path, SMALL).unwrap_or_else(|_| panic!("usable"));
        assert_eq!(segments.len(), 2);
        log.add(&tokens(5));
        let index = indexed(&path, &log).await;
        assert_eq!(all(&index).await, (0..26).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_deleted_index_is_built_again() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(30));
        indexed(&path, &log).await.close().await;
        rebuildable::remove(&path).unwrap();
        assert_eq!(all(&indexed(&path, &log).await).await.len(), 30);
    }

    #[tokio::test]
    async fn an_index_of_a_log_that_was_rolled_back_is_built_again() {
        let (_folder, path) = folder();
        indexed(&path, &MemoryLog::of(&tokens(30))).await.close().await;
        let shorter = MemoryLog::of(&tokens(20));
        let index = indexed(&path, &shorter).await;
        assert_eq!(all(&index).await.len(), 20);
        index.close().await;
        assert_eq!(compared(&path, &shorter).await.difference, None);
    }

    #[tokio::test]
    async fn an_index_of_a_log_that_went_on_differently_is_built_again() {
        let (_folder, path) = folder();
        indexed(&path, &MemoryLog::of(&tokens(30))).await.close().await;
        let mut other = tokens(40);
        other.iter_mut().skip(10).for_each(|fact: &mut Fact| {
            fact.client_id = Some("reports");
            fact.micros += 1;
        });
        let index = indexed(&path, &MemoryLog::of(&other)).await;
        assert_eq!(all(&index).await, (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_file_of_another_version_or_none_of_ours_is_built_again() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(30));
        indexed(&path, &log).await.close().await;
        rusqlite::Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 1)
            .unwrap();
        let index = indexed(&path, &log).await;
        assert_eq!(all(&index).await.len(), 30);
        index.close().await;
        rebuildable::remove(&path).unwrap();
        std::fs::write(
            &path,
            "not a database, but long enough to be looked at as one".repeat(100),
        )
        .unwrap();
        assert_eq!(all(&indexed(&path, &log).await).await.len(), 30);
    }

    #[tokio::test]
    async fn an_event_that_cannot_be_read_stops_the_index_and_says_so() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(10));
        let index = indexed(&path, &log).await;
        log.add_bytes(br#"{"type":"TokenIssued"}"#.to_vec());
        log.add(&tokens(1));
        let error = index.wait_until_indexed(12).await.unwrap_err();
        assert!(
            error.to_string().contains("stopped at event 10: event 10 is not"),
            "{error}"
        );
        assert_eq!(index.failed(), Some(error.to_string()));
        assert_eq!((index.indexed_through(), index.lag()), (10, 2));
        assert_eq!(all(&index).await.len(), 10);
    }

    #[tokio::test]
    async fn a_log_that_has_ended_ends_the_index_which_still_answers() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(10));
        let index = indexed(&path, &log).await;
        log.end();
        let error = index.wait_until_indexed(11).await.unwrap_err();
        assert_eq!(error.to_string(), "the audit index has read all that its log had");
        assert_eq!(index.failed(), Some(error.to_string()));
        assert_eq!(all(&index).await.len(), 10);
    }

    #[tokio::test]
    async fn closing_ends_the_feeder_at_once_and_twice_does_no_harm() {
        let (_folder, path) = folder();
        let index = indexed(&path, &MemoryLog::of(&tokens(3))).await;
        tokio::time::timeout(Duration::from_secs(5), index.close())
            .await
            .unwrap();
        index.close().await;
        assert_eq!(index.failed(), None);
    }

    #[tokio::test]
    async fn a_rebuild_finds_a_row_that_was_changed() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(30));
        indexed(&path, &log).await.close().await;
        let agreed = compared(&path, &log).await;
        assert_eq!(
            (agreed.events, agreed.compared_events, agreed.difference),
            (30, 24, None)
        );
        assert!(agreed.compared_rows > 3 + 3 * 4);
        let tamper = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute(sql, []).unwrap();
        tamper("UPDATE posting SET value = CAST('ordera' AS BLOB) WHERE field = 2 AND segment = 1");
        let difference = compared(&path, &log).await.difference.unwrap();
        assert!(
            difference.contains("'ordera'") && difference.contains("'orders'"),
            "{difference}"
        );
        tamper("DELETE FROM posting WHERE segment = 1");
        assert!(compared(&path, &log).await.difference.is_some());
        assert!(!path.with_extension("rebuild").exists());
    }

    #[tokio::test]
    async fn an_index_that_gives_up_what_the_log_does_not_say_is_found_and_built_again() {
        let (_folder, path) = folder();
        let log = MemoryLog::of(&tokens(30));
        indexed(&path, &log).await.close().await;
        let tamper = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        tamper("INSERT INTO pruned VALUES (0, 2, 1); DELETE FROM posting WHERE segment < 2");
        let difference = compared(&path, &log).await.difference.unwrap();
        assert!(difference.contains("given up its first 2 segments"), "{difference}");

        let index = indexed(&path, &log).await;
        assert_eq!((index.pruned_through(), all(&index).await.len()), (0, 30));
        index.close().await;
        assert_eq!(compared(&path, &log).await.difference, None);

        // Said of one segment, it is good for no more.
        log.give_up_before(8);
        assert!(indexed(&path, &log).await.prune(8).await.unwrap());
        assert_eq!(compared(&path, &log).await.difference, None);
        tamper("UPDATE pruned SET segments = 2; DELETE FROM posting WHERE segment < 2");
        let difference = compared(&path, &log).await.difference.unwrap();
        assert!(difference.ends_with("the log says so of 1"), "{difference}");
    }

    #[tokio::test]
    async fn rows_of_segments_that_an_index_does_not_hold_are_found() {
        let row = |segment: &str| {
            format!(
                "INSERT INTO posting SELECT field, value, {segment}, offsets FROM posting WHERE segment = 1 LIMIT 1"
            )
        };
        for (tampering, expected) in [
            (row("7"), "rows of segment 7"),
            (row("-1"), "rows of segment -1"),
            (row("0"), "rows of segment 0"),
            (
                "UPDATE segment SET latest = latest + 1 WHERE segment = 0".to_owned(),
                "served is (0, ",
            ),
        ] {
            let (_folder, path) = folder();
            let log = MemoryLog::of(&tokens(30));
            log.give_up_before(8);
            // Closed, all that is complete is on disk, where it can be given up.
            indexed(&path, &log).await.close().await;
            let index = indexed(&path, &log).await;
            assert!(index.prune(8).await.unwrap());
            index.close().await;
            assert_eq!(compared(&path, &log).await.difference, None);
            rusqlite::Connection::open(&path)
                .unwrap()
                .execute_batch(&tampering)
                .unwrap();
            let difference = compared(&path, &log).await.difference.unwrap();
            assert!(difference.contains(expected), "{tampering}: {difference}");
        }
    }

    #[tokio::test]
    async fn without_an_index_there_is_nothing_to_compare_with() {
        let (_folder, path) = folder();
        let compared = compared(&path, &MemoryLog::of(&tokens(30))).await;
        assert!(!compared.is_compared);
        assert_eq!(compared.difference, None);
        assert!(!path.exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_rows_depend_on_the_log_alone(
            facts in facts(0..70),
            batch in 1..20_usize,
            segments_per_commit in 1..5_usize,
            first in 0..70_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (_folder, path) = folder();
                let (before, after) = facts.split_at(first.min(facts.len()));
                let log = MemoryLog::in_batches(before, batch);
                let settings = Settings { segments_per_commit, ..small() };
                let index = AuditIndex::open_with(&path, log.clone(), settings).await.unwrap();
                index.wait_until_indexed(before.len() as u64).await.unwrap();
                index.close().await;
                let index = AuditIndex::open_with(&path, log.clone(), settings).await.unwrap();
                log.add(after);
                index.wait_until_indexed(facts.len() as u64).await.unwrap();
                index.close().await;
                let compared = compared(&path, &log).await;
                assert_eq!(compared.difference, None);
                assert_eq!(compared.compared_events, facts.len() as u64 / 8 * 8);
            });
        }
    }
}
