//! Values from a request, cut and escaped before they come back to a caller or reach a log.

use std::fmt;

/// The most characters of a request's value that an answer repeats.
pub const MAX_DISPLAYABLE_CHARS: usize = 128;
/// The most characters of a presented `client_id` that an event keeps.
pub const MAX_PRESENTED_CLIENT_ID_CHARS: usize = 256;

/// A value from a request that may be repeated in an `error_description`: at most
/// [`MAX_DISPLAYABLE_CHARS`] characters, all of RFC 6749 §5.2's
/// `%x20-21 / %x23-5B / %x5D-7E`; every other character is a `?`, and `...` says where it was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displayable(String);

impl Displayable {
    /// The value, cut and escaped.
    pub fn of(value: &str) -> Self {
        Self::from_chars(value.chars())
    }

    /// The values with spaces between them, cut and escaped as a whole.
    pub fn list<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut separator = None;
        Self::from_chars(
            values
                .into_iter()
                .flat_map(|value| separator.replace(' ').into_iter().chain(value.chars())),
        )
    }

    /// The text that may be shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_chars(chars: impl Iterator<Item = char>) -> Self {
        const CUT: &str = "...";
        let mut shown = String::new();
        for (count, char) in chars.enumerate() {
            if count == MAX_DISPLAYABLE_CHARS {
                // Everything in `shown` is ASCII: bytes are characters.
                shown.truncate(MAX_DISPLAYABLE_CHARS - CUT.len());
                shown.push_str(CUT);
                break;
            }
            shown.push(match char {
                ' '..='!' | '#'..='[' | ']'..='~' => char,
                _ => '?',
            });
        }
        Self(shown)
    }
}

impl fmt::Display for Displayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `client_id` as an event keeps it when it may be no client's: at most
/// [`MAX_PRESENTED_CLIENT_ID_CHARS`] characters, `…` where it was cut, control and invisible
/// characters as `\u{…}`. An application uri comes out as it went in, and nothing else does that
/// could be taken for one.
pub fn presented_client_id(client_id: &str) -> String {
    const CUT: char = '…';
    let mut kept = String::with_capacity(client_id.len().min(MAX_PRESENTED_CLIENT_ID_CHARS));
    let mut kept_chars = 0;
    // The length of `kept`, in bytes, to which one more character, the mark of the cut, may be added.
    let mut room_for_cut = 0;
    for char in client_id.chars() {
        let start = kept.len();
        if needs_escape(char) {
            kept.extend(char.escape_unicode());
        } else if char == '\\' {
            kept.push_str("\\\\");
        } else {
            kept.push(char);
        }
        kept_chars += kept.get(start..).map_or(0, |added| added.chars().count());
        if kept_chars > MAX_PRESENTED_CLIENT_ID_CHARS {
            kept.truncate(room_for_cut);
            kept.push(CUT);
            break;
        }
        if kept_chars < MAX_PRESENTED_CLIENT_ID_CHARS {
            room_for_cut = kept.len();
        }
    }
    kept
}

/// Control characters forge log lines; bidirectional and invisible ones make two ids look alike.
fn needs_escape(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_an_error_description_may_hold_comes_out_unchanged() {
        let harmless = "my.trusted.app/service 'read' <b> ~!@#$%^&*()[]{}";
        assert_eq!(Displayable::of(harmless).as_str(), harmless);
    }

    #[test]
    fn quotes_backslashes_controls_and_other_scripts_become_question_marks() {
        assert_eq!(Displayable::of("a\"b\\c\r\nd\0é\u{7f}").as_str(), "a?b?c??d???");
    }

    #[test]
    fn a_long_value_is_cut_and_says_so() {
        assert_eq!(Displayable::of(&"a".repeat(128)).as_str(), "a".repeat(128));
        assert_eq!(
            Displayable::of(&"a".repeat(129)).as_str(),
            format!("{}...", "a".repeat(125))
        );
        assert_eq!(
            Displayable::of(&"é".repeat(1 << 20)).as_str(),
            format!("{}...", "?".repeat(125))
        );
    }

    #[test]
    fn a_list_has_single_spaces_between() {
        assert_eq!(Displayable::list([]).as_str(), "");
        assert_eq!(Displayable::list(["read", "upd\"ate"]).as_str(), "read upd?ate");
        assert_eq!(Displayable::list(["a"; 300]).as_str().len(), MAX_DISPLAYABLE_CHARS);
    }

    #[test]
    fn an_application_uri_is_kept_as_presented() {
        let longest = format!("my.trusted.app/~service:@-_{}", "x".repeat(229));
        assert_eq!(longest.len(), 256);
        assert_eq!(presented_client_id(&longest), longest);
    }

    #[test]
    fn a_long_client_id_is_cut_at_256_characters_and_says_so() {
        let kept = presented_client_id(&"x".repeat(257));
        assert_eq!(kept, format!("{}…", "x".repeat(255)));
        let kept = presented_client_id(&format!("{}\n{}", "x".repeat(252), "y".repeat(300)));
        assert_eq!(
            kept,
            format!("{}…", "x".repeat(252)),
            "an escape is kept whole or not at all"
        );
    }

    #[test]
    fn controls_and_invisible_characters_in_a_client_id_are_escaped_without_ambiguity() {
        assert_eq!(presented_client_id("a\u{1b}[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
        assert_eq!(presented_client_id("a\\u{1b}"), "a\\\\u{1b}");
    }

    proptest! {
        #[test]
        fn a_displayable_is_short_and_of_the_rfc_s_characters(value in any::<String>()) {
            let shown = Displayable::of(&value);
            prop_assert!(shown.as_str().len() <= MAX_DISPLAYABLE_CHARS);
            prop_assert!(shown.as_str().bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)));
            prop_assert_eq!(Displayable::of(shown.as_str()), shown);
        }

        #[test]
        fn a_kept_client_id_is_short_and_has_no_control_character(value in "[\\PC\\x00-\\x20\\\\]{0,400}") {
            let kept = presented_client_id(&value);
            prop_assert!(kept.chars().count() <= MAX_PRESENTED_CLIENT_ID_CHARS);
            prop_assert!(!kept.chars().any(char::is_control));
        }
    }
}
