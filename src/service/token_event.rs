//! Finds the event of a token without an index: a token's id is that of its event, a UUIDv7, so it says when the event
//! was made, and events are very nearly in the order of time.

use crate::event_store::{Direction, MAX_EVENTS_PER_READ, ReadError, StoredEvent, codec};
use crate::service::authorize_call::signed_at;
use crate::service::{Service, ServiceError};
use grantlog_projections::values::{ApplicationId, StreamName, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

/// So far the clocks of the nodes may be apart, with the time that an event waits for its commit, in seconds.
const MAX_SKEW_SECONDS: i64 = 60;
/// Events that are read at a time.
const PAGE: usize = 1_024;
/// Where the search begins: so many events before the place where the token's should be.
const HEAD_START: u64 = 64;
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
        let stream = StreamName::token_requests(Some(application));
        self.find_token_event(Place::Stream(stream), jti).await
    }

    /// The event of a token of nobody knows whom.
    pub(super) async fn find_in_log(&self, jti: Uuid) -> Result<Option<StoredEvent>, ServiceError> {
        self.find_token_event(Place::Log, jti).await
    }

    async fn find_token_event(&self, place: Place, jti: Uuid) -> Result<Option<StoredEvent>, ServiceError> {
        let Some(time) = signed_at(jti) else { return Ok(None) };
        let (earliest, latest) = (
            time.plus_seconds(-MAX_SKEW_SECONDS),
            time.plus_seconds(MAX_SKEW_SECONDS),
        );
        let middle = self.first_made_since(&place, time).await?.saturating_sub(HEAD_START);
        let (mut before, mut from) = (Some(middle), Some(middle));
        let mut looked_at = 0;
        // Outwards in both directions, until it is found or cannot be any further out.
        while before.is_some() || from.is_some() {
            if looked_at >= MAX_LOOKED_AT {
                return Err(ServiceError::Busy("the token's event was not found in time".into()));
            }
            if let Some(start) = from {
                let page = self.read_page(&place, start, PAGE).await?;
                looked_at += page.len();
                if let Some(found) = page.iter().find(|stored| is_of(stored, jti)) {
                    return Ok(Some(found.clone()));
                }
                let is_beyond = page.iter().any(|stored| made_at(stored) > Some(latest));
                from = (page.len() == PAGE && !is_beyond).then_some(start.saturating_add(PAGE as u64));
            }
            if let Some(end) = before {
                let start = end.saturating_sub(PAGE as u64);
                let most = usize::try_from(end - start).unwrap_or(PAGE);
                let page = match most {
                    0 => Vec::new(),
                    most => self.read_page(&place, start, most).await?,
                };
                looked_at += page.len();
                if let Some(found) = page.iter().find(|stored| is_of(stored, jti)) {
                    return Ok(Some(found.clone()));
                }
                let is_beyond = page
                    .iter()
                    .any(|stored| made_at(stored).is_some_and(|made| made < earliest));
                before = (start > 0 && !is_beyond).then_some(start);
            }
        }
        Ok(None)
    }

    /// Where what was made then begins, as far as times are in order: first in strides that double, then by halves.
    async fn first_made_since(&self, place: &Place, time: Timestamp) -> Result<u64, ServiceError> {
        let is_before = async |at: u64| -> Result<bool, ServiceError> {
            let read = self.read_page(place, at, 1).await?;
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

    async fn read_page(&self, place: &Place, from: u64, most: usize) -> Result<Vec<StoredEvent>, ReadError> {
        let most = most.min(MAX_EVENTS_PER_READ);
        match place {
            Place::Stream(stream) => self.store.read_stream(stream.as_str(), from, most).await,
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
