//! The state of one registered API, and the fold that builds it from its own stream.

use crate::event::{ApiChange, ApiRegistered, ApiScope, Event};
use crate::recorded_event::RecordedEvent;
use crate::values::{ApiId, Audience, Name, SigningAlgorithm, Timestamp, TokenLifetime, TokenType};
use serde::{Deserialize, Serialize};

/// A registered API as the events so far have made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // attributes are documented at `ApiRegistered`
pub struct Api {
    pub id: ApiId,
    pub audience: Audience,
    /// The revision of its stream.
    pub revision: u64,
    pub registered_at: Timestamp,
    pub changed_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    pub name: Name,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<ApiScope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_alg: Option<SigningAlgorithm>,
    #[serde(default)]
    pub token_type: TokenType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<TokenLifetime>,
}

impl Api {
    /// Its state after one more event of its stream; `state` is what came before, `None` at first.
    /// Total: an event that is not about an API leaves the state as it is.
    pub fn fold(state: Option<Self>, recorded: &RecordedEvent) -> Option<Self> {
        let mut next = match (&recorded.envelope.event, state) {
            (Event::ApiRegistered(data), _) => return Some(Self::registered(data, recorded)),
            (_, None) => return None,
            (_, Some(state)) => state,
        };
        match &recorded.envelope.event {
            Event::ApiChanged(data) => data.changes.iter().for_each(|change| next.change(change)),
            Event::ApiDeleted(_) => next.deleted_at = Some(recorded.envelope.time),
            Event::ServiceStarted(_)
            | Event::ServiceStopped(_)
            | Event::ApplicationRegistered(_)
            | Event::ApplicationChanged(_)
            | Event::ApplicationEnabled(_)
            | Event::ApplicationDisabled(_)
            | Event::ApplicationDeleted(_)
            | Event::SecretRotated(_)
            | Event::SecretRevoked(_)
            | Event::ApiRegistered(_)
            | Event::SigningKeyAdded(_)
            | Event::SigningKeyActivated(_)
            | Event::SigningKeyRetired(_)
            | Event::TokenIssued(_)
            | Event::TokenRefused(_)
            | Event::RequestsThrottled(_)
            | Event::ApiCallAuthorized(_)
            | Event::TokenRevoked(_)
            | Event::TokensRevoked(_)
            | Event::ReferenceTokenIssued(_)
            | Event::ReferenceTokenRevoked(_)
            | Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::ApiCallDenied(_)
            | Event::AuditTrailRead(_)
            | Event::AuditTrailExported(_)
            | Event::ReportProduced(_)
            | Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => return Some(next),
        }
        next.revision = recorded.revision;
        next.changed_at = recorded.envelope.time;
        Some(next)
    }

    /// Whether it defines that scope. An API that defines none has no opinion.
    pub fn defines(&self, scope: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|known| known.name.as_str() == scope)
    }

    /// Whether it was deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }

    fn registered(data: &ApiRegistered, recorded: &RecordedEvent) -> Self {
        Self {
            id: data.api_id,
            audience: data.audience.clone(),
            revision: recorded.revision,
            registered_at: recorded.envelope.time,
            changed_at: recorded.envelope.time,
            deleted_at: None,
            name: data.name.clone(),
            scopes: data.scopes.clone(),
            signing_alg: data.signing_alg,
            token_type: data.token_type,
            token_lifetime_seconds: data.token_lifetime_seconds,
        }
    }

    fn change(&mut self, change: &ApiChange) {
        match change {
            ApiChange::Name(change) => self.name.clone_from(&change.to),
            ApiChange::Scopes(change) => self.scopes.clone_from(&change.to),
            ApiChange::SigningAlg(change) => self.signing_alg = change.to,
            ApiChange::TokenType(change) => self.token_type = change.to,
            ApiChange::TokenLifetimeSeconds(change) => self.token_lifetime_seconds = change.to,
        }
    }
}
