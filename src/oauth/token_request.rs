//! A token request, whichever dialect it was made in.

pub use super::parameters::{MAX_PARAMETERS, MalformedBody};

use super::client_authentication::{AuthorizationHeader, PresentedSecret};
use super::displayable::{Displayable, presented_client_id};
use super::error::OAuthError;
use super::parameters::{BrokenBody, Parameters};
use super::requested_scope::{RequestedScope, longer_than, tokens};
use super::{AuthMethod, Dialect, MAX_BODY_BYTES, MediaType, answer_dialect, form, json_body};
use grantlog_projections::event;
use std::borrow::Cow;

/// Audiences, and as many resources, in one request.
pub const MAX_AUDIENCES: usize = 64;
/// Characters in one audience or resource.
pub const MAX_AUDIENCE_CHARS: usize = 1_024;
/// All audiences, and as much of resources, in bytes: they go into an event of at most 65,535 bytes.
pub const MAX_AUDIENCES_BYTES: usize = 8 * 1_024;

/// The headers of a token request that mean something to it.
#[derive(Clone, Copy)]
pub struct RequestHeaders<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// Every `Authorization` header, so that a second one is noticed.
    pub authorization: &'a [&'a [u8]],
}

/// A request that can be decided: it is well formed, asks for the one grant there is, and presents
/// credentials. Whether they are right, nobody has looked yet.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// How the answer speaks.
    pub dialect: Dialect,
    /// The client that this claims to be: not empty, without control characters, otherwise anything.
    pub client_id: String,
    /// The secret that is to prove it: not empty, without control characters.
    pub client_secret: PresentedSecret,
    /// How id and secret were presented.
    pub auth_method: AuthMethod,
    /// The scope asked for; `None`: all that the application has.
    pub scope: Option<RequestedScope>,
    /// What `audience` asked for, in order; refused as `unauthorized_client`.
    pub audiences: Vec<String>,
    /// What `resource` asked for (RFC 8707), in order; refused as `invalid_target`.
    pub resources: Vec<String>,
}

/// A request that is refused before anyone has to look the client up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// How the answer speaks.
    pub dialect: Dialect,
    /// What the caller is told.
    pub error: OAuthError,
    /// Why, for the audit trail and the operator.
    pub reason: RefusalReason,
    /// The client that the request claims to come from, cut and escaped, when that could be read.
    pub client_id: Option<String>,
}

/// Why a request was refused before anyone had to look the client up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// Neither a form nor, where that is understood, JSON.
    UnsupportedContentType,
    /// More than [`MAX_BODY_BYTES`].
    BodyTooLarge,
    /// A parameter that may not be repeated was.
    DuplicateParameter,
    /// The body cannot be read.
    Malformed(MalformedBody),
    /// No `grant_type`.
    MissingGrantType,
    /// Another grant than `client_credentials`.
    UnsupportedGrantType,
    /// More than one client authentication method, `Authorization` header or client.
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
    /// No `token` where a request is about one.
    MissingToken,
}

impl RefusalReason {
    /// As the event keeps it.
    pub fn fact(self) -> event::RefusalReason {
        use event::RefusalReason as Fact;
        match self {
            Self::UnsupportedContentType => Fact::UnsupportedContentType,
            Self::BodyTooLarge => Fact::BodyTooLarge,
            Self::DuplicateParameter => Fact::DuplicateParameter,
            Self::Malformed(_) => Fact::Malformed,
            Self::MissingGrantType => Fact::MissingGrantType,
            Self::UnsupportedGrantType => Fact::UnsupportedGrantType,
            Self::SeveralAuthenticationMethods => Fact::SeveralAuthenticationMethods,
            Self::UnreadableAuthorization => Fact::UnreadableAuthorization,
            Self::EmptyCredentials => Fact::EmptyCredentials,
            Self::MissingClientId => Fact::MissingClientId,
            Self::MissingClientSecret => Fact::MissingClientSecret,
            Self::MissingAudience => Fact::MissingAudience,
            // Of no token request.
            Self::MissingToken => Fact::Malformed,
        }
    }

    /// What exactly was wrong, where there is more to say.
    pub fn detail(self) -> Option<String> {
        match self {
            Self::Malformed(malformed) => Some(malformed.to_string()),
            _ => None,
        }
    }
}

impl TokenRequest {
    /// Reads a request to an endpoint of the given dialect, and checks everything that needs no
    /// look-up, in the order of the contract's table: of two things that are wrong, the earlier is told.
    ///
    /// Never panics, whatever the bytes. The body is the caller's: its copy of the secret is not wiped.
    pub fn parse(endpoint: Dialect, headers: RequestHeaders<'_>, body: &[u8]) -> Result<Self, Refusal> {
        let dialect = answer_dialect(endpoint, headers.content_type);
        let mut parameters = Parameters::default();
        let asked_for = read_body(endpoint, headers.content_type, body, &mut parameters);
        let auth_method = auth_method(AuthorizationHeader::read(headers.authorization), &mut parameters);
        check(dialect, asked_for, auth_method, &mut parameters).map_err(|Refused { error, reason }| {
            let client_id = parameters
                .client_id
                .as_deref()
                .filter(|id| !id.is_empty())
                .map(presented_client_id);
            Refusal {
                dialect,
                error,
                reason,
                client_id,
            }
        })
    }
}

pub(super) struct Refused {
    pub error: OAuthError,
    pub reason: RefusalReason,
}

struct AskedFor {
    scope: Option<RequestedScope>,
    audiences: Vec<String>,
    resources: Vec<String>,
}

/// The table, row by row. The body and the header have been read by now, so that a refusal can name
/// the client; what was wrong with them is told when its row comes.
fn check(
    dialect: Dialect,
    asked_for: Result<AskedFor, Refused>,
    auth_method: Result<AuthMethod, Refused>,
    parameters: &mut Parameters<'_>,
) -> Result<TokenRequest, Refused> {
    let AskedFor {
        scope,
        audiences,
        resources,
    } = asked_for?;
    match parameters.grant_type.as_deref() {
        None => return refuse(OAuthError::MissingGrantType, RefusalReason::MissingGrantType),
        Some("client_credentials") => {}
        Some(other) => {
            let error = OAuthError::UnsupportedGrantType {
                grant_type: Displayable::of(other),
            };
            return refuse(error, RefusalReason::UnsupportedGrantType);
        }
    }
    let auth_method = auth_method?;
    let (client_id, client_secret) = credentials(parameters)?;
    if dialect == Dialect::Audience && audiences.is_empty() && resources.is_empty() {
        return refuse(OAuthError::MissingAudience, RefusalReason::MissingAudience);
    }
    Ok(TokenRequest {
        dialect,
        client_id,
        client_secret,
        auth_method,
        scope,
        audiences,
        resources,
    })
}

/// The rows of what a client proves itself by. Leaves the id in `parameters`, so that a refusal can name it.
pub(super) fn credentials(parameters: &mut Parameters<'_>) -> Result<(String, PresentedSecret), Refused> {
    let is_empty = parameters.client_id.as_deref().is_some_and(str::is_empty)
        || parameters.client_secret.as_ref().is_some_and(PresentedSecret::is_empty);
    if is_empty {
        return refuse(OAuthError::InvalidGrant, RefusalReason::EmptyCredentials);
    }
    let Some(client_id) = parameters.client_id.clone() else {
        return refuse(OAuthError::MissingClientId, RefusalReason::MissingClientId);
    };
    let Some(client_secret) = parameters.client_secret.take() else {
        return refuse(OAuthError::MissingClientSecret, RefusalReason::MissingClientSecret);
    };
    Ok((client_id.into_owned(), client_secret))
}

/// The rows of the content type and of the body.
fn read_body<'a>(
    endpoint: Dialect,
    content_type: Option<&[u8]>,
    body: &'a [u8],
    parameters: &mut Parameters<'a>,
) -> Result<AskedFor, Refused> {
    let read = match (endpoint, MediaType::of(content_type)) {
        (_, Some(MediaType::Form)) => form::read,
        (Dialect::Json, Some(MediaType::Json)) => json_body::read,
        _ => {
            let error = OAuthError::unsupported_content_type(endpoint);
            return refuse(error, RefusalReason::UnsupportedContentType);
        }
    };
    // `http` stops reading at the same limit; this holds it for everyone else.
    if body.len() > MAX_BODY_BYTES {
        return refuse(OAuthError::BodyTooLarge, RefusalReason::BodyTooLarge);
    }
    read(body, parameters)?;
    Ok(AskedFor {
        scope: parameters
            .scope
            .take()
            .map(RequestedScope::parse)
            .transpose()?
            .flatten(),
        audiences: bounded(parameters.audience.as_deref().into_iter().flat_map(tokens))?,
        resources: bounded(parameters.resources.iter().map(Cow::as_ref))?,
    })
}

fn bounded<'a>(audiences: impl Iterator<Item = &'a str>) -> Result<Vec<String>, MalformedBody> {
    let mut bytes = 0;
    let mut kept = Vec::new();
    for audience in audiences {
        bytes += audience.len();
        if kept.len() == MAX_AUDIENCES || bytes > MAX_AUDIENCES_BYTES || longer_than(audience, MAX_AUDIENCE_CHARS) {
            return Err(MalformedBody::ValueOutOfBounds);
        }
        kept.push(audience.to_owned());
    }
    Ok(kept)
}

/// The row of the authentication method, and of a header that cannot be read. Leaves the credentials
/// in `parameters`, whichever way they came.
pub(super) fn auth_method(header: AuthorizationHeader, parameters: &mut Parameters<'_>) -> Result<AuthMethod, Refused> {
    // RFC 6749 §2.3: "The client MUST NOT use more than one authentication method in each request."
    const SEVERAL: Result<AuthMethod, Refused> = Err(Refused {
        error: OAuthError::SeveralAuthenticationMethods,
        reason: RefusalReason::SeveralAuthenticationMethods,
    });
    let has_assertion = parameters.client_assertion.is_some();
    let has_secret = parameters.client_secret.is_some();
    match header {
        AuthorizationHeader::Several => SEVERAL,
        AuthorizationHeader::Absent if has_secret && has_assertion => SEVERAL,
        AuthorizationHeader::Absent => Ok(AuthMethod::ClientSecretPost),
        AuthorizationHeader::Unreadable if has_secret || has_assertion => SEVERAL,
        AuthorizationHeader::Unreadable => refuse(OAuthError::InvalidGrant, RefusalReason::UnreadableAuthorization),
        AuthorizationHeader::Basic {
            client_id,
            client_secret,
        } => {
            // Some clients repeat the id in the body. That is no second method, as long as it is the same.
            let is_another = parameters
                .client_id
                .as_deref()
                .is_some_and(|in_body| in_body != client_id);
            parameters.client_id = Some(Cow::Owned(client_id));
            parameters.client_secret = Some(client_secret);
            if has_secret || has_assertion || is_another {
                SEVERAL
            } else {
                Ok(AuthMethod::ClientSecretBasic)
            }
        }
    }
}

pub(super) fn refuse<T>(error: OAuthError, reason: RefusalReason) -> Result<T, Refused> {
    Err(Refused { error, reason })
}

impl From<BrokenBody> for Refused {
    fn from(broken: BrokenBody) -> Self {
        match broken {
            BrokenBody::Duplicate { name } => Self {
                error: OAuthError::DuplicateParameter { name },
                reason: RefusalReason::DuplicateParameter,
            },
            BrokenBody::Malformed(malformed) => malformed.into(),
        }
    }
}

impl From<MalformedBody> for Refused {
    fn from(malformed: MalformedBody) -> Self {
        Self {
            error: OAuthError::MalformedBody,
            reason: RefusalReason::Malformed(malformed),
        }
    }
}

#[cfg(test)]
mod tests;
