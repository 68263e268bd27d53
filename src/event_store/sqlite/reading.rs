//! Reading the log, on connections of its own. Every read is bounded by the log size at its begin: rows
//! beyond it may be visible to SQLite and still not be durable.

use super::opening::connect_reader;
use super::{Path, PathBuf};
use crate::event_store::{Direction, MAX_EVENTS_PER_READ, ReadError, StoredEvent};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// A few connections that can only read, opened when first needed.
pub(super) struct Readers {
    idle: Arc<Idle>,
    /// One permit per connection.
    permits: Arc<Semaphore>,
}

struct Idle {
    path: PathBuf,
    /// `None` when reading has ended.
    connections: Mutex<Option<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(log: &Path, connections: usize) -> Self {
        Self {
            idle: Arc::new(Idle {
                path: log.to_owned(),
                connections: Mutex::new(Some(Vec::new())),
            }),
            permits: Arc::new(Semaphore::new(connections.max(1))),
        }
    }

    /// Runs a read where it may block, as soon as a connection is free.
    pub(super) async fn run<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        let idle = self.idle.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let connection = idle.take()?;
            let answer = read(&connection);
            idle.put_back(connection);
            // The connection must be free before the next one may look for it.
            drop(permit);
            answer
        });
        reading
            .await
            .unwrap_or_else(|stopped| Err(ReadError(stopped.to_string())))
    }

    /// Ends reading: reads that are running finish, others are refused.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

impl Idle {
    fn take(&self) -> Result<Connection, ReadError> {
        let idle = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .ok_or_else(closed)?
            .pop();
        match idle {
            Some(connection) => Ok(connection),
            None => connect_reader(&self.path).map_err(failed),
        }
    }

    fn put_back(&self, connection: Connection) {
        if let Some(idle) = self.connections.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            idle.push(connection);
        }
    }
}

/// See [`crate::event_store::EventStore::read_stream`].
pub(super) fn read_stream(
    log: &Connection,
    stream: &str,
    from_revision: u64,
    limit: usize,
    size: u64,
) -> Result<Vec<StoredEvent>, ReadError> {
    let mut statement = log
        .prepare_cached(
            "SELECT position, revision, bytes FROM events \
             WHERE stream = (SELECT id FROM streams WHERE name = ?1) AND revision >= ?2 AND position < ?3 \
             ORDER BY revision LIMIT ?4",
        )
        .map_err(failed)?;
    let parameters = params![
        stream,
        to_sql(from_revision),
        to_sql(size),
        limit.min(MAX_EVENTS_PER_READ) as i64
    ];
    let events = collect(statement.query_map(parameters, to_event))?;
    for (event, revision) in events.iter().zip(from_revision..) {
        if event.revision != revision {
            return Err(ReadError(format!("event {revision} of the stream {stream} is missing")));
        }
    }
    Ok(events)
}

/// See [`crate::event_store::EventStore::read_all`].
pub(super) fn read_all(
    log: &Connection,
    from: u64,
    direction: Direction,
    limit: usize,
    size: u64,
) -> Result<Vec<StoredEvent>, ReadError> {
    let limit = limit.min(MAX_EVENTS_PER_READ) as u64;
    let (first, end) = match direction {
        Direction::Forwards => (from.min(size), from.saturating_add(limit).min(size)),
        Direction::Backwards => {
            let end = from.saturating_add(1).min(size);
            (end.saturating_sub(limit), end)
        }
    };
    let mut statement = log
        .prepare_cached(
            "SELECT position, revision, bytes FROM events WHERE position >= ?1 AND position < ?2 ORDER BY position",
        )
        .map_err(failed)?;
    let mut events = collect(statement.query_map(params![to_sql(first), to_sql(end)], to_event))?;
    // Someone may have changed the file by other means; an audit trail must not skip over that.
    let mut expected = first..end;
    if let Some(missing) = expected
        .by_ref()
        .zip(&events)
        .find(|(index, event)| *index != event.index)
    {
        return Err(missing_event(missing.0));
    }
    if let Some(missing) = (first + events.len() as u64..end).next() {
        return Err(missing_event(missing));
    }
    if direction == Direction::Backwards {
        events.reverse();
    }
    Ok(events)
}

/// See [`crate::event_store::EventStore::streams_of`].
pub(super) fn streams_of(log: &Connection, range: Range<u64>, size: u64) -> Result<Vec<(u64, String)>, ReadError> {
    let end = range
        .end
        .min(size)
        .min(range.start.saturating_add(MAX_EVENTS_PER_READ as u64));
    let mut places = log
        .prepare_cached("SELECT position, stream FROM events WHERE position >= ?1 AND position < ?2 ORDER BY position")
        .map_err(failed)?;
    // As `read_stream` finds it: of two rows with one name only the first counts.
    let mut name = log
        .prepare_cached(
            "SELECT name FROM streams \
             WHERE id = ?1 AND id = (SELECT id FROM streams AS named WHERE named.name = streams.name)",
        )
        .map_err(failed)?;
    let mut names: HashMap<i64, Option<String>> = HashMap::new();
    let mut named = Vec::new();
    let mut rows = places.query([to_sql(range.start), to_sql(end)]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let position: i64 = row.get(0).map_err(failed)?;
        let stream: i64 = row.get(1).map_err(failed)?;
        let found = match names.entry(stream) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let found = name.query_row([stream], |row| row.get(0)).optional().map_err(failed)?;
                unknown.insert(found)
            }
        };
        named.extend(found.clone().map(|name| (position.unsigned_abs(), name)));
    }
    Ok(named)
}

/// See [`crate::event_store::EventStore::read_indexes`].
pub(super) fn read_indexes(log: &Connection, indexes: &[u64], size: u64) -> Result<Vec<StoredEvent>, ReadError> {
    if indexes.len() > MAX_EVENTS_PER_READ {
        return Err(ReadError(format!(
            "{} events were asked for, {MAX_EVENTS_PER_READ} is the most",
            indexes.len()
        )));
    }
    let mut statement = log
        .prepare_cached("SELECT position, revision, bytes FROM events WHERE position = ?1")
        .map_err(failed)?;
    let mut events = Vec::with_capacity(indexes.len());
    for &index in indexes {
        if index >= size {
            return Err(ReadError(format!("there is no event {index}: the log has {size}")));
        }
        let event = statement
            .query_row([to_sql(index)], to_event)
            .optional()
            .map_err(failed)?;
        events.push(event.ok_or_else(|| missing_event(index))?);
    }
    Ok(events)
}

/// See [`crate::event_store::EventStore::used_bytes`].
pub(super) fn used_bytes(log: &Connection) -> Result<u64, ReadError> {
    let pragma = |name| log.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let used = pragma("page_count")
        .and_then(|pages| Ok((pages - pragma("freelist_count")?) * pragma("page_size")?))
        .map_err(failed)?;
    Ok(used.unsigned_abs())
}

fn to_event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        index: row.get::<_, i64>(0)?.unsigned_abs(),
        revision: row.get::<_, i64>(1)?.unsigned_abs(),
        bytes: row.get_ref(2)?.as_blob()?.into(),
    })
}

fn collect(
    rows: rusqlite::Result<impl Iterator<Item = rusqlite::Result<StoredEvent>>>,
) -> Result<Vec<StoredEvent>, ReadError> {
    rows.map_err(failed)?.collect::<rusqlite::Result<_>>().map_err(failed)
}

/// SQLite's integers are signed; what no log can reach compares like the largest of them.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn missing_event(index: u64) -> ReadError {
    ReadError(format!(
        "event {index} is missing from its file, which something else must have changed"
    ))
}

fn failed(error: rusqlite::Error) -> ReadError {
    ReadError(super::failure::in_words(&error))
}

fn closed() -> ReadError {
    ReadError("it is closed".to_owned())
}
