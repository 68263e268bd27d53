//! Turns a query into a question to the index.

use crate::audit::filter::Expression;
use crate::audit::filter::comparison::{Comparison, Operand, Operator};
use crate::audit::index::plan::{Leaf, Plan, ValueSet};
use crate::audit::index::{Field, Flag, Identifier, TimeWindow};
use crate::audit::query::{AuditQuery, Order};
use serde_json::Number;
use std::ops::Range;
use uuid::Uuid;

/// What the index is asked.
pub(super) struct Question {
    pub plan: Plan,
    /// The parts that the index knows nothing of, as the filter prints them.
    pub unindexed: Vec<String>,
}

impl Question {
    pub fn of(query: &AuditQuery) -> Self {
        let mut unindexed = Vec::new();
        let text = |field, text: &str| Plan::Leaf(Leaf::Values(ValueSet::text(field, Operator::Equal, text)));
        let window = TimeWindow {
            since: query.since.map(|since| since.time().unix_micros()),
            until: query.until.map(|until| until.time().unix_micros()),
        };
        let parts = [
            Some(Plan::Leaf(Leaf::Indexes(wanted(query)))),
            (window != TimeWindow::default()).then_some(Plan::Leaf(Leaf::Times(window))),
            query
                .source_ip
                .map(|network| Plan::Leaf(Leaf::Values(ValueSet::network(network)))),
            query.client_id.as_deref().map(|id| text(Field::ClientId, id)),
            query.event_type.map(|event_type| text(Field::Type, event_type)),
            query.outcome.map(|outcome| text(Field::Outcome, outcome.as_str())),
            query
                .filter
                .as_ref()
                .map(|filter| expression(filter.expression(), &mut unindexed)),
        ];
        Self {
            plan: Plan::All(parts.into_iter().flatten().collect()),
            unindexed,
        }
    }
}

/// The indexes that the query may find.
pub(super) fn wanted(query: &AuditQuery) -> Range<u64> {
    match (query.order, &query.after) {
        (Order::Asc, Some(cursor)) => query.from_index.max(cursor.position)..u64::MAX,
        (Order::Desc, Some(cursor)) => query.from_index..cursor.position,
        (_, None) => query.from_index..u64::MAX,
    }
}

fn expression(filter: &Expression, unindexed: &mut Vec<String>) -> Plan {
    match filter {
        Expression::All(parts) => Plan::All(parts.iter().map(|part| expression(part, unindexed)).collect()),
        Expression::Any(parts) => Plan::Any(parts.iter().map(|part| expression(part, unindexed)).collect()),
        Expression::Not(inner) => expression(inner, unindexed).negate(),
        Expression::Comparison(one) => comparison(one).unwrap_or_else(|| unknown(one.to_string(), unindexed)),
        Expression::Within(..) => unknown(filter.to_string(), unindexed),
    }
}

fn unknown(part: String, unindexed: &mut Vec<String>) -> Plan {
    if !unindexed.contains(&part) {
        unindexed.push(part);
    }
    Plan::Leaf(Leaf::Unknown)
}

/// `None`: the index knows nothing of it.
fn comparison(comparison: &Comparison) -> Option<Plan> {
    match comparison {
        Comparison::Present(attribute) => presence(attribute.name()?),
        Comparison::Compare(attribute, Operator::NotEqual, Operand::Null) => presence(attribute.name()?),
        Comparison::Compare(attribute, _, Operand::Null) => presence(attribute.name()?).map(Plan::negate),
        Comparison::Compare(attribute, Operator::NotEqual, operand) => {
            compare(attribute.name()?, Operator::Equal, operand).map(Plan::negate)
        }
        Comparison::Compare(attribute, operator, operand) => compare(attribute.name()?, *operator, operand),
    }
}

/// Whether there is a value.
fn presence(attribute: &str) -> Option<Plan> {
    let flag = match attribute {
        "index" | "id" | "stream" | "revision" | "type" | "time" | "actor" | "outcome" => {
            return Some(Plan::everything());
        }
        "source.ip" => Flag::HasSource,
        "client_id" => Flag::HasClient,
        "reason" => Flag::HasReason,
        "path" => Flag::HasPath,
        "secret_id" => Flag::HasSecret,
        "jti" => Flag::HasToken,
        "trace_id" => Flag::HasTrace,
        "session_id" => Flag::HasSession,
        _ => return None,
    };
    Some(Plan::Leaf(Leaf::Flag(flag)))
}

/// A comparison with a value; `ne` has been turned round.
fn compare(attribute: &str, operator: Operator, operand: &Operand) -> Option<Plan> {
    let values = |set| Plan::Leaf(Leaf::Values(set));
    let text_of = |field, text: &str| values(ValueSet::text(field, operator, text));
    Some(match (attribute, operand) {
        ("index", Operand::Number(number)) => indexes(operator, number)?,
        ("time", Operand::Time(bound)) => Plan::Leaf(Leaf::Times(window(operator, bound.time().unix_micros())?)),
        ("source.ip", Operand::Network(network)) => values(ValueSet::network(*network)),
        ("source.ip", Operand::Text(text)) => text_of(Field::SourceIp, text),
        ("client_id", Operand::Text(text)) => text_of(Field::ClientId, text),
        ("type", Operand::Text(text)) => text_of(Field::Type, text),
        ("outcome", Operand::Text(text)) => text_of(Field::Outcome, text),
        ("reason", Operand::Text(text)) => text_of(Field::Reason, text),
        ("path", Operand::Text(text)) => text_of(Field::Path, text),
        ("actor", Operand::Text(text)) => Plan::Any(vec![
            text_of(Field::Actor, text),
            Plan::All(vec![
                text_of(Field::ClientId, text),
                Plan::Leaf(Leaf::Flag(Flag::ActorIsClient)),
            ]),
        ]),
        ("trace_id", Operand::Text(text)) if operator == Operator::Equal => {
            Plan::Leaf(Leaf::Identifier(Identifier::of(text.as_bytes())))
        }
        ("secret_id", Operand::Text(text)) if operator == Operator::Equal => match uuid(text) {
            Some(id) => values(ValueSet::exactly(Field::Secret, id.as_bytes())),
            None => Plan::nothing(),
        },
        ("id" | "jti" | "session_id", Operand::Text(text)) if operator == Operator::Equal => match uuid(text) {
            Some(id) => Plan::Leaf(Leaf::Identifier(Identifier::of(id.as_bytes()))),
            None => Plan::nothing(),
        },
        _ => return None,
    })
}

/// The id, if the text is how an event writes it: nothing else is equal to it.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|id| id.to_string() == text)
}

fn window(operator: Operator, micros: i64) -> Option<TimeWindow> {
    let (from, behind) = (Some(micros), Some(micros.saturating_add(1)));
    let (since, until) = match operator {
        Operator::Equal => (from, behind),
        Operator::Greater => (behind, None),
        Operator::GreaterOrEqual => (from, None),
        Operator::Less => (None, from),
        Operator::LessOrEqual => (None, behind),
        _ => return None,
    };
    Some(TimeWindow { since, until })
}

fn indexes(operator: Operator, number: &Number) -> Option<Plan> {
    let (floor, ceiling) = match number.as_i128() {
        Some(number) => (number, number),
        // The cuts keep to the range of the type.
        None => number
            .as_f64()
            .map(|number| (number.floor() as i128, number.ceil() as i128))?,
    };
    let behind = floor.saturating_add(1);
    let (start, end) = match operator {
        Operator::Equal if floor == ceiling => (floor, behind),
        Operator::Equal => return Some(Plan::nothing()),
        Operator::Greater => (behind, i128::MAX),
        Operator::GreaterOrEqual => (ceiling, i128::MAX),
        Operator::Less => (0, ceiling),
        Operator::LessOrEqual => (0, behind),
        _ => return None,
    };
    let index = |number: i128| u64::try_from(number.max(0)).unwrap_or(u64::MAX);
    Some(Plan::Leaf(Leaf::Indexes(index(start)..index(end))))
}
