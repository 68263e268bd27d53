//! A fact with everything that the log knows about it.

use crate::event::Event;
use crate::values::{Actor, Source, StreamName, Timestamp};
use uuid::Uuid;

/// A fact and its circumstances, as they are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The event's own id, a UUIDv7.
    pub id: Uuid,
    /// The stream that it belongs to.
    pub stream: StreamName,
    /// When it was decided. Times may step back; indexes never do.
    pub time: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// Where the request came from; none for Grantlog's own doings.
    pub source: Option<Source>,
    /// The W3C trace id of the request, 32 hex digits.
    pub trace_id: Option<String>,
    /// The fact.
    pub event: Event,
}

/// An event in its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    /// Its place in the log, dense from 0. The log's order gives it; the stored bytes do not hold it.
    pub index: u64,
    /// Its place in its stream, dense from 0.
    pub revision: u64,
    /// What is stored.
    pub envelope: Envelope,
}
