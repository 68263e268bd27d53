//! Opening a log's file: one writer at a time, a schema this program knows, and nothing doubtful left
//! in the write-ahead log.

use super::{Durability, Path, PathBuf};
use crate::file_lock;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{File, OpenOptions};
use std::io;
use std::time::Duration;

/// 3.51.3 repaired the WAL-reset corruption, 3.52.0 was withdrawn.
const OLDEST_SQLITE: i32 = 3_053_000;
/// `PRAGMA application_id` of an event log ("GLOG"): tells it from any other SQLite file.
const APPLICATION_ID: i32 = 0x474c_4f47;
/// `PRAGMA user_version`: the schema below.
const SCHEMA_VERSION: i32 = 1;
/// Bytes of a page. For events of 600 bytes 4,096 wastes 99 bytes per event, 8,192 only 45; 16,384 saves
/// no more and writes more for a single event (measured).
const PAGE_BYTES: i32 = 8_192;
/// The writer's page cache, in KiB: the inner pages and the recently used leaves of the stream index.
const WRITER_CACHE_KIB: i32 = 16 * 1024;
/// How long a statement waits for a lock that another process holds.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Positions are written, not left to SQLite, so that they are dense and begin at 0. Event type, id, time
/// and stream name are in the bytes already and are not stored twice.
const SCHEMA: &str = "
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX events_by_stream ON events (stream, revision);
";

/// Why a log could not be opened. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store of this one, is writing to the log.
    #[error("the event log is in use: another process holds {}; two processes must never write to one log", .lock_file.display())]
    Locked {
        /// The file that the other process holds locked.
        lock_file: PathBuf,
    },
    /// The log was written by a newer program.
    #[error("the event log {} has schema version {found}, this program knows {SCHEMA_VERSION}: use the newer program that wrote it", .path.display())]
    NewerSchema {
        /// The log's file.
        path: PathBuf,
        /// The version that it says it has.
        found: i32,
    },
    /// The file is some other program's database.
    #[error("{} is a database, but not an event log of Grantlog", .path.display())]
    NotAnEventLog {
        /// The file.
        path: PathBuf,
    },
    /// The first event is not at index 0: someone has removed events.
    #[error("the event log {} begins at index {first} instead of 0: events are missing, restore it from a backup", .path.display())]
    NotDense {
        /// The log's file.
        path: PathBuf,
        /// The index of the first event that it holds.
        first: i64,
    },
    /// The file system cannot hold a write-ahead log (network file systems often cannot).
    #[error("the event log {} needs a local file system: SQLite's write-ahead log does not work there (journal mode is {mode})", .path.display())]
    NoWriteAheadLog {
        /// The log's file.
        path: PathBuf,
        /// The journal mode that SQLite uses instead.
        mode: String,
    },
    /// Some process keeps reading the log and thereby keeps its write-ahead log from being moved into the file.
    #[error("the event log {} is being read by another process that does not finish; stop it and start again", .path.display())]
    BeingRead {
        /// The log's file.
        path: PathBuf,
    },
    /// The program was linked with a SQLite that is not safe to use.
    #[error("SQLite {found} is too old: versions before 3.53 can corrupt a write-ahead log")]
    OldSqlite {
        /// The version that was linked.
        found: &'static str,
    },
    /// A file could not be made or locked, or the writer's thread not started.
    #[error("the event log {} cannot be opened: {source}", .path.display())]
    Io {
        /// The file in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite could not open, recover or read the file.
    #[error("the event log {} cannot be opened: {}", .path.display(), super::failure::in_words(.source))]
    Sqlite {
        /// The log's file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// An open log and how many events it holds.
pub(super) struct LogFile {
    pub(super) connection: Connection,
    pub(super) size: u64,
}

/// The exclusive right to write to a log: an advisory lock on a file beside it, which the system releases
/// however the process ends. The lock file stays: removing it would let two processes lock two files.
pub(super) struct LogLock {
    _locked: File,
}

impl LogLock {
    pub(super) fn take(log: &Path) -> Result<Self, OpenError> {
        let lock_file = beside(log, ".lock");
        let failed = |source| OpenError::Io {
            path: lock_file.clone(),
            source,
        };
        let file = private(&mut OpenOptions::new())
            .create(true)
            .open(&lock_file)
            .map_err(failed)?;
        match file_lock::lock(&file).map_err(failed)? {
            true => Ok(Self { _locked: file }),
            false => Err(OpenError::Locked { lock_file }),
        }
    }
}

/// Opens the log for its one writer, who must hold the [`LogLock`].
pub(super) fn open_for_writing(path: &Path, durability: Durability) -> Result<LogFile, OpenError> {
    let linked = rusqlite::version_number();
    if linked < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite {
            found: rusqlite::version(),
        });
    }
    // SQLite would make the file readable for all; `-wal` and `-shm` get the permissions of the file.
    match private(&mut OpenOptions::new()).create_new(true).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => {
            return Err(OpenError::Io {
                path: path.to_owned(),
                source,
            });
        }
    }
    let failed = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection
        .pragma_update(None, "page_size", PAGE_BYTES)
        .map_err(failed)?;
    check_identity(&connection, path)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog {
            path: path.to_owned(),
            mode,
        });
    }
    let synchronous = match durability {
        Durability::Full => "full",
        Durability::UnsafeNormal => "normal",
    };
    connection
        .pragma_update(None, "synchronous", synchronous)
        .map_err(failed)?;
    // The writer does it itself, when nobody waits for it and where a failure is noticed.
    connection
        .pragma_update(None, "wal_autocheckpoint", 0)
        .map_err(failed)?;
    // What is removed must not be found in the file afterwards.
    connection.pragma_update(None, "secure_delete", true).map_err(failed)?;
    connection
        .pragma_update(None, "cache_size", -WRITER_CACHE_KIB)
        .map_err(failed)?;
    if user_version(&connection).map_err(failed)? == 0 {
        create_schema(&mut connection).map_err(failed)?;
    }
    move_write_ahead_log(&connection, path)?;
    let size = size(&connection, path)?;
    Ok(LogFile { connection, size })
}

/// Opens the log without a right to change it.
pub(super) fn open_for_reading(path: &Path) -> Result<LogFile, OpenError> {
    let failed = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let connection = connect_reader(path).map_err(failed)?;
    check_identity(&connection, path)?;
    if user_version(&connection).map_err(failed)? == 0 {
        return Err(OpenError::NotAnEventLog { path: path.to_owned() });
    }
    let size = size(&connection, path)?;
    Ok(LogFile { connection, size })
}

/// A connection that can only read.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // Every connection stays with one thread at a time, so SQLite needs no mutex of its own.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    // After a failed commit nothing more may be written, and closing would write.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// A file for the owner's eyes only.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true).truncate(false)
}

fn beside(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn user_version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Refuses a file that is not ours before anything is written to it.
fn check_identity(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sqlite {
        path: path.to_owned(),
        source,
    };
    let application_id: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(failed)?;
    let found = user_version(connection).map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let is_new = tables == 0 && found == 0 && application_id == 0;
    if !is_new && application_id != APPLICATION_ID {
        return Err(OpenError::NotAnEventLog { path: path.to_owned() });
    }
    if found > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
        });
    }
    Ok(())
}

fn create_schema(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Moves everything from the write-ahead log into the file, syncs it and empties the write-ahead log.
///
/// After a failed fsync the kernel keeps the pages in memory and calls them clean: they read well until
/// the power fails. SQLite recovers them from the write-ahead log, appends behind them, and that fsync
/// succeeds: a later power failure would leave a hole in the write-ahead log that takes every
/// acknowledged event behind it along. Written anew into the file and synced, they are really there.
fn move_write_ahead_log(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let busy: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(|source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        })?;
    if busy {
        Err(OpenError::BeingRead { path: path.to_owned() })
    } else {
        Ok(())
    }
}

/// How many events the log holds, which its first and last position tell. That every one between is there
/// is checked whenever events are read.
fn size(connection: &Connection, path: &Path) -> Result<u64, OpenError> {
    let (first, last): (Option<i64>, Option<i64>) = connection
        .query_row(
            "SELECT (SELECT min(position) FROM events), (SELECT max(position) FROM events)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .map_err(|source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        })?;
    match (first, last) {
        (None, _) | (_, None) => Ok(0),
        (Some(0), Some(last)) => Ok(last.unsigned_abs() + 1),
        (Some(first), Some(_)) => Err(OpenError::NotDense {
            path: path.to_owned(),
            first,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_in(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("events.db")
    }

    #[test]
    fn the_log_and_its_companions_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let _lock = LogLock::take(&log_in(&folder)).unwrap();
        let open = open_for_writing(&log_in(&folder), Durability::Full).unwrap();
        open.connection
            .execute("INSERT INTO streams VALUES (1, 'a')", [])
            .unwrap();
        for name in ["events.db", "events.db-wal", "events.db-shm", "events.db.lock"] {
            let mode = std::fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_second_writer_is_refused_with_the_name_of_the_locked_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = LogLock::take(&log_in(&folder)).unwrap();
        let refused = LogLock::take(&log_in(&folder)).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("events.db.lock"), "{refused}");
        drop(lock);
        LogLock::take(&log_in(&folder)).unwrap();
    }

    #[test]
    fn a_log_of_a_newer_program_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = open_for_writing(&log_in(&folder), Durability::Full).unwrap();
        log.connection
            .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
            .unwrap();
        drop(log);
        let refused = open_for_writing(&log_in(&folder), Durability::Full)
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(refused, OpenError::NewerSchema { found: 2, .. }), "{refused}");
        let refused = open_for_reading(&log_in(&folder)).map(|_| ()).unwrap_err();
        assert!(matches!(refused, OpenError::NewerSchema { found: 2, .. }), "{refused}");
    }

    #[test]
    fn a_database_of_another_program_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = Connection::open(log_in(&folder)).unwrap();
        other.execute_batch("CREATE TABLE invoices (id INTEGER)").unwrap();
        drop(other);
        let before = std::fs::read(log_in(&folder)).unwrap();
        let refused = open_for_writing(&log_in(&folder), Durability::Full)
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(refused, OpenError::NotAnEventLog { .. }), "{refused}");
        assert_eq!(std::fs::read(log_in(&folder)).unwrap(), before);
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(log_in(&folder), vec![b'x'; 8_192]).unwrap();
        let refused = open_for_writing(&log_in(&folder), Durability::Full)
            .map(|_| ())
            .unwrap_err();
        assert!(refused.to_string().contains("SQLITE_NOTADB"), "{refused}");
    }

    #[test]
    fn a_log_without_its_first_events_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let log = open_for_writing(&log_in(&folder), Durability::Full).unwrap();
        log.connection
            .execute("INSERT INTO events VALUES (3, 1, 0, x'00')", [])
            .unwrap();
        drop(log);
        let refused = open_for_writing(&log_in(&folder), Durability::Full)
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(refused, OpenError::NotDense { first: 3, .. }), "{refused}");
    }

    #[test]
    fn what_a_crash_left_in_the_write_ahead_log_is_in_the_file_after_opening() {
        let folder = tempfile::tempdir().unwrap();
        let log = open_for_writing(&log_in(&folder), Durability::Full).unwrap();
        log.connection
            .execute("INSERT INTO events VALUES (0, 1, 0, x'00')", [])
            .unwrap();
        drop(log); // without a checkpoint, as connect() asks for
        let wal = beside(&log_in(&folder), "-wal");
        assert!(std::fs::metadata(&wal).unwrap().len() > 0);
        let log = open_for_writing(&log_in(&folder), Durability::Full).unwrap();
        assert_eq!(log.size, 1);
        assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
    }

    #[test]
    fn nothing_is_made_when_a_log_that_does_not_exist_is_opened_for_reading() {
        let folder = tempfile::tempdir().unwrap();
        let refused = open_for_reading(&log_in(&folder)).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("SQLITE_CANTOPEN"), "{refused}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
