//! What was, and what made it otherwise. Who looks is on the record before it is answered.

use crate::audit::AuditEvent;
use crate::audit::diff::ApplicationDiff;
use crate::audit::reports::parameters::Cut;
use crate::policy::CommandRefused;
use crate::service::applications::{AsOf, not_yet_registered};
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::TrailAccess;
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::values::{ApiId, ApplicationId, ApplicationUri, StreamName};
use std::collections::BTreeMap;

impl From<AsOf> for Cut {
    fn from(as_of: AsOf) -> Self {
        match as_of {
            AsOf::Time(time) => Self::Time(time),
            AsOf::Index(index) => Self::Index(index),
        }
    }
}

impl Service {
    /// What differs in an application between two points, the earlier one first.
    pub async fn application_diff(
        &self,
        id: ApplicationId,
        from: AsOf,
        to: AsOf,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<ApplicationDiff, ServiceError> {
        let known = self.revision_of_application(id);
        let history = self.history(&StreamName::application(id), known).await?;
        let diff = ApplicationDiff::of(&history, from.into(), to.into())
            .ok_or_else(|| CommandRefused::NotFound(not_yet_registered(id, &history)))?;
        if diff.from.index > diff.to.index || diff.from.time > diff.to.time {
            return Err(CommandRefused::invalid("to", "must not be earlier than from").into());
        }
        let filter = BTreeMap::from([
            ("diff_of".to_owned(), diff.client_id.to_string()),
            ("from".to_owned(), shown(from)),
            ("to".to_owned(), shown(to)),
        ]);
        self.record_history(filter, diff.events.len(), reader, circumstances)
            .await?;
        Ok(diff)
    }

    /// All that ever happened to the application's configuration, oldest first.
    pub async fn application_history(
        &self,
        id: ApplicationId,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Vec<AuditEvent>, ServiceError> {
        let what = format!("application {id}");
        let known = self.revision_of_application(id);
        self.stream_history(&StreamName::application(id), known, what, reader, circumstances)
            .await
    }

    /// All that ever happened to the API's configuration, oldest first.
    pub async fn api_history(
        &self,
        id: ApiId,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Vec<AuditEvent>, ServiceError> {
        let (known, what) = (self.revision_of_api(id), format!("API {id}"));
        self.stream_history(&StreamName::api(id), known, what, reader, circumstances)
            .await
    }

    /// All that ever happened to the signing keys, oldest first. Their private halves are sealed in the events.
    pub async fn signing_key_history(
        &self,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Vec<AuditEvent>, ServiceError> {
        let (stream, known) = (StreamName::signing_keys(), self.snapshot().key_ring.revision);
        self.stream_history(&stream, known, "signing key".into(), reader, circumstances)
            .await
    }

    /// The signing keys as they were then.
    pub async fn key_ring_as_of(&self, as_of: AsOf) -> Result<KeyRing, ServiceError> {
        let mut key_ring = KeyRing::default();
        let known = self.snapshot().key_ring.revision;
        for recorded in self.history(&StreamName::signing_keys(), known).await? {
            if !as_of.includes(&recorded) {
                break;
            }
            key_ring.apply(&recorded);
        }
        Ok(key_ring)
    }

    /// Puts on the record that somebody looks at the state at a time of the past, and at how much of it.
    pub async fn record_looking_back(
        &self,
        state_of: String,
        as_of: AsOf,
        rows: usize,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let filter = BTreeMap::from([("state_of".to_owned(), state_of), ("as_of".to_owned(), shown(as_of))]);
        self.record_history(filter, rows, reader, circumstances).await
    }

    async fn stream_history(
        &self,
        stream: &StreamName,
        known: Option<u64>,
        what: String,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Vec<AuditEvent>, ServiceError> {
        let history = self.stored_history(stream, known).await?;
        if history.is_empty() {
            return Err(CommandRefused::NotFound(format!("there is no {what}")).into());
        }
        let events = history.iter().map(AuditEvent::read).collect::<Result<Vec<_>, _>>()?;
        let filter = BTreeMap::from([("history_of".to_owned(), what)]);
        self.record_history(filter, events.len(), reader, circumstances).await?;
        Ok(events)
    }

    async fn record_history(
        &self,
        filter: BTreeMap<String, String>,
        rows: usize,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let through = self.store.log_size();
        let via = TrailAccess::History;
        self.record_reading(filter, rows as u64, through, via, reader, circumstances)
            .await
    }
}

fn shown(as_of: AsOf) -> String {
    match as_of {
        AsOf::Time(time) => time.to_string(),
        AsOf::Index(index) => index.to_string(),
    }
}
