//! `src/http/admin_keys.rs`: signing keys, on command.

use crate::scene::{Scene, jose_header};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn published(scene: &Scene) -> Vec<String> {
    let jwks = scene.http.get(format!("{}/.well-known/jwks.json", scene.url));
    let jwks: Value = jwks.send().await.unwrap().json().await.unwrap();
    jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

fn states(keys: &Value) -> Vec<(&str, &str)> {
    keys["keys"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| (key["kid"].as_str().unwrap(), key["state"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_rotation_signs_with_the_new_key_and_keeps_the_old_one_published_until_it_is_retired() {
    let scene = Scene::start().await;
    let application = scene.register("client", json!({})).await;
    let administrator = scene.register("reader", json!({"scope": "applications:read"})).await;
    let keeper = scene.register("keeper", json!({"scope": "keys:write"})).await;
    let old_token = scene.token(&administrator, &[]).await;
    let old = jose_header(&old_token)["kid"].as_str().unwrap().to_owned();

    let body = json!({"reason": "drill"});
    let (status, keys) = scene.administer(Method::POST, "/admin/signing-keys/rotate", body).await;
    assert_eq!(status, StatusCode::OK, "{keys}");
    let new = format!("{old}.2");
    assert_eq!(states(&keys), [(old.as_str(), "superseded"), (new.as_str(), "active")]);
    assert!(
        !keys.to_string().contains("sealed"),
        "the private half is not shown, sealed or not"
    );
    assert_eq!(jose_header(&scene.token(&application, &[]).await)["kid"], new);
    assert_eq!(published(&scene).await, [old.clone(), new.clone()]);
    let request = || scene.with_token(&old_token, Method::GET, "/admin/applications");
    assert_eq!(
        request().send().await.unwrap().status(),
        StatusCode::OK,
        "tokens of the old key still hold"
    );

    let log = scene.log().await;
    let changes: Vec<(&str, &Value)> = log[log.len() - 5..]
        .iter()
        .filter(|event| event.kind().starts_with("SigningKey"))
        .map(|event| (event.kind(), &event.data()["reason"]))
        .collect();
    assert_eq!(
        changes,
        [
            ("SigningKeyAdded", &json!("drill")),
            ("SigningKeyActivated", &json!("drill"))
        ]
    );

    let path = format!("/admin/signing-keys/{new}/retire");
    assert_eq!(
        scene.administer(Method::POST, &path, json!({})).await.0,
        StatusCode::CONFLICT,
        "it signs"
    );
    let path = format!("/admin/signing-keys/{old}/retire");
    let (status, keys) = scene.administer(Method::POST, &path, json!({"reason": "stolen"})).await;
    assert_eq!((status, states(&keys)[0]), (StatusCode::OK, (old.as_str(), "retired")));
    assert_eq!(published(&scene).await, [new]);
    assert_eq!(
        request().send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED,
        "what it signed is void"
    );
    assert_eq!(scene.log().await.last().unwrap().data()["reason"], "unknown_key");
    // The administrator's own token was signed by it, too.
    assert_eq!(
        scene.administer(Method::POST, &path, json!({})).await.0,
        StatusCode::UNAUTHORIZED
    );
    let keeper = scene.token(&keeper, &[]).await;
    for (kid, status) in [
        (old.as_str(), StatusCode::CONFLICT),
        ("2000-01-01", StatusCode::NOT_FOUND),
    ] {
        let request = scene.with_token(&keeper, Method::POST, &format!("/admin/signing-keys/{kid}/retire"));
        assert_eq!(request.send().await.unwrap().status(), status, "{kid}");
    }
}

#[tokio::test]
async fn an_algorithm_is_rotated_by_name_and_only_when_something_uses_it() {
    let scene = Scene::start().await;
    let rotate = async |alg: &str| {
        let (status, body) = scene
            .administer(Method::POST, "/admin/signing-keys/rotate", json!({"alg": alg}))
            .await;
        (status, body)
    };
    let (status, problem) = rotate("EdDSA").await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::BAD_REQUEST, &json!("alg"))
    );
    assert_eq!(rotate("HS256").await.0, StatusCode::BAD_REQUEST);
    scene
        .register_api("https://orders", json!({"signing_alg": "EdDSA"}))
        .await;
    let (status, keys) = rotate("EdDSA").await;
    assert_eq!(status, StatusCode::OK);
    let of = |alg: &str| {
        let keys = keys["keys"].as_array().unwrap().iter();
        keys.filter(|key| key["alg"] == alg)
            .map(|key| key["state"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("EdDSA"), ["superseded", "active"]);
    assert_eq!(of("ES256"), ["active"], "the other algorithms' keys are left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_at_the_same_moment_rotate_once_each_or_say_that_they_did_not() {
    let scene = Scene::start().await;
    let at_once = (0..6).map(|_| scene.administer(Method::POST, "/admin/signing-keys/rotate", json!({})));
    let statuses: Vec<u16> = futures_util::future::join_all(at_once)
        .await
        .into_iter()
        .map(|(status, _)| status.as_u16())
        .collect();
    let rotated = statuses.iter().filter(|status| **status == 200).count();
    assert!(
        rotated >= 1 && statuses.iter().all(|status| [200, 409].contains(status)),
        "{statuses:?}"
    );
    let (_, keys) = scene.get("/admin/signing-keys").await;
    assert_eq!(states(&keys).len(), rotated + 1);
    assert_eq!(states(&keys).iter().filter(|(_, state)| *state == "active").count(), 1);
}
