//! The keys that sign at the moment, unsealed, one per algorithm; and the key set that verifiers read.

use super::sealing::{MasterKey, SealError};
use super::signing_key::{EncodedHeader, SigningKeyError, SigningKeyPair};
use arc_swap::ArcSwap;
use grantlog_projections::key_ring::{KeyRing, SigningKey};
use grantlog_projections::values::{KeyId, SigningAlgorithm, TokenType};
use serde_json::{Value, json};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// An active key, ready to sign tokens.
pub struct Signer {
    kid: KeyId,
    key_pair: SigningKeyPair,
    at_jwt_header: EncodedHeader,
    jwt_header: EncodedHeader,
}

impl Signer {
    fn unseal(key: &SigningKey, master_key: &MasterKey) -> Result<Self, SealError> {
        let (kid, alg) = (&key.kid, key.alg);
        let pkcs8 = master_key.open(kid, alg, &key.sealed_private_key)?;
        let key_pair = SigningKeyPair::from_pkcs8(alg, &pkcs8).map_err(|source| SealError::NotAKey {
            kid: kid.clone(),
            source,
        })?;
        if !is_same_public_key(&key_pair.public_jwk(kid), &key.public_jwk) {
            return Err(SealError::NotThePublishedKey(kid.clone()));
        }
        Ok(Self {
            kid: kid.clone(),
            key_pair,
            at_jwt_header: EncodedHeader::new(alg, kid, TokenType::AtJwt),
            jwt_header: EncodedHeader::new(alg, kid, TokenType::Jwt),
        })
    }

    /// The key's id.
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// What it signs with.
    pub fn alg(&self) -> SigningAlgorithm {
        self.key_pair.alg()
    }

    /// The claims, JSON already, as a signed token of that type.
    pub fn sign_token(&self, token_type: TokenType, claims_json: &[u8]) -> Result<String, SigningKeyError> {
        let header = match token_type {
            TokenType::AtJwt => &self.at_jwt_header,
            TokenType::Jwt => &self.jwt_header,
        };
        self.key_pair.sign_jwt(header, claims_json)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, {}, …)", self.kid, self.alg())
    }
}

/// The active keys of all algorithms. Reading takes no lock.
#[derive(Debug, Default)]
pub struct Signers {
    active: ArcSwap<ByAlgorithm>,
    refreshing: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct ByAlgorithm {
    signers: [Option<Arc<Signer>>; SigningAlgorithm::ALL.len()],
    /// Of the key ring that they were taken from.
    revision: Option<u64>,
}

impl Signers {
    /// None yet: [`refresh`](Self::refresh) takes them from the key ring.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the ring's active keys the ones that sign, and forgets all others. Unseals those that are
    /// not held yet; a ring older than the last one changes nothing.
    ///
    /// A key that cannot be unsealed leaves its algorithm without a signer, rather than with one whose
    /// tokens outlive its publication; the others are refreshed all the same, and the first error is
    /// answered.
    pub fn refresh(&self, key_ring: &KeyRing, master_key: &MasterKey) -> Result<(), SealError> {
        // What the lock protects is the order of refreshes; there is nothing to find half-done.
        let _turn = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.active.load_full();
        if key_ring.revision < held.revision {
            return Ok(());
        }
        let mut next = ByAlgorithm {
            revision: key_ring.revision,
            ..ByAlgorithm::default()
        };
        let mut outcome = Ok(());
        for (place, alg) in next.signers.iter_mut().zip(SigningAlgorithm::ALL) {
            let Some(key) = key_ring.active(alg) else {
                continue;
            };
            *place = match held.signer(alg) {
                Some(signer) if signer.kid == key.kid => Some(Arc::clone(signer)),
                _ => match Signer::unseal(key, master_key) {
                    Ok(signer) => Some(Arc::new(signer)),
                    Err(error) => {
                        outcome = outcome.and(Err(error));
                        None
                    }
                },
            };
        }
        self.active.store(Arc::new(next));
        outcome
    }

    /// The key that signs this algorithm's tokens now.
    pub fn signer(&self, alg: SigningAlgorithm) -> Option<Arc<Signer>> {
        self.active.load().signer(alg).cloned()
    }
}

impl ByAlgorithm {
    fn signer(&self, alg: SigningAlgorithm) -> Option<&Arc<Signer>> {
        self.signers.iter().flatten().find(|signer| signer.alg() == alg)
    }
}

/// The key set to publish (RFC 7517 §5): announced keys, active ones, and those whose tokens may still
/// be valid.
pub fn jwks(key_ring: &KeyRing) -> Value {
    let keys: Vec<&Value> = key_ring.published().map(|key| &key.public_jwk).collect();
    json!({ "keys": keys })
}

// RFC 7638 §3.2: these make up the key; the others (use, alg, kid) are about it.
fn is_same_public_key(one: &Value, other: &Value) -> bool {
    ["crv", "e", "kty", "n", "x", "y"]
        .iter()
        .all(|member| one.get(member) == other.get(member))
}

#[cfg(test)]
mod tests {
    use super::super::key_ring_fixture::KeyRingFixture;
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const ES256: SigningAlgorithm = SigningAlgorithm::Es256;
    const EDDSA: SigningAlgorithm = SigningAlgorithm::EdDsa;

    fn signing_kid(signers: &Signers, alg: SigningAlgorithm) -> Option<String> {
        signers.signer(alg).map(|signer| signer.kid().to_string())
    }

    #[test]
    fn active_keys_sign_and_announced_ones_do_not() {
        let mut keys = KeyRingFixture::new();
        keys.activated("es", ES256);
        keys.announced("ed", EDDSA);
        let signers = Signers::new();
        assert!(signers.signer(ES256).is_none());
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        let signer = signers.signer(ES256).unwrap();
        assert_eq!((signer.kid().as_str(), signer.alg()), ("es", ES256));
        assert!(signers.signer(EDDSA).is_none());
    }

    #[test]
    fn each_token_type_has_its_header() {
        let mut keys = KeyRingFixture::new();
        keys.activated("es", ES256);
        let signers = Signers::new();
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        for token_type in [TokenType::AtJwt, TokenType::Jwt] {
            let token = signers.signer(ES256).unwrap().sign_token(token_type, b"{}").unwrap();
            let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            assert_eq!(header, json!({"alg": "ES256", "kid": "es", "typ": token_type.as_str()}));
        }
    }

    #[test]
    fn the_next_key_takes_over_and_the_others_stay_unsealed() {
        let mut keys = KeyRingFixture::new();
        keys.activated("es.1", ES256);
        keys.activated("ed.1", EDDSA);
        let signers = Signers::new();
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        let untouched = signers.signer(EDDSA).unwrap();
        keys.activated("es.2", ES256);
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        assert_eq!(signing_kid(&signers, ES256).as_deref(), Some("es.2"));
        assert!(Arc::ptr_eq(&untouched, &signers.signer(EDDSA).unwrap()));
    }

    #[test]
    fn a_retired_key_is_forgotten() {
        let mut keys = KeyRingFixture::new();
        keys.activated("es", ES256);
        let signers = Signers::new();
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        keys.retire("es", ES256);
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        assert!(signers.signer(ES256).is_none());
    }

    #[test]
    fn a_refresh_from_an_older_key_ring_changes_nothing() {
        let mut keys = KeyRingFixture::new();
        keys.activated("es.1", ES256);
        let older = keys.ring.clone();
        keys.activated("es.2", ES256);
        let signers = Signers::new();
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        signers.refresh(&older, &keys.master_key).unwrap();
        assert_eq!(signing_kid(&signers, ES256).as_deref(), Some("es.2"));
    }

    #[test]
    fn another_master_key_is_reported_and_no_superseded_key_goes_on_signing() {
        let mut keys = KeyRingFixture::new();
        keys.activated("es.1", ES256);
        keys.activated("ed.1", EDDSA);
        let signers = Signers::new();
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        keys.activated("es.2", ES256);
        let error = signers
            .refresh(&keys.ring, &MasterKey::generate().unwrap())
            .unwrap_err();
        assert_eq!(error, SealError::DoesNotOpen(KeyId::parse("es.2").unwrap()));
        assert!(signers.signer(ES256).is_none());
        assert_eq!(signing_kid(&signers, EDDSA).as_deref(), Some("ed.1"));
        signers.refresh(&keys.ring, &keys.master_key).unwrap();
        assert_eq!(signing_kid(&signers, ES256).as_deref(), Some("es.2"));
    }

    #[test]
    fn a_private_key_that_is_not_that_of_the_published_one_does_not_sign() {
        let mut keys = KeyRingFixture::new();
        let other = keys.announced("other", ES256);
        let kid = KeyId::parse("es").unwrap();
        let sealed = keys.announced("es.0", ES256).to_pkcs8().unwrap();
        let sealed = keys.master_key.seal(&kid, ES256, &sealed).unwrap();
        keys.add("es", ES256, other.public_jwk(&kid), sealed);
        keys.activate("es", ES256);
        let error = Signers::new().refresh(&keys.ring, &keys.master_key).unwrap_err();
        assert_eq!(error, SealError::NotThePublishedKey(kid));
    }

    #[test]
    fn what_is_sealed_but_no_key_is_reported_by_its_kid() {
        let mut keys = KeyRingFixture::new();
        let kid = KeyId::parse("es").unwrap();
        let sealed = keys.master_key.seal(&kid, ES256, b"no key").unwrap();
        keys.add("es", ES256, json!({}), sealed);
        keys.activate("es", ES256);
        let error = Signers::new().refresh(&keys.ring, &keys.master_key).unwrap_err();
        assert_eq!(
            error.to_string(),
            "what is sealed as signing key es is not a private key for ES256"
        );
    }

    #[test]
    fn the_key_set_holds_the_published_keys_and_nothing_private() {
        let mut keys = KeyRingFixture::new();
        assert_eq!(jwks(&keys.ring), json!({"keys": []}));
        for kid in ["retired", "superseded", "active"] {
            keys.activated(kid, ES256);
        }
        keys.announced("announced", ES256);
        keys.retire("retired", ES256);
        let published = jwks(&keys.ring);
        let published = published["keys"].as_array().unwrap();
        let kids: Vec<&str> = published.iter().map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(kids, ["superseded", "active", "announced"]);
        for key in published {
            let members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        }
    }
}
