//! One comparison: an attribute, an operator, a value; checked against each other when it is read, so that it
//! cannot fail when it is answered.

pub(in crate::audit) use super::attribute::Value;

use super::Facts;
use super::attribute::{Attribute, Kind};
use crate::audit::network::Network;
use crate::audit::query::{TimeBound, event_type, time_bound};
use grantlog_projections::values::Timestamp;
use serde_json::{Number, Value as Json};
use std::cmp::Ordering;
use std::fmt;

/// RFC 7644, table 3, but for `pr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) enum Operator {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Operator {
    const ALL: [(&'static str, Self); 9] = [
        ("eq", Self::Equal),
        ("ne", Self::NotEqual),
        ("co", Self::Contains),
        ("sw", Self::StartsWith),
        ("ew", Self::EndsWith),
        ("gt", Self::Greater),
        ("ge", Self::GreaterOrEqual),
        ("lt", Self::Less),
        ("le", Self::LessOrEqual),
    ];

    /// The operator of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, operator)| *operator)
    }

    fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, operator)| *operator == self);
        named.map_or("", |(name, _)| name) // all are named
    }

    fn is_of_parts(self) -> bool {
        matches!(self, Self::Contains | Self::StartsWith | Self::EndsWith)
    }

    fn is_of_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// What an attribute is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) enum Operand {
    Text(String),
    /// A text that is also a time: with another such text it is compared as one.
    TimeText(String, Timestamp),
    Number(Number),
    Bool(bool),
    Time(TimeBound),
    Network(Network),
    Null,
}

/// A literal, as JSON has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Number(Number),
    Bool(bool),
    Null,
}

/// An attribute and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) enum Comparison {
    /// `pr`: it has a value.
    Present(Attribute),
    /// Any of its values compares so.
    Compare(Attribute, Operator, Operand),
}

impl Comparison {
    /// Puts the parts together, or says what fits instead. `now` is what spans are counted back from.
    pub(super) fn new(
        attribute: Attribute,
        operator: Operator,
        literal: Literal,
        now: Timestamp,
    ) -> Result<Self, String> {
        let operand = operand(&attribute, operator, literal, now)?;
        Ok(Self::Compare(attribute, operator, operand))
    }

    /// Whether it holds for the event. `ne` is the opposite of `eq`: it holds where there is no value at all,
    /// and of several values none may be equal.
    pub(super) fn matches(&self, event: &Facts<'_>) -> bool {
        match self {
            Self::Present(attribute) => attribute.any(event, &mut |value| value.is_present()),
            Self::Compare(attribute, Operator::Equal, Operand::Null) => {
                !attribute.any(event, &mut |value| value.is_present())
            }
            Self::Compare(attribute, Operator::NotEqual, Operand::Null) => {
                attribute.any(event, &mut |value| value.is_present())
            }
            Self::Compare(attribute, Operator::NotEqual, operand) => {
                !attribute.any(event, &mut |value| holds(&value, Operator::Equal, operand))
            }
            Self::Compare(attribute, operator, operand) => {
                attribute.any(event, &mut |value| holds(&value, *operator, operand))
            }
        }
    }

    /// The time that it compares with.
    pub fn time(&self) -> Option<TimeBound> {
        match self {
            Self::Compare(_, _, Operand::Time(bound)) => Some(*bound),
            _ => None,
        }
    }

    pub(super) fn time_mut(&mut self) -> Option<&mut TimeBound> {
        match self {
            Self::Compare(_, _, Operand::Time(bound)) => Some(bound),
            _ => None,
        }
    }
}

/// Whether one value compares so. Of different kinds none does.
pub(in crate::audit) fn holds(value: &Value<'_>, operator: Operator, operand: &Operand) -> bool {
    match (value, operand) {
        (Value::Text(value), Operand::Text(text)) => text_holds(value, operator, text),
        (Value::Text(value), Operand::TimeText(text, time)) => match Timestamp::parse(value) {
            Ok(value) if !operator.is_of_parts() => fits(value.cmp(time), operator),
            _ => text_holds(value, operator, text),
        },
        (Value::Number(value), Operand::Number(number)) => {
            compare(value, number).is_some_and(|order| fits(order, operator))
        }
        (Value::Bool(value), Operand::Bool(bool)) => operator == Operator::Equal && value == bool,
        (Value::Time(value), Operand::Time(bound)) => fits(value.cmp(&bound.time()), operator),
        (Value::Address(value), Operand::Network(network)) => operator == Operator::Equal && network.contains(*value),
        (Value::Address(value), Operand::Text(text)) => text_holds(&value.to_canonical().to_string(), operator, text),
        _ => false,
    }
}

fn text_holds(value: &str, operator: Operator, text: &str) -> bool {
    match operator {
        Operator::Contains => value.contains(text),
        Operator::StartsWith => value.starts_with(text),
        Operator::EndsWith => value.ends_with(text),
        _ => fits(value.cmp(text), operator),
    }
}

fn fits(order: Ordering, operator: Operator) -> bool {
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith => false,
    }
}

/// Whole numbers exactly, others as nearly as 64 bits have them.
fn compare(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

/// The value that the attribute is compared with, if such a comparison makes sense.
fn operand(attribute: &Attribute, operator: Operator, literal: Literal, now: Timestamp) -> Result<Operand, String> {
    let (kind, name) = (attribute.kind(), operator.name());
    if literal == Literal::Null {
        return match operator.is_of_equality() {
            true => Ok(Operand::Null),
            false => Err(format!("`{name}` needs a value: only eq and ne compare with null")),
        };
    }
    match (kind, literal) {
        (Kind::Complex, _) => Err(format!(
            "{attribute} has parts, and only pr asks for it: compare one of them, as in source.ip or data.suppressed"
        )),
        (Kind::Any, Literal::Bool(value)) => match operator.is_of_equality() {
            true => Ok(Operand::Bool(value)),
            false => Err(format!("`{name}` cannot compare with true or false: eq and ne can")), // RFC 7644, table 3
        },
        (Kind::Any, Literal::Number(_)) if operator.is_of_parts() => {
            Err(format!("`{name}` compares text: put the value in double quotes"))
        }
        (Kind::Number, _) if operator.is_of_parts() => Err(format!(
            "{attribute} is a number, and `{name}` compares text: use eq, gt, ge, lt or le"
        )),
        (Kind::Any | Kind::Number, Literal::Number(number)) => Ok(Operand::Number(number)),
        (Kind::Number, _) => Err(format!("{attribute} is a number: write digits without quotes")),
        (Kind::Any, Literal::Text(text)) => Ok(match Timestamp::parse(&text) {
            Ok(time) => Operand::TimeText(text, time),
            Err(_) => Operand::Text(text),
        }),
        (_, Literal::Number(_) | Literal::Bool(_)) => {
            Err(format!("{attribute} is text: put the value in double quotes"))
        }
        (Kind::Text, Literal::Text(text)) => Ok(Operand::Text(text)),
        (Kind::Id, Literal::Text(text)) => Ok(Operand::Text(text.to_ascii_lowercase())),
        (Kind::Type, Literal::Text(text)) if operator.is_of_equality() => match event_type(&text) {
            Ok(known) => Ok(Operand::Text(known.into())),
            Err(message) => Err(format!("this {message}")),
        },
        (Kind::Outcome, Literal::Text(text))
            if operator.is_of_equality() && !["success", "refused"].contains(&text.as_str()) =>
        {
            Err("outcome is \"success\" or \"refused\"".into())
        }
        (Kind::Type | Kind::Outcome, Literal::Text(text)) => Ok(Operand::Text(text)),
        (Kind::Time, Literal::Text(_)) if operator.is_of_parts() => Err(format!(
            "{attribute} is a point in time, and `{name}` compares text: use ge and lt"
        )),
        (Kind::Time, Literal::Text(text)) => time_bound(&text, now).map(Operand::Time),
        (Kind::Address, Literal::Text(text)) if operator.is_of_equality() => Network::parse(&text)
            .map(Operand::Network)
            .ok_or_else(|| "must be an IPv4 or IPv6 address, or a network such as \"10.0.0.0/8\"".into()),
        (Kind::Address, Literal::Text(text)) if operator.is_of_parts() => Ok(Operand::Text(text.to_ascii_lowercase())),
        (Kind::Address, Literal::Text(_)) => Err(format!(
            "addresses have no order, so `{name}` cannot compare them: use eq with a network such as \"10.0.0.0/8\""
        )),
        // Dealt with first.
        (_, Literal::Null) => Ok(Operand::Null),
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::TimeText(text, _) => write!(f, "{}", Json::String(text.clone())),
            Self::Number(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Time(TimeBound::At(time)) => write!(f, "\"{time}\""),
            Self::Time(TimeBound::Ago { seconds, .. }) => write!(f, "\"{seconds}s\""),
            Self::Network(network) => write!(f, "\"{network}\""),
            Self::Null => f.write_str("null"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(attribute) => write!(f, "{attribute} pr"),
            Self::Compare(attribute, operator, operand) => write!(f, "{attribute} {} {operand}", operator.name()),
        }
    }
}
