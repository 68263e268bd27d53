//! Slows down whoever guesses or floods. Failures are counted per client_id and source, and once there are too
//! many in a window, that pair is answered `slow_down` until the window ends, whatever it sends. All refusals of
//! a source that proved nothing are counted, too: beyond a budget they are `slow_down` as well, but a request of
//! the same source that is in order is served. What is suppressed is counted, not recorded one by one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pairs that are looked at to find one to forget, when there are too many: bounds the work per failure.
const EVICTION_CANDIDATES: usize = 64;

/// When somebody is slowed down.
#[derive(Debug, Clone, Copy)]
pub struct ThrottleSettings {
    /// Failures per window that are still answered as they are.
    pub max_failures: u32,
    /// Refusals of one source per window, whichever clients they name, that are recorded one by one.
    pub max_refusals_per_source: u32,
    /// The window.
    pub window: Duration,
    /// Pairs of client_id and source, and sources, that are counted at one time.
    pub max_tracked: usize,
}

/// Counts failures.
pub struct Throttle {
    settings: ThrottleSettings,
    windows: Mutex<HashMap<Key, Window>>,
    is_tracking: AtomicBool,
}

/// An IPv6 client has at least a /64 to choose addresses from: those count as one source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `None`: all that comes from the source.
    client_id: Option<String>,
    network: IpAddr,
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    failures: u32,
    suppressed: u64,
    /// Suppressed before this window, and not on the record yet.
    unreported: u64,
    source: IpAddr,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is looked at.
    Pass,
    /// It is not looked at.
    SlowDown {
        /// Until then.
        retry_after: Duration,
        /// Whether it is the first in its window: that one is recorded at once.
        is_first: bool,
    },
}

/// Requests that were suppressed in a window that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// The client_id as presented; `None`: whichever.
    pub client_id: Option<String>,
    /// The address that started it.
    pub source: IpAddr,
    /// How many, without the first, which is recorded already.
    pub requests: u64,
}

impl Throttle {
    /// Counts nothing yet.
    pub fn new(settings: ThrottleSettings) -> Self {
        Self {
            settings,
            windows: Mutex::new(HashMap::new()),
            is_tracking: AtomicBool::new(false),
        }
    }

    /// The window, in seconds.
    pub fn window_seconds(&self) -> u32 {
        u32::try_from(self.settings.window.as_secs()).unwrap_or(u32::MAX)
    }

    /// Whether a request for this client from this source is looked at.
    pub fn admit(&self, client_id: &str, source: IpAddr, now: Instant) -> Verdict {
        // Most of the time nobody has failed: no lock, no copy.
        if !self.is_tracking.load(Ordering::Relaxed) {
            return Verdict::Pass;
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        match windows.get_mut(&Key::of(Some(client_id), source)) {
            Some(window) if window.ends > now && window.failures >= self.settings.max_failures => {
                window.suppressed += 1;
                Verdict::SlowDown {
                    retry_after: window.ends - now,
                    is_first: window.suppressed == 1,
                }
            }
            _ => Verdict::Pass,
        }
    }

    /// Counts a failure.
    pub fn failed(&self, client_id: &str, source: IpAddr, now: Instant) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        self.count(&mut windows, Key::of(Some(client_id), source), source, now);
    }

    /// Counts a refusal of a request that proved nothing, and says whether the source has any left.
    pub fn refused(&self, source: IpAddr, now: Instant) -> Verdict {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        match self.count(&mut windows, Key::of(None, source), source, now) {
            Some(window) if window.failures > self.settings.max_refusals_per_source => {
                window.suppressed += 1;
                Verdict::SlowDown {
                    retry_after: window.ends.saturating_duration_since(now),
                    is_first: window.suppressed == 1,
                }
            }
            _ => Verdict::Pass,
        }
    }

    /// One more in the key's window; `None` when there is no room to count it.
    fn count<'a>(
        &self,
        windows: &'a mut HashMap<Key, Window>,
        key: Key,
        source: IpAddr,
        now: Instant,
    ) -> Option<&'a mut Window> {
        if windows.len() >= self.settings.max_tracked && !windows.contains_key(&key) {
            // A flood of invented client_ids must not push out those that are slowed down.
            let few = windows.iter().take(EVICTION_CANDIDATES);
            let disposable = few
                .into_iter()
                .find(|(_, window)| window.suppressed == 0 && window.unreported == 0)
                .map(|(key, _)| key.clone());
            windows.remove(&disposable?);
        }
        let window = windows.entry(key).or_insert(Window {
            ends: now + self.settings.window,
            failures: 0,
            suppressed: 0,
            unreported: 0,
            source,
        });
        if window.ends <= now {
            window.unreported = window.to_report();
            (window.failures, window.suppressed) = (0, 0);
            window.ends = now + self.settings.window;
        }
        window.failures = window.failures.saturating_add(1);
        self.is_tracking.store(true, Ordering::Relaxed);
        Some(window)
    }

    /// Forgets windows that have ended until `limit` of them had something suppressed, and says what: the caller
    /// puts it on the record, or back.
    pub fn ended(&self, now: Instant, limit: usize) -> Vec<Suppressed> {
        self.take(|window| window.ends <= now, limit)
    }

    /// The same, whether they have ended or not.
    pub fn drain(&self, limit: usize) -> Vec<Suppressed> {
        self.take(|_| true, limit)
    }

    /// Counts again what could not be recorded, to be reported another time.
    pub fn put_back(&self, suppressed: Suppressed, now: Instant) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let Suppressed {
            client_id,
            source,
            requests,
        } = suppressed;
        // One that has ended: nobody is slowed down by what is merely not reported.
        let window = windows.entry(Key::of(client_id.as_deref(), source)).or_insert(Window {
            ends: now,
            failures: 0,
            suppressed: 0,
            unreported: 0,
            source,
        });
        window.unreported = window.unreported.saturating_add(requests);
        self.is_tracking.store(!windows.is_empty(), Ordering::Relaxed);
    }

    fn take(&self, is_over: impl Fn(&Window) -> bool, limit: usize) -> Vec<Suppressed> {
        if !self.is_tracking.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<Suppressed> = windows
            .extract_if(|_, window| is_over(window))
            .filter_map(|(key, window)| key.suppressed(window.source, window.to_report()))
            .take(limit)
            .collect();
        // Whoever keeps on failing is in a new window before the one that ended is reported.
        let unreported = windows
            .iter_mut()
            .filter_map(|(key, window)| key.suppressed(window.source, std::mem::take(&mut window.unreported)));
        let room = limit - taken.len();
        taken.extend(unreported.take(room));
        self.is_tracking.store(!windows.is_empty(), Ordering::Relaxed);
        taken
    }
}

impl Window {
    /// All but the first of the window, which is recorded at once.
    fn to_report(&self) -> u64 {
        self.unreported.saturating_add(self.suppressed.saturating_sub(1))
    }
}

impl Key {
    fn of(client_id: Option<&str>, source: IpAddr) -> Self {
        let network = match source {
            IpAddr::V4(_) => source,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        };
        Self {
            client_id: client_id.map(str::to_owned),
            network,
        }
    }

    fn suppressed(&self, source: IpAddr, requests: u64) -> Option<Suppressed> {
        (requests > 0).then(|| Suppressed {
            client_id: self.client_id.clone(),
            source,
            requests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn throttle(max_failures: u32, max_tracked: usize) -> Throttle {
        Throttle::new(ThrottleSettings {
            max_failures,
            max_refusals_per_source: 3,
            window: Duration::from_secs(60),
            max_tracked,
        })
    }

    #[test]
    fn only_the_pair_that_failed_too_often_is_slowed_down() {
        let (throttle, start) = (throttle(2, 10), Instant::now());
        throttle.failed("a", SOURCE, start);
        assert_eq!(throttle.admit("a", SOURCE, start), Verdict::Pass);
        throttle.failed("a", SOURCE, start);
        let slow = Verdict::SlowDown {
            retry_after: Duration::from_secs(60),
            is_first: true,
        };
        assert_eq!(throttle.admit("a", SOURCE, start), slow);
        assert_eq!(throttle.admit("a", OTHER, start), Verdict::Pass);
        assert_eq!(throttle.admit("b", SOURCE, start), Verdict::Pass);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_source() {
        let (throttle, start) = (throttle(1, 10), Instant::now());
        throttle.failed("a", "2001:db8::1".parse().unwrap(), start);
        assert!(matches!(
            throttle.admit("a", "2001:db8::2".parse().unwrap(), start),
            Verdict::SlowDown { .. }
        ));
        assert_eq!(
            throttle.admit("a", "2001:db8:0:1::1".parse().unwrap(), start),
            Verdict::Pass
        );
    }

    #[test]
    fn a_source_has_a_budget_of_refusals_whatever_it_names() {
        let (throttle, start) = (throttle(100, 10), Instant::now());
        for _ in 0..3 {
            assert_eq!(throttle.refused(SOURCE, start), Verdict::Pass);
        }
        let slow = |is_first| Verdict::SlowDown {
            retry_after: Duration::from_secs(60),
            is_first,
        };
        assert_eq!(throttle.refused(SOURCE, start), slow(true));
        assert_eq!(throttle.refused(SOURCE, start), slow(false));
        assert_eq!(throttle.refused(OTHER, start), Verdict::Pass);
        // A request that is in order is not even asked for.
        assert_eq!(throttle.admit("a", SOURCE, start), Verdict::Pass);
        let end = start + Duration::from_secs(60);
        let suppressed = Suppressed {
            client_id: None,
            source: SOURCE,
            requests: 1,
        };
        assert_eq!(throttle.ended(end, 9), [suppressed]);
        assert_eq!(throttle.refused(SOURCE, end), Verdict::Pass);
    }

    #[test]
    fn a_window_ends_and_says_what_was_suppressed_after_the_first() {
        let (throttle, start) = (throttle(1, 10), Instant::now());
        throttle.failed("a", SOURCE, start);
        for _ in 0..5 {
            throttle.admit("a", SOURCE, start);
        }
        assert_eq!(throttle.ended(start + Duration::from_secs(59), 9), []);
        let end = start + Duration::from_secs(60);
        let suppressed = Suppressed {
            client_id: Some("a".into()),
            source: SOURCE,
            requests: 4,
        };
        assert_eq!(throttle.ended(end, 9), [suppressed]);
        assert_eq!(throttle.admit("a", SOURCE, end), Verdict::Pass);
        assert_eq!(throttle.ended(end, 9), []);
    }

    #[test]
    fn what_could_not_be_recorded_is_counted_again_and_slows_nobody_down() {
        let (throttle, start) = (throttle(1, 10), Instant::now());
        let suppressed = |requests| Suppressed {
            client_id: Some("a".into()),
            source: SOURCE,
            requests,
        };
        throttle.put_back(suppressed(4), start);
        assert_eq!(throttle.admit("a", SOURCE, start), Verdict::Pass);
        throttle.put_back(suppressed(3), start);
        assert_eq!(throttle.ended(start, 9), [suppressed(7)]);
        assert_eq!(throttle.ended(start, 9), []);
    }

    #[test]
    fn a_client_that_goes_on_failing_is_slowed_down_again_and_its_last_window_is_reported() {
        let (throttle, start) = (throttle(1, 10), Instant::now());
        throttle.failed("a", SOURCE, start);
        for _ in 0..5 {
            throttle.admit("a", SOURCE, start);
        }
        let end = start + Duration::from_secs(60);
        throttle.failed("a", SOURCE, end);
        assert!(matches!(
            throttle.admit("a", SOURCE, end),
            Verdict::SlowDown { is_first: true, .. }
        ));
        throttle.admit("a", SOURCE, end);
        assert_eq!(throttle.ended(end, 9)[0].requests, 4);
        assert_eq!(throttle.ended(end, 9), [], "the new window has not ended");
        assert_eq!(throttle.drain(9)[0].requests, 1);
    }

    #[test]
    fn no_more_is_taken_than_asked_for_and_nothing_is_lost() {
        let (throttle, start) = (throttle(1, 100), Instant::now());
        for client in 0..100 {
            throttle.failed(&client.to_string(), SOURCE, start);
            // Every other one has something to report.
            for _ in 0..client % 2 * 3 {
                throttle.admit(&client.to_string(), SOURCE, start);
            }
        }
        let end = start + Duration::from_secs(60);
        let mut taken: Vec<usize> = Vec::new();
        while taken.last() != Some(&0) {
            taken.push(throttle.ended(end, 9).len());
        }
        assert_eq!(taken, [9, 9, 9, 9, 9, 5, 0]);
        assert!(!throttle.is_tracking.load(Ordering::Relaxed));
    }

    #[test]
    fn invented_client_ids_push_out_neither_memory_nor_those_that_are_slowed_down() {
        let (throttle, start) = (throttle(1, 100), Instant::now());
        throttle.failed("victim", SOURCE, start);
        throttle.admit("victim", SOURCE, start);
        for invented in 0..10_000 {
            throttle.failed(&invented.to_string(), SOURCE, start);
        }
        assert_eq!(throttle.windows.lock().unwrap().len(), 100);
        assert!(matches!(
            throttle.admit("victim", SOURCE, start),
            Verdict::SlowDown { is_first: false, .. }
        ));
    }
}
