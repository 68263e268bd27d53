//! Checkpoints of the log, tiles of its tree, and proofs that an event is in it.

use crate::audit::transparency::tiles::TileId;
use crate::audit::transparency::{EventProof, SignedCheckpoint, Transparency, TransparencyError};
use crate::audit::{AuditEvent, AuditQuery, Order, TimeBound};
use crate::policy::CommandRefused;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::TrailAccess;
use grantlog_projections::values::{ApplicationUri, Timestamp};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A token's id is made after its request was taken up, and its event has the time of that: it is looked for this
/// long before, in seconds.
const SECONDS_BEFORE_ID: i64 = 60;
/// Pages of a thousand events that are searched for one token.
const MAX_PAGES_PER_TOKEN: usize = 64;

impl Service {
    /// The log as outsiders check it.
    pub fn transparency(&self) -> &Transparency {
        &self.transparency
    }

    /// The newest checkpoint. Public: reading it is not on the trail.
    pub async fn latest_checkpoint(&self) -> Result<SignedCheckpoint, ServiceError> {
        Ok(self.transparency.latest().await?)
    }

    /// The checkpoint over the first `size` events, as exports and reports print it.
    pub async fn checkpoint_at(&self, size: u64) -> Result<SignedCheckpoint, ServiceError> {
        Ok(self.transparency.checkpoint_at(size).await?)
    }

    /// Hashes of a tile, when they are published. Hashes tell nothing of events: reading them is not on the trail.
    pub async fn tile(&self, id: TileId, width: u64) -> Result<Option<Vec<u8>>, ServiceError> {
        Ok(self.transparency.tile(id, width).await?)
    }

    /// A bundle of whole events, when they are published. Who reads it, when that is known, is on the record before
    /// it is answered.
    pub async fn entries(
        &self,
        number: u64,
        width: u64,
        reader: Option<(&ApplicationUri, &Circumstances)>,
    ) -> Result<Option<Vec<u8>>, ServiceError> {
        let bundle = self.transparency.entries(number, width).await?;
        if let Some((reader, circumstances)) = reader {
            let parameters = BTreeMap::from([("entries".to_owned(), number.to_string())]);
            let rows = if bundle.is_some() { width } else { 0 };
            self.record_proof(parameters, rows, reader, circumstances).await?;
        }
        Ok(bundle)
    }

    /// A proof that the event at an index is in the log; none when the log is not that long. The reading is on the
    /// record before it is answered.
    pub async fn prove_event(
        &self,
        index: u64,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Option<EventProof>, ServiceError> {
        let parameters = BTreeMap::from([("index".to_owned(), index.to_string())]);
        let proof = match self.transparency.proof(index).await {
            Ok(proof) => Some(proof),
            Err(TransparencyError::NotThatLong { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let rows = u64::from(proof.is_some());
        self.record_proof(parameters, rows, reader, circumstances).await?;
        Ok(proof)
    }

    /// The same for the event of a token, by the token's `jti`.
    pub async fn prove_token(
        &self,
        jti: Uuid,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Option<EventProof>, ServiceError> {
        let parameters = BTreeMap::from([("jti".to_owned(), jti.to_string())]);
        let proof = match self.index_of_token(jti).await? {
            Some(index) => Some(self.transparency.proof(index).await?),
            None => None,
        };
        let rows = u64::from(proof.is_some());
        self.record_proof(parameters, rows, reader, circumstances).await?;
        Ok(proof)
    }

    /// Where the event of a token is. Its id is the event's and holds the time at which it was made (RFC 9562 §5.7),
    /// so only the events around that time are looked at.
    async fn index_of_token(&self, jti: Uuid) -> Result<Option<u64>, ServiceError> {
        let (Some(made), 7) = (jti.get_timestamp(), jti.get_version_num()) else {
            return Ok(None);
        };
        let (seconds, nanos) = made.to_unix();
        let micros = i64::try_from(seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(nanos / 1_000));
        let at = |micros| TimeBound::At(Timestamp::from_unix_micros(micros));
        let mut query = AuditQuery {
            event_type: Some("TokenIssued"),
            since: Some(at(micros.saturating_sub(SECONDS_BEFORE_ID * 1_000_000))),
            until: Some(at(micros.saturating_add(1_000_000))),
            order: Order::Desc,
            limit: crate::audit::query::MAX_LIMIT,
            ..AuditQuery::default()
        };
        for _ in 0..MAX_PAGES_PER_TOKEN {
            let page = self.search_unrecorded(&query).await?;
            if let Some(found) = page.events.iter().find(|event: &&AuditEvent| event.id == jti) {
                return Ok(Some(found.index));
            }
            query.after = match page.next {
                Some(next) => Some(next),
                None => return Ok(None),
            };
        }
        Err(CommandRefused::invalid(
            "jti",
            "too many tokens were issued at that time: search for it, and ask for the proof by its index",
        )
        .into())
    }

    async fn record_proof(
        &self,
        parameters: BTreeMap<String, String>,
        rows: u64,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let through = self.store.log_size();
        self.record_reading(parameters, rows, through, TrailAccess::Proof, reader, circumstances)
            .await
    }
}
