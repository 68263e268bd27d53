//! Reads a filter: RFC 7644 §3.4.2.2, where `not` binds closest, then `and`, then `or`.

use super::attribute::{Attribute, Path};
use super::comparison::{Comparison, Literal, Operator};
use super::lexer::{Placed, Token, tokens};
use super::{Expression, InvalidFilter, MAX_COMPARISONS, MAX_FILTER_CHARS, MAX_NESTING};
use grantlog_projections::values::Timestamp;
use serde_json::Number;

/// Characters of a filter that an error repeats.
const SHOWN: usize = 40;

/// The expression that the text is. `now` is what spans back are counted from.
pub(super) fn parse(filter: &str, now: Timestamp) -> Result<Expression, InvalidFilter> {
    if filter.chars().nth(MAX_FILTER_CHARS).is_some() {
        let message = format!("a filter may have {MAX_FILTER_CHARS} characters");
        return Err(InvalidFilter::at(MAX_FILTER_CHARS + 1, message));
    }
    let mut parser = Parser {
        tokens: tokens(filter)?.into_iter().peekable(),
        end: filter.chars().count() + 1,
        comparisons: 0,
        within: None,
        now,
    };
    let expression = parser.any(0)?;
    match parser.tokens.next() {
        None => Ok(expression),
        Some(Placed {
            token: Token::Close,
            column,
        }) => Err(InvalidFilter::at(column, "this `)` has no `(` before it")),
        Some(Placed {
            token: Token::CloseBracket,
            column,
        }) => Err(InvalidFilter::at(column, "this `]` has no `[` before it")),
        Some(found) => Err(expected("and, or, or the end of the filter", Some(&found), parser.end)),
    }
}

struct Parser<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed<'a>>>,
    /// The column behind the last character.
    end: usize,
    comparisons: usize,
    /// The objects whose attributes are named between brackets, when it reads there.
    within: Option<Path>,
    now: Timestamp,
}

impl Parser<'_> {
    /// What is joined by `or`.
    fn any(&mut self, depth: usize) -> Result<Expression, InvalidFilter> {
        let mut parts = vec![self.all(depth)?];
        while self.take_word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(Expression::any(parts))
    }

    /// What is joined by `and`.
    fn all(&mut self, depth: usize) -> Result<Expression, InvalidFilter> {
        let mut parts = vec![self.one(depth)?];
        while self.take_word("and") {
            parts.push(self.one(depth)?);
        }
        Ok(Expression::all(parts))
    }

    /// A comparison, a group, or the opposite of a group.
    fn one(&mut self, depth: usize) -> Result<Expression, InvalidFilter> {
        if self.take_word("not") {
            let opened = self.tokens.next();
            return match opened {
                Some(Placed {
                    token: Token::Open,
                    column,
                }) => self.group(column, depth).map(Expression::not),
                other => Err(expected("`(` after not, as in not (a eq 1)", other.as_ref(), self.end)),
            };
        }
        let Some(found) = self.tokens.next() else {
            return Err(expected(self.an_attribute(), None, self.end));
        };
        match found.token {
            Token::Open => self.group(found.column, depth),
            Token::Word(name) if !is_keyword(name) => match self.tokens.peek() {
                Some(Placed {
                    token: Token::OpenBracket,
                    column,
                }) => {
                    let bracket = *column;
                    self.value_path(name, found.column, bracket, depth)
                }
                _ => self.comparison(name, found.column),
            },
            _ => Err(expected(self.an_attribute(), Some(&found), self.end)),
        }
    }

    fn an_attribute(&self) -> &'static str {
        match &self.within {
            Some(_) => "an attribute of the object, such as field",
            None => "an attribute such as client_id",
        }
    }

    /// What is between parentheses, and the closing one.
    fn group(&mut self, column: usize, depth: usize) -> Result<Expression, InvalidFilter> {
        let inner = self.nested(column, depth)?;
        match self.tokens.next() {
            Some(Placed {
                token: Token::Close, ..
            }) => Ok(inner),
            None => Err(InvalidFilter::at(column, "this `(` has no `)` behind it")),
            other => Err(expected("and, or, or `)`", other.as_ref(), self.end)),
        }
    }

    /// What is between brackets, and the closing one (RFC 7644 §3.4.2.2, `valuePath`).
    fn value_path(
        &mut self,
        name: &str,
        column: usize,
        bracket: usize,
        depth: usize,
    ) -> Result<Expression, InvalidFilter> {
        if self.within.is_some() {
            let message = "brackets stand in no other brackets: write the names with a dot between them";
            return Err(InvalidFilter::at(bracket, message));
        }
        let path = Path::of_objects(name).map_err(|message| not_so(name, column, &message))?;
        self.tokens.next();
        self.within = Some(path.clone());
        let inner = self.nested(bracket, depth)?;
        self.within = None;
        match self.tokens.next() {
            Some(Placed {
                token: Token::CloseBracket,
                ..
            }) => Ok(Expression::Within(path, Box::new(inner))),
            None => Err(InvalidFilter::at(bracket, "this `[` has no `]` behind it")),
            other => Err(expected("and, or, or `]`", other.as_ref(), self.end)),
        }
    }

    fn nested(&mut self, column: usize, depth: usize) -> Result<Expression, InvalidFilter> {
        if depth == MAX_NESTING {
            return Err(InvalidFilter::at(
                column,
                format!("groups may be nested {MAX_NESTING} deep"),
            ));
        }
        self.any(depth + 1)
    }

    fn comparison(&mut self, name: &str, column: usize) -> Result<Expression, InvalidFilter> {
        if self.comparisons == MAX_COMPARISONS {
            let message = format!("a filter may have {MAX_COMPARISONS} comparisons");
            return Err(InvalidFilter::at(column, message));
        }
        self.comparisons += 1;
        let attribute = match &self.within {
            Some(objects) => Attribute::parse_element(objects, name),
            None => Attribute::parse(name),
        };
        let attribute = attribute.map_err(|message| not_so(name, column, &message))?;
        const OPERATORS: &str = "an operator such as eq";
        let found = self.tokens.next();
        let operator = match &found {
            Some(Placed {
                token: Token::Word(word),
                ..
            }) if word.eq_ignore_ascii_case("pr") => return Ok(Expression::Comparison(Comparison::Present(attribute))),
            Some(Placed {
                token: Token::Word(word),
                ..
            }) => Operator::parse(word).ok_or_else(|| expected(OPERATORS, found.as_ref(), self.end))?,
            Some(Placed {
                token: Token::Other(signs),
                column,
            }) => return Err(InvalidFilter::at(*column, not_an_operator(signs))),
            _ => return Err(expected(OPERATORS, found.as_ref(), self.end)),
        };
        let found = self.tokens.next();
        let column = found.as_ref().map_or(self.end, |found| found.column);
        let literal = match found {
            Some(Placed {
                token: Token::Text(text),
                ..
            }) => Literal::Text(text),
            // RFC 7644: true, false and null as in JSON, so in lower case.
            Some(Placed {
                token: Token::Word(word),
                ..
            }) => match serde_json::from_str(word) {
                Ok(serde_json::Value::Null) => Literal::Null,
                Ok(serde_json::Value::Bool(value)) => Literal::Bool(value),
                Ok(serde_json::Value::Number(number)) => Literal::Number(nearest(number, word)),
                _ => {
                    let message = format!("expected a value, found {}: put text in double quotes", shown(word));
                    return Err(InvalidFilter::at(column, message));
                }
            },
            other => {
                let wanted = "a value: text in double quotes, a number, true, false or null";
                return Err(expected(wanted, other.as_ref(), self.end));
            }
        };
        Comparison::new(attribute, operator, literal, self.now)
            .map(Expression::Comparison)
            .map_err(|message| InvalidFilter::at(column, message))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_it = |found: &Placed<'_>| matches!(found.token, Token::Word(found) if found.eq_ignore_ascii_case(word));
        self.tokens.next_if(is_it).is_some()
    }
}

/// serde_json reads a fraction almost: the last digit of what it prints may come back as another.
fn nearest(number: Number, word: &str) -> Number {
    match (number.is_f64(), word.parse().map(Number::from_f64)) {
        (true, Ok(Some(nearest))) => nearest,
        _ => number,
    }
}

fn not_so(name: &str, column: usize, message: &str) -> InvalidFilter {
    InvalidFilter::at(column, format!("{} {message}", shown(name)))
}

fn is_keyword(word: &str) -> bool {
    ["and", "or", "not"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(word))
}

fn expected(wanted: &str, found: Option<&Placed<'_>>, end: usize) -> InvalidFilter {
    let Some(Placed { token, column }) = found else {
        return InvalidFilter::at(end, format!("expected {wanted}, found the end of the filter"));
    };
    let found = match token {
        Token::Word(text) | Token::Other(text) => shown(text),
        Token::Text(text) => format!("the text {}", shown(text)),
        Token::Open => "`(`".into(),
        Token::Close => "`)`".into(),
        Token::OpenBracket => "`[`".into(),
        Token::CloseBracket => "`]`".into(),
    };
    let hint = match token {
        Token::Other(signs) if signs.starts_with('\'') => " (text stands in double quotes)",
        Token::Other("&" | "&&") => " (write and)",
        Token::Other("|" | "||" | ",") => " (write or)",
        Token::Other("!") => " (write not)",
        _ => "",
    };
    InvalidFilter::at(*column, format!("expected {wanted}, found {found}{hint}"))
}

/// What people write who know another language.
fn not_an_operator(signs: &str) -> String {
    let instead = match signs {
        "=" | "==" | "===" | ":" => "eq",
        "!=" | "<>" | "!==" => "ne",
        "=~" | "~" => "co",
        ">" => "gt",
        ">=" => "ge",
        "<" => "lt",
        "<=" => "le",
        _ => return format!("expected an operator such as eq, found {}", shown(signs)),
    };
    format!("expected an operator such as {instead}, found {}", shown(signs))
}

/// Text from outside, cut, and fit for an answer and a log line.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    let more = if text.chars().count() > SHOWN { "…" } else { "" };
    format!("`{cut}{more}`")
}
