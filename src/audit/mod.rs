//! The audit trail: what is in the log, found by what people search by.
//!
//! `skim` reads of an event what all others here want of it. `index` follows the log and keeps where each searched
//! value occurs, `query` is a search as the caller puts it, `filter` the expression in it, `search` answers it a page
//! at a time, `event` is one event as a page shows it. `selection` asks the same of one event at a time, for those who follow the log (a tail) or take a
//! copy of it (`export`). `transparency` is what an outsider checks the log with. `usage` follows the log, too, and
//! counts what each application uses; `changes` puts a change of configuration in words, `diff` several of them,
//! `reports` and `statistics` are read out of the log. `withheld` is what other systems do not get.

mod skim;

pub mod index;

pub mod network;

pub mod filter;

pub mod query;

pub mod cursor;

pub mod search;

pub mod event;

pub mod selection;

pub mod export;
pub mod usage;

pub mod changes;

pub mod diff;

pub mod reports;

pub mod statistics;

pub mod transparency;

pub mod withheld;

pub use event::AuditEvent;
pub use filter::{Filter, InvalidFilter};
pub use index::{AuditIndex, AuditIndexError};
pub use network::Network;
pub use query::{AuditQuery, InvalidQuery, Order, TimeBound};
pub use search::{AuditPage, AuditSearchError};

#[cfg(test)]
pub(crate) mod memory_log;

#[cfg(test)]
mod various_events;
