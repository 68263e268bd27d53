//! Verifies a log from nothing but its bytes and the verifier key: what `grantlog audit verify` does.
//!
//! `tree` holds the leaves, however they came, against tiles and checkpoints; `folder` brings them from a data
//! folder, `export` from an export's file, and the command line from a server's tiles.

pub mod findings;

pub mod tree;

pub mod export;

pub mod folder;

pub use export::ExportFile;
pub use findings::{Check, Failure, Findings};
pub use folder::{Folder, FolderError};
pub use tree::{Expected, TreeCheck};
