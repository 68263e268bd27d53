//! The signing keys: which are published, which sign, and since when.

use crate::event::Event;
use crate::recorded_event::RecordedEvent;
use crate::values::{KeyId, SigningAlgorithm, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum KeyState {
    /// Published, so that verifiers know it before it signs.
    Announced,
    /// Signs its algorithm's tokens.
    Active {
        /// Since then.
        since: Timestamp,
    },
    /// Signs no more, but its tokens may still be out there.
    Superseded {
        /// Since then.
        at: Timestamp,
    },
    /// No longer published.
    Retired {
        /// Since then.
        at: Timestamp,
    },
}

/// One signing key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Its id.
    pub kid: KeyId,
    /// What it signs with.
    pub alg: SigningAlgorithm,
    /// The public key as a JWK.
    pub public_jwk: Value,
    /// The private key, sealed; empty once the key is retired.
    pub sealed_private_key: String,
    /// When it was made.
    pub added_at: Timestamp,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: KeyState,
}

/// All signing keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyRing {
    /// The revision of the stream; none before the first key.
    pub revision: Option<u64>,
    keys: BTreeMap<KeyIdInOrder, Arc<SigningKey>>,
}

/// Keys in the order in which they were added.
type KeyIdInOrder = u32;

impl KeyRing {
    /// Folds one event in and says whether it changed anything. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> bool {
        let time = recorded.envelope.time;
        match &recorded.envelope.event {
            Event::SigningKeyAdded(data) => {
                let next = self.keys.last_key_value().map_or(0, |(order, _)| order + 1);
                let key = SigningKey {
                    kid: data.kid.clone(),
                    alg: data.alg,
                    public_jwk: data.public_jwk.clone(),
                    sealed_private_key: data.sealed_private_key.clone(),
                    added_at: time,
                    state: KeyState::Announced,
                };
                self.keys.insert(next, Arc::new(key));
            }
            Event::SigningKeyActivated(data) => {
                for key in self.keys.values_mut() {
                    if key.kid == data.kid {
                        Arc::make_mut(key).state = KeyState::Active { since: time };
                    } else if key.alg == data.alg && matches!(key.state, KeyState::Active { .. }) {
                        Arc::make_mut(key).state = KeyState::Superseded { at: time };
                    }
                }
            }
            Event::SigningKeyRetired(data) => {
                for key in self.keys.values_mut().filter(|key| key.kid == data.kid) {
                    let key = Arc::make_mut(key);
                    key.state = KeyState::Retired { at: time };
                    key.sealed_private_key.clear();
                }
            }
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
            | Event::ApiChanged(_)
            | Event::ApiDeleted(_)
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
            | Event::EventRemoved(_) => return false,
        }
        self.revision = Some(recorded.revision);
        true
    }

    /// All keys, in the order in which they were added.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.keys.values()
    }

    /// The keys that verifiers have to know.
    pub fn published(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.keys().filter(|key| !matches!(key.state, KeyState::Retired { .. }))
    }

    /// The key that signs this algorithm's tokens.
    pub fn active(&self, alg: SigningAlgorithm) -> Option<&Arc<SigningKey>> {
        self.keys()
            .find(|key| key.alg == alg && matches!(key.state, KeyState::Active { .. }))
    }

    /// The algorithm's key that is announced and will sign next.
    pub fn announced(&self, alg: SigningAlgorithm) -> Option<&Arc<SigningKey>> {
        self.keys()
            .find(|key| key.alg == alg && key.state == KeyState::Announced)
    }

    /// The key with this id, whatever its state.
    pub fn key(&self, kid: &str) -> Option<&Arc<SigningKey>> {
        self.keys().find(|key| key.kid.as_str() == kid)
    }
}
