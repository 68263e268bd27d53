//! A proof that an event is in the log, as C2SP tlog-proof has it: whoever holds the event, the proof and the
//! log's verifier key needs nobody else.

use super::checkpoint::parse_hash;
use super::merkle::{Hash, MAX_PROOF_HASHES};
use super::note::{InvalidNote, MAX_NOTE_BYTES, Note};
use super::tiles::decimal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const HEAD: &str = "c2sp.org/tlog-proof@v1";
/// The longest proof that is read, in bytes: its hashes, a checkpoint, and as much beside them as that may have.
pub const MAX_PROOF_BYTES: usize = 2 * MAX_NOTE_BYTES;

/// A proof as it was read: its checkpoint is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The event's place in the log.
    pub index: u64,
    /// From the leaf's sibling upward.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

/// Why a text is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTlogProof {
    /// Not laid out as one.
    #[error("not a proof: {0}")]
    Layout(&'static str),
    /// Its checkpoint is not a signed note.
    #[error(transparent)]
    Checkpoint(#[from] InvalidNote),
}

impl TlogProof {
    /// Reads a proof. Extra data, which nobody has signed, is passed over.
    pub fn parse(text: &str) -> Result<Self, InvalidTlogProof> {
        use InvalidTlogProof::Layout;
        if text.len() > MAX_PROOF_BYTES {
            return Err(Layout("it is too long"));
        }
        let rest = text
            .strip_prefix(HEAD)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or(Layout("its first line is not c2sp.org/tlog-proof@v1"))?;
        let (lines, checkpoint) = rest.split_once("\n\n").ok_or(Layout("it has no checkpoint"))?;
        let mut lines = lines.split('\n').peekable();
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            STANDARD
                .decode(extra)
                .map_err(|_| Layout("its extra data is no base64"))?;
            lines.next();
        }
        let index = lines.next().and_then(|line| decimal(line.strip_prefix("index ")?));
        let index = index.ok_or(Layout("it has no index"))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_PROOF_HASHES {
                return Err(Layout("it has more hashes than a tree is high"));
            }
            hashes.push(parse_hash(line).ok_or(Layout("a line is no base64 of 32 bytes"))?);
        }
        Ok(Self {
            index,
            hashes,
            checkpoint: Note::parse(checkpoint)?,
        })
    }
}

impl std::fmt::Display for TlogProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{HEAD}\nindex {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOF: &str = "c2sp.org/tlog-proof@v1\nindex 73894\ngSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\nB95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\nexample.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n— example.com/fancylog AAAAAAA=\n— witness1.example AAAAAAAA\n";

    #[test]
    fn a_proof_is_read_and_written() {
        let proof = TlogProof::parse(PROOF).unwrap();
        assert_eq!((proof.index, proof.hashes.len()), (73_894, 2));
        assert_eq!(proof.checkpoint.signatures.len(), 2);
        assert_eq!(proof.to_string(), PROOF);
    }

    #[test]
    fn extra_data_is_passed_over() {
        let extra = PROOF.replace("index", "extra YWdl\nindex");
        assert_eq!(TlogProof::parse(&extra).unwrap().to_string(), PROOF);
    }

    #[test]
    fn a_tree_of_one_leaf_needs_no_hashes() {
        let alone: String = PROOF
            .lines()
            .filter(|line| !line.ends_with("PlQ=") && !line.ends_with("XmA="))
            .map(|line| format!("{line}\n"))
            .collect();
        let proof = TlogProof::parse(&alone).unwrap();
        assert!(proof.hashes.is_empty());
        assert_eq!(proof.to_string(), alone);
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        for (from, to) in [
            ("@v1", "@v2"),
            ("index 73894", "index 073894"),
            ("index 73894", "index -1"),
            ("index 73894\n", ""),
            ("index", "extra !\nindex"),
            ("gSKy", "gSK"),
            ("\n\nexample.com", "\nexample.com"),
            ("— ", "- "),
        ] {
            assert!(TlogProof::parse(&PROOF.replace(from, to)).is_err(), "{from} -> {to}");
        }
        let line = "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n";
        assert!(TlogProof::parse(&PROOF.replace(line, &line.repeat(64))).is_err());
        assert!(TlogProof::parse(&"x".repeat(MAX_PROOF_BYTES + 1)).is_err());
    }
}
