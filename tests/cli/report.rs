//! `report`, `audit stats`, `audit diff` and `app usage`.

use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

const APP: &str = "my.trusted.app/service";
const ID: &str = "17f1f1d4-37cd-5a94-9bc2-f9e18b679123";
const LOOK_UP: &str = "/admin/applications?client_id=my.trusted.app%2Fservice";

fn found(server: &FakeServer) -> &FakeServer {
    let application = json!({ "id": ID, "client_id": APP });
    server.on("GET", LOOK_UP, 200, json!({ "applications": [application] }))
}

fn answers(server: &FakeServer, target: &str, content_type: &str, body: &str) {
    let headers = vec![("Content-Type", content_type.to_owned())];
    server.on_raw("GET", target, 200, headers, body.to_owned());
}

#[test]
fn a_report_is_asked_for_as_text_and_printed_as_it_comes() {
    let server = FakeServer::start();
    answers(
        &server,
        "/audit/reports/old-secrets?format=text&through_index=12&days=180",
        "text/plain",
        "Old secrets\n===========\n",
    );
    let out = Terminal::of(&server).succeeds(&["report", "old-secrets", "--days", "180", "--through-index", "12"]);
    assert_eq!(out, "Old secrets\n===========\n");
    server.seen_with_scope("audit:read");
}

#[test]
fn every_parameter_is_passed_on_and_json_is_a_format() {
    let server = FakeServer::start();
    let target = "/audit/reports/failed-authentication-bursts?format=json&as_of=7&since=7d&until=1d&threshold=20\
                  &window_seconds=60&gap_seconds=90&client_id=a";
    answers(&server, target, "application/json", "{}\n");
    let out = Terminal::of(&server).succeeds(&[
        "report",
        "failed-authentication-bursts",
        "--json",
        "--as-of",
        "7",
        "--since",
        "7d",
        "--until",
        "1d",
        "--threshold",
        "20",
        "--window-seconds",
        "60",
        "--gap-seconds",
        "90",
        "--client-id",
        "a",
    ]);
    assert_eq!(out, "{}\n");
}

#[cfg(unix)]
#[test]
fn a_file_has_every_byte_and_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let server = FakeServer::start();
    let page = "<!doctype html>\r\n\u{1b}";
    answers(&server, "/audit/reports/inventory?format=html", "text/html", page);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.html");
    let output = path.to_str().unwrap();
    let ended = Terminal::of(&server).run(&["report", "inventory", "--format", "html", "--output", output]);
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{}", ended.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    answers(&server, "/audit/reports/inventory?format=html", "text/html", page);
    let nowhere = folder.path().join("nowhere").join("x");
    let err = Terminal::of(&server).fails(
        1,
        &[
            "report",
            "inventory",
            "--format",
            "html",
            "--output",
            nowhere.to_str().unwrap(),
        ],
    );
    assert!(err.contains("cannot write"), "{err}");
}

#[test]
fn a_terminal_obeys_nothing_that_a_report_holds() {
    let server = FakeServer::start();
    answers(
        &server,
        "/audit/reports/inventory?format=csv",
        "text/csv",
        "a\u{1b}[2Jb\n",
    );
    let out = Terminal::of(&server)
        .columns(80)
        .succeeds(&["report", "inventory", "--format", "csv"]);
    assert!(!out.contains('\u{1b}'), "{out:?}");
}

#[test]
fn without_a_name_the_reports_are_listed() {
    let server = FakeServer::start();
    let list = json!({ "reports": [{
        "name": "old-secrets", "purpose": "Valid secrets that are old.",
        "parameters": [{ "name": "through_index" }, { "name": "days" }],
    }] });
    server.on("GET", "/audit/reports", 200, list);
    let out = Terminal::of(&server).succeeds(&["report"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines[1],
        "old-secrets  Valid secrets that are old.  --through-index --days"
    );
}

#[test]
fn counts_are_a_table() {
    let server = FakeServer::start();
    let counts = json!({
        "events": 9, "without": 2, "other": 1, "indexed_through": 9, "log_size": 10,
        "totals": [{ "value": "secret_mismatch", "count": 6 }], "buckets": [],
    });
    server.on("GET", "/audit/stats?by=reason&interval=none&since=24h", 200, counts);
    let ended = Terminal::of(&server).run(&["audit", "stats", "--by", "reason", "--since", "24h"]);
    assert_eq!(ended.out, "EVENTS  VALUE\n     6  secret_mismatch\n     1  others\n");
    assert_eq!(ended.err, "9 events, 2 of them without a reason\n");
}

#[test]
fn a_difference_shows_old_new_and_who_did_it() {
    let server = FakeServer::start();
    let diff = json!({
        "client_id": APP,
        "changes": [
            { "field": "scope", "from": "read", "to": "read update", "events": [12] },
            { "field": "owner", "from": Value::Null, "to": "team", "events": [] },
        ],
        "events": [{ "index": 12, "time": "2026-03-16T11:11:12.123456Z", "actor": "grantlog.admin",
                     "type": "ApplicationChanged", "reason": "ticket", "what": ["scope: read → read update"] }],
    });
    found(&server).on("GET", &format!("/admin/applications/{ID}/diff?from=7&to=20"), 200, diff);
    let out = Terminal::of(&server).succeeds(&["audit", "diff", APP, "7", "20"]);
    server.seen_with_scope("applications:read audit:read");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[2], "scope  read  read update  12");
    assert_eq!(lines[3], "owner  none  team         none: by time");
    assert!(lines[6].ends_with("scope: read → read update  ticket"), "{out}");
}

#[test]
fn usage_answers_whether_the_old_secret_is_still_used_and_from_where() {
    let server = FakeServer::start();
    let used =
        json!({ "count": 3, "first": "2026-03-01T00:00:00Z", "last": "2026-03-16T11:11:12.123456Z", "last_index": 9 });
    let usage = json!({
        "client_id": APP, "days": 7, "indexed_through": 10, "log_size": 10,
        "tokens_issued": used, "tokens_refused": Value::Null, "calls": Value::Null,
        "secrets": [{
            "id": ID, "hint": "wxyz", "accepted": true, "uses": 3, "uses_in_days": 1,
            "last_used": "2026-03-16T11:11:12.123456Z", "networks_other": 1,
            "networks": [{ "network": "192.0.2.0/24", "uses": 2, "last_used": "2026-03-16T11:11:12Z", "in_days": true }],
        }],
        "scopes": [{ "scope": "read", "allowed": true, "tokens": used, "asked": Value::Null, "calls": Value::Null }],
        "unused_scopes": ["update"], "refused_networks": [],
    });
    found(&server).on("GET", &format!("/admin/applications/{ID}/usage?days=7"), 200, usage);
    let out = Terminal::of(&server).succeeds(&["app", "usage", APP, "--days", "7"]);
    assert!(out.contains("192.0.2.0/24 (2), longer ago (1)"), "{out}");
    assert!(out.contains("unused scopes in 7 days  update"), "{out}");
    assert_eq!(
        Terminal::of(&server).run(&["app", "usage", APP, "--days", "101"]).code,
        2
    );
}

#[test]
fn lists_and_keys_are_asked_for_as_they_were() {
    let server = FakeServer::start();
    server
        .on(
            "GET",
            "/admin/applications?limit=100&as_of=7",
            200,
            json!({ "applications": [] }),
        )
        .on("GET", "/admin/apis?limit=100&as_of=7", 200, json!({ "apis": [] }))
        .on("GET", "/admin/signing-keys?as_of=7", 200, json!({ "keys": [] }))
        .on(
            "GET",
            "/admin/signing-keys/history",
            200,
            json!({ "events": [{
            "index": 3, "type": "SigningKeyAdded", "time": "2026-03-16T11:11:12Z", "actor": "system",
            "data": { "kid": "2026-03-16", "alg": "ES256", "reason": "first key" },
        }] }),
        );
    let terminal = Terminal::of(&server);
    terminal.succeeds(&["app", "list", "--as-of", "7", "--json"]);
    terminal.succeeds(&["api", "list", "--as-of", "7", "--json"]);
    terminal.succeeds(&["key", "list", "--as-of", "7", "--json"]);
    let out = terminal.succeeds(&["key", "history"]);
    assert!(
        out.lines().nth(1).is_some_and(|line| line.contains("2026-03-16")),
        "{out}"
    );
}

#[test]
fn what_is_asked_of_a_report_without_its_name_is_no_list() {
    let server = FakeServer::start();
    for arguments in [
        ["report", "--format", "csv"],
        ["report", "--days", "30"],
        ["report", "--output", "x.csv"],
    ] {
        let ended = Terminal::of(&server).run(&arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.err.contains("needs a report's NAME"), "{}", ended.err);
    }
}

#[test]
fn what_is_counted_is_named_as_the_api_names_it_and_with_hyphens() {
    for name in ["source_network", "source-network"] {
        let server = FakeServer::start();
        let counts = json!({
            "events": 0, "without": 0, "other": 0, "indexed_through": 9, "log_size": 10, "totals": [], "buckets": [],
        });
        server.on("GET", "/audit/stats?by=source_network&interval=none", 200, counts);
        let ended = Terminal::of(&server).run(&["audit", "stats", "--by", name]);
        assert_eq!((ended.code, ended.err.as_str()), (0, "0 events\n"), "{name}");
    }
}
