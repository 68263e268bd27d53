//! The key that signs the log's checkpoints: Ed25519, made once, sealed at rest under the master key.
//!
//! The file is three lines: the log's name, the public key in base64, and the sealed private key. Name and key
//! belong together for ever, for the world has pinned both: another name or another key is another log.

use super::NoRandomness;
use super::sealing::{MasterKey, SealError};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grantlog_projections::values::{KeyId, SigningAlgorithm};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A longer file is another file.
const MAX_FILE_BYTES: u64 = 4_096;
/// What the sealed text is bound to.
const SEALED_AS: &str = "transparency";

/// Why there is no key to sign checkpoints with.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// There is no such file.
    #[error("there is no key {0} that signs checkpoints")]
    Missing(PathBuf),
    /// The file could not be read or written.
    #[error("the log's key {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{0} does not hold the key of a log")]
    NotAKey(PathBuf),
    /// The sealed key does not open.
    #[error("the log's key {path}: {source}")]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SealError,
    },
    /// No key could be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// What everybody may know of a log's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicLogKey {
    /// The log's name.
    pub name: String,
    /// The Ed25519 public key.
    pub public_key: [u8; 32],
}

impl PublicLogKey {
    /// Reads the open part of a key's file; the master key is not needed for it.
    pub fn load(path: &Path) -> Result<Self, LogKeyError> {
        Ok(read(path)?.0)
    }
}

/// A log's key, ready to sign.
pub struct LogKey {
    public: PublicLogKey,
    pair: Ed25519KeyPair,
}

impl LogKey {
    /// From the file.
    pub fn load(path: &Path, master: &MasterKey) -> Result<Self, LogKeyError> {
        let (public, sealed) = read(path)?;
        let of_sealing = |source| LogKeyError::Sealed {
            path: path.to_owned(),
            source,
        };
        let not_a_key = || LogKeyError::NotAKey(path.to_owned());
        let kid = KeyId::parse(SEALED_AS).map_err(|_| not_a_key())?;
        let seed = master
            .open(&kid, SigningAlgorithm::EdDsa, &sealed)
            .map_err(of_sealing)?;
        // Refused when the public key is not that of the seed: checkpoints would not verify with what is pinned.
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public.public_key).map_err(|_| not_a_key())?;
        Ok(Self { public, pair })
    }

    /// Makes the key of the log that is called so, and its file, which must not be there; mode 0600.
    pub fn create(path: &Path, master: &MasterKey, name: &str) -> Result<Self, LogKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        super::fill_random(seed.as_mut_slice())?;
        Self::of_seed(path, master, name, &seed)
    }

    /// The same, but of the master key: whoever has that and the name gets this key, so that all nodes sign as one log.
    pub fn derive(path: &Path, master: &MasterKey, name: &str) -> Result<Self, LogKeyError> {
        let seed = derived_seed(master, name)?;
        Self::of_seed(path, master, name, &seed)
    }

    /// Whether it is the one that everybody with the master key derives for its name.
    pub fn is_derived_from(&self, master: &MasterKey) -> Result<bool, LogKeyError> {
        let seed = derived_seed(master, &self.public.name)?;
        Ok(Ed25519KeyPair::from_seed_and_public_key(seed.as_slice(), &self.public.public_key).is_ok())
    }

    fn of_seed(path: &Path, master: &MasterKey, name: &str, seed: &[u8; 32]) -> Result<Self, LogKeyError> {
        let not_a_key = || LogKeyError::NotAKey(path.to_owned());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| NoRandomness)?;
        let public_key: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| NoRandomness)?;
        let kid = KeyId::parse(SEALED_AS).map_err(|_| not_a_key())?;
        let sealed = master
            .seal(&kid, SigningAlgorithm::EdDsa, seed.as_slice())
            .map_err(|source| LogKeyError::Sealed {
                path: path.to_owned(),
                source,
            })?;
        let text = format!("{name}\n{}\n{sealed}\n", STANDARD.encode(public_key));
        write_new(path, &text).map_err(|source| LogKeyError::Io {
            path: path.to_owned(),
            source,
        })?;
        let public = PublicLogKey {
            name: name.to_owned(),
            public_key,
        };
        Ok(Self { public, pair })
    }

    /// The part that everybody may know.
    pub fn public(&self) -> &PublicLogKey {
        &self.public
    }

    /// An Ed25519 signature: the same text always has the same (RFC 8032 §5.1.6).
    pub fn sign(&self, text: &str) -> Vec<u8> {
        self.pair.sign(text.as_bytes()).as_ref().to_vec()
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogKey").field(&self.public).finish()
    }
}

fn derived_seed(master: &MasterKey, name: &str) -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
    master.derive(&format!("{SEALED_AS}\n{name}"))
}

fn read(path: &Path) -> Result<(PublicLogKey, String), LogKeyError> {
    let of_file = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => LogKeyError::Missing(path.to_owned()),
        _ => LogKeyError::Io {
            path: path.to_owned(),
            source,
        },
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(of_file)?;
    let lines: Vec<&str> = text.lines().collect();
    let read = match lines[..] {
        [name, public_key, sealed] if text.len() as u64 <= MAX_FILE_BYTES => STANDARD
            .decode(public_key)
            .ok()
            .and_then(|key| key.try_into().ok())
            .map(|public_key| (name, public_key, sealed)),
        _ => None,
    };
    let (name, public_key, sealed) = read.ok_or_else(|| LogKeyError::NotAKey(path.to_owned()))?;
    let name = name.to_owned();
    Ok((PublicLogKey { name, public_key }, sealed.to_owned()))
}

/// Whole or not at all, never over another, and on stable storage.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unfinished = path.with_extension("key.new");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&unfinished, path);
    let _ = fs::remove_file(&unfinished);
    linked?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NAME: &str = "grantlog.example.com/audit";

    #[test]
    fn a_key_is_made_once_closed_to_others_and_signs_the_same_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let (path, master) = (folder.path().join("transparency.key"), MasterKey::generate().unwrap());
        assert!(matches!(LogKey::load(&path, &master), Err(LogKeyError::Missing(_))));
        let made = LogKey::create(&path, &master, NAME).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(LogKey::create(&path, &master, NAME).is_err(), "never over another");
        let loaded = LogKey::load(&path, &master).unwrap();
        assert_eq!(loaded.public(), made.public());
        assert_eq!(loaded.sign("text"), made.sign("text"));
        assert_eq!(&PublicLogKey::load(&path).unwrap(), made.public());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_master_key_or_another_public_key_does_not_open_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, master) = (folder.path().join("transparency.key"), MasterKey::generate().unwrap());
        LogKey::create(&path, &master, NAME).unwrap();
        let other = LogKey::load(&path, &MasterKey::generate().unwrap());
        assert!(matches!(other, Err(LogKeyError::Sealed { .. })));
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        let key = STANDARD.encode([7; 32]);
        lines[1] = &key;
        fs::write(&path, lines.join("\n")).unwrap();
        assert!(matches!(LogKey::load(&path, &master), Err(LogKeyError::NotAKey(_))));
        fs::write(&path, "something else").unwrap();
        assert!(matches!(PublicLogKey::load(&path), Err(LogKeyError::NotAKey(_))));
    }

    #[test]
    fn all_who_have_the_master_key_derive_the_same_key_for_a_name_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (master, other) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let one = LogKey::derive(&path("one"), &master, NAME).unwrap();
        let same = LogKey::derive(&path("same"), &master, NAME).unwrap();
        assert_eq!((one.public(), one.sign("text")), (same.public(), same.sign("text")));
        assert_eq!(LogKey::load(&path("one"), &master).unwrap().public(), one.public());
        assert!(one.is_derived_from(&master).unwrap() && !one.is_derived_from(&other).unwrap());
        let random = LogKey::create(&path("random"), &master, NAME).unwrap();
        assert!(!random.is_derived_from(&master).unwrap());
        let renamed = LogKey::derive(&path("renamed"), &master, "other.example.com/audit").unwrap();
        let of_other = LogKey::derive(&path("of_other"), &other, NAME).unwrap();
        for different in [renamed, of_other] {
            assert_ne!(different.public().public_key, one.public().public_key);
        }
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transparency.key");
        let key = LogKey::create(&path, &MasterKey::generate().unwrap(), NAME).unwrap();
        assert!(format!("{key:?}").starts_with("LogKey(PublicLogKey"));
    }
}
