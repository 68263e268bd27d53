//! What an export is, so that a copy can be told from another: its range, its conditions, its hash.

use super::{ExportFormat, Part};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;

/// The version of the description in docs/decisions/0007.
pub const MANIFEST_VERSION: u32 = 1;

/// A manifest, as it lies beside its export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub manifest: u32,
    /// One of [`ExportFormat`]'s names.
    pub format: String,
    /// The first index of the range.
    pub from_index: u64,
    /// The index after the last one of the range.
    pub through_index: u64,
    /// The parameters that chose among the events of the range; none: all of them.
    pub filter: BTreeMap<String, String>,
    /// How many events the export has.
    pub count: u64,
    /// How many bytes the export has.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// The signed checkpoint of the tree with `through_index` leaves, where the server publishes one.
    pub checkpoint: Option<String>,
}

/// Counts and hashes an export as its parts come.
#[derive(Default)]
pub struct Tally {
    count: u64,
    bytes: u64,
    hash: Sha256,
}

impl Tally {
    /// Takes the next bytes in, and the events that end in them.
    pub fn add(&mut self, count: u64, bytes: &[u8]) {
        self.count += count;
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// The same for a part.
    pub fn add_part(&mut self, part: &Part) {
        self.add(part.count, &part.bytes);
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many bytes there were.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The manifest of what was taken in, as yet without a checkpoint.
    pub fn manifest(self, format: ExportFormat, range: Range<u64>, filter: BTreeMap<String, String>) -> Manifest {
        use std::fmt::Write;
        let mut sha256 = String::with_capacity(64);
        for byte in self.hash.finalize() {
            // Writing to a string does not fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Manifest {
            manifest: MANIFEST_VERSION,
            format: format.as_str().to_owned(),
            from_index: range.start,
            through_index: range.end,
            filter,
            count: self.count,
            bytes: self.bytes,
            sha256,
            checkpoint: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_counts_and_hashes_what_came_in_whatever_the_parts() {
        let mut tally = Tally::default();
        tally.add(0, b"head\n");
        tally.add_part(&Part {
            count: 2,
            bytes: b"one\ntwo\n".to_vec(),
        });
        let manifest = tally.manifest(ExportFormat::Csv, 3..9, BTreeMap::new());
        // printf 'head\none\ntwo\n' | sha256sum
        assert_eq!(
            manifest.sha256,
            "4e2c45d1a4acd4c4815a389dc375bae78b92876bc00899d0ef24de1f8ba572cb"
        );
        assert_eq!(
            (
                manifest.count,
                manifest.bytes,
                manifest.from_index,
                manifest.through_index
            ),
            (2, 13, 3, 9)
        );
    }
}
