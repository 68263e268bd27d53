//! Forward auth: `/verify` as a proxy asks it, and a real nginx that asks, configured as `docs/forward-auth.md` says.

#[path = "../running_server/mod.rs"]
mod running_server;

#[allow(dead_code)] // this target uses a part of it
#[path = "../http/scene.rs"]
mod scene;

#[allow(dead_code)] // this target needs no power failure
#[path = "../faults/shim.rs"]
mod shim;

mod nginx;
mod upstream;

mod asked_directly;

mod behind_nginx;

mod reference_tokens;
