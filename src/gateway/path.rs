//! What a request's path means. The path that is authorized and the path that the upstream gets are the same bytes, so
//! a path that two servers could read in two ways is refused.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Escapes that would mean something else to a server that decodes twice.
const TWICE: [&str; 4] = ["%2e", "%2f", "%5c", "%00"];

/// A path that means one thing to every server.
#[derive(Debug, PartialEq, Eq)]
pub struct ClearPath<'a> {
    /// Its segments below the route's prefix, decoded once. A slash at the end leaves none.
    pub segments: Vec<Cow<'a, str>>,
    /// Whether some segment has parameters (`;`), or dots or blanks at its end: to some servers those are no part of its
    /// name.
    pub has_parameters: bool,
    /// Whether some segment, decoded once, still has an escape in it: to a server that decodes again it has another name.
    pub has_escapes_left: bool,
}

/// Why a path could mean several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousPath {
    /// A character that has no place in a path, or an escape that is none, or no UTF-8.
    #[error("the path holds a character or an escape that has no place in it")]
    Malformed,
    /// `.` or `..`, escaped or not.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// A slash or a backslash that is no separator to everybody.
    #[error("the path holds an escaped slash or a backslash")]
    HiddenSeparator,
    /// Two slashes in a row.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// Another path when it is decoded once more.
    #[error("the path is encoded twice")]
    EncodedTwice,
}

impl<'a> ClearPath<'a> {
    /// Reads what comes behind a route's prefix: nothing, or a slash and more.
    pub fn parse(rest: &'a str) -> Result<Self, AmbiguousPath> {
        let mut segments: Vec<Cow<'a, str>> = Vec::new();
        let (mut has_parameters, mut has_escapes_left) = (false, false);
        let Some(below) = rest.strip_prefix('/') else {
            return Ok(Self {
                segments,
                has_parameters,
                has_escapes_left,
            });
        };
        let mut raw = below.split('/').peekable();
        while let Some(segment) = raw.next() {
            if segment.is_empty() {
                // A slash at the end: nearly everywhere the same resource as without.
                match raw.peek() {
                    None => break,
                    Some(_) => return Err(AmbiguousPath::EmptySegment),
                }
            }
            let segment = decode(segment)?;
            let name = name(&segment);
            if name.is_empty() {
                return Err(AmbiguousPath::DotSegment);
            }
            has_parameters |= name.len() < segment.len();
            has_escapes_left |= (0..segment.len()).any(|at| is_escape(segment.as_bytes(), at));
            segments.push(segment);
        }
        Ok(Self {
            segments,
            has_parameters,
            has_escapes_left,
        })
    }
}

fn is_escape(bytes: &[u8], at: usize) -> bool {
    let digits = bytes.get(at + 1..at + 3);
    bytes.get(at) == Some(&b'%') && digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether some server takes two segments, both decoded, for the same.
pub fn is_same_to_some_server(known: &str, given: &str) -> bool {
    is_same_in_other_case(name(known), name(given))
}

/// What the configuration has is ASCII, but some letters beyond it (U+017F, U+212A) have one of ASCII as their other
/// case.
pub fn is_same_in_other_case(known: &str, given: &str) -> bool {
    known.eq_ignore_ascii_case(given)
        || known.to_lowercase() == given.to_lowercase()
        || known.to_uppercase() == given.to_uppercase()
}

/// What no server leaves out of a segment: Windows forgets dots and blanks at the end, Tomcat what comes behind a
/// semicolon.
fn name(segment: &str) -> &str {
    segment
        .split(';')
        .next()
        .unwrap_or_default()
        .trim_end_matches(['.', ' '])
}

/// RFC 3986 §2.4: never more than once.
fn decode(segment: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    for (at, byte) in segment.bytes().enumerate() {
        match byte {
            b'\\' => return Err(AmbiguousPath::HiddenSeparator),
            b'%' if !is_escape(segment.as_bytes(), at) => return Err(AmbiguousPath::Malformed),
            // What is no ASCII is sent escaped (RFC 3986 §2.5).
            0x21..=0x7e => {}
            _ => return Err(AmbiguousPath::Malformed),
        }
    }
    let decoded = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| AmbiguousPath::Malformed)?;
    if decoded.contains(['/', '\\']) {
        return Err(AmbiguousPath::HiddenSeparator);
    }
    if decoded.contains(char::is_control) {
        return Err(AmbiguousPath::Malformed);
    }
    if decoded.contains('%') {
        let lower = decoded.to_ascii_lowercase();
        if TWICE.iter().any(|escape| lower.contains(escape)) {
            return Err(AmbiguousPath::EncodedTwice);
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segments(rest: &str) -> Vec<String> {
        let path = ClearPath::parse(rest).unwrap();
        path.segments.iter().map(|segment| segment.to_string()).collect()
    }

    #[test]
    fn a_clear_path_is_its_segments_decoded_once() {
        assert!(segments("").is_empty());
        assert!(segments("/").is_empty());
        assert_eq!(segments("/odata/Crm_Sales_Customers"), ["odata", "Crm_Sales_Customers"]);
        assert_eq!(segments("/orders/"), ["orders"]);
        assert_eq!(segments("/%6Frders/a%20b/%C3%A4"), ["orders", "a b", "ä"]);
        assert_eq!(segments("/100%25"), ["100%"]);
        assert_eq!(segments("/Customers(Id=1,Name='a.b')"), ["Customers(Id=1,Name='a.b')"]);
        assert!(ClearPath::parse("/a;v=1").unwrap().has_parameters);
        assert!(ClearPath::parse("/a%3Bv=1").unwrap().has_parameters);
        assert!(ClearPath::parse("/a.").unwrap().has_parameters);
        assert!(ClearPath::parse("/a%20/b").unwrap().has_parameters);
        assert!(!ClearPath::parse("/a.b").unwrap().has_parameters);
        assert!(ClearPath::parse("/%2573ecret").unwrap().has_escapes_left);
        assert!(!ClearPath::parse("/100%25/%73ecret").unwrap().has_escapes_left);
    }

    #[test]
    fn what_two_servers_could_read_in_two_ways_is_refused() {
        use AmbiguousPath::*;
        for (rest, why) in [
            ("/.", DotSegment),
            ("/..", DotSegment),
            ("/a/../b", DotSegment),
            ("/%2e%2e/b", DotSegment),
            ("/.%2E/b", DotSegment),
            ("/..;x=1/b", DotSegment),
            ("/..%3b/b", DotSegment),
            ("/..%20/b", DotSegment),
            ("/.../b", DotSegment),
            ("/;x/b", DotSegment),
            ("/%20/b", DotSegment),
            ("//b", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a%2fb", HiddenSeparator),
            ("/a%2Fb", HiddenSeparator),
            ("/a%5cb", HiddenSeparator),
            ("/a\\b", HiddenSeparator),
            ("/%252e%252e/b", EncodedTwice),
            ("/a%252Fb", EncodedTwice),
            ("/a%255cb", EncodedTwice),
            ("/a%2500", EncodedTwice),
            ("/a%00b", Malformed),
            ("/a%0d%0ab", Malformed),
            ("/a%7fb", Malformed),
            ("/a%zzb", Malformed),
            ("/a%2", Malformed),
            ("/%c0%ae%c0%ae/b", Malformed),
            ("/%ff", Malformed),
            ("/ä", Malformed),
            ("/a\u{0}b", Malformed),
        ] {
            assert_eq!(ClearPath::parse(rest), Err(why), "{rest}");
        }
    }

    proptest! {
        /// Whatever is accepted stays where it is when a server resolves it, however often it decodes.
        #[test]
        fn an_accepted_path_has_nothing_to_resolve(rest in "(/[a-z.%;25EeFfCc0/\\\\ ]{0,8}){0,4}") {
            if let Ok(path) = ClearPath::parse(&rest) {
                for segment in &path.segments {
                    let mut text = segment.to_string();
                    for _ in 0..2 {
                        prop_assert!(!text.contains(['/', '\\']));
                        prop_assert!(text != "." && text != "..");
                        text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
                    }
                }
            }
        }
    }
}
