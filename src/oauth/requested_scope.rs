//! What a request's `scope` asks for, before anyone decides what it gets.

use super::parameters::MalformedBody;
use std::borrow::Cow;

/// Scope tokens in one request.
pub const MAX_SCOPE_TOKENS: usize = 256;
/// Characters in one scope token.
pub const MAX_SCOPE_TOKEN_CHARS: usize = 256;
/// A whole scope, in bytes: it goes into an event (at most 65,535 bytes) and into a token that must
/// fit an HTTP header.
pub const MAX_SCOPE_BYTES: usize = 8 * 1024;

/// A scope as it was asked for: at least one token, single spaces between. The tokens are not
/// checked against RFC 6749 §3.3 (see [`is_scope_token`]): one that is illegal is no application's,
/// and is refused as `invalid_scope` like any other that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedScope(String);

impl RequestedScope {
    /// `None` when nothing but spaces is there: RFC 6749 §3.2 takes a parameter without a value for
    /// omitted.
    pub(super) fn parse(value: Cow<'_, str>) -> Result<Option<Self>, MalformedBody> {
        if value.len() > MAX_SCOPE_BYTES {
            return Err(MalformedBody::ValueOutOfBounds);
        }
        let (mut count, mut length) = (0, 0);
        for token in tokens(&value) {
            count += 1;
            length += token.len() + 1;
            if count > MAX_SCOPE_TOKENS || longer_than(token, MAX_SCOPE_TOKEN_CHARS) {
                return Err(MalformedBody::ValueOutOfBounds);
            }
        }
        if count == 0 {
            return Ok(None);
        }
        if length == value.len() + 1 {
            return Ok(Some(Self(value.into_owned())));
        }
        Ok(Some(Self(tokens(&value).collect::<Vec<_>>().join(" "))))
    }

    /// The tokens, in the order asked for, repetitions included.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        tokens(&self.0)
    }

    /// The whole scope, single spaces between its tokens.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this may be a scope's token at all: `1*( %x21 / %x23-5B / %x5D-7E )`, RFC 6749 §3.3.
pub fn is_scope_token(token: &str) -> bool {
    !token.is_empty()
        && token
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// The values of a space-separated list; several spaces count as one.
pub(super) fn tokens(value: &str) -> impl Iterator<Item = &str> {
    value.split(' ').filter(|token| !token.is_empty())
}

/// Counts characters only when there are more bytes than characters allowed.
pub(super) fn longer_than(value: &str, max_chars: usize) -> bool {
    value.len() > max_chars && value.chars().count() > max_chars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Option<String>, MalformedBody> {
        RequestedScope::parse(value.into()).map(|scope| scope.map(|scope| scope.as_str().to_owned()))
    }

    #[test]
    fn several_spaces_are_one() {
        assert_eq!(parse("read update"), Ok(Some("read update".into())));
        assert_eq!(parse("  read   update "), Ok(Some("read update".into())));
    }

    #[test]
    fn nothing_but_spaces_is_an_omitted_scope() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("   "), Ok(None));
    }

    #[test]
    fn tokens_keep_their_order_and_repetitions() {
        let scope = RequestedScope::parse("b  a b".into()).unwrap().unwrap();
        assert_eq!(scope.tokens().collect::<Vec<_>>(), ["b", "a", "b"]);
    }

    #[test]
    fn a_scope_beyond_its_bounds_is_malformed() {
        assert!(parse(&"r ".repeat(MAX_SCOPE_TOKENS)).is_ok());
        assert_eq!(
            parse(&"r ".repeat(MAX_SCOPE_TOKENS + 1)),
            Err(MalformedBody::ValueOutOfBounds)
        );
        assert!(parse(&"é".repeat(MAX_SCOPE_TOKEN_CHARS)).is_ok());
        assert_eq!(
            parse(&"é".repeat(MAX_SCOPE_TOKEN_CHARS + 1)),
            Err(MalformedBody::ValueOutOfBounds)
        );
        let long_tokens = format!("{} ", "r".repeat(MAX_SCOPE_TOKEN_CHARS)).repeat(64);
        assert_eq!(parse(&long_tokens), Err(MalformedBody::ValueOutOfBounds));
    }

    #[test]
    fn a_scope_token_is_visible_ascii_but_for_quote_and_backslash() {
        assert!(is_scope_token("https://api.example.com/orders.read!"));
        for illegal in ["", "a b", "a\"b", "a\\b", "é", "a\tb", "a\u{7f}"] {
            assert!(!is_scope_token(illegal), "{illegal:?}");
        }
    }
}
