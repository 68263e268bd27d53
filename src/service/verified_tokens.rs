//! Access tokens whose signature was good lately: to check one takes longer than all the rest of a call.
//!
//! Only form and signature are remembered, which nothing but the keys can change. Whether a token is over, revoked, or
//! its application disabled is asked each time.

use crate::credentials::verification::{SignedToken, TokenInvalid, VerificationKeys};
use grantlog_projections::values::SecretId;
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

impl VerifiedTokens {
    /// None yet.
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    keys: Arc::default(),
                    tokens: LruCache::new(MAX_TOKENS / SHARDS),
                })
            }),
        }
    }

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
        let signed = Arc::new(Signed {
            token: SignedToken::open(token, keys)?,
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
