//! What was, and what made it otherwise: `as_of` on lists and keys, `diff`, histories.

use crate::scene::Scene;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn a_difference_has_old_and_new_values_and_the_events_that_did_it() {
    let scene = Scene::start().await;
    let application = scene.register("orders-worker", json!({})).await;
    let before = scene.log_size().await - 1;
    let patch = json!({"scope": "read", "owner": "team-orders", "reason": "ticket 4711"});
    let (status, _) = scene.administer(Method::PATCH, &application.path(), patch).await;
    assert_eq!(status, StatusCode::OK);
    scene
        .administer(Method::POST, &format!("{}/disable", application.path()), json!({}))
        .await;
    let after = scene.log_size().await - 1;
    let path = format!("{}/diff?from={before}&to={after}", application.path());
    let (status, diff) = scene.get(&path).await;
    assert_eq!(status, StatusCode::OK, "{diff}");
    let changes: Vec<(&str, &Value, &Value)> = diff["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["field"].as_str().unwrap(), &change["from"], &change["to"]))
        .collect();
    assert_eq!(
        changes,
        [
            ("is_enabled", &json!(true), &json!(false)),
            ("owner", &Value::Null, &json!("team-orders")),
            ("scope", &json!("read update DomainApi"), &json!("read")),
        ]
    );
    assert_eq!(diff["events"][0]["reason"], "ticket 4711");
    assert_eq!(diff["events"][0]["actor"], "grantlog.admin");
    assert_eq!(diff["changes"][0]["events"], json!([diff["events"][1]["index"]]));
    let log = scene.log().await;
    let read = log.last().unwrap();
    assert_eq!(
        (read.kind(), &read.data()["via"]),
        ("AuditTrailRead", &json!("history"))
    );
    assert_eq!(read.data()["filter"]["diff_of"], "orders-worker");

    for (query, expected) in [
        (format!("from={after}&to={before}"), StatusCode::BAD_REQUEST),
        (format!("from={before}"), StatusCode::BAD_REQUEST),
        ("from=x&to=1".into(), StatusCode::BAD_REQUEST),
        (format!("from={before}&to=1000000"), StatusCode::BAD_REQUEST),
        (
            "from=2126-03-16T09:30:00Z&to=2127-03-16T09:30:00Z".into(),
            StatusCode::BAD_REQUEST,
        ),
        // What will have expired by then.
        (format!("from={before}&to=2126-03-16T09:30:00Z"), StatusCode::OK),
        ("from=0&to=1".into(), StatusCode::NOT_FOUND),
    ] {
        let (status, problem) = scene.get(&format!("{}/diff?{query}", application.path())).await;
        assert_eq!(status, expected, "{query}: {problem}");
    }
}

#[tokio::test]
async fn lists_and_keys_can_be_asked_for_as_they_were() {
    let scene = Scene::start().await;
    let first = scene.register("first", json!({})).await;
    scene.register_api("https://first.example", json!({})).await;
    let then = scene.log_size().await - 1;
    scene.register("second", json!({})).await;
    scene
        .register_api("https://second.example", json!({"signing_alg": "EdDSA"}))
        .await;
    scene.administer(Method::DELETE, &first.path(), json!({})).await;
    let names = |list: &Value, kind: &str, name: &str| -> Vec<String> {
        let items = list[kind].as_array().unwrap_or_else(|| panic!("{list}"));
        items
            .iter()
            .map(|item| item[name].as_str().unwrap().to_owned())
            .collect()
    };
    let (_, now) = scene.get("/admin/applications?q=s").await;
    let (status, was) = scene.get(&format!("/admin/applications?q=s&as_of={then}")).await;
    assert_eq!(status, StatusCode::OK, "{was}");
    assert!(names(&now, "applications", "client_id").contains(&"second".into()));
    let was_there = names(&was, "applications", "client_id");
    assert!(
        was_there.contains(&"first".into()) && !was_there.contains(&"second".into()),
        "{was_there:?}"
    );
    assert!(was["applications"][0].get("usage_through").is_none());
    let (_, apis) = scene.get(&format!("/admin/apis?as_of={then}")).await;
    let apis = names(&apis, "apis", "audience");
    assert!(apis.contains(&"https://first.example".into()) && !apis.contains(&"https://second.example".into()));
    let (_, now) = scene.get("/admin/signing-keys").await;
    let (_, was) = scene.get(&format!("/admin/signing-keys?as_of={then}")).await;
    assert_eq!(
        names(&now, "keys", "alg").len(),
        names(&was, "keys", "alg").len() + 1,
        "EdDSA came later"
    );
    for path in [
        "/admin/applications?",
        "/admin/apis?",
        "/admin/signing-keys?",
        "/audit/reports/inventory?format=json&",
    ] {
        for to_come in ["1000000", "2126-03-16T09:30:00Z"] {
            let (status, problem) = scene.get(&format!("{path}as_of={to_come}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}{to_come}: {problem}");
            assert_eq!(problem["errors"][0]["field"], "as_of", "{problem}");
        }
    }
    let (status, _) = scene.get("/admin/signing-keys?as_of=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (_, history) = scene.get("/admin/signing-keys/history").await;
    let kinds: Vec<_> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..2], ["SigningKeyAdded", "SigningKeyActivated"]);
    assert!(!history.to_string().contains("\"d\":"), "no private half in the clear");
}

#[tokio::test]
async fn reading_a_history_is_on_the_trail() {
    let scene = Scene::start().await;
    let application = scene.register("orders-worker", json!({})).await;
    scene.get(&format!("{}/history", application.path())).await;
    let log = scene.log().await;
    let read = log.last().unwrap();
    assert_eq!(
        (read.kind(), &read.data()["via"]),
        ("AuditTrailRead", &json!("history"))
    );
}

#[tokio::test]
async fn whoever_looks_at_a_state_of_the_past_is_on_the_record_with_what_and_when() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({})).await;
    let newest = scene.log_size().await - 1;
    let id = &application.id;
    for (path, state_of, rows) in [
        ("/admin/applications".to_owned(), "applications".to_owned(), 3),
        (application.path(), format!("application {id}"), 1),
        ("/admin/apis".to_owned(), "APIs".to_owned(), 1),
        ("/admin/signing-keys".to_owned(), "signing keys".to_owned(), 1),
    ] {
        let before = scene.log_size().await;
        let (status, shown) = scene.get(&format!("{path}?as_of={newest}")).await;
        assert_eq!(status, StatusCode::OK, "{path}: {shown}");
        let log = scene.log_from(before).await;
        let read: Vec<_> = log.iter().filter(|logged| logged.kind() == "AuditTrailRead").collect();
        assert_eq!(read.len(), 1, "{path}");
        let wanted = json!({"state_of": state_of, "as_of": newest.to_string()});
        assert_eq!(read[0].data()["filter"], wanted, "{path}");
        assert_eq!(read[0].data()["rows"], rows, "{path}");
        assert_eq!(read[0].data()["via"], "history");
        // The state of now is no reading of the trail.
        let before = scene.log_size().await;
        assert_eq!(scene.get(&path).await.0, StatusCode::OK);
        let log = scene.log_from(before).await;
        assert!(log.iter().all(|logged| logged.kind() != "AuditTrailRead"), "{path}");
    }
}
