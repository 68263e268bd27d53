use crate::fake_server::FakeServer;
use crate::terminal::Terminal;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

fn event(index: u64) -> Value {
    json!({
        "index": index, "id": "0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d", "stream": "token-requests-x", "revision": 1,
        "type": "TokenRefused", "time": "2026-03-16T10:11:12.123456Z", "actor": "anonymous",
        "source": { "ip": "203.0.113.7", "user_agent": "curl" }, "client_id": "my.trusted.app/service",
        "outcome": "refused", "data": { "error": "invalid_client", "reason": "secret_mismatch" },
    })
}

fn page(events: &[Value], next: Option<&str>) -> Value {
    json!({ "events": events, "next": next, "indexed_through": 10, "log_size": 10 })
}

#[test]
fn every_filter_is_passed_on() {
    let server = FakeServer::start();
    let target = "/audit/events?type=TokenRefused&client_id=my.trusted.app%2Fservice&outcome=refused\
                  &source_ip=2001%3Adb8%3A%3A1&since=24h&until=2026-03-16T10%3A00%3A00%2B01%3A00&from_index=7\
                  &order=asc&limit=3&after=c";
    server.on("GET", target, 200, page(&[event(9)], None));
    Terminal::of(&server).succeeds(&[
        "audit",
        "search",
        "--type",
        "TokenRefused",
        "--client-id",
        "my.trusted.app/service",
        "--outcome",
        "refused",
        "--source-ip",
        "2001:db8::1",
        "--since",
        "24h",
        "--until",
        "2026-03-16T10:00:00+01:00",
        "--from-index",
        "7",
        "--order",
        "asc",
        "--limit",
        "3",
        "--after",
        "c",
    ]);
    server.seen_with_scope("audit:read");
}

#[test]
fn a_page_is_a_table_that_says_how_to_go_on() {
    let server = FakeServer::start();
    server.on(
        "GET",
        "/audit/events?order=desc&limit=50",
        200,
        page(&[event(9), event(8)], Some("c2")),
    );
    let ended = Terminal::of(&server).run(&["audit", "search"]);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (0, "there are more: repeat with --after c2\n")
    );
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0],
        "INDEX  TIME                  TYPE          CLIENT ID               OUTCOME  SOURCE       WHAT"
    );
    assert_eq!(
        lines[1],
        "    9  2026-03-16T10:11:12Z  TokenRefused  my.trusted.app/service  refused  203.0.113.7  invalid_client: secret_mismatch"
    );
}

#[test]
fn a_filter_goes_to_the_server_and_what_it_costs_is_told() {
    let server = FakeServer::start();
    let mut first = page(&[event(9)], Some("c2"));
    first["partial"] = true.into();
    first["unindexed"] = serde_json::json!(["user_agent co \"curl\""]);
    let target = "/audit/events?filter=user_agent+co+%22curl%22&order=desc";
    server.on("GET", &format!("{target}&limit=50"), 200, first);
    server.on(
        "GET",
        &format!("{target}&limit=49&after=c2"),
        200,
        page(&[event(3)], None),
    );
    let ended = Terminal::of(&server).run(&["audit", "search", "--filter", "user_agent co \"curl\""]);
    assert_eq!((ended.code, ended.out.lines().count()), (0, 3), "{}", ended.out);
    assert_eq!(
        ended.err,
        "no index answers this part of the filter: user_agent co \"curl\"\n\
         the log is looked through a part at a time: this may take a while\n"
    );
}

#[test]
fn a_narrow_terminal_shows_the_rest_below_each_row() {
    let server = FakeServer::start();
    server.on("GET", "/audit/events?order=desc&limit=50", 200, page(&[event(9)], None));
    let out = Terminal::of(&server).columns(80).succeeds(&["audit", "search"]);
    assert!(out.lines().all(|line| line.width() <= 80), "{out}");
    assert_eq!(
        out.lines().skip(1).collect::<Vec<_>>(),
        [
            "    9  2026-03-16T10:11:12Z  TokenRefused  my.trusted.app/service  refused",
            "    from 203.0.113.7  invalid_client: secret_mismatch",
        ]
    );
}

#[test]
fn what_an_attacker_wrote_into_the_trail_is_shown_and_not_obeyed() {
    let server = FakeServer::start();
    let mut hostile = event(9);
    hostile["client_id"] = "a\u{1b}[2J\u{202e}b\nOK".into();
    hostile["data"]["reason"] = "\u{1b}]0;title\u{7}\u{9b}31m".into();
    hostile["type"] = "Token\rIssued".into();
    for columns in [None, Some(80), Some(20)] {
        server.on(
            "GET",
            "/audit/events?order=desc&limit=50",
            200,
            page(&[hostile.clone()], None),
        );
        let terminal = Terminal::of(&server);
        let terminal = if let Some(columns) = columns {
            terminal.columns(columns)
        } else {
            terminal
        };
        let out = terminal.succeeds(&["audit", "search"]);
        assert!(out.chars().all(|char| char == '\n' || !char.is_control()), "{out:?}");
        assert!(!out.contains('\u{202e}'), "{out:?}");
    }
}

#[test]
fn json_is_one_event_per_line_as_it_was_sent() {
    let server = FakeServer::start();
    let body = r#"{"events":[{"index":9,"z":1.50,"a":"é"},{"index":8,"data":{"b":[1, 2]}}],"next":null}"#;
    server.on_raw("GET", "/audit/events?order=desc&limit=50", 200, vec![], body.into());
    let out = Terminal::of(&server).succeeds(&["audit", "search", "--json"]);
    assert_eq!(
        out,
        "{\"index\":9,\"z\":1.50,\"a\":\"é\"}\n{\"index\":8,\"data\":{\"b\":[1, 2]}}\n"
    );
}

#[test]
fn all_goes_on_until_there_is_no_more() {
    let server = FakeServer::start();
    let first = "/audit/events?client_id=a&order=desc&limit=1000";
    server
        .on("GET", first, 200, page(&[event(9), event(8)], Some("c/2")))
        .on(
            "GET",
            &format!("{first}&after=c%2F2"),
            200,
            page(&[event(7)], Some("c3")),
        )
        .on("GET", &format!("{first}&after=c3"), 200, page(&[], None));
    let out = Terminal::of(&server).succeeds(&["audit", "search", "--client-id", "a", "--all"]);
    assert_eq!(server.seen_with_scope("audit:read").len(), 3);
    assert_eq!(out.lines().count(), 4, "one title and three rows: {out}");
    Terminal::of(&server).fails(2, &["audit", "search", "--all", "--limit", "10"]);
}

#[test]
fn a_server_that_repeats_a_page_for_ever_is_left() {
    let server = FakeServer::start();
    let first = "/audit/events?order=desc&limit=1000";
    server.on("GET", first, 200, page(&[event(9)], Some("c"))).on(
        "GET",
        &format!("{first}&after=c"),
        200,
        page(&[event(8)], Some("c")),
    );
    let ended = Terminal::of(&server).run(&["audit", "search", "--all", "--json"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("a page that is followed by itself"), "{}", ended.err);
}

#[test]
fn all_in_the_order_of_the_log_ends_where_the_log_ended_when_it_began() {
    // Oldest first the server always gives a next page, and each page that is read is itself an event.
    let server = FakeServer::start();
    let first = "/audit/events?order=asc&limit=1000";
    server.on("GET", first, 200, page(&[event(7), event(8)], Some("c"))).on(
        "GET",
        &format!("{first}&after=c"),
        200,
        page(&[event(9), event(10), event(11)], Some("d")),
    );
    let out = Terminal::of(&server).succeeds(&["audit", "search", "--all", "--order", "asc", "--json"]);
    server.seen();
    assert_eq!(out, format!("{}\n{}\n{}\n", event(7), event(8), event(9)));
}

#[test]
fn all_in_the_order_of_the_log_ends_at_a_page_with_nothing() {
    let server = FakeServer::start();
    let first = "/audit/events?type=ApiDeleted&order=asc&limit=1000";
    let mut nothing_yet = page(&[], Some("d"));
    nothing_yet["partial"] = true.into();
    server
        .on("GET", first, 200, page(&[event(3)], Some("c")))
        .on("GET", &format!("{first}&after=c"), 200, nothing_yet)
        .on("GET", &format!("{first}&after=d"), 200, page(&[], Some("d")));
    let arguments = [
        "audit",
        "search",
        "--type",
        "ApiDeleted",
        "--all",
        "--order",
        "asc",
        "--json",
    ];
    assert_eq!(Terminal::of(&server).succeeds(&arguments).lines().count(), 1);
    server.seen();
}

#[test]
fn a_page_that_the_server_cut_short_is_filled_up() {
    let server = FakeServer::start();
    let mut cut = page(&[event(9)], Some("c"));
    cut["partial"] = true.into();
    let mut empty = page(&[], Some("d"));
    empty["partial"] = true.into();
    server
        .on("GET", "/audit/events?order=desc&limit=2", 200, cut)
        .on("GET", "/audit/events?order=desc&limit=1&after=c", 200, empty)
        .on(
            "GET",
            "/audit/events?order=desc&limit=1&after=d",
            200,
            page(&[event(4)], Some("e")),
        );
    let ended = Terminal::of(&server).run(&["audit", "search", "--limit", "2"]);
    server.seen();
    assert_eq!(ended.out.lines().count(), 3, "{}", ended.out);
    assert_eq!(
        ended.err,
        "the log is looked through a part at a time: this may take a while\nthere are more: repeat with --after e\n"
    );
}

#[test]
fn oldest_first_says_how_to_see_what_comes_later() {
    let server = FakeServer::start();
    server.on(
        "GET",
        "/audit/events?order=asc&limit=50",
        200,
        page(&[event(9)], Some("c")),
    );
    let ended = Terminal::of(&server).run(&["audit", "search", "--order", "asc"]);
    assert_eq!(ended.err, "what comes later: repeat with --after c\n");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_search_quietly() {
    let server = FakeServer::start();
    let first = "/audit/events?order=desc&limit=1000";
    server.on("GET", first, 200, page(&[event(9), event(8)], Some("c")));
    let ended = Terminal::of(&server)
        .breaks_after(10)
        .run(&["audit", "search", "--all", "--json"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    server.seen();
}

#[test]
fn a_search_that_finds_nothing_and_an_index_that_lags_say_so() {
    let server = FakeServer::start();
    let answer = json!({ "events": [], "indexed_through": 4, "log_size": 10 });
    server.on("GET", "/audit/events?order=desc&limit=50", 200, answer);
    let ended = Terminal::of(&server).run(&["audit", "search"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, ""));
    assert_eq!(
        ended.err,
        "not searched yet: the newest 6 events of the log\nno event matches\n"
    );
}

#[test]
fn a_search_of_an_index_that_was_pruned_says_where_it_begins() {
    let server = FakeServer::start();
    let answer = json!({ "events": [], "indexed_through": 9, "log_size": 9, "indexed_from": 7 });
    server.on("GET", "/audit/events?order=desc&limit=50", 200, answer);
    let ended = Terminal::of(&server).run(&["audit", "search"]);
    assert_eq!(ended.code, 0);
    assert_eq!(
        ended.err,
        "the index begins at event 7: what was before is not searched; tail and export read the log\n\
         no event matches\n"
    );
}

#[test]
fn a_filter_that_the_server_does_not_understand_is_an_error() {
    let server = FakeServer::start();
    let problem = json!({ "title": "Bad Request", "status": 400, "detail": "type: there is no such type; did you mean TokenIssued?",
        "errors": [{ "field": "type", "message": "there is no such type; did you mean TokenIssued?" }] });
    server.on("GET", "/audit/events?type=TokenIsued&order=desc&limit=50", 400, problem);
    let err = Terminal::of(&server).fails(1, &["audit", "search", "--type", "TokenIsued"]);
    assert_eq!(err, "error: type: there is no such type; did you mean TokenIssued?\n");
}
