//! A copy of a range of the log in one of four formats: the same range and conditions give the same bytes at any
//! time. docs/export.md describes the formats, docs/decisions/0007 why there are four.

pub mod ndjson;

pub mod csv;

pub mod ocsf;

pub mod manifest;

use crate::audit::selection::Selection;
use crate::event_store::codec::DecodeError;
use crate::event_store::{Direction, EventStore, ReadError, StoredEvent};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// Events that are read and written at a time. An event is at most 65,535 bytes, so this bounds memory too.
pub const BATCH_EVENTS: u64 = 512;

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The stored bytes of each event, verbatim, one per line: what the Merkle tree's leaves are.
    Log,
    /// An event per line as the audit API shows it.
    Ndjson,
    /// RFC 4180.
    Csv,
    /// OCSF events, one per line.
    Ocsf,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Log, Self::Ndjson, Self::Csv, Self::Ocsf];

    /// Its name in parameters, manifests and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Ocsf => "ocsf",
        }
    }

    /// The media type of what is written.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Log | Self::Ndjson | Self::Ocsf => "application/x-ndjson",
            // RFC 4180 §3.
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// What a file of it is called, after its range.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Log => "log.ndjson",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Ocsf => "ocsf.ndjson",
        }
    }

    /// What comes before the first event.
    pub fn head(self) -> Vec<u8> {
        match self {
            Self::Log | Self::Ndjson | Self::Ocsf => Vec::new(),
            Self::Csv => csv::header(),
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ExportFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(())
    }
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event of the range cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// An event whose stored bytes would be two lines: Grantlog has not written it.
    #[error("event {0} holds a line feed, so it cannot be one line of an export")]
    NotOneLine(u64),
    /// An event cannot be written.
    #[error("event {index} cannot be written: {source}")]
    Unwritable {
        /// Its place in the log.
        index: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// The writing panicked: a bug.
    #[error("the export broke off: {0}")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// A part of an export: whole events.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Part {
    /// How many events it has.
    pub count: u64,
    /// What they are written as.
    pub bytes: Vec<u8>,
}

/// Writes the events of a range that are taken, where it may block. Parts of neighbouring ranges, one after the
/// other, are the export; [`BATCH_EVENTS`] is the most for one.
pub async fn write_range(
    store: Arc<dyn EventStore>,
    range: Range<u64>,
    format: ExportFormat,
    selection: Arc<Selection>,
) -> Result<Part, ExportError> {
    let mut next = range.start;
    let mut part = Part::default();
    while next < range.end {
        let limit = usize::try_from(range.end - next).unwrap_or(usize::MAX);
        let stored = store.read_all(next, Direction::Forwards, limit).await?;
        let Some(last) = stored.last() else {
            // The range's end was the log's size once, and a log does not shrink.
            return Err(ReadError(format!("event {next} is missing")).into());
        };
        next = last.index + 1;
        let selection = selection.clone();
        part = tokio::task::spawn_blocking(move || write(part, &stored, format, &selection)).await??;
    }
    Ok(part)
}

/// Adds the events that are taken.
pub fn write(
    mut part: Part,
    stored: &[StoredEvent],
    format: ExportFormat,
    selection: &Selection,
) -> Result<Part, ExportError> {
    part.bytes
        .reserve(stored.iter().map(|event| event.bytes.len() * 3 / 2).sum());
    for event in stored {
        if !selection.takes(event)? {
            continue;
        }
        match format {
            ExportFormat::Log => verbatim(&mut part.bytes, event)?,
            ExportFormat::Ndjson => ndjson::write(&mut part.bytes, event)?,
            ExportFormat::Csv => csv::write(&mut part.bytes, event)?,
            ExportFormat::Ocsf => ocsf::write(&mut part.bytes, event)?,
        }
        part.count += 1;
    }
    Ok(part)
}

fn verbatim(out: &mut Vec<u8>, event: &StoredEvent) -> Result<(), ExportError> {
    if memchr::memchr(b'\n', &event.bytes).is_some() {
        return Err(ExportError::NotOneLine(event.index));
    }
    out.extend_from_slice(&event.bytes);
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditQuery;
    use crate::audit::memory_log::{MemoryLog, tokens};

    fn everything() -> Arc<Selection> {
        Arc::new(Selection::of(AuditQuery::default()))
    }

    #[tokio::test]
    async fn a_log_export_is_the_stored_bytes_line_by_line() {
        let log = MemoryLog::of(&tokens(5));
        let stored = log.read_all(0, Direction::Forwards, 10).await.unwrap();
        let part = write_range(log, 1..4, ExportFormat::Log, everything()).await.unwrap();
        let lines: Vec<&[u8]> = part.bytes.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!((part.count, lines.len()), (3, 3));
        for (line, event) in lines.iter().zip(&stored[1..]) {
            assert_eq!(line.strip_suffix(b"\n").unwrap(), &*event.bytes);
        }
    }

    #[tokio::test]
    async fn bytes_that_would_be_two_lines_break_a_log_export_off() {
        let log = MemoryLog::of(&tokens(1));
        log.add_bytes(*b"{\n}");
        let broken = write_range(log, 0..2, ExportFormat::Log, everything()).await;
        assert!(matches!(broken, Err(ExportError::NotOneLine(1))), "{broken:?}");
    }

    #[tokio::test]
    async fn parts_of_neighbouring_ranges_are_the_export_whatever_the_log_has_beyond() {
        let log = MemoryLog::of(&tokens(20));
        for format in ExportFormat::ALL {
            let whole = write_range(log.clone(), 0..20, format, everything()).await.unwrap();
            log.add(&tokens(3));
            let mut parts = Part::default();
            for range in [0..7, 7..7, 7..8, 8..20] {
                let part = write_range(log.clone(), range, format, everything()).await.unwrap();
                parts.count += part.count;
                parts.bytes.extend(part.bytes);
            }
            assert_eq!(parts, whole, "{format}");
            assert_eq!(whole.count, 20);
        }
    }

    #[tokio::test]
    async fn a_range_beyond_the_log_is_no_export() {
        let broken = write_range(MemoryLog::of(&tokens(2)), 0..3, ExportFormat::Ndjson, everything()).await;
        assert!(matches!(broken, Err(ExportError::Log(_))), "{broken:?}");
    }
}
