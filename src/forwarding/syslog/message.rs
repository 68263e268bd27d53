//! One event as an RFC 5424 message in an RFC 6587 frame.

use crate::forwarding::forwarded_event::ForwardedEvent;
use crate::forwarding::settings::Facility;
use grantlog_projections::audit_record::Outcome;
use std::io::Write;

/// RFC 5424 §7.2.2: a name with the number that IANA has given to an enterprise; 32473 is the one for those that
/// have none (RFC 5612).
pub const STRUCTURED_DATA_ID: &str = "grantlog@32473";
/// RFC 5424 §6: the longest MSGID.
const MAX_MSGID_BYTES: usize = 32;
/// RFC 5424 §6: the longest HOSTNAME.
pub const MAX_HOSTNAME_BYTES: usize = 255;
/// RFC 5424 §6.4: says that the message is UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What every message's header has alike.
#[derive(Debug, Clone)]
pub struct Header {
    /// Where it comes from.
    pub facility: Facility,
    /// HOSTNAME.
    pub hostname: String,
    /// PROCID.
    pub process: u32,
}

/// Writes the message with its length before it: `MSG-LEN SP SYSLOG-MSG`.
pub fn write_frame(frames: &mut Vec<u8>, header: &Header, event: &ForwardedEvent) {
    let message = message(header, event);
    // Writing to a Vec does not fail.
    let _ = write!(frames, "{} ", message.len());
    frames.extend_from_slice(&message);
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [SD] BOM MSG`.
fn message(header: &Header, forwarded: &ForwardedEvent) -> Vec<u8> {
    let event = &forwarded.event;
    // RFC 5424 §6.2.1.
    let severity = match event.outcome {
        Outcome::Success => 6,
        Outcome::Refused => 4,
    };
    let priority = u16::from(header.facility.code()) * 8 + severity;
    let msgid = event.event_type.get(..MAX_MSGID_BYTES).unwrap_or(&event.event_type);
    let mut message = Vec::with_capacity(forwarded.json.get().len() + 512);
    let _ = write!(
        message,
        "<{priority}>1 {} {} grantlog {} {msgid} [{STRUCTURED_DATA_ID}",
        event.time, header.hostname, header.process
    );
    let mut parameter = |name: &str, value: &str| {
        let _ = write!(message, " {name}=\"");
        // RFC 5424 §6.3.3.
        let is_escaped = |char| matches!(char, '"' | '\\' | ']');
        let mut rest = value;
        while let Some(at) = rest.find(|char: char| is_escaped(char) || char.is_control()) {
            let (plain, other) = rest.split_at(at);
            message.extend_from_slice(plain.as_bytes());
            let mut chars = other.chars();
            match chars.next() {
                Some(escaped) if is_escaped(escaped) => message.extend([b'\\', escaped as u8]), // ASCII
                // Allowed there, but a receiver that writes lines would write two. The message has it as it is.
                _ => message.push(b'?'),
            }
            rest = chars.as_str();
        }
        message.extend_from_slice(rest.as_bytes());
        message.push(b'"');
    };
    parameter("index", &event.index.to_string());
    parameter("id", &event.id.to_string());
    parameter("type", &event.event_type);
    parameter("outcome", event.outcome.as_str());
    parameter("actor", &event.actor.to_string());
    if let Some(client_id) = &event.client_id {
        parameter("client_id", client_id);
    }
    if let Some(source) = &event.source {
        parameter("source_ip", &source.ip.to_string());
    }
    if let Some(trace_id) = &event.trace_id {
        parameter("trace_id", trace_id);
    }
    message.extend_from_slice(b"] ");
    message.extend_from_slice(BOM);
    message.extend_from_slice(forwarded.json.get().as_bytes());
    message
}

/// This machine's name as a HOSTNAME; `-` (RFC 5424's nil) when it has none that fits.
pub fn hostname_of_machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        name if is_hostname(name) => name.to_owned(),
        _ => "-".to_owned(),
    }
}

/// 1 to 255 visible ASCII characters.
pub fn is_hostname(name: &str) -> bool {
    (1..=MAX_HOSTNAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::StoredEvent;

    fn header() -> Header {
        Header {
            facility: Facility::AUTHPRIV,
            hostname: "id.example.com".into(),
            process: 42,
        }
    }

    #[test]
    fn a_message_is_framed_by_its_octets_and_carries_the_events_json() {
        let stored = StoredEvent {
            index: 7,
            revision: 2,
            bytes: r#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","source":{"ip":"192.0.2.1","user_agent":"curl/8"},"trace_id":"0af7651916cd43dd8448eb211c80319c","data":{"client_id":"o\"]\\é\n","error":"invalid_client","reason":"unknown_client","dialect":"standard"}}"#.as_bytes().into(),
        };
        let event = ForwardedEvent::read(&stored).unwrap();
        let mut frames = Vec::new();
        write_frame(&mut frames, &header(), &event);
        write_frame(&mut frames, &header(), &event);
        let text = String::from_utf8(frames).unwrap();
        let (length, rest) = text.split_once(' ').unwrap();
        let (one, another) = rest.split_at(length.parse().unwrap());
        assert_eq!(another, format!("{length} {one}"));
        let expected = format!(
            "<84>1 2026-03-16T09:30:00.000001Z id.example.com grantlog 42 TokenRefused \
             [grantlog@32473 index=\"7\" id=\"01890000-0000-7000-8000-000000000001\" type=\"TokenRefused\" \
             outcome=\"refused\" actor=\"anonymous\" client_id=\"o\\\"\\]\\\\é?\" source_ip=\"192.0.2.1\" \
             trace_id=\"0af7651916cd43dd8448eb211c80319c\"] \u{feff}{}",
            event.json.get()
        );
        assert_eq!(one, expected);
        assert!(!one.contains('\n'));
    }

    #[test]
    fn a_success_is_informational() {
        let stored = StoredEvent {
            index: 0,
            revision: 0,
            bytes: br#"{"id":"01890000-0000-7000-8000-000000000001","stream":"service","type":"ServiceStopped","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{"version":"0.1.0","reason":"SIGTERM"}}"#.as_slice().into(),
        };
        let message = message(&header(), &ForwardedEvent::read(&stored).unwrap());
        assert!(message.starts_with(b"<86>1 "));
    }
}
