//! Standard Webhooks signatures: `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`.

use crate::forwarding::settings::{SecretError, SecretSource};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What a secret looks like.
pub const ACCEPTED: &str =
    "one secret, or two while they are changed (new and old, white space between): whsec_ and base64 of 24 to 64 bytes";
const PREFIX: &str = "whsec_";
/// Standard Webhooks: "between 24 bytes (192 bits) and 64 bytes (512 bits)".
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const MAX_SECRETS: usize = 2;

/// Signs with one secret, or with two while a receiver changes from one to the other.
pub struct Signer(Vec<Key>);

impl Signer {
    /// Reads the secrets.
    pub fn read(source: &SecretSource) -> Result<Self, SecretError> {
        let text = source.read()?;
        Self::parse(&text).ok_or_else(|| source.unfit(ACCEPTED))
    }

    fn parse(text: &str) -> Option<Self> {
        let keys: Vec<Key> = text.split_whitespace().map(key).collect::<Option<_>>()?;
        (1..=MAX_SECRETS).contains(&keys.len()).then_some(Self(keys))
    }

    /// The `webhook-signature` header: one signature per secret, a space between.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signed = format!("{id}.{timestamp}.").into_bytes();
        signed.extend_from_slice(body);
        let signatures: Vec<_> = self
            .0
            .iter()
            .map(|key| format!("v1,{}", STANDARD.encode(sign(key, &signed))))
            .collect();
        signatures.join(" ")
    }
}

fn key(secret: &str) -> Option<Key> {
    let bytes = Zeroizing::new(STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?);
    KEY_BYTES.contains(&bytes.len()).then(|| Key::new(HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_signature_is_that_of_the_specifications_example() {
        // From the Standard Webhooks libraries' own tests.
        let signer = Signer::parse(SECRET).unwrap();
        assert_eq!(
            signer.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn two_secrets_make_two_signatures() {
        let other = format!("{PREFIX}{}", STANDARD.encode([7; 32]));
        let both = Signer::parse(&format!("{other}\n{SECRET}\n"))
            .unwrap()
            .sign("id", 1, b"{}");
        let one = Signer::parse(SECRET).unwrap().sign("id", 1, b"{}");
        let (_, second) = both.split_once(' ').unwrap();
        assert_eq!(second, one);
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let short = format!("{PREFIX}{}", STANDARD.encode([7; 23]));
        let three = [SECRET; 3].join(" ");
        for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", &short, &three] {
            assert!(Signer::parse(bad).is_none(), "{bad}");
        }
    }
}
