//! Gives up the oldest segments of the index: what the log no longer has, or what the operator no longer wants to
//! search. In small transactions, so that the feeder, which writes to the same file, never waits long. The rows
//! of the segments themselves stay, with their bounds, so that segments are counted from 0 for ever.

use super::database::damaged;
use super::{AuditIndex, AuditIndexError};
use crate::rebuildable;
use grantlog_projections::values::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Rows that are looked at, and deleted, at a time.
const ROWS_PER_BATCH: usize = 2_048;
/// Segments whose times are deleted at a time.
const TIMES_PER_BATCH: i64 = 32;
/// The feeder has this many times as long as a batch took.
const PAUSE_FACTOR: u32 = 2;
/// However long a batch took: whoever stops the index waits no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a batch waits for the feeder.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

impl AuditIndex {
    /// Events per segment: the unit of pruning.
    pub fn segment_events(&self) -> u64 {
        self.shared.settings.segment_events as u64
    }

    /// Searches find nothing before this index.
    pub fn pruned_through(&self) -> u64 {
        self.shared.pruned_through.load(Ordering::Relaxed)
    }

    /// How many events at the log's beginning are older than that, in whole segments.
    pub fn events_before(&self, time: Timestamp) -> u64 {
        self.shared.memory.complete_before(time.unix_micros()) * self.segment_events()
    }

    /// Bytes that the index takes on disk; what can be used again is not counted.
    pub async fn used_bytes(&self) -> Result<u64, AuditIndexError> {
        self.blocking(|path| {
            // An index that has stopped may have none.
            if !path.exists() {
                return Ok(0);
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
            Ok(used.unsigned_abs())
        })
        .await
    }

    /// Takes out what is found of the events before this index, which is rounded down to a segment. Searches
    /// begin behind it at once; the space is free when this returns. False: it is not, for the index was closed
    /// meanwhile, or does not hold them on disk yet: the next call goes on. Idempotent.
    pub async fn prune(&self, through: u64) -> Result<bool, AuditIndexError> {
        let segments = through / self.segment_events();
        let through = segments * self.segment_events();
        // What is not in the database yet cannot be taken out of it.
        if segments > self.shared.memory.written_segments() {
            return Ok(false);
        }
        if segments == 0 {
            return Ok(true);
        }
        self.shared.pruned_through.fetch_max(through, Ordering::Relaxed);
        let stop = self.stop.subscribe();
        self.blocking(move |path| prune(path, segments.cast_signed(), &stop))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, AuditIndexError> {
        let path = self.shared.path.clone();
        let done = tokio::task::spawn_blocking(move || {
            work(&path).map_err(|source| AuditIndexError::Database { path, source })
        });
        done.await
            .unwrap_or_else(|error| Err(AuditIndexError::Stopped(error.to_string())))
    }
}

/// How many segments at the beginning were given up.
pub(super) fn pruned_segments(connection: &Connection) -> rusqlite::Result<u64> {
    let segments: Option<i64> = connection
        .query_row("SELECT segments FROM pruned", [], |row| row.get(0))
        .optional()?;
    match segments.unwrap_or(0) {
        negative @ ..0 => Err(damaged(&format!("{negative} segments were given up: that"))),
        segments => Ok(segments.unsigned_abs()),
    }
}

/// Leaves off when it is to stop, and says whether it came to its end.
fn prune(path: &Path, segments: i64, stop: &watch::Receiver<bool>) -> rusqlite::Result<bool> {
    let mut connection = rebuildable::open(path)?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    // What is given up must not be found in the file afterwards.
    connection.pragma_update(None, "secure_delete", true)?;
    let done: Option<(i64, bool)> = connection
        .query_row("SELECT segments, is_complete FROM pruned", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if done.is_some_and(|(done, is_complete)| done >= segments && is_complete) {
        return Ok(true);
    }
    // First the mark: whoever opens the file half-way must not find half of it.
    let mark = "INSERT INTO pruned VALUES (0, ?1, ?2) ON CONFLICT (id) DO UPDATE SET segments = ?1, is_complete = ?2";
    connection.execute(mark, params![segments, false])?;
    let is_complete = prune_postings(&mut connection, segments, stop)? && prune_times(&connection, segments, stop)?;
    if is_complete {
        connection.execute(mark, params![segments, true])?;
    }
    Ok(is_complete)
}

/// The postings of one segment lie all over the table. Of each value only those are looked at that go, and the one
/// behind them. The feeder waits for the deleting alone. False: it was stopped.
fn prune_postings(connection: &mut Connection, segments: i64, stop: &watch::Receiver<bool>) -> rusqlite::Result<bool> {
    let mut after: Key = (-1, Vec::new(), -1);
    in_batches(stop, || {
        let due = postings_due(connection, segments, &mut after)?;
        if !due.keys.is_empty() {
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            {
                let mut delete = transaction
                    .prepare_cached("DELETE FROM posting WHERE field = ?1 AND value = ?2 AND segment = ?3")?;
                for (field, value, segment) in &due.keys {
                    delete.execute(params![field, value, segment])?;
                }
            }
            transaction.commit()?;
        }
        Ok(due.is_last)
    })
}

/// Where a posting is: field, value and segment.
type Key = (i64, Vec<u8>, i64);

/// Some postings that go.
struct Due {
    keys: Vec<Key>,
    /// Whether there are no more.
    is_last: bool,
}

/// Goes on behind `after`.
fn postings_due(connection: &Connection, segments: i64, after: &mut Key) -> rusqlite::Result<Due> {
    let mut next = connection.prepare_cached(
        "SELECT field, value, segment FROM posting WHERE (field, value, segment) > (?1, ?2, ?3)
         ORDER BY field, value, segment LIMIT 1",
    )?;
    let mut keys = Vec::new();
    for _ in 0..ROWS_PER_BATCH {
        let found: Option<Key> = next
            .query_row(params![after.0, after.1, after.2], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((field, value, segment)) = found else {
            return Ok(Due { keys, is_last: true });
        };
        *after = if segment < segments {
            keys.push((field, value.clone(), segment));
            (field, value, segment)
        } else {
            // The rest of this value stays.
            (field, value, i64::MAX)
        };
    }
    Ok(Due { keys, is_last: false })
}

/// False: it was stopped.
fn prune_times(connection: &Connection, segments: i64, stop: &watch::Receiver<bool>) -> rusqlite::Result<bool> {
    in_batches(stop, || {
        let done = connection.execute(
            "UPDATE segment SET times = x'' WHERE segment IN
             (SELECT segment FROM segment WHERE segment < ?1 AND times <> x'' LIMIT ?2)",
            params![segments, TIMES_PER_BATCH],
        )?;
        Ok(done == 0)
    })
}

/// Repeats a batch until it was the last, with pauses. False: it was stopped.
fn in_batches(
    stop: &watch::Receiver<bool>,
    mut batch: impl FnMut() -> rusqlite::Result<bool>,
) -> rusqlite::Result<bool> {
    while !*stop.borrow() {
        let begin = Instant::now();
        if batch()? {
            return Ok(true);
        }
        std::thread::sleep((begin.elapsed() * PAUSE_FACTOR).min(LONGEST_PAUSE));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::index::rebuild::compare_with;
    use crate::audit::memory_log::{MemoryLog, tokens};

    #[tokio::test]
    async fn a_pruning_that_was_stopped_is_finished_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.db");
        let log = MemoryLog::of(&tokens(40));
        let index = AuditIndex::open_in_segments_of(8, &path, log.clone()).await.unwrap();
        index.wait_until_indexed(40).await.unwrap();
        log.give_up_before(16);
        index.close().await;
        let rows = |segments: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM posting WHERE segment {segments}");
            Connection::open(&path)
                .unwrap()
                .query_row(&sql, [], |row| row.get(0))
                .unwrap()
        };
        let (gone, left) = (rows("< 2"), rows(">= 2"));
        assert!(gone > 0 && left > 0);
        // Closed: it is marked, and nothing more is done.
        index.prune(16).await.unwrap();
        assert_eq!((rows("< 2"), rows(">= 2"), index.pruned_through()), (gone, left, 16));
        drop(index);
        let index = AuditIndex::open_in_segments_of(8, &path, log.clone()).await.unwrap();
        assert_eq!(index.pruned_through(), 16);
        index.prune(16).await.unwrap();
        assert_eq!((rows("< 2"), rows(">= 2")), (0, left));
        index.close().await;
        let compared = compare_with(&path, log, 8, |_| {}).await.unwrap();
        assert_eq!(compared.difference, None);
    }

    #[tokio::test]
    async fn asking_for_the_size_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.db");
        let reason = AuditIndexError::Stopped("no disk".into());
        let index = AuditIndex::stopped(&path, MemoryLog::of(&[]), &reason);
        assert_eq!(index.used_bytes().await.unwrap(), 0);
        assert!(!path.exists());
    }
}
