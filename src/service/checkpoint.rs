//! The projections' state and how far they have read, saved beside the log: a start folds only what came
//! since. Safe to delete: it is built again from the log.

use crate::event_store::{Direction, EventStore, ReadError};
use crate::service::live_state::Snapshot;
use grantlog_projections::values::{ApiId, ApplicationId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Raised when the saved form changes: another one is discarded and built again.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE application (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE api (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE single (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
";

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// SQLite said no.
    #[error("the projections' checkpoint {path} cannot be used: {source}; it is safe to delete")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
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

/// How far the saved state has read, and the event it read last: what tells this log from another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Position {
    events: u64,
    last_event_sha256: [u8; 32],
}

/// The file that the state is saved in.
pub struct Checkpoint {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    position: u64,
}

impl Checkpoint {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let connection = Connection::open(path)
            .and_then(|connection| prepare(&connection).map(|()| connection))
            .map_err(|source| CheckpointError::Database {
                path: path.into(),
                source,
            })?;
        Ok(Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
            position: 0,
        })
    }

    /// Opens the file for reading only: it must be there, and whoever writes it goes on.
    pub fn open_existing(path: &Path) -> Result<Self, CheckpointError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|source| CheckpointError::Database {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
            position: 0,
        })
    }

    /// The saved state and how many events it has read, if it was built from this log.
    pub async fn saved_for(&self, store: &dyn EventStore) -> Result<Option<(Snapshot, u64)>, CheckpointError> {
        match self.with(load).map_err(|source| self.failed(source))? {
            Some((snapshot, position)) if self.fits(&position, store).await? => Ok(Some((snapshot, position.events))),
            _ => Ok(None),
        }
    }

    /// How many events the saved state has read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The saved state, if it was built from this log; else an empty one, and the file is emptied too.
    pub async fn load_for(&mut self, store: &dyn EventStore) -> Result<(Snapshot, u64), CheckpointError> {
        if let Some((snapshot, events)) = self.saved_for(store).await? {
            self.position = events;
            return Ok((snapshot, events));
        }
        if store.log_size() > 0 {
            tracing::warn!(
                log_size = store.log_size(),
                "there is no checkpoint of this log: building the projections from zero"
            );
        }
        self.with(clear).map_err(|source| self.failed(source))?;
        Ok((Snapshot::default(), 0))
    }

    /// Saves what has changed. On failure the changes come back, to be saved another time.
    pub async fn save(
        &mut self,
        snapshot: Snapshot,
        changed: Changed,
        events: u64,
        last_event_sha256: [u8; 32],
    ) -> Result<(), (CheckpointError, Changed)> {
        let connection = self.connection.clone();
        let saving = tokio::task::spawn_blocking(move || {
            let position = Position {
                events,
                last_event_sha256,
            };
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            save(&mut connection, &snapshot, &changed, &position).map_err(|source| (source, changed))
        });
        match saving.await {
            Ok(Ok(())) => {
                self.position = events;
                Ok(())
            }
            Ok(Err((source, changed))) => Err((self.failed(source), changed)),
            // Only a panic or the runtime's end gets here: the next start folds from the checkpoint before.
            Err(_) => Ok(()),
        }
    }

    async fn fits(&self, position: &Position, store: &dyn EventStore) -> Result<bool, ReadError> {
        if position.events == 0 || position.events > store.log_size() {
            return Ok(false);
        }
        let last = store.read_all(position.events - 1, Direction::Forwards, 1).await?;
        Ok(last
            .first()
            .is_some_and(|event| Sha256::digest(&event.bytes)[..] == position.last_event_sha256))
    }

    fn with<T>(&self, work: fn(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        work(&mut self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn failed(&self, source: rusqlite::Error) -> CheckpointError {
        CheckpointError::Database {
            path: self.path.clone(),
            source,
        }
    }
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

fn load(connection: &mut Connection) -> rusqlite::Result<Option<(Snapshot, Position)>> {
    let Some(position) = single(connection, "position")? else {
        return Ok(None);
    };
    let mut snapshot = Snapshot::default();
    for application in states(connection, "SELECT state FROM application")? {
        snapshot.directory.restore_application(application);
    }
    for api in states(connection, "SELECT state FROM api")? {
        snapshot.directory.restore_api(api);
    }
    snapshot.key_ring = Arc::new(single(connection, "key_ring")?.unwrap_or_default());
    snapshot.service_run = single(connection, "service_run")?.unwrap_or_default();
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
    serde_json::to_vec(state).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn parse<T: DeserializeOwned>(state: &[u8]) -> rusqlite::Result<T> {
    serde_json::from_slice(state)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error.into()))
}
