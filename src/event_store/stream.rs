//! Reading one stream and taking nothing else for it: what a store has of a stream must say so itself. The bytes are
//! what the Merkle tree is made of; where a store keeps them is not.

use super::{EventStore, ReadError, StoredEvent, codec};
use grantlog_projections::values::StreamName;

/// As [`EventStore::read_stream`]; an error when an event that the store has there says that it is of another stream.
pub async fn read_stream(
    store: &dyn EventStore,
    stream: &StreamName,
    from_revision: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>, ReadError> {
    let events = store.read_stream(stream.as_str(), from_revision, limit).await?;
    let other = events
        .iter()
        .find(|event| codec::stream_of(&event.bytes).as_deref() != Some(stream.as_str()));
    match other {
        None => Ok(events),
        Some(event) => Err(ReadError(format!(
            "event {} is kept in the stream {} and says that it is of another: something else must have changed the \
             log (grantlog audit verify)",
            event.index,
            stream.as_str()
        ))),
    }
}

/// Whether a stream still has what is known of it: its event with this revision. None: nothing is known.
pub fn check_reaches(stream: &StreamName, events: &[StoredEvent], revision: Option<u64>) -> Result<(), ReadError> {
    let last = events.last().map(|event| event.revision);
    match revision {
        Some(known) if last.is_none_or(|last| last < known) => Err(ReadError(format!(
            "the stream {} had an event with revision {known}, which is no longer there: something else must have \
             changed the log (grantlog audit verify)",
            stream.as_str()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_shorter_than_is_known_is_an_error() {
        let stream = StreamName::retention();
        let event = |revision| StoredEvent {
            index: 9,
            revision,
            bytes: [][..].into(),
        };
        for (events, known, is_right) in [
            (vec![], None, true),
            (vec![event(0)], None, true),
            (vec![event(0), event(1)], Some(1), true),
            (vec![event(0), event(1), event(2)], Some(1), true),
            (vec![event(0)], Some(1), false),
            (vec![], Some(0), false),
        ] {
            assert_eq!(
                check_reaches(&stream, &events, known).is_ok(),
                is_right,
                "{events:?} {known:?}"
            );
        }
    }
}
