//! Verifies a log from nothing but its bytes and the verifier key: what `grantlog audit verify` does.
//!
//! `tree` holds the leaves, however they came, against tiles and checkpoints, `removals` what is left of removed events
//! against what the log says was removed, `streams` each event against the one before it in its stream, `export` a copy
//! against all of these; `folder` brings them from a data folder, `export` from an export's file, and the command line from a server's tiles.

pub mod findings;

pub mod tree;

pub mod removals;

pub mod streams;

mod rendering;

pub mod export;

pub mod given_proof;

pub mod folder;

pub use export::{ExportFile, InLog};
pub use findings::{Check, Failure, Findings};
pub use folder::{Folder, FolderError};
pub use given_proof::{GivenProof, InvalidGivenProof};
pub use removals::{Removal, RemovalCheck};
pub use streams::{Place, Streams};
pub use tree::{Expected, TreeCheck};
