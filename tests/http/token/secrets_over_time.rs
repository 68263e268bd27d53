//! Rotation with and without overlap, revocation and expiry, as a client lives through them.

use crate::scene::{Application, Scene};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn rotate(scene: &Scene, application: &Application, body: Value) -> Application {
    let (status, made) = scene
        .administer(Method::POST, &format!("{}/secrets", application.path()), body)
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    Application {
        client_secret: made["client_secret"].as_str().unwrap().to_owned(),
        secret_id: made["secret_id"].as_str().unwrap().to_owned(),
        ..application.clone()
    }
}

async fn is_accepted(scene: &Scene, application: &Application) -> bool {
    let answer = scene.ask(&application.client_id, &application.client_secret, &[]).await;
    match answer.status {
        StatusCode::OK => true,
        StatusCode::UNAUTHORIZED => false,
        other => panic!("{other}: {}", answer.body),
    }
}

#[tokio::test]
async fn after_a_rotation_both_secrets_work_until_the_overlap_is_over_and_then_only_the_new_one() {
    let scene = Scene::start().await;
    let old = scene.register("rotating", json!({})).await;
    let before = Instant::now();
    let new = rotate(&scene, &old, json!({"overlap_seconds": 3})).await;
    assert_ne!(old.client_secret, new.client_secret);
    assert!(is_accepted(&scene, &new).await);
    // A machine that stood still for three seconds has seen nothing.
    assert!(is_accepted(&scene, &old).await || before.elapsed() > Duration::from_secs(3));
    tokio::time::sleep(Duration::from_millis(3_050)).await;
    assert!(is_accepted(&scene, &new).await);
    assert!(!is_accepted(&scene, &old).await);
    assert_eq!(scene.log().await.last().unwrap().data()["reason"], "secret_expired");
}

#[tokio::test]
async fn the_overlap_is_24_hours_when_nothing_is_said_and_can_be_configured() {
    for (config, hours) in [("", 24), ("[secrets]\ndefault_overlap_seconds = 7200", 2)] {
        let scene = Scene::with_config(config).await;
        let old = scene.register("default", json!({})).await;
        rotate(&scene, &old, json!({})).await;
        let log = scene.log().await;
        let rotated = log.last().unwrap();
        assert_eq!(rotated.kind(), "SecretRotated");
        let time = |text: &Value| grantlog_projections::values::Timestamp::parse(text.as_str().unwrap()).unwrap();
        let until = time(&rotated.data()["superseded"][0]["accepted_until"]);
        let at = time(&rotated.event["time"]);
        assert_eq!(until, at.plus_seconds(hours * 3_600));
    }
}

#[tokio::test]
async fn without_overlap_and_when_revoked_a_secret_is_refused_at_once() {
    let scene = Scene::start().await;
    let first = scene.register("at-once", json!({})).await;
    let second = rotate(&scene, &first, json!({"overlap_seconds": 0, "reason": "leaked"})).await;
    assert!(!is_accepted(&scene, &first).await);
    assert!(is_accepted(&scene, &second).await);

    let third = rotate(&scene, &second, json!({"overlap_seconds": 3_600})).await;
    let path = format!("{}/secrets/{}", second.path(), second.secret_id);
    for _ in 0..2 {
        let (status, shown) = scene
            .administer(Method::DELETE, &path, json!({"reason": "leaked"}))
            .await;
        assert_eq!(status, StatusCode::OK, "{shown}");
    }
    assert!(!is_accepted(&scene, &second).await);
    assert!(is_accepted(&scene, &third).await);
    let log = scene.log().await;
    let revocations: Vec<_> = log.iter().filter(|event| event.kind() == "SecretRevoked").collect();
    assert_eq!(revocations.len(), 1, "the second revocation changes nothing");
    assert_eq!(revocations[0].data()["reason"], "leaked");
}

#[tokio::test]
async fn a_secret_that_was_given_an_end_ends() {
    let scene = Scene::start().await;
    let application = scene.register("ending", json!({})).await;
    let before = Instant::now();
    let ending = rotate(
        &scene,
        &application,
        json!({"overlap_seconds": 0, "expires_in_seconds": 2}),
    )
    .await;
    assert!(is_accepted(&scene, &ending).await || before.elapsed() > Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(2_050)).await;
    assert!(!is_accepted(&scene, &ending).await);
}

/// A client opens its request while its secret is good, and completes it afterwards.
#[tokio::test]
async fn a_request_that_is_held_open_beyond_the_end_of_its_secret_is_refused() {
    let scene = Scene::start().await;
    let old = scene.register("held-open", json!({})).await;
    rotate(&scene, &old, json!({"overlap_seconds": 1})).await;
    let body = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        old.client_id, old.client_secret
    );
    let request = crate::raw::post(
        "/connect/token",
        &["content-type: application/x-www-form-urlencoded"],
        body.as_bytes(),
    );
    let mut connection = crate::raw::Connection::to(&scene.url);
    let (first, rest) = request.split_at(request.len() - 10);
    connection.send(first);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let answer = connection.send(rest).receive().expect("an answer");
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert_eq!(scene.log().await.last().unwrap().data()["reason"], "secret_expired");
}

#[tokio::test]
async fn an_application_holds_eight_valid_secrets_and_then_says_what_to_do() {
    let scene = Scene::start().await;
    let mut latest = scene.register("many", json!({})).await;
    for _ in 0..7 {
        latest = rotate(&scene, &latest, json!({})).await;
    }
    let path = format!("{}/secrets", latest.path());
    let (status, problem) = scene.administer(Method::POST, &path, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        problem["detail"].as_str().unwrap().contains("overlap_seconds 0"),
        "{problem}"
    );
    let only = rotate(&scene, &latest, json!({"overlap_seconds": 0})).await;
    assert!(!is_accepted(&scene, &latest).await);
    assert!(is_accepted(&scene, &only).await);
    let (_, shown) = scene.get(&only.path()).await;
    let secrets = shown["secrets"].as_array().unwrap();
    assert_eq!(secrets.len(), 8);
    assert_eq!(secrets.iter().filter(|secret| secret["accepted"] == true).count(), 1);
}
