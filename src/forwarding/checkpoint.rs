//! How far a sink has come: a small file of its own, replaced whole.

use super::settings::SinkName;
use crate::audit::transparency::leaf::leaf_of;
use crate::event_store::StoredEvent;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Raised when the form changes.
const FORMAT: u32 = 1;
/// A checkpoint is far smaller.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("its checkpoint {path}: {source}", path = path.display())]
pub struct CheckpointError {
    path: PathBuf,
    source: io::Error,
}

/// How far a sink has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    format: u32,
    /// Where the sink began: an event before it was never meant to go there.
    pub start: u64,
    /// The first event that is not acknowledged: all from `start` to before it are.
    pub next: u64,
    /// The leaf hash (RFC 6962) of the event before `next`, in hex: what tells this log from another, also when
    /// retention has removed the event since.
    pub last_leaf_hash: Option<String>,
}

/// What there is of a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// None: the sink is new.
    Nothing,
    /// This one.
    Checkpoint(Checkpoint),
    /// A file that is no checkpoint.
    Damaged,
}

/// Where a sink's checkpoint is kept.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    path: PathBuf,
}

impl Checkpoint {
    /// Nothing is acknowledged yet, and nothing before `start` is wanted.
    pub fn starting_at(start: u64) -> Self {
        Self {
            format: FORMAT,
            start,
            next: start,
            last_leaf_hash: None,
        }
    }

    /// Everything through this event is acknowledged.
    pub fn acknowledge(&mut self, event: &StoredEvent) {
        self.next = event.index + 1;
        self.last_leaf_hash = Some(leaf_hash_hex(&event.bytes));
    }

    /// Whether the event before `next` is the one that was acknowledged.
    pub fn fits(&self, last: Option<&StoredEvent>) -> bool {
        match (&self.last_leaf_hash, last) {
            (None, _) => true,
            (Some(known), Some(last)) => last.index + 1 == self.next && leaf_hash_hex(&last.bytes) == *known,
            (Some(_), None) => false,
        }
    }
}

impl CheckpointFile {
    /// In this folder.
    pub fn of(folder: &Path, sink: &SinkName) -> Self {
        Self {
            path: folder.join(format!("{sink}.json")),
        }
    }

    /// Reads it.
    pub fn load(&self) -> Result<Found, CheckpointError> {
        let bytes = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Ok(found) if found.len() > MAX_FILE_BYTES => return Ok(Found::Damaged),
            _ => fs::read(&self.path).map_err(|source| self.failed(source))?,
        };
        Ok(match serde_json::from_slice::<Checkpoint>(&bytes) {
            Ok(checkpoint) if checkpoint.format == FORMAT && checkpoint.start <= checkpoint.next => {
                Found::Checkpoint(checkpoint)
            }
            _ => Found::Damaged,
        })
    }

    /// Keeps it on stable storage: the old one or the new one is there, whatever happens meanwhile.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let beside = self.path.with_extension("json.new");
        let write = || {
            let mut text = serde_json::to_vec(checkpoint)?;
            text.push(b'\n');
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            self.path
                .parent()
                .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
        };
        write().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> CheckpointError {
        CheckpointError {
            path: self.path.clone(),
            source,
        }
    }
}

fn leaf_hash_hex(stored: &[u8]) -> String {
    leaf_of(stored).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u64, bytes: &str) -> StoredEvent {
        StoredEvent {
            index,
            revision: 0,
            bytes: bytes.as_bytes().into(),
        }
    }

    #[test]
    fn what_was_saved_is_found_again_and_what_is_damaged_is_told_from_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::of(folder.path(), &SinkName::parse("siem").unwrap());
        assert_eq!(file.load().unwrap(), Found::Nothing);
        let mut checkpoint = Checkpoint::starting_at(3);
        checkpoint.acknowledge(&event(7, "seven"));
        file.save(&checkpoint).unwrap();
        file.save(&checkpoint).unwrap();
        assert_eq!(file.load().unwrap(), Found::Checkpoint(checkpoint));
        fs::write(folder.path().join("siem.json"), "{\"next\":").unwrap();
        assert_eq!(file.load().unwrap(), Found::Damaged);
    }

    #[test]
    fn a_checkpoint_fits_the_log_that_has_the_event_it_saw_last() {
        let mut checkpoint = Checkpoint::starting_at(3);
        assert!(checkpoint.fits(None));
        checkpoint.acknowledge(&event(7, "seven"));
        assert!(checkpoint.fits(Some(&event(7, "seven"))));
        assert!(!checkpoint.fits(Some(&event(7, "another"))));
        assert!(!checkpoint.fits(None));
    }

    #[test]
    fn a_checkpoint_fits_the_log_whose_event_retention_has_removed() {
        use base64::Engine as _;
        let mut checkpoint = Checkpoint::starting_at(0);
        checkpoint.acknowledge(&event(7, "seven"));
        let leaf_hash = base64::engine::general_purpose::STANDARD.encode(leaf_of(b"seven"));
        let remains = format!(
            r#"{{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"service","type":"EventRemoved","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{{"leaf_hash":"{leaf_hash}"}}}}"#
        );
        assert!(checkpoint.fits(Some(&event(7, &remains))));
    }
}
