//! A proof that somebody was given of one event, and the event: without the log, its server or its folder.

use super::findings::{Check, Findings};
use crate::audit::transparency::checkpoint::Checkpoint;
use crate::audit::transparency::leaf::remains;
use crate::audit::transparency::merkle::{Hash, leaf_hash};
use crate::audit::transparency::verifier::{NotVerified, VerifierKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A proof as a server gives it: C2SP's text, or the same as JSON, which also has the leaf hash.
pub struct GivenProof {
    text: String,
    leaf: Option<Hash>,
}

/// Why a text is no proof.
#[derive(Debug, thiserror::Error)]
pub enum InvalidGivenProof {
    /// It looks like JSON and is not what a server gives.
    #[error("it is neither a C2SP tlog-proof nor the same as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Its leaf hash is none.
    #[error("its leaf_hash is no base64 of 32 bytes")]
    LeafHash,
}

#[derive(Deserialize)]
struct Shown {
    index: u64,
    leaf_hash: String,
    hashes: Vec<String>,
    checkpoint: String,
}

impl GivenProof {
    /// Reads either; what the text says is verified later.
    pub fn parse(text: &str) -> Result<Self, InvalidGivenProof> {
        if !text.trim_start().starts_with('{') {
            return Ok(Self {
                text: text.to_owned(),
                leaf: None,
            });
        }
        let shown: Shown = serde_json::from_str(text)?;
        let leaf = STANDARD
            .decode(&shown.leaf_hash)
            .ok()
            .and_then(|hash| hash.try_into().ok());
        let hashes: String = shown.hashes.iter().map(|hash| format!("{hash}\n")).collect();
        Ok(Self {
            text: format!(
                "c2sp.org/tlog-proof@v1\nindex {}\n{hashes}\n{}",
                shown.index, shown.checkpoint
            ),
            leaf: Some(leaf.ok_or(InvalidGivenProof::LeafHash)?),
        })
    }

    /// Whether it says which event it is of, so that it can be verified without that.
    pub fn has_leaf(&self) -> bool {
        self.leaf.is_some()
    }

    /// Whether the event, or the leaf hash that the proof has, is in the tree of its checkpoint, which the key must
    /// have signed. `event` is a file of the stored bytes, with or without the end of its line. None: it is not.
    pub fn verify(&self, key: &VerifierKey, event: Option<&[u8]>, findings: &mut Findings) -> Option<Checkpoint> {
        let event = event.map(|bytes| bytes.strip_suffix(b"\n").unwrap_or(bytes));
        // Its own hash: what is left of a removed event names the hash of another.
        let Some(leaf) = event.map(leaf_hash).or(self.leaf) else {
            findings.failed(
                Check::Proofs,
                "a proof alone does not say which event it is of: give --event",
            );
            return None;
        };
        if event.is_some() && self.leaf.is_some_and(|said| said != leaf) {
            let why = match event.and_then(remains) {
                Some(_) => "the event is what retention left of it, which proves nothing of what it was",
                None => "the event is not the one that the proof is of: its leaf hash is another",
            };
            findings.failed(Check::Proofs, why);
            return None;
        }
        match key.inclusion(&self.text, &leaf) {
            Ok((index, checkpoint)) => {
                let what = match event {
                    Some(_) => "the event's bytes are",
                    None => "the event with this leaf hash is",
                };
                let what = format!(
                    "{what} event {index} of the {} that the checkpoint signs",
                    checkpoint.size
                );
                findings.checked(Check::Proofs, 1, what);
                if event.is_none() {
                    findings.note(format!(
                        "leaf hash {}: that it is that of the event you know, --event shows",
                        STANDARD.encode(leaf)
                    ));
                }
                Some(checkpoint)
            }
            Err(error) => {
                let what = match error {
                    NotVerified::Inclusion(_) => {
                        "the event is not in the tree of the proof's checkpoint at the proof's index".to_owned()
                    }
                    error => error.to_string(),
                };
                findings.failed(Check::Proofs, what);
                None
            }
        }
    }
}
