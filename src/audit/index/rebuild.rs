//! Builds the index from zero beside the one that is served, and compares them row for row.

use super::database::{Reader, Unusable, Writer};
use super::pruning;
use super::segment::Segment;
use super::{FEED_BATCH, SEGMENT_EVENTS, SEGMENTS_PER_COMMIT};
use crate::event_store::codec::{self, DecodeError};
use crate::event_store::{Direction, EventStore, ReadError};
use crate::rebuildable;
use grantlog_projections::audit_record::AuditRecord;
use grantlog_projections::retention::Retention;
use rusqlite::{Connection, OptionalExtension, types::Value};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a rebuild found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildComparison {
    /// Whether there was an index to compare with; when not, none was built either.
    pub is_compared: bool,
    /// Events read from the log: all that it had at the start.
    pub events: u64,
    /// Events in the segments that both indexes have: the ones that were compared.
    pub compared_events: u64,
    /// Rows that were compared.
    pub compared_rows: u64,
    /// Where the served index first differs from the rebuilt one; none: it does not.
    pub difference: Option<String>,
    /// How long reading, decoding, indexing and writing took.
    pub elapsed: Duration,
}

impl RebuildComparison {
    /// How fast the index was built.
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildProgress {
    /// Events indexed so far.
    pub events: u64,
    /// Events to index.
    pub of: u64,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The served index is of no use: it will be built anew when the server starts.
    #[error("the audit index {} cannot be compared with: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A database cannot be made, written or read.
    #[error("an audit index cannot be read or written: {0}")]
    Database(#[from] rusqlite::Error),
    /// The database beside the served one is in the way.
    #[error("{} cannot be removed: {source}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event of the log cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// The thread that builds cannot be started, or panicked.
    #[error("the rebuild broke off: {0}")]
    BrokenOff(String),
}

/// An index as it was before the log was opened: a server that is running has indexed and given up nothing that the
/// log does not hold by then.
pub struct ServedIndex {
    path: PathBuf,
    size: usize,
    found: Option<Found>,
}

struct Found {
    reader: Reader,
    segments: u64,
    pruned: u64,
}

impl ServedIndex {
    /// Looks at an index, which may be served meanwhile by this process or another: it is only read.
    pub fn look_at(path: &Path) -> Result<Self, RebuildError> {
        Self::in_segments_of(SEGMENT_EVENTS, path)
    }

    fn in_segments_of(size: usize, path: &Path) -> Result<Self, RebuildError> {
        let of_no_use = |reason: String| RebuildError::Unusable {
            path: path.into(),
            reason,
        };
        let mut served = Self {
            path: path.into(),
            size,
            found: None,
        };
        if path.try_exists().is_ok_and(|exists| !exists) {
            return Ok(served);
        }
        let reader = Reader::open(path, size).map_err(|error| of_no_use(error.to_string()))?;
        let segments = reader.segments().map_err(|unusable| match unusable {
            Unusable::Stale(reason) => of_no_use(reason),
            Unusable::Failed(error) => RebuildError::Database(error),
        })?;
        served.found = Some(Found {
            segments: segments.len() as u64,
            pruned: reader.pruned_segments()?,
            reader,
        });
        Ok(served)
    }

    /// Builds the index of the whole log from zero in a file beside this one, compares the two in every segment that
    /// both have, and removes it again; does nothing when there was none. `progress` is called once per segment.
    pub async fn compare_with(
        self,
        store: Arc<dyn EventStore>,
        progress: impl FnMut(RebuildProgress) + Send + 'static,
    ) -> Result<RebuildComparison, RebuildError> {
        match self.found {
            Some(found) => on_a_thread(self.path, found, store, self.size, progress).await,
            None => Ok(RebuildComparison {
                is_compared: false,
                events: 0,
                compared_events: 0,
                compared_rows: 0,
                difference: None,
                elapsed: Duration::ZERO,
            }),
        }
    }
}

#[cfg(test)]
pub(in crate::audit) async fn compare_with(
    path: &Path,
    store: Arc<dyn EventStore>,
    size: usize,
    progress: impl FnMut(RebuildProgress) + Send + 'static,
) -> Result<RebuildComparison, RebuildError> {
    let served = ServedIndex::in_segments_of(size, path)?;
    served.compare_with(store, progress).await
}

async fn on_a_thread(
    path: PathBuf,
    served: Found,
    store: Arc<dyn EventStore>,
    size: usize,
    progress: impl FnMut(RebuildProgress) + Send + 'static,
) -> Result<RebuildComparison, RebuildError> {
    let broken_off = |error: &dyn std::fmt::Display| RebuildError::BrokenOff(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| broken_off(&error))?;
    // A thread of its own: decoding and writing would hold up whatever else the caller's thread runs.
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("audit-index-rebuild".into())
        .spawn(move || {
            let beside = path.with_extension("rebuild");
            let result = remove(&beside).and_then(|()| {
                let result = runtime.block_on(rebuild(served, &beside, &*store, size, progress));
                remove(&beside).and(result)
            });
            let _ = send.send(result); // the caller may have gone
        })
        .map_err(|error| broken_off(&error))?;
    receive.await.map_err(|error| broken_off(&error))?
}

async fn rebuild(
    served: Found,
    beside: &Path,
    store: &dyn EventStore,
    size: usize,
    progress: impl FnMut(RebuildProgress) + Send,
) -> Result<RebuildComparison, RebuildError> {
    let started = Instant::now();
    let Built { events, retention } = build(beside, store, size, progress).await?;
    let elapsed = started.elapsed();
    let rebuilt = Reader::open(beside, size)?;
    let (log_segments, given_up) = (events / size as u64, retention.searched_from() / size as u64);
    let mut difference = None;
    if served.segments > log_segments {
        difference = Some(format!(
            "the served index has {} segments, the log {log_segments}",
            served.segments
        ));
    } else if served.pruned > given_up {
        difference = Some(format!(
            "the served index has given up its first {} segments, and the log says so of {given_up}",
            served.pruned
        ));
    }
    // One look at marks and rows: more may be given up meanwhile.
    let _look = served.reader.look()?;
    let pruned = pruning::pruned_segments(&served.reader.connection)?;
    let end = served.segments.min(log_segments);
    // Of events that were removed since they were indexed only the times are left.
    let removed = retention.removed_through.div_ceil(size as u64).min(end);
    let parts = Parts {
        removed,
        whole: removed.max(pruned).min(end),
        end,
    };
    let (compared_rows, different_row) = compare(&served.reader.connection, &rebuilt.connection, &parts)?;
    if difference.is_none() {
        difference = different_row;
    }
    if difference.is_none() {
        difference = row_of_no_segment(&served.reader.connection, pruned)?;
    }
    Ok(RebuildComparison {
        is_compared: true,
        events,
        compared_events: (parts.end - parts.whole) * size as u64,
        compared_rows,
        difference,
        elapsed,
    })
}

/// A posting of a segment that the index does not have, or has given up: searches may find what it says.
fn row_of_no_segment(served: &Connection, pruned: u64) -> rusqlite::Result<Option<String>> {
    // While segments are given up, the mark comes first and their rows go after it.
    let is_complete: Option<bool> = served
        .query_row("SELECT is_complete FROM pruned", [], |row| row.get(0))
        .optional()?;
    let first = match is_complete {
        Some(false) => 0,
        Some(true) | None => pruned.cast_signed(),
    };
    let found: Option<i64> = served
        .query_row(
            "SELECT segment FROM posting WHERE segment < ?1 OR segment >= (SELECT count(*) FROM segment) LIMIT 1",
            [first],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.map(|segment| format!("the served index has rows of segment {segment}, which it does not hold")))
}

/// What reading the whole log has come to.
struct Built {
    events: u64,
    retention: Retention,
}

async fn build(
    beside: &Path,
    store: &dyn EventStore,
    size: usize,
    mut progress: impl FnMut(RebuildProgress) + Send,
) -> Result<Built, RebuildError> {
    let (mut writer, _) = Writer::open(beside, size).map_err(|unusable| match unusable {
        Unusable::Stale(reason) => RebuildError::BrokenOff(reason),
        Unusable::Failed(error) => RebuildError::Database(error),
    })?;
    let of = store.log_size();
    let mut complete = Vec::with_capacity(SEGMENTS_PER_COMMIT);
    let mut open = Segment::new(0, size);
    let mut retention = Retention::default();
    while open.next_index() < of {
        let next = open.next_index();
        let wanted = usize::try_from(of - next).unwrap_or(FEED_BATCH).min(FEED_BATCH);
        let events = store.read_all(next, Direction::Forwards, wanted).await?;
        if events.first().is_none_or(|event| event.index != next) {
            return Err(ReadError(format!("event {next} of {of} is not there")).into());
        }
        for event in &events {
            let recorded = codec::decode(event)?;
            retention.apply(&recorded);
            open.add(&AuditRecord::from(&recorded), &event.bytes);
            if open.is_complete() {
                progress(RebuildProgress {
                    events: open.next_index(),
                    of,
                });
                let next = Segment::new(open.number + 1, size);
                complete.push(Arc::new(std::mem::replace(&mut open, next)));
                if complete.len() == SEGMENTS_PER_COMMIT {
                    writer.append(&complete)?;
                    complete.clear();
                }
            }
        }
    }
    writer.append(&complete)?;
    progress(RebuildProgress { events: of, of });
    Ok(Built { events: of, retention })
}

/// How much of each segment can be compared.
struct Parts {
    /// Of the segments before this one events were removed: only their times are left.
    removed: u64,
    /// From this segment on all is compared; the index has given up what it had of those before.
    whole: u64,
    /// Behind the last one.
    end: u64,
}

/// Compares the rows of these segments. Both sides are read in the order of their keys.
fn compare(served: &Connection, rebuilt: &Connection, parts: &Parts) -> rusqlite::Result<(u64, Option<String>)> {
    let mut compared = 0;
    let segments: Range<u64> = parts.whole..parts.end;
    for (table, segments, query) in [
        (
            "segment",
            0..parts.removed,
            "SELECT segment, earliest, latest FROM segment WHERE segment >= ?1 AND segment < ?2 ORDER BY 1",
        ),
        (
            "segment",
            parts.removed..parts.whole,
            "SELECT segment, earliest, latest, last_event FROM segment WHERE segment >= ?1 AND segment < ?2 ORDER BY 1",
        ),
        (
            "segment",
            segments.clone(),
            "SELECT segment, earliest, latest, last_event, times FROM segment WHERE segment >= ?1 AND segment < ?2 ORDER BY 1",
        ),
        (
            "posting",
            segments,
            "SELECT field, value, segment, offsets FROM posting WHERE segment >= ?1 AND segment < ?2 ORDER BY 1, 2, 3",
        ),
    ] {
        let (mut served, mut rebuilt) = (served.prepare(query)?, rebuilt.prepare(query)?);
        let columns = served.column_count();
        let bounds = [segments.start.cast_signed(), segments.end.cast_signed()];
        let mut served = served.query(bounds)?;
        let mut rebuilt = rebuilt.query(bounds)?;
        loop {
            let (served, rebuilt) = (row(&mut served, columns)?, row(&mut rebuilt, columns)?);
            if served != rebuilt {
                let shown = |row: &Option<Vec<Value>>| row.as_deref().map_or("nothing".to_owned(), show);
                let difference = format!(
                    "row {compared} (table {table}): served is {}, rebuilt is {}",
                    shown(&served),
                    shown(&rebuilt)
                );
                return Ok((compared, Some(difference)));
            }
            if served.is_none() {
                break;
            }
            compared += 1;
        }
    }
    Ok((compared, None))
}

fn row(rows: &mut rusqlite::Rows<'_>, columns: usize) -> rusqlite::Result<Option<Vec<Value>>> {
    let Some(row) = rows.next()? else { return Ok(None) };
    (0..columns)
        .map(|column| row.get(column))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// A row for people: text where a value is text, else the first of its bytes.
fn show(row: &[Value]) -> String {
    const MOST: usize = 64;
    let shown = row.iter().map(|value| match value {
        Value::Integer(number) => number.to_string(),
        Value::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.is_empty() && !text.contains(char::is_control) => {
                format!("'{}'", text.chars().take(MOST).collect::<String>())
            }
            _ => bytes
                .iter()
                .take(MOST / 2)
                .fold("x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
        },
        other => format!("{other:?}"),
    });
    format!("({})", shown.collect::<Vec<_>>().join(", "))
}

fn remove(path: &Path) -> Result<(), RebuildError> {
    rebuildable::remove(path).map_err(|source| RebuildError::Remove {
        path: path.into(),
        source,
    })
}
