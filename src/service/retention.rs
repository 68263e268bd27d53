//! Gives up what the operator does not want to keep, a little at a time: the oldest facts of the trail, and what
//! searches find. Facts that the state is made of stay, and so does every leaf hash.

use crate::event_store::removal::removed;
use crate::event_store::{AppendError, Direction, ExpectedRevision, MAX_EVENTS_PER_READ, StoredEvent, codec};
use crate::policy::CommandRefused;
use crate::policy::retention::{self, RetentionRules, YOUNGEST_REMOVED_SECONDS};
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{EventsRemoved, IndexPruned, RetentionRule};
use grantlog_projections::retention::{LegalHold, Retention};
use grantlog_projections::values::{Actor, Remark, StreamName, Timestamp};
use serde::Serialize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Events that are replaced in one transaction: what a token's commit may have to wait for.
const EVENTS_PER_BATCH: usize = 64;
/// The writer has this many times as long for others as a batch took it.
const PAUSE_FACTOR: u32 = 4;
/// Units that are removed in one go before the rules are looked at again.
const UNITS_PER_RUN: usize = 64;
/// A command on holds is decided anew this often when another one came first.
const MAX_ATTEMPTS: usize = 5;

/// How far the background work has come.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether the last removal on the record has been carried out. What an earlier run left is not known.
    is_removal_complete: AtomicBool,
    is_log_too_large: Told,
    is_index_too_large: Told,
}

/// What the operator is told once, until it is over.
#[derive(Default)]
struct Told(AtomicBool);

impl Told {
    fn tell(&self, is_so: bool, tell: impl FnOnce()) {
        let is_known = self.0.swap(is_so, Ordering::Relaxed);
        if is_so && !is_known {
            tell();
        }
    }
}

/// What is kept, as callers see it.
#[derive(Debug, Serialize)]
pub struct RetentionStatus {
    /// The operator's rules, in seconds and bytes.
    pub rules: Rules,
    /// The facts of the trail before this index were removed from the log.
    pub removed_through: u64,
    /// How many they were.
    pub removed_events: u64,
    /// Searches begin at this index.
    pub indexed_from: u64,
    /// How many events the log has, with those that were removed.
    pub log_size: u64,
    /// Bytes that the log takes on disk.
    pub log_bytes: u64,
    /// Bytes that the audit index takes on disk.
    pub index_bytes: u64,
    /// The holds in force.
    pub holds: Vec<ShownHold>,
}

/// The operator's rules; what is null keeps everything.
#[derive(Debug, Serialize)]
#[allow(missing_docs)] // as in `RetentionRules`
pub struct Rules {
    pub index_after_seconds: Option<i64>,
    pub index_max_bytes: Option<u64>,
    pub log_after_seconds: Option<i64>,
    pub log_max_bytes: Option<u64>,
}

/// A hold, as callers see it.
#[derive(Debug, Serialize)]
pub struct ShownHold {
    /// Its id.
    pub id: Uuid,
    /// The first index that it holds.
    pub from_index: u64,
    /// The index after the last one.
    pub through_index: Option<u64>,
    /// Why.
    pub reason: Remark,
    /// By whom.
    pub placed_by: Actor,
    /// Since when.
    pub placed_at: Timestamp,
}

impl ShownHold {
    fn of(id: Uuid, hold: &LegalHold) -> Self {
        Self {
            id,
            from_index: hold.placed.from_index,
            through_index: hold.placed.through_index,
            reason: hold.placed.reason.clone(),
            placed_by: hold.placed_by.clone(),
            placed_at: hold.placed_at,
        }
    }
}

/// Where a hold begins.
#[derive(Debug, Clone, Copy)]
pub enum HoldFrom {
    /// At this index.
    Index(u64),
    /// With the first event of this time or later: at the beginning of its segment.
    Time(Timestamp),
}

impl Service {
    /// What is kept, and what is held.
    pub async fn retention_status(&self) -> Result<RetentionStatus, ServiceError> {
        let retention = self.retention().await?;
        let RetentionRules {
            index_after_seconds,
            index_max_bytes,
            log_after_seconds,
            log_max_bytes,
        } = self.settings.retention;
        Ok(RetentionStatus {
            rules: Rules {
                index_after_seconds,
                index_max_bytes,
                log_after_seconds,
                log_max_bytes,
            },
            removed_through: retention.removed_through,
            removed_events: retention.removed_events,
            indexed_from: self.index()?.pruned_through(),
            log_size: self.store.log_size(),
            log_bytes: self.store.used_bytes().await?,
            index_bytes: self.audit_bytes().await?,
            holds: retention
                .holds
                .iter()
                .map(|(id, hold)| ShownHold::of(*id, hold))
                .collect(),
        })
    }

    /// Keeps what is in the range from being removed. A range that begins with what has been removed already is
    /// refused; one that begins at a time begins behind it.
    pub async fn place_hold(
        &self,
        from: HoldFrom,
        through_index: Option<u64>,
        reason: Remark,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<ShownHold, ServiceError> {
        let index = self.index()?;
        let hold_id = Uuid::now_v7();
        let placed = self
            .decide_retention(actor, circumstances, |retention| {
                let from_index = match from {
                    HoldFrom::Index(index) => index,
                    HoldFrom::Time(time) => index.events_before(time).max(retention.removed_through),
                };
                let range = (from_index, through_index);
                retention::place_hold(retention, hold_id, range, self.store.log_size(), reason.clone())
            })
            .await?;
        let hold = LegalHold {
            placed,
            placed_by: actor.clone(),
            placed_at: circumstances.now,
        };
        Ok(ShownHold::of(hold_id, &hold))
    }

    /// Ends a hold.
    pub async fn release_hold(
        &self,
        id: Uuid,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        // As whoever places one.
        self.trail()?;
        self.decide_retention(actor, circumstances, |retention| {
            retention::release_hold(retention, id, reason.clone())
        })
        .await?;
        Ok(())
    }

    /// Gives up what it is time for. Stops in between at any time: the next call goes on. Of several nodes one decides,
    /// for the first to append to the stream is the only one; all prune their indexes by what was decided. A node
    /// without an index leaves it to them.
    pub async fn retain(&self) -> Result<(), ServiceError> {
        let Ok(index) = self.index() else { return Ok(()) };
        let rules = self.settings.retention;
        let mut retention = self.retention().await?;
        // A server alone that gives nothing up any more may have its index back in full.
        let others_prune = self.settings.node.is_some() && retention.pruned_through > index.pruned_through();
        if rules.is_empty() && retention.removed_through == 0 && !others_prune {
            return Ok(());
        }
        // How old events are is asked of the index.
        let indexed = index.wait_until_indexed(self.store.log_size()).await;
        indexed.map_err(|error| ServiceError::Audit(error.to_string()))?;
        // A removal that is on the record and stopped half-way.
        let is_complete = &self.retaining.is_removal_complete;
        if !is_complete.load(Ordering::Relaxed) {
            self.remove(retention.last_removal_from..retention.removed_through)
                .await?;
            is_complete.store(true, Ordering::Relaxed);
        }
        for _ in 0..UNITS_PER_RUN {
            if !self.remove_next_unit(&rules, &retention).await? {
                break;
            }
            retention = self.retention().await?;
        }
        self.prune_index(&rules, retention).await
    }

    /// Removes the oldest unit of the log when a rule says so and no hold does not. False: it stays.
    async fn remove_next_unit(&self, rules: &RetentionRules, known: &Retention) -> Result<bool, ServiceError> {
        let index = self.index()?;
        let unit = index.segment_events();
        let now = super::now();
        let old_enough = index.events_before(now.plus_seconds(-YOUNGEST_REMOVED_SECONDS));
        let by_age = rules
            .log_after_seconds
            .map(|age| index.events_before(now.plus_seconds(-age)).min(old_enough));
        let (is_too_large, bytes) = match rules.log_max_bytes {
            Some(most) => {
                let bytes = self.store.used_bytes().await?;
                (bytes > most, bytes)
            }
            None => (false, 0),
        };
        let by_size = is_too_large.then_some(old_enough);
        let due = |retention: &Retention| {
            let next = |wanted| retention::next_removal(retention, self.store.log_size(), wanted, unit);
            let by_age = by_age.and_then(next).map(|range| (range, RetentionRule::Age));
            by_age.or_else(|| by_size.and_then(next).map(|range| (range, RetentionRule::Size)))
        };
        let due_now = due(known);
        self.retaining
            .is_log_too_large
            .tell(is_too_large && due_now.is_none(), || {
                tracing::warn!(
                    bytes,
                    retention.log_max_bytes = rules.log_max_bytes,
                    "the log is larger than it may be, and nothing more can be removed: the rest is too young, held, \
                     among the newest units, or what the state is made of"
                );
            });
        let Some((range, rule)) = due_now else {
            return Ok(false);
        };
        let events = self.count_removable(range.clone()).await?;
        let circumstances = Circumstances::of_system();
        let is_complete = &self.retaining.is_removal_complete;
        is_complete.store(false, Ordering::Relaxed);
        // Decided on the log as it is now: a hold that came meanwhile counts.
        let decided = self
            .decide_retention(&Actor::System, &circumstances, |retention| match due(retention) {
                Some((now_due, _)) if now_due == range => Ok(EventsRemoved {
                    from_index: range.start,
                    through_index: range.end,
                    events,
                    rule,
                }),
                _ => Err(CommandRefused::Conflict("something else came first".into())),
            })
            .await;
        match decided {
            Ok(_) => {}
            Err(ServiceError::Refused(CommandRefused::Conflict(_))) => {
                // Nothing was put on the record.
                is_complete.store(true, Ordering::Relaxed);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        tracing::info!(
            from = range.start,
            through = range.end,
            events,
            ?rule,
            "removing events from the log"
        );
        self.remove(range).await?;
        is_complete.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Replaces the range's facts of the trail by what is left of them.
    async fn remove(&self, range: Range<u64>) -> Result<(), ServiceError> {
        let mut from = range.start;
        while from < range.end {
            let read = self.read_range(from..range.end).await?;
            let Some(last) = read.last() else { break };
            from = last.index + 1;
            for batch in read.chunks(EVENTS_PER_BATCH) {
                let left = batch
                    .iter()
                    .filter(|stored| is_removable(stored))
                    .map(removed)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| ServiceError::Audit(error.to_string()))?;
                if left.is_empty() {
                    continue;
                }
                let begin = Instant::now();
                self.store.remove(left).await?;
                tokio::time::sleep((begin.elapsed() * PAUSE_FACTOR).max(Duration::from_millis(1))).await;
            }
        }
        Ok(())
    }

    /// Takes from the index what the log no longer has, and what its own rules give up.
    async fn prune_index(&self, rules: &RetentionRules, retention: Retention) -> Result<(), ServiceError> {
        let index = self.index()?;
        let unit = index.segment_events();
        let log_size = self.store.log_size();
        // First what is decided already, here or on another node: a file that still holds it would be too large once
        // more, and more would be given up for it on all nodes.
        let is_pruned = self.prune_as_decided(&retention).await?;
        let by_age = rules
            .index_after_seconds
            .map(|age| index.events_before(super::now().plus_seconds(-age)))
            .and_then(|wanted| retention::next_pruning(&retention, log_size, wanted, unit))
            .map(|through| (through, RetentionRule::Age));
        let by_size = match rules.index_max_bytes {
            Some(most) if is_pruned && by_age.is_none() => {
                let bytes = self.audit_bytes().await?;
                let found = retention.searched_from();
                // As large a part of what is found as the index is too large.
                let beyond = u128::from(bytes.saturating_sub(most)) * u128::from(log_size.saturating_sub(found));
                let events = u64::try_from(beyond / u128::from(bytes.max(1))).unwrap_or(0);
                let events = events.max(retention::fewest_pruned(&retention, log_size, unit));
                let wanted = found.saturating_add(events).checked_next_multiple_of(unit);
                let through = wanted
                    .filter(|_| bytes > most)
                    .and_then(|wanted| retention::next_pruning(&retention, log_size, wanted, unit));
                let is_unmet = bytes > most && through.is_none();
                self.retaining.is_index_too_large.tell(is_unmet, || {
                    tracing::warn!(
                        bytes,
                        retention.index_max_bytes = most,
                        "the audit index is larger than it may be, and nothing more can be given up: the rest is held or \
                         among the newest segments"
                    );
                });
                through.map(|through| (through, RetentionRule::Size))
            }
            _ => None,
        };
        if let Some((through_index, rule)) = by_age.or(by_size) {
            let circumstances = Circumstances::of_system();
            let decided = self
                .decide_retention(&Actor::System, &circumstances, |retention| {
                    // On the stream as it is now: another node may have decided the same, or a hold may have come.
                    match retention::next_pruning(retention, log_size, through_index, unit) {
                        Some(now_due) if now_due == through_index => Ok(IndexPruned { through_index, rule }),
                        _ => Err(CommandRefused::Conflict("something else came first".into())),
                    }
                })
                .await;
            match decided {
                Ok(_) | Err(ServiceError::Refused(CommandRefused::Conflict(_))) => {}
                Err(error) => return Err(error),
            }
        }
        self.prune_as_decided(&self.retention().await?).await?;
        Ok(())
    }

    /// Takes from the index what was decided. False: all of it is not done yet.
    async fn prune_as_decided(&self, retention: &Retention) -> Result<bool, ServiceError> {
        let pruned = self.index()?.prune(retention.searched_from()).await;
        pruned.map_err(|error| ServiceError::Audit(error.to_string()))
    }

    async fn audit_bytes(&self) -> Result<u64, ServiceError> {
        let bytes = self.index()?.used_bytes().await;
        bytes.map_err(|error| ServiceError::Audit(error.to_string()))
    }

    /// How many of the range's events can be removed.
    async fn count_removable(&self, range: Range<u64>) -> Result<u64, ServiceError> {
        let (mut from, mut count) = (range.start, 0);
        while from < range.end {
            let read = self.read_range(from..range.end).await?;
            let Some(last) = read.last() else { break };
            from = last.index + 1;
            count += read.iter().filter(|stored| is_removable(stored)).count() as u64;
        }
        Ok(count)
    }

    async fn read_range(&self, range: Range<u64>) -> Result<Vec<StoredEvent>, ServiceError> {
        let most = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let read = self
            .store
            .read_all(range.start, Direction::Forwards, most.min(MAX_EVENTS_PER_READ));
        Ok(read.await?)
    }

    /// The stream `retention`, folded.
    pub(super) async fn retention(&self) -> Result<Retention, ServiceError> {
        let mut retention = Retention::default();
        // What it says is kept nowhere else.
        for recorded in self.history(&StreamName::retention(), None).await? {
            retention.apply(&recorded);
        }
        Ok(retention)
    }

    /// Decides on what the stream says and appends, anew when something else came first. Answers with what was put
    /// on the record.
    async fn decide_retention<E: Into<Event> + Clone>(
        &self,
        actor: &Actor,
        circumstances: &Circumstances,
        decide: impl Fn(&Retention) -> Result<E, CommandRefused>,
    ) -> Result<E, ServiceError> {
        for _ in 0..MAX_ATTEMPTS {
            let retention = self.retention().await?;
            let fact = decide(&retention)?;
            let expected = retention
                .revision
                .map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
            let recorded = self.record(
                StreamName::retention(),
                expected,
                actor,
                circumstances,
                [fact.clone().into()],
            );
            match recorded.await {
                Ok(_) => return Ok(fact),
                Err(ServiceError::NotRecorded(AppendError::WrongExpectedRevision { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CommandRefused::Conflict("others change it at the same time: try again".into()).into())
    }
}

fn is_removable(stored: &StoredEvent) -> bool {
    codec::peek_type(&stored.bytes).is_some_and(Event::may_be_removed)
}

#[cfg(test)]
mod tests;
