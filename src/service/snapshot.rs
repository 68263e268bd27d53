//! The projections at one point of the log, and the fold that builds them from stored events.

use crate::event_store::{StoredEvent, codec};
use grantlog_projections::Event;
use grantlog_projections::directory::{Directory, Touched};
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::reported_calls::ReportedCalls;
use grantlog_projections::service_run::ServiceRun;
use grantlog_projections::sessions::Sessions;
use grantlog_projections::tokens::{Tokens, TouchedToken};
use grantlog_projections::values::{ApiId, ApplicationId, Timestamp};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// The projections at one point of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Applications and APIs.
    pub directory: Directory,
    /// Signing keys.
    pub key_ring: Arc<KeyRing>,
    /// Revocations and reference tokens.
    pub tokens: Tokens,
    /// Sessions that are not over.
    pub sessions: Sessions,
    /// What APIs have told of.
    pub reported_calls: ReportedCalls,
    /// Starts and stops.
    pub service_run: ServiceRun,
}

/// What folds have touched since the last save.
#[derive(Debug, Default)]
pub struct Changed {
    /// These applications.
    pub applications: HashSet<ApplicationId>,
    /// These APIs.
    pub apis: HashSet<ApiId>,
    /// These revocations and reference tokens.
    pub tokens: HashSet<TouchedToken>,
    /// These sessions.
    pub sessions: HashSet<Uuid>,
    /// What these applications have told of.
    pub reporters: HashSet<ApplicationId>,
    /// The key ring.
    pub key_ring: bool,
    /// The starts and stops.
    pub service_run: bool,
}

/// What one stored event did to a snapshot, in order of what it means to those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Folded {
    /// Nothing.
    Nothing,
    /// It was a call: nobody waits for what that changes.
    Call,
    /// Somebody may be waiting for it.
    State,
}

impl Snapshot {
    /// Folds a stored event in, reading no more of it than that takes.
    pub fn fold(&mut self, stored: &StoredEvent, changed: &mut Changed) -> Result<Folded, codec::DecodeError> {
        let event_type = codec::peek_type(&stored.bytes);
        if !can_change_state(event_type) {
            return Ok(Folded::Nothing);
        }
        if matches!(event_type, Some("ApiCallAuthorized" | "ApiCallDenied"))
            && let Ok(call) = serde_json::from_slice::<SkimmedCall>(&stored.bytes)
        {
            self.call(&call, changed);
            return Ok(Folded::Call);
        }
        self.apply(&codec::decode(stored)?, changed);
        Ok(Folded::State)
    }

    /// Folds one event in and notes what it changed.
    pub fn apply(&mut self, recorded: &RecordedEvent, changed: &mut Changed) {
        match self.directory.apply(recorded) {
            Touched::Nothing => {}
            Touched::Application(id) => {
                changed.applications.insert(id);
            }
            Touched::Api(id) => {
                changed.apis.insert(id);
            }
        }
        changed.key_ring |= Arc::make_mut(&mut self.key_ring).apply(recorded);
        changed.tokens.extend(self.tokens.apply(recorded));
        changed.sessions.extend(self.sessions.apply(recorded));
        changed.reporters.extend(self.reported_calls.apply(recorded));
        changed.service_run |= self.service_run.apply(recorded);
    }

    fn call(&mut self, call: &SkimmedCall, changed: &mut Changed) {
        if let Some(session_id) = call.data.session_id
            && self.sessions.call(session_id, call.time)
        {
            changed.sessions.insert(session_id);
        }
        if let Some(report) = &call.data.report
            && self.reported_calls.add(report.reporter_id, report.id)
        {
            changed.reporters.insert(report.reporter_id);
        }
    }
}

impl Changed {
    /// Takes in what others have touched.
    pub fn merge(&mut self, other: Self) {
        self.applications.extend(other.applications);
        self.apis.extend(other.apis);
        self.tokens.extend(other.tokens);
        self.sessions.extend(other.sessions);
        self.reporters.extend(other.reporters);
        self.key_ring |= other.key_ring;
        self.service_run |= other.service_run;
    }

    /// Everything that there is.
    pub fn all(snapshot: &Snapshot) -> Self {
        let applications = snapshot.directory.applications_after(None);
        Self {
            applications: applications.map(|found| found.id).collect(),
            apis: snapshot.directory.apis_after(None).map(|found| found.id).collect(),
            tokens: snapshot.tokens.all().collect(),
            sessions: snapshot.sessions.open().map(|session| session.id).collect(),
            reporters: snapshot.reported_calls.reporters().collect(),
            key_ring: true,
            service_run: true,
        }
    }
}

/// Whether an event of this type can change a [`Snapshot`]: most of a log cannot, and need not be read.
/// An unknown type has to be read: it is the codec that says what is wrong with it.
pub fn can_change_state(event_type: Option<&str>) -> bool {
    event_type.and_then(Event::can_change_state).unwrap_or(true)
}

/// As much of a call as is folded, and as little: calls are most of what a log holds.
#[derive(Deserialize)]
struct SkimmedCall {
    time: Timestamp,
    data: SkimmedData,
}

#[derive(Deserialize)]
struct SkimmedData {
    #[serde(default)]
    session_id: Option<Uuid>,
    #[serde(default)]
    report: Option<SkimmedReport>,
}

#[derive(Deserialize)]
struct SkimmedReport {
    id: Uuid,
    reporter_id: ApplicationId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn golden(file: &str) -> StoredEvent {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
        StoredEvent {
            index: 0,
            revision: 0,
            bytes: std::fs::read(path).unwrap().trim_ascii_end().into(),
        }
    }

    fn all_golden_files() -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|file| file.ends_with(".json"))
            .collect()
    }

    /// With something of everything, so that there is something to change.
    fn something() -> Snapshot {
        let mut something = Snapshot::default();
        for file in [
            "ApplicationRegistered.json",
            "ApiRegistered.json",
            "SigningKeyAdded.json",
            "ReferenceTokenIssued.json",
            "SessionStarted.json",
            "ServiceStarted.json",
        ] {
            something.fold(&golden(file), &mut Changed::default()).unwrap();
        }
        something
    }

    #[test]
    fn an_event_that_changes_the_state_is_of_a_type_that_can() {
        let mut changing = std::collections::BTreeSet::new();
        for file in all_golden_files() {
            let event = codec::decode(&golden(&file)).unwrap();
            for before in [Snapshot::default(), something()] {
                let (mut after, mut changed) = (before.clone(), Changed::default());
                after.apply(&event, &mut changed);
                let is_noted = !changed.applications.is_empty()
                    || !changed.apis.is_empty()
                    || !changed.tokens.is_empty()
                    || !changed.sessions.is_empty()
                    || !changed.reporters.is_empty()
                    || changed.key_ring
                    || changed.service_run;
                if is_noted || after != before {
                    changing.insert(event.envelope.event.type_name());
                }
            }
        }
        let can = Event::TYPES.iter().copied().filter(|name| can_change_state(Some(name)));
        assert_eq!(changing, can.collect());
        assert!(can_change_state(Some("TokenForgotten")) && can_change_state(None));
    }

    #[test]
    fn what_is_skimmed_folds_to_what_decoding_folds_to() {
        for file in all_golden_files() {
            let stored = golden(&file);
            let (mut skimmed, mut decoded) = (something(), something());
            let folded = skimmed.fold(&stored, &mut Changed::default()).unwrap();
            decoded.apply(&codec::decode(&stored).unwrap(), &mut Changed::default());
            assert!(skimmed == decoded, "{file}");
            assert_eq!(folded == Folded::Call, file.starts_with("ApiCall"), "{file}");
        }
    }
}
