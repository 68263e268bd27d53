//! Who read the audit trail.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::{Parameters, SINCE, UNTIL};
use super::reading::Reading;
use super::{LogCheckpoint, ReportKind};
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::Event;
use grantlog_projections::event::TrailAccess;
use std::collections::BTreeMap;

pub(super) const KIND: ReportKind = ReportKind {
    name: "audit-access",
    title: "Access to the audit trail",
    purpose: "Who searched, followed, exported or reported from the audit trail, what they asked for, and who tried \
              and was refused.",
    parameters: &[SINCE, UNTIL],
    controls: CONTROLS,
    reading: |parameters| {
        Box::new(AuditAccess {
            parameters: parameters.clone(),
            accesses: Table::new(
                "accesses",
                "Accesses, the oldest first",
                "Nobody read the trail.",
                ACCESSES,
            ),
            refused: Table::new(
                "refused",
                "Refused accesses, the oldest first",
                "Nobody was refused.",
                REFUSED,
            ),
            readers: BTreeMap::new(),
        })
    },
};

const CONTROLS: &[Control] = &[
    pci(
        "10.2.1.3",
        "lists all access to this server's audit log through its interfaces",
    ),
    pci(
        "10.3.1",
        "shows who read the audit log, so that it can be held against who needs to",
    ),
    pci(
        "10.3.3",
        "lists the copies that were taken out of the audit log, with their ranges; what is forwarded to a log server as it happens is not in it",
    ),
    soc2("CC6.1", "shows the use of access to the audit trail"),
    soc2(
        "CC7.2",
        "supports the review of access to the audit trail for anomalies",
    ),
    iso("A.8.15", "shows access to the log"),
    nist("AU-6", "shows that audit records are being reviewed"),
    nist("AU-9", "shows who was let to audit information, and who was refused"),
];

const ACCESSES: &[Column] = &[
    column("index", "Event"),
    column("time", "Time"),
    column("reader", "Who"),
    column("source", "From"),
    column("how", "How"),
    column("asked_for", "Asked for"),
    column("rows", "Rows"),
    column("through_index", "Log size then"),
];
const REFUSED: &[Column] = &[
    column("index", "Event"),
    column("time", "Time"),
    column("client_id", "Who"),
    column("source", "From"),
    column("method", "Method"),
    column("path", "Path"),
    column("reason", "Reason"),
];
const READERS: &[Column] = &[
    column("reader", "Who"),
    column("accesses", "Accesses"),
    column("exports", "of them exports"),
];

struct AuditAccess {
    parameters: Parameters,
    accesses: Table,
    refused: Table,
    /// Accesses and, of them, exports. Readers are applications with a scope of their own: few.
    readers: BTreeMap<String, (u64, u64)>,
}

impl Reading for AuditAccess {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        const WANTED: [&str; 4] = [
            "AuditTrailRead",
            "AuditTrailExported",
            "ReportProduced",
            "ApiCallDenied",
        ];
        if codec::peek_type(&stored.bytes).is_some_and(|found| !WANTED.contains(&found)) {
            return Ok(());
        }
        let recorded = codec::decode(stored)?;
        let envelope = &recorded.envelope;
        if !self.parameters.is_in_period(envelope.time) {
            return Ok(());
        }
        let source = Cell::maybe(envelope.source.as_ref().map(|source| source.ip));
        let (reader, how, asked_for, rows, through) = match &envelope.event {
            Event::AuditTrailRead(data) => {
                let how = match data.via {
                    TrailAccess::Search => "search",
                    TrailAccess::Tail => "tail",
                    TrailAccess::Proof => "proof",
                    TrailAccess::History => "history",
                    TrailAccess::Statistics => "statistics",
                };
                (
                    &data.application_uri,
                    how.to_owned(),
                    &data.filter,
                    Some(data.rows),
                    data.through_index,
                )
            }
            Event::AuditTrailExported(data) => {
                let how = format!("export as {}", data.format);
                (&data.application_uri, how, &data.filter, None, data.through_index)
            }
            Event::ReportProduced(data) => {
                let how = format!("report {} as {}", data.report, data.format);
                (
                    &data.application_uri,
                    how,
                    &data.parameters,
                    Some(data.rows),
                    data.through_index,
                )
            }
            Event::ApiCallDenied(data) if is_audit(&data.path) => {
                let reason = serde_json::to_value(data.reason).ok();
                self.refused.row([
                    Cell::Number(recorded.index),
                    Cell::Time(envelope.time),
                    Cell::maybe(data.application_uri.as_ref()),
                    source,
                    Cell::of(&data.method),
                    Cell::of(&data.path),
                    Cell::maybe(reason.as_ref().and_then(|reason| reason.as_str())),
                ]);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let (accesses, exports) = self.readers.entry(reader.to_string()).or_default();
        *accesses += 1;
        *exports += u64::from(matches!(envelope.event, Event::AuditTrailExported(_)));
        self.accesses.row([
            Cell::Number(recorded.index),
            Cell::Time(envelope.time),
            Cell::of(reader),
            source,
            Cell::Text(how),
            Cell::list(asked_for.iter().map(|(name, value)| format!("{name}={value}"))),
            rows.map_or(Cell::Nothing, Cell::Number),
            Cell::Number(through),
        ]);
        Ok(())
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let mut readers = Table::new("readers", "Readers", "Nobody read the trail.", READERS);
        for (reader, (accesses, exports)) in &self.readers {
            readers.row([Cell::of(reader), Cell::Number(*accesses), Cell::Number(*exports)]);
        }
        Body {
            summary: vec![
                (
                    "Accesses".into(),
                    Cell::Number(self.accesses.rows.len() as u64 + self.accesses.omitted),
                ),
                ("Readers".into(), Cell::count(self.readers.len())),
                (
                    "Refused accesses".into(),
                    Cell::Number(self.refused.rows.len() as u64 + self.refused.omitted),
                ),
            ],
            remarks: vec![
                "Whoever can read the server's data folder can read the log without this server: that leaves no event."
                    .into(),
            ],
            tables: vec![readers, self.accesses, self.refused],
            ..Body::default()
        }
    }
}

/// The path of a call of the audit endpoints, below whatever path the issuer has.
fn is_audit(path: &str) -> bool {
    path.split('/')
        .any(|segment| matches!(segment, "audit" | "history" | "usage" | "diff"))
}
