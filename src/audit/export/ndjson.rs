//! An event per line, as the audit API shows it.
//!
//! Most of what is shown is stored as it is shown. So the line is put together from pieces of the stored bytes,
//! without reading what is in them: that is several times as fast as to read the event and write it again.

use super::ExportError;
use crate::audit::event::AuditEvent;
use crate::audit::skim::Skimmed;
use crate::event_store::StoredEvent;
use std::io::Write;

/// Adds the line of an event.
pub fn write(out: &mut Vec<u8>, stored: &StoredEvent) -> Result<(), ExportError> {
    write_object(out, stored)?;
    out.push(b'\n');
    Ok(())
}

/// Adds the JSON of an event as the audit API shows it, on one line.
pub fn write_object(out: &mut Vec<u8>, stored: &StoredEvent) -> Result<(), ExportError> {
    let begin = out.len();
    if spliced(out, stored).is_none() {
        out.truncate(begin);
        let index = stored.index;
        serde_json::to_writer(&mut *out, &AuditEvent::read(stored)?)
            .map_err(|source| ExportError::Unwritable { index, source })?;
    }
    // Data is shown as it is stored. Between its tokens there may be line feeds, though Grantlog writes none; in
    // strings they are escaped.
    let written = out.get_mut(begin..).unwrap_or_default();
    if memchr::memchr2(b'\n', b'\r', written).is_some() {
        for byte in written {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    Ok(())
}

/// The event as pieces of its bytes; `None` when it has to be read.
fn spliced(out: &mut Vec<u8>, stored: &StoredEvent) -> Option<()> {
    let skimmed = Skimmed::of(stored)?;
    let (client_id, outcome) = skimmed.client_and_outcome()?;
    // Writing to memory does not fail.
    let _ = write!(
        out,
        r#"{{"index":{},"id":"{}","stream":"{}","revision":{},"type":"{}","time":"{}","actor":"{}","source":"#,
        stored.index, skimmed.id, skimmed.stream, stored.revision, skimmed.event_type, skimmed.time, skimmed.actor,
    );
    match skimmed.source {
        None => out.extend_from_slice(b"null"),
        Some(source) => {
            let _ = write!(out, r#"{{"ip":"{}","user_agent":"#, source.ip);
            push_text(out, source.user_agent);
            out.push(b'}');
        }
    }
    out.extend_from_slice(br#","trace_id":"#);
    push_text(out, skimmed.trace_id);
    out.extend_from_slice(br#","client_id":"#);
    push_text(out, client_id);
    let _ = write!(out, r#","outcome":"{}","data":{}}}"#, outcome.as_str(), skimmed.data);
    Some(())
}

/// A text as it stands in the JSON that it was skimmed from.
fn push_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.extend_from_slice(b"null"),
        Some(text) => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::{MemoryLog, facts};
    use crate::event_store::{Direction, EventStore};
    use proptest::prelude::*;

    fn read_and_written(stored: &StoredEvent) -> String {
        serde_json::to_string(&AuditEvent::read(stored).unwrap()).unwrap()
    }

    fn line(stored: &StoredEvent) -> String {
        let mut out = b"before\n".to_vec();
        write(&mut out, stored).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before\n")
            .unwrap()
            .strip_suffix('\n')
            .unwrap()
            .to_owned()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_line_is_what_reading_and_writing_the_event_gives(facts in facts(0..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let log = MemoryLog::of(&facts);
            for stored in runtime.block_on(log.read_all(0, Direction::Forwards, 4_096)).unwrap() {
                prop_assert_eq!(line(&stored), read_and_written(&stored));
            }
        }
    }

    #[test]
    fn every_event_of_the_golden_files_is_a_line_as_the_audit_api_shows_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let mut seen = 0;
        for (index, file) in std::fs::read_dir(folder).unwrap().enumerate() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let pretty: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            if pretty.get("stream").is_none() {
                continue;
            }
            // Both as it is in the file and as the codec writes it.
            for bytes in [std::fs::read(&path).unwrap(), pretty.to_string().into_bytes()] {
                let stored = StoredEvent {
                    index: index as u64,
                    revision: 3,
                    bytes: bytes.into(),
                };
                let expected = read_and_written(&stored).replace(['\n', '\r'], " ");
                assert_eq!(line(&stored), expected, "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 2 * grantlog_projections::Event::TYPES.len(), "{seen}");
    }

    #[test]
    fn what_cannot_be_read_is_no_line() {
        let stored = StoredEvent {
            index: 4,
            revision: 0,
            bytes: b"{}".as_slice().into(),
        };
        let mut out = Vec::new();
        assert!(matches!(write(&mut out, &stored), Err(ExportError::Event(_))));
        assert!(out.is_empty());
    }
}
