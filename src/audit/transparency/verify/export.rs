//! An export of the log against its manifest and the log's tree (docs/decisions: exports that can be checked).
//!
//! A `log` export is the stored bytes of one event on each line: each line is a leaf. Other formats are made for
//! reading, and can be held against their manifest only.

use super::findings::{Check, Findings};
use super::removals::RemovalCheck;
use crate::audit::export::ExportFormat;
use crate::audit::export::manifest::{MANIFEST_VERSION, Manifest};
use crate::audit::transparency::leaf::{leaf_of, remains};
use crate::audit::transparency::merkle::Hash;
use crate::event_store::MAX_EVENT_BYTES;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A manifest may have at most this many bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Lines of a format that is made for reading may be longer than an event.
const MAX_LINE_BYTES: usize = 16 * MAX_EVENT_BYTES;

/// What the log itself has in the place of an event of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InLog {
    /// The event.
    Whole,
    /// What is left of it.
    Removed,
    /// Its hash is all that is known.
    Unknown,
}

/// Why an export cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest is none.
    #[error("{} is not the manifest of an export: {reason}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// An export's file, read line by line.
pub struct ExportFile {
    path: PathBuf,
    /// What is said about it.
    pub manifest: Manifest,
    lines: BufReader<File>,
    /// What the lines themselves say of removals.
    removals: RemovalCheck,
    next: u64,
    count: u64,
    bytes: u64,
    hash: Sha256,
    /// Whether a line was missing: then no more are looked for.
    has_ended: bool,
}

impl ExportFile {
    /// Opens an export whose manifest lies beside it, `FILE.manifest.json`.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let mut manifest = path.as_os_str().to_owned();
        manifest.push(".manifest.json");
        let manifest_path = PathBuf::from(manifest);
        let of = |path: &Path| {
            let path = path.to_owned();
            move |source| ExportError::File { path, source }
        };
        let mut text = String::new();
        File::open(&manifest_path)
            .and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_string(&mut text))
            .map_err(of(&manifest_path))?;
        let not_a_manifest = |reason: String| ExportError::Manifest {
            path: manifest_path.clone(),
            reason,
        };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| not_a_manifest(error.to_string()))?;
        if manifest.manifest != MANIFEST_VERSION {
            return Err(not_a_manifest(format!("version {} is not known", manifest.manifest)));
        }
        let lines = BufReader::with_capacity(1 << 20, File::open(path).map_err(of(path))?);
        Ok(Self {
            path: path.to_owned(),
            removals: RemovalCheck::of_export(&path.display().to_string(), manifest.from_index),
            next: manifest.from_index,
            manifest,
            lines,
            count: 0,
            bytes: 0,
            hash: Sha256::new(),
            has_ended: false,
        })
    }

    /// Whether each line is the stored bytes of an event.
    pub fn is_leaves(&self) -> bool {
        self.manifest.format == ExportFormat::Log.as_str() && self.manifest.filter.is_empty()
    }

    /// Holds the next line against the leaf at an index of the log, when the export has that.
    pub fn compare(&mut self, index: u64, leaf: &Hash, in_log: InLog, findings: &mut Findings) {
        let is_here = self.is_leaves() && !self.has_ended && index == self.next && index < self.manifest.through_index;
        if !is_here {
            return;
        }
        let Some(line) = self.event(findings) else {
            self.has_ended = true;
            return;
        };
        let path = self.path.display();
        if leaf_of(&line) != *leaf {
            findings.failed(
                Check::Export,
                format!("{path}: event {index} is not the one in the log"),
            );
        } else if in_log == InLog::Whole && remains(&line).is_some() {
            findings.failed(
                Check::Export,
                format!("{path}: event {index} was removed from it, and the log has it"),
            );
        } else if in_log == InLog::Unknown {
            self.removals.add(index, &line);
        }
    }

    /// The leaf of the next line; none, and a failure when there should be one, at the end.
    pub fn leaf(&mut self, findings: &mut Findings) -> Option<Hash> {
        let index = self.next;
        let line = self.event(findings)?;
        self.removals.add(index, &line);
        Some(leaf_of(&line))
    }

    fn event(&mut self, findings: &mut Findings) -> Option<Vec<u8>> {
        let index = self.next;
        let line = match self.line(MAX_EVENT_BYTES) {
            Ok(line) => line,
            Err(error) => {
                findings.failed(
                    Check::Export,
                    format!("{}: event {index}: {error}", self.path.display()),
                );
                return None;
            }
        };
        let Some(line) = line else {
            if index < self.manifest.through_index {
                findings.failed(
                    Check::Export,
                    format!("{}: event {index} is missing", self.path.display()),
                );
            }
            return None;
        };
        self.next += 1;
        self.count += 1;
        Some(line)
    }

    /// Reads what is left and holds the whole against the manifest.
    pub fn finish(mut self, log_size: Option<u64>, findings: &mut Findings) {
        let path = self.path.display().to_string();
        let is_leaves = self.is_leaves();
        if let Some(log_size) = log_size.filter(|size| *size < self.manifest.through_index) {
            let through = self.manifest.through_index;
            findings.failed(
                Check::Export,
                format!("{path}: it goes to event {through}, the log has {log_size}"),
            );
        }
        let mut rest = 0;
        loop {
            match self.line(MAX_LINE_BYTES) {
                Ok(None) => break,
                Ok(Some(_)) => rest += 1,
                Err(error) => {
                    findings.failed(Check::Export, format!("{path}: {error}"));
                    break;
                }
            }
        }
        if is_leaves && rest > 0 && log_size.is_none_or(|size| size >= self.manifest.through_index) {
            findings.failed(Check::Export, format!("{path}: {rest} lines more than events"));
        }
        // What was held against the log's own events is none of it.
        self.removals.finish(findings);
        let count = self.count + rest;
        let sha256 = self.hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
            text
        });
        let Manifest {
            bytes,
            sha256: expected,
            ..
        } = &self.manifest;
        if (self.bytes, &sha256) != (*bytes, expected) {
            let what = format!(
                "{path}: {} bytes with SHA-256 {sha256}, its manifest says {bytes} with {expected}",
                self.bytes
            );
            findings.failed(Check::Export, what);
        }
        if is_leaves && count != self.manifest.count {
            let what = format!("{path}: {count} events, its manifest says {}", self.manifest.count);
            findings.failed(Check::Export, what);
        }
        if !is_leaves {
            // Its manifest is not signed: whoever has changed the one has changed the other.
            let what = format!(
                "{path}: an export in another format than log, or of some events only, cannot be held against the log: \
                 export the same range with --format log and without a filter"
            );
            findings.failed(Check::Export, what);
        } else if !findings.has_failed(Check::Export) {
            let what = format!("{path}: {count} events are those of the tree");
            findings.checked(Check::Export, self.manifest.count, what);
        }
    }

    /// The next line without its end; none at the end.
    fn line(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        // One byte more than fits, for the line's end, and one to see that it is longer.
        let read = (&mut self.lines).take(most as u64 + 2).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.bytes += read as u64;
        self.hash.update(&line);
        if line.pop() != Some(b'\n') {
            return Err(io::Error::other(
                "a line without an end, or longer than an event can be",
            ));
        }
        Ok(Some(line))
    }
}
