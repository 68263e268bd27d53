//! Following the log: the newest events are kept in memory for those who are nearly up to date, and a
//! subscription that has fallen further behind reads them where they are kept. Neither the writer nor another
//! subscription ever waits for a slow one.

use super::end::End;
use crate::event_store::{BoxFuture, MAX_EVENTS_PER_READ, ReadError, StoredEvent, Subscription};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Events kept in memory: what is committed while a subscription is busy for a tenth of a second. Four times as
/// many would leave the processor's cache before they are forgotten, and make their memory slow to use again.
const MAX_TAIL_EVENTS: usize = 4_096;
/// Bytes of events kept in memory.
const MAX_TAIL_BYTES: usize = 16 * 1024 * 1024;
/// Events handed out at a time, so that the writer never waits long for the lock.
const MAX_TAKEN_AT_ONCE: usize = 512;

/// What there is to follow.
pub(super) trait Followed: Send + Sync + 'static {
    /// How many events are durable. Advanced before anyone is told.
    fn size(&self) -> &watch::Sender<u64>;

    /// Why no event will follow.
    fn end(&self) -> &watch::Sender<Option<End>>;

    /// The newest events.
    fn tail(&self) -> &Tail;

    /// At least one and at most `limit` events from `from` on, of the first `size`; `from` is one of them.
    fn read_on(&self, from: u64, limit: usize, size: u64) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>>;
}

/// The newest events of the log, without a gap.
#[derive(Default)]
pub(super) struct Tail {
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    events: VecDeque<StoredEvent>,
    bytes: usize,
}

impl Tail {
    /// Adds what has just been committed and forgets the oldest beyond the bounds.
    pub(super) fn push(&self, committed: Vec<StoredEvent>) {
        let mut forgotten = Vec::new();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        for event in committed {
            newest.bytes += event.bytes.len();
            newest.events.push_back(event);
        }
        while newest.events.len() > MAX_TAIL_EVENTS || newest.bytes > MAX_TAIL_BYTES {
            let Some(oldest) = newest.events.pop_front() else { break };
            newest.bytes -= oldest.bytes.len();
            forgotten.push(oldest);
        }
        // Freeing memory is no reason to keep the others waiting.
        drop(newest);
        drop(forgotten);
    }

    /// Up to `limit` events from index `from` on, `None` when that is not (or no longer) in memory.
    pub(super) fn take(&self, from: u64, limit: usize) -> Option<Vec<StoredEvent>> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = usize::try_from(from.checked_sub(newest.events.front()?.index)?).ok()?;
        let end = newest
            .events
            .len()
            .min(offset.saturating_add(limit.min(MAX_TAKEN_AT_ONCE)));
        (offset < end).then(|| newest.events.range(offset..end).cloned().collect())
    }
}

/// One reader that follows the log.
pub(super) struct LogSubscription<L> {
    log: Arc<L>,
    next: u64,
    size: watch::Receiver<u64>,
    end: watch::Receiver<Option<End>>,
}

impl<L: Followed> LogSubscription<L> {
    pub(super) fn new(log: Arc<L>, from: u64) -> Self {
        let (size, end) = (log.size().subscribe(), log.end().subscribe());
        Self {
            log,
            next: from,
            size,
            end,
        }
    }

    async fn wait_and_take(&mut self, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
        loop {
            // In this order: whoever has seen the end sees the last event too.
            let end = self.end.borrow_and_update().clone();
            let size = *self.size.borrow_and_update();
            if self.next < size {
                let events = self.take(limit, size).await?;
                // It moves on only when the events are handed over: a dropped future skips nothing.
                self.next += events.len() as u64;
                return Ok(events);
            }
            if let Some(end) = end {
                return Err(ReadError(end.to_string()));
            }
            // The senders live as long as `self.log`, so both waits end by a change alone.
            tokio::select! {
                _ = self.size.changed() => {}
                _ = self.end.changed() => {}
            }
        }
    }

    /// At least one event: there is one at `next`.
    async fn take(&self, limit: usize, size: u64) -> Result<Vec<StoredEvent>, ReadError> {
        let limit = limit.min(usize::try_from(size - self.next).unwrap_or(usize::MAX));
        if let Some(events) = self.log.tail().take(self.next, limit) {
            return Ok(events);
        }
        self.log.read_on(self.next, limit, size).await
    }
}

impl<L: Followed> Subscription for LogSubscription<L> {
    fn next_batch(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        Box::pin(self.wait_and_take(limit.clamp(1, MAX_EVENTS_PER_READ)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u64, bytes: usize) -> StoredEvent {
        StoredEvent {
            index,
            revision: index,
            bytes: vec![b'x'; bytes].into(),
        }
    }

    fn indexes(events: Option<Vec<StoredEvent>>) -> Option<Vec<u64>> {
        events.map(|events| events.iter().map(|event| event.index).collect())
    }

    #[test]
    fn the_tail_answers_only_for_what_it_holds() {
        let tail = Tail::default();
        assert_eq!(indexes(tail.take(0, 10)), None);
        tail.push((100..105).map(|index| event(index, 1)).collect());
        assert_eq!(indexes(tail.take(99, 10)), None);
        assert_eq!(indexes(tail.take(100, 2)), Some(vec![100, 101]));
        assert_eq!(indexes(tail.take(103, 10)), Some(vec![103, 104]));
        assert_eq!(indexes(tail.take(105, 10)), None);
    }

    #[test]
    fn the_tail_is_bounded_in_events() {
        let tail = Tail::default();
        let last = MAX_TAIL_EVENTS as u64 + 9;
        tail.push((0..=last).map(|index| event(index, 1)).collect());
        assert_eq!(indexes(tail.take(9, 1)), None);
        assert_eq!(indexes(tail.take(10, 1)), Some(vec![10]));
        assert_eq!(indexes(tail.take(last, 1)), Some(vec![last]));
    }

    #[test]
    fn the_tail_is_bounded_in_bytes() {
        let tail = Tail::default();
        tail.push((0..4).map(|index| event(index, MAX_TAIL_BYTES / 2)).collect());
        assert_eq!(indexes(tail.take(1, 9)), None);
        assert_eq!(indexes(tail.take(2, 9)), Some(vec![2, 3]));
        tail.push(vec![event(4, MAX_TAIL_BYTES + 1)]);
        assert_eq!(indexes(tail.take(4, 9)), None);
    }
}
