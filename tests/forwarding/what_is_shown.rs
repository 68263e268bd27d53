//! What the operator sees of it: the status, the figures, and what is wrong with the configuration.

use crate::hostile_receivers::{sink, wait_for_state};
use crate::receiver::{PATIENCE, Receiver, free_port, wait_for_log, wait_until};
use crate::running_server::Start;
use crate::scene::Scene;
use crate::webhook_receiver::{SECRET, WebhookReceiver, accept, refuse};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn the_status_and_the_figures_tell_how_a_sink_is_doing_and_nothing_that_is_secret() {
    let receiver = WebhookReceiver::with(0, |stream, number| match number {
        0 => refuse(stream, "500 Oh", ""),
        _ => accept(stream),
    });
    let folder = tempfile::tempdir().unwrap();
    let config = WebhookReceiver::config(receiver.port(), folder.path()) + "filter = 'type ne \"SigningKeyAdded\"'\n";
    let scene = Scene::in_folder(folder, &config).await;
    wait_for_log(&receiver, &scene.log().await).await;
    // It has read the answer a moment after the receiver gave it.
    wait_for_state(&scene, "delivering").await;
    let (status, shown) = scene.get("/audit/forwarding").await;
    assert_eq!(status, StatusCode::OK);
    let sink = &shown["sinks"][0];
    assert_eq!(
        (&sink["name"], &sink["kind"], &sink["state"], &sink["failures"]),
        (&json!("hook"), &json!("webhook"), &json!("delivering"), &json!(1))
    );
    assert_eq!(sink["target"], format!("http://127.0.0.1:{}", receiver.port()));
    assert_eq!(sink["filter"], "type ne \"SigningKeyAdded\"");
    assert_eq!(sink["last_error"]["class"], "unavailable");
    let figures = figures(&scene).await;
    for figure in [
        "grantlog_forwarding_failures_total{sink=\"hook\",class=\"unavailable\"} 1\n",
        "grantlog_forwarding_up{sink=\"hook\"} 1\n",
        "grantlog_forwarding_rejected_events_total{sink=\"hook\"} 0\n",
        "grantlog_forwarding_delivered_events_total{sink=\"hook\"} ",
        "grantlog_forwarding_lag_events{sink=\"hook\"} ",
    ] {
        assert!(figures.contains(figure), "{figure} is not in\n{figures}");
    }
    let told = format!("{shown}{figures}{}", scene.server.stderr());
    for secret in [SECRET, "hidden-path"] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }

    // A sink of another name is another sink: nothing of the old one lingers.
    let renamed = config.replace("\"hook\"", "\"siem\"");
    let scene = Scene::in_folder(scene.stop(), &renamed).await;
    let figures = self::figures(&scene).await;
    assert!(figures.contains("sink=\"siem\"") && !figures.contains("sink=\"hook\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_is_told_once_and_its_lag_grows() {
    let folder = tempfile::tempdir().unwrap();
    let config = WebhookReceiver::config(free_port(), folder.path());
    let scene = Scene::in_folder(folder, &config).await;
    let started = Instant::now();
    let sink = loop {
        let sink = sink(&scene).await;
        if sink["failures"].as_u64().unwrap() >= 3 {
            break sink;
        }
        assert!(started.elapsed() < PATIENCE, "{sink}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(
        (&sink["state"], &sink["last_error"]["class"]),
        (&json!("retrying"), &json!("connection"))
    );
    assert!(sink["next_attempt"].is_string());
    let told = scene.server.stderr();
    assert_eq!(told.matches("has not acknowledged").count(), 1, "{told}");
    let figures = figures(&scene).await;
    assert!(figures.contains("grantlog_forwarding_up{sink=\"hook\"} 0\n"));
    let (_, ready) = scene.get("/health/ready").await;
    assert_eq!(ready["ready"], true, "a dead sink is no reason not to serve");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_for_those_who_may_read_the_trail() {
    let scene = Scene::start().await;
    let (status, shown) = scene.get("/audit/forwarding").await;
    assert_eq!((status, shown), (StatusCode::OK, json!({"sinks": []})));
    let url = format!("{}/audit/forwarding", scene.url);
    let answer = scene.http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let application = scene.register("orders/worker", json!({})).await;
    let token = scene.token(&application, &[]).await;
    let answer = scene
        .with_token(&token, Method::GET, "/audit/forwarding")
        .send()
        .await
        .unwrap();
    assert!(matches!(
        answer.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ));
    let answer = scene.admin(Method::POST, "/audit/forwarding").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn a_sink_whose_secret_or_certificate_cannot_be_had_keeps_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_TOPSECRET").unwrap();
    let sink = |more: &str| {
        format!("[[forwarding]]\nname = \"siem\"\nkind = \"webhook\"\nurl = \"https://siem.example.com/\"\n{more}")
    };
    for (config, expected) in [
        (
            sink("secret_env = \"GRANTLOG_TEST_NO_SUCH_SECRET\"\n"),
            "GRANTLOG_TEST_NO_SUCH_SECRET",
        ),
        (
            sink(&format!("secret_file = {secret:?}\n")),
            "does not hold one secret, or two",
        ),
        (sink("secret_file = \"/nonexistent/secret\"\n"), "/nonexistent/secret"),
    ] {
        let started = Start::over(&folder.path().join("data"))
            .with_config(&config)
            .try_start();
        let Err((status, stderr)) = started else {
            panic!("it started with {config}")
        };
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("forwarding to siem") && stderr.contains(expected),
            "{stderr}"
        );
        assert!(!stderr.contains("TOPSECRET"), "{stderr}");
        let data = folder.path().join("data");
        assert!(!data.join("events.db").exists() && !data.join("admin.json").exists());
    }
}

async fn figures(scene: &Scene) -> String {
    let answer = scene.http.get(format!("{}/metrics", scene.url)).send().await.unwrap();
    answer.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_comes_from_the_environment_too() {
    let receiver = WebhookReceiver::with(0, |stream, _| accept(stream));
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[forwarding]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}/\"\n\
         secret_env = \"HOOK_SECRET\"\nfrom = \"beginning\"\n",
        receiver.port()
    );
    let server = Start::over(&folder.path().join("data"))
        .with_config(&config)
        .with_environment("HOOK_SECRET", SECRET)
        .start();
    wait_until("something arrives", || !receiver.requests().is_empty()).await;
    drop(server);
}
