//! What an application uses: `GET /admin/applications/{id}/usage`, and its secrets' last uses.

use crate::scene::Scene;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CONFIG: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";
const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(scene: &Scene, source: &str, form: &[(&str, &str)]) -> StatusCode {
    let request = scene
        .http
        .post(format!("{}/connect/token", scene.url))
        .header("x-forwarded-for", source)
        .form(form);
    request.send().await.expect("an answer").status()
}

/// The usage, once it has read what the log held at first.
async fn usage(scene: &Scene, path: &str) -> Value {
    let wanted = scene.log_size().await;
    let started = Instant::now();
    loop {
        let (status, usage) = scene.get(path).await;
        assert_eq!(status, StatusCode::OK, "{usage}");
        if usage["indexed_through"].as_u64().expect("a number") >= wanted {
            return usage;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "the usage does not reach {wanted}: {usage}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn whether_the_old_secret_is_still_used_and_from_where_can_be_asked_and_asking_is_on_the_trail() {
    let scene = Scene::with_config(CONFIG).await;
    let application = scene.register("orders-worker", json!({})).await;
    let (id, old) = (application.client_id.clone(), application.client_secret.clone());
    let (status, rotated) = scene
        .administer(Method::POST, &format!("{}/secrets", application.path()), json!({}))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{rotated}");
    let new = rotated["client_secret"].as_str().unwrap().to_owned();
    let form = |secret: &str, more: &[(&str, &str)]| -> Vec<(String, String)> {
        let mut form = vec![
            ("grant_type".to_owned(), "client_credentials".to_owned()),
            ("client_id".to_owned(), id.clone()),
            ("client_secret".to_owned(), secret.to_owned()),
        ];
        form.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        form
    };
    let asked = async |source: &str, form: Vec<(String, String)>| {
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        ask(&scene, source, &form).await
    };
    assert_eq!(
        asked("192.0.2.7", form(&old, &[("scope", "read")])).await,
        StatusCode::OK
    );
    assert_eq!(
        asked("192.0.2.8", form(&old, &[("scope", "read")])).await,
        StatusCode::OK
    );
    assert_eq!(
        asked("2001:db8:5::1", form(&new, &[("scope", "read")])).await,
        StatusCode::OK
    );
    assert_eq!(
        asked("203.0.113.66", form("guess", &[])).await,
        StatusCode::UNAUTHORIZED
    );

    let usage = usage(&scene, &format!("{}/usage?days=7", application.path())).await;
    assert_eq!(usage["client_id"], "orders-worker");
    assert_eq!(usage["tokens_issued"]["count"], 3);
    assert_eq!(usage["tokens_refused"]["count"], 1);
    assert_eq!(usage["secrets"][0]["id"], application.secret_id.as_str());
    assert_eq!(usage["secrets"][0]["uses"], 2);
    assert_eq!(usage["secrets"][0]["uses_in_days"], 2);
    assert_eq!(usage["secrets"][0]["networks"][0]["network"], "192.0.2.0/24");
    assert_eq!(usage["secrets"][1]["networks"][0]["network"], "2001:db8:5::/48");
    assert_eq!(usage["refused_networks"][0]["network"], "203.0.113.0/24");
    assert_eq!(usage["unused_scopes"], json!(["update", "DomainApi"]));
    assert_eq!(usage["scopes"][0]["asked"]["count"], 3);
    // Midnight may fall between them.
    let days = usage["by_day"].as_array().expect("days");
    assert_eq!(days.iter().filter_map(|day| day["issued"].as_u64()).sum::<u64>(), 3);

    let (_, shown) = scene.get(&application.path()).await;
    assert_eq!(shown["secrets"][0]["uses"], 2);
    assert_eq!(shown["secrets"][0]["last_used"], usage["secrets"][0]["last_used"]);
    assert!(shown["usage_through"].as_u64().unwrap() >= usage["indexed_through"].as_u64().unwrap());
    let newest = scene.log_size().await - 1;
    let (_, then) = scene.get(&format!("{}?as_of={newest}", application.path())).await;
    assert!(then["secrets"][0].get("uses").is_none(), "{then}");

    let log = scene.log().await;
    let mut read = log.iter().filter(|event| event.kind() == "AuditTrailRead");
    let read = read.find(|event| event.data()["via"] == "statistics").unwrap();
    assert_eq!(read.data()["filter"], json!({"usage_of": "orders-worker", "days": "7"}));
}

#[tokio::test]
async fn usage_survives_a_restart_and_a_deleted_file_is_built_again() {
    let scene = Scene::start().await;
    let application = scene.register("orders-worker", json!({})).await;
    scene.token(&application, &[]).await;
    let path = format!("{}/usage", application.path());
    assert_eq!(usage(&scene, &path).await["tokens_issued"]["count"], 1);
    let scene = Scene::in_folder(scene.stop(), "").await;
    assert_eq!(usage(&scene, &path).await["tokens_issued"]["count"], 1);
    let folder = scene.stop();
    std::fs::remove_file(folder.path().join("data/usage.db")).expect("it was saved");
    let scene = Scene::in_folder(folder, "").await;
    scene.token(&application, &[]).await;
    assert_eq!(usage(&scene, &path).await["tokens_issued"]["count"], 2);
}

#[tokio::test]
async fn usage_is_for_those_who_may_read_the_trail() {
    let scene = Scene::start().await;
    let application = scene.register("orders-worker", json!({})).await;
    let reader = json!({"scope": "applications:read"});
    let reader = scene.register("reader", reader).await;
    let token = scene.token(&reader, &[]).await;
    let path = format!("{}/usage", application.path());
    let refused = scene.with_token(&token, Method::GET, &path).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    for bad in ["days=0", "days=101", "days=x", "weeks=1"] {
        let (status, problem) = scene.get(&format!("{path}?{bad}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    }
    let nobody = "/admin/applications/6f1c2a34-0000-5000-8000-000000000001/usage";
    assert_eq!(scene.get(nobody).await.0, StatusCode::NOT_FOUND);
}
