use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

const ID: &str = "6f6ee7d0-4b0e-5e0a-9a77-2f3f6a2f1a01";
const SECRET_ID: &str = "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d";
const APP: &str = "my.trusted.app/service";
const LOOK_UP: &str = "/admin/applications?client_id=my.trusted.app%2Fservice";

fn application() -> Value {
    json!({
        "id": ID, "client_id": APP, "name": "Orders", "description": null, "client_type": "Confidential",
        "scope": "read update DomainApi", "audiences": ["https://orders.example.com"], "system_user_allowed": true,
        "system_user": "svc.integration", "org_code": "acme", "is_enabled": true, "owner": "team-orders",
        "properties": { "region": "eu" }, "token_lifetime_seconds": 900, "allowed_networks": ["10.0.0.0/8"],
        "reference_tokens": "None", "revision": 4, "registered_at": "2026-03-16T10:11:12.123456Z",
        "changed_at": "2026-03-16T12:11:12.654321+02:00",
        "secrets": [
            { "id": SECRET_ID, "hint": "ab12", "created_at": "2026-03-16T10:11:12.123456Z",
              "expires_at": "2026-06-14T10:11:12.123456Z", "revoked_at": null, "accepted": true },
            { "id": "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3e", "hint": null, "created_at": "2026-03-15T10:11:12Z",
              "revoked_at": "2026-03-16T00:00:00Z", "accepted": false },
        ],
    })
}

fn with_secret() -> Value {
    let mut answer = application();
    answer["client_secret"] = "gls_new".into();
    answer["secret_id"] = SECRET_ID.into();
    answer
}

fn found(server: &FakeServer) -> &FakeServer {
    server.on("GET", LOOK_UP, 200, json!({ "applications": [application()] }))
}

#[test]
fn register_sends_every_attribute_and_shows_the_secret_once() {
    let server = FakeServer::start();
    server.on("POST", "/admin/applications", 201, with_secret());
    let out = Terminal::of(&server).succeeds(&[
        "app",
        "register",
        APP,
        "--name",
        "Orders",
        "--description",
        "What it does",
        "--scope",
        "read update",
        "--scope",
        "DomainApi",
        "--audience",
        "https://orders.example.com",
        "--audience",
        "b",
        "--system-user",
        "svc.integration",
        "--org-code",
        "acme",
        "--owner",
        "team-orders",
        "--property",
        "region=eu",
        "--property",
        "a=b=c",
        "--lifetime",
        "15m",
        "--allow-network",
        "10.0.0.0/8",
        "--disabled",
        "--secret-expires",
        "90d",
    ]);
    let seen = server.seen_with_every_scope();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line(), "POST /admin/applications");
    assert_eq!(
        seen[0].json(),
        json!({
            "application_uri": APP, "name": "Orders", "description": "What it does", "scope": "read update DomainApi",
            "audiences": ["https://orders.example.com", "b"], "system_user": "svc.integration", "org_code": "acme",
            "owner": "team-orders", "properties": { "region": "eu", "a": "b=c" }, "token_lifetime_seconds": 900,
            "allowed_networks": ["10.0.0.0/8"], "is_enabled": false, "secret_expires_in_seconds": 7_776_000,
        })
    );
    assert!(out.starts_with("Registered my.trusted.app/service\n"), "{out}");
    assert_eq!(out.matches("gls_new").count(), 1);
    assert!(
        out.contains("\n  client_secret  gls_new\n\nThis secret is shown once and stored nowhere"),
        "{out}"
    );
}

#[test]
fn register_asks_for_no_more_than_what_was_given() {
    let server = FakeServer::start();
    server.on("POST", "/admin/applications", 201, application());
    let out = Terminal::of(&server).succeeds(&["app", "register", APP, "--public"]);
    let seen = server.seen_with_every_scope();
    assert_eq!(
        seen[0].json(),
        json!({ "application_uri": APP, "client_type": "Public" })
    );
    assert!(!out.contains("shown once"), "{out}");
}

#[test]
fn register_takes_a_hash_over() {
    let server = FakeServer::start();
    server.on("POST", "/admin/applications", 201, application());
    Terminal::of(&server).succeeds(&["app", "register", "a", "--secret-hash", "aGFzaA=="]);
    let seen = server.seen_with_every_scope();
    assert_eq!(
        seen[0].json(),
        json!({ "application_uri": "a", "application_secret_hash": "aGFzaA==" })
    );
}

#[test]
fn json_is_the_server_s_answer_on_one_line() {
    let server = FakeServer::start();
    let body = "{\"client_id\":\"z\",\n \"client_secret\":\"gls_new\",\"a\":\"\u{9b}31m\",\"n\":18446744073709551615}";
    server.on_raw("POST", "/admin/applications", 201, vec![], body.into());
    let out = Terminal::of(&server).succeeds(&["app", "register", "z", "--json"]);
    let expected = r#"{"client_id":"z", "client_secret":"gls_new","a":"\u009b31m","n":18446744073709551615}"#;
    assert_eq!(out, format!("{expected}\n"));
}

#[test]
fn a_refused_field_is_named_below_the_error() {
    let server = FakeServer::start();
    server.on("POST", "/admin/applications", 400, json!({
        "type": "urn:grantlog:problem:invalid", "title": "Bad Request", "status": 400, "detail": "two fields are wrong",
        "errors": [{ "field": "scope", "message": "must be \u{1b}[2J short" }, { "field": "owner", "message": "must be text" }],
    }));
    let err = Terminal::of(&server).fails(1, &["app", "register", "a"]);
    assert_eq!(
        err,
        "error: two fields are wrong\n  scope: must be \\u{1b}[2J short\n  owner: must be text\n"
    );
}

#[test]
fn an_error_that_says_it_all_is_not_said_twice() {
    let server = FakeServer::start();
    server.on(
        "POST",
        "/admin/applications",
        400,
        json!({
            "title": "Bad Request", "status": 400, "detail": "scope: must be short",
            "errors": [{ "field": "scope", "message": "must be short" }],
        }),
    );
    assert_eq!(
        Terminal::of(&server).fails(1, &["app", "register", "a"]),
        "error: scope: must be short\n"
    );
}

#[test]
fn list_passes_its_filters_on_and_says_that_there_is_more() {
    let server = FakeServer::start();
    let target = "/admin/applications?limit=2&after=c1&org_code=acme&enabled=false&q=a+b%26c";
    let mut other = application();
    other["client_id"] = "b".into();
    other["name"] = "b".into();
    other["is_enabled"] = false.into();
    server.on(
        "GET",
        target,
        200,
        json!({ "applications": [application(), other], "next": "c2" }),
    );
    let ended = Terminal::of(&server).run(&[
        "app",
        "list",
        "--limit",
        "2",
        "--after",
        "c1",
        "--org-code",
        "acme",
        "--enabled",
        "false",
        "--query",
        "a b&c",
    ]);
    server.seen_with_scope("applications:read");
    assert_eq!(ended.code, 0);
    assert_eq!(ended.err, "there are more: repeat with --after c2\n");
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(
        lines[0],
        "CLIENT ID               ENABLED  NAME    SYSTEM USER      ORG   SCOPE"
    );
    assert_eq!(
        lines[1],
        "my.trusted.app/service  yes      Orders  svc.integration  acme  read update DomainApi"
    );
    assert_eq!(
        lines[2],
        "b                       no               svc.integration  acme  read update DomainApi"
    );
}

#[test]
fn an_empty_list_says_so_and_prints_nothing() {
    let server = FakeServer::start();
    server.on(
        "GET",
        "/admin/applications?limit=100",
        200,
        json!({ "applications": [] }),
    );
    let ended = Terminal::of(&server).run(&["app", "list"]);
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (0, "", "no application matches\n")
    );
}

#[test]
fn show_finds_the_application_by_its_client_id() {
    let server = FakeServer::start();
    found(&server).on("GET", &format!("/admin/applications/{ID}"), 200, application());
    let out = Terminal::of(&server).succeeds(&["app", "show", APP]);
    server.seen_with_scope("applications:read");
    for line in [
        "my.trusted.app/service",
        "  is_enabled              yes",
        "  audiences               https://orders.example.com",
        "  properties.region       eu",
        "  registered_at           2026-03-16T10:11:12Z",
        "  changed_at              2026-03-16T10:11:12Z",
        "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d  …ab12  accepted  2026-06-14T10:11:12Z  2026-03-16T10:11:12Z",
        "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3e         revoked   never                 2026-03-15T10:11:12Z",
    ] {
        assert!(out.lines().any(|shown| shown == line), "{line}\n{out}");
    }
}

#[test]
fn show_takes_an_id_that_is_nobody_s_client_id_and_a_time() {
    let server = FakeServer::start();
    let look_up = format!("/admin/applications?client_id={ID}");
    let then = format!("/admin/applications/{ID}?as_of=2026-03-16T10%3A00%3A00%2B02%3A00");
    server
        .on("GET", &look_up, 200, json!({ "applications": [] }))
        .on("GET", &then, 200, application());
    Terminal::of(&server).succeeds(&["app", "show", ID, "--as-of", "2026-03-16T10:00:00+02:00"]);
    server.seen_with_scope("applications:read");
}

#[test]
fn a_client_id_that_looks_like_an_id_is_a_client_id_first() {
    let server = FakeServer::start();
    let named = "3f0e8c1a-7a53-4b3e-9f69-0a3a1e6c9d10";
    let look_up = format!("/admin/applications?client_id={named}");
    let answer = json!({ "applications": [{ "id": ID, "client_id": named }] });
    server
        .on("GET", &look_up, 200, answer)
        .on("GET", &format!("/admin/applications/{ID}"), 200, application());
    Terminal::of(&server).succeeds(&["app", "show", named]);
    server.seen();
}

#[test]
fn an_application_of_another_name_is_never_taken() {
    // A server that does not know the filter would answer with whatever it has.
    let server = FakeServer::start();
    server.on(
        "GET",
        "/admin/applications?client_id=other",
        200,
        json!({ "applications": [application()] }),
    );
    let err = Terminal::of(&server).fails(1, &["app", "delete", "other", "--yes"]);
    assert!(
        err.starts_with("error: there is no application other\nhint: `grantlog app list`"),
        "{err}"
    );
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn change_sends_a_merge_patch_with_reason_and_revision() {
    let server = FakeServer::start();
    found(&server).on("PATCH", &format!("/admin/applications/{ID}"), 200, application());
    let out = Terminal::of(&server).succeeds(&[
        "app",
        "change",
        APP,
        "--scope",
        "read",
        "--unset",
        "org_code",
        "--unset",
        "properties.region",
        "--property",
        "zone=b",
        "--unset",
        "allow-network",
        "--system-user-allowed",
        "false",
        "--confidential",
        "--reason",
        "ticket 4711",
        "--if-revision",
        "3",
    ]);
    let seen = server.seen_with_every_scope();
    assert_eq!(seen[1].if_match.as_deref(), Some("\"3\""));
    assert_eq!(
        seen[1].json(),
        json!({
            "scope": "read", "org_code": null, "properties": { "region": null, "zone": "b" }, "allowed_networks": [],
            "system_user_allowed": false, "client_type": "Confidential", "reason": "ticket 4711",
        })
    );
    assert!(
        out.starts_with("my.trusted.app/service is now at revision 4\n"),
        "{out}"
    );
}

#[test]
fn change_without_a_change_is_wrong_usage_and_calls_nobody() {
    let server = FakeServer::start();
    let terminal = Terminal::of(&server);
    let err = terminal.fails(2, &["app", "change", APP, "--reason", "none"]);
    assert!(err.starts_with("error: there is nothing to change"), "{err}");
    let err = terminal.fails(2, &["app", "change", APP, "--owner", "a", "--unset", "owner"]);
    assert_eq!(
        err,
        "error: owner is both given and --unset\nhint: --help shows examples\n"
    );
    terminal.fails(2, &["app", "change", APP, "--property", "a=1", "--property", "a=2"]);
    terminal.fails(2, &["app", "change", APP, "--unset", "client_id"]);
    terminal.fails(2, &["app", "change", APP, "--lifetime", "soon"]);
    assert!(server.seen().is_empty());
}

#[test]
fn a_lost_race_says_how_to_go_on() {
    let server = FakeServer::start();
    found(&server).on(
        "PATCH",
        &format!("/admin/applications/{ID}"),
        412,
        json!({ "title": "Precondition Failed", "status": 412, "detail": "it is at revision 5, not 3" }),
    );
    let err = Terminal::of(&server).fails(1, &["app", "change", APP, "--owner", "a", "--if-revision", "3"]);
    assert!(
        err.starts_with("error: it is at revision 5, not 3\nhint: somebody else changed it"),
        "{err}"
    );
}

#[test]
fn enable_and_disable_give_a_reason() {
    for (verb, enabled) in [("enable", true), ("disable", false)] {
        let server = FakeServer::start();
        let mut answer = application();
        answer["is_enabled"] = enabled.into();
        found(&server).on("POST", &format!("/admin/applications/{ID}/{verb}"), 200, answer);
        let out = Terminal::of(&server).succeeds(&["app", verb, APP, "--reason", "incident 12"]);
        // Who may change applications may stop any of them; to let one go on needs its own scopes, too.
        let seen = match verb {
            "disable" => server.seen_with_scope("applications:read applications:write"),
            _ => server.seen_with_every_scope(),
        };
        assert_eq!(seen[1].json(), json!({ "reason": "incident 12" }));
        assert_eq!(out, format!("my.trusted.app/service is {verb}d (revision 4)\n"));
    }
}

#[test]
fn delete_with_yes_asks_nobody() {
    let server = FakeServer::start();
    found(&server).on("DELETE", &format!("/admin/applications/{ID}"), 204, Value::Null);
    let out = Terminal::of(&server).succeeds(&["app", "delete", APP, "--yes", "--reason", "retired"]);
    let seen = server.seen_with_scope("applications:read applications:write");
    assert_eq!(seen[1].json(), json!({ "reason": "retired" }));
    assert_eq!(out, "my.trusted.app/service is deleted\n");
}

#[test]
fn delete_without_a_terminal_needs_yes_and_calls_nobody() {
    let server = FakeServer::start();
    let err = Terminal::of(&server).fails(2, &["app", "delete", APP]);
    assert!(err.contains("--yes"), "{err}");
    assert!(server.seen().is_empty());
}

#[test]
fn delete_on_a_terminal_asks_and_takes_only_a_yes() {
    for (typed, deletes) in [
        ("y\n", true),
        ("yes\r\n", true),
        ("n\n", false),
        ("\n", false),
        ("", false),
    ] {
        let server = FakeServer::start();
        found(&server).on("GET", &format!("/admin/applications/{ID}"), 200, application());
        if deletes {
            server.on("DELETE", &format!("/admin/applications/{ID}"), 204, Value::Null);
        }
        let ended = Terminal::of(&server).person(typed).run(&["app", "delete", APP]);
        server.seen();
        let question =
            "Delete the application my.trusted.app/service for ever? Its name is never given out again. [y/N] ";
        if deletes {
            assert_eq!((ended.code, ended.err.as_str()), (0, question));
        } else {
            assert_eq!(
                (ended.code, ended.err),
                (1, format!("{question}error: nothing was done\n"))
            );
        }
    }
}

#[test]
fn rotate_secret_shows_the_new_one_and_what_becomes_of_the_old_ones() {
    let server = FakeServer::start();
    found(&server).on("POST", &format!("/admin/applications/{ID}/secrets"), 201, with_secret());
    let out = Terminal::of(&server).columns(80).succeeds(&[
        "app",
        "rotate-secret",
        APP,
        "--overlap",
        "24h",
        "--expires",
        "90d",
        "--reason",
        "yearly",
    ]);
    let seen = server.seen_with_every_scope();
    assert_eq!(
        seen[1].json(),
        json!({ "overlap_seconds": 86_400, "expires_in_seconds": 7_776_000, "reason": "yearly" })
    );
    assert_eq!(out.matches("gls_new").count(), 1);
    assert!(
        out.contains("shown once and stored nowhere") && out.contains("revoked"),
        "{out}"
    );
}

#[test]
fn rotating_one_s_own_secret_says_that_the_profile_is_out_of_date() {
    let server = FakeServer::start();
    let own = json!({ "id": ID, "client_id": "grantlog.admin", "client_secret": "gls_new" });
    server
        .on(
            "GET",
            "/admin/applications?client_id=grantlog.admin",
            200,
            json!({ "applications": [own] }),
        )
        .on("POST", &format!("/admin/applications/{ID}/secrets"), 201, own);
    let ended = Terminal::of(&server).run(&["app", "rotate-secret", "grantlog.admin"]);
    assert_eq!(ended.code, 0);
    assert!(
        ended.err.contains("put the new secret into your profile"),
        "{}",
        ended.err
    );
}

#[test]
fn rotate_secret_leaves_the_overlap_to_the_server_but_can_forbid_one() {
    for (arguments, body) in [
        (&[][..], json!({})),
        (&["--overlap", "0"], json!({ "overlap_seconds": 0 })),
    ] {
        let server = FakeServer::start();
        found(&server).on("POST", &format!("/admin/applications/{ID}/secrets"), 201, with_secret());
        let out = Terminal::of(&server).succeeds(&[&["app", "rotate-secret", APP, "--json"], arguments].concat());
        assert_eq!(server.seen_with_every_scope()[1].json(), body);
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), with_secret());
    }
}

#[test]
fn revoke_secret_names_one_secret() {
    let server = FakeServer::start();
    let target = format!("/admin/applications/{ID}/secrets/{SECRET_ID}");
    found(&server).on("DELETE", &target, 200, application());
    let out = Terminal::of(&server).succeeds(&["app", "revoke-secret", APP, SECRET_ID, "--reason", "leaked"]);
    let seen = server.seen_with_scope("applications:read applications:write");
    assert_eq!(seen[1].json(), json!({ "reason": "leaked" }));
    assert!(
        out.starts_with(&format!("my.trusted.app/service: the secret {SECRET_ID} is revoked\n")),
        "{out}"
    );
    assert_eq!(Terminal::of(&server).run(&["app", "revoke-secret", APP, ".."]).code, 2);
}

fn history() -> Value {
    json!({ "events": [
        { "index": 7, "type": "ApplicationRegistered", "time": "2026-03-16T10:11:12.123456Z",
          "actor": "grantlog.admin", "data": { "scope": "read", "system_user": "svc" } },
        { "index": 12, "type": "ApplicationChanged", "time": "2026-03-16T11:11:12.123456Z", "actor": "grantlog.admin",
          "data": { "changes": [{ "field": "scope", "from": "read", "to": "read update" }], "reason": "ticket" } },
    ] })
}

#[test]
fn history_shows_old_and_new_values() {
    let server = FakeServer::start();
    found(&server).on("GET", &format!("/admin/applications/{ID}/history"), 200, history());
    let out = Terminal::of(&server).succeeds(&["app", "history", APP]);
    server.seen_with_scope("applications:read audit:read");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], format!("application my.trusted.app/service, id {ID}"));
    assert_eq!(
        lines[2],
        "INDEX  TIME                  TYPE                   ACTOR           WHAT"
    );
    assert_eq!(
        lines[4],
        "   12  2026-03-16T11:11:12Z  ApplicationChanged     grantlog.admin  scope: read → read update"
    );
    assert_eq!(lines[5].trim(), "reason: ticket");
}

#[test]
fn history_of_a_deleted_application_is_found_in_the_trail() {
    let server = FakeServer::start();
    let trail = "/audit/events?type=ApplicationRegistered&limit=1000&client_id=my.trusted.app%2Fservice";
    let registered =
        json!({ "type": "ApplicationRegistered", "data": { "application_uri": APP, "application_id": ID } });
    server
        .on("GET", LOOK_UP, 200, json!({ "applications": [] }))
        .on("GET", trail, 200, json!({ "events": [registered] }))
        .on("GET", &format!("/admin/applications/{ID}/history"), 200, history());
    Terminal::of(&server).succeeds(&["app", "history", APP]);
    server.seen_with_scope("applications:read audit:read");
}

#[test]
fn history_by_id_needs_no_more_than_the_right_to_read_the_trail() {
    let server = FakeServer::start();
    server.on("GET", &format!("/admin/applications/{ID}/history"), 200, history());
    let out = Terminal::of(&server).succeeds(&["app", "history", ID, "--json"]);
    server.seen_with_scope("audit:read");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), history());
}
