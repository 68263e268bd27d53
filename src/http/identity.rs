//! Who calls, in headers: what an API behind Grantlog reads instead of a token.

use crate::service::authorize_call::Caller;
use actix_web::http::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::borrow::Cow;
use uuid::Uuid;

/// The application that calls.
pub const X_CLIENT_ID: HeaderName = HeaderName::from_static("x-client-id");
/// The service account that its token acts as.
pub const X_SYSTEM_USER: HeaderName = HeaderName::from_static("x-system-user");
/// What its token allows, space-separated.
pub const X_SCOPE: HeaderName = HeaderName::from_static("x-scope");
/// The organisation that its token is bound to.
pub const X_ORG_CODE: HeaderName = HeaderName::from_static("x-org-code");
/// The session that the call belongs to.
pub const X_SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
/// Its token's id.
pub const X_TOKEN_ID: HeaderName = HeaderName::from_static("x-token-id");

/// A system user may have any printable character, a header may not; a percent sign is one of ours then.
const NOT_PLAIN: &AsciiSet = &CONTROLS.add(b'%');

/// All six, always: a header that is left out would leave one that the caller has written itself in place where a
/// proxy only overwrites. What the token does not say is empty. `None`: a value is no header, which no value that was
/// parsed is.
pub fn headers(caller: &Caller) -> Option<[(HeaderName, HeaderValue); 6]> {
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let id = |id: Uuid| text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    let system_user = caller.system_user.as_ref().map_or("", |user| user.as_str());
    Some([
        (X_CLIENT_ID, text(caller.application_uri.as_str())?),
        (X_SYSTEM_USER, text(&plain(system_user))?),
        (X_SCOPE, text(caller.scope.as_str())?),
        (
            X_ORG_CODE,
            text(caller.org_code.as_ref().map_or("", |org| org.as_str()))?,
        ),
        (X_SESSION_ID, id(caller.session_id)?),
        (X_TOKEN_ID, id(caller.token_id)?),
    ])
}

/// Percent-encoded UTF-8 where it is not printable ASCII (RFC 9110 §5.5 leaves open what other bytes mean).
fn plain(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, NOT_PLAIN).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_user_is_printable_ascii_and_can_be_read_back() {
        for (name, header) in [
            ("svc.integration", "svc.integration"),
            ("svc integration", "svc integration"),
            ("svc.büro", "svc.b%C3%BCro"),
            ("50%", "50%25"),
        ] {
            assert_eq!(plain(name), header);
            assert_eq!(percent_encoding::percent_decode_str(header).decode_utf8_lossy(), name);
        }
    }
}
