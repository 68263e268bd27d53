use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};

#[test]
fn every_token_is_counted_and_nothing_else_is_printed() {
    let server = FakeServer::start();
    let out = Terminal::of(&server).succeeds(&["bench", "--connections", "3", "--seconds", "1", "--json"]);
    let measured: Value = serde_json::from_str(&out).expect("JSON");
    let asked = server.seen();
    assert!(asked.iter().all(|seen| seen.body == "grant_type=client_credentials"));
    // One more before the first is measured.
    assert_eq!(measured["tokens"], asked.len() - 1);
    assert_eq!((&measured["connections"], &measured["failed"]), (&json!(3), &json!(0)));
    let latency = |name: &str| measured["latency_ms"][name].as_f64().expect("a number");
    assert!(0.0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
}

#[test]
fn a_person_reads_rate_and_latency() {
    let server = FakeServer::start();
    let ended = Terminal::of(&server).run(&["bench", "--connections", "1", "--seconds", "1"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    for part in ["tokens/s", "p50 ", "longest ", "without a token  0"] {
        assert!(ended.out.contains(part), "{part} is not in {}", ended.out);
    }
    assert_eq!(ended.err, "asking for tokens of grantlog.admin for 1 s, 1 at a time\n");
}

#[test]
fn who_gets_no_token_is_told_why_and_measures_nothing() {
    let server = FakeServer::start();
    server.on("POST", "/connect/token", 401, json!({"error": "invalid_client"}));
    let ended = Terminal::of(&server).run(&["bench"]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("invalid_client"), "{}", ended.err);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_refusal_on_the_way_is_counted_and_ends_in_failure() {
    let server = FakeServer::start();
    for (status, body) in [
        (
            200,
            json!({"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 60}),
        ),
        (503, json!({"error": "temporarily_unavailable"})),
    ] {
        server.on("POST", "/connect/token", status, body);
    }
    let ended = Terminal::of(&server).run(&["bench", "--connections", "1", "--seconds", "1", "--json"]);
    let measured: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!((ended.code, &measured["failed"]), (1, &json!(1)), "{}", ended.err);
    assert!(measured["tokens"].as_u64().expect("a number") > 0);
    assert!(ended.err.contains("temporarily_unavailable"), "{}", ended.err);
}
