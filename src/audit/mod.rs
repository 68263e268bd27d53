//! The audit trail: what is in the log, found by what people search by.
//!
//! `index` follows the log and keeps where each searched value occurs, `query` is a search as the caller
//! puts it, `search` answers it a page at a time, `event` is one event as a page shows it, `transparency` is what an
//! outsider checks the log with. `usage` follows the log, too, and counts what each application uses; `changes` puts a
//! change of configuration in words, and `reports` are read out of the log.

pub mod index;

pub mod query;

pub mod cursor;

pub mod search;

pub mod event;

pub mod usage;

pub mod changes;

pub mod diff;

pub mod reports;

pub mod statistics;

pub mod transparency;

pub use event::AuditEvent;
pub use index::{AuditIndex, AuditIndexError};
pub use query::{AuditQuery, InvalidQuery, Order, TimeBound};
pub use search::{AuditPage, AuditSearchError};

#[cfg(test)]
pub(crate) mod memory_log;
