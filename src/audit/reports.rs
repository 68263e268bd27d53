//! Reports for those who review, and for those who have to show what was reviewed.
//!
//! A report depends on the log up to `through_index` and on its parameters, on nothing else: made again for the same
//! range it has the same bytes. Its "now" is the time of the last event in its range, never the clock. Each report is
//! one file that reads the log once, event by event, and keeps what it needs; `document` is what they all become, and
//! `text`, `json`, `csv` and `html` are how that looks.

pub mod document;

pub mod controls;

pub mod parameters;

pub(super) mod reading;

mod state_then;

mod inventory;

mod access_review;

mod old_secrets;

mod unused_scopes;

mod dormant_applications;

mod failed_authentication_bursts;

mod administrator_changes;

mod audit_access;

mod log_integrity;

mod log_completeness;

mod plain;

mod text;

mod json;

mod csv;

mod html;

pub use html::CONTENT_SECURITY_POLICY;
pub(in crate::audit) use state_then::reason;

#[cfg(test)]
mod constructed_log;

#[cfg(test)]
mod tests;

use crate::event_store::codec::DecodeError;
use crate::event_store::{EventStore, ReadError};
use controls::Control;
use document::Report;
use grantlog_projections::directory::Directory;
use parameters::{Cut, InvalidParameter, Parameter, Parameters};
use reading::Reading;
use state_then::StateThen;
use std::sync::Arc;

/// Rows of one table; more are counted, not shown.
pub const MAX_ROWS: usize = 50_000;

/// A kind of report.
pub struct ReportKind {
    /// Its name on the command line and in URLs.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it is for, in a sentence or two.
    pub purpose: &'static str,
    /// What can be asked of it, besides the range.
    pub parameters: &'static [Parameter],
    /// The controls that it serves.
    pub controls: &'static [Control],
    /// Makes what reads the log for it.
    reading: fn(&Parameters) -> Box<dyn Reading>,
}

/// All reports, in the order of a list.
pub static REPORTS: [ReportKind; 10] = [
    inventory::KIND,
    access_review::KIND,
    old_secrets::KIND,
    unused_scopes::KIND,
    dormant_applications::KIND,
    failed_authentication_bursts::KIND,
    administrator_changes::KIND,
    audit_access::KIND,
    log_integrity::KIND,
    log_completeness::KIND,
];

/// How a report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// For a terminal.
    Text,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
    /// For a browser and a printer.
    Html,
}

impl ReportFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Text, Self::Json, Self::Csv, Self::Html];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }

    /// The format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            // RFC 4180 §3
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Html => "text/html; charset=utf-8",
        }
    }

    /// The report in this format.
    pub fn render(self, report: &Report) -> Vec<u8> {
        match self {
            Self::Text => text::render(report).into_bytes(),
            Self::Json => json::render(report).into_bytes(),
            Self::Csv => csv::render(report),
            Self::Html => html::render(report).into_bytes(),
        }
    }
}

/// The signed state of the log that a report speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// The checkpoint as a signed note.
    pub note: String,
    /// The root hash that it signs.
    pub root: [u8; 32],
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The caller asks for what cannot be.
    #[error(transparent)]
    Parameter(#[from] InvalidParameter),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event of the log cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// The thread that reads the log cannot be started, or panicked.
    #[error("the report broke off: {0}")]
    BrokenOff(String),
}

impl ReportKind {
    /// The report of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        REPORTS.iter().find(|kind| kind.name == name)
    }

    /// Reads the parameters for a log of this size.
    pub async fn parameters(
        &'static self,
        given: &[(String, String)],
        store: &dyn EventStore,
    ) -> Result<Parameters, ReportError> {
        Parameters::read(self, given, store).await
    }

    /// Reads the log up to where the parameters say, on a thread of its own: the work is proportional to the log.
    /// Without a checkpoint the report says why there is none. The turn is given back when the thread is done.
    pub async fn produce(
        &'static self,
        parameters: Parameters,
        store: Arc<dyn EventStore>,
        server: String,
        checkpoint: Result<LogCheckpoint, String>,
        turn: impl Send + 'static,
    ) -> Result<Report, ReportError> {
        let reading = (self.reading)(&parameters);
        let (checkpoint, why_not) = match checkpoint {
            Ok(checkpoint) => (Some(checkpoint), None),
            Err(why_not) => (None, Some(why_not)),
        };
        let through = parameters.through_index;
        let signed = checkpoint.clone();
        let finish = move |reading: Box<dyn Reading>| reading.finish(signed.as_ref());
        let mut body = reading::read_log(store, 0..through, reading, finish, turn).await?;
        body.remarks
            .extend(why_not.map(|why_not| format!("There is no checkpoint: {why_not}")));
        Ok(Report::new(self, &parameters, server, checkpoint, body))
    }
}

/// All applications and APIs as they were at a point of the log. The turn is given back when the log has been read.
pub async fn state_as_of(
    store: Arc<dyn EventStore>,
    cut: Cut,
    turn: impl Send + 'static,
) -> Result<Directory, ReportError> {
    let log_size = store.log_size();
    let through = match cut {
        Cut::Index(index) => log_size.min(index.saturating_add(1)),
        Cut::End | Cut::Time(_) => log_size,
    };
    reading::read_log(store, 0..through, StateThen::new(cut), |state| state.directory, turn).await
}
