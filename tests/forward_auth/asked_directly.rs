//! `src/http/verify.rs` without a proxy in between: what is asked, what is believed and what is answered.

use crate::scene::{Answer, Application, Scene, claims};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const AUDIENCE: &str = "https://orders.example";
const QUERY: &str = "audience=https%3A%2F%2Forders.example";
const TRUSTING: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]";

/// A server with an API, and an application of the organisation ACME with a token for it.
async fn with_token(toml: &str) -> (Scene, Application, String) {
    let scene = Scene::with_config(toml).await;
    scene.register_api(AUDIENCE, json!({})).await;
    let application = scene
        .register("asks", json!({"audiences": [AUDIENCE], "org_code": "ACME"}))
        .await;
    let token = scene.token(&application, &[("scope", "read DomainApi")]).await;
    (scene, application, token)
}

async fn ask(scene: &Scene, token: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = scene.with_token(token, Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.expect("an answer")).await
}

async fn last(scene: &Scene) -> Value {
    scene.log().await.last().expect("an event").event.clone()
}

#[tokio::test]
async fn a_call_that_may_pass_is_on_the_record_and_answered_with_who_it_is() {
    let (scene, _, token) = with_token("").await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = format!("/verify?{QUERY}&scope=read&org_code=ACME");
        let answer = scene.with_token(&token, method.clone(), &path).send().await.unwrap();
        let answer = Answer::of(answer).await;
        assert_eq!(answer.status, StatusCode::OK, "{method}: {}", answer.body);
        assert_eq!(answer.body, "");
        assert_eq!(answer.header("cache-control"), Some("no-store"));

        let event = last(&scene).await;
        assert_eq!(event["type"], "ApiCallAuthorized");
        let data = &event["data"];
        assert_eq!(data["via"], "forward_auth");
        assert_eq!(
            (&data["method"], &data["path"]),
            (&json!(method.as_str()), &json!("/verify"))
        );
        assert_eq!(data["audience"], AUDIENCE);
        assert_eq!(data["required_scope"], "read");
        let claims = claims(&token);
        for (header, value) in [
            ("x-client-id", json!("asks")),
            ("x-system-user", json!("svc.integration")),
            ("x-scope", json!("read DomainApi")),
            ("x-org-code", json!("ACME")),
            ("x-session-id", data["session_id"].clone()),
            ("x-token-id", claims["jti"].clone()),
        ] {
            assert_eq!(answer.header(header), value.as_str(), "{header}");
        }
    }
}

#[tokio::test]
async fn what_a_token_does_not_say_is_an_empty_header_so_that_a_proxy_overwrites_it() {
    let scene = Scene::start().await;
    let application = scene
        .register("of-no-organisation", json!({"system_user": "svc.büro"}))
        .await;
    let token = scene.token(&application, &[]).await;
    let answer = ask(&scene, &token, "/verify", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("x-org-code"), Some(""));
    assert_eq!(answer.header("x-system-user"), Some("svc.b%C3%BCro"));
    // Without an audience it is the server's default one.
    assert_eq!(last(&scene).await["data"]["audience"], scene.url);
}

#[tokio::test]
async fn refusals_are_those_of_rfc_6750_each_with_its_event() {
    let (scene, application, token) = with_token("").await;
    let challenge = |answer: &Answer| answer.header("www-authenticate").unwrap_or_default().to_owned();
    let realm = format!("Bearer realm=\"{}\"", scene.url);
    let invalid = |why: &str| format!("{realm}, error=\"invalid_token\", error_description=\"{why}\"");

    let without = Answer::of(
        scene
            .http
            .get(format!("{}/verify?{QUERY}", scene.url))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        (without.status, challenge(&without)),
        (StatusCode::UNAUTHORIZED, realm.clone()),
        "RFC 6750 §3"
    );
    assert_eq!(without.header("content-type"), Some("application/problem+json"));
    assert_eq!(last(&scene).await["data"]["reason"], "missing_token");

    let forged = ask(&scene, "not.a.token", &format!("/verify?{QUERY}"), &[]).await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
    let expected = invalid("the bearer token is not valid: it is not a token of this server");
    assert_eq!(challenge(&forged), expected);

    let elsewhere = ask(&scene, &token, "/verify?audience=other", &[]).await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);
    let expected = invalid("the bearer token is not valid: it is for another audience");
    assert_eq!(challenge(&elsewhere), expected);

    let lacking = ask(&scene, &token, &format!("/verify?{QUERY}&scope=read%20update"), &[]).await;
    assert_eq!(lacking.status, StatusCode::FORBIDDEN);
    assert_eq!(
        challenge(&lacking),
        format!("{realm}, error=\"insufficient_scope\", scope=\"read update\"")
    );
    assert_eq!(last(&scene).await["data"]["reason"], "insufficient_scope");

    for org_code in ["OTHER", "acme", "", "AC%00ME", "%FF"] {
        let path = format!("/verify?{QUERY}&org_code={org_code}");
        let other = ask(&scene, &token, &path, &[]).await;
        assert_eq!(other.status, StatusCode::FORBIDDEN, "{org_code}");
        assert!(
            challenge(&other).starts_with(&format!("{realm}, error=\"insufficient_scope\"")),
            "{org_code}"
        );
        assert_eq!(other.json()["type"], "urn:grantlog:problem:org_mismatch");
        assert_eq!(last(&scene).await["data"]["reason"], "org_mismatch", "{org_code}");
    }

    // A second token is one that the API behind might believe instead.
    let url = format!("{}/verify?{QUERY}", scene.url);
    let twice = scene
        .http
        .get(&url)
        .bearer_auth(&token)
        .header("authorization", "Bearer other");
    let twice = Answer::of(twice.send().await.unwrap()).await;
    assert_eq!(twice.status, StatusCode::UNAUTHORIZED, "nginx knows no 400");
    assert!(
        challenge(&twice).starts_with(&format!("{realm}, error=\"invalid_request\"")),
        "{}",
        challenge(&twice)
    );
    assert_eq!(last(&scene).await["data"]["reason"], "several_tokens");

    let (status, _) = scene
        .administer(Method::POST, &format!("{}/disable", application.path()), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let disabled = ask(&scene, &token, &format!("/verify?{QUERY}"), &[]).await;
    assert_eq!(disabled.status, StatusCode::UNAUTHORIZED, "at once");
    assert_eq!(last(&scene).await["data"]["reason"], "application_disabled");
}

/// RFC 6750 §2: one method of sending a token. The API behind may believe the one in the query.
#[tokio::test]
async fn a_token_in_the_query_beside_another_is_one_too_many() {
    let (scene, _, token) = with_token(TRUSTING).await;
    for (path, uri) in [
        (format!("/verify?{QUERY}"), Some("/orders?a=b&access_token=other")),
        (format!("/verify?{QUERY}"), Some("/orders?a=b&Access.Token=other")),
        (format!("/verify?{QUERY}"), Some("/orders?access%5Ftoken=other#x")),
        (format!("/verify/{QUERY}/orders?access_token=other"), None),
    ] {
        let original = uri.map(|uri| [("x-original-method", "GET"), ("x-original-uri", uri)]);
        let answer = ask(&scene, &token, &path, original.as_ref().map_or(&[], |pair| &pair[..])).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "nginx knows no 400: {path}");
        assert_eq!(answer.json()["type"], "urn:grantlog:problem:invalid_request");
        let data = last(&scene).await["data"].clone();
        assert_eq!(
            (&data["reason"], &data["path"]),
            (&json!("several_tokens"), &json!("/orders"))
        );
    }
    // Alone it is none of ours.
    let path = format!("{}/verify/{QUERY}/orders?access_token={token}", scene.url);
    let alone = Answer::of(scene.http.get(path).send().await.unwrap()).await;
    assert_eq!(alone.json()["type"], "urn:grantlog:problem:missing_token");
    let other = [
        ("x-original-method", "GET"),
        ("x-original-uri", "/orders?my_access_token=1#?access_token=2"),
    ];
    let answer = ask(&scene, &token, &format!("/verify?{QUERY}"), &other).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn an_audience_that_was_taken_from_an_application_is_taken_from_its_live_tokens() {
    let (scene, application, token) = with_token("").await;
    let path = format!("/verify?{QUERY}");
    assert_eq!(ask(&scene, &token, &path, &[]).await.status, StatusCode::OK);
    for (audiences, status, reason) in [
        (json!([]), StatusCode::UNAUTHORIZED, json!("wrong_audience")),
        (json!([AUDIENCE]), StatusCode::OK, json!(null)),
    ] {
        let change = json!({"audiences": audiences});
        let (changed, body) = scene.administer(Method::PATCH, &application.path(), change).await;
        assert_eq!(changed, StatusCode::OK, "{body}");
        assert_eq!(ask(&scene, &token, &path, &[]).await.status, status, "{audiences}");
        assert_eq!(last(&scene).await["data"]["reason"], reason);
    }
}

#[tokio::test]
async fn each_403_has_a_type_of_its_own() {
    let (scene, application, token) = with_token("[sessions]\nmax_per_application = 1").await;
    assert_eq!(
        ask(&scene, &token, &format!("/verify?{QUERY}"), &[]).await.status,
        StatusCode::OK
    );
    let another = scene.token(&application, &[]).await;
    for (token, more, kind) in [
        (&token, "&scope=delete", "insufficient_scope"),
        (&token, "&org_code=OTHER", "org_mismatch"),
        (&another, "", "too_many_sessions"),
    ] {
        let answer = ask(&scene, token, &format!("/verify?{QUERY}{more}"), &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{kind}");
        assert_eq!(answer.json()["type"], format!("urn:grantlog:problem:{kind}"));
        assert_eq!(last(&scene).await["data"]["reason"], kind);
        assert_eq!(last(&scene).await["data"]["error"], "insufficient_scope");
        // RFC 6750 §3.1 has no other word for it.
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    }
}

#[tokio::test]
async fn a_flood_of_refused_requests_is_a_401_with_retry_after() {
    let scene = Scene::with_config("[lockout]\nmax_refusals_per_source = 3").await;
    let mut last = None;
    for _ in 0..5 {
        last = Some(ask(&scene, "not.a.token", "/verify", &[]).await);
    }
    let last = last.unwrap();
    assert_eq!(last.status, StatusCode::UNAUTHORIZED);
    let realm = format!("Bearer realm=\"{}\"", scene.url);
    assert_eq!(last.header("www-authenticate"), Some(realm.as_str()));
    assert!(
        last.header("retry-after")
            .is_some_and(|seconds| seconds.parse::<u32>().is_ok())
    );
    assert_eq!(last.json()["type"], "urn:grantlog:problem:slow_down");
    assert_eq!(last.json()["status"], 401);
}

#[tokio::test]
async fn a_question_that_is_wrong_is_a_400_that_says_what_is_right() {
    let (scene, _, token) = with_token(TRUSTING).await;
    let size = scene.log_size().await;
    for (path, headers, part) in [
        ("/verify?scop=read", vec![], "there are: audience, scope, org_code"),
        ("/verify?scope=read&scope=update", vec![], "scope: may be given once"),
        ("/verify?scope=", vec![], "leave it out where any token will do"),
        ("/verify?audience=", vec![], "leave it out for the default"),
        ("/verify?audience=two+words", vec![], "without spaces"),
        ("/verify/scope=read", vec![], "the original path is missing"),
        (
            "/verify",
            vec![("x-original-uri", "/a")],
            "x-original-method: must be there",
        ),
        (
            "/verify",
            vec![("x-forwarded-method", "GET")],
            "x-forwarded-uri: must be there",
        ),
        (
            "/verify",
            vec![
                ("x-original-method", "GET"),
                ("x-original-uri", "/a"),
                ("x-original-uri", "/b"),
            ],
            "x-original-uri: may be given once",
        ),
        (
            "/verify",
            vec![
                ("x-original-method", "GET"),
                ("x-original-uri", "/a"),
                ("x-forwarded-method", "GET"),
                ("x-forwarded-uri", "/a"),
            ],
            "named twice",
        ),
        (
            "/verify/scope=read/a",
            vec![("x-original-method", "GET"), ("x-original-uri", "/a")],
            "named twice",
        ),
    ] {
        let answer = ask(&scene, &token, path, &headers).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {headers:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(part), "{path} {headers:?}: {detail}");
    }
    assert_eq!(scene.log_size().await, size, "nothing was decided");
}

#[tokio::test]
async fn a_trusted_proxy_says_what_the_original_request_was() {
    let (scene, _, token) = with_token(TRUSTING).await;
    let original =
        |method: &'static str, uri: &'static str| vec![("x-original-method", method), ("x-original-uri", uri)];
    let forwarded =
        |method: &'static str, uri: &'static str| vec![("x-forwarded-method", method), ("x-forwarded-uri", uri)];
    let by_query = format!("/verify?{QUERY}&scope=read");
    let by_path = format!("/verify/{QUERY}&scope=read/orders/7?audience=other&scope=&token=secret");
    for (path, headers, method, recorded) in [
        (
            &by_query,
            original("DELETE", "/orders/7?token=secret"),
            "DELETE",
            "/orders/7",
        ),
        (&by_query, forwarded("POST", "/orders?$top=10"), "POST", "/orders"),
        (&by_query, original("GET", "/a%2e%2e/%C3%BC"), "GET", "/a%2e%2e/%C3%BC"),
        (&by_path, vec![], "GET", "/orders/7"),
        (&by_query, vec![], "GET", "/verify"),
    ] {
        let headers = [headers, vec![("x-forwarded-for", "192.0.2.7")]].concat();
        let answer = ask(&scene, &token, path, &headers).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {headers:?}: {}", answer.body);
        let event = last(&scene).await;
        let data = &event["data"];
        assert_eq!((&data["method"], &data["path"]), (&json!(method), &json!(recorded)));
        assert_eq!(data["required_scope"], "read");
        assert_eq!(data["audience"], AUDIENCE);
        assert_eq!(event["source"]["ip"], "192.0.2.7");
        assert!(!event.to_string().contains("secret"), "{event}");
    }
    let refused = ask(
        &scene,
        &token,
        &format!("{by_query}+update"),
        &original("PUT", "/orders"),
    )
    .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let data = last(&scene).await["data"].clone();
    assert_eq!((&data["method"], &data["path"]), (&json!("PUT"), &json!("/orders")));
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let (scene, _, token) = with_token("[server]\ntrusted_proxies = [\"192.0.2.0/24\"]").await;
    for pair in [
        ["x-original-method", "x-original-uri"],
        ["x-forwarded-method", "x-forwarded-uri"],
    ] {
        let headers = [
            (pair[0], "DELETE"),
            (pair[1], "/admin"),
            ("x-forwarded-for", "198.51.100.1"),
        ];
        let answer = ask(&scene, &token, &format!("/verify?{QUERY}"), &headers).await;
        assert_eq!(answer.status, StatusCode::OK);
        let event = last(&scene).await;
        assert_eq!(event["data"]["method"], "GET");
        assert_eq!(event["data"]["path"], "/verify");
        assert_eq!(event["source"]["ip"], "127.0.0.1");
    }
    let path = format!("/verify/{QUERY}&scope=read/admin");
    assert_eq!(ask(&scene, &token, &path, &[]).await.status, StatusCode::OK);
    assert_eq!(last(&scene).await["data"]["path"], path);
}

#[tokio::test]
async fn it_is_below_the_issuers_path_too() {
    let scene = Scene::with_config(&format!("{TRUSTING}\nissuer = \"http://issuer.example/id\"")).await;
    let application = scene.register("below", json!({})).await;
    let token = scene.token(&application, &[]).await;
    for (path, recorded) in [
        ("/verify?scope=read", "/verify"),
        ("/id/verify?scope=read", "/id/verify"),
        ("/verify/scope=read/orders", "/orders"),
        ("/id/verify/scope=read/id/verify/x", "/id/verify/x"),
    ] {
        assert_eq!(ask(&scene, &token, path, &[]).await.status, StatusCode::OK, "{path}");
        let data = last(&scene).await["data"].clone();
        assert_eq!(
            (&data["path"], &data["required_scope"]),
            (&json!(recorded), &json!("read"))
        );
    }
}
