//! An attestation: the log, hashed again from its bytes, is the one that the checkpoint signs.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::Parameters;
use super::reading::Reading;
use super::{LogCheckpoint, ReportKind};
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grantlog_projections::Event;
use grantlog_projections::values::{StreamName, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

pub(super) const KIND: ReportKind = ReportKind {
    name: "log-integrity",
    title: "Attestation of the log's integrity",
    purpose: "The whole log, read and hashed again, held against the signed checkpoint of the same size.",
    parameters: &[],
    controls: CONTROLS,
    reading: |_: &Parameters| Box::new(LogIntegrity::default()),
};

const CONTROLS: &[Control] = &[
    pci(
        "10.3.2",
        "shows whether events were modified since the checkpoint was signed",
    ),
    pci("10.3.4", "is a change detection over the whole audit log"),
    soc2("CC7.1", "detects changes of the log that nobody should make"),
    iso("A.8.15", "supports the protection of the log against tampering"),
    nist(
        "AU-9",
        "detects modification and deletion of audit information (AU-9(3), by cryptographic means)",
    ),
    nist("AU-10", "binds the events to a signed checkpoint"),
];

const TYPES: &[Column] = &[column("type", "Type"), column("events", "Events")];
const FAILURES: &[Column] = &[column("index", "Event"), column("problem", "What is wrong")];

/// Problems that are listed.
const MAX_PROBLEMS: usize = 100;

#[derive(Default)]
struct LogIntegrity {
    tree: Tree,
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

/// The Merkle tree of RFC 6962 §2.1 as far as its root needs: one hash for each complete subtree, largest first.
#[derive(Default)]
struct Tree {
    size: u64,
    complete: Vec<[u8; 32]>,
}

impl Tree {
    fn add(&mut self, leaf: [u8; 32]) {
        let mut hash = leaf;
        // One subtree merges for each one bit at the end of the size.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.complete.pop() {
                hash = node(left, hash);
            }
        }
        self.complete.push(hash);
        self.size += 1;
    }

    fn root(&self) -> [u8; 32] {
        let mut subtrees = self.complete.iter().rev();
        match subtrees.next() {
            None => Sha256::digest(b"").into(),
            Some(last) => subtrees.fold(*last, |right, left| node(*left, right)),
        }
    }
}

fn leaf(entry: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

impl LogIntegrity {
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
        // What cannot be read is a finding here, not the end of the report.
        let recorded = match codec::decode(stored) {
            Ok(recorded) => recorded,
            Err(error) => {
                self.tree.add(leaf(&stored.bytes));
                self.problem(stored.index, error.to_string());
                return Ok(());
            }
        };
        let envelope = recorded.envelope;
        self.tree.add(match &envelope.event {
            // In the tree stands what was there before.
            Event::EventRemoved(removed) => {
                self.removed += 1;
                removed.leaf_hash.0
            }
            _ => leaf(&stored.bytes),
        });
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
                "Checked: indexes and the revisions of every stream are dense, every event can be read, and the root \
                 of the RFC 6962 Merkle tree, computed from the bytes of every event, is the signed one."
                    .into(),
                "This is the server's own word. An outsider checks the same with the verifier key alone: grantlog \
                 audit verify."
                    .into(),
                "Of an event that retention removed its leaf hash is taken as it stands in its place.".into(),
            ],
            tables: vec![problems, types],
            ..Body::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_that_of_the_rfc_6962_reference_tree() {
        const LEAVES: [&str; 8] = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let mut tree = Tree::default();
        for hex in LEAVES {
            let bytes: Vec<u8> = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            tree.add(leaf(&bytes));
        }
        let root: String = tree.root().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(root, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }
}
