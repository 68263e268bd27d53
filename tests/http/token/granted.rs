//! What a granted token's answer says, at every endpoint and by both authentication methods.

use super::{Ask, Endpoint};
use crate::scene::{Scene, claims};
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn every_endpoint_grants_by_basic_and_by_post_and_leaves_one_event_each() {
    let scene = Scene::start().await;
    scene.register_api("https://orders", json!({})).await;
    let attributes = json!({"audiences": ["https://orders"], "org_code": "ACME", "token_lifetime_seconds": 900});
    let application = scene.register("my.trusted.app/service", attributes).await;
    for endpoint in Endpoint::ALL {
        for is_basic in [false, true] {
            let before = scene.log_size().await;
            let ask = Ask::at(endpoint, &application.client_id, &application.client_secret);
            let ask = if is_basic { ask.basic() } else { ask };
            let answer = ask.send(&scene.http, &scene.url).await;
            assert_eq!(answer.status, StatusCode::OK, "{endpoint:?}: {}", answer.body);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("pragma"), Some("no-cache"));
            let (token, token_type, expires_in, scope) = endpoint.grant(&answer.json());
            assert_eq!(
                (token_type.as_str(), expires_in, scope.as_str()),
                ("Bearer", 900, "read update DomainApi")
            );

            let events = scene.log_from(before).await;
            assert_eq!(events.len(), 1, "{events:?}");
            let (event, data) = (&events[0].event, events[0].data());
            let claims = claims(&token);
            assert_eq!(events[0].kind(), "TokenIssued");
            assert_eq!(event["stream"], format!("token-requests-{}", application.id));
            assert_eq!(event["actor"], "my.trusted.app/service");
            assert_eq!(event["source"]["ip"], "127.0.0.1");
            assert_eq!((&event["id"], &data["jti"]), (&claims["jti"], &claims["jti"]));
            assert_eq!(data["application_uri"], "my.trusted.app/service");
            assert_eq!(data["application_id"], application.id);
            assert_eq!(data["secret_id"], application.secret_id);
            assert_eq!(data["dialect"], endpoint.dialect());
            let method = if is_basic {
                "client_secret_basic"
            } else {
                "client_secret_post"
            };
            assert_eq!(data["auth_method"], method);
            assert_eq!(data["scope"], "read update DomainApi");
            assert_eq!(data.get("scope_requested"), None);
            assert_eq!(data["audiences"], json!(["https://orders"]));
            assert_eq!(data["system_user"], "svc.integration");
            assert_eq!(data["org_code"], "ACME");
            assert_eq!(data["alg"], "ES256");
            assert_eq!(data["token_hint"].as_str().unwrap(), &token[token.len() - 8..]);
        }
    }
}

#[tokio::test]
async fn the_answer_and_the_event_say_the_scope_that_was_granted_and_the_one_that_was_asked_for() {
    let scene = Scene::start().await;
    let application = scene.register("scoped", json!({})).await;
    for (asked, granted) in [
        ("read", "read"),
        ("DomainApi read read", "DomainApi read"),
        ("openid read profile offline_access", "read"),
        ("openid", "read update DomainApi"),
        ("", "read update DomainApi"),
        ("   ", "read update DomainApi"),
    ] {
        let answer = scene
            .ask("scoped", &application.client_secret, &[("scope", asked)])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.json()["scope"], granted, "asked for {asked:?}");
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(claims(&token)["scope"], granted);
        let issued = scene.log().await.pop().unwrap();
        assert_eq!(issued.data()["scope"], granted);
    }
}

#[tokio::test]
async fn credentials_that_need_form_encoding_inside_basic_are_decoded() {
    let scene = Scene::start().await;
    // The hash of a secret that exists elsewhere, with everything in it that clients encode differently.
    let secret = "p+ss w%rd:ü/=&";
    let hash = grantlog::credentials::generated::hash_of(secret).to_string();
    let more = json!({"application_secret_hash": hash});
    let application = scene.register("my.trusted.app/with:colon@x", more).await;
    assert_eq!(application.client_secret, "", "only its hash was given");
    for ask in [
        Ask::at(Endpoint::Connect, &application.client_id, secret),
        Ask::at(Endpoint::Connect, &application.client_id, secret).basic(),
        Ask::at(Endpoint::Json, &application.client_id, secret),
    ] {
        let answer = ask.send(&scene.http, &scene.url).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

#[tokio::test]
async fn basic_with_the_same_client_id_in_the_body_is_one_method() {
    let scene = Scene::start().await;
    let application = scene.register("repeats-itself", json!({})).await;
    let ask = Ask::at(Endpoint::Connect, "repeats-itself", &application.client_secret).basic();
    let answer = ask
        .with("client_id", "repeats-itself")
        .send(&scene.http, &scene.url)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn two_tokens_of_one_second_differ_and_their_ids_are_in_order() {
    let scene = Scene::start().await;
    let application = scene.register("fast", json!({})).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let token = scene.token(&application, &[]).await;
        ids.push(claims(&token)["jti"].as_str().unwrap().to_owned());
    }
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

#[tokio::test]
async fn a_body_of_exactly_64_kib_is_read() {
    let scene = Scene::start().await;
    let application = scene.register("large", json!({})).await;
    let form = format!(
        "grant_type=client_credentials&client_id=large&client_secret={}&ignored=",
        application.client_secret
    );
    let body = format!("{form}{}", "x".repeat(64 * 1024 - form.len()));
    let ask = Ask::at(Endpoint::Connect, "", "").body(body);
    let answer = ask.send(&scene.http, &scene.url).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn media_types_are_read_without_case_and_parameters() {
    let scene = Scene::start().await;
    let application = scene.register("typed", json!({})).await;
    for content_type in [
        "application/x-www-form-urlencoded; charset=UTF-8",
        "Application/X-WWW-Form-UrlEncoded",
        "application/x-www-form-urlencoded ;charset=utf-8",
    ] {
        let ask = Ask::at(Endpoint::Connect, "typed", &application.client_secret);
        let answer = ask.content_type(Some(content_type)).send(&scene.http, &scene.url).await;
        assert_eq!(answer.status, StatusCode::OK, "{content_type}");
    }
    let ask = Ask::at(Endpoint::Json, "typed", &application.client_secret);
    let answer = ask
        .content_type(Some("application/json; charset=utf-8"))
        .send(&scene.http, &scene.url)
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_trace_id_from_the_caller_is_kept_in_the_event() {
    let scene = Scene::start().await;
    let application = scene.register("traced", json!({})).await;
    let ask = Ask::at(Endpoint::Connect, "traced", &application.client_secret);
    let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    ask.clone()
        .header("traceparent", parent)
        .send(&scene.http, &scene.url)
        .await;
    let log = scene.log().await;
    assert_eq!(
        log.last().unwrap().event["trace_id"],
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
    let odd: [&[u8]; 3] = [
        b"00-zz-00-01",
        b"\xff",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    ];
    for odd in odd {
        ask.clone()
            .header("traceparent", odd)
            .send(&scene.http, &scene.url)
            .await;
        let kept = scene.log().await.last().unwrap().event["trace_id"].clone();
        assert_ne!(kept.as_str(), Some("00000000000000000000000000000000"));
        assert!(
            kept.is_null() || kept.as_str().is_some_and(|id| id.len() == 32),
            "{kept}"
        );
    }
}
