//! An attestation: the log, hashed again from its bytes, is the one that the checkpoint signs.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::Parameters;
use super::reading::Reading;
use super::{LogCheckpoint, ReportKind};
use crate::audit::transparency::leaf::leaf_of;
use crate::audit::transparency::merkle::CompactRange;
use crate::audit::transparency::verify::{Findings, Removal, RemovalCheck};
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grantlog_projections::values::{StreamName, Timestamp};
use std::collections::{BTreeMap, HashMap};

pub(super) const KIND: ReportKind = ReportKind {
    name: "log-integrity",
    title: "Attestation of the log's integrity",
    purpose: "The whole log, read and hashed again, held against the signed checkpoint of the same size.",
    parameters: &[],
    controls: CONTROLS,
    reading: |_: &Parameters| Box::new(LogIntegrity::new()),
};

const CONTROLS: &[Control] = &[
    pci(
        "10.3.2",
        "shows whether events were modified since the checkpoint was signed",
    ),
    pci("10.3.4", "is a change detection over the whole audit log"),
    soc2("CC7.1", "detects changes of the log that nobody should make"),
    iso("A.8.15", "supports the protection of the log against tampering"),
    nist("AU-4", "shows how large the audit log is, in events and bytes"),
    nist(
        "AU-8",
        "counts the time stamps that step back; each event has one, in UTC and to the microsecond",
    ),
    nist(
        "AU-9",
        "detects modification and deletion of audit information (AU-9(3), by cryptographic means)",
    ),
    nist("AU-10", "binds the events to a signed checkpoint"),
    nist(
        "AU-11",
        "shows how far back the log goes, and how many events were removed of it",
    ),
];

const TYPES: &[Column] = &[column("type", "Type"), column("events", "Events")];
const FAILURES: &[Column] = &[column("index", "Event"), column("problem", "What is wrong")];

/// Problems that are listed.
const MAX_PROBLEMS: usize = 100;

struct LogIntegrity {
    tree: CompactRange,
    removals: RemovalCheck,
    events: u64,
    bytes: u64,
    removed: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    steps_back: u64,
    types: BTreeMap<String, u64>,
    /// The revision that follows in each stream.
    revisions: HashMap<StreamName, u64>,
    problems: Vec<(u64, String)>,
    problem_count: u64,
}

impl LogIntegrity {
    fn new() -> Self {
        Self {
            tree: CompactRange::default(),
            removals: RemovalCheck::of_log(),
            events: 0,
            bytes: 0,
            removed: 0,
            first: None,
            last: None,
            steps_back: 0,
            types: BTreeMap::new(),
            revisions: HashMap::new(),
            problems: Vec::new(),
            problem_count: 0,
        }
    }

    fn problem(&mut self, index: u64, problem: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((index, problem.into()));
        }
    }
}

impl Reading for LogIntegrity {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        self.events += 1;
        self.bytes += stored.bytes.len() as u64;
        // In the tree stands what was there before an event was removed.
        self.tree.push(leaf_of(&stored.bytes));
        if let Some(removal) = Removal::of(&stored.bytes) {
            self.removed += u64::from(matches!(removal, Removal::Left { .. }));
            self.removals.take(stored.index, removal);
        }
        // What cannot be read is a finding here, not the end of the report.
        let recorded = match codec::decode(stored) {
            Ok(recorded) => recorded,
            Err(error) => {
                self.problem(stored.index, error.to_string());
                return Ok(());
            }
        };
        let envelope = recorded.envelope;
        *self.types.entry(envelope.event.type_name().to_owned()).or_default() += 1;
        self.steps_back += u64::from(self.last.is_some_and(|last| envelope.time < last));
        self.first.get_or_insert(envelope.time);
        self.last = Some(envelope.time);
        let expected = self.revisions.get(&envelope.stream).copied().unwrap_or(0);
        if stored.revision != expected {
            let stream = envelope.stream.as_str();
            self.problem(
                stored.index,
                format!(
                    "revision {} of the stream {stream}, where {expected} follows",
                    stored.revision
                ),
            );
        }
        self.revisions.insert(envelope.stream, stored.revision + 1);
        Ok(())
    }

    fn finish(mut self: Box<Self>, checkpoint: Option<&LogCheckpoint>) -> Body {
        let root = self.tree.root();
        let mut removals = Findings::default();
        std::mem::replace(&mut self.removals, RemovalCheck::of_log()).finish(&mut removals);
        for failure in removals.failures {
            self.problem(self.events.saturating_sub(1), failure.first);
            // The first of each kind is listed, the others are counted.
            self.problem_count += failure.count.saturating_sub(1);
        }
        let (verdict, signed_root) = match checkpoint {
            Some(checkpoint) if checkpoint.root == root => (
                "the log is the one that the checkpoint signs".to_owned(),
                Some(checkpoint.root),
            ),
            Some(checkpoint) => {
                let problem = "the log does not have the root that the checkpoint signs";
                self.problem(self.events.saturating_sub(1), problem);
                (problem.to_owned(), Some(checkpoint.root))
            }
            None => (
                "there is no checkpoint of this size to hold it against".to_owned(),
                None,
            ),
        };
        let verdict = match self.problem_count {
            0 => verdict,
            count => format!("FAILED: {count} problems, see below"),
        };
        let mut problems = Table::new("problems", "Problems", "None was found.", FAILURES);
        for (index, problem) in &self.problems {
            problems.row([Cell::Number(*index), Cell::of(problem)]);
        }
        problems.omitted = self.problem_count - self.problems.len() as u64;
        let mut types = Table::new("types", "Events by type", "The log is empty.", TYPES);
        for (event_type, events) in &self.types {
            types.row([Cell::of(event_type), Cell::Number(*events)]);
        }
        Body {
            summary: vec![
                ("Result".into(), Cell::Text(verdict)),
                ("Events".into(), Cell::Number(self.events)),
                ("Bytes".into(), Cell::Number(self.bytes)),
                ("First event".into(), Cell::time(self.first)),
                ("Last event".into(), Cell::time(self.last)),
                ("Root hash, computed".into(), Cell::Text(STANDARD.encode(root))),
                (
                    "Root hash, signed".into(),
                    Cell::maybe(signed_root.map(|root| STANDARD.encode(root))),
                ),
                ("Streams".into(), Cell::count(self.revisions.len())),
                ("Events removed by retention".into(), Cell::Number(self.removed)),
                ("Times that step back".into(), Cell::Number(self.steps_back)),
            ],
            remarks: vec![
                "Checked: indexes are dense, and so are the revisions of each stream that the events themselves name; \
                 every event can be read; and the root of the RFC 6962 Merkle tree, computed from the bytes of every \
                 event, is the signed one. That the store keeps each event in the stream that it names is checked by \
                 grantlog audit verify on the data folder, and not here."
                    .into(),
                "This is the server's own word. An outsider checks the same with the verifier key alone: grantlog \
                 audit verify."
                    .into(),
                "Of an event that retention removed its leaf hash is taken as it stands in its place; as many were \
                 removed of each range as the log itself says, and none of a stream that is never removed from."
                    .into(),
            ]
            .into_iter()
            .chain(removals.notes)
            .collect(),
            tables: vec![problems, types],
            ..Body::default()
        }
    }
}
