//! The key pairs that sign tokens.
//!
//! A pair is parsed once and signs many times; `jsonwebtoken::encode` parses the private key again for
//! each token. Verifying is `jsonwebtoken`'s, in `verification`, and in the tests here.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantlog_projections::values::{InvalidValue, KeyId, SigningAlgorithm, TokenType};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use zeroize::Zeroizing;

/// The longest signature: that of RSA with 4,096 bits.
const MAX_SIGNATURE_BYTES: usize = 512;

/// How long an RSA key is. RFC 7518 §3.3 asks for 2,048 bits or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub enum RsaBits {
    /// 2,048 bits.
    Rsa2048,
    /// 3,072 bits.
    Rsa3072,
    /// 4,096 bits.
    Rsa4096,
}

impl TryFrom<u32> for RsaBits {
    type Error = InvalidValue;

    fn try_from(bits: u32) -> Result<Self, InvalidValue> {
        match bits {
            2048 => Ok(Self::Rsa2048),
            3072 => Ok(Self::Rsa3072),
            4096 => Ok(Self::Rsa4096),
            _ => Err(InvalidValue {
                what: "rsa_bits",
                rule: "one of 2048, 3072, 4096",
            }),
        }
    }
}

/// What a key pair could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// No key came out.
    #[error("a signing key for {0} could not be generated")]
    NotGenerated(SigningAlgorithm),
    /// The bytes are something else.
    #[error("not a private key for {0}")]
    NotAKey(SigningAlgorithm),
    /// The key could not be written as PKCS#8.
    #[error("the signing key for {0} could not be serialized")]
    NotSerialized(SigningAlgorithm),
    /// No signature came out.
    #[error("signing with {0} failed")]
    NotSigned(SigningAlgorithm),
}

/// A private key with its public one, ready to sign.
pub struct SigningKeyPair {
    alg: SigningAlgorithm,
    pair: KeyPair,
}

enum KeyPair {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ed25519(Ed25519KeyPair),
}

impl SigningKeyPair {
    /// Makes one. `rsa_bits` counts for RS256 and PS256 only, which take a tenth of a second and more.
    pub fn generate(alg: SigningAlgorithm, rsa_bits: RsaBits) -> Result<Self, SigningKeyError> {
        let rsa_size = match rsa_bits {
            RsaBits::Rsa2048 => KeySize::Rsa2048,
            RsaBits::Rsa3072 => KeySize::Rsa3072,
            RsaBits::Rsa4096 => KeySize::Rsa4096,
        };
        let pair = match alg {
            SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(KeyPair::P256),
            SigningAlgorithm::Rs256 => RsaKeyPair::generate(rsa_size).map(|pair| KeyPair::Rsa(pair, &RSA_PKCS1_SHA256)),
            SigningAlgorithm::Ps256 => RsaKeyPair::generate(rsa_size).map(|pair| KeyPair::Rsa(pair, &RSA_PSS_SHA256)),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().map(KeyPair::Ed25519),
        };
        pair.map(|pair| Self { alg, pair })
            .map_err(|_| SigningKeyError::NotGenerated(alg))
    }

    /// Reads what [`to_pkcs8`](Self::to_pkcs8) wrote for the same algorithm.
    pub fn from_pkcs8(alg: SigningAlgorithm, pkcs8: &[u8]) -> Result<Self, SigningKeyError> {
        let pair = match alg {
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(KeyPair::P256)
            }
            SigningAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(|pair| KeyPair::Rsa(pair, &RSA_PKCS1_SHA256)),
            SigningAlgorithm::Ps256 => RsaKeyPair::from_pkcs8(pkcs8).map(|pair| KeyPair::Rsa(pair, &RSA_PSS_SHA256)),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(KeyPair::Ed25519),
        };
        pair.ok()
            .map(|pair| Self { alg, pair })
            .filter(|key| key.signature_bytes() <= MAX_SIGNATURE_BYTES)
            .ok_or(SigningKeyError::NotAKey(alg))
    }

    /// The private key as PKCS#8 version 1, which OpenSSL reads too.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
        let pkcs8 = match &self.pair {
            KeyPair::P256(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            KeyPair::Rsa(pair, _) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map(|der| der.as_ref().to_vec()),
            KeyPair::Ed25519(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
        };
        pkcs8
            .map(Zeroizing::new)
            .map_err(|_| SigningKeyError::NotSerialized(self.alg))
    }

    /// What it signs with.
    pub fn alg(&self) -> SigningAlgorithm {
        self.alg
    }

    /// The public key as a JWK (RFC 7517 §4), members in alphabetical order.
    pub fn public_jwk(&self, kid: &KeyId) -> Value {
        let (alg, kid, encode) = (self.alg.as_str(), kid.as_str(), |bytes: &[u8]| {
            URL_SAFE_NO_PAD.encode(bytes)
        });
        match &self.pair {
            KeyPair::P256(pair) => {
                // RFC 7518 §6.2.1: each coordinate in full, 32 bytes. The point is 0x04, x, y (SEC 1 §2.3.3),
                // always 65 bytes, so no index is beyond its end.
                let point = pair.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({"alg": alg, "crv": "P-256", "kid": kid, "kty": "EC", "use": "sig", "x": x, "y": y})
            }
            KeyPair::Rsa(pair, _) => {
                // RFC 7518 §6.3.1: as few bytes as the number takes, which is how these come.
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let (n, e) = (encode(&public.n), encode(&public.e));
                json!({"alg": alg, "e": e, "kid": kid, "kty": "RSA", "n": n, "use": "sig"})
            }
            KeyPair::Ed25519(pair) => {
                let x = encode(pair.public_key().as_ref());
                json!({"alg": alg, "crv": "Ed25519", "kid": kid, "kty": "OKP", "use": "sig", "x": x})
            }
        }
    }

    /// Signs; an ECDSA signature is r and s in 32 bytes each (RFC 7518 §3.4).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        let signature = self.signature(message)?;
        Ok(signature.as_slice().to_vec())
    }

    /// The claims as a signed token: JWS compact serialization (RFC 7515 §7.1), put together in one
    /// buffer of exactly the token's size.
    pub fn sign_jwt(&self, header: &EncodedHeader, claims_json: &[u8]) -> Result<String, SigningKeyError> {
        let size =
            header.0.len() + 1 + base64url_chars(claims_json.len()) + 1 + base64url_chars(self.signature_bytes());
        let mut token = String::with_capacity(size);
        token.push_str(&header.0);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims_json, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_slice(), &mut token);
        Ok(token)
    }

    fn signature_bytes(&self) -> usize {
        match &self.pair {
            KeyPair::P256(_) | KeyPair::Ed25519(_) => 64,
            KeyPair::Rsa(pair, _) => pair.public_modulus_len(),
        }
    }

    fn signature(&self, message: &[u8]) -> Result<Signature, SigningKeyError> {
        let mut signature = Signature {
            bytes: [0; MAX_SIGNATURE_BYTES],
            length: self.signature_bytes(),
        };
        // `from_pkcs8` and `generate` take no key with a longer one.
        let space = &mut signature.bytes[..signature.length];
        // aws-lc takes its randomness from within and ignores the argument.
        let signed = match &self.pair {
            KeyPair::P256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .and_then(|made| copy_whole(made.as_ref(), space)),
            KeyPair::Rsa(pair, encoding) => pair.sign(*encoding, &SystemRandom::new(), message, space),
            KeyPair::Ed25519(pair) => pair.try_sign(message).and_then(|made| copy_whole(made.as_ref(), space)),
        };
        signed.map_err(|_| SigningKeyError::NotSigned(self.alg))?;
        Ok(signature)
    }
}

impl fmt::Debug for SigningKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeyPair({}, …)", self.alg)
    }
}

/// The first part of a token, which is the same for all tokens of a key and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedHeader(Box<str>);

impl EncodedHeader {
    /// The header of the tokens that this key signs with this algorithm (RFC 9068 §2.1).
    pub fn new(alg: SigningAlgorithm, kid: &KeyId, token_type: TokenType) -> Self {
        let json = json!({"alg": alg.as_str(), "kid": kid.as_str(), "typ": token_type.as_str()}).to_string();
        Self(URL_SAFE_NO_PAD.encode(json).into())
    }
}

struct Signature {
    bytes: [u8; MAX_SIGNATURE_BYTES],
    length: usize,
}

impl Signature {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length] // set in `signature` only, to what fits
    }
}

fn copy_whole(made: &[u8], space: &mut [u8]) -> Result<(), Unspecified> {
    if made.len() != space.len() {
        return Err(Unspecified);
    }
    space.copy_from_slice(made);
    Ok(())
}

fn base64url_chars(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use std::str::FromStr;

    fn kid() -> KeyId {
        KeyId::parse("2026-03-16").unwrap()
    }

    fn key(alg: SigningAlgorithm) -> SigningKeyPair {
        SigningKeyPair::generate(alg, RsaBits::Rsa2048).unwrap()
    }

    /// Whether a token is valid, asked of another implementation that knows the JWK and nothing else.
    fn verifies(token: &str, jwk: Value) -> bool {
        let algorithm = Algorithm::from_str(jwk["alg"].as_str().unwrap()).unwrap();
        let jwk: Jwk = serde_json::from_value(jwk).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).is_ok()
    }

    fn members(jwk: &Value) -> Vec<&str> {
        jwk.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn every_algorithms_tokens_verify_elsewhere_and_tampered_ones_do_not() {
        for alg in SigningAlgorithm::ALL {
            let key = key(alg);
            let header = EncodedHeader::new(alg, &kid(), TokenType::AtJwt);
            let token = key.sign_jwt(&header, br#"{"sub":"my.trusted.app"}"#).unwrap();
            let jwk = key.public_jwk(&kid());
            assert!(verifies(&token, jwk.clone()), "{alg}");
            assert_eq!(token.capacity(), token.len(), "{alg}: one buffer of the right size");

            let parts: Vec<&str> = token.split('.').collect();
            let other_claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"my.trusted.app2"}"#);
            assert!(
                !verifies(&[parts[0], &other_claims, parts[2]].join("."), jwk.clone()),
                "{alg}"
            );
            let mut signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
            signature[10] ^= 1;
            let other_signature = URL_SAFE_NO_PAD.encode(signature);
            assert!(
                !verifies(&[parts[0], parts[1], &other_signature].join("."), jwk),
                "{alg}"
            );
            let another = SigningKeyPair::generate(alg, RsaBits::Rsa2048).unwrap();
            assert!(
                !verifies(&token, another.public_jwk(&kid())),
                "{alg}: another key's JWK"
            );
        }
    }

    #[test]
    fn a_key_survives_pkcs8() {
        for alg in SigningAlgorithm::ALL {
            let key = key(alg);
            let pkcs8 = key.to_pkcs8().unwrap();
            let read = SigningKeyPair::from_pkcs8(alg, &pkcs8).unwrap();
            assert_eq!(read.public_jwk(&kid()), key.public_jwk(&kid()), "{alg}");
            assert_eq!(read.alg(), alg);
            let header = EncodedHeader::new(alg, &kid(), TokenType::Jwt);
            assert!(
                verifies(&read.sign_jwt(&header, b"{}").unwrap(), key.public_jwk(&kid())),
                "{alg}"
            );
        }
    }

    #[test]
    fn a_key_is_not_read_as_one_of_another_kind_or_from_part_of_it() {
        for alg in SigningAlgorithm::ALL {
            let pkcs8 = key(alg).to_pkcs8().unwrap();
            let is_rsa = |alg| matches!(alg, SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256);
            for other in SigningAlgorithm::ALL {
                let is_same_kind = other == alg || (is_rsa(other) && is_rsa(alg));
                assert_eq!(
                    SigningKeyPair::from_pkcs8(other, &pkcs8).is_ok(),
                    is_same_kind,
                    "{alg} as {other}"
                );
            }
            let cut = &pkcs8[..pkcs8.len() - 1];
            assert_eq!(
                SigningKeyPair::from_pkcs8(alg, cut).unwrap_err(),
                SigningKeyError::NotAKey(alg)
            );
        }
    }

    #[test]
    fn a_jwk_says_what_it_is_in_a_stable_order() {
        let jwk = key(SigningAlgorithm::Es256).public_jwk(&kid());
        assert_eq!(members(&jwk), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        assert_eq!(
            (&jwk["alg"], &jwk["crv"], &jwk["kid"], &jwk["kty"], &jwk["use"]),
            (
                &json!("ES256"),
                &json!("P-256"),
                &json!("2026-03-16"),
                &json!("EC"),
                &json!("sig")
            )
        );
        assert_eq!(jwk["x"].as_str().unwrap().len(), 43);
        assert_eq!(jwk["y"].as_str().unwrap().len(), 43);

        let jwk = key(SigningAlgorithm::Ps256).public_jwk(&kid());
        assert_eq!(members(&jwk), ["alg", "e", "kid", "kty", "n", "use"]);
        assert_eq!(
            (&jwk["alg"], &jwk["kty"], &jwk["e"]),
            (&json!("PS256"), &json!("RSA"), &json!("AQAB"))
        );

        let jwk = key(SigningAlgorithm::EdDsa).public_jwk(&kid());
        assert_eq!(members(&jwk), ["alg", "crv", "kid", "kty", "use", "x"]);
        assert_eq!(
            (&jwk["alg"], &jwk["kty"], &jwk["crv"]),
            (&json!("EdDSA"), &json!("OKP"), &json!("Ed25519"))
        );
    }

    #[test]
    fn an_rsa_key_has_the_bits_that_were_asked_for() {
        for (bits, bytes) in [(2048, 256), (3072, 384)] {
            let key = SigningKeyPair::generate(SigningAlgorithm::Rs256, RsaBits::try_from(bits).unwrap()).unwrap();
            assert_eq!(key.sign(b"message").unwrap().len(), bytes);
        }
        assert!(RsaBits::try_from(1024).is_err());
    }

    #[test]
    fn ecdsa_and_ed25519_signatures_always_have_64_bytes() {
        for alg in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
            let key = key(alg);
            // One r or s in 128 begins with a zero byte, which a DER signature would leave out.
            for number in 0..1_000_u32 {
                assert_eq!(key.sign(&number.to_be_bytes()).unwrap().len(), 64, "{alg}");
            }
        }
    }

    #[test]
    fn the_header_holds_alg_kid_and_typ() {
        let header = EncodedHeader::new(SigningAlgorithm::EdDsa, &kid(), TokenType::AtJwt);
        assert_eq!(
            String::from_utf8(URL_SAFE_NO_PAD.decode(&*header.0).unwrap()).unwrap(),
            r#"{"alg":"EdDSA","kid":"2026-03-16","typ":"at+jwt"}"#
        );
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(
            format!("{:?}", key(SigningAlgorithm::Es256)),
            "SigningKeyPair(ES256, …)"
        );
    }
}
