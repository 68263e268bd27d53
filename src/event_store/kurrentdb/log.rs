//! What the parts of the store share: how far this node has read, what it waits for, and how fresh that is.

use super::freshness::Freshness;
use super::positions::{Positions, order};
use crate::event_store::answers::{Reply, WakeUps};
use crate::event_store::end::End;
use crate::event_store::tail::Tail;
use crate::event_store::{AppendError, Appended, StoredEvent};
use eventstore::{Position, RecordedEvent};
use hashlink::LruCache;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use uuid::Uuid;

/// Streams whose end is remembered, the recently used ones: about 10 MB at the most. Any other costs a read.
const MAX_REMEMBERED_STREAMS: usize = 65_536;

/// The log as this node knows it.
pub(super) struct Log {
    /// How many events this node has read. Advanced before anyone is told.
    pub(super) size: watch::Sender<u64>,
    /// Why no event will follow.
    pub(super) end: watch::Sender<Option<End>>,
    pub(super) tail: Tail,
    pub(super) positions: Positions,
    /// The last event that was read, and where it is.
    pub(super) position: watch::Sender<Option<Position>>,
    last_id: Mutex<Option<Uuid>>,
    /// How far `$all` was looked through: at least as far as that, for much of it is not this log's.
    pub(super) looked_through: watch::Sender<Option<Position>>,
    /// Messages of subscriptions so far, confirmations and places among them where nothing of this log was found.
    pub(super) heard: AtomicU64,
    pub(super) freshness: Freshness,
    /// What every stream of this log begins with.
    pub(super) prefix: String,
    /// The last revision of the streams that this node writes to; `None`: there is no such stream.
    heads: Mutex<LruCache<Box<str>, Option<u64>>>,
    /// Appends that are answered when their last event is read, by its id.
    awaited: Mutex<HashMap<Uuid, Vec<Awaited>>>,
    pub(super) open: Arc<Open>,
}

/// What is under way.
#[derive(Default)]
pub(super) struct Open {
    /// Appends that have not been answered.
    pub(super) appends: AtomicUsize,
    /// Bytes of their events.
    pub(super) bytes: AtomicUsize,
}

/// An append that somebody waits for.
pub(super) struct Awaited {
    /// Its number among all.
    pub(super) number: u64,
    /// How many events it has.
    pub(super) count: usize,
    /// When it was sent first: whoever reads it has read all that was committed before. `None` when it may be a
    /// repeat of one that was sent before that.
    pub(super) sent: Option<Instant>,
    /// When its outcome counts as unknown.
    pub(super) deadline: Instant,
    pub(super) reply: Place,
}

/// A place in the queue and whom to answer. The place is free when this is dropped.
pub(super) struct Place {
    /// Not the log: that keeps places.
    open: Arc<Open>,
    bytes: usize,
    reply: Option<Reply>,
}

impl Place {
    /// Takes a place; the caller has counted it.
    pub(super) fn new(open: Arc<Open>, bytes: usize, reply: Reply) -> Self {
        Self {
            open,
            bytes,
            reply: Some(reply),
        }
    }

    pub(super) fn send(mut self, outcome: Result<Appended, AppendError>, wake_ups: &mut WakeUps) {
        if let Some(reply) = self.reply.take() {
            reply.send(outcome, wake_ups);
        }
    }

    /// Answers, and wakes who waits.
    pub(super) fn answer(self, outcome: Result<Appended, AppendError>) {
        let mut wake_ups = WakeUps::default();
        self.send(outcome, &mut wake_ups);
        wake_ups.wake();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.appends.fetch_sub(1, Ordering::Relaxed);
        self.open.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Goes as metadata with the events of an append that has several: the one stands at `at` of `of`. What was
/// appended together can be told by it from what merely stands together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Together {
    pub(super) at: usize,
    pub(super) of: usize,
}

impl Together {
    /// One alone.
    const ALONE: Self = Self { at: 0, of: 1 };

    /// That of an event; one without any was appended alone.
    pub(super) fn of(event: &RecordedEvent) -> Self {
        serde_json::from_slice(&event.custom_metadata).unwrap_or(Self::ALONE)
    }
}

impl Log {
    pub(super) fn new(positions: Positions, prefix: String, freshness: Freshness) -> io::Result<Self> {
        let count = positions.count();
        let position = match count.checked_sub(1) {
            Some(last) => Some(positions.get(last)?),
            None => None,
        };
        Ok(Self {
            size: watch::Sender::new(count),
            end: watch::Sender::new(None),
            tail: Tail::default(),
            positions,
            position: watch::Sender::new(position),
            last_id: Mutex::default(),
            looked_through: watch::Sender::new(position),
            heard: AtomicU64::new(0),
            freshness,
            prefix,
            heads: Mutex::new(LruCache::new(MAX_REMEMBERED_STREAMS)),
            awaited: Mutex::default(),
            open: Arc::default(),
        })
    }

    /// Takes in what the follower has read: gives each its index, tells who follows the log, and answers who waits.
    pub(super) fn take_in(&self, events: &[RecordedEvent]) -> io::Result<()> {
        let Some(last) = events.last() else { return Ok(()) };
        let first_index = self.positions.count();
        let positions: Vec<Position> = events.iter().map(|event| event.position).collect();
        self.positions.append(&positions)?;
        let stored: Vec<StoredEvent> = events
            .iter()
            .zip(first_index..)
            .map(|(event, index)| StoredEvent {
                index,
                revision: event.revision,
                bytes: event.data[..].into(),
            })
            .collect();
        self.remember_heads(events);
        self.tail.push(stored);
        *lock(&self.last_id) = Some(last.id);
        // In this order: whoever waits for a position finds that everything up to there can be read.
        self.size.send_replace(first_index + events.len() as u64);
        self.position.send_replace(Some(last.position));
        self.looked_through(last.position);
        self.answer(events, first_index);
        Ok(())
    }

    /// Everything of this log up to this position is read.
    pub(super) fn looked_through(&self, position: Position) {
        self.looked_through.send_if_modified(|through| {
            let is_further = through.is_none_or(|through| order(through) < order(position));
            if is_further {
                *through = Some(position);
            }
            is_further
        });
    }

    /// What is behind the last event of this log is to be looked through again: where that event is can be asked, and
    /// then everything up to there is known.
    pub(super) fn look_again(&self) {
        let last = *self.position.borrow();
        self.looked_through.send_replace(last);
    }

    /// How far `$all` was looked through.
    pub(super) fn through(&self) -> Option<Position> {
        *self.looked_through.borrow()
    }

    /// The id of the last event that was read.
    pub(super) fn last_id(&self) -> Option<Uuid> {
        *lock(&self.last_id)
    }

    /// What the last event is, for a log whose file remembers it.
    pub(super) fn set_last_id(&self, id: Uuid) {
        *lock(&self.last_id) = Some(id);
    }

    /// Makes the file of positions vouch for what is there.
    pub(super) fn vouch(&self, in_any_case: bool) -> io::Result<()> {
        match self.last_id() {
            Some(id) => self.positions.vouch(id, in_any_case),
            None => Ok(()),
        }
    }

    /// Why appends are no longer accepted.
    pub(super) fn refusal(&self) -> AppendError {
        AppendError::Closed(self.end.borrow().as_ref().unwrap_or(&End::Closed).to_string())
    }

    /// Ends the log for good, because it cannot be gone on with.
    pub(super) fn fail(&self, why: String) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            if is_first {
                *end = Some(End::Failed(why.clone()));
            }
            is_first
        });
        // They are on their way, and may have arrived.
        self.give_up(|_| true, &AppendError::Indeterminate(why));
    }

    /// Nobody reads on: what is under way may have arrived, and nobody here will know.
    pub(super) fn abandon(&self) {
        self.give_up(|_| true, &AppendError::Indeterminate("the log was dropped".to_owned()));
    }

    /// The last revision of a stream, as far as this node remembers; `Some(None)`: there is no such stream.
    pub(super) fn head(&self, stream: &str) -> Option<Option<u64>> {
        lock(&self.heads).get(stream).copied()
    }

    /// Remembers where a stream ends now.
    pub(super) fn set_head(&self, stream: &str, head: Option<u64>) {
        let mut heads = lock(&self.heads);
        match heads.get_mut(stream) {
            // A node that follows the log closely may know more already.
            Some(known) => *known = (*known).max(head),
            None => {
                heads.insert(stream.into(), head);
            }
        }
    }

    /// The stream does not end where this node believed, or does so no longer: what a leader said that was replaced
    /// need not hold.
    pub(super) fn correct_head(&self, stream: &str, wrong: Option<u64>, head: Option<u64>) {
        let mut heads = lock(&self.heads);
        match heads.get_mut(stream) {
            Some(known) if *known == wrong => *known = head,
            _ => {}
        }
    }

    /// From here on the append is answered when the event with this id is read.
    pub(super) fn await_event(&self, id: Uuid, awaited: Awaited) {
        lock(&self.awaited).entry(id).or_default().push(awaited);
    }

    /// Whether the append has not been answered.
    pub(super) fn is_awaited(&self, id: Uuid, number: u64) -> bool {
        let awaited = lock(&self.awaited);
        awaited
            .get(&id)
            .is_some_and(|all| all.iter().any(|awaited| awaited.number == number))
    }

    /// Answers an append otherwise, if it has not been answered.
    pub(super) fn settle(&self, id: Uuid, number: u64, outcome: Result<Appended, AppendError>) {
        let found = {
            let mut awaited = lock(&self.awaited);
            let Entry::Occupied(mut all) = awaited.entry(id) else {
                return;
            };
            let found = all.get().iter().position(|awaited| awaited.number == number);
            let found = found.map(|at| all.get_mut().swap_remove(at));
            if all.get().is_empty() {
                all.remove();
            }
            found
        };
        if let Some(found) = found {
            found.reply.answer(outcome);
        }
    }

    /// Answers those that waited for too long.
    pub(super) fn give_up_late(&self, now: Instant) {
        let unknown = AppendError::Indeterminate("its outcome was not known in time".to_owned());
        self.give_up(|awaited| awaited.deadline <= now, &unknown);
    }

    fn give_up(&self, is_over: impl Fn(&Awaited) -> bool, outcome: &AppendError) {
        let mut over = Vec::new();
        lock(&self.awaited).retain(|_, all| {
            over.extend(all.extract_if(.., |awaited| is_over(awaited)));
            !all.is_empty()
        });
        let mut wake_ups = WakeUps::default();
        for awaited in over {
            awaited.reply.send(Err(outcome.clone()), &mut wake_ups);
        }
        wake_ups.wake();
    }

    fn remember_heads(&self, events: &[RecordedEvent]) {
        let mut heads = lock(&self.heads);
        for event in events {
            let stream = event.stream_id().strip_prefix(&self.prefix).unwrap_or_default();
            if let Some(known) = heads.get_mut(stream) {
                *known = (*known).max(Some(event.revision));
            }
        }
    }

    fn answer(&self, events: &[RecordedEvent], first_index: u64) {
        let mut wake_ups = WakeUps::default();
        let mut awaited = lock(&self.awaited);
        for (event, index) in events.iter().zip(first_index..) {
            let Entry::Occupied(mut all) = awaited.entry(event.id) else {
                continue;
            };
            let together = Together::of(event);
            for found in all.get_mut().extract_if(.., |awaited| {
                awaited.count == together.of && together.at + 1 == together.of
            }) {
                if let Some(sent) = found.sent {
                    self.freshness.heard_at(sent);
                }
                let appended = Appended {
                    first_index: (index + 1).saturating_sub(together.of as u64),
                    last_index: index,
                    revision: event.revision,
                };
                found.reply.send(Ok(appended), &mut wake_ups);
            }
            if all.get().is_empty() {
                all.remove();
            }
        }
        drop(awaited);
        wake_ups.wake();
    }
}

/// Nobody panics with one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
