//! An export of the log against its manifest and the log's tree (docs/decisions: exports that can be checked).
//!
//! A `log` export is the stored bytes of one event on each line: each line is a leaf. Other formats are made for
//! reading: they are held against the events, written once more (`rendering`), where somebody has those.

use super::findings::{Check, Findings};
use super::removals::RemovalCheck;
use super::rendering::Rendering;
use crate::audit::export::ExportFormat;
use crate::audit::export::manifest::{MANIFEST_VERSION, Manifest};
use crate::audit::transparency::leaf::{leaf_of, remains};
use crate::audit::transparency::merkle::Hash;
use crate::event_store::{MAX_EVENT_BYTES, StoredEvent};
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
    /// How its events are written; of one whose lines are leaves nothing.
    rendering: Option<Rendering>,
    /// Why its lines are not held against the events, or no more.
    not_held: Option<String>,
    /// Whether what comes before the first event was read.
    has_begun: bool,
    /// The first event of its range that the log has removed.
    removed_from: Option<u64>,
    /// Lines, and events among them: a cell of CSV may be of several lines.
    line: u64,
    records: u64,
    is_quoted: bool,
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
        let is_leaves = manifest.format == ExportFormat::Log.as_str() && manifest.filter.is_empty();
        let (rendering, not_held) = match (is_leaves, Rendering::of(&manifest)) {
            (true, _) => (None, None),
            (false, Ok(rendering)) => (Some(rendering), None),
            (false, Err(why)) => (None, Some(why)),
        };
        Ok(Self {
            path: path.to_owned(),
            rendering,
            not_held,
            has_begun: false,
            removed_from: None,
            line: 0,
            records: 0,
            is_quoted: false,
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

    /// Whether it is to be held against the events themselves, from the index that is answered on.
    pub fn wants_events(&self) -> Option<u64> {
        let wants = self.rendering.is_some() && self.not_held.is_none() && !self.has_ended;
        (wants && self.next < self.manifest.through_index).then_some(self.next)
    }

    /// Why its lines cannot be held against the events, or no further.
    pub fn cannot_be_held(&mut self, why: impl Into<String>) {
        self.not_held.get_or_insert(why.into());
    }

    /// Holds the next lines against an event of the log, written as they were; of its range each must come once, in
    /// order.
    pub fn hold(&mut self, stored: &StoredEvent, findings: &mut Findings) {
        if self.wants_events() != Some(stored.index) {
            return;
        }
        if remains(&stored.bytes).is_some() {
            self.removed_from.get_or_insert(stored.index);
        }
        self.begin(findings);
        let written = self.rendering.as_ref().map(|rendering| rendering.event(stored));
        match written {
            Some(Ok(part)) => {
                self.next += 1;
                self.count += part.count;
                self.compare_lines(&part.bytes, &format!("event {}", stored.index), findings);
            }
            Some(Err(error)) => self.cannot_be_held(error.to_string()),
            None => {}
        }
    }

    /// What comes before the first event.
    fn begin(&mut self, findings: &mut Findings) {
        if !std::mem::replace(&mut self.has_begun, true)
            && let Some(head) = self.rendering.as_ref().map(Rendering::head)
        {
            self.compare_lines(&head, "its head", findings);
        }
    }

    fn compare_lines(&mut self, written: &[u8], of: &str, findings: &mut Findings) {
        for expected in written.split_inclusive(|byte| *byte == b'\n') {
            if self.has_ended || self.not_held.is_some() {
                return;
            }
            let line = self.line(MAX_LINE_BYTES);
            let (path, at) = (self.path.display(), self.line);
            let what = match line {
                Ok(Some(line)) if expected.strip_suffix(b"\n") == Some(&line) => continue,
                Ok(Some(_)) => format!("{path}: line {at} is not what the log gives ({of})"),
                Ok(None) => format!("{path}: {of} is missing behind line {at}"),
                Err(error) => format!("{path}: line {at}: {error}"),
            };
            // An export of before does not have what is left of a removed event, but the event.
            match self.removed_from {
                Some(index) => self.cannot_be_held(format!(
                    "retention has removed events of its range since, from event {index} on, which only an export in \
                     the format log outlasts"
                )),
                None => {
                    findings.failed(Check::Export, what);
                    self.has_ended = true;
                }
            }
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
        if self.wants_events().is_some() {
            self.cannot_be_held("the events of its range are not at hand: give --data-dir, or --url with --entries");
        } else {
            self.begin(findings);
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
        let is_held = !self.has_ended && self.not_held.is_none();
        if is_held && rest > 0 && log_size.is_none_or(|size| size >= self.manifest.through_index) {
            findings.failed(Check::Export, format!("{path}: {rest} lines more than events"));
        }
        // What was held against the log's own events is none of it.
        self.removals.finish(findings);
        let count = match is_leaves {
            true => self.count + rest,
            false => self
                .records
                .saturating_sub(u64::from(self.manifest.format == ExportFormat::Csv.as_str())),
        };
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
        if count != self.manifest.count {
            let what = format!("{path}: {count} events, its manifest says {}", self.manifest.count);
            findings.failed(Check::Export, what);
        }
        if findings.has_failed(Check::Export) {
            return;
        }
        match self.not_held {
            // A manifest is not signed: whoever has changed the one has changed the other.
            Some(why) => findings.failed(
                Check::Export,
                format!("{path}: it is what its manifest says, and was not held against the events: {why}"),
            ),
            None if is_leaves => {
                findings.checked(
                    Check::Export,
                    count,
                    format!("{path}: {count} events are those of the tree"),
                );
            }
            None => {
                let format = &self.manifest.format;
                let what = format!("{path}: {count} events are what the log gives as {format}, byte for byte");
                findings.checked(Check::Export, count, what);
            }
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
        self.line += 1;
        if self.manifest.format == ExportFormat::Csv.as_str() {
            // RFC 4180 §2: within quotes a line's end is part of the cell; a quote there is written twice.
            self.is_quoted ^= line.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        }
        self.records += u64::from(!self.is_quoted);
        if line.pop() != Some(b'\n') {
            return Err(io::Error::other(
                "a line without an end, or longer than an event can be",
            ));
        }
        Ok(Some(line))
    }
}
