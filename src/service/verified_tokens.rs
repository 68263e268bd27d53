//! Access tokens whose signature was good lately: to check one takes longer than all the rest of a call.
//!
//! Only form and signature are remembered, which nothing but the keys can change. Whether a token is over, revoked, or
//! its application disabled is asked each time.

use crate::credentials::verification::{SignedToken, TokenInvalid, VerificationKeys};
use grantlog_projections::values::{ApplicationId, SecretId};
use hashlink::LruCache;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Tokens that are remembered, in all shards together.
const MAX_TOKENS: usize = 16_384;
/// Callers that look up different tokens seldom wait for one another.
const SHARDS: usize = 16;

/// A token with a good signature, and what has been found out about it since.
pub struct Signed {
    /// The token.
    pub token: SignedToken,
    /// Whose it is: a hash of the name, which would be made anew for each call.
    pub application_id: ApplicationId,
    /// The secret that it was asked for with, once somebody had to know.
    pub secret_id: OnceLock<SecretId>,
}

/// The tokens, by their SHA-256: none is kept in the clear.
pub struct VerifiedTokens {
    shards: [Mutex<Shard>; SHARDS],
}

struct Shard {
    /// The keys that the signatures were checked with.
    keys: Arc<VerificationKeys>,
    tokens: LruCache<[u8; 32], Arc<Signed>>,
}

impl Default for VerifiedTokens {
    /// None yet.
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    keys: Arc::default(),
                    tokens: LruCache::new(MAX_TOKENS / SHARDS),
                })
            }),
        }
    }
}

impl VerifiedTokens {
    /// Checks form and signature, unless they were good with these very keys.
    pub fn open(&self, token: &str, keys: &Arc<VerificationKeys>) -> Result<Arc<Signed>, TokenInvalid> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let shard = &self.shards[usize::from(digest[0]) % SHARDS]; // a remainder of SHARDS is below SHARDS
        {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if !Arc::ptr_eq(&shard.keys, keys) {
                shard.tokens.clear();
                shard.keys = keys.clone();
            } else if let Some(known) = shard.tokens.get(&digest) {
                return Ok(known.clone());
            }
        }
        let token = SignedToken::open(token, keys)?;
        let signed = Arc::new(Signed {
            application_id: ApplicationId::of(&token.bearer().client_id),
            token,
            secret_id: OnceLock::new(),
        });
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        // Meanwhile others may have come with newer keys.
        if Arc::ptr_eq(&shard.keys, keys) {
            shard.tokens.insert(digest, signed.clone());
        }
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::key_ring_fixture::KeyRingFixture;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use grantlog_projections::values::SigningAlgorithm;
    use uuid::Uuid;

    /// A key, and what it verifies.
    struct Signer {
        fixture: KeyRingFixture,
        pair: crate::credentials::signing_key::SigningKeyPair,
    }

    impl Signer {
        fn new() -> Self {
            let mut fixture = KeyRingFixture::new();
            let pair = fixture.activated("es", SigningAlgorithm::Es256);
            Self { fixture, pair }
        }

        fn keys(&self) -> Arc<VerificationKeys> {
            Arc::new(VerificationKeys::from(&self.fixture.ring))
        }

        fn token(&self, number: u128) -> String {
            let header = r#"{"alg":"ES256","kid":"es","typ":"at+jwt"}"#;
            let claims = serde_json::json!({
                "iss": "https://id", "sub": "orders", "client_id": "orders", "aud": ["https://api"],
                "iat": 0, "nbf": 0, "exp": 60, "jti": Uuid::from_u128(number),
            });
            let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let message = format!("{}.{}", encoded(header), encoded(&claims.to_string()));
            let signature = self.pair.sign(message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn held(tokens: &VerifiedTokens) -> usize {
        let of_shard = |shard: &Mutex<Shard>| shard.lock().unwrap().tokens.len();
        tokens.shards.iter().map(of_shard).sum()
    }

    #[test]
    fn a_token_that_comes_again_is_not_verified_again() {
        let (signer, tokens) = (Signer::new(), VerifiedTokens::default());
        let (keys, token) = (signer.keys(), signer.token(1));
        let first = tokens.open(&token, &keys).unwrap();
        let again = tokens.open(&token, &keys).unwrap();
        assert!(
            Arc::ptr_eq(&first, &again),
            "what was found out about it is found again"
        );
        let other = tokens.open(&signer.token(2), &keys).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(held(&tokens), 2);
    }

    #[test]
    fn a_retired_key_is_felt_at_once() {
        let (mut signer, tokens) = (Signer::new(), VerifiedTokens::default());
        let token = signer.token(1);
        assert!(tokens.open(&token, &signer.keys()).is_ok());
        signer.fixture.retire("es", SigningAlgorithm::Es256);
        let refused = tokens.open(&token, &signer.keys()).err();
        assert_eq!(refused, Some(TokenInvalid::UnknownKey));
        assert_eq!(held(&tokens), 0);
    }

    #[test]
    fn other_keys_have_every_token_verified_again() {
        let (signer, tokens) = (Signer::new(), VerifiedTokens::default());
        let token = signer.token(1);
        let first = tokens.open(&token, &signer.keys()).unwrap();
        let after_a_rotation = tokens.open(&token, &signer.keys()).unwrap();
        assert!(!Arc::ptr_eq(&first, &after_a_rotation));
        assert_eq!(held(&tokens), 1);
    }

    #[test]
    fn what_is_refused_is_not_remembered() {
        let (signer, tokens) = (Signer::new(), VerifiedTokens::default());
        let keys = signer.keys();
        let mut forged = signer.token(1);
        forged.truncate(forged.len() - 8);
        forged.push_str("AAAAAAAA");
        for _ in 0..2 {
            let refused = tokens.open(&forged, &keys).err();
            assert_eq!(refused, Some(TokenInvalid::BadSignature));
        }
        assert_eq!(held(&tokens), 0);
    }

    #[test]
    fn no_more_tokens_are_remembered_than_there_is_room_for() {
        let (signer, tokens) = (Signer::new(), VerifiedTokens::default());
        let keys = signer.keys();
        let signed = tokens.open(&signer.token(1), &keys).unwrap();
        for shard in &tokens.shards {
            let mut shard = shard.lock().unwrap();
            for number in 0..=MAX_TOKENS {
                let digest: [u8; 32] = Sha256::digest(number.to_be_bytes()).into();
                shard.tokens.insert(digest, signed.clone());
            }
        }
        assert_eq!(held(&tokens), MAX_TOKENS);
    }
}
