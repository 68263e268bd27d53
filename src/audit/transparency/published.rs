//! The file of published checkpoints, `checkpoints.db`: what the world has seen. Each is on stable storage before
//! it leaves, none is ever changed or removed, and the file is never made anew over a damaged or a lost one.

use super::merkle::Hash;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `PRAGMA application_id` ("GLCP").
const APPLICATION_ID: i32 = 0x474c_4350;
/// `PRAGMA user_version` of the table below.
const VERSION: i32 = 1;
/// How long a statement waits for a lock that another process holds.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// `published_at` is Unix time in microseconds: when it was first published, which nobody has signed.
const SCHEMA: &str = "
    CREATE TABLE checkpoint (
        size INTEGER PRIMARY KEY,
        root BLOB NOT NULL,
        note TEXT NOT NULL,
        published_at INTEGER NOT NULL
    ) STRICT;";

/// A checkpoint as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCheckpoint {
    /// How many events it is over.
    pub size: u64,
    /// The root that it was made of.
    pub root: Vec<u8>,
    /// The signed note, byte for byte.
    pub note: String,
}

/// The file.
pub(super) struct PublishedFile {
    connection: Connection,
}

impl PublishedFile {
    /// Opens the file that was made before; none when there is none, and none is made. A file without its table is
    /// none: nothing was ever published in it.
    pub fn open_existing(path: &Path) -> rusqlite::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(path, OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        if is_empty(&connection)? {
            return Ok(None);
        }
        durable(&connection)?;
        check(&connection)?;
        Ok(Some(Self { connection }))
    }

    /// Opens the file, or makes it. When this returns a file that it made is on stable storage.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        // SQLite would let everybody read it. Whatever is wrong here SQLite meets too, and says in its own words.
        let _ = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        durable(&connection)?;
        if is_empty(&connection)? {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
            sync_folder_of(path)?;
        }
        check(&connection)?;
        Ok(Self { connection })
    }

    /// Opens the file without a right to change it; none as `open_existing` has none.
    pub fn open_read_only(path: &Path) -> rusqlite::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        if is_empty(&connection)? {
            return Ok(None);
        }
        check(&connection)?;
        Ok(Some(Self { connection }))
    }

    /// The one over the most events.
    pub fn newest(&self) -> rusqlite::Result<Option<PublishedCheckpoint>> {
        let mut read = self
            .connection
            .prepare_cached("SELECT size, root, note FROM checkpoint ORDER BY size DESC LIMIT 1")?;
        read.query_row([], published).optional()
    }

    /// The one over so many events.
    pub fn of_size(&self, size: u64) -> rusqlite::Result<Option<PublishedCheckpoint>> {
        let mut read = self
            .connection
            .prepare_cached("SELECT size, root, note FROM checkpoint WHERE size = ?1")?;
        read.query_row([size.cast_signed()], published).optional()
    }

    /// All, the smallest first.
    pub fn for_each(&self, mut each: impl FnMut(PublishedCheckpoint)) -> rusqlite::Result<()> {
        let mut read = self
            .connection
            .prepare("SELECT size, root, note FROM checkpoint ORDER BY size")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            each(published(row)?);
        }
        Ok(())
    }

    /// Keeps one; when this returns it is on stable storage.
    pub fn keep(&self, size: u64, root: &Hash, note: &str) -> rusqlite::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO checkpoint VALUES (?1, ?2, ?3, ?4)")?;
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        insert.execute(params![size.cast_signed(), root, note, micros])?;
        Ok(())
    }
}

/// Whoever has seen a checkpoint must find it here after any crash.
fn durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // And whoever copies this file alone must have them all: each is moved into it at once.
    connection.pragma_update(None, "wal_autocheckpoint", 1)
}

/// A file whose name is not on stable storage can be gone after a crash, whatever was written into it.
fn sync_folder_of(path: &Path) -> rusqlite::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| rusqlite::Error::InvalidParameterName(error.to_string()))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0)
}

fn published(row: &rusqlite::Row<'_>) -> rusqlite::Result<PublishedCheckpoint> {
    Ok(PublishedCheckpoint {
        size: row.get::<_, i64>(0)?.cast_unsigned(),
        root: row.get(1)?,
        note: row.get(2)?,
    })
}

fn check(connection: &Connection) -> rusqlite::Result<()> {
    let value = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    if (value("application_id")?, value("user_version")?) != (APPLICATION_ID, VERSION) {
        let text = "not the published checkpoints of this version's log";
        return Err(rusqlite::Error::InvalidParameterName(text.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_is_kept_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints.db");
        let file = PublishedFile::open(&path).unwrap();
        assert_eq!(file.newest().unwrap(), None);
        file.keep(7, &[7; 32], "seven").unwrap();
        file.keep(3, &[3; 32], "three").unwrap();
        assert!(file.keep(7, &[8; 32], "another").is_err());
        drop(file);
        let file = PublishedFile::open(&path).unwrap();
        assert_eq!(file.newest().unwrap().unwrap().note, "seven");
        assert_eq!(file.of_size(3).unwrap().unwrap().note, "three");
        assert_eq!(file.of_size(4).unwrap(), None);
        let mut sizes = Vec::new();
        file.for_each(|checkpoint| sizes.push(checkpoint.size)).unwrap();
        assert_eq!(sizes, [3, 7]);
    }

    #[test]
    fn a_file_that_is_lost_or_emptied_is_not_made_again_by_whoever_expects_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints.db");
        assert!(PublishedFile::open_existing(&path).unwrap().is_none());
        assert!(!path.exists());
        std::fs::write(&path, []).unwrap();
        assert!(PublishedFile::open_existing(&path).unwrap().is_none());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        drop(PublishedFile::open(&path).unwrap());
        assert!(PublishedFile::open_existing(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_of_something_else_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE other (a)")
            .unwrap();
        assert!(PublishedFile::open(&path).is_err());
        std::fs::write(&path, [b'x'; 4_096]).unwrap();
        assert!(PublishedFile::open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), [b'x'; 4_096]);
    }
}
