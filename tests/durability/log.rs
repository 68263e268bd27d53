//! The event log of a data folder, read with the library and looked at from all sides.
#![allow(dead_code)] // other test targets use a part of this

use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Direction, EventStore, MAX_EVENTS_PER_READ, StoredEvent, codec};
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::{Event, values::StreamName};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// As much of a log as has been read.
#[derive(Default)]
pub struct Log {
    pub events: Vec<RecordedEvent>,
    bytes: Vec<Arc<[u8]>>,
    next_revisions: HashMap<StreamName, u64>,
    ids: HashMap<Uuid, u64>,
    by_request: HashMap<String, Vec<u64>>,
    issued: HashMap<Uuid, Vec<u64>>,
}

impl Log {
    /// The whole log.
    pub async fn read(path: &Path) -> Result<Self, String> {
        let mut log = Self::default();
        log.read_on(path).await?;
        Ok(log)
    }

    /// Reads what has come since; a server may be writing. `Err` when it is not a log as it must be: indexes
    /// and revisions dense, every event readable, none twice, and what was read before still there.
    pub async fn read_on(&mut self, path: &Path) -> Result<(), String> {
        let store = SqliteEventStore::open_read_only(SqliteOptions::new(path)).map_err(|error| error.to_string())?;
        self.read_from(&store).await
    }

    /// The same from a log that is open.
    pub async fn read_from(&mut self, store: &dyn EventStore) -> Result<(), String> {
        let mut next = self.events.len().saturating_sub(1) as u64;
        if store.log_size() < self.events.len() as u64 {
            return Err(self.has_shrunk(store.log_size()));
        }
        while next < store.log_size() {
            let read = store.read_all(next, Direction::Forwards, MAX_EVENTS_PER_READ).await;
            for stored in read.map_err(|error| error.to_string())? {
                self.meet(next, stored)?;
                next += 1;
            }
        }
        Ok(())
    }

    /// The same of a whole log that is given.
    pub fn take_in(&mut self, whole: impl Iterator<Item = StoredEvent>) -> Result<(), String> {
        let mut size = 0;
        for stored in whole {
            self.meet(size, stored)?;
            size += 1;
        }
        match size < self.events.len() as u64 {
            true => Err(self.has_shrunk(size)),
            false => Ok(()),
        }
    }

    fn has_shrunk(&self, size: u64) -> String {
        format!("the log had {} events and has {size}", self.events.len())
    }

    /// An event that is known already must be the same, another one is the next.
    fn meet(&mut self, next: u64, stored: StoredEvent) -> Result<(), String> {
        match self.bytes.get(next as usize) {
            Some(known) if *known == stored.bytes => Ok(()),
            Some(_) => Err(format!("event {next} is another one now")),
            None if stored.index != next => Err(format!("instead of event {next} there is event {}", stored.index)),
            None => {
                let recorded = codec::decode(&stored).map_err(|error| error.to_string())?;
                self.add(recorded, stored.bytes)
            }
        }
    }

    /// The stored bytes of every event.
    pub fn bytes(&self) -> &[Arc<[u8]>] {
        &self.bytes
    }

    /// Whether it begins with all of the other.
    pub fn goes_on_from(&self, other: &Self) -> bool {
        self.bytes.starts_with(&other.bytes)
    }

    /// The events of a request.
    pub fn of_request(&self, request: &str) -> impl Iterator<Item = &RecordedEvent> {
        let indexes = self.by_request.get(request).map_or(&[][..], Vec::as_slice);
        indexes.iter().map(|index| &self.events[*index as usize])
    }

    /// Where the token with this id was issued.
    pub fn issued(&self, jti: Uuid) -> &[u64] {
        self.issued.get(&jti).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, recorded: RecordedEvent, bytes: Arc<[u8]>) -> Result<(), String> {
        let (index, envelope) = (recorded.index, &recorded.envelope);
        let revision = self.next_revisions.entry(envelope.stream.clone()).or_default();
        if recorded.revision != *revision {
            let (stream, found) = (envelope.stream.as_str(), recorded.revision);
            return Err(format!(
                "event {index} of {stream} has revision {found}, {revision} follows"
            ));
        }
        *revision += 1;
        if let Some(first) = self.ids.insert(envelope.id, index) {
            return Err(format!("event {} is at {first} and at {index}", envelope.id));
        }
        if let Some(request) = envelope.source.as_ref().and_then(|source| source.user_agent.as_deref()) {
            self.by_request.entry(request.to_owned()).or_default().push(index);
        }
        if let Event::TokenIssued(issued) = &envelope.event {
            self.issued.entry(issued.jti).or_default().push(index);
        }
        self.events.push(recorded);
        self.bytes.push(bytes);
        Ok(())
    }
}
