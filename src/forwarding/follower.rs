//! What brings the log to one sink: reads it in order, filters, delivers, and keeps how far the sink has come.

use super::backoff::Backoff;
use super::checkpoint::{Checkpoint, CheckpointFile, Found};
use super::forwarded_event::ForwardedEvent;
use super::progress::Progress;
use super::settings::{SinkSettings, StartAt};
use super::sink::{DeliveryError, FailureClass, Receipt, Sink};
use super::{CheckpointError, ForwardingError};
use crate::audit::AuditEvent;
use crate::event_store::{Direction, EventStore, StoredEvent, Subscription};
use crate::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Events read from the log at a time, at least: most sinks want few of them at once, or none.
const MIN_EVENTS_READ: usize = 64;
/// Bytes of JSON in one delivery, beyond its first event: well below what receivers take (4 MiB for gRPC).
const MAX_DELIVERY_BYTES: usize = 1024 * 1024;
/// A checkpoint is kept no more often than this: what was acknowledged since is delivered again after a `kill -9`.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// On a stop, how long a delivery on its way may take.
pub const STOP_GRACE: Duration = Duration::from_secs(3);

/// One sink's way through the log.
pub struct Follower {
    settings: SinkSettings,
    sink: Sink,
    file: CheckpointFile,
    checkpoint: Checkpoint,
    is_saved: bool,
    saved_at: Instant,
    store: Arc<dyn EventStore>,
    progress: Arc<Progress>,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
    backoff: Backoff,
    /// Events in one delivery: fewer than set after the sink found that too much.
    limit: usize,
}

/// Why the follower does not go on.
struct Ended;

/// An event that was read, and what becomes of it.
struct Read {
    stored: StoredEvent,
    /// `None`: the filter holds it back.
    forwarded: Option<ForwardedEvent>,
}

impl Follower {
    /// Finds how far the sink has come. A new sink's place is on stable storage when this returns.
    pub fn new(
        settings: SinkSettings,
        sink: Sink,
        file: CheckpointFile,
        store: Arc<dyn EventStore>,
        progress: Arc<Progress>,
        metrics: Metrics,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, ForwardingError> {
        let failed = |source: CheckpointError| ForwardingError::Checkpoint {
            sink: settings.name.to_string(),
            source,
        };
        let checkpoint = match file.load().map_err(failed)? {
            Found::Checkpoint(checkpoint) => checkpoint,
            Found::Nothing => Checkpoint::starting_at(match settings.from {
                StartAt::Now => store.log_size(),
                StartAt::Beginning => 0,
            }),
            Found::Damaged => {
                tracing::warn!(
                    sink = %settings.name,
                    "the sink's checkpoint is damaged: the whole log is forwarded again"
                );
                Checkpoint::starting_at(0)
            }
        };
        file.save(&checkpoint).map_err(failed)?;
        progress.acknowledged(checkpoint.next);
        Ok(Self {
            sink,
            file,
            is_saved: true,
            saved_at: Instant::now(),
            store,
            progress,
            metrics,
            stop,
            backoff: Backoff::new(settings.retry_max),
            limit: settings.batch_events.max(1),
            checkpoint,
            settings,
        })
    }

    /// How it is doing.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Delivers until it is told to stop.
    pub async fn run(mut self) {
        let ended = self.follow().await;
        if let Err(error) = ended {
            tracing::error!(sink = %self.settings.name, %error, "forwarding to this sink has stopped");
            self.metrics.forwarding_failure(self.name(), error.class.as_str());
            self.progress.failed(&error, None);
        }
        self.save();
    }

    async fn follow(&mut self) -> Result<(), DeliveryError> {
        self.check_log().await?;
        let mut subscription = self.store.subscribe_to_all(self.checkpoint.next);
        let mut read = Vec::new();
        loop {
            let Some(events) = self.next_events(&mut *subscription).await? else {
                return Ok(());
            };
            let undecodable = self.read(events, &mut read);
            if self.deliver_all(&mut read).await.is_err() {
                return Ok(());
            }
            if let Some(error) = undecodable {
                return Err(error);
            }
        }
    }

    /// A log that is not the one that the sink has seen (a copy was put back, say) is forwarded again: better twice
    /// than not at all.
    async fn check_log(&mut self) -> Result<(), DeliveryError> {
        let Checkpoint { start, next, .. } = self.checkpoint;
        let last = match next.checked_sub(1) {
            Some(last) if next <= self.store.log_size() => self.store.read_all(last, Direction::Forwards, 1).await,
            _ => Ok(Vec::new()),
        };
        let last = last.map_err(|error| log_error(&error))?;
        if next > self.store.log_size() || !self.checkpoint.fits(last.first()) {
            let start = if start <= self.store.log_size() { start } else { 0 };
            tracing::warn!(
                sink = %self.settings.name,
                acknowledged_through = next,
                log_size = self.store.log_size(),
                from = start,
                "the log is not the one that this sink has seen: it was rolled back or replaced, and is forwarded again"
            );
            self.checkpoint = Checkpoint::starting_at(start);
            self.is_saved = false;
            self.progress.acknowledged(start);
            self.save();
        }
        Ok(())
    }

    /// At least one event, or `None` on a stop. Saves what is to be saved while it waits.
    async fn next_events(
        &mut self,
        subscription: &mut dyn Subscription,
    ) -> Result<Option<Vec<StoredEvent>>, DeliveryError> {
        let limit = self.settings.batch_events.max(MIN_EVENTS_READ);
        let mut events = loop {
            let save_at = self.saved_at + CHECKPOINT_EVERY;
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(None),
                events = subscription.next_batch(limit) => break events.map_err(|error| log_error(&error))?,
                () = tokio::time::sleep_until(save_at), if !self.is_saved => self.save(),
            }
        };
        let gather = self.sink.gathers_for();
        if events.len() < limit && !gather.is_zero() {
            tokio::select! {
                () = stopped(&mut self.stop) => return Ok(None),
                () = tokio::time::sleep(gather) => {}
            }
            while let Some(last) = events.last()
                && events.len() < limit
                && self.store.log_size() > last.index + 1
            {
                // There is something, so this does not wait.
                let more = subscription.next_batch(limit - events.len()).await;
                events.extend(more.map_err(|error| log_error(&error))?);
            }
        }
        Ok(Some(events))
    }

    /// Reads what can be read; what cannot ends the sink once all before it is delivered, for nothing is skipped.
    fn read(&self, events: Vec<StoredEvent>, read: &mut Vec<Read>) -> Option<DeliveryError> {
        for stored in events {
            let event = match AuditEvent::read(&stored) {
                Ok(event) => event,
                Err(error) => return Some(DeliveryError::new(FailureClass::Log, error.to_string())),
            };
            let is_wanted = self.settings.filter.lets_through(&event);
            let forwarded = is_wanted.then(|| ForwardedEvent::of(event));
            read.push(Read { stored, forwarded });
        }
        None
    }

    async fn deliver_all(&mut self, read: &mut Vec<Read>) -> Result<(), Ended> {
        while !read.is_empty() {
            let (covered, events) = next_delivery(read, self.limit);
            if !events.is_empty() {
                // What does not fit is tried again as less; the rest is not lost, it is still in `read`.
                let Some(receipt) = self.attempt(&events).await? else {
                    continue;
                };
                let count = events.len() as u64;
                if receipt.rejected > 0 {
                    tracing::warn!(
                        sink = %self.settings.name,
                        rejected = receipt.rejected,
                        "the sink has refused events for good: they are not sent again"
                    );
                }
                self.metrics
                    .forwarding_delivered(self.name(), count - receipt.rejected.min(count), receipt.rejected);
                if self.progress.delivered(count, receipt.rejected) {
                    tracing::info!(sink = %self.settings.name, "the sink acknowledges again");
                }
            }
            if let Some(last) = read.drain(..covered).next_back() {
                self.checkpoint.acknowledge(&last.stored);
                self.is_saved = false;
                self.progress.acknowledged(self.checkpoint.next);
            }
            if self.saved_at.elapsed() >= CHECKPOINT_EVERY {
                self.save();
            }
        }
        Ok(())
    }

    /// Tries until the sink acknowledges; `None` when it should be less at once.
    async fn attempt(&mut self, events: &[&ForwardedEvent]) -> Result<Option<Receipt>, Ended> {
        loop {
            let error = match self.try_once(events).await? {
                Ok(receipt) => {
                    self.backoff.reset();
                    return Ok(Some(receipt));
                }
                Err(error) => error,
            };
            self.metrics.forwarding_failure(self.name(), error.class.as_str());
            if error.class == FailureClass::Gone {
                self.progress.failed(&error, None);
                tracing::error!(
                    sink = %self.settings.name,
                    %error,
                    "the sink is paused: nothing is sent until the server is started again"
                );
                stopped(&mut self.stop).await;
                return Err(Ended);
            }
            if error.is_too_large && events.len() > 1 {
                self.limit = (events.len() / 2).max(1);
                tracing::info!(sink = %self.settings.name, events = self.limit, "the sink takes fewer events at once");
                return Ok(None);
            }
            let pause = self.backoff.next(error.retry_after);
            if self.progress.failed(&error, Some(pause.as_secs_f64())) {
                // Once per kind of failure, not once per attempt.
                tracing::warn!(
                    sink = %self.settings.name,
                    class = error.class.as_str(),
                    %error,
                    "the sink has not acknowledged: it is tried again until it does"
                );
            }
            // What was acknowledged before this failure must not wait for its end.
            if !self.is_saved {
                self.save();
            }
            tokio::select! {
                () = stopped(&mut self.stop) => return Err(Ended),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn try_once(&mut self, events: &[&ForwardedEvent]) -> Result<Result<Receipt, DeliveryError>, Ended> {
        if *self.stop.borrow() {
            return Err(Ended);
        }
        let timeout = self.settings.timeout;
        let delivery = tokio::time::timeout(timeout, self.sink.deliver(events));
        tokio::pin!(delivery);
        let outcome = tokio::select! {
            outcome = &mut delivery => outcome,
            () = stopped(&mut self.stop) => {
                tokio::time::timeout(STOP_GRACE, delivery).await.map_err(|_| Ended)?
            }
        };
        Ok(outcome.unwrap_or_else(|_| Err(DeliveryError::timeout(timeout))))
    }

    /// A checkpoint that cannot be kept costs duplicates after the next start, nothing else.
    fn save(&mut self) {
        if !self.is_saved {
            match self.file.save(&self.checkpoint) {
                Ok(()) => self.is_saved = true,
                Err(error) => tracing::warn!(sink = %self.settings.name, %error, "the checkpoint cannot be kept"),
            }
        }
        self.saved_at = Instant::now();
    }

    fn name(&self) -> &str {
        self.settings.name.as_str()
    }
}

/// The events of the next delivery, and how many of those read it covers, held back ones included.
fn next_delivery(read: &[Read], limit: usize) -> (usize, Vec<&ForwardedEvent>) {
    let (mut events, mut bytes) = (Vec::new(), 0_usize);
    for (at, Read { forwarded, .. }) in read.iter().enumerate() {
        let Some(event) = forwarded else { continue };
        bytes = bytes.saturating_add(event.json.get().len());
        if events.len() == limit || (!events.is_empty() && bytes > MAX_DELIVERY_BYTES) {
            return (at, events);
        }
        events.push(event);
    }
    (read.len(), events)
}

/// Also when nobody is left who could tell.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn log_error(error: &crate::event_store::ReadError) -> DeliveryError {
    DeliveryError::new(FailureClass::Log, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use std::sync::LazyLock;

    static EVENT: LazyLock<StoredEvent> = LazyLock::new(|| {
        StoredEvent {
        index: 0,
        revision: 0,
        bytes: br#"{"id":"01890000-0000-7000-8000-000000000001","stream":"service","type":"ServiceStopped","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{"version":"0.1.0","reason":"SIGTERM"}}"#.as_slice().into(),
    }
    });

    fn read(forwarded: &[Option<usize>]) -> Vec<Read> {
        let one = |bytes: &Option<usize>| Read {
            stored: EVENT.clone(),
            forwarded: bytes.map(|bytes| ForwardedEvent {
                json: RawValue::from_string("1".repeat(bytes)).unwrap(),
                ..ForwardedEvent::read(&EVENT).unwrap()
            }),
        };
        forwarded.iter().map(one).collect()
    }

    fn delivery(forwarded: &[Option<usize>], limit: usize) -> (usize, usize) {
        let read = read(forwarded);
        let (covered, events) = next_delivery(&read, limit);
        (covered, events.len())
    }

    #[test]
    fn a_delivery_is_bounded_in_events_and_covers_what_is_held_back_up_to_the_next() {
        assert_eq!(delivery(&[Some(1), None, Some(1), None, Some(1)], 2), (4, 2));
        assert_eq!(delivery(&[None, None], 2), (2, 0));
        assert_eq!(delivery(&[Some(1), None], 2), (2, 1));
    }

    #[test]
    fn a_delivery_is_bounded_in_bytes_but_has_one_event() {
        let half = MAX_DELIVERY_BYTES / 2;
        assert_eq!(delivery(&[Some(half), Some(half), Some(1)], 9), (2, 2));
        assert_eq!(delivery(&[Some(3 * half), Some(1)], 9), (1, 1));
    }
}
