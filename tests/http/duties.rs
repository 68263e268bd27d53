//! Who may do what: every endpoint of administration and audit needs its own scope, and each call is an event.

use crate::scene::{Answer, Scene};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const DUTIES: [&str; 5] = [
    "applications:read",
    "applications:write",
    "keys:write",
    "audit:read",
    "tokens:revoke",
];

/// Every endpoint with the scope that it needs.
fn endpoints(application_id: &str, api_id: &str, secret_id: &str) -> Vec<(Method, String, &'static str)> {
    let (application, api) = (
        format!("/admin/applications/{application_id}"),
        format!("/admin/apis/{api_id}"),
    );
    let [read, write, keys, audit, tokens] = DUTIES;
    let nobody = "00000000-0000-7000-8000-000000000000";
    vec![
        (Method::GET, "/admin/applications".into(), read),
        (Method::POST, "/admin/applications".into(), write),
        (Method::GET, application.clone(), read),
        (Method::GET, format!("{application}?as_of=0"), read),
        (Method::PATCH, application.clone(), write),
        (Method::POST, format!("{application}/disable"), write),
        (Method::POST, format!("{application}/enable"), write),
        (Method::POST, format!("{application}/secrets"), write),
        (Method::DELETE, format!("{application}/secrets/{secret_id}"), write),
        (Method::GET, format!("{application}/history"), audit),
        (Method::GET, format!("{application}/usage"), audit),
        (
            Method::GET,
            format!("{application}/diff?from=0&to=2126-03-16T09:30:00Z"),
            audit,
        ),
        (Method::GET, format!("{application}/reference-tokens"), read),
        (Method::POST, format!("{application}/reference-tokens"), write),
        (
            Method::DELETE,
            format!("{application}/reference-tokens/{nobody}"),
            write,
        ),
        (Method::POST, format!("{application}/revoke-tokens"), tokens),
        (Method::GET, "/admin/tokens".into(), tokens),
        (Method::GET, format!("/admin/tokens/{nobody}"), tokens),
        (Method::POST, format!("/admin/tokens/{nobody}/revoke"), tokens),
        (Method::GET, "/admin/sessions".into(), tokens),
        (Method::DELETE, format!("/admin/sessions/{nobody}"), tokens),
        (Method::DELETE, application, write),
        (Method::GET, "/admin/apis".into(), read),
        (Method::POST, "/admin/apis".into(), write),
        (Method::GET, api.clone(), read),
        (Method::PATCH, api.clone(), write),
        (Method::GET, format!("{api}/history"), audit),
        (Method::DELETE, api, write),
        (Method::GET, "/admin/signing-keys".into(), keys),
        (Method::GET, "/admin/signing-keys/history".into(), audit),
        (Method::POST, "/admin/signing-keys/rotate".into(), keys),
        (Method::POST, "/admin/signing-keys/2026-03-16/retire".into(), keys),
        (Method::GET, "/audit/events".into(), audit),
        (Method::GET, "/audit/events/0".into(), audit),
        (Method::GET, "/audit/stats".into(), audit),
        (Method::GET, "/audit/reports".into(), audit),
        (Method::GET, "/audit/reports/inventory".into(), audit),
    ]
}

struct Holder {
    client_id: String,
    token: String,
}

async fn holder(scene: &Scene, name: &str, scopes: impl Iterator<Item = &str>) -> Holder {
    let scope = scopes.collect::<Vec<_>>().join(" ");
    let application = scene.register(name, json!({"scope": scope})).await;
    Holder {
        token: scene.token(&application, &[]).await,
        client_id: application.client_id,
    }
}

#[tokio::test]
async fn without_its_scope_no_endpoint_opens_even_with_all_the_others() {
    let scene = Scene::start().await;
    let target = scene.register("target", json!({})).await;
    let api_id = scene.register_api("https://target", json!({})).await;
    for missing in DUTIES {
        let name = format!("all-but-{}", missing.replace(':', "-"));
        let holder = holder(&scene, &name, DUTIES.into_iter().filter(|duty| *duty != missing)).await;
        for (method, path, required) in endpoints(&target.id, &api_id, &target.secret_id) {
            if required != missing {
                continue;
            }
            let before = scene.log_size().await;
            let request = scene.with_token(&holder.token, method.clone(), &path).json(&json!({}));
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
            let challenge = format!(
                "Bearer realm=\"{}\", error=\"insufficient_scope\", scope=\"{required}\"",
                scene.url
            );
            assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()));
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["type"], "urn:grantlog:problem:insufficient_scope");

            let events = scene.log_from(before).await;
            assert_eq!(events.len(), 1, "nothing else happened: {events:?}");
            let (event, data) = (&events[0].event, events[0].data());
            assert_eq!(events[0].kind(), "ApiCallDenied");
            assert_eq!(event["actor"], holder.client_id);
            assert_eq!(data["application_uri"], holder.client_id);
            assert_eq!(data["jti"], crate::scene::claims(&holder.token)["jti"]);
            assert_eq!(data["token_hint"], holder.token[holder.token.len() - 8..]);
            assert_eq!(
                (&data["error"], &data["reason"]),
                (&json!("insufficient_scope"), &json!("insufficient_scope"))
            );
            assert_eq!(data["required_scope"], required);
            assert_eq!(data["method"], method.as_str());
            assert_eq!(data["path"], path.split('?').next().unwrap(), "the query is not kept");
            assert_eq!((&data["via"], &data["audience"]), (&json!("admin"), &json!(scene.url)));
        }
    }
}

#[tokio::test]
async fn with_its_scope_alone_every_endpoint_opens_and_the_call_comes_before_the_change() {
    let scene = Scene::start().await;
    let target = scene.register("target", json!({})).await;
    let api_id = scene.register_api("https://target", json!({})).await;
    for required in DUTIES {
        let name = format!("only-{}", required.replace(':', "-"));
        let holder = holder(&scene, &name, std::iter::once(required)).await;
        for (method, path, _) in endpoints(&target.id, &api_id, &target.secret_id)
            .into_iter()
            .filter(|(.., needed)| *needed == required)
        {
            let before = scene.log_size().await;
            let request = scene.with_token(&holder.token, method.clone(), &path).json(&json!({}));
            let answer = Answer::of(request.send().await.unwrap()).await;
            let is_refused = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            assert!(!is_refused, "{method} {path}: {}", answer.body);
            assert!(!answer.status.is_server_error(), "{method} {path}: {}", answer.body);
            let mut events = scene.log_from(before).await;
            // The first call of the token begins its session, in the same append.
            if events[0].kind() == "SessionStarted" {
                events.remove(0);
            }
            assert_eq!(events[0].kind(), "ApiCallAuthorized", "{method} {path}");
            assert_eq!(events[0].data()["required_scope"], required);
            assert_eq!(
                events[0].event["stream"],
                format!("api-calls-{}", application_id(&holder.client_id))
            );
            for change in &events[1..] {
                assert_eq!(change.event["actor"], holder.client_id, "{method} {path}");
                assert!(!change.kind().starts_with("ApiCall") && change.kind() != "SessionStarted");
            }
        }
    }
}

#[tokio::test]
async fn calls_without_a_usable_token_are_401_with_the_challenge_of_rfc_6750_and_one_event() {
    let scene = Scene::start().await;
    let application = scene.register("someone", json!({"scope": "audit:read"})).await;
    let disabled = scene.register("disabled", json!({"scope": "audit:read"})).await;
    let token_of_disabled = scene.token(&disabled, &[]).await;
    let token = scene.token(&application, &[]).await;
    scene.register_api("https://elsewhere", json!({})).await;
    let elsewhere = scene
        .register(
            "elsewhere",
            json!({"audiences": ["https://elsewhere"], "scope": "audit:read"}),
        )
        .await;
    let for_another = scene.token(&elsewhere, &[]).await;
    let (status, _) = scene
        .administer(Method::POST, &format!("{}/disable", disabled.path()), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);

    // RFC 6750 §3: a parameter at least, also when no error is told.
    let bare = format!("Bearer realm=\"{}\"", scene.url);
    let invalid = |description: &str| {
        let description = format!("the bearer token is not valid: {description}");
        format!("{bare}, error=\"invalid_token\", error_description=\"{description}\"")
    };
    for (headers, challenge, code, reason, actor) in [
        (vec![], bare.clone(), "missing_token", "missing_token", "anonymous"),
        (
            vec!["Bearer ".to_owned()],
            bare.clone(),
            "missing_token",
            "missing_token",
            "anonymous",
        ),
        (
            vec!["Basic c29tZW9uZTp4".to_owned()],
            bare.clone(),
            "missing_token",
            "missing_token",
            "anonymous",
        ),
        (
            vec!["Bearer abc".to_owned()],
            invalid("it is not a token of this server"),
            "invalid_token",
            "malformed_token",
            "anonymous",
        ),
        (
            vec![format!("Bearer {for_another}")],
            invalid("it is for another audience"),
            "invalid_token",
            "wrong_audience",
            "elsewhere",
        ),
        (
            vec![format!("bearer {token_of_disabled}")],
            invalid("its application is disabled or deleted"),
            "invalid_token",
            "application_disabled",
            "disabled",
        ),
    ] {
        let before = scene.log_size().await;
        let mut request = scene.http.get(format!("{}/audit/events", scene.url));
        for header in &headers {
            request = request.header("authorization", header);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{reason}");
        assert_eq!(answer.header("www-authenticate"), Some(challenge.as_str()), "{reason}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let events = scene.log_from(before).await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind(), "ApiCallDenied");
        assert_eq!(
            (&events[0].data()["error"], &events[0].data()["reason"]),
            (&json!(code), &json!(reason))
        );
        assert_eq!(events[0].event["actor"], actor);
    }
    let good = scene
        .with_token(&token, Method::GET, "/audit/events")
        .send()
        .await
        .unwrap();
    assert_eq!(good.status(), StatusCode::OK);
}

/// RFC 6750 §2: one method and one token. Of two, the next server may believe the other.
#[tokio::test]
async fn a_call_with_several_tokens_is_400_and_none_of_them_is_believed() {
    let scene = Scene::start().await;
    let application = scene.register("someone", json!({"scope": "audit:read"})).await;
    let token = format!("Bearer {}", scene.token(&application, &[]).await);
    let other = format!("glr_{}", "A".repeat(49));
    for headers in [
        [("authorization", token.as_str()), ("authorization", token.as_str())],
        [
            ("authorization", token.as_str()),
            ("authorization", "Basic c29tZW9uZTp4"),
        ],
        [("authorization", token.as_str()), ("x-api-key", other.as_str())],
        [("x-api-key", other.as_str()), ("x-api-key", other.as_str())],
    ] {
        let before = scene.log_size().await;
        let mut request = scene.http.get(format!("{}/audit/events", scene.url));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("\", error=\"invalid_request\""), "{challenge}");
        let events = scene.log_from(before).await;
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].kind(), "ApiCallDenied");
        assert_eq!(
            (&events[0].data()["error"], &events[0].data()["reason"]),
            (&json!("invalid_request"), &json!("several_tokens"))
        );
        assert_eq!(events[0].event["actor"], "anonymous");
        assert_eq!(events[0].data()["token_hint"], json!(null));
    }
}

#[tokio::test]
async fn an_expired_token_is_refused_and_its_holder_named() {
    let scene = Scene::start().await;
    let application = scene
        .register("short", json!({"scope": "audit:read", "token_lifetime_seconds": 60}))
        .await;
    let token = scene.token(&application, &[]).await;
    let claims = crate::scene::claims(&token);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    // Waiting for a minute and the leeway is for `credentials::verification`'s own tests, where time is a parameter.
    let good = scene
        .with_token(&token, Method::GET, "/audit/events")
        .send()
        .await
        .unwrap();
    assert_eq!(good.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_is_looked_at_only_for_those_who_are_let_through() {
    let scene = Scene::start().await;
    let reader = holder(&scene, "reader", std::iter::once("applications:read")).await;
    let bodies: [&[u8]; 3] = [b"{", b"[]", &[b'x'; 70_000]];
    for body in bodies {
        let request = scene
            .with_token(&reader.token, Method::POST, "/admin/applications")
            .body(body.to_vec());
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN);
        let request = scene
            .http
            .post(format!("{}/admin/applications", scene.url))
            .body(body.to_vec());
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn other_methods_are_405_with_allow_and_leave_no_event() {
    let scene = Scene::start().await;
    let before = scene.log_size().await;
    for (path, allow) in [
        ("/admin/applications", "GET, POST"),
        ("/admin/applications/x", "GET, PATCH, DELETE"),
        ("/admin/applications/x/enable", "POST"),
        ("/admin/applications/x/disable", "POST"),
        ("/admin/applications/x/secrets", "POST"),
        ("/admin/applications/x/secrets/y", "DELETE"),
        ("/admin/applications/x/history", "GET"),
        ("/admin/apis", "GET, POST"),
        ("/admin/apis/x", "GET, PATCH, DELETE"),
        ("/admin/apis/x/history", "GET"),
        ("/admin/signing-keys", "GET"),
        ("/admin/signing-keys/rotate", "POST"),
        ("/admin/signing-keys/x/retire", "POST"),
        ("/audit/events", "GET"),
        ("/audit/events/0", "GET"),
    ] {
        let answer = Answer::of(scene.admin(Method::PUT, path).send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
        assert_eq!(answer.json()["type"], "urn:grantlog:problem:method_not_allowed");
    }
    assert_eq!(scene.log_size().await, before);
}

fn application_id(client_id: &str) -> String {
    grantlog_projections::values::ApplicationId::of_client_id(client_id).to_string()
}

/// Kept apart: this is what an auditor may not do.
#[tokio::test]
async fn an_auditor_can_change_nothing_and_an_administrator_of_applications_cannot_read_the_trail() {
    let scene = Scene::start().await;
    let target = scene.register("target", json!({})).await;
    let auditor = holder(&scene, "auditor", std::iter::once("audit:read")).await;
    let administrator = holder(
        &scene,
        "administrator",
        ["applications:read", "applications:write"].into_iter(),
    )
    .await;
    let (_, before) = scene.get(&target.path()).await;
    for (method, path) in [
        (Method::PATCH, ""),
        (Method::DELETE, ""),
        (Method::POST, "/disable"),
        (Method::POST, "/secrets"),
    ] {
        let path = format!("{}{path}", target.path());
        let request = scene
            .with_token(&auditor.token, method, &path)
            .json(&json!({"owner": "mine"}));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    let (_, after): (_, Value) = scene.get(&target.path()).await;
    use crate::scene::without_usage;
    assert_eq!(without_usage(before), without_usage(after));
    let request = scene.with_token(&administrator.token, Method::GET, "/audit/events");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nobody_hands_on_a_duty_that_they_do_not_have() {
    let scene = Scene::start().await;
    let duties = ["applications:read", "applications:write"];
    let administrator = holder(&scene, "administrator", duties.into_iter()).await;
    let auditor = scene.register("auditor", json!({"scope": "audit:read read"})).await;
    let plain = scene.register("plain", json!({})).await;
    let path = |application: &crate::scene::Application, action: &str| format!("{}{action}", application.path());
    let new = json!({"application_uri": "new-auditor", "scope": "read audit:read"});
    for (method, path, body) in [
        (Method::POST, "/admin/applications".to_owned(), new),
        (Method::PATCH, path(&plain, ""), json!({"scope": "read audit:read"})),
        (Method::PATCH, path(&auditor, ""), json!({"system_user": "svc.other"})),
        (Method::POST, path(&auditor, "/secrets"), json!({})),
        (Method::POST, path(&auditor, "/enable"), json!({})),
    ] {
        let before = scene.log_size().await;
        let request = scene
            .with_token(&administrator.token, method.clone(), &path)
            .json(&body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}: {}", answer.body);
        assert!(answer.body.contains("audit:read"), "{}", answer.body);
        assert!(!answer.body.contains("client_secret\":"), "{}", answer.body);
        let events = scene.log_from(before).await;
        assert_eq!(
            events
                .iter()
                .map(crate::scene::Logged::kind)
                .filter(|kind| *kind != "SessionStarted")
                .collect::<Vec<_>>(),
            ["ApiCallAuthorized"]
        );
    }
    // To take away is always possible, and so is what concerns other APIs' scopes.
    for (method, path, body) in [
        (
            Method::PATCH,
            path(&plain, ""),
            json!({"scope": "read DomainApi something:else"}),
        ),
        (Method::POST, path(&auditor, "/disable"), json!({})),
    ] {
        let request = scene
            .with_token(&administrator.token, method.clone(), &path)
            .json(&body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_scope_that_is_taken_from_an_application_is_taken_from_its_live_tokens() {
    let scene = Scene::start().await;
    let auditor = scene.register("auditor", json!({"scope": "audit:read read"})).await;
    let token = scene.token(&auditor, &[]).await;
    let read = async || {
        scene
            .with_token(&token, Method::GET, "/audit/events")
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!(read().await, StatusCode::OK);
    let (status, _) = scene
        .administer(Method::PATCH, &auditor.path(), json!({"scope": "read"}))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(read().await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_first_administrator_can_be_disabled_but_not_deleted() {
    let scene = Scene::start().await;
    let (_, page) = scene.get("/admin/applications?client_id=grantlog.admin").await;
    let path = format!(
        "/admin/applications/{}",
        page["applications"][0]["id"].as_str().unwrap()
    );
    let (status, problem) = scene.administer(Method::DELETE, &path, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("disable it"), "{problem}");
}
