//! When a node that was cut off decides again: the store hears of what was missed before the state has folded it, and
//! how long that takes must not be decided on what was before.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nobody knows how much is missed.
const UNKNOWN: u64 = u64::MAX;

/// What a node that was cut off has to read.
#[derive(Default)]
pub struct ComingBack {
    /// How many events the state must have read; none when nothing is missed.
    must_have_read: AtomicU64,
}

impl ComingBack {
    /// The node is cut off.
    pub fn is_away(&self) {
        self.must_have_read.store(UNKNOWN, Ordering::Release);
    }

    /// Whether a node that is not cut off, and whose log has so many events, has a state that has read what it missed.
    /// One load in most cases.
    pub fn is_back(&self, log_size: u64, position: impl FnOnce() -> u64) -> bool {
        let mut must_have_read = self.must_have_read.load(Ordering::Acquire);
        if must_have_read == 0 {
            return true;
        }
        if must_have_read == UNKNOWN {
            // Whoever looks first says how much it was.
            must_have_read = match self.replace(UNKNOWN, log_size) {
                Ok(_) => log_size,
                Err(said) => said,
            };
        }
        if position() < must_have_read {
            return false;
        }
        // Unless it is away again.
        let _ = self.replace(must_have_read, 0);
        true
    }

    fn replace(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.must_have_read
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_back_when_its_state_has_read_what_the_log_had_when_it_was_heard_of_again() {
        let coming_back = ComingBack::default();
        assert!(coming_back.is_back(20, || 10), "it was never away");
        coming_back.is_away();
        assert!(!coming_back.is_back(20, || 10));
        assert!(!coming_back.is_back(40, || 19));
        assert!(coming_back.is_back(60, || 20), "what came since it does not wait for");
        assert!(coming_back.is_back(60, || 20));
        coming_back.is_away();
        assert!(!coming_back.is_back(60, || 20), "it was away again");
        coming_back.is_away();
        assert!(!coming_back.is_back(80, || 60));
        assert!(coming_back.is_back(90, || 80));
    }
}
