//! What an event's leaf in the tree is.

use super::merkle::{Hash, leaf_hash};
use crate::event_store::codec;
use grantlog_projections::values::LeafHash;
use serde::Deserialize;

/// What is read of an event that was removed.
#[derive(Deserialize)]
struct Removed {
    data: RemovedData,
}

#[derive(Deserialize)]
struct RemovedData {
    leaf_hash: LeafHash,
}

/// The leaf of an event: the hash of its stored bytes. Of an event that retention has removed the bytes are gone; what
/// is left in its place names the hash that they had, and nobody can name another that fits the root.
pub fn leaf_of(stored: &[u8]) -> Hash {
    removed(stored).unwrap_or_else(|| leaf_hash(stored))
}

/// The leaf hash that the remains of a removed event name; none when the event is whole.
pub fn removed(stored: &[u8]) -> Option<Hash> {
    if codec::peek_type(stored) != Some("EventRemoved") {
        return None;
    }
    let removed: Removed = serde_json::from_slice(stored).ok()?;
    Some(removed.data.leaf_hash.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMAINS: &str = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"service","type":"EventRemoved","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{"leaf_hash":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}}"#;

    #[test]
    fn the_leaf_of_a_whole_event_is_the_hash_of_its_bytes() {
        assert_eq!(leaf_of(b"an event"), leaf_hash(b"an event"));
        assert_eq!(removed(b"an event"), None);
    }

    #[test]
    fn the_leaf_of_a_removed_event_is_the_one_that_it_had() {
        assert_eq!(leaf_of(REMAINS.as_bytes()), [7; 32]);
        let unreadable = REMAINS.replace("BwcH", "!wcH");
        assert_eq!(leaf_of(unreadable.as_bytes()), leaf_hash(unreadable.as_bytes()));
    }
}
