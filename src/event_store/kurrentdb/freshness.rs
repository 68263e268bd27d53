//! How long ago this node knew all that the cluster knew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last moment at which this node is known to have read everything.
pub(super) struct Freshness {
    started: Instant,
    /// That moment, in microseconds from `started`.
    at: AtomicU64,
    /// No earlier moment counts, in microseconds from `started`; `LOST` while none does.
    counts_from: AtomicU64,
    max_staleness: Duration,
}

/// Later than any moment.
const LOST: u64 = u64::MAX;

impl Freshness {
    /// Everything is known now.
    pub(super) fn new(max_staleness: Duration) -> Self {
        Self {
            started: Instant::now(),
            at: AtomicU64::new(0),
            counts_from: AtomicU64::new(0),
            max_staleness,
        }
    }

    /// Everything that was committed at that moment has been read. That does not count while the cluster lacks what
    /// was read before: whatever it says then is of another log, or of a part of this one.
    pub(super) fn heard_at(&self, moment: Instant) {
        let at = self.micros(moment);
        if at >= self.counts_from.load(Ordering::Relaxed) {
            self.at.fetch_max(at, Ordering::Relaxed);
        }
    }

    /// The cluster lacks what was read.
    pub(super) fn lost(&self) {
        self.counts_from.store(LOST, Ordering::Relaxed);
    }

    /// The cluster has what was read, asked at this moment.
    pub(super) fn found_at(&self, moment: Instant) {
        let at = self.micros(moment);
        // Where nothing was lost, what was heard before goes on counting.
        let _ = self
            .counts_from
            .compare_exchange(LOST, at, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the cluster has lacked what was read when it was last asked for it.
    pub(super) fn is_lost(&self) -> bool {
        self.counts_from.load(Ordering::Relaxed) == LOST
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

    fn micros(&self, moment: Instant) -> u64 {
        let since_start = moment.saturating_duration_since(self.started).as_micros();
        u64::try_from(since_start).unwrap_or(LOST - 1).min(LOST - 1)
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

    #[test]
    fn what_a_cluster_says_that_lacks_what_was_read_does_not_count_even_when_it_has_it_again() {
        let freshness = Freshness::new(Duration::from_secs(5));
        let at = |seconds| freshness.started + Duration::from_secs(seconds);
        freshness.heard_at(at(1));
        freshness.lost();
        freshness.heard_at(at(4));
        assert!(freshness.is_lost());
        assert_eq!(freshness.age(at(10)), Duration::from_secs(9));
        freshness.found_at(at(8));
        freshness.heard_at(at(7));
        assert_eq!(freshness.age(at(10)), Duration::from_secs(9));
        freshness.heard_at(at(9));
        assert!(!freshness.is_lost());
        assert_eq!(freshness.age(at(10)), Duration::from_secs(1));
    }

    #[test]
    fn what_was_heard_counts_also_when_what_was_not_lost_is_found() {
        let freshness = Freshness::new(Duration::from_secs(5));
        let at = |seconds| freshness.started + Duration::from_secs(seconds);
        freshness.found_at(at(8));
        freshness.heard_at(at(7));
        assert_eq!(freshness.age(at(10)), Duration::from_secs(3));
    }
}
