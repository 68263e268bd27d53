//! Signed notes as C2SP signed-note has them: a text, an empty line, and signature lines.
//!
//! Pure: what is read here is not verified yet; [`super::verifier`] does that.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The longest note that is read, in bytes: room for a checkpoint and the cosignatures of many witnesses.
pub const MAX_NOTE_BYTES: usize = 65_536;
/// The most signatures that a note may have. Readers must take at least 16.
pub const MAX_SIGNATURES: usize = 64;
/// The longest name of a key, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// The type of an Ed25519 key and its signatures.
pub const ED25519: u8 = 0x01;

/// Why a text is no signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNote {
    /// It is longer than is read.
    #[error("a signed note has at most {MAX_NOTE_BYTES} bytes")]
    TooLong,
    /// It holds a control character.
    #[error("a signed note has no control characters but line feeds")]
    ControlCharacter,
    /// There is no empty line between a text and signatures.
    #[error("a signed note is a text, an empty line and signature lines")]
    NoSignatures,
    /// A line below the empty one is no signature.
    #[error("line {0} of the signatures is not \"— <name> <base64>\"")]
    NotASignature(usize),
    /// There are more signatures than are read.
    #[error("a signed note has at most {MAX_SIGNATURES} signatures")]
    TooManySignatures,
}

/// A note as it was read: nothing in it is to be believed before a signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What is signed, with its last line feed.
    pub text: String,
    /// Who claims to have signed it.
    pub signatures: Vec<Signature>,
}

/// A signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub name: String,
    /// The first bytes of the key's hash.
    pub key_id: [u8; 4],
    /// What the algorithm makes of it: of Ed25519 64 bytes.
    pub bytes: Vec<u8>,
}

impl Note {
    /// Reads a signed note.
    pub fn parse(note: &str) -> Result<Self, InvalidNote> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(InvalidNote::TooLong);
        }
        if note.chars().any(|char| char < ' ' && char != '\n') {
            return Err(InvalidNote::ControlCharacter);
        }
        // The text may hold empty lines: the last one is where it ends.
        let (text, signatures) = note
            .rsplit_once("\n\n")
            .filter(|(_, signatures)| !signatures.is_empty())
            .ok_or(InvalidNote::NoSignatures)?;
        let lines = signatures.strip_suffix('\n').ok_or(InvalidNote::NoSignatures)?;
        let mut read = Vec::new();
        for (line, number) in lines.split('\n').zip(1..) {
            if number > MAX_SIGNATURES {
                return Err(InvalidNote::TooManySignatures);
            }
            read.push(Signature::parse(line).ok_or(InvalidNote::NotASignature(number))?);
        }
        Ok(Self {
            text: format!("{text}\n"),
            signatures: read,
        })
    }
}

/// Shows it as it is handed on.
impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| signature.fmt(f))
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (key_id, signature) = bytes.split_first_chunk::<4>()?;
        (is_key_name(name) && !signature.is_empty()).then(|| Self {
            name: name.to_owned(),
            key_id: *key_id,
            bytes: signature.to_vec(),
        })
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encoded = STANDARD.encode([&self.key_id, self.bytes.as_slice()].concat());
        writeln!(f, "— {} {encoded}", self.name)
    }
}

/// Whether a key may be called so: not empty, without white space, control characters and `+`.
pub fn is_key_name(name: &str) -> bool {
    let is_fit = |char: char| !char.is_whitespace() && !char.is_control() && char != '+';
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.chars().all(is_fit)
}

/// The id of an Ed25519 key: the first four bytes of `SHA256(name ‖ 0x0A ‖ 0x01 ‖ public key)`.
pub fn key_id(name: &str, public_key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(public_key)
        .finalize();
    let mut id = [0; 4];
    id.iter_mut().zip(hash).for_each(|(id, byte)| *id = byte);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const POEM: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

    #[test]
    fn the_note_of_the_specification_is_read_and_written() {
        let note = Note::parse(POEM).unwrap();
        assert!(note.text.ends_with("\n\ned è subito sera.\n"));
        let [signature] = &note.signatures[..] else { panic!() };
        assert_eq!(signature.name, "quasimodo.example/salvatore");
        assert_eq!(
            (signature.key_id, signature.bytes.len()),
            ([0x36, 0x7b, 0xa0, 0x4b], 64)
        );
        assert_eq!(note.to_string(), POEM);
    }

    #[test]
    fn a_witness_s_line_is_a_line_like_others() {
        let witnessed = format!("{POEM}— witness.example {}\n", STANDARD.encode([9; 76]));
        let note = Note::parse(&witnessed).unwrap();
        assert_eq!(note.signatures.len(), 2);
        assert_eq!(note.to_string(), witnessed);
    }

    #[test]
    fn what_is_no_note_is_refused() {
        use InvalidNote::*;
        for (text, expected) in [
            ("", NoSignatures),
            ("text\n", NoSignatures),
            ("text\n\n", NoSignatures),
            ("text\n\n— a AAAAAAA=", NoSignatures),
            ("te\rxt\n\n— a AAAAAAA=\n", ControlCharacter),
            ("text\n\n- a AAAAAAA=\n", NotASignature(1)),
            ("text\n\n— a+b AAAAAAA=\n", NotASignature(1)),
            ("text\n\n—  AAAAAAA=\n", NotASignature(1)),
            ("text\n\n— a AAAAAA==\n", NotASignature(1)),
            ("text\n\n— a AAAAAAA\n", NotASignature(1)),
            ("text\n\n— a b AAAAAAA=\n", NotASignature(1)),
            ("text\n\n— a AAAAAAA=\nmore\n", NotASignature(2)),
        ] {
            assert_eq!(Note::parse(text), Err(expected), "{text:?}");
        }
        let many = format!("text\n\n{}", "— a AAAAAAA=\n".repeat(MAX_SIGNATURES + 1));
        assert_eq!(Note::parse(&many), Err(TooManySignatures));
        let long = format!("{}\n\n— a AAAAAAA=\n", "x".repeat(MAX_NOTE_BYTES));
        assert_eq!(Note::parse(&long), Err(TooLong));
    }

    #[test]
    fn a_key_name_has_no_white_space_and_no_plus() {
        for name in [
            "",
            "a b",
            "a+b",
            "a\u{a0}b",
            "a\nb",
            "a\u{2003}",
            &"x".repeat(MAX_NAME_BYTES + 1),
        ] {
            assert!(!is_key_name(name), "{name:?}");
        }
        assert!(is_key_name("grantlog.example.com/audit"));
    }
}
