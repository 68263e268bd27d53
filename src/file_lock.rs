//! An advisory lock on a file, which the system releases however its process ends.

use std::fs::{File, TryLockError};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long it is tried. A lock that belongs to nobody any more is held for a moment all the same: by a process that
/// was just killed, or by a child that this process is starting and that is not another program yet.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long is waited between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Locks the file until it is closed, and says whether that was possible: `false` when another holds it.
pub fn lock(file: &File) -> io::Result<bool> {
    lock_within(file, PATIENCE)
}

fn lock_within(file: &File, patience: Duration) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if began.elapsed() < patience => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_another_keeps_is_not_given_and_one_that_is_let_go_in_time_is() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let (first, second) = (open(), open());
        assert!(lock(&first).unwrap());
        assert!(!lock(&second).unwrap());
        let releasing = thread::spawn(move || {
            thread::sleep(PAUSE);
            drop(first);
        });
        assert!(lock_within(&second, Duration::from_secs(60)).unwrap());
        releasing.join().unwrap();
    }
}
