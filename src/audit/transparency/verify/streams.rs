//! The streams of a log, by what follows in each.

use super::findings::{Check, Findings};
use grantlog_projections::values::StreamName;
use std::collections::HashMap;
use uuid::Uuid;

/// Holds each event against the one before it in its stream.
#[derive(Default)]
pub struct Streams {
    next: HashMap<StreamName, (u64, Uuid)>,
}

/// Where a store has an event, which its bytes do not say.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stream that it is read with; none: with no stream.
    pub stream: Option<&'a str>,
    /// Its revision there.
    pub revision: u64,
}

impl Streams {
    /// Takes the next event of the log, which says that it has this id and is of this stream, from where a store has it.
    pub fn add(&mut self, index: u64, stream: &StreamName, id: Uuid, kept: Place<'_>, findings: &mut Findings) {
        let (expected, last) = self.before(stream);
        let name = stream.as_str();
        if kept.stream != Some(name) {
            let kept_in = kept.stream.unwrap_or("no stream");
            findings.failed(
                Check::Streams,
                format!("event {index}: it is of {name}, and kept in {kept_in}"),
            );
        } else if kept.revision != expected {
            let what = format!(
                "event {index}: revision {} of {name}, {expected} follows",
                kept.revision
            );
            findings.failed(Check::Streams, what);
        } else {
            check_id(index, name, id, last, findings);
        }
        self.next.insert(stream.clone(), (kept.revision + 1, id));
    }

    /// The same where nobody says what revision it has: that which follows, which is answered.
    pub fn follow(&mut self, index: u64, stream: &StreamName, id: Uuid, findings: &mut Findings) -> u64 {
        let (revision, last) = self.before(stream);
        check_id(index, stream.as_str(), id, last, findings);
        self.next.insert(stream.clone(), (revision + 1, id));
        revision
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.next.len() as u64
    }

    fn before(&self, stream: &StreamName) -> (u64, Option<Uuid>) {
        match self.next.get(stream) {
            Some((next, last)) => (*next, Some(*last)),
            None => (0, None),
        }
    }
}

fn check_id(index: u64, stream: &str, id: Uuid, last: Option<Uuid>, findings: &mut Findings) {
    if last == Some(id) {
        let what = format!("event {index}: it has the id of the one before it in {stream}");
        findings.failed(Check::Streams, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(check: impl FnOnce(&mut Streams, &mut Findings)) -> Option<String> {
        let mut findings = Findings::default();
        check(&mut Streams::default(), &mut findings);
        findings.failures.pop().map(|failure| failure.first)
    }

    #[test]
    fn an_event_that_is_kept_elsewhere_or_does_not_follow_is_named() {
        let stream = StreamName::service();
        let kept = |stream, revision| Place { stream, revision };
        for (second, expected) in [
            (kept(Some("service"), 1), None),
            (
                kept(Some("service"), 2),
                Some("event 1: revision 2 of service, 1 follows"),
            ),
            (
                kept(Some("other"), 1),
                Some("event 1: it is of service, and kept in other"),
            ),
            (kept(None, 1), Some("event 1: it is of service, and kept in no stream")),
        ] {
            let found = first(|streams, findings| {
                streams.add(0, &stream, Uuid::from_u128(1), kept(Some("service"), 0), findings);
                streams.add(1, &stream, Uuid::from_u128(2), second, findings);
            });
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn an_event_that_is_there_twice_is_named_and_revisions_that_nobody_says_are_counted() {
        let (stream, other) = (StreamName::service(), StreamName::retention());
        let found = first(|streams, findings| {
            let revisions = [
                streams.follow(0, &stream, Uuid::from_u128(1), findings),
                streams.follow(1, &other, Uuid::from_u128(1), findings),
                streams.follow(2, &stream, Uuid::from_u128(2), findings),
            ];
            assert_eq!((revisions, streams.count()), ([0, 0, 1], 2));
            streams.follow(3, &stream, Uuid::from_u128(2), findings);
        });
        assert_eq!(found.unwrap(), "event 3: it has the id of the one before it in service");
    }
}
