//! Nothing that a client was told may be lost: the whole server, killed, stopped, on disks that fail, and over
//! projections that are gone or damaged.
//!
//! `GRANTLOG_TEST_ROUNDS` (100) says how many rounds the random tests have, `GRANTLOG_TEST_SEED` repeats one.
#![cfg(target_os = "linux")]

mod check;
mod clients;
mod facts;
mod log;
mod random;
mod scene;
mod served;
mod told;
mod upstream;

mod kills;

mod notices;

mod failing_disk;

mod rebuilt;

mod one_server;

mod fake_server;

mod forward_auth;

#[path = "../running_server/mod.rs"]
mod running_server;

#[path = "../faults/shim.rs"]
mod shim;
