//! The whole server in front of upstreams that the tests play themselves, byte for byte, so that they can misbehave.

#[path = "../running_server/mod.rs"]
mod running_server;

#[allow(dead_code)] // each test target uses its own part of this
#[path = "../http/raw.rs"]
mod raw;

#[allow(dead_code)] // each test target uses its own part of this
#[path = "../http/scene.rs"]
mod scene;

#[allow(dead_code)] // each test target uses its own part of this
#[path = "../faults/shim.rs"]
mod shim;

mod behind;
mod upstream;

mod routes;

mod headers;

mod paths;

mod streaming;

mod smuggling;

mod misbehaving_upstreams;

mod misbehaving_callers;

mod tls_upstream;

mod http2;

mod on_the_record;
