//! Who goes first when the processor is short: whoever waits for a token.

/// What those step back to who follow the log, or read it for somebody who looks back. At 8 the scheduler gives a
/// thread about a sixth of what another gets that wants as much: on a machine that is full of token requests they keep
/// up, or fall behind a little, and never stand still.
const NICENESS: i32 = 8;

/// Lets the calling thread, and those that it starts from now on, give way to the threads that answer token requests.
/// Idempotent. On Linux priorities are a thread's own; elsewhere, or where it is not allowed, nothing changes: it is a
/// courtesy.
pub fn give_way() {
    if cfg!(target_os = "linux") {
        let _ = rustix::process::setpriority_process(None, NICENESS);
    }
}
