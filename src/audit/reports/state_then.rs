//! Applications, APIs and signing keys as they were at a point in the log, and who made them so.

use super::parameters::Cut;
use super::reading::TakesEvents;
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::Event;
use grantlog_projections::directory::{Directory, Touched};
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Actor, ApplicationId, Remark, StreamName, Timestamp};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The state at a cut of the log, being folded.
pub(super) struct StateThen {
    cut: Cut,
    /// Streams that have come to an event behind the cut: times may step back, but what comes later in a stream
    /// builds on what came before.
    ended: HashSet<StreamName>,
    pub directory: Directory,
    pub key_ring: KeyRing,
    /// Who made each application what it was.
    pub last_changes: BTreeMap<ApplicationId, LastChange>,
}

/// Who changed an application last, and who registered it.
#[derive(Debug, Clone)]
pub(super) struct LastChange {
    pub registered_by: Actor,
    pub by: Actor,
    pub at: Timestamp,
    pub index: u64,
    pub event_type: &'static str,
    pub reason: Option<Remark>,
}

impl StateThen {
    pub fn new(cut: Cut) -> Self {
        Self {
            cut,
            ended: HashSet::new(),
            directory: Directory::default(),
            key_ring: KeyRing::default(),
            last_changes: BTreeMap::new(),
        }
    }

    /// Folds an event in, if it can change the state and was before the cut.
    pub fn take(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        // What cannot be told from the bytes is for the codec to judge.
        let can_change = codec::peek_type(&stored.bytes).and_then(Event::can_change_state);
        if can_change == Some(false) {
            return Ok(());
        }
        let recorded = codec::decode(stored)?;
        let stream = &recorded.envelope.stream;
        if self.ended.contains(stream) {
            return Ok(());
        }
        if !self.cut.includes(&recorded) {
            self.ended.insert(stream.clone());
            return Ok(());
        }
        self.fold(&recorded);
        Ok(())
    }

    /// The applications that were not deleted, by name.
    pub fn applications(&self) -> impl Iterator<Item = &Arc<TrustedApplication>> {
        self.directory
            .applications_after(None)
            .filter(|application| !application.is_deleted())
    }

    fn fold(&mut self, recorded: &RecordedEvent) {
        self.key_ring.apply(recorded);
        let Touched::Application(id) = self.directory.apply(recorded) else {
            return;
        };
        let envelope = &recorded.envelope;
        let known = self.last_changes.get(&id).map(|known| known.registered_by.clone());
        let change = LastChange {
            registered_by: known.unwrap_or_else(|| envelope.actor.clone()),
            by: envelope.actor.clone(),
            at: envelope.time,
            index: recorded.index,
            event_type: envelope.event.type_name(),
            reason: reason(&envelope.event).cloned(),
        };
        self.last_changes.insert(id, change);
    }
}

impl TakesEvents for StateThen {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        self.take(stored)
    }
}

/// Why a change was made, as its caller put it.
pub(in crate::audit) fn reason(event: &Event) -> Option<&Remark> {
    match event {
        Event::ApplicationChanged(data) => data.reason.as_ref(),
        Event::ApplicationEnabled(data) => data.reason.as_ref(),
        Event::ApplicationDisabled(data) => data.reason.as_ref(),
        Event::ApplicationDeleted(data) => data.reason.as_ref(),
        Event::SecretRotated(data) => data.reason.as_ref(),
        Event::SecretRevoked(data) => data.reason.as_ref(),
        Event::TokenRevoked(data) => data.reason.as_ref(),
        Event::TokensRevoked(data) => data.reason.as_ref(),
        Event::ReferenceTokenRevoked(data) => data.reason.as_ref(),
        Event::ApiChanged(data) => data.reason.as_ref(),
        Event::ApiDeleted(data) => data.reason.as_ref(),
        Event::SigningKeyAdded(data) => Some(&data.reason),
        Event::SigningKeyActivated(data) => Some(&data.reason),
        Event::SigningKeyRetired(data) => Some(&data.reason),
        Event::LegalHoldPlaced(data) => Some(&data.reason),
        Event::LegalHoldReleased(data) => data.reason.as_ref(),
        Event::ServiceStarted(_)
        | Event::ServiceStopped(_)
        | Event::ApplicationRegistered(_)
        | Event::ApiRegistered(_)
        | Event::TokenIssued(_)
        | Event::TokenRefused(_)
        | Event::RequestsThrottled(_)
        | Event::ApiCallAuthorized(_)
        | Event::ReferenceTokenIssued(_)
        | Event::SessionStarted(_)
        | Event::SessionEnded(_)
        | Event::ApiCallDenied(_)
        | Event::AuditTrailRead(_)
        | Event::AuditTrailExported(_)
        | Event::ReportProduced(_)
        | Event::EventsRemoved(_)
        | Event::IndexPruned(_)
        | Event::EventRemoved(_) => None,
    }
}
