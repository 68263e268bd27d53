use super::constructed_log::{ADMIN, ConstructedLog, DAY, GUESSER, HOSTILE, HOSTILE_NAME, HOSTILE_OWNER, ORDERS, at};
use super::document::{Cell, Report, Table};
use super::*;

async fn try_report(log: &ConstructedLog, name: &str, given: &[(&str, &str)]) -> Result<Report, ReportError> {
    let kind = ReportKind::named(name).unwrap_or_else(|| panic!("{name}"));
    let given: Vec<_> = given
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let parameters = kind.parameters(&given, &*log.store).await?;
    let checkpoint = LogCheckpoint {
        note: format!(
            "example.com/log\n{}\nroot\n\n— example.com/log sig\n",
            parameters.through_index
        ),
        root: [7; 32],
    };
    let server = "https://id.example.com".to_owned();
    kind.produce(parameters, log.store.clone(), server, Ok(checkpoint), ())
        .await
}

async fn report(log: &ConstructedLog, name: &str, given: &[(&str, &str)]) -> Report {
    try_report(log, name, given)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn table<'a>(report: &'a Report, name: &str) -> &'a Table {
    report
        .tables
        .iter()
        .find(|table| table.name == name)
        .unwrap_or_else(|| panic!("{name}"))
}

/// The column's values as people read them.
fn values(report: &Report, table_name: &str, column: &str) -> Vec<String> {
    let table = table(report, table_name);
    let at = table
        .columns
        .iter()
        .position(|known| known.name == column)
        .unwrap_or_else(|| panic!("{column}"));
    table.rows.iter().map(|row| row[at].text()).collect()
}

fn figures(report: &Report) -> Vec<(&str, String)> {
    report
        .summary
        .iter()
        .map(|(name, value)| (name.as_str(), value.text()))
        .collect()
}

fn figure(report: &Report, name: &str) -> String {
    let found = report.summary.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("{name}")).1.text()
}

#[tokio::test]
async fn the_inventory_lists_what_is_registered_and_as_of_what_was() {
    let log = ConstructedLog::of_120_days().await;
    let now = report(&log, "inventory", &[]).await;
    assert_eq!(values(&now, "applications", "client_id"), [ADMIN, HOSTILE, ORDERS]);
    assert_eq!(values(&now, "applications", "scope")[2], "read, update, DomainApi");
    assert_eq!(
        values(&now, "applications", "secrets"),
        ["1", "1", "1"],
        "secret 1 is over since day 12"
    );
    let then = report(&log, "inventory", &[("as_of", "2026-01-01T00:00:00Z")]).await;
    assert_eq!(values(&then, "applications", "client_id"), [ADMIN, ORDERS]);
    assert_eq!(values(&then, "applications", "scope")[1], "read, update");
    let index = report(&log, "inventory", &[("as_of", "7")]).await;
    assert_eq!((index.through_index, figure(&index, "Applications")), (8, "3".into()));
    assert_eq!(
        values(&index, "applications", "secrets")[2],
        "2",
        "on day 11 both are accepted"
    );
}

#[tokio::test]
async fn the_access_review_says_who_made_it_so_and_what_to_look_at() {
    let log = ConstructedLog::of_120_days().await;
    let review = report(&log, "access-review", &[]).await;
    assert!(review.is_signed_off);
    assert_eq!(values(&review, "access", "registered_by"), ["system", ADMIN, ADMIN]);
    assert_eq!(values(&review, "access", "change")[2], "SecretRotated");
    assert_eq!(values(&review, "access", "change_index"), ["1", "3", "7"]);
    let to_look_at = values(&review, "access", "to_look_at");
    assert_eq!(
        to_look_at[0],
        "may use this server's own API, no owner, from any network, a secret that never expires"
    );
    assert!(!to_look_at[2].contains("no owner"), "{to_look_at:?}");
    let one = report(&log, "access-review", &[("client_id", ORDERS), ("as_of", "6")]).await;
    assert_eq!(values(&one, "access", "reason"), ["ticket 4711"]);
}

#[tokio::test]
async fn an_old_secret_is_one_that_is_still_accepted_and_older_than_the_days() {
    let log = ConstructedLog::of_120_days().await;
    // Day 101: secrets 100 (day 0), 2 (day 1) and 3 (day 11) are accepted, secret 1 is not any more.
    let secrets = report(&log, "old-secrets", &[("days", "95")]).await;
    assert_eq!(values(&secrets, "secrets", "client_id"), [ADMIN, HOSTILE]);
    assert_eq!(values(&secrets, "secrets", "age_days"), ["101", "100"]);
    assert_eq!(values(&secrets, "secrets", "uses"), ["0", "0"]);
    let secrets = report(&log, "old-secrets", &[("days", "90")]).await;
    assert_eq!(
        values(&secrets, "secrets", "client_id"),
        [ADMIN, HOSTILE],
        "day 11 is exactly 90 days ago"
    );
    let secrets = report(&log, "old-secrets", &[("days", "89")]).await;
    assert_eq!(values(&secrets, "secrets", "uses"), ["0", "0", "1"]);
    assert_eq!(figure(&secrets, "Valid secrets"), "3");
}

#[tokio::test]
async fn a_scope_is_unused_when_no_token_of_the_days_carried_it() {
    let log = ConstructedLog::of_120_days().await;
    // Day 101 less 60: the token of day 50 asked for `read`.
    let scopes = report(&log, "unused-scopes", &[("days", "60"), ("client_id", ORDERS)]).await;
    assert_eq!(values(&scopes, "unused", "scope"), ["update", "DomainApi"]);
    assert_eq!(
        values(&scopes, "unused", "last_in_token"),
        ["2026-01-03T00:00:00.000000Z", ""]
    );
    assert_eq!(values(&scopes, "by_default", "scope"), [""; 0]);
    // The token of day 2 carried `update` without being asked for it.
    let scopes = report(&log, "unused-scopes", &[("days", "100"), ("client_id", ORDERS)]).await;
    assert_eq!(values(&scopes, "unused", "scope"), ["DomainApi"]);
    assert_eq!(values(&scopes, "by_default", "scope"), ["update"]);
    let all = report(&log, "unused-scopes", &[("days", "100")]).await;
    assert_eq!(figure(&all, "Scopes that applications may have"), "7");
}

#[tokio::test]
async fn an_application_is_dormant_when_it_got_no_token_in_the_days() {
    let log = ConstructedLog::of_120_days().await;
    let dormant = report(&log, "dormant-applications", &[("days", "40")]).await;
    assert_eq!(values(&dormant, "applications", "client_id"), [ADMIN, HOSTILE, ORDERS]);
    assert_eq!(values(&dormant, "applications", "tokens"), ["0", "0", "3"]);
    assert_eq!(values(&dormant, "applications", "last_token_index"), ["", "", "21"]);
    let dormant = report(&log, "dormant-applications", &[("days", "60")]).await;
    assert_eq!(values(&dormant, "applications", "client_id"), [ADMIN, HOSTILE]);
    let dormant = report(&log, "dormant-applications", &[("days", "100")]).await;
    assert_eq!(
        values(&dormant, "applications", "client_id"),
        [ADMIN],
        "the other is registered since"
    );
    assert_eq!(figure(&dormant, "without a token yet, but registered since"), "1");
}

#[tokio::test]
async fn a_burst_of_guesses_counts_what_was_throttled_and_says_that_a_token_followed() {
    let log = ConstructedLog::of_120_days().await;
    let bursts = report(&log, "failed-authentication-bursts", &[]).await;
    assert_eq!(
        figures(&bursts),
        [
            ("Failed authentications", "42".to_owned()),
            ("Clients with a burst", "1".to_owned()),
            ("Networks with a burst", "1".to_owned()),
            ("Bursts followed by a token", "2".to_owned()),
        ]
    );
    assert_eq!(values(&bursts, "by_client", "target"), [ORDERS]);
    assert_eq!(values(&bursts, "by_client", "failures"), ["42"]);
    assert_eq!(values(&bursts, "by_client", "throttled"), ["30"]);
    assert_eq!(values(&bursts, "by_client", "first_index"), ["8"]);
    assert_eq!(values(&bursts, "by_client", "last_index"), ["20"]);
    assert_eq!(
        values(&bursts, "by_client", "counterparts"),
        [format!("{GUESSER} (42)")]
    );
    assert_eq!(values(&bursts, "by_client", "success_index"), ["21"]);
    assert_eq!(values(&bursts, "by_network", "target"), ["203.0.113.0/24"]);
    // The throttled ones are 49 seconds after the last of the twelve.
    let apart = report(
        &log,
        "failed-authentication-bursts",
        &[("window_seconds", "30"), ("threshold", "12")],
    )
    .await;
    assert_eq!(values(&apart, "by_client", "failures"), ["12", "30"]);
    assert_eq!(values(&apart, "by_client", "followed_by_success"), ["no", "yes"]);
    let many = report(&log, "failed-authentication-bursts", &[("threshold", "43")]).await;
    assert_eq!(figure(&many, "Clients with a burst"), "0");
    let later = report(
        &log,
        "failed-authentication-bursts",
        &[("since", "2026-02-20T00:00:06Z")],
    )
    .await;
    assert_eq!(
        values(&later, "by_client", "failures"),
        ["36"],
        "day 50 is February 20th"
    );
}

#[tokio::test]
async fn a_token_for_somebody_else_after_a_burst_is_not_suspicious() {
    let log = ConstructedLog::empty();
    log.register(
        0,
        grantlog_projections::values::Actor::System,
        ORDERS,
        "read",
        1,
        |_| {},
    )
    .await;
    for second in 0..12 {
        log.refuse(second, ORDERS, GUESSER).await;
    }
    log.token(13, ORDERS, 1, "read", true, "192.0.2.1").await;
    log.token(14, "other", 2, "read", true, GUESSER).await;
    let bursts = report(&log, "failed-authentication-bursts", &[]).await;
    assert_eq!(
        values(&bursts, "by_client", "followed_by_success"),
        ["no"],
        "from another address"
    );
    assert_eq!(
        values(&bursts, "by_network", "followed_by_success"),
        ["no"],
        "another client"
    );
}

#[tokio::test]
async fn changes_have_their_actor_their_values_and_their_reason() {
    let log = ConstructedLog::of_120_days().await;
    let changes = report(&log, "administrator-changes", &[]).await;
    assert_eq!(values(&changes, "changes", "index"), ["1", "2", "3", "6", "7"]);
    assert_eq!(
        values(&changes, "changes", "actor"),
        ["system", ADMIN, ADMIN, ADMIN, ADMIN]
    );
    assert_eq!(
        values(&changes, "changes", "what")[3],
        "scope: read update → read update DomainApi"
    );
    assert_eq!(values(&changes, "changes", "reason")[3], "ticket 4711");
    assert_eq!(values(&changes, "by_actor", "changes"), ["4", "1"]);
    let few = report(
        &log,
        "administrator-changes",
        &[("since", "2026-01-02T00:00:00Z"), ("until", "2026-01-12T00:00:00Z")],
    )
    .await;
    assert_eq!(
        values(&few, "changes", "index"),
        ["3", "6"],
        "until is not in the period"
    );
}

#[tokio::test]
async fn revocations_and_reference_tokens_are_changes_and_a_token_that_its_application_gave_up_is_none() {
    let log = ConstructedLog::empty();
    log.revocations().await;
    let changes = report(&log, "administrator-changes", &[]).await;
    assert_eq!(
        values(&changes, "changes", "type"),
        [
            "ReferenceTokenIssued",
            "ReferenceTokenRevoked",
            "TokenRevoked",
            "TokensRevoked",
            "SecretRevoked",
            "ApplicationDisabled"
        ]
    );
    assert_eq!(values(&changes, "changes", "index"), ["0", "1", "2", "4", "5", "6"]);
    assert!(values(&changes, "changes", "actor").iter().all(|actor| actor == ADMIN));
    assert!(
        values(&changes, "changes", "object")
            .iter()
            .all(|object| object == ORDERS)
    );
    let what = values(&changes, "changes", "what");
    assert_eq!(
        what[0],
        "new reference token 00000000-0000-0000-0000-000000000001 ending in Qz7k, expires 2026-01-02T00:00:00.000000Z, \
         description: the import, scope: read, audiences: https://api.example"
    );
    assert_eq!(
        what[1..],
        [
            "reference token 00000000-0000-0000-0000-000000000001 revoked",
            "token 00000000-0000-0000-0000-000000000002 revoked",
            "all tokens issued until 2026-01-01T00:00:04.000000Z revoked",
            "secret 00000000-0000-0000-0000-000000000003 revoked with its tokens",
            "its tokens revoked",
        ]
    );
    assert_eq!(
        values(&changes, "changes", "reason")[1..4],
        ["leaked", "lost", "all lost"]
    );
}

#[tokio::test]
async fn holds_and_removals_are_changes_by_somebody() {
    let log = ConstructedLog::empty();
    log.hold_and_remove().await;
    let changes = report(&log, "administrator-changes", &[]).await;
    assert_eq!(
        values(&changes, "changes", "type"),
        ["LegalHoldPlaced", "LegalHoldReleased", "EventsRemoved", "IndexPruned"]
    );
    assert_eq!(
        values(&changes, "changes", "actor"),
        ["auditor", "auditor", "system", "system"]
    );
    assert_eq!(values(&changes, "changes", "reason")[0], "case 7");
}

#[tokio::test]
async fn an_application_that_was_not_registered_in_the_range_gets_no_clean_review() {
    let log = ConstructedLog::of_120_days().await;
    for (name, given) in [
        ("access-review", vec![("client_id", "orders-wroker")]),
        ("access-review", vec![("client_id", "")]),
        ("access-review", vec![("client_id", ORDERS), ("as_of", "1")]),
        (
            "access-review",
            vec![("client_id", ORDERS), ("as_of", "2025-12-31T00:00:00Z")],
        ),
        ("unused-scopes", vec![("client_id", ORDERS), ("through_index", "2")]),
        ("unused-scopes", vec![("client_id", "orders-wroker")]),
    ] {
        match try_report(&log, name, &given).await {
            Err(ReportError::Parameter(invalid)) => assert_eq!(invalid.parameter, "client_id", "{given:?}"),
            _ => panic!("{name} {given:?}"),
        }
    }
    report(&log, "unused-scopes", &[("client_id", ORDERS), ("through_index", "3")]).await;
}

#[tokio::test]
async fn who_read_the_trail_is_listed_and_who_was_refused() {
    let log = ConstructedLog::of_120_days().await;
    let access = report(&log, "audit-access", &[]).await;
    assert_eq!(values(&access, "accesses", "how"), ["search", "export as ndjson"]);
    assert_eq!(values(&access, "accesses", "asked_for")[0], "client_id=orders-worker");
    assert_eq!(values(&access, "readers", "exports"), ["1"]);
    assert_eq!(values(&access, "refused", "index"), ["24"]);
    assert_eq!(values(&access, "refused", "reason"), ["insufficient_scope"]);
}

#[tokio::test]
async fn the_attestation_holds_the_computed_root_against_the_signed_one() {
    let log = ConstructedLog::of_120_days().await;
    let failed = report(&log, "log-integrity", &[]).await;
    assert_eq!(figure(&failed, "Result"), "FAILED: 1 problems, see below");
    let root = figure(&failed, "Root hash, computed");
    use base64::Engine;
    let root: [u8; 32] = base64::engine::general_purpose::STANDARD
        .decode(root)
        .unwrap()
        .try_into()
        .unwrap();
    let kind = ReportKind::named("log-integrity").unwrap();
    let produce = async |checkpoint| {
        let parameters = kind.parameters(&[], &*log.store).await.unwrap();
        kind.produce(parameters, log.store.clone(), "https://id".into(), checkpoint, ())
            .await
            .unwrap()
    };
    let note = "note".to_owned();
    let fine = produce(Ok(LogCheckpoint { note, root })).await;
    assert_eq!(figure(&fine, "Result"), "the log is the one that the checkpoint signs");
    assert_eq!((figure(&fine, "Events"), fine.tables[0].rows.len()), ("28".into(), 0));
    assert_eq!(
        values(&fine, "types", "events")
            .iter()
            .map(|count| count.parse::<u64>().unwrap())
            .sum::<u64>(),
        28
    );
    let none = produce(Err("the log was rolled back".into())).await;
    assert!(
        none.remarks.iter().any(|remark| remark.contains("rolled back")),
        "{:?}",
        none.remarks
    );
}

#[tokio::test]
async fn an_event_that_was_removed_and_not_on_the_record_is_no_attested_log() {
    use crate::event_store::{EventStore, removal};
    let log = ConstructedLog::of_120_days().await;
    let unsigned = figure(&report(&log, "log-integrity", &[]).await, "Root hash, computed");
    // A token, and a fact that the state is made of.
    for (index, expected) in [
        (4, "event 4 was removed, and the log does not say so"),
        (7, "event 7 was removed from the stream application-"),
    ] {
        let events = log.store.read_indexes(&[index]).await.unwrap();
        let left = events.iter().map(|event| removal::removed(event).unwrap()).collect();
        log.store.remove(left).await.unwrap();
        let report = report(&log, "log-integrity", &[]).await;
        assert_eq!(
            figure(&report, "Root hash, computed"),
            unsigned,
            "the tree alone does not tell"
        );
        let problems = values(&report, "problems", "problem");
        assert!(problems[0].starts_with(expected), "{problems:?}");
        assert!(figure(&report, "Result").starts_with("FAILED: "));
    }
}

#[tokio::test]
async fn starts_stops_crashes_and_silences_are_told_apart() {
    let log = ConstructedLog::of_120_days().await;
    let complete = report(&log, "log-completeness", &[("gap_seconds", "2592000")]).await;
    assert_eq!(
        figures(&complete)[1..],
        [
            ("Starts", "3".to_owned()),
            ("Stops in an orderly way", "1".to_owned()),
            ("Runs that ended without a stop", "1".to_owned()),
            ("Refused requests, each an event", "13".to_owned()),
            ("Throttled requests, counted only", "30".to_owned()),
            ("Missing indexes", "0".to_owned()),
        ]
    );
    // Longer than 30 days: days 11 to 50 and 62 to 100; a crash and a stop are listed however short they were.
    assert_eq!(values(&complete, "gaps", "before_index"), ["7", "21", "25", "26"]);
    let why = values(&complete, "gaps", "why");
    assert_eq!(why[0], "running, and nobody asked");
    assert!(why[1].starts_with("ended without a stop"), "{why:?}");
    assert_eq!(why[3], "stopped");
    assert!(values(&complete, "runs", "detail")[1].contains("another configuration"));
    assert_eq!(values(&complete, "refusals", "count"), ["1", "12", "30"]);
}

#[tokio::test]
async fn a_node_that_stops_while_another_is_up_is_no_interruption() {
    let log = ConstructedLog::empty();
    for (seconds, node) in [(0, "a"), (10, "b")] {
        log.node_starts(seconds, node, true).await;
    }
    log.node_stops(20, "a").await;
    log.node_starts(60, "a", true).await;
    // The second one crashed: the first went on.
    log.node_starts(90, "b", false).await;
    let complete = report(&log, "log-completeness", &[]).await;
    assert_eq!(values(&complete, "gaps", "why"), [""; 0]);
    assert_eq!(figure(&complete, "Runs that ended without a stop"), "1");
    let details = values(&complete, "runs", "detail");
    assert!(
        details[0].contains("node a") && details[2].contains("node a"),
        "{details:?}"
    );
    assert!(
        !details.concat().contains("another configuration"),
        "each node has its own"
    );
    log.node_stops(100, "a").await;
    log.node_stops(110, "b").await;
    log.node_starts(500, "b", true).await;
    let complete = report(&log, "log-completeness", &[]).await;
    assert_eq!(values(&complete, "gaps", "why"), ["stopped"], "nobody was up");
}

#[tokio::test]
async fn nobody_is_said_to_have_run_of_whom_nothing_but_a_start_is_known() {
    let log = ConstructedLog::empty();
    // The one that crashed never comes up again, for its name was another at each start.
    for (seconds, node) in [(0, "gone"), (10, "a")] {
        log.node_starts(seconds, node, true).await;
    }
    log.node_stops(20, "a").await;
    log.node_starts(100_000, "a", true).await;
    let complete = report(&log, "log-completeness", &[]).await;
    let why = values(&complete, "gaps", "why");
    assert_eq!(why, ["no node recorded anything; not known to have stopped: gone"]);
}

#[tokio::test]
async fn before_the_very_first_start_nothing_was_stopped() {
    let log = ConstructedLog::empty();
    log.first_start().await;
    let complete = report(&log, "log-completeness", &[]).await;
    assert_eq!(values(&complete, "gaps", "why"), [""; 0]);
    log.start_after_a_crash(2).await;
    let complete = report(&log, "log-completeness", &[]).await;
    assert_eq!(values(&complete, "gaps", "before_index"), ["1"]);
}

#[tokio::test]
async fn every_report_has_the_same_bytes_for_the_same_range_whatever_came_later() {
    let log = ConstructedLog::of_120_days().await;
    let mut first = Vec::new();
    for kind in &REPORTS {
        for format in ReportFormat::ALL {
            first.push(format.render(&report(&log, kind.name, &[]).await));
        }
    }
    log.token(110 * DAY, ORDERS, 3, "read", true, "192.0.2.7").await;
    log.refuse(111 * DAY, ORDERS, GUESSER).await;
    let mut again = first.iter();
    for kind in &REPORTS {
        for format in ReportFormat::ALL {
            let repeated = report(&log, kind.name, &[("through_index", "28")]).await;
            assert_eq!(
                again.next(),
                Some(&format.render(&repeated)),
                "{} as {}",
                kind.name,
                format.as_str()
            );
        }
    }
}

#[tokio::test]
async fn the_printed_parameters_make_the_report_again() {
    let log = ConstructedLog::of_120_days().await;
    for kind in &REPORTS {
        let given: Vec<(&str, &str)> = kind
            .parameters
            .iter()
            .filter_map(|parameter| match parameter.name {
                "since" => Some(("since", "90d")),
                "until" => Some(("until", "1d")),
                "as_of" => Some(("as_of", "2026-03-01T00:00:00Z")),
                _ => None,
            })
            .collect();
        let first = report(&log, kind.name, &given).await;
        let printed: Vec<(&str, &str)> = first
            .parameters
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let again = report(&log, kind.name, &printed).await;
        assert_eq!(
            ReportFormat::Json.render(&again),
            ReportFormat::Json.render(&first),
            "{}",
            kind.name
        );
    }
}

#[tokio::test]
async fn a_name_from_outside_is_text_in_every_format() {
    let log = ConstructedLog::of_120_days().await;
    let inventory = report(&log, "inventory", &[]).await;
    let shown = |format: ReportFormat| String::from_utf8(format.render(&inventory)).unwrap();
    let html = shown(ReportFormat::Html);
    assert!(!html.contains("<img"), "{html}");
    assert!(html.contains("&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt; &amp; co"));
    let csv = shown(ReportFormat::Csv);
    let neutral = format!("\"'{}\"", HOSTILE_OWNER.replace('"', "\"\""));
    assert!(csv.contains(&neutral), "{csv}");
    let json: serde_json::Value = serde_json::from_str(&shown(ReportFormat::Json)).unwrap();
    assert_eq!(json["tables"][0]["rows"][1]["name"], HOSTILE_NAME);
    assert_eq!(json["tables"][0]["rows"][1]["owner"], HOSTILE_OWNER);
}

#[tokio::test]
async fn what_moves_a_cursor_or_turns_the_text_is_escaped_for_people() {
    let log = ConstructedLog::empty();
    log.refuse(0, "a\u{1b}[2J\u{202e}b\r\n<c>", GUESSER).await;
    log.refuse(1, "a\u{1b}[2J\u{202e}b\r\n<c>", GUESSER).await;
    let bursts = report(&log, "failed-authentication-bursts", &[("threshold", "2")]).await;
    for format in [ReportFormat::Text, ReportFormat::Html] {
        let shown = String::from_utf8(format.render(&bursts)).unwrap();
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\r']), "{shown:?}");
        assert!(shown.contains("\\u{1b}[2J\\u{202e}b\\u{d} / "), "{shown}");
    }
}

#[tokio::test]
async fn every_report_says_what_it_speaks_of_and_which_controls_it_serves() {
    let log = ConstructedLog::of_120_days().await;
    for kind in &REPORTS {
        let report = report(&log, kind.name, &[]).await;
        for format in ReportFormat::ALL {
            let shown = String::from_utf8(format.render(&report)).unwrap();
            for expected in [
                "through_index",
                "https://id.example.com",
                env!("CARGO_PKG_VERSION"),
                "sig",
            ] {
                assert!(
                    shown.contains(expected),
                    "{} as {} lacks {expected}",
                    kind.name,
                    format.as_str()
                );
            }
            for control in kind.controls {
                assert!(shown.contains(control.control), "{} as {}", kind.name, format.as_str());
            }
        }
        assert!(kind.controls.len() >= 4, "{}", kind.name);
    }
}

#[tokio::test]
async fn an_empty_log_has_reports_too() {
    let log = ConstructedLog::empty();
    for kind in &REPORTS {
        let report = report(&log, kind.name, &[]).await;
        for format in ReportFormat::ALL {
            assert!(!format.render(&report).is_empty());
        }
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named_with_what_would_be_right() {
    let log = ConstructedLog::of_120_days().await;
    for (name, parameter, value, expected) in [
        (
            "inventory",
            "days",
            "3",
            "inventory has no such parameter; it has as_of, through_index, format",
        ),
        ("inventory", "through_index", "29", "must be 0 to 28"),
        ("inventory", "as_of", "28", "the range has 28 events"),
        ("inventory", "as_of", "yesterday", "RFC 3339"),
        ("old-secrets", "days", "0", "must be 1 to 3650"),
        ("old-secrets", "days", "+5", "must be 1 to 3650"),
        ("audit-access", "since", "x", "a span back"),
    ] {
        let Err(ReportError::Parameter(invalid)) = try_report(&log, name, &[(parameter, value)]).await else {
            panic!("{name} {parameter}={value}");
        };
        assert!(invalid.message.contains(expected), "{}", invalid.message);
    }
}

#[tokio::test]
async fn the_state_of_then_is_found_without_the_state_of_now() {
    let log = ConstructedLog::of_120_days().await;
    let then = state_as_of(log.store.clone(), Cut::Time(at(0)), ()).await.unwrap();
    assert_eq!(then.application_count(), 2);
    let then = state_as_of(log.store.clone(), Cut::Index(3), ()).await.unwrap();
    assert_eq!(then.application_count(), 3);
    let _ = &log.folder;
}

#[test]
fn a_table_that_is_full_counts_the_rest() {
    const ONE: &[document::Column] = &[document::column("n", "N")];
    let mut table = Table::new("t", "T", "none", ONE);
    for n in 0..MAX_ROWS as u64 + 3 {
        table.row([Cell::Number(n)]);
    }
    assert_eq!((table.rows.len(), table.omitted), (MAX_ROWS, 3));
}
