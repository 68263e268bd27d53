//! Clients that we did not write: here those in Rust. `scripts/test` runs those in Python and Node beside it.

#[path = "../running_server/mod.rs"]
mod running_server;

mod oauth2_crate;

mod openapi_document;
