//! Requests that are under way while an administrator changes something.

use crate::scene::{Application, Scene, claims};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

struct Asked {
    started: Instant,
    status: StatusCode,
    body: Value,
}

/// Clients that ask for tokens as fast as they can, until told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Vec<Asked>>>,
}

impl Clients {
    fn of(scene: &Scene, application: &Application, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let tasks = (0..count)
            .map(|_| {
                let (stop, answered, http) = (stop.clone(), answered.clone(), scene.http.clone());
                let url = format!("{}/connect/token", scene.url);
                let form = vec![
                    ("grant_type", "client_credentials".to_owned()),
                    ("client_id", application.client_id.clone()),
                    ("client_secret", application.client_secret.clone()),
                ];
                tokio::spawn(async move {
                    let mut asked = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let started = Instant::now();
                        let answer = http.post(&url).form(&form).send().await.expect("an answer");
                        let status = answer.status();
                        let body = answer.json().await.expect("JSON");
                        asked.push(Asked { started, status, body });
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    asked
                })
            })
            .collect();
        Self { stop, answered, tasks }
    }

    /// Until so many more requests are answered.
    async fn wait_for(&self, more: usize) {
        let (began, wanted) = (Instant::now(), self.answered.load(Ordering::Relaxed) + more);
        while self.answered.load(Ordering::Relaxed) < wanted {
            assert!(began.elapsed() < PATIENCE, "the clients are not answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("no panic"));
        }
        all
    }
}

/// On the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Many failures of one client are no attack here.
const NO_LOCKOUT: &str = "[lockout]\nmax_failures = 1000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_to_disable_no_request_that_starts_gets_a_token() {
    let scene = Scene::with_config(NO_LOCKOUT).await;
    let application = scene.register("switched", json!({})).await;
    for action in ["disable", "enable"].into_iter().cycle().take(6) {
        let clients = Clients::of(&scene, &application, 8);
        clients.wait_for(50).await;
        let (status, shown) = scene
            .administer(Method::POST, &format!("{}/{action}", application.path()), json!({}))
            .await;
        let answered = Instant::now();
        assert_eq!(status, StatusCode::OK, "{shown}");
        clients.wait_for(50).await;
        let asked = clients.stop().await;
        let (before, after): (StatusCode, StatusCode) = match action {
            "disable" => (StatusCode::OK, StatusCode::UNAUTHORIZED),
            _ => (StatusCode::UNAUTHORIZED, StatusCode::OK),
        };
        let later: Vec<&Asked> = asked.iter().filter(|asked| asked.started >= answered).collect();
        assert!(later.len() > 10, "requests were made afterwards");
        assert!(asked.iter().any(|asked| asked.status == before), "and before");
        for asked in later {
            assert_eq!(asked.status, after, "after {action}: {}", asked.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_to_a_narrowed_scope_no_request_that_starts_gets_the_wider_one() {
    let scene = Scene::start().await;
    let application = scene.register("narrowed", json!({})).await;
    let clients = Clients::of(&scene, &application, 8);
    clients.wait_for(50).await;
    let (status, _) = scene
        .administer(Method::PATCH, &application.path(), json!({"scope": "read"}))
        .await;
    let answered = Instant::now();
    assert_eq!(status, StatusCode::OK);
    clients.wait_for(50).await;
    let asked = clients.stop().await;
    assert!(
        asked.iter().all(|asked| asked.status == StatusCode::OK),
        "a change of scope refuses nobody"
    );
    for later in asked.iter().filter(|asked| asked.started >= answered) {
        assert_eq!(later.body["scope"], "read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_token_that_was_answered_is_in_the_log_exactly_once_as_it_was_answered() {
    let scene = Scene::start().await;
    let application = scene.register("counted", json!({})).await;
    let clients = Clients::of(&scene, &application, 16);
    clients.wait_for(100).await;
    let asked = clients.stop().await;
    let mut issued: BTreeMap<String, usize> = BTreeMap::new();
    let log = scene.log().await;
    for event in log.iter().filter(|event| event.kind() == "TokenIssued") {
        *issued
            .entry(event.data()["jti"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    for asked in &asked {
        let token = asked.body["access_token"].as_str().expect("a token");
        assert_eq!(issued.get(claims(token)["jti"].as_str().unwrap()), Some(&1));
    }
    assert!(asked.len() > 50);
    let indexes: Vec<u64> = log.iter().map(|event| event.index).collect();
    assert_eq!(indexes, (0..log.len() as u64).collect::<Vec<_>>(), "indexes are dense");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_that_is_disabled_while_its_request_is_open_changes_nothing() {
    let scene = Scene::start().await;
    let other = scene
        .register("other-admin", json!({"scope": "applications:write"}))
        .await;
    let victim = scene.register("victim", json!({})).await;
    let token = scene.token(&other, &[]).await;
    let body = br#"{"owner": "mine now"}"#;
    let head = format!(
        "PATCH {} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        victim.path(),
        body.len()
    );
    let mut connection = crate::raw::Connection::to(&scene.url);
    connection.send(head.as_bytes());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, _) = scene
        .administer(Method::POST, &format!("{}/disable", other.path()), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let answer = connection.send(body).receive().expect("an answer");
    assert_eq!(answer.status, 401, "{}", answer.body);
    let (_, shown) = scene.get(&victim.path()).await;
    assert_eq!(shown["owner"], Value::Null);
}
