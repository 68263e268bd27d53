//! Reading the audit trail, which is itself on the trail.

use crate::audit::{AuditEvent, AuditPage, AuditQuery, AuditSearchError};
use crate::event_store::ExpectedRevision;
use crate::policy::CommandRefused;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{AuditTrailRead, TrailAccess};
use grantlog_projections::values::{Actor, ApplicationUri, StreamName};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a search waits for the index to read what has just happened.
const PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// Searches the trail; the search is on the record before it is answered.
    pub async fn search_audit(
        &self,
        query: &AuditQuery,
        parameters: BTreeMap<String, String>,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<AuditPage, ServiceError> {
        if query.after.is_none() {
            // Whoever has just done something finds it; an index that is further behind says so in the answer.
            let reached = self.index()?.wait_until_indexed(self.store.log_size());
            let _ = tokio::time::timeout(PATIENCE, reached).await;
        }
        let page = self.search_unrecorded(query).await?;
        let rows = page.events.len() as u64;
        let through = page.indexed_through;
        self.record_reading(parameters, rows, through, TrailAccess::Search, reader, circumstances)
            .await?;
        Ok(page)
    }

    /// The event at an index; the reading is on the record before it is answered.
    pub async fn audit_event(
        &self,
        index: u64,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Option<AuditEvent>, ServiceError> {
        let event = if index < self.store.log_size() {
            let stored = self.store.read_indexes(&[index]).await?;
            stored.first().map(AuditEvent::read).transpose()?
        } else {
            None
        };
        let parameters = BTreeMap::from([("index".to_owned(), index.to_string())]);
        let rows = u64::from(event.is_some());
        let through = self.store.log_size();
        self.record_reading(parameters, rows, through, TrailAccess::Search, reader, circumstances)
            .await?;
        Ok(event)
    }

    /// Searches the trail for something that is itself on the record.
    pub(super) async fn search_unrecorded(&self, query: &AuditQuery) -> Result<AuditPage, ServiceError> {
        self.index()?.search(query).await.map_err(|error| match error {
            AuditSearchError::CursorOfAnotherQuery => CommandRefused::invalid("after", error).into(),
            AuditSearchError::Overloaded => ServiceError::Busy(error.to_string()),
            AuditSearchError::Log(error) => error.into(),
            AuditSearchError::Event(error) => error.into(),
            AuditSearchError::Index(_) | AuditSearchError::BrokenOff(_) => ServiceError::Audit(error.to_string()),
        })
    }

    /// Puts a reading on the record.
    pub(super) async fn record_reading(
        &self,
        filter: BTreeMap<String, String>,
        rows: u64,
        through_index: u64,
        via: TrailAccess,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let fact = AuditTrailRead {
            application_uri: reader.clone(),
            filter,
            rows,
            through_index,
            via,
        };
        self.record_access(fact.into(), reader, circumstances).await?;
        Ok(())
    }

    /// Puts on the record that the trail was read, followed or copied, and answers with the event's index.
    pub(super) async fn record_access(
        &self,
        fact: Event,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<u64, ServiceError> {
        let (stream, actor) = (StreamName::audit_access(), Actor::Application(reader.clone()));
        let appended = self
            .record(stream, ExpectedRevision::Any, &actor, circumstances, [fact])
            .await?;
        Ok(appended.last_index)
    }
}
