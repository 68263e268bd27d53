//! Text from elsewhere on its way to a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with every control, invisible and direction-changing character as `\u{…}`: a name or a user
/// agent in the audit trail is an attacker's to choose, and must not move the cursor, recolour a
/// refusal, or make two client ids look alike.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_hostile(char) {
            shown.extend(char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// A JSON document on one line that says the same, but harms no terminal either: JSON itself escapes
/// only the controls below U+0020. Elsewhere than in strings such characters cannot occur.
pub fn printable_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for char in document.chars() {
        match char {
            // Between tokens only: in a string they are escaped (RFC 8259 §7).
            '\n' | '\r' | '\t' => {}
            char if is_hostile(char) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
            char => shown.push(char),
        }
    }
    shown
}

/// Controls (Cc), format characters (Cf), and the line and paragraph separators.
fn is_hostile(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_controls_and_tricks_with_direction_and_visibility() {
        assert_eq!(
            printable("a\u{1b}[31mb\r\n\u{9b}2J\u{7f}"),
            r"a\u{1b}[31mb\u{d}\u{a}\u{9b}2J\u{7f}"
        );
        assert_eq!(
            printable("svc\u{202e}nimda\u{200b}\u{e0041}"),
            r"svc\u{202e}nimda\u{200b}\u{e0041}"
        );
    }

    #[test]
    fn leaves_what_people_write() {
        for text in [
            "my.trusted.app/service",
            "Zahlungen für Köln",
            "支払い",
            "naïve — “quoted” \\ back",
            "👍🏽",
        ] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn a_json_document_keeps_its_meaning_on_one_line() {
        let document = "{\n\t\"a\": \"\u{9b}2J\u{202e}\u{e0041}\",\r\n \"b\": \"x y\\n\"}";
        let shown = printable_json(document);
        assert_eq!(shown, r#"{"a": "\u009b2J\u202e\udb40\udc41", "b": "x y\n"}"#);
        let (before, after): (serde_json::Value, serde_json::Value) = (
            serde_json::from_str(document).unwrap(),
            serde_json::from_str(&shown).unwrap(),
        );
        assert_eq!(before, after);
    }

    proptest! {
        #[test]
        fn nothing_hostile_gets_through(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(is_hostile));
            let document = serde_json::to_string_pretty(&serde_json::json!({ "text": text, "list": [text] })).unwrap();
            let shown = printable_json(&document);
            prop_assert!(!shown.chars().any(is_hostile));
            prop_assert_eq!(
                serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
                serde_json::from_str::<serde_json::Value>(&document).unwrap()
            );
        }
    }
}
