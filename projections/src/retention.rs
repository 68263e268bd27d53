//! What of the log was given up, and what must not be.

use crate::event::{Event, LegalHoldPlaced};
use crate::recorded_event::RecordedEvent;
use crate::values::{Actor, Timestamp};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A hold that is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct LegalHold {
    /// What is held, and why.
    pub placed: LegalHoldPlaced,
    /// By whom.
    pub placed_by: Actor,
    /// Since when.
    pub placed_at: Timestamp,
}

/// Built from the stream `retention`, which is short.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retention {
    /// Facts of the trail before this index were given up, or are being.
    pub removed_through: u64,
    /// Where the last removal began: what stopped half-way goes on there.
    pub last_removal_from: u64,
    /// Searches find nothing before this index.
    pub pruned_through: u64,
    /// How many facts were given up in all.
    pub removed_events: u64,
    /// The holds in force, by id.
    pub holds: BTreeMap<Uuid, LegalHold>,
    /// The stream's last revision, when it has an event.
    pub revision: Option<u64>,
}

impl Retention {
    /// Folds one event in. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) {
        let envelope = &recorded.envelope;
        match &envelope.event {
            Event::LegalHoldPlaced(placed) => {
                let hold = LegalHold {
                    placed: placed.clone(),
                    placed_by: envelope.actor.clone(),
                    placed_at: envelope.time,
                };
                self.holds.insert(placed.hold_id, hold);
            }
            Event::LegalHoldReleased(released) => {
                self.holds.remove(&released.hold_id);
            }
            Event::EventsRemoved(removed) => {
                self.last_removal_from = removed.from_index;
                self.removed_through = self.removed_through.max(removed.through_index);
                self.removed_events = self.removed_events.saturating_add(removed.events);
            }
            Event::IndexPruned(pruned) => self.pruned_through = self.pruned_through.max(pruned.through_index),
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
            | Event::EventRemoved(_) => return,
        }
        self.revision = Some(recorded.revision);
    }

    /// What is before this index is found no more: it was removed, or given up by the index, and nothing else was.
    pub fn searched_from(&self) -> u64 {
        self.removed_through.max(self.pruned_through)
    }

    /// The first index that a hold keeps from being removed. Only the log's beginning is ever removed, so what
    /// came later is kept with it.
    pub fn held_from(&self) -> Option<u64> {
        self.holds.values().map(|hold| hold.placed.from_index).min()
    }
}
