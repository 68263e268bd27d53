//! The projections' state and how far they have read, saved beside the log: a start folds only what came
//! since. Safe to delete, and removed when it is damaged: it is built again from the log.

use crate::event_store::{Direction, EventStore, ReadError};
use crate::rebuildable;
use crate::service::live_state::Snapshot;
use grantlog_projections::values::{ApiId, ApplicationId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

/// Raised when the saved form changes: another one is discarded and built again.
const FORMAT: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE application (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE api (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE single (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
";

/// Each saved state ends with the CRC-32 of what is before it: SQLite would not notice a flipped bit, and one
/// is enough to enable an application.
const CHECKSUM_BYTES: usize = 4;

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// SQLite said no.
    #[error("the projections' checkpoint {path} cannot be used: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A damaged file cannot be removed.
    #[error("the projections' checkpoint {path} is damaged and cannot be removed: {source}")]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log could not be compared with it.
    #[error(transparent)]
    Log(#[from] ReadError),
}

/// What folds have touched since the last save.
#[derive(Debug, Default)]
pub struct Changed {
    /// These applications.
    pub applications: HashSet<ApplicationId>,
    /// These APIs.
    pub apis: HashSet<ApiId>,
    /// The key ring.
    pub key_ring: bool,
    /// The starts and stops.
    pub service_run: bool,
}

impl Changed {
    /// Takes in what others have touched.
    pub fn merge(&mut self, other: Self) {
        self.applications.extend(other.applications);
        self.apis.extend(other.apis);
        self.key_ring |= other.key_ring;
        self.service_run |= other.service_run;
    }

    /// Everything that there is.
    pub fn all(snapshot: &Snapshot) -> Self {
        Self {
            applications: snapshot
                .directory
                .applications_after(None)
                .map(|found| found.id)
                .collect(),
            apis: snapshot.directory.apis_after(None).map(|found| found.id).collect(),
            key_ring: true,
            service_run: true,
        }
    }
}

/// How far the saved state has read, and the event it read last: what tells this log from another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Position {
    events: u64,
    last_event_sha256: [u8; 32],
}

/// A save under way, on a thread of its own. On failure the changes come back, to be saved another time; a panic
/// takes them with it.
pub type Saving = JoinHandle<Result<(), (CheckpointError, Changed)>>;

/// The file that the state is saved in.
pub struct Checkpoint {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Checkpoint {
    /// Opens the file, or makes it; a damaged one is made anew.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let connection = match connect(path) {
            Err(error) if rebuildable::is_damage(&error) => renew(path, &error)?,
            opened => opened.map_err(|source| failed(path, source))?,
        };
        Ok(Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Opens the file for reading only, if there is one; whoever writes it goes on.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, CheckpointError> {
        if path.try_exists().is_ok_and(|exists| !exists) {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|source| failed(path, source))?;
        Ok(Some(Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
        }))
    }

    /// The saved state and how many events it has read, if it was built from this log.
    pub async fn saved_for(&self, store: &dyn EventStore) -> Result<Option<(Snapshot, u64)>, CheckpointError> {
        let saved = self.with(load).map_err(|source| failed(&self.path, source))?;
        Ok(match saved {
            Some((snapshot, position)) if misfit(&position, store).await?.is_none() => {
                Some((snapshot, position.events))
            }
            _ => None,
        })
    }

    /// The saved state, if it was built from this log; else an empty one, and the file is emptied too.
    pub async fn load_for(&self, store: &dyn EventStore) -> Result<(Snapshot, u64), CheckpointError> {
        let saved = match self.with(load) {
            Err(error) if rebuildable::is_damage(&error) => {
                let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
                renew_open(&mut connection, &self.path, &error)?;
                None
            }
            loaded => loaded.map_err(|source| failed(&self.path, source))?,
        };
        let reason = match saved {
            None => None,
            Some((snapshot, position)) => match misfit(&position, store).await? {
                None => return Ok((snapshot, position.events)),
                misfit => misfit,
            },
        };
        let log_size = store.log_size();
        if let Some(reason) = reason {
            tracing::warn!(log_size, "{reason}: the projections are built again from the log");
        } else if log_size > 0 {
            tracing::warn!(
                log_size,
                "there is no checkpoint of this log: the projections are built again from it"
            );
        }
        self.with(clear).map_err(|source| failed(&self.path, source))?;
        Ok((Snapshot::default(), 0))
    }

    /// Begins to save what has changed. It may take as long as the file is locked; nobody has to wait for it.
    pub fn save(&self, snapshot: Snapshot, changed: Changed, events: u64, last_event_sha256: [u8; 32]) -> Saving {
        let (connection, path) = (self.connection.clone(), self.path.clone());
        tokio::task::spawn_blocking(move || {
            let position = Position {
                events,
                last_event_sha256,
            };
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let saved = match save(&mut connection, &snapshot, &changed, &position) {
                Err(error) if rebuildable::is_damage(&error) => {
                    renew_open(&mut connection, &path, &error).and_then(|()| {
                        let all = Changed::all(&snapshot);
                        save(&mut connection, &snapshot, &all, &position).map_err(|source| failed(&path, source))
                    })
                }
                saved => saved.map_err(|source| failed(&path, source)),
            };
            saved.map_err(|error| (error, changed))
        })
    }

    /// Gives up at once when the file is locked.
    #[cfg(test)]
    pub fn without_patience(self) -> Self {
        let impatient: fn(&mut Connection) -> rusqlite::Result<()> =
            |connection| connection.busy_timeout(std::time::Duration::ZERO);
        self.with(impatient).unwrap();
        self
    }

    fn with<T>(&self, work: fn(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        work(&mut self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn failed(path: &Path, source: rusqlite::Error) -> CheckpointError {
    CheckpointError::Database {
        path: path.into(),
        source,
    }
}

/// Why the saved state is not this log's, if it is not.
async fn misfit(position: &Position, store: &dyn EventStore) -> Result<Option<String>, ReadError> {
    let (events, log_size) = (position.events, store.log_size());
    if events > log_size {
        return Ok(Some(format!(
            "the projections have read {events} events and the log has {log_size}: it was rolled back or replaced"
        )));
    }
    let Some(last) = events.checked_sub(1) else {
        return Ok(Some("the projections' checkpoint has read nothing".into()));
    };
    let stored = store.read_all(last, Direction::Forwards, 1).await?;
    let is_same = stored
        .first()
        .is_some_and(|event| Sha256::digest(&event.bytes)[..] == position.last_event_sha256);
    Ok((!is_same).then(|| format!("event {last} of the log is not the one that the projections have read")))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = rebuildable::open(path)?;
    prepare(&connection)?;
    Ok(connection)
}

/// A new file in the place of a damaged one.
fn renew(path: &Path, damage: &rusqlite::Error) -> Result<Connection, CheckpointError> {
    tracing::warn!(
        path = %path.display(),
        %damage,
        "the projections' checkpoint is damaged: it is removed and built again from the log"
    );
    rebuildable::remove(path).map_err(|source| CheckpointError::Remove {
        path: path.into(),
        source,
    })?;
    connect(path).map_err(|source| failed(path, source))
}

/// The same while the damaged file is open. It is closed first: closing removes the write-ahead log of that
/// name, which must not be the new one's.
fn renew_open(open: &mut Connection, path: &Path, damage: &rusqlite::Error) -> Result<(), CheckpointError> {
    *open = Connection::open_in_memory().map_err(|source| failed(path, source))?;
    *open = renew(path, damage)?;
    Ok(())
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A lost checkpoint costs a replay; a torn one is impossible in WAL.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if format == FORMAT {
        return Ok(());
    }
    for table in ["application", "api", "single"] {
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {table}"))?;
    }
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "user_version", FORMAT)
}

fn clear(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM application; DELETE FROM api; DELETE FROM single;")
}

/// In one look: a server may be saving, when it is another process that loads.
fn load(connection: &mut Connection) -> rusqlite::Result<Option<(Snapshot, Position)>> {
    let look = connection.transaction()?;
    let Some(position) = single(&look, "position")? else {
        return Ok(None);
    };
    let mut snapshot = Snapshot::default();
    for application in states(&look, "SELECT state FROM application")? {
        snapshot.directory.restore_application(application);
    }
    for api in states(&look, "SELECT state FROM api")? {
        snapshot.directory.restore_api(api);
    }
    snapshot.key_ring = Arc::new(single(&look, "key_ring")?.unwrap_or_default());
    snapshot.service_run = single(&look, "service_run")?.unwrap_or_default();
    Ok(Some((snapshot, position)))
}

fn save(
    connection: &mut Connection,
    snapshot: &Snapshot,
    changed: &Changed,
    position: &Position,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO application (id, state) VALUES (?1, ?2)")?;
        for id in &changed.applications {
            if let Some(application) = snapshot.directory.application(*id) {
                put.execute(params![id.0.as_bytes(), json(&**application)?])?;
            }
        }
        let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO api (id, state) VALUES (?1, ?2)")?;
        for id in &changed.apis {
            if let Some(api) = snapshot.directory.api(*id) {
                put.execute(params![id.0.as_bytes(), json(&**api)?])?;
            }
        }
        let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO single (name, state) VALUES (?1, ?2)")?;
        if changed.key_ring {
            put.execute(params!["key_ring", json(&*snapshot.key_ring)?])?;
        }
        if changed.service_run {
            put.execute(params!["service_run", json(&snapshot.service_run)?])?;
        }
        put.execute(params!["position", json(position)?])?;
    }
    transaction.commit()
}

fn single<T: DeserializeOwned>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection
        .prepare_cached("SELECT state FROM single WHERE name = ?1")?
        .query_row([name], |row| row.get::<_, Vec<u8>>(0))
        .optional()?
        .map(|state| parse(&state))
        .transpose()
}

fn states<T: DeserializeOwned>(connection: &Connection, query: &str) -> rusqlite::Result<Vec<T>> {
    connection
        .prepare(query)?
        .query_map([], |row| row.get::<_, Vec<u8>>(0))?
        .map(|state| parse(&state?))
        .collect()
}

fn json<T: Serialize>(state: &T) -> rusqlite::Result<Vec<u8>> {
    let mut saved = serde_json::to_vec(state).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    saved.extend_from_slice(&crc32fast::hash(&saved).to_be_bytes());
    Ok(saved)
}

fn parse<T: DeserializeOwned>(saved: &[u8]) -> rusqlite::Result<T> {
    let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error)
    };
    let Some((state, checksum)) = saved.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged("a saved state is cut off".into()));
    };
    if crc32fast::hash(state) != u32::from_be_bytes(*checksum) {
        return Err(damaged("a saved state does not have its checksum".into()));
    }
    serde_json::from_slice(state).map_err(|error| damaged(error.into()))
}
