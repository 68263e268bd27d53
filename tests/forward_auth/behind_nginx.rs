//! A real nginx asks before it passes a request on: `auth_request`, as `docs/forward-auth.md` configures it.

use crate::nginx::{Nginx, authority};
use crate::running_server::{Administrator, Start};
use crate::scene::{Answer, Application, Scene};
use crate::shim::{self, FaultShim};
use crate::upstream::Upstream;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::process::Command;

const AUDIENCE: &str = "https://orders.example";
const TRUSTING: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]";

struct Behind {
    scene: Scene,
    upstream: Upstream,
    nginx: Nginx,
    application: Application,
    token: String,
}

impl Behind {
    async fn start() -> Self {
        let scene = Scene::with_config(TRUSTING).await;
        scene.register_api(AUDIENCE, json!({})).await;
        let application = scene
            .register("behind-nginx", json!({"audiences": [AUDIENCE], "org_code": "ACME"}))
            .await;
        let token = scene.token(&application, &[("scope", "read")]).await;
        let upstream = Upstream::start();
        let nginx = Nginx::start(authority(&scene.url), &upstream.address);
        Self {
            scene,
            upstream,
            nginx,
            application,
            token,
        }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.scene.http.request(method, format!("{}{path}", self.nginx.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.expect("nginx answers")).await
    }

    async fn get(&self, path: &str) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        self.send(Method::GET, path, &[("authorization", &authorization)]).await
    }

    async fn last(&self) -> Value {
        self.scene.log().await.last().expect("an event").event.clone()
    }
}

/// The headers that the API got, of that name.
fn received<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.body.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

#[tokio::test]
async fn a_request_that_may_pass_reaches_the_api_with_who_it_is_and_is_on_the_record_as_it_was() {
    let behind = Behind::start().await;
    let authorization = format!("Bearer {}", behind.token);
    let headers = [
        ("authorization", authorization.as_str()),
        ("user-agent", "orders-worker/1"),
        // What a caller would like to be.
        ("x-client-id", "somebody.else"),
        ("x-system-user", "root"),
        ("x-scope", "everything"),
        ("x-org-code", "OTHER"),
        ("x-session-id", "1"),
        ("x-token-id", "2"),
        ("x-original-uri", "/harmless"),
        ("x-original-method", "HEAD"),
        ("x-forwarded-uri", "/harmless"),
        ("x-forwarded-method", "HEAD"),
        ("x-forwarded-for", "203.0.113.1"),
    ];
    let answer = behind
        .send(Method::GET, "/orders/7?$top=10&token=hidden", &headers)
        .await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}\n{}",
        answer.body,
        behind.nginx.errors()
    );
    assert!(
        answer
            .body
            .starts_with("GET /orders/7?$top=10&token=hidden HTTP/1.1\r\n"),
        "{}",
        answer.body
    );

    let event = behind.last().await;
    assert_eq!(event["type"], "ApiCallAuthorized");
    let data = &event["data"];
    assert_eq!(data["via"], "forward_auth");
    assert_eq!((&data["method"], &data["path"]), (&json!("GET"), &json!("/orders/7")));
    assert_eq!(
        event["source"],
        json!({"ip": "127.0.0.1", "user_agent": "orders-worker/1"})
    );
    for (name, value) in [
        ("x-client-id", "behind-nginx"),
        ("x-system-user", "svc.integration"),
        ("x-scope", "read"),
        ("x-org-code", "ACME"),
        ("x-session-id", data["session_id"].as_str().unwrap()),
        ("x-token-id", data["jti"].as_str().unwrap()),
    ] {
        assert_eq!(received(&answer, name), [value], "{name}");
    }
    assert!(received(&answer, "authorization").is_empty(), "{}", answer.body);
}

#[tokio::test]
async fn what_the_token_does_not_say_the_caller_cannot_say_instead() {
    let behind = Behind::start().await;
    let free = behind
        .scene
        .register("of-no-organisation", json!({"audiences": [AUDIENCE]}))
        .await;
    let authorization = format!("Bearer {}", behind.scene.token(&free, &[]).await);
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-org-code", "ACME"),
        ("x-api-key", ""),
    ];
    let answer = behind.send(Method::GET, "/orders/7", &headers[..2]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(received(&answer, "x-org-code").is_empty(), "{}", answer.body);
    assert_eq!(received(&answer, "x-client-id"), ["of-no-organisation"]);
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_with_its_challenge_and_the_api_hears_nothing() {
    let behind = Behind::start().await;
    let challenge = |answer: &Answer| answer.header("www-authenticate").unwrap_or_default().to_owned();

    let without = behind.send(Method::GET, "/orders/7", &[]).await;
    let realm = format!("Bearer realm=\"{}\"", behind.scene.url);
    assert_eq!(
        (without.status, challenge(&without)),
        (StatusCode::UNAUTHORIZED, realm.clone())
    );
    assert_eq!(behind.last().await["data"]["path"], "/orders/7");

    let forged = behind
        .send(Method::GET, "/orders/7", &[("authorization", "Bearer a.b.c")])
        .await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
    assert!(challenge(&forged).starts_with(&format!("{realm}, error=\"invalid_token\", error_description=\"")));

    // The token allows to read.
    let authorization = format!("Bearer {}", behind.token);
    let headers = [("authorization", authorization.as_str()), ("content-length", "3")];
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let request = behind
            .scene
            .http
            .request(method.clone(), format!("{}/orders/7", behind.nginx.url));
        let request = request.header(headers[0].0, headers[0].1).body("abc");
        let answer = Answer::of(request.send().await.expect("nginx answers")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method}");
        assert_eq!(
            challenge(&answer),
            format!("{realm}, error=\"insufficient_scope\", scope=\"update\"")
        );
        let data = behind.last().await["data"].clone();
        assert_eq!(
            (&data["method"], &data["reason"]),
            (&json!(method.as_str()), &json!("insufficient_scope"))
        );
    }
    assert_eq!(behind.upstream.requests(), 0);
    // What is inside is not for callers.
    assert_eq!(behind.get("/_grantlog/orders").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_path_opens_its_own_organisation_alone() {
    let behind = Behind::start().await;
    let own = behind.get("/orgs/ACME/orders/7").await;
    assert_eq!(own.status, StatusCode::OK, "{}", behind.nginx.errors());
    let reached = behind.upstream.requests();
    for path in [
        "/orgs/OTHER/orders/7",
        "/orgs/acme/orders/7",
        "/orgs/ACME/../OTHER/orders/7",
        "/orgs/ACME/%2e%2e/OTHER/orders/7",
        "/orgs/ACME%2f..%2fOTHER/orders/7",
    ] {
        let answer = raw_get(&behind, path);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
        assert_eq!(behind.last().await["data"]["reason"], "org_mismatch", "{path}");
    }
    // What could add to the question is no organisation.
    for path in [
        "/orgs/ACME%26scope%3D/orders",
        "/orgs/%00/orders",
        "/orgs//orders",
        "/orgs/ACME%0d%0aX/orders",
    ] {
        let answer = raw_get(&behind, path);
        assert!(
            answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
            "{path}: {answer}"
        );
    }
    assert_eq!(behind.upstream.requests(), reached);
    // The API gets the path that was decided on, also with a line break in it.
    let answer = raw_get(&behind, "/orgs/OTHER/orders/..%2f..%2f..%2forgs/ACME/orders/%0ax");
    assert!(
        answer.contains("\r\n\r\nGET /orgs/ACME/orders/%0Ax HTTP/1.1\r\n"),
        "{answer}"
    );
    let answer = raw_get(&behind, "/orgs/OTHER/%2e%2e/ACME/orders/a%20b?c=%20d");
    assert!(
        answer.contains("\r\n\r\nGET /orgs/ACME/orders/a%20b?c=%20d HTTP/1.1\r\n"),
        "{answer}"
    );
}

/// A client library would have tidied the path up.
fn raw_get(behind: &Behind, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(authority(&behind.nginx.url)).expect("nginx accepts");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: orders.example\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        behind.token
    );
    stream.write_all(request.as_bytes()).expect("nginx reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[tokio::test]
async fn a_disabled_application_is_refused_at_once() {
    let behind = Behind::start().await;
    assert_eq!(behind.get("/orders/7").await.status, StatusCode::OK);
    let path = format!("{}/disable", behind.application.path());
    let (status, _) = behind
        .scene
        .administer(Method::POST, &path, json!({"reason": "stolen"}))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(behind.get("/orders/7").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(behind.upstream.requests(), 1);
    assert_eq!(behind.last().await["data"]["reason"], "application_disabled");
}

#[tokio::test]
async fn many_requests_at_once_go_over_few_connections_and_each_is_on_the_record() {
    const CALLERS: usize = 16;
    const EACH: usize = 25;
    let behind = std::sync::Arc::new(Behind::start().await);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let behind = behind.clone();
        callers.spawn(async move {
            for number in 0..EACH {
                let answer = behind.get(&format!("/orders/{caller}-{number}")).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", behind.nginx.errors());
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller is content");
    }
    let log = behind.scene.log().await;
    let calls = log
        .iter()
        .filter(|logged| logged.kind() == "ApiCallAuthorized" && logged.data()["via"] == "forward_auth");
    let mut paths: Vec<&str> = calls
        .map(|logged| logged.data()["path"].as_str().expect("a path"))
        .collect();
    assert_eq!(paths.len(), CALLERS * EACH);
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), CALLERS * EACH, "each once");
    assert!(
        behind.upstream.connections() <= CALLERS * 2,
        "{} connections",
        behind.upstream.connections()
    );
}

#[tokio::test]
async fn nothing_passes_while_grantlog_is_down() {
    let behind = Behind::start().await;
    assert_eq!(behind.get("/orders/7").await.status, StatusCode::OK);
    let Behind {
        scene,
        upstream,
        nginx,
        token,
        ..
    } = behind;
    let http = scene.http.clone();
    let _folder = scene.kill();
    let request = http.get(format!("{}/orders/7", nginx.url)).bearer_auth(&token);
    let answer = request.send().await.expect("nginx answers");
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn nothing_passes_that_cannot_be_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = folder.path().join("control");
    let mut steered = Command::new("steered");
    FaultShim::build().preload(&mut steered);
    steered
        .env("GRANTLOG_DISK_PATH", "events.db")
        .env("GRANTLOG_FAULT", "")
        .env("GRANTLOG_FAULT_CONTROL", &control);
    let start = Start::over(&folder.path().join("data")).with_config(TRUSTING);
    let start = steered.get_envs().fold(start, |start, (name, value)| {
        let text = |text: &OsStr| text.to_str().expect("UTF-8").to_owned();
        start.with_environment(&text(name), text(value.expect("a value")))
    });
    let mut server = start.start();
    let http: Client = crate::scene::client();
    let administrator = Administrator::with(http.clone(), &server).await;
    administrator.post("/admin/apis", &json!({"audience": AUDIENCE})).await;
    let application =
        json!({"application_uri": "unrecorded", "system_user": "svc", "scope": "read", "audiences": [AUDIENCE]});
    let made = administrator.register(application).await;
    let secret = made["client_secret"].as_str().unwrap();
    let (_, token) = crate::running_server::request_token(&http, &server.url, "unrecorded", secret, &[]).await;
    let token = token["access_token"].as_str().unwrap().to_owned();
    let upstream = Upstream::start();
    let nginx = Nginx::start(authority(&server.url), &upstream.address);
    let get = || http.get(format!("{}/orders/7", nginx.url)).bearer_auth(&token).send();
    assert_eq!(get().await.expect("an answer").status(), StatusCode::OK);

    shim::steer(&control, "write+fsync:EIO");
    for _ in 0..3 {
        let answer = get().await.expect("nginx answers");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(upstream.requests(), 1);
    let status = tokio::task::spawn_blocking(move || server.wait_for_end())
        .await
        .unwrap();
    assert_ne!(status.code(), Some(0), "a server whose log has failed ends");
}
