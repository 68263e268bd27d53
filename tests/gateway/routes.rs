//! Which calls pass, to where, with which scope.

use crate::behind::{AUDIENCE, Behind, READ_AND_UPDATE, route};
use crate::running_server::Start;
use crate::scene::Answer;
use crate::upstream::{OK, Upstream};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_the_scope_reaches_the_upstream_with_path_and_query_as_they_were() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let path = "/api/domain/odata/Crm_Sales_Customers?$top=10&$filter=Name%20eq%20%27a%2Fb%27";
    let answer = behind.call(Method::GET, path).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.expect("a body"), "ok");
    assert_eq!(behind.upstream.only_request().line(), format!("GET {path} HTTP/1.1"));
    let [call] = &behind.recorded().await[..] else {
        panic!("one event")
    };
    assert_eq!(call.kind(), "ApiCallAuthorized");
    assert_eq!(call.data()["method"], "GET");
    assert_eq!(call.data()["path"], "/api/domain/odata/Crm_Sales_Customers");
    assert_eq!(call.data()["audience"], AUDIENCE);
    assert_eq!(call.data()["required_scope"], "read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_needs_its_scope_and_a_refusal_never_reaches_the_upstream() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let reader = behind.scene.token(&behind.application, &[("scope", "read")]).await;
    let with = |token: &str, method| behind.scene.with_token(token, method, "/api/orders").send();

    let refused = Answer::of(with(&reader, Method::POST).await.expect("an answer")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let realm = format!("Bearer realm=\"{}\"", behind.scene.url);
    assert_eq!(
        refused.header("www-authenticate").expect("a challenge"),
        format!("{realm}, error=\"insufficient_scope\", scope=\"update\"")
    );
    let refused = Answer::of(with("nonsense", Method::GET).await.expect("an answer")).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(
        refused
            .header("www-authenticate")
            .expect("a challenge")
            .contains("invalid_token")
    );
    let without = behind.scene.http.get(format!("{}/api/orders", behind.scene.url)).send();
    let refused = Answer::of(without.await.expect("an answer")).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header("www-authenticate"), Some(realm.as_str()));
    assert!(behind.upstream.received().is_empty(), "not even a connection");

    assert_eq!(with(&reader, Method::GET).await.expect("an answer").status(), 200);
    assert_eq!(
        with(&behind.token, Method::DELETE).await.expect("an answer").status(),
        200
    );
    let reasons: Vec<_> = behind
        .recorded()
        .await
        .iter()
        .map(|call| call.data()["reason"].as_str().unwrap_or("").to_owned())
        .collect();
    assert_eq!(
        reasons,
        ["insufficient_scope", "malformed_token", "missing_token", "", ""]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_is_for_is_denied_and_on_the_record() {
    let rules = "[[gateway.rule]]\nmethods = [\"GET\"]\npath = \"/orders/*\"\nscope = \"read\"\n";
    let behind = Behind::with(Upstream::answering(OK).await, "", rules).await;
    let status = |method, path| {
        let call = behind.call(method, path).send();
        async { call.await.expect("an answer").status().as_u16() }
    };
    assert_eq!(status(Method::GET, "/api/orders/7").await, 200);
    for (method, path) in [
        (Method::GET, "/api/orders"),
        (Method::GET, "/api"),
        (Method::GET, "/api/orders/7/lines"),
        (Method::HEAD, "/api/orders/7"),
        (Method::PUT, "/api/orders/7"),
    ] {
        let answer = behind.call(method.clone(), path).send().await.expect("an answer");
        assert_eq!(answer.status(), 403, "{method} {path}");
        if method != Method::HEAD {
            let problem = Answer::of(answer).await.json();
            assert_eq!(problem["type"], "urn:grantlog:problem:no_rule", "{method} {path}");
        }
    }
    assert_eq!(behind.upstream.requests().len(), 1);
    let recorded = behind.recorded().await;
    let denied = recorded.iter().filter(|call| call.data()["reason"] == "no_rule");
    assert_eq!(denied.count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_of_another_organisation_is_denied() {
    let rules = "[[gateway.rule]]\npath = \"/tenants/{org_code}/**\"\nscope = \"read\"\n";
    let behind = Behind::with(Upstream::answering(OK).await, "", rules).await;
    for (path, status) in [
        ("/api/tenants/acme/orders", 200),
        ("/api/tenants/%61cme/orders", 200),
        ("/api/tenants/umbrella/orders", 403),
        ("/api/tenants/ACME/orders", 403),
        // To a server that decodes twice it is acme's.
        ("/api/tenants/%2561cme/orders", 400),
    ] {
        let answer = behind.call(Method::GET, path).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        if status == 403 {
            let problem = Answer::of(answer).await.json();
            assert_eq!(problem["type"], "urn:grantlog:problem:org_mismatch", "{path}");
        }
    }
    let lines = behind.upstream.request_lines();
    assert_eq!(
        lines,
        [
            "GET /api/tenants/%61cme/orders HTTP/1.1",
            "GET /api/tenants/acme/orders HTTP/1.1"
        ]
    );
    let recorded = behind.recorded().await;
    assert_eq!(
        recorded
            .iter()
            .filter(|call| call.data()["reason"] == "org_mismatch")
            .count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_another_audience_does_not_pass() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let elsewhere = behind.scene.register("elsewhere", json!({})).await;
    let token = behind.scene.token(&elsewhere, &[]).await;
    let call = behind.scene.with_token(&token, Method::GET, "/api/orders").send();
    assert_eq!(call.await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(behind.recorded().await[0].data()["reason"], "wrong_audience");
    assert!(behind.upstream.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prefix_goes_and_the_upstreams_own_path_comes_where_the_route_says_so() {
    let upstream = Upstream::answering(OK).await;
    let config = route(
        &format!("{}/base/", upstream.url),
        "strip_prefix = true",
        READ_AND_UPDATE,
    );
    let behind = Behind::with_config(upstream, &config).await;
    for path in ["/api/orders/7?x", "/api", "/api/"] {
        assert_eq!(
            behind.call(Method::GET, path).send().await.expect("an answer").status(),
            200
        );
    }
    let lines = behind.upstream.request_lines();
    assert_eq!(
        lines,
        [
            "GET /base HTTP/1.1",
            "GET /base/ HTTP/1.1",
            "GET /base/orders/7?x HTTP/1.1"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nearest_route_counts_and_beside_them_there_is_nothing() {
    let near = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnear").await;
    let far = Upstream::answering(OK).await;
    let more = route(&near.url, "", READ_AND_UPDATE).replace("\"/api\"", "\"/api/near\"");
    let config = route(&far.url, "", READ_AND_UPDATE) + &more;
    let behind = Behind::with_config(far, &config).await;
    for (path, status, body) in [
        ("/api/orders", 200, Some("ok")),
        ("/api/near/orders", 200, Some("near")),
        ("/api/nearby", 200, Some("ok")),
        ("/apis", 404, None),
        ("/%61pi/orders", 404, None),
        ("//api/orders", 404, None),
    ] {
        let answer = behind.call(Method::GET, path).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        if let Some(body) = body {
            assert_eq!(answer.text().await.expect("a body"), body, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_that_is_the_servers_own_is_refused_at_the_start() {
    for prefix in [
        "/admin",
        "/connect/x",
        "/audit",
        "/id",
        "/token",
        "/.well-known",
        "/health/x",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = route("http://127.0.0.1:9", "", READ_AND_UPDATE).replace("\"/api\"", &format!("{prefix:?}"));
        let started = Start::over(&folder.path().join("data"))
            .with_config(&config)
            .try_start();
        let Err((_, stderr)) = started else {
            panic!("{prefix} was accepted")
        };
        assert!(stderr.contains("gateway.prefix"), "{prefix}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_from_a_caller_is_felt_by_its_next_call() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let status = || {
        let call = behind.call(Method::GET, "/api/orders").send();
        async { call.await.expect("an answer").status().as_u16() }
    };
    assert_eq!(status().await, 200);
    let disable = format!("{}/disable", behind.application.path());
    let (disabled, _) = behind
        .scene
        .administer(Method::POST, &disable, json!({"reason": "test"}))
        .await;
    assert_eq!(disabled, StatusCode::OK);
    assert_eq!(status().await, 401);
    let enable = format!("{}/enable", behind.application.path());
    behind.scene.administer(Method::POST, &enable, json!({})).await;
    assert_eq!(status().await, 200);
    let less = json!({"scope": "DomainApi"});
    let (changed, body) = behind
        .scene
        .administer(Method::PATCH, &behind.application.path(), less)
        .await;
    assert_eq!(changed, StatusCode::OK, "{body}");
    assert_eq!(status().await, 403);
    assert_eq!(behind.upstream.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_is_on_the_record_where_the_route_says_so() {
    let behind = Behind::with(Upstream::answering(OK).await, "record_query = true", READ_AND_UPDATE).await;
    let call = behind.call(Method::GET, "/api/a?$top=10&$skip=5").send();
    assert_eq!(call.await.expect("an answer").status(), 200);
    assert_eq!(behind.recorded().await[0].data()["path"], "/api/a?$top=10&$skip=5");
    // RFC 6750 §2: one method of sending a token. The API may believe the one in the query; the record has neither.
    let call = behind.call(Method::GET, "/api/a?$top=10&access_token=secret").send();
    let answer = Answer::of(call.await.expect("an answer")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["type"], "urn:grantlog:problem:invalid_request");
    let recorded = behind.recorded().await;
    assert_eq!(recorded[1].data()["reason"], "several_tokens");
    assert_eq!(recorded[1].data()["path"], "/api/a?$top=10&access_token");
    // To some servers these are the same.
    let spellings = ["Access_Token=", "access.token=", "access+token=", "a;access_token="];
    for spelling in spellings {
        let call = behind.call(Method::GET, &format!("/api/a?{spelling}secret")).send();
        let status = call.await.expect("an answer").status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{spelling}");
    }
    let recorded = behind.recorded().await;
    assert_eq!(recorded.len(), 2 + spellings.len());
    for call in &recorded[2..] {
        assert_eq!(call.data()["reason"], "several_tokens");
        assert!(!call.event.to_string().contains("secret"), "{}", call.event);
    }
    assert_eq!(behind.upstream.requests().len(), 1);
}
