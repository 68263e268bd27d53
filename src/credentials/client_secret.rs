//! Client secrets: made here, shown once, kept as a hash, compared in constant time.

use super::NoRandomness;
use super::generated::{Generated, hash_of};
use grantlog_projections::trusted_application::{self, MAX_SECRETS};
use grantlog_projections::values::{SecretHash, SecretId};
use std::fmt;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use uuid::Uuid;

const PREFIX: &str = "gls_";

/// A generated client secret in the clear, from its making until it has been shown.
pub struct ClientSecret(Generated);

impl ClientSecret {
    /// Makes one of 256 random bits.
    pub fn generate() -> Result<Self, NoRandomness> {
        Generated::new(PREFIX).map(Self)
    }

    /// One that was made before and kept, when the text is one.
    pub fn again(text: &str) -> Option<Self> {
        Generated::again(PREFIX, text).map(Self)
    }

    /// Whether the text is a secret as [`generate`](Self::generate) makes them, checksum included.
    /// It says nothing about whether any application has it.
    pub fn is_well_formed(text: &str) -> bool {
        Generated::is_well_formed(PREFIX, text)
    }

    /// The secret itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What is kept of it.
    pub fn hash(&self) -> SecretHash {
        hash_of(self.expose())
    }

    /// Its last 4 characters, by which people tell secrets apart.
    pub fn hint(&self) -> String {
        self.0.hint()
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// Which of an application's secrets was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretMatch {
    /// None of them.
    NoSecret,
    /// This one. It may be expired or revoked: what that means is the caller's to decide.
    Secret(SecretId),
}

impl SecretMatch {
    /// The matching secret's id.
    pub fn secret_id(self) -> Option<SecretId> {
        match self {
            Self::NoSecret => None,
            Self::Secret(id) => Some(id),
        }
    }
}

/// Finds the presented secret among an application's: `&[]` for an application that does not exist.
///
/// One hash and [`MAX_SECRETS`] comparisons of 32 bytes, whatever the number of secrets and whichever
/// matches, so that the time tells nothing about the application. Should two have the same hash, the
/// newer one is answered; of more than [`MAX_SECRETS`], which no decision makes, the newest count.
pub fn verify(presented: &str, secrets: &[trusted_application::ClientSecret]) -> SecretMatch {
    find(&hash_of(presented), secrets, |one, other| one.ct_eq(other))
}

fn find(
    presented: &SecretHash,
    secrets: &[trusted_application::ClientSecret],
    mut equals: impl FnMut(&[u8], &[u8]) -> Choice,
) -> SecretMatch {
    const EMPTY_SLOT: [u8; 32] = [0; 32];
    let first = secrets.len().saturating_sub(MAX_SECRETS);
    let mut found = Choice::from(0);
    let mut found_id = 0_u128;
    for slot in 0..MAX_SECRETS {
        let (hash, id, is_taken) = match secrets.get(first + slot) {
            Some(secret) => (&secret.hash.0, secret.id.0.as_u128(), Choice::from(1)),
            None => (&EMPTY_SLOT, 0, Choice::from(0)),
        };
        let is_equal = equals(&presented.0, hash) & is_taken;
        found_id.conditional_assign(&id, is_equal);
        found |= is_equal;
    }
    if found.into() {
        SecretMatch::Secret(SecretId(Uuid::from_u128(found_id)))
    } else {
        SecretMatch::NoSecret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantlog_projections::values::Timestamp;
    use proptest::prelude::*;

    fn kept(number: usize, plain: &str) -> trusted_application::ClientSecret {
        trusted_application::ClientSecret {
            id: id(number),
            hash: hash_of(plain),
            hint: None,
            created_at: Timestamp::from_unix_micros(0),
            expires_at: None,
            revoked_at: None,
        }
    }

    fn id(number: usize) -> SecretId {
        SecretId(Uuid::from_u128(
            0x0190_0000_0000_7000_8000_0000_0000_0000 + number as u128,
        ))
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let secret = ClientSecret::generate().unwrap();
        assert_eq!(format!("{secret:?}"), "ClientSecret(…)");
    }

    #[test]
    fn the_hash_is_base64_of_sha_256_on_the_wire() {
        assert_eq!(
            hash_of("abc").to_string(),
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
        );
    }

    #[test]
    fn the_secret_is_found_wherever_it_is() {
        let secrets: Vec<_> = (0..MAX_SECRETS).map(|n| kept(n, &format!("secret {n}"))).collect();
        for number in 0..MAX_SECRETS {
            let presented = format!("secret {number}");
            assert_eq!(verify(&presented, &secrets), SecretMatch::Secret(id(number)));
            assert_eq!(verify(&presented, &secrets[..number]), SecretMatch::NoSecret);
            assert_eq!(verify(&presented, &secrets[number..]).secret_id(), Some(id(number)));
        }
        assert_eq!(verify("another", &secrets), SecretMatch::NoSecret);
        assert_eq!(verify("", &secrets).secret_id(), None);
    }

    #[test]
    fn an_expired_or_revoked_secret_is_found_all_the_same() {
        let expired = trusted_application::ClientSecret {
            expires_at: Some(Timestamp::from_unix_micros(1)),
            ..kept(1, "expired")
        };
        let revoked = trusted_application::ClientSecret {
            revoked_at: Some(Timestamp::from_unix_micros(1)),
            ..kept(2, "revoked")
        };
        assert_eq!(
            verify("expired", &[expired.clone(), revoked.clone()]).secret_id(),
            Some(id(1))
        );
        assert_eq!(verify("revoked", &[expired, revoked]).secret_id(), Some(id(2)));
    }

    #[test]
    fn of_two_secrets_with_one_hash_the_newer_is_answered() {
        assert_eq!(
            verify("same", &[kept(1, "same"), kept(2, "other"), kept(3, "same")]).secret_id(),
            Some(id(3))
        );
    }

    #[test]
    fn of_more_secrets_than_there_may_be_the_newest_count() {
        let secrets: Vec<_> = (0..=MAX_SECRETS).map(|n| kept(n, &format!("secret {n}"))).collect();
        assert_eq!(verify("secret 0", &secrets), SecretMatch::NoSecret);
        assert_eq!(verify("secret 8", &secrets).secret_id(), Some(id(8)));
    }

    #[test]
    fn what_fills_an_empty_slot_matches_nothing() {
        let nothing = SecretHash([0; 32]);
        assert_eq!(
            find(&nothing, &[], |one, other| one.ct_eq(other)),
            SecretMatch::NoSecret
        );
    }

    #[test]
    fn the_number_of_comparisons_is_always_the_same() {
        let all: Vec<_> = (0..MAX_SECRETS + 2).map(|n| kept(n, &format!("secret {n}"))).collect();
        for count in 0..all.len() {
            for presented in ["secret 0", "secret 7", "nobody's"] {
                let mut compared = Vec::new();
                find(&hash_of(presented), &all[..count], |one, other| {
                    compared.push((one.len(), other.len()));
                    one.ct_eq(other)
                });
                assert_eq!(compared, [(32, 32); MAX_SECRETS], "{presented} among {count}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_at_all_can_be_checked_and_verified(text in any::<String>()) {
            prop_assert!(!ClientSecret::is_well_formed(&text));
            prop_assert_eq!(verify(&text, &[kept(1, &text)]).secret_id(), Some(id(1)));
            prop_assert_eq!(verify(&text, &[]).secret_id(), None);
        }
    }
}
