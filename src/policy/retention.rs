//! What of the log may be given up, and who keeps it from being.

use crate::policy::CommandRefused;
use grantlog_projections::event::{LegalHoldPlaced, LegalHoldReleased};
use grantlog_projections::retention::Retention;
use grantlog_projections::values::{Remark, TokenLifetime};
use std::ops::Range;
use uuid::Uuid;

/// Holds that can be in force at one time.
pub const MAX_HOLDS: usize = 1_024;
/// Units at the log's end that are never removed, whatever the rules say: whoever follows the log, or has saved
/// how far it has read, finds them as they were.
pub const UNITS_ALWAYS_KEPT: u64 = 4;

/// Segments of the index that are given up together at the least, as its own rules say: each time goes through all
/// of its values.
const FEWEST_UNITS_PRUNED: u64 = 4;
/// Of the segments that are found, one in so many goes at a time at the least.
const PRUNED_PART: u64 = 64;
/// Facts that are younger than this, in seconds, are never removed: what is known of a token stays at least as long as
/// it may be used, with an hour for clocks that differ.
pub const YOUNGEST_REMOVED_SECONDS: i64 = TokenLifetime::MAX_SECONDS as i64 + 3_600;

/// What the operator wants to keep. Nothing is given up by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionRules {
    /// Searches find what is not older than this, in seconds.
    pub index_after_seconds: Option<i64>,
    /// The index may take so many bytes.
    pub index_max_bytes: Option<u64>,
    /// The trail's facts are removed from the log when they are older than this, in seconds.
    pub log_after_seconds: Option<i64>,
    /// The log may take so many bytes; then its oldest facts go.
    pub log_max_bytes: Option<u64>,
}

impl RetentionRules {
    /// Whether there is anything to do, ever.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Decides which events go next when those before `wanted` may: whole units from the log's beginning, before any
/// hold. `None`: none.
pub fn next_removal(retention: &Retention, log_size: u64, wanted: u64, unit: u64) -> Option<Range<u64>> {
    let allowed = may_go(retention, log_size, unit).min(wanted);
    let range = retention.removed_through..retention.removed_through.saturating_add(unit);
    (range.end <= allowed).then_some(range)
}

/// Decides up to which index searches find nothing any more, when those before `wanted` may go. `None`: none, or too
/// few to be worth it yet.
pub fn next_pruning(retention: &Retention, log_size: u64, wanted: u64, unit: u64) -> Option<u64> {
    let through = may_go(retention, log_size, unit).min(wanted) / unit * unit;
    let due = through.saturating_sub(found_from(retention));
    (due >= fewest_pruned(retention, log_size, unit)).then_some(through)
}

/// How many events searches stop finding at a time, at the least.
pub fn fewest_pruned(retention: &Retention, log_size: u64, unit: u64) -> u64 {
    let found = log_size.saturating_sub(found_from(retention)) / unit;
    (found / PRUNED_PART).max(FEWEST_UNITS_PRUNED) * unit
}

/// What is before it is found no more.
fn found_from(retention: &Retention) -> u64 {
    retention.pruned_through.max(retention.removed_through)
}

fn may_go(retention: &Retention, log_size: u64, unit: u64) -> u64 {
    let old = log_size.saturating_sub(UNITS_ALWAYS_KEPT * unit);
    old.min(retention.held_from().unwrap_or(u64::MAX))
}

/// Decides a hold.
pub fn place_hold(
    retention: &Retention,
    hold_id: Uuid,
    range: (u64, Option<u64>),
    log_size: u64,
    reason: Remark,
) -> Result<LegalHoldPlaced, CommandRefused> {
    let (from_index, through_index) = range;
    // A digit too many would hold nothing, and nobody would notice before it is too late.
    if from_index >= log_size {
        let message = format!("is not in the log, which has {log_size} events");
        return Err(CommandRefused::invalid("from_index", message));
    }
    if let Some(through) = through_index.filter(|through| *through > log_size) {
        let message = format!("{through} is more than the log has, {log_size} events: leave it out to hold what comes");
        return Err(CommandRefused::invalid("through_index", message));
    }
    let removed_through = retention.removed_through;
    if from_index < removed_through {
        let message = format!("the facts before {removed_through} are removed already: hold from there");
        return Err(CommandRefused::Conflict(message));
    }
    if through_index.is_some_and(|through| through <= from_index) {
        let message = "must be greater than from_index: the range ends before it";
        return Err(CommandRefused::invalid("through_index", message));
    }
    if retention.holds.len() >= MAX_HOLDS {
        let message = format!("there are {MAX_HOLDS} holds already: release those that are over");
        return Err(CommandRefused::Conflict(message));
    }
    Ok(LegalHoldPlaced {
        hold_id,
        from_index,
        through_index,
        reason,
    })
}

/// Decides a hold's end.
pub fn release_hold(
    retention: &Retention,
    hold_id: Uuid,
    reason: Option<Remark>,
) -> Result<LegalHoldReleased, CommandRefused> {
    if !retention.holds.contains_key(&hold_id) {
        return Err(CommandRefused::NotFound(format!("there is no hold {hold_id}")));
    }
    Ok(LegalHoldReleased { hold_id, reason })
}
