//! The wire vocabulary of the token endpoint: what a request says, what an answer says, in each of
//! its dialects. Pure: bytes in, values out; no clock, no randomness, no I/O.

pub mod token_request;

pub mod client_authentication;
pub mod displayable;
mod form;
mod json_body;
mod parameters;
pub mod requested_scope;

pub mod token_operation;

pub mod error;
pub mod token_response;

pub mod claims;

pub use client_authentication::PresentedSecret;
pub use displayable::{Displayable, presented_client_id};
pub use error::OAuthError;
pub use grantlog_projections::event::{AuthMethod, Dialect};
pub use requested_scope::RequestedScope;
pub use token_operation::TokenOperation;
pub use token_request::{Refusal, RefusalReason, RequestHeaders, TokenRequest};
pub use token_response::TokenResponse;

/// The largest body of a token request, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The dialect in which an endpoint of this dialect answers a request with this `Content-Type`: its own,
/// but that a form sent to the JSON endpoint is answered as `Standard`. A request whose type is none of
/// the endpoint's is answered in the endpoint's own dialect.
pub fn answer_dialect(endpoint: Dialect, content_type: Option<&[u8]>) -> Dialect {
    match (endpoint, MediaType::of(content_type)) {
        (Dialect::Json, Some(MediaType::Form)) => Dialect::Standard,
        (own, _) => own,
    }
}

/// The media types that a token request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Form,
    Json,
}

impl MediaType {
    /// Reads a `Content-Type`. Parameters are not looked at: neither type defines one (RFC 8259 §11,
    /// WHATWG URL §5), and a body that is not UTF-8 is refused whatever its charset is said to be.
    fn of(content_type: Option<&[u8]>) -> Option<Self> {
        let essence = content_type?.split(|&byte| byte == b';').next()?.trim_ascii();
        if essence.eq_ignore_ascii_case(Self::Form.as_str().as_bytes()) {
            Some(Self::Form)
        } else if essence.eq_ignore_ascii_case(Self::Json.as_str().as_bytes()) {
            Some(Self::Json)
        } else {
            None
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect::{Audience, Json, Standard};
    use super::answer_dialect;

    #[test]
    fn a_form_at_the_json_endpoint_is_answered_as_standard() {
        let form = Some(&b"Application/X-WWW-Form-Urlencoded ; charset=utf-8"[..]);
        assert_eq!(answer_dialect(Json, form), Standard);
        assert_eq!(answer_dialect(Audience, form), Audience);
        assert_eq!(answer_dialect(Standard, form), Standard);
    }

    #[test]
    fn every_other_content_type_is_answered_in_the_endpoints_own_dialect() {
        for content_type in [
            None,
            Some(&b""[..]),
            Some(b"text/plain"),
            Some(b"application/json"),
            Some(b"\xff;"),
        ] {
            for dialect in [Standard, Audience, Json] {
                assert_eq!(answer_dialect(dialect, content_type), dialect);
            }
        }
    }
}
