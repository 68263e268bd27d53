use super::assert_names_field;
use crate::scene::{Answer, Scene};
use base64::Engine;
use grantlog::credentials::client_secret::ClientSecret;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[tokio::test]
async fn a_registered_application_is_shown_whole_with_its_secret_once() {
    let scene = Scene::start().await;
    scene.register_api("https://orders", json!({})).await;
    let body = json!({
        "application_uri": "my.trusted.app/service", "name": "Integration «ü»", "description": "two\nlines",
        "scope": "read update DomainApi", "audiences": ["https://orders"], "system_user": "svc.integration",
        "org_code": "ACME", "owner": "team@example.com", "properties": {"tier": "gold"},
        "token_lifetime_seconds": 900, "allowed_networks": ["127.0.0.0/8"], "reference_tokens": "AdministratorsOnly",
    });
    let request = scene.admin(Method::POST, "/admin/applications").json(&body);
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(answer.header("etag"), Some("\"0\""));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let made = answer.json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(&*format!("/admin/applications/{id}")));
    let secret = made["client_secret"].as_str().unwrap();
    assert!(ClientSecret::is_well_formed(secret), "scanners recognise it");

    let mut expected = body;
    crate::scene::merge(
        &mut expected,
        json!({
            "id": id, "client_id": "my.trusted.app/service", "client_type": "Confidential", "is_enabled": true,
            "system_user_allowed": true, "revision": 0, "registered_at": made["registered_at"],
            "changed_at": made["registered_at"],
            "secrets": [{
                "id": made["secret_id"], "hint": &secret[secret.len() - 4..], "created_at": made["registered_at"],
                "expires_at": null, "revoked_at": null, "accepted": true,
            }],
        }),
    );
    let (status, shown) = scene.get(&format!("/admin/applications/{id}")).await;
    assert_eq!(
        (status, &crate::scene::without_usage(shown)),
        (StatusCode::OK, &expected)
    );
    crate::scene::merge(
        &mut expected,
        json!({"client_secret": secret, "secret_id": made["secret_id"]}),
    );
    assert_eq!(made, expected, "and only the first answer has the secret");

    let log = scene.log().await;
    let at = log
        .iter()
        .rposition(|event| event.kind() == "ApplicationRegistered")
        .unwrap();
    let registered = &log[at];
    assert_eq!(registered.kind(), "ApplicationRegistered");
    assert_eq!(registered.event["stream"], format!("application-{id}"));
    assert_eq!(registered.event["actor"], "grantlog.admin");
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(secret));
    assert_eq!(registered.data()["secret"]["hash"], hash, "base64(sha256(secret))");
    assert_eq!(log[at - 1].kind(), "ApiCallAuthorized", "the call comes first");
}

#[tokio::test]
async fn a_public_application_gets_no_secret_and_an_imported_hash_is_the_only_one() {
    let scene = Scene::start().await;
    let public = json!({"application_uri": "public", "client_type": "Public"});
    let (status, made) = scene.administer(Method::POST, "/admin/applications", public).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!((made.get("client_secret"), &made["secrets"]), (None, &json!([])));
    let path = format!("/admin/applications/{}/secrets", made["id"].as_str().unwrap());
    let (status, _) = scene.administer(Method::POST, &path, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);

    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest("theirs"));
    let imported = json!({"application_uri": "imported", "application_secret_hash": hash, "system_user": "svc"});
    let (status, made) = scene.administer(Method::POST, "/admin/applications", imported).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (made.get("client_secret"), &made["secrets"][0]["hint"]),
        (None, &Value::Null)
    );
    assert_eq!(scene.ask("imported", "theirs", &[]).await.status, StatusCode::OK);
    assert_eq!(scene.ask("imported", &hash, &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_field_that_is_not_acceptable_is_named_and_nothing_is_registered() {
    let scene = Scene::start().await;
    for (body, field, part) in [
        (json!({}), "application_uri", "is needed"),
        (json!({"application_uri": null}), "application_uri", "must not be null"),
        (json!({"application_uri": 7}), "application_uri", "must be a text"),
        (json!({"application_uri": ""}), "application_uri", "1 to 256"),
        (json!({"application_uri": "a b"}), "application_uri", "1 to 256"),
        (
            json!({"application_uri": "x".repeat(257)}),
            "application_uri",
            "1 to 256",
        ),
        (
            json!({"application_uri": "system"}),
            "application_uri",
            "name other actors",
        ),
        (
            json!({"application_uri": "operator:root"}),
            "application_uri",
            "name other actors",
        ),
        (json!({"application_uri": "a", "name": ""}), "name", "1 to 200"),
        (
            json!({"application_uri": "a", "name": "x\u{1b}[31m"}),
            "name",
            "control characters",
        ),
        (
            json!({"application_uri": "a", "description": "x".repeat(1_001)}),
            "description",
            "1,000",
        ),
        (
            json!({"application_uri": "a", "client_type": "public"}),
            "client_type",
            "Confidential or Public",
        ),
        (
            json!({"application_uri": "a", "scope": "a\"b"}),
            "scope",
            "space-separated",
        ),
        (
            json!({"application_uri": "a", "scope": ["read"]}),
            "scope",
            "must be a text",
        ),
        (
            json!({"application_uri": "a", "audiences": "https://orders"}),
            "audiences",
            "a list of texts",
        ),
        (
            json!({"application_uri": "a", "audiences": ["a b"]}),
            "audiences[0]",
            "printable ASCII",
        ),
        (
            json!({"application_uri": "a", "audiences": ["https://no"]}),
            "audiences",
            "register it first",
        ),
        (
            json!({"application_uri": "a", "system_user_allowed": "yes"}),
            "system_user_allowed",
            "true or false",
        ),
        (
            json!({"application_uri": "a", "system_user": ""}),
            "system_user",
            "1 to 256",
        ),
        (
            json!({"application_uri": "a", "org_code": "a b"}),
            "org_code",
            "1 to 64",
        ),
        (
            json!({"application_uri": "a", "properties": {"a": 1}}),
            "properties",
            "an object of texts",
        ),
        (
            json!({"application_uri": "a", "properties": {"": "x"}}),
            "properties",
            "a name is 1 to 64",
        ),
        (
            json!({"application_uri": "a", "token_lifetime_seconds": 59}),
            "token_lifetime_seconds",
            "60 to 86400",
        ),
        (
            json!({"application_uri": "a", "token_lifetime_seconds": 86_401}),
            "token_lifetime_seconds",
            "60 to 86400",
        ),
        (
            json!({"application_uri": "a", "token_lifetime_seconds": 60.5}),
            "token_lifetime_seconds",
            "whole number",
        ),
        (
            json!({"application_uri": "a", "allowed_networks": ["x"]}),
            "allowed_networks[0]",
            "10.0.0.0/8",
        ),
        (
            json!({"application_uri": "a", "reference_tokens": "All"}),
            "reference_tokens",
            "AdministratorsOnly",
        ),
        (
            json!({"application_uri": "a", "is_enabled": null}),
            "is_enabled",
            "not null",
        ),
        (
            json!({"application_uri": "a", "application_secret_hash": "x"}),
            "application_secret_hash",
            "SHA-256",
        ),
        (
            json!({"application_uri": "a", "secret_expires_in_seconds": 0}),
            "secret_expires_in_seconds",
            "1 to",
        ),
        (
            json!({"application_uri": "a", "secret_expires_in_seconds": i64::MAX}),
            "secret_expires_in_seconds",
            "1 to",
        ),
        (
            json!({"application_uri": "a", "client_type": "Public", "application_secret_hash":
                "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}),
            "application_secret_hash",
            "cannot keep a secret",
        ),
        (
            json!({"application_uri": "a", "scopes": "read"}),
            "scopes",
            "there is no such field; there are",
        ),
        (
            json!({"application_uri": "a", "client_secret": "x"}),
            "client_secret",
            "there is no such field",
        ),
        (
            json!({"application_uri": "a", "a\u{1b}b": "x"}),
            "ab",
            "there is no such field",
        ),
    ] {
        let answer = scene.administer(Method::POST, "/admin/applications", body).await;
        assert_names_field(&answer, field, part);
    }
    let log = scene.log().await;
    let registered = log
        .iter()
        .filter(|event| event.kind() == "ApplicationRegistered")
        .count();
    assert_eq!(registered, 2, "the administrator and the auditor alone");
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_a_problem_that_says_so() {
    let scene = Scene::start().await;
    for (content_type, body, status, kind) in [
        ("text/plain", "{}", 415, "content_type"),
        (
            "application/x-www-form-urlencoded",
            "application_uri=a",
            415,
            "content_type",
        ),
        ("application/json", "{", 400, "unreadable"),
        ("application/json", "[]", 400, "unreadable"),
        ("application/json", "\"a\"", 400, "unreadable"),
        ("application/json", "{}{}", 400, "unreadable"),
        (
            "application/json",
            r#"{"application_uri": "a", "application_uri": "b"}"#,
            400,
            "unreadable",
        ),
        ("application/json", "", 400, "invalid"),
    ] {
        let request = scene.admin(Method::POST, "/admin/applications");
        let request = request.header("content-type", content_type).body(body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["type"], format!("urn:grantlog:problem:{kind}"), "{body}");
    }
    let deep = format!("{{\"properties\": {}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let request = scene
        .admin(Method::POST, "/admin/applications")
        .header("content-type", "application/json");
    assert_eq!(
        request.body(deep).send().await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    let request = scene
        .admin(Method::POST, "/admin/applications")
        .header("content-type", "application/json");
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(64 * 1024));
    assert_eq!(
        request.body(large).send().await.unwrap().status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn a_name_that_is_or_was_taken_is_a_conflict_for_ever() {
    let scene = Scene::start().await;
    let application = scene.register("taken", json!({})).await;
    let register = async || {
        scene
            .administer(Method::POST, "/admin/applications", json!({"application_uri": "taken"}))
            .await
    };
    let (status, problem) = register().await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::CONFLICT, &json!("urn:grantlog:problem:conflict"))
    );
    let (status, _) = scene
        .administer(Method::DELETE, &application.path(), json!({"reason": "over"}))
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, problem) = register().await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        problem["detail"].as_str().unwrap().contains("never given out again"),
        "{problem}"
    );
    // Registered at the same moment, one of them wins.
    let at_once = (0..8).map(|_| {
        let request = scene.admin(Method::POST, "/admin/applications");
        request.json(&json!({"application_uri": "contended"})).send()
    });
    let statuses: Vec<u16> = futures_util::future::join_all(at_once)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().status().as_u16())
        .collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 409).count(),
        7,
        "{statuses:?}"
    );
}
