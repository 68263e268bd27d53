//! What an event's leaf in the tree is.

use super::merkle::{Hash, leaf_hash};
use crate::event_store::codec;
use grantlog_projections::values::LeafHash;
use serde::Deserialize;
use std::borrow::Cow;

/// What is read of an event that was removed.
#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    leaf_hash: LeafHash,
}

/// What is left of an event that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains<'a> {
    /// The stream that it says it was in.
    pub stream: Cow<'a, str>,
    /// The leaf hash that it says it had.
    pub leaf_hash: Hash,
}

/// The leaf of an event: the hash of its stored bytes. Of an event that retention has removed the bytes are gone; what
/// is left in its place names the hash that they had, and nobody can name another that fits the root. But anybody can
/// put such remains in the place of any event: whoever verifies holds them against what the log says of removals
/// (`verify::RemovalCheck`).
pub fn leaf_of(stored: &[u8]) -> Hash {
    remains(stored).map_or_else(|| leaf_hash(stored), |remains| remains.leaf_hash)
}

/// What the bytes say when they are what is left of a removed event; none when the event is whole.
pub fn remains(stored: &[u8]) -> Option<Remains<'_>> {
    if codec::peek_type(stored) != Some("EventRemoved") {
        return None;
    }
    let read: Stored<'_> = serde_json::from_slice(stored).ok()?;
    Some(Remains {
        stream: read.stream,
        leaf_hash: read.data.leaf_hash.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMAINS: &str = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"service","type":"EventRemoved","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{"leaf_hash":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}}"#;

    #[test]
    fn the_leaf_of_a_whole_event_is_the_hash_of_its_bytes() {
        assert_eq!(leaf_of(b"an event"), leaf_hash(b"an event"));
        assert_eq!(remains(b"an event"), None);
    }

    #[test]
    fn the_leaf_of_a_removed_event_is_the_one_that_it_had() {
        assert_eq!(leaf_of(REMAINS.as_bytes()), [7; 32]);
        assert_eq!(remains(REMAINS.as_bytes()).unwrap().stream, "service");
        let unreadable = REMAINS.replace("BwcH", "!wcH");
        assert_eq!(leaf_of(unreadable.as_bytes()), leaf_hash(unreadable.as_bytes()));
    }
}
