//! Following the audit trail as it grows, from any index on: no event is missed and none comes twice.
//!
//! A tail reads the log itself, so it is as current as the log is, and waits for its own reader only.

use crate::audit::export::ndjson;
use crate::audit::selection::Selection;
use crate::audit::{AuditQuery, Order};
use crate::event_store::{StoredEvent, Subscription};
use crate::policy::CommandRefused;
use crate::priority;
use crate::service::authorize_call::Caller;
use crate::service::record::Circumstances;
use crate::service::streams::{CHECK_EVERY, EndReason, Ended, Outlet};
use crate::service::{Service, ServiceError};
use grantlog_projections::event::{AuditTrailRead, TrailAccess};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Events that are taken from the log at a time.
const BATCH_EVENTS: usize = 512;
/// Events that are written where a token request may be waiting; more are written where it may block.
const FEW_EVENTS: usize = 16;
/// Bytes of the events that are written there.
const FEW_BYTES: usize = 16 << 10;
/// Bytes of events in a part; one event may be larger.
const PART_BYTES: usize = 64 << 10;
/// A tail says at least this often how far it is. It is also how a reader that has gone is noticed: the second
/// time that nobody takes it.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Commits that come within so short a time are handed over together: to be woken by each would cost the token
/// endpoint more. An event that comes alone is handed over at once.
const GATHER: Duration = Duration::from_millis(5);

/// Where a tail begins, and what it shows.
pub struct TailRequest {
    /// Its conditions; `from_index` of its query counts only when `begin` says so.
    pub selection: Selection,
    /// Where it begins.
    pub begin: TailBegin,
    /// As it was asked for, for the record.
    pub parameters: BTreeMap<String, String>,
}

/// Where a tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailBegin {
    /// At this index.
    At(u64),
    /// With the first event of the query's `since`, else with what comes from now on.
    Now,
}

/// What a tail hands over.
#[derive(Debug)]
pub enum TailPart {
    /// Events that are shown, each with its index, and how many events of the log are behind the reader then.
    Events {
        /// Index, and the event's JSON on one line.
        events: Vec<(u64, Vec<u8>)>,
        /// How many events of the log have been shown or passed over.
        through: u64,
    },
    /// Nothing to show, but so far it has come.
    Beat {
        /// How many events of the log have been shown or passed over.
        through: u64,
    },
    /// The last part.
    End {
        /// Why.
        reason: EndReason,
        /// How many events of the log have been shown or passed over.
        through: u64,
    },
}

impl Service {
    /// Follows the trail; that it is followed is on the record before the first event is handed over. The tail
    /// goes on until its reader is dropped, or may not read any more.
    pub async fn follow_audit(
        self: &Arc<Self>,
        request: TailRequest,
        required_scope: &'static str,
        caller: Caller,
        circumstances: &Circumstances,
    ) -> Result<mpsc::Receiver<TailPart>, ServiceError> {
        let place = self.streams.tails.take(&caller.application_uri)?;
        let log_size = self.store.log_size();
        let begin = match request.begin {
            TailBegin::At(index) if index > log_size => {
                let message = format!("the log has {log_size} events: this index is of another log, or yet to come");
                return Err(CommandRefused::invalid("from_index", message).into());
            }
            TailBegin::At(index) => Some(index),
            TailBegin::Now => self.first_since(request.selection.query()).await?,
        };
        let fact = AuditTrailRead {
            application_uri: caller.application_uri.clone(),
            filter: request.parameters,
            rows: 0,
            through_index: log_size,
            via: TrailAccess::Tail,
        };
        let recorded = self
            .record_access(fact.into(), &caller.application_uri, circumstances)
            .await?;
        // From now on: what comes after the tail's own event.
        let next = begin.unwrap_or(recorded + 1);
        let (outlet, reader) = self.streams.open(place);
        let tail = Tail {
            service: self.clone(),
            selection: Arc::new(request.selection),
            required_scope,
            caller,
            subscription: self.store.subscribe_to_all(next),
            through: next,
            told: Instant::now(),
            outlet,
        };
        tokio::spawn(tail.run());
        Ok(reader)
    }

    /// Where the first event of the query's time is, if it asks for a time.
    async fn first_since(&self, query: &AuditQuery) -> Result<Option<u64>, ServiceError> {
        if query.since.is_none() {
            return Ok(None);
        }
        let query = AuditQuery {
            since: query.since,
            order: Order::Asc,
            limit: 1,
            ..AuditQuery::default()
        };
        let page = self.search_unrecorded(&query).await?;
        // What the index has not read yet is looked at one by one.
        Ok(Some(
            page.events.first().map_or(page.indexed_through, |event| event.index),
        ))
    }
}

struct Tail {
    service: Arc<Service>,
    selection: Arc<Selection>,
    required_scope: &'static str,
    caller: Caller,
    subscription: Box<dyn Subscription>,
    /// How many events of the log have been shown or passed over.
    through: u64,
    /// When the reader last heard of it.
    told: Instant,
    outlet: Outlet<TailPart>,
}

impl Tail {
    async fn run(mut self) {
        let ended = match self.follow().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        if let Ended::Because(reason) = ended {
            let through = self.through;
            self.outlet.send_last(TailPart::End { reason, through });
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, Ended> {
        let mut checks = interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest_until = Instant::now();
        // At once: whoever waits for events learns that the tail is there.
        self.beat().await?;
        loop {
            tokio::select! {
                biased;
                ended = self.outlet.must_end() => return Err(ended),
                _ = checks.tick() => {
                    self.service.may_still(&self.caller, self.required_scope).map_err(Ended::Because)?;
                    if self.told.elapsed() >= BEAT_EVERY {
                        self.beat().await?;
                    }
                }
                // A future that is dropped unfinished skips no event.
                batch = next_batch(&mut *self.subscription, rest_until) => {
                    let batch = batch.map_err(|error| self.log_ended(&error))?;
                    rest_until = Instant::now() + GATHER;
                    self.hand_over(batch).await?;
                }
            }
        }
    }

    /// Writes what is taken of a batch, and hands it over in parts.
    async fn hand_over(&mut self, batch: Vec<StoredEvent>) -> Result<(), Ended> {
        let Some(through) = batch.last().map(|last| last.index + 1) else {
            return Ok(());
        };
        let selection = self.selection.clone();
        let written = if is_little_work(&batch, &selection) {
            write(&batch, &selection)
        } else {
            let writing = tokio::task::spawn_blocking(move || {
                priority::give_way();
                write(&batch, &selection)
            });
            writing.await.unwrap_or_else(|panic| Err(panic.to_string()))
        };
        let written = written.map_err(|error| self.log_ended(&error))?;
        let mut part = Vec::new();
        let mut bytes = 0;
        for (index, event) in written {
            bytes += event.len();
            part.push((index, event));
            if bytes >= PART_BYTES {
                self.send(std::mem::take(&mut part), index + 1).await?;
                bytes = 0;
            }
        }
        if !part.is_empty() {
            self.send(part, through).await?;
        }
        self.through = through;
        Ok(())
    }

    async fn send(&mut self, events: Vec<(u64, Vec<u8>)>, through: u64) -> Result<(), Ended> {
        self.outlet.send(TailPart::Events { events, through }).await?;
        (self.through, self.told) = (through, Instant::now());
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        let through = self.through;
        self.outlet.send(TailPart::Beat { through }).await?;
        self.told = Instant::now();
        Ok(())
    }

    fn log_ended(&self, error: &dyn std::fmt::Display) -> Ended {
        // Why a log that has failed or was closed has ended is told where it is known.
        if !self.service.store.has_ended() {
            tracing::error!(%error, through = self.through, "a tail of the audit trail broke off");
        }
        Ended::Because(EndReason::LogEnded)
    }
}

async fn next_batch(
    subscription: &mut dyn Subscription,
    not_before: Instant,
) -> Result<Vec<StoredEvent>, crate::event_store::ReadError> {
    sleep_until(not_before).await;
    subscription.next_batch(BATCH_EVENTS).await
}

/// Whether the batch may be written where a token request may be waiting. What a filter's expression costs is up to
/// who wrote it.
fn is_little_work(batch: &[StoredEvent], selection: &Selection) -> bool {
    batch.len() <= FEW_EVENTS
        && selection.query().filter.is_none()
        && batch.iter().map(|stored| stored.bytes.len()).sum::<usize>() <= FEW_BYTES
}

fn write(batch: &[StoredEvent], selection: &Selection) -> Result<Vec<(u64, Vec<u8>)>, String> {
    let mut written = Vec::new();
    for stored in batch {
        if selection.takes(stored).map_err(|error| error.to_string())? {
            let mut event = Vec::with_capacity(stored.bytes.len() * 3 / 2);
            ndjson::write_object(&mut event, stored).map_err(|error| error.to_string())?;
            written.push((stored.index, event));
        }
    }
    Ok(written)
}
