//! Reading the audit trail, which is itself on the trail.

use crate::audit::event::AuditEvent;
use crate::audit::query::AuditQuery;
use crate::audit::search::AuditSearchError;
use crate::event_store::ExpectedRevision;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::AuditTrailRead;
use grantlog_projections::values::{Actor, ApplicationUri, StreamName};
use std::collections::BTreeMap;

/// A page of events.
#[derive(Debug, serde::Serialize)]
pub struct FoundEvents {
    /// The events, in the order asked for.
    pub events: Vec<AuditEvent>,
    /// Where to go on; none when there is no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many events the answer speaks of: those with a lower index.
    pub indexed_through: u64,
    /// How many events the log holds.
    pub log_size: u64,
}

impl Service {
    /// Searches the trail; the search is on the record before it is answered.
    pub async fn search_audit(
        &self,
        query: &AuditQuery,
        parameters: BTreeMap<String, String>,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<FoundEvents, ServiceError> {
        let page = self.audit.search(query).await.map_err(|error| match error {
            AuditSearchError::Read(error) => error.into(),
            error => ServiceError::Audit(error.to_string()),
        })?;
        let events = page.events.iter().map(AuditEvent::read).collect::<Result<Vec<_>, _>>()?;
        self.record_reading(parameters, events.len() as u64, page.indexed_through, reader, circumstances).await?;
        Ok(FoundEvents {
            events,
            next: page.next.map(|cursor| cursor.to_string()),
            indexed_through: page.indexed_through,
            log_size: page.log_size,
        })
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
        self.record_reading(parameters, rows, self.store.log_size(), reader, circumstances).await?;
        Ok(event)
    }

    async fn record_reading(
        &self,
        filter: BTreeMap<String, String>,
        rows: u64,
        through_index: u64,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let fact = AuditTrailRead { application_uri: reader.clone(), filter, rows, through_index };
        let (stream, actor) = (StreamName::audit_access(), Actor::Application(reader.clone()));
        self.record(stream, ExpectedRevision::Any, &actor, circumstances, [fact.into()]).await?;
        Ok(())
    }
}
