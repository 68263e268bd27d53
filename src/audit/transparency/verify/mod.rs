//! Verifies a log from nothing but its bytes and the verifier key: what `grantlog audit verify` does.
//!
//! `tree` holds the leaves, however they came, against tiles and checkpoints, `removals` what is left of removed events
//! against what the log says was removed; `folder` brings them from a data folder, `export` from an export's file, and the command line from a server's tiles.

pub mod findings;

pub mod tree;

pub mod removals;

pub mod export;

pub mod folder;

pub use export::{ExportFile, InLog};
pub use findings::{Check, Failure, Findings};
pub use folder::{Folder, FolderError};
pub use removals::{Removal, RemovalCheck};
pub use tree::{Expected, TreeCheck};
