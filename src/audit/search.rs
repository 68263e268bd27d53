//! Answers a search of the audit trail, a page at a time.
//!
//! The values' places are intersected segment by segment in the order asked for. Which segments to open is
//! found by seeking each value's next segment by primary key: the rarest value decides how many there are,
//! and the log itself is read for the page's own events only.

use crate::audit::cursor::Cursor;
use crate::audit::event::AuditEvent;
use crate::audit::index::{AuditIndex, Field, OffsetSet, Reader, Term, TimeBounds, TimeWindow, View};
use crate::audit::query::{AuditQuery, MAX_LIMIT, Order, TimeBound};
use crate::event_store::codec::DecodeError;
use crate::event_store::{ReadError, StoredEvent};
use serde::{Serialize, Serializer};
use std::ops::Range;

/// Bytes of events in a page: one that holds as many ends there, with a cursor.
pub const MAX_PAGE_BYTES: usize = 4 << 20;
/// Events that are read from the log at a time.
const READ_EVENTS: usize = 128;

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
        let _place = self.places.try_acquire().map_err(|_| AuditSearchError::Overloaded)?;
        // The semaphores are never closed.
        let _running = self.running.acquire().await.map_err(|_| AuditSearchError::Overloaded)?;

        let limit = query.limit.clamp(1, MAX_LIMIT);
        let search = Search::new(&query, limit + 1, self.shared.settings.segments_per_search);
        let shared = self.shared.clone();
        let (found, indexed_through) = tokio::task::spawn_blocking(move || {
            let view = shared.view(&search.terms, search.window);
            let found = shared.read(|reader| search.run(&view, reader, shared.settings.segment_events))?;
            Ok::<_, rusqlite::Error>((found, view.indexed_through))
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
            (_, Order::Asc) => Some(found.stopped_at.unwrap_or(indexed_through.max(search_start(&query)))),
            (_, Order::Desc) => found.stopped_at,
        };
        let mut events =
            tokio::task::spawn_blocking(move || stored.iter().map(AuditEvent::read).collect::<Result<Vec<_>, _>>())
                .await??;
        events.retain(|event| query.matches(event));
        Ok(AuditPage {
            events,
            next: position.map(|position| Cursor::new(&query, position)),
            indexed_through,
            log_size,
            indexed_from: self.pruned_through(),
            partial: !more && !cut && found.stopped_at.is_some(),
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

/// The lowest index that the query may find.
fn search_start(query: &AuditQuery) -> u64 {
    match (query.order, &query.after) {
        (Order::Asc, Some(cursor)) => query.from_index.max(cursor.position),
        _ => query.from_index,
    }
}

/// A query as the index understands it.
struct Search {
    /// All of these, the ones with rarer values first.
    terms: Vec<Term>,
    window: TimeWindow,
    /// Only these indexes.
    range: Range<u64>,
    order: Order,
    /// How many events to find at the most.
    wanted: usize,
    /// How many segments to open at the most.
    segments: usize,
}

/// What a search has found.
#[derive(Default)]
struct Found {
    /// In the order asked for.
    indexes: Vec<u64>,
    /// Where to go on, as a cursor's position, when the bound on the work was met.
    stopped_at: Option<u64>,
}

impl Search {
    fn new(query: &AuditQuery, wanted: usize, segments: usize) -> Self {
        let micros = |bound: Option<TimeBound>| bound.map(|bound| bound.time().unix_micros());
        let terms = Field::ALL.iter().filter_map(|field| match field {
            // A network is left to the check of each event.
            Field::SourceIp => query.source_ip.and_then(|network| match network.bounds() {
                (first, last) if first == last => Some(Term::source_ip(first)),
                _ => None,
            }),
            Field::ClientId => query.client_id.as_deref().map(|id| Term::text(*field, id)),
            Field::Type => query.event_type.map(|event_type| Term::text(*field, event_type)),
            Field::Outcome => query.outcome.map(Term::outcome),
        });
        let below = match (query.order, &query.after) {
            (Order::Desc, Some(cursor)) => cursor.position,
            _ => u64::MAX,
        };
        Self {
            terms: terms.collect(),
            window: TimeWindow {
                since: micros(query.since),
                until: micros(query.until),
            },
            range: search_start(query)..below,
            order: query.order,
            wanted,
            segments,
        }
    }

    fn run(&self, view: &View, reader: &Reader, size: usize) -> rusqlite::Result<Found> {
        let mut found = Found::default();
        match self.order {
            Order::Desc => {
                let memory = view.matching.iter().rev();
                if memory
                    .into_iter()
                    .all(|(first, matching)| self.take(&mut found, *first, matching))
                {
                    self.run_database(&mut found, view, reader, size as u64)?;
                }
            }
            Order::Asc => {
                if self.run_database(&mut found, view, reader, size as u64)? {
                    view.matching
                        .iter()
                        .all(|(first, matching)| self.take(&mut found, *first, matching));
                }
            }
        }
        Ok(found)
    }

    /// Takes the matching events of one segment. False when no more are wanted.
    fn take(&self, found: &mut Found, first: u64, matching: &OffsetSet) -> bool {
        let mut take = |offset: usize| {
            let index = first + offset as u64;
            if found.indexes.len() < self.wanted && self.range.contains(&index) {
                found.indexes.push(index);
            }
            found.indexes.len() < self.wanted
        };
        match self.order {
            Order::Desc => matching.descending().all(&mut take),
            Order::Asc => matching.ascending().all(&mut take),
        }
    }

    /// Goes through the segments of the database. False when no more events are wanted, or may be found now.
    fn run_database(&self, found: &mut Found, view: &View, reader: &Reader, size: u64) -> rusqlite::Result<bool> {
        let below = self.range.end.min(view.written.len() as u64 * size);
        let start = self.range.start.max(view.pruned_through);
        if start >= below {
            return Ok(true);
        }
        let segments = start / size..(below - 1) / size + 1;
        let mut at = match self.order {
            Order::Desc => segments.end - 1, // not empty: start < below
            Order::Asc => segments.start,
        };
        let _look = reader.look()?;
        let mut opened = 0;
        while let Some((segment, bounds)) = self.in_window(&segments, at, view) {
            if opened == self.segments {
                found.stopped_at = Some(match self.order {
                    Order::Desc => (segment + 1) * size,
                    Order::Asc => (segment * size).max(self.range.start),
                });
                return Ok(false);
            }
            opened += 1;
            match self.matching(segment, bounds, reader, size as usize)? {
                Step::Seek(next) => at = next,
                Step::End => return Ok(true),
                Step::Matching(matching) => {
                    if !self.take(found, segment * size, &matching) {
                        return Ok(false);
                    }
                    match self.order {
                        Order::Desc if segment == 0 => return Ok(true),
                        Order::Desc => at = segment - 1,
                        Order::Asc => at = segment + 1,
                    }
                }
            }
        }
        Ok(true)
    }

    /// The first segment from `at` on, in the order asked for, that may have events in the window.
    fn in_window(&self, segments: &Range<u64>, at: u64, view: &View) -> Option<(u64, TimeBounds)> {
        let touches = |segment: u64| {
            let bounds = *view.written.get(segment as usize)?; // a position of a list in memory
            self.window.touches(bounds).then_some((segment, bounds))
        };
        match self.order {
            Order::Desc => (segments.start..(at + 1).min(segments.end)).rev().find_map(touches),
            Order::Asc => (at.max(segments.start)..segments.end).find_map(touches),
        }
    }

    /// The events of one segment that match, or where to look instead.
    fn matching(&self, segment: u64, bounds: TimeBounds, reader: &Reader, size: usize) -> rusqlite::Result<Step> {
        let mut matching = OffsetSet::range(size, 0..size);
        for term in &self.terms {
            match reader.seek(term, segment, self.order)? {
                None => return Ok(Step::End),
                Some(occurrence) => match occurrence.offsets {
                    Some(offsets) => matching.intersect(&offsets),
                    None => return Ok(Step::Seek(occurrence.segment)),
                },
            }
        }
        if !self.window.covers(bounds) && !matching.is_empty() {
            let times = reader.times(segment)?;
            matching.retain(|offset| times.get(offset).is_some_and(|time| self.window.contains(*time)));
        }
        Ok(Step::Matching(matching))
    }
}

/// What a segment gave.
enum Step {
    /// These of its events match.
    Matching(OffsetSet),
    /// A value does not occur before that segment.
    Seek(u64),
    /// A value does not occur any more.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::index::Settings;
    use crate::audit::index::rebuild::compare_with;
    use crate::audit::memory_log::{ADDRESSES, CLIENTS, Fact, MemoryLog, TYPES, facts, tokens};
    use crate::audit::network::Network;
    use crate::event_store::sqlite::{SqliteEventStore, SqliteOptions};
    use crate::event_store::{Append, EventStore, ExpectedRevision, codec};
    use grantlog_projections::audit_record::Outcome;
    use grantlog_projections::values::Timestamp;
    use proptest::prelude::*;
    use std::sync::Arc;
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
