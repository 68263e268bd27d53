//! Which events of the log a tail or an export takes: the search's conditions, asked of one event at a time.

use crate::audit::event::AuditEvent;
use crate::audit::filter::Expression;
use crate::audit::{AuditQuery, TimeBound};
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use memchr::memmem::Finder;

/// The conditions of a search over the events as they are in the log.
///
/// Most events of a log are none that a selective condition wants. So what cannot match is passed over by a
/// look at its bytes, and only what may match is read.
#[derive(Debug)]
pub struct Selection {
    query: AuditQuery,
    takes_everything: bool,
    /// Bytes that an event which matches has somewhere.
    needles: Vec<Finder<'static>>,
}

impl Selection {
    /// The events that the query's conditions choose; its order, its limit and its cursor mean nothing here.
    pub fn of(query: AuditQuery) -> Self {
        let takes_everything = is_without_conditions(&query);
        let mut needles = Vec::new();
        if let Some(client_id) = &query.client_id
            && client_id.chars().all(is_written_as_it_is)
        {
            needles.push(Finder::new(&format!("\"{client_id}\"")).into_owned());
        }
        // An IPv4 address that came in over IPv6 ends in its dotted form.
        if let Some(address) = query.source_ip.and_then(|network| network.single_address()) {
            needles.push(Finder::new(&address.to_string()).into_owned());
        }
        Self {
            query,
            takes_everything,
            needles,
        }
    }

    /// Whether every event is taken.
    pub fn takes_everything(&self) -> bool {
        self.takes_everything
    }

    /// The conditions.
    pub fn query(&self) -> &AuditQuery {
        &self.query
    }

    /// Whether it chooses the same events whenever it is asked: no time in it is a span back from now.
    pub fn is_fixed(&self) -> bool {
        let is_fixed = |bound: Option<TimeBound>| !matches!(bound, Some(TimeBound::Ago { .. }));
        is_fixed(self.query.since)
            && is_fixed(self.query.until)
            && self
                .query
                .filter
                .as_ref()
                .is_none_or(|filter| times(filter.expression()).into_iter().all(|time| is_fixed(Some(time))))
    }

    /// Whether the event is taken.
    pub fn takes(&self, stored: &StoredEvent) -> Result<bool, DecodeError> {
        if self.takes_everything {
            return Ok(true);
        }
        if self.passes_over(&stored.bytes) {
            return Ok(false);
        }
        Ok(self.query.matches(&AuditEvent::read(stored)?))
    }

    /// Whether the bytes alone tell that the event is not taken.
    fn passes_over(&self, bytes: &[u8]) -> bool {
        let is_of_another_type = match (self.query.event_type, codec::peek_type(bytes)) {
            (Some(wanted), Some(found)) => wanted != codec::current_type(found),
            _ => false,
        };
        is_of_another_type || self.needles.iter().any(|needle| needle.find(bytes).is_none())
    }
}

fn is_without_conditions(query: &AuditQuery) -> bool {
    let unconditional = AuditQuery {
        from_index: query.from_index,
        order: query.order,
        limit: query.limit,
        after: query.after,
        ..AuditQuery::default()
    };
    *query == unconditional
}

/// Every time that is compared with.
fn times(expression: &Expression) -> Vec<TimeBound> {
    match expression {
        Expression::All(parts) | Expression::Any(parts) => parts.iter().flat_map(times).collect(),
        Expression::Not(part) | Expression::Within(_, part) => times(part),
        Expression::Comparison(comparison) => comparison.time().into_iter().collect(),
    }
}

/// Characters that the codec writes as they are.
fn is_written_as_it_is(char: char) -> bool {
    char.is_ascii_alphanumeric() || "._~:/@-".contains(char)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::{ADDRESSES, CLIENTS, MemoryLog, TYPES, facts};
    use crate::event_store::{Direction, EventStore};
    use grantlog_projections::values::Timestamp;
    use proptest::prelude::*;

    fn query(parameters: &[(&str, &str)]) -> AuditQuery {
        AuditQuery::from_parameters(parameters.iter().copied(), Timestamp::from_unix_micros(0)).unwrap()
    }

    #[test]
    fn only_a_query_with_a_condition_leaves_events_out() {
        assert!(Selection::of(query(&[("from_index", "7"), ("order", "asc"), ("limit", "3")])).takes_everything());
        for condition in [
            ("type", "TokenIssued"),
            ("client_id", "orders"),
            ("outcome", "refused"),
            ("source_ip", "192.0.2.1"),
            ("since", "2026-03-16T09:30:00Z"),
            ("until", "2026-03-16T09:30:00Z"),
        ] {
            assert!(!Selection::of(query(&[condition])).takes_everything(), "{condition:?}");
        }
    }

    #[test]
    fn a_span_back_from_now_chooses_other_events_each_time() {
        for (fixed, parameter) in [
            (true, ("since", "2026-03-16T09:30:00Z")),
            (
                true,
                ("filter", "time ge \"2026-03-16T09:30:00Z\" and type eq \"TokenIssued\""),
            ),
            (false, ("since", "24h")),
            (false, ("until", "0s")),
            (false, ("filter", "not (type eq \"TokenIssued\" or time lt \"24h\")")),
        ] {
            assert_eq!(Selection::of(query(&[parameter])).is_fixed(), fixed, "{parameter:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_event_that_is_passed_over_unread_is_none_that_matches(
            facts in facts(0..60),
            event_type in proptest::option::of(0..TYPES.len()),
            client_id in proptest::option::of(0..CLIENTS.len()),
            source_ip in proptest::option::of(0..ADDRESSES.len()),
        ) {
            let mut parameters = Vec::new();
            parameters.extend(event_type.map(|at| ("type", TYPES[at])));
            parameters.extend(client_id.map(|at| ("client_id", CLIENTS[at])));
            parameters.extend(source_ip.map(|at| ("source_ip", ADDRESSES[at])));
            let selection = Selection::of(query(&parameters));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let log = MemoryLog::of(&facts);
            let stored = runtime.block_on(log.read_all(0, Direction::Forwards, 4_096)).unwrap();
            for (stored, fact) in stored.iter().zip(&facts) {
                let address = match fact.event_type {
                    "RequestsThrottled" => fact.ip.or("192.0.2.200".parse().ok()),
                    _ => fact.ip,
                };
                let wanted = event_type.is_none_or(|at| fact.event_type == TYPES[at])
                    && client_id.is_none_or(|at| fact.client_id == Some(CLIENTS[at]))
                    && source_ip.is_none_or(|at| {
                        let wanted: std::net::IpAddr = ADDRESSES[at].parse().unwrap();
                        address.is_some_and(|ip| ip.to_canonical() == wanted.to_canonical())
                    });
                prop_assert_eq!(selection.takes(stored).unwrap(), wanted, "{:?}", fact);
            }
        }
    }
}
