//! Private keys at rest: sealed with AES-256-GCM under the master key.
//!
//! A sealed key is `v1.` and the unpadded base64url of nonce (12 random bytes), ciphertext and tag (16
//! bytes). The additional data binds it to the format's version, the algorithm and the kid, so that one
//! key's sealed text is of no use in the place of another's.

use super::signing_key::SigningKeyError;
use super::{NoRandomness, fill_random};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use grantlog_projections::values::{KeyId, SigningAlgorithm};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// A master key file is 32 or some 44 bytes long; what is longer is another file.
const MAX_FILE_BYTES: usize = 256;
const VERSION: &str = "v1.";
/// Owner only.
const FILE_MODE: u32 = 0o600;
const OTHERS_MODE: u32 = 0o077;

// `openssl rand -base64 32` ends in `=`; people lose it when they copy.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// Not base64 of 32 bytes.
    #[error("a master key must be the base64 of 32 random bytes, as `openssl rand -base64 32` makes it")]
    NotAKey,
    /// The file holds something else.
    #[error("{0} does not hold a master key: neither 32 bytes nor their base64, as `openssl rand -base64 32` makes it")]
    NotAKeyFile(PathBuf),
    /// There is no such file.
    #[error("there is no master key file {0}")]
    Missing(PathBuf),
    /// Other accounts may read the file.
    #[error("the master key file {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file could not be read or written.
    #[error("the master key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No key could be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Why a private key could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealing itself failed.
    #[error("signing key {0} could not be sealed")]
    NotSealed(KeyId),
    /// Not the text of a sealed key.
    #[error("the sealed private key of signing key {0} is not readable: a newer Grantlog wrote it, or it is damaged")]
    Unreadable(KeyId),
    /// Another master key, or another text, than when it was sealed.
    #[error(
        "the master key does not open signing key {0}: was the master key replaced? Every node needs the one that sealed \
         it (keys.master_key_file, or GRANTLOG__KEYS__MASTER_KEY)"
    )]
    DoesNotOpen(KeyId),
    /// It opens, but what is in it is no such key.
    #[error("what is sealed as signing key {kid} is {source}")]
    NotAKey {
        /// The key.
        kid: KeyId,
        /// What is wrong with it.
        source: SigningKeyError,
    },
    /// It opens, but its tokens would not verify with the published key.
    #[error("the private key of signing key {0} does not belong to its published key")]
    NotThePublishedKey(KeyId),
}

/// The key that seals all private keys.
pub struct MasterKey(Box<Zeroizing<[u8; KEY_BYTES]>>); // boxed, so that moving it leaves no copy behind

impl MasterKey {
    /// Makes one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut key = Self(Box::default());
        fill_random(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// From the base64 of 32 bytes: the value of an environment variable.
    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        Self::decode(text.trim().as_bytes()).ok_or(MasterKeyError::NotAKey)
    }

    /// From a file that holds 32 bytes or their base64 and is closed to everyone but its owner.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let io = |source: io::Error| match source.kind() {
            ErrorKind::NotFound => MasterKeyError::Missing(path.to_owned()),
            _ => io_error(path, source),
        };
        let file = File::open(path).map_err(io)?;
        // Of the opened file, not of the path, which may be another by now.
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(MasterKeyError::NotAKeyFile(path.to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & OTHERS_MODE != 0 {
            let path = path.to_owned();
            return Err(MasterKeyError::OpenToOthers { path, mode });
        }
        // With room for all of it, the buffer is never moved and leaves no copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
        file.take(MAX_FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        match bytes.len() {
            KEY_BYTES => Self::copy_of(&bytes),
            0..=MAX_FILE_BYTES => Self::decode(bytes.trim_ascii()),
            _ => None,
        }
        .ok_or_else(|| MasterKeyError::NotAKeyFile(path.to_owned()))
    }

    /// From the file, which is made with a new key and mode 0600 when it is missing; its folder must be
    /// there. Of several that make it at the same time one wins and all get its key. A file that appears
    /// is whole and on stable storage.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        match Self::load(path) {
            Err(MasterKeyError::Missing(_)) => {
                Self::generate()?.write_new(path)?;
                Self::load(path)
            }
            loaded => loaded,
        }
    }

    /// 32 bytes for this purpose, always the same ones, which tell nothing of the master key (RFC 5869).
    pub fn derive(&self, purpose: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, NoRandomness> {
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        Salt::new(HKDF_SHA256, b"grantlog derived key v1")
            .extract(self.0.as_slice())
            .expand(&[purpose.as_bytes()], HKDF_SHA256)
            .and_then(|expanded| expanded.fill(derived.as_mut_slice()))
            .map_err(|_| NoRandomness)?;
        Ok(derived)
    }

    /// As the file and the environment have it.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Seals a private key.
    pub fn seal(&self, kid: &KeyId, alg: SigningAlgorithm, private_key: &[u8]) -> Result<String, SealError> {
        let not_sealed = |_| SealError::NotSealed(kid.clone());
        let mut bytes = Zeroizing::new(private_key.to_vec());
        let (nonce, tag) = self
            .cipher()
            .and_then(|cipher| cipher.seal_in_place_separate_tag(bound_to(kid, alg), &mut bytes))
            .map_err(not_sealed)?;
        let sealed = [nonce.as_ref(), bytes.as_slice(), tag.as_ref()].concat();
        Ok(format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// Opens a private key that was sealed for this kid and algorithm.
    pub fn open(&self, kid: &KeyId, alg: SigningAlgorithm, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let unreadable = || SealError::Unreadable(kid.clone());
        let text = sealed.strip_prefix(VERSION).ok_or_else(unreadable)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| unreadable())?;
        let (nonce, ciphertext) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(unreadable)?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .cipher()
            .and_then(|cipher| {
                cipher
                    .open_in_place(Nonce::from(nonce), bound_to(kid, alg), &mut opened)
                    .map(|p| p.len())
            })
            .map_err(|_| SealError::DoesNotOpen(kid.clone()))?;
        opened.truncate(length);
        Ok(opened)
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, aws_lc_rs::error::Unspecified> {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.as_slice())
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let bytes = BASE64.decode(text).map(Zeroizing::new).ok()?;
        Self::copy_of(&bytes)
    }

    fn copy_of(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; KEY_BYTES] = bytes.try_into().ok()?;
        let mut key = Self(Box::default());
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    // Written under another name and linked to its own: the link is refused when there is a file
    // already, and nobody ever sees half a key.
    fn write_new(&self, path: &Path) -> Result<(), MasterKeyError> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut suffix = [0; 8];
        fill_random(&mut suffix)?;
        let unfinished = path.with_extension(format!("{:016x}.new", u64::from_be_bytes(suffix)));
        let text = Zeroizing::new(format!("{}\n", *self.to_base64()));
        let written = write_synced(&unfinished, text.as_bytes()).and_then(|()| fs::hard_link(&unfinished, path));
        // A leftover is a key that nothing was ever sealed with.
        let _ = fs::remove_file(&unfinished);
        match written {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io_error(path, error)),
            _ => File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| io_error(path, error)),
        }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

fn bound_to(kid: &KeyId, alg: SigningAlgorithm) -> Aad<String> {
    // No algorithm's name has a line break in it, so no two pairs give the same text.
    Aad::from(format!("grantlog signing key {VERSION}\n{alg}\n{kid}"))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn io_error(path: &Path, source: io::Error) -> MasterKeyError {
    MasterKeyError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    const PLAIN: &[u8] = b"a private key";

    fn kid(text: &str) -> KeyId {
        KeyId::parse(text).unwrap()
    }

    fn write(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let master = MasterKey::generate().unwrap();
        let sealed = master.seal(&kid("k"), SigningAlgorithm::Es256, PLAIN).unwrap();
        assert_eq!(sealed.len(), "v1.".len() + ((12 + PLAIN.len() + 16) * 4).div_ceil(3));
        assert_eq!(
            **master.open(&kid("k"), SigningAlgorithm::Es256, &sealed).unwrap(),
            *PLAIN
        );
        let again = master.seal(&kid("k"), SigningAlgorithm::Es256, PLAIN).unwrap();
        assert_ne!(sealed, again, "each sealing has a nonce of its own");
    }

    #[test]
    fn a_change_anywhere_in_the_sealed_text_is_noticed() {
        let master = MasterKey::generate().unwrap();
        let sealed = master.seal(&kid("k"), SigningAlgorithm::Es256, PLAIN).unwrap();
        for position in 0..sealed.len() {
            for other in [b'A', b'Q', b'w', b'_', b'.'] {
                let mut bytes = sealed.clone().into_bytes();
                if bytes[position] != other {
                    bytes[position] = other;
                    let changed = String::from_utf8(bytes).unwrap();
                    let opened = master.open(&kid("k"), SigningAlgorithm::Es256, &changed);
                    assert!(opened.is_err(), "position {position} to {}", char::from(other));
                }
            }
            let cut = &sealed[..position];
            assert!(
                master.open(&kid("k"), SigningAlgorithm::Es256, cut).is_err(),
                "cut at {position}"
            );
        }
        let flipped_bits = (0..(12 + PLAIN.len() + 16) * 8).map(|bit| {
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed[3..]).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            format!("v1.{}", URL_SAFE_NO_PAD.encode(bytes))
        });
        for flipped in flipped_bits {
            assert_eq!(
                master.open(&kid("k"), SigningAlgorithm::Es256, &flipped).unwrap_err(),
                SealError::DoesNotOpen(kid("k"))
            );
        }
    }

    #[test]
    fn a_sealed_key_opens_in_its_own_place_only() {
        let master = MasterKey::generate().unwrap();
        let sealed = master.seal(&kid("2026-03-16"), SigningAlgorithm::Rs256, PLAIN).unwrap();
        assert!(
            master
                .open(&kid("2026-03-17"), SigningAlgorithm::Rs256, &sealed)
                .is_err()
        );
        assert!(
            master
                .open(&kid("2026-03-16"), SigningAlgorithm::Ps256, &sealed)
                .is_err()
        );
    }

    #[test]
    fn another_master_key_is_told_what_may_have_happened() {
        let sealed = MasterKey::generate()
            .unwrap()
            .seal(&kid("2026-03-16"), SigningAlgorithm::Es256, PLAIN)
            .unwrap();
        let error = MasterKey::generate()
            .unwrap()
            .open(&kid("2026-03-16"), SigningAlgorithm::Es256, &sealed)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the master key does not open signing key 2026-03-16: was the master key replaced? Every node needs the one \
             that sealed it (keys.master_key_file, or GRANTLOG__KEYS__MASTER_KEY)"
        );
    }

    #[test]
    fn what_was_never_sealed_is_unreadable() {
        let master = MasterKey::generate().unwrap();
        for text in ["", "v1.", "v2.AAAA", "v1.AAAA", "v1.*", "v1.AAAAAAAAAAAAAAAAAA=="] {
            let opened = master.open(&kid("k"), SigningAlgorithm::Es256, text);
            assert_eq!(opened.unwrap_err(), SealError::Unreadable(kid("k")), "{text}");
        }
    }

    #[test]
    fn a_master_key_is_32_bytes_in_base64() {
        let with_padding = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let expected: [u8; 32] = std::array::from_fn(|n| n as u8);
        for text in [with_padding, &with_padding[..43], &format!(" {with_padding}\n")] {
            assert_eq!(**MasterKey::from_base64(text).unwrap().0, expected, "{text:?}");
        }
        for text in [
            "",
            "AAEC",
            &with_padding[..42],
            &format!("{}{with_padding}", "AAAA"),
            "not base64 at all",
        ] {
            assert!(
                matches!(MasterKey::from_base64(text), Err(MasterKeyError::NotAKey)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_master_key_file_holds_the_bytes_or_their_base64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        write(&path, &[7; 32], 0o600);
        assert_eq!(**MasterKey::load(&path).unwrap().0, [7; 32]);
        write(&path, format!("{}\n", STANDARD.encode([8; 32])).as_bytes(), 0o400);
        assert_eq!(**MasterKey::load(&path).unwrap().0, [8; 32]);
    }

    #[test]
    fn a_file_without_a_key_in_it_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        for content in [&b""[..], &[7; 31], &[7; 33], &[b'A'; MAX_FILE_BYTES + 1], b"not a key"] {
            write(&path, content, 0o600);
            let error = MasterKey::load(&path).unwrap_err();
            assert!(
                matches!(&error, MasterKeyError::NotAKeyFile(named) if *named == path),
                "{error}"
            );
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let error = MasterKey::load(folder.path()).unwrap_err();
        assert!(matches!(error, MasterKeyError::NotAKeyFile(_)), "a folder: {error}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601, 0o620] {
            write(&path, &[7; 32], mode);
            let error = MasterKey::load_or_create(&path).unwrap_err();
            let path = path.display();
            assert_eq!(
                error.to_string(),
                format!("the master key file {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`")
            );
        }
        assert_eq!(fs::read(&path).unwrap(), [7; 32]);
    }

    #[test]
    fn a_missing_file_is_made_once_closed_to_others_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(matches!(MasterKey::load(&path), Err(MasterKeyError::Missing(_))));
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(MasterKey::load_or_create(&path).unwrap().0, made.0);
        assert_eq!(MasterKey::load(&path).unwrap().0, made.0);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing else is left in the folder"
        );
    }

    #[test]
    fn all_that_make_the_file_at_the_same_time_get_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = folder.path().join(format!("master-{round}.key"));
            let barrier = Barrier::new(8);
            let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
                let makers: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            **MasterKey::load_or_create(&path).unwrap().0
                        })
                    })
                    .collect();
                makers.into_iter().map(|maker| maker.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]), "round {round}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 20);
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("master.key");
        let error = MasterKey::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("missing/master.key"), "{error}");
    }

    #[test]
    fn debug_does_not_show_the_key() {
        assert_eq!(format!("{:?}", MasterKey::generate().unwrap()), "MasterKey(…)");
    }
}
