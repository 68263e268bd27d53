//! A question about a token (RFC 7662 §2.1), or its revocation (RFC 7009 §2.1): a form with the token, from a client
//! that proves itself as at the token endpoint.

use super::client_authentication::{AuthorizationHeader, PresentedSecret};
use super::displayable::presented_client_id;
use super::error::OAuthError;
use super::parameters::Parameters;
use super::token_request::{Refusal, RefusalReason, Refused, RequestHeaders, auth_method, credentials, refuse};
use super::{AuthMethod, Dialect, MAX_BODY_BYTES, MediaType, form};
use std::fmt;
use zeroize::Zeroizing;

/// A request that can be decided. Whether its credentials are right, and what its token is, nobody has looked yet.
/// `token_type_hint` is read over: there are two kinds of token, and each says by itself which it is.
#[derive(Debug)]
pub struct TokenOperation {
    /// The client that this claims to be.
    pub client_id: String,
    /// The secret that is to prove it.
    pub client_secret: PresentedSecret,
    /// How id and secret were presented.
    pub auth_method: AuthMethod,
    /// The token that it is about.
    pub token: PresentedToken,
}

/// A token as it was presented: it never shows itself.
pub struct PresentedToken(Zeroizing<String>);

impl PresentedToken {
    /// The token in the clear: to be verified, never to be kept.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresentedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken(..)")
    }
}

impl TokenOperation {
    /// Reads a request and checks everything that needs no look-up. Never panics, whatever the bytes.
    pub fn parse(headers: RequestHeaders<'_>, body: &[u8]) -> Result<Self, Refusal> {
        let mut parameters = Parameters::default();
        let read = read_form(headers.content_type, body, &mut parameters);
        let auth_method = auth_method(AuthorizationHeader::read(headers.authorization), &mut parameters);
        check(read, auth_method, &mut parameters).map_err(|Refused { error, reason }| {
            let client_id = parameters.client_id.as_deref().filter(|id| !id.is_empty());
            Refusal {
                dialect: Dialect::Standard,
                error,
                reason,
                client_id: client_id.map(presented_client_id),
            }
        })
    }
}

fn read_form<'a>(content_type: Option<&[u8]>, body: &'a [u8], parameters: &mut Parameters<'a>) -> Result<(), Refused> {
    if MediaType::of(content_type) != Some(MediaType::Form) {
        let error = OAuthError::unsupported_content_type(Dialect::Standard);
        return refuse(error, RefusalReason::UnsupportedContentType);
    }
    // `http` stops reading at the same limit; this holds it for everyone else.
    if body.len() > MAX_BODY_BYTES {
        return refuse(OAuthError::BodyTooLarge, RefusalReason::BodyTooLarge);
    }
    Ok(form::read(body, parameters)?)
}

fn check(
    read: Result<(), Refused>,
    auth_method: Result<AuthMethod, Refused>,
    parameters: &mut Parameters<'_>,
) -> Result<TokenOperation, Refused> {
    read?;
    let auth_method = auth_method?;
    let (client_id, client_secret) = credentials(parameters)?;
    let Some(token) = parameters.token.take() else {
        return refuse(OAuthError::MissingToken, RefusalReason::MissingToken);
    };
    Ok(TokenOperation {
        client_id,
        client_secret,
        auth_method,
        token: PresentedToken(Zeroizing::new(token.into_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    const FORM: Option<&[u8]> = Some(b"application/x-www-form-urlencoded");

    fn parse(authorization: &[&[u8]], body: &str) -> Result<TokenOperation, Refusal> {
        let headers = RequestHeaders {
            content_type: FORM,
            authorization,
        };
        TokenOperation::parse(headers, body.as_bytes())
    }

    fn error(authorization: &[&[u8]], body: &str) -> String {
        parse(authorization, body).expect_err(body).error.description()
    }

    #[test]
    fn the_client_proves_itself_in_basic_or_in_the_body() {
        let basic = format!("Basic {}", STANDARD.encode("orders:s3cret"));
        let by_header = parse(&[basic.as_bytes()], "token=abc&token_type_hint=access_token").unwrap();
        assert_eq!(by_header.client_id, "orders");
        assert_eq!(by_header.client_secret.expose(), "s3cret");
        assert_eq!(by_header.token.expose(), "abc");
        let by_body = parse(&[], "client_id=orders&client_secret=s3cret&token=abc").unwrap();
        assert_eq!(by_body.auth_method, AuthMethod::ClientSecretPost);
        assert_eq!(by_body.token.expose(), "abc");
        assert_eq!(format!("{:?}", by_body.token), "PresentedToken(..)");
    }

    #[test]
    fn what_is_missing_or_there_twice_is_named() {
        assert_eq!(error(&[], "client_id=a&client_secret=b"), "Missing token");
        assert_eq!(error(&[], "client_id=a&client_secret=b&token="), "Missing token");
        assert_eq!(error(&[], "token=abc"), "Missing client_id");
        assert_eq!(error(&[], "client_id=a&token=abc"), "Missing client_secret");
        assert_eq!(error(&[], "token=abc&token=abc"), "Duplicate parameter: token");
        let basic = format!("Basic {}", STANDARD.encode("a:b"));
        assert_eq!(
            error(&[basic.as_bytes()], "client_secret=b&token=abc"),
            "Use one client authentication method"
        );
        let headers = RequestHeaders {
            content_type: Some(b"application/json"),
            authorization: &[],
        };
        let refused = TokenOperation::parse(headers, b"{}").unwrap_err();
        assert_eq!(refused.reason, RefusalReason::UnsupportedContentType);
    }

    proptest! {
        #[test]
        fn any_bytes_at_all_can_be_read(authorization in any::<Vec<u8>>(), body in any::<Vec<u8>>()) {
            let headers = RequestHeaders { content_type: FORM, authorization: &[&authorization] };
            let _ = TokenOperation::parse(headers, &body);
        }
    }
}
