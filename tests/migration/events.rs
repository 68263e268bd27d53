//! Logs to copy, and what they are compared with.

use grantlog::audit::transparency::leaf::leaf_of;
use grantlog::audit::transparency::merkle::{CompactRange, Hash};
use grantlog::event_store::{
    Append, Direction, EventStore, EventToAppend, ExpectedRevision, MAX_EVENTS_PER_READ, StoredEvent,
};
use uuid::Uuid;

/// An event of a stream, of so many bytes at least.
pub fn event(stream: &str, bytes: usize) -> EventToAppend {
    event_of_type("TokenRefused", stream, bytes)
}

/// The same, of a type that need not exist.
pub fn event_of_type(event_type: &str, stream: &str, bytes: usize) -> EventToAppend {
    let id = Uuid::now_v7();
    let text = format!(
        r#"{{"id":"{id}","stream":"{stream}","type":"{event_type}","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","data":{{"padding":"{}"}}}}"#,
        "x".repeat(bytes.saturating_sub(170))
    );
    EventToAppend {
        id,
        event_type: "TokenRefused",
        bytes: text.into_bytes().into(),
    }
}

/// Appends events to a stream without any expectation.
pub async fn append(store: &dyn EventStore, stream: &str, events: Vec<EventToAppend>) {
    let append = Append {
        stream: stream.to_owned(),
        expected: ExpectedRevision::Any,
        events,
    };
    store.append_to_stream(append).await.expect("it is appended");
}

/// A log of three streams in runs of different lengths, so that an append of the copy holds one event or many.
pub async fn fill(store: &dyn EventStore, events: usize) {
    let (streams, runs) = (["service", "application-1", "token-requests-1"], [1, 1, 5, 2, 9]);
    let mut size = 0;
    for run in 0.. {
        if size >= events {
            return;
        }
        let stream = streams[run % streams.len()];
        let count = runs[run % runs.len()].min(events - size);
        append(store, stream, (0..count).map(|n| event(stream, 200 + n)).collect()).await;
        size += count;
    }
}

/// The whole log, oldest first.
pub async fn whole_log(store: &dyn EventStore) -> Vec<StoredEvent> {
    let mut log = Vec::new();
    loop {
        let page = store.read_all(log.len() as u64, Direction::Forwards, MAX_EVENTS_PER_READ);
        let page = page.await.expect("it can be read");
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

/// The root over these events.
pub fn root(log: &[StoredEvent]) -> Hash {
    let mut range = CompactRange::default();
    log.iter().for_each(|event| range.push(leaf_of(&event.bytes)));
    range.root()
}

/// Appends the first events of a log one by one, as a migration that was cut off there leaves them.
pub async fn begin_copy(target: &dyn EventStore, log: &[StoredEvent]) {
    for stored in log {
        #[derive(serde::Deserialize)]
        struct Header {
            id: Uuid,
            stream: String,
        }
        let header: Header = serde_json::from_slice(&stored.bytes).expect("it is an event");
        let to_append = EventToAppend {
            id: header.id,
            event_type: "TokenRefused",
            bytes: stored.bytes.clone(),
        };
        append(target, &header.stream, vec![to_append]).await;
    }
}
