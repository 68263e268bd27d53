use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

fn keys() -> Value {
    json!({ "keys": [
        { "kid": "2026-03-16", "alg": "ES256", "state": "superseded", "added_at": "2026-03-16T10:11:12.5Z",
          "at": "2026-06-14T10:11:12Z", "public_jwk": {} },
        { "kid": "2026-06-01", "alg": "ES256", "state": "active", "added_at": "2026-06-01T00:00:00Z",
          "since": "2026-06-14T10:11:12Z", "public_jwk": {} },
        { "kid": "2026-09-01", "alg": "ES256", "state": "announced", "added_at": "2026-09-01T00:00:00Z" },
    ] })
}

#[test]
fn list_shows_the_state_of_each_key() {
    let server = FakeServer::start();
    server.on("GET", "/admin/signing-keys", 200, keys());
    let out = Terminal::of(&server).succeeds(&["key", "list"]);
    server.seen_with_scope("keys:write");
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "KID         ALG    STATE       SINCE                 ADDED",
            "2026-03-16  ES256  superseded  2026-06-14T10:11:12Z  2026-03-16T10:11:12Z",
            "2026-06-01  ES256  active      2026-06-14T10:11:12Z  2026-06-01T00:00:00Z",
            "2026-09-01  ES256  announced   2026-09-01T00:00:00Z  2026-09-01T00:00:00Z",
        ]
    );
}

#[test]
fn rotate_names_the_algorithm_only_when_it_was_given() {
    for (arguments, body) in [
        (&["key", "rotate"][..], json!({})),
        (
            &["key", "rotate", "--alg", "RS256", "--reason", "yearly"],
            json!({ "alg": "RS256", "reason": "yearly" }),
        ),
    ] {
        let server = FakeServer::start();
        server.on("POST", "/admin/signing-keys/rotate", 200, keys());
        let out = Terminal::of(&server).succeeds(arguments);
        assert_eq!(server.seen_with_scope("keys:write")[0].json(), body);
        assert!(out.contains("active"), "{out}");
    }
}

#[test]
fn retire_names_the_key_in_the_path() {
    let server = FakeServer::start();
    server.on("POST", "/admin/signing-keys/2026-03-16-rs256.2/retire", 200, keys());
    let out = Terminal::of(&server).succeeds(&["key", "retire", "2026-03-16-rs256.2", "--reason", "stolen", "--json"]);
    assert_eq!(
        server.seen_with_scope("keys:write")[0].json(),
        json!({ "reason": "stolen" })
    );
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), keys());
    assert_eq!(Terminal::of(&server).run(&["key", "retire", ".."]).code, 2);
    server.on("POST", "/admin/signing-keys/k/retire", 204, Value::Null);
    assert_eq!(
        Terminal::of(&server).succeeds(&["key", "retire", "k"]),
        "k is retired\n"
    );
}
