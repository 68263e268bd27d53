//! How long a cluster has said that it lacks what this node has read.

use std::time::{Duration, Instant};

/// So long a cluster may lack what this node has read before that is believed: much longer than it takes to elect a
/// leader, and for one to show all that was acknowledged. The node is cut off meanwhile.
pub(super) const LOST_PATIENCE: Duration = Duration::from_secs(30);
/// What the operator is told then.
pub(super) const LOST: &str = "the KurrentDB no longer has the newest event that this node has read: it was restored \
     from a backup, or its log was truncated. See docs/cluster.md";

/// What it has said so far. The time between two answers that say so counts, and none in which it could not be asked:
/// a cluster that was away for an hour and lacks something in its first moment has not lacked it for an hour, and one
/// that cannot be asked now and then still comes to the end of the patience.
#[derive(Default)]
pub(super) struct Loss {
    said_for: Duration,
    /// When it said so, if nothing has come between.
    said_last: Option<Instant>,
}

impl Loss {
    /// It says so at this moment. Whether it has for so long that it is to be believed.
    pub(super) fn is_certain(&mut self, now: Instant) -> bool {
        if let Some(last) = self.said_last.replace(now) {
            self.said_for += now.saturating_duration_since(last);
        }
        self.said_for > LOST_PATIENCE
    }

    /// It could not be asked.
    pub(super) fn unknown(&mut self) {
        self.said_last = None;
    }

    /// It has it.
    pub(super) fn found(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(2);

    #[test]
    fn what_is_said_for_longer_than_the_patience_is_certain_whatever_comes_between() {
        let (mut loss, mut now) = (Loss::default(), Instant::now());
        let mut said = 0;
        while !loss.is_certain(now) {
            said += 1;
            now += STEP;
            if said % 5 == 0 {
                loss.unknown();
                now += LOST_PATIENCE;
            }
            assert!(said < 100);
        }
        // Of each five, four are said within a step of the one before.
        assert!(STEP * said * 4 / 5 >= LOST_PATIENCE - STEP, "{said}");
    }

    #[test]
    fn time_in_which_nobody_could_ask_does_not_count() {
        let (mut loss, now) = (Loss::default(), Instant::now());
        assert!(!loss.is_certain(now));
        loss.unknown();
        assert!(!loss.is_certain(now + 10 * LOST_PATIENCE));
    }

    #[test]
    fn what_was_found_in_between_was_not_lost() {
        let (mut loss, now) = (Loss::default(), Instant::now());
        assert!(!loss.is_certain(now));
        assert!(!loss.is_certain(now + LOST_PATIENCE));
        loss.found();
        assert!(!loss.is_certain(now + 2 * LOST_PATIENCE));
        assert!(!loss.is_certain(now + 3 * LOST_PATIENCE));
        assert!(loss.is_certain(now + 4 * LOST_PATIENCE));
    }
}
