//! The whole server as `main` starts it, asked over HTTP: the contract as callers see it, and what it leaves in
//! the log. One module per file of `src/http`, and some for what belongs to no single route.

#[path = "../running_server/mod.rs"]
mod running_server;

mod raw;
mod scene;

mod token;

mod token_operations;

mod reported_calls;

mod metadata;

mod admin_applications;

mod admin_tokens;

mod admin_reference_tokens;

mod admin_sessions;

mod usage;

mod reports;

mod time_travel;

mod admin_apis;

mod admin_keys;

mod duties;

mod attack_tokens;

mod sessions;

mod audit;

mod audit_tail;

mod audit_export;

mod transparency;

mod health;

mod node_roles;

mod lockout;

mod origin;

mod issuer_with_path;

mod hostile_input;

mod secrecy;

mod starting_and_stopping;

mod tls;

mod same_time;
