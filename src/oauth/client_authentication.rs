//! How a client proves who it is: a secret, in a Basic header or in the body (RFC 6749 §2.3.1).

use super::form;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use zeroize::Zeroizing;

/// A client secret as it was presented. It never shows itself, cannot be compared but by whoever
/// does that in constant time, and is wiped when it is dropped.
#[derive(Clone)]
pub struct PresentedSecret(Zeroizing<String>);

impl PresentedSecret {
    /// Takes the secret over.
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret in the clear: to be hashed, never to be kept.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for PresentedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedSecret(..)")
    }
}

/// What a request's `Authorization` headers say about the client.
#[derive(Debug)]
pub(super) enum AuthorizationHeader {
    Absent,
    /// Readable Basic credentials; either part may be empty.
    Basic {
        client_id: String,
        client_secret: PresentedSecret,
    },
    /// There is one header and it cannot be read: broken Basic credentials, or another scheme. A
    /// client that sends `Bearer` to a token endpoint has tried to authenticate (RFC 6749 §5.2) by a
    /// method that is not offered; to look past it could accept a request that its sender did not mean.
    Unreadable,
    /// More than one header: RFC 9110 §11.6.2 allows one, and the next proxy may believe the other.
    Several,
}

impl AuthorizationHeader {
    pub fn read(headers: &[&[u8]]) -> Self {
        match headers {
            [] => Self::Absent,
            [header] => basic_credentials(header).unwrap_or(Self::Unreadable),
            _ => Self::Several,
        }
    }
}

/// Clients pad or do not; both are unambiguous. Bits left over at the end are not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest credentials that are decoded, in bytes as they are sent: a body's limit is as generous.
const MAX_BASIC_CREDENTIALS_BYTES: usize = super::MAX_BODY_BYTES;

fn basic_credentials(header: &[u8]) -> Option<AuthorizationHeader> {
    // RFC 9110 §11.4: scheme, one or more spaces, token68; the scheme in any case.
    let (scheme, token68) = header.trim_ascii().split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") || token68.len() > MAX_BASIC_CREDENTIALS_BYTES {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(token68.trim_ascii_start()).ok()?);
    let mut halves = decoded.splitn(2, |&byte| byte == b':');
    // RFC 6749 §2.3.1: id and secret are each form-encoded before they go into Basic.
    let client_id = form::decode(halves.next()?).ok()?.into_owned();
    let client_secret = PresentedSecret::new(form::decode(halves.next()?).ok()?.into_owned());
    Some(AuthorizationHeader::Basic {
        client_id,
        client_secret,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use proptest::prelude::*;

    fn read(header: &str) -> Option<(String, String)> {
        match AuthorizationHeader::read(&[header.as_bytes()]) {
            AuthorizationHeader::Basic {
                client_id,
                client_secret,
            } => Some((client_id, client_secret.expose().to_owned())),
            AuthorizationHeader::Unreadable => None,
            other => panic!("one header is {other:?}"),
        }
    }

    fn basic(credentials: impl AsRef<[u8]>) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    fn credentials(client_id: &str, client_secret: &str) -> Option<(String, String)> {
        Some((client_id.to_owned(), client_secret.to_owned()))
    }

    #[test]
    fn credentials_are_divided_at_the_first_colon() {
        assert_eq!(read(&basic("orders:se:cret")), credentials("orders", "se:cret"));
    }

    #[test]
    fn id_and_secret_are_form_decoded() {
        let encoded = "my.trusted.app%2Fservice%3Aa:s%2Bc+r%3At";
        assert_eq!(
            read(&basic(encoded)),
            credentials("my.trusted.app/service:a", "s+c r:t")
        );
        assert_eq!(
            read(&basic("my.trusted.app/service:x")),
            credentials("my.trusted.app/service", "x")
        );
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_padding_may_be_missing() {
        for encoded in [STANDARD.encode("a:bc"), STANDARD_NO_PAD.encode("a:bcd")] {
            for scheme in ["Basic ", "basic ", "BASIC   "] {
                assert!(read(&format!("{scheme}{encoded}")).is_some(), "{scheme}{encoded}");
            }
        }
    }

    #[test]
    fn empty_parts_are_readable() {
        assert_eq!(read(&basic(":")), credentials("", ""));
        assert_eq!(read(&basic("a:")), credentials("a", ""));
        assert_eq!(read(&basic(":b")), credentials("", "b"));
    }

    #[test]
    fn what_cannot_be_decoded_is_unreadable() {
        for header in [
            String::new(),
            "Basic".into(),
            "Basic ".into(),
            "Basic !!!".into(),
            "Basic YTpi\tYTpi".into(),
            "Basic YTpi, Basic YTpi".into(),
            // Base64url is another alphabet, and `YTp=` has bits left over.
            "Basic YTo_".into(),
            "Basic YTp=".into(),
            "BasicYTpi".into(),
            "Bearer YTpi".into(),
            "Digest username=\"a\"".into(),
            basic("no colon"),
            basic("a%:b"),
            basic("a:%zz"),
            basic("a:%00"),
            basic("a:b\n"),
            basic("a:%ff"),
            basic([b'a', b':', 0xff]),
            basic([b'a', 0xc0, 0xaf, b':', b'b']),
        ] {
            assert_eq!(read(&header), None, "{header:?}");
        }
    }

    #[test]
    fn a_second_header_is_never_looked_past() {
        let header = basic("a:b");
        assert!(matches!(
            AuthorizationHeader::read(&[header.as_bytes(), header.as_bytes()]),
            AuthorizationHeader::Several
        ));
        assert!(matches!(AuthorizationHeader::read(&[]), AuthorizationHeader::Absent));
    }

    #[test]
    fn a_presented_secret_does_not_show_itself() {
        let header = AuthorizationHeader::read(&[basic("orders:correct-horse").as_bytes()]);
        assert!(!format!("{header:?}").contains("horse"));
    }

    proptest! {
        #[test]
        fn what_a_client_encodes_is_read_back(
            client_id in "\\PC{0,40}", client_secret in "\\PC{0,40}", padded in any::<bool>()
        ) {
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encode(&client_id), encode(&client_secret));
            let token68 = if padded { STANDARD.encode(pair) } else { STANDARD_NO_PAD.encode(pair) };
            prop_assert_eq!(read(&format!("Basic {token68}")), Some((client_id, client_secret)));
        }

        #[test]
        fn no_bytes_make_it_panic(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            AuthorizationHeader::read(&[&header]);
            AuthorizationHeader::read(&[basic(&header).as_bytes()]);
        }
    }
}
