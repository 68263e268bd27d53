//! How far behind the log an answer is.

use crate::cli::Console;

/// Events behind the log that nobody is told of: the call that asks is itself the newest one.
const OWN_EVENTS: u64 = 1;

/// Tells that an answer does not speak about the newest events: they are not `searched` yet, say.
pub fn tell_of_lag(done: &str, indexed_through: Option<u64>, log_size: Option<u64>, console: &mut Console<'_>) {
    if let (Some(through), Some(size)) = (indexed_through, log_size) {
        let missing = size.saturating_sub(through);
        if missing > OWN_EVENTS {
            console.note(&format!("not {done} yet: the newest {missing} events of the log"));
        }
    }
}
