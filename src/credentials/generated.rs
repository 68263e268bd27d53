//! Random texts that open something: client secrets and reference tokens.
//!
//! # Format
//!
//! A prefix of four characters (`gls_` for client secrets, `glr_` for reference tokens), 43 characters, 6 characters;
//! 53 in all, of `[A-Za-z0-9_-]`, so that form encoding (RFC 6749 §2.3.1) changes nothing in them.
//!
//! - The 43 are the unpadded base64url (RFC 4648 §5) of 32 random bytes.
//! - The 6 are a checksum: CRC-32 (ISO-HDLC, that of zlib) over the ASCII of the 47 characters before
//!   it, the prefix included, written as a number in base 62 with the digits `0-9A-Za-z`, the most
//!   significant first, filled with `0` on the left.
//!
//! A scanner looks for `gl[sr]_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}` and checks the sum without asking anybody.

use super::{NoRandomness, fill_random};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantlog_projections::values::SecretHash;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const PREFIX_CHARS: usize = 4;
const RANDOM_BYTES: usize = 32;
const RANDOM_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const CHECKED_CHARS: usize = PREFIX_CHARS + RANDOM_CHARS;
const ALL_CHARS: usize = CHECKED_CHARS + CHECKSUM_CHARS;
const HINT_CHARS: usize = 4;
const BASE_62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A generated text in the clear. It has no `Debug`: whoever holds one says what it is.
pub(super) struct Generated(Zeroizing<String>);

impl Generated {
    /// Makes one of 256 random bits. The prefix has four characters.
    pub fn new(prefix: &'static str) -> Result<Self, NoRandomness> {
        debug_assert_eq!(prefix.len(), PREFIX_CHARS);
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        fill_random(random.as_mut_slice())?;
        // Never longer than this, so it is not moved and no copy stays behind.
        let mut text = Zeroizing::new(String::with_capacity(ALL_CHARS));
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(random.as_slice(), &mut text);
        let checksum = checksum(&text);
        text.extend(checksum.map(char::from));
        Ok(Self(text))
    }

    /// One that was made before, when the text is one of that prefix.
    pub fn again(prefix: &'static str, text: &str) -> Option<Self> {
        Self::is_well_formed(prefix, text).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Whether the text is one of that prefix, checksum included.
    pub fn is_well_formed(prefix: &'static str, text: &str) -> bool {
        let Some((checked, sum)) = text.split_at_checked(CHECKED_CHARS) else {
            return false;
        };
        sum.as_bytes() == checksum(checked)
            && checked.strip_prefix(prefix).is_some_and(|random| {
                let decoded = URL_SAFE_NO_PAD.decode(random).map(Zeroizing::new);
                decoded.is_ok_and(|bytes| bytes.len() == RANDOM_BYTES)
            })
    }

    /// The text itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its last 4 characters. They belong to the checksum and leave at least 232 of the 256 bits unknown.
    pub fn hint(&self) -> String {
        // ASCII throughout, so every position is a character's start.
        self.0[ALL_CHARS - HINT_CHARS..].to_owned()
    }
}

/// SHA-256 of what was presented, generated here or not. Nothing slower is needed where it is 256 random
/// bits, and whoever imports a hash vouches for the secret behind it.
pub fn hash_of(presented: &str) -> SecretHash {
    SecretHash(Sha256::digest(presented.as_bytes()).into())
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
    use std::collections::HashSet;

    #[test]
    fn a_generated_text_has_the_documented_form() {
        let secret = Generated::new("gls_").unwrap();
        let text = secret.expose();
        assert_eq!(text.len(), 53);
        assert!(text.starts_with("gls_"));
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        assert!(text[47..].bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(Generated::is_well_formed("gls_", text));
        assert_eq!(secret.hint(), text[49..]);
    }

    #[test]
    fn the_checksum_is_the_one_a_scanner_computes_from_the_description() {
        // zlib.crc32(b"gls_" + b"A" * 43) == 0x249a2406, in base 62: computed with Python, not with this code.
        let checked = format!("gls_{}", "A".repeat(43));
        let text = format!("{checked}0fYcf0");
        assert!(Generated::is_well_formed("gls_", &text));
        assert_eq!(&checksum(""), b"000000");
    }

    #[test]
    fn no_two_generated_secrets_are_the_same() {
        let made: HashSet<String> = (0..1_000)
            .map(|_| Generated::new("gls_").unwrap().expose().to_owned())
            .collect();
        assert_eq!(made.len(), 1_000);
    }

    #[test]
    fn a_secret_with_one_other_character_is_not_well_formed() {
        let secret = Generated::new("gls_").unwrap();
        for position in 0..ALL_CHARS {
            let mut bytes = secret.expose().as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'Q' { b'R' } else { b'Q' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(!Generated::is_well_formed("gls_", &changed), "position {position}");
        }
        let text = secret.expose();
        assert!(!Generated::is_well_formed("gls_", &text[..52]));
        assert!(!Generated::is_well_formed("gls_", &format!("{text}0")));
    }

    #[test]
    fn the_last_of_the_43_characters_is_canonical() {
        // 43 characters carry 258 bits, of which the last two are zero.
        let checked = format!("gls_{}B", "A".repeat(42));
        let sum = String::from_utf8(checksum(&checked).to_vec()).unwrap();
        assert!(!Generated::is_well_formed("gls_", &format!("{checked}{sum}")));
    }
}
