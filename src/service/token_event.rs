//! Finds the event of a token without an index: a token's id is that of its event, a UUIDv7, so it says when the event
//! was made, and events are very nearly in the order of time.

use crate::event_store::stream::read_stream;
use crate::event_store::{Direction, EventStore, ReadError, StoredEvent, codec};
use crate::service::authorize_call::signed_at;
use crate::service::{Service, ServiceError};
use grantlog_projections::values::{ApplicationId, StreamName, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

/// So far the clocks of the nodes may be apart, with the time that an event waits for its commit, in seconds.
const MAX_SKEW_SECONDS: i64 = 60;
/// Where the search begins: so many events before the place where the token's should be.
const HEAD_START: u64 = 64;
/// Events of the first page that is read: nearly every token is in it. Each further one is twice as large.
const FIRST_PAGE: usize = 2 * HEAD_START as usize;
/// Events that are read at a time at the most.
const MAX_PAGE: usize = 1_024;
/// Events that are looked at for one token.
const MAX_LOOKED_AT: usize = 262_144;

/// What is searched.
enum Place {
    /// The token requests of an application, by revision.
    Stream(StreamName),
    /// The whole log, by index.
    Log,
}

impl Service {
    /// The event of a token of this application.
    pub(super) async fn find_in_stream(
        &self,
        application: ApplicationId,
        jti: Uuid,
    ) -> Result<Option<StoredEvent>, ServiceError> {
        let place = Place::Stream(StreamName::token_requests(Some(application)));
        let store = &*self.store;
        Search { store, place }.find(jti).await
    }

    /// The event of a token of nobody knows whom.
    pub(super) async fn find_in_log(&self, jti: Uuid) -> Result<Option<StoredEvent>, ServiceError> {
        let (store, place) = (&*self.store, Place::Log);
        Search { store, place }.find(jti).await
    }
}

struct Search<'a> {
    store: &'a dyn EventStore,
    place: Place,
}

impl Search<'_> {
    async fn find(&self, jti: Uuid) -> Result<Option<StoredEvent>, ServiceError> {
        let Some(time) = signed_at(jti) else { return Ok(None) };
        let (earliest, latest) = (
            time.plus_seconds(-MAX_SKEW_SECONDS),
            time.plus_seconds(MAX_SKEW_SECONDS),
        );
        let middle = self.first_made_since(time).await?.saturating_sub(HEAD_START);
        let (mut before, mut from) = (Some(middle), Some(middle));
        let (mut looked_at, mut page_size) = (0, FIRST_PAGE);
        // Outwards in both directions, until it is found or cannot be any further out.
        while before.is_some() || from.is_some() {
            if looked_at >= MAX_LOOKED_AT {
                return Err(ServiceError::Busy("the token's event was not found in time".into()));
            }
            if let Some(start) = from {
                let page = self.read(start, page_size).await?;
                looked_at += page.len();
                if let Some(found) = page.iter().find(|stored| is_of(stored, jti)) {
                    return Ok(Some(found.clone()));
                }
                // All of the page: one event of a clock that was set wrong tells nothing.
                let is_beyond = page.iter().all(|stored| made_at(stored) > Some(latest));
                from = (page.len() == page_size && !is_beyond).then_some(start.saturating_add(page_size as u64));
            }
            if let Some(end) = before {
                let start = end.saturating_sub(page_size as u64);
                let page = match usize::try_from(end - start) {
                    Ok(0) => Vec::new(),
                    most => self.read(start, most.unwrap_or(page_size)).await?,
                };
                looked_at += page.len();
                if let Some(found) = page.iter().find(|stored| is_of(stored, jti)) {
                    return Ok(Some(found.clone()));
                }
                let is_before = |stored| made_at(stored).is_some_and(|made| made < earliest);
                before = (start > 0 && !page.iter().all(is_before)).then_some(start);
            }
            page_size = (2 * page_size).min(MAX_PAGE);
        }
        Ok(None)
    }

    /// Where what was made then begins, as far as times are in order: first in strides that double, then by halves.
    async fn first_made_since(&self, time: Timestamp) -> Result<u64, ServiceError> {
        let is_before = async |at: u64| -> Result<bool, ServiceError> {
            let read = self.read(at, 1).await?;
            Ok(read.first().is_some_and(|stored| made_at(stored) < Some(time)))
        };
        // Everything below `low` is before.
        let (mut low, mut stride) = (0_u64, 1_u64);
        while is_before(low.saturating_add(stride - 1)).await? {
            low = low.saturating_add(stride);
            stride = stride.saturating_mul(2);
        }
        let mut high = low.saturating_add(stride - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match is_before(middle).await? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    async fn read(&self, from: u64, most: usize) -> Result<Vec<StoredEvent>, ReadError> {
        match &self.place {
            Place::Stream(stream) => read_stream(self.store, stream, from, most).await,
            Place::Log => self.store.read_all(from, Direction::Forwards, most).await,
        }
    }
}

/// As much of an event as tells whose it is and when it was made.
#[derive(Deserialize)]
struct Made {
    id: Uuid,
    time: Timestamp,
}

impl Made {
    fn of(stored: &StoredEvent) -> Option<Self> {
        serde_json::from_slice(&stored.bytes).ok()
    }
}

/// When an event was made: by its id, where that tells, as a token's does.
fn made_at(stored: &StoredEvent) -> Option<Timestamp> {
    let made = Made::of(stored)?;
    signed_at(made.id).or(Some(made.time))
}

fn is_of(stored: &StoredEvent, jti: Uuid) -> bool {
    codec::peek_type(&stored.bytes) == Some("TokenIssued") && Made::of(stored).is_some_and(|made| made.id == jti)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::MemoryLog;
    use crate::event_store::sqlite::{SqliteEventStore, SqliteOptions};
    use crate::event_store::{Append, EventToAppend, ExpectedRevision, MAX_EVENTS_PER_APPEND};
    use std::sync::atomic::Ordering;
    use uuid::Timestamp as UuidTime;

    const STREAM: &str = "token-requests-17f1f1d4-37cd-5a94-9bc2-f9e18b679123";
    const START_SECONDS: u64 = 1_773_653_400;

    /// The id of an event that was made so many seconds after the start.
    fn id(seconds: u64, number: u64) -> Uuid {
        let time = UuidTime::from_unix(uuid::NoContext, START_SECONDS + seconds, 0);
        let mut bytes = *Uuid::new_v7(time).as_bytes();
        bytes[8..].copy_from_slice(&(number | 0x8000_0000_0000_0000).to_be_bytes());
        Uuid::from_bytes(bytes)
    }

    fn event(id: Uuid) -> EventToAppend {
        let time = signed_at(id).unwrap();
        EventToAppend {
            id,
            event_type: "TokenIssued",
            bytes: format!(r#"{{"id":"{id}","stream":"{STREAM}","type":"TokenIssued","time":"{time}"}}"#)
                .into_bytes()
                .into(),
        }
    }

    /// When the first of them was made, in seconds after the start.
    fn seconds_of(ids: &[Uuid]) -> u64 {
        let (seconds, _) = ids[0].get_timestamp().unwrap().to_unix();
        seconds - START_SECONDS
    }

    async fn log(ids: &[Uuid]) -> (tempfile::TempDir, SqliteEventStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteEventStore::open(SqliteOptions::new(folder.path().join("events.db"))).unwrap();
        for (number, some) in ids.chunks(MAX_EVENTS_PER_APPEND).enumerate() {
            // Something of another stream in between, so that revisions are not indexes.
            for (stream, events) in [
                (STREAM, some.iter().map(|id| event(*id)).collect()),
                ("other", vec![event(id(seconds_of(some), 1_000_000 + number as u64))]),
            ] {
                let append = Append {
                    stream: stream.to_owned(),
                    expected: ExpectedRevision::Any,
                    events,
                };
                store.append_to_stream(append).await.unwrap();
            }
        }
        (folder, store)
    }

    async fn found(store: &SqliteEventStore, jti: Uuid) -> Option<u64> {
        let place = Place::Stream(StreamName::token_requests(Some(ApplicationId(
            "17f1f1d4-37cd-5a94-9bc2-f9e18b679123".parse().unwrap(),
        ))));
        let in_stream = Search { store, place }.find(jti).await.unwrap();
        let place = Place::Log;
        let in_log = Search { store, place }.find(jti).await.unwrap();
        assert_eq!(
            in_stream.as_ref().map(|stored| stored.index),
            in_log.map(|stored| stored.index)
        );
        in_stream.map(|stored| stored.revision)
    }

    #[tokio::test]
    async fn every_token_of_a_long_stream_is_found_by_its_id() {
        let ids: Vec<Uuid> = (0..5_000).map(|number| id(number / 7, number)).collect();
        let (_folder, store) = log(&ids).await;
        for revision in [0, 1, 63, 64, 65, 1_023, 1_024, 2_500, 4_998, 4_999] {
            assert_eq!(found(&store, ids[revision]).await, Some(revision as u64));
        }
    }

    #[tokio::test]
    async fn a_token_that_stands_where_its_time_says_is_found_in_the_first_page() {
        let ids: Vec<Uuid> = (0..5_000).map(|number| id(number / 7, number)).collect();
        let log = MemoryLog::of(&[]);
        for id in &ids {
            log.add_bytes(event(*id).bytes);
        }
        let (store, place) = (&*log, Place::Log);
        let found = Search { store, place }.find(ids[2_500]).await.unwrap();
        assert_eq!(found.map(|stored| stored.index), Some(2_500));
        // Besides, one event for each step of the search for the page: twice for each bit of its place.
        let steps = 2 * u64::from(u64::BITS - 5_000_u64.leading_zeros());
        assert!(log.events_read.load(Ordering::Relaxed) <= 128 + steps);
    }

    #[tokio::test]
    async fn a_token_of_a_node_whose_clock_is_off_is_found_where_its_commit_put_it() {
        // A minute before and after those around them, and further from them than a page.
        let mut ids: Vec<Uuid> = (0..6_000).map(|number| id(100 + number / 50, number)).collect();
        let (early, late) = (id(100 + 80 - 59, 7_001), id(100 + 20 + 59, 7_002));
        ids.insert(80 * 50, early);
        ids.insert(20 * 50, late);
        let (_folder, store) = log(&ids).await;
        assert_eq!(found(&store, late).await, Some(20 * 50));
        assert_eq!(found(&store, early).await, Some(80 * 50 + 1));
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let ids: Vec<Uuid> = (0..300).map(|number| id(number, number)).collect();
        let (_folder, store) = log(&ids).await;
        for absent in [
            id(0, 999),
            id(150, 999),
            id(299, 999),
            id(9_999, 1),
            Uuid::nil(),
            Uuid::new_v4(),
        ] {
            assert_eq!(found(&store, absent).await, None);
        }
        let (_folder, empty) = log(&[]).await;
        assert_eq!(found(&empty, id(5, 5)).await, None);
    }
}
