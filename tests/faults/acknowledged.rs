//! The check behind every test here: is each acknowledged event in the log, once, at its index?

use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, Direction, EventStore, EventToAppend, ExpectedRevision};
use std::collections::HashMap;
use std::path::Path;
use uuid::Uuid;

/// An event's id and the index that it was acknowledged with.
pub type Acknowledged = (Uuid, u64);

/// Opens the log on a healthy disk and compares. `Err` says what is wrong with it.
pub async fn check(log: &Path, acknowledged: &[Acknowledged]) -> Result<(), String> {
    let store = SqliteEventStore::open(SqliteOptions::new(log)).map_err(|refused| refused.to_string())?;
    let mut places = HashMap::<Uuid, Vec<u64>>::new();
    let mut next_revisions = HashMap::<String, u64>::new();
    let mut next = 0;
    while next < store.log_size() {
        for event in store
            .read_all(next, Direction::Forwards, 4_096)
            .await
            .map_err(|error| error.to_string())?
        {
            let content: serde_json::Value =
                serde_json::from_slice(&event.bytes).map_err(|error| format!("event {next} is damaged: {error}"))?;
            let stream = content["stream"].as_str().unwrap().to_owned();
            let revision = next_revisions.entry(stream).or_default();
            if (event.index, event.revision) != (next, *revision) {
                return Err(format!(
                    "index {next} and revision {revision} are missing, instead there is {event:?}"
                ));
            }
            *revision += 1;
            next += 1;
            places
                .entry(content["id"].as_str().unwrap().parse().unwrap())
                .or_default()
                .push(event.index);
        }
    }
    for (id, index) in acknowledged {
        match places.get(id).map(Vec::as_slice) {
            None => {
                return Err(format!(
                    "{id} was acknowledged at {index} and is not in the log of {next} events"
                ));
            }
            Some([place]) if place == index => {}
            Some(places) => return Err(format!("{id} was acknowledged at {index} and is at {places:?}")),
        }
    }
    if let Some((id, _)) = places.iter().find(|(_, places)| places.len() > 1) {
        return Err(format!("{id} is in the log more than once"));
    }
    let appended = store
        .append_to_stream(one_more(next_revisions.get("check").copied()))
        .await;
    store.close().await;
    match appended {
        Ok(appended) if appended.first_index == next => Ok(()),
        other => Err(format!("the next event should have gone to index {next}: {other:?}")),
    }
}

fn one_more(revisions: Option<u64>) -> Append {
    let id = Uuid::now_v7();
    let bytes = format!(r#"{{"id":"{id}","stream":"check"}}"#).into_bytes();
    let expected = revisions
        .and_then(|next| next.checked_sub(1))
        .map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
    Append {
        stream: "check".to_owned(),
        expected,
        events: vec![EventToAppend {
            id,
            event_type: "Checked",
            bytes: bytes.into(),
        }],
    }
}
