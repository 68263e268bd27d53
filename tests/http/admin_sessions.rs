//! Sessions: begun by the first call of a token, ended by time or by an administrator.

use crate::scene::{Answer, Application, Logged, Scene, claims};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

async fn reader(scene: &Scene, name: &str) -> Application {
    scene.register(name, json!({"scope": "applications:read"})).await
}

async fn call(scene: &Scene, token: &str) -> Answer {
    let request = scene.with_token(token, Method::GET, "/admin/applications?limit=1");
    Answer::of(request.send().await.expect("an answer")).await
}

/// A call of an API whose proxy asks here: it is limited, Grantlog's own endpoints are not.
async fn verified(scene: &Scene, token: &str) -> Answer {
    Answer::of(
        scene
            .with_token(token, Method::GET, "/verify")
            .send()
            .await
            .expect("an answer"),
    )
    .await
}

fn jti(token: &str) -> String {
    claims(token)["jti"].as_str().expect("a jti").to_owned()
}

/// The events of sessions and calls of a token, in order.
fn of_token(log: &[Logged], token: &str) -> Vec<Logged> {
    let jti = jti(token);
    let types = ["SessionStarted", "SessionEnded", "ApiCallAuthorized", "ApiCallDenied"];
    let of_token = |logged: &&Logged| types.contains(&logged.kind()) && logged.data()["jti"] == jti;
    log.iter().filter(of_token).cloned().collect()
}

async fn sessions_of(scene: &Scene, client_id: &str) -> Vec<Value> {
    let (status, page) = scene.get(&format!("/admin/sessions?client_id={client_id}")).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page["sessions"].as_array().expect("sessions").clone()
}

/// ERP.net's rule: a token is issued without a session, and has one from its first use.
#[tokio::test]
async fn a_session_starts_with_the_first_use_of_a_token_in_one_append_and_not_with_its_issue() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    let token = scene.token(&application, &[]).await;
    assert!(sessions_of(&scene, "reader").await.is_empty());
    for _ in 0..3 {
        assert_eq!(call(&scene, &token).await.status, StatusCode::OK);
    }
    let log = of_token(&scene.log().await, &token);
    let kinds: Vec<&str> = log.iter().map(Logged::kind).collect();
    assert_eq!(
        kinds,
        [
            "SessionStarted",
            "ApiCallAuthorized",
            "ApiCallAuthorized",
            "ApiCallAuthorized"
        ]
    );
    assert_eq!(log[0].index + 1, log[1].index);
    assert_eq!(log[0].event["stream"], log[1].event["stream"]);
    let session_id = &log[0].data()["session_id"];
    for call in &log[1..] {
        assert_eq!(&call.data()["session_id"], session_id, "the same session on every call");
    }
    let sessions = sessions_of(&scene, "reader").await;
    assert_eq!(sessions.len(), 1);
    let session = &sessions[0];
    assert_eq!(&session["id"], session_id);
    assert_eq!(session["token_id"], jti(&token));
    assert_eq!(session["token_kind"], "jwt");
    assert_eq!(session["system_user"], "svc.integration");
    assert_eq!(session["calls"], 3);
    assert_eq!(session["source"]["ip"], "127.0.0.1");
    assert_eq!(session["started_at"], log[0].event["time"]);
    assert_eq!(session["last_used_at"], log[3].event["time"]);
    assert_eq!(session["ends_by"], "idle");
    assert!(sessions_of(&scene, "nobody").await.is_empty());
}

#[tokio::test]
async fn an_idle_session_ends_and_the_token_starts_a_new_one() {
    let scene = Scene::with_config("[sessions]\nidle_seconds = 1").await;
    let application = reader(&scene, "reader").await;
    let token = scene.token(&application, &[]).await;
    call(&scene, &token).await;
    let jti = jti(&token);
    scene
        .wait_for("the end of the idle session", |log| {
            log.iter()
                .any(|logged| logged.kind() == "SessionEnded" && logged.data()["jti"] == jti)
        })
        .await;
    assert!(sessions_of(&scene, "reader").await.is_empty());
    assert_eq!(call(&scene, &token).await.status, StatusCode::OK);
    let log = of_token(&scene.log().await, &token);
    let kinds: Vec<&str> = log.iter().map(Logged::kind).collect();
    assert_eq!(
        kinds[..5],
        [
            "SessionStarted",
            "ApiCallAuthorized",
            "SessionEnded",
            "SessionStarted",
            "ApiCallAuthorized"
        ]
    );
    assert_eq!(log[2].data()["reason"], "idle");
    assert_eq!(log[2].event["actor"], "system");
    assert_ne!(log[0].data()["session_id"], log[3].data()["session_id"]);
}

#[tokio::test]
async fn a_session_ends_after_its_longest_time_however_busy_it_is() {
    let scene = Scene::with_config("[sessions]\nidle_seconds = 60\nabsolute_seconds = 1").await;
    let application = reader(&scene, "reader").await;
    let token = scene.token(&application, &[]).await;
    let mut log = Vec::new();
    for _ in 0..200 {
        assert_eq!(call(&scene, &token).await.status, StatusCode::OK);
        log = of_token(&scene.log().await, &token);
        if log.iter().filter(|logged| logged.kind() == "SessionStarted").count() > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let end = log
        .iter()
        .find(|logged| logged.kind() == "SessionEnded")
        .expect("an end");
    assert_eq!(end.data()["reason"], "absolute");
    assert_eq!(end.data()["session_id"], log[0].data()["session_id"]);
}

#[tokio::test]
async fn a_session_whose_time_comes_while_the_server_is_down_ends_when_it_is_back() {
    for kill in [false, true] {
        let settings = "[sessions]\nidle_seconds = 2";
        let scene = Scene::with_config(settings).await;
        let application = reader(&scene, "reader").await;
        let token = scene.token(&application, &[]).await;
        call(&scene, &token).await;
        let folder = if kill { scene.kill() } else { scene.stop() };
        tokio::time::sleep(Duration::from_secs(2)).await;
        let scene = Scene::in_folder(folder, settings).await;
        let jti = jti(&token);
        let log = scene
            .wait_for("the end of the session", |log| {
                log.iter()
                    .any(|logged| logged.kind() == "SessionEnded" && logged.data()["jti"] == jti)
            })
            .await;
        let of_token = of_token(&log, &token);
        assert_eq!(
            of_token.iter().filter(|logged| logged.kind() == "SessionEnded").count(),
            1
        );
        assert!(sessions_of(&scene, "reader").await.is_empty());
    }
}

#[tokio::test]
async fn a_session_goes_on_after_a_restart() {
    let scene = Scene::start().await;
    let more = json!({"scope": "applications:read", "reference_tokens": "AdministratorsOnly"});
    let application = scene.register("reader", more).await;
    let path = format!("{}/reference-tokens", application.path());
    let (_, made) = scene.administer(Method::POST, &path, json!({"description": "x"})).await;
    let token = made["reference_token"].as_str().unwrap();
    assert_eq!(call(&scene, token).await.status, StatusCode::OK);
    let before = sessions_of(&scene, "reader").await;
    let scene = Scene::in_folder(scene.kill(), "").await;
    assert_eq!(sessions_of(&scene, "reader").await, before);
    assert_eq!(call(&scene, token).await.status, StatusCode::OK);
    let after = sessions_of(&scene, "reader").await;
    assert_eq!((&after[0]["id"], &after[0]["calls"]), (&before[0]["id"], &json!(2)));
}

#[tokio::test]
async fn an_administrator_ends_a_session_and_the_token_starts_a_new_one_at_its_next_use() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    let token = scene.token(&application, &[]).await;
    call(&scene, &token).await;
    let first = sessions_of(&scene, "reader").await.remove(0);
    let path = format!("/admin/sessions/{}", first["id"].as_str().unwrap());
    let (status, ended) = scene
        .administer(Method::DELETE, &path, json!({"reason": "looks odd"}))
        .await;
    assert_eq!((status, &ended["id"]), (StatusCode::OK, &first["id"]), "{ended}");
    assert!(sessions_of(&scene, "reader").await.is_empty());
    let (status, problem) = scene.administer(Method::DELETE, &path, json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    let log = of_token(&scene.log().await, &token);
    let ends: Vec<_> = log.iter().filter(|logged| logged.kind() == "SessionEnded").collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].event["actor"], "grantlog.admin");
    assert_eq!(ends[0].data()["reason"], "revoked");
    assert_eq!(ends[0].data()["remark"], "looks odd");
    assert_eq!(call(&scene, &token).await.status, StatusCode::OK, "the token is good");
    assert_ne!(sessions_of(&scene, "reader").await[0]["id"], first["id"]);
}

#[tokio::test]
async fn one_session_too_many_is_403_with_its_reason_and_those_that_are_go_on() {
    let scene = Scene::with_config("[sessions]\nmax_per_application = 2").await;
    let application = reader(&scene, "reader").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(scene.token(&application, &[]).await);
    }
    // At once: a limit that is looked at and then exceeded is none.
    let answers = futures_util::future::join_all(tokens.iter().map(|token| verified(&scene, token))).await;
    let refused: Vec<usize> = (0..3).filter(|n| answers[*n].status == StatusCode::FORBIDDEN).collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    let answer = &answers[refused[0]];
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("as many sessions as it may")
    );
    let denied = of_token(&scene.log().await, &tokens[refused[0]]);
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].data()["reason"], "too_many_sessions");
    for n in (0..3).filter(|n| *n != refused[0]) {
        assert_eq!(verified(&scene, &tokens[n]).await.status, StatusCode::OK);
    }
    let session = sessions_of(&scene, "reader").await.remove(0);
    let path = format!("/admin/sessions/{}", session["id"].as_str().unwrap());
    scene.administer(Method::DELETE, &path, json!({})).await;
    assert_eq!(verified(&scene, &tokens[refused[0]]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_pages_of_sessions_skip_and_repeat_nothing() {
    let scene = Scene::start().await;
    let (application, neighbour) = (reader(&scene, "reader").await, reader(&scene, "neighbour").await);
    for round in 0..7 {
        let token = scene
            .token(if round % 2 == 0 { &application } else { &neighbour }, &[])
            .await;
        assert_eq!(call(&scene, &token).await.status, StatusCode::OK);
    }
    let all = |query: &'static str| {
        let scene = &scene;
        async move {
            let (mut ids, mut after) = (Vec::new(), String::new());
            loop {
                let (_, page) = scene
                    .get(&format!("/admin/sessions?{query}&limit=2&after={after}"))
                    .await;
                let sessions = page["sessions"].as_array().unwrap();
                ids.extend(
                    sessions
                        .iter()
                        .map(|session| session["id"].as_str().unwrap().to_owned()),
                );
                match page["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => return ids,
                }
            }
        }
    };
    let (of_reader, of_all) = (all("client_id=reader").await, all("").await);
    assert_eq!(
        (of_reader.len(), of_all.len()),
        (4, 8),
        "the administrator has one, too"
    );
    for ids in [&of_reader, &of_all] {
        assert!(ids.is_sorted_by(|one, other| one < other));
    }
}
