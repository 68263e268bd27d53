//! An audit trail that an outsider can check: a Merkle tree over the log, signed checkpoints of it, and proofs.
//!
//! The formats are C2SP's (signed-note, tlog-checkpoint, tlog-tiles, tlog-proof), the hashing is RFC 6962's, so that
//! tools that are not ours verify us. A leaf is an event's stored bytes, verbatim.
//!
//! `merkle` is the tree's arithmetic, `tiles` how it is cut and named; `note`, `checkpoint`, `proof` and `verifier`
//! are the texts; `tile_file` and `published` are what is kept; `follower` is the thread that follows the log, and
//! `log` what the rest of the server asks; `verify` is what an auditor runs.

pub mod merkle;

pub mod tiles;

pub mod leaf;

pub mod note;

pub mod checkpoint;

pub mod verifier;

pub mod proof;

mod tile_file;

pub mod published;

mod follower;

mod log;

pub mod verify;

pub use log::{EventProof, SignedCheckpoint, Signers, Transparency, TransparencyError, TransparencySettings};
pub use verifier::VerifierKey;

use std::path::{Path, PathBuf};

/// The file of full tiles in a data folder.
pub fn tile_file(data_dir: &Path) -> PathBuf {
    data_dir.join("tiles.db")
}

/// The file of published checkpoints in a data folder.
pub fn published_file(data_dir: &Path) -> PathBuf {
    data_dir.join("checkpoints.db")
}
