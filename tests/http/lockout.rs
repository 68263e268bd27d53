//! Failed requests without end: answered 429 for one client from one source, and recorded as a count.

use crate::scene::{Answer, Logged, Scene};
use reqwest::StatusCode;
use serde_json::{Value, json};

const CONFIG: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[lockout]\nmax_failures = 3\nwindow_seconds = 15\n";

async fn ask_from(scene: &Scene, source: &str, client_id: &str, client_secret: &str, path: &str) -> Answer {
    let request = scene
        .http
        .post(format!("{}{path}", scene.url))
        .header("x-forwarded-for", source);
    let request = if path == "/token" {
        let body = json!({"grantType": "client_credentials", "clientId": client_id, "clientSecret": client_secret});
        request.json(&body)
    } else {
        request.form(&[
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_secret", client_secret),
            ("audience", &scene.url),
        ])
    };
    Answer::of(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn after_too_many_failures_one_client_from_one_source_is_slowed_down_and_nobody_else() {
    let scene = Scene::with_config(CONFIG).await;
    let application = scene.register("guessed", json!({})).await;
    let other = scene.register("other", json!({})).await;
    let (right, here, there) = (application.client_secret.as_str(), "192.0.2.1", "192.0.2.2");
    for _ in 0..3 {
        let answer = ask_from(&scene, here, "guessed", "wrong", "/connect/token").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let before = scene.log_size().await;
    for (path, expected) in [
        (
            "/connect/token",
            json!({"error": "slow_down", "error_description": "Too many failed requests"}),
        ),
        (
            "/oauth2/token",
            json!({"error": "slow_down", "error_description": "Too many failed requests"}),
        ),
        (
            "/token",
            json!({"isSuccess": false, "error": {"code": "slow_down", "message": "Too many failed requests"}}),
        ),
    ] {
        // Not even with the right secret: who guesses must not learn that the guess was right.
        for secret in ["wrong", right] {
            let answer = ask_from(&scene, here, "guessed", secret, path).await;
            assert_eq!(
                (answer.status, answer.json()),
                (StatusCode::TOO_MANY_REQUESTS, expected.clone()),
                "{path}"
            );
            let seconds: u64 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
            assert!((1..=16).contains(&seconds), "{seconds}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("www-authenticate"), None);
        }
    }
    // A valid secret from another source is not affected, nor is another client from this one.
    assert_eq!(
        ask_from(&scene, there, "guessed", right, "/connect/token").await.status,
        StatusCode::OK
    );
    let answer = ask_from(&scene, here, "other", &other.client_secret, "/connect/token").await;
    assert_eq!(answer.status, StatusCode::OK);

    let events = scene.log_from(before).await;
    let throttled: Vec<&Value> = events
        .iter()
        .filter(|event| event.kind() == "RequestsThrottled")
        .map(|event| event.data())
        .collect();
    assert_eq!(
        throttled.len(),
        1,
        "the onset is recorded at once, the rest is counted: {events:?}"
    );
    assert_eq!(
        throttled[0],
        &json!({"client_id": "guessed", "application_id": application.id, "source": here, "window_seconds": 15,
            "suppressed": 1})
    );
    assert_eq!(events.iter().filter(|event| event.kind() == "TokenRefused").count(), 0);

    let log = scene
        .wait_for("the report at the window's end", |log| {
            log.iter().filter(|event| event.kind() == "RequestsThrottled").count() == 2
        })
        .await;
    let report = log.last().unwrap();
    assert_eq!(report.data()["suppressed"], 5, "all but the first");
    assert_eq!(
        (&report.data()["client_id"], &report.data()["source"]),
        (&json!("guessed"), &json!(here))
    );
    assert_eq!(report.event["actor"], "system");

    // The window is over: the right secret works again, and failures are counted from zero.
    assert_eq!(
        ask_from(&scene, here, "guessed", right, "/connect/token").await.status,
        StatusCode::OK
    );
    for _ in 0..3 {
        let answer = ask_from(&scene, here, "guessed", "wrong", "/connect/token").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn an_unknown_client_is_slowed_down_like_a_known_one() {
    let scene = Scene::with_config(&CONFIG.replace("= 15", "= 3600")).await;
    let statuses = async |client_id: &'static str| {
        let mut statuses = Vec::new();
        for _ in 0..5 {
            let answer = ask_from(&scene, "192.0.2.9", client_id, "wrong", "/connect/token").await;
            statuses.push(answer.status.as_u16());
        }
        statuses
    };
    scene.register("known", json!({})).await;
    assert_eq!(statuses("known").await, [401, 401, 401, 429, 429]);
    assert_eq!(statuses("unknown").await, [401, 401, 401, 429, 429]);
    let log = scene.log().await;
    let unknown = log
        .iter()
        .find(|event| event.kind() == "RequestsThrottled" && event.data()["client_id"] == "unknown")
        .unwrap();
    assert_eq!(unknown.event["stream"], "token-requests-unknown");
    assert_eq!(unknown.data().get("application_id"), None);
}

#[tokio::test]
async fn only_failed_authentication_counts() {
    let scene = Scene::with_config(&CONFIG.replace("= 15", "= 3600")).await;
    let application = scene.register("clumsy", json!({})).await;
    for _ in 0..5 {
        let answer = scene
            .ask("clumsy", &application.client_secret, &[("scope", "admin")])
            .await;
        assert_eq!(answer.json()["error"], "invalid_scope");
        let answer = scene.ask("clumsy", "wrong", &[("grant_type", "password")]).await;
        assert_eq!(answer.json()["error"], "invalid_request");
    }
    assert_eq!(
        scene.ask("clumsy", &application.client_secret, &[]).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_first_failed_attempt_by_basic_locks_nobody_out() {
    // Go's oauth2 tries Basic, then the body.
    let scene = Scene::start().await;
    let application = scene.register("go", json!({})).await;
    for _ in 0..10 {
        let request = scene.http.post(format!("{}/connect/token", scene.url));
        let answer = request
            .basic_auth("go", Some("not form-encoded%"))
            .form(&[("grant_type", "client_credentials")])
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            scene.ask("go", &application.client_secret, &[]).await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn what_was_suppressed_is_recorded_when_the_server_stops() {
    let config = "[lockout]\nmax_failures = 1\nwindow_seconds = 3600\n";
    let scene = Scene::with_config(config).await;
    for _ in 0..8 {
        scene.ask("nobody", "wrong", &[]).await;
    }
    let folder = scene.stop();
    let log = crate::scene::read_log(&folder, 0).await;
    let counts: Vec<u64> = log
        .iter()
        .filter(|event| event.kind() == "RequestsThrottled")
        .map(|event| event.data()["suppressed"].as_u64().unwrap())
        .collect();
    assert_eq!(
        counts,
        [1, 6],
        "eight requests: one refused, one at the onset, six at the end"
    );
    assert_eq!(log.last().unwrap().kind(), "ServiceStopped");
}

#[tokio::test]
async fn a_flood_leaves_two_events_not_a_thousand() {
    let scene = Scene::with_config("[lockout]\nmax_failures = 5\nwindow_seconds = 2\n").await;
    let before = scene.log_size().await;
    for _ in 0..200 {
        scene.ask("flooded", "wrong", &[]).await;
    }
    let before = before as usize;
    let told_of = |log: &[Logged]| {
        let refused = log[before..]
            .iter()
            .filter(|event| event.kind() == "TokenRefused")
            .count() as u64;
        let suppressed = log[before..]
            .iter()
            .filter_map(|event| event.data()["suppressed"].as_u64());
        refused + suppressed.sum::<u64>()
    };
    let log = scene
        .wait_for("every request is accounted for", |log| told_of(log) >= 200)
        .await;
    assert_eq!(told_of(&log), 200, "and none twice");
    // The flood may outlast one window on a slow machine.
    assert!(log.len() - before < 40, "{}", log.len() - before);
}

#[tokio::test]
async fn a_source_that_is_refused_without_end_is_counted_and_its_good_requests_are_served() {
    let config = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[lockout]\nmax_refusals_per_source = 4\n\
                  window_seconds = 3600\n";
    let scene = Scene::with_config(config).await;
    let application = scene.register("neighbour", json!({})).await;
    let (here, there) = ("192.0.2.1", "192.0.2.2");
    let before = scene.log_size().await;
    for invented in 0..4 {
        let answer = ask_from(&scene, here, &format!("invented-{invented}"), "wrong", "/connect/token").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    // A client_id that nobody has named yet, a body that is malformed, a call without a token: all the same budget.
    let answer = ask_from(&scene, here, "another", "wrong", "/connect/token").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let malformed = scene
        .http
        .post(format!("{}/connect/token", scene.url))
        .header("x-forwarded-for", here)
        .form(&[("grant_type", "client_credentials"), ("scope", "x")]);
    let answer = Answer::of(malformed.send().await.expect("an answer")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.json()["error"], "slow_down");
    let call = scene
        .http
        .get(format!("{}/admin/applications", scene.url))
        .header("x-forwarded-for", here);
    let answer = Answer::of(call.send().await.expect("an answer")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));

    let served = ask_from(&scene, here, "neighbour", &application.client_secret, "/connect/token").await;
    assert_eq!(served.status, StatusCode::OK);
    let elsewhere = ask_from(&scene, there, "another", "wrong", "/connect/token").await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);

    let events = scene.log_from(before).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind()).collect();
    assert_eq!(
        kinds,
        [
            "TokenRefused",
            "TokenRefused",
            "TokenRefused",
            "TokenRefused",
            "RequestsThrottled",
            "TokenIssued",
            "TokenRefused"
        ]
    );
    assert_eq!(
        events[4].data(),
        &json!({"source": here, "window_seconds": 3600, "suppressed": 1})
    );
}
