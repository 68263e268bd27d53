use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

const ID: &str = "6f6ee7d0-4b0e-5e0a-9a77-2f3f6a2f1a02";
const AUDIENCE: &str = "https://orders.example.com";
const LOOK_UP: &str = "/admin/apis?audience=https%3A%2F%2Forders.example.com";

fn api() -> Value {
    json!({
        "id": ID, "audience": AUDIENCE, "name": "Orders", "signing_alg": "RS256", "token_type": "at+jwt",
        "scopes": [{ "name": "read", "description": "See orders" }, { "name": "update" }],
        "token_lifetime_seconds": 900, "revision": 2, "registered_at": "2026-03-16T10:11:12Z",
        "changed_at": "2026-03-16T10:11:12Z",
    })
}

fn found(server: &FakeServer) -> &FakeServer {
    server.on("GET", LOOK_UP, 200, json!({ "apis": [api()] }))
}

#[test]
fn register_sends_scopes_with_their_descriptions() {
    let server = FakeServer::start();
    server.on("POST", "/admin/apis", 201, api());
    let out = Terminal::of(&server).succeeds(&[
        "api",
        "register",
        AUDIENCE,
        "--name",
        "Orders",
        "--scope",
        "read=See orders",
        "--scope",
        "update",
        "--signing-alg",
        "RS256",
        "--token-type",
        "JWT",
        "--lifetime",
        "900",
    ]);
    assert_eq!(
        server.seen_with_scope("applications:write")[0].json(),
        json!({
            "audience": AUDIENCE, "name": "Orders", "signing_alg": "RS256", "token_type": "JWT",
            "scopes": [{ "name": "read", "description": "See orders" }, { "name": "update" }],
            "token_lifetime_seconds": 900,
        })
    );
    assert!(out.starts_with("Registered https://orders.example.com\n"), "{out}");
    assert!(
        out.contains("\n  scopes                  read  See orders\n                          update\n"),
        "{out}"
    );
}

#[test]
fn list_is_a_table() {
    let server = FakeServer::start();
    let plain = json!({ "id": ID, "audience": "b", "name": "b", "token_type": "JWT" });
    server.on(
        "GET",
        "/admin/apis?limit=100",
        200,
        json!({ "apis": [api(), plain], "next": "n" }),
    );
    let ended = Terminal::of(&server).run(&["api", "list"]);
    server.seen_with_scope("applications:read");
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines[0], "AUDIENCE                    ALG      TYPE    NAME    SCOPES");
    assert_eq!(
        lines[1],
        "https://orders.example.com  RS256    at+jwt  Orders  read update"
    );
    assert_eq!(lines[2], "b                           default  JWT             any");
    assert_eq!(ended.err, "there are more: repeat with --after n\n");
}

#[test]
fn show_takes_a_point_in_the_log() {
    let server = FakeServer::start();
    found(&server).on("GET", &format!("/admin/apis/{ID}?as_of=1234"), 200, api());
    let out = Terminal::of(&server).succeeds(&["api", "show", AUDIENCE, "--as-of", "1234", "--json"]);
    server.seen_with_scope("applications:read");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), api());
}

#[test]
fn change_sends_a_merge_patch() {
    let server = FakeServer::start();
    found(&server).on("PATCH", &format!("/admin/apis/{ID}"), 200, api());
    let out = Terminal::of(&server).succeeds(&[
        "api",
        "change",
        AUDIENCE,
        "--scope",
        "read",
        "--unset",
        "signing_alg",
        "--if-revision",
        "1",
        "--reason",
        "r",
    ]);
    let seen = server.seen_with_scope("applications:read applications:write");
    assert_eq!(seen[1].if_match.as_deref(), Some("\"1\""));
    assert_eq!(
        seen[1].json(),
        json!({ "scopes": [{ "name": "read" }], "signing_alg": null, "reason": "r" })
    );
    assert!(
        out.starts_with("https://orders.example.com is now at revision 2\n"),
        "{out}"
    );
    Terminal::of(&server).fails(2, &["api", "change", AUDIENCE]);
    Terminal::of(&server).fails(2, &["api", "change", AUDIENCE, "--scope", "a", "--unset", "scopes"]);
}

#[test]
fn delete_says_who_still_uses_it() {
    let server = FakeServer::start();
    let problem = json!({ "title": "Conflict", "status": 409, "detail": "orders-worker may still ask for it" });
    found(&server).on("DELETE", &format!("/admin/apis/{ID}"), 409, problem);
    let err = Terminal::of(&server).fails(1, &["api", "delete", AUDIENCE, "--yes"]);
    assert_eq!(err, "error: orders-worker may still ask for it\n");
}

#[test]
fn history_of_a_deleted_api_is_found_in_the_trail() {
    let server = FakeServer::start();
    let registered = json!({ "type": "ApiRegistered", "data": { "audience": AUDIENCE, "api_id": ID } });
    server
        .on("GET", LOOK_UP, 200, json!({ "apis": [] }))
        .on(
            "GET",
            "/audit/events?type=ApiRegistered&limit=1000",
            200,
            json!({ "events": [registered] }),
        )
        .on(
            "GET",
            &format!("/admin/apis/{ID}/history"),
            200,
            json!({ "events": [] }),
        );
    Terminal::of(&server).succeeds(&["api", "history", AUDIENCE]);
    server.seen_with_scope("applications:read audit:read");
}
