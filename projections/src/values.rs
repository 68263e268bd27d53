//! Values that are parsed once, at the edge, and trusted afterwards.
//!
//! `parse` holds today's rules. Reading a stored event does not: what was once accepted stays readable.

mod timestamp_text;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// Grantlog's own UUIDv5 namespace, from which application and API ids are derived.
const NAMESPACE: Uuid = Uuid::from_u128(0x6772_616e_746c_5f6f_8767_2e6e_616d_6573);

/// A value that breaks its rule. `rule` says what is accepted; the value itself is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidValue {
    /// The name of the value as callers know it.
    pub what: &'static str,
    /// What is accepted.
    pub rule: &'static str,
}

macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Parses one: ", $rule, ".")]
            #[allow(rustdoc::broken_intra_doc_links)] // `[A-Za-z]` in a rule is no link
            pub fn parse(text: &str) -> Result<Self, InvalidValue> {
                let accepts: fn(&str) -> bool = $accepts;
                if accepts(text) { Ok(Self(text.into())) } else { Err(InvalidValue { what: $what, rule: $rule }) }
            }

            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_value!(
    /// The OAuth `client_id` of a Trusted Application, e.g. `my.trusted.app/service`.
    ApplicationUri,
    "application_uri",
    "1 to 256 of [A-Za-z0-9._~:/@-], and not `system`, `anonymous` or `operator:…`, which name other actors",
    |text| bounded(text, 256)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~:/@-".contains(&b))
        && !matches!(text, "system" | "anonymous")
        && !text.starts_with("operator:")
);

text_value!(
    /// The audience of a registered API: what `aud` carries and `audience` asks for.
    Audience,
    "audience",
    "1 to 256 printable ASCII characters without spaces, quotes and backslashes",
    |text| bounded(text, 256) && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\'`<>".contains(&b))
);

text_value!(
    /// The service account that an application's tokens act as.
    SystemUser,
    "system_user",
    "1 to 256 characters without control characters",
    |text| bounded(text, 256) && printable(text)
);

text_value!(
    /// The organisation that an application and its tokens are bound to.
    OrgCode,
    "org_code",
    "1 to 64 of [A-Za-z0-9._-]",
    |text| bounded(text, 64) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
);

text_value!(
    /// A name for people.
    Name,
    "name",
    "1 to 200 characters without control characters",
    |text| bounded(text, 200) && printable(text)
);

text_value!(
    /// A free text for people: a description, an owner, a reason. May be empty.
    Remark,
    "text",
    "at most 1,000 characters without control characters other than a line break",
    |text| text.chars().count() <= 1_000 && text.chars().all(|c| c == '\n' || !c.is_control())
);

text_value!(
    /// The id of a signing key: the day it was made, with `.2`, `.3` for more on a day and the
    /// algorithm where it is not the default, e.g. `2026-03-16` or `2026-03-16-rs256.2`.
    KeyId,
    "kid",
    "1 to 64 of [A-Za-z0-9.-]",
    |text| bounded(text, 64) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
);

text_value!(
    /// The name of one of several Grantlog nodes on one log.
    NodeName,
    "node",
    "1 to 64 of [A-Za-z0-9._-]",
    |text| bounded(text, 64) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
);

fn bounded(text: &str, most: usize) -> bool {
    !text.is_empty() && text.chars().count() <= most
}

fn printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Scope tokens, space-separated, each once, in the order they were first named (RFC 6749 §3.3).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(Arc<str>);

impl Scope {
    /// No scope token at all.
    pub fn none() -> Self {
        Self("".into())
    }

    /// Parses a space-separated list; a repeated token counts once.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        const INVALID: InvalidValue = InvalidValue {
            what: "scope",
            rule: "space-separated tokens of printable ASCII without quotes and backslashes, at most 4,096 characters",
        };
        if text.len() > 4_096 || !text.split(' ').all(is_scope_text) {
            return Err(INVALID);
        }
        Ok(Self::of(text.split(' ').filter(|token| !token.is_empty())))
    }

    /// The scope of these tokens, each once. The caller vouches for their syntax.
    pub fn of<'a>(tokens: impl Iterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        for token in tokens {
            if !text.split(' ').any(|known| known == token) {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(token);
            }
        }
        Self(text.into())
    }

    /// The tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|token| !token.is_empty())
    }

    /// Whether the token is among them.
    pub fn contains(&self, token: &str) -> bool {
        self.tokens().any(|known| known == token)
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The space-separated text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
fn is_scope_text(token: &str) -> bool {
    token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

macro_rules! id_value {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                Uuid::from_str(text).map(Self).map_err(|_| InvalidValue { what: $what, rule: "a UUID" })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id_value!(
    /// The id of a Trusted Application: the UUIDv5 of its application_uri, so that a name's uniqueness
    /// is the store's "no such stream yet" check.
    ApplicationId,
    "application id"
);
id_value!(
    /// The id of an API: the UUIDv5 of its audience.
    ApiId,
    "API id"
);
id_value!(
    /// The id of one client secret.
    SecretId,
    "secret id"
);

impl ApplicationId {
    /// The id that belongs to this application_uri, on every node and for ever.
    pub fn of(uri: &ApplicationUri) -> Self {
        Self::of_client_id(uri.as_str())
    }

    /// The id that an application with this client_id would have, whether or not there is one.
    pub fn of_client_id(client_id: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, client_id.as_bytes()))
    }
}

impl ApiId {
    /// The id that belongs to this audience, on every node and for ever.
    pub fn of(audience: &Audience) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, audience.as_str().as_bytes()))
    }
}

/// SHA-256 of a client secret; `base64(sha256(secret))` on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// Parses `base64(sha256(secret))`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .map(Self)
            .ok_or(InvalidValue {
                what: "application_secret_hash",
                rule: "base64 of the secret's 32-byte SHA-256",
            })
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The hash of an event as a leaf of the Merkle tree (RFC 6962 §2.1); base64 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafHash(pub [u8; 32]);

impl fmt::Display for LeafHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl Serialize for LeafHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeafHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).ok();
        let hash = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        hash.map(Self)
            .ok_or_else(|| serde::de::Error::custom("a leaf hash is the base64 of 32 bytes"))
    }
}

/// A point in time, UTC, in microseconds: RFC 3339 with six digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Cut to microseconds.
    pub fn new(time: DateTime<Utc>) -> Self {
        Self(time.trunc_subsecs(6))
    }

    /// From microseconds since the Unix epoch; the epoch itself when chrono cannot hold it.
    pub fn from_unix_micros(micros: i64) -> Self {
        Self(DateTime::from_timestamp_micros(micros).unwrap_or_default())
    }

    /// Parses RFC 3339, any offset.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        if let Some(time) = timestamp_text::read(text) {
            return Ok(Self(time));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self::new(time.to_utc()))
            .map_err(|_| InvalidValue {
                what: "time",
                rule: "RFC 3339, e.g. 2026-03-16T09:30:00Z",
            })
    }

    /// Seconds since the Unix epoch, the fraction cut: a JWT's NumericDate.
    pub fn unix_seconds(self) -> i64 {
        self.0.timestamp()
    }

    /// Microseconds since the Unix epoch.
    pub fn unix_micros(self) -> i64 {
        self.0.timestamp_micros()
    }

    /// This many seconds later (earlier when negative); stays where it is beyond chrono's range.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        let later = TimeDelta::try_seconds(seconds).and_then(|delta| self.0.checked_add_signed(delta));
        Self(later.unwrap_or(self.0))
    }

    /// Its day, `2026-03-16`.
    pub fn day(self) -> String {
        self.0.format("%Y-%m-%d").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match timestamp_text::write(self.0, &mut timestamp_text::buffer()) {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match timestamp_text::write(self.0, &mut timestamp_text::buffer()) {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// JWS algorithms that an API may choose (RFC 7518 §3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Es256, Self::Rs256, Self::Ps256, Self::EdDsa];

    /// The registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SigningAlgorithm {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL
            .into_iter()
            .find(|alg| alg.as_str() == text)
            .ok_or(InvalidValue {
                what: "signing_alg",
                rule: "one of ES256, RS256, PS256, EdDSA",
            })
    }
}

/// What the `typ` header of an API's tokens says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TokenType {
    /// RFC 9068 §2.1.
    #[default]
    #[serde(rename = "at+jwt")]
    AtJwt,
    /// For resource servers that reject `at+jwt`.
    #[serde(rename = "JWT")]
    Jwt,
}

impl TokenType {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtJwt => "at+jwt",
            Self::Jwt => "JWT",
        }
    }
}

/// Seconds that a token is valid: 60 to 86,400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenLifetime(u32);

impl TokenLifetime {
    /// The longest that any token lives, in seconds.
    pub const MAX_SECONDS: u32 = 86_400;

    /// Parses seconds.
    pub fn parse(seconds: i64) -> Result<Self, InvalidValue> {
        u32::try_from(seconds)
            .ok()
            .filter(|seconds| (60..=Self::MAX_SECONDS).contains(seconds))
            .map(Self)
            .ok_or(InvalidValue {
                what: "token_lifetime_seconds",
                rule: "60 to 86400",
            })
    }

    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

/// Who asked for what an event records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A caller that proved to be this application.
    Application(ApplicationUri),
    /// A person at the machine itself, by the name of the account.
    Operator(Name),
    /// A caller that proved nothing.
    Anonymous,
    /// Grantlog.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(uri) => f.write_str(uri.as_str()),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::System => f.write_str("system"),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Application(uri) => serializer.serialize_str(uri.as_str()),
            Self::Operator(_) => serializer.collect_str(self),
            Self::Anonymous => serializer.serialize_str("anonymous"),
            Self::System => serializer.serialize_str("system"),
        }
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Ok(match &*text {
            "anonymous" => Self::Anonymous,
            "system" => Self::System,
            other => match other.strip_prefix("operator:") {
                Some(name) => Self::Operator(Name(name.into())),
                None => Self::Application(ApplicationUri(other.into())),
            },
        })
    }
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The address, after trusted proxies.
    pub ip: std::net::IpAddr,
    /// The User-Agent, cut at 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Arc<str>>,
}

/// The stream that an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Starts and stops of the service.
    pub fn service() -> Self {
        Self("service".into())
    }

    /// An application's configuration.
    pub fn application(id: ApplicationId) -> Self {
        Self(format!("application-{id}").into())
    }

    /// An API's configuration.
    pub fn api(id: ApiId) -> Self {
        Self(format!("api-{id}").into())
    }

    /// The signing keys.
    pub fn signing_keys() -> Self {
        Self("signing-keys".into())
    }

    /// What an application asked the token endpoint for; `None`: nobody we know.
    pub fn token_requests(id: Option<ApplicationId>) -> Self {
        Self(id.map_or_else(
            || "token-requests-unknown".into(),
            |id| format!("token-requests-{id}").into(),
        ))
    }

    /// What an application called with its tokens; `None`: nobody we know.
    pub fn api_calls(id: Option<ApplicationId>) -> Self {
        Self(id.map_or_else(|| "api-calls-unknown".into(), |id| format!("api-calls-{id}").into()))
    }

    /// An application's reference tokens, and which of its tokens were revoked.
    pub fn tokens(id: ApplicationId) -> Self {
        Self(format!("tokens-{id}").into())
    }

    /// Who read the audit trail.
    pub fn audit_access() -> Self {
        Self("audit-access".into())
    }

    /// What was given up, and what must not be.
    pub fn retention() -> Self {
        Self("retention".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_application_uri_may_not_pose_as_another_actor() {
        for reserved in ["system", "anonymous", "operator:root"] {
            assert!(ApplicationUri::parse(reserved).is_err(), "{reserved}");
        }
        assert!(ApplicationUri::parse("my.trusted.app/service").is_ok());
    }

    #[test]
    fn an_application_uri_is_1_to_256_of_its_alphabet() {
        assert!(ApplicationUri::parse("").is_err());
        assert!(ApplicationUri::parse(&"a".repeat(256)).is_ok());
        assert!(ApplicationUri::parse(&"a".repeat(257)).is_err());
        for bad in ["a b", "a\n", "a\"", "é", "a%2f", "a?b"] {
            assert!(ApplicationUri::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_id_of_an_application_is_fixed_for_ever() {
        let uri = ApplicationUri::parse("my.trusted.app/service").unwrap();
        assert_eq!(
            ApplicationId::of(&uri).to_string(),
            "17f1f1d4-37cd-5a94-9bc2-f9e18b679123"
        );
    }

    #[test]
    fn a_scope_names_each_token_once_in_the_order_of_their_first_mention() {
        let scope = Scope::parse("read  update read DomainApi ").unwrap();
        assert_eq!(scope.as_str(), "read update DomainApi");
        assert!(Scope::parse("a\"b").is_err());
        assert!(Scope::parse("a\\b").is_err());
        assert!(Scope::parse("a\tb").is_err());
        assert_eq!(Scope::parse("").unwrap(), Scope::none());
    }

    #[test]
    fn a_secret_hash_does_not_show_itself_in_debug_output() {
        assert_eq!(format!("{:?}", SecretHash([7; 32])), "SecretHash(…)");
    }

    #[test]
    fn a_token_lifetime_is_60_to_86400_seconds() {
        for (seconds, accepted) in [(59, false), (60, true), (86_400, true), (86_401, false), (-1, false)] {
            assert_eq!(TokenLifetime::parse(seconds).is_ok(), accepted, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn a_timestamp_survives_print_and_parse(micros in 0i64..4_102_444_800_000_000) {
            let time = Timestamp::from_unix_micros(micros);
            prop_assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time);
            prop_assert_eq!(time.to_string().len(), "2026-03-16T09:30:00.000000Z".len());
        }

        #[test]
        fn an_actor_survives_print_and_parse(name in "[a-z]{1,10}(/[a-z]{1,5})?") {
            for actor in [
                Actor::Application(ApplicationUri(name.as_str().into())),
                Actor::Operator(Name(name.as_str().into())),
                Actor::Anonymous,
                Actor::System,
            ] {
                let text = serde_json::to_string(&actor).unwrap();
                prop_assert_eq!(serde_json::from_str::<Actor>(&text).unwrap(), actor);
            }
        }
    }
}
