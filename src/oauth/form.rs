//! `application/x-www-form-urlencoded`, read strictly. The usual decoders replace what is not UTF-8
//! and let a lone `%` stand; two servers that repair an input differently disagree about who is asking.

use super::parameters::{BrokenBody, MalformedBody, Parameter, Parameters, has_control_character};
use std::borrow::Cow;

/// Reads a form into `parameters`, up to its end or to the first pair that breaks it.
pub(super) fn read<'a>(body: &'a [u8], parameters: &mut Parameters<'a>) -> Result<(), BrokenBody> {
    for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let name = decode(halves.next().unwrap_or_default())?;
        let value = decode(halves.next().unwrap_or_default())?;
        parameters.receive(parameter(&name), name, Some(value))?;
    }
    Ok(())
}

/// Decodes one name or value: `+` is a space, `%` needs two hexadecimal digits, and the result must
/// be UTF-8 without control characters. Borrows when nothing is encoded.
pub(super) fn decode(encoded: &[u8]) -> Result<Cow<'_, str>, MalformedBody> {
    let text = if encoded.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        Cow::Owned(String::from_utf8(percent_decode(encoded)?).map_err(|_| MalformedBody::NotUtf8)?)
    } else {
        Cow::Borrowed(std::str::from_utf8(encoded).map_err(|_| MalformedBody::NotUtf8)?)
    };
    if has_control_character(&text) {
        Err(MalformedBody::ControlCharacter)
    } else {
        Ok(text)
    }
}

fn percent_decode(encoded: &[u8]) -> Result<Vec<u8>, MalformedBody> {
    // Never grows: decoding only shortens, so no copy of a secret is left behind in a freed buffer.
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(MalformedBody::PercentEncoding),
            },
            plain => plain,
        });
    }
    Ok(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn parameter(name: &str) -> Option<Parameter> {
    Some(match name {
        "grant_type" => Parameter::GrantType,
        "client_id" => Parameter::ClientId,
        "client_secret" => Parameter::ClientSecret,
        "client_assertion" => Parameter::ClientAssertion,
        "scope" => Parameter::Scope,
        "audience" => Parameter::Audience,
        "resource" => Parameter::Resource,
        "token" => Parameter::Token,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plus_is_a_space_and_percent_2b_is_a_plus() {
        assert_eq!(decode(b"read+update%2Ball%20%c3%A9"), Ok("read update+all é".into()));
    }

    #[test]
    fn a_percent_sign_needs_two_hexadecimal_digits() {
        for bad in [
            &b"%"[..],
            b"%4",
            b"%zz",
            b"%4g",
            b"%%41",
            b"a%",
            b"%u0041",
            b"% 1",
            b"%+1",
            b"%-1",
        ] {
            assert_eq!(decode(bad), Err(MalformedBody::PercentEncoding), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_refused_and_never_repaired() {
        // A lone continuation, overlong encodings of `/` and of NUL, a surrogate, beyond U+10FFFF.
        for bad in [
            &b"%ff"[..],
            b"\xff",
            b"%80",
            b"%C0%AF",
            b"%c0%80",
            b"%e0%80%af",
            b"%ed%a0%80",
            b"%f4%90%80%80",
        ] {
            assert_eq!(decode(bad), Err(MalformedBody::NotUtf8), "{bad:?}");
        }
    }

    #[test]
    fn control_characters_are_refused_encoded_or_not() {
        for bad in [
            &b"a%00b"[..],
            b"a\0b",
            b"%0d%0aSet-Cookie:x",
            b"a\nb",
            b"%09",
            b"%7F",
            b"%1b[2J",
            b"%c2%85",
        ] {
            assert_eq!(decode(bad), Err(MalformedBody::ControlCharacter), "{bad:?}");
        }
    }

    #[test]
    fn nothing_is_copied_when_nothing_is_encoded() {
        assert!(matches!(decode(b"client_credentials"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn empty_pairs_are_skipped_and_only_the_first_equals_sign_divides() {
        let mut parameters = Parameters::default();
        assert_eq!(read(b"&&client_id=a=b&&scope&", &mut parameters), Ok(()));
        assert_eq!(parameters.client_id.as_deref(), Some("a=b"));
        assert_eq!(parameters.scope, None);
    }

    proptest! {
        #[test]
        fn what_an_independent_encoder_writes_is_read_back(text in "\\PC{0,64}") {
            let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            prop_assert_eq!(decode(encoded.as_bytes()), Ok(text.into()));
        }

        #[test]
        fn what_is_read_is_what_the_lenient_decoder_reads(encoded in "[a-c%+=0-9A-Fx\u{80}-\u{fff}]{0,40}") {
            if let Ok(text) = decode(encoded.as_bytes()) {
                let pair = format!("v={encoded}");
                let lenient = url::form_urlencoded::parse(pair.as_bytes()).next().unwrap().1;
                prop_assert_eq!(text, lenient);
            }
        }
    }
}
