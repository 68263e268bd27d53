//! `src/http/admin_apis.rs`: registered APIs.

use crate::scene::{Answer, Scene};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn an_api_is_registered_shown_changed_and_deleted() {
    let scene = Scene::start().await;
    let body = json!({
        "audience": "https://orders", "name": "Orders", "signing_alg": "EdDSA", "token_type": "JWT",
        "token_lifetime_seconds": 300,
        "scopes": [{"name": "read", "description": "reads orders"}, {"name": "update"}],
    });
    let request = scene.admin(Method::POST, "/admin/apis").json(&body);
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.header("etag")),
        (StatusCode::CREATED, Some("\"0\"")),
        "{}",
        answer.body
    );
    let made = answer.json();
    let path = format!("/admin/apis/{}", made["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(path.as_str()));
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    let (status, shown) = scene.get(&path).await;
    assert_eq!((status, &shown), (StatusCode::OK, &made));

    let patch = json!({"signing_alg": null, "name": "Orders", "reason": "back to the default"});
    let (status, shown) = scene.administer(Method::PATCH, &path, patch).await;
    assert_eq!(
        (status, &shown["signing_alg"], &shown["revision"]),
        (StatusCode::OK, &Value::Null, &json!(1))
    );
    let log = scene.log().await;
    let changed = log.last().unwrap();
    assert_eq!(
        changed.data()["changes"],
        json!([{"field": "signing_alg", "from": "EdDSA", "to": null}])
    );
    assert_eq!(changed.data()["reason"], "back to the default");

    let before = scene.log_size().await;
    let (status, _) = scene.administer(Method::PATCH, &path, json!({"name": "Orders"})).await;
    assert_eq!(
        (status, scene.log_size().await),
        (StatusCode::OK, before + 1),
        "the call alone"
    );
    let request = scene
        .admin(Method::PATCH, &path)
        .header("if-match", "\"0\"")
        .json(&json!({"name": "Other"}));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::PRECONDITION_FAILED);

    let (_, then) = scene.get(&format!("{path}?as_of={}", changed.index - 1)).await;
    assert_eq!(then["signing_alg"], "EdDSA");
    let (status, gone) = scene.administer(Method::DELETE, &path, json!({"reason": "over"})).await;
    assert_eq!((status, gone), (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(scene.get(&path).await.0, StatusCode::NOT_FOUND);
    let (_, history) = scene.get(&format!("{path}/history")).await;
    let kinds: Vec<&str> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["ApiRegistered", "ApiChanged", "ApiDeleted"]);
    let (status, _) = scene
        .administer(Method::POST, "/admin/apis", json!({"audience": "https://orders"}))
        .await;
    assert_eq!(status, StatusCode::CONFLICT, "an audience is never given out again");
}

#[tokio::test]
async fn an_api_that_somebody_may_ask_for_stays_and_says_who() {
    let scene = Scene::start().await;
    let id = scene.register_api("https://orders", json!({})).await;
    let application = scene
        .register("customer", json!({"audiences": ["https://orders"]}))
        .await;
    let path = format!("/admin/apis/{id}");
    let (status, problem) = scene.administer(Method::DELETE, &path, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .starts_with("customer may still ask for it"),
        "{problem}"
    );
    let (status, _) = scene
        .administer(Method::PATCH, &application.path(), json!({"audiences": []}))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        scene.administer(Method::DELETE, &path, json!({})).await.0,
        StatusCode::NO_CONTENT
    );
    let (status, problem) = scene
        .administer(
            Method::PATCH,
            &application.path(),
            json!({"audiences": ["https://orders"]}),
        )
        .await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::BAD_REQUEST, &json!("audiences"))
    );
}

#[tokio::test]
async fn grantlogs_own_api_is_registered_from_the_start_and_cannot_be_deleted() {
    let scene = Scene::start().await;
    let (_, page) = scene.get(&format!("/admin/apis?audience={}", scene.url)).await;
    let own = &page["apis"][0];
    assert_eq!(
        (&own["audience"], &own["name"], &own["scopes"]),
        (&json!(scene.url), &json!("Grantlog"), &json!([]))
    );
    let path = format!("/admin/apis/{}", own["id"].as_str().unwrap());
    assert_eq!(
        scene.administer(Method::DELETE, &path, json!({})).await.0,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn apis_are_listed_by_audience_in_pages() {
    let scene = Scene::start().await;
    for audience in ["https://b", "https://a", "https://c"] {
        scene.register_api(audience, json!({})).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = scene.get(&format!("/admin/apis?limit=2{after}")).await;
        assert_eq!(status, StatusCode::OK);
        let audiences = page["apis"]
            .as_array()
            .unwrap()
            .iter()
            .map(|api| api["audience"].as_str().unwrap().to_owned());
        seen.extend(audiences);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [scene.url.as_str(), "https://a", "https://b", "https://c"]);
}

#[tokio::test]
async fn a_field_that_is_not_acceptable_is_named() {
    let scene = Scene::start().await;
    for (body, field) in [
        (json!({}), "audience"),
        (json!({"audience": "a b"}), "audience"),
        (json!({"audience": "x".repeat(257)}), "audience"),
        (json!({"audience": "a", "signing_alg": "HS256"}), "signing_alg"),
        (json!({"audience": "a", "signing_alg": "none"}), "signing_alg"),
        (json!({"audience": "a", "token_type": "jwt"}), "token_type"),
        (
            json!({"audience": "a", "token_lifetime_seconds": 1}),
            "token_lifetime_seconds",
        ),
        (json!({"audience": "a", "scopes": ["read"]}), "scopes"),
        (
            json!({"audience": "a", "scopes": [{"name": "read", "extra": 1}]}),
            "scopes",
        ),
        (json!({"audience": "a", "scopes": [{"name": "a b"}]}), "scopes[0].name"),
        (
            json!({"audience": "a", "scopes": [{"name": "a"}, {"name": "\""}]}),
            "scopes[1].name",
        ),
        (
            json!({"audience": "a", "scopes": [{"name": "a"}, {"name": "a"}]}),
            "scopes",
        ),
        (json!({"audience": "a", "routes": []}), "routes"),
    ] {
        let (status, problem) = scene.administer(Method::POST, "/admin/apis", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let log = scene.log().await;
    let keys = log.iter().filter(|event| event.kind() == "SigningKeyAdded").count();
    assert_eq!(keys, 1, "a refused API makes no key");
}
