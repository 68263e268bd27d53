use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The key that seals private signing keys at rest: 256 bits that no output ever shows and that are
/// wiped from memory when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; Self::BYTES]>);

/// Where the master key comes from.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// The environment gave it.
    Environment(MasterKey),
    /// A file that the operator named: it must exist.
    File(PathBuf),
    /// The file in the data folder, made on the first start.
    DataFolder(PathBuf),
}

impl MasterKey {
    /// The key's length.
    pub const BYTES: usize = 32;

    /// Takes a key.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key of a text: base64 (with padding) of exactly 32 bytes. White space around it is not part of it.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        Some(Self::new(bytes.as_slice().try_into().ok()?))
    }

    /// The key itself.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}
