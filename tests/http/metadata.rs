//! `src/http/metadata.rs`: what clients and resource servers find out by themselves.

use crate::scene::{Answer, Scene, claims};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn fetch(scene: &Scene, method: Method, path: &str) -> Answer {
    let request = scene.http.request(method, format!("{}{path}", scene.url));
    Answer::of(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn the_metadata_lists_exactly_what_works() {
    let scene = Scene::start().await;
    let url = &scene.url;
    let expected = json!({
        "issuer": url,
        "token_endpoint": format!("{url}/connect/token"),
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "introspection_endpoint": format!("{url}/connect/introspect"),
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "revocation_endpoint": format!("{url}/connect/revoke"),
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "service_documentation": format!("{url}/openapi.json"),
    });
    let answer = fetch(&scene, Method::GET, "/.well-known/oauth-authorization-server").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected.clone()));
    let mut openid = expected;
    openid["subject_types_supported"] = json!(["public"]);
    openid["id_token_signing_alg_values_supported"] = json!([]);
    let answer = fetch(&scene, Method::GET, "/.well-known/openid-configuration").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, openid));
}

#[tokio::test]
async fn what_the_metadata_names_is_there() {
    let scene = Scene::start().await;
    let application = scene.register("discovering", json!({})).await;
    let document = fetch(&scene, Method::GET, "/.well-known/openid-configuration")
        .await
        .json();
    let text = |name: &str| document[name].as_str().expect(name).to_owned();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "discovering"),
        ("client_secret", &application.client_secret),
    ];
    let granted = scene
        .http
        .post(text("token_endpoint"))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(granted.status(), StatusCode::OK);
    let token: Value = granted.json().await.unwrap();
    assert_eq!(
        claims(token["access_token"].as_str().unwrap())["iss"],
        document["issuer"]
    );
    for readable in ["jwks_uri", "service_documentation"] {
        assert_eq!(
            scene.http.get(text(readable)).send().await.unwrap().status(),
            StatusCode::OK,
            "{readable}"
        );
    }
}

#[tokio::test]
async fn the_jwks_holds_public_keys_only_and_is_the_same_at_both_paths() {
    let scene = Scene::start().await;
    for alg in ["RS256", "PS256", "EdDSA"] {
        scene
            .register_api(&format!("https://{alg}"), json!({"signing_alg": alg}))
            .await;
    }
    let answer = fetch(&scene, Method::GET, "/.well-known/jwks.json").await;
    assert_eq!(answer.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=900"));
    let other = fetch(&scene, Method::GET, "/.well-known/openid-configuration/jwks").await;
    assert_eq!(answer.body, other.body);
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    let mut algorithms: Vec<&str> = Vec::new();
    for key in &keys {
        let mut members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        // Envoy and Istio want `alg` on every key; nobody may ever see `d`.
        let expected: &[&str] = match key["kty"].as_str().unwrap() {
            "EC" => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            "RSA" => &["alg", "e", "kid", "kty", "n", "use"],
            "OKP" => &["alg", "crv", "kid", "kty", "use", "x"],
            other => panic!("an unexpected key type {other}"),
        };
        assert_eq!(members, expected);
        assert_eq!(key["use"], "sig");
        algorithms.push(key["alg"].as_str().unwrap());
    }
    assert_eq!(algorithms, ["ES256", "RS256", "PS256", "EdDSA"]);
}

#[tokio::test]
async fn the_documents_answer_get_and_head_and_say_so() {
    let scene = Scene::start().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration/jwks",
        "/openapi.json",
    ] {
        let got = fetch(&scene, Method::GET, path).await;
        let head = fetch(&scene, Method::HEAD, path).await;
        assert_eq!((got.status, head.status), (StatusCode::OK, StatusCode::OK), "{path}");
        assert_eq!(head.body, "");
        for header in ["content-type", "cache-control", "content-length"] {
            assert_eq!(got.header(header), head.header(header), "{path} {header}");
            assert!(got.header(header).is_some(), "{path} {header}");
        }
        let posted = fetch(&scene, Method::POST, path).await;
        assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(posted.header("allow"), Some("GET, HEAD"), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_that_says_where_to_look() {
    let scene = Scene::start().await;
    for path in [
        "/",
        "/connect",
        "/connect/token/",
        "/admin",
        "/.well-known/",
        "/id",
        "/token/x",
        "//connect/token",
    ] {
        let answer = fetch(&scene, Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["type"], "urn:grantlog:problem:not_found");
        assert_eq!(answer.json()["status"], 404);
    }
}
