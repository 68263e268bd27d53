//! Grantlog's own tokens when they come back: verified against the published keys, offline, with the
//! time as a parameter. What RFC 8725 (JWT best practices) and RFC 9068 §4 ask for is checked here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantlog_projections::event::DenialReason;
use grantlog_projections::key_ring::{KeyRing, SigningKey};
use grantlog_projections::values::{ApplicationUri, Audience, OrgCode, Scope, SigningAlgorithm, SystemUser, Timestamp};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use uuid::Uuid;

/// A longer token is not looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How much of a token's end people see of it.
const HINT_CHARS: usize = 8;
/// Of anything shorter, the hint would be too large a part.
const MIN_HINTED_CHARS: usize = 64;

/// The published keys, parsed: made once for each state of the key ring.
#[derive(Debug, Default)]
pub struct VerificationKeys {
    by_kid: HashMap<Box<str>, VerificationKey>,
}

#[derive(Debug)]
struct VerificationKey {
    alg: SigningAlgorithm,
    decoding_key: DecodingKey,
}

impl From<&KeyRing> for VerificationKeys {
    /// A key whose JWK is none of its algorithm, which no Grantlog writes, is left out: its tokens are
    /// then refused as those of an unknown key.
    fn from(key_ring: &KeyRing) -> Self {
        let keys = key_ring
            .published()
            .filter_map(|key| Some((key.kid.as_str().into(), VerificationKey::parse(key)?)));
        Self { by_kid: keys.collect() }
    }
}

impl VerificationKey {
    fn parse(key: &SigningKey) -> Option<Self> {
        let jwk = Jwk::deserialize(&key.public_jwk).ok()?;
        let decoding_key = DecodingKey::from_jwk(&jwk).ok()?;
        let is_of_its_algorithm = decoding_key.family() == algorithm(key.alg).family();
        is_of_its_algorithm.then_some(Self {
            alg: key.alg,
            decoding_key,
        })
    }
}

/// A token with a good signature of ours, and nothing else looked at yet: what takes time is done, what depends on
/// the time is not. No `Debug`, and it does not hold the token.
#[derive(Clone)]
pub struct SignedToken {
    kid: Box<str>,
    claims: Claims,
    token_hint: String,
}

/// What a token says that is ours, valid now, and meant for the audience that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The token's id.
    pub jti: Uuid,
    /// Whose token it is.
    pub client_id: ApplicationUri,
    /// What it allows.
    pub scope: Scope,
    /// The service account that it acts as.
    pub system_user: Option<SystemUser>,
    /// The organisation that it is bound to.
    pub org_code: Option<OrgCode>,
    /// Its `iat`.
    pub issued_at: Timestamp,
    /// Its `nbf`.
    pub not_before: Timestamp,
    /// Its `exp`.
    pub expires_at: Timestamp,
    /// Its last 8 characters.
    pub token_hint: String,
}

/// Who holds a token that is ours but refused: proven by the signature, good for the record only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token's id.
    pub jti: Uuid,
    /// Whose token it is.
    pub client_id: ApplicationUri,
}

/// Why a token is refused. From `TokenExpired` on its signature was good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenInvalid {
    /// There is none.
    #[error("no token")]
    MissingToken,
    /// Not a token as Grantlog makes them.
    #[error("not a token of this server: {0}")]
    MalformedToken(&'static str),
    /// No published key has this kid and algorithm.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Its time is over.
    #[error("the token has expired")]
    TokenExpired(Bearer),
    /// Its time has not come.
    #[error("the token is not valid yet")]
    TokenNotYetValid(Bearer),
    /// It was issued under another name of the server.
    #[error("the token is of another issuer")]
    WrongIssuer(Bearer),
    /// It is for another API.
    #[error("the token is for another audience")]
    WrongAudience(Bearer),
}

impl TokenInvalid {
    /// What the log records.
    pub fn reason(&self) -> DenialReason {
        match self {
            Self::MissingToken => DenialReason::MissingToken,
            Self::MalformedToken(_) => DenialReason::MalformedToken,
            Self::UnknownKey => DenialReason::UnknownKey,
            Self::BadSignature => DenialReason::BadSignature,
            Self::TokenExpired(_) => DenialReason::TokenExpired,
            Self::TokenNotYetValid(_) => DenialReason::TokenNotYetValid,
            Self::WrongIssuer(_) => DenialReason::WrongIssuer,
            Self::WrongAudience(_) => DenialReason::WrongAudience,
        }
    }

    /// Who presented it, when the token proves that.
    pub fn bearer(&self) -> Option<&Bearer> {
        match self {
            Self::MissingToken | Self::MalformedToken(_) | Self::UnknownKey | Self::BadSignature => None,
            Self::TokenExpired(bearer)
            | Self::TokenNotYetValid(bearer)
            | Self::WrongIssuer(bearer)
            | Self::WrongAudience(bearer) => Some(bearer),
        }
    }
}

impl SignedToken {
    /// Checks form and signature.
    pub fn open(token: &str, keys: &VerificationKeys) -> Result<Self, TokenInvalid> {
        let (kid, claims) = signed_claims(token, keys)?;
        Ok(Self {
            kid,
            claims,
            // Every token that verifies is long enough for one and of the right characters.
            token_hint: token_hint(token).unwrap_or_default(),
        })
    }

    /// Whether the key that signed it is one of these.
    pub fn is_of(&self, keys: &VerificationKeys) -> bool {
        keys.by_kid.contains_key(&self.kid)
    }

    /// The APIs that it names.
    pub fn audiences(&self) -> &[Audience] {
        &self.claims.aud
    }

    /// Who holds it, for the record.
    pub fn bearer(&self) -> Bearer {
        Bearer {
            jti: self.claims.jti,
            client_id: self.claims.client_id.clone(),
        }
    }

    /// Checks what it says. `leeway_seconds` is how far the clocks of those who issue and those who verify may be
    /// apart.
    pub fn verify(
        &self,
        expected_issuer: &str,
        expected_audience: &Audience,
        now: Timestamp,
        leeway_seconds: u32,
    ) -> Result<VerifiedToken, TokenInvalid> {
        let claims = &self.claims;
        if claims.iss != expected_issuer {
            return Err(TokenInvalid::WrongIssuer(self.bearer()));
        }
        let (now, leeway) = (now.unix_seconds(), i64::from(leeway_seconds));
        // RFC 7519 §4.1.4: refused on and after exp. §4.1.5: refused before nbf.
        if now >= claims.exp.saturating_add(leeway) {
            return Err(TokenInvalid::TokenExpired(self.bearer()));
        }
        // A token of the future is not ours yet, whatever its nbf: revocations go by when it was issued.
        if now < claims.nbf.max(claims.iat).saturating_sub(leeway) {
            return Err(TokenInvalid::TokenNotYetValid(self.bearer()));
        }
        // RFC 8725 §3.9, RFC 9068 §4.
        if !claims.aud.contains(expected_audience) {
            return Err(TokenInvalid::WrongAudience(self.bearer()));
        }
        Ok(VerifiedToken {
            jti: claims.jti,
            client_id: claims.client_id.clone(),
            scope: claims.scope.clone(),
            system_user: claims.client_system_user.clone(),
            org_code: claims.org_code.clone(),
            issued_at: at_unix_seconds(claims.iat),
            not_before: at_unix_seconds(claims.nbf),
            expires_at: at_unix_seconds(claims.exp),
            token_hint: self.token_hint.clone(),
        })
    }
}

/// Verifies an access token, all of it.
pub fn verify_access_token(
    token: &str,
    keys: &VerificationKeys,
    expected_issuer: &str,
    expected_audience: &Audience,
    now: Timestamp,
    leeway_seconds: u32,
) -> Result<VerifiedToken, TokenInvalid> {
    SignedToken::open(token, keys)?.verify(expected_issuer, expected_audience, now, leeway_seconds)
}

/// The last 8 characters of what was presented as a token, by which people find it in the log. None of
/// what is too short or cannot be a token: it may be a password in the wrong place.
pub fn token_hint(presented: &str) -> Option<String> {
    let hint = presented.get(presented.len().checked_sub(HINT_CHARS)?..)?;
    let is_of_token_characters = hint.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (presented.len() >= MIN_HINTED_CHARS && is_of_token_characters).then(|| hint.to_owned())
}

// Exactly what Grantlog writes. Whatever else a header may say is about keys from elsewhere (jwk, jku,
// x5u, x5c: RFC 8725 §3.10) or must be understood (crit: RFC 7515 §4.1.11), and no reason to go on.
// A member that is there twice is refused as well (RFC 7515 §4), here and in the claims.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Cow<'a, str>,
    #[serde(borrow)]
    typ: Cow<'a, str>,
}

// RFC 9068 §2.2; the claims that nothing here depends on are left out.
#[derive(Clone, Deserialize)]
struct Claims {
    iss: String,
    sub: ApplicationUri,
    aud: Vec<Audience>,
    client_id: ApplicationUri,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
    #[serde(default = "Scope::none")]
    scope: Scope,
    client_system_user: Option<SystemUser>,
    org_code: Option<OrgCode>,
}

/// What a token says, and the key that vouches for it.
fn signed_claims(token: &str, keys: &VerificationKeys) -> Result<(Box<str>, Claims), TokenInvalid> {
    use TokenInvalid::{BadSignature, MalformedToken, MissingToken, UnknownKey};

    if token.is_empty() {
        return Err(MissingToken);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(MalformedToken("too long"));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(MalformedToken("not three parts"));
    };

    let header = decode(header).ok_or(MalformedToken("header"))?;
    let header: Header = parse_object(&header).ok_or(MalformedToken("header"))?;
    // RFC 8725 §3.11, RFC 9068 §4: no token of another kind that happens to have our signature.
    if !matches!(&*header.typ, "at+jwt" | "application/at+jwt" | "JWT") {
        return Err(MalformedToken("typ"));
    }
    // RFC 8725 §3.1: the key decides the algorithm, the token can only repeat it.
    let key = keys
        .by_kid
        .get(&*header.kid)
        .filter(|key| key.alg.as_str() == header.alg)
        .ok_or(UnknownKey)?;
    let (message, _) = token.rsplit_once('.').ok_or(MalformedToken("not three parts"))?;
    match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.decoding_key, algorithm(key.alg)) {
        Ok(true) => {}
        Ok(false) => return Err(BadSignature),
        // The key fits its algorithm, so this is a signature that is not base64url.
        Err(_) => return Err(MalformedToken("signature")),
    }

    // Nothing in the claims is looked at before this line.
    let claims = decode(claims).ok_or(MalformedToken("claims"))?;
    let claims: Claims = parse_object(&claims).ok_or(MalformedToken("claims"))?;
    // RFC 9068 §2.2: a client that acts for itself is its own subject.
    if claims.sub != claims.client_id {
        return Err(MalformedToken("sub is not client_id"));
    }
    Ok((header.kid.into(), claims))
}

// Refuses padding, other alphabets and bits that belong to no byte: each text has one encoding.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

// serde would read a list of the members' values as well. RFC 7519 §7.2: all of it is UTF-8, what nobody reads too.
fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let json = std::str::from_utf8(json).ok()?;
    serde_json::from_str(json).ok().filter(|_| json.starts_with('{'))
}

fn at_unix_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(seconds.saturating_mul(1_000_000))
}

fn algorithm(alg: SigningAlgorithm) -> Algorithm {
    match alg {
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Ps256 => Algorithm::PS256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_ring_fixture::KeyRingFixture;
    use super::super::signing_key::SigningKeyPair;
    use super::*;
    use grantlog_projections::values::KeyId;
    use jsonwebtoken::EncodingKey;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::LazyLock;

    const ISSUER: &str = "https://id.example.com/id";
    const NOW: i64 = 1_773_653_400;
    const LEEWAY: u32 = 5;
    const JTI: &str = "0195a0a0-0000-7000-8000-000000000001";
    const ES256: SigningAlgorithm = SigningAlgorithm::Es256;

    /// One active key of each algorithm, one of ES256 that is superseded and one that is retired.
    struct Keys {
        verification: VerificationKeys,
        pairs: Vec<(&'static str, SigningKeyPair)>,
    }

    impl Keys {
        fn pair(&self, kid: &str) -> &SigningKeyPair {
            &self.pairs.iter().find(|(known, _)| *known == kid).unwrap().1
        }
    }

    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let mut fixture = KeyRingFixture::new();
        let kids = [
            ("retired", ES256),
            ("superseded", ES256),
            ("es", ES256),
            ("rs", SigningAlgorithm::Rs256),
            ("ps", SigningAlgorithm::Ps256),
            ("ed", SigningAlgorithm::EdDsa),
        ];
        let pairs = kids.map(|(kid, alg)| (kid, fixture.activated(kid, alg))).into();
        fixture.retire("retired", ES256);
        let verification = VerificationKeys::from(&fixture.ring);
        Keys { verification, pairs }
    });

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "sub": "my.trusted.app/service", "aud": ["https://api.example.com", "other"],
            "client_id": "my.trusted.app/service", "azp": "my.trusted.app/service", "gty": ["client_credentials"],
            "scope": "read update", "scp": ["read", "update"], "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 3590,
            "jti": JTI, "client_system_user": "svc.integration", "org_code": "acme",
            "application_properties": {"tier": {"v": "gold"}},
        })
    }

    fn claims_with(name: &str, value: Value) -> String {
        let mut claims = claims();
        claims[name] = value;
        claims.to_string()
    }

    fn claims_without(name: &str) -> String {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims.to_string()
    }

    fn header(kid: &str) -> Value {
        json!({"alg": KEYS.pair(kid).alg().as_str(), "kid": kid, "typ": "at+jwt"})
    }

    /// A token with this header and these claims, truly signed by the key.
    fn signed(header: &str, claims: impl AsRef<[u8]>, kid: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = KEYS.pair(kid).sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(kid: &str) -> String {
        signed(&header(kid).to_string(), claims().to_string(), kid)
    }

    fn with_header(change: impl FnOnce(&mut Value)) -> String {
        let mut header = header("es");
        change(&mut header);
        signed(&header.to_string(), claims().to_string(), "es")
    }

    fn with_claims(claims: &str) -> String {
        signed(&header("es").to_string(), claims, "es")
    }

    fn verify_at(token: &str, now: i64) -> Result<VerifiedToken, TokenInvalid> {
        let audience = Audience::parse("https://api.example.com").unwrap();
        verify_access_token(
            token,
            &KEYS.verification,
            ISSUER,
            &audience,
            at_unix_seconds(now),
            LEEWAY,
        )
    }

    fn verify(token: &str) -> Result<VerifiedToken, TokenInvalid> {
        verify_at(token, NOW)
    }

    #[test]
    fn a_token_of_each_algorithm_and_of_a_superseded_key_is_read() {
        for kid in ["es", "rs", "ps", "ed", "superseded"] {
            let token = token(kid);
            let expected = VerifiedToken {
                jti: JTI.parse().unwrap(),
                client_id: ApplicationUri::parse("my.trusted.app/service").unwrap(),
                scope: Scope::parse("read update").unwrap(),
                system_user: SystemUser::parse("svc.integration").ok(),
                org_code: OrgCode::parse("acme").ok(),
                issued_at: at_unix_seconds(NOW - 10),
                not_before: at_unix_seconds(NOW - 10),
                expires_at: at_unix_seconds(NOW + 3590),
                token_hint: token[token.len() - 8..].to_owned(),
            };
            assert_eq!(verify(&token).unwrap(), expected, "{kid}");
        }
    }

    #[test]
    fn a_token_may_have_any_of_the_three_types_and_lack_what_is_optional() {
        for typ in ["at+jwt", "application/at+jwt", "JWT"] {
            assert!(
                verify(&with_header(|header| header["typ"] = json!(typ))).is_ok(),
                "{typ}"
            );
        }
        let bare = verify(&with_claims(&claims_without("scope"))).unwrap();
        assert!(bare.scope.is_empty());
        assert_eq!(
            verify(&with_claims(&claims_without("org_code"))).unwrap().org_code,
            None
        );
        assert_eq!(
            verify(&with_claims(&claims_without("client_system_user")))
                .unwrap()
                .system_user,
            None
        );
    }

    #[test]
    fn a_token_is_valid_from_nbf_to_just_before_exp_with_the_leeway_on_both_sides() {
        let (begin, end, leeway) = (NOW - 10, NOW + 3590, i64::from(LEEWAY));
        let token = token("es");
        let bearer = || Bearer {
            jti: JTI.parse().unwrap(),
            client_id: ApplicationUri::parse("my.trusted.app/service").unwrap(),
        };
        assert_eq!(
            verify_at(&token, begin - leeway - 1),
            Err(TokenInvalid::TokenNotYetValid(bearer()))
        );
        assert!(verify_at(&token, begin - leeway).is_ok());
        assert!(verify_at(&token, end + leeway - 1).is_ok());
        assert_eq!(
            verify_at(&token, end + leeway),
            Err(TokenInvalid::TokenExpired(bearer()))
        );
    }

    /// Expects each to be refused for the reason, and its bearer to be known when the signature was good.
    fn refused<const N: usize>(reason: DenialReason, attacks: [(&str, String); N]) {
        use DenialReason::{TokenExpired, TokenNotYetValid, WrongAudience, WrongIssuer};
        for (name, token) in attacks {
            let refused = verify(&token).expect_err(name);
            assert_eq!(refused.reason(), reason, "{name}: {refused:?}");
            let is_proven = matches!(reason, TokenExpired | TokenNotYetValid | WrongIssuer | WrongAudience);
            assert_eq!(refused.bearer().is_some(), is_proven, "{name}");
        }
    }

    #[test]
    fn what_is_not_three_parts_is_no_token() {
        let own = token("es");
        let (_, signature) = own.rsplit_once('.').unwrap();
        refused(DenialReason::MissingToken, [("nothing", String::new())]);
        refused(
            DenialReason::MalformedToken,
            [
                ("no dot", "gls_AAAA".to_owned()),
                ("only dots", "..".to_owned()),
                ("two parts", own.rsplit_once('.').unwrap().0.to_owned()),
                ("four parts", format!("{own}.{signature}")),
                ("a dot at the end", format!("{own}.")),
                ("a dot in front", format!(".{own}")),
                ("five parts, as a JWE", format!("{own}.{signature}.{signature}")),
                ("too long", format!("{own}{}", "A".repeat(MAX_TOKEN_BYTES))),
            ],
        );
    }

    // RFC 8725 §2.1 and §3.1.
    #[test]
    fn a_token_does_not_choose_its_algorithm() {
        let own = token("es");
        let claims_part = own.split('.').nth(1).unwrap();
        let encoded = |header: Value| URL_SAFE_NO_PAD.encode(header.to_string());
        let unsigned = |alg: &str| {
            let header = encoded(json!({"alg": alg, "kid": "es", "typ": "at+jwt"}));
            format!("{header}.{claims_part}.")
        };
        let hmac = |secret: &[u8]| {
            let unsigned = unsigned("HS256");
            let message = unsigned.trim_end_matches('.');
            let key = EncodingKey::from_secret(secret);
            let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
            format!("{message}.{signature}")
        };
        let jwk = KEYS.pair("es").public_jwk(&KeyId::parse("es").unwrap());
        let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
        let rs256_of_a_ps256_key = json!({"alg": "RS256", "kid": "ps", "typ": "at+jwt"}).to_string();
        refused(
            DenialReason::UnknownKey,
            [
                ("none", unsigned("none")),
                ("None", unsigned("None")),
                ("HS256 keyed by the JWK", hmac(jwk.to_string().as_bytes())),
                ("HS256 keyed by x", hmac(&x)),
                ("RS256", signed(&rs256_of_a_ps256_key, claims().to_string(), "rs")),
                ("ES256K", with_header(|header| header["alg"] = json!("ES256K"))),
            ],
        );
        let bare = format!("{}.{claims_part}.", encoded(json!({"alg": "none"})));
        refused(DenialReason::MalformedToken, [("none and nothing else", bare)]);
    }

    // RFC 8725 §3.10; RFC 7515 §4.1.11 for crit.
    #[test]
    fn a_token_does_not_bring_its_key_or_its_rules() {
        let jwk = KEYS.pair("es").public_jwk(&KeyId::parse("es").unwrap());
        let with = |name: &str, value: Value| with_header(|header| header[name] = value);
        let without = |name: &str| with_header(|header| drop(header.as_object_mut().unwrap().remove(name)));
        let of_another_algorithm = with_header(|header| {
            header["kid"] = json!("rs");
            header["alg"] = json!("RS256");
        });
        refused(
            DenialReason::BadSignature,
            [
                ("another key", with("kid", json!("superseded"))),
                ("another algorithm's key", of_another_algorithm),
            ],
        );
        refused(
            DenialReason::UnknownKey,
            [
                ("another algorithm's kid", with("kid", json!("ed"))),
                ("unknown kid", with("kid", json!("../../dev/null"))),
                ("empty kid", with("kid", json!(""))),
                ("retired kid", token("retired")),
            ],
        );
        refused(
            DenialReason::MalformedToken,
            [
                ("no kid", without("kid")),
                ("several kids", with("kid", json!(["es"]))),
                ("jwk", with("jwk", jwk)),
                ("jku", with("jku", json!("https://evil.example/jwks"))),
                ("x5u", with("x5u", json!("https://evil.example/cert"))),
                ("x5c", with("x5c", json!(["MIIB"]))),
                ("crit", with("crit", json!(["exp"]))),
                ("b64", with("b64", json!(false))),
                ("zip", with("zip", json!("DEF"))),
            ],
        );
    }

    // RFC 8725 §3.11.
    #[test]
    fn a_token_of_another_kind_is_no_access_token() {
        let with_typ = |typ: &str| with_header(|header| header["typ"] = json!(typ));
        let without_typ = with_header(|header| drop(header.as_object_mut().unwrap().remove("typ")));
        let list = signed(r#"["ES256","es","at+jwt"]"#, claims().to_string(), "es");
        refused(
            DenialReason::MalformedToken,
            [
                ("id+jwt", with_typ("id+jwt")),
                ("empty", with_typ("")),
                ("no typ", without_typ),
                ("a list for a header", list),
            ],
        );
    }

    #[test]
    fn parts_of_different_tokens_do_not_fit() {
        let (own, other) = (token("es"), with_claims(&claims_with("scope", json!("everything"))));
        let own: Vec<&str> = own.split('.').collect();
        let other: Vec<&str> = other.split('.').collect();
        let (message, signature) = (format!("{}.{}", own[0], own[1]), own[2]);
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        // The same signature as ASN.1, which is how everyone but JOSE writes ECDSA.
        let integer = |bytes: &[u8]| [&[0x02, 33, 0], bytes].concat();
        let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
        let der = [&[0x30, both.len() as u8], both.as_slice()].concat();
        let with_signature = |bytes: &[u8]| format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes));
        assert!(verify(&with_signature(&raw)).is_ok());
        let cut_claims = &own[1][..own[1].len() - 4];
        refused(
            DenialReason::BadSignature,
            [
                ("another's signature", format!("{message}.{}", other[2])),
                ("another's claims", format!("{}.{}.{signature}", own[0], other[1])),
                ("cut claims", format!("{}.{cut_claims}.{signature}", own[0])),
                ("cut signature", with_signature(&raw[..63])),
                ("signature and more", with_signature(&[&raw[..], &[0]].concat())),
                ("DER signature", with_signature(&der)),
                ("zero signature", with_signature(&[0; 64])),
                ("no signature", with_signature(&[])),
            ],
        );
    }

    #[test]
    fn a_token_has_one_text() {
        let own = token("es");
        let (message, signature) = own.rsplit_once('.').unwrap();
        // 64 bytes leave 4 bits of the last of 86 characters without a meaning; they are zero in ours.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = alphabet.find(&signature[85..]).unwrap();
        let same_when_read_leniently = format!("{message}.{}{}", &signature[..85], &alphabet[last + 1..last + 2]);
        refused(
            DenialReason::MalformedToken,
            [
                ("padding", format!("{own}==")),
                ("trailing bits", same_when_read_leniently),
                ("the other alphabet", format!("{message}.+/{}", &signature[2..])),
                ("a line break", format!("{own}\n")),
                ("a space in front", format!(" {own}")),
                ("other letters", format!("{message}.ünïcödé")),
            ],
        );
    }

    // RFC 7515 §4, RFC 7519 §4: the names are unique.
    #[test]
    fn a_member_that_is_there_twice_is_refused() {
        let twice = |json: Value, name: &str, value: &str| {
            let json = json.to_string();
            format!("{{\"{name}\":{value},{}", &json[1..])
        };
        let claims_twice = |name: &str, value: &str| with_claims(&twice(claims(), name, value));
        let header_twice = |name: &str, value: &str| {
            let header = twice(header("es"), name, value);
            signed(&header, claims().to_string(), "es")
        };
        refused(
            DenialReason::MalformedToken,
            [
                ("alg", header_twice("alg", "\"none\"")),
                ("kid", header_twice("kid", "\"rs\"")),
                ("sub", claims_twice("sub", "\"grantlog.admin\"")),
                ("client_id", claims_twice("client_id", "\"grantlog.admin\"")),
                ("exp", claims_twice("exp", "9999999999")),
                ("aud", claims_twice("aud", "[\"other\"]")),
                ("scope", claims_twice("scope", "\"everything\"")),
            ],
        );
    }

    #[test]
    fn claims_that_are_not_as_ours_are_refused_though_truly_signed() {
        for name in ["iss", "sub", "aud", "client_id", "iat", "nbf", "exp", "jti"] {
            refused(
                DenialReason::MalformedToken,
                [(name, with_claims(&claims_without(name)))],
            );
        }
        let with = |name: &str, value: Value| with_claims(&claims_with(name, value));
        refused(
            DenialReason::MalformedToken,
            [
                ("a list", with_claims("[]")),
                ("half an object", with_claims("{")),
                ("more than an object", with_claims(&format!("{}{{}}", claims()))),
                ("exp as text", with("exp", json!("9999999999"))),
                ("exp beyond counting", with("exp", json!(1e300))),
                ("jti that is no UUID", with("jti", json!("1"))),
                ("another's sub", with("sub", json!("grantlog.admin"))),
            ],
        );
    }

    // RFC 7519 §7.2.
    #[test]
    fn claims_that_are_no_text_are_refused_though_nobody_reads_that_one() {
        let claims = claims_with("azp", json!("-")).into_bytes();
        let azp = claims.windows(9).position(|window| window == b"\"azp\":\"-\"").unwrap();
        for bytes in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80"] {
            let mut changed = claims.clone();
            changed.splice(azp + 7..azp + 8, bytes.iter().copied());
            let token = signed(&header("es").to_string(), changed, "es");
            refused(DenialReason::MalformedToken, [("no UTF-8", token)]);
        }
    }

    #[test]
    fn another_time_issuer_or_audience_is_refused_by_name() {
        let with = |name: &str, value: Value| with_claims(&claims_with(name, value));
        refused(
            DenialReason::TokenExpired,
            [
                ("expired", with("exp", json!(NOW - 5))),
                ("expired for ever", with("exp", json!(i64::MIN))),
            ],
        );
        refused(
            DenialReason::TokenNotYetValid,
            [
                ("future nbf", with("nbf", json!(NOW + 6))),
                ("nbf at the end of time", with("nbf", json!(i64::MAX))),
                ("future iat", with("iat", json!(NOW + 6))),
            ],
        );
        refused(
            DenialReason::WrongIssuer,
            [
                ("parent", with("iss", json!("https://id.example.com"))),
                ("a slash more", with("iss", json!("https://id.example.com/id/"))),
                ("other case", with("iss", json!("https://ID.example.com/id"))),
            ],
        );
        refused(
            DenialReason::WrongAudience,
            [
                ("longer", with("aud", json!(["https://api.example.com.evil"]))),
                ("shorter", with("aud", json!(["https://api.example"]))),
                ("none", with("aud", json!([]))),
            ],
        );
    }

    #[test]
    fn no_single_character_of_a_token_can_be_another() {
        let own = token("ed");
        for position in 0..own.len() {
            let mut bytes = own.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify(&changed).is_err(), "position {position}");
        }
    }

    #[test]
    fn a_published_jwk_of_another_kind_than_its_algorithm_verifies_nothing() {
        let mut fixture = KeyRingFixture::new();
        let pair = fixture.announced("ed", SigningAlgorithm::EdDsa);
        let jwk = pair.public_jwk(&KeyId::parse("es").unwrap());
        fixture.add("es", ES256, jwk, String::new());
        fixture.add("none", ES256, json!({"kty": "oct", "k": "AAAA"}), String::new());
        fixture.add("broken", ES256, json!("not a JWK"), String::new());
        let keys = VerificationKeys::from(&fixture.ring);
        assert_eq!(keys.by_kid.keys().map(|kid| &**kid).collect::<Vec<_>>(), ["ed"]);
    }

    #[test]
    fn a_hint_is_given_of_what_can_be_a_token_only() {
        let own = token("es");
        assert_eq!(token_hint(&own).unwrap(), own[own.len() - 8..]);
        for presented in ["", "secret", "correct horse battery staple", &"A".repeat(63)] {
            assert_eq!(token_hint(presented), None, "{presented}");
        }
        assert_eq!(token_hint(&format!("{own}\r\nX: y")), None);
        assert_eq!(token_hint(&format!("{own}ééééé")), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_token_by_chance(text in any::<String>(), parts in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}") {
            prop_assert!(verify(&text).is_err());
            prop_assert!(verify(&parts).is_err());
            let _ = token_hint(&text);
        }

        #[test]
        fn no_header_of_any_members_makes_a_stolen_signature_fit(name in "[a-z5]{1,4}", value in any::<String>()) {
            let own = token("ed");
            let (_, rest) = own.split_once('.').unwrap();
            let mut header = header("ed");
            header[name] = json!(value);
            let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
            prop_assert!(verify(&forged).is_err() || forged == own);
        }
    }
}
