//! Where each event of the log is in the cluster's `$all`: the n-th record is the position of the event with index
//! n. A cache: when it is lost the log is read again and counted anew.
//!
//! The file is a header of 64 bytes and 16 bytes for each event. Only what the header vouches for is believed at the
//! next start: a record that a crash has left may be anything.

use eventstore::Position;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

const HEADER_BYTES: u64 = 64;
const RECORD_BYTES: u64 = 16;
/// What the file begins with: its kind and version.
const MAGIC: [u8; 8] = *b"GLPOS\0\0\x01";
/// After so many records of which the header does not know yet, it is told.
const VOUCH_EVERY: u64 = 100_000;

/// The positions of all events so far.
pub(super) struct Positions {
    file: File,
    /// How many records there are.
    count: AtomicU64,
    /// How many of them the header vouches for.
    vouched: AtomicU64,
    /// The id of the last of those that were there when the file was opened.
    last_id: Option<Uuid>,
    vouching: Mutex<()>,
}

impl Positions {
    /// Opens the file, or makes it, for the log whose streams begin with this prefix.
    pub(super) fn open(path: &Path, prefix: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Self::of(file, prefix)
    }

    /// What the file holds at this moment, for a reader beside the server that keeps it.
    pub(super) fn copy_of(path: &Path, prefix: &str) -> io::Result<Self> {
        let copy = Unnamed::beside(path)?;
        if let Ok(mut original) = File::open(path) {
            io::copy(&mut original, &mut &copy.file)?;
        }
        Self::of(copy.file.try_clone()?, prefix)
    }

    fn of(file: File, prefix: &str) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES as usize];
        let is_whole = file.metadata()?.len() >= HEADER_BYTES;
        if is_whole {
            file.read_exact_at(&mut header, 0)?;
        }
        let expected = header_of(prefix, 0);
        let mut count = 0;
        let mut last_id = None;
        if is_whole && header[..40] == expected[..40] {
            count = number(&header[40..48]);
            let length = file.metadata()?.len();
            if (length - HEADER_BYTES) / RECORD_BYTES < count {
                count = 0;
            }
            last_id = Uuid::from_slice(&header[48..64]).ok().filter(|_| count > 0);
        }
        // Another prefix is another log; records that nobody vouches for are forgotten.
        file.set_len(HEADER_BYTES + count * RECORD_BYTES)?;
        let mut anew = header_of(prefix, count);
        if let Some(id) = last_id {
            anew[48..64].copy_from_slice(id.as_bytes());
        }
        file.write_all_at(&anew, 0)?;
        Ok(Self {
            file,
            count: AtomicU64::new(count),
            vouched: AtomicU64::new(count),
            last_id,
            vouching: Mutex::new(()),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The id of the last event that was there when the file was opened.
    pub(super) fn last_id(&self) -> Option<Uuid> {
        self.last_id
    }

    /// Adds those of the next events. One thread alone does that.
    pub(super) fn append(&self, positions: &[Position]) -> io::Result<()> {
        let count = self.count();
        let mut bytes = Vec::with_capacity(positions.len() * RECORD_BYTES as usize);
        for position in positions {
            bytes.extend(position.commit.to_le_bytes());
            bytes.extend(position.prepare.to_le_bytes());
        }
        self.file.write_all_at(&bytes, HEADER_BYTES + count * RECORD_BYTES)?;
        self.count.store(count + positions.len() as u64, Ordering::Release);
        Ok(())
    }

    /// Where the event with this index is, which must be one of those that are there.
    pub(super) fn get(&self, index: u64) -> io::Result<Position> {
        let range = self.range(index, 1)?;
        range
            .first()
            .copied()
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Where events are, from this index on.
    pub(super) fn range(&self, first: u64, count: usize) -> io::Result<Vec<Position>> {
        let mut bytes = vec![0; count * RECORD_BYTES as usize];
        self.file
            .read_exact_at(&mut bytes, HEADER_BYTES + first * RECORD_BYTES)?;
        let records = bytes.chunks_exact(RECORD_BYTES as usize);
        Ok(records
            .map(|record| Position {
                commit: number(&record[..8]),
                prepare: number(&record[8..]),
            })
            .collect())
    }

    /// The index of the event at this position.
    pub(super) fn find(&self, position: Position) -> io::Result<Option<u64>> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if order(self.get(middle)?) < order(position) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((low < self.count() && self.get(low)? == position).then_some(low))
    }

    /// Makes the header vouch for what is there, when that is much or somebody wants it. The last event has this id.
    /// It waits for the disk.
    pub(super) fn vouch(&self, last_id: Uuid, in_any_case: bool) -> io::Result<()> {
        let count = self.count();
        let vouched = self.vouched.load(Ordering::Relaxed);
        if count == vouched || (!in_any_case && count - vouched < VOUCH_EVERY) {
            return Ok(());
        }
        let _vouching = self.vouching.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.sync_data()?;
        // In one piece, so that they are of one moment.
        let mut vouched = [0; 24];
        vouched[..8].copy_from_slice(&count.to_le_bytes());
        vouched[8..].copy_from_slice(last_id.as_bytes());
        self.file.write_all_at(&vouched, 40)?;
        self.vouched.store(count, Ordering::Relaxed);
        Ok(())
    }
}

/// The kind of file, the log that it belongs to, and how many records it has; the id of the last event follows.
fn header_of(prefix: &str, count: u64) -> [u8; HEADER_BYTES as usize] {
    use sha2::{Digest, Sha256};
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..40].copy_from_slice(&Sha256::digest(prefix));
    header[40..48].copy_from_slice(&count.to_le_bytes());
    header
}

/// Whether one is at least as far as the other.
pub(super) fn reaches(one: Option<Position>, other: Option<Position>) -> bool {
    one.map_or((0, 0), order) >= other.map_or((0, 0), order)
}

/// Positions as they follow one another.
pub(super) fn order(position: Position) -> (u64, u64) {
    (position.commit, position.prepare)
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A file that is gone when nobody has it open any more.
struct Unnamed {
    file: File,
}

impl Unnamed {
    fn beside(path: &Path) -> io::Result<Self> {
        let name: PathBuf = path.with_extension(format!("{}.copy", Uuid::now_v7()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&name)?;
        std::fs::remove_file(&name)?;
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn at(commit: u64) -> Position {
        Position {
            commit,
            prepare: commit,
        }
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions.db");
        (folder, path)
    }

    #[test]
    fn an_event_is_found_by_its_index_and_by_its_position() {
        let (_folder, path) = folder();
        let positions = Positions::open(&path, "grantlog.").unwrap();
        positions.append(&[at(10), at(25), at(70)]).unwrap();
        positions.append(&[at(71)]).unwrap();
        assert_eq!(positions.count(), 4);
        assert_eq!(positions.get(2).unwrap(), at(70));
        assert_eq!(positions.range(1, 3).unwrap(), [at(25), at(70), at(71)]);
        for (position, index) in [(10, Some(0)), (71, Some(3)), (26, None), (0, None), (99, None)] {
            assert_eq!(positions.find(at(position)).unwrap(), index);
        }
    }

    #[test]
    fn only_what_is_vouched_for_is_believed_later() {
        let (_folder, path) = folder();
        let positions = Positions::open(&path, "grantlog.").unwrap();
        positions.append(&[at(1), at(2)]).unwrap();
        positions.vouch(ID, true).unwrap();
        positions.append(&[at(3)]).unwrap();
        positions.vouch(ID, false).unwrap();
        drop(positions);
        let again = Positions::open(&path, "grantlog.").unwrap();
        assert_eq!((again.count(), again.last_id()), (2, Some(ID)));
        again.append(&[at(4)]).unwrap();
        assert_eq!(again.get(2).unwrap(), at(4));
    }

    #[test]
    fn a_file_of_another_log_or_a_broken_one_is_begun_anew() {
        let (_folder, path) = folder();
        let positions = Positions::open(&path, "grantlog.").unwrap();
        positions.append(&[at(1)]).unwrap();
        positions.vouch(ID, true).unwrap();
        drop(positions);
        assert_eq!(Positions::open(&path, "other.").unwrap().count(), 0);
        std::fs::write(&path, b"nonsense").unwrap();
        assert_eq!(Positions::open(&path, "grantlog.").unwrap().count(), 0);
    }

    #[test]
    fn a_copy_leaves_the_file_as_it_is() {
        let (folder, path) = folder();
        let positions = Positions::open(&path, "grantlog.").unwrap();
        positions.append(&[at(1)]).unwrap();
        positions.vouch(ID, true).unwrap();
        let copy = Positions::copy_of(&path, "grantlog.").unwrap();
        copy.append(&[at(2)]).unwrap();
        copy.vouch(ID, true).unwrap();
        assert_eq!((copy.count(), positions.count()), (2, 1));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(
            Positions::copy_of(&folder.path().join("none.db"), "grantlog.")
                .unwrap()
                .count(),
            0
        );
    }
}
