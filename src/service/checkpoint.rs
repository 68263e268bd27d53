//! The projections' state and how far they have read, saved beside the log: a start folds only what came
//! since. Safe to delete, and removed when it is damaged: it is built again from the log.

use crate::event_store::{Direction, EventStore, ReadError};
use crate::rebuildable;
use crate::service::snapshot::{Changed, Snapshot};
use grantlog_projections::tokens::TouchedToken;
use grantlog_projections::values::{ApplicationId, SecretId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Raised when the saved form changes: another one is discarded and built again.
const FORMAT: i64 = 4;

/// Tables with a row for each thing of a kind, and the one for what there is one of.
const TABLES: [&str; 9] = [
    "application",
    "api",
    "revoked_token",
    "revoked_until",
    "revoked_secret",
    "reference_token",
    "session",
    "reported_calls",
    "single",
];

const SCHEMA: &str = "
    CREATE TABLE application (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE api (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE revoked_token (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE revoked_until (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE revoked_secret (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE reference_token (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE session (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE reported_calls (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
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

/// How far the saved state has read, and the event it read last: what tells this log from another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Position {
    events: u64,
    last_event_sha256: [u8; 32],
    /// Rows of things that are asked for by what is not there: a lost one would give a revoked token back.
    rows: usize,
}

/// How many rows of that kind a state has.
fn rows(snapshot: &Snapshot) -> usize {
    snapshot.directory.application_count() + snapshot.tokens.len() + snapshot.sessions.len()
}

/// A save under way, on a thread of its own. On failure the changes come back, to be saved another time; a panic
/// takes them with it.
pub type Saving = JoinHandle<Result<(), (CheckpointError, Box<Changed>)>>;

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
                rows: rows(&snapshot),
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
            saved.map_err(|error| (error, Box::new(changed)))
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
    for table in TABLES {
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {table}"))?;
    }
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "user_version", FORMAT)
}

fn clear(connection: &mut Connection) -> rusqlite::Result<()> {
    let deletions = TABLES.map(|table| format!("DELETE FROM {table};"));
    connection.execute_batch(&deletions.concat())
}

/// In one look: a server may be saving, when it is another process that loads.
fn load(connection: &mut Connection) -> rusqlite::Result<Option<(Snapshot, Position)>> {
    let look = connection.transaction()?;
    let Some(position) = single::<Position>(&look, "position")? else {
        return Ok(None);
    };
    let mut snapshot = Snapshot::default();
    for (_, application) in states(&look, "application")? {
        snapshot.directory.restore_application(application);
    }
    for (_, api) in states(&look, "api")? {
        snapshot.directory.restore_api(api);
    }
    for (id, revoked) in states(&look, "revoked_token")? {
        snapshot.tokens.restore_revoked(uuid(&id)?, revoked);
    }
    for (id, until) in states(&look, "revoked_until")? {
        snapshot.tokens.restore_application(ApplicationId(uuid(&id)?), until);
    }
    for (id, revoked_at) in states(&look, "revoked_secret")? {
        let (application, secret) = id.split_at_checked(16).unwrap_or_default();
        let (application, secret) = (ApplicationId(uuid(application)?), SecretId(uuid(secret)?));
        snapshot.tokens.restore_secret(application, secret, revoked_at);
    }
    for (_, token) in states(&look, "reference_token")? {
        snapshot.tokens.restore_reference(token);
    }
    for (_, session) in states(&look, "session")? {
        snapshot.sessions.restore(session);
    }
    for (id, remembered) in states(&look, "reported_calls")? {
        snapshot.reported_calls.restore(ApplicationId(uuid(&id)?), remembered);
    }
    snapshot.key_ring = Arc::new(single(&look, "key_ring")?.unwrap_or_default());
    snapshot.service_run = single(&look, "service_run")?.unwrap_or_default();
    if rows(&snapshot) != position.rows {
        return Err(damaged("rows of the saved state are lost".into()));
    }
    Ok(Some((snapshot, position)))
}

fn save(
    connection: &mut Connection,
    snapshot: &Snapshot,
    changed: &Changed,
    position: &Position,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for id in &changed.applications {
        let application = snapshot.directory.application(*id);
        put(
            &transaction,
            "application",
            id.0.as_bytes(),
            application.map(|found| &**found),
        )?;
    }
    for id in &changed.apis {
        let api = snapshot.directory.api(*id);
        put(&transaction, "api", id.0.as_bytes(), api.map(|found| &**found))?;
    }
    for touched in &changed.tokens {
        put_token(&transaction, snapshot, *touched)?;
    }
    for id in &changed.sessions {
        let session = snapshot.sessions.get(*id);
        put(&transaction, "session", id.as_bytes(), session.map(|found| &**found))?;
    }
    for id in &changed.reporters {
        let remembered = snapshot.reported_calls.of(*id);
        put(&transaction, "reported_calls", id.0.as_bytes(), remembered)?;
    }
    {
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

fn put_token(connection: &Connection, snapshot: &Snapshot, touched: TouchedToken) -> rusqlite::Result<()> {
    let tokens = &snapshot.tokens;
    match touched {
        TouchedToken::Revoked(jti) => put(connection, "revoked_token", jti.as_bytes(), tokens.revoked(jti)),
        TouchedToken::Application(id) => {
            let until = tokens.revoked_until(id);
            put(connection, "revoked_until", id.0.as_bytes(), until.as_ref())
        }
        TouchedToken::Secret(application, secret) => {
            let id = [*application.0.as_bytes(), *secret.0.as_bytes()].concat();
            let revoked_at = tokens.secret_revoked_at(application, secret);
            put(connection, "revoked_secret", &id, revoked_at.as_ref())
        }
        TouchedToken::Reference(id) => {
            let token = tokens.reference(id).map(|found| &**found);
            put(connection, "reference_token", id.as_bytes(), token)
        }
    }
}

/// Saves a thing as it is now, or that it is gone.
fn put<T: Serialize>(connection: &Connection, table: &str, id: &[u8], state: Option<&T>) -> rusqlite::Result<()> {
    match state {
        Some(state) => connection
            .prepare_cached(&format!("INSERT OR REPLACE INTO {table} (id, state) VALUES (?1, ?2)"))?
            .execute(params![id, json(state)?])?,
        None => connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?
            .execute([id])?,
    };
    Ok(())
}

fn single<T: DeserializeOwned>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection
        .prepare_cached("SELECT state FROM single WHERE name = ?1")?
        .query_row([name], |row| row.get::<_, Vec<u8>>(0))
        .optional()?
        .map(|state| parse(&state))
        .transpose()
}

/// The rows of a table: ids and states.
fn states<T: DeserializeOwned>(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(Vec<u8>, T)>> {
    connection
        .prepare(&format!("SELECT id, state FROM {table}"))?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?
        .map(|row| row.and_then(|(id, state)| Ok((id, parse(&state)?))))
        .collect()
}

fn uuid(id: &[u8]) -> rusqlite::Result<Uuid> {
    Uuid::from_slice(id).map_err(|error| damaged(error.into()))
}

fn json<T: Serialize>(state: &T) -> rusqlite::Result<Vec<u8>> {
    let mut saved = serde_json::to_vec(state).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    saved.extend_from_slice(&crc32fast::hash(&saved).to_be_bytes());
    Ok(saved)
}

fn parse<T: DeserializeOwned>(saved: &[u8]) -> rusqlite::Result<T> {
    let Some((state, checksum)) = saved.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged("a saved state is cut off".into()));
    };
    if crc32fast::hash(state) != u32::from_be_bytes(*checksum) {
        return Err(damaged("a saved state does not have its checksum".into()));
    }
    serde_json::from_slice(state).map_err(|error| damaged(error.into()))
}

fn damaged(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::MemoryLog;
    use std::path::Path;

    /// A log with one of everything that is saved, and what it folds to.
    async fn everything() -> (Arc<MemoryLog>, Snapshot, Changed, [u8; 32]) {
        let log = MemoryLog::of(&[]);
        for file in [
            "ApplicationRegistered.json",
            "ApiRegistered.json",
            "SigningKeyAdded.json",
            "ServiceStarted.json",
            "TokenRevoked.json",
            "TokensRevoked.json",
            "SecretRevoked.revoke_tokens.json",
            "ReferenceTokenIssued.json",
            "SessionStarted.json",
            "ApiCallAuthorized.reported.json",
        ] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
            log.add_bytes(std::fs::read(path).unwrap().trim_ascii_end().to_vec());
        }
        let (mut snapshot, mut changed) = (Snapshot::default(), Changed::default());
        let events = log.read_all(0, Direction::Forwards, 100).await.unwrap();
        for event in &events {
            snapshot.fold(event, &mut changed).unwrap();
        }
        let last = Sha256::digest(&events.last().unwrap().bytes).into();
        (log, snapshot, changed, last)
    }

    #[tokio::test]
    async fn everything_that_is_saved_is_loaded_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("projections.db");
        let (log, snapshot, changed, last) = everything().await;
        let checkpoint = Checkpoint::open(&path).unwrap();
        let saved = checkpoint.save(snapshot.clone(), changed, log.log_size(), last).await;
        assert!(saved.unwrap().is_ok());
        let connection = rusqlite::Connection::open(&path).unwrap();
        for table in TABLES {
            let count = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
            assert!(count.unwrap() > 0, "nothing of {table} is in this test");
        }
        let loaded = Checkpoint::open(&path).unwrap().load_for(&*log).await.unwrap();
        assert_eq!(loaded, (snapshot, log.log_size()));
    }

    #[tokio::test]
    async fn what_is_gone_is_gone_from_the_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("projections.db");
        let (log, mut snapshot, changed, last) = everything().await;
        let checkpoint = Checkpoint::open(&path).unwrap();
        let saved = checkpoint.save(snapshot.clone(), changed, log.log_size(), last).await;
        assert!(saved.unwrap().is_ok());
        let ended = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/SessionEnded.json");
        log.add_bytes(std::fs::read(ended).unwrap().trim_ascii_end().to_vec());
        let event = log.read_all(log.log_size() - 1, Direction::Forwards, 1).await.unwrap();
        let mut changed = Changed::default();
        snapshot.fold(&event[0], &mut changed).unwrap();
        assert!(snapshot.sessions.is_empty());
        let last = Sha256::digest(&event[0].bytes).into();
        let saved = checkpoint.save(snapshot.clone(), changed, log.log_size(), last).await;
        assert!(saved.unwrap().is_ok());
        let loaded = Checkpoint::open(&path).unwrap().saved_for(&*log).await.unwrap();
        assert_eq!(loaded, Some((snapshot, log.log_size())));
    }

    /// A revocation that is lost would let a token in again, and nobody would notice.
    #[tokio::test]
    async fn a_file_that_has_lost_a_row_is_built_again_from_the_log() {
        for table in [
            "application",
            "revoked_token",
            "revoked_until",
            "revoked_secret",
            "reference_token",
            "session",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("projections.db");
            let (log, snapshot, changed, last) = everything().await;
            let checkpoint = Checkpoint::open(&path).unwrap();
            let saved = checkpoint.save(snapshot, changed, log.log_size(), last).await;
            assert!(saved.unwrap().is_ok());
            drop(checkpoint);
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection.execute(&format!("DELETE FROM {table}"), []).unwrap();
            drop(connection);
            let loaded = Checkpoint::open(&path).unwrap().load_for(&*log).await.unwrap();
            assert_eq!(loaded, (Snapshot::default(), 0), "{table}");
        }
    }
}
