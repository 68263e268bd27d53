//! The errors of the token endpoint: RFC 6749 §5.2, RFC 8707 §2, and three of Grantlog's own. What a
//! caller may read; why it really was is in the event. `http/problem.rs` knows their status codes.

use super::displayable::Displayable;
use super::{Dialect, MediaType};

/// Every error of the token endpoint, in the order in which a request is checked for it. Displays as
/// the `error_description`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// The request is neither a form nor, where that is understood, JSON.
    #[error("Content-Type must be {required}")]
    UnsupportedContentType {
        /// The media type that the endpoint's own dialect takes.
        required: &'static str,
    },
    /// The body is larger than [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES).
    #[error("Request body is too large")]
    BodyTooLarge,
    /// A parameter occurs twice; only `resource` may.
    #[error("Duplicate parameter: {name}")]
    DuplicateParameter {
        /// As it is named in the request.
        name: Displayable,
    },
    /// The body cannot be read.
    #[error("Malformed request body")]
    MalformedBody,
    /// There is no `grant_type`.
    #[error("Missing grant_type")]
    MissingGrantType,
    /// The `grant_type` is not `client_credentials`.
    #[error("Unsupported grant type: {grant_type}")]
    UnsupportedGrantType {
        /// As requested.
        grant_type: Displayable,
    },
    /// The client authenticates in two ways at once.
    #[error("Use one client authentication method")]
    SeveralAuthenticationMethods,
    /// The `Authorization` header cannot be read, or the id or the secret is empty.
    #[error("Client credentials are invalid or missing")]
    InvalidGrant,
    /// There is no `client_id`.
    #[error("Missing client_id")]
    MissingClientId,
    /// There is no `client_secret`.
    #[error("Missing client_secret")]
    MissingClientSecret,
    /// The dialect wants an audience and the request names none.
    #[error("Missing audience")]
    MissingAudience,
    /// There is no `token` where a question, or a revocation, is about one (RFC 7009 §2.1, RFC 7662 §2.1).
    #[error("Missing token")]
    MissingToken,
    /// The client is not known by this id and secret, from this source, now. One answer for every
    /// reason, so that it tells an attacker nothing.
    #[error("Invalid client_id or client_secret")]
    InvalidClient,
    /// The application has no system user that its tokens could act as.
    #[error("The client is not authorized to use this grant type")]
    UnauthorizedGrant,
    /// An `audience` that is not the application's, whether it exists or not.
    #[error("The client is not authorized for the audience: {audience}")]
    AudienceNotAuthorized {
        /// As requested.
        audience: Displayable,
    },
    /// The same, when it was asked for as a `resource` (RFC 8707 §2).
    #[error("The client is not authorized for the audience: {resource}")]
    InvalidTarget {
        /// As requested.
        resource: Displayable,
    },
    /// The client asks about tokens and lacks the scope for it (RFC 7662 §2.1).
    #[error("The client lacks the scope {scope}")]
    InsufficientScope {
        /// The scope that is needed.
        scope: &'static str,
    },
    /// The token that is to be revoked was issued to another client (RFC 7009 §2.1).
    #[error("The token was not issued to this client")]
    NotTheClientsToken,
    /// Scope tokens that the application may not have.
    #[error("Invalid scope: {refused}")]
    InvalidScope {
        /// Those that were refused, and no others: see [`Displayable::list`].
        refused: Displayable,
    },
    /// Too many failed requests for this client from this source.
    #[error("Too many failed requests")]
    SlowDown {
        /// For `Retry-After`.
        retry_after_seconds: u32,
    },
    /// Nothing can be recorded now, so nothing is granted. It has no description.
    #[error("")]
    TemporarilyUnavailable {
        /// For `Retry-After`.
        retry_after_seconds: u32,
    },
}

impl OAuthError {
    /// For a request whose content type is none of those that this endpoint takes.
    pub fn unsupported_content_type(endpoint: Dialect) -> Self {
        let required = match endpoint {
            Dialect::Standard | Dialect::Audience => MediaType::Form,
            Dialect::Json => MediaType::Json,
        };
        Self::UnsupportedContentType {
            required: required.as_str(),
        }
    }

    /// The code that goes on the wire as `error`, and into the event. One code depends on the dialect.
    pub fn code(&self, dialect: Dialect) -> &'static str {
        match self {
            Self::UnsupportedContentType { .. }
            | Self::BodyTooLarge
            | Self::DuplicateParameter { .. }
            | Self::MalformedBody
            | Self::MissingGrantType
            | Self::SeveralAuthenticationMethods
            | Self::MissingClientId
            | Self::MissingClientSecret
            | Self::MissingAudience
            | Self::MissingToken => "invalid_request",
            Self::UnsupportedGrantType { .. } => match dialect {
                Dialect::Standard | Dialect::Json => "unsupported_grant_type",
                Dialect::Audience => "invalid_request",
            },
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedGrant | Self::AudienceNotAuthorized { .. } | Self::NotTheClientsToken => {
                "unauthorized_client"
            }
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::InvalidTarget { .. } => "invalid_target",
            Self::InvalidScope { .. } => "invalid_scope",
            Self::SlowDown { .. } => "slow_down",
            Self::TemporarilyUnavailable { .. } => "temporarily_unavailable",
        }
    }

    /// The `error_description`: of RFC 6749 §5.2's characters only, whatever the request held.
    pub fn description(&self) -> String {
        self.to_string()
    }

    /// Seconds for a `Retry-After` header, where there is to be one.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::SlowDown { retry_after_seconds } | Self::TemporarilyUnavailable { retry_after_seconds } => {
                Some(*retry_after_seconds)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_descriptions_are_the_contracts() {
        let of = Displayable::of;
        let table = [
            (
                OAuthError::unsupported_content_type(Dialect::Standard),
                "invalid_request",
                "Content-Type must be application/x-www-form-urlencoded",
            ),
            (
                OAuthError::unsupported_content_type(Dialect::Audience),
                "invalid_request",
                "Content-Type must be application/x-www-form-urlencoded",
            ),
            (
                OAuthError::unsupported_content_type(Dialect::Json),
                "invalid_request",
                "Content-Type must be application/json",
            ),
            (OAuthError::BodyTooLarge, "invalid_request", "Request body is too large"),
            (
                OAuthError::DuplicateParameter { name: of("scope") },
                "invalid_request",
                "Duplicate parameter: scope",
            ),
            (OAuthError::MalformedBody, "invalid_request", "Malformed request body"),
            (OAuthError::MissingGrantType, "invalid_request", "Missing grant_type"),
            (
                OAuthError::UnsupportedGrantType {
                    grant_type: of("password"),
                },
                "unsupported_grant_type",
                "Unsupported grant type: password",
            ),
            (
                OAuthError::SeveralAuthenticationMethods,
                "invalid_request",
                "Use one client authentication method",
            ),
            (
                OAuthError::InvalidGrant,
                "invalid_grant",
                "Client credentials are invalid or missing",
            ),
            (OAuthError::MissingClientId, "invalid_request", "Missing client_id"),
            (
                OAuthError::MissingClientSecret,
                "invalid_request",
                "Missing client_secret",
            ),
            (OAuthError::MissingAudience, "invalid_request", "Missing audience"),
            (
                OAuthError::InvalidClient,
                "invalid_client",
                "Invalid client_id or client_secret",
            ),
            (
                OAuthError::UnauthorizedGrant,
                "unauthorized_client",
                "The client is not authorized to use this grant type",
            ),
            (
                OAuthError::AudienceNotAuthorized {
                    audience: of("https://api.example.com"),
                },
                "unauthorized_client",
                "The client is not authorized for the audience: https://api.example.com",
            ),
            (
                OAuthError::InvalidTarget {
                    resource: of("https://api.example.com"),
                },
                "invalid_target",
                "The client is not authorized for the audience: https://api.example.com",
            ),
            (
                OAuthError::InvalidScope {
                    refused: Displayable::list(["admin", "root"]),
                },
                "invalid_scope",
                "Invalid scope: admin root",
            ),
            (
                OAuthError::SlowDown { retry_after_seconds: 7 },
                "slow_down",
                "Too many failed requests",
            ),
            (
                OAuthError::TemporarilyUnavailable { retry_after_seconds: 1 },
                "temporarily_unavailable",
                "",
            ),
        ];
        for (error, code, description) in table {
            assert_eq!(error.code(Dialect::Standard), code, "{error:?}");
            assert_eq!(error.code(Dialect::Json), code, "{error:?}");
            assert_eq!(error.description(), description);
            if !matches!(error, OAuthError::UnsupportedGrantType { .. }) {
                assert_eq!(error.code(Dialect::Audience), code, "{error:?}");
            }
        }
    }

    #[test]
    fn the_audience_dialect_calls_an_unsupported_grant_type_an_invalid_request() {
        let error = OAuthError::UnsupportedGrantType {
            grant_type: Displayable::of("password"),
        };
        assert_eq!(error.code(Dialect::Audience), "invalid_request");
    }

    #[test]
    fn only_what_passes_with_time_says_when_to_retry() {
        assert_eq!(
            OAuthError::SlowDown { retry_after_seconds: 7 }.retry_after_seconds(),
            Some(7)
        );
        assert_eq!(
            OAuthError::TemporarilyUnavailable { retry_after_seconds: 1 }.retry_after_seconds(),
            Some(1)
        );
        assert_eq!(OAuthError::InvalidClient.retry_after_seconds(), None);
    }
}
