//! Where a page ended, as opaque text that the caller hands back for the next one.

use crate::audit::filter::Filter;
use crate::audit::query::{AuditQuery, TimeBound};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantlog_projections::values::Timestamp;
use sha2::{Digest, Sha256};
use std::fmt;

/// The form of the bytes behind the text.
const VERSION: u8 = 2;
/// The version, the query's digest, the position, and what spans were counted back from.
const BYTES: usize = 1 + 8 + 8 + 8;

/// The end of a page of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which query it belongs to.
    query: [u8; 8],
    /// Oldest first: the index that the next page begins with. Newest first: the one above it.
    pub(super) position: u64,
    /// What spans were counted back from on the first page, in microseconds since the Unix epoch; 0 when there
    /// are none. Later pages keep to it, or the window would move under the caller's feet.
    now: i64,
}

impl Cursor {
    pub(super) fn new(query: &AuditQuery, position: u64) -> Self {
        let bounds = [query.since, query.until].into_iter().flatten();
        let now = bounds
            .filter_map(TimeBound::counted_from)
            .chain(query.filter.as_ref().and_then(Filter::counted_from))
            .next();
        Self {
            query: digest(query),
            position,
            now: now.map_or(0, Timestamp::unix_micros),
        }
    }

    /// Oldest first: the index that the next page begins with. Newest first: the one above it.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads what `Display` wrote; `None` when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (query, rest) = rest.split_first_chunk::<8>()?;
        let (position, rest) = rest.split_first_chunk::<8>()?;
        let now = rest.first_chunk::<8>()?;
        (*version == VERSION).then_some(Self {
            query: *query,
            position: u64::from_be_bytes(*position),
            now: i64::from_be_bytes(*now),
        })
    }

    /// Whether it ended a page of this query. `limit` may differ from page to page.
    pub fn belongs_to(&self, query: &AuditQuery) -> bool {
        self.query == digest(query)
    }

    /// The query with its spans back from now as they were on the first page.
    pub(super) fn pin(&self, query: &AuditQuery) -> AuditQuery {
        let now = Timestamp::from_unix_micros(self.now);
        let pin = |bound: Option<TimeBound>| bound.map(|bound| bound.counted_back_from(now));
        AuditQuery {
            since: pin(query.since),
            until: pin(query.until),
            filter: query.filter.clone().map(|filter| filter.counted_back_from(now)),
            ..query.clone()
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend(self.query);
        bytes.extend(self.position.to_be_bytes());
        bytes.extend(self.now.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Of everything that decides which events the query finds, and in which order: not of `limit` and `after`.
fn digest(query: &AuditQuery) -> [u8; 8] {
    // Every part carries its length, so that no two queries have the same bytes.
    let mut hash = Sha256::new();
    let mut part = |text: Option<&str>| match text {
        Some(text) => {
            hash.update((text.len() as u64 + 1).to_be_bytes());
            hash.update(text);
        }
        None => hash.update(0_u64.to_be_bytes()),
    };
    part(query.event_type);
    part(query.client_id.as_deref());
    part(query.outcome.map(|outcome| outcome.as_str()));
    part(query.source_ip.map(|network| network.to_string()).as_deref());
    part(query.filter.as_ref().map(Filter::to_string).as_deref());
    for bound in [query.since, query.until] {
        let bound = bound.map(|bound| match bound {
            TimeBound::At(time) => time.unix_micros().to_string(),
            TimeBound::Ago { seconds, .. } => format!("{seconds} s ago"),
        });
        part(bound.as_deref());
    }
    part(Some(&query.from_index.to_string()));
    part(Some(query.order.as_str()));
    let mut short = [0; 8];
    short
        .iter_mut()
        .zip(hash.finalize())
        .for_each(|(short, byte)| *short = byte);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_print_and_parse(position in any::<u64>(), since in 0..4_000_000_000_000_000_i64) {
            let since = Some(TimeBound::Ago { seconds: 60, time: Timestamp::from_unix_micros(since) });
            let cursor = Cursor::new(&AuditQuery { since, ..AuditQuery::default() }, position);
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,60}") {
            let _ = Cursor::parse(&text);
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_query_whatever_the_limit() {
        let query = AuditQuery {
            client_id: Some("orders".into()),
            ..AuditQuery::default()
        };
        let cursor = Cursor::new(&query, 7);
        assert!(cursor.belongs_to(&AuditQuery {
            limit: 3,
            ..query.clone()
        }));
        assert!(!cursor.belongs_to(&AuditQuery {
            from_index: 1,
            ..query.clone()
        }));
        assert!(!cursor.belongs_to(&AuditQuery::default()));
        let elsewhere = AuditQuery {
            event_type: Some("orders"),
            ..AuditQuery::default()
        };
        assert!(!cursor.belongs_to(&elsewhere));
    }

    #[test]
    fn a_span_back_from_now_means_on_every_page_what_it_meant_on_the_first() {
        let an_hour_before = |now: i64| AuditQuery {
            since: Some(TimeBound::Ago {
                seconds: 3_600,
                time: Timestamp::from_unix_micros(now * 1_000_000).plus_seconds(-3_600),
            }),
            filter: Filter::parse(r#"expires_at gt "2h""#, Timestamp::from_unix_micros(now * 1_000_000)).ok(),
            ..AuditQuery::default()
        };
        let (first, second) = (an_hour_before(10_000), an_hour_before(10_042));
        let cursor = Cursor::new(&first, 5);
        assert!(cursor.belongs_to(&second));
        assert_eq!(cursor.pin(&second), first);
    }
}
