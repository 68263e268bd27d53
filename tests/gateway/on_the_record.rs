//! No call reaches its upstream before its event is on disk, and none when it cannot be.

use crate::behind::AUDIENCE;
use crate::behind::{Behind, READ_AND_UPDATE, route};
use crate::running_server::{Administrator, Start, request_token};
use crate::scene::{client, read_log_of};
use crate::shim::{self, FaultShim};
use crate::upstream::{OK, Upstream};
use reqwest::Method;
use serde_json::json;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_finds_the_call_in_the_log_when_it_receives_it() {
    let log: Arc<OnceLock<PathBuf>> = Arc::default();
    let known = log.clone();
    let upstream = Upstream::playing(move |mut connection| {
        let log = known.clone();
        async move {
            while let Some(seen) = connection.request().await {
                let name = seen.header("user-agent").expect("a name").to_owned();
                let events = read_log_of(log.get().expect("it is known"), 0).await;
                let is_it = |event: &serde_json::Value| {
                    event["type"] == "ApiCallAuthorized" && event["source"]["user_agent"] == name.as_str()
                };
                let found = events.iter().filter(|logged| is_it(&logged.event)).count();
                connection
                    .send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{found}"))
                    .await;
            }
        }
    });
    let behind = Behind::of(upstream.await).await;
    log.set(behind.scene.folder.path().join("data/events.db"))
        .expect("once");
    for number in 0..50 {
        let call = behind
            .call(Method::GET, "/api/a")
            .header("user-agent", format!("call {number}"));
        let found = call.send().await.expect("an answer").text().await.expect("a body");
        assert_eq!(found, "1", "call {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_lets_no_call_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let upstream = Upstream::answering(OK).await;
    let control = folder.path().join("control");
    let mut shim = Command::new("steered");
    FaultShim::build().preload(&mut shim);
    shim.env("GRANTLOG_DISK_PATH", "events.db")
        .env("GRANTLOG_FAULT", "")
        .env("GRANTLOG_FAULT_CONTROL", &control);
    let start = Start::over(&folder.path().join("data")).with_config(&route(&upstream.url, "", READ_AND_UPDATE));
    let start = shim.get_envs().fold(start, |start, (name, value)| {
        let text = |text: &OsStr| text.to_str().expect("UTF-8").to_owned();
        start.with_environment(&text(name), text(value.expect("a value")))
    });
    let mut server = start.start();
    let http = client();
    let administrator = Administrator::with(http.clone(), &server).await;
    administrator.post("/admin/apis", &json!({"audience": AUDIENCE})).await;
    let made = administrator
        .register(json!({
            "application_uri": "worker", "scope": "read", "system_user": "svc", "audiences": [AUDIENCE],
        }))
        .await;
    let secret = made["client_secret"].as_str().expect("a secret");
    let (_, answer) = request_token(&http, &server.url, "worker", secret, &[]).await;
    let token = answer["access_token"].as_str().expect("a token").to_owned();
    let call = || http.get(format!("{}/api/a", server.url)).bearer_auth(&token).send();
    assert_eq!(call().await.expect("an answer").status(), 200);
    assert_eq!(upstream.requests().len(), 1);

    shim::steer(&control, "fsync:EIO:path=events.db");
    let (first, second) = tokio::join!(call(), call());
    for answer in [first, second].into_iter().flatten() {
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
    }
    assert_eq!(server.wait_for_end().code(), Some(1));
    assert_eq!(upstream.requests().len(), 1, "the upstream heard of nothing");
}
