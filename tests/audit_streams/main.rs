//! Tails and exports of the audit trail while the server is under load, is killed and comes back: what a reader has
//! in the end is what the log has.

#[path = "../running_server/mod.rs"]
mod running_server;

mod long_log;

mod restarts;

mod slow_readers;
