//! The issuer's keys.

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Whoever makes up key ids must not make this API ask for keys all the time.
const FETCH_AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// A key that is retired early is gone from here after this time.
const FETCH_AT_LEAST_EVERY: Duration = Duration::from_secs(300);

/// The issuer's keys, fetched when one is asked for that is not known yet.
pub struct Keys {
    url: String,
    http: reqwest::Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_kid: HashMap<String, Arc<Key>>,
    fetched: Option<Instant>,
}

/// One of them.
pub struct Key {
    /// What it verifies, and nothing else.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

impl Keys {
    /// Of this JWKS.
    pub fn new(url: String, http: reqwest::Client) -> Self {
        let known = Mutex::default();
        Self { url, http, known }
    }

    /// The key with this id.
    pub async fn get(&self, kid: &str) -> Option<Arc<Key>> {
        let mut known = self.known.lock().await;
        let age = known.fetched.map(|fetched| fetched.elapsed());
        let found = known.by_kid.get(kid).cloned();
        let wait = if found.is_some() {
            FETCH_AT_LEAST_EVERY
        } else {
            FETCH_AT_MOST_EVERY
        };
        if age.is_some_and(|age| age < wait) {
            return found;
        }
        match self.fetch().await {
            Ok(keys) => known.by_kid = keys,
            Err(error) => eprintln!("the keys of {} cannot be had: {error}", self.url),
        }
        known.fetched = Some(Instant::now());
        known.by_kid.get(kid).cloned()
    }

    async fn fetch(&self) -> reqwest::Result<HashMap<String, Arc<Key>>> {
        let answer = self.http.get(&self.url).send().await?.error_for_status()?;
        let published: JwkSet = answer.json().await?;
        Ok(published
            .keys
            .iter()
            .filter_map(|jwk| Some((jwk.common.key_id.clone()?, Arc::new(Key::parse(jwk)?))))
            .collect())
    }
}

impl Key {
    fn parse(jwk: &Jwk) -> Option<Self> {
        // Never HS256, whatever a JWKS says: its key would be a public one.
        let algorithm = Algorithm::from_str(&jwk.common.key_algorithm?.to_string()).ok()?;
        let is_one_of_ours = matches!(
            algorithm,
            Algorithm::ES256 | Algorithm::RS256 | Algorithm::PS256 | Algorithm::EdDSA
        );
        let key = DecodingKey::from_jwk(jwk).ok().filter(|_| is_one_of_ours)?;
        Some(Self { algorithm, key })
    }
}
