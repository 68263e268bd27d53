//! Which nodes are up, as far as the log knows: what tells a clean stop from a crash.

use crate::event::Event;
use crate::recorded_event::RecordedEvent;
use crate::values::NodeName;
use serde::{Deserialize, Serialize};

/// Nodes that are remembered as up. Where every start has another name, those that crashed never stop: of more, the
/// one that started longest ago is forgotten.
pub const MAX_RUNNING_NODES: usize = 1_024;

/// The starts that no stop has followed, those that started longest ago first. A server alone on its log has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRun {
    running: Vec<Option<NodeName>>,
}

impl ServiceRun {
    /// Folds one event in and says whether it changed anything. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> bool {
        match &recorded.envelope.event {
            Event::ServiceStarted(data) => {
                self.running.retain(|node| *node != data.node);
                if self.running.len() == MAX_RUNNING_NODES {
                    self.running.remove(0);
                }
                self.running.push(data.node.clone());
                true
            }
            Event::ServiceStopped(data) => {
                let before = self.running.len();
                self.running.retain(|node| *node != data.node);
                self.running.len() != before
            }
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
            | Event::EventRemoved(_) => false,
        }
    }

    /// Whether this node started, and has not stopped since.
    pub fn is_running(&self, node: Option<&NodeName>) -> bool {
        self.running.iter().any(|running| running.as_ref() == node)
    }

    /// The nodes that are up, with the one that has no name, those that started longest ago first.
    pub fn running(&self) -> impl Iterator<Item = Option<&NodeName>> {
        self.running.iter().map(Option::as_ref)
    }

    /// The nodes that have names and are up, those that started longest ago first.
    pub fn running_nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.running.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ServiceStarted, ServiceStopped};
    use crate::recorded_event::Envelope;
    use crate::values::{Actor, StreamName, Timestamp};
    use uuid::Uuid;

    fn node(name: &str) -> Option<NodeName> {
        NodeName::parse(name).ok()
    }

    fn recorded(event: impl Into<Event>) -> RecordedEvent {
        RecordedEvent {
            index: 0,
            revision: 0,
            envelope: Envelope {
                id: Uuid::nil(),
                stream: StreamName::service(),
                time: Timestamp::from_unix_micros(1_773_653_400_000_000),
                actor: Actor::System,
                source: None,
                trace_id: None,
                event: event.into(),
            },
        }
    }

    fn started(node: Option<NodeName>) -> RecordedEvent {
        recorded(ServiceStarted {
            version: "0.1.0".into(),
            store: "kurrentdb".into(),
            config_digest: String::new(),
            clean: true,
            node,
        })
    }

    fn stopped(node: Option<NodeName>) -> RecordedEvent {
        recorded(ServiceStopped {
            version: "0.1.0".into(),
            reason: "SIGTERM".into(),
            node,
        })
    }

    #[test]
    fn a_node_is_up_until_it_stops_whatever_others_do() {
        let mut run = ServiceRun::default();
        assert!(!run.is_running(node("a").as_ref()));
        assert!(run.apply(&started(node("a"))));
        assert!(run.apply(&started(node("b"))));
        assert!(run.apply(&stopped(node("b"))));
        assert!(run.is_running(node("a").as_ref()));
        assert!(!run.is_running(node("b").as_ref()) && !run.is_running(None));
        assert!(run.apply(&stopped(node("a"))));
        assert_eq!(run, ServiceRun::default());
        assert!(!run.apply(&stopped(node("a"))), "it has stopped already");
    }

    #[test]
    fn a_server_without_a_name_is_a_node_of_its_own() {
        let mut run = ServiceRun::default();
        run.apply(&started(None));
        run.apply(&started(node("a")));
        run.apply(&stopped(None));
        assert!(run.is_running(node("a").as_ref()) && !run.is_running(None));
        assert_eq!(run.running_nodes().map(NodeName::as_str).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn of_too_many_nodes_that_never_stopped_the_oldest_is_forgotten() {
        let mut run = ServiceRun::default();
        for number in 0..=MAX_RUNNING_NODES {
            run.apply(&started(node(&format!("n{number}"))));
        }
        assert_eq!(run.running_nodes().count(), MAX_RUNNING_NODES);
        assert!(!run.is_running(node("n0").as_ref()) && run.is_running(node("n1").as_ref()));
    }
}
