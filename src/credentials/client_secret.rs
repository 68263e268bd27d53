//! Client secrets: made here, shown once, kept as a hash, compared in constant time.
//!
//! # Format
//!
//! `gls_`, 43 characters, 6 characters; 53 in all, of `[A-Za-z0-9_-]`, so that form encoding (RFC 6749
//! §2.3.1) changes nothing in them.
//!
//! - The 43 are the unpadded base64url (RFC 4648 §5) of 32 random bytes.
//! - The 6 are a checksum: CRC-32 (ISO-HDLC, that of zlib) over the ASCII of the 47 characters before
//!   it, `gls_` included, written as a number in base 62 with the digits `0-9A-Za-z`, the most
//!   significant first, filled with `0` on the left.
//!
//! A scanner looks for `gls_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}` and checks the sum without asking anybody.

use super::{NoRandomness, fill_random};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantlog_projections::trusted_application::{self, MAX_SECRETS};
use grantlog_projections::values::{SecretHash, SecretId};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use uuid::Uuid;
use zeroize::Zeroizing;

const PREFIX: &str = "gls_";
const RANDOM_BYTES: usize = 32;
const RANDOM_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const CHECKED_CHARS: usize = PREFIX.len() + RANDOM_CHARS;
const SECRET_CHARS: usize = CHECKED_CHARS + CHECKSUM_CHARS;
const HINT_CHARS: usize = 4;
const BASE_62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A generated client secret in the clear, from its making until it has been shown.
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// Makes one of 256 random bits.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        fill_random(random.as_mut_slice())?;
        // Never longer than this, so it is not moved and no copy stays behind.
        let mut text = Zeroizing::new(String::with_capacity(SECRET_CHARS));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(random.as_slice(), &mut text);
        let checksum = checksum(&text);
        text.extend(checksum.map(char::from));
        Ok(Self(text))
    }

    /// Whether the text is a secret as [`generate`](Self::generate) makes them, checksum included.
    /// It says nothing about whether any application has it.
    pub fn is_well_formed(text: &str) -> bool {
        let Some((checked, sum)) = text.split_at_checked(CHECKED_CHARS) else {
            return false;
        };
        sum.as_bytes() == checksum(checked)
            && checked.strip_prefix(PREFIX).is_some_and(|random| {
                let decoded = URL_SAFE_NO_PAD.decode(random).map(Zeroizing::new);
                decoded.is_ok_and(|bytes| bytes.len() == RANDOM_BYTES)
            })
    }

    /// The secret itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> SecretHash {
        hash_of(&self.0)
    }

    /// Its last 4 characters, by which people tell secrets apart. They belong to the checksum and leave
    /// at least 232 of the 256 bits unknown.
    pub fn hint(&self) -> String {
        // ASCII throughout, so every position is a character's start.
        self.0[SECRET_CHARS - HINT_CHARS..].to_owned()
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// SHA-256 of a secret, generated here or not. Nothing slower is needed where the secret is 256 random
/// bits, and whoever imports a hash vouches for the secret behind it.
pub fn hash_of(presented: &str) -> SecretHash {
    SecretHash(Sha256::digest(presented.as_bytes()).into())
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

fn checksum(checked: &str) -> [u8; CHECKSUM_CHARS] {
    // 62^6 > 2^32: six digits hold every CRC.
    let mut rest = crc32fast::hash(checked.as_bytes());
    let mut digits = [0; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE_62[(rest % 62) as usize]; // a remainder of 62 is below 62
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantlog_projections::values::Timestamp;
    use proptest::prelude::*;
    use std::collections::HashSet;

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
    fn a_generated_secret_has_the_documented_form() {
        let secret = ClientSecret::generate().unwrap();
        let text = secret.expose();
        assert_eq!(text.len(), 53);
        assert!(text.starts_with("gls_"));
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        assert!(text[47..].bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(ClientSecret::is_well_formed(text));
        assert_eq!(secret.hint(), text[49..]);
    }

    #[test]
    fn the_checksum_is_the_one_a_scanner_computes_from_the_description() {
        // zlib.crc32(b"gls_" + b"A" * 43) == 0x249a2406, in base 62: computed with Python, not with this code.
        let checked = format!("gls_{}", "A".repeat(43));
        let text = format!("{checked}0fYcf0");
        assert!(ClientSecret::is_well_formed(&text));
        assert_eq!(&checksum(""), b"000000");
    }

    #[test]
    fn no_two_generated_secrets_are_the_same() {
        let made: HashSet<String> = (0..1_000)
            .map(|_| ClientSecret::generate().unwrap().expose().to_owned())
            .collect();
        assert_eq!(made.len(), 1_000);
    }

    #[test]
    fn a_secret_with_one_other_character_is_not_well_formed() {
        let secret = ClientSecret::generate().unwrap();
        for position in 0..SECRET_CHARS {
            let mut bytes = secret.expose().as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'Q' { b'R' } else { b'Q' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(!ClientSecret::is_well_formed(&changed), "position {position}");
        }
        let text = secret.expose();
        assert!(!ClientSecret::is_well_formed(&text[..52]));
        assert!(!ClientSecret::is_well_formed(&format!("{text}0")));
    }

    #[test]
    fn the_last_of_the_43_characters_is_canonical() {
        // 43 characters carry 258 bits, of which the last two are zero.
        let checked = format!("gls_{}B", "A".repeat(42));
        let sum = String::from_utf8(checksum(&checked).to_vec()).unwrap();
        assert!(!ClientSecret::is_well_formed(&format!("{checked}{sum}")));
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
