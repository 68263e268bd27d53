//! RFC 4180: a header row, lines that end in CRLF, and cells that no spreadsheet takes for a formula.

use super::ExportError;
use crate::audit::event::AuditEvent;
use crate::event_store::StoredEvent;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Write;

/// The columns, in their order. New ones are added behind the last: `data` has all that no column has.
pub const COLUMNS: [&str; 25] = [
    "index",
    "id",
    "time",
    "type",
    "outcome",
    "client_id",
    "actor",
    "source_ip",
    "user_agent",
    "trace_id",
    "stream",
    "revision",
    "error",
    "reason",
    "jti",
    "secret_id",
    "session_id",
    "system_user",
    "org_code",
    "scope",
    "audiences",
    "method",
    "path",
    "token_hint",
    "data",
];

/// The header row.
pub fn header() -> Vec<u8> {
    format!("{}\r\n", COLUMNS.join(",")).into_bytes()
}

/// Adds the row of an event.
pub fn write(out: &mut Vec<u8>, stored: &StoredEvent) -> Result<(), ExportError> {
    let event = AuditEvent::read(stored)?;
    let data: Map<String, Value> =
        serde_json::from_str(event.data.get()).map_err(|source| ExportError::Unwritable {
            index: stored.index,
            source,
        })?;
    // Writing to memory does not fail.
    let _ = write!(out, "{},{},{}", event.index, event.id, event.time);
    let source = event.source.as_ref();
    let member = |name: &str| data.get(name).map(text).unwrap_or_default();
    let secret_id = match data.get("secret").and_then(|secret| secret.get("id")) {
        Some(id) => text(id),
        None => member("secret_id"),
    };
    let audiences = match data.get("audiences").and_then(Value::as_array) {
        Some(list) => Cow::Owned(list.iter().map(text).collect::<Vec<_>>().join(" ")),
        None => member("audience"),
    };
    let ip = source.map(|source| source.ip.to_string());
    for value in [
        event.event_type.as_str(),
        event.outcome.as_str(),
        event.client_id.as_deref().unwrap_or_default(),
        &text(&serde_json::json!(event.actor)),
        ip.as_deref().unwrap_or_default(),
        source
            .and_then(|source| source.user_agent.as_deref())
            .unwrap_or_default(),
        event.trace_id.as_deref().unwrap_or_default(),
        event.stream.as_str(),
    ] {
        cell(out, value);
    }
    let _ = write!(out, ",{}", event.revision);
    for name in ["error", "reason"] {
        cell(out, &member(name));
    }
    // Both are ids of tokens.
    let token_id = if data.contains_key("jti") { "jti" } else { "token_id" };
    cell(out, &member(token_id));
    cell(out, &secret_id);
    for name in ["session_id", "system_user", "org_code", "scope"] {
        cell(out, &member(name));
    }
    cell(out, &audiences);
    for name in ["method", "path", "token_hint"] {
        cell(out, &member(name));
    }
    cell(out, event.data.get());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// A comma and a cell.
fn cell(out: &mut Vec<u8>, text: &str) {
    out.push(b',');
    push_cell(out, text);
}

/// A cell. What a spreadsheet would take for a formula gets an apostrophe in front, and so does what
/// begins with one: whoever takes one leading apostrophe off every cell that has it, has what was there.
pub(in crate::audit) fn push_cell(out: &mut Vec<u8>, text: &str) {
    let is_quoted = text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'))
        || text.starts_with(char::is_whitespace)
        || text.ends_with(char::is_whitespace);
    if is_quoted {
        out.push(b'"');
    }
    if text.starts_with(is_taken_for_a_formula) || text.starts_with('\'') {
        out.push(b'\'');
    }
    match is_quoted {
        // RFC 4180 §2.7.
        true => out.extend_from_slice(text.replace('"', "\"\"").as_bytes()),
        false => out.extend_from_slice(text.as_bytes()),
    }
    if is_quoted {
        out.push(b'"');
    }
}

/// First characters that make a formula of a cell, the full-width ones for spreadsheets of East Asia among them.
fn is_taken_for_a_formula(first: char) -> bool {
    matches!(
        first,
        '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        cell(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_cell_is_quoted_when_it_must_be() {
        assert_eq!(written("plain/text"), ",plain/text");
        assert_eq!(written(""), ",");
        assert_eq!(written("a,b"), r#","a,b""#);
        assert_eq!(written("say \"so\""), r#","say ""so""""#);
        assert_eq!(written("two\nlines"), ",\"two\nlines\"");
        assert_eq!(written(" padded"), r#"," padded""#);
    }

    #[test]
    fn what_looks_like_a_formula_gets_an_apostrophe_and_so_does_an_apostrophe() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "＝1"] {
            assert_eq!(written(formula), format!(",'{formula}"));
        }
        assert_eq!(written("\t=1"), ",\"'\t=1\"");
        assert_eq!(written("\r=1"), ",\"'\r=1\"");
        assert_eq!(written("'=1"), ",''=1");
        assert_eq!(written("it's"), ",it's");
    }

    #[test]
    fn a_row_has_a_cell_for_every_column_of_the_header() {
        let stored = StoredEvent {
            index: 7,
            revision: 2,
            bytes: br#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","source":{"ip":"192.0.2.1"},"data":{"client_id":"=cmd|'x'","error":"invalid_client","reason":"unknown_client","dialect":"standard"}}"#.as_slice().into(),
        };
        let mut out = Vec::new();
        write(&mut out, &stored).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "7,01890000-0000-7000-8000-000000000001,2026-03-16T09:30:00.000001Z,TokenRefused,refused,'=cmd|'x',anonymous,\
             192.0.2.1,,,token-requests-unknown,2,invalid_client,unknown_client,,,,,,,,,,,\
             \"{\"\"client_id\"\":\"\"=cmd|'x'\"\",\"\"error\"\":\"\"invalid_client\"\",\"\"reason\"\":\"\"unknown_client\"\",\
             \"\"dialect\"\":\"\"standard\"\"}\"\r\n"
        );
        assert_eq!(
            String::from_utf8(header()).unwrap().matches(',').count(),
            COLUMNS.len() - 1
        );
    }
}
