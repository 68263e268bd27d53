//! Reference tokens: opaque, shown once, kept as a hash, found by it.

use super::NoRandomness;
use super::generated::{Generated, hash_of};
use grantlog_projections::values::SecretHash;
use std::fmt;

const PREFIX: &str = "glr_";

/// A reference token in the clear, from its making until it has been shown.
pub struct ReferenceTokenText(Generated);

impl ReferenceTokenText {
    /// Makes one of 256 random bits.
    pub fn generate() -> Result<Self, NoRandomness> {
        Generated::new(PREFIX).map(Self)
    }

    /// The token itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What is kept of it.
    pub fn hash(&self) -> SecretHash {
        hash_of(self.expose())
    }

    /// Its last 4 characters, by which people tell tokens apart.
    pub fn hint(&self) -> String {
        self.0.hint()
    }
}

impl fmt::Debug for ReferenceTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReferenceTokenText(…)")
    }
}

/// Whether what was presented says of itself that it is a reference token, and not a JWT.
pub fn is_reference_token(presented: &str) -> bool {
    presented.starts_with(PREFIX)
}

/// What a presented reference token is found by; `None` when it cannot be one of ours. To find a hash in a map takes
/// a time that depends on the hash, which tells nobody anything who does not have the token.
pub fn presented_hash(presented: &str) -> Option<SecretHash> {
    Generated::is_well_formed(PREFIX, presented).then(|| hash_of(presented))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::client_secret::ClientSecret;

    #[test]
    fn a_reference_token_is_found_by_its_hash_and_is_no_client_secret() {
        let token = ReferenceTokenText::generate().unwrap();
        assert!(is_reference_token(token.expose()));
        assert_eq!(presented_hash(token.expose()), Some(token.hash()));
        assert!(!ClientSecret::is_well_formed(token.expose()));
        let secret = ClientSecret::generate().unwrap();
        assert_eq!(presented_hash(secret.expose()), None);
        assert_eq!(presented_hash(&token.expose()[..52]), None);
        assert_eq!(presented_hash(""), None);
        assert_eq!(format!("{token:?}"), "ReferenceTokenText(…)");
        assert!(token.expose().ends_with(&token.hint()));
    }
}
