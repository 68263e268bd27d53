//! The state of one Trusted Application, and the fold that builds it from its own stream.

use crate::event::{
    ApplicationChange, ApplicationRegistered, ClientType, Event, FromTo, IssuedSecret, ReferenceTokens,
};
use crate::recorded_event::RecordedEvent;
use crate::values::{
    ApplicationId, ApplicationUri, Audience, Name, OrgCode, Remark, Scope, SecretHash, SecretId, SystemUser, Timestamp,
    TokenLifetime,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Secrets that an application may have at one time, those that no longer count among them: the oldest
/// dead one makes room for a new one.
pub const MAX_SECRETS: usize = 8;

/// A secret of an application, by its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientSecret {
    /// Its id.
    pub id: SecretId,
    /// SHA-256 of it.
    pub hash: SecretHash,
    /// Its last 4 characters; none when only its hash was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it is refused; none: accepted until further notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl ClientSecret {
    /// Whether it is accepted at that time.
    pub fn is_accepted_at(&self, time: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| time < end)
    }
}

/// A Trusted Application as the events so far have made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // attributes are documented at `ApplicationRegistered`
pub struct TrustedApplication {
    pub id: ApplicationId,
    pub uri: ApplicationUri,
    /// The revision of its stream.
    pub revision: u64,
    pub registered_at: Timestamp,
    pub changed_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    pub name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Remark>,
    pub client_type: ClientType,
    pub secrets: Vec<ClientSecret>,
    pub scope: Scope,
    pub audiences: Vec<Audience>,
    pub system_user_allowed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_user: Option<SystemUser>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_code: Option<OrgCode>,
    pub is_enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Remark>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<TokenLifetime>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_networks: Vec<IpNet>,
    #[serde(default)]
    pub reference_tokens: ReferenceTokens,
}

impl TrustedApplication {
    /// Its state after one more event of its stream; `state` is what came before, `None` at first.
    /// Total: an event that is not about an application leaves the state as it is.
    pub fn fold(state: Option<Self>, recorded: &RecordedEvent) -> Option<Self> {
        let time = recorded.envelope.time;
        let mut next = match (&recorded.envelope.event, state) {
            (Event::ApplicationRegistered(data), _) => return Some(Self::registered(data, recorded)),
            (_, None) => return None,
            (_, Some(state)) => state,
        };
        match &recorded.envelope.event {
            Event::ApplicationChanged(data) => data.changes.iter().for_each(|change| next.change(change)),
            Event::ApplicationEnabled(_) => next.is_enabled = true,
            Event::ApplicationDisabled(_) => next.is_enabled = false,
            Event::ApplicationDeleted(_) => {
                next.deleted_at = Some(time);
                next.is_enabled = false;
            }
            Event::SecretRotated(data) => {
                for superseded in &data.superseded {
                    for secret in next.secrets.iter_mut().filter(|secret| secret.id == superseded.id) {
                        let until = superseded.accepted_until;
                        secret.expires_at = Some(secret.expires_at.map_or(until, |end| end.min(until)));
                    }
                }
                next.add_secret(&data.secret, time);
            }
            Event::SecretRevoked(data) => {
                for secret in next.secrets.iter_mut().filter(|secret| secret.id == data.secret_id) {
                    secret.revoked_at.get_or_insert(time);
                }
            }
            Event::ServiceStarted(_)
            | Event::ServiceStopped(_)
            | Event::ApplicationRegistered(_)
            | Event::ApiRegistered(_)
            | Event::ApiChanged(_)
            | Event::ApiDeleted(_)
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
        next.changed_at = time;
        Some(next)
    }

    /// The secrets that are accepted at that time.
    pub fn secrets_accepted_at(&self, time: Timestamp) -> impl Iterator<Item = &ClientSecret> {
        self.secrets.iter().filter(move |secret| secret.is_accepted_at(time))
    }

    /// Whether it was deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }

    fn registered(data: &ApplicationRegistered, recorded: &RecordedEvent) -> Self {
        let time = recorded.envelope.time;
        let mut application = Self {
            id: data.application_id,
            uri: data.application_uri.clone(),
            revision: recorded.revision,
            registered_at: time,
            changed_at: time,
            deleted_at: None,
            name: data.name.clone(),
            description: data.description.clone(),
            client_type: data.client_type,
            secrets: Vec::new(),
            scope: data.scope.clone(),
            audiences: data.audiences.clone(),
            system_user_allowed: data.system_user_allowed,
            system_user: data.system_user.clone(),
            org_code: data.org_code.clone(),
            is_enabled: data.is_enabled,
            owner: data.owner.clone(),
            properties: data.properties.clone(),
            token_lifetime_seconds: data.token_lifetime_seconds,
            allowed_networks: data.allowed_networks.clone(),
            reference_tokens: data.reference_tokens,
        };
        if let Some(secret) = &data.secret {
            application.add_secret(secret, time);
        }
        application
    }

    fn add_secret(&mut self, secret: &IssuedSecret, time: Timestamp) {
        if self.secrets.len() >= MAX_SECRETS
            && let Some(oldest_dead) = self.secrets.iter().position(|known| !known.is_accepted_at(time))
        {
            self.secrets.remove(oldest_dead);
        }
        self.secrets.push(ClientSecret {
            id: secret.id,
            hash: secret.hash,
            hint: secret.hint.clone(),
            created_at: time,
            expires_at: secret.expires_at,
            revoked_at: None,
        });
        self.secrets.shrink_to_fit();
    }

    fn change(&mut self, change: &ApplicationChange) {
        fn set<T: Clone>(attribute: &mut T, change: &FromTo<T>) {
            attribute.clone_from(&change.to);
        }
        match change {
            ApplicationChange::Name(change) => set(&mut self.name, change),
            ApplicationChange::Description(change) => set(&mut self.description, change),
            ApplicationChange::ClientType(change) => set(&mut self.client_type, change),
            ApplicationChange::Scope(change) => set(&mut self.scope, change),
            ApplicationChange::Audiences(change) => set(&mut self.audiences, change),
            ApplicationChange::SystemUserAllowed(change) => set(&mut self.system_user_allowed, change),
            ApplicationChange::SystemUser(change) => set(&mut self.system_user, change),
            ApplicationChange::OrgCode(change) => set(&mut self.org_code, change),
            ApplicationChange::Owner(change) => set(&mut self.owner, change),
            ApplicationChange::Properties(change) => set(&mut self.properties, change),
            ApplicationChange::TokenLifetimeSeconds(change) => set(&mut self.token_lifetime_seconds, change),
            ApplicationChange::AllowedNetworks(change) => set(&mut self.allowed_networks, change),
            ApplicationChange::ReferenceTokens(change) => set(&mut self.reference_tokens, change),
        }
    }
}
