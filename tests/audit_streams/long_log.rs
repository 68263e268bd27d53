//! A log that is long enough for an export of it to take a while, and what is read beside the server.

use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, Direction, EventStore, EventToAppend, ExpectedRevision, StoredEvent};
use std::path::Path;
use uuid::Uuid;

/// Events of one append.
const BATCH: usize = 128;

/// Writes so many token events into the log of a data folder that no server uses yet.
pub async fn fill(data_dir: &Path, events: usize) {
    std::fs::create_dir_all(data_dir).expect("the data folder");
    let store = SqliteEventStore::open(SqliteOptions::new(data_dir.join("events.db"))).expect("the log opens");
    let token = include_str!("../golden/TokenIssued.json").trim_end();
    let golden_id = "0190163d-8694-739b-aea5-966c26f8ad91";
    let make = || {
        let id = Uuid::now_v7();
        EventToAppend {
            id,
            event_type: "TokenIssued",
            bytes: token.replace(golden_id, &id.to_string()).into_bytes().into(),
        }
    };
    for _ in 0..events.div_ceil(BATCH) {
        let append = Append {
            stream: "token-requests-17f1f1d4-37cd-5a94-9bc2-f9e18b679123".into(),
            expected: ExpectedRevision::Any,
            events: std::iter::repeat_with(make).take(BATCH).collect(),
        };
        store.append_to_stream(append).await.expect("it is appended");
    }
    store.close().await;
}

/// The whole log, read beside the server.
pub async fn read(data_dir: &Path) -> Vec<StoredEvent> {
    let options = SqliteOptions {
        readers: 1,
        ..SqliteOptions::new(data_dir.join("events.db"))
    };
    let store = SqliteEventStore::open_read_only(options).expect("the log opens");
    let mut log = Vec::new();
    loop {
        let read = store.read_all(log.len() as u64, Direction::Forwards, 4_096).await;
        let read = read.expect("the log can be read");
        if read.is_empty() {
            return log;
        }
        log.extend(read);
    }
}
