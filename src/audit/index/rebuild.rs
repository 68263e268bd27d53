//! Builds the index from zero beside the one that is served, and compares them row for row.

use super::database::{Reader, Unusable, Writer};
use super::pruning;
use super::segment::Segment;
use super::{FEED_BATCH, SEGMENT_EVENTS, SEGMENTS_PER_COMMIT};
use crate::event_store::codec::{self, DecodeError};
use crate::event_store::{Direction, EventStore, ReadError};
use crate::rebuildable;
use grantlog_projections::audit_record::AuditRecord;
use rusqlite::{Connection, types::Value};
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

/// Builds the index of the whole log from zero in a file beside `path`, compares it with the one at `path`
/// in every segment that both have, and removes it again; does nothing when there is none. `progress` is called once per segment. The index
/// may be served meanwhile, by this process or another: it is only read.
pub async fn rebuild_and_compare(
    path: &Path,
    store: Arc<dyn EventStore>,
    progress: impl FnMut(RebuildProgress) + Send + 'static,
) -> Result<RebuildComparison, RebuildError> {
    compare_with(path, store, SEGMENT_EVENTS, progress).await
}

pub(in crate::audit) async fn compare_with(
    path: &Path,
    store: Arc<dyn EventStore>,
    size: usize,
    progress: impl FnMut(RebuildProgress) + Send + 'static,
) -> Result<RebuildComparison, RebuildError> {
    let path = path.to_owned();
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
                let result = runtime.block_on(rebuild(&path, &beside, &*store, size, progress));
                remove(&beside).and(result)
            });
            let _ = send.send(result); // the caller may have gone
        })
        .map_err(|error| broken_off(&error))?;
    receive.await.map_err(|error| broken_off(&error))?
}

async fn rebuild(
    path: &Path,
    beside: &Path,
    store: &dyn EventStore,
    size: usize,
    progress: impl FnMut(RebuildProgress) + Send,
) -> Result<RebuildComparison, RebuildError> {
    let of_no_use = |reason: String| RebuildError::Unusable {
        path: path.into(),
        reason,
    };
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Ok(RebuildComparison {
            is_compared: false,
            events: 0,
            compared_events: 0,
            compared_rows: 0,
            difference: None,
            elapsed: Duration::ZERO,
        });
    }
    let served = Reader::open(path, size).map_err(|error| of_no_use(error.to_string()))?;
    served.segments().map_err(|unusable| match unusable {
        Unusable::Stale(reason) => of_no_use(reason),
        Unusable::Failed(error) => RebuildError::Database(error),
    })?;
    let started = Instant::now();
    let events = build(beside, store, size, progress).await?;
    let elapsed = started.elapsed();
    let rebuilt = Reader::open(beside, size)?;
    // One look at what is served for count and rows: it may grow meanwhile.
    let _look = served.look()?;
    let count = |reader: &Reader| {
        let count = reader
            .connection
            .query_row("SELECT count(*) FROM segment", [], |row| row.get::<_, i64>(0));
        count.map(i64::cast_unsigned)
    };
    let (served_segments, rebuilt_segments) = (count(&served)?, count(&rebuilt)?);
    let segments = served_segments.min(rebuilt_segments);
    let pruned = pruning::pruned_segments(&served.connection)?;
    let (compared_rows, mut difference) = compare(&served.connection, &rebuilt.connection, pruned..segments)?;
    if difference.is_none() && served_segments > store.log_size() / size as u64 {
        difference = Some(format!(
            "the served index has {served_segments} segments, the log {rebuilt_segments}"
        ));
    }
    Ok(RebuildComparison {
        is_compared: true,
        events,
        compared_events: segments.saturating_sub(pruned) * size as u64,
        compared_rows,
        difference,
        elapsed,
    })
}

async fn build(
    beside: &Path,
    store: &dyn EventStore,
    size: usize,
    mut progress: impl FnMut(RebuildProgress) + Send,
) -> Result<u64, RebuildError> {
    let (mut writer, _) = Writer::open(beside, size).map_err(|unusable| match unusable {
        Unusable::Stale(reason) => RebuildError::BrokenOff(reason),
        Unusable::Failed(error) => RebuildError::Database(error),
    })?;
    let of = store.log_size();
    let mut complete = Vec::with_capacity(SEGMENTS_PER_COMMIT);
    let mut open = Segment::new(0, size);
    while open.next_index() < of {
        let next = open.next_index();
        let wanted = usize::try_from(of - next).unwrap_or(FEED_BATCH).min(FEED_BATCH);
        let events = store.read_all(next, Direction::Forwards, wanted).await?;
        if events.first().is_none_or(|event| event.index != next) {
            return Err(ReadError(format!("event {next} of {of} is not there")).into());
        }
        for event in &events {
            open.add(&AuditRecord::from(&codec::decode(event)?), &event.bytes);
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
    Ok(of)
}

/// Compares the rows of these segments. Both sides are read in the order of their keys.
fn compare(served: &Connection, rebuilt: &Connection, segments: Range<u64>) -> rusqlite::Result<(u64, Option<String>)> {
    let mut compared = 0;
    for (table, query) in [
        (
            "segment",
            "SELECT segment, earliest, latest, last_event, times FROM segment WHERE segment >= ?1 AND segment < ?2 ORDER BY 1",
        ),
        (
            "posting",
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
