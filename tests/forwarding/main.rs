//! Audit events leave as they happen: the real server, and receivers of each kind that go away, hang and misbehave.

#[path = "../running_server/mod.rs"]
mod running_server;

#[allow(dead_code)] // the HTTP tests use the rest of it
#[path = "../http/scene.rs"]
mod scene;

mod receiver;

mod webhook_receiver;

mod otlp_receiver;

mod rsyslog;

mod at_least_once;

mod tokens_do_not_wait;

mod hostile_receivers;

mod what_is_sent;

mod what_is_shown;
