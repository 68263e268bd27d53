//! Counts over the trail: by type, outcome, application, reason or source network, in all or over time.

use crate::audit::reports::ReportError;
use crate::audit::reports::reading::{TakesEvents, read_log};
use crate::event_store::codec::{self, DecodeError};
use crate::event_store::{EventStore, StoredEvent};
use grantlog_projections::Event;
use grantlog_projections::audit_record::AuditRecord;
use grantlog_projections::usage::source_network;
use grantlog_projections::values::Timestamp;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Events that one question may be about.
pub const MAX_EVENTS: u64 = 20_000_000;
/// Spans of time that are told apart.
pub const MAX_BUCKETS: usize = 2_000;
/// Values that are told apart, those with the highest counts; the rest counts under "other".
pub const MAX_VALUES: usize = 1_000;
/// Values that are counted; what comes when there are as many counts under "other".
const MAX_TRACKED: usize = 100_000;
/// Pairs of a span and a value that are counted.
const MAX_CELLS: usize = 1_000_000;

/// What is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The type of the event.
    Type,
    /// What was done, or what was refused.
    Outcome,
    /// The application that it is about.
    ClientId,
    /// The true reason of a refusal.
    Reason,
    /// The /24 or /48 that the request came from.
    SourceNetwork,
}

impl By {
    /// The names, as the parameter has them.
    pub const NAMES: &'static str = "type, outcome, client_id, reason or source_network";

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "type" => Self::Type,
            "outcome" => Self::Outcome,
            "client_id" => Self::ClientId,
            "reason" => Self::Reason,
            "source_network" => Self::SourceNetwork,
            _ => return None,
        })
    }
}

/// The spans that time is cut into, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Not at all.
    None,
}

impl Interval {
    /// The names, as the parameter has them.
    pub const NAMES: &'static str = "hour, day or none";

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "none" => Self::None,
            _ => return None,
        })
    }

    fn seconds(self) -> Option<i64> {
        match self {
            Self::Hour => Some(3_600),
            Self::Day => Some(86_400),
            Self::None => None,
        }
    }
}

/// What is to be counted.
#[derive(Debug, Clone, Copy)]
pub struct StatisticsQuery {
    /// What is told apart.
    pub by: By,
    /// The spans.
    pub interval: Interval,
    /// Events of this time and later.
    pub since: Option<Timestamp>,
    /// Events before this time.
    pub until: Option<Timestamp>,
}

/// The counts.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// What is told apart.
    pub by: By,
    /// The spans.
    pub interval: Interval,
    /// Events of this time and later.
    pub since: Option<Timestamp>,
    /// Events before this time.
    pub until: Option<Timestamp>,
    /// Events in all, with and without a value.
    pub events: u64,
    /// Those that have no such value: an event that is no refusal has no reason.
    pub without: u64,
    /// The values, those with the highest counts first.
    pub totals: Vec<ValueCount>,
    /// Events with other values.
    pub other: u64,
    /// The spans that have any event, the oldest first; empty without an interval.
    pub buckets: Vec<Bucket>,
    /// How many events of the log this speaks of.
    pub indexed_through: u64,
    /// How many events the log has.
    pub log_size: u64,
}

/// A value and how many events have it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ValueCount {
    /// The value.
    pub value: String,
    /// How many.
    pub count: u64,
}

/// A span of time.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// When it begins.
    pub start: Timestamp,
    /// Events of the values in `totals`.
    pub counts: BTreeMap<String, u64>,
    /// Events with other values.
    pub other: u64,
}

/// Why there are no counts.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// The range is larger than one question may be about.
    #[error("the range has {events} events and {MAX_EVENTS} are counted at once: narrow since and until")]
    TooManyEvents {
        /// How many it has.
        events: u64,
    },
    /// There are more spans than are told apart.
    #[error("there are more than {MAX_BUCKETS} spans of time: use interval=day, or narrow since and until")]
    TooManyBuckets,
    /// The log cannot be read.
    #[error(transparent)]
    Reading(#[from] ReportError),
}

/// Counts the events of these indexes that lie in the window.
pub async fn count(
    query: StatisticsQuery,
    range: Range<u64>,
    store: Arc<dyn EventStore>,
    indexed_through: u64,
    turn: impl Send + 'static,
) -> Result<Statistics, StatisticsError> {
    let events = range.end.saturating_sub(range.start);
    if events > MAX_EVENTS {
        return Err(StatisticsError::TooManyEvents { events });
    }
    let log = store.clone();
    let counted = read_log(store, range, Counting::new(query), |counting| counting, turn).await?;
    if counted.too_many_buckets {
        return Err(StatisticsError::TooManyBuckets);
    }
    // Asked for after the counting, so never less than `indexed_through`.
    Ok(counted.finish(indexed_through, log.log_size()))
}

struct Counting {
    query: StatisticsQuery,
    /// The values' numbers.
    values: HashMap<Box<str>, usize>,
    totals: Vec<u64>,
    /// By span and value.
    cells: BTreeMap<(i64, usize), u64>,
    /// By span: events with values that are not tracked.
    others: BTreeMap<i64, u64>,
    other: u64,
    events: u64,
    without: u64,
    buckets: std::collections::BTreeSet<i64>,
    too_many_buckets: bool,
}

impl Counting {
    fn new(query: StatisticsQuery) -> Self {
        Self {
            query,
            values: HashMap::new(),
            totals: Vec::new(),
            cells: BTreeMap::new(),
            others: BTreeMap::new(),
            other: 0,
            events: 0,
            without: 0,
            buckets: std::collections::BTreeSet::new(),
            too_many_buckets: false,
        }
    }

    fn add(&mut self, time: Timestamp, value: Option<&str>) {
        let is_in =
            self.query.since.is_none_or(|since| since <= time) && self.query.until.is_none_or(|until| time < until);
        if !is_in {
            return;
        }
        self.events += 1;
        let Some(value) = value else {
            self.without += 1;
            return;
        };
        let start = self.query.interval.seconds().map(|seconds| {
            let since = time.unix_seconds();
            since - since.rem_euclid(seconds)
        });
        if let Some(start) = start
            && !self.buckets.contains(&start)
        {
            if self.buckets.len() == MAX_BUCKETS {
                self.too_many_buckets = true;
                return;
            }
            self.buckets.insert(start);
        }
        let known = match self.values.get(value) {
            Some(known) => Some(*known),
            None if self.values.len() < MAX_TRACKED => {
                self.values.insert(value.into(), self.totals.len());
                self.totals.push(0);
                Some(self.totals.len() - 1)
            }
            None => None,
        };
        // A span that there is no cell for any more counts under "other" as a whole.
        let has_room =
            |start: i64, known: usize| self.cells.len() < MAX_CELLS || self.cells.contains_key(&(start, known));
        match (known, start) {
            (Some(known), None) => self.total(known),
            (Some(known), Some(start)) if has_room(start, known) => {
                *self.cells.entry((start, known)).or_default() += 1;
                self.total(known);
            }
            (_, start) => {
                self.other += 1;
                if let Some(start) = start {
                    *self.others.entry(start).or_default() += 1;
                }
            }
        }
    }

    fn total(&mut self, value: usize) {
        if let Some(total) = self.totals.get_mut(value) {
            *total += 1;
        }
    }

    fn finish(mut self, indexed_through: u64, log_size: u64) -> Statistics {
        let mut names: Vec<(Box<str>, usize, u64)> = Vec::with_capacity(self.values.len());
        for (name, at) in self.values {
            let count = self.totals.get(at).copied().unwrap_or(0);
            names.push((name, at, count));
        }
        names.sort_by(|(one, _, a), (other, _, b)| b.cmp(a).then_with(|| one.cmp(other)));
        let dropped = names.split_off(names.len().min(MAX_VALUES));
        self.other += dropped.iter().map(|(_, _, count)| count).sum::<u64>();
        let shown: HashMap<usize, &str> = names.iter().map(|(name, at, _)| (*at, &**name)).collect();
        let mut buckets: BTreeMap<i64, Bucket> = BTreeMap::new();
        let start = |seconds: i64| Bucket {
            start: Timestamp::from_unix_micros(seconds.saturating_mul(1_000_000)),
            counts: BTreeMap::new(),
            other: 0,
        };
        for seconds in &self.buckets {
            buckets.insert(*seconds, start(*seconds));
        }
        for ((seconds, value), count) in &self.cells {
            let bucket = buckets.entry(*seconds).or_insert_with(|| start(*seconds));
            match shown.get(value) {
                Some(name) => {
                    bucket.counts.insert((*name).to_owned(), *count);
                }
                None => bucket.other += count,
            }
        }
        for (seconds, count) in &self.others {
            buckets.entry(*seconds).or_insert_with(|| start(*seconds)).other += count;
        }
        Statistics {
            by: self.query.by,
            interval: self.query.interval,
            since: self.query.since,
            until: self.query.until,
            events: self.events,
            without: self.without,
            totals: names
                .into_iter()
                .map(|(value, _, count)| ValueCount {
                    value: value.into(),
                    count,
                })
                .collect(),
            other: self.other,
            buckets: buckets.into_values().collect(),
            indexed_through,
            log_size,
        }
    }
}

impl TakesEvents for Counting {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        // The type and the time stand in front, and are read without the rest.
        if self.query.by == By::Type
            && let (Some(event_type), Some(time)) = (codec::peek_type(&stored.bytes), peek_time(&stored.bytes))
        {
            self.add(time, Some(event_type));
            return Ok(());
        }
        let recorded = codec::decode(stored)?;
        let record = AuditRecord::from(&recorded);
        let value: Option<Cow<'_, str>> = match self.query.by {
            By::Type => Some(Cow::Borrowed(record.event_type)),
            By::Outcome => Some(Cow::Borrowed(record.outcome.as_str())),
            By::ClientId => record.client_id.map(Cow::Borrowed),
            By::Reason => reason(&recorded.envelope.event).map(Cow::Owned),
            By::SourceNetwork => record.source_ip.map(|ip| Cow::Owned(source_network(ip).to_string())),
        };
        self.add(record.time, value.as_deref());
        Ok(())
    }
}

fn reason(event: &Event) -> Option<String> {
    let reason = match event {
        Event::TokenRefused(data) => serde_json::to_value(data.reason),
        Event::ApiCallDenied(data) => serde_json::to_value(data.reason),
        Event::RequestsThrottled(_) => return Some("throttled".into()),
        _ => return None,
    };
    reason.ok()?.as_str().map(str::to_owned)
}

/// The time of a stored event without reading all of it; `None` when the bytes are not laid out as they are encoded.
fn peek_time(bytes: &[u8]) -> Option<Timestamp> {
    const LONGEST_HEAD: usize = 512;
    const MARK: &[u8] = br#"","time":""#;
    let head = bytes.get(..LONGEST_HEAD.min(bytes.len()))?;
    let at = head.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let text = head.get(at..)?;
    let text = text.get(..text.iter().position(|byte| *byte == b'"')?)?;
    Timestamp::parse(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::{MemoryLog, facts};
    use crate::event_store::EventStore;
    use proptest::prelude::*;

    fn query(by: By, interval: Interval) -> StatisticsQuery {
        StatisticsQuery {
            by,
            interval,
            since: None,
            until: None,
        }
    }

    async fn counted(log: &Arc<MemoryLog>, query: StatisticsQuery) -> Statistics {
        count(query, 0..log.log_size(), log.clone(), log.log_size(), ())
            .await
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn counts_are_what_counting_one_by_one_gives(facts in facts(0..40), hours in 1i64..50) {
            let facts: Vec<_> = facts.into_iter().zip(0..).map(|(mut fact, at)| {
                fact.micros += at * hours * 600_000_000;
                fact
            }).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let log = MemoryLog::of(&facts);
            for by in [By::Type, By::Outcome, By::ClientId, By::Reason, By::SourceNetwork] {
                for interval in [Interval::None, Interval::Hour, Interval::Day] {
                    let counted = runtime.block_on(counted(&log, query(by, interval)));
                    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
                    let mut without = 0;
                    for fact in &facts {
                        let source = match fact.event_type {
                            "RequestsThrottled" => fact.ip.or("192.0.2.200".parse().ok()),
                            _ => fact.ip,
                        };
                        let value = match by {
                            By::Type => Some(fact.event_type.to_owned()),
                            By::Outcome => Some(fact.outcome().as_str().to_owned()),
                            By::ClientId => fact.client_id.map(str::to_owned),
                            By::Reason => match fact.event_type {
                                "TokenRefused" => Some("unknown_client".into()),
                                "RequestsThrottled" => Some("throttled".into()),
                                _ => None,
                            },
                            By::SourceNetwork => source.map(|ip| source_network(ip).to_string()),
                        };
                        match value {
                            Some(value) => *expected.entry(value).or_default() += 1,
                            None => without += 1,
                        }
                    }
                    prop_assert_eq!(counted.events, facts.len() as u64);
                    prop_assert_eq!(counted.without, without);
                    let totals: BTreeMap<String, u64> = counted.totals.iter().map(|total| (total.value.clone(), total.count)).collect();
                    prop_assert_eq!(&totals, &expected);
                    if interval != Interval::None {
                        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
                        for bucket in &counted.buckets {
                            for (value, count) in &bucket.counts {
                                *sums.entry(value.clone()).or_default() += count;
                            }
                        }
                        prop_assert_eq!(&sums, &expected);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn too_many_spans_are_refused_with_what_to_do() {
        let many: Vec<_> = crate::audit::memory_log::tokens(i64::try_from(MAX_BUCKETS).unwrap() + 1)
            .into_iter()
            .zip(0..)
            .map(|(mut fact, at)| {
                fact.micros += at * 3_600_000_000;
                fact
            })
            .collect();
        let log = MemoryLog::of(&many);
        let refused = count(query(By::Type, Interval::Hour), 0..log.log_size(), log.clone(), 1, ()).await;
        assert!(refused.unwrap_err().to_string().contains("use interval=day"));
        assert_eq!(counted(&log, query(By::Type, Interval::Day)).await.buckets.len(), 84);
        let refused = count(query(By::Type, Interval::None), 0..MAX_EVENTS + 1, log, 1, ()).await;
        assert!(refused.unwrap_err().to_string().contains("narrow since and until"));
    }
}
