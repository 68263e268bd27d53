//! What no honest client sends: it gets the table's answers, and nothing odd reaches the log or stderr.

use crate::raw::{Connection, exchange, post};
use crate::scene::{Logged, Scene};
use serde_json::{Value, json};
use std::time::Duration;

const FORM: &str = "content-type: application/x-www-form-urlencoded";

/// Nothing in what is stored may hold a control character, whoever sent it.
fn assert_clean(log: &[Logged]) {
    fn check(value: &Value) {
        match value {
            Value::String(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
            Value::Array(items) => items.iter().for_each(check),
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                assert!(!name.chars().any(char::is_control), "{name:?}");
                check(value);
            }),
            _ => {}
        }
    }
    log.iter().for_each(|event| check(&event.event));
}

#[tokio::test]
async fn odd_client_ids_are_kept_cut_and_escaped_and_never_found_as_anyone_elses() {
    let scene = Scene::start().await;
    scene.register("victim", json!({})).await;
    for (client_id, kept) in [
        ("' OR '1'='1", "' OR '1'='1".to_owned()),
        (
            "victim'; DROP TABLE event; --",
            "victim'; DROP TABLE event; --".to_owned(),
        ),
        ("victim\u{202e}", "victim\\u{202e}".to_owned()),
        ("vic\u{200b}tim", "vic\\u{200b}tim".to_owned()),
        ("victim ", "victim ".to_owned()),
        ("{\"a\":1}", "{\"a\":1}".to_owned()),
        ("../../etc/passwd", "../../etc/passwd".to_owned()),
        ("%s%n${jndi:ldap://x}", "%s%n${jndi:ldap://x}".to_owned()),
        ("system", "system".to_owned()),
        ("operator:root", "operator:root".to_owned()),
        (&*"x".repeat(60_000), format!("{}…", "x".repeat(255))),
        (&*"é".repeat(300), format!("{}…", "é".repeat(255))),
    ] {
        let answer = scene.ask(client_id, "wrong", &[]).await;
        assert_eq!(answer.status.as_u16(), 401, "{client_id:.40}");
        let refused = scene.log().await.pop().unwrap();
        assert_eq!(
            (refused.kind(), &refused.data()["reason"]),
            ("TokenRefused", &json!("unknown_client"))
        );
        assert_eq!(refused.data()["client_id"], kept);
        assert_eq!(refused.event["actor"], "anonymous");
        assert_eq!(refused.event["stream"], "token-requests-unknown");
    }
    for control in ["a\nb", "a\r\nX: y", "a\0b", "a\u{1b}[31mb", "a\u{85}b"] {
        let answer = scene.ask(control, "wrong", &[]).await;
        assert_eq!(
            answer.json()["error_description"],
            "Malformed request body",
            "{control:?}"
        );
    }
    assert_clean(&scene.log().await);
}

#[tokio::test]
async fn a_client_that_sends_its_secret_as_client_id_does_not_leave_it_in_the_log() {
    let scene = Scene::with_config("[lockout]\nmax_failures = 1\n").await;
    let application = scene.register("swapped", json!({})).await;
    let secret = &application.client_secret;
    scene.ask(secret, "swapped", &[]).await;
    scene.ask(secret, "swapped", &[]).await;
    scene.ask(secret, "swapped", &[("grant_type", "again")]).await;
    let log = scene.log().await;
    let kept = format!("gls_…{}", &secret[secret.len() - 4..]);
    for (event, kind) in log[log.len() - 3..]
        .iter()
        .zip(["TokenRefused", "RequestsThrottled", "TokenRefused"])
    {
        assert_eq!((event.kind(), &event.data()["client_id"]), (kind, &json!(kept)));
    }
    assert!(!format!("{log:?}").contains(secret.as_str()));
    assert!(!scene.server.stderr().contains(secret.as_str()));
}

#[tokio::test]
async fn gigantic_values_get_the_tables_answers() {
    let scene = Scene::start().await;
    let application = scene.register("gigantic", json!({})).await;
    let secret = application.client_secret.as_str();
    let scopes = |count: usize| {
        (0..count)
            .map(|number| format!("s{number}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let long = "x".repeat(50_000);
    for (more, description) in [
        (vec![("scope", long.as_str())], "Malformed request body"),
        (vec![("scope", scopes(257).as_str())], "Malformed request body"),
        (vec![("audience", long.as_str())], "Malformed request body"),
        (vec![("audience", scopes(65).as_str())], "Malformed request body"),
        (vec![("resource", long.as_str())], "Malformed request body"),
        (vec![("resource", "a"); 63], "Malformed request body"),
    ] {
        let answer = scene.ask("gigantic", secret, &more).await;
        assert_eq!(answer.status.as_u16(), 400);
        assert_eq!(answer.json()["error_description"], description, "{:?}", more[0].0);
    }
    let answer = scene.ask("gigantic", &long, &[]).await;
    assert_eq!(answer.status.as_u16(), 401);
    let answer = scene.ask("gigantic", secret, &[("scope", &scopes(256))]).await;
    let description = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(
        description.starts_with("Invalid scope: s0 s1") && description.len() < 200,
        "{description}"
    );
    let refused = scene.log().await.pop().unwrap();
    assert!(refused.event.to_string().len() < 1_000, "what is kept is cut");
    let answer = scene.ask("gigantic", secret, &[(long.as_str(), "1")]).await;
    assert_eq!(
        answer.status.as_u16(),
        200,
        "an unknown parameter is ignored, however long"
    );
}

#[tokio::test]
async fn values_that_would_split_a_header_split_nothing() {
    let scene = Scene::start().await;
    let application = scene.register("split", json!({})).await;
    for value in ["x\r\nSet-Cookie: a=b", "x\"; error=\"none", "x\\\"y"] {
        for parameter in ["scope", "audience", "resource", "grant_type"] {
            let answer = scene
                .ask("split", &application.client_secret, &[(parameter, value)])
                .await;
            assert_eq!(answer.status.as_u16(), 400, "{parameter} {value:?}");
            assert_eq!(answer.header("set-cookie"), None);
            let description = answer.json()["error_description"].as_str().unwrap().to_owned();
            assert!(!description.contains(['"', '\\', '\r', '\n']), "{description:?}");
        }
    }
    assert_clean(&scene.log().await);
}

#[tokio::test]
async fn odd_user_agents_and_paths_are_cut_and_escaped() {
    let scene = Scene::start().await;
    let before = scene.log_size().await;
    let agent = format!("user-agent: evil\u{1b}[31m{}", "x".repeat(2_000));
    exchange(&scene.url, &post("/connect/token", &[FORM, &agent], b"grant_type=x"));
    let request = [
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\nuser-agent: \xff\xfe\t!\r\n".as_slice(),
        FORM.as_bytes(),
        b"\r\ncontent-length: 12\r\n\r\ngrant_type=x",
    ]
    .concat();
    exchange(&scene.url, &request);
    let path = format!("/admin/applications/{}%0a%1b", "y".repeat(3_000));
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    let answer = exchange(&scene.url, request.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 401);
    let events = scene.log_from(before).await;
    assert_clean(&events);
    for event in &events {
        let agent = event.event["source"]["user_agent"].as_str().unwrap_or_default();
        assert!(agent.chars().count() <= 256, "{agent}");
    }
    let denied = events.last().unwrap();
    assert_eq!(denied.kind(), "ApiCallDenied");
    assert!(denied.data()["path"].as_str().unwrap().chars().count() <= 1_024);
}

#[tokio::test]
async fn broken_http_is_answered_400_or_closed_and_the_server_goes_on() {
    let scene = Scene::start().await;
    let before = scene.log_size().await;
    let huge_header = format!(
        "GET /health/live HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n",
        "x".repeat(300_000)
    );
    let many_headers = format!(
        "GET /health/live HTTP/1.1\r\nhost: test\r\n{}\r\n",
        (0..500).map(|number| format!("x{number}: y\r\n")).collect::<String>()
    );
    let long_target = format!("GET /{} HTTP/1.1\r\nhost: test\r\n\r\n", "x".repeat(200_000));
    let requests: Vec<&[u8]> = vec![
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\ncontent-length: -1\r\n\r\n",
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\ncontent-length: 99999999999999999999\r\n\r\n",
        // RFC 9112 §6.1, §6.3: what a proxy in front might read another way.
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\nx y: z\r\n\r\n",
        b"POST /connect/token HTTP/1.1\r\nhost: test\r\nx: a\r\n b\r\n\r\n",
        huge_header.as_bytes(),
        many_headers.as_bytes(),
        long_target.as_bytes(),
    ];
    for request in requests {
        let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
        let answer = Connection::to(&scene.url).send(request).finish().receive();
        if let Some(answer) = answer {
            assert!((400..=431).contains(&answer.status), "{shown}: {answer:?}");
        }
    }
    let (status, _) = scene.get("/admin/applications").await;
    assert_eq!(status.as_u16(), 200);
    let events = scene.log_from(before).await;
    assert_clean(&events);
    assert!(events.iter().all(|event| event.kind() != "TokenIssued"));
}

#[tokio::test]
async fn a_body_that_breaks_off_or_never_comes_is_answered_or_closed() {
    let scene = Scene::with_config("[server]\nclient_request_timeout_seconds = 1\n").await;
    let head = format!("POST /connect/token HTTP/1.1\r\nhost: test\r\n{FORM}\r\ntransfer-encoding: chunked\r\n\r\n");
    let before = scene.log_size().await;
    let answer = exchange(&scene.url, format!("{head}zz\r\nabc\r\n0\r\n\r\n").as_bytes());
    if let Some(answer) = answer {
        assert_eq!(
            (answer.status, answer.body.contains("Malformed request body")),
            (400, true),
            "{answer:?}"
        );
        let refused = scene.log_from(before).await;
        assert_eq!(refused[0].data()["detail"], "the body broke off");
    }
    let mut slow = Connection::to(&scene.url);
    slow.send(
        format!("POST /connect/token HTTP/1.1\r\nhost: test\r\n{FORM}\r\ncontent-length: 50\r\n\r\ngrant").as_bytes(),
    );
    let answer = slow.receive().expect("an answer when the time is over");
    assert_eq!(answer.status, 408);
    assert!(
        slow.is_closed_by_server(),
        "what is left of the body would be read as the next request"
    );
    let mut silent = Connection::to(&scene.url);
    silent.send(b"POST /connect/token HTTP/1.1\r\n");
    let answer = silent.receive();
    assert!(answer.is_none_or(|answer| answer.status == 408));
    let mut gone = Connection::to(&scene.url);
    gone.send(format!("POST /connect/token HTTP/1.1\r\nhost: test\r\n{FORM}\r\ncontent-length: 50\r\n\r\n").as_bytes());
    drop(gone);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, _) = scene.get("/admin/applications").await;
    assert_eq!(status.as_u16(), 200);
}

#[tokio::test]
async fn connections_are_kept_alive_and_requests_may_follow_each_other_without_waiting() {
    let scene = Scene::start().await;
    let application = scene.register("kept-alive", json!({})).await;
    let body = format!(
        "grant_type=client_credentials&client_id=kept-alive&client_secret={}",
        application.client_secret
    );
    let request = post("/connect/token", &[FORM], body.as_bytes());
    let mut connection = Connection::to(&scene.url);
    for _ in 0..5 {
        assert_eq!(connection.send(&request).receive().expect("an answer").status, 200);
    }
    connection.send(&request.repeat(4));
    let answers: Vec<_> = (0..4).map(|_| connection.receive().expect("an answer")).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let close = post("/connect/token", &[FORM, "connection: close"], body.as_bytes());
    assert_eq!(connection.send(&close).receive().expect("an answer").status, 200);
    assert!(connection.is_closed_by_server());

    let expecting = post("/connect/token", &[FORM, "expect: 100-continue"], b"");
    let mut connection = Connection::to(&scene.url);
    let head = String::from_utf8(expecting)
        .unwrap()
        .replace("content-length: 0", &format!("content-length: {}", body.len()));
    assert_eq!(
        connection.send(head.as_bytes()).receive().expect("an answer").status,
        100
    );
    assert_eq!(
        connection.send(body.as_bytes()).receive().expect("an answer").status,
        200
    );
}

#[tokio::test]
async fn after_a_body_that_is_too_large_the_rest_is_not_taken_for_a_request() {
    let scene = Scene::start().await;
    let inner = "GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n";
    let body = format!("{}{inner}", "x".repeat(64 * 1024 + 1));
    let mut connection = Connection::to(&scene.url);
    let answer = connection
        .send(&post("/connect/token", &[FORM], body.as_bytes()))
        .receive()
        .expect("an answer");
    assert_eq!(answer.status, 413);
    if let Some(second) = connection.finish().receive() {
        panic!("the body's end was answered: {second:?}");
    }
}
