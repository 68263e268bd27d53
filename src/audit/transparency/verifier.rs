//! The log's verifier key: with it, and nothing else of the log's, anybody verifies checkpoints and proofs.

use super::checkpoint::{Checkpoint, InvalidCheckpoint};
use super::merkle::{Hash, InvalidProof, verify_inclusion};
use super::note::{ED25519, InvalidNote, Note, is_key_name, key_id};
use super::proof::{InvalidTlogProof, TlogProof};
use aws_lc_rs::signature::{self, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

/// A log's name and its public key: `<name>+<key id>+<base64>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public_key: [u8; 32],
}

/// A text is no verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the verifier key of a log: {0}")]
pub struct InvalidVerifierKey(&'static str);

/// Why a checkpoint or a proof is not to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// It is no signed note.
    #[error(transparent)]
    Note(#[from] InvalidNote),
    /// It is no proof.
    #[error(transparent)]
    Proof(#[from] InvalidTlogProof),
    /// Its text is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] InvalidCheckpoint),
    /// The log's key has not signed it.
    #[error("the log's key has not signed it")]
    NotSigned,
    /// The key's signature is wrong: the text was changed, or the signature was.
    #[error("the log's signature does not fit its text")]
    WrongSignature,
    /// It is a checkpoint of another log.
    #[error("it is of another log")]
    OtherLog,
    /// The hashes do not lead to the root.
    #[error(transparent)]
    Inclusion(#[from] InvalidProof),
}

impl VerifierKey {
    /// Of a name and a public key; `None` when a key cannot be called so.
    pub fn new(name: &str, public_key: [u8; 32]) -> Option<Self> {
        is_key_name(name).then(|| Self {
            name: name.to_owned(),
            public_key,
        })
    }

    /// The log's name, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first bytes of the key's hash.
    pub fn key_id(&self) -> [u8; 4] {
        key_id(&self.name, &self.public_key)
    }

    /// What the checkpoint says, when this key has signed it. Signatures of others are passed over.
    pub fn checkpoint(&self, note: &str) -> Result<Checkpoint, NotVerified> {
        self.checkpoint_in(&Note::parse(note)?)
    }

    /// The same of a note that is read already.
    pub fn checkpoint_in(&self, note: &Note) -> Result<Checkpoint, NotVerified> {
        let id = self.key_id();
        let mut own = note
            .signatures
            .iter()
            .filter(|signature| signature.name == self.name && signature.key_id == id)
            .peekable();
        if own.peek().is_none() {
            return Err(NotVerified::NotSigned);
        }
        let key = UnparsedPublicKey::new(&signature::ED25519, self.public_key);
        // Of several by one key all must hold.
        if own.any(|signature| key.verify(note.text.as_bytes(), &signature.bytes).is_err()) {
            return Err(NotVerified::WrongSignature);
        }
        let checkpoint = Checkpoint::parse(&note.text)?;
        if checkpoint.origin != self.name {
            return Err(NotVerified::OtherLog);
        }
        Ok(checkpoint)
    }

    /// Where in which tree the leaf is, when the proof proves that it is there.
    pub fn inclusion(&self, proof: &str, leaf: &Hash) -> Result<(u64, Checkpoint), NotVerified> {
        let proof = TlogProof::parse(proof)?;
        let checkpoint = self.checkpoint_in(&proof.checkpoint)?;
        verify_inclusion(leaf, proof.index, checkpoint.size, &proof.hashes, &checkpoint.root)?;
        Ok((proof.index, checkpoint))
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = STANDARD.encode([&[ED25519], self.public_key.as_slice()].concat());
        let id = u32::from_be_bytes(self.key_id());
        write!(f, "{}+{id:08x}+{encoded}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = InvalidVerifierKey;

    fn from_str(text: &str) -> Result<Self, InvalidVerifierKey> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidVerifierKey("it is <name>+<8 hex digits>+<base64>"));
        };
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| InvalidVerifierKey("its last part is no base64"))?;
        let public_key = match bytes.split_first() {
            Some((&ED25519, key)) => key.try_into().ok(),
            _ => None,
        };
        let public_key = public_key.ok_or(InvalidVerifierKey("it is not an Ed25519 key"))?;
        let key = Self::new(name, public_key).ok_or(InvalidVerifierKey("a key cannot be called so"))?;
        // What is written otherwise, or mistyped, is another key.
        if format!("{:08x}", u32::from_be_bytes(key.key_id())) != id {
            return Err(InvalidVerifierKey(
                "its id is not that of its name and key: is a part of it missing?",
            ));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of Go's golang.org/x/mod/sumdb/note.
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NEUMANN: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_key_and_a_note_of_go_s_sumdb_are_verified() {
        let key: VerifierKey = PETER.parse().unwrap();
        assert_eq!(key.to_string(), PETER);
        // The signature holds; the text is no checkpoint.
        assert!(matches!(key.checkpoint(NEUMANN), Err(NotVerified::Checkpoint(_))));
        let changed = NEUMANN.replace("answer", "Answer");
        assert_eq!(key.checkpoint(&changed), Err(NotVerified::WrongSignature));
        let other = NEUMANN.replace("PeterNeumann x08g", "PeterNeumann x18g");
        assert_eq!(key.checkpoint(&other), Err(NotVerified::NotSigned));
    }

    #[test]
    fn a_signature_of_somebody_else_does_not_disturb() {
        let key: VerifierKey = PETER.parse().unwrap();
        let witnessed = format!("{NEUMANN}— witness.example {}\n", STANDARD.encode([4; 76]));
        assert!(matches!(key.checkpoint(&witnessed), Err(NotVerified::Checkpoint(_))));
    }

    #[test]
    fn a_mistyped_verifier_key_is_refused() {
        for text in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
            "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(text.parse::<VerifierKey>().is_err(), "{text}");
        }
    }
}
