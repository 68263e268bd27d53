//! What goes wrong on purpose.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::time::Duration;

use tonic::Status;

/// How long something is delayed, each time anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Delay {
    /// Not at all.
    #[default]
    None,
    /// Always as long.
    Fixed(Duration),
    /// Anything in between, so that what was asked later may be answered earlier.
    Random(Range<Duration>),
}

impl Delay {
    pub(crate) fn draw(&self) -> Duration {
        match self {
            Delay::None => Duration::ZERO,
            Delay::Fixed(duration) => *duration,
            Delay::Random(range) => {
                let width = range.end.saturating_sub(range.start).as_nanos().max(1);
                // A fresh state hashes nothing to a random number.
                let random = u128::from(RandomState::new().build_hasher().finish());
                range.start + Duration::from_nanos(u64::try_from(random % width).unwrap_or(0))
            }
        }
    }
}

/// How an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It never comes.
    Silence,
    /// The connection is reset instead.
    Reset,
}

/// What becomes of the appends that a node has taken and not answered when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderWay {
    /// They are in the log, and nobody is told.
    Committed,
    /// They are not in the log, and nobody is told.
    NotCommitted,
}

/// The faults that are on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) hold_appends: bool,
    pub(crate) lose_answers: Option<(usize, Loss)>,
    pub(crate) refuse_appends: Option<(usize, Status)>,
    pub(crate) commits: Delay,
    pub(crate) confirmations: Delay,
    pub(crate) answers: Delay,
    pub(crate) reads: Delay,
    pub(crate) hold_ends_of_reads: bool,
    pub(crate) stall_subscriptions: bool,
    /// How often subscriptions were ended.
    pub(crate) ended_subscriptions: u64,
}

impl Faults {
    pub(crate) fn take_loss(&mut self) -> Option<Loss> {
        take(&mut self.lose_answers)
    }

    pub(crate) fn take_refusal(&mut self) -> Option<Status> {
        take(&mut self.refuse_appends)
    }
}

fn take<T: Clone>(times: &mut Option<(usize, T)>) -> Option<T> {
    let (left, what) = times.as_mut()?;
    let what = what.clone();
    *left = left.saturating_sub(1);
    if *left == 0 {
        *times = None;
    }
    Some(what)
}
