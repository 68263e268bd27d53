//! The file that the uses are saved in: one row per application, and how far the log is folded in. Safe to delete.

use super::UsageError;
use crate::event_store::{EventStore, ReadError};
use crate::rebuildable;
use grantlog_projections::usage::{ApplicationUsage, Usage};
use grantlog_projections::values::ApplicationId;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;
use uuid::Uuid;

/// Raised when the saved form, or what is counted, changes: another one is dropped and built again.
const FORMAT: i64 = 2;
/// What the write-ahead log is cut back to after a checkpoint, in bytes.
const JOURNAL_BYTES: i64 = 16 << 20;
/// Each saved row ends with the CRC-32 of what is before it: SQLite would not notice a flipped bit.
const CHECKSUM_BYTES: usize = 4;
/// Events from which on it is worth telling that the uses are built from the log.
const WORTH_TELLING: u64 = 10_000;

const SCHEMA: &str = "
    CREATE TABLE application (id BLOB PRIMARY KEY, usage BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE position (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        events INTEGER NOT NULL,
        last_event_sha256 BLOB NOT NULL
    ) STRICT;";

/// The one connection that writes.
pub(super) struct Database {
    connection: Connection,
}

/// How far the saved uses go.
struct Position {
    events: u64,
    last_event_sha256: Vec<u8>,
}

/// Opens the file and reads what it has of this log; what is of no use is dropped first.
pub(super) async fn open_for(path: &Path, store: &dyn EventStore) -> Result<(Database, Usage, u64), UsageError> {
    let failed = |source| UsageError::Database {
        path: path.into(),
        source,
    };
    let reason = match connect(path).and_then(|connection| Ok((load(&connection)?, connection))) {
        Ok((saved, connection)) => {
            let database = Database { connection };
            match saved {
                None if store.log_size() < WORTH_TELLING => return Ok((database, Usage::default(), 0)),
                None => {
                    let log_size = store.log_size();
                    tracing::warn!(path = %path.display(), log_size, "there is no usage of this log: it is built from it");
                    return Ok((database, Usage::default(), 0));
                }
                Some((usage, position)) => match misfit(&position, store).await? {
                    None => return Ok((database, usage, position.events)),
                    Some(reason) => reason,
                },
            }
        }
        Err(error) if rebuildable::is_damage(&error) => error.to_string(),
        Err(error) => return Err(failed(error)),
    };
    tracing::warn!(path = %path.display(), reason, "the usage is dropped and built again from the log");
    rebuildable::remove(path).map_err(|source| UsageError::Remove {
        path: path.into(),
        source,
    })?;
    let connection = connect(path).map_err(failed)?;
    Ok((Database { connection }, Usage::default(), 0))
}

/// What is saved of this log, if anything; the file is only read.
pub(super) async fn saved_for(path: &Path, store: &dyn EventStore) -> Result<Option<(Usage, u64)>, UsageError> {
    let failed = |source| UsageError::Database {
        path: path.into(),
        source,
    };
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let Some((usage, position)) = load(&connection).map_err(failed)? else {
        return Ok(None);
    };
    Ok(match misfit(&position, store).await? {
        None => Some((usage, position.events)),
        Some(_) => None,
    })
}

impl Database {
    /// Saves these applications and how far the log is folded in, all or nothing.
    pub fn save(
        &mut self,
        usage: &Usage,
        changed: &BTreeSet<ApplicationId>,
        events: u64,
        last_event: &[u8],
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut put =
                transaction.prepare_cached("INSERT OR REPLACE INTO application (id, usage) VALUES (?1, ?2)")?;
            for id in changed {
                if let Some(application) = usage.application(*id) {
                    put.execute(params![id.0.as_bytes(), encoded(application)?])?;
                }
            }
            transaction
                .prepare_cached("INSERT OR REPLACE INTO position (one, events, last_event_sha256) VALUES (1, ?1, ?2)")?
                .execute(params![events.cast_signed(), &Sha256::digest(last_event)[..]])?;
        }
        transaction.commit()
    }
}

/// Why the saved uses are not this log's, if they are not: the data folder was rolled back, or is another.
async fn misfit(position: &Position, store: &dyn EventStore) -> Result<Option<String>, ReadError> {
    let (events, log_size) = (position.events, store.log_size());
    let Some(last) = events.checked_sub(1) else {
        return Ok(Some("it has read nothing".into()));
    };
    if events > log_size {
        return Ok(Some(format!(
            "it has read {events} events and the log has {log_size}: was the log rolled back?"
        )));
    }
    let stored = store.read_indexes(&[last]).await?;
    let is_same = stored
        .first()
        .is_some_and(|event| Sha256::digest(&event.bytes)[..] == position.last_event_sha256);
    Ok((!is_same).then(|| format!("event {last} of the log is not the one that it has read")))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = rebuildable::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A lost save is folded from the log again: only the file's integrity counts here.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if format != FORMAT {
        connection.execute_batch("DROP TABLE IF EXISTS application; DROP TABLE IF EXISTS position;")?;
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
    }
    Ok(connection)
}

/// In one look: a server may be saving, when it is another process that loads.
fn load(connection: &Connection) -> rusqlite::Result<Option<(Usage, Position)>> {
    let look = connection.unchecked_transaction()?;
    let position = look
        .query_row("SELECT events, last_event_sha256 FROM position", [], |row| {
            Ok(Position {
                events: row.get::<_, i64>(0)?.cast_unsigned(),
                last_event_sha256: row.get(1)?,
            })
        })
        .optional()?;
    let Some(position) = position else { return Ok(None) };
    let mut usage = Usage::default();
    let mut read = look.prepare("SELECT id, usage FROM application")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let id = Uuid::from_slice(row.get_ref(0)?.as_blob()?).map_err(|error| damaged(error.into()))?;
        usage.restore(ApplicationId(id), decoded(row.get_ref(1)?.as_blob()?)?);
    }
    Ok(Some((usage, position)))
}

fn encoded(usage: &ApplicationUsage) -> rusqlite::Result<Vec<u8>> {
    let mut saved = serde_json::to_vec(usage).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    saved.extend_from_slice(&crc32fast::hash(&saved).to_be_bytes());
    Ok(saved)
}

fn decoded(saved: &[u8]) -> rusqlite::Result<ApplicationUsage> {
    match saved.split_last_chunk::<CHECKSUM_BYTES>() {
        Some((usage, checksum)) if crc32fast::hash(usage) == u32::from_be_bytes(*checksum) => {
            serde_json::from_slice(usage).map_err(|error| damaged(error.into()))
        }
        _ => Err(damaged("a saved row does not have its checksum".into())),
    }
}

fn damaged(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error)
}
