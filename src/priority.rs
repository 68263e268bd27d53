//! Who goes first when the processor is short: whoever waits for a token.

/// By how much those step back who follow the log. At 5 the scheduler gives a thread about a third of what another
/// gets that wants as much: they fall behind a little while the machine is full, and never stand still.
const NICENESS: i32 = 5;

/// Lets the calling thread, and those that it starts, give way to the threads that answer requests. On Linux a
/// thread's own; elsewhere, or where it is not allowed, nothing changes: it is a courtesy.
pub fn give_way() {
    if cfg!(target_os = "linux") {
        let _ = rustix::process::nice(NICENESS);
    }
}
