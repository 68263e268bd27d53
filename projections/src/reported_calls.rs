//! Which calls each API has told of already: a report that comes twice is recorded once.
//!
//! Bounded: of each reporter the last ids are remembered, many more than one that repeats a report can have sent
//! in between.

use crate::event::{CallReport, Event};
use crate::recorded_event::RecordedEvent;
use crate::values::ApplicationId;
use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Ids that are remembered of each reporter.
pub const MAX_REMEMBERED: usize = 16_384;

/// The last ids of one reporter, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Uuid>", into = "Vec<Uuid>")]
pub struct Remembered {
    in_order: Vector<Uuid>,
    known: OrdSet<Uuid>,
}

/// The last ids of all reporters. A clone is cheap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReportedCalls {
    by_reporter: OrdMap<ApplicationId, Remembered>,
}

impl ReportedCalls {
    /// Folds one event in and says whose ids it changed. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Option<ApplicationId> {
        match &recorded.envelope.event {
            Event::ApiCallAuthorized(data) => data.report.as_ref().and_then(|report| self.take(report)),
            Event::ApiCallDenied(data) => data.report.as_ref().and_then(|report| self.take(report)),
            Event::ServiceStarted(_)
            | Event::ServiceStopped(_)
            | Event::ApplicationRegistered(_)
            | Event::ApplicationChanged(_)
            | Event::ApplicationEnabled(_)
            | Event::ApplicationDisabled(_)
            | Event::ApplicationDeleted(_)
            | Event::SecretRotated(_)
            | Event::SecretRevoked(_)
            | Event::ApiRegistered(_)
            | Event::ApiChanged(_)
            | Event::ApiDeleted(_)
            | Event::SigningKeyAdded(_)
            | Event::SigningKeyActivated(_)
            | Event::SigningKeyRetired(_)
            | Event::TokenIssued(_)
            | Event::TokenRefused(_)
            | Event::RequestsThrottled(_)
            | Event::TokenRevoked(_)
            | Event::TokensRevoked(_)
            | Event::ReferenceTokenIssued(_)
            | Event::ReferenceTokenRevoked(_)
            | Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::AuditTrailRead(_)
            | Event::AuditTrailExported(_)
            | Event::ReportProduced(_)
            | Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => None,
        }
    }

    /// Folds in a report of which no more than this has been read; says whether it is new.
    pub fn add(&mut self, reporter: ApplicationId, id: Uuid) -> bool {
        self.by_reporter.entry(reporter).or_default().add(id)
    }

    /// Whether this reporter has told of this call, as far as it is remembered.
    pub fn contains(&self, reporter: ApplicationId, id: Uuid) -> bool {
        self.by_reporter
            .get(&reporter)
            .is_some_and(|remembered| remembered.known.contains(&id))
    }

    /// What is remembered of a reporter.
    pub fn of(&self, reporter: ApplicationId) -> Option<&Remembered> {
        self.by_reporter.get(&reporter)
    }

    /// All reporters.
    pub fn reporters(&self) -> impl Iterator<Item = ApplicationId> {
        self.by_reporter.keys().copied()
    }

    /// Puts a reporter's ids back as a checkpoint kept them.
    pub fn restore(&mut self, reporter: ApplicationId, remembered: Remembered) {
        self.by_reporter.insert(reporter, remembered);
    }

    fn take(&mut self, report: &CallReport) -> Option<ApplicationId> {
        self.add(report.reporter_id, report.id).then_some(report.reporter_id)
    }
}

impl Remembered {
    fn add(&mut self, id: Uuid) -> bool {
        if self.known.insert(id).is_some() {
            return false;
        }
        self.in_order.push_back(id);
        if self.in_order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl From<Vec<Uuid>> for Remembered {
    fn from(ids: Vec<Uuid>) -> Self {
        let mut remembered = Self::default();
        for id in ids {
            remembered.add(id);
        }
        remembered
    }
}

impl From<Remembered> for Vec<Uuid> {
    fn from(remembered: Remembered) -> Self {
        remembered.in_order.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_until_many_others_have_come() {
        let reporter = ApplicationId(Uuid::from_u128(1));
        let mut calls = ReportedCalls::default();
        let id = |n: usize| Uuid::from_u128(n as u128);
        assert!(calls.add(reporter, id(0)));
        assert!(!calls.add(reporter, id(0)));
        assert!(
            calls.add(ApplicationId(Uuid::from_u128(2)), id(0)),
            "another reporter's id is another"
        );
        for n in 1..MAX_REMEMBERED {
            assert!(calls.add(reporter, id(n)));
        }
        assert!(calls.contains(reporter, id(0)));
        assert!(calls.add(reporter, id(MAX_REMEMBERED)));
        assert!(!calls.contains(reporter, id(0)), "the oldest has made room");
        let saved = serde_json::to_string(calls.of(reporter).unwrap()).unwrap();
        assert_eq!(
            &serde_json::from_str::<Remembered>(&saved).unwrap(),
            calls.of(reporter).unwrap()
        );
    }
}
