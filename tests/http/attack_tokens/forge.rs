//! Tokens with any header and any claims, signed with the server's own key: what an attacker who had it could make.

use crate::scene::{Scene, claims, jose_header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use grantlog::credentials::sealing::MasterKey;
use grantlog::credentials::signing_key::SigningKeyPair;
use grantlog_projections::values::{KeyId, SigningAlgorithm};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

pub type Json = serde_json::Value;

/// The order of P-256 (FIPS 186-5).
pub const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

pub struct Forge {
    pub kid: String,
    /// As the server writes it.
    pub header: Json,
    /// Those of a true token.
    pub claims: Json,
    pub public_jwk: Json,
    pair: SigningKeyPair,
}

impl Forge {
    /// With the key that has signed this token, out of the log and the data folder.
    pub async fn of(scene: &Scene, token: &str) -> Self {
        let header = jose_header(token);
        let kid = header["kid"].as_str().expect("a kid").to_owned();
        let log = scene.log().await;
        let added = log
            .iter()
            .find(|event| event.kind() == "SigningKeyAdded" && event.data()["kid"] == kid.as_str())
            .expect("every key's beginning is in the log")
            .data();
        let master_key =
            MasterKey::load(&scene.folder.path().join("data/master.key")).expect("the first start made it");
        let alg = SigningAlgorithm::Es256;
        assert_eq!(header["alg"], alg.as_str());
        let key_id = KeyId::parse(&kid).expect("a kid");
        let sealed = added["sealed_private_key"].as_str().expect("a sealed key");
        let opened = master_key
            .open(&key_id, alg, sealed)
            .expect("it is sealed under that key");
        Self {
            pair: SigningKeyPair::from_pkcs8(alg, &opened).expect("a key"),
            public_jwk: added["public_jwk"].clone(),
            claims: claims(token),
            header,
            kid,
        }
    }

    /// The server's clock, in seconds since 1970.
    pub fn now(&self) -> i64 {
        grantlog::service::now().unix_seconds()
    }

    /// A token of this text, truly signed.
    pub fn signed_text(&self, header: &str, claims: &str) -> String {
        self.signed_message(&format!("{}.{}", encoded(header), encoded(claims)))
    }

    /// The same of two parts that are encoded already.
    pub fn signed_message(&self, message: &str) -> String {
        let signature = self.pair.sign(message.as_bytes()).expect("it signs");
        format!("{message}.{}", encoded(signature))
    }

    /// A true token but for its header.
    pub fn with_header(&self, change: impl FnOnce(&mut Json)) -> String {
        let mut header = self.header.clone();
        change(&mut header);
        self.signed_text(&header.to_string(), &self.claims.to_string())
    }

    /// A true token but for its claims.
    pub fn with_claims(&self, change: impl FnOnce(&mut Json)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        self.signed_text(&self.header.to_string(), &claims.to_string())
    }

    /// What is signed.
    pub fn message(&self, header: &Json, claims: &Json) -> String {
        format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
    }

    /// A token that somebody else has signed.
    pub fn signed_by(&self, pair: &SigningKeyPair, header: &Json, claims: &Json) -> String {
        let message = self.message(header, claims);
        let signature = pair.sign(message.as_bytes()).expect("it signs");
        format!("{message}.{}", encoded(signature))
    }

    /// A token with an HMAC for a signature (RFC 7518 §3.2).
    pub fn hmac(&self, alg: &str, secret: &[u8]) -> String {
        let message = self.message(&json!({"alg": alg, "kid": self.kid, "typ": "at+jwt"}), &self.claims);
        let algorithm: Algorithm = alg.parse().expect("an algorithm");
        let key = EncodingKey::from_secret(secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).expect("it signs");
        format!("{message}.{signature}")
    }

    /// SEC 1 §2.3.3, uncompressed.
    pub fn public_point(&self) -> Vec<u8> {
        let coordinate = |name: &str| decoded(self.public_jwk[name].as_str().expect("a coordinate"));
        [vec![4], coordinate("x"), coordinate("y")].concat()
    }

    /// SubjectPublicKeyInfo (RFC 5480 §2).
    pub fn public_der(&self) -> Vec<u8> {
        const ID_EC_PUBLIC_KEY_PRIME256V1: [u8; 26] = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        [&ID_EC_PUBLIC_KEY_PRIME256V1[..], &self.public_point()].concat()
    }

    /// The same as a file would have it (RFC 7468 §13).
    pub fn public_pem(&self) -> String {
        let text = STANDARD.encode(self.public_der());
        let (first, second) = text.split_at(64);
        format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n")
    }
}

pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn decoded(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).expect("base64url")
}

pub fn remove(object: &mut Json, name: &str) {
    object
        .as_object_mut()
        .expect("an object")
        .remove(name)
        .expect("a member");
}

/// The object with a member twice: the other value first, and last.
pub fn twice(object: &Json, name: &str, value: &Json) -> [String; 2] {
    let text = object.to_string();
    let inner = &text[1..text.len() - 1];
    [
        format!("{{\"{name}\":{value},{inner}}}"),
        format!("{{{inner},\"{name}\":{value}}}"),
    ]
}

/// A text that lenient readers take for the same bytes (RFC 4648 §3.5): a bit is set that belongs to no byte. A text
/// without such bits gets a space, as lenient readers pass over it.
pub fn with_trailing_bits(part: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if part.len().is_multiple_of(4) {
        return format!("{part} ");
    }
    let (rest, last) = part.split_at(part.len() - 1);
    let value = ALPHABET.find(last).expect("of the alphabet");
    format!("{rest}{}", &ALPHABET[value + 1..value + 2])
}

/// An ECDSA signature as everybody but JOSE writes it (RFC 3279 §2.2.3).
pub fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| [&[0x02, 33, 0], bytes].concat();
    let both = [integer(r), integer(s)].concat();
    let length = u8::try_from(both.len()).expect("two short numbers");
    [&[0x30, length], both.as_slice()].concat()
}

/// The order of P-256 less this number, big-endian.
pub fn minus(number: &[u8]) -> Vec<u8> {
    let mut borrow = 0_i16;
    let mut difference = vec![0; 32];
    for place in (0..32).rev() {
        let digit = i16::from(P256_ORDER[place]) - i16::from(number[place]) - borrow;
        borrow = i16::from(digit < 0);
        difference[place] = u8::try_from(digit.rem_euclid(256)).expect("a digit");
    }
    difference
}
