//! `node.roles`: what a node answers that is not there for everything, and what it says of the rest.

use crate::running_server::{Administrator, RunningServer, Start, json, request_token};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json as object};
use std::path::Path;

const TOKEN_ALONE: &str = "node.roles = [\"token\"]\nnode.name = \"eu-1\"\n";
const AUDIT_ALONE: &str = "node.roles = [\"audit\"]\n";
/// So that a token of one start is good at the next.
const ISSUER: &str = "server.issuer = \"https://id.example.com\"\n";

fn start(folder: &Path, config: &str) -> RunningServer {
    Start::over(&folder.join("data"))
        .with_config(&format!("{config}{ISSUER}"))
        .start()
}

async fn ask(server: &RunningServer, method: Method, path: &str) -> (StatusCode, Value) {
    let request = Client::new().request(method, format!("{}{path}", server.url));
    json(request.send().await.expect("an answer")).await
}

fn assert_is_for_another(answer: &(StatusCode, Value), role: &str, path: &str) {
    assert_eq!(answer.0, StatusCode::MISDIRECTED_REQUEST, "{path}: {}", answer.1);
    assert_eq!(answer.1["type"], "urn:grantlog:problem:role_missing", "{path}");
    let detail = answer.1["detail"].as_str().expect("a detail");
    assert!(detail.contains(&format!("`{role}`")), "{path}: {detail}");
}

#[tokio::test]
async fn a_node_for_tokens_alone_keeps_nothing_for_auditors_and_says_who_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), TOKEN_ALONE);
    for path in [
        "/audit/events",
        "/audit/stats",
        "/audit/tail",
        "/audit/retention",
        "/checkpoint",
        "/tile/0/000",
        "/%61udit/events",
        "/ti%6ce/0/000",
    ] {
        assert_is_for_another(&ask(&server, Method::GET, path).await, "audit", path);
    }
    for file in ["audit.db", "usage.db", "tiles.db", "checkpoints.db", "transparency.key"] {
        assert!(!server.data_dir.join(file).exists(), "{file}");
    }
    let (status, readiness) = ask(&server, Method::GET, "/health/ready").await;
    assert_eq!(status, StatusCode::OK);
    assert!(readiness.get("indexed_through").is_none(), "{readiness}");
    let metrics = Client::new()
        .get(format!("{}/metrics", server.url))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains(r#"projection="state""#) && !metrics.contains(r#"projection="audit_index""#));
    let administrator = Administrator::of(&server).await;
    let made = administrator
        .register(object!({"application_uri": "orders", "scope": "read", "system_user": "svc"}))
        .await;
    let id = made["id"].as_str().expect("an id");
    for path in [format!("/admin/applications/{id}/usage"), "/admin/tokens".to_owned()] {
        assert_is_for_another(&administrator.get(&path).await, "audit", &path);
    }
    let (status, shown) = administrator.get(&format!("/admin/applications/{id}")).await;
    assert_eq!((status, shown.get("usage_through")), (StatusCode::OK, None), "{shown}");
}

#[tokio::test]
async fn a_node_for_tokens_alone_refuses_the_tokens_of_a_secret_that_was_revoked_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), TOKEN_ALONE);
    let administrator = Administrator::of(&server).await;
    let made = administrator
        .register(object!({"application_uri": "orders", "scope": "read", "system_user": "svc"}))
        .await;
    let (id, secret) = (made["id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    let http = Client::new();
    let (_, old) = request_token(&http, &server.url, "orders", secret, &[]).await;
    let (_, rotated) = administrator
        .post(&format!("/admin/applications/{id}/secrets"), &object!({}))
        .await;
    let new_secret = rotated["client_secret"].as_str().unwrap_or_else(|| panic!("{rotated}"));
    let (_, new) = request_token(&http, &server.url, "orders", new_secret, &[]).await;
    let secret_id = made["secret_id"].as_str().unwrap_or_else(|| panic!("{made}"));
    let revoked = administrator
        .request(Method::DELETE, &format!("/admin/applications/{id}/secrets/{secret_id}"))
        .json(&object!({"revoke_tokens": true}))
        .send()
        .await
        .unwrap();
    assert!(revoked.status().is_success(), "{}", revoked.text().await.unwrap());
    let verify = async |token: &Value| {
        let request = http.get(format!("{}/verify", server.url));
        let request = request.bearer_auth(token["access_token"].as_str().unwrap());
        request.send().await.unwrap().status()
    };
    assert_eq!(verify(&old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(verify(&new).await, StatusCode::OK);
}

#[tokio::test]
async fn a_node_for_the_trail_alone_answers_auditors_and_leaves_tokens_and_changes_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "");
    let administrator = Administrator::of(&server).await;
    let made = administrator
        .register(object!({"application_uri": "orders", "scope": "read", "system_user": "svc"}))
        .await;
    let id = made["id"].as_str().unwrap();
    let (client_id, secret) = server.administrator();
    let (_, token) = request_token(&Client::new(), &server.url, &client_id, &secret, &[]).await;
    assert!(server.stop().success());

    let server = start(folder.path(), AUDIT_ALONE);
    for (method, path) in [
        (Method::POST, "/connect/token"),
        (Method::POST, "/id/connect/token"),
        (Method::POST, "/connect/introspect"),
        (Method::POST, "/connect/revoke"),
        (Method::GET, "/verify"),
        (Method::POST, "/admin/applications"),
        (Method::POST, "/audit/api-calls"),
        (Method::POST, "/%63onnect/token"),
        (Method::POST, "/%61dmin/applications"),
        (Method::POST, "/audit/api%2Dcalls"),
    ] {
        assert_is_for_another(&ask(&server, method, path).await, "token", path);
    }
    for path in [
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/health/ready",
    ] {
        assert_eq!(ask(&server, Method::GET, path).await.0, StatusCode::OK, "{path}");
    }
    let http = Client::new();
    for path in [
        "/audit/events".to_owned(),
        "/admin/applications".to_owned(),
        "/admin/tokens".to_owned(),
        format!("/admin/applications/{id}/usage"),
    ] {
        let request = http.get(format!("{}{path}", server.url));
        let answer = request
            .bearer_auth(token["access_token"].as_str().unwrap())
            .send()
            .await
            .unwrap();
        let status = answer.status();
        assert_eq!(status, StatusCode::OK, "{path}: {}", answer.text().await.unwrap());
    }
    let checkpoint = http.get(format!("{}/checkpoint", server.url)).send().await.unwrap();
    assert_eq!(checkpoint.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_first_secret_that_was_kept_becomes_the_profile_only_when_the_log_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "");
    let data = server.data_dir.clone();
    let (profile, unproven) = (data.join("admin.json"), data.join("admin.json.unproven"));
    assert!(!unproven.exists());
    assert!(server.stop().success());
    // As after a crash between the registration and its answer.
    std::fs::rename(&profile, &unproven).unwrap();
    let server = start(folder.path(), "");
    assert!(profile.exists() && !unproven.exists());
    Administrator::of(&server).await;
    assert!(server.stop().success());
    // As after a crash of a node whose registration came second.
    let kept = std::fs::read_to_string(&profile).unwrap();
    let mut other: Value = serde_json::from_str(&kept).unwrap();
    other["client_secret"] = "not-the-secret-that-the-log-has".into();
    std::fs::write(&unproven, other.to_string()).unwrap();
    let server = start(folder.path(), "");
    assert!(!unproven.exists());
    Administrator::of(&server).await;
}

#[tokio::test]
async fn a_first_secret_that_was_kept_is_registered_when_the_log_has_none() {
    let (folder, of_another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = start(of_another.path(), "");
    let kept = std::fs::read_to_string(server.data_dir.join("admin.json")).unwrap();
    assert!(server.stop().success());
    // As after a start whose registration did not come to an end.
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("admin.json.unproven"), &kept).unwrap();
    let server = start(folder.path(), "");
    let secret = |text: &str| serde_json::from_str::<Value>(text).unwrap()["client_secret"].clone();
    let profile = std::fs::read_to_string(server.data_dir.join("admin.json")).unwrap();
    assert_eq!(secret(&profile), secret(&kept));
    assert!(!data.join("admin.json.unproven").exists());
    Administrator::of(&server).await;
}

#[test]
fn a_server_whose_master_key_did_not_seal_the_signing_keys_does_not_start_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(Start::over(&data).start().stop().success());
    let other = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=";
    let started = Start::over(&data)
        .with_environment("GRANTLOG__KEYS__MASTER_KEY", other)
        .try_start();
    let Err((status, stderr)) = started else {
        panic!("it started")
    };
    assert!(!status.success());
    assert!(stderr.contains("Every node needs the one that sealed it"), "{stderr}");
}
