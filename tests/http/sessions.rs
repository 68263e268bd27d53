//! Sessions as calls begin them and time ends them: a token has none until it is used, and one at a time.

use crate::scene::{Answer, Application, Logged, Scene, append_to_log_at, claims};
use futures_util::future::join_all;
use grantlog_projections::Event;
use grantlog_projections::event::{SessionStarted, TokenKind};
use grantlog_projections::values::{ApplicationId, ApplicationUri, StreamName};
use reqwest::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

const PATH: &str = "/admin/applications";

async fn reader(scene: &Scene, name: &str) -> Application {
    scene.register(name, json!({"scope": "applications:read"})).await
}

async fn call(scene: &Scene, token: &str) -> Answer {
    Answer::of(scene.with_token(token, Method::GET, PATH).send().await.unwrap()).await
}

/// A call of an API whose proxy asks here: it is limited, Grantlog's own endpoints are not.
async fn call_of_an_api(scene: &Scene, token: &str) -> Answer {
    Answer::of(scene.with_token(token, Method::GET, "/verify").send().await.unwrap()).await
}

fn kinds(log: &[Logged]) -> Vec<&str> {
    log.iter().map(Logged::kind).collect()
}

/// As ERP.net has it: a session is of a token at work, not of a token that was given out.
#[tokio::test]
async fn a_session_begins_with_the_first_call_of_its_token_and_not_with_the_token() {
    let scene = Scene::start().await;
    let application = reader(&scene, "orders").await;
    let before = scene.log_size().await;
    let token = scene.token(&application, &[]).await;
    assert_eq!(kinds(&scene.log_from(before).await), ["TokenIssued"]);

    assert_eq!(call(&scene, &token).await.status, StatusCode::OK);
    assert_eq!(call(&scene, &token).await.status, StatusCode::OK);
    let log = scene.log_from(before + 1).await;
    assert_eq!(
        kinds(&log),
        ["SessionStarted", "ApiCallAuthorized", "ApiCallAuthorized"]
    );
    assert_eq!(
        log[0].event["stream"], log[1].event["stream"],
        "the beginning and its call are one append"
    );
    let (started, session_id) = (log[0].data(), &log[0].data()["session_id"]);
    assert_eq!(started["jti"], claims(&token)["jti"]);
    assert_eq!(started["system_user"], "svc.integration");
    assert!(log[1..].iter().all(|call| call.data()["session_id"] == *session_id));

    // Another token of the same application is at work on its own.
    let other = scene.token(&application, &[]).await;
    let before = scene.log_size().await;
    assert_eq!(call(&scene, &other).await.status, StatusCode::OK);
    let log = scene.log_from(before).await;
    assert_eq!(kinds(&log), ["SessionStarted", "ApiCallAuthorized"]);
    assert_ne!(log[0].data()["session_id"], *session_id);
}

#[tokio::test]
async fn first_calls_at_the_same_moment_begin_one_session() {
    let scene = Scene::start().await;
    let application = reader(&scene, "orders").await;
    for _ in 0..5 {
        let token = scene.token(&application, &[]).await;
        let before = scene.log_size().await;
        let answers = join_all((0..20).map(|_| call(&scene, &token))).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
        let log = scene.log_from(before).await;
        let (starts, calls): (Vec<_>, Vec<_>) = log.iter().partition(|event| event.kind() == "SessionStarted");
        assert_eq!((starts.len(), calls.len()), (1, 20));
        assert_eq!(log[0].kind(), "SessionStarted", "no call comes before it");
        let session_id = &starts[0].data()["session_id"];
        assert!(calls.iter().all(|call| call.data()["session_id"] == *session_id));
    }
}

#[tokio::test]
async fn a_refused_call_begins_no_session() {
    let scene = Scene::start().await;
    let application = scene.register("orders", json!({"scope": "read"})).await;
    let token = scene.token(&application, &[]).await;
    let before = scene.log_size().await;
    assert_eq!(call(&scene, &token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(kinds(&scene.log_from(before).await), ["ApiCallDenied"]);
}

#[tokio::test]
async fn an_application_with_as_many_sessions_as_it_may_gets_403_and_its_other_tokens_go_on() {
    let scene = Scene::with_config("[sessions]\nmax_per_application = 2").await;
    let application = reader(&scene, "orders").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(scene.token(&application, &[]).await);
    }
    assert_eq!(call_of_an_api(&scene, &tokens[0]).await.status, StatusCode::OK);
    assert_eq!(call_of_an_api(&scene, &tokens[1]).await.status, StatusCode::OK);
    let before = scene.log_size().await;
    let refused = call_of_an_api(&scene, &tokens[2]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    assert!(refused.body.contains("as many sessions as it may"), "{}", refused.body);
    let log = scene.log_from(before).await;
    assert_eq!(kinds(&log), ["ApiCallDenied"]);
    assert_eq!(log[0].data()["reason"], "too_many_sessions");
    assert_eq!(log[0].data()["jti"], claims(&tokens[2])["jti"]);
    assert_eq!(call_of_an_api(&scene, &tokens[0]).await.status, StatusCode::OK);
    let another = reader(&scene, "billing").await;
    let token = scene.token(&another, &[]).await;
    assert_eq!(
        call_of_an_api(&scene, &token).await.status,
        StatusCode::OK,
        "others have their own"
    );
}

/// A limit that shut an administrator out would shut out whoever could end the sessions, or disable the application.
#[tokio::test]
async fn the_limit_of_sessions_locks_nobody_out_of_our_own_endpoints() {
    let scene = Scene::with_config("[sessions]\nmax_per_application = 1").await;
    let scopes = json!({"scope": "applications:read applications:write"});
    let application = scene.register("operator", scopes).await;
    // As the command line does it: a new token for each command, and so a session.
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(scene.token(&application, &[]).await);
        let answer = call(&scene, tokens.last().unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    let another = scene.token(&application, &[]).await;
    let refused = call_of_an_api(&scene, &another).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "calls of APIs are limited");
    let disable = format!("{}/disable", application.path());
    let disabled = scene.with_token(&another, Method::POST, &disable).json(&json!({}));
    assert_eq!(
        disabled.send().await.unwrap().status(),
        StatusCode::OK,
        "the kill switch"
    );
}

/// Else whoever may call `/admin` has as many sessions at APIs as it likes.
#[tokio::test]
async fn a_session_that_began_at_our_own_endpoints_counts_at_an_api() {
    let scene = Scene::with_config("[sessions]\nmax_per_application = 1").await;
    let application = reader(&scene, "operator").await;
    let (first, second) = (
        scene.token(&application, &[]).await,
        scene.token(&application, &[]).await,
    );
    assert_eq!(call_of_an_api(&scene, &first).await.status, StatusCode::OK);
    assert_eq!(call(&scene, &second).await.status, StatusCode::OK);
    let before = scene.log_size().await;
    let refused = call_of_an_api(&scene, &second).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    let log = scene.log_from(before).await;
    assert_eq!(log[0].data()["reason"], "too_many_sessions");
    assert_eq!(log[0].data()["jti"], claims(&second)["jti"]);
    assert_eq!(call(&scene, &second).await.status, StatusCode::OK, "there it goes on");
    assert_eq!(call_of_an_api(&scene, &first).await.status, StatusCode::OK);
}

/// Ends are found by time, wherever the server was when they came.
#[tokio::test]
async fn sessions_that_ran_out_while_no_server_ran_end_after_the_start() {
    let scene = Scene::start().await;
    reader(&scene, "orders").await;
    let folder = scene.stop();
    let uri = ApplicationUri::parse("orders").unwrap();
    let application_id = ApplicationId::of(&uri);
    let now = grantlog::service::now();
    let started = |session: u128, token_left: i64| {
        let event = SessionStarted {
            session_id: Uuid::from_u128(session),
            application_id,
            application_uri: uri.clone(),
            jti: Uuid::from_u128(session + 100),
            token_kind: TokenKind::Jwt,
            system_user: None,
            token_expires_at: now.plus_seconds(token_left),
            node: None,
        };
        (StreamName::api_calls(Some(application_id)), Event::from(event))
    };
    let ago = |seconds: i64| now.plus_seconds(-seconds);
    append_to_log_at(&folder, ago(7_200), vec![started(1, 7_200)]).await;
    append_to_log_at(&folder, ago(1_300), vec![started(2, 7_200)]).await;
    append_to_log_at(&folder, ago(300), vec![started(3, -60), started(4, 7_200)]).await;
    let size = crate::scene::read_log(&folder, 0).await.len();

    let scene = Scene::in_folder(folder, "").await;
    let is_ended = |event: &&Logged| event.kind() == "SessionEnded";
    let log = scene
        .wait_for("the end of three sessions", |log| {
            log.iter().filter(is_ended).count() >= 3
        })
        .await;
    let mut ends: Vec<_> = log[size..]
        .iter()
        .filter(is_ended)
        .map(|event| {
            assert_eq!(event.event["actor"], "system");
            let session_id: Uuid = event.data()["session_id"].as_str().unwrap().parse().unwrap();
            (
                session_id.as_u128(),
                event.data()["reason"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    ends.sort();
    let expected = [(1, "absolute"), (2, "idle"), (3, "token_expired")];
    assert_eq!(ends, expected.map(|(session, reason)| (session, reason.to_owned())));
}
