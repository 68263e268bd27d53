//! A search of the audit trail as the caller puts it.

use crate::audit::AuditEvent;
use crate::audit::cursor::Cursor;
use crate::audit::filter::Filter;
use crate::audit::network::Network;
use grantlog_projections::Event;
use grantlog_projections::audit_record::Outcome;
use grantlog_projections::values::Timestamp;

/// The most events that a page may have.
pub const MAX_LIMIT: usize = 1_000;
/// The events that a page has when the caller does not say.
pub const DEFAULT_LIMIT: usize = 100;
/// The longest span back from now, in seconds: a hundred years.
pub const MAX_SPAN_SECONDS: i64 = 100 * 365 * 86_400;
/// The longest client_id that an event can hold, in characters.
pub const MAX_CLIENT_ID: usize = 256;
/// How many event types an error names at the most.
const SUGGESTIONS: usize = 3;

/// In which order a search answers. Always by index: times may step back, indexes never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest first.
    #[default]
    Desc,
    /// Oldest first.
    Asc,
}

impl Order {
    /// As the parameter has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desc => "desc",
            Self::Asc => "asc",
        }
    }
}

/// An end of a time window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeBound {
    /// As it was given.
    At(Timestamp),
    /// Given as a span back from now. A cursor keeps what it meant on the first page.
    Ago {
        /// The span.
        seconds: i64,
        /// What it means.
        time: Timestamp,
    },
}

impl TimeBound {
    /// The point in time.
    pub fn time(self) -> Timestamp {
        match self {
            Self::At(time) | Self::Ago { time, .. } => time,
        }
    }

    /// What a span is counted back from.
    pub(super) fn counted_from(self) -> Option<Timestamp> {
        match self {
            Self::At(_) => None,
            Self::Ago { seconds, time } => Some(time.plus_seconds(seconds)),
        }
    }

    /// The same span, counted back from another time.
    pub(super) fn counted_back_from(self, now: Timestamp) -> Self {
        match self {
            Self::At(time) => Self::At(time),
            Self::Ago { seconds, .. } => Self::Ago {
                seconds,
                time: now.plus_seconds(-seconds),
            },
        }
    }
}

/// Which events, in which order, and how many. All conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Events of this type: one of `Event::TYPES`.
    pub event_type: Option<&'static str>,
    /// Events about this application, or whoever said to be it.
    pub client_id: Option<String>,
    /// What was done, or what was refused.
    pub outcome: Option<Outcome>,
    /// Events of requests from this network: a single address is one of its own.
    pub source_ip: Option<Network>,
    /// Events for which this holds.
    pub filter: Option<Filter>,
    /// Events of this time and later.
    pub since: Option<TimeBound>,
    /// Events before this time: windows that meet share no event.
    pub until: Option<TimeBound>,
    /// Events with this index or a higher one, in either order.
    pub from_index: u64,
    /// Newest or oldest first.
    pub order: Order,
    /// 1 to [`MAX_LIMIT`] events; other values count as the nearest of these.
    pub limit: usize,
    /// Continue where this page ended.
    pub after: Option<Cursor>,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self {
            event_type: None,
            client_id: None,
            outcome: None,
            source_ip: None,
            filter: None,
            since: None,
            until: None,
            from_index: 0,
            order: Order::default(),
            limit: DEFAULT_LIMIT,
            after: None,
        }
    }
}

/// A parameter that cannot be used. Both strings may be shown to the caller: no value is repeated in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {message}")]
pub struct InvalidQuery {
    /// The parameter's name, cut and escaped when it is none of ours.
    pub parameter: String,
    /// What is wrong with it.
    pub message: String,
    /// Where in the parameter: 1 is the first character. Filters alone say so.
    pub column: Option<usize>,
}

impl InvalidQuery {
    fn new(parameter: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            parameter: parameter.into(),
            message: message.into(),
            column: None,
        }
    }
}

impl AuditQuery {
    /// Reads the plain query parameters, decoded, in any order: `type`, `client_id`, `outcome`, `source_ip`,
    /// `filter`, `since`, `until`, `from_index`, `order`, `limit` and `after`, each at most once. `now` is what a span
    /// such as `24h` is counted back from.
    pub fn from_parameters<N, V>(
        parameters: impl IntoIterator<Item = (N, V)>,
        now: Timestamp,
    ) -> Result<Self, InvalidQuery>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (name, value) in parameters {
            let (name, value) = (name.as_ref(), value.as_ref());
            let parameter = match name {
                "filter" => {
                    query.filter = Some(Filter::parse(value, now).map_err(|invalid| InvalidQuery {
                        column: Some(invalid.column),
                        ..InvalidQuery::new(name, invalid.to_string())
                    })?);
                    "filter"
                }
                _ => query
                    .read(name, value, now)
                    .map_err(|message| InvalidQuery::new(shown(name), message))?,
            };
            if seen.contains(&parameter) {
                return Err(InvalidQuery::new(parameter, "may be given once only"));
            }
            seen.push(parameter);
        }
        query.check()?;
        Ok(query)
    }

    /// Takes one parameter in and answers with its name.
    fn read(&mut self, name: &str, value: &str, now: Timestamp) -> Result<&'static str, String> {
        Ok(match name {
            "type" => {
                self.event_type = Some(event_type(value)?);
                "type"
            }
            "client_id" => {
                if value.is_empty() || value.chars().count() > MAX_CLIENT_ID {
                    return Err(format!("must be 1 to {MAX_CLIENT_ID} characters"));
                }
                self.client_id = Some(value.into());
                "client_id"
            }
            "outcome" => {
                self.outcome = Some(match value {
                    "success" => Outcome::Success,
                    "refused" => Outcome::Refused,
                    _ => return Err("must be success or refused".into()),
                });
                "outcome"
            }
            "source_ip" => {
                let network = Network::parse(value);
                self.source_ip =
                    Some(network.ok_or("must be an IPv4 or IPv6 address, or a network such as 10.0.0.0/8")?);
                "source_ip"
            }
            "since" => {
                self.since = Some(time_bound(value, now)?);
                "since"
            }
            "until" => {
                self.until = Some(time_bound(value, now)?);
                "until"
            }
            "from_index" => {
                self.from_index = whole_number(value).ok_or("must be an index: a whole number from 0 on")?;
                "from_index"
            }
            "order" => {
                self.order = match value {
                    "desc" => Order::Desc,
                    "asc" => Order::Asc,
                    _ => return Err("must be desc (newest first) or asc (oldest first)".into()),
                };
                "order"
            }
            "limit" => {
                let limit = whole_number(value).and_then(|limit| usize::try_from(limit).ok());
                self.limit = limit
                    .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                    .ok_or_else(|| format!("must be 1 to {MAX_LIMIT}"))?;
                "limit"
            }
            "after" => {
                self.after =
                    Some(Cursor::parse(value).ok_or("is not a cursor: take it from `next` of the page before")?);
                "after"
            }
            _ => return Err("is not a parameter of this search".into()),
        })
    }

    /// Newest first: the same search from below this index on.
    #[must_use]
    pub fn before(mut self, index: u64) -> Self {
        self.after = Some(Cursor::new(&self, index));
        self
    }

    /// What the parameters must fulfil together.
    fn check(&self) -> Result<(), InvalidQuery> {
        if let Some(cursor) = self.after
            && !cursor.belongs_to(self)
        {
            return Err(InvalidQuery::new(
                "after",
                "belongs to another query: repeat the parameters of the page that it came with",
            ));
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since.time() >= until.time()
        {
            return Err(InvalidQuery::new("until", "must be later than since"));
        }
        Ok(())
    }

    /// Whether the event is one that the query is about, wherever the page that it asks for begins or ends:
    /// what every search by the index must agree with.
    pub fn matches(&self, event: &AuditEvent) -> bool {
        event.index >= self.from_index
            && self.event_type.is_none_or(|wanted| wanted == event.current_type())
            && self
                .client_id
                .as_deref()
                .is_none_or(|wanted| event.client_id.as_deref() == Some(wanted))
            && self.outcome.is_none_or(|wanted| wanted == event.outcome)
            && self
                .source_ip
                .is_none_or(|wanted| event.address().is_some_and(|address| wanted.contains(address)))
            && self.since.is_none_or(|since| since.time() <= event.time)
            && self.until.is_none_or(|until| event.time < until.time())
            && self.filter.as_ref().is_none_or(|filter| filter.matches(event))
    }
}

/// The event type of this name, or the nearest ones.
pub(super) fn event_type(value: &str) -> Result<&'static str, String> {
    if let Some(known) = Event::TYPES.iter().find(|known| **known == value) {
        return Ok(known);
    }
    // No known type is as long as this: what is longer is not worth comparing.
    let wanted: String = value.chars().take(64).collect::<String>().to_lowercase();
    let mut nearest: Vec<_> = Event::TYPES
        .iter()
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &wanted), *known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .collect();
    nearest.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let nearest: Vec<&str> = nearest.into_iter().take(SUGGESTIONS).map(|(_, known)| known).collect();
    Err(match nearest.is_empty() {
        true => format!("is not an event type; there are {}", Event::TYPES.join(", ")),
        false => format!("is not an event type; did you mean {}?", nearest.join(" or ")),
    })
}

/// RFC 3339, or a whole number with a unit: so long ago.
pub(super) fn time_bound(value: &str, now: Timestamp) -> Result<TimeBound, String> {
    if let Ok(time) = Timestamp::parse(value) {
        return Ok(TimeBound::At(time));
    }
    span_seconds(value)
        .filter(|seconds| *seconds <= MAX_SPAN_SECONDS)
        .map(|seconds| TimeBound::Ago {
            seconds,
            time: now.plus_seconds(-seconds),
        })
        .ok_or_else(|| {
            "must be a time (RFC 3339, e.g. 2026-03-16T09:30:00Z) or a span back from now (s, m, h, d or w, e.g. 24h)"
                .into()
        })
}

/// The seconds of a whole number with a unit: s, m, h, d or w.
pub(super) fn span_seconds(text: &str) -> Option<i64> {
    let mut characters = text.chars();
    let seconds_per_unit = match characters.next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let units = whole_number(characters.as_str())?;
    i64::try_from(units).ok()?.checked_mul(seconds_per_unit)
}

/// Digits only: `u64::from_str` would take a sign as well.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A name from outside, fit for an answer and a log line.
fn shown(name: &str) -> String {
    const MOST: usize = 40;
    name.chars().take(MOST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_773_653_400; // 2026-03-16T09:30:00Z

    fn parse(parameters: &[(&str, &str)]) -> Result<AuditQuery, InvalidQuery> {
        AuditQuery::from_parameters(parameters.iter().copied(), now())
    }

    fn now() -> Timestamp {
        Timestamp::from_unix_micros(NOW * 1_000_000)
    }

    fn refused(name: &str, value: &str) -> String {
        let error = parse(&[(name, value)]).unwrap_err();
        assert_eq!(error.parameter, name);
        error.message
    }

    #[test]
    fn without_parameters_the_newest_hundred_are_asked_for() {
        let query = parse(&[]).unwrap();
        assert_eq!(query, AuditQuery::default());
        assert_eq!((query.limit, query.order, query.from_index), (100, Order::Desc, 0));
    }

    #[test]
    fn every_parameter_is_read() {
        let query = parse(&[
            ("type", "TokenIssued"),
            ("client_id", "my.trusted.app/service"),
            ("outcome", "success"),
            ("source_ip", "::ffff:192.0.2.1"),
            ("since", "2026-03-15T09:30:00+02:00"),
            ("until", "90m"),
            ("from_index", "12"),
            ("order", "asc"),
            ("limit", "1000"),
        ])
        .unwrap();
        assert_eq!(query.event_type, Some("TokenIssued"));
        assert_eq!(query.client_id.as_deref(), Some("my.trusted.app/service"));
        assert_eq!(query.outcome, Some(Outcome::Success));
        assert_eq!(query.source_ip, Network::parse("192.0.2.1"));
        assert_eq!(query.since.unwrap().time().to_string(), "2026-03-15T07:30:00.000000Z");
        assert_eq!(query.until.unwrap().time().to_string(), "2026-03-16T08:00:00.000000Z");
        assert_eq!((query.from_index, query.order, query.limit), (12, Order::Asc, 1_000));
    }

    #[test]
    fn a_span_has_one_of_five_units() {
        for (span, seconds) in [
            ("45s", 45),
            ("10m", 600),
            ("24h", 86_400),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            let bound = parse(&[("since", span)]).unwrap().since.unwrap();
            assert_eq!(bound.time(), now().plus_seconds(-seconds), "{span}");
        }
        for bad in [
            "",
            "h",
            "24",
            "-1h",
            "+1h",
            "1.5h",
            "1y",
            "24 h",
            "99999999999999999999d",
            "5000w0",
            "36501d",
        ] {
            assert!(refused("since", bad).contains("RFC 3339"), "{bad:?}");
        }
    }

    #[test]
    fn a_type_that_does_not_exist_is_answered_with_the_nearest() {
        assert_eq!(
            refused("type", "tokenissued"),
            "is not an event type; did you mean TokenIssued or TokenRefused or TokensRevoked?"
        );
        assert!(refused("type", "TokenRefuse").contains("did you mean TokenRefused"));
        assert!(refused("type", "?").contains("there are ServiceStarted, "));
        assert!(refused("type", &"x".repeat(100_000)).len() < 1_000);
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_by_the_name_of_its_parameter() {
        for (name, value) in [
            ("limit", "0"),
            ("limit", "1001"),
            ("limit", "+5"),
            ("limit", ""),
            ("from_index", "-1"),
            ("from_index", "18446744073709551616"),
            ("order", "newest"),
            ("outcome", "Success"),
            ("source_ip", "192.0.2.0/33"),
            ("client_id", ""),
            ("after", "not a cursor"),
        ] {
            refused(name, value);
        }
        refused("client_id", &"a".repeat(257));
    }

    #[test]
    fn a_parameter_may_be_given_once() {
        let error = parse(&[("limit", "5"), ("order", "asc"), ("limit", "5")]).unwrap_err();
        assert_eq!(error.to_string(), "limit: may be given once only");
    }

    #[test]
    fn an_unknown_parameter_is_named_cut_and_escaped() {
        assert_eq!(parse(&[("page", "2")]).unwrap_err().parameter, "page");
        let error = parse(&[(format!("x\r\n{}", "y".repeat(1_000)).as_str(), "")]).unwrap_err();
        assert!(error.parameter.starts_with("x\\r\\nyyy") && error.parameter.len() < 50);
    }

    #[test]
    fn a_window_that_is_empty_is_refused() {
        assert_eq!(
            parse(&[("since", "1h"), ("until", "2h")]).unwrap_err().parameter,
            "until"
        );
        assert!(parse(&[("since", "2h"), ("until", "1h")]).is_ok());
    }

    #[test]
    fn a_cursor_of_another_query_is_refused() {
        let query = parse(&[("client_id", "orders")]).unwrap();
        let cursor = Cursor::new(&query, 3).to_string();
        assert!(parse(&[("after", cursor.as_str()), ("client_id", "orders"), ("limit", "7")]).is_ok());
        let error = parse(&[("client_id", "billing"), ("after", cursor.as_str())]).unwrap_err();
        assert_eq!(error.parameter, "after");
        assert!(error.message.contains("another query"));
    }
}
