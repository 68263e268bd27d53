//! Gives up the oldest segments of the index: what the log no longer has, or what the operator no longer wants to
//! search. In small transactions, so that the feeder, which writes to the same file, never waits long. The rows
//! of the segments themselves stay, with their bounds, so that segments are counted from 0 for ever.

use super::database::damaged;
use super::{AuditIndex, AuditIndexError};
use crate::rebuildable;
use grantlog_projections::values::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Rows that are looked at in one transaction.
const ROWS_PER_BATCH: i64 = 2_048;
/// The feeder has this many times as long as a batch took.
const PAUSE_FACTOR: u32 = 2;
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
            let connection = Connection::open(path)?;
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
            Ok(used.unsigned_abs())
        })
        .await
    }

    /// Takes out what is found of the events before this index, which is rounded down to a segment. Searches
    /// begin behind it at once; the space is free when this returns. Idempotent.
    pub async fn prune(&self, through: u64) -> Result<(), AuditIndexError> {
        let segments = through / self.segment_events();
        let through = segments * self.segment_events();
        // What is not in the database yet cannot be taken out of it.
        if segments == 0 || segments > self.shared.memory.written_segments() {
            return Ok(());
        }
        self.shared.pruned_through.fetch_max(through, Ordering::Relaxed);
        self.blocking(move |path| prune(path, segments.cast_signed())).await
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

fn prune(path: &Path, segments: i64) -> rusqlite::Result<()> {
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
        return Ok(());
    }
    // First the mark: whoever opens the file half-way must not find half of it.
    let mark = "INSERT INTO pruned VALUES (0, ?1, ?2) ON CONFLICT (id) DO UPDATE SET segments = ?1, is_complete = ?2";
    connection.execute(mark, params![segments, false])?;
    prune_postings(&mut connection, segments)?;
    in_batches(&mut connection, |transaction| {
        transaction.execute(
            "UPDATE segment SET times = x'' WHERE segment IN
             (SELECT segment FROM segment WHERE segment < ?1 AND times <> x'' LIMIT 32)",
            [segments],
        )
    })?;
    connection.execute(mark, params![segments, true])?;
    Ok(())
}

/// The postings of one segment lie all over the table: it is gone through once, by its key.
fn prune_postings(connection: &mut Connection, segments: i64) -> rusqlite::Result<()> {
    let mut after: (i64, Vec<u8>, i64) = (-1, Vec::new(), -1);
    in_batches(connection, |transaction| {
        let mut read = transaction.prepare_cached(
            "SELECT field, value, segment FROM posting WHERE (field, value, segment) > (?1, ?2, ?3)
             ORDER BY field, value, segment LIMIT ?4",
        )?;
        let rows = read.query_map(params![after.0, after.1, after.2, ROWS_PER_BATCH], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        let keys: Vec<(i64, Vec<u8>, i64)> = rows.collect::<rusqlite::Result<_>>()?;
        let mut delete =
            transaction.prepare_cached("DELETE FROM posting WHERE field = ?1 AND value = ?2 AND segment = ?3")?;
        for (field, value, segment) in keys.iter().filter(|(_, _, segment)| *segment < segments) {
            delete.execute(params![field, value, segment])?;
        }
        let looked_at = keys.len();
        if let Some(last) = keys.into_iter().next_back() {
            after = last;
        }
        Ok(looked_at)
    })
}

/// Repeats a transaction until it has nothing more to do, with pauses.
fn in_batches(
    connection: &mut Connection,
    mut batch: impl FnMut(&rusqlite::Transaction<'_>) -> rusqlite::Result<usize>,
) -> rusqlite::Result<()> {
    loop {
        let begin = Instant::now();
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let done = batch(&transaction)?;
        transaction.commit()?;
        if done == 0 {
            return Ok(());
        }
        std::thread::sleep(begin.elapsed() * PAUSE_FACTOR);
    }
}
