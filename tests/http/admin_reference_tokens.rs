//! Reference tokens: made by administrators, good wherever a bearer token is and in `X-Api-Key`, revoked at once.

use crate::scene::{Application, Logged, Scene, merge};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

async fn reader(scene: &Scene, more: Value) -> Application {
    let mut with = json!({"scope": "applications:read read", "reference_tokens": "AdministratorsOnly"});
    merge(&mut with, more);
    scene.register("reader", with).await
}

async fn make(scene: &Scene, application: &Application, more: Value) -> (StatusCode, Value) {
    let mut body = json!({"description": "nightly export"});
    merge(&mut body, more);
    let path = format!("{}/reference-tokens", application.path());
    scene.administer(Method::POST, &path, body).await
}

async fn made(scene: &Scene, application: &Application, more: Value) -> (String, String) {
    let (status, made) = make(scene, application, more).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let text = |name: &str| made[name].as_str().expect(name).to_owned();
    (text("id"), text("reference_token"))
}

async fn call(scene: &Scene, token: &str) -> StatusCode {
    let request = scene.with_token(token, Method::GET, "/admin/applications?limit=1");
    request.send().await.expect("an answer").status()
}

async fn call_with_key(scene: &Scene, token: &str) -> StatusCode {
    let request = scene.http.get(format!("{}/admin/applications?limit=1", scene.url));
    request
        .header("x-api-key", token)
        .send()
        .await
        .expect("an answer")
        .status()
}

async fn last_denial(scene: &Scene) -> Value {
    let log = scene.log().await;
    let denied = log.iter().rev().find(|logged| logged.kind() == "ApiCallDenied");
    denied.expect("a denial").data().clone()
}

fn of_kind<'a>(log: &'a [Logged], kind: &str) -> Vec<&'a Logged> {
    log.iter().filter(|logged| logged.kind() == kind).collect()
}

#[tokio::test]
async fn a_reference_token_is_shown_once_and_opens_an_api_in_either_header() {
    let scene = Scene::start().await;
    let application = reader(&scene, json!({})).await;
    let (id, token) = made(&scene, &application, json!({"scope": "applications:read"})).await;
    assert!(token.starts_with("glr_") && token.len() == 53, "{token}");
    assert_eq!(call(&scene, &token).await, StatusCode::OK);
    assert_eq!(call_with_key(&scene, &token).await, StatusCode::OK);

    let log = scene.log().await;
    assert!(
        !log.iter().any(|logged| logged.event.to_string().contains(&token)),
        "a hash is kept"
    );
    let issued = of_kind(&log, "ReferenceTokenIssued");
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0].event["actor"], "grantlog.admin");
    assert_eq!(issued[0].data()["token_id"], id);
    assert_eq!(issued[0].data()["description"], "nightly export");
    assert_eq!(issued[0].data()["hint"], token[token.len() - 4..]);
    let calls: Vec<_> = of_kind(&log, "ApiCallAuthorized")
        .into_iter()
        .filter(|logged| logged.data()["jti"] == id)
        .collect();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call.data()["token_kind"], "reference");
        assert_eq!(call.event["actor"], "reader");
    }
    let (status, page) = scene.get(&format!("{}/reference-tokens", application.path())).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!page.to_string().contains(&token));
    let listed = &page["reference_tokens"][0];
    assert_eq!((&listed["id"], &listed["status"]), (&json!(id), &json!("active")));
    assert_eq!(listed["scope"], "applications:read");
    assert_eq!(listed["issued_by"], "grantlog.admin");
    let (_, shown) = scene.get(&format!("/admin/tokens/{id}")).await;
    assert_eq!(shown["event"]["type"], "ReferenceTokenIssued");
    assert!(shown["proof"].as_str().unwrap().starts_with("c2sp.org/tlog-proof@v1\n"));
    assert!(shown.get("claims").is_none(), "it has none");
    assert!(!shown.to_string().contains(&token));
}

#[tokio::test]
async fn a_reference_token_is_refused_right_after_its_revocation_and_revoking_twice_is_one_event() {
    let scene = Scene::start().await;
    let application = reader(&scene, json!({})).await;
    let other_application = scene
        .register("other", json!({"reference_tokens": "AdministratorsOnly"}))
        .await;
    let (id, token) = made(&scene, &application, json!({})).await;
    let (other_id, other) = made(&scene, &application, json!({})).await;
    assert_eq!(call(&scene, &token).await, StatusCode::OK);
    let of_another = format!("{}/reference-tokens/{id}", other_application.path());
    let (status, _) = scene.administer(Method::DELETE, &of_another, json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "it is not that application's");
    let path = format!("{}/reference-tokens/{id}", application.path());
    for _ in 0..2 {
        let (status, shown) = scene
            .administer(Method::DELETE, &path, json!({"reason": "leaked"}))
            .await;
        assert_eq!(
            (status, &shown["status"]),
            (StatusCode::OK, &json!("revoked")),
            "{shown}"
        );
        assert_eq!(call(&scene, &token).await, StatusCode::UNAUTHORIZED);
        assert_eq!(call_with_key(&scene, &token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(last_denial(&scene).await["reason"], "token_revoked");
    let log = scene.log().await;
    let revoked = of_kind(&log, "ReferenceTokenRevoked");
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].data()["reason"], "leaked");
    let ended = of_kind(&log, "SessionEnded");
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].data()["jti"], id);

    // The inventory revokes them, too.
    let (status, shown) = scene
        .administer(Method::POST, &format!("/admin/tokens/{other_id}/revoke"), json!({}))
        .await;
    assert_eq!((status, &shown["status"]), (StatusCode::OK, &json!("revoked")));
    assert_eq!(call(&scene, &other).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_reference_token_has_its_event_and_its_true_reason() {
    let scene = Scene::start().await;
    scene.register_api("https://elsewhere", json!({})).await;
    let application = reader(&scene, json!({"audiences": [scene.url, "https://elsewhere"]})).await;
    let (_, elsewhere) = made(&scene, &application, json!({"audiences": ["https://elsewhere"]})).await;
    let (_, without_scope) = made(&scene, &application, json!({"scope": "read"})).await;
    let (_, short) = made(&scene, &application, json!({"expires_in_seconds": 1})).await;
    let (_, good) = made(&scene, &application, json!({})).await;
    let unknown = grantlog::credentials::reference_token::ReferenceTokenText::generate().unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for (token, status, reason) in [
        (elsewhere.as_str(), StatusCode::UNAUTHORIZED, "wrong_audience"),
        (&without_scope, StatusCode::FORBIDDEN, "insufficient_scope"),
        (&short, StatusCode::UNAUTHORIZED, "token_expired"),
        (unknown.expose(), StatusCode::UNAUTHORIZED, "unknown_token"),
        (&good[..50], StatusCode::UNAUTHORIZED, "malformed_token"),
    ] {
        assert_eq!(call(&scene, token).await, status, "{reason}");
        let denied = last_denial(&scene).await;
        assert_eq!(
            (&denied["reason"], &denied["token_kind"]),
            (&json!(reason), &json!("reference"))
        );
    }
    assert_eq!(call(&scene, &good).await, StatusCode::OK);
    for (patch, status, reason) in [
        (
            json!({"allowed_networks": ["192.0.2.0/24"]}),
            StatusCode::UNAUTHORIZED,
            "network_not_allowed",
        ),
        (
            json!({"allowed_networks": [], "reference_tokens": "None"}),
            StatusCode::UNAUTHORIZED,
            "reference_tokens_not_allowed",
        ),
        (
            json!({"reference_tokens": "AdministratorsOnly", "audiences": ["https://elsewhere"]}),
            StatusCode::UNAUTHORIZED,
            "wrong_audience",
        ),
        (
            json!({"audiences": [scene.url], "scope": "read"}),
            StatusCode::FORBIDDEN,
            "insufficient_scope",
        ),
    ] {
        let (changed, problem) = scene.administer(Method::PATCH, &application.path(), patch).await;
        assert_eq!(changed, StatusCode::OK, "{problem}");
        assert_eq!(call(&scene, &good).await, status, "{reason}");
        let denied = last_denial(&scene).await;
        assert_eq!(
            denied["reason"], reason,
            "what is taken from an application is taken from its tokens"
        );
        assert_eq!(denied["application_uri"], "reader");
    }
}

#[tokio::test]
async fn a_reference_token_is_made_only_as_the_application_allows() {
    let scene = Scene::start().await;
    let application = reader(&scene, json!({})).await;
    let without = scene.register("without", json!({})).await;
    let (status, problem) = make(&scene, &without, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    for (more, field) in [
        (json!({"description": ""}), "description"),
        (json!({"description": null}), "description"),
        (json!({"scope": "read update"}), "scope"),
        (json!({"audiences": ["https://elsewhere"]}), "audiences"),
        (json!({"expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"expires_in_seconds": 31_622_401}), "expires_in_seconds"),
        (json!({"name": "x"}), "name"),
    ] {
        let (status, problem) = make(&scene, &application, more.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{more}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{more}");
    }
    assert!(of_kind(&scene.log().await, "ReferenceTokenIssued").is_empty());
}

#[tokio::test]
async fn nobody_makes_a_token_with_a_scope_of_grantlogs_own_that_they_lack() {
    let scene = Scene::start().await;
    let application = reader(&scene, json!({})).await;
    let writer = scene.register("writer", json!({"scope": "applications:write"})).await;
    let token = scene.token(&writer, &[]).await;
    let path = format!("{}/reference-tokens", application.path());
    for (scope, status) in [
        ("applications:read", StatusCode::FORBIDDEN),
        ("read", StatusCode::CREATED),
    ] {
        let request = scene.with_token(&token, Method::POST, &path);
        let request = request.json(&json!({"description": "for a friend", "scope": scope}));
        assert_eq!(request.send().await.unwrap().status(), status, "{scope}");
    }
}

#[tokio::test]
async fn an_application_has_a_bounded_number_of_live_reference_tokens() {
    let scene = Scene::start().await;
    let application = reader(&scene, json!({})).await;
    let (first, _) = made(&scene, &application, json!({})).await;
    // All at once: each sees those before it.
    let others = futures_util::future::join_all((0..70).map(|_| make(&scene, &application, json!({})))).await;
    let created = others
        .iter()
        .filter(|(status, _)| *status == StatusCode::CREATED)
        .count();
    assert_eq!(created, 63);
    assert!(
        others
            .iter()
            .all(|(status, _)| [StatusCode::CREATED, StatusCode::CONFLICT].contains(status))
    );
    let (status, _) = scene
        .administer(
            Method::DELETE,
            &format!("{}/reference-tokens/{first}", application.path()),
            json!({}),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    made(&scene, &application, json!({})).await;

    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("{}/reference-tokens?limit=20&after={after}", application.path());
        let (_, page) = scene.get(&path).await;
        let tokens = page["reference_tokens"].as_array().unwrap();
        listed.extend(tokens.iter().map(|token| token["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(listed.len(), 65, "revoked ones too");
    assert!(listed.is_sorted_by(|newer, older| newer > older));
    assert_eq!(listed.last(), Some(&first));
}

#[tokio::test]
async fn the_last_use_of_a_reference_token_outlives_its_session_and_a_restart() {
    let scene = Scene::with_config("[sessions]\nidle_seconds = 1").await;
    let application = reader(&scene, json!({})).await;
    let (id, token) = made(&scene, &application, json!({})).await;
    let (_, unused) = scene.get(&format!("/admin/tokens/{id}")).await;
    assert!(unused.get("last_used_at").is_none());
    assert_eq!(call(&scene, &token).await, StatusCode::OK);
    let log = scene
        .wait_for("the end of the session", |log| !of_kind(log, "SessionEnded").is_empty())
        .await;
    let used = log
        .iter()
        .find(|logged| logged.kind() == "ApiCallAuthorized" && logged.data()["jti"] == id)
        .unwrap();
    let scene = Scene::in_folder(scene.stop(), "").await;
    let path = format!("{}/reference-tokens", application.path());
    let (_, page) = scene.get(&path).await;
    let listed = &page["reference_tokens"][0];
    assert!(listed.get("session_id").is_none());
    assert_eq!(listed["last_used_at"], used.event["time"]);
    // And it opens as before: it is of this log, not of an issuer's address.
    assert_eq!(call_with_key(&scene, &token).await, StatusCode::OK);
}
