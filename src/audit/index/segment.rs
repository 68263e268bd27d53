//! A run of consecutive events of the log, indexed: the unit that the index database holds.

use super::field::{self, Field, Term};
use super::offsets::OffsetSet;
use super::times::TimeWindow;
use grantlog_projections::audit_record::AuditRecord;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Where each value occurs within one segment, and when its events happened.
pub(super) struct Segment {
    /// Its number: that of its first event divided by the segment size.
    pub number: u64,
    /// How many events it has when it is complete.
    size: usize,
    /// Each event's time, in microseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// SHA-256 of its last event's bytes, once it is complete: what tells this log from another one.
    pub last_event: [u8; 32],
    /// By field, in the order of `Field::ALL`: each value's offsets, ascending.
    postings: Vec<HashMap<Box<[u8]>, Vec<u16>>>,
}

impl Segment {
    pub fn new(number: u64, size: usize) -> Self {
        Self {
            number,
            size,
            times: Vec::with_capacity(size),
            last_event: [0; 32],
            postings: Field::ALL.iter().map(|_| HashMap::new()).collect(),
        }
    }

    /// Adds the next event. The caller looks to it that the segment is not complete.
    pub fn add(&mut self, record: &AuditRecord<'_>, bytes: &[u8]) {
        let offset = self.times.len() as u16; // a segment has at most 65,536 events
        self.times.push(record.time.unix_micros());
        field::values(record, |field, value| {
            let Some(values) = self.postings.get_mut(position(field)) else {
                return;
            };
            match values.get_mut(value) {
                Some(offsets) => offsets.push(offset),
                None => {
                    values.insert(value.into(), vec![offset]);
                }
            }
        });
        if self.is_complete() {
            self.last_event = last_event_digest(bytes);
        }
    }

    pub fn is_complete(&self) -> bool {
        self.times.len() == self.size
    }

    /// The index of its first event.
    pub fn first_index(&self) -> u64 {
        self.number * self.size as u64
    }

    /// The index of the event after its last one so far.
    pub fn next_index(&self) -> u64 {
        self.first_index() + self.times.len() as u64
    }

    /// The events that have all these values and lie in the window.
    pub fn matching(&self, terms: &[Term], window: TimeWindow) -> OffsetSet {
        let mut matching = OffsetSet::range(self.size, 0..self.times.len());
        for term in terms {
            let values = self.postings.get(position(term.field));
            match values.and_then(|values| values.get(&term.value)) {
                Some(offsets) => matching.intersect(&OffsetSet::of(self.size, offsets)),
                None => return OffsetSet::empty(self.size),
            }
        }
        if window != TimeWindow::default() {
            matching.retain(|offset| self.times.get(offset).is_some_and(|time| window.contains(*time)));
        }
        matching
    }

    /// Every value with its offsets, in no particular order.
    pub fn postings(&self) -> impl Iterator<Item = (Field, &[u8], &[u16])> {
        let fields = Field::ALL.iter().zip(&self.postings);
        fields.flat_map(|(field, values)| {
            values
                .iter()
                .map(|(value, offsets)| (*field, &**value, offsets.as_slice()))
        })
    }
}

/// What `Segment::last_event` holds of an event with these bytes.
pub(super) fn last_event_digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn position(field: Field) -> usize {
    Field::ALL
        .iter()
        .position(|known| *known == field)
        .unwrap_or(usize::MAX)
}
