//! How long to wait before the same is tried again.

use std::time::Duration;

/// The first wait.
const SHORTEST: Duration = Duration::from_millis(250);
/// The longest: whoever waits for a server that starts sees it soon.
const LONGEST: Duration = Duration::from_secs(15);

/// Waits that double, up to a bound.
pub struct BackOff(Duration);

impl BackOff {
    /// Nothing has failed yet.
    pub fn new() -> Self {
        Self(SHORTEST)
    }

    /// How long to wait now.
    pub fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        wait
    }

    /// It has worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.0 = SHORTEST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let mut back_off = BackOff::new();
        let waits: Vec<u128> = (0..9).map(|_| back_off.next().as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        back_off.reset();
        assert_eq!(back_off.next(), SHORTEST);
    }
}
