//! Whether the state keeps up with the log, in time: events do not tell, because one that is not folded can be
//! the one that disables an application.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So long the log may be ahead of the state before the state no longer counts as the log's.
pub const MAX_STATE_LAG: Duration = Duration::from_secs(1);

/// Watches one mark at a time: where the log was when somebody looked, and since when. Whoever looks after the
/// state has come there sets the next.
pub struct Lag {
    started: Instant,
    /// How many events the state must have read.
    mark: AtomicU64,
    /// Since when, in microseconds from `started`.
    since: AtomicU64,
    /// One sets the mark at a time; nobody waits for it.
    setting: Mutex<()>,
}

impl Default for Lag {
    /// Nothing is behind yet.
    fn default() -> Self {
        Self {
            started: Instant::now(),
            mark: AtomicU64::new(0),
            since: AtomicU64::new(0),
            setting: Mutex::new(()),
        }
    }
}

impl Lag {
    /// Looks, and says whether the state has been behind for longer than [`MAX_STATE_LAG`]. Two loads in most
    /// cases; the clock is read only when the state is behind.
    pub fn is_too_long(&self, position: u64, log_size: u64, clock: impl Fn() -> Instant) -> bool {
        if position >= log_size {
            return false;
        }
        if position < self.mark.load(Ordering::Acquire) {
            let since = Duration::from_micros(self.since.load(Ordering::Relaxed));
            return clock().saturating_duration_since(self.started).saturating_sub(since) > MAX_STATE_LAG;
        }
        let Ok(_setting) = self.setting.try_lock() else {
            return false;
        };
        if position >= self.mark.load(Ordering::Acquire) {
            let since = clock().saturating_duration_since(self.started).as_micros();
            // In this order: whoever sees the mark sees its time.
            self.since
                .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.mark.store(log_size, Ordering::Release);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lag: &Lag, milliseconds: u64) -> impl Fn() -> Instant {
        let now = lag.started + Duration::from_millis(milliseconds);
        move || now
    }

    #[test]
    fn a_state_that_does_not_come_to_where_the_log_was_is_too_old_after_a_second() {
        let lag = Lag::default();
        assert!(!lag.is_too_long(10, 10, at(&lag, 60_000)), "an idle log ages nobody");
        assert!(!lag.is_too_long(10, 11, at(&lag, 100_000)));
        assert!(!lag.is_too_long(10, 11, at(&lag, 101_000)));
        assert!(lag.is_too_long(10, 11, at(&lag, 101_001)));
        assert!(lag.is_too_long(10, 99, at(&lag, 200_000)));
        assert!(!lag.is_too_long(11, 99, at(&lag, 200_000)), "it has come there");
        assert!(lag.is_too_long(98, 99, at(&lag, 201_001)));
        assert!(!lag.is_too_long(99, 99, at(&lag, 300_000)));
    }

    #[test]
    fn a_state_that_follows_a_growing_log_is_never_too_old() {
        let lag = Lag::default();
        for step in 0..10_000 {
            assert!(!lag.is_too_long(step * 10, step * 10 + 500, at(&lag, step * 10)));
        }
    }
}
