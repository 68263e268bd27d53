//! Whether the service is up, as far as the log knows: what tells a clean stop from a crash.

use crate::event::Event;
use crate::recorded_event::RecordedEvent;
use serde::{Deserialize, Serialize};

/// The service's last start or stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRun {
    /// Started, and not stopped since.
    pub is_running: bool,
}

impl ServiceRun {
    /// Folds one event in and says whether it changed anything. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> bool {
        let is_running = match &recorded.envelope.event {
            Event::ServiceStarted(_) => true,
            Event::ServiceStopped(_) => false,
            Event::ApplicationRegistered(_)
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
            | Event::ApiCallAuthorized(_)
            | Event::TokenRevoked(_)
            | Event::TokensRevoked(_)
            | Event::ReferenceTokenIssued(_)
            | Event::ReferenceTokenRevoked(_)
            | Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::ApiCallDenied(_)
            | Event::AuditTrailRead(_)
            | Event::AuditTrailExported(_)
            | Event::ReportProduced(_)
            | Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => return false,
        };
        self.is_running = is_running;
        true
    }
}
