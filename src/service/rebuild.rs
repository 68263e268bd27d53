//! The directory and the key ring, folded anew from the whole log and held against the saved ones.

use crate::event_store::{Direction, EventStore, MAX_EVENTS_PER_READ, codec};
use crate::service::checkpoint::Checkpoint;
use crate::service::live_state::LiveStateError;
use crate::service::snapshot::{Changed, Snapshot};
use std::time::{Duration, Instant};

/// What a rebuild of the state found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateComparison {
    /// Whether there was a saved state to compare with: it is saved while and when a server runs.
    pub is_compared: bool,
    /// Events folded: as many as the saved state has read; all when nothing is saved.
    pub events: u64,
    /// Applications compared.
    pub applications: usize,
    /// What differs; empty: nothing.
    pub differences: Vec<String>,
    /// How long folding took.
    pub elapsed: Duration,
}

/// Differences that are listed.
const MAX_DIFFERENCES: usize = 20;

/// Folds the log from zero up to where the saved state has read, and compares the two; all of it when nothing is
/// saved. `progress` hears
/// how many events are folded.
pub async fn rebuild_state(
    store: &dyn EventStore,
    checkpoint: Option<&Checkpoint>,
    mut progress: impl FnMut(u64),
) -> Result<StateComparison, LiveStateError> {
    let saved = match checkpoint {
        Some(checkpoint) => checkpoint.saved_for(store).await?,
        None => None,
    };
    let events = saved.as_ref().map_or(store.log_size(), |(_, events)| *events);
    let started = Instant::now();
    let mut rebuilt = Snapshot::default();
    let (mut changed, mut position, mut is_whole) = (Changed::default(), 0, true);
    while position < events {
        let limit =
            usize::try_from(events - position).map_or(MAX_EVENTS_PER_READ, |left| left.min(MAX_EVENTS_PER_READ));
        for stored in store.read_all(position, Direction::Forwards, limit).await? {
            rebuilt.fold(&stored, &mut changed)?;
            is_whole &= codec::peek_type(&stored.bytes) != Some("EventRemoved");
            position = stored.index + 1;
        }
        progress(position);
    }
    let applications = rebuilt.directory.application_count();
    Ok(StateComparison {
        is_compared: saved.is_some(),
        events,
        applications,
        differences: saved.map_or_else(Vec::new, |(saved, _)| differences(&saved, rebuilt, is_whole)),
        elapsed: started.elapsed(),
    })
}

/// What the two differ in. `is_whole`: nothing was removed from the log. Else what comes of calls, which is the only
/// state that removed facts had a part in, cannot be compared.
fn differences(saved: &Snapshot, mut rebuilt: Snapshot, is_whole: bool) -> Vec<String> {
    if !is_whole {
        rebuilt.sessions = saved.sessions.clone();
        rebuilt.reported_calls = saved.reported_calls.clone();
    }
    let mut found = Vec::new();
    let (saved_count, count) = (
        saved.directory.application_count(),
        rebuilt.directory.application_count(),
    );
    if saved_count != count {
        found.push(format!("{saved_count} applications are saved, the log has {count}"));
    }
    for application in rebuilt.directory.applications_after(None) {
        if saved.directory.application(application.id) != Some(application) {
            found.push(format!(
                "application {} is saved otherwise than the log has it",
                application.uri
            ));
        }
    }
    for api in rebuilt.directory.apis_after(None) {
        if saved.directory.api(api.id) != Some(api) {
            found.push(format!("API {} is saved otherwise than the log has it", api.audience));
        }
    }
    if saved.key_ring != rebuilt.key_ring {
        found.push("the signing keys are saved otherwise than the log has them".into());
    }
    if saved.tokens != rebuilt.tokens {
        found.push("revoked tokens and reference tokens are saved otherwise than the log has them".into());
    }
    if saved.sessions != rebuilt.sessions {
        found.push("the sessions are saved otherwise than the log has them".into());
    }
    if saved.reported_calls != rebuilt.reported_calls {
        found.push("the calls that APIs told of are saved otherwise than the log has them".into());
    }
    if saved.service_run != rebuilt.service_run {
        found.push("the service's last start or stop is saved otherwise than the log has it".into());
    }
    // Whatever else the two may differ in.
    if found.is_empty() && *saved != rebuilt {
        found.push("the saved state is not the one that the log gives".into());
    }
    found.truncate(MAX_DIFFERENCES);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::{MemoryLog, tokens};

    #[tokio::test]
    async fn a_state_that_was_never_saved_is_not_compared_and_no_file_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("projections.db");
        let checkpoint = Checkpoint::open_existing(&path).unwrap();
        assert!(checkpoint.is_none());
        let log = MemoryLog::of(&tokens(7));
        let compared = rebuild_state(&*log, checkpoint.as_ref(), |_| {}).await.unwrap();
        assert_eq!((compared.is_compared, compared.events), (false, 7));
        assert!(compared.differences.is_empty());
        assert!(!path.exists());
    }
}
