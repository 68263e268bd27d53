//! The part of the index that is in memory, and what a search sees of the whole at one moment.

use super::plan::{Plan, Sets};
use super::segment::Segment;
use super::times::TimeBounds;
use grantlog_projections::audit_record::AuditRecord;
use imbl::Vector;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The newest segments. Only the feeder changes it; searches hold the lock for microseconds.
pub(super) struct Memory {
    segments: RwLock<Segments>,
}

/// What it consists of.
pub(super) struct Segments {
    /// The times of the segments that the database holds.
    written: Vector<TimeBounds>,
    /// Complete, and not in the database yet.
    complete: VecDeque<Arc<Segment>>,
    /// The newest.
    open: Segment,
    /// Events of a complete one.
    size: usize,
}

impl Segments {
    /// Adds the event that follows.
    pub fn push(&mut self, record: &AuditRecord<'_>, bytes: &[u8]) {
        self.open.add(record, bytes);
        if self.open.is_complete() {
            let next = Segment::new(self.open.number + 1, self.size);
            self.complete
                .push_back(Arc::new(std::mem::replace(&mut self.open, next)));
        }
    }
}

/// The index as a search sees it: later events do not change it.
pub(in crate::audit) struct View {
    /// The times of the segments that are in the database.
    pub written: Vector<TimeBounds>,
    /// The segments in memory, oldest first: the index of the first event, and which events match.
    pub matching: Vec<(u64, Sets)>,
    /// How many events are indexed.
    pub indexed_through: u64,
    /// What is before this index was given up.
    pub pruned_through: u64,
}

impl Memory {
    pub fn new(written: impl Iterator<Item = TimeBounds>, size: usize) -> Self {
        let written: Vector<TimeBounds> = written.collect();
        let open = Segment::new(written.len() as u64, size);
        Self {
            segments: RwLock::new(Segments {
                written,
                complete: VecDeque::new(),
                open,
                size,
            }),
        }
    }

    /// How many events are indexed: the index of the next one.
    pub fn indexed_through(&self) -> u64 {
        self.lock().open.next_index()
    }

    /// Lets the events that follow be added without a search in between, and answers with `indexed_through`, too.
    pub fn add<T>(&self, add: impl FnOnce(&mut Segments) -> T) -> (T, u64) {
        let mut segments = self.lock_to_change();
        let added = add(&mut segments);
        (added, segments.open.next_index())
    }

    /// How many segments the database holds.
    pub fn written_segments(&self) -> u64 {
        self.lock().written.len() as u64
    }

    /// How many segments at the beginning have only events from before that time.
    pub fn complete_before(&self, time: i64) -> u64 {
        let (written, complete) = {
            let segments = self.lock();
            let complete: Vec<_> = segments.complete.iter().cloned().collect();
            (segments.written.clone(), complete)
        };
        let in_memory = complete.iter().filter_map(|segment| TimeBounds::of(&segment.times));
        let bounds = written.iter().copied().chain(in_memory);
        bounds.take_while(|bounds| bounds.latest < time).count() as u64
    }

    /// The complete segments that are not in the database yet, oldest first.
    pub fn complete(&self) -> Vec<Arc<Segment>> {
        self.lock().complete.iter().cloned().collect()
    }

    /// Lets the oldest segments go that are in the database now.
    pub fn written(&self, count: usize) {
        let mut segments = self.lock_to_change();
        for _ in 0..count {
            let bounds = segments
                .complete
                .pop_front()
                .and_then(|segment| TimeBounds::of(&segment.times));
            if let Some(bounds) = bounds {
                segments.written.push_back(bounds);
            }
        }
    }

    pub fn view(&self, plan: &Plan) -> View {
        let (written, complete, open, indexed_through) = {
            let segments = self.lock();
            (
                segments.written.clone(),
                segments.complete.iter().cloned().collect::<Vec<_>>(),
                (segments.open.first_index(), segments.open.matching(plan)),
                segments.open.next_index(),
            )
        };
        let matching = complete
            .iter()
            .map(|segment| (segment.first_index(), segment.matching(plan)));
        View {
            written,
            matching: matching.chain([open]).collect(),
            indexed_through,
            pruned_through: 0,
        }
    }

    // A thread that panicked with the lock left counts that are whole: each change is a push.
    fn lock(&self) -> RwLockReadGuard<'_, Segments> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_to_change(&self) -> RwLockWriteGuard<'_, Segments> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}
