//! Checkpoints of the log, tiles of its tree, and proofs that an event is in it.

use crate::audit::transparency::tiles::TileId;
use crate::audit::transparency::{EventProof, SignedCheckpoint, TransparencyError};
use crate::audit::{AuditQuery, Filter};
use crate::event_store::codec;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{TokenIssued, TrailAccess};
use grantlog_projections::values::{ApplicationId, ApplicationUri, SecretId};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// How long a token's proof waits for the audit index.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pages that are searched for one token; nearly always it is on the first.
const MAX_PAGES_PER_TOKEN: usize = 64;

impl Service {
    /// The newest checkpoint. Public: reading it is not on the trail.
    pub async fn latest_checkpoint(&self) -> Result<SignedCheckpoint, ServiceError> {
        Ok(self.transparency()?.latest().await?)
    }

    /// The checkpoint over the first `size` events, as exports and reports print it.
    pub async fn checkpoint_at(&self, size: u64) -> Result<SignedCheckpoint, ServiceError> {
        Ok(self.transparency()?.checkpoint_at(size).await?)
    }

    /// Hashes of a tile, when they are published. Hashes tell nothing of events: reading them is not on the trail.
    pub async fn tile(&self, id: TileId, width: u64) -> Result<Option<Vec<u8>>, ServiceError> {
        Ok(self.transparency()?.tile(id, width).await?)
    }

    /// A bundle of whole events, when they are published. Who reads it, when that is known, is on the record before
    /// it is answered.
    pub async fn entries(
        &self,
        number: u64,
        width: u64,
        reader: Option<(&ApplicationUri, &Circumstances)>,
    ) -> Result<Option<Vec<u8>>, ServiceError> {
        let bundle = self.transparency()?.entries(number, width).await?;
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
        let proof = match self.transparency()?.proof(index).await {
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
            Some(index) => Some(self.transparency()?.proof(index).await?),
            None => None,
        };
        let rows = u64::from(proof.is_some());
        self.record_proof(parameters, rows, reader, circumstances).await?;
        Ok(proof)
    }

    /// The secret that a token of this application was asked for with; none when the log has no such token.
    pub(super) async fn secret_of_token(
        &self,
        application: ApplicationId,
        jti: Uuid,
    ) -> Result<Option<SecretId>, ServiceError> {
        let issued = self.token_issued(application, jti).await?;
        Ok(issued.map(|issued| issued.secret_id))
    }

    /// What the log says of the issue of a token to this application; none when it has no such token. The index tells
    /// where that is; a node without one looks in the application's stream.
    pub(super) async fn token_issued(
        &self,
        application: ApplicationId,
        jti: Uuid,
    ) -> Result<Option<TokenIssued>, ServiceError> {
        let stored = match self.indexed_through() {
            None => self.find_in_stream(application, jti).await?,
            Some(_) => match self.index_of_token(jti).await? {
                Some(index) => self.store.read_indexes(&[index]).await?.into_iter().next(),
                None => None,
            },
        };
        let Some(stored) = stored else { return Ok(None) };
        Ok(match codec::decode(&stored)?.envelope.event {
            Event::TokenIssued(issued) => Some(issued),
            _ => None,
        })
    }

    /// Where the event of a token is.
    pub(super) async fn index_of_token(&self, jti: Uuid) -> Result<Option<u64>, ServiceError> {
        let Some(trail) = &self.trail else {
            return Ok(self.find_in_log(jti).await?.map(|stored| stored.index));
        };
        // Whoever has just got the token may ask: its event is durable, but perhaps not indexed yet.
        let indexed = trail.index.wait_until_indexed(self.store.log_size());
        match tokio::time::timeout(PATIENCE, indexed).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(ServiceError::Audit(error.to_string())),
            // What it does not find yet may be there.
            Err(_) => {
                return Err(ServiceError::Busy(
                    "the audit index has not read the log so far yet".into(),
                ));
            }
        }
        let filter = Filter::parse(&format!("jti eq \"{jti}\""), super::now());
        let mut query = AuditQuery {
            event_type: Some("TokenIssued"),
            filter: Some(filter.map_err(|error| ServiceError::Audit(error.to_string()))?),
            limit: 1,
            ..AuditQuery::default()
        };
        for _ in 0..MAX_PAGES_PER_TOKEN {
            let page = self.search_unrecorded(&query).await?;
            if let Some(found) = page.events.first() {
                return Ok(Some(found.index));
            }
            query.after = match page.next.filter(|_| page.partial) {
                Some(next) => Some(next),
                None => return Ok(None),
            };
        }
        Err(ServiceError::Busy("the token's event was not found in time".into()))
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
