//! Chance that can be repeated: the same seed makes the same choices. What the threads of a server and its
//! clients make of them differs from run to run, so a seed brings a run back near, not exactly.
#![allow(dead_code)] // other test targets use a part of this

use std::time::{Duration, SystemTime};

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From `GRANTLOG_TEST_SEED`, or from the clock; says which, for the test's output.
    pub fn seeded(test: &str) -> Self {
        let seed = match std::env::var("GRANTLOG_TEST_SEED") {
            Ok(text) => text.parse().expect("GRANTLOG_TEST_SEED is a number"),
            Err(_) => SystemTime::UNIX_EPOCH
                .elapsed()
                .expect("a clock after 1970")
                .as_micros() as u64,
        };
        println!("{test}: GRANTLOG_TEST_SEED={seed}");
        Self(seed)
    }

    /// Always the same.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, for somebody else.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A span of `from` to `to` milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1_000 + self.next() % ((to - from) * 1_000))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How many rounds a test with random kills has: `GRANTLOG_TEST_ROUNDS`, or what it takes by itself.
pub fn rounds(usual: usize) -> usize {
    std::env::var("GRANTLOG_TEST_ROUNDS").map_or(usual, |text| text.parse().expect("GRANTLOG_TEST_ROUNDS is a number"))
}
