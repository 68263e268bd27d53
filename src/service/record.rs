//! From a fact to a durable event.

use crate::event_store::{Append, Appended, ExpectedRevision, codec};
use crate::policy::Authority;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, Source, StreamName, Timestamp};
use uuid::Uuid;

/// The circumstances of a request, which its events keep.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// Where it came from; none for Grantlog's own doings.
    pub source: Option<Source>,
    /// Its W3C trace id.
    pub trace_id: Option<String>,
    /// When it was taken up.
    pub now: Timestamp,
}

/// Who gives a command.
#[derive(Debug, Clone)]
pub struct Commander {
    /// As events name them.
    pub actor: Actor,
    /// What they may hand on.
    pub authority: Authority,
}

impl Commander {
    /// Grantlog itself.
    pub fn system() -> Self {
        Self {
            actor: Actor::System,
            authority: Authority::Everything,
        }
    }
}

impl Circumstances {
    /// Of something that Grantlog does by itself.
    pub fn of_system() -> Self {
        Self {
            source: None,
            trace_id: None,
            now: super::now(),
        }
    }
}

impl Service {
    /// Appends facts to a stream, all or none, and answers when they are durable.
    pub(super) async fn record(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        actor: &Actor,
        circumstances: &Circumstances,
        facts: impl IntoIterator<Item = Event>,
    ) -> Result<Appended, ServiceError> {
        let facts = facts.into_iter().map(|fact| (Uuid::now_v7(), fact));
        self.record_as(stream, expected, actor, circumstances, facts).await
    }

    /// The same for events whose ids are known already.
    pub(super) async fn record_as(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        actor: &Actor,
        circumstances: &Circumstances,
        facts: impl IntoIterator<Item = (Uuid, Event)>,
    ) -> Result<Appended, ServiceError> {
        let events = facts
            .into_iter()
            .map(|(id, event)| {
                codec::encode(&Envelope {
                    id,
                    stream: stream.clone(),
                    time: circumstances.now,
                    actor: actor.clone(),
                    source: circumstances.source.clone(),
                    trace_id: circumstances.trace_id.clone(),
                    event,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let append = Append {
            stream: stream.as_str().to_owned(),
            expected,
            events,
        };
        // Whoever asked was let in before; what is put on the record now is decided on the state of now.
        if let Some(reason) = self.cut_off() {
            return Err(ServiceError::CutOff(reason));
        }
        Ok(self.store.append_to_stream(append).await?)
    }

    /// Appends a change of configuration and answers when this node shows it.
    pub(super) async fn record_change(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        actor: &Actor,
        circumstances: &Circumstances,
        facts: impl IntoIterator<Item = Event>,
    ) -> Result<Appended, ServiceError> {
        let appended = self.record(stream, expected, actor, circumstances, facts).await?;
        self.live.reached(appended.last_index).await?;
        Ok(appended)
    }
}
