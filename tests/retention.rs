//! What is to be given up is given up, a held range is not, and nobody who asks for a token notices.

mod running_server;

use grantlog::audit::transparency::leaf::leaf_of;
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, Direction, EventStore, ExpectedRevision, MAX_EVENTS_PER_READ, StoredEvent, codec};
use grantlog_projections::Event;
use grantlog_projections::event::{ApiRegistered, Dialect, RefusalReason, TokenRefused};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, ApiId, Audience, Name, Source, StreamName, Timestamp};
use reqwest::{Client, StatusCode};
use running_server::{Administrator, RunningServer, Start, request_token};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// Events of a segment of the audit index: what is given up at a time.
const UNIT: usize = 16_384;
/// Whole units that can be given up: four more are always kept.
const OLD_UNITS: usize = 2;
/// Comes from here, and from nowhere else: what is removed must not be found in the file.
const MARKER: &str = "198.51.100.77";
const PATIENCE: Duration = Duration::from_secs(120);

/// A log with two units of refusals from 400 days ago and enough newer ones behind them.
async fn old_log() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a data folder");
    let store = open(&data);
    let now = chrono::Utc::now().timestamp_micros();
    let registered = old_api(Timestamp::from_unix_micros(now - 400 * 86_400_000_000));
    let append = Append {
        stream: registered.stream.as_str().to_owned(),
        expected: ExpectedRevision::NoStream,
        events: vec![codec::encode(&registered).expect("it is small")],
    };
    store.append_to_stream(append).await.expect("it is appended");
    let mut size = 1;
    while size < (OLD_UNITS + 4) * UNIT + 100 {
        let is_old = size < OLD_UNITS * UNIT;
        let time = Timestamp::from_unix_micros(now - if is_old { 400 * 86_400_000_000 } else { 3_600_000_000 });
        let events = (0..100).map(|_| refusal(time)).collect::<Vec<_>>();
        size += events.len();
        let append = Append {
            stream: StreamName::token_requests(None).as_str().to_owned(),
            expected: ExpectedRevision::Any,
            events: events
                .iter()
                .map(|event| codec::encode(event).expect("it is small"))
                .collect(),
        };
        store.append_to_stream(append).await.expect("it is appended");
    }
    store.close().await;
    folder
}

/// A fact that the state is made of.
fn old_api(time: Timestamp) -> Envelope {
    let audience = Audience::parse("https://old.example").expect("an audience");
    Envelope {
        stream: StreamName::api(ApiId::of(&audience)),
        actor: Actor::System,
        source: None,
        event: ApiRegistered {
            api_id: ApiId::of(&audience),
            audience,
            name: Name::parse("old").expect("a name"),
            scopes: Vec::new(),
            signing_alg: None,
            token_type: Default::default(),
            token_lifetime_seconds: None,
        }
        .into(),
        ..refusal(time)
    }
}

fn refusal(time: Timestamp) -> Envelope {
    Envelope {
        id: Uuid::now_v7(),
        stream: StreamName::token_requests(None),
        time,
        actor: Actor::Anonymous,
        source: Some(Source {
            ip: MARKER.parse().expect("an address"),
            user_agent: None,
        }),
        trace_id: None,
        event: TokenRefused {
            client_id: Some("guessed".into()),
            application_id: None,
            error: "invalid_client".into(),
            reason: RefusalReason::UnknownClient,
            detail: None,
            dialect: Dialect::Standard,
        }
        .into(),
    }
}

fn open(data: &Path) -> SqliteEventStore {
    SqliteEventStore::open(SqliteOptions::new(data.join("events.db"))).expect("the log opens")
}

async fn read(data: &Path, through: usize) -> Vec<StoredEvent> {
    let store = SqliteEventStore::open_read_only(SqliteOptions::new(data.join("events.db"))).expect("the log opens");
    let mut log: Vec<StoredEvent> = Vec::new();
    while log.len() < through {
        let wanted = (through - log.len()).min(MAX_EVENTS_PER_READ);
        log.extend(
            store
                .read_all(log.len() as u64, Direction::Forwards, wanted)
                .await
                .expect("it can be read"),
        );
    }
    log
}

fn auditor(server: &RunningServer) -> (String, String) {
    let profile = std::fs::read(server.data_dir.join("auditor.json")).expect("a profile");
    let profile: Value = serde_json::from_slice(&profile).expect("JSON");
    let text = |name: &str| profile[name].as_str().expect(name).to_owned();
    (text("client_id"), text("client_secret"))
}

struct Auditor {
    http: Client,
    url: String,
    token: String,
}

impl Auditor {
    async fn of(server: &RunningServer) -> Self {
        let http = Client::new();
        let (id, secret) = auditor(server);
        let (status, answer) = request_token(&http, &server.url, &id, &secret, &[]).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        Self {
            http,
            url: server.url.clone(),
            token: answer["access_token"].as_str().expect("a token").to_owned(),
        }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .json(&body);
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn status(&self) -> Value {
        let request = self
            .http
            .get(format!("{}/audit/retention", self.url))
            .bearer_auth(&self.token);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    async fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let status = self.status().await;
            if is_so(&status) {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_facts_of_the_trail_are_removed_for_good_and_nothing_else_is() {
    let folder = old_log().await;
    let data = folder.path().join("data");
    let through = (OLD_UNITS + 4) * UNIT;
    let before = read(&data, through).await;

    let server = Start::over(&data).with_config("[retention]\nlog_days = 365\n").start();
    let auditor = Auditor::of(&server).await;
    let old = (OLD_UNITS * UNIT) as u64;
    let status = auditor
        .wait_until("both units are given up", |status| {
            status["removed_through"] == old && status["indexed_from"] == old
        })
        .await;
    assert_eq!(status["removed_events"], old - 1, "all but the API");

    // Searches begin behind it, and say so.
    let (_, page) = auditor
        .call(reqwest::Method::GET, "/audit/events?order=asc&limit=1", Value::Null)
        .await;
    assert_eq!(page["events"][0]["index"], old);
    assert_eq!(page["indexed_from"], old);
    // What was removed is itself an event.
    let begin = Instant::now();
    let page = loop {
        let (_, page) = auditor
            .call(reqwest::Method::GET, "/audit/events?type=EventsRemoved", Value::Null)
            .await;
        if page["events"]
            .as_array()
            .is_some_and(|events| events.len() == OLD_UNITS)
        {
            break page;
        }
        assert!(begin.elapsed() < PATIENCE, "both are found: {page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let ranges: Vec<_> = page["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| {
            (
                &event["data"]["from_index"],
                &event["data"]["through_index"],
                &event["data"]["rule"],
            )
        })
        .collect();
    let unit = UNIT as u64;
    assert_eq!(
        ranges,
        [
            (&json!(unit), &json!(2 * unit), &json!("age")),
            (&json!(0), &json!(unit), &json!("age"))
        ]
    );
    assert_eq!(server.stop().code(), Some(0));

    let after = read(&data, through).await;
    let has_mark = |bytes: &[u8]| bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes());
    let marks = before[OLD_UNITS * UNIT..].iter().filter(|event| has_mark(&event.bytes));
    let file = std::fs::read(data.join("events.db")).expect("the log");
    let in_file = file.windows(MARKER.len()).filter(|window| *window == MARKER.as_bytes());
    // The log has up to 200 more behind what was read; of the 32,767 that were removed there is none.
    assert!((marks.count()..=4 * UNIT + 200).contains(&in_file.count()));
    for (before, after) in before.iter().zip(&after) {
        let event = codec::decode(before).expect("it can be read").envelope.event;
        let is_gone = (before.index as usize) < OLD_UNITS * UNIT && matches!(event, Event::TokenRefused(_));
        assert_eq!(is_gone, before != after, "event {}", before.index);
        assert_eq!(leaf_of(&before.bytes), leaf_of(&after.bytes), "event {}", before.index);
    }
    // A healthy folder: the log verifies, and so does all that was built from it before the removal.
    for command in [&["audit", "verify"][..], &["rebuild"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_grantlog"))
            .args(command)
            .arg("--data-dir")
            .arg(&data)
            .output()
            .expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    // The state is what it was: the server starts from it, built anew.
    std::fs::remove_file(data.join("projections.db")).expect("there is one");
    let server = Start::over(&data).start();
    let (_, apis) = Administrator::of(&server).await.get("/admin/apis").await;
    assert!(apis.to_string().contains("https://old.example"), "{apis}");
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_keeps_its_range_until_it_is_released() {
    let folder = old_log().await;
    let data = folder.path().join("data");
    let server = Start::over(&data).start();
    let auditor = Auditor::of(&server).await;
    let inside = UNIT as u64 + 5;
    let (status, hold) = auditor
        .call(
            reqwest::Method::POST,
            "/audit/holds",
            json!({"from_index": inside, "through_index": inside + 10, "reason": "case 7"}),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{hold}");
    assert_eq!(
        (&hold["from_index"], &hold["placed_by"]),
        (&json!(inside), &json!("grantlog.auditor"))
    );
    // An administrator can neither place nor release one.
    let administrator = Administrator::of(&server).await;
    let (refused, _) = administrator
        .post("/audit/holds", &json!({"from_index": 0, "reason": "x"}))
        .await;
    assert_eq!(refused, StatusCode::FORBIDDEN);
    // Who may read the trail may know what is kept of it.
    for path in ["/audit/holds", "/audit/retention"] {
        let (status, shown) = administrator.get(path).await;
        assert_eq!(
            (status, &shown["holds"][0]["id"]),
            (StatusCode::OK, &hold["id"]),
            "{path}"
        );
    }
    assert_eq!(server.stop().code(), Some(0));

    let rules = "[retention]\nlog_days = 365\nindex_days = 30\n";
    let server = Start::over(&data).with_config(rules).start();
    let auditor = Auditor::of(&server).await;
    let unit = UNIT as u64;
    auditor
        .wait_until("the unit before the hold is given up", |status| {
            status["removed_through"] == unit && status["indexed_from"] == unit
        })
        .await;
    let held = read(&data, 2 * UNIT).await;
    assert!(
        held[UNIT..]
            .iter()
            .all(|event| codec::peek_type(&event.bytes) == Some("TokenRefused"))
    );
    let path = format!("/audit/holds/{}", hold["id"].as_str().expect("an id"));
    let (status, _) = auditor
        .call(reqwest::Method::DELETE, &path, json!({"reason": "settled"}))
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = auditor.call(reqwest::Method::DELETE, &path, json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(server.stop().code(), Some(0));

    let server = Start::over(&data).with_config(rules).start();
    let auditor = Auditor::of(&server).await;
    auditor
        .wait_until("the rest is given up", |status| status["removed_through"] == 2 * unit)
        .await;
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_killed_goes_on_where_it_was_while_tokens_are_granted() {
    let folder = old_log().await;
    let data = folder.path().join("data");
    let config = "[retention]\nlog_max_bytes = 1\n";
    for _ in 0..3 {
        let server = Start::over(&data).with_config(config).start();
        let administrator = server.administrator();
        let http = Client::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(400) {
            let (status, answer) = request_token(&http, &server.url, &administrator.0, &administrator.1, &[]).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
        server.kill();
    }
    let server = Start::over(&data).with_config(config).start();
    let auditor = Auditor::of(&server).await;
    let old = (OLD_UNITS * UNIT) as u64;
    auditor
        .wait_until("all that may go has gone", |status| {
            status["removed_through"].as_u64() >= Some(old) && status["indexed_from"] == status["removed_through"]
        })
        .await;
    assert_eq!(server.stop().code(), Some(0));
    let log = read(&data, OLD_UNITS * UNIT).await;
    let trail_is_left = log
        .iter()
        .any(|event| Event::may_be_removed(codec::peek_type(&event.bytes).expect("a type")));
    assert!(!trail_is_left);
}
