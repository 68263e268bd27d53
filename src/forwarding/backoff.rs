//! How long to wait before the next attempt.

use std::time::Duration;

/// The pause after the first failure, before chance has its part.
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A sink that asks for more patience than this is asked again after it.
pub const MAX_ASKED_PAUSE: Duration = Duration::from_secs(3_600);

/// Doubles from failure to failure, up to a limit, and leaves half of it to chance, so that many servers do not
/// come back to a recovering sink at the same moment.
#[derive(Debug)]
pub struct Backoff {
    limit: Duration,
    failures: u32,
}

impl Backoff {
    /// Never longer than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, failures: 0 }
    }

    /// The pause after one more failure; at least what the sink has asked for.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let whole = FIRST_PAUSE.saturating_mul(1 << doublings).min(self.limit);
        let pause = whole / 2 + (whole / 2).mul_f64(chance());
        asked.map_or(pause, |asked| asked.min(MAX_ASKED_PAUSE).max(pause))
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// From 0 to 1. Without randomness there is no jitter, which is no reason not to try again.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_with_half_left_to_chance() {
        let limit = Duration::from_secs(60);
        let mut backoff = Backoff::new(limit);
        let mut whole = FIRST_PAUSE;
        for _ in 0..100 {
            let pause = backoff.next(None);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(limit);
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST_PAUSE);
    }

    #[test]
    fn a_sink_that_asks_for_patience_gets_it_within_bounds() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        assert_eq!(backoff.next(Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(backoff.next(Some(Duration::MAX)), MAX_ASKED_PAUSE);
        assert!(backoff.next(Some(Duration::ZERO)) >= Duration::from_millis(500));
    }
}
