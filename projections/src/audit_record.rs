//! An event as the audit trail finds it: the few values that people search by.

use crate::event::Event;
use crate::recorded_event::RecordedEvent;
use crate::values::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Whether what was asked for was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was.
    Success,
    /// It was not.
    Refused,
}

impl Outcome {
    /// Its wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
        }
    }
}

/// What the audit index keeps of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditRecord<'a> {
    /// The event's place in the log.
    pub index: u64,
    /// When it was decided.
    pub time: Timestamp,
    /// The wire name of its type.
    pub event_type: &'static str,
    /// The application that it is about: the one that asked, or the one that was changed.
    pub client_id: Option<&'a str>,
    /// Whether what was asked for was done.
    pub outcome: Outcome,
    /// Where the request came from.
    pub source_ip: Option<IpAddr>,
}

impl<'a> From<&'a RecordedEvent> for AuditRecord<'a> {
    fn from(recorded: &'a RecordedEvent) -> Self {
        let envelope = &recorded.envelope;
        let (client_id, outcome) = match &envelope.event {
            Event::ServiceStarted(_) | Event::ServiceStopped(_) => (None, Outcome::Success),
            Event::ApplicationRegistered(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::ApplicationChanged(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::ApplicationEnabled(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::ApplicationDisabled(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::ApplicationDeleted(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::SecretRotated(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::SecretRevoked(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::ApiRegistered(_) | Event::ApiChanged(_) | Event::ApiDeleted(_) => (None, Outcome::Success),
            Event::SigningKeyAdded(_) | Event::SigningKeyActivated(_) | Event::SigningKeyRetired(_) => {
                (None, Outcome::Success)
            }
            Event::TokenIssued(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::TokenRefused(data) => (data.client_id.as_deref(), Outcome::Refused),
            Event::RequestsThrottled(data) => (data.client_id.as_deref(), Outcome::Refused),
            Event::ApiCallAuthorized(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::ApiCallDenied(data) => (data.application_uri.as_ref().map(|uri| uri.as_str()), Outcome::Refused),
            Event::AuditTrailRead(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::AuditTrailExported(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::ReportProduced(data) => (Some(data.application_uri.as_str()), Outcome::Success),
            Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => (None, Outcome::Success),
        };
        Self {
            index: recorded.index,
            time: envelope.time,
            event_type: envelope.event.type_name(),
            client_id,
            outcome,
            source_ip: source_ip(recorded),
        }
    }
}

/// Where the request came from. What a flood left is written when its window ends, by nobody's request.
fn source_ip(recorded: &RecordedEvent) -> Option<IpAddr> {
    let envelope = &recorded.envelope;
    match (&envelope.source, &envelope.event) {
        (Some(source), _) => Some(source.ip),
        (None, Event::RequestsThrottled(data)) => Some(data.source),
        (None, _) => None,
    }
}
