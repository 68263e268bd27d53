//! Values from outside, fit to be shown: nothing in them moves a cursor, breaks a line or turns the direction of what
//! follows.

use std::borrow::Cow;

/// The text on one line; what is not to be seen in it is escaped.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '\n' => shown.push_str(" / "),
            unseen if is_unseen(unseen) => shown.extend(unseen.escape_unicode()),
            char => shown.push(char),
        }
    }
    Cow::Owned(shown)
}

/// Control characters, line separators, and what Unicode has for the direction of text (UAX #9 §2).
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
