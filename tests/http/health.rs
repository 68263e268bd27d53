//! `src/http/health.rs`: for those who watch the service.

use crate::scene::{Answer, Scene};
use reqwest::{Method, StatusCode};
use serde_json::json;

async fn fetch(scene: &Scene, method: Method, path: &str) -> Answer {
    let request = scene.http.request(method, format!("{}{path}", scene.url));
    Answer::of(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn a_running_server_is_live_and_ready_and_says_how_far_it_has_read() {
    let scene = Scene::start().await;
    let live = fetch(&scene, Method::GET, "/health/live").await;
    assert_eq!((live.status, live.json()), (StatusCode::OK, json!({"live": true})));
    let ready = fetch(&scene, Method::GET, "/health/ready").await;
    assert_eq!(ready.status, StatusCode::OK);
    let readiness = ready.json();
    assert_eq!((&readiness["ready"], &readiness["reasons"]), (&json!(true), &json!([])));
    let size = scene.log_size().await;
    assert_eq!(readiness["log_size"], size);
    assert!(readiness["state_through"].as_u64().unwrap() <= size);
    for path in ["/health/live", "/health/ready"] {
        let head = fetch(&scene, Method::HEAD, path).await;
        assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        let posted = fetch(&scene, Method::POST, path).await;
        assert_eq!(
            (posted.status, posted.header("allow")),
            (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD"))
        );
    }
}

#[tokio::test]
async fn watching_leaves_no_event() {
    let scene = Scene::start().await;
    let before = scene.log_size().await;
    for path in [
        "/health/live",
        "/health/ready",
        "/metrics",
        "/.well-known/jwks.json",
        "/openapi.json",
        "/nowhere",
    ] {
        fetch(&scene, Method::GET, path).await;
    }
    assert_eq!(scene.log_size().await, before);
}

#[tokio::test]
async fn the_metrics_count_requests_by_route_and_outcome_and_never_by_what_callers_invent() {
    let scene = Scene::start().await;
    let application = scene.register("measured", json!({})).await;
    scene.token(&application, &[]).await;
    scene.ask("measured", "wrong", &[]).await;
    for invented in [
        "/a",
        "/b/c",
        "/admin/applications/x",
        "/admin/applications/y/history",
        "/audit/events/z",
    ] {
        fetch(&scene, Method::GET, invented).await;
    }
    for method in ["BREW", "FETCH"] {
        fetch(&scene, Method::from_bytes(method.as_bytes()).unwrap(), "/token").await;
    }
    let metrics = fetch(&scene, Method::GET, "/metrics").await;
    assert_eq!(metrics.status, StatusCode::OK);
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let text = &metrics.body;
    let value = |series: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    for (family, labels) in [
        (
            "grantlog_token_requests_total",
            vec![r#"dialect="standard""#, r#"outcome="success""#, r#"error="none""#],
        ),
        (
            "grantlog_token_requests_total",
            vec![
                r#"dialect="standard""#,
                r#"outcome="refused""#,
                r#"error="invalid_client""#,
            ],
        ),
        (
            "grantlog_http_requests_total",
            vec![r#"route="/connect/token""#, r#"status="401""#],
        ),
        (
            "grantlog_http_requests_total",
            vec![r#"route="/admin/applications/{id}""#, r#"status="401""#],
        ),
        (
            "grantlog_http_requests_total",
            vec![r#"route="other""#, r#"status="404""#],
        ),
    ] {
        let found = text
            .lines()
            .find(|line| line.starts_with(family) && labels.iter().all(|label| line.contains(label)));
        assert!(found.is_some(), "{family} {labels:?}\n{text}");
    }
    for invented in ["/a\"", "/b/c", "BREW", "FETCH", "measured"] {
        assert!(!text.contains(invented), "{invented}\n{text}");
    }
    assert!(
        value("grantlog_event_store_log_size ").is_some_and(|events| events >= 9.0),
        "{text}"
    );
    for family in [
        "grantlog_event_store_queue_depth",
        "grantlog_projection_lag",
        "grantlog_event_store_commit_duration",
    ] {
        assert!(text.contains(family), "{family}\n{text}");
    }
}
