//! Few are busy, most are quiet.

use crate::random::Random;

/// Picks 0 most often, and `n` one n-th as often.
#[derive(Debug, Clone)]
pub struct Zipf {
    up_to: Vec<f64>,
}

impl Zipf {
    /// From 0 on and below `count`.
    pub fn of(count: usize) -> Self {
        let mut sum = 0.0;
        let up_to = (1..=count)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        Self { up_to }
    }

    /// One of them.
    pub fn pick(&self, random: &mut Random) -> usize {
        let sum = self.up_to.last().copied().unwrap_or_default();
        let at = random.part() * sum;
        self.up_to
            .partition_point(|up_to| *up_to <= at)
            .min(self.up_to.len() - 1)
    }
}
