//! Access tokens as they come back. The first byte chooses: either the rest is a token, of whoever; or its first line is
//! a header and the rest are claims, which are then truly signed, as if an attacker had our key.
//!
//! Nothing is accepted that our key has not signed, and of what it has signed only what RFC 8725 and RFC 9068 let pass.

#![no_main]

#[allow(dead_code)]
#[path = "../../src/credentials/verification.rs"]
mod verification;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantlog_projections::RecordedEvent;
use grantlog_projections::event::SigningKeyAdded;
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, Audience, KeyId, Remark, SigningAlgorithm, StreamName, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::LazyLock;
use verification::{SignedToken, VerificationKeys, token_hint, verify_access_token};

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "https://api.example.com";
const NOW: i64 = 1_773_653_400;
const LEEWAY: u32 = 30;
/// The private key of RFC 8037, appendix A.1, in PKCS #8: everybody knows it.
const PRIVATE: [u8; 48] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20, 0x9d, 0x61, 0xb1,
    0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
    0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

struct Fixture {
    keys: VerificationKeys,
    private: EncodingKey,
    audience: Audience,
}

/// The public keys of RFC 8037 (A.2) and RFC 7515 (A.2 and A.3).
static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let mut ring = KeyRing::default();
    let keys = [
        (
            "ed",
            SigningAlgorithm::EdDsa,
            json!({
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }),
        ),
        (
            "es",
            SigningAlgorithm::Es256,
            json!({
                "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
        ),
        (
            "rs",
            SigningAlgorithm::Rs256,
            json!({
                "kty": "RSA", "e": "AQAB",
                "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            }),
        ),
    ];
    for (index, (kid, alg, mut public_jwk)) in (0..).zip(keys) {
        public_jwk["kid"] = json!(kid);
        public_jwk["alg"] = json!(alg.as_str());
        public_jwk["use"] = json!("sig");
        ring.apply(&RecordedEvent {
            index,
            revision: index,
            envelope: Envelope {
                id: uuid::Uuid::nil(),
                stream: StreamName::signing_keys(),
                time: Timestamp::from_unix_micros(0),
                actor: Actor::System,
                source: None,
                trace_id: None,
                event: SigningKeyAdded {
                    kid: KeyId::parse(kid).expect("a kid"),
                    alg,
                    public_jwk,
                    sealed_private_key: String::new(),
                    reason: Remark::parse("fixture").expect("a remark"),
                }
                .into(),
            },
        });
    }
    let keys = VerificationKeys::from(&ring);
    // Were a key of the fixture none, everything would be refused, and nothing found.
    for (kid, alg) in [("ed", "EdDSA"), ("es", "ES256"), ("rs", "RS256")] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": kid, "typ": "at+jwt"}).to_string());
        let refused = SignedToken::open(&format!("{header}.e30.AAAA"), &keys).err();
        assert_eq!(refused, Some(verification::TokenInvalid::BadSignature), "{kid}");
    }
    Fixture {
        keys,
        private: EncodingKey::from_ed_der(&PRIVATE),
        audience: Audience::parse(AUDIENCE).expect("an audience"),
    }
});

fn verify(token: &str) -> Result<verification::VerifiedToken, verification::TokenInvalid> {
    let Fixture { keys, audience, .. } = &*FIXTURE;
    let now = Timestamp::from_unix_micros(NOW * 1_000_000);
    verify_access_token(token, keys, ISSUER, audience, now, LEEWAY)
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    if choice & 1 == 0 {
        // Nobody has signed it. A bearer is named only when somebody has.
        let Ok(text) = std::str::from_utf8(rest) else { return };
        let refused = verify(text).expect_err("nobody has signed it");
        assert!(refused.bearer().is_none(), "{refused:?}");
        if let Some(hint) = token_hint(text) {
            assert!(hint.len() == 8 && text.len() >= 64 && text.ends_with(&hint));
        }
        return;
    }
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (header, claims) = rest.split_at(end);
    let claims = claims.get(1..).unwrap_or_default();
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &FIXTURE.private, Algorithm::EdDSA)
        .expect("Ed25519 signs everything");
    let token = format!("{message}.{signature}");
    let signed = match SignedToken::open(&token, &FIXTURE.keys) {
        Ok(signed) => signed,
        Err(refused) => {
            assert!(refused.bearer().is_none());
            assert!(verify(&token).is_err());
            return;
        }
    };

    // Read once more, by a reader that knows nothing of tokens.
    let header: Value = serde_json::from_slice(header).expect("a header is JSON");
    let members: Vec<&String> = header.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["alg", "kid", "typ"]);
    assert_eq!((&header["alg"], &header["kid"]), (&json!("EdDSA"), &json!("ed")));
    assert!(["at+jwt", "application/at+jwt", "JWT"].contains(&header["typ"].as_str().expect("a text")));
    assert!(std::str::from_utf8(claims).is_ok());
    // In claims that nobody reads a number may be beyond counting, and lists nested deeper than this reader goes.
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else {
        return;
    };
    assert_eq!(claims["sub"], claims["client_id"]);
    assert_eq!(claims["client_id"], signed.bearer().client_id.as_str());

    let seconds = |name: &str| claims[name].as_i64().expect("whole seconds");
    let leeway = i64::from(LEEWAY);
    let is_of_us = claims["iss"] == ISSUER;
    let is_over = NOW >= seconds("exp").saturating_add(leeway);
    let is_of_the_future = NOW < seconds("nbf").max(seconds("iat")).saturating_sub(leeway);
    let is_for_us = claims["aud"].as_array().expect("a list").contains(&json!(AUDIENCE));
    match verify(&token) {
        Ok(verified) => {
            assert!(is_of_us && is_for_us && !is_over && !is_of_the_future);
            assert!(token.ends_with(&verified.token_hint) && verified.token_hint.len() == 8);
        }
        Err(refused) => {
            assert!(!(is_of_us && is_for_us) || is_over || is_of_the_future, "{refused:?}");
            assert_eq!(refused.bearer(), Some(&signed.bearer()));
        }
    }
});
