//! `src/http/origin.rs`: where a request comes from, and what depends on it.

use crate::scene::{Answer, Scene};
use reqwest::StatusCode;
use serde_json::{Value, json};

async fn ask_forwarded(scene: &Scene, client_id: &str, client_secret: &str, forwarded: &[&str]) -> Answer {
    let mut request = scene.http.post(format!("{}/connect/token", scene.url)).form(&[
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("client_secret", client_secret),
    ]);
    for header in forwarded {
        request = request.header("x-forwarded-for", *header);
    }
    let request = request
        .header("forwarded", "for=203.0.113.99")
        .header("x-real-ip", "203.0.113.98");
    Answer::of(request.send().await.expect("an answer")).await
}

async fn recorded_ip(scene: &Scene) -> Value {
    scene.log().await.last().expect("an event").event["source"]["ip"].clone()
}

#[tokio::test]
async fn nobody_is_believed_without_trusted_proxies() {
    let scene = Scene::start().await;
    let allowed = json!({"allowed_networks": ["192.0.2.0/24"]});
    let application = scene.register("held-to-network", allowed).await;
    let answer = ask_forwarded(&scene, "held-to-network", &application.client_secret, &["192.0.2.7"]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(recorded_ip(&scene).await, "127.0.0.1");
    assert_eq!(
        scene.log().await.last().unwrap().data()["reason"],
        "network_not_allowed"
    );
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_networks_are_held_against_the_client() {
    let scene = Scene::with_config("[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").await;
    let allowed = json!({"allowed_networks": ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]});
    let application = scene.register("held-to-network", allowed).await;
    for (forwarded, is_allowed, seen) in [
        (vec!["192.0.2.7"], true, "192.0.2.7"),
        (vec!["192.0.2.7:4711"], true, "192.0.2.7"),
        (vec!["2001:db8::1"], true, "2001:db8::1"),
        (vec!["[2001:db8::1]:443"], true, "2001:db8::1"),
        (vec!["::ffff:192.0.2.7"], true, "192.0.2.7"),
        (vec!["198.51.100.7"], true, "198.51.100.7"),
        (vec!["203.0.113.1, 192.0.2.7, 10.1.2.3"], true, "192.0.2.7"),
        (vec!["203.0.113.1", "192.0.2.7", "10.1.2.3"], true, "192.0.2.7"),
        (vec!["198.51.100.8"], false, "198.51.100.8"),
        // What the client itself wrote comes before what the proxy saw.
        (vec!["192.0.2.7, 203.0.113.1"], false, "203.0.113.1"),
        (vec!["192.0.2.7", "203.0.113.1"], false, "203.0.113.1"),
        (vec!["192.0.2.7, unknown"], false, "127.0.0.1"),
        (vec!["192.0.2.7, "], false, "127.0.0.1"),
        (vec!["192.0.2.7, 192.0.2.7'; DROP TABLE event; --"], false, "127.0.0.1"),
        (vec![""], false, "127.0.0.1"),
        (vec![], false, "127.0.0.1"),
    ] {
        let answer = ask_forwarded(&scene, "held-to-network", &application.client_secret, &forwarded).await;
        let expected = if is_allowed {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        };
        assert_eq!(answer.status, expected, "{forwarded:?}");
        assert_eq!(recorded_ip(&scene).await, seen, "{forwarded:?}");
    }
}

#[tokio::test]
async fn networks_are_read_strictly_when_they_are_set() {
    let scene = Scene::start().await;
    let application = scene.register("networked", json!({})).await;
    for (network, part) in [
        ("10.0.0.1/8", "10.0.0.0/8 is meant"),
        ("10.0.0.0/33", "such as 10.0.0.0/8"),
        ("example.com", "such as 10.0.0.0/8"),
        ("", "such as 10.0.0.0/8"),
    ] {
        let body = json!({"allowed_networks": ["10.0.0.0/8", network]});
        let (status, problem) = scene
            .administer(reqwest::Method::PATCH, &application.path(), body)
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(problem["errors"][0]["field"], "allowed_networks[1]");
        assert!(
            problem["errors"][0]["message"].as_str().unwrap().contains(part),
            "{problem}"
        );
    }
    let body = json!({"allowed_networks": ["127.0.0.1", "::1"]});
    let (status, shown) = scene
        .administer(reqwest::Method::PATCH, &application.path(), body)
        .await;
    assert_eq!(
        (status, &shown["allowed_networks"]),
        (StatusCode::OK, &json!(["127.0.0.1/32", "::1/128"]))
    );
    assert_eq!(
        scene.ask("networked", &application.client_secret, &[]).await.status,
        StatusCode::OK
    );
}
