//! Chance that is the same in every run.

use grantlog_projections::values::Timestamp;
use uuid::Uuid;

/// Xorshift.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 on and below 1.
    pub fn part(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 on and below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.bits() % count as u64) as usize
    }

    /// Whether this is one time out of so many.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.bits().is_multiple_of(times)
    }

    /// A UUIDv7 of this time.
    pub fn uuid(&mut self, time: Timestamp) -> Uuid {
        let [high, low] = [self.bits().to_be_bytes(), self.bits().to_be_bytes()];
        let [a, b, c, d, e, f, g, h] = high;
        let [i, j, ..] = low;
        let milliseconds = time.unix_micros().unsigned_abs() / 1_000;
        uuid::Builder::from_unix_timestamp_millis(milliseconds, &[a, b, c, d, e, f, g, h, i, j]).into_uuid()
    }

    /// Characters of base64url.
    pub fn text(&mut self, characters: usize) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..characters)
            .map(|_| char::from(ALPHABET[(self.bits() % 64) as usize]))
            .collect()
    }
}
