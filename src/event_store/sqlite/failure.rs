//! What a failing SQLite statement means to the person who runs the server.

use rusqlite::{Error, ffi};
use std::path::Path;

/// The error in words, with SQLite's name and number for those who want to look it up.
pub(super) fn in_words(error: &Error) -> String {
    let Some(code) = error.sqlite_extended_error_code() else {
        return error.to_string();
    };
    let what = match code & 0xff {
        ffi::SQLITE_FULL => "the disk is full",
        ffi::SQLITE_IOERR => "the disk failed",
        ffi::SQLITE_READONLY => "the file cannot be written to",
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => "the file is damaged or no event log",
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => "another program keeps it locked",
        ffi::SQLITE_CANTOPEN | ffi::SQLITE_PERM => "a file could not be opened",
        ffi::SQLITE_NOMEM => "memory ran out",
        ffi::SQLITE_CONSTRAINT => "what it holds contradicts what the program knows of it",
        _ => "SQLite failed",
    };
    format!(
        "{what} ({}, extended code {code}: {})",
        name(code),
        ffi::code_to_str(code)
    )
}

/// What the operator has to know and do when `attempt` on the log has failed for good.
pub(super) fn for_operator(log: &Path, attempt: &str, error: &Error) -> String {
    let remedy = match error.sqlite_extended_error_code().map(|code| code & 0xff) {
        Some(ffi::SQLITE_FULL) => "free space on the disk that holds it",
        Some(ffi::SQLITE_IOERR) => "check the disk that holds it and the free space there (the kernel's log says more)",
        Some(ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN | ffi::SQLITE_PERM) => {
            "check the permissions of its files and folder, and whether the disk is mounted read-only"
        }
        Some(ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => "stop the other program that uses it",
        Some(ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_CONSTRAINT) => {
            "check the disk, and restore the log from a backup if the next start refuses it"
        }
        _ => "remove the cause",
    };
    format!(
        "the event log {} failed at {attempt}: {}. It accepts nothing more, because what reached the disk is \
         now uncertain. Everything acknowledged before is safe. To do: {remedy}, then start again: the log is \
         replayed from what really is on disk",
        log.display(),
        in_words(error),
    )
}

/// The codes that an operator can meet; the number says the rest.
fn name(code: i32) -> &'static str {
    match code {
        ffi::SQLITE_FULL => "SQLITE_FULL",
        ffi::SQLITE_IOERR_READ => "SQLITE_IOERR_READ",
        ffi::SQLITE_IOERR_SHORT_READ => "SQLITE_IOERR_SHORT_READ",
        ffi::SQLITE_IOERR_WRITE => "SQLITE_IOERR_WRITE",
        ffi::SQLITE_IOERR_FSYNC => "SQLITE_IOERR_FSYNC",
        ffi::SQLITE_IOERR_DIR_FSYNC => "SQLITE_IOERR_DIR_FSYNC",
        ffi::SQLITE_IOERR_TRUNCATE => "SQLITE_IOERR_TRUNCATE",
        ffi::SQLITE_IOERR_FSTAT => "SQLITE_IOERR_FSTAT",
        ffi::SQLITE_IOERR_LOCK => "SQLITE_IOERR_LOCK",
        ffi::SQLITE_IOERR_SHMOPEN => "SQLITE_IOERR_SHMOPEN",
        ffi::SQLITE_IOERR_SHMSIZE => "SQLITE_IOERR_SHMSIZE",
        ffi::SQLITE_IOERR_SHMMAP => "SQLITE_IOERR_SHMMAP",
        _ => match code & 0xff {
            ffi::SQLITE_IOERR => "SQLITE_IOERR",
            ffi::SQLITE_READONLY => "SQLITE_READONLY",
            ffi::SQLITE_CORRUPT => "SQLITE_CORRUPT",
            ffi::SQLITE_NOTADB => "SQLITE_NOTADB",
            ffi::SQLITE_BUSY => "SQLITE_BUSY",
            ffi::SQLITE_LOCKED => "SQLITE_LOCKED",
            ffi::SQLITE_CANTOPEN => "SQLITE_CANTOPEN",
            ffi::SQLITE_PERM => "SQLITE_PERM",
            ffi::SQLITE_NOMEM => "SQLITE_NOMEM",
            ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
            _ => "SQLITE_ERROR",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed_with(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_failing_one() {
        let full = for_operator(
            Path::new("/data/events.db"),
            "committing 3 events",
            &failed_with(ffi::SQLITE_FULL),
        );
        assert!(
            full.contains("/data/events.db") && full.contains("committing 3 events"),
            "{full}"
        );
        assert!(
            full.contains("the disk is full (SQLITE_FULL, extended code 13"),
            "{full}"
        );
        assert!(full.contains("free space"), "{full}");
        let broken = for_operator(
            Path::new("/data/events.db"),
            "committing 3 events",
            &failed_with(ffi::SQLITE_IOERR_FSYNC),
        );
        assert!(
            broken.contains("the disk failed (SQLITE_IOERR_FSYNC, extended code 1034"),
            "{broken}"
        );
        assert!(!broken.contains("disk is full"), "{broken}");
    }
}
