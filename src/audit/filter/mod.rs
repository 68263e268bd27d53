//! A filter: which events are wanted, as a SCIM filter expression (RFC 7644 §3.4.2.2). What it may say is in
//! `docs/search.md`.
//!
//! `lexer` and `parser` read it, `attribute` is what it can speak of, `comparison` is one condition. How the
//! index answers it is `audit::search`'s business; [`Filter::matches`] is what every answer must agree with.

mod lexer;

mod parser;

pub(in crate::audit) mod attribute;

pub(in crate::audit) mod comparison;

use crate::audit::AuditEvent;
use crate::audit::query::TimeBound;
use attribute::Path;
use comparison::Comparison;
use grantlog_projections::values::Timestamp;
use serde_json::Value as Json;
use std::cell::OnceCell;
use std::fmt;

/// Characters of a filter.
pub const MAX_FILTER_CHARS: usize = 4_096;
/// How deep groups may be nested.
pub const MAX_NESTING: usize = 32;
/// Comparisons in one filter.
pub const MAX_COMPARISONS: usize = 128;

/// Which events are wanted. Its text is the canonical form of what was given: reading it again gives the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    expression: Expression,
}

/// Why a text is not a filter. It may be shown to the caller: what it repeats of the text is cut and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct InvalidFilter {
    /// Where: 1 is the first character.
    pub column: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl InvalidFilter {
    fn at(column: usize, message: impl Into<String>) -> Self {
        Self {
            column,
            message: message.into(),
        }
    }
}

/// A filter's structure. No `All` is directly in an `All`, no `Any` in an `Any`, and each has two parts at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Comparison(Comparison),
    /// A value path: one of the objects at a path of the fact fulfils all of it.
    Within(Path, Box<Self>),
}

impl Filter {
    /// Reads a filter expression. `now` is what a span such as `24h` is counted back from.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, InvalidFilter> {
        parser::parse(text, now).map(|expression| Self { expression })
    }

    /// Whether the event is one of those that are wanted.
    pub fn matches(&self, event: &AuditEvent) -> bool {
        self.expression.matches(&Facts::of(event))
    }

    pub(in crate::audit) fn expression(&self) -> &Expression {
        &self.expression
    }

    /// What spans back are counted from, when it has one.
    pub(in crate::audit) fn counted_from(&self) -> Option<Timestamp> {
        self.expression.counted_from()
    }

    /// The same with its spans counted back from another time.
    pub(in crate::audit) fn counted_back_from(mut self, now: Timestamp) -> Self {
        self.expression
            .times(&mut |bound| *bound = bound.counted_back_from(now));
        self
    }
}

impl Expression {
    fn all(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::All(parts) => parts,
            other => vec![other],
        });
        one_or(flat.collect(), Self::All)
    }

    fn any(parts: Vec<Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::Any(parts) => parts,
            other => vec![other],
        });
        one_or(flat.collect(), Self::Any)
    }

    fn not(inner: Self) -> Self {
        Self::Not(Box::new(inner))
    }

    fn matches(&self, event: &Facts<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Not(inner) => !inner.matches(event),
            Self::Comparison(comparison) => comparison.matches(event),
            Self::Within(path, inner) => path.any(event.data(), &mut |object| inner.matches(&event.within(object))),
        }
    }

    fn counted_from(&self) -> Option<Timestamp> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().find_map(Self::counted_from),
            Self::Not(inner) | Self::Within(_, inner) => inner.counted_from(),
            Self::Comparison(comparison) => comparison.time().and_then(TimeBound::counted_from),
        }
    }

    fn times(&mut self, change: &mut dyn FnMut(&mut TimeBound)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.times(change)),
            Self::Not(inner) | Self::Within(_, inner) => inner.times(change),
            Self::Comparison(comparison) => comparison.time_mut().into_iter().for_each(change),
        }
    }
}

fn one_or(mut parts: Vec<Expression>, several: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.remove(0), // there is one
        _ => several(parts),
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt(f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => joined(f, parts, " and "),
            Self::Any(parts) => joined(f, parts, " or "),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::Comparison(comparison) => comparison.fmt(f),
            Self::Within(path, inner) => write!(f, "{path}[{inner}]"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expression], by: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(by)?;
        }
        match part {
            Expression::All(_) | Expression::Any(_) => write!(f, "({part})")?,
            Expression::Not(_) | Expression::Comparison(_) | Expression::Within(..) => write!(f, "{part}")?,
        }
    }
    Ok(())
}

/// An event while it is compared: its fact is read when a comparison asks for it, and once.
pub(in crate::audit) struct Facts<'a> {
    event: &'a AuditEvent,
    data: Data<'a>,
}

/// What paths lead into.
enum Data<'a> {
    Fact(OnceCell<Json>),
    /// An object of the fact, which the brackets of a value path speak of.
    Object(&'a Json),
}

impl<'a> Facts<'a> {
    fn of(event: &'a AuditEvent) -> Self {
        let data = Data::Fact(OnceCell::new());
        Self { event, data }
    }

    fn within<'b>(&'b self, object: &'b Json) -> Facts<'b> {
        let data = Data::Object(object);
        Facts {
            event: self.event,
            data,
        }
    }

    fn data(&self) -> &Json {
        match &self.data {
            // A `RawValue` is JSON.
            Data::Fact(fact) => fact.get_or_init(|| serde_json::from_str(self.event.data.get()).unwrap_or_default()),
            Data::Object(object) => object,
        }
    }
}

#[cfg(test)]
pub(in crate::audit) mod arbitrary;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::StoredEvent;
    use proptest::prelude::*;

    const NOW: i64 = 1_773_653_400_000_000; // 2026-03-16T09:30:00Z

    fn now() -> Timestamp {
        Timestamp::from_unix_micros(NOW)
    }

    fn parse(text: &str) -> Filter {
        Filter::parse(text, now()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        Filter::parse(text, now()).unwrap_err().to_string()
    }

    fn event(event_type: &str, source: &str, data: &str) -> AuditEvent {
        let bytes = format!(
            r#"{{"id":"01890000-0000-7000-8000-00000000000a","stream":"token-requests-x","type":"{event_type}","time":"2026-03-16T09:00:00.000001Z","actor":"anonymous",{source}"trace_id":"0af7651916cd43dd8448eb211c80319c","data":{data}}}"#
        );
        let stored = StoredEvent {
            index: 41,
            revision: 3,
            bytes: bytes.into_bytes().into(),
        };
        AuditEvent::read(&stored).unwrap()
    }

    fn token() -> AuditEvent {
        event(
            "TokenIssued",
            r#""source":{"ip":"::ffff:10.1.2.3","user_agent":"Go-http-client/1.1"},"#,
            r#"{"jti":"0190163d-8694-739b-aea5-966c26f8ad91","application_id":"0190163d-8694-739b-aea5-966c26f8ad92","application_uri":"my.trusted.app/service","secret_id":"0190163d-8694-739b-aea5-966c26f8ad93","auth_method":"client_secret_post","dialect":"standard","scope":"read update","audiences":["https://api","https://other"],"system_user":"svc.integration","kid":"2026-03-16","alg":"ES256","issued_at":"2026-03-16T09:00:00.123456Z","expires_at":"2026-03-16T10:00:00.000000Z","token_hint":"abcdefgh"}"#,
        )
    }

    fn refusal() -> AuditEvent {
        event(
            "TokenRefused",
            "",
            r#"{"client_id":"orders \"x\"","error":"invalid_client","reason":"unknown_client","dialect":"json"}"#,
        )
    }

    fn change() -> AuditEvent {
        event(
            "ApplicationChanged",
            "",
            r#"{"application_id":"0190163d-8694-739b-aea5-966c26f8ad92","application_uri":"orders","changes":[{"field":"scope","from":"read","to":"read update"},{"field":"token_lifetime_seconds","from":null,"to":900},{"field":"system_user_allowed","from":true,"to":false},{"field":"properties","from":{},"to":{"Cost-Center":"7"}}]}"#,
        )
    }

    #[track_caller]
    fn holds(event: &AuditEvent, filters: &[&str]) {
        for text in filters {
            assert!(parse(text).matches(event), "{text}");
            assert!(!parse(&format!("not ({text})")).matches(event), "not ({text})");
        }
    }

    #[test]
    fn every_field_of_an_answer_can_be_asked_for() {
        holds(
            &token(),
            &[
                "index eq 41",
                "index ge 41.0 and index lt 42 and index ne 40",
                r#"id eq "01890000-0000-7000-8000-00000000000A""#,
                r#"stream sw "token-requests-""#,
                "revision gt 2",
                r#"type eq "TokenIssued""#,
                r#"type sw "Token""#,
                r#"time lt "29m" and time gt "31m""#,
                r#"time eq "2026-03-16T10:00:00.000001+01:00""#,
                r#"actor eq "anonymous""#,
                r#"source.ip eq "10.1.2.3""#,
                r#"source_ip eq "10.0.0.0/8" and source_ip ne "11.0.0.0/8""#,
                r#"source_ip sw "10.1." and source_ip ew ".3""#,
                r#"user_agent co "http""#,
                r#"trace_id eq "0AF7651916CD43DD8448EB211C80319C""#,
                r#"client_id eq "my.trusted.app/service""#,
                r#"outcome eq "success""#,
                r#"jti eq "0190163d-8694-739b-aea5-966c26f8ad91""#,
                r#"secret_id ew "ad93""#,
                r#"expires_at gt "0s" and issued_at le "2026-03-16T09:00:00.123456Z""#,
                "reason eq null and not (reason pr) and source.ip pr",
            ],
        );
        holds(
            &refusal(),
            &[r#"client_id eq "orders \"x\"""#, r#"reason eq "unknown_client""#],
        );
    }

    #[test]
    fn a_value_among_several_is_enough_and_ne_wants_none() {
        holds(
            &token(),
            &[
                r#"scope eq "read" and scope eq "update""#,
                r#"not (scope eq "read update") and data.scope eq "read update""#,
                r#"audience eq "https://other" and audience sw "https://a""#,
                r#"scope ne "write" and not (scope ne "read")"#,
            ],
        );
        holds(
            &change(),
            &[
                r#"changes.field eq "properties" and data.changes.field eq "scope""#,
                r#"data.changes.to eq 900 and data.changes.to eq false and data.changes.from lt "read!""#,
                r#"data.changes.to.cost-center eq "7" and data.changes.to.COST-CENTER pr"#,
                "data.changes.to pr and data.changes.from pr and not (data.changes.other pr)",
            ],
        );
    }

    /// RFC 7644 §3.4.2.2, `valuePath`: all of it has to hold for one and the same object.
    #[test]
    fn brackets_speak_of_one_object_at_a_time() {
        holds(
            &change(),
            &[
                r#"changes[field eq "scope" and to eq "read update"]"#,
                r#"data.changes[field eq "token_lifetime_seconds" and (from eq null and to ge 900)]"#,
                r#"not (changes[field eq "scope" and to eq 900])"#,
                r#"changes.field eq "scope" and data.changes.to eq 900"#,
                r#"Changes[ Field eq "properties" and to.cost-center pr ] and changes[not (field eq "scope")]"#,
                r#"not (data.application_uri[x pr]) and not (data.application_uri[not (x pr)])"#,
            ],
        );
        for (written, shown) in [
            (r#"changes[field eq "scope"]"#, r#"data.changes[field eq "scope"]"#),
            ("report [ (status ge 500) ]", "data.report[status ge 500]"),
            (
                "data.a.b[c pr and (d pr or e.f pr)] or index pr",
                "data.a.b[c pr and (d pr or e.f pr)] or index pr",
            ),
        ] {
            assert_eq!(parse(written).to_string(), shown);
        }
    }

    /// As without brackets: spans back, either case of an id, and the same errors.
    #[test]
    fn in_brackets_an_attribute_keeps_its_kind() {
        // Called at 09:29:59.5, half a second before these spans are counted back from.
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/ApiCallAuthorized.reported.json"
        );
        let golden = std::fs::read(path).unwrap();
        let reported = AuditEvent::read(&StoredEvent {
            index: 0,
            revision: 0,
            bytes: golden.trim_ascii_end().into(),
        })
        .unwrap();
        holds(
            &reported,
            &[
                r#"report[time ge "1s" and status ge 200]"#,
                r#"not (report[time ge "0s"]) and not (report.time ge "0s")"#,
                r#"report[id eq "0190163D-0000-7000-8000-000000000005"]"#,
            ],
        );
        assert_eq!(
            parse(r#"report[time ge "1h"]"#).to_string(),
            r#"data.report[time ge "3600s"]"#
        );
        assert_eq!(
            refused(r#"report[status co "5"]"#),
            "column 18: status is a number, and `co` compares text: use eq, gt, ge, lt or le"
        );
    }

    #[test]
    fn what_has_parts_is_there_or_not() {
        holds(
            &token(),
            &["source pr and data pr and source ne null", "not (changes pr)"],
        );
        holds(&refusal(), &["not (source pr) and source eq null and data pr"]);
        holds(&change(), &["changes pr and data.changes pr"]);
    }

    #[test]
    fn what_an_event_does_not_have_is_null_and_not_equal_to_anything() {
        holds(
            &refusal(),
            &[
                "source.ip eq null",
                r#"source.ip ne "10.0.0.0/8""#,
                r#"jti ne "x" and data.nothing ne 5 and data.nothing ne true"#,
                "not (data.nothing lt 5 or data.nothing ge 5)",
                "reason ne null and client_id pr",
            ],
        );
    }

    #[test]
    fn a_time_in_the_fact_is_compared_as_a_time() {
        let rotated = event(
            "SecretRotated",
            "",
            r#"{"application_id":"0190163d-8694-739b-aea5-966c26f8ad92","application_uri":"orders","secret":{"id":"0190163d-8694-739b-aea5-966c26f8ad93","hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},"superseded":[{"id":"0190163d-8694-739b-aea5-966c26f8ad94","accepted_until":"2026-03-16T09:00:00.123456Z"}]}"#,
        );
        holds(
            &rotated,
            &[
                r#"data.superseded.accepted_until gt "2026-03-16T09:00:00Z""#,
                r#"data.superseded.Accepted_Until lt "2026-03-16T10:00:00.2+01:00""#,
                r#"data.superseded.accepted_until sw "2026-03-16T09""#,
                r#"secret_id ew "ad93" and secret_id ew "ad94" and secret_id ne "x""#,
            ],
        );
    }

    #[test]
    fn a_flood_comes_from_where_its_fact_says() {
        let flood = event(
            "RequestsThrottled",
            "",
            r#"{"client_id":"orders","source":"192.0.2.9","window_seconds":60,"suppressed":12}"#,
        );
        holds(&flood, &[r#"source_ip eq "192.0.2.0/24""#, "data.suppressed gt 11"]);
    }

    #[test]
    fn and_binds_closer_than_or_and_names_have_no_case() {
        let filter = parse(r#"INDEX EQ 1 Or index eq 2 AND (index eq 3 oR Not (Type PR))"#);
        assert_eq!(
            filter.to_string(),
            "index eq 1 or (index eq 2 and (index eq 3 or not (type pr)))"
        );
        assert_eq!(parse("((index eq 1))").to_string(), "index eq 1");
        assert_eq!(
            parse("(index eq 1 and index eq 2) and (index eq 3)").to_string(),
            "index eq 1 and index eq 2 and index eq 3"
        );
    }

    #[test]
    fn the_same_value_has_one_name() {
        for (written, shown) in [
            (r#"source_ip eq "::ffff:10.1.2.3/104""#, r#"source.ip eq "10.0.0.0/8""#),
            (r#"data.session_id eq "A""#, r#"session_id eq "a""#),
            (r#"data.jti eq "a""#, r#"data.jti eq "a""#),
            (r#"Data.Reason co "x""#, r#"reason co "x""#),
            (r#"data.scope eq "read""#, r#"data.scope eq "read""#),
            (r#"time gt "2h""#, r#"time gt "7200s""#),
            (r#"actor eq "a\u00fc\n""#, "actor eq \"aü\\n\""),
        ] {
            assert_eq!(parse(written).to_string(), shown);
        }
    }

    #[test]
    fn an_error_points_at_the_column_and_says_what_to_write() {
        for (filter, error) in [
            (
                "",
                "column 1: expected an attribute such as client_id, found the end of the filter",
            ),
            (
                r#"client_id   = "a""#,
                "column 13: expected an operator such as eq, found `=`",
            ),
            (r#"index != 3"#, "column 7: expected an operator such as ne, found `!=`"),
            ("index >= 3", "column 7: expected an operator such as ge, found `>=`"),
            ("index is 3", "column 7: expected an operator such as eq, found `is`"),
            (
                "index",
                "column 6: expected an operator such as eq, found the end of the filter",
            ),
            (
                "type eq TokenIssued",
                "column 9: expected a value, found `TokenIssued`: put text in double quotes",
            ),
            (
                "index eq",
                "column 9: expected a value: text in double quotes, a number, true, false or null, found the end of the filter",
            ),
            (
                "index eq 1 und index eq 2",
                "column 12: expected and, or, or the end of the filter, found `und`",
            ),
            ("(index eq 1", "column 1: this `(` has no `)` behind it"),
            ("index eq 1)", "column 11: this `)` has no `(` before it"),
            (
                "not index eq 1",
                "column 5: expected `(` after not, as in not (a eq 1), found `index`",
            ),
            (
                r#"index eq 1 && index eq 2"#,
                "column 12: expected and, or, or the end of the filter, found `&&` (write and)",
            ),
            (
                r#"clientid eq "a""#,
                "column 1: `clientid` is no attribute of an event; did you mean client_id? (a field of the fact itself is data.<name>)",
            ),
            (
                r#"index eq "5""#,
                "column 10: index is a number: write digits without quotes",
            ),
            (
                r#"index co "1""#,
                "column 10: index is a number, and `co` compares text: use eq, gt, ge, lt or le",
            ),
            (
                "index co 1",
                "column 10: index is a number, and `co` compares text: use eq, gt, ge, lt or le",
            ),
            (
                "client_id eq 5",
                "column 14: client_id is text: put the value in double quotes",
            ),
            (
                r#"type eq "TokenRefuse""#,
                "column 9: this is not an event type; did you mean TokenRefused or TokensRevoked or TokenRevoked?",
            ),
            (
                r#"outcome eq "failure""#,
                "column 12: outcome is \"success\" or \"refused\"",
            ),
            (
                r#"time sw "2026""#,
                "column 9: time is a point in time, and `sw` compares text: use ge and lt",
            ),
            (
                r#"source_ip gt "10.0.0.1""#,
                "column 14: addresses have no order, so `gt` cannot compare them: use eq with a network such as \"10.0.0.0/8\"",
            ),
            (
                "data.a gt true",
                "column 11: `gt` cannot compare with true or false: eq and ne can",
            ),
            (
                "data.a co null",
                "column 11: `co` needs a value: only eq and ne compare with null",
            ),
            (
                "data.a. pr",
                "column 1: `data.a.` is not a path: names of letters, digits, `_` and `-`, with dots between them",
            ),
            (
                "changes[]",
                "column 9: expected an attribute of the object, such as field, found `]`",
            ),
            ("changes[field pr", "column 8: this `[` has no `]` behind it"),
            ("index pr]", "column 9: this `]` has no `[` before it"),
            ("changes[field pr)", "column 17: expected and, or, or `]`, found `)`"),
            (
                "changes[to[a pr]]",
                "column 11: brackets stand in no other brackets: write the names with a dot between them",
            ),
            (
                r#"scope[value eq "read"]"#,
                "column 1: `scope` has no brackets: they stand behind objects of the fact, as in changes[field eq \"scope\"]",
            ),
            (
                r#"source eq "10.0.0.1""#,
                "column 11: source has parts, and only pr asks for it: compare one of them, as in source.ip or data.suppressed",
            ),
            (
                r#"(reason eq "ü") or q eq 1"#,
                "column 20: `q` is no attribute of an event (a field of the fact itself is data.<name>)",
            ),
        ] {
            assert_eq!(refused(filter), error, "{filter}");
        }
    }

    #[test]
    fn a_fraction_is_the_nearest_that_there_is() {
        for fraction in [
            "1.1111111111111111e+23",
            "0.1",
            "1e300",
            "123456789012345678901234567890",
        ] {
            let filter = parse(&format!("data.n eq {fraction}"));
            assert_eq!(parse(&filter.to_string()), filter);
        }
        assert!(refused("index gt 1e999").contains("expected a value"));
    }

    #[test]
    fn what_an_error_repeats_is_cut_and_escaped() {
        let long = "y".repeat(1_000);
        let error = refused(&format!("index eq \u{1b}[31m{long}"));
        assert!(error.contains(r"`\u{1b}`") || error.contains(r"`\u{1b}["), "{error}");
        assert!(refused(&long).len() < 200);
        assert!(refused(&format!("index eq 1 or {long} eq 1")).contains("`yyyy"));
    }

    #[test]
    fn size_depth_and_number_are_bounded() {
        let nested = |depth: usize| format!("{}index pr{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Filter::parse(&nested(MAX_NESTING), now()).is_ok());
        assert!(refused(&nested(MAX_NESTING + 1)).starts_with("column 33: groups may be nested"));
        let within = |depth: usize| format!("{}data.a[b pr]{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Filter::parse(&within(MAX_NESTING - 1), now()).is_ok());
        assert!(refused(&within(MAX_NESTING)).contains("groups may be nested"));
        let many = |count: usize| vec!["index pr"; count].join(" or ");
        assert!(Filter::parse(&many(MAX_COMPARISONS), now()).is_ok());
        assert!(refused(&many(MAX_COMPARISONS + 1)).contains("128 comparisons"));
        assert!(refused(&"ü".repeat(MAX_FILTER_CHARS + 1)).starts_with("column 4097: "));
        assert!(refused(&format!("data{} pr", ".a".repeat(9))).contains("8 names"));
    }

    proptest! {
        #[test]
        fn a_filter_survives_print_and_parse(filter in arbitrary::filters()) {
            let text = filter.to_string();
            prop_assert_eq!(&parse(&text), &filter, "{}", text);
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,80}") {
            if let Err(error) = Filter::parse(&text, now()) {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
            }
        }

        #[test]
        fn no_row_of_tokens_breaks_the_parser(
            tokens in proptest::collection::vec(
                proptest::sample::select(vec![
                    "(", ")", "[", "]", "and", "or", "not", "index", "reason", "changes", "source", "data.x", "eq", "co", "pr", "5", "null",
                    "\"a\"", "\"", "true", "=", "time", "\"24h\"",
                ]),
                0..30,
            ),
        ) {
            if let Ok(filter) = Filter::parse(&tokens.join(" "), now()) {
                prop_assert_eq!(parse(&filter.to_string()), filter);
            }
        }
    }
}
