//! An event as the audit trail finds it: the few values that people search by.

use crate::event::{Event, SupersededSecret};
use crate::recorded_event::RecordedEvent;
use crate::values::{Actor, ApplicationUri, Remark, SecretId, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;
use uuid::Uuid;

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
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord<'a> {
    /// The event's place in the log.
    pub index: u64,
    /// The event's own id.
    pub id: Uuid,
    /// When it was decided.
    pub time: Timestamp,
    /// The wire name of its type.
    pub event_type: &'static str,
    /// Who asked, as the wire has it.
    pub actor: Cow<'a, str>,
    /// The W3C trace id of the request.
    pub trace_id: Option<&'a str>,
    /// The application that it is about: the one that asked, or the one that was changed.
    pub client_id: Option<&'a str>,
    /// Whether what was asked for was done.
    pub outcome: Outcome,
    /// Where the request came from.
    pub source_ip: Option<IpAddr>,
    /// The true reason of a refusal, or why something was done.
    pub reason: Option<&'a str>,
    /// The token that it is about: an access token or a reference token.
    pub jti: Option<Uuid>,
    /// The session that began or ended, or that a call belongs to.
    pub session_id: Option<Uuid>,
    /// The secret that was used, made or revoked.
    pub secret_id: Option<SecretId>,
    /// The secrets that were on their way out then.
    pub superseded: &'a [SupersededSecret],
    /// The path of a call.
    pub path: Option<&'a str>,
}

impl<'a> From<&'a RecordedEvent> for AuditRecord<'a> {
    fn from(recorded: &'a RecordedEvent) -> Self {
        let envelope = &recorded.envelope;
        let mut record = Self {
            index: recorded.index,
            id: envelope.id,
            time: envelope.time,
            event_type: envelope.event.type_name(),
            actor: match &envelope.actor {
                Actor::Application(uri) => uri.as_str().into(),
                Actor::Anonymous => "anonymous".into(),
                Actor::System => "system".into(),
                operator @ Actor::Operator(_) => operator.to_string().into(),
            },
            trace_id: envelope.trace_id.as_deref(),
            client_id: None,
            outcome: Outcome::Success,
            source_ip: source_ip(recorded),
            reason: None,
            jti: None,
            session_id: None,
            secret_id: None,
            superseded: &[],
            path: None,
        };
        record.take(&envelope.event);
        record
    }
}

impl<'a> AuditRecord<'a> {
    /// What the fact itself says.
    fn take(&mut self, event: &'a Event) {
        match event {
            Event::ServiceStarted(_) => {}
            Event::ServiceStopped(data) => self.reason = Some(&data.reason),
            Event::ApplicationRegistered(data) => {
                self.client_id = Some(data.application_uri.as_str());
                self.secret_id = data.secret.as_ref().map(|secret| secret.id);
            }
            Event::ApplicationChanged(data) => self.take_change(&data.application_uri, &data.reason),
            Event::ApplicationEnabled(data) => self.take_change(&data.application_uri, &data.reason),
            Event::ApplicationDisabled(data) => self.take_change(&data.application_uri, &data.reason),
            Event::ApplicationDeleted(data) => self.take_change(&data.application_uri, &data.reason),
            Event::SecretRotated(data) => {
                self.take_change(&data.application_uri, &data.reason);
                self.secret_id = Some(data.secret.id);
                self.superseded = &data.superseded;
            }
            Event::SecretRevoked(data) => {
                self.take_change(&data.application_uri, &data.reason);
                self.secret_id = Some(data.secret_id);
            }
            Event::ApiRegistered(_) => {}
            Event::ApiChanged(data) => self.reason = data.reason.as_ref().map(Remark::as_str),
            Event::ApiDeleted(data) => self.reason = data.reason.as_ref().map(Remark::as_str),
            Event::SigningKeyAdded(data) => self.reason = Some(data.reason.as_str()),
            Event::SigningKeyActivated(data) => self.reason = Some(data.reason.as_str()),
            Event::SigningKeyRetired(data) => self.reason = Some(data.reason.as_str()),
            Event::TokenIssued(data) => {
                self.client_id = Some(data.application_uri.as_str());
                self.jti = Some(data.jti);
                self.secret_id = Some(data.secret_id);
            }
            Event::TokenRefused(data) => {
                self.client_id = data.client_id.as_deref();
                self.outcome = Outcome::Refused;
                self.reason = Some(data.reason.as_str());
            }
            Event::RequestsThrottled(data) => {
                self.client_id = data.client_id.as_deref();
                self.outcome = Outcome::Refused;
            }
            Event::TokenRevoked(data) => {
                self.take_change(&data.application_uri, &data.reason);
                self.jti = Some(data.jti);
            }
            Event::TokensRevoked(data) => self.take_change(&data.application_uri, &data.reason),
            Event::ReferenceTokenIssued(data) => {
                self.client_id = Some(data.application_uri.as_str());
                self.jti = Some(data.token_id);
            }
            Event::ReferenceTokenRevoked(data) => {
                self.take_change(&data.application_uri, &data.reason);
                self.jti = Some(data.token_id);
            }
            Event::SessionStarted(data) => {
                self.client_id = Some(data.application_uri.as_str());
                self.jti = Some(data.jti);
                self.session_id = Some(data.session_id);
            }
            Event::SessionEnded(data) => {
                self.client_id = Some(data.application_uri.as_str());
                self.reason = Some(data.reason.as_str());
                self.jti = Some(data.jti);
                self.session_id = Some(data.session_id);
            }
            Event::ApiCallAuthorized(data) => {
                self.client_id = Some(data.application_uri.as_str());
                self.jti = Some(data.jti);
                self.path = Some(&data.path);
                self.session_id = data.session_id;
            }
            Event::ApiCallDenied(data) => {
                self.client_id = data.application_uri.as_ref().map(ApplicationUri::as_str);
                self.outcome = Outcome::Refused;
                self.reason = Some(data.reason.as_str());
                self.jti = data.jti;
                self.path = Some(&data.path);
            }
            Event::AuditTrailRead(data) => self.client_id = Some(data.application_uri.as_str()),
            Event::AuditTrailExported(data) => self.client_id = Some(data.application_uri.as_str()),
            Event::ReportProduced(data) => self.client_id = Some(data.application_uri.as_str()),
            Event::LegalHoldPlaced(data) => self.reason = Some(data.reason.as_str()),
            Event::LegalHoldReleased(data) => self.reason = data.reason.as_ref().map(Remark::as_str),
            Event::EventsRemoved(_) | Event::IndexPruned(_) | Event::EventRemoved(_) => {}
        }
    }

    fn take_change(&mut self, client_id: &'a ApplicationUri, reason: &'a Option<Remark>) {
        self.client_id = Some(client_id.as_str());
        self.reason = reason.as_ref().map(Remark::as_str);
    }
}

/// Where the request came from. What a flood left is written when its window ends, by nobody's request; a call that
/// an API has told of came from where the API says, not from the API.
fn source_ip(recorded: &RecordedEvent) -> Option<IpAddr> {
    let envelope = &recorded.envelope;
    let report = match &envelope.event {
        Event::ApiCallAuthorized(data) => data.report.as_ref(),
        Event::ApiCallDenied(data) => data.report.as_ref(),
        _ => None,
    };
    match (report, &envelope.source, &envelope.event) {
        (Some(report), ..) => report.source.as_ref().map(|source| source.ip),
        (None, Some(source), _) => Some(source.ip),
        (None, None, Event::RequestsThrottled(data)) => Some(data.source),
        (None, None, _) => None,
    }
}
