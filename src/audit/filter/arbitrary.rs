//! Filters for property tests: as people write them, about the events of `various_events`, so that they find
//! some.

use super::Filter;
use crate::audit::memory_log::{ADDRESSES, CLIENTS};
use crate::audit::various_events::{self, BEGIN as NOW, IDS, TRACES};
use grantlog_projections::Event;
use grantlog_projections::values::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value as Json;

/// Filters of a few comparisons, whose spans are counted back from when those events begin.
pub fn filters() -> impl Strategy<Value = Filter> {
    texts().prop_map(|text| {
        let now = Timestamp::from_unix_micros(NOW);
        Filter::parse(&text, now).unwrap_or_else(|error| panic!("{text}: {error}"))
    })
}

/// The same as they are written.
pub fn texts() -> impl Strategy<Value = String> {
    comparison().prop_recursive(4, 24, 4, |inner| {
        let several = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several.clone().prop_map(|parts| format!("({})", parts.join(" and "))),
            several.prop_map(|parts| format!("({})", parts.join(" or "))),
            inner.prop_map(|inner| format!("not ({inner})")),
        ]
    })
}

fn comparison() -> impl Strategy<Value = String> {
    let text_operator = select(vec!["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"]);
    let order = select(vec!["eq", "ne", "gt", "ge", "lt", "le"]);
    let equality = select(vec!["eq", "ne"]);
    prop_oneof![
        3 => (text_attribute(), text_operator.clone(), text_value())
            .prop_map(|(attribute, operator, value)| format!("{attribute} {operator} {value}")),
        2 => (select(vec!["client_id", "actor"]), text_operator, client())
            .prop_map(|(attribute, operator, value)| format!("{attribute} {operator} {value}")),
        2 => (equality.clone(), select(Event::TYPES.to_vec()))
            .prop_map(|(operator, name)| format!("type {operator} \"{name}\"")),
        2 => (equality.clone(), select(vec!["success", "refused"]))
            .prop_map(|(operator, outcome)| format!("outcome {operator} \"{outcome}\"")),
        2 => (equality.clone(), network()).prop_map(|(operator, network)| format!("source_ip {operator} \"{network}\"")),
        1 => (select(vec!["sw", "co", "ew"]), select(vec!["192.", "2001:db8", ".7", "0"]))
            .prop_map(|(operator, part)| format!("source.ip {operator} \"{part}\"")),
        2 => (order.clone(), 0..100_u64).prop_map(|(operator, index)| format!("index {operator} {index}")),
        2 => (order.clone(), -40..2_000_i64).prop_map(|(operator, micros)| {
            format!("time {operator} \"{}\"", Timestamp::from_unix_micros(NOW + micros))
        }),
        1 => (order.clone(), select(vec!["0s", "1m"])).prop_map(|(operator, span)| format!("time {operator} \"{span}\"")),
        1 => (order, select(vec!["data.suppressed", "data.window_seconds", "revision", "report.status"]), 0..90_u64)
            .prop_map(|(operator, attribute, number)| format!("{attribute} {operator} {number}")),
        1 => (equality, attribute()).prop_map(|(operator, attribute)| format!("{attribute} {operator} null")),
        1 => attribute().prop_map(|attribute| format!("{attribute} pr")),
        1 => value_path(),
    ]
}

fn value_path() -> impl Strategy<Value = String> {
    let text = |parts: Vec<&'static str>| {
        let operators = select(vec!["eq", "ne", "co", "sw", "gt"]);
        (select(parts), operators, text_value())
            .prop_map(|(part, operator, value)| format!("{part} {operator} {value}"))
    };
    let number = |part: &'static str| (0..600_u64).prop_map(move |number| format!("{part} ge {number}"));
    let time = |part: &'static str| select(vec!["0s", "1h"]).prop_map(move |span| format!("{part} lt \"{span}\""));
    let present = |parts: Vec<&'static str>| select(parts).prop_map(|part| format!("{part} pr"));
    let change = prop_oneof![
        text(vec!["field", "from", "to"]),
        number("to"),
        present(vec!["field", "from", "to"])
    ];
    let secret = prop_oneof![
        text(vec!["id", "accepted_until"]),
        present(vec!["id", "accepted_until"])
    ];
    let report = prop_oneof![
        text(vec!["id"]),
        number("status"),
        time("time"),
        present(vec!["id", "source.ip"])
    ];
    prop_oneof![
        (select(vec!["changes", "data.changes"]), conditions(change)),
        (select(vec!["data.superseded", "data.secret"]), conditions(secret)),
        (select(vec!["report", "data.report"]), conditions(report)),
    ]
    .prop_map(|(objects, conditions)| format!("{objects}[{conditions}]"))
}

fn conditions(of_one: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = String> {
    of_one.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} and {other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} or {other})")),
            inner.prop_map(|inner| format!("not ({inner})")),
        ]
    })
}

fn text_attribute() -> impl Strategy<Value = &'static str> {
    select(vec![
        "reason",
        "path",
        "jti",
        "secret_id",
        "session_id",
        "trace_id",
        "id",
        "scope",
        "audience",
        "error",
        "stream",
        "user_agent",
        "token_kind",
        "report.id",
        "data.jti",
        "data.application_uri",
        "data.dialect",
    ])
}

fn attribute() -> impl Strategy<Value = &'static str> {
    select(vec![
        "index",
        "time",
        "type",
        "client_id",
        "actor",
        "source.ip",
        "trace_id",
        "reason",
        "jti",
        "secret_id",
        "path",
        "session_id",
        "outcome",
        "user_agent",
        "report.time",
        "data.suppressed",
        "data.secret",
        "data",
        "source",
        "changes",
        "report",
    ])
}

fn client() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(CLIENTS.to_vec()).prop_map(str::to_owned),
        1 => select(vec!["", "o", "b", "ill", "s", "anonymous", "system", "ü"]).prop_map(str::to_owned),
    ]
    .prop_map(quoted)
}

fn text_value() -> impl Strategy<Value = String> {
    let words = [
        "",
        "a",
        "r",
        "read",
        "update",
        "unknown_client",
        "secret_",
        "SIG",
        "insufficient_scope",
        "/",
        "/admin/appl",
        "/api/domain/odata/Crm_Sales_Customers",
        "Customers(1)",
        "because",
        " one",
        "https://api.example",
        "2026-03-16T09:30:00Z",
        "0190163d-0000-7000-8000-000000000003",
        "0190163d",
    ];
    let lists = [
        words.map(str::to_owned).to_vec(),
        IDS.map(str::to_owned).to_vec(),
        TRACES.map(str::to_owned).to_vec(),
        various_events::paths().to_vec(),
        various_events::reasons().to_vec(),
    ];
    prop_oneof![
        8 => select(lists.concat()),
        1 => ".{0,6}".prop_map(|text| text),
    ]
    .prop_map(quoted)
}

fn network() -> impl Strategy<Value = String> {
    prop_oneof![
        select(ADDRESSES.to_vec()).prop_map(str::to_owned),
        (select(ADDRESSES[2..].to_vec()), 0..=32_u8).prop_map(|(address, prefix)| format!("{address}/{prefix}")),
        select(vec!["0.0.0.0/0", "::/0", "::ffff:0:0/96", "10.0.0.0/8"]).prop_map(str::to_owned),
    ]
}

fn quoted(text: String) -> String {
    Json::String(text).to_string()
}
