//! The uses, folded anew from the whole log and held against the saved ones.

use super::UsageError;
use super::database::saved_for;
use super::follower::fold_one;
use crate::event_store::codec::{self, DecodeError};
use crate::event_store::{Direction, EventStore, MAX_EVENTS_PER_READ, ReadError};
use grantlog_projections::usage::Usage;
use std::path::Path;
use std::time::{Duration, Instant};

/// Differences that are listed.
const MAX_DIFFERENCES: usize = 20;

/// What a rebuild of the uses found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageComparison {
    /// Whether there was anything saved to compare with; when not, nothing was folded.
    pub is_compared: bool,
    /// Events folded: as many as the saved uses speak of.
    pub events: u64,
    /// Applications compared.
    pub applications: usize,
    /// Facts that the log no longer has, because retention removed them after they were counted: then what is saved
    /// knows more than the log, and is not held against it.
    pub removed: u64,
    /// What differs; empty: nothing.
    pub differences: Vec<String>,
    /// How long folding took.
    pub elapsed: Duration,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum RebuildUsageError {
    /// What is saved cannot be read.
    #[error(transparent)]
    Saved(#[from] UsageError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event of the log cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeError),
}

/// Folds the log from zero up to where the saved uses go, and compares the two. `progress` hears how many events
/// are folded. Only reads: a server may be serving from the folder.
pub async fn rebuild_usage(
    path: &Path,
    store: &dyn EventStore,
    mut progress: impl FnMut(u64),
) -> Result<UsageComparison, RebuildUsageError> {
    let Some((saved, events)) = saved_for(path, store).await? else {
        return Ok(UsageComparison {
            is_compared: false,
            events: 0,
            applications: 0,
            removed: 0,
            differences: Vec::new(),
            elapsed: Duration::ZERO,
        });
    };
    let started = Instant::now();
    let mut rebuilt = Usage::default();
    let (mut position, mut removed) = (0, 0);
    while position < events {
        let limit =
            usize::try_from(events - position).map_or(MAX_EVENTS_PER_READ, |left| left.min(MAX_EVENTS_PER_READ));
        let read = store.read_all(position, Direction::Forwards, limit).await?;
        if read.is_empty() {
            return Err(ReadError(format!("event {position} of {events} is not there")).into());
        }
        for event in &read {
            removed += u64::from(codec::peek_type(&event.bytes) == Some("EventRemoved"));
            fold_one(&mut rebuilt, event)?;
            position = event.index + 1;
        }
        progress(position);
    }
    Ok(UsageComparison {
        is_compared: true,
        events,
        applications: rebuilt.len(),
        removed,
        differences: match removed {
            0 => differences(&saved, &rebuilt),
            _ => Vec::new(),
        },
        elapsed: started.elapsed(),
    })
}

fn differences(saved: &Usage, rebuilt: &Usage) -> Vec<String> {
    let otherwise = rebuilt
        .applications()
        .filter(|(id, usage)| saved.application(*id) != Some(usage))
        .map(|(id, _)| format!("the usage of application {id} is saved otherwise than the log has it"));
    let invented = saved
        .applications()
        .filter(|(id, _)| rebuilt.application(*id).is_none())
        .map(|(id, _)| format!("a usage of application {id} is saved that the log does not have"));
    otherwise.chain(invented).take(MAX_DIFFERENCES).collect()
}
