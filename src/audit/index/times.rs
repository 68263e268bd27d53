//! The times of a segment's events. They may step back, so a segment keeps all of them: two or three bytes
//! each, and a search by time is exact without opening an event.

use super::varint;

/// The earliest and the latest time of a segment, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) struct TimeBounds {
    pub earliest: i64,
    pub latest: i64,
}

impl TimeBounds {
    /// `None` when there is no time at all.
    pub fn of(times: &[i64]) -> Option<Self> {
        Some(Self {
            earliest: times.iter().copied().min()?,
            latest: times.iter().copied().max()?,
        })
    }
}

/// From `since` on and before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::audit) struct TimeWindow {
    pub since: Option<i64>,
    pub until: Option<i64>,
}

impl TimeWindow {
    pub fn contains(&self, time: i64) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }

    /// Whether some time within the bounds may lie in the window.
    pub fn touches(&self, bounds: TimeBounds) -> bool {
        self.since.is_none_or(|since| since <= bounds.latest) && self.until.is_none_or(|until| bounds.earliest < until)
    }

    /// Whether every time within the bounds lies in the window.
    pub fn covers(&self, bounds: TimeBounds) -> bool {
        self.contains(bounds.earliest) && self.contains(bounds.latest)
    }
}

/// Each time as its distance from the one before it (the first from 0), zigzag, in varints.
pub(super) fn encode(times: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(times.len() * 3 + 8);
    let mut before = 0_i64;
    for time in times {
        let distance = time.wrapping_sub(before);
        varint::push(&mut bytes, ((distance << 1) ^ (distance >> 63)) as u64); // zigzag: the same 64 bits
        before = *time;
    }
    bytes
}

/// The times that `encode` wrote; `None` when the bytes are not its work or not this many times.
pub(super) fn decode(mut bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    let mut times = Vec::with_capacity(count);
    let mut before = 0_i64;
    while !bytes.is_empty() {
        let zigzag = varint::take(&mut bytes)?;
        before = before.wrapping_add((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        times.push(before);
    }
    (times.len() == count).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_survive_whichever_way_they_step(times in proptest::collection::vec(any::<i64>(), 0..50)) {
            prop_assert_eq!(decode(&encode(&times), times.len()), Some(times));
        }

        #[test]
        fn a_window_touches_and_covers_what_it_says(
            times in proptest::collection::vec(0..20_i64, 1..6),
            since in proptest::option::of(0..20_i64),
            until in proptest::option::of(0..20_i64),
        ) {
            let (window, bounds) = (TimeWindow { since, until }, TimeBounds::of(&times).unwrap());
            if times.iter().any(|time| window.contains(*time)) {
                prop_assert!(window.touches(bounds));
            }
            if window.covers(bounds) {
                prop_assert!(times.iter().all(|time| window.contains(*time)));
            }
        }
    }

    #[test]
    fn a_busy_second_costs_two_bytes_per_event() {
        let start = 1_770_000_000_000_000;
        let times: Vec<i64> = (0..15_000).map(|at| start + at * 66).collect();
        assert!(encode(&times).len() < 15_000 * 2 + 16);
    }

    #[test]
    fn another_number_of_times_is_refused() {
        assert_eq!(decode(&encode(&[1, 2]), 3), None);
    }
}
