//! How long ago this node knew all that the cluster knew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last moment at which this node is known to have read everything.
pub(super) struct Freshness {
    started: Instant,
    /// That moment, in microseconds from `started`.
    at: AtomicU64,
    max_staleness: Duration,
}

impl Freshness {
    /// Everything is known now.
    pub(super) fn new(max_staleness: Duration) -> Self {
        Self {
            started: Instant::now(),
            at: AtomicU64::new(0),
            max_staleness,
        }
    }

    /// Everything that was committed at that moment has been read.
    pub(super) fn heard_at(&self, moment: Instant) {
        let at = moment.saturating_duration_since(self.started).as_micros();
        self.at
            .fetch_max(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let at = Duration::from_micros(self.at.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started).saturating_sub(at)
    }

    /// The age when it is more than a node may have.
    pub(super) fn too_old(&self, now: Instant) -> Option<Duration> {
        Some(self.age(now)).filter(|age| *age > self.max_staleness)
    }

    /// The most that it may be.
    pub(super) fn max_staleness(&self) -> Duration {
        self.max_staleness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_heard_of_for_too_long_is_too_old_until_it_is_heard_of_again() {
        let freshness = Freshness::new(Duration::from_secs(5));
        let at = |seconds| freshness.started + Duration::from_secs(seconds);
        assert_eq!(freshness.too_old(at(5)), None);
        assert_eq!(freshness.too_old(at(6)), Some(Duration::from_secs(6)));
        freshness.heard_at(at(4));
        assert_eq!(freshness.too_old(at(9)), None);
        assert_eq!(freshness.too_old(at(10)), Some(Duration::from_secs(6)));
    }

    #[test]
    fn what_was_heard_later_is_not_forgotten_for_what_was_heard_before() {
        let freshness = Freshness::new(Duration::from_secs(5));
        let at = |seconds| freshness.started + Duration::from_secs(seconds);
        freshness.heard_at(at(8));
        freshness.heard_at(at(3));
        assert_eq!(freshness.age(at(10)), Duration::from_secs(2));
    }
}
