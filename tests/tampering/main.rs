//! Whatever is done to a data folder that the real server wrote, `grantlog audit verify` names the first event,
//! tile or checkpoint that is not what it was, and exits 1. An untouched folder passes.

#[path = "../durability/facts.rs"]
#[allow(dead_code)] // what this test needs of it is `fill`
mod facts;
#[path = "../running_server/mod.rs"]
mod running_server;

mod folder;

mod events;

mod evidence;

mod outsiders;
