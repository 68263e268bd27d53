//! The way of appends into the cluster: one lane for each stream, in which they keep their order.
//!
//! ```text
//! append_to_stream ─> the stream's lane ─> one call for all that wait ─> the cluster ─> $all ─> the follower
//!                     (full: Overloaded)   with an exact revision                                  │
//!         answer <──────────── an event that was read answers who appended it ─────────────────────┘
//! ```
//!
//! KurrentDB recognises a repeated append by its events' ids only when it also expects an exact revision; with "any"
//! it does its best. So each call here names the revision, whatever the append expects: after a call whose outcome
//! is not known the same call is made again, and nothing is written twice. Who else writes to the stream is noticed
//! by that, too: an append without an expectation is then made again behind it. Streams do not wait for one another.

use super::KurrentDbOptions;
use super::connections::{CallError, Connections, Right};
use super::log::{Awaited, Log, Place, Together};
use super::reading::Reading;
use crate::event_store::answers::{self, Answer};
use crate::event_store::{Append, AppendError, Appended, EventToAppend, ExpectedRevision, OnCommit};
use bytes::Bytes;
use eventstore::{AppendToStreamOptions, CurrentRevision, Error, EventData, StreamState, Streaming, WriteResult};
use serde_json::value::RawValue;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tonic::Code;

/// Bytes of events that may wait, whatever their number.
const MAX_OPEN_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of events in one call, but for an append that has more by itself: half of what KurrentDB takes unless it is
/// told otherwise (`MaxAppendSize`, 1 MiB).
const MAX_CALL_BYTES: usize = 512 * 1024;
/// Calls under way at once; an HTTP/2 connection to KurrentDB carries about a hundred.
const MAX_CALLS: usize = 64;
/// One call may take this long before it counts as failed.
const CALL_DEADLINE: Duration = Duration::from_secs(2);
/// Before a call that failed is made again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// An append with an expectation whose events are not read so soon after it was accepted may be a repeat: its events
/// are looked for.
const REPEAT_PATIENCE: Duration = Duration::from_millis(100);
/// How long an append that came second waits for this node to read what came first, which a majority of the cluster
/// must have before. Never longer than the append itself may take.
const WINNER_PATIENCE: Duration = Duration::from_secs(2);
/// So long before an append is given up it is told that it came second, at the latest.
const BEFORE_GIVING_UP: Duration = Duration::from_millis(250);

/// All lanes.
pub(super) struct Lanes {
    log: Arc<Log>,
    connections: Arc<Connections>,
    reading: Arc<Reading>,
    runtime: Handle,
    /// Each lane that has work, and what waits in it. A lane that is here is being worked at.
    waiting: Mutex<HashMap<Arc<str>, VecDeque<Queued>>>,
    /// Closed lanes take nothing more.
    is_open: RwLock<bool>,
    calls: Semaphore,
    next_number: AtomicU64,
    /// Told when a lane has no more work.
    idle: Notify,
    queue_capacity: usize,
    max_batch_events: usize,
    append_timeout: Duration,
    on_commit: Option<OnCommit>,
}

struct Queued {
    append: Append,
    bytes: usize,
    deadline: Instant,
    place: Place,
}

/// What became of a call.
enum Written {
    Yes,
    /// The stream ends elsewhere.
    Conflict(Option<u64>),
    /// KurrentDB does not take it, and never will.
    Never(AppendError),
}

impl Lanes {
    pub(super) fn new(
        log: Arc<Log>,
        connections: Arc<Connections>,
        reading: Arc<Reading>,
        runtime: Handle,
        options: &KurrentDbOptions,
    ) -> Self {
        Self {
            log,
            connections,
            reading,
            runtime,
            waiting: Mutex::default(),
            is_open: RwLock::new(true),
            calls: Semaphore::new(MAX_CALLS),
            next_number: AtomicU64::new(0),
            idle: Notify::new(),
            queue_capacity: options.queue_capacity.max(1),
            max_batch_events: options.max_batch_events.max(1),
            append_timeout: options.append_timeout,
            on_commit: options.on_commit.clone(),
        }
    }

    /// Puts an append into its lane.
    pub(super) fn enqueue(self: &Arc<Self>, append: Append) -> Result<Answer, AppendError> {
        append.check_bounds()?;
        let is_open = self.is_open.read().unwrap_or_else(PoisonError::into_inner);
        if !*is_open || self.log.end.borrow().is_some() {
            return Err(self.log.refusal());
        }
        let bytes = append.events.iter().map(|event| event.bytes.len()).sum();
        let (reply, answer) = answers::answer();
        let open = self.log.open.appends.fetch_add(1, Ordering::Relaxed) + 1;
        let open_bytes = self.log.open.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let place = Place::new(self.log.open.clone(), bytes, reply);
        if open > self.queue_capacity || open_bytes > MAX_OPEN_BYTES {
            drop(place);
            return Err(AppendError::Overloaded);
        }
        let stream: Arc<str> = append.stream.as_str().into();
        let queued = Queued {
            append,
            bytes,
            deadline: Instant::now() + self.append_timeout,
            place,
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(&stream) {
            Some(lane) => lane.push_back(queued),
            None => {
                waiting.insert(stream.clone(), VecDeque::from([queued]));
                let lane = Lane {
                    lanes: self.clone(),
                    stream,
                };
                self.runtime.spawn(lane.work());
            }
        }
        Ok(answer)
    }

    /// Takes nothing more, and resolves when everything that waits has been answered.
    pub(super) async fn close(&self) {
        *self.is_open.write().unwrap_or_else(PoisonError::into_inner) = false;
        loop {
            let idle = self.idle.notified();
            if self.log.open.appends.load(Ordering::Relaxed) == 0 {
                return;
            }
            // An answer that comes from the follower tells nobody here.
            let _ = tokio::time::timeout(RETRY_PAUSE, idle).await;
        }
    }
}

/// One lane at work.
struct Lane {
    lanes: Arc<Lanes>,
    stream: Arc<str>,
}

impl Lane {
    async fn work(self) {
        while let Some((expected, batch)) = self.next_batch() {
            self.write(expected, batch).await;
        }
    }

    /// What goes into the next call: an append with an expectation alone, of others as many as there are. `None`
    /// when nothing waits, and then the lane is no more.
    fn next_batch(&self) -> Option<(ExpectedRevision, Vec<Queued>)> {
        let mut waiting = self.lanes.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = waiting.get_mut(&self.stream)?;
        let Some(first) = lane.pop_front() else {
            waiting.remove(&self.stream);
            self.lanes.idle.notify_waiters();
            return None;
        };
        let (mut events, mut bytes) = (first.append.events.len(), first.bytes);
        let expected = first.append.expected;
        let mut batch = vec![first];
        if expected != ExpectedRevision::Any {
            return Some((expected, batch));
        }
        while let Some(next) = lane.front() {
            events += next.append.events.len();
            bytes += next.bytes;
            let fits = events <= self.lanes.max_batch_events && bytes <= MAX_CALL_BYTES;
            if next.append.expected != ExpectedRevision::Any || !fits {
                break;
            }
            batch.extend(lane.pop_front());
        }
        Some((expected, batch))
    }

    async fn write(&self, expected: ExpectedRevision, batch: Vec<Queued>) {
        let log = &self.lanes.log;
        let mut events = Vec::new();
        let mut awaited = Vec::with_capacity(batch.len());
        let sent = Instant::now();
        let mut deadline = sent;
        for queued in batch {
            // Nothing of it is written yet, and nothing is to be.
            if log.end.borrow().is_some() {
                queued.place.answer(Err(log.refusal()));
                continue;
            }
            if queued.deadline <= sent {
                queued.place.answer(Err(AppendError::Overloaded));
                continue;
            }
            // Each of them is given up at its own time.
            deadline = deadline.max(queued.deadline);
            let Some(last) = queued.append.events.last() else {
                continue;
            };
            let number = self.lanes.next_number.fetch_add(1, Ordering::Relaxed);
            awaited.push((last.id, number));
            let count = queued.append.events.len();
            let waits = Awaited {
                number,
                count,
                sent: (expected == ExpectedRevision::Any).then_some(sent),
                deadline: queued.deadline,
                reply: queued.place,
            };
            log.await_event(last.id, waits);
            events.extend(queued.append.events.into_iter().enumerate().map(|(at, event)| {
                let together = Together { at, of: count };
                (event, together)
            }));
        }
        if awaited.is_empty() {
            return;
        }
        let is_open = || awaited.iter().any(|(id, number)| log.is_awaited(*id, *number));
        let outcome = match expected {
            ExpectedRevision::Any => self.write_behind_the_last(&events, deadline, is_open).await,
            ExpectedRevision::NoStream => self.write_at(None, &events, deadline, &is_open).await,
            ExpectedRevision::Exact(revision) => self.write_at(Some(revision), &events, deadline, &is_open).await,
        };
        let refused = match outcome {
            Ok(Written::Yes) if expected == ExpectedRevision::Any => return,
            Ok(Written::Yes) => return self.look_for_a_repeat(expected, events, &awaited),
            Ok(Written::Conflict(actual)) => return self.refuse(expected, actual, awaited, deadline),
            Ok(Written::Never(error)) => error,
            Err(unknown) => AppendError::Indeterminate(unknown),
        };
        for (id, number) in awaited {
            log.settle(id, number, Err(refused.clone()));
        }
    }

    /// Somebody else came first. Whoever is told so looks next at who it was, so it is told when this node has read
    /// that, which may be another node's.
    fn refuse(
        &self,
        expected: ExpectedRevision,
        actual: Option<u64>,
        awaited: Vec<(uuid::Uuid, u64)>,
        deadline: Instant,
    ) {
        let (lanes, stream) = (self.lanes.clone(), self.stream.clone());
        let until = winner_awaited_until(Instant::now(), deadline);
        self.lanes.runtime.spawn(async move {
            if let Some(revision) = actual {
                let read = lanes.reading.is_there(&stream, revision);
                // Late or not, that it came second is known.
                let _ = tokio::time::timeout_at(until.into(), read).await;
            }
            for (id, number) in awaited {
                let refused = AppendError::WrongExpectedRevision { expected, actual };
                lanes.log.settle(id, number, Err(refused));
            }
        });
    }

    /// Writes behind whatever the stream has.
    async fn write_behind_the_last(
        &self,
        events: &[(EventToAppend, Together)],
        deadline: Instant,
        is_open: impl Fn() -> bool,
    ) -> Result<Written, String> {
        let log = &self.lanes.log;
        loop {
            let head = match log.head(&self.stream) {
                Some(head) => head,
                None => {
                    let head = self.lanes.reading.head_of(&self.stream, deadline).await?;
                    log.set_head(&self.stream, head);
                    head
                }
            };
            match self.write_at(head, events, deadline, &is_open).await? {
                // Somebody else has written: the call has not and never will.
                Written::Conflict(actual) if actual > head => log.set_head(&self.stream, actual),
                // What was there is not there any more: an earlier leader had shown what it then lost.
                Written::Conflict(actual) => {
                    log.correct_head(&self.stream, head, actual);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                written => return Ok(written),
            }
        }
    }

    /// Makes the same call until its outcome is known, or nobody waits for it any more.
    async fn write_at(
        &self,
        head: Option<u64>,
        events: &[(EventToAppend, Together)],
        deadline: Instant,
        is_open: &impl Fn() -> bool,
    ) -> Result<Written, String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the KurrentDB did not answer in time".to_owned());
            }
            let began = Instant::now();
            match self.call(head, events, left.min(CALL_DEADLINE), is_open).await {
                Ok(written) => {
                    self.lanes
                        .log
                        .set_head(&self.stream, Some(written.next_expected_version));
                    if let Some(on_commit) = &self.lanes.on_commit {
                        on_commit(events.len(), began.elapsed());
                    }
                    return Ok(Written::Yes);
                }
                Err(CallError::Refused(Error::WrongExpectedVersion { current, .. })) => {
                    return Ok(Written::Conflict(match current {
                        CurrentRevision::Current(revision) => Some(revision),
                        CurrentRevision::NoStream => None,
                    }));
                }
                Err(CallError::Refused(Error::Grpc { code, message }))
                    if code as i32 == Code::InvalidArgument as i32 =>
                {
                    let bytes: usize = events.iter().map(|(event, _)| event.bytes.len()).sum();
                    tracing::error!(
                        stream = &*self.stream,
                        events = events.len(),
                        bytes,
                        error = message,
                        "the KurrentDB takes an append for invalid"
                    );
                    return Ok(Written::Never(AppendError::OutOfBounds(
                        "the KurrentDB takes it for invalid, most likely because it is larger than its MaxAppendSize; \
                         the KurrentDB's own words are in this node's log",
                    )));
                }
                // A node that does not lead says that something is not found, and one that is being restarted knows
                // no user.
                Err(error) if !is_open() => return Err(error.to_string()),
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    async fn call(
        &self,
        head: Option<u64>,
        events: &[(EventToAppend, Together)],
        deadline: Duration,
        is_open: &impl Fn() -> bool,
    ) -> Result<WriteResult, CallError> {
        let state = head.map_or(StreamState::NoStream, StreamState::StreamRevision);
        let mut options = AppendToStreamOptions::default().stream_state(state).deadline(deadline);
        if let Some(authentication) = self.lanes.connections.authentication() {
            options = options.authenticated(authentication.clone());
        }
        let data: Vec<EventData> = events
            .iter()
            .map(|(event, together)| to_data(event, *together))
            .collect();
        let stream = format!("{}{}", self.lanes.log.prefix, self.stream);
        let Ok(_permit) = tokio::time::timeout(deadline, self.lanes.calls.acquire()).await else {
            return Err(CallError::Broken("too many calls are under way".to_owned()));
        };
        if !is_open() {
            return Err(CallError::Broken("nobody waits for it any more".to_owned()));
        }
        self.lanes
            .connections
            .call(deadline, Right::Append, |client| async move {
                client
                    .append_to_stream(stream, &options, Streaming(data.into_iter()))
                    .await
            })
            .await
    }

    /// The append was accepted. If it was a repeat, its events were read long ago and nobody will read them again.
    fn look_for_a_repeat(
        &self,
        expected: ExpectedRevision,
        events: Vec<(EventToAppend, Together)>,
        awaited: &[(uuid::Uuid, u64)],
    ) {
        let Some(&(id, number)) = awaited.first() else { return };
        let (lanes, stream) = (self.lanes.clone(), self.stream.clone());
        self.lanes.runtime.spawn(async move {
            let log = &lanes.log;
            tokio::time::sleep(REPEAT_PATIENCE).await;
            let first_revision = match expected {
                ExpectedRevision::Exact(revision) => revision.saturating_add(1),
                ExpectedRevision::NoStream | ExpectedRevision::Any => 0,
            };
            while log.is_awaited(id, number) {
                let ids: Vec<_> = events.iter().map(|(event, _)| event.id).collect();
                let found = lanes.reading.find_append(&stream, first_revision, &ids).await;
                match found {
                    Ok(Some(appended)) => log.settle(id, number, Ok(appended)),
                    // KurrentDB takes events that were appended one by one for a repeat of all together.
                    Ok(None) => {
                        let actual = lanes.reading.head_of(&stream, Instant::now() + CALL_DEADLINE).await;
                        let actual = actual.unwrap_or_else(|_| log.head(&stream).flatten());
                        let refused = AppendError::WrongExpectedRevision { expected, actual };
                        log.settle(id, number, Err(refused));
                    }
                    Err(_) => tokio::time::sleep(REPEAT_PATIENCE).await,
                }
            }
        });
    }
}

/// What waits in a lane whose work has panicked is answered, and the next append opens it anew.
impl Drop for Lane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lanes
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.stream);
        }
    }
}

/// The event as the client sends it: JSON is marked as such, so that KurrentDB's own tools show it.
fn to_data(event: &EventToAppend, together: Together) -> EventData {
    let json = serde_json::from_slice::<&RawValue>(&event.bytes)
        .ok()
        // White space around it would be lost.
        .filter(|json| json.get().len() == event.bytes.len())
        .and_then(|json| EventData::json(event.event_type, &json).ok());
    let data = json.unwrap_or_else(|| EventData::binary(event.event_type, Bytes::from_owner(event.bytes.clone())));
    let data = data.id(event.id);
    if together.of == 1 {
        return data;
    }
    match serde_json::to_vec(&together) {
        Ok(metadata) => data.metadata(metadata.into()),
        // Two numbers always have JSON.
        Err(_) => data,
    }
}

/// Until when a conflict that is known is kept back: not until its append is given up, for then nobody would hear of
/// it.
fn winner_awaited_until(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    now + left.saturating_sub(BEFORE_GIVING_UP).min(WINNER_PATIENCE)
}

/// The outcome of an append that was found.
pub(super) fn appended(first_index: u64, count: usize, revision: u64) -> Appended {
    Appended {
        first_index,
        last_index: first_index + count as u64 - 1,
        revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_told_before_its_append_is_given_up() {
        let now = Instant::now();
        let late = [
            BEFORE_GIVING_UP / 2,
            BEFORE_GIVING_UP,
            2 * BEFORE_GIVING_UP,
            WINNER_PATIENCE,
        ];
        for left in late {
            let until = winner_awaited_until(now, now + left);
            assert!(until >= now && until < now + left, "{left:?}");
        }
        assert_eq!(winner_awaited_until(now, now), now);
        let in_time = now + 2 * WINNER_PATIENCE;
        assert_eq!(winner_awaited_until(now, in_time), now + WINNER_PATIENCE);
    }
}
