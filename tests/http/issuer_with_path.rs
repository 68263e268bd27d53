//! An issuer with a path, as behind a proxy that serves several things: everything is found below it.

use crate::scene::{Answer, Scene, claims};
use reqwest::{Method, StatusCode};
use serde_json::json;

const ISSUER: &str = "http://issuer.example/id";

async fn scene() -> Scene {
    Scene::with_config(&format!("[server]\nissuer = \"{ISSUER}\"")).await
}

async fn get(scene: &Scene, path: &str) -> Answer {
    Answer::of(
        scene
            .http
            .get(format!("{}{path}", scene.url))
            .send()
            .await
            .expect("an answer"),
    )
    .await
}

#[tokio::test]
async fn both_forms_of_well_known_paths_lead_to_the_metadata() {
    let scene = scene().await;
    // RFC 8414 §3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery §4 behind it.
    for path in [
        "/.well-known/oauth-authorization-server/id",
        "/id/.well-known/oauth-authorization-server",
        "/id/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let answer = get(&scene, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let document = answer.json();
        assert_eq!(document["issuer"], ISSUER, "{path}");
        assert_eq!(document["token_endpoint"], format!("{ISSUER}/connect/token"));
        assert_eq!(document["jwks_uri"], format!("{ISSUER}/.well-known/jwks.json"));
    }
    for path in [
        "/id/.well-known/jwks.json",
        "/id/.well-known/openid-configuration/jwks",
        "/id/openapi.json",
        "/id/health/live",
        "/id/health/ready",
        "/id/metrics",
    ] {
        assert_eq!(get(&scene, path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn tokens_are_granted_at_every_path_and_say_exactly_the_metadatas_issuer() {
    let scene = scene().await;
    let application = scene.register("below-a-path", json!({})).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "below-a-path"),
        ("client_secret", &application.client_secret),
    ];
    for path in ["/connect/token", "/id/connect/token", "/token", "/id/token"] {
        let request = scene.http.post(format!("{}{path}", scene.url)).form(&form);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        let claims = claims(answer.json()["access_token"].as_str().unwrap());
        assert_eq!(claims["iss"], ISSUER);
        assert_eq!(claims["aud"], json!([ISSUER]));
    }
    for path in ["/oauth2/token", "/id/oauth2/token"] {
        let request = scene.http.post(format!("{}{path}", scene.url)).form(&form);
        let answer = Answer::of(request.query(&[("audience", "ignored")]).send().await.unwrap()).await;
        assert_eq!(answer.json()["error_description"], "Missing audience", "{path}");
    }
    let wrong = [
        ("grant_type", "client_credentials"),
        ("client_id", "nobody"),
        ("client_secret", "x"),
    ];
    let request = scene.http.post(format!("{}/id/connect/token", scene.url)).form(&wrong);
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Basic realm=\"http://issuer.example/id\"")
    );
}

#[tokio::test]
async fn administration_and_audit_are_found_below_the_path_too_and_location_leads_there() {
    let scene = scene().await;
    for path in [
        "/id/admin/applications",
        "/id/admin/apis",
        "/id/admin/signing-keys",
        "/id/audit/events",
    ] {
        let (status, body) = scene.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
    }
    let request = scene
        .admin(Method::POST, "/id/admin/applications")
        .json(&json!({"application_uri": "located"}));
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let location = answer.header("location").unwrap().to_owned();
    assert!(location.starts_with("/id/admin/applications/"), "{location}");
    let (status, shown) = scene.get(&location).await;
    assert_eq!((status, &shown["client_id"]), (StatusCode::OK, &json!("located")));
    let recorded = scene.log().await;
    let call = recorded
        .iter()
        .rfind(|event| event.kind() == "ApiCallAuthorized")
        .unwrap();
    assert_eq!(
        call.data()["path"],
        location,
        "the event has the path as it was asked for"
    );
}
