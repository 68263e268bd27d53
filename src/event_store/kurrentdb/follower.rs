//! Follows `$all`, on a thread of its own, and begins anew whenever that breaks off.
//!
//! When a server ends a subscription in an orderly way, the official client asks the ended stream again and again
//! within one poll: nothing else on its thread ever runs, no timer and no other task, and no future can be dropped
//! (the project's tests show it). So the subscription has a thread to itself, on which somebody listens to what the
//! client logs: before each of these rounds it warns of "an unknown subscription message". That unwinds the thread
//! out of the client, without a panic's message, and the subscription is begun anew behind the last event.

use super::connections::{CallError, Connections, client};
use super::log::Log;
use super::loss::{LOST, Loss};
use super::positions::{order, reaches};
use super::reading::Reading;
use crate::event_store::MAX_EVENT_BYTES;
use eventstore::{
    Client, Position, RecordedEvent, StreamPosition, SubscribeToAllOptions, Subscription, SubscriptionEvent,
};
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::span;

/// Events that are taken in at once.
const MAX_BATCH_EVENTS: usize = 512;
/// A subscription must be confirmed within this time.
const CONFIRMATION_DEADLINE: Duration = Duration::from_secs(2);
/// Before a subscription is begun anew; doubled while that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether the thread is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the thread needs.
pub(super) struct Follower {
    pub(super) log: Arc<Log>,
    pub(super) connections: Arc<Connections>,
    pub(super) reading: Arc<Reading>,
    /// Told when the subscription does not do its work and is to be begun anew.
    pub(super) renew: Arc<Notify>,
}

/// Why a subscription is over.
enum Over {
    /// The log has come to its end.
    Ended,
    /// Begin anew.
    Broken(String),
    /// The last event that was read is not there, or is another one. A leader that is new may not show it yet.
    Lost,
    /// It makes no sense to go on.
    Failed(String),
}

/// What unwinds the thread out of the client.
struct OrderlyEnd;

impl Follower {
    /// Starts the thread. It ends with the log.
    pub(super) fn spawn(self) -> std::io::Result<std::thread::JoinHandle<()>> {
        std::thread::Builder::new()
            .name("kurrentdb-follower".to_owned())
            .spawn(move || self.run())
    }

    fn run(self) {
        let listener = Dispatch::new(Listener);
        let mut pause = FIRST_PAUSE;
        let mut loss = Loss::default();
        // The furthest that one was looked through to: one that only comes there again has not gone on.
        let mut furthest = self.log.through();
        loop {
            let over = catch_unwind(AssertUnwindSafe(|| {
                dispatcher::with_default(&listener, || self.follow_once())
            }));
            if !self.log.freshness.is_lost() {
                loss.found();
            }
            let why = match over {
                Ok(Over::Ended) => break,
                Ok(Over::Failed(why)) => {
                    self.log.fail(why);
                    break;
                }
                Ok(Over::Broken(why)) => {
                    loss.unknown();
                    why
                }
                Ok(Over::Lost) => {
                    if loss.is_certain(Instant::now()) {
                        self.log.fail(LOST.to_owned());
                        break;
                    }
                    "the leader does not have the last event that was read".to_owned()
                }
                Err(unwound) if unwound.is::<OrderlyEnd>() => "the server has ended it".to_owned(),
                Err(_) => {
                    self.log.fail("its follower panicked: this is a bug".to_owned());
                    break;
                }
            };
            tracing::warn!(url = %self.connections.url(), why, "the subscription to the KurrentDB is begun anew");
            if !reaches(furthest, self.log.through()) {
                (pause, furthest) = (FIRST_PAUSE, self.log.through());
            }
            // From here on, what is behind the last event counts as not looked through: of that event alone it is
            // asked whether it is still where it was. In a log that was restored, no event may begin any longer at the
            // place that was looked through to, or another one; and where the log ends before that place, KurrentDB
            // keeps back what is written until it comes there, for it takes it that the client knows all this.
            self.log.look_again();
            self.rest(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if let Err(error) = self.log.vouch(true) {
            tracing::warn!(%error, "where events are in the KurrentDB was not saved: the next start looks for them again");
        }
    }

    /// Sleeps, unless the log ends meanwhile.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while self.log.end.borrow().is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn follow_once(&self) -> Over {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return Over::Broken(error.to_string()),
        };
        let mut end = self.log.end.subscribe();
        runtime.block_on(async {
            tokio::select! {
                over = self.follow() => over,
                () = self.is_to_be_renewed() => Over::Broken("it does not deliver what there is".to_owned()),
                _ = end.wait_for(Option::is_some) => Over::Ended,
            }
        })
    }

    /// Told by somebody who has waited for it. What is said before the cluster has confirmed this subscription was
    /// meant for the one before it.
    async fn is_to_be_renewed(&self) {
        let before = self.log.heard.load(Ordering::Relaxed);
        loop {
            self.renew.notified().await;
            if self.log.heard.load(Ordering::Relaxed) != before {
                return;
            }
        }
    }

    async fn follow(&self) -> Over {
        let confirmed_by = tokio::time::Instant::now() + CONFIRMATION_DEADLINE;
        let mut subscription = match tokio::time::timeout_at(confirmed_by, self.subscribe()).await {
            Ok(Ok(subscription)) => subscription,
            Ok(Err(over)) => return over,
            Err(_) => return Over::Broken("nobody has taken it in time".to_owned()),
        };
        let mut last = *self.log.position.borrow();
        let mut batch: Vec<RecordedEvent> = Vec::with_capacity(MAX_BATCH_EVENTS);
        let mut deadline = Some(confirmed_by);
        loop {
            // It must never be dropped unfinished, or the client subscribes anew.
            let mut next = pin!(subscription.next_subscription_event());
            let ready = match poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await {
                Poll::Ready(ready) => ready,
                Poll::Pending => {
                    // Before anybody waits for more, everybody gets what is there.
                    if let Err(over) = self.take_in(&mut batch) {
                        return over;
                    }
                    match deadline {
                        None => next.await,
                        Some(at) => match tokio::time::timeout_at(at, next).await {
                            Ok(ready) => ready,
                            Err(_) => return Over::Broken("it was not confirmed in time".to_owned()),
                        },
                    }
                }
            };
            if ready.is_ok() {
                self.log.heard.fetch_add(1, Ordering::Relaxed);
            }
            match ready {
                Err(error) => {
                    // What was read before it broke is read.
                    return match self.take_in(&mut batch) {
                        Ok(()) => Over::Broken(self.connections.judge(error).to_string()),
                        Err(over) => over,
                    };
                }
                Ok(SubscriptionEvent::EventAppeared(event)) => {
                    deadline = None;
                    let Some(event) = event.event else { continue };
                    match self.check(&event, last) {
                        Ok(true) => {}
                        Ok(false) => continue,
                        Err(over) => return over,
                    }
                    last = Some(event.position);
                    batch.push(event);
                    if batch.len() == MAX_BATCH_EVENTS
                        && let Err(over) = self.take_in(&mut batch)
                    {
                        return over;
                    }
                }
                Ok(SubscriptionEvent::Checkpoint(position)) => {
                    deadline = None;
                    // In this order: what stands before it is read.
                    if let Err(over) = self.take_in(&mut batch) {
                        return over;
                    }
                    self.log.looked_through(position);
                }
                Ok(_) => deadline = None,
            }
        }
    }

    async fn subscribe(&self) -> Result<Subscription, Over> {
        let broken = |error: CallError| Over::Broken(error.to_string());
        let settings = self.connections.settings().map_err(broken)?;
        let client = client(self.connections.url(), || Client::new(settings)).map_err(Over::Broken)?;
        let asked = Instant::now();
        match self.has_the_last(&client).await {
            Ok(true) => self.log.freshness.found_at(asked),
            Ok(false) => {
                self.log.freshness.lost();
                return Err(Over::Lost);
            }
            Err(error) => return Err(broken(self.connections.judge(error))),
        }
        let from = self
            .log
            .through()
            .map_or(StreamPosition::Start, StreamPosition::Position);
        let options = SubscribeToAllOptions::default()
            .position(from)
            .filter(self.reading.filter());
        let options = match self.connections.authentication() {
            Some(authentication) => options.authenticated(authentication.clone()),
            None => options,
        };
        Ok(client.subscribe_to_all(&options).await)
    }

    /// Whether the last event that was read is where it was.
    async fn has_the_last(&self, client: &Client) -> eventstore::Result<bool> {
        let last = *self.log.position.borrow();
        match last {
            Some(position) => self.reading.is_at(client, position, self.log.last_id()).await,
            None => Ok(true),
        }
    }

    /// Whether the event is news. `Err` when it cannot be one of this log.
    fn check(&self, event: &RecordedEvent, last: Option<Position>) -> Result<bool, Over> {
        if let Some(last) = last
            && order(event.position) <= order(last)
        {
            return Ok(false);
        }
        if event.data.len() > MAX_EVENT_BYTES || !event.stream_id().starts_with(&self.log.prefix) {
            return Err(Over::Failed(format!(
                "the KurrentDB has an event at {} in the stream {:?} that Grantlog cannot have written: nobody else \
                 may write to streams that begin with {:?} (store.stream_prefix)",
                event.position,
                event.stream_id(),
                self.log.prefix
            )));
        }
        Ok(true)
    }

    fn take_in(&self, batch: &mut Vec<RecordedEvent>) -> Result<(), Over> {
        let failed = |error: std::io::Error| {
            Over::Failed(format!(
                "where events are in the KurrentDB could not be written down: {error}; is the data folder's disk full?"
            ))
        };
        self.log.take_in(batch).map_err(failed)?;
        batch.clear();
        self.log.vouch(false).map_err(failed)
    }
}

/// Listens to what the client logs on the follower's thread.
struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target() == "kurrentdb::commands"
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::WARN)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        if message.0.contains("unknown subscription message") {
            resume_unwind(Box::new(OrderlyEnd));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
