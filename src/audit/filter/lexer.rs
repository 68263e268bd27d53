//! A filter's text as tokens, each with the column where it begins.

use super::InvalidFilter;

/// A piece of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name, an operator, a number: what is not in quotes.
    Word(&'a str),
    /// What a JSON string holds.
    Text(String),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// Signs that no filter has.
    Other(&'a str),
}

/// A token and where it begins: 1 is the first character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed<'a> {
    pub token: Token<'a>,
    pub column: usize,
}

/// Cuts a filter into tokens. Any white space separates them, not only the one space of RFC 7644's grammar.
pub(super) fn tokens(filter: &str) -> Result<Vec<Placed<'_>>, InvalidFilter> {
    let mut tokens = Vec::new();
    let (mut rest, mut column) = (filter, 1);
    while let Some(first) = rest.chars().next() {
        let (length, token) = match first {
            _ if first.is_ascii_whitespace() => (1, None),
            '(' => (1, Some(Token::Open)),
            ')' => (1, Some(Token::Close)),
            '[' => (1, Some(Token::OpenBracket)),
            ']' => (1, Some(Token::CloseBracket)),
            '"' => {
                let (length, text) = text(rest, column)?;
                (length, Some(Token::Text(text)))
            }
            _ if is_of_word(first) => {
                let length = rest.find(|char| !is_of_word(char)).unwrap_or(rest.len());
                (length, Some(Token::Word(rest.get(..length).unwrap_or(rest))))
            }
            _ => {
                let ends = |char: char| is_of_word(char) || char.is_ascii_whitespace() || "()[]\"".contains(char);
                let length = rest.find(ends).unwrap_or(rest.len());
                (length, Some(Token::Other(rest.get(..length).unwrap_or(rest))))
            }
        };
        if let Some(token) = token {
            tokens.push(Placed { token, column });
        }
        // `length` lies between two characters: it is that of ASCII, or what `find` has found.
        let (taken, next) = rest.split_at(length);
        column += taken.chars().count();
        rest = next;
    }
    Ok(tokens)
}

/// What names, numbers, and values whose quotes were forgotten, consist of.
fn is_of_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || "_-.:/+$@~".contains(char)
}

/// The JSON string that the rest begins with (RFC 8259 §7): how many bytes it takes, and what it holds.
fn text(rest: &str, column: usize) -> Result<(usize, String), InvalidFilter> {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, char)| match char {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = true;
            false
        }
        char => *char == '"',
    });
    let Some((end, _)) = end else {
        return Err(InvalidFilter::at(
            column,
            "the text that begins here has no closing quote",
        ));
    };
    let length = end + 1; // the quote is one byte
    match serde_json::from_str(rest.get(..length).unwrap_or(rest)) {
        Ok(text) => Ok((length, text)),
        Err(_) => Err(InvalidFilter::at(
            column,
            "the text that begins here is no JSON string: escape control characters, and `\\` as `\\\\`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_know_their_column_in_characters() {
        let found = tokens("(reason\teq \"ü\\\"ö\")==>").unwrap();
        let expected = [
            (1, Token::Open),
            (2, Token::Word("reason")),
            (9, Token::Word("eq")),
            (12, Token::Text("ü\"ö".into())),
            (18, Token::Close),
            (19, Token::Other("==>")),
        ];
        let expected = expected.map(|(column, token)| Placed { token, column });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_text_that_does_not_end_or_is_no_json_is_told_by_where_it_begins() {
        for bad in [
            r#"a eq "x"#,
            r#"a eq "x\""#,
            r#"a eq "\x""#,
            "a eq \"\u{7}\"",
            r#"a eq ""#,
        ] {
            assert_eq!(tokens(bad).unwrap_err().column, 6, "{bad:?}");
        }
    }
}
