//! Grantlog's facts and folds: the events of the log and the state that they build.
//!
//! No async, no I/O, no clock, no randomness: the same events give the same state on any node at any
//! time, and this crate's dependencies leave it no other way.

pub mod values;

pub mod event;

pub mod recorded_event;

pub mod trusted_application;

pub mod api;

pub mod directory;

pub mod key_ring;

pub mod tokens;

pub mod sessions;

pub mod reported_calls;

pub mod service_run;

pub mod usage;

pub mod retention;

pub mod audit_record;

pub use event::Event;
pub use recorded_event::RecordedEvent;
