use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

const ID: &str = "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d";
const APP_ID: &str = "6f6ee7d0-4b0e-5e0a-9a77-2f3f6a2f1a01";
const APP: &str = "orders";

fn token() -> Value {
    json!({
        "id": ID, "kind": "jwt", "client_id": APP, "application_id": APP_ID, "status": "active",
        "scope": "read update", "audiences": ["https://orders.example.com"], "system_user": "svc.orders",
        "hint": "abcdefgh", "secret_id": "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3e", "kid": "2026-03-16", "alg": "ES256",
        "issued_at": "2026-03-16T10:11:12.123456Z", "expires_at": "2026-03-16T11:11:12.123456Z", "index": 42,
    })
}

fn reference() -> Value {
    json!({
        "id": "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3f", "kind": "reference", "client_id": APP, "application_id": APP_ID,
        "status": "active", "scope": "read", "audiences": [], "description": "nightly export", "hint": "wxyz",
        "issued_by": "grantlog.admin", "issued_at": "2026-03-16T10:11:12Z", "expires_at": "2026-06-14T10:11:12Z",
        "last_used_at": "2026-03-17T01:00:00Z", "index": 43,
    })
}

fn found(server: &FakeServer) -> &FakeServer {
    let page = json!({ "applications": [{ "id": APP_ID, "client_id": APP }] });
    server.on("GET", "/admin/applications?client_id=orders", 200, page)
}

#[test]
fn list_passes_every_condition_on_and_says_how_to_go_on() {
    let server = FakeServer::start();
    let path = "/admin/tokens?limit=2&after=c&client_id=orders&status=active&kind=jwt&since=24h&until=1h";
    let page = json!({ "tokens": [reference(), token()], "next": "d", "indexed_through": 50, "log_size": 50 });
    server.on("GET", path, 200, page);
    let ended = Terminal::of(&server).run(&[
        "token",
        "list",
        "--client-id",
        APP,
        "--status",
        "active",
        "--kind",
        "jwt",
        "--since",
        "24h",
        "--until",
        "1h",
        "--limit",
        "2",
        "--after",
        "c",
    ]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    server.seen_with_scope("tokens:revoke");
    assert_eq!(
        ended.out.lines().collect::<Vec<_>>(),
        [
            "TOKEN                                 KIND       STATUS  CLIENT ID  ISSUED                EXPIRES               LAST USED             WHAT FOR",
            "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3f  reference  active  orders     2026-03-16T10:11:12Z  2026-06-14T10:11:12Z  2026-03-17T01:00:00Z  nightly export",
            "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d  jwt        active  orders     2026-03-16T10:11:12Z  2026-03-16T11:11:12Z                        read update",
        ]
    );
    assert!(ended.err.contains("--after d"), "{}", ended.err);
}

#[test]
fn an_empty_page_is_told_on_stderr_with_where_to_go_on() {
    let server = FakeServer::start();
    let page = json!({ "tokens": [], "next": "d", "partial": true, "indexed_through": 50, "log_size": 50 });
    server.on("GET", "/admin/tokens?limit=100&status=revoked", 200, page);
    let ended = Terminal::of(&server).run(&["token", "list", "--status", "revoked"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, ""));
    assert!(
        ended.err.contains("no token matches") && ended.err.contains("--after d"),
        "{}",
        ended.err
    );
}

#[test]
fn what_is_no_status_or_no_id_is_wrong_usage_and_sends_nothing() {
    let server = FakeServer::start();
    let terminal = Terminal::of(&server);
    terminal.fails(2, &["token", "list", "--status", "gone"]);
    terminal.fails(2, &["token", "show", "../applications"]);
    terminal.fails(2, &["token", "revoke", "x"]);
    terminal.fails(2, &["session", "end", ".."]);
    terminal.fails(2, &["token", "show", ID, "--proof", "--json"]);
    assert!(server.seen().is_empty());
}

fn shown() -> Value {
    let mut shown = token();
    shown["claims"] = json!({ "iss": "https://id.example.com", "exp": 1_773_655_872, "scope": "read update" });
    shown["last_call"] = json!({ "time": "2026-03-16T10:20:00Z", "method": "GET", "path": "/orders", "index": 44 });
    shown["event"] = json!({ "index": 42, "source": { "ip": "192.0.2.7", "user_agent": "curl/8" } });
    shown["proof"] = json!("c2sp.org/tlog-proof@v1\nindex 42\n");
    shown
}

#[test]
fn show_tells_the_claims_the_source_and_the_last_call() {
    let server = FakeServer::start();
    let path = format!("/admin/tokens/{ID}");
    server
        .on("GET", &path, 200, shown())
        .on("GET", &path, 200, shown())
        .on("GET", &path, 200, shown());
    let out = Terminal::of(&server).succeeds(&["token", "show", ID]);
    for line in [
        "  status        active",
        "  requested_from  192.0.2.7",
        "  user_agent    curl/8",
        "  last_call     2026-03-16T10:20:00Z GET /orders",
        "Claims",
        "  exp    1773655872 (2026-03-16T10:11:12Z)",
        "  iss    https://id.example.com",
    ] {
        assert!(
            out.lines()
                .any(|found| found.split_whitespace().eq(line.split_whitespace())),
            "{line}: {out}"
        );
    }
    let proof = Terminal::of(&server).succeeds(&["token", "show", ID, "--proof"]);
    assert_eq!(proof, "c2sp.org/tlog-proof@v1\nindex 42\n");
    let out = Terminal::of(&server).succeeds(&["token", "show", ID, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), shown());
}

#[test]
fn revoke_sends_the_reason_and_tells_what_has_become_of_the_token() {
    let path = format!("/admin/tokens/{ID}/revoke");
    let (mut revoked, mut over) = (token(), token());
    revoked["status"] = "revoked".into();
    revoked["revoked_at"] = "2026-03-16T10:30:00Z".into();
    over["status"] = "expired".into();
    let problem = json!({ "title": "Not Found", "status": 404, "detail": "the log has no token" });
    for (status, answer, said) in [
        (
            200,
            revoked,
            format!("{ID} of orders is revoked: it opens nothing any more\n"),
        ),
        (
            200,
            over,
            format!("{ID} of orders was over already: it opens nothing\n"),
        ),
        (404, problem, "the log has no token".to_owned()),
    ] {
        let server = FakeServer::start();
        server.on("POST", &path, status, answer);
        let ended = Terminal::of(&server).run(&["token", "revoke", ID, "--reason", "found in a log"]);
        match status {
            200 => assert_eq!((ended.code, ended.out), (0, said)),
            _ => assert!(ended.code == 1 && ended.err.contains(&said), "{}", ended.err),
        }
        let seen = server.seen_with_scope("tokens:revoke");
        assert_eq!(seen[0].json(), json!({ "reason": "found in a log" }));
    }
}

#[test]
fn revoke_all_names_the_application_and_the_time() {
    let server = FakeServer::start();
    let path = format!("/admin/applications/{APP_ID}/revoke-tokens");
    let answer = json!({ "id": APP_ID, "client_id": APP, "issued_until": "2026-03-16T10:30:00.5Z" });
    found(&server).on("POST", &path, 200, answer);
    let out = Terminal::of(&server).succeeds(&["token", "revoke-all", APP, "--reason", "incident 12"]);
    assert_eq!(
        out,
        "all tokens of orders issued until 2026-03-16T10:30:00Z are revoked\n"
    );
    let seen = server.seen_with_scope("applications:read tokens:revoke");
    assert_eq!(seen[1].json(), json!({ "reason": "incident 12" }));
}

#[test]
fn a_reference_token_is_shown_once_and_stands_on_one_line() {
    let server = FakeServer::start();
    let path = format!("/admin/applications/{APP_ID}/reference-tokens");
    let mut made = reference();
    made["reference_token"] = "glr_new".into();
    found(&server).on("POST", &path, 201, made);
    let out = Terminal::of(&server).succeeds(&[
        "app",
        "reference-token",
        "issue",
        APP,
        "--description",
        "nightly export",
        "--scope",
        "read",
        "--scope",
        "x",
        "--audience",
        "https://a",
        "--expires",
        "30d",
    ]);
    assert_eq!(out.matches("glr_new").count(), 1);
    assert!(
        out.contains("\n  reference_token  glr_new\n\nThis token is shown once and stored nowhere"),
        "{out}"
    );
    assert_eq!(
        server.seen_with_every_scope()[1].json(),
        json!({
            "description": "nightly export", "scope": "read x", "audiences": ["https://a"],
            "expires_in_seconds": 2_592_000,
        })
    );
    Terminal::of(&server).fails(2, &["app", "reference-token", "issue", APP]);
}

#[test]
fn reference_tokens_are_listed_and_revoked_under_their_application() {
    let server = FakeServer::start();
    let path = format!("/admin/applications/{APP_ID}/reference-tokens");
    let page = json!({ "reference_tokens": [reference()] });
    found(&server).on("GET", &format!("{path}?limit=100"), 200, page);
    let out = Terminal::of(&server).succeeds(&["app", "reference-token", "list", APP]);
    assert!(
        out.contains("nightly export") && out.contains("2026-03-17T01:00:00Z"),
        "{out}"
    );
    server.seen_with_scope("applications:read");

    let server = FakeServer::start();
    let mut revoked = reference();
    revoked["status"] = "revoked".into();
    revoked["revoked_at"] = "2026-03-18T00:00:00Z".into();
    found(&server).on("DELETE", &format!("{path}/{ID}"), 200, revoked);
    let out = Terminal::of(&server).succeeds(&["app", "reference-token", "revoke", APP, ID, "--reason", "leaked"]);
    assert!(
        out.ends_with("of orders is revoked: it opens nothing any more\n"),
        "{out}"
    );
    let seen = server.seen_with_scope("applications:read applications:write");
    assert_eq!(seen[1].json(), json!({ "reason": "leaked" }));
}

#[test]
fn tokens_go_with_their_secret_or_their_application_only_when_that_is_asked_for() {
    let secret = format!("/admin/applications/{APP_ID}/secrets/{ID}");
    let disable = format!("/admin/applications/{APP_ID}/disable");
    for (flag, body) in [
        (None, json!({})),
        (Some("--revoke-tokens"), json!({ "revoke_tokens": true })),
    ] {
        for (method, path, command) in [
            ("DELETE", &secret, &["app", "revoke-secret", APP, ID][..]),
            ("POST", &disable, &["app", "disable", APP]),
        ] {
            let server = FakeServer::start();
            found(&server).on(
                method,
                path,
                200,
                json!({ "id": APP_ID, "client_id": APP, "secrets": [] }),
            );
            let command: Vec<&str> = command.iter().copied().chain(flag).collect();
            Terminal::of(&server).succeeds(&command);
            let seen = server.seen_with_scope("applications:read applications:write");
            assert_eq!(seen[1].json(), body, "{command:?}");
        }
    }
}

#[test]
fn who_may_make_reference_tokens_is_an_attribute() {
    for (given, sent) in [("administrators-only", "AdministratorsOnly"), ("none", "None")] {
        let server = FakeServer::start();
        let path = format!("/admin/applications/{APP_ID}");
        found(&server).on(
            "PATCH",
            &path,
            200,
            json!({ "id": APP_ID, "client_id": APP, "secrets": [] }),
        );
        Terminal::of(&server).succeeds(&["app", "change", APP, "--reference-tokens", given]);
        assert_eq!(
            server.seen_with_every_scope()[1].json(),
            json!({ "reference_tokens": sent })
        );
    }
}

fn session() -> Value {
    json!({
        "id": ID, "client_id": APP, "application_id": APP_ID, "token_id": "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3e",
        "token_kind": "jwt", "system_user": "svc.orders", "started_at": "2026-03-16T10:11:12.1Z",
        "source": { "ip": "192.0.2.7" }, "last_used_at": "2026-03-16T10:20:00Z", "calls": 7,
        "ends_at": "2026-03-16T10:40:00Z", "ends_by": "idle",
    })
}

#[test]
fn sessions_are_listed_and_ended() {
    let server = FakeServer::start();
    server.on(
        "GET",
        "/admin/sessions?limit=100&client_id=orders",
        200,
        json!({ "sessions": [session()] }),
    );
    let out = Terminal::of(&server).succeeds(&["session", "list", "--client-id", APP]);
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "SESSION                               CLIENT ID  CALLS  STARTED               LAST USED             ENDS                         AS          TOKEN",
            "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d  orders         7  2026-03-16T10:11:12Z  2026-03-16T10:20:00Z  2026-03-16T10:40:00Z (idle)  svc.orders  0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3e",
        ]
    );
    server.seen_with_scope("tokens:revoke");
    let server = FakeServer::start();
    server.on("DELETE", &format!("/admin/sessions/{ID}"), 200, session());
    let out = Terminal::of(&server).succeeds(&["session", "end", ID, "--reason", "odd"]);
    assert_eq!(out, format!("{ID} of orders is over; its token stays good\n"));
    assert_eq!(
        server.seen_with_scope("tokens:revoke")[0].json(),
        json!({ "reason": "odd" })
    );
}

#[test]
fn nothing_to_list_is_told_and_no_failure() {
    let server = FakeServer::start();
    server.on("GET", "/admin/sessions?limit=100", 200, json!({ "sessions": [] }));
    let ended = Terminal::of(&server).run(&["session", "list"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, ""));
    assert!(ended.err.contains("there is no such session"), "{}", ended.err);
}
