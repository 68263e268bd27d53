//! What a verification has checked, and what failed.

use serde::Serialize;

/// Remarks that are kept.
const MAX_NOTES: usize = 32;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Each event is there, at its index, and is understood.
    Events,
    /// The revisions of each stream are dense, and no event is there twice.
    Streams,
    /// What was removed was removed on the record.
    Removals,
    /// Each tile has the hashes that the events give.
    Tiles,
    /// Each published checkpoint is signed, and has the root that the events give.
    Checkpoints,
    /// The same of those that somebody else has kept.
    Remembered,
    /// Proofs made from the tiles prove.
    Proofs,
    /// The saved state is what the log gives.
    State,
    /// The saved uses of each application are what the log gives.
    Usage,
    /// The audit index is what the log gives.
    AuditIndex,
    /// An export is what the log gives.
    Export,
}

impl Check {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Streams => "streams",
            Self::Removals => "removals",
            Self::Tiles => "tiles",
            Self::Checkpoints => "checkpoints",
            Self::Remembered => "remembered",
            Self::Proofs => "proofs",
            Self::State => "state",
            Self::Usage => "usage",
            Self::AuditIndex => "audit index",
            Self::Export => "export",
        }
    }
}

/// What failed in one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// In which.
    pub check: Check,
    /// The first thing that failed, by its index or name.
    pub first: String,
    /// How many failed.
    pub count: u64,
}

/// What was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What.
    pub check: Check,
    /// How many.
    pub count: u64,
    /// In words.
    pub what: String,
}

/// What a verification has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// What was checked, in the order in which it was.
    pub checked: Vec<Checked>,
    /// What failed; empty: nothing.
    pub failures: Vec<Failure>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
}

impl Findings {
    /// Something was checked.
    pub fn checked(&mut self, check: Check, count: u64, what: impl Into<String>) {
        let what = what.into();
        self.checked.push(Checked { check, count, what });
    }

    /// Something failed. Of each check the first is kept in words, the rest are counted.
    pub fn failed(&mut self, check: Check, what: impl Into<String>) {
        match self.failures.iter_mut().find(|failure| failure.check == check) {
            Some(failure) => failure.count += 1,
            None => self.failures.push(Failure {
                check,
                first: what.into(),
                count: 1,
            }),
        }
    }

    /// Something could not be checked.
    pub fn note(&mut self, what: impl Into<String>) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(what.into());
        }
    }

    /// Whether nothing failed.
    pub fn are_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether anything failed in a check.
    pub fn has_failed(&self, check: Check) -> bool {
        self.failures.iter().any(|failure| failure.check == check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_of_each_check_is_named_and_the_rest_are_counted() {
        let mut findings = Findings::default();
        assert!(findings.are_good());
        findings.failed(Check::Tiles, "event 7");
        findings.failed(Check::Tiles, "event 9");
        findings.failed(Check::Checkpoints, "checkpoint 10");
        let failures: Vec<_> = findings
            .failures
            .iter()
            .map(|failure| (failure.first.as_str(), failure.count))
            .collect();
        assert_eq!(failures, [("event 7", 2), ("checkpoint 10", 1)]);
        assert!(findings.has_failed(Check::Tiles) && !findings.has_failed(Check::Events));
    }
}
