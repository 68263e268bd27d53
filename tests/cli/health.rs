use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

fn readiness(reasons: &[&str]) -> Value {
    json!({ "ready": reasons.is_empty(), "reasons": reasons, "log_size": 12, "state_through": 12 })
}

#[test]
fn a_ready_server_is_told_without_credentials() {
    let server = FakeServer::start();
    server.on("GET", "/health/ready", 200, readiness(&[]));
    assert_eq!(Terminal::of(&server).succeeds(&["health"]), "ready, 12 events\n");
    let asked = server.seen();
    assert_eq!(asked.len(), 1, "no token was asked for");
    server.on("GET", "/health/ready", 200, readiness(&[]));
    let document = Terminal::of(&server).succeeds(&["health", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap(), readiness(&[]));
}

#[test]
fn a_server_that_is_not_ready_says_why_and_the_command_fails() {
    let server = FakeServer::start();
    let reasons = ["the KurrentDB has not been heard of for 6 s", "the state is behind"];
    server.on("GET", "/health/ready", 503, readiness(&reasons));
    let told = Terminal::of(&server).fails(1, &["health"]);
    assert!(
        told.contains("error: not ready: the KurrentDB has not been heard of for 6 s; the state is behind"),
        "{told}"
    );
}

#[test]
fn what_is_no_grantlog_is_not_ready() {
    let server = FakeServer::start();
    let headers = vec![("Content-Type", "text/html".to_owned())];
    server.on_raw("GET", "/health/ready", 200, headers, "<h1>It works!</h1>".to_owned());
    Terminal::of(&server).fails(1, &["health"]);
}
