//! `src/http/audit_tail.rs`: following the trail.

use crate::scene::{Application, Scene};
use grantlog::service::streams::{MAX_TAILS, MAX_TAILS_OF_ONE_CALLER};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What comes at all comes well within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tail, taken apart by the rules of WHATWG HTML §9.2.6.
struct Tail {
    response: Response,
    text: String,
    /// What a browser would come back with.
    last_event_id: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Shown {
    name: String,
    data: Value,
}

impl Tail {
    async fn open(scene: &Scene, query: &str) -> Self {
        Self::of(scene.admin(Method::GET, &format!("/audit/tail{query}"))).await
    }

    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.text().await);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            response,
            text: String::new(),
            last_event_id: None,
        }
    }

    /// The next block; none when the answer has ended.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                return Some(std::mem::replace(&mut self.text, rest));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("something comes").expect("the answer goes on")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    /// The next event.
    async fn event(&mut self) -> Option<Shown> {
        loop {
            let (mut name, mut data) = ("message".to_owned(), None);
            for line in self.block().await?.lines() {
                match line.split_once(": ") {
                    Some(("id", id)) => self.last_event_id = Some(id.parse().expect("an index")),
                    Some(("event", given)) => name = given.to_owned(),
                    Some(("data", given)) => data = Some(serde_json::from_str(given).expect("JSON")),
                    _ => {}
                }
            }
            if let Some(data) = data {
                return Some(Shown { name, data });
            }
        }
    }

    async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            let shown = self.event().await.expect("an event");
            assert_eq!(shown.name, "message");
            assert_eq!(shown.data["index"], self.last_event_id.expect("an id"));
            events.push(shown.data);
        }
        events
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// A token of an application of its own that may read the trail.
async fn reader(scene: &Scene, name: &str) -> String {
    let rights = json!({"scope": "audit:read", "audiences": [scene.url.clone()]});
    let application = scene.register(name, rights).await;
    scene.token(&application, &[]).await
}

async fn refuse(scene: &Scene, application: &Application) {
    let answer = scene.ask(&application.client_id, "wrong", &[]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_tail_from_an_index_shows_what_is_there_and_then_what_comes_each_event_once() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({})).await;
    let mut tail = Tail::open(&scene, "?from_index=0").await;
    let before = scene.log_size().await as usize;
    let mut shown = tail.events(before).await;
    for _ in 0..5 {
        scene.token(&application, &[]).await;
    }
    shown.extend(tail.events(5).await);
    let log = scene.log().await;
    assert_eq!(shown.len(), log.len());
    for (shown, logged) in shown.iter().zip(&log) {
        assert_eq!(
            (&shown["index"], &shown["id"]),
            (&json!(logged.index), &logged.event["id"])
        );
        assert_eq!(&shown["data"], logged.data());
    }
    // As the search shows them.
    let index = log.last().unwrap().index;
    let (_, event) = scene.get(&format!("/audit/events/{index}")).await;
    assert_eq!(shown.last(), Some(&event));
}

#[tokio::test]
async fn a_tail_that_names_no_place_begins_now() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({})).await;
    scene.token(&application, &[]).await;
    let mut tail = Tail::open(&scene, "").await;
    refuse(&scene, &application).await;
    assert_eq!(kinds(&tail.events(1).await), ["TokenRefused"]);
}

#[tokio::test]
async fn a_tail_since_a_time_begins_with_what_happened_since() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({})).await;
    // A time names a millisecond at the finest that matters here.
    tokio::time::sleep(Duration::from_millis(5)).await;
    refuse(&scene, &application).await;
    let log = scene.log().await;
    let refusal = log
        .iter()
        .find(|logged| logged.kind() == "TokenRefused")
        .expect("it is there");
    let since = refusal.event["time"].as_str().expect("a time");
    let mut tail = Tail::open(&scene, &format!("?since={since}&client_id=orders")).await;
    assert_eq!(kinds(&tail.events(1).await), ["TokenRefused"]);
    let mut tail = Tail::open(&scene, "?since=1h&client_id=orders").await;
    assert_eq!(kinds(&tail.events(2).await), ["ApplicationRegistered", "TokenRefused"]);
}

#[tokio::test]
async fn whoever_comes_back_with_the_last_id_misses_nothing_and_sees_nothing_twice() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({})).await;
    let mut seen = Vec::new();
    let mut last_event_id = None;
    for round in 0..4 {
        for _ in 0..3 {
            scene.token(&application, &[]).await;
        }
        let mut request = scene.admin(
            Method::GET,
            "/audit/tail?from_index=0&type=TokenIssued&client_id=orders",
        );
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", u64::to_string(&id));
        }
        let mut tail = Tail::of(request).await;
        // The last round reads all, the others break off in the middle.
        let count = if round == 3 { 12 - seen.len() } else { 2 };
        seen.extend(tail.events(count).await);
        last_event_id = tail.last_event_id;
    }
    let log = scene.log().await;
    let is_token = |kind: &str, client: &Value| kind == "TokenIssued" && client == "orders";
    let tokens: Vec<u64> = log
        .iter()
        .filter(|logged| is_token(logged.kind(), &logged.data()["application_uri"]))
        .map(|logged| logged.index)
        .collect();
    let seen: Vec<u64> = seen.iter().map(|event| event["index"].as_u64().unwrap()).collect();
    assert_eq!(seen, tokens);
}

#[tokio::test]
async fn a_filter_chooses_and_what_it_passes_over_moves_the_id() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({})).await;
    let filter = "?from_index=0&filter=reason%20eq%20%22secret_mismatch%22%20and%20client_id%20sw%20%22ord%22";
    let mut tail = Tail::open(&scene, filter).await;
    refuse(&scene, &application).await;
    let refused = tail.events(1).await;
    assert_eq!(
        (kinds(&refused), &refused[0]["client_id"]),
        (vec!["TokenRefused"], &json!("orders"))
    );
    for _ in 0..3 {
        scene.token(&application, &[]).await;
    }
    // The heartbeat is seconds away; a part with an event says it at once.
    refuse(&scene, &application).await;
    tail.events(1).await;
    assert_eq!(tail.last_event_id, Some(scene.log_size().await - 1));
}

#[tokio::test]
async fn what_means_nothing_to_a_tail_is_refused_with_the_reason() {
    let scene = Scene::start().await;
    for (query, parameter) in [
        ("order=asc", "order"),
        ("limit=5", "limit"),
        ("after=x", "after"),
        ("until=1h", "until"),
        ("type=Nothing", "type"),
        ("from_index=x", "from_index"),
        ("from_index=999999", "from_index"),
        ("filter=type%20eq", "filter"),
        ("filter=time%20gt%20%2224h%22", "filter"),
        ("colour=red", "colour"),
    ] {
        let (status, problem) = scene.get(&format!("/audit/tail?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        assert_eq!(problem["errors"][0]["field"], parameter, "{problem}");
    }
    for id in ["x", "-1", "999999"] {
        let answer = scene
            .admin(Method::GET, "/audit/tail")
            .header("Last-Event-ID", id)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{id}");
    }
    let answer = scene.admin(Method::POST, "/audit/tail").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_tail_is_on_the_trail_before_its_first_event_leaves() {
    let scene = Scene::start().await;
    let size = scene.log_size().await;
    let mut tail = Tail::open(&scene, "?from_index=0&outcome=success").await;
    tail.events(1).await;
    let log = scene.log_from(size).await;
    assert_eq!(
        log.iter().map(|logged| logged.kind()).collect::<Vec<_>>(),
        ["SessionStarted", "ApiCallAuthorized", "AuditTrailRead"]
    );
    let read = log[2].data();
    assert_eq!((&read["via"], &read["rows"]), (&json!("tail"), &json!(0)));
    assert_eq!(read["filter"], json!({"from_index": "0", "outcome": "success"}));
}

#[tokio::test]
async fn a_tail_ends_when_its_caller_may_not_read_any_more() {
    let scene = Scene::start().await;
    let issuer = json!([scene.url.clone()]);
    let reader = scene
        .register("siem", json!({"scope": "audit:read", "audiences": issuer}))
        .await;
    let token = scene.token(&reader, &[]).await;
    let mut tail = Tail::of(scene.with_token(&token, Method::GET, "/audit/tail?type=TokenRefused")).await;
    let (status, _) = scene
        .administer(Method::POST, &format!("{}/disable", reader.path()), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let end = tail.event().await.expect("the end is told");
    assert_eq!(
        (end.name.as_str(), &end.data["reason"]),
        ("end", &json!("not_authorized"))
    );
    assert_eq!(tail.event().await, None);
}

#[tokio::test]
async fn there_is_a_limit_to_tails_and_each_that_ends_makes_room() {
    let scene = Scene::start().await;
    let mut tails = Vec::new();
    for number in 0..MAX_TAILS / MAX_TAILS_OF_ONE_CALLER {
        let token = reader(&scene, &format!("siem-{number}")).await;
        for _ in 0..MAX_TAILS_OF_ONE_CALLER {
            tails.push(Tail::of(scene.with_token(&token, Method::GET, "/audit/tail?type=TokenRefused")).await);
        }
    }
    let (status, problem) = scene.get("/audit/tail").await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:grantlog:problem:busy"))
    );
    drop(tails.pop());
    let begun = Instant::now();
    while scene.admin(Method::GET, "/audit/tail").send().await.unwrap().status() != StatusCode::OK {
        assert!(begun.elapsed() < PATIENCE, "a place is free again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn one_application_has_its_share_of_tails_and_leaves_the_others_theirs() {
    let scene = Scene::start().await;
    let (one, other) = (reader(&scene, "one").await, reader(&scene, "other").await);
    let path = "/audit/tail?type=TokenRefused";
    let mut tails = Vec::new();
    for _ in 0..MAX_TAILS_OF_ONE_CALLER {
        tails.push(Tail::of(scene.with_token(&one, Method::GET, path)).await);
    }
    let answer = scene.with_token(&one, Method::GET, path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "1");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:grantlog:problem:too_many_at_once");
    assert!(problem["detail"].as_str().unwrap().contains("16 tails"), "{problem}");
    Tail::of(scene.with_token(&other, Method::GET, path)).await;
    drop(tails.pop());
    let begun = Instant::now();
    while scene.with_token(&one, Method::GET, path).send().await.unwrap().status() != StatusCode::OK {
        assert!(begun.elapsed() < PATIENCE, "a place is free again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_filter_decides_about_each_of_a_few_events_as_about_many() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({})).await;
    let mut tail = Tail::open(&scene, "?filter=type%20eq%20%22TokenRefused%22").await;
    for _ in 0..3 {
        scene.token(&application, &[]).await;
        refuse(&scene, &application).await;
        let events = tail.events(1).await;
        assert_eq!(kinds(&events), ["TokenRefused"]);
    }
}

#[tokio::test]
async fn a_stop_ends_tails_and_is_not_held_up_by_them() {
    let scene = Scene::start().await;
    let mut tail = Tail::open(&scene, "?type=TokenRefused").await;
    let stuck = Tail::open(&scene, "?from_index=0").await;
    let begun = Instant::now();
    let stopping = tokio::task::spawn_blocking(move || scene.stop());
    let end = tail.event().await.expect("the end is told");
    assert_eq!(
        (end.name.as_str(), &end.data["reason"]),
        ("end", &json!("server_stopping"))
    );
    stopping.await.expect("an orderly stop");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    drop(stuck);
}

#[tokio::test]
async fn who_may_not_read_the_trail_may_not_follow_it() {
    let scene = Scene::start().await;
    let issuer = json!([scene.url.clone()]);
    let other = scene
        .register("other", json!({"scope": "applications:read", "audiences": issuer}))
        .await;
    let token = scene.token(&other, &[]).await;
    let answer = scene
        .with_token(&token, Method::GET, "/audit/tail")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let answer = scene
        .http
        .get(format!("{}/audit/tail", scene.url))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
