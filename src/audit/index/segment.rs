//! A run of consecutive events of the log, indexed: the unit that the index database holds.

use super::field::{self, Field, Flag};
use super::identifier::{self, Identifier};
use super::listing;
use super::offsets::{self, OffsetSet};
use super::plan::{Fit, Leaf, Plan, Sets, ValueSet};
use grantlog_projections::audit_record::AuditRecord;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::convert::Infallible;

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
    /// By flag, in the order of `Flag::ALL`: which events have it.
    flags: Vec<OffsetSet>,
    identifiers: Vec<(Identifier, u16)>,
}

/// What a row of the database holds. The numbers are part of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) enum Row {
    /// Where a value of the field occurs.
    Value(Field),
    /// Where a flag is set; the value is its number.
    Flag,
    /// A list of identifiers; the value is its number.
    Identifiers,
    /// The values of a field; the value is its number.
    Listing,
}

impl Row {
    /// In the database's column `field`.
    pub fn number(self) -> u8 {
        match self {
            Self::Value(field) => field as u8,
            Self::Flag => 100,
            Self::Identifiers => 101,
            Self::Listing => 102,
        }
    }
}

impl Segment {
    pub fn new(number: u64, size: usize) -> Self {
        Self {
            number,
            size,
            times: Vec::with_capacity(size),
            last_event: [0; 32],
            postings: Field::ALL.iter().map(|_| HashMap::new()).collect(),
            flags: Flag::ALL.iter().map(|_| OffsetSet::empty(size)).collect(),
            identifiers: Vec::new(),
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
                // An event may have the same value twice.
                Some(offsets) if offsets.last() == Some(&offset) => {}
                Some(offsets) => offsets.push(offset),
                None => {
                    values.insert(value.into(), vec![offset]);
                }
            }
        });
        field::flags(record, |flag| {
            if let Some(set) = self.flags.get_mut(flag as usize) {
                set.insert(usize::from(offset));
            }
        });
        identifier::identifiers(record, |identifier| self.identifiers.push((identifier, offset)));
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

    /// The events that the plan asks for.
    pub fn matching(&self, plan: &Plan) -> Sets {
        let all = OffsetSet::range(self.size, 0..self.times.len());
        let mut answer = |leaf: &mut Leaf, _: &OffsetSet| Ok::<_, Infallible>(self.leaf(leaf, &all));
        match plan.clone().evaluate(&all, &all, &mut answer) {
            Ok(sets) => sets,
            Err(never) => match never {},
        }
    }

    fn leaf(&self, leaf: &Leaf, all: &OffsetSet) -> Sets {
        match leaf {
            Leaf::Everything(true) => Sets::exactly(all.clone()),
            Leaf::Everything(false) => Sets::exactly(all.emptied()),
            Leaf::Unknown => Sets::among(all.clone()),
            Leaf::Indexes(range) => Sets::exactly(all.within(range, self.first_index())),
            Leaf::Times(window) => {
                let mut set = all.clone();
                set.retain(|offset| self.times.get(offset).is_some_and(|time| window.contains(*time)));
                Sets::exactly(set)
            }
            Leaf::Flag(flag) => {
                let set = self.flags.get(*flag as usize);
                Sets::exactly(set.cloned().unwrap_or_else(|| all.emptied()))
            }
            Leaf::Identifier(wanted) => {
                let mut set = all.emptied();
                let found = self.identifiers.iter().filter(|(identifier, _)| identifier == wanted);
                found.for_each(|(_, offset)| set.insert(usize::from(*offset)));
                Sets::among(set)
            }
            Leaf::Values(wanted) => self.with_values(wanted),
        }
    }

    fn with_values(&self, wanted: &ValueSet) -> Sets {
        let (mut must, mut may) = (OffsetSet::empty(self.size), OffsetSet::empty(self.size));
        let mut take = |value: &[u8], offsets: &[u16]| {
            let fit = wanted.fit(value);
            let sets = [
                (fit == Fit::Yes).then_some(&mut must),
                (fit != Fit::No).then_some(&mut may),
            ];
            for set in sets.into_iter().flatten() {
                offsets.iter().for_each(|offset| set.insert(usize::from(*offset)));
            }
        };
        if let Some(values) = self.postings.get(position(wanted.field)) {
            match wanted.only() {
                Some(only) => values.get(only).into_iter().for_each(|offsets| take(only, offsets)),
                None => values
                    .iter()
                    .filter(|(value, _)| wanted.contains(value))
                    .for_each(|(value, offsets)| take(value, offsets)),
            }
        }
        Sets::between(must, may)
    }

    /// The rows that the database keeps of it, in no particular order.
    pub fn rows(&self) -> Vec<(Row, Box<[u8]>, Vec<u8>)> {
        let mut rows = Vec::new();
        for (field, values) in Field::ALL.iter().zip(&self.postings) {
            for (value, offsets) in values {
                rows.push((Row::Value(*field), value.clone(), offsets::encode(offsets, self.size)));
            }
            if field.is_listed() && !values.is_empty() {
                let mut sorted: Vec<&[u8]> = values.keys().map(|value| &**value).collect();
                sorted.sort_unstable();
                let number = Box::from([*field as u8]);
                rows.push((Row::Listing, number, listing::encode(sorted.into_iter())));
            }
        }
        for (flag, set) in Flag::ALL.iter().zip(&self.flags) {
            // Below the segment size, which is at most 65,536.
            let offsets: Vec<u16> = set.ascending().map(|offset| offset as u16).collect();
            if !offsets.is_empty() {
                rows.push((
                    Row::Flag,
                    Box::from([*flag as u8]),
                    offsets::encode(&offsets, self.size),
                ));
            }
        }
        for (bucket, list) in identifier::encode(self.identifiers.clone()) {
            rows.push((Row::Identifiers, Box::from([bucket]), list));
        }
        rows
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
