//! `/admin/tokens`: which tokens are out, what each says, and how one, or all of an application's, are revoked.

use crate::scene::{Answer, Application, Logged, Scene, claims};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// An application whose tokens open `GET /admin/applications`: Grantlog's own endpoints are an API like any other.
async fn reader(scene: &Scene, name: &str) -> Application {
    let more = json!({"scope": "applications:read", "reference_tokens": "AdministratorsOnly"});
    scene.register(name, more).await
}

async fn call(scene: &Scene, token: &str) -> StatusCode {
    let request = scene.with_token(token, Method::GET, "/admin/applications?limit=1");
    request.send().await.expect("an answer").status()
}

fn jti(token: &str) -> String {
    claims(token)["jti"].as_str().expect("a jti").to_owned()
}

fn of_kind<'a>(log: &'a [Logged], kind: &str) -> Vec<&'a Logged> {
    log.iter().filter(|logged| logged.kind() == kind).collect()
}

async fn revoke(scene: &Scene, id: &str) -> (StatusCode, Value) {
    let body = json!({"reason": "found in a log"});
    scene
        .administer(Method::POST, &format!("/admin/tokens/{id}/revoke"), body)
        .await
}

/// The ids on all pages of an inventory.
async fn all_pages(scene: &Scene, query: &str, limit: usize) -> Vec<String> {
    // They are found in the index, which on a busy machine may be behind by more than an answer waits for it.
    scene.search("limit=1").await;
    let mut ids = Vec::new();
    let mut after = String::new();
    for _ in 0..100 {
        let (status, page) = scene
            .get(&format!("/admin/tokens?{query}&limit={limit}&after={after}"))
            .await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let tokens = page["tokens"].as_array().expect("tokens");
        assert!(tokens.len() <= limit);
        ids.extend(tokens.iter().map(|token| token["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return ids,
        }
    }
    panic!("the pages of {query} have no end");
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_from_the_answer_on_and_its_session_is_over() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    let (token, other) = (
        scene.token(&application, &[]).await,
        scene.token(&application, &[]).await,
    );
    assert_eq!(call(&scene, &token).await, StatusCode::OK);
    assert_eq!(call(&scene, &other).await, StatusCode::OK);
    let before = scene.log_size().await;

    let (status, shown) = revoke(&scene, &jti(&token)).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!(shown["status"], "revoked");
    assert_eq!(call(&scene, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(call(&scene, &other).await, StatusCode::OK, "the other is another");

    let log = scene.log_from(before).await;
    let revoked = of_kind(&log, "TokenRevoked");
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].event["stream"], format!("tokens-{}", application.id));
    assert_eq!(revoked[0].event["actor"], "grantlog.admin");
    assert_eq!(revoked[0].data()["jti"], jti(&token));
    assert_eq!(revoked[0].data()["reason"], "found in a log");
    let ended = of_kind(&log, "SessionEnded");
    assert_eq!(ended.len(), 1, "{log:#?}");
    assert_eq!(ended[0].data()["jti"], jti(&token));
    assert_eq!(ended[0].data()["reason"], "revoked");
    let denied = of_kind(&log, "ApiCallDenied");
    assert_eq!(denied[0].data()["reason"], "token_revoked");
    assert_eq!(denied[0].data()["application_uri"], "reader");
}

#[tokio::test]
async fn to_revoke_a_token_twice_also_at_once_is_one_event() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    let id = jti(&scene.token(&application, &[]).await);
    let at_once = futures_util::future::join_all((0..8).map(|_| revoke(&scene, &id))).await;
    for (status, shown) in at_once {
        assert_eq!((status, &shown["status"]), (StatusCode::OK, &json!("revoked")));
    }
    let (status, again) = revoke(&scene, &id).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(again["id"], id);
    assert_eq!(of_kind(&scene.log().await, "TokenRevoked").len(), 1);
}

#[tokio::test]
async fn an_unknown_token_is_not_found_and_one_that_is_none_is_told() {
    let scene = Scene::start().await;
    let (status, problem) = revoke(&scene, "0198c5a0-0000-7000-8000-000000000001").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    let (status, problem) = scene.get("/admin/tokens/0198c5a0-0000-7000-8000-000000000001").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    let (status, problem) = scene.get("/admin/tokens/x").await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::BAD_REQUEST, &json!("jti"))
    );
    assert!(of_kind(&scene.log().await, "TokenRevoked").is_empty());
}

#[tokio::test]
async fn all_tokens_of_an_application_are_revoked_and_those_after_are_good() {
    let scene = Scene::start().await;
    let (application, neighbour) = (reader(&scene, "reader").await, reader(&scene, "neighbour").await);
    let tokens = [
        scene.token(&application, &[]).await,
        scene.token(&application, &[]).await,
    ];
    let of_neighbour = scene.token(&neighbour, &[]).await;
    assert_eq!(call(&scene, &tokens[0]).await, StatusCode::OK);
    let path = format!("{}/revoke-tokens", application.path());
    let (status, answer) = scene.administer(Method::POST, &path, json!({"reason": "leaked"})).await;
    assert_eq!(
        (status, &answer["client_id"]),
        (StatusCode::OK, &json!("reader")),
        "{answer}"
    );
    for token in &tokens {
        assert_eq!(call(&scene, token).await, StatusCode::UNAUTHORIZED);
    }
    // A token's id tells its time to the millisecond.
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(
        call(&scene, &scene.token(&application, &[]).await).await,
        StatusCode::OK
    );
    assert_eq!(call(&scene, &of_neighbour).await, StatusCode::OK);
    let ended = scene.log().await;
    let ended = of_kind(&ended, "SessionEnded");
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].data()["jti"], jti(&tokens[0]));
    assert_eq!(all_pages(&scene, "client_id=reader&status=revoked", 10).await.len(), 2);
}

#[tokio::test]
async fn tokens_that_are_used_for_the_first_time_while_they_are_revoked_keep_no_session() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    for round in 0..6 {
        let mut tokens = Vec::new();
        for _ in 0..8 {
            tokens.push(scene.token(&application, &[]).await);
        }
        let calls = futures_util::future::join_all(tokens.iter().map(|token| call(&scene, token)));
        let ((), _) = futures_util::future::join(
            async {
                if round % 2 == 0 {
                    let path = format!("{}/revoke-tokens", application.path());
                    scene.administer(Method::POST, &path, json!({})).await;
                } else {
                    let ids: Vec<String> = tokens.iter().map(|token| jti(token)).collect();
                    futures_util::future::join_all(ids.iter().map(|id| revoke(&scene, id))).await;
                }
            },
            calls,
        )
        .await;
        for token in &tokens {
            assert_eq!(call(&scene, token).await, StatusCode::UNAUTHORIZED);
        }
        let (_, page) = scene.get("/admin/sessions?client_id=reader").await;
        assert_eq!(page["sessions"], json!([]), "round {round}");
        // Of the same millisecond they would be revoked, too.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let log = scene.log().await;
    let of_reader = |kind: &str| {
        let of_kind = of_kind(&log, kind);
        of_kind
            .iter()
            .filter(|logged| logged.data()["application_uri"] == "reader")
            .count()
    };
    assert_eq!(of_reader("SessionStarted"), of_reader("SessionEnded"));
    assert_eq!(of_reader("TokenRevoked"), 24);
}

#[tokio::test]
async fn a_secret_takes_its_own_tokens_with_it_when_that_is_asked_for() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    let of_old = scene.token(&application, &[]).await;
    let (status, rotated) = scene
        .administer(Method::POST, &format!("{}/secrets", application.path()), json!({}))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let renewed = Application {
        client_secret: rotated["client_secret"].as_str().unwrap().to_owned(),
        ..application.clone()
    };
    let of_new = scene.token(&renewed, &[]).await;
    for token in [&of_old, &of_new] {
        assert_eq!(call(&scene, token).await, StatusCode::OK);
    }
    let secret = format!("{}/secrets/{}", application.path(), application.secret_id);
    let (status, _) = scene.administer(Method::DELETE, &secret, json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        call(&scene, &of_old).await,
        StatusCode::OK,
        "the secret alone was revoked"
    );
    let (status, _) = scene
        .administer(
            Method::DELETE,
            &secret,
            json!({"revoke_tokens": true, "reason": "leaked"}),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(call(&scene, &of_old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(call(&scene, &of_new).await, StatusCode::OK);
    let (_, shown) = scene.get(&format!("/admin/tokens/{}", jti(&of_old))).await;
    assert_eq!(shown["status"], "revoked");
    let log = scene.log().await;
    let ended = of_kind(&log, "SessionEnded");
    assert_eq!(ended.len(), 1, "that of the old secret's token");
    assert_eq!(ended[0].data()["jti"], jti(&of_old));
}

#[tokio::test]
async fn a_disabled_application_has_no_sessions_and_its_tokens_come_back_unless_they_were_revoked() {
    let scene = Scene::start().await;
    for (name, revoke_tokens, after) in [
        ("paused", false, StatusCode::OK),
        ("suspected", true, StatusCode::UNAUTHORIZED),
    ] {
        let application = reader(&scene, name).await;
        let token = scene.token(&application, &[]).await;
        assert_eq!(call(&scene, &token).await, StatusCode::OK);
        let body = json!({"revoke_tokens": revoke_tokens});
        let (status, _) = scene
            .administer(Method::POST, &format!("{}/disable", application.path()), body)
            .await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(call(&scene, &token).await, StatusCode::UNAUTHORIZED);
        let expected = if revoke_tokens { "revoked" } else { "disabled" };
        let listed = all_pages(&scene, &format!("client_id={name}&status={expected}"), 10).await;
        assert_eq!(listed, [jti(&token)]);
        let log = scene.log().await;
        let ends = of_kind(&log, "SessionEnded");
        let ends: Vec<_> = ends.iter().filter(|end| end.data()["jti"] == jti(&token)).collect();
        assert_eq!(ends.len(), 1, "{name}");
        assert_eq!(ends[0].data()["reason"], "revoked");
        let (status, _) = scene
            .administer(Method::POST, &format!("{}/enable", application.path()), json!({}))
            .await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(call(&scene, &token).await, after, "{name}");
    }
}

#[tokio::test]
async fn a_deleted_application_has_no_sessions_and_no_tokens() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    let token = scene.token(&application, &[]).await;
    assert_eq!(call(&scene, &token).await, StatusCode::OK);
    let answer = scene.admin(Method::DELETE, &application.path()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(call(&scene, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(of_kind(&scene.log().await, "SessionEnded").len(), 1);
    assert_eq!(all_pages(&scene, "status=revoked", 10).await, [jti(&token)]);
}

/// TokenIDP's "inspect the claims".
#[tokio::test]
async fn a_token_is_shown_with_the_claims_that_it_carries_its_event_and_a_proof() {
    let scene = Scene::start().await;
    let more = json!({
        "scope": "applications:read", "org_code": "acme", "properties": {"region": "eu"},
    });
    let application = scene.register("reader", more).await;
    let token = scene.token(&application, &[]).await;
    assert_eq!(call(&scene, &token).await, StatusCode::OK);
    // What it says is what it was signed with, whatever becomes of the application.
    let (status, _) = scene
        .administer(
            Method::PATCH,
            &application.path(),
            json!({"properties": {"region": "us"}, "org_code": "other"}),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let before = scene.log_size().await;

    let (status, shown) = scene.get(&format!("/admin/tokens/{}", jti(&token))).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!(shown["claims"], claims(&token));
    assert_eq!(shown["kid"], crate::scene::jose_header(&token)["kid"]);
    assert_eq!(shown["alg"], "ES256");
    assert_eq!(shown["secret_id"], application.secret_id);
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["hint"], token[token.len() - 8..]);
    assert!(shown["session_id"].is_string());
    assert_eq!(shown["last_call"]["path"], "/admin/applications");
    assert_eq!(shown["last_used_at"], shown["last_call"]["time"]);
    let log = scene.log().await;
    let issued = log
        .iter()
        .find(|logged| logged.kind() == "TokenIssued" && logged.data()["jti"] == jti(&token))
        .unwrap();
    assert_eq!(shown["index"], issued.index);
    assert_eq!(shown["event"]["data"], *issued.data());
    assert_eq!(shown["event"]["source"]["ip"], "127.0.0.1");
    let proof = shown["proof"].as_str().expect("a proof");
    assert!(proof.starts_with("c2sp.org/tlog-proof@v1\n"), "{proof}");
    assert!(proof.contains(&format!("index {}\n", issued.index)), "{proof}");
    assert!(!shown.to_string().contains(&token), "the token itself is nowhere");

    let reading = scene.log_from(before).await;
    let reading = of_kind(&reading, "AuditTrailRead");
    assert_eq!(reading.len(), 1, "who looks is on the record");
    assert_eq!(reading[0].data()["filter"]["token"], jti(&token));
}

#[tokio::test]
async fn the_pages_of_the_inventory_skip_and_repeat_nothing_whatever_their_size() {
    let scene = Scene::start().await;
    let applications = [reader(&scene, "first").await, reader(&scene, "second").await];
    let mut expected = Vec::new();
    for round in 0..14 {
        let application = &applications[round % 2];
        if round % 3 == 0 {
            let path = format!("{}/reference-tokens", application.path());
            let (status, made) = scene
                .administer(Method::POST, &path, json!({"description": format!("round {round}")}))
                .await;
            assert_eq!(status, StatusCode::CREATED, "{made}");
            expected.push((made["id"].as_str().unwrap().to_owned(), round % 2, true));
        } else {
            expected.push((jti(&scene.token(application, &[]).await), round % 2, false));
        }
    }
    expected.reverse();
    let ids = |wanted: &dyn Fn(&(String, usize, bool)) -> bool| -> Vec<String> {
        expected
            .iter()
            .filter(|token| wanted(token))
            .map(|token| token.0.clone())
            .collect()
    };
    for limit in [1, 3, 5, 100] {
        assert_eq!(
            all_pages(&scene, "client_id=first", limit).await,
            ids(&|token| token.1 == 0)
        );
        assert_eq!(
            all_pages(&scene, "client_id=second&kind=reference", limit).await,
            ids(&|token| token.1 == 1 && token.2)
        );
        assert_eq!(
            all_pages(&scene, "client_id=second&kind=jwt&status=active&since=1h", limit).await,
            ids(&|token| token.1 == 1 && !token.2)
        );
        assert!(
            all_pages(&scene, "client_id=first&status=revoked", limit)
                .await
                .is_empty()
        );
        assert!(all_pages(&scene, "client_id=first&until=1h", limit).await.is_empty());
        assert!(
            all_pages(&scene, "client_id=first&status=expired", limit)
                .await
                .is_empty()
        );
    }
    // Grantlog's own tokens are tokens, too: the administrator's.
    let all: BTreeSet<String> = all_pages(&scene, "", 4).await.into_iter().collect();
    assert!(ids(&|_| true).iter().all(|id| all.contains(id)));
    assert!(all.len() > expected.len());
}

#[tokio::test]
async fn a_question_that_cannot_be_meant_is_told_by_its_parameter() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    for _ in 0..3 {
        scene.token(&application, &[]).await;
    }
    for (query, parameter) in [
        ("status=gone", "status"),
        ("kind=opaque", "kind"),
        ("since=yesterday", "since"),
        ("since=1h&until=2h", "until"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=x", "after"),
        ("page=2", "page"),
    ] {
        let (status, problem) = scene.get(&format!("/admin/tokens?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        assert_eq!(problem["errors"][0]["field"], parameter, "{query}");
    }
    scene.search("limit=1").await;
    let (_, page) = scene.get("/admin/tokens?client_id=reader&limit=2").await;
    let next = page["next"].as_str().expect("one more");
    let (status, problem) = scene.get(&format!("/admin/tokens?limit=2&after={next}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    assert_eq!(problem["errors"][0]["field"], "after");
}

#[tokio::test]
async fn a_reading_of_the_inventory_is_on_the_record_before_it_is_answered() {
    let scene = Scene::start().await;
    scene.search("limit=1").await;
    let before = scene.log_size().await;
    let (status, page) = scene.get("/admin/tokens?client_id=grantlog.admin&status=active").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(page["tokens"].as_array().unwrap().len(), 1, "its own");
    let log = scene.log_from(before).await;
    let read = of_kind(&log, "AuditTrailRead");
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].data()["application_uri"], "grantlog.admin");
    assert_eq!(read[0].data()["rows"], 1);
    assert_eq!(
        read[0].data()["filter"],
        json!({"client_id": "grantlog.admin", "status": "active"})
    );
}

#[tokio::test]
async fn what_was_revoked_stays_revoked_over_a_restart_and_a_kill() {
    let scene = Scene::start().await;
    let application = reader(&scene, "reader").await;
    let (alone, with_all) = (
        scene.token(&application, &[]).await,
        scene.token(&application, &[]).await,
    );
    revoke(&scene, &jti(&alone)).await;
    let scene = Scene::in_folder(scene.kill(), "").await;
    // Another port is another issuer by default, so tokens of before are refused for that: the record tells.
    let (_, shown) = scene.get(&format!("/admin/tokens/{}", jti(&alone))).await;
    assert_eq!(shown["status"], "revoked");
    let path = format!("{}/revoke-tokens", application.path());
    scene.administer(Method::POST, &path, json!({})).await;
    let scene = Scene::in_folder(scene.stop(), "").await;
    for token in [&alone, &with_all] {
        let (_, shown) = scene.get(&format!("/admin/tokens/{}", jti(token))).await;
        assert_eq!(shown["status"], "revoked");
    }
}

#[tokio::test]
async fn an_administrator_of_an_older_folder_gets_the_new_scope_by_a_reset() {
    let scene = Scene::start().await;
    let (_, page) = scene.get("/admin/applications?client_id=grantlog.admin").await;
    let path = format!(
        "/admin/applications/{}",
        page["applications"][0]["id"].as_str().unwrap()
    );
    let old = json!({"scope": "applications:read applications:write keys:write audit:read"});
    let (status, _) = scene.administer(Method::PATCH, &path, old).await;
    assert_eq!(status, StatusCode::OK);
    // With a token of now.
    let scene = Scene::in_folder(scene.stop(), "").await;
    let (status, problem) = scene
        .administer(
            Method::PATCH,
            &path,
            json!({"scope": "applications:read tokens:revoke"}),
        )
        .await;
    assert_eq!(
        status,
        StatusCode::FORBIDDEN,
        "nobody hands on what they lack: {problem}"
    );
    let (status, _) = scene.get("/admin/tokens").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let folder = scene.stop();
    let data = folder.path().join("data");
    let mut reset = std::process::Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args([
            "serve",
            "--reset-administrator",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(&data)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary starts");
    let stdout = std::io::BufReader::new(reset.stdout.take().expect("stdout is piped"));
    let is_up = std::io::BufRead::lines(stdout)
        .map_while(Result::ok)
        .any(|line| line.starts_with("listening on "));
    reset.kill().expect("it runs");
    reset.wait().expect("it ends");
    assert!(is_up);
    let scene = Scene::in_folder(folder, "").await;
    let (status, page) = scene.get("/admin/tokens").await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let log = scene.log().await;
    let changed = of_kind(&log, "ApplicationChanged");
    let last = changed.last().expect("the reset");
    assert!(
        last.event["actor"].as_str().unwrap().starts_with("operator:"),
        "{last:?}"
    );
    assert_eq!(last.data()["changes"][0]["field"], "scope");
}

#[tokio::test]
async fn nothing_but_what_there_is_can_be_done_to_a_token() {
    let scene = Scene::start().await;
    let nobody = "0198c5a0-0000-7000-8000-000000000001";
    for (method, path, allowed) in [
        (Method::POST, "/admin/tokens".to_owned(), "GET"),
        (Method::DELETE, format!("/admin/tokens/{nobody}"), "GET"),
        (Method::GET, format!("/admin/tokens/{nobody}/revoke"), "POST"),
        (Method::POST, "/admin/sessions".to_owned(), "GET"),
        (Method::GET, format!("/admin/sessions/{nobody}"), "DELETE"),
    ] {
        let answer = Answer::of(scene.admin(method, &path).send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.header("allow"), Some(allowed));
    }
    let (status, problem) = scene
        .administer(
            Method::POST,
            &format!("/admin/tokens/{nobody}/revoke"),
            json!({"why": "?"}),
        )
        .await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::BAD_REQUEST, &json!("why"))
    );
}
