use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

fn sinks() -> Value {
    json!({ "sinks": [
        { "name": "siem", "kind": "webhook", "target": "https://siem.example.com:443", "filter": "", "lag": 0,
          "state": "delivering", "acknowledged_through": 12, "delivered": 12, "rejected": 0, "failures": 0,
          "last_delivery": "2026-03-16T10:11:12.5Z", "last_error": null, "next_attempt": null },
        { "name": "logs", "kind": "syslog", "target": "tls://logs.example.com:6514", "filter": "", "lag": 12,
          "state": "retrying", "acknowledged_through": 0, "delivered": 0, "rejected": 0, "failures": 3,
          "last_delivery": null, "next_attempt": "2026-03-16T10:11:14Z",
          "last_error": { "class": "tls", "message": "unknown issuer", "time": "2026-03-16T10:11:13Z" } },
    ] })
}

#[test]
fn forwarding_shows_the_state_and_the_lag_of_each_sink() {
    let server = FakeServer::start();
    server.on("GET", "/audit/forwarding", 200, sinks());
    let out = Terminal::of(&server).succeeds(&["audit", "forwarding"]);
    server.seen_with_scope("audit:read");
    let lines: Vec<_> = out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "NAME KIND STATE LAG LAST DELIVERY TARGET LAST ERROR",
            "siem webhook delivering 0 2026-03-16T10:11:12Z https://siem.example.com:443",
            "logs syslog retrying 12 tls://logs.example.com:6514 2026-03-16T10:11:13Z tls: unknown issuer",
        ]
    );
    server.on("GET", "/audit/forwarding", 200, sinks());
    let out = Terminal::of(&server).succeeds(&["audit", "forwarding", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), sinks());
}

#[test]
fn a_server_that_forwards_nothing_is_told_of() {
    let server = FakeServer::start();
    server.on("GET", "/audit/forwarding", 200, json!({ "sinks": [] }));
    let ended = Terminal::of(&server).run(&["audit", "forwarding"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, ""));
    assert!(ended.err.contains("nothing is forwarded"), "{}", ended.err);
}
