//! Events as bytes: the envelope's JSON, written once and read for ever.
//!
//! Upcasting happens here, in `UPCASTERS`: an older form of an event's data is turned into today's
//! before it is read, so that nothing behind the codec knows that there ever was another form.

use crate::event_store::{EventToAppend, MAX_EVENT_BYTES, StoredEvent};
use grantlog_projections::Event;
use grantlog_projections::recorded_event::{Envelope, RecordedEvent};
use grantlog_projections::values::{Actor, Source, StreamName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use uuid::Uuid;

/// Why stored bytes are not an event that this version knows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the JSON of an envelope.
    #[error("event {index} is not an event envelope: {source}")]
    Envelope {
        /// The event's place in the log.
        index: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The data does not fit its type.
    #[error(
        "the data of event {index} is no {event_type} that this version knows, perhaps a newer Grantlog's: {source}"
    )]
    Data {
        /// The event's place in the log.
        index: u64,
        /// The type that the event claims.
        event_type: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A type that this version does not know.
    #[error("event {index} is of the unknown type {event_type}: the log was written by a newer Grantlog; run that one")]
    UnknownType {
        /// The event's place in the log.
        index: u64,
        /// The type that the event claims.
        event_type: String,
    },
}

/// Why an event cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It does not fit a transparency log's entry.
    #[error("a {event_type} of {bytes} bytes is too large: an event may have {MAX_EVENT_BYTES}")]
    TooLarge {
        /// The event's type.
        event_type: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// It has no JSON.
    #[error("a {event_type} cannot be written as JSON: {source}")]
    Json {
        /// The event's type.
        event_type: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The stored bytes of an event.
pub fn encode(envelope: &Envelope) -> Result<EventToAppend, EncodeError> {
    let event_type = envelope.event.type_name();
    let mut bytes = Vec::with_capacity(1_024);
    let stored = Written {
        id: envelope.id,
        stream: &envelope.stream,
        event_type,
        time: envelope.time,
        actor: &envelope.actor,
        source: envelope.source.as_ref(),
        trace_id: envelope.trace_id.as_deref(),
        data: &envelope.event,
    };
    serde_json::to_writer(&mut bytes, &stored).map_err(|source| EncodeError::Json { event_type, source })?;
    if bytes.len() > MAX_EVENT_BYTES {
        return Err(EncodeError::TooLarge {
            event_type,
            bytes: bytes.len(),
        });
    }
    Ok(EventToAppend {
        id: envelope.id,
        event_type,
        bytes: bytes.into(),
    })
}

/// The event that stored bytes hold.
pub fn decode(stored: &StoredEvent) -> Result<RecordedEvent, DecodeError> {
    decode_with(UPCASTERS, stored)
}

/// The type of a stored event without reading all of it; `None` when the bytes are not laid out as
/// [`encode`] lays them out, which only a full [`decode`] can judge.
pub fn peek_type(bytes: &[u8]) -> Option<&str> {
    const ID: &[u8] = br#"{"id":""#;
    const UUID_LENGTH: usize = 36;
    let rest = bytes
        .strip_prefix(ID)?
        .get(UUID_LENGTH..)?
        .strip_prefix(br#"","stream":""#)?;
    let rest = rest
        .get(rest.iter().position(|byte| *byte == b'"')?..)?
        .strip_prefix(br#"","type":""#)?;
    std::str::from_utf8(rest.get(..rest.iter().position(|byte| *byte == b'"')?)?).ok()
}

/// The stream that a stored event says it is of; `None` when the bytes are no event.
pub fn stream_of(bytes: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Placed<'a> {
        #[serde(borrow)]
        stream: Cow<'a, str>,
    }
    serde_json::from_slice::<Placed<'_>>(bytes)
        .ok()
        .map(|placed| placed.stream)
}

fn decode_with(upcasters: &[Upcaster], stored: &StoredEvent) -> Result<RecordedEvent, DecodeError> {
    let index = stored.index;
    let read: Read<'_> =
        serde_json::from_slice(&stored.bytes).map_err(|source| DecodeError::Envelope { index, source })?;
    let (event_type, data) = upcast(upcasters, &read.event_type, read.data.get());
    let event = match Event::from_data(&event_type, &data) {
        Some(Ok(event)) => event,
        Some(Err(source)) => {
            return Err(DecodeError::Data {
                index,
                event_type: event_type.into_owned(),
                source,
            });
        }
        None => {
            return Err(DecodeError::UnknownType {
                index,
                event_type: event_type.into_owned(),
            });
        }
    };
    Ok(RecordedEvent {
        index,
        revision: stored.revision,
        envelope: Envelope {
            id: read.id,
            stream: read.stream,
            time: read.time,
            actor: read.actor,
            source: read.source,
            trace_id: read.trace_id.map(Cow::into_owned),
            event,
        },
    })
}

/// Today's name of a type that is stored under this one.
pub fn current_type(stored: &str) -> &str {
    UPCASTERS
        .iter()
        .fold(stored, |name, upcaster| match name == upcaster.from {
            true => upcaster.to,
            false => name,
        })
}

/// Turns an older form of an event into the next: the old type, the new type, and what becomes of the data.
struct Upcaster {
    from: &'static str,
    to: &'static str,
    data: fn(serde_json::Value) -> serde_json::Value,
}

/// Applied in this order, so that a form of long ago goes through every form since. Empty as long as no
/// released version has stored a form that today's cannot read.
const UPCASTERS: &[Upcaster] = &[];

fn upcast<'a>(upcasters: &[Upcaster], event_type: &'a str, data: &'a str) -> (Cow<'a, str>, Cow<'a, str>) {
    let (mut event_type, mut data) = (Cow::Borrowed(event_type), Cow::Borrowed(data));
    for upcaster in upcasters {
        // Data that is no JSON stays as it is: reading it then says what is wrong.
        if event_type == upcaster.from
            && let Ok(value) = serde_json::from_str(&data)
        {
            data = Cow::Owned((upcaster.data)(value).to_string());
            event_type = Cow::Borrowed(upcaster.to);
        }
    }
    (event_type, data)
}

#[derive(Serialize)]
struct Written<'a> {
    id: Uuid,
    stream: &'a StreamName,
    #[serde(rename = "type")]
    event_type: &'static str,
    time: Timestamp,
    actor: &'a Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    data: &'a Event,
}

#[derive(Deserialize)]
struct Read<'a> {
    id: Uuid,
    stream: StreamName,
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    time: Timestamp,
    actor: Actor,
    #[serde(default)]
    source: Option<Source>,
    #[serde(default, borrow)]
    trace_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantlog_projections::event::ServiceStopped;

    fn stored(json: &str) -> StoredEvent {
        StoredEvent {
            index: 7,
            revision: 3,
            bytes: json.as_bytes().into(),
        }
    }

    const STOPPED: &str = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"service","type":"ServiceStopped","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{"version":"0.1.0","reason":"SIGTERM"}}"#;

    #[test]
    fn an_event_is_encoded_to_the_bytes_that_it_was_decoded_from() {
        let decoded = decode(&stored(STOPPED)).unwrap();
        assert_eq!((decoded.index, decoded.revision), (7, 3));
        assert_eq!(&*encode(&decoded.envelope).unwrap().bytes, STOPPED.as_bytes());
    }

    #[test]
    fn the_type_can_be_peeked_at_in_encoded_bytes_and_only_there() {
        assert_eq!(peek_type(STOPPED.as_bytes()), Some("ServiceStopped"));
        assert_eq!(peek_type(br#"{"type":"ServiceStopped"}"#), None);
        assert_eq!(peek_type(b""), None);
    }

    #[test]
    fn an_older_form_is_upcast_before_it_is_read() {
        // As if 0.0 had called a stop `ServiceStopping` and kept no reason.
        let upcasters = [Upcaster {
            from: "ServiceStopping",
            to: "ServiceStopped",
            data: |mut data| {
                data["reason"] = "unknown".into();
                data
            },
        }];
        let old = STOPPED
            .replace("ServiceStopped", "ServiceStopping")
            .replace(r#","reason":"SIGTERM""#, "");
        let decoded = decode_with(&upcasters, &stored(&old)).unwrap();
        let expected = ServiceStopped {
            version: "0.1.0".into(),
            reason: "unknown".into(),
            node: None,
        };
        assert_eq!(decoded.envelope.event, Event::ServiceStopped(expected));
        assert!(matches!(
            decode(&stored(&old)),
            Err(DecodeError::UnknownType { index: 7, .. })
        ));
    }

    #[test]
    fn an_event_that_a_log_entry_cannot_hold_is_refused() {
        let mut envelope = decode(&stored(STOPPED)).unwrap().envelope;
        envelope.event = ServiceStopped {
            version: String::new(),
            reason: "x".repeat(MAX_EVENT_BYTES),
            node: None,
        }
        .into();
        assert!(matches!(encode(&envelope), Err(EncodeError::TooLarge { .. })));
    }

    #[test]
    fn a_value_of_a_newer_version_is_said_to_be_perhaps_one() {
        let denied = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"api-calls-unknown","type":"ApiCallDenied","time":"2026-03-16T09:30:00.000123Z","actor":"system","data":{"via":"admin","audience":"a","method":"GET","path":"/","required_scope":"","error":"e","reason":"missing_token"}}"#;
        assert!(decode(&stored(denied)).is_ok());
        let error = decode(&stored(&denied.replace("missing_token", "of_tomorrow"))).unwrap_err();
        assert!(matches!(error, DecodeError::Data { index: 7, .. }));
        let message = error.to_string();
        for part in ["event 7", "ApiCallDenied", "perhaps a newer Grantlog's", "of_tomorrow"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn bytes_that_are_no_event_are_an_error_that_names_the_place() {
        for broken in ["", "{", "[]", r#"{"id":"x"}"#] {
            let error = decode(&stored(broken)).unwrap_err();
            assert!(error.to_string().contains("event 7"), "{error}");
        }
    }
}
