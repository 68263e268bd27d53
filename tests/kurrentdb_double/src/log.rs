//! The committed log that the nodes of a cluster share: an append is decided and written here, and read from here.
//!
//! An event is encoded once, as the answer that a read sends. Reads take runs of it under a lock that is held for a
//! few microseconds; a filter that was asked for before has an index of its own, so that a subscription to few
//! events of a long log does not look at the others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

use crate::filter::Filter;
use crate::wire::{EncodedReadResp, shared, streams, uuid_as_halves, uuid_as_string};

/// Filters that have an index of their own, at most. Further ones look at every event.
const INDEXED_FILTERS: usize = 16;

/// Event ids that are remembered for appends that expect any revision. The real server remembers some, too, and
/// promises nothing.
const REMEMBERED_IDS: usize = 100_000;

/// What a record takes in the log beside its name, type and bodies, in bytes.
const RECORD_HEADER_BYTES: u64 = 96;

/// An event, as a client proposes it.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event's id, by which a repeated append is recognised.
    pub id: Uuid,
    /// Its type.
    pub event_type: String,
    /// `application/json` or `application/octet-stream`.
    pub content_type: String,
    /// The body.
    pub data: Bytes,
    /// The second body.
    pub custom_metadata: Bytes,
}

/// An event of the log, for checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// The position, commit and prepare alike.
    pub position: u64,
    /// The stream's name.
    pub stream: Arc<str>,
    /// The revision in the stream, from 0 without a hole.
    pub revision: u64,
    /// The event's id.
    pub id: Uuid,
    /// Its type.
    pub event_type: Arc<str>,
    /// Its body.
    pub data: Bytes,
}

/// What an append says about the stream's present revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// The last event's revision.
    Exact(u64),
    /// The stream has no event.
    NoStream,
    /// It has at least one.
    StreamExists,
    /// No matter.
    Any,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log, now or from before: the stream's revision and the last event's position.
    Committed {
        /// `None` when a stream without events was appended no events.
        revision: Option<u64>,
        /// `None` when no events were proposed.
        position: Option<u64>,
        /// Whether it was there before: a repeat, recognised by its event ids.
        repeated: bool,
    },
    /// The stream is at another revision.
    WrongExpectedRevision {
        /// The stream's revision, or none.
        current: Option<u64>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    next_position: u64,
    /// Where each stream's events are in `records`, by revision.
    streams: HashMap<Arc<str>, Vec<u32>>,
    types: HashSet<Arc<str>>,
    indexes: Vec<FilterIndex>,
    remembered: HashMap<Uuid, (Arc<str>, u64)>,
    remembered_in_order: VecDeque<Uuid>,
}

#[derive(Debug)]
struct Record {
    position: u64,
    revision: u64,
    id: Uuid,
    stream: Arc<str>,
    event_type: Arc<str>,
    /// The whole answer that a read sends for this event.
    answer: Bytes,
    data_bytes: u32,
}

#[derive(Debug)]
struct FilterIndex {
    filter: Filter,
    /// Where the matching events are in `records`.
    records: Vec<u32>,
}

/// What of the log a read sees.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    Everything,
    /// By an index of the log.
    Indexed(usize),
    /// By looking at every event.
    Filtered(Filter),
}

impl Log {
    /// Decides an append and writes its events, one behind the other. `remember_ids`: whether a repeated append
    /// that expects any revision is recognised, as far as its ids are remembered.
    pub(crate) fn append(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: &[NewEvent],
        remember_ids: bool,
    ) -> Appended {
        let inner = &mut *self.write();
        if let Some(decided) = inner.decide(stream, expected, events, remember_ids) {
            return decided;
        }
        let stream: Arc<str> = match inner.streams.get_key_value(stream) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(stream),
        };
        for event in events {
            inner.push(&stream, event, remember_ids);
        }
        let revision = inner.revision(&stream);
        let position = if events.is_empty() {
            None
        } else {
            inner.records.last().map(|record| record.position)
        };
        Appended::Committed {
            revision,
            position,
            repeated: false,
        }
    }

    pub(crate) fn read(&self) -> Reader<'_> {
        // A panic while writing has failed the test already.
        Reader(self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Prepares to read what a filter lets through: the first to ask for it pays for the index.
    pub(crate) fn select(&self, filter: Option<Filter>) -> Selection {
        let Some(filter) = filter else {
            return Selection::Everything;
        };
        let inner = &mut *self.write();
        if let Some(index) = inner.indexes.iter().position(|index| index.filter == filter) {
            return Selection::Indexed(index);
        }
        if inner.indexes.len() == INDEXED_FILTERS {
            return Selection::Filtered(filter);
        }
        let matching = |(place, record): (usize, &Record)| {
            filter
                .matches(&record.stream, &record.event_type)
                .then_some(place as u32)
        };
        let records = inner.records.iter().enumerate().filter_map(matching).collect();
        inner.indexes.push(FilterIndex { filter, records });
        Selection::Indexed(inner.indexes.len() - 1)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn revision(&self, stream: &str) -> Option<u64> {
        self.streams.get(stream)?.len().checked_sub(1).map(|last| last as u64)
    }

    /// What an append comes to that writes nothing: a repeat or a refusal. `None` when it is to be written.
    fn decide(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: &[NewEvent],
        remember_ids: bool,
    ) -> Option<Appended> {
        let current = self.revision(stream);
        let wrong = Some(Appended::WrongExpectedRevision { current });
        let next = current.map_or(0, |current| current + 1);
        let expected_next = match expected {
            ExpectedRevision::Exact(revision) => revision.saturating_add(1),
            ExpectedRevision::NoStream => 0,
            ExpectedRevision::StreamExists if current.is_none() => return wrong,
            ExpectedRevision::StreamExists | ExpectedRevision::Any => {
                if !remember_ids {
                    return None;
                }
                let (of_stream, revision) = self.remembered.get(&events.first()?.id)?;
                if &**of_stream != stream {
                    return None;
                }
                *revision
            }
        };
        if expected_next == next {
            return None;
        }
        if expected_next > next {
            return wrong;
        }
        // It expects an older revision: a repeat, when exactly its events are there, in order.
        let places = self.streams.get(stream)?;
        let there = places.get(expected_next as usize..)?;
        let repeated = there.len() >= events.len()
            && events
                .iter()
                .zip(there)
                .all(|(event, place)| self.records[*place as usize].id == event.id);
        let (true, Some(last)) = (repeated, events.len().checked_sub(1)) else {
            return wrong;
        };
        // `there` has as many entries as `events`, and places are of records that exist.
        let last = &self.records[there[last] as usize];
        Some(Appended::Committed {
            revision: Some(last.revision),
            position: Some(last.position),
            repeated: true,
        })
    }

    fn push(&mut self, stream: &Arc<str>, event: &NewEvent, remember_id: bool) {
        let event_type = match self.types.get(event.event_type.as_str()) {
            Some(event_type) => Arc::clone(event_type),
            None => {
                let event_type: Arc<str> = Arc::from(event.event_type.as_str());
                self.types.insert(Arc::clone(&event_type));
                event_type
            }
        };
        let place = self.records.len() as u32;
        let places = self.streams.entry(Arc::clone(stream)).or_default();
        let revision = places.len() as u64;
        places.push(place);
        for index in &mut self.indexes {
            if index.filter.matches(stream, &event_type) {
                index.records.push(place);
            }
        }
        if remember_id {
            self.remembered.insert(event.id, (Arc::clone(stream), revision));
            self.remembered_in_order.push_back(event.id);
            if self.remembered_in_order.len() > REMEMBERED_IDS
                && let Some(oldest) = self.remembered_in_order.pop_front()
            {
                self.remembered.remove(&oldest);
            }
        }
        let position = self.next_position;
        let bodies = event.data.len() + event.custom_metadata.len();
        self.next_position += RECORD_HEADER_BYTES + (stream.len() + 2 * event_type.len() + bodies) as u64;
        let answer = event_appeared(position, stream, revision, event, uuid_as_string(event.id));
        self.records.push(Record {
            position,
            revision,
            id: event.id,
            stream: Arc::clone(stream),
            event_type,
            answer: answer.0,
            data_bytes: event.data.len() as u32,
        });
    }
}

fn event_appeared(position: u64, stream: &str, revision: u64, event: &NewEvent, id: shared::Uuid) -> EncodedReadResp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // In ticks of 100 ns.
    let created = since_epoch.as_nanos() / 100;
    let metadata = HashMap::from([
        ("type".to_owned(), event.event_type.clone()),
        ("content-type".to_owned(), event.content_type.clone()),
        ("created".to_owned(), created.to_string()),
    ]);
    EncodedReadResp::of(streams::read_resp::Content::Event(streams::read_resp::ReadEvent {
        event: Some(streams::read_resp::RecordedEvent {
            id: Some(id),
            stream_identifier: Some(shared::StreamIdentifier {
                stream_name: Bytes::copy_from_slice(stream.as_bytes()),
            }),
            stream_revision: revision,
            prepare_position: position,
            commit_position: position,
            metadata,
            custom_metadata: event.custom_metadata.clone(),
            data: event.data.clone(),
        }),
        position: Some(streams::read_resp::read_event::Position::CommitPosition(position)),
    }))
}

/// The log while nothing is written to it. A place is a number from 0 in the order of the log.
pub(crate) struct Reader<'a>(RwLockReadGuard<'a, Inner>);

impl Reader<'_> {
    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.0.records.len()
    }

    /// The position behind the last event.
    pub(crate) fn end(&self) -> u64 {
        self.0.next_position
    }

    /// The place of the first event at or behind a position.
    pub(crate) fn at(&self, position: u64) -> usize {
        self.0.records.partition_point(|record| record.position < position)
    }

    /// The place of the first event behind a position.
    pub(crate) fn behind(&self, position: u64) -> usize {
        self.0.records.partition_point(|record| record.position <= position)
    }

    pub(crate) fn position(&self, place: usize) -> Option<u64> {
        Some(self.0.records.get(place)?.position)
    }

    pub(crate) fn answer(&self, place: usize) -> Option<EncodedReadResp> {
        Some(EncodedReadResp(self.0.records.get(place)?.answer.clone()))
    }

    /// The places of a stream's events, by revision.
    pub(crate) fn stream(&self, stream: &str) -> Option<&[u32]> {
        self.0.streams.get(stream).map(Vec::as_slice)
    }

    /// The first place from `from` to before `end` that is selected.
    pub(crate) fn next(&self, selection: &Selection, from: usize, end: usize) -> Option<usize> {
        let found = match selection {
            Selection::Everything => Some(from),
            Selection::Indexed(index) => {
                let places = &self.0.indexes.get(*index)?.records;
                places
                    .get(places.partition_point(|place| (*place as usize) < from))
                    .map(|place| *place as usize)
            }
            Selection::Filtered(filter) => (from..end.min(self.len())).find(|place| self.matches(filter, *place)),
        };
        found.filter(|place| *place < end)
    }

    /// The last place before `end` that is selected.
    pub(crate) fn previous(&self, selection: &Selection, end: usize) -> Option<usize> {
        match selection {
            Selection::Everything => end.checked_sub(1),
            Selection::Indexed(index) => {
                let places = &self.0.indexes.get(*index)?.records;
                let before = places.partition_point(|place| (*place as usize) < end);
                Some(places[before.checked_sub(1)?] as usize)
            }
            Selection::Filtered(filter) => (0..end).rev().find(|place| self.matches(filter, *place)),
        }
    }

    fn matches(&self, filter: &Filter, place: usize) -> bool {
        let record = self.0.records.get(place);
        record.is_some_and(|record| filter.matches(&record.stream, &record.event_type))
    }

    /// The answer for clients that want ids in two halves.
    pub(crate) fn with_id_in_halves(&self, place: usize, answer: EncodedReadResp) -> EncodedReadResp {
        let Some(record) = self.0.records.get(place) else {
            return answer;
        };
        let Ok(mut message) = <streams::ReadResp as prost::Message>::decode(answer.0.clone()) else {
            return answer;
        };
        if let Some(streams::read_resp::Content::Event(read)) = &mut message.content
            && let Some(event) = &mut read.event
        {
            event.id = Some(uuid_as_halves(record.id));
        }
        EncodedReadResp(prost::Message::encode_to_vec(&message).into())
    }

    pub(crate) fn logged(&self, place: usize) -> Option<LoggedEvent> {
        let record = self.0.records.get(place)?;
        // The body is the last field of the event, and the event is followed by its commit position alone: a tag of
        // one byte and the number.
        let end = record.answer.len() - 1 - prost::encoding::encoded_len_varint(record.position);
        Some(LoggedEvent {
            position: record.position,
            stream: Arc::clone(&record.stream),
            revision: record.revision,
            id: record.id,
            event_type: Arc::clone(&record.event_type),
            data: record.answer.slice(end - record.data_bytes as usize..end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::streams::read_req::{FilterOptions, filter_options};

    fn event(data: &'static str, custom_metadata: &'static str) -> NewEvent {
        NewEvent {
            id: Uuid::new_v4(),
            event_type: "happened".into(),
            content_type: "application/json".into(),
            data: data.into(),
            custom_metadata: custom_metadata.into(),
        }
    }

    fn on_prefix(prefix: &str) -> Filter {
        let expression = filter_options::Expression {
            regex: String::new(),
            prefix: vec![prefix.to_owned()],
        };
        Filter::parse(&FilterOptions {
            filter: Some(filter_options::Filter::StreamIdentifier(expression)),
            window: None,
            checkpoint_interval_multiplier: 1,
        })
        .unwrap()
    }

    #[test]
    fn a_logged_event_has_the_body_that_was_appended() {
        let log = Log::default();
        for (revision, (data, custom_metadata)) in [("", ""), ("body", ""), ("", "more"), ("body", "more")]
            .into_iter()
            .enumerate()
        {
            log.append("stream", ExpectedRevision::Any, &[event(data, custom_metadata)], false);
            let logged = log.read().logged(revision).unwrap();
            assert_eq!((logged.revision, &logged.data[..]), (revision as u64, data.as_bytes()));
        }
    }

    #[test]
    fn an_index_finds_what_looking_at_every_event_finds() {
        let log = Log::default();
        let append = |streams: &[&str]| {
            for stream in streams {
                log.append(stream, ExpectedRevision::Any, &[event("", "")], false);
            }
        };
        append(&["a.1", "b.1", "b.2", "a.2"]);
        // Made when it is first asked for, and kept up with what is appended later.
        let indexed = log.select(Some(on_prefix("a.")));
        assert!(matches!(indexed, Selection::Indexed(0)));
        append(&["b.1", "a.1", "b.3"]);
        let filtered = Selection::Filtered(on_prefix("a."));
        let reader = log.read();
        for end in 0..=reader.len() {
            assert_eq!(
                reader.previous(&indexed, end),
                reader.previous(&filtered, end),
                "before {end}"
            );
            for from in 0..end {
                assert_eq!(
                    reader.next(&indexed, from, end),
                    reader.next(&filtered, from, end),
                    "{from} to {end}"
                );
            }
        }
    }

    #[test]
    fn filters_beyond_those_that_have_an_index_still_filter() {
        let log = Log::default();
        for number in 0..INDEXED_FILTERS {
            assert!(matches!(
                log.select(Some(on_prefix(&number.to_string()))),
                Selection::Indexed(_)
            ));
        }
        assert!(matches!(log.select(Some(on_prefix("more"))), Selection::Filtered(_)));
        assert!(matches!(log.select(Some(on_prefix("0"))), Selection::Indexed(0)));
    }
}
