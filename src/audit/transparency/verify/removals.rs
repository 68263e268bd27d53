//! What is left of removed events, held against what the log says of removals.
//!
//! The remains of an event name the leaf hash that it had, so the tree alone would take them in the place of any event.
//! What was removed is on the record, and that record is a leaf itself: each `EventsRemoved` says of which range, and
//! how many events it were. Retention goes on from where it stopped, so no two ranges have an index in common.

use super::findings::{Check, Findings};
use crate::audit::transparency::leaf::remains;
use crate::event_store::{StoredEvent, codec};
use grantlog_projections::Event;
use std::ops::Range;

/// The streams of facts that are nothing but the trail, by how their names begin: events of no other may go.
const TRAIL_STREAMS: [&str; 2] = ["token-requests-", "api-calls-"];
/// The same, whole.
const ACCESS_STREAM: &str = "audit-access";

/// What an event has to do with removals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It was removed itself; this is what is left.
    Left {
        /// The stream that it says it was in, when events of that stream are never removed.
        foreign_stream: Option<Box<str>>,
    },
    /// It says that others were.
    Said {
        /// Of these indexes.
        range: Range<u64>,
        /// So many.
        events: u64,
    },
}

impl Removal {
    /// Of an event's stored bytes; none when it has nothing to do with removals, as most.
    pub fn of(stored: &[u8]) -> Option<Self> {
        if let Some(remains) = remains(stored) {
            let is_of_the_trail = remains.stream == ACCESS_STREAM
                || TRAIL_STREAMS
                    .iter()
                    .any(|beginning| remains.stream.starts_with(beginning));
            return Some(Self::Left {
                foreign_stream: (!is_of_the_trail).then(|| remains.stream.into()),
            });
        }
        if codec::peek_type(stored) != Some("EventsRemoved") {
            return None;
        }
        let stored = StoredEvent {
            index: 0, // neither is looked at
            revision: 0,
            bytes: stored.into(),
        };
        match codec::decode(&stored).ok()?.envelope.event {
            Event::EventsRemoved(removed) => Some(Self::Said {
                range: removed.from_index..removed.through_index,
                events: removed.events,
            }),
            _ => None,
        }
    }
}

/// Takes events in the order of the log, from one index on without a gap.
#[derive(Debug)]
pub struct RemovalCheck {
    /// What is read, as failures call it.
    what: String,
    /// How each failure begins.
    prefix: String,
    /// The index of the first event that is read.
    begin: u64,
    /// The indexes at which events were removed, ascending.
    left: Vec<Range<u64>>,
    /// What was said to be removed.
    said: Vec<(Range<u64>, u64)>,
    /// The last bundle of events that a server says it has no more.
    gone: Option<Range<u64>>,
    /// The first event that could not be removed by any rule, and how many there are.
    impossible: Option<(String, u64)>,
}

impl RemovalCheck {
    /// Of the log, or its beginning.
    pub fn of_log() -> Self {
        Self::new("the log".into(), String::new(), 0)
    }

    /// Of a file that has the log's events from this index on.
    pub fn of_export(name: &str, begin: u64) -> Self {
        Self::new("the export".into(), format!("{name}: "), begin)
    }

    /// Of what a server gives of its events.
    pub fn of_entries() -> Self {
        Self::new("what the server gives of its events".into(), String::new(), 0)
    }

    fn new(what: String, prefix: String, begin: u64) -> Self {
        Self {
            what,
            prefix,
            begin,
            left: Vec::new(),
            said: Vec::new(),
            gone: None,
            impossible: None,
        }
    }

    /// Takes the next event by its stored bytes.
    pub fn add(&mut self, index: u64, stored: &[u8]) {
        if let Some(removal) = Removal::of(stored) {
            self.take(index, removal);
        }
    }

    /// The same of an event that was looked at already.
    pub fn take(&mut self, index: u64, removal: Removal) {
        match removal {
            Removal::Left { foreign_stream } => {
                match self.left.last_mut() {
                    Some(last) if last.end == index => last.end += 1,
                    _ => self.left.push(index..index + 1),
                }
                if let Some(stream) = foreign_stream {
                    self.impossible(format!(
                        "event {index} was removed from the stream {stream}, and events of it never are"
                    ));
                }
            }
            Removal::Said { range, .. } if range.end > index || range.is_empty() => self.impossible(format!(
                "event {index} says that events {} up to {} were removed, which cannot be",
                range.start, range.end
            )),
            Removal::Said { range, events } => self.said.push((range, events)),
        }
    }

    /// Takes a bundle that a server does not give, because events of it were removed.
    pub fn take_gone(&mut self, bundle: Range<u64>) {
        self.gone = Some(bundle);
    }

    /// Says what was removed otherwise than on the record.
    pub fn finish(mut self, findings: &mut Findings) {
        let (what, prefix) = (&self.what, &self.prefix);
        let failed =
            |findings: &mut Findings, text: String| findings.failed(Check::Removals, format!("{prefix}{text}"));
        if let Some((first, count)) = self.impossible {
            (0..count).for_each(|_| failed(findings, first.clone()));
        }
        self.said.sort_by_key(|(range, _)| range.start);
        for pair in self.said.windows(2) {
            if let [(one, _), (other, _)] = pair
                && other.start < one.end
            {
                let both = called(&(other.start..one.end.min(other.end)));
                failed(findings, format!("{what} says twice that {both} were removed"));
            }
        }
        let mut counts = vec![0; self.said.len()];
        let mut next = 0;
        for run in &self.left {
            let mut index = run.start;
            while index < run.end {
                while self.said.get(next).is_some_and(|(said, _)| said.end <= index) {
                    next += 1;
                }
                let said = self.said.get(next).map(|(said, _)| said);
                let end = match (said, counts.get_mut(next)) {
                    (Some(said), Some(count)) if said.start <= index => {
                        let end = said.end.min(run.end);
                        *count += end - index;
                        end
                    }
                    (Some(said), _) => said.start.min(run.end),
                    (None, _) => run.end,
                };
                if said.is_none_or(|said| index < said.start) {
                    failed(
                        findings,
                        format!("event {index} was removed, and {what} does not say so"),
                    );
                }
                index = end;
            }
        }
        // Ranges follow each other from event 0 on: the newest says of all before it that their turn has come.
        let through = self.said.iter().map(|(said, _)| said.end).max().unwrap_or(0);
        if let Some(bundle) = self.gone.as_ref().filter(|bundle| bundle.start >= through) {
            let text = format!(
                "the server does not give {} because events of them were removed, and {what} does not say so",
                called(bundle)
            );
            failed(findings, text);
        }
        let begin = self.begin;
        let mut removed = 0;
        for ((said, events), count) in self.said.iter().zip(counts) {
            removed += count;
            let range = called(said);
            if count > *events {
                failed(
                    findings,
                    format!("of {range} {count} were removed, and {what} says {events}"),
                );
            } else if count > 0 && said.start < begin {
                let text = format!(
                    "it begins among {range}, of which {events} were removed: only one that begins with event {} or \
                     before shows that no others were",
                    said.start
                );
                failed(findings, text);
            } else if count < *events && self.gone.is_none() && said.start >= begin {
                findings.note(format!(
                    "{prefix}of {range} {count} of {events} are removed: that goes on, and as long as it does, which \
                     ones cannot be told"
                ));
            }
        }
        if removed > 0 {
            let what = format!("{prefix}{removed} events removed in ranges that are on the record; their hashes stay");
            findings.checked(Check::Removals, removed, what);
        }
    }

    fn impossible(&mut self, text: String) {
        match &mut self.impossible {
            Some((_, count)) => *count += 1,
            None => self.impossible = Some((text, 1)),
        }
    }
}

/// A range as people read it.
fn called(range: &Range<u64>) -> String {
    format!("events {} to {}", range.start, range.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    fn left(stream: &str) -> String {
        format!(
            r#"{{"id":"{ID}","stream":"{stream}","type":"EventRemoved","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{{"leaf_hash":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}}}}"#
        )
    }

    fn said(from: u64, through: u64, events: u64) -> String {
        format!(
            r#"{{"id":"{ID}","stream":"retention","type":"EventsRemoved","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{{"from_index":{from},"through_index":{through},"events":{events},"rule":"age"}}}}"#
        )
    }

    /// Events at these indexes are gone, and then this was said.
    fn found(mut check: RemovalCheck, gone: impl IntoIterator<Item = u64>, said: &[String]) -> Findings {
        for index in gone {
            check.add(index, left("token-requests-unknown").as_bytes());
        }
        for (index, said) in (1_000..).zip(said) {
            check.add(index, said.as_bytes());
        }
        let mut findings = Findings::default();
        check.finish(&mut findings);
        findings
    }

    fn first(findings: &Findings) -> &str {
        &findings.failures[0].first
    }

    #[test]
    fn as_many_as_the_log_says_may_be_gone() {
        let ranges = [said(0, 10, 8), said(10, 20, 10)];
        let findings = found(
            RemovalCheck::of_log(),
            (0..20).filter(|index| ![3, 4].contains(index)),
            &ranges,
        );
        assert!(findings.are_good() && findings.notes.is_empty(), "{findings:?}");
        assert_eq!(
            (findings.checked[0].check, findings.checked[0].count),
            (Check::Removals, 18)
        );
    }

    #[test]
    fn one_more_than_the_log_says_is_a_failure_that_names_the_range() {
        let ranges = [said(10, 20, 10), said(0, 10, 8)];
        let findings = found(RemovalCheck::of_log(), (0..20).filter(|index| *index != 3), &ranges);
        assert_eq!(first(&findings), "of events 0 to 9 9 were removed, and the log says 8");
        assert_eq!(findings.failures[0].count, 1);
    }

    #[test]
    fn fewer_are_a_removal_under_way() {
        let findings = found(RemovalCheck::of_log(), 0..5, &[said(0, 10, 8)]);
        assert!(findings.are_good(), "{findings:?}");
        assert!(
            findings.notes[0].starts_with("of events 0 to 9 5 of 8 are removed"),
            "{findings:?}"
        );
    }

    #[test]
    fn what_no_range_has_is_named() {
        for (gone, said, expected) in [
            (vec![4], vec![], 4),
            (vec![9, 10, 11], vec![said(0, 10, 10)], 10),
            (vec![5, 6], vec![said(6, 10, 4)], 5),
            (vec![5, 15, 25], vec![said(0, 10, 1), said(20, 30, 1)], 15),
        ] {
            let findings = found(RemovalCheck::of_log(), gone, &said);
            let expected = format!("event {expected} was removed, and the log does not say so");
            assert_eq!(first(&findings), expected);
            assert_eq!(findings.failures[0].count, 1, "{findings:?}");
        }
    }

    #[test]
    fn a_range_is_said_once() {
        let findings = found(RemovalCheck::of_log(), 0..8, &[said(0, 10, 8), said(8, 20, 8)]);
        assert_eq!(first(&findings), "the log says twice that events 8 to 9 were removed");
    }

    #[test]
    fn what_is_not_there_yet_is_not_removed() {
        for said in [said(0, 2_000, 9), said(7, 7, 9), said(9, 3, 9)] {
            let findings = found(RemovalCheck::of_log(), [], &[said]);
            assert!(first(&findings).starts_with("event 1000 says"), "{findings:?}");
        }
    }

    #[test]
    fn only_facts_of_the_trail_are_removed() {
        use grantlog_projections::values::{ApplicationId, StreamName};
        let id = ApplicationId::of_client_id("orders");
        let is_removable = |stream: &str| {
            let mut check = RemovalCheck::of_log();
            check.add(3, left(stream).as_bytes());
            let findings = found(check, [], &[said(0, 10, 1)]);
            findings.are_good()
        };
        for stream in [
            StreamName::token_requests(None),
            StreamName::token_requests(Some(id)),
            StreamName::api_calls(None),
            StreamName::api_calls(Some(id)),
            StreamName::audit_access(),
        ] {
            assert!(is_removable(stream.as_str()), "{stream:?}");
        }
        for stream in [
            StreamName::service(),
            StreamName::application(id),
            StreamName::signing_keys(),
            StreamName::retention(),
        ] {
            assert!(!is_removable(stream.as_str()), "{stream:?}");
        }
        assert!(!is_removable("audit-access-2"));
    }

    #[test]
    fn an_export_that_begins_among_what_was_removed_shows_too_little() {
        let of_export = |begin| RemovalCheck::of_export("e.log", begin);
        let findings = found(of_export(3), 3..10, &[said(0, 10, 10)]);
        assert!(
            first(&findings).starts_with("e.log: it begins among events 0 to 9"),
            "{findings:?}"
        );
        let later = found(of_export(10), 10..20, &[said(0, 10, 10), said(10, 20, 10)]);
        assert!(later.are_good() && later.notes.is_empty(), "{later:?}");
        let unsaid = found(of_export(3), 3..10, &[]);
        assert_eq!(
            first(&unsaid),
            "e.log: event 3 was removed, and the export does not say so"
        );
    }
}
