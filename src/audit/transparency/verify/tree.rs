//! The leaves of a log, in order, against the checkpoints that say what their tree is.

use super::findings::{Check, Findings};
use crate::audit::transparency::merkle::{CompactRange, Hash};
use crate::audit::transparency::tiles::{Edge, Tile, TileId};
use crate::audit::transparency::verifier::VerifierKey;

/// A root that the tree must have at a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Whether the log has published it, or somebody else has kept it.
    pub check: Check,
    /// What it is called: where it was found.
    pub name: String,
    /// How many leaves.
    pub size: u64,
    /// The root.
    pub root: Hash,
}

/// Builds the tree from its leaves and holds it against what it must be.
pub struct TreeCheck {
    range: CompactRange,
    edge: Edge,
    /// Those that are not reached yet, the smallest last.
    expected: Vec<Expected>,
    full: Vec<(TileId, Tile)>,
    published: u64,
    remembered: u64,
}

impl TreeCheck {
    /// Of a tree that must have these roots.
    pub fn new(mut expected: Vec<Expected>) -> Self {
        expected.sort_by_key(|expected| std::cmp::Reverse(expected.size));
        let count = |check| expected.iter().filter(|expected| expected.check == check).count() as u64;
        let (published, remembered) = (count(Check::Checkpoints), count(Check::Remembered));
        Self {
            range: CompactRange::default(),
            edge: Edge::default(),
            expected,
            full: Vec::new(),
            published,
            remembered,
        }
    }

    /// Adds the next leaf; `each` gets the tiles that it completes, the lowest first.
    pub fn push(&mut self, leaf: Hash, findings: &mut Findings, mut each: impl FnMut(TileId, Tile, &mut Findings)) {
        self.compare(findings);
        self.range.push(leaf);
        self.edge.push(leaf, &mut self.full);
        for (id, tile) in self.full.drain(..) {
            each(id, tile, findings);
        }
    }

    /// How many leaves there are so far.
    pub fn size(&self) -> u64 {
        self.range.size()
    }

    /// The root of the tree so far.
    pub fn root(&self) -> Hash {
        self.range.root()
    }

    /// The incomplete tiles of the tree so far.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// There are no more leaves: what was published of more cannot be.
    pub fn finish(mut self, findings: &mut Findings) {
        self.compare(findings);
        let size = self.range.size();
        while let Some(expected) = self.expected.pop() {
            let what = format!(
                "{}: it is over {} events, the log has {size}",
                expected.name, expected.size
            );
            findings.failed(expected.check, what);
        }
        if self.published > 0 {
            let what = format!(
                "{} published, signed and with the roots that the events give",
                self.published
            );
            findings.checked(Check::Checkpoints, self.published, what);
        }
        if self.remembered > 0 {
            let what = format!(
                "{} kept by others, signed and with the roots that the events give",
                self.remembered
            );
            findings.checked(Check::Remembered, self.remembered, what);
        }
    }

    fn compare(&mut self, findings: &mut Findings) {
        while let Some(expected) = self.expected.pop_if(|expected| expected.size <= self.range.size()) {
            if expected.root != self.range.root() {
                let what = format!(
                    "{}: the first {} events have another root",
                    expected.name, expected.size
                );
                findings.failed(expected.check, what);
            }
        }
    }
}

/// The checkpoint in a note that is called so; a failure when the key has not signed it.
pub fn expected(
    key: &VerifierKey,
    note: &str,
    name: String,
    check: Check,
    findings: &mut Findings,
) -> Option<Expected> {
    match key.checkpoint(note) {
        Ok(said) => Some(Expected {
            check,
            name,
            size: said.size,
            root: said.root,
        }),
        Err(error) => {
            findings.failed(check, format!("{name}: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::transparency::merkle::leaf_hash;

    fn checked(expected: Vec<Expected>, leaves: u64) -> Findings {
        let mut findings = Findings::default();
        let mut tree = TreeCheck::new(expected);
        for n in 0..leaves {
            tree.push(leaf_hash(&n.to_be_bytes()), &mut findings, |_, _, _| {});
        }
        tree.finish(&mut findings);
        findings
    }

    fn of(size: u64) -> Expected {
        let mut range = CompactRange::default();
        (0..size).for_each(|n| range.push(leaf_hash(&n.to_be_bytes())));
        Expected {
            check: Check::Checkpoints,
            name: format!("checkpoint {size}"),
            size,
            root: range.root(),
        }
    }

    #[test]
    fn a_tree_has_the_roots_of_its_checkpoints() {
        let findings = checked(vec![of(7), of(0), of(7), of(300), of(299)], 300);
        assert!(findings.are_good(), "{findings:?}");
        assert_eq!(findings.checked[0].count, 5);
    }

    #[test]
    fn the_first_checkpoint_that_does_not_fit_is_named() {
        let wrong = |size| Expected {
            root: [0; 32],
            ..of(size)
        };
        let findings = checked(vec![of(3), wrong(9), wrong(5), of(10)], 20);
        assert_eq!(findings.failures.len(), 1);
        assert_eq!(
            findings.failures[0].first,
            "checkpoint 5: the first 5 events have another root"
        );
        assert_eq!(findings.failures[0].count, 2);
    }

    #[test]
    fn a_checkpoint_over_more_events_than_there_are_is_named() {
        let findings = checked(vec![of(3), of(9)], 8);
        assert_eq!(
            findings.failures[0].first,
            "checkpoint 9: it is over 9 events, the log has 8"
        );
    }
}
