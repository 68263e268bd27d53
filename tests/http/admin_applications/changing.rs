use super::{assert_names_field, patch_if};
use crate::scene::Scene;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn a_merge_patch_changes_what_it_names_and_the_event_has_both_values() {
    let scene = Scene::start().await;
    let more = json!({"org_code": "ACME", "properties": {"tier": "gold", "region": "north"}});
    let application = scene.register("changing", more).await;
    let patch = json!({
        "scope": "read", "org_code": null, "properties": {"tier": null, "zone": "a"}, "reason": "asked for by the owner",
    });
    let (status, shown) = scene.administer(Method::PATCH, &application.path(), patch).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!((&shown["scope"], &shown["org_code"]), (&json!("read"), &Value::Null));
    assert_eq!(shown["properties"], json!({"region": "north", "zone": "a"}));
    assert_eq!(shown["revision"], 1);
    let log = scene.log().await;
    let changed = log.last().unwrap();
    assert_eq!((changed.kind(), changed.revision), ("ApplicationChanged", 1));
    assert_eq!(
        changed.data()["changes"],
        json!([
            {"field": "scope", "from": "read update DomainApi", "to": "read"},
            {"field": "org_code", "from": "ACME", "to": null},
            {"field": "properties", "from": {"region": "north", "tier": "gold"}, "to": {"region": "north", "zone": "a"}},
        ])
    );
    assert_eq!(changed.data()["reason"], "asked for by the owner");
    assert_eq!(changed.event["actor"], "grantlog.admin");
}

#[tokio::test]
async fn a_change_that_changes_nothing_makes_no_event_of_change_and_keeps_the_etag() {
    let scene = Scene::start().await;
    let application = scene
        .register("unchanged", json!({"properties": {"tier": "gold"}}))
        .await;
    for (method, path, body) in [
        (Method::PATCH, "", json!({})),
        (Method::PATCH, "", json!({"reason": "just so"})),
        (
            Method::PATCH,
            "",
            json!({"scope": "read  update DomainApi", "system_user": "svc.integration"}),
        ),
        (
            Method::PATCH,
            "",
            json!({"properties": {"tier": "gold", "absent": null}, "org_code": null}),
        ),
        (Method::POST, "/enable", json!({"reason": "again"})),
    ] {
        let before = scene.log_size().await;
        let request = scene
            .admin(method, &format!("{}{path}", application.path()))
            .json(&body);
        let answer = crate::scene::Answer::of(request.send().await.unwrap()).await;
        assert_eq!(
            (answer.status, answer.header("etag")),
            (StatusCode::OK, Some("\"0\"")),
            "{body}"
        );
        let events = scene.log_from(before).await;
        assert_eq!(events.len(), 1, "{body}: {events:?}");
        assert_eq!(events[0].kind(), "ApiCallAuthorized");
    }
}

#[tokio::test]
async fn what_is_changed_in_another_way_says_which() {
    let scene = Scene::start().await;
    let application = scene.register("other-ways", json!({})).await;
    for (patch, field, way) in [
        (json!({"is_enabled": false}), "is_enabled", "POST /enable or /disable"),
        (json!({"client_secret": "x"}), "client_secret", "POST /secrets"),
        (json!({"secrets": []}), "secrets", "POST /secrets"),
        (json!({"application_uri": "x"}), "application_uri", "cannot change"),
        (json!({"client_id": "x"}), "client_id", "cannot change"),
        (json!({"name": null}), "name", "must not be null"),
        (json!({"scope": null}), "scope", "must not be null"),
        (
            json!({"colour": "red"}),
            "colour",
            "there is no such field; there are: name",
        ),
        (
            json!({"client_type": "Public"}),
            "client_type",
            "revoke its secrets first",
        ),
        (json!({"reason": 1}), "reason", "must be a text"),
    ] {
        let answer = scene.administer(Method::PATCH, &application.path(), patch).await;
        assert_names_field(&answer, field, way);
    }
}

#[tokio::test]
async fn if_match_holds_a_change_to_the_revision_that_was_seen() {
    let scene = Scene::start().await;
    let application = scene.register("matched", json!({})).await;
    let path = application.path();
    let answer = patch_if(&scene, &path, "\"0\"", json!({"owner": "one"})).await;
    assert_eq!((answer.status, answer.header("etag")), (StatusCode::OK, Some("\"1\"")));
    for outdated in ["\"0\"", "\"2\"", "\"18446744073709551615\""] {
        let answer = patch_if(&scene, &path, outdated, json!({"owner": "two"})).await;
        assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{outdated}");
        assert_eq!(answer.json()["type"], "urn:grantlog:problem:precondition_failed");
        assert!(answer.json()["detail"].as_str().unwrap().contains("revision is 1 now"));
    }
    for unusable in ["1", "W/\"1\"", "\"1\", \"2\"", "\"abc\"", "\"\"", "\"-1\""] {
        let answer = patch_if(&scene, &path, unusable, json!({"owner": "two"})).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{unusable}");
        assert_eq!(answer.json()["errors"][0]["field"], "If-Match");
    }
    let answer = patch_if(&scene, &path, "*", json!({"owner": "two"})).await;
    assert_eq!((answer.status, answer.header("etag")), (StatusCode::OK, Some("\"2\"")));
    for (method, action) in [
        (Method::POST, "/disable"),
        (Method::POST, "/enable"),
        (Method::POST, "/secrets"),
        (Method::DELETE, ""),
    ] {
        let request = scene
            .admin(method, &format!("{path}{action}"))
            .header("if-match", "\"0\"");
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::PRECONDITION_FAILED,
            "{action}"
        );
    }
    let (_, shown) = scene.get(&path).await;
    assert_eq!(
        (&shown["owner"], &shown["revision"], &shown["is_enabled"]),
        (&json!("two"), &json!(2), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_that_saw_the_same_revision_have_one_winner() {
    let scene = Scene::start().await;
    let application = scene.register("contended", json!({})).await;
    let path = application.path();
    let owners: Vec<Value> = (0..8)
        .map(|number| json!({"owner": format!("owner {number}")}))
        .collect();
    let at_once = owners.iter().map(|body| patch_if(&scene, &path, "\"0\"", body.clone()));
    let answers = futures_util::future::join_all(at_once).await;
    let won = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let lost = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::PRECONDITION_FAILED)
        .count();
    assert_eq!(
        (won, lost),
        (1, 7),
        "{:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    let (_, shown) = scene.get(&path).await;
    assert_eq!(shown["revision"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_without_if_match_happen_or_say_that_they_did_not_and_are_never_merged() {
    let scene = Scene::start().await;
    let application = scene.register("contended", json!({})).await;
    let path = application.path();
    let at_once = (0..12).map(|number| {
        let body = json!({"properties": {format!("p{number}"): "set"}});
        let (scene, path) = (&scene, &path);
        async move { (number, scene.administer(Method::PATCH, path, body).await.0) }
    });
    let answers = futures_util::future::join_all(at_once).await;
    let (_, shown) = scene.get(&path).await;
    let mut changed = 0;
    for (number, status) in answers {
        let is_set = shown["properties"].get(format!("p{number}")).is_some();
        match status {
            StatusCode::OK => changed += 1,
            other => assert_eq!(other, StatusCode::CONFLICT),
        }
        assert_eq!(
            is_set,
            status == StatusCode::OK,
            "p{number}: no change is lost and none half done"
        );
    }
    assert!(changed >= 1, "one is always the first");
    assert_eq!(shown["revision"], changed);
    let log = scene.log().await;
    let events: Vec<u64> = log
        .iter()
        .filter(|event| event.kind() == "ApplicationChanged")
        .map(|event| event.revision)
        .collect();
    assert_eq!(events, (1..=changed).collect::<Vec<u64>>());
}

#[tokio::test]
async fn disabling_and_enabling_say_why_and_happen_once() {
    let scene = Scene::start().await;
    let application = scene.register("switched", json!({})).await;
    for (action, enabled) in [
        ("disable", false),
        ("disable", false),
        ("enable", true),
        ("enable", true),
    ] {
        let path = format!("{}/{action}", application.path());
        let (status, shown) = scene
            .administer(Method::POST, &path, json!({"reason": format!("to {action}")}))
            .await;
        assert_eq!((status, &shown["is_enabled"]), (StatusCode::OK, &json!(enabled)));
    }
    let log = scene.log().await;
    let switches: Vec<(&str, &Value)> = log
        .iter()
        .filter(|event| event.kind().ends_with("abled"))
        .map(|event| (event.kind(), &event.data()["reason"]))
        .collect();
    assert_eq!(
        switches,
        [
            ("ApplicationDisabled", &json!("to disable")),
            ("ApplicationEnabled", &json!("to enable"))
        ]
    );
    let path = format!("{}/disable", application.path());
    let answer = scene.administer(Method::POST, &path, json!({"why": "x"})).await;
    assert_names_field(&answer, "why", "there are: reason");
}

#[tokio::test]
async fn a_deleted_application_is_gone_for_reading_changing_and_tokens_and_deleting_it_again_is_done() {
    let scene = Scene::start().await;
    let application = scene.register("deleted", json!({})).await;
    let token_scope = [("scope", "read")];
    scene.token(&application, &token_scope).await;
    for _ in 0..2 {
        let request = scene
            .admin(Method::DELETE, &application.path())
            .json(&json!({"reason": "over"}));
        let answer = crate::scene::Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::NO_CONTENT, ""));
    }
    for (method, path) in [
        (Method::GET, ""),
        (Method::PATCH, ""),
        (Method::POST, "/enable"),
        (Method::POST, "/disable"),
        (Method::POST, "/secrets"),
        (Method::DELETE, "/secrets/00000000-0000-7000-8000-000000000000"),
    ] {
        let request = scene
            .admin(method.clone(), &format!("{}{path}", application.path()))
            .json(&json!({}));
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::NOT_FOUND,
            "{method} {path}"
        );
    }
    let answer = scene.ask("deleted", &application.client_secret, &[]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let (_, history) = scene.get(&format!("{}/history", application.path())).await;
    let kinds: Vec<&str> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["ApplicationRegistered", "ApplicationDeleted"],
        "its history stays, and it is deleted once"
    );
}

#[tokio::test]
async fn an_id_that_is_none_or_nobodys_is_told_apart() {
    let scene = Scene::start().await;
    let answer = scene.get("/admin/applications/my.trusted.app").await;
    assert_names_field(&answer, "id", "?client_id=");
    let (status, problem) = scene
        .get("/admin/applications/00000000-0000-5000-8000-000000000000")
        .await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::NOT_FOUND, &json!("urn:grantlog:problem:not_found"))
    );
    let application = scene.register("here", json!({})).await;
    let path = format!("{}/secrets/00000000-0000-7000-8000-000000000000", application.path());
    let (status, _) = scene.administer(Method::DELETE, &path, json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let answer = scene
        .administer(Method::DELETE, &format!("{}/secrets/x", application.path()), json!({}))
        .await;
    assert_names_field(&answer, "secret_id", "UUID");
}
