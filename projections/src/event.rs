//! Every fact that the log can hold, with its wire names. Past tense, never changed once written: a new
//! field is optional with a default, a changed meaning is a new type or an upcaster.

use crate::values::{
    ApiId, ApplicationId, ApplicationUri, Audience, KeyId, LeafHash, Name, NodeName, OrgCode, Remark, Scope,
    SecretHash, SecretId, SigningAlgorithm, Source, SystemUser, Timestamp, TokenLifetime, TokenType,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use uuid::Uuid;

/// Each event with who reads it: a fold (`state`), a fold that has done with it after a day at the most
/// (`passing`), the audit trail alone (`trail`), or whoever gives old facts of the trail up (`retention`).
macro_rules! events {
    (@can_change state) => { true };
    (@can_change passing) => { true };
    (@can_change $other:ident) => { false };
    (@may_be_removed trail) => { true };
    (@may_be_removed passing) => { true };
    (@may_be_removed $other:ident) => { false };
    ($($(#[$doc:meta])* $name:ident: $reader:ident,)*) => {
        /// One fact.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $name($name),)*
        }

        impl Event {
            /// The wire names of all types.
            pub const TYPES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The wire name of its type.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// Whether a fact of the given type can change what the folds build: most of a log cannot, and need
            /// not be read for it. `None` when there is no such type.
            pub fn can_change_state(type_name: &str) -> Option<bool> {
                match type_name {
                    $(stringify!($name) => Some(events!(@can_change $reader)),)*
                    _ => None,
                }
            }

            /// Whether a fact of the given type may be removed when it is old: nothing but the trail is made of it.
            pub fn may_be_removed(type_name: &str) -> bool {
                match type_name {
                    $(stringify!($name) => events!(@may_be_removed $reader),)*
                    _ => false,
                }
            }

            /// Reads the `data` of a fact of the given type; `None` when there is no such type.
            pub fn from_data(type_name: &str, data: &str) -> Option<serde_json::Result<Self>> {
                match type_name {
                    $(stringify!($name) => Some(serde_json::from_str(data).map(Self::$name)),)*
                    _ => None,
                }
            }
        }

        impl Serialize for Event {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$name(data) => data.serialize(serializer),)*
                }
            }
        }

        $(impl From<$name> for Event {
            fn from(data: $name) -> Self {
                Self::$name(data)
            }
        })*
    };
}

events! {
    /// The service came up.
    ServiceStarted: state,
    /// The service went down in an orderly way.
    ServiceStopped: state,
    /// A Trusted Application came into being.
    ApplicationRegistered: state,
    /// Attributes of an application changed.
    ApplicationChanged: state,
    /// An application may ask for tokens again.
    ApplicationEnabled: state,
    /// The kill switch was used.
    ApplicationDisabled: state,
    /// An application is gone for ever; its name is not given out again.
    ApplicationDeleted: state,
    /// An application got a new secret.
    SecretRotated: state,
    /// A secret stopped being accepted at once.
    SecretRevoked: state,
    /// An API came into being.
    ApiRegistered: state,
    /// Attributes of an API changed.
    ApiChanged: state,
    /// An API is gone for ever.
    ApiDeleted: state,
    /// A signing key was made and is announced.
    SigningKeyAdded: state,
    /// A signing key signs from now on, and its algorithm's key before it no longer does.
    SigningKeyActivated: state,
    /// A signing key is no longer published.
    SigningKeyRetired: state,
    /// A token was granted.
    TokenIssued: trail,
    /// A token was refused.
    TokenRefused: trail,
    /// What a flood of failures leaves instead of one event each.
    RequestsThrottled: trail,
    /// A token was revoked before its time.
    TokenRevoked: state,
    /// All tokens that an application had until then were revoked.
    TokensRevoked: state,
    /// An application got a reference token.
    ReferenceTokenIssued: state,
    /// A reference token opens nothing any more.
    ReferenceTokenRevoked: state,
    /// A token was used for the first time, or for the first time after its session had ended.
    SessionStarted: passing,
    /// A session is over.
    SessionEnded: passing,
    /// An API call was let through.
    ApiCallAuthorized: passing,
    /// An API call was refused.
    ApiCallDenied: passing,
    /// Someone read the audit trail.
    AuditTrailRead: trail,
    /// Someone took a copy of the audit trail out.
    AuditTrailExported: trail,
    /// Someone had a report made.
    ReportProduced: trail,
    /// A range of the log is not to be removed.
    LegalHoldPlaced: retention,
    /// A range may be removed again when its time has come.
    LegalHoldReleased: retention,
    /// The oldest facts of the trail were given up: their hashes stay.
    EventsRemoved: retention,
    /// The oldest segments of the audit index were given up: the log has them still.
    IndexPruned: retention,
    /// What is left of a fact that was removed.
    EventRemoved: retention,
}

/// The service came up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStarted {
    /// Grantlog's version.
    pub version: String,
    /// The kind of event store.
    pub store: String,
    /// SHA-256 of the effective configuration without its secrets, in hex.
    pub config_digest: String,
    /// Whether the run before this one, of this node, stopped in an orderly way; true for the first.
    pub clean: bool,
    /// Which node came up, where there can be several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// The service went down in an orderly way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStopped {
    /// Grantlog's version.
    pub version: String,
    /// What asked for the stop, e.g. `SIGTERM`.
    pub reason: String,
    /// Which node went down, where there can be several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// Whether an application can keep a secret (RFC 6749 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClientType {
    /// It can.
    #[default]
    Confidential,
    /// It cannot, and never gets a token here.
    Public,
}

/// Who may make reference tokens for an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ReferenceTokens {
    /// Nobody.
    #[default]
    None,
    /// Administrators.
    AdministratorsOnly,
}

/// A secret as events keep it: never the secret itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IssuedSecret {
    /// Its id.
    pub id: SecretId,
    /// base64 of its SHA-256.
    pub hash: SecretHash,
    /// Its last 4 characters; none when only the hash was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When it stops being accepted; none: never by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A Trusted Application came into being.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplicationRegistered {
    /// Its id.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// Its name for people.
    pub name: Name,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Remark>,
    /// Whether it can keep a secret.
    pub client_type: ClientType,
    /// The most that it may ever be granted.
    pub scope: Scope,
    /// The APIs that it may ask for.
    pub audiences: Vec<Audience>,
    /// Whether its tokens may act as a service account at all.
    pub system_user_allowed: bool,
    /// The service account that its tokens act as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_user: Option<SystemUser>,
    /// The organisation that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_code: Option<OrgCode>,
    /// Whether it may ask for tokens.
    pub is_enabled: bool,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Remark>,
    /// What its tokens carry as application_properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// How long its tokens live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<TokenLifetime>,
    /// Where its requests must come from; empty: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_networks: Vec<IpNet>,
    /// Who may make reference tokens for it.
    #[serde(default)]
    pub reference_tokens: ReferenceTokens,
    /// Its first secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<IssuedSecret>,
}

/// An attribute's old and new value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FromTo<T> {
    /// The value before.
    pub from: T,
    /// The value since.
    pub to: T,
}

/// One changed attribute of an application: `{"field": …, "from": …, "to": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "field", rename_all = "snake_case")]
#[allow(missing_docs)] // the attributes are documented where they are registered
pub enum ApplicationChange {
    Name(FromTo<Name>),
    Description(FromTo<Option<Remark>>),
    ClientType(FromTo<ClientType>),
    Scope(FromTo<Scope>),
    Audiences(FromTo<Vec<Audience>>),
    SystemUserAllowed(FromTo<bool>),
    SystemUser(FromTo<Option<SystemUser>>),
    OrgCode(FromTo<Option<OrgCode>>),
    Owner(FromTo<Option<Remark>>),
    Properties(FromTo<BTreeMap<String, String>>),
    TokenLifetimeSeconds(FromTo<Option<TokenLifetime>>),
    AllowedNetworks(FromTo<Vec<IpNet>>),
    ReferenceTokens(FromTo<ReferenceTokens>),
}

/// Attributes of an application changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplicationChanged {
    /// Its id.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// Each attribute that has another value now.
    pub changes: Vec<ApplicationChange>,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

macro_rules! application_fact {
    ($(#[$doc:meta])* $name:ident $({ $(#[$field_doc:meta])* $field:ident })?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            /// Its id.
            pub application_id: ApplicationId,
            /// Its OAuth client_id.
            pub application_uri: ApplicationUri,
            /// Why, as the caller put it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reason: Option<Remark>,
            $(
                $(#[$field_doc])*
                #[serde(default, skip_serializing_if = "is_false")]
                pub $field: bool,
            )?
        }
    };
}

fn is_false(flag: &bool) -> bool {
    !flag
}

application_fact!(
    /// An application may ask for tokens again.
    ApplicationEnabled
);
application_fact!(
    /// The kill switch was used.
    ApplicationDisabled {
        /// Whether the tokens that it had until then stay refused when it is enabled again.
        revoke_tokens
    }
);
application_fact!(
    /// An application is gone for ever.
    ApplicationDeleted
);

/// An older secret, on its way out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupersededSecret {
    /// Its id.
    pub id: SecretId,
    /// From then on it is refused.
    pub accepted_until: Timestamp,
}

/// An application got a new secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretRotated {
    /// Its id.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// The new secret.
    pub secret: IssuedSecret,
    /// The secrets that were valid until now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<SupersededSecret>,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// A secret stopped being accepted at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretRevoked {
    /// Its application's id.
    pub application_id: ApplicationId,
    /// Its application's OAuth client_id.
    pub application_uri: ApplicationUri,
    /// The secret.
    pub secret_id: SecretId,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
    /// Whether the tokens that it got were revoked with it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub revoke_tokens: bool,
}

/// A scope that an API defines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiScope {
    /// Its token (RFC 6749 §3.3).
    pub name: Scope,
    /// What it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Remark>,
}

/// An API came into being.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiRegistered {
    /// Its id.
    pub api_id: ApiId,
    /// What `aud` carries.
    pub audience: Audience,
    /// Its name for people.
    pub name: Name,
    /// The scopes that it defines; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<ApiScope>,
    /// The algorithm of its tokens; none: the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_alg: Option<SigningAlgorithm>,
    /// What its tokens' `typ` says.
    #[serde(default)]
    pub token_type: TokenType,
    /// How long its tokens live where the application does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<TokenLifetime>,
}

/// One changed attribute of an API: `{"field": …, "from": …, "to": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "field", rename_all = "snake_case")]
#[allow(missing_docs)] // the attributes are documented where they are registered
pub enum ApiChange {
    Name(FromTo<Name>),
    Scopes(FromTo<Vec<ApiScope>>),
    SigningAlg(FromTo<Option<SigningAlgorithm>>),
    TokenType(FromTo<TokenType>),
    TokenLifetimeSeconds(FromTo<Option<TokenLifetime>>),
}

/// Attributes of an API changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiChanged {
    /// Its id.
    pub api_id: ApiId,
    /// What `aud` carries.
    pub audience: Audience,
    /// Each attribute that has another value now.
    pub changes: Vec<ApiChange>,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// An API is gone for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiDeleted {
    /// Its id.
    pub api_id: ApiId,
    /// What `aud` carried.
    pub audience: Audience,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// A signing key was made and is announced in the JWKS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigningKeyAdded {
    /// Its id.
    pub kid: KeyId,
    /// What it signs with.
    pub alg: SigningAlgorithm,
    /// The public key as a JWK (RFC 7517), with `kid`, `alg` and `use`.
    pub public_jwk: Value,
    /// The private key, sealed under the master key.
    pub sealed_private_key: String,
    /// Why, e.g. `first key`, `age`, or as the caller put it.
    pub reason: Remark,
}

/// A signing key signs from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigningKeyActivated {
    /// Its id.
    pub kid: KeyId,
    /// What it signs with.
    pub alg: SigningAlgorithm,
    /// Why.
    pub reason: Remark,
}

/// A signing key is no longer published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigningKeyRetired {
    /// Its id.
    pub kid: KeyId,
    /// What it signed with.
    pub alg: SigningAlgorithm,
    /// Why.
    pub reason: Remark,
}

/// How a client proved who it is (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// HTTP Basic.
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
}

impl AuthMethod {
    /// Its registered name (RFC 7591 §2).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
        }
    }
}

/// In which dialect the token endpoint was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// RFC 6749 form.
    Standard,
    /// The same with a required audience.
    Audience,
    /// JSON in, JSON out.
    Json,
}

impl Dialect {
    /// Its wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Audience => "audience",
            Self::Json => "json",
        }
    }
}

/// A token was granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenIssued {
    /// The token's id: that of this event.
    pub jti: Uuid,
    /// Whose token it is.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// The secret that it was asked for with.
    pub secret_id: SecretId,
    /// How the secret was presented.
    pub auth_method: AuthMethod,
    /// How the request was put.
    pub dialect: Dialect,
    /// The scope as asked for; none: left to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_requested: Option<Scope>,
    /// The scope as granted.
    pub scope: Scope,
    /// The token's `aud`.
    pub audiences: Vec<Audience>,
    /// The service account that it acts as.
    pub system_user: SystemUser,
    /// The organisation that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_code: Option<OrgCode>,
    /// The key that signed it.
    pub kid: KeyId,
    /// The algorithm that signed it.
    pub alg: SigningAlgorithm,
    /// Its `iat`.
    pub issued_at: Timestamp,
    /// Its `exp`.
    pub expires_at: Timestamp,
    /// Its last 8 characters.
    pub token_hint: String,
}

/// The true reason of a refused token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// Neither a form nor, where that is understood, JSON.
    UnsupportedContentType,
    /// The body is too large.
    BodyTooLarge,
    /// A parameter that may not be repeated was.
    DuplicateParameter,
    /// The body could not be read.
    Malformed,
    /// No `grant_type`.
    MissingGrantType,
    /// Another grant type than client_credentials.
    UnsupportedGrantType,
    /// More than one client authentication method.
    SeveralAuthenticationMethods,
    /// An `Authorization` header that is not readable Basic.
    UnreadableAuthorization,
    /// An empty id or secret.
    EmptyCredentials,
    /// No `client_id`.
    MissingClientId,
    /// No `client_secret`.
    MissingClientSecret,
    /// No audience where one must be named.
    MissingAudience,
    /// No application has this client_id.
    UnknownClient,
    /// The application was deleted.
    Deleted,
    /// The application is disabled.
    Disabled,
    /// The application is Public.
    PublicClient,
    /// No secret of the application matches.
    SecretMismatch,
    /// The secret was right once.
    SecretExpired,
    /// The secret was revoked.
    SecretRevoked,
    /// The source address is outside allowed_networks.
    NetworkNotAllowed,
    /// The application may not act as a system user, or has none.
    SystemUserNotAllowed,
    /// The audience is not the application's.
    AudienceNotAuthorized,
    /// A scope is not the application's, or not the API's.
    ScopeNotAllowed,
}

impl RefusalReason {
    /// Its wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnsupportedContentType => "unsupported_content_type",
            Self::BodyTooLarge => "body_too_large",
            Self::DuplicateParameter => "duplicate_parameter",
            Self::Malformed => "malformed",
            Self::MissingGrantType => "missing_grant_type",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::SeveralAuthenticationMethods => "several_authentication_methods",
            Self::UnreadableAuthorization => "unreadable_authorization",
            Self::EmptyCredentials => "empty_credentials",
            Self::MissingClientId => "missing_client_id",
            Self::MissingClientSecret => "missing_client_secret",
            Self::MissingAudience => "missing_audience",
            Self::UnknownClient => "unknown_client",
            Self::Deleted => "deleted",
            Self::Disabled => "disabled",
            Self::PublicClient => "public_client",
            Self::SecretMismatch => "secret_mismatch",
            Self::SecretExpired => "secret_expired",
            Self::SecretRevoked => "secret_revoked",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::SystemUserNotAllowed => "system_user_not_allowed",
            Self::AudienceNotAuthorized => "audience_not_authorized",
            Self::ScopeNotAllowed => "scope_not_allowed",
        }
    }
}

/// A token was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRefused {
    /// The client_id as presented, cut at 256 characters; none when none could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The application, when there is one of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_id: Option<ApplicationId>,
    /// The error code that the caller was told.
    pub error: String,
    /// The true reason.
    pub reason: RefusalReason,
    /// What exactly was refused, cut: the scopes, the audience, the parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How the request was put.
    pub dialect: Dialect,
}

/// Failed requests that were answered `slow_down` without an event each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestsThrottled {
    /// The client_id as presented, cut at 256 characters; none: whichever clients were named, if any was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The application, when there is one of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_id: Option<ApplicationId>,
    /// Where they came from.
    pub source: IpAddr,
    /// The window in which failures are counted.
    pub window_seconds: u32,
    /// How many requests this event stands for.
    pub suppressed: u64,
}

/// How an API call came to Grantlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// Grantlog's own admin and audit endpoints.
    Admin,
    /// Grantlog passed the call on to the API.
    Gateway,
    /// A proxy asked before it passed the call on.
    ForwardAuth,
    /// The API asked about the token (RFC 7662).
    Introspection,
    /// The API verified the token itself and told afterwards.
    Reported,
}

impl Via {
    /// Its wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Gateway => "gateway",
            Self::ForwardAuth => "forward_auth",
            Self::Introspection => "introspection",
            Self::Reported => "reported",
        }
    }
}

/// What was presented with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// An access token (RFC 9068).
    #[default]
    Jwt,
    /// A reference token, which says nothing by itself.
    Reference,
}

impl TokenKind {
    /// Its wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Reference => "reference",
        }
    }

    fn is_jwt(&self) -> bool {
        *self == Self::Jwt
    }
}

/// A call as an API told of it afterwards. That it did is in the envelope: its actor is the API's application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// The API's own id of the call, by which a repeated report is known.
    pub id: Uuid,
    /// The application that told of it.
    pub reporter_id: ApplicationId,
    /// When the call was, by the API's clock.
    pub time: Timestamp,
    /// Where the call came from, as the API saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What the API answered (RFC 9110 §15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// A token was revoked before its time (RFC 7009).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// The token's id.
    pub jti: Uuid,
    /// Whose token it was.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// Its `exp`: the end of what has to be remembered.
    pub expires_at: Timestamp,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// All tokens that an application had until then were revoked, its reference tokens among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokensRevoked {
    /// Whose tokens they were.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// Those issued until then.
    pub issued_until: Timestamp,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// An application got a reference token: opaque, good until it is revoked or over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceTokenIssued {
    /// The token's id.
    pub token_id: Uuid,
    /// Whose token it is.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// base64 of its SHA-256.
    pub hash: SecretHash,
    /// Its last 4 characters.
    pub hint: String,
    /// What it allows, as long as the application may do it.
    pub scope: Scope,
    /// The APIs that it opens; empty: all that the application may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<Audience>,
    /// When it is over.
    pub expires_at: Timestamp,
    /// What it is for.
    pub description: Remark,
}

/// A reference token opens nothing any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceTokenRevoked {
    /// The token's id.
    pub token_id: Uuid,
    /// Whose token it was.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// A token was used for the first time, or for the first time after its session had ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStarted {
    /// The session's id.
    pub session_id: Uuid,
    /// Whose session it is.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// The token's id.
    pub jti: Uuid,
    /// What kind of token it is.
    #[serde(default, skip_serializing_if = "TokenKind::is_jwt")]
    pub token_kind: TokenKind,
    /// The service account that the token acts as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_user: Option<SystemUser>,
    /// When the token is over, and the session with it.
    pub token_expires_at: Timestamp,
    /// The node that took the call, where there can be several: it records the end, too, as long as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Its token was not used for so long.
    Idle,
    /// It had lasted as long as a session may.
    Absolute,
    /// Its token is over.
    TokenExpired,
    /// Its token was revoked, or its application disabled or deleted, or an administrator ended it.
    Revoked,
}

impl SessionEnd {
    /// Its wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Absolute => "absolute",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A session is over. A token that is still valid starts a new one when it is used again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionEnded {
    /// The session's id.
    pub session_id: Uuid,
    /// Whose session it was.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// The token's id.
    pub jti: Uuid,
    /// Why.
    pub reason: SessionEnd,
    /// The same as the administrator put it who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Remark>,
}

/// An API call was let through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiCallAuthorized {
    /// How the call came to Grantlog.
    pub via: Via,
    /// The caller.
    pub application_id: ApplicationId,
    /// The caller's OAuth client_id.
    pub application_uri: ApplicationUri,
    /// The token's id.
    pub jti: Uuid,
    /// The token's last 8 characters.
    pub token_hint: String,
    /// The service account that the token acts as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_user: Option<SystemUser>,
    /// The organisation that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_code: Option<OrgCode>,
    /// The API's audience.
    pub audience: Audience,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The scope that the call needed, space-separated; empty: any token would do.
    pub required_scope: String,
    /// The session that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// What kind of token it was.
    #[serde(default, skip_serializing_if = "TokenKind::is_jwt")]
    pub token_kind: TokenKind,
    /// What the API told, when it was the API that told of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<CallReport>,
}

macro_rules! denial_reasons {
    ($($(#[$doc:meta])* $name:ident = $wire:literal,)*) => {
        /// The true reason of a refused API call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum DenialReason {
            $($(#[$doc])* #[serde(rename = $wire)] $name,)*
        }

        impl DenialReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its wire name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $wire,)*
                }
            }
        }
    };
}

denial_reasons! {
    /// No token.
    MissingToken = "missing_token",
    /// A token in more than one place.
    SeveralTokens = "several_tokens",
    /// Not a token, or one whose header or claims are not as ours.
    MalformedToken = "malformed_token",
    /// No published key of ours has this kid and algorithm.
    UnknownKey = "unknown_key",
    /// The signature does not fit.
    BadSignature = "bad_signature",
    /// No reference token of ours.
    UnknownToken = "unknown_token",
    /// The token is over.
    TokenExpired = "token_expired",
    /// The token is not valid yet.
    TokenNotYetValid = "token_not_yet_valid",
    /// The token was revoked.
    TokenRevoked = "token_revoked",
    /// Another issuer.
    WrongIssuer = "wrong_issuer",
    /// Another audience.
    WrongAudience = "wrong_audience",
    /// The application is disabled or deleted.
    ApplicationDisabled = "application_disabled",
    /// The application may not use reference tokens any more.
    ReferenceTokensNotAllowed = "reference_tokens_not_allowed",
    /// The source address is outside allowed_networks.
    NetworkNotAllowed = "network_not_allowed",
    /// The token lacks the scope.
    InsufficientScope = "insufficient_scope",
    /// The token is bound to another organisation, or to none.
    OrgMismatch = "org_mismatch",
    /// No rule of the route lets this method and path through.
    NoRule = "no_rule",
    /// The application has as many sessions as it may.
    TooManySessions = "too_many_sessions",
    /// Whoever asked about a token is not known, or did not prove to be the application.
    UnknownClient = "unknown_client",
    /// No secret of whoever asked about a token matches.
    SecretMismatch = "secret_mismatch",
    /// The secret of whoever asked about a token was right once.
    SecretExpired = "secret_expired",
    /// The secret of whoever asked about a token was revoked.
    SecretRevoked = "secret_revoked",
    /// Whoever asked about a token is a Public application.
    PublicClient = "public_client",
    /// The token is another application's.
    NotTheClientsToken = "not_the_clients_token",
    /// The request about a token could not be read.
    MalformedRequest = "malformed_request",
    /// What the API told when it refused a call by itself.
    RefusedByApi = "refused_by_api",
    /// Two servers could read the path in two ways.
    AmbiguousPath = "ambiguous_path",
    /// The method is none that is handed on to an API.
    MethodNotImplemented = "method_not_implemented",
    /// The call asks for another protocol.
    UpgradeNotImplemented = "upgrade_not_implemented",
    /// The body that the call announces is larger than the route takes.
    BodyTooLarge = "body_too_large",
}

/// An API call was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiCallDenied {
    /// How the call came to Grantlog.
    pub via: Via,
    /// The caller, when its token proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_id: Option<ApplicationId>,
    /// The caller's OAuth client_id, when its token proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_uri: Option<ApplicationUri>,
    /// The token's id, when the token is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Uuid>,
    /// The presented token's last 8 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_hint: Option<String>,
    /// The API's audience.
    pub audience: Audience,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The scope that the call needed, space-separated; empty: any token would do.
    pub required_scope: String,
    /// The error code that the caller was told.
    pub error: String,
    /// The true reason.
    pub reason: DenialReason,
    /// What kind of token it was, as far as that could be told.
    #[serde(default, skip_serializing_if = "TokenKind::is_jwt")]
    pub token_kind: TokenKind,
    /// What the API told, when it was the API that told of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<CallReport>,
}

/// Someone read the audit trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditTrailRead {
    /// Who.
    pub application_uri: ApplicationUri,
    /// What was asked for.
    pub filter: BTreeMap<String, String>,
    /// How many events were answered.
    pub rows: u64,
    /// The log's size up to which the answer speaks.
    pub through_index: u64,
    /// In which way.
    #[serde(default, skip_serializing_if = "TrailAccess::is_search")]
    pub via: TrailAccess,
}

/// How the audit trail was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrailAccess {
    /// A search, or a single event.
    #[default]
    Search,
    /// Following the trail from then on: `rows` is 0, for it is recorded before the first event is sent.
    Tail,
    /// A proof that an event is in the log.
    Proof,
    /// The history of an application, an API or the signing keys, or their state at a time of the past.
    History,
    /// Counts over the trail.
    Statistics,
}

impl TrailAccess {
    fn is_search(&self) -> bool {
        *self == Self::Search
    }
}

/// Someone took a copy of the audit trail out. Recorded before its first byte leaves: how many events the
/// range and the filter give can be found by the same search at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditTrailExported {
    /// Who.
    pub application_uri: ApplicationUri,
    /// `ndjson`, `csv` or `ocsf`.
    pub format: String,
    /// What was asked for.
    pub filter: BTreeMap<String, String>,
    /// The first index of the range.
    pub from_index: u64,
    /// The index after the last one of the range.
    pub through_index: u64,
}

/// Someone had a report made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportProduced {
    /// Who.
    pub application_uri: ApplicationUri,
    /// The report's name.
    pub report: String,
    /// `text`, `json`, `csv` or `html`.
    pub format: String,
    /// What was asked for.
    pub parameters: BTreeMap<String, String>,
    /// How many lines it has.
    pub rows: u64,
    /// The log's size up to which it speaks.
    pub through_index: u64,
    /// SHA-256 of its bytes, in hex: whether a copy is the one that was made then.
    pub sha256: String,
}

/// A range of the log is not to be removed, whatever its age.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegalHoldPlaced {
    /// The hold's id.
    pub hold_id: Uuid,
    /// The first index of the range.
    pub from_index: u64,
    /// The index after the last one of the range; none: whatever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through_index: Option<u64>,
    /// Why, as the caller put it.
    pub reason: Remark,
}

/// A hold is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegalHoldReleased {
    /// The hold's id.
    pub hold_id: Uuid,
    /// Why, as the caller put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// What made it time to give something up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionRule {
    /// It was older than the operator wants to keep.
    Age,
    /// It was more than the operator wants to keep.
    Size,
}

/// The oldest facts of the trail were given up. Recorded before the first of them is: whoever stops half-way
/// goes on from here. Facts that the state is made of stay where they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventsRemoved {
    /// The first index of the range.
    pub from_index: u64,
    /// The index after the last one of the range.
    pub through_index: u64,
    /// How many facts of the range were given up.
    pub events: u64,
    /// What made it time.
    pub rule: RetentionRule,
}

/// The oldest segments of the audit index were given up: searches find nothing there any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexPruned {
    /// The first index that is still found.
    pub through_index: u64,
    /// What made it time.
    pub rule: RetentionRule,
}

/// What is left of a fact that was removed, in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRemoved {
    /// base64 of the fact's leaf hash in the Merkle tree (RFC 6962 §2.1): SHA-256 of 0x00 and its bytes.
    pub leaf_hash: LeafHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_attribute_is_a_field_with_its_old_and_new_value() {
        let change = ApplicationChange::SystemUser(FromTo {
            from: None,
            to: SystemUser::parse("svc").ok(),
        });
        let json = r#"{"field":"system_user","from":null,"to":"svc"}"#;
        assert_eq!(serde_json::to_string(&change).unwrap(), json);
        assert_eq!(serde_json::from_str::<ApplicationChange>(json).unwrap(), change);
    }

    #[test]
    fn a_reason_has_one_wire_name() {
        for reason in [
            RefusalReason::UnsupportedContentType,
            RefusalReason::BodyTooLarge,
            RefusalReason::DuplicateParameter,
            RefusalReason::Malformed,
            RefusalReason::MissingGrantType,
            RefusalReason::UnsupportedGrantType,
            RefusalReason::SeveralAuthenticationMethods,
            RefusalReason::UnreadableAuthorization,
            RefusalReason::EmptyCredentials,
            RefusalReason::MissingClientId,
            RefusalReason::MissingClientSecret,
            RefusalReason::MissingAudience,
            RefusalReason::UnknownClient,
            RefusalReason::Deleted,
            RefusalReason::Disabled,
            RefusalReason::PublicClient,
            RefusalReason::SecretMismatch,
            RefusalReason::SecretExpired,
            RefusalReason::SecretRevoked,
            RefusalReason::NetworkNotAllowed,
            RefusalReason::SystemUserNotAllowed,
            RefusalReason::AudienceNotAuthorized,
            RefusalReason::ScopeNotAllowed,
        ] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for reason in DenialReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    #[test]
    fn an_unknown_type_is_told_apart_from_unreadable_data() {
        assert!(Event::from_data("NeverHappened", "{}").is_none());
        assert!(Event::from_data("TokenIssued", "{}").is_some_and(|read| read.is_err()));
    }
}
