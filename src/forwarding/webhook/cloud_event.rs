//! An event as a CloudEvent 1.0 in the JSON event format.

use crate::forwarding::forwarded_event::ForwardedEvent;
use grantlog_projections::values::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// One event.
pub const ONE: &str = "application/cloudevents+json";
/// A list of events.
pub const BATCH: &str = "application/cloudevents-batch+json";
const SPEC_VERSION: &str = "1.0";
const DATA_CONTENT_TYPE: &str = "application/json";

/// The CloudEvent of an event.
#[derive(Serialize)]
pub struct CloudEvent<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: Timestamp,
    datacontenttype: &'static str,
    sequence: String,
    data: &'a RawValue,
}

impl<'a> CloudEvent<'a> {
    /// `source` is the issuer.
    pub fn of(forwarded: &'a ForwardedEvent, source: &'a str) -> Self {
        let event = &forwarded.event;
        Self {
            specversion: SPEC_VERSION,
            id: event.id,
            source,
            event_type: format!("grantlog.{}", event.event_type),
            // An attribute is never empty (CloudEvents §3.1).
            subject: event.client_id.as_deref().filter(|client_id| !client_id.is_empty()),
            time: event.time,
            datacontenttype: DATA_CONTENT_TYPE,
            // The sequence extension orders by the characters: as many digits as the largest index has.
            sequence: format!("{:020}", event.index),
            data: &forwarded.json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::StoredEvent;
    use serde_json::{Value, json};

    #[test]
    fn an_event_is_a_cloud_event_whose_sequence_is_its_index() {
        let stored = StoredEvent {
            index: 7,
            revision: 2,
            bytes: br#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","data":{"client_id":"orders","error":"invalid_client","reason":"unknown_client","dialect":"standard"}}"#.as_slice().into(),
        };
        let forwarded = ForwardedEvent::read(&stored).unwrap();
        let written = serde_json::to_value(CloudEvent::of(&forwarded, "https://id.example.com")).unwrap();
        let data: Value = serde_json::to_value(&forwarded.event).unwrap();
        assert_eq!(
            written,
            json!({
                "specversion": "1.0", "id": "01890000-0000-7000-8000-000000000001",
                "source": "https://id.example.com", "type": "grantlog.TokenRefused", "subject": "orders",
                "time": "2026-03-16T09:30:00.000001Z", "datacontenttype": "application/json",
                "sequence": "00000000000000000007", "data": data,
            })
        );
    }
}
