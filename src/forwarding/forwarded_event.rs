//! An event as it leaves.

use crate::audit::AuditEvent;
use crate::audit::withheld::without_secrets;
use crate::event_store::StoredEvent;
use crate::event_store::codec::DecodeError;
use serde_json::value::RawValue;

/// An event with the JSON that every sink carries.
#[derive(Debug, Clone)]
pub struct ForwardedEvent {
    /// The event, without what stays behind.
    pub event: AuditEvent,
    /// The same as the audit API writes it.
    pub json: Box<RawValue>,
}

impl ForwardedEvent {
    /// Reads a stored event.
    pub fn read(stored: &StoredEvent) -> Result<Self, DecodeError> {
        AuditEvent::read(stored).map(Self::of)
    }

    /// What leaves of an event.
    pub fn of(mut event: AuditEvent) -> Self {
        if let Some(data) = without_secrets(event.data.get()) {
            event.data = data;
        }
        // Names, texts, numbers and JSON that was parsed are always JSON.
        let json = serde_json::value::to_raw_value(&event).unwrap_or_default();
        Self { event, json }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::withheld::{STAYS_BEHIND, WITHHELD};
    use serde_json::Value;

    fn forwarded(event_type: &str, data: &str) -> ForwardedEvent {
        let bytes = format!(
            r#"{{"id":"01890000-0000-7000-8000-000000000001","stream":"service","type":"{event_type}","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{data}}}"#
        );
        let stored = StoredEvent {
            index: 7,
            revision: 2,
            bytes: bytes.as_bytes().into(),
        };
        ForwardedEvent::read(&stored).unwrap()
    }

    #[test]
    fn an_event_leaves_as_the_audit_api_shows_it() {
        let data = r#"{"version":"0.1.0",  "reason":"SIGTERM","hash":null}"#;
        let event = forwarded("ServiceStopped", data);
        assert_eq!(event.event.data.get(), data);
        assert_eq!(event.json.get(), serde_json::to_string(&event.event).unwrap());
        assert!(event.json.get().contains(r#""index":7"#) && event.json.get().contains(data));
    }

    #[test]
    fn every_hash_of_a_secret_and_every_sealed_key_stays_behind() {
        for name in ["ApplicationRegistered", "SecretRotated", "SigningKeyAdded"] {
            let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let stored = StoredEvent {
                index: 0,
                revision: 0,
                bytes: std::fs::read(&path).unwrap().trim_ascii().into(),
            };
            let whole = AuditEvent::read(&stored).unwrap();
            let leaves = ForwardedEvent::read(&stored).unwrap();
            let (mut whole, left): (Value, Value) = (
                serde_json::from_str(whole.data.get()).unwrap(),
                serde_json::from_str(leaves.event.data.get()).unwrap(),
            );
            let mut secrets = 0;
            for place in STAYS_BEHIND {
                if let Some(secret) = whole.pointer_mut(place) {
                    let text = secret.as_str().unwrap().to_owned();
                    assert!(!leaves.json.get().contains(&text), "{name}: {place}");
                    *secret = WITHHELD.into();
                    secrets += 1;
                }
            }
            assert_eq!(secrets, 1, "{name}");
            assert_eq!(whole, left, "{name}: nothing else is changed");
        }
    }
}
