//! Events to append and what to compare them with.

use grantlog::event_store::{
    Append, Appended, Direction, EventStore, EventToAppend, ExpectedRevision, MAX_EVENTS_PER_READ, StoredEvent,
};
use uuid::Uuid;

/// An event as the codec would write it.
pub fn event() -> EventToAppend {
    let id = Uuid::now_v7();
    event_of(
        id,
        format!(r#"{{"id":"{id}","stream":"s","type":"TokenIssued","data":{{"scope":"read"}}}}"#).into(),
    )
}

/// The event with spaces behind it, so that it has this many bytes.
pub fn padded(mut event: EventToAppend, length: usize) -> EventToAppend {
    let mut bytes = event.bytes.to_vec();
    bytes.resize(length, b' ');
    event.bytes = bytes.into();
    event
}

/// An event with these bytes.
pub fn event_of(id: Uuid, bytes: Vec<u8>) -> EventToAppend {
    EventToAppend {
        id,
        event_type: "TokenIssued",
        bytes: bytes.into(),
    }
}

/// So many events.
pub fn events(count: usize) -> Vec<EventToAppend> {
    (0..count).map(|_| event()).collect()
}

/// An append of these events.
pub fn append(stream: &str, expected: ExpectedRevision, events: Vec<EventToAppend>) -> Append {
    Append {
        stream: stream.to_owned(),
        expected,
        events,
    }
}

/// Appends one event without any expectation.
pub async fn append_one(store: &dyn EventStore, stream: &str) -> Appended {
    store
        .append_to_stream(append(stream, ExpectedRevision::Any, vec![event()]))
        .await
        .unwrap()
}

/// Appends so many events without any expectation, in large appends.
pub async fn append_many(store: &dyn EventStore, stream: &str, count: usize) {
    let mut left = count;
    while left > 0 {
        let now = left.min(128);
        store
            .append_to_stream(append(stream, ExpectedRevision::Any, events(now)))
            .await
            .unwrap();
        left -= now;
    }
}

/// The whole log, oldest first.
pub async fn whole_log(store: &dyn EventStore) -> Vec<StoredEvent> {
    let mut log = Vec::new();
    loop {
        let page = store
            .read_all(log.len() as u64, Direction::Forwards, MAX_EVENTS_PER_READ)
            .await
            .unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

/// The indexes of these events.
pub fn indexes(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.index).collect()
}

/// The revisions of these events.
pub fn revisions(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.revision).collect()
}
