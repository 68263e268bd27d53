//! The data folder: who may write to it, and what lies in it.

use super::error::ServeError;
use crate::config::Config;
use crate::file_lock;
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes the data folder if there is none, and keeps other servers out of it until the file is closed, however
/// the process ends. The log has a lock of its own, but may lie elsewhere: two servers with a log each would
/// save their projections over one another.
pub(super) fn claim(folder: &Path) -> Result<fs::File, ServeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(ServeError::file(folder))?;
    let lock_file = folder.join("server.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_file)
        .map_err(ServeError::file(&lock_file))?;
    match file_lock::lock(&file).map_err(ServeError::file(&lock_file))? {
        true => Ok(file),
        false => Err(ServeError::FolderInUse { lock_file }),
    }
}

pub(super) fn state_file(config: &Config) -> PathBuf {
    config.data_dir.join("projections.db")
}

pub(super) fn usage_file(config: &Config) -> PathBuf {
    config.data_dir.join("usage.db")
}

pub(super) fn index_file(config: &Config) -> PathBuf {
    config.data_dir.join("audit.db")
}
