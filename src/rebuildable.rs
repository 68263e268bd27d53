//! Database files that hold nothing of their own: everything in them is built again from the log, so a
//! damaged one is removed, not repaired.

use rusqlite::{Connection, Error, ErrorCode};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Opens the file, or makes it for its owner's eyes only: SQLite would let everybody read it, and gives its
/// companions the permissions of the file.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    // Whatever is wrong here SQLite meets too, and says in its own words.
    let _ = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    Connection::open(path)
}

/// Whether the error is about what is in the file, so that a new one helps; not about reaching it.
pub fn is_damage(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::NotADatabase
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                // A table or column is not there.
                | ErrorCode::Unknown
        ),
        Error::SqlInputError { .. }
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// Removes the file with its write-ahead log. Whoever has it open keeps what it had.
pub fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match std::fs::remove_file(PathBuf::from(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_and_its_companions_are_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let connection = open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE state (id INTEGER)").unwrap();
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let mode = std::fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn what_is_in_a_file_is_told_apart_from_reaching_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        std::fs::write(&path, [b'x'; 4_096]).unwrap();
        let read =
            |connection: Connection| connection.query_row("SELECT id FROM state", [], |row| row.get::<_, i64>(0));
        assert!(is_damage(&open(&path).and_then(read).unwrap_err()));
        remove(&path).unwrap();
        assert!(is_damage(&open(&path).and_then(read).unwrap_err()), "there is no table");
        let nowhere = folder.path().join("nowhere").join("state.db");
        assert!(!is_damage(&open(&nowhere).and_then(read).unwrap_err()));
    }

    #[test]
    fn what_is_not_there_can_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("state.db")).unwrap();
        assert!(remove(folder.path()).is_err());
    }
}
