//! What is left of an event that is removed from the log: its id, stream and time, and its leaf hash. The log
//! stays dense, its Merkle tree stays the same, and nobody can tell any more what had happened.

use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::event::EventRemoved;
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, LeafHash};
use sha2::{Digest, Sha256};

/// The wire name of what is left.
const EVENT_REMOVED: &str = "EventRemoved";

/// Why nothing can be left of an event.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// It cannot be read.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// What would be left cannot be written.
    #[error(transparent)]
    Unwritable(#[from] codec::EncodeError),
}

/// What is left of the event, in its place; the event itself when it is removed already.
pub fn removed(stored: &StoredEvent) -> Result<StoredEvent, RemovalError> {
    if codec::peek_type(&stored.bytes) == Some(EVENT_REMOVED) {
        return Ok(stored.clone());
    }
    let leaf_hash = LeafHash(hash(&stored.bytes));
    let envelope = codec::decode(stored)?.envelope;
    let left = codec::encode(&Envelope {
        actor: Actor::System,
        source: None,
        trace_id: None,
        event: EventRemoved { leaf_hash }.into(),
        ..envelope
    })?;
    Ok(StoredEvent {
        bytes: left.bytes,
        ..*stored
    })
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> StoredEvent {
        let bytes = r#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","source":{"ip":"192.0.2.1"},"trace_id":"0af7651916cd43dd8448eb211c80319c","data":{"client_id":"orders","error":"invalid_client","reason":"unknown_client","dialect":"standard"}}"#;
        StoredEvent {
            index: 7,
            revision: 2,
            bytes: bytes.as_bytes().into(),
        }
    }

    #[test]
    fn what_is_left_says_when_and_where_but_no_longer_who_or_what() {
        let left = removed(&stored()).unwrap();
        assert_eq!((left.index, left.revision), (7, 2));
        let text = String::from_utf8(left.bytes.to_vec()).unwrap();
        assert!(text.starts_with(r#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"EventRemoved","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{"leaf_hash":"#), "{text}");
        for gone in ["192.0.2.1", "orders", "0af7651916cd43dd8448eb211c80319c"] {
            assert!(!text.contains(gone), "{text}");
        }
    }

    #[test]
    fn removing_twice_changes_nothing() {
        let once = removed(&stored()).unwrap();
        assert_eq!(removed(&once).unwrap(), once);
    }
}
