//! A key ring for tests, built as the log builds it: by events.

use super::sealing::MasterKey;
use super::signing_key::{RsaBits, SigningKeyPair};
use grantlog_projections::Event;
use grantlog_projections::event::{SigningKeyActivated, SigningKeyAdded, SigningKeyRetired};
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::recorded_event::{Envelope, RecordedEvent};
use grantlog_projections::values::{Actor, KeyId, Remark, SigningAlgorithm, StreamName, Timestamp};
use uuid::Uuid;

pub(crate) struct KeyRingFixture {
    pub(crate) ring: KeyRing,
    pub(crate) master_key: MasterKey,
    revision: u64,
}

impl KeyRingFixture {
    pub(crate) fn new() -> Self {
        Self {
            ring: KeyRing::default(),
            master_key: MasterKey::generate().unwrap(),
            revision: 0,
        }
    }

    /// Adds a key and activates it; answers with the pair.
    pub(crate) fn activated(&mut self, kid: &str, alg: SigningAlgorithm) -> SigningKeyPair {
        let pair = self.announced(kid, alg);
        self.activate(kid, alg);
        pair
    }

    /// Adds a key that is published and does not sign yet.
    pub(crate) fn announced(&mut self, kid: &str, alg: SigningAlgorithm) -> SigningKeyPair {
        let pair = SigningKeyPair::generate(alg, RsaBits::Rsa2048).unwrap();
        let id = KeyId::parse(kid).unwrap();
        let sealed = self.master_key.seal(&id, alg, &pair.to_pkcs8().unwrap()).unwrap();
        self.add(kid, alg, pair.public_jwk(&id), sealed);
        pair
    }

    pub(crate) fn add(&mut self, kid: &str, alg: SigningAlgorithm, public_jwk: serde_json::Value, sealed: String) {
        self.apply(SigningKeyAdded {
            kid: KeyId::parse(kid).unwrap(),
            alg,
            public_jwk,
            sealed_private_key: sealed,
            reason: reason(),
        });
    }

    pub(crate) fn activate(&mut self, kid: &str, alg: SigningAlgorithm) {
        let kid = KeyId::parse(kid).unwrap();
        let reason = reason();
        self.apply(SigningKeyActivated { kid, alg, reason });
    }

    pub(crate) fn retire(&mut self, kid: &str, alg: SigningAlgorithm) {
        let kid = KeyId::parse(kid).unwrap();
        let reason = reason();
        self.apply(SigningKeyRetired { kid, alg, reason });
    }

    fn apply(&mut self, event: impl Into<Event>) {
        let recorded = RecordedEvent {
            index: self.revision,
            revision: self.revision,
            envelope: Envelope {
                id: Uuid::from_u128(self.revision.into()),
                stream: StreamName::signing_keys(),
                time: Timestamp::from_unix_micros(0),
                actor: Actor::System,
                source: None,
                trace_id: None,
                event: event.into(),
            },
        };
        self.revision += 1;
        assert!(self.ring.apply(&recorded));
    }
}

fn reason() -> Remark {
    Remark::parse("test").unwrap()
}
