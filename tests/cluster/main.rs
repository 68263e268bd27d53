//! Many Grantlog servers on one KurrentDB: the real binary, each in a process with a data folder of its own, on the
//! double of a KurrentDB cluster that the repository has, which can be broken in every way; and the store alone, held
//! to what the official client does wrong.
//!
//! `GRANTLOG_TEST_ROUNDS` says how many rounds the random tests have, `GRANTLOG_TEST_SEED` repeats one. What breaks
//! nothing but Grantlog itself runs on a real server too, at `GRANTLOG_TEST_KURRENTDB_URL`.
#![cfg(target_os = "linux")]

mod entered;
mod site;

mod nodes;

mod leader;

mod partition;

mod kills;

mod migration;

mod supervision;

#[path = "../running_server/mod.rs"]
mod running_server;

#[path = "../durability/check.rs"]
mod check;

#[path = "../durability/clients.rs"]
mod clients;

#[path = "../durability/log.rs"]
mod log;

#[path = "../durability/random.rs"]
mod random;

#[path = "../durability/told.rs"]
mod told;

#[path = "../durability/upstream.rs"]
mod upstream;
