//! One event as an answer of the audit API shows it.

use crate::audit::skim::Skimmed;
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::audit_record::{AuditRecord, Outcome};
use grantlog_projections::event::CallReport;
use grantlog_projections::values::{Actor, StreamName, Timestamp};
use serde::de::value::BorrowedStrDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// An event with its place in the log. Every field is in every answer; what an event does not have is null.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Its place in the log, dense from 0.
    pub index: u64,
    /// The event's own id.
    pub id: Uuid,
    /// The stream that it belongs to.
    pub stream: StreamName,
    /// Its place in its stream, dense from 0.
    pub revision: u64,
    /// The wire name of its type, as stored: an older form keeps its older name here.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When it was decided.
    pub time: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// Where the request came from.
    pub source: Option<AuditSource>,
    /// The W3C trace id of the request.
    pub trace_id: Option<String>,
    /// The application that it is about.
    pub client_id: Option<String>,
    /// Whether what was asked for was done.
    pub outcome: Outcome,
    /// The fact, byte for byte as stored.
    pub data: Box<RawValue>,
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSource {
    /// The address, after trusted proxies.
    pub ip: IpAddr,
    /// The User-Agent.
    pub user_agent: Option<Arc<str>>,
}

/// What of the stored bytes is shown as it is.
#[derive(Deserialize)]
struct Verbatim {
    #[serde(rename = "type")]
    event_type: String,
    data: Box<RawValue>,
}

impl AuditEvent {
    /// Reads a stored event.
    pub fn read(stored: &StoredEvent) -> Result<Self, DecodeError> {
        match Self::skimmed(stored) {
            Some(event) => Ok(event),
            None => Self::decoded(stored),
        }
    }

    fn skimmed(stored: &StoredEvent) -> Option<Self> {
        let skimmed = Skimmed::of(stored)?;
        let (client_id, outcome) = skimmed.client_and_outcome()?;
        Some(Self {
            index: stored.index,
            id: Uuid::try_parse(skimmed.id).ok()?,
            stream: value(skimmed.stream)?,
            revision: stored.revision,
            event_type: skimmed.event_type.to_owned(),
            time: Timestamp::parse(skimmed.time).ok()?,
            actor: value(skimmed.actor)?,
            source: match skimmed.source {
                Some(source) => Some(AuditSource {
                    ip: source.ip.parse().ok()?,
                    user_agent: source.user_agent.map(Into::into),
                }),
                None => None,
            },
            trace_id: skimmed.trace_id.map(str::to_owned),
            client_id: client_id.map(str::to_owned),
            outcome,
            data: RawValue::from_string(skimmed.data.to_owned()).ok()?,
        })
    }

    fn decoded(stored: &StoredEvent) -> Result<Self, DecodeError> {
        let recorded = codec::decode(stored)?;
        let Verbatim { event_type, data } =
            serde_json::from_slice(&stored.bytes).map_err(|source| DecodeError::Envelope {
                index: stored.index,
                source,
            })?;
        let AuditRecord { client_id, outcome, .. } = AuditRecord::from(&recorded);
        let client_id = client_id.map(str::to_owned);
        let envelope = recorded.envelope;
        Ok(Self {
            index: stored.index,
            id: envelope.id,
            stream: envelope.stream,
            revision: stored.revision,
            event_type,
            time: envelope.time,
            actor: envelope.actor,
            source: envelope.source.map(|source| AuditSource {
                ip: source.ip,
                user_agent: source.user_agent,
            }),
            trace_id: envelope.trace_id,
            client_id,
            outcome,
            data,
        })
    }

    /// The name that its type has today: the one that events are searched by.
    pub(super) fn current_type(&self) -> &str {
        codec::current_type(&self.event_type)
    }

    /// Where the request came from. What a flood left is written when its window ends, by nobody's request: its
    /// fact says where the flood came from. A call that an API has told of came from where the API says.
    pub(super) fn address(&self) -> Option<IpAddr> {
        #[derive(Deserialize)]
        struct Throttled {
            source: IpAddr,
        }
        if let Some(report) = self.report() {
            return report.source.map(|source| source.ip);
        }
        match &self.source {
            Some(source) => Some(source.ip),
            None if self.current_type() == "RequestsThrottled" => {
                let fact: Option<Throttled> = serde_json::from_str(self.data.get()).ok();
                fact.map(|fact| fact.source)
            }
            None => None,
        }
    }

    /// What made the request: of a call that an API has told of, what the API says.
    pub(super) fn user_agent(&self) -> Option<Arc<str>> {
        match self.report() {
            Some(report) => report.source?.user_agent,
            None => self.source.as_ref()?.user_agent.clone(),
        }
    }

    /// What an API has told of a call, when it was the API that told of it.
    pub(super) fn report(&self) -> Option<CallReport> {
        #[derive(Deserialize)]
        struct Call {
            report: Option<CallReport>,
        }
        if !matches!(self.current_type(), "ApiCallAuthorized" | "ApiCallDenied")
            || !self.data.get().contains("\"report\"")
        {
            return None;
        }
        let call: Call = serde_json::from_str(self.data.get()).ok()?;
        call.report
    }
}

/// A value that is one text in JSON.
fn value<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    T::deserialize(BorrowedStrDeserializer::<serde::de::value::Error>::new(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &str) -> String {
        let stored = StoredEvent {
            index: 7,
            revision: 2,
            bytes: bytes.as_bytes().into(),
        };
        serde_json::to_string(&AuditEvent::read(&stored).unwrap()).unwrap()
    }

    #[test]
    fn an_event_is_shown_with_its_place_and_its_data_as_stored() {
        let data = r#"{"client_id":"orders",  "error":"invalid_client","reason":"unknown_client","dialect":"standard","later":1.0}"#;
        let shown = shown(&format!(
            r#"{{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","source":{{"ip":"192.0.2.1","user_agent":"curl/8"}},"trace_id":"0af7651916cd43dd8448eb211c80319c","data":{data}}}"#
        ));
        assert_eq!(
            shown,
            format!(
                r#"{{"index":7,"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","revision":2,"type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","source":{{"ip":"192.0.2.1","user_agent":"curl/8"}},"trace_id":"0af7651916cd43dd8448eb211c80319c","client_id":"orders","outcome":"refused","data":{data}}}"#
            )
        );
    }

    #[test]
    fn what_an_event_does_not_have_is_null() {
        let shown = shown(
            r#"{"id":"01890000-0000-7000-8000-000000000001","stream":"service","type":"ServiceStopped","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{"version":"0.1.0","reason":"SIGTERM"}}"#,
        );
        assert!(shown.contains(
            r#""source":null,"trace_id":null,"client_id":null,"outcome":"success","data":{"version":"0.1.0","reason":"SIGTERM"}"#
        ));
    }
}
