//! Fields of a JSON body and query parameters, taken one by one: what is left over is an error that
//! names it.

use grantlog_projections::values::{InvalidValue, Remark};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A field or parameter that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// Its name, as the caller wrote it.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl InvalidField {
    /// What is wrong with a field.
    pub fn new(field: impl Into<String>, message: impl ToString) -> Self {
        Self {
            field: field.into(),
            message: message.to_string(),
        }
    }
}

/// The members of a JSON object that nobody has taken yet.
pub struct Fields {
    members: Map<String, Value>,
    asked: Vec<&'static str>,
}

impl Fields {
    /// All members of the object.
    pub fn new(members: Map<String, Value>) -> Self {
        Self {
            members,
            asked: Vec::new(),
        }
    }

    /// A member; `Some(None)` when it is null.
    pub fn optional<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<Option<T>>, InvalidField> {
        self.asked.push(name);
        match self.members.remove(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => serde_json::from_value(value)
                .map(|value| Some(Some(value)))
                .map_err(|_| InvalidField::new(name, format!("must be {expected}"))),
        }
    }

    /// A member that may be left out, but not null.
    pub fn value<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, InvalidField> {
        match self.optional(name, expected)? {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(InvalidField::new(name, format!("must be {expected}, not null"))),
        }
    }

    /// A text that becomes a value; `Some(None)` when it is null.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: fn(&str) -> Result<T, InvalidValue>,
    ) -> Result<Option<Option<T>>, InvalidField> {
        match self.optional::<String>(name, "a text")? {
            None => Ok(None),
            Some(None) => Ok(Some(None)),
            Some(Some(text)) => match parse(&text) {
                Ok(value) => Ok(Some(Some(value))),
                Err(invalid) => Err(InvalidField::new(name, format!("must be {}", invalid.rule))),
            },
        }
    }

    /// A text that becomes a value and may be left out, but not null.
    pub fn parsed_value<T>(
        &mut self,
        name: &'static str,
        parse: fn(&str) -> Result<T, InvalidValue>,
    ) -> Result<Option<T>, InvalidField> {
        match self.parsed(name, parse)? {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(InvalidField::new(name, "must not be null")),
        }
    }

    /// Texts that become values.
    pub fn parsed_list<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, InvalidField> {
        let Some(texts) = self.value::<Vec<String>>(name, "a list of texts")? else {
            return Ok(None);
        };
        texts
            .iter()
            .enumerate()
            .map(|(position, text)| {
                parse(text).map_err(|message| InvalidField::new(format!("{name}[{position}]"), message))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The reason that a caller may give for a change.
    pub fn reason(&mut self) -> Result<Option<Remark>, InvalidField> {
        Ok(self
            .parsed("reason", Remark::parse)?
            .flatten()
            .filter(|reason| !reason.as_str().is_empty()))
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), InvalidField> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(unknown) => {
                let known = self.asked.join(", ");
                Err(InvalidField::new(
                    cut(unknown),
                    format!("there is no such field; there are: {known}"),
                ))
            }
        }
    }
}

/// The parameters of a query string that nobody has taken yet.
pub struct Parameters {
    pairs: Vec<(String, String)>,
    asked: Vec<&'static str>,
}

/// Parameters in one query string.
const MAX_PARAMETERS: usize = 64;

impl Parameters {
    /// Reads a query string; a parameter may be there once.
    pub fn parse(query: &str) -> Result<Self, InvalidField> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if pairs.len() >= MAX_PARAMETERS {
                return Err(InvalidField::new(
                    cut(&name),
                    format!("there may be {MAX_PARAMETERS} parameters"),
                ));
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(InvalidField::new(cut(&name), "may be given once"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self {
            pairs,
            asked: Vec::new(),
        })
    }

    /// A parameter; an empty one counts as left out.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        self.asked.push(name);
        let position = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.swap_remove(position).1).filter(|value| !value.is_empty())
    }

    /// A parameter that is read by its type's own rules.
    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, InvalidField> {
        self.take(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| InvalidField::new(name, format!("must be {expected}")))
            })
            .transpose()
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), InvalidField> {
        match self.pairs.first() {
            None => Ok(()),
            Some((unknown, _)) => {
                let message = match self.asked.as_slice() {
                    [] => "there is no such parameter; there are none".to_owned(),
                    known => format!("there is no such parameter; there are: {}", known.join(", ")),
                };
                Err(InvalidField::new(cut(unknown), message))
            }
        }
    }
}

/// A name from outside, fit for an answer.
pub(super) fn cut(name: &str) -> String {
    name.chars().filter(|char| !char.is_control()).take(64).collect()
}
