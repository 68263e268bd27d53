//! Answers a search of the audit trail, a page at a time.
//!
//! `planner` turns the query into a question to the index: sets of places that the parts of the filter give,
//! and how they are combined. Segment by segment, in the order asked for, the question is answered by places that
//! certainly match and places that may; the latter's events are read and looked at. Which segments to open is found
//! by seeking each value's next segment by primary key (`written`): the rarest value decides how many there are.

mod planner;

mod written;

use crate::audit::cursor::Cursor;
use crate::audit::event::AuditEvent;
use crate::audit::index::plan::{Plan, Sets};
use crate::audit::index::{AuditIndex, Reader, View};
use crate::audit::query::{AuditQuery, MAX_LIMIT, Order};
use crate::event_store::codec::DecodeError;
use crate::event_store::{EventStore, ReadError, StoredEvent};
use planner::Question;
use serde::{Serialize, Serializer};
use tokio::runtime::Handle;
use written::Written;

/// Bytes of events in a page: one that holds as many ends there, with a cursor.
pub const MAX_PAGE_BYTES: usize = 4 << 20;
/// Events that are read from the log at a time.
const READ_EVENTS: usize = 128;
/// Events that one search reads at the most to see whether they match, where the index alone cannot tell.
pub const EVENTS_LOOKED_AT_PER_SEARCH: usize = 20_000;
/// Rows of the index that one search reads at the most, but for the segment that it is in.
pub const ROWS_PER_SEARCH: usize = 50_000;
/// Segments whose times, which are in memory, are looked at for the cost of one row.
const BOUNDS_PER_ROW: usize = 1_000;
/// Values of the whole log that one search tries for a part such as `client_id co "x"`, before it goes through each
/// segment's values instead.
pub const VALUES_TRIED_PER_SEARCH: usize = 4_000;

/// A page of a search's answer.
///
/// `next` continues the search. Newest first, it is there while older events that match may follow, and a
/// page without it is the last: events that come later are on a new first page. Oldest first, it is always
/// there: after the last event that is there now it continues with what comes later, and a page that is
/// neither `partial` nor has an event says that nothing has come yet. No event is skipped or repeated.
#[derive(Debug, Clone, Serialize)]
pub struct AuditPage {
    /// The events, by index in the order asked for.
    pub events: Vec<AuditEvent>,
    /// For the parameter `after` of the next page.
    #[serde(serialize_with = "as_text")]
    pub next: Option<Cursor>,
    /// How many events of the log this answer speaks of.
    pub indexed_through: u64,
    /// How many events the log has.
    pub log_size: u64,
    /// What happened before this index is no longer found: it was given up. Absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    pub indexed_from: u64,
    /// The search stopped at the bound on its work: the page may have fewer events than asked for although
    /// there are more. `next` goes on from there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// The parts of the filter that no index answers: each event that the others leave was read and looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unindexed: Vec<String>,
}

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AuditSearchError {
    /// The cursor came with a page of another query: the caller's mistake.
    #[error("the cursor belongs to another query")]
    CursorOfAnotherQuery,
    /// Too many searches are waiting already. Try again later.
    #[error("too many searches of the audit trail at once")]
    Overloaded,
    /// The index database cannot be read.
    #[error("the audit index cannot be read: {0}")]
    Index(#[from] rusqlite::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event that was indexed cannot be read any more.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// The search panicked: a bug.
    #[error("the search of the audit trail broke off: {0}")]
    BrokenOff(#[from] tokio::task::JoinError),
}

impl AuditIndex {
    /// The page of events that match, as of now or as of the query's cursor.
    pub async fn search(&self, query: &AuditQuery) -> Result<AuditPage, AuditSearchError> {
        let query = match &query.after {
            Some(cursor) if !cursor.belongs_to(query) => return Err(AuditSearchError::CursorOfAnotherQuery),
            Some(cursor) => cursor.pin(query),
            None => query.clone(),
        };
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| AuditSearchError::Overloaded)?;
        // The semaphores are never closed.
        let running = self.running.clone().acquire_owned().await;
        let running = running.map_err(|_| AuditSearchError::Overloaded)?;
        // Whoever asked may go: what runs on a blocking thread goes on, and keeps its turn until it is done.
        let turn = (place, running);

        let limit = query.limit.clamp(1, MAX_LIMIT);
        let Question { plan, unindexed } = Question::of(&query);
        let (shared, store, handle) = (self.shared.clone(), self.store.clone(), Handle::current());
        let asked = query.clone();
        let (found, indexed_through, turn) = tokio::task::spawn_blocking(move || {
            let view = shared.view(&plan);
            let mut search = Search {
                query: &asked,
                wanted: limit + 1,
                size: shared.settings.segment_events,
                budget: Budget {
                    segments: shared.settings.segments_per_search,
                    events: shared.settings.events_looked_at_per_search,
                    rows: 0,
                    bounds: 0,
                    values: VALUES_TRIED_PER_SEARCH,
                },
                found: Found::default(),
                store: &*store,
                handle: &handle,
            };
            shared.read(|reader| search.run(plan, &view, reader))?;
            Ok::<_, AuditSearchError>((search.found, view.indexed_through, turn))
        })
        .await??;
        // Asked for after the view was taken, so never less than `indexed_through`.
        let log_size = self.store.log_size();

        let more = found.indexes.len() > limit;
        let wanted = found.indexes.get(..limit).unwrap_or(&found.indexes);
        let stored = self.read(wanted).await?;
        let cut = stored.len() < wanted.len();
        let position = match (stored.last(), query.order) {
            (Some(last), Order::Desc) if more || cut => Some(last.index),
            (Some(last), Order::Asc) if more || cut => Some(last.index + 1),
            (_, Order::Asc) => Some(
                found
                    .stopped_at
                    .unwrap_or(indexed_through.max(planner::wanted(&query).start)),
            ),
            (_, Order::Desc) => found.stopped_at,
        };
        let events = tokio::task::spawn_blocking(move || {
            let events = stored.iter().map(AuditEvent::read).collect::<Result<Vec<_>, _>>();
            drop(turn);
            events
        });
        let events = events.await??;
        Ok(AuditPage {
            events,
            next: position.map(|position| Cursor::new(&query, position)),
            indexed_through,
            log_size,
            indexed_from: self.pruned_through(),
            partial: !more && !cut && found.stopped_at.is_some(),
            unindexed,
        })
    }

    /// The events at these indexes, as many of the first as a page may hold.
    async fn read(&self, indexes: &[u64]) -> Result<Vec<StoredEvent>, ReadError> {
        let mut events: Vec<StoredEvent> = Vec::with_capacity(indexes.len());
        let mut bytes = 0;
        for indexes in indexes.chunks(READ_EVENTS) {
            for event in self.store.read_indexes(indexes).await? {
                bytes += event.bytes.len();
                events.push(event);
                if bytes >= self.shared.settings.page_bytes {
                    return Ok(events);
                }
            }
        }
        Ok(events)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn as_text<S: Serializer>(cursor: &Option<Cursor>, serializer: S) -> Result<S::Ok, S::Error> {
    match cursor {
        Some(cursor) => serializer.collect_str(cursor),
        None => serializer.serialize_none(),
    }
}

/// What is left of the bounds on a search's work.
struct Budget {
    /// Segments to open.
    segments: usize,
    /// Events to look at.
    events: usize,
    /// Rows of the index that were read.
    rows: usize,
    /// Times of segments that were looked at, in memory, and are not counted as rows yet.
    bounds: usize,
    /// Values to try.
    values: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.segments == 0 || self.rows >= ROWS_PER_SEARCH
    }

    fn spend_bounds(&mut self, looked_at: u64) {
        self.bounds = self
            .bounds
            .saturating_add(usize::try_from(looked_at).unwrap_or(usize::MAX));
        self.rows += self.bounds / BOUNDS_PER_ROW;
        self.bounds %= BOUNDS_PER_ROW;
    }
}

/// What a search has found.
#[derive(Default)]
struct Found {
    /// In the order asked for.
    indexes: Vec<u64>,
    /// Where to go on, as a cursor's position, when the bound on the work was met.
    stopped_at: Option<u64>,
}

/// A search under way.
struct Search<'a> {
    query: &'a AuditQuery,
    /// How many events to find at the most.
    wanted: usize,
    /// Events per segment.
    size: usize,
    budget: Budget,
    found: Found,
    store: &'a dyn EventStore,
    handle: &'a Handle,
}

impl Search<'_> {
    fn run(&mut self, plan: Plan, view: &View, reader: &Reader) -> Result<(), AuditSearchError> {
        match self.query.order {
            Order::Desc => {
                for (first, sets) in view.matching.iter().rev() {
                    if !self.take(*first, sets)? {
                        return Ok(());
                    }
                }
                self.run_database(plan, view, reader)?;
            }
            Order::Asc => {
                if self.run_database(plan, view, reader)? {
                    for (first, sets) in &view.matching {
                        if !self.take(*first, sets)? {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes through the segments of the database. False when the search is at its end.
    fn run_database(&mut self, plan: Plan, view: &View, reader: &Reader) -> Result<bool, AuditSearchError> {
        let order = self.query.order;
        // What was given up is not looked at: it may be half there. What has been given up since the view was taken
        // is marked in the database before any of it goes, so this look sees the mark or all of it.
        let _look = reader.look()?;
        let first = (view.pruned_through / self.size as u64).max(reader.pruned_segments()?);
        let mut at = match (order, view.written.len() as u64) {
            (_, segments) if segments <= first => return Ok(true),
            (Order::Desc, segments) => segments - 1,
            (Order::Asc, _) => first,
        };
        let mut written = Written::new(plan, reader, order, self.size, &view.written, &mut self.budget)?;
        let mut is_first = true;
        while let Some(segment) = written.next(at, &mut self.budget)? {
            if segment < first {
                return Ok(true);
            }
            // However much the first one costs: a search that goes on has to come further.
            if self.budget.is_spent() && !is_first {
                let size = self.size as u64;
                self.found.stopped_at = Some(match order {
                    Order::Desc => (segment + 1) * size,
                    Order::Asc => (segment * size).max(planner::wanted(self.query).start),
                });
                return Ok(false);
            }
            is_first = false;
            self.budget.segments = self.budget.segments.saturating_sub(1);
            let sets = written.matching(segment, &mut self.budget)?;
            if !self.take(segment * self.size as u64, &sets)? {
                return Ok(false);
            }
            match order {
                Order::Desc if segment == 0 => return Ok(true),
                Order::Desc => at = segment - 1,
                Order::Asc => at = segment + 1,
            }
        }
        Ok(true)
    }

    /// Takes the matching events of one segment. False when the search is at its end.
    fn take(&mut self, first: u64, sets: &Sets) -> Result<bool, AuditSearchError> {
        match self.query.order {
            Order::Desc => self.take_in_order(first, sets, &mut sets.may().descending()),
            Order::Asc => self.take_in_order(first, sets, &mut sets.may().ascending()),
        }
    }

    fn take_in_order(
        &mut self,
        first: u64,
        sets: &Sets,
        offsets: &mut dyn Iterator<Item = usize>,
    ) -> Result<bool, AuditSearchError> {
        loop {
            let places: Vec<usize> = offsets.take(READ_EVENTS).collect();
            let index = |offset: &usize| first + *offset as u64;
            let Some(next) = places.first().map(index) else {
                return Ok(true);
            };
            let unsure: Vec<u64> = places
                .iter()
                .filter(|place| !sets.is_certain(**place))
                .map(index)
                .collect();
            if !unsure.is_empty() && self.budget.events == 0 {
                self.found.stopped_at = Some(match self.query.order {
                    Order::Desc => next + 1,
                    Order::Asc => next,
                });
                return Ok(false);
            }
            self.budget.events = self.budget.events.saturating_sub(unsure.len());
            let matching = self.look_at(&unsure)?;
            for (place, index) in places.iter().zip(places.iter().map(index)) {
                if sets.is_certain(*place) || matching.contains(&index) {
                    self.found.indexes.push(index);
                    if self.found.indexes.len() >= self.wanted {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Which of these events match.
    fn look_at(&self, indexes: &[u64]) -> Result<Vec<u64>, AuditSearchError> {
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        let mut matching = Vec::new();
        for stored in self.handle.block_on(self.store.read_indexes(indexes))? {
            if self.query.matches(&AuditEvent::read(&stored)?) {
                matching.push(stored.index);
            }
        }
        Ok(matching)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::filter::{Filter, arbitrary};
    use crate::audit::index::rebuild::compare_with;
    use crate::audit::index::{MAX_WAITING_SEARCHES, SEARCH_READERS, Settings};
    use crate::audit::memory_log::{ADDRESSES, CLIENTS, Fact, MemoryLog, TYPES, facts, tokens};
    use crate::audit::network::Network;
    use crate::audit::query::TimeBound;
    use crate::audit::various_events;
    use crate::event_store::sqlite::{SqliteEventStore, SqliteOptions};
    use crate::event_store::{Append, EventStore, ExpectedRevision, codec};
    use grantlog_projections::audit_record::Outcome;
    use grantlog_projections::values::Timestamp;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Duration;
    use tempfile::TempDir;

    fn small() -> Settings {
        Settings {
            segment_events: 8,
            ..Settings::default()
        }
    }

    async fn index(log: &Arc<MemoryLog>, settings: Settings) -> (TempDir, AuditIndex) {
        let folder = tempfile::tempdir().unwrap();
        let index = AuditIndex::open_with(&folder.path().join("audit.db"), log.clone(), settings)
            .await
            .unwrap();
        index.wait_until_indexed(log.log_size()).await.unwrap();
        (folder, index)
    }

    fn of_orders(order: Order, limit: usize) -> AuditQuery {
        AuditQuery {
            client_id: Some("orders".into()),
            order,
            limit,
            ..AuditQuery::default()
        }
    }

    /// Follows the cursors to the end: what all pages had, and how many there were.
    async fn pages(index: &AuditIndex, query: &AuditQuery, limits: &[usize]) -> (Vec<u64>, usize) {
        let (mut found, mut query) = (Vec::new(), query.clone());
        for page in 0..10_000 {
            query.limit = limits[page % limits.len()];
            let answer = index.search(&query).await.unwrap();
            assert!(answer.events.len() <= query.limit);
            assert!(answer.indexed_through <= answer.log_size);
            found.extend(answer.events.iter().map(|event| event.index));
            let nothing_yet = query.order == Order::Asc && answer.events.is_empty() && !answer.partial;
            match answer.next {
                Some(next) if !nothing_yet => query.after = Cursor::parse(&next.to_string()),
                Some(_) => return (found, page + 1),
                None => {
                    assert_eq!(query.order, Order::Desc);
                    return (found, page + 1);
                }
            }
        }
        panic!("the pages do not end");
    }

    fn naive(facts: &[Fact], query: &AuditQuery) -> Vec<u64> {
        let fits = |at: usize, fact: &Fact| {
            at as u64 >= query.from_index
                && query.event_type.is_none_or(|event_type| event_type == fact.event_type)
                && query
                    .client_id
                    .as_deref()
                    .is_none_or(|client| Some(client) == fact.client_id)
                && query.outcome.is_none_or(|outcome| outcome == fact.outcome())
                && query
                    .source_ip
                    .is_none_or(|network| fact.ip.is_some_and(|own| network.contains(own)))
                && query
                    .since
                    .is_none_or(|since| fact.micros >= since.time().unix_micros())
                && query.until.is_none_or(|until| fact.micros < until.time().unix_micros())
        };
        let mut found: Vec<u64> = facts
            .iter()
            .enumerate()
            .filter(|(at, fact)| fits(*at, fact))
            .map(|(at, _)| at as u64)
            .collect();
        if query.order == Order::Desc {
            found.reverse();
        }
        found
    }

    prop_compose! {
        /// Which parameters are given (one bit each) and their values.
        fn queries()(
            values in (0..TYPES.len(), 0..CLIENTS.len(), any::<bool>(), 0..ADDRESSES.len()),
            times in (0.0..1.0_f64, 0.0..1.0_f64, 0.0..1.0_f64),
            limits in proptest::collection::vec(1..12_usize, 1..4),
        ) -> (usize, usize, bool, usize, (f64, f64, f64), Vec<usize>) {
            (values.0, values.1, values.2, values.3, times, limits)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn an_indexed_answer_is_that_of_reading_every_event(
            facts in facts(0..100),
            queries in proptest::collection::vec(queries(), 2),
            segments_per_search in 1..20_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let log = MemoryLog::of(&facts);
                let (_folder, index) = index(&log, Settings { segments_per_search, ..small() }).await;
                let (earliest, latest) = (
                    facts.iter().map(|fact| fact.micros).min().unwrap_or_default(),
                    facts.iter().map(|fact| fact.micros).max().unwrap_or_default(),
                );
                for (event_type, client, refused, address, times, limits) in &queries {
                    let time = |part: f64| {
                        let micros = earliest + ((latest - earliest + 1) as f64 * part) as i64;
                        TimeBound::At(Timestamp::from_unix_micros(micros))
                    };
                    for given in 0..1_u32 << 8 {
                        let has = |bit: u32| given & (1 << bit) != 0;
                        let query = AuditQuery {
                            event_type: has(0).then_some(TYPES[*event_type]),
                            client_id: has(1).then(|| CLIENTS[*client].into()),
                            outcome: has(2).then_some(if *refused { Outcome::Refused } else { Outcome::Success }),
                            source_ip: if has(3) { Network::parse(ADDRESSES[*address]) } else { None },
                            since: has(4).then(|| time(times.0)),
                            until: has(5).then(|| time(times.1)),
                            from_index: if has(6) { (facts.len() as f64 * times.2) as u64 } else { 0 },
                            order: if has(7) { Order::Asc } else { Order::Desc },
                            ..AuditQuery::default()
                        };
                        let (found, _) = pages(&index, &query, limits).await;
                        assert_eq!(found, naive(&facts, &query), "{query:?}");
                    }
                }
                index.close().await;
            });
        }
    }

    /// What every event of the log says by itself.
    fn naive_of(log: &[Vec<u8>], query: &AuditQuery) -> Vec<u64> {
        let mut found = Vec::new();
        for (index, bytes) in (0..).zip(log) {
            let stored = StoredEvent {
                index,
                revision: index,
                bytes: bytes.as_slice().into(),
            };
            if query.matches(&AuditEvent::read(&stored).unwrap()) {
                found.push(index);
            }
        }
        if query.order == Order::Desc {
            found.reverse();
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn a_filter_finds_by_the_index_what_it_finds_by_looking_at_every_event(
            log in various_events::events(0..90),
            filters in proptest::collection::vec(arbitrary::filters(), 12),
            arrived in 0.0..1.0_f64,
            segments_per_search in 1..20_usize,
            events_looked_at_per_search in 1..40_usize,
            limits in proptest::collection::vec(1..12_usize, 1..4),
            from_index in 0..40_u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let settings = Settings { segments_per_search, events_looked_at_per_search, ..small() };
                let store = MemoryLog::of(&[]);
                let (_folder, index) = index(&store, settings).await;
                let (before, after) = log.split_at((log.len() as f64 * arrived) as usize);
                before.iter().for_each(|bytes| store.add_bytes(bytes.clone()));
                index.wait_until_indexed(before.len() as u64).await.unwrap();
                let query = |filter: &Filter, order, from_index| AuditQuery {
                    filter: Some(filter.clone()),
                    order,
                    from_index,
                    limit: 1,
                    ..AuditQuery::default()
                };
                // The first page of each, before the rest of the log arrives.
                let mut first = Vec::new();
                for filter in &filters {
                    for order in [Order::Asc, Order::Desc] {
                        let page = index.search(&query(filter, order, 0)).await.unwrap();
                        first.push((query(filter, order, 0), page));
                    }
                }
                after.iter().for_each(|bytes| store.add_bytes(bytes.clone()));
                index.wait_until_indexed(log.len() as u64).await.unwrap();
                for filter in &filters {
                    for order in [Order::Asc, Order::Desc] {
                        let query = query(filter, order, from_index);
                        let (found, _) = pages(&index, &query, &limits).await;
                        assert_eq!(found, naive_of(&log, &query), "{filter}");
                    }
                }
                for (query, page) in first {
                    let mut found: Vec<u64> = page.events.iter().map(|event| event.index).collect();
                    if let Some(after) = page.next {
                        let rest = AuditQuery { after: Some(after), ..query.clone() };
                        found.extend(pages(&index, &rest, &limits).await.0);
                    }
                    let expected = match query.order {
                        Order::Asc => naive_of(&log, &query),
                        Order::Desc => naive_of(before, &query),
                    };
                    assert_eq!(found, expected, "{:?} {}", query.order, query.filter.unwrap());
                }
                index.close().await;
            });
        }
    }

    #[tokio::test]
    async fn what_is_indexed_is_answered_without_reading_an_event() {
        let settings = Settings {
            events_looked_at_per_search: 0,
            ..small()
        };
        let (_folder, index) = index(&MemoryLog::of(&tokens(40)), settings).await;
        let search = async |filter: &str| {
            let now = Timestamp::from_unix_micros(various_events::BEGIN);
            let query = AuditQuery {
                filter: Some(Filter::parse(filter, now).unwrap()),
                ..AuditQuery::default()
            };
            index.search(&query).await.unwrap()
        };
        for (filter, expected) in [
            (r#"client_id sw "ord" and not (client_id ew "x")"#, 40),
            (r#"source_ip eq "192.0.0.0/8" and type co "Issued""#, 40),
            (r#"actor eq "anonymous" and actor ne "orders" and reason eq null"#, 40),
            (
                r#"secret_id eq "00000000-0000-0000-0000-000000000000" and outcome ne "refused""#,
                40,
            ),
            (r#"path pr or trace_id pr or client_id gt "p""#, 0),
            ("index ge 10 and index lt 30 and not (index eq 12)", 19),
            (
                r#"time ge "2026-03-16T09:30:00.000005Z" and time lt "2026-03-16T09:30:00.000009Z""#,
                4,
            ),
            (r#"jti eq "ffffffff-ffff-ffff-ffff-ffffffffffff""#, 0),
        ] {
            let page = search(filter).await;
            assert_eq!((page.events.len(), page.partial), (expected, false), "{filter}");
            assert_eq!(page.unindexed, [""; 0], "{filter}");
        }
        let page = search("scope pr and index ge 0").await;
        assert_eq!((page.events.len(), page.partial), (0, true));
        assert_eq!(page.unindexed, ["scope pr"]);
    }

    #[tokio::test]
    async fn a_page_without_next_is_the_last_one_and_not_empty() {
        let (_folder, index) = index(&MemoryLog::of(&tokens(20)), small()).await;
        assert_eq!(pages(&index, &of_orders(Order::Desc, 0), &[10]).await.1, 2);
        assert_eq!(pages(&index, &of_orders(Order::Desc, 0), &[20]).await.1, 1);
        assert_eq!(pages(&index, &AuditQuery::default(), &[7]).await.1, 3);
    }

    #[tokio::test]
    async fn newest_first_later_events_are_on_a_new_first_page_only() {
        let log = MemoryLog::of(&tokens(20));
        let (_folder, index) = index(&log, small()).await;
        let first = index.search(&of_orders(Order::Desc, 5)).await.unwrap();
        log.add(&tokens(10));
        index.wait_until_indexed(30).await.unwrap();
        let rest = AuditQuery {
            after: first.next,
            ..of_orders(Order::Desc, 5)
        };
        assert_eq!(pages(&index, &rest, &[5]).await.0, (0..15).rev().collect::<Vec<_>>());
        let anew = index.search(&of_orders(Order::Desc, 1)).await.unwrap();
        assert_eq!(
            (anew.events[0].index, anew.indexed_through, anew.log_size),
            (29, 30, 30)
        );
    }

    #[tokio::test]
    async fn oldest_first_the_last_cursor_goes_on_with_what_comes_later() {
        let log = MemoryLog::of(&tokens(20));
        let (_folder, index) = index(&log, small()).await;
        let last = index.search(&of_orders(Order::Asc, 100)).await.unwrap();
        assert_eq!(last.events.len(), 20);
        let later = AuditQuery {
            after: last.next,
            ..of_orders(Order::Asc, 100)
        };
        let nothing = index.search(&later).await.unwrap();
        assert!(nothing.events.is_empty() && nothing.next.is_some());
        log.add(&tokens(3));
        index.wait_until_indexed(23).await.unwrap();
        let later = AuditQuery {
            after: nothing.next,
            ..of_orders(Order::Asc, 100)
        };
        assert_eq!(pages(&index, &later, &[2]).await.0, [20, 21, 22]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn paging_while_events_arrive_skips_and_repeats_nothing() {
        const EVENTS: u64 = 3_000;
        let log = MemoryLog::in_batches(&[], 5);
        let (_folder, index) = index(&log, small()).await;
        let index = Arc::new(index);
        let writer = std::thread::spawn({
            let log = log.clone();
            move || {
                for token in tokens(EVENTS as i64) {
                    log.add(&[token]);
                    if now_and_then(log.log_size()) {
                        std::thread::yield_now();
                    }
                }
            }
        });
        let newest_first = tokio::spawn({
            let index = index.clone();
            async move {
                let mut rounds = 0;
                while index.indexed_through() < EVENTS {
                    let first = index.search(&of_orders(Order::Desc, 3)).await.unwrap();
                    let rest = AuditQuery {
                        after: first.next,
                        ..of_orders(Order::Desc, 3)
                    };
                    let mut found: Vec<u64> = first.events.iter().map(|event| event.index).collect();
                    if first.next.is_some() {
                        found.extend(pages(&index, &rest, &[3, 40, 700]).await.0);
                    }
                    assert_eq!(found, (0..first.indexed_through).rev().collect::<Vec<_>>());
                    rounds += 1;
                }
                rounds
            }
        });
        let (mut found, mut query) = (Vec::new(), of_orders(Order::Asc, 0));
        while (found.len() as u64) < EVENTS {
            query.limit = 1 + found.len() % 50;
            let page = index.search(&query).await.unwrap();
            for event in &page.events {
                assert_eq!(event.index, found.len() as u64);
                found.push(event.index);
            }
            query.after = page.next;
        }
        writer.join().unwrap();
        assert!(newest_first.await.unwrap() > 0);
    }

    fn now_and_then(at: u64) -> bool {
        at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62 == 0
    }

    #[tokio::test]
    async fn a_cursor_is_refused_by_another_query() {
        let (_folder, index) = index(&MemoryLog::of(&tokens(20)), small()).await;
        let page = index.search(&of_orders(Order::Desc, 5)).await.unwrap();
        let other = AuditQuery {
            after: page.next,
            ..of_orders(Order::Asc, 5)
        };
        let error = index.search(&other).await.unwrap_err();
        assert!(matches!(error, AuditSearchError::CursorOfAnotherQuery), "{error}");
    }

    #[tokio::test]
    async fn a_search_that_meets_its_bound_answers_what_it_has_and_goes_on_from_there() {
        let mut facts = tokens(80);
        facts[3].client_id = Some("reports");
        let settings = Settings {
            segments_per_search: 2,
            ..small()
        };
        let (_folder, index) = index(&MemoryLog::of(&facts), settings).await;
        index.close().await; // every complete segment is in the database then, and searches go on
        // Both values are in the one segment only that the rarer of them is in: no need to look elsewhere.
        let rare = AuditQuery {
            client_id: Some("reports".into()),
            event_type: Some("TokenIssued"),
            ..AuditQuery::default()
        };
        let page = index.search(&rare).await.unwrap();
        assert_eq!((page.events.len(), page.partial, page.next), (1, false, None));
        let two_bounds = AuditQuery {
            client_id: Some("orders".into()),
            from_index: 3,
            ..AuditQuery::default()
        };
        let page = index.search(&two_bounds).await.unwrap();
        assert_eq!(
            (page.events.len(), page.partial, page.next.is_some()),
            (16, true, true),
            "two segments of eight"
        );
        assert_eq!(pages(&index, &two_bounds, &[100]).await.0.len(), 76);
    }

    #[tokio::test]
    async fn a_page_ends_where_it_has_enough_bytes() {
        let settings = Settings {
            page_bytes: 2_000,
            ..small()
        };
        let (_folder, index) = index(&MemoryLog::of(&tokens(30)), settings).await;
        let page = index.search(&of_orders(Order::Desc, 1_000)).await.unwrap();
        assert!(page.events.len() < 10 && page.next.is_some());
        for order in [Order::Desc, Order::Asc] {
            assert_eq!(pages(&index, &of_orders(order, 0), &[1_000]).await.0.len(), 30);
        }
    }

    #[tokio::test]
    async fn a_page_is_written_as_the_contract_has_it() {
        let (_folder, index) = index(&MemoryLog::of(&tokens(2)), small()).await;
        let page = index.search(&of_orders(Order::Desc, 1)).await.unwrap();
        let json = serde_json::to_value(&page).unwrap();
        assert_eq!(json["events"][0]["index"], 1);
        assert_eq!(json["next"], page.next.unwrap().to_string());
        assert_eq!((&json["indexed_through"], &json["log_size"]), (&2.into(), &2.into()));
        assert_eq!(json.as_object().unwrap().len(), 4);
    }

    #[tokio::test]
    async fn the_embedded_store_is_followed_and_searched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.db");
        let store = || -> Arc<dyn EventStore> {
            let options = SqliteOptions::new(folder.path().join("events.db"));
            Arc::new(SqliteEventStore::open(options).unwrap())
        };
        let facts = tokens(50);
        let first = store();
        let index = AuditIndex::open_with(&path, first.clone(), small()).await.unwrap();
        for (at, facts) in facts.chunks(7).enumerate() {
            let append = Append {
                stream: format!("stream-{at}"),
                expected: ExpectedRevision::NoStream,
                events: facts
                    .iter()
                    .map(|fact| codec::encode(&fact.envelope()).unwrap())
                    .collect(),
            };
            first.append_to_stream(append).await.unwrap();
        }
        index.wait_until_indexed(50).await.unwrap();
        assert_eq!(
            pages(&index, &of_orders(Order::Desc, 0), &[9]).await.0,
            (0..50).rev().collect::<Vec<_>>()
        );
        index.close().await;
        first.close().await;

        let second = store();
        let index = AuditIndex::open_with(&path, second.clone(), small()).await.unwrap();
        index.wait_until_indexed(50).await.unwrap();
        let page = index.search(&of_orders(Order::Asc, 50)).await.unwrap();
        assert_eq!(page.events.len(), 50);
        assert_eq!((page.events[8].revision, page.events[8].index), (1, 8));
        let compared = compare_with(&path, second, 8, |_| {}).await.unwrap();
        assert_eq!((compared.compared_events, compared.difference), (48, None));
    }

    #[tokio::test]
    async fn more_searches_than_may_wait_are_refused() {
        let (_folder, index) = index(&MemoryLog::of(&tokens(2)), small()).await;
        let places = index
            .places
            .acquire_many(index.places.available_permits() as u32)
            .await
            .unwrap();
        let error = index.search(&AuditQuery::default()).await.unwrap_err();
        assert!(matches!(error, AuditSearchError::Overloaded), "{error}");
        drop(places);
        assert_eq!(index.search(&AuditQuery::default()).await.unwrap().events.len(), 2);
    }

    /// As a server does with a request whose client has gone.
    fn poll_once_and_drop(future: impl Future) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(future).poll(&mut context).is_pending());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn searches_whose_callers_have_gone_leave_their_places_to_others() {
        let (_folder, index) = index(&MemoryLog::of(&tokens(200)), small()).await;
        index.close().await; // every complete segment is in the database then, and searches go on
        let query = of_orders(Order::Desc, 100);
        for _ in 0..500 {
            poll_once_and_drop(index.search(&query));
        }
        let answer = async {
            loop {
                match index.search(&query).await {
                    Err(AuditSearchError::Overloaded) => tokio::task::yield_now().await,
                    answer => return answer.unwrap(),
                }
            }
        };
        let page = tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap();
        assert_eq!(page.events.len(), 100);
        let all = (SEARCH_READERS + MAX_WAITING_SEARCHES) as u32;
        assert_eq!(
            index.places.acquire_many(all).await.unwrap().num_permits(),
            all as usize
        );
        assert!(index.shared.readers.lock().unwrap().len() <= SEARCH_READERS);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_search_that_runs_on_without_its_caller_keeps_its_place() {
        let log = MemoryLog::of(&tokens(20));
        let (_folder, index) = index(&log, small()).await;
        index.close().await;
        {
            // Their blocking parts wait for it.
            let _held = index.shared.readers.lock().unwrap();
            for _ in 0..2 * SEARCH_READERS {
                poll_once_and_drop(index.search(&of_orders(Order::Desc, 5)));
            }
            assert_eq!(index.running.available_permits(), 0);
        }
        let running = index.running.acquire_many(SEARCH_READERS as u32);
        let running = tokio::time::timeout(Duration::from_secs(20), running).await;
        assert_eq!(running.unwrap().unwrap().num_permits(), SEARCH_READERS);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_pruned_after_a_search_began_is_found_whole_or_not_at_all() {
        for order in [Order::Desc, Order::Asc] {
            let log = MemoryLog::of(&tokens(40));
            let (folder, index) = index(&log, small()).await;
            // The window cuts through the segment that goes: its times are looked at.
            let query = AuditQuery {
                since: Some(TimeBound::At(Timestamp::from_unix_micros(1_773_653_400_000_003))),
                order,
                ..AuditQuery::default()
            };
            let plan = Question::of(&query).plan;
            let view = loop {
                let view = index.shared.view(&plan);
                if view.written.len() == 5 {
                    break view;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            index.prune(16).await.unwrap();
            let (size, handle, store) = (8, Handle::current(), log.clone());
            let path = folder.path().join("audit.db");
            let found = tokio::task::spawn_blocking(move || {
                let reader = Reader::open(&path, size).unwrap();
                let mut search = Search {
                    query: &query,
                    wanted: 100,
                    size,
                    budget: Budget {
                        segments: 100,
                        events: 100,
                        rows: 0,
                        bounds: 0,
                        values: 100,
                    },
                    found: Found::default(),
                    store: &*store,
                    handle: &handle,
                };
                search.run(plan, &view, &reader).unwrap();
                search.found.indexes
            });
            let mut found = found.await.unwrap();
            found.sort_unstable();
            assert_eq!(found, (16..40).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn an_empty_log_has_an_empty_page() {
        let log = MemoryLog::of(&[]);
        let (_folder, index) = index(&log, small()).await;
        let page = index.search(&AuditQuery::default()).await.unwrap();
        assert_eq!((page.events.len(), page.next, page.log_size), (0, None, 0));
        let oldest_first = index.search(&of_orders(Order::Asc, 5)).await.unwrap();
        log.add(&tokens(1));
        index.wait_until_indexed(1).await.unwrap();
        let later = AuditQuery {
            after: oldest_first.next,
            ..of_orders(Order::Asc, 5)
        };
        assert_eq!(index.search(&later).await.unwrap().events.len(), 1);
    }
}
