//! The state as of then, and the history.

use super::assert_names_field;
use crate::scene::Scene;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn the_state_as_of_an_event_or_a_time_is_the_state_then() {
    let scene = Scene::start().await;
    let application = scene.register("historic", json!({"scope": "first"})).await;
    let path = application.path();
    for patch in [
        json!({"scope": "second"}),
        json!({"scope": "third", "owner": "somebody"}),
    ] {
        let (status, _) = scene.administer(Method::PATCH, &path, patch).await;
        assert_eq!(status, StatusCode::OK);
    }
    let (status, _) = scene
        .administer(Method::POST, &format!("{path}/disable"), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = scene.administer(Method::DELETE, &path, json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);

    let stream = format!("application-{}", application.id);
    let log = scene.log().await;
    let own: Vec<_> = log.iter().filter(|event| event.event["stream"] == stream).collect();
    assert_eq!(own.len(), 5);
    let expected = [
        ("first", Value::Null, true, false),
        ("second", Value::Null, true, false),
        ("third", json!("somebody"), true, false),
        ("third", json!("somebody"), false, false),
        ("third", json!("somebody"), false, true),
    ];
    for (number, (scope, owner, is_enabled, is_deleted)) in expected.iter().enumerate() {
        let event = own[number];
        // As of the event itself, and of the last one before the next.
        let until = own.get(number + 1).map_or(event.index + 3, |next| next.index - 1);
        let time = event.event["time"].as_str().unwrap();
        for as_of in [
            event.index.to_string(),
            until.to_string(),
            time.to_owned(),
            time.replace('Z', "%2B00:00"),
        ] {
            let (status, shown) = scene.get(&format!("{path}?as_of={as_of}")).await;
            assert_eq!(status, StatusCode::OK, "{as_of}: {shown}");
            assert_eq!((&shown["scope"], &shown["owner"]), (&json!(scope), owner), "{as_of}");
            assert_eq!(shown["is_enabled"], *is_enabled, "{as_of}");
            assert_eq!(shown.get("deleted_at").is_some(), *is_deleted, "{as_of}");
            assert_eq!(shown["revision"], number);
        }
    }
    let before = own[0].index - 1;
    for as_of in [before.to_string(), "2000-01-01T00:00:00Z".to_owned()] {
        let (status, problem) = scene.get(&format!("{path}?as_of={as_of}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{as_of}");
        let detail = problem["detail"].as_str().unwrap();
        let registered = format!("by event {}", own[0].index);
        assert!(detail.contains("historic") && detail.contains(&registered), "{detail}");
    }
    for to_come in ["1000000", "2126-03-16T09:30:00Z"] {
        let answer = scene.get(&format!("{path}?as_of={to_come}")).await;
        assert_eq!(answer.0, StatusCode::BAD_REQUEST, "{}", answer.1);
        assert_names_field(
            &answer,
            "as_of",
            if to_come == "1000000" {
                "there is no event 1000000 yet"
            } else {
                "yet to come"
            },
        );
    }
    for unusable in ["yesterday", "2026-03-16", "-1", "1e3"] {
        let answer = scene.get(&format!("{path}?as_of={unusable}")).await;
        assert_names_field(&answer, "as_of", "RFC 3339");
    }
}

#[tokio::test]
async fn a_secret_s_state_is_shown_as_of_then_too() {
    let scene = Scene::start().await;
    let application = scene.register("rotated", json!({})).await;
    let registered_at = scene.log().await.last().unwrap().event["time"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("{}/secrets", application.path());
    let (status, _) = scene
        .administer(Method::POST, &path, json!({"overlap_seconds": 0}))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, then) = scene
        .get(&format!("{}?as_of={registered_at}", application.path()))
        .await;
    assert_eq!(then["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(then["secrets"][0]["accepted"], true);
    let (_, now) = scene.get(&application.path()).await;
    let accepted: Vec<&Value> = now["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|secret| &secret["accepted"])
        .collect();
    assert_eq!(accepted, [&json!(false), &json!(true)]);
}

#[tokio::test]
async fn the_history_is_every_event_of_the_application_as_it_is_stored() {
    let scene = Scene::start().await;
    let application = scene.register("historic", json!({})).await;
    let path = application.path();
    scene
        .administer(Method::PATCH, &path, json!({"owner": "me", "reason": "mine"}))
        .await;
    scene
        .administer(Method::POST, &format!("{path}/secrets"), json!({}))
        .await;
    scene.token(&application, &[]).await;
    scene
        .administer(Method::POST, &format!("{path}/disable"), json!({}))
        .await;
    let (status, history) = scene.get(&format!("{path}/history")).await;
    assert_eq!(status, StatusCode::OK);
    let events = history["events"].as_array().unwrap();
    let log = scene.log().await;
    let stream = format!("application-{}", application.id);
    let own: Vec<_> = log.iter().filter(|event| event.event["stream"] == stream).collect();
    assert_eq!(events.len(), 4, "its configuration, not its tokens");
    for (shown, stored) in events.iter().zip(own) {
        assert_eq!(
            (&shown["index"], &shown["revision"]),
            (&json!(stored.index), &json!(stored.revision))
        );
        for member in ["id", "stream", "type", "time", "actor", "data"] {
            assert_eq!(shown[member], stored.event[member], "{member}");
        }
        assert_eq!(
            (&shown["client_id"], &shown["outcome"]),
            (&json!("historic"), &json!("success"))
        );
    }
    let (status, _) = scene
        .get("/admin/applications/00000000-0000-5000-8000-000000000000/history")
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
