//! `src/http/audit_export.rs`: taking a copy of the trail out.

use crate::scene::{Answer, Scene, read_log};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Direction, EventStore};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const FORMATS: [&str; 4] = ["log", "ndjson", "csv", "ocsf"];

/// A token of the auditor that the first start has registered.
async fn auditor(scene: &Scene) -> String {
    let profile = std::fs::read(scene.server.data_dir.join("auditor.json")).expect("the auditor's profile");
    let profile: Value = serde_json::from_slice(&profile).expect("JSON");
    let text = |name: &str| profile[name].as_str().expect(name).to_owned();
    let answer = scene.ask(&text("client_id"), &text("client_secret"), &[]).await;
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

async fn get(scene: &Scene, token: &str, path: &str) -> Answer {
    Answer::of(
        scene
            .with_token(token, Method::GET, path)
            .send()
            .await
            .expect("an answer"),
    )
    .await
}

async fn export(scene: &Scene, token: &str, query: &str) -> Answer {
    let answer = get(scene, token, &format!("/audit/export?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
    answer
}

/// A server with some tokens and refusals.
async fn busy_scene() -> (Scene, String) {
    let scene = Scene::start().await;
    let application = scene.register("my.trusted.app/service", json!({})).await;
    for secret in [application.client_secret.as_str(), "wrong", &application.client_secret] {
        scene.ask(&application.client_id, secret, &[]).await;
    }
    let auditor = auditor(&scene).await;
    (scene, auditor)
}

#[tokio::test]
async fn an_export_ends_where_the_log_ended_and_is_the_same_when_it_is_repeated_while_the_log_grows() {
    let (scene, auditor) = busy_scene().await;
    for format in FORMATS {
        let first = export(&scene, &auditor, &format!("format={format}")).await;
        let through: u64 = first.header("grantlog-through-index").unwrap().parse().unwrap();
        assert_eq!(first.header("grantlog-from-index"), Some("0"));
        assert_eq!(first.header("cache-control"), Some("no-store"));
        let disposition = first.header("content-disposition").unwrap();
        assert!(
            disposition.starts_with(&format!("attachment; filename=\"grantlog-0-{through}.")),
            "{disposition}"
        );
        scene.register(&format!("app-{format}"), json!({})).await;
        let again = export(&scene, &auditor, &format!("format={format}&through_index={through}")).await;
        assert_eq!(again.body, first.body, "{format}");
        assert!(scene.log_size().await > through + 3);
        // And so says the manifest, whenever it is asked for.
        let path = format!("/audit/export/manifest?format={format}&through_index={through}");
        let manifest = get(&scene, &auditor, &path).await.json();
        let sha256: String = Sha256::digest(&first.body)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(manifest["sha256"], sha256, "{format}");
        assert_eq!(manifest["bytes"], first.body.len());
        assert_eq!(
            (&manifest["from_index"], &manifest["through_index"]),
            (&json!(0), &json!(through))
        );
        assert_eq!((&manifest["format"], &manifest["filter"]), (&json!(format), &json!({})));
        assert_eq!(
            (&manifest["count"], &manifest["manifest"]),
            (&json!(through), &json!(1))
        );
    }
}

#[tokio::test]
async fn parts_of_a_range_put_together_are_the_range() {
    let (scene, auditor) = busy_scene().await;
    for format in ["log", "ndjson", "ocsf"] {
        let whole = export(
            &scene,
            &auditor,
            &format!("format={format}&from_index=2&through_index=9"),
        )
        .await;
        let one = export(
            &scene,
            &auditor,
            &format!("format={format}&from_index=2&through_index=4"),
        )
        .await;
        let other = export(
            &scene,
            &auditor,
            &format!("format={format}&from_index=4&through_index=9"),
        )
        .await;
        assert_eq!(one.body + &other.body, whole.body);
        let empty = export(
            &scene,
            &auditor,
            &format!("format={format}&from_index=4&through_index=4"),
        )
        .await;
        assert_eq!(empty.body, "");
    }
}

#[tokio::test]
async fn a_log_export_is_the_stored_bytes() {
    let (scene, auditor) = busy_scene().await;
    let exported = export(&scene, &auditor, "format=log").await;
    let path = scene.folder.path().join("data/events.db");
    let options = SqliteOptions {
        readers: 1,
        ..SqliteOptions::new(path)
    };
    let store = SqliteEventStore::open_read_only(options).expect("the log opens");
    let stored = store.read_all(0, Direction::Forwards, 4_096).await.unwrap();
    let lines: Vec<&str> = exported.body.split_inclusive('\n').collect();
    assert!(lines.len() > 10);
    for (line, event) in lines.iter().zip(&stored) {
        assert_eq!(line.strip_suffix('\n').expect("a whole line").as_bytes(), &*event.bytes);
    }
}

#[tokio::test]
async fn an_ndjson_export_has_the_events_as_the_search_shows_them() {
    let (scene, auditor) = busy_scene().await;
    let filter = "client_id=my.trusted.app%2Fservice";
    let exported = export(&scene, &auditor, filter).await;
    assert_eq!(exported.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = exported
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let page = scene.search(&format!("{filter}&order=asc")).await;
    assert_eq!(json!(lines), page["events"]);
    assert_eq!(lines.len(), 4);
    let filtered = export(&scene, &auditor, "filter=reason%20eq%20%22secret_mismatch%22").await;
    assert_eq!(filtered.body.lines().count(), 1);
}

#[tokio::test]
async fn an_export_is_on_the_trail_before_its_first_byte_leaves() {
    let (scene, auditor) = busy_scene().await;
    let size = scene.log_size().await;
    export(&scene, &auditor, "format=csv&type=TokenRefused&from_index=1").await;
    let log = scene.log_from(size).await;
    let kinds: Vec<&str> = log.iter().map(|logged| logged.kind()).collect();
    // It is the first call of that token.
    assert_eq!(kinds, ["SessionStarted", "ApiCallAuthorized", "AuditTrailExported"]);
    // What is recorded of it lies behind its own range: the log is as large as it was when the call was let through.
    assert_eq!(
        log[2].data(),
        &json!({"application_uri": "grantlog.auditor", "format": "csv", "filter": {"type": "TokenRefused"},
                "from_index": 1, "through_index": size + 2})
    );
    get(&scene, &auditor, "/audit/export/manifest?format=log").await;
    let log = scene.log_from(size + 3).await;
    let kinds: Vec<&str> = log.iter().map(|logged| logged.kind()).collect();
    assert_eq!(kinds, ["ApiCallAuthorized", "AuditTrailRead"]);
    assert_eq!(log[1].data()["via"], "statistics");
}

#[tokio::test]
async fn an_administrator_may_not_take_the_trail_out() {
    let (scene, _) = busy_scene().await;
    for path in ["/audit/export", "/audit/export/manifest"] {
        let size = scene.log_size().await;
        let (status, problem) = scene.get(path).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
        let log = scene.log_from(size).await;
        assert_eq!((log.len(), log[0].kind()), (1, "ApiCallDenied"));
        assert_eq!(log[0].data()["required_scope"], "audit:export");
    }
}

#[tokio::test]
async fn what_would_be_no_export_is_refused_with_the_reason() {
    let (scene, auditor) = busy_scene().await;
    for (query, parameter) in [
        ("format=xml", "format"),
        ("format=log&format=csv", "format"),
        ("format=log&type=TokenIssued", "format"),
        ("through_index=999999", "through_index"),
        ("through_index=-1", "through_index"),
        ("from_index=5&through_index=4", "from_index"),
        ("from_index=999999", "from_index"),
        ("since=24h", "since"),
        ("until=1h", "until"),
        ("filter=time%20gt%20%2224h%22", "filter"),
        ("order=asc", "order"),
        ("limit=5", "limit"),
        ("after=x", "after"),
        ("colour=red", "colour"),
    ] {
        for path in ["/audit/export", "/audit/export/manifest"] {
            let answer = get(&scene, &auditor, &format!("{path}?{query}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {}", answer.body);
            assert_eq!(answer.json()["errors"][0]["field"], parameter, "{}", answer.body);
        }
    }
    let answer = scene
        .with_token(&auditor, Method::POST, "/audit/export")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn nothing_is_recorded_of_an_export_that_is_refused_but_the_call() {
    let (scene, auditor) = busy_scene().await;
    let size = scene.log_size().await;
    get(&scene, &auditor, "/audit/export?format=xml").await;
    let log = read_log(&scene.folder, size).await;
    assert_eq!(
        log.iter().map(|logged| logged.kind()).collect::<Vec<_>>(),
        ["SessionStarted", "ApiCallAuthorized"]
    );
}
