//! The text of a checkpoint as C2SP tlog-checkpoint has it: who, how many events, and the root over them.

use super::merkle::Hash;
use super::note::is_key_name;
use super::tiles::decimal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many events the tree is over.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// Why a note's text is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: its {0}")]
pub struct InvalidCheckpoint(pub &'static str);

impl Checkpoint {
    /// Reads a note's text. Lines below the third are extensions, which mean nothing here.
    pub fn parse(text: &str) -> Result<Self, InvalidCheckpoint> {
        let body = text
            .strip_suffix('\n')
            .ok_or(InvalidCheckpoint("last line has no end"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|origin| is_key_name(origin));
        let size = lines.next().and_then(decimal);
        let root = lines.next().and_then(parse_hash);
        if lines.any(str::is_empty) {
            return Err(InvalidCheckpoint("extension lines must not be empty"));
        }
        Ok(Self {
            origin: origin
                .ok_or(InvalidCheckpoint("first line is no name of a log"))?
                .to_owned(),
            size: size.ok_or(InvalidCheckpoint("second line is no tree size"))?,
            root: root.ok_or(InvalidCheckpoint("third line is no base64 of 32 bytes"))?,
        })
    }
}

/// Shows the text that is signed.
impl std::fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))
    }
}

/// A hash as checkpoints and proofs write it.
pub(super) fn parse_hash(text: &str) -> Option<Hash> {
    // Longer texts are no hash: not decoded.
    (text.len() == 44)
        .then(|| STANDARD.decode(text).ok()?.try_into().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_checkpoint_of_the_specification_is_read_and_written() {
        let checkpoint = Checkpoint::parse(TEXT).unwrap();
        assert_eq!(
            (checkpoint.origin.as_str(), checkpoint.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(checkpoint.to_string(), TEXT);
        let extended = Checkpoint::parse(&format!("{TEXT}extension\n")).unwrap();
        assert_eq!(extended, checkpoint);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        for (from, to) in [
            ("example.com/behind-the-sofa", ""),
            ("example.com/behind-the-sofa", "two words"),
            ("20852163", "020852163"),
            ("20852163", "-1"),
            ("20852163", "99999999999999999999"),
            ("20852163", ""),
            ("CsUY", "CsU"),
            ("q2I=", "q2I"),
            ("q2I=\n", "q2I="),
            ("q2I=\n", "q2I=\n\n"),
            ("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", ""),
        ] {
            assert!(Checkpoint::parse(&TEXT.replace(from, to)).is_err(), "{from} -> {to}");
        }
        assert!(Checkpoint::parse("").is_err());
    }
}
