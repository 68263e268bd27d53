//! The path that is authorized is the path that the upstream gets.

use crate::behind::{Behind, route};
use crate::raw::Connection;
use crate::upstream::{OK, Upstream};
use serde_json::json;

const ORDERS_ARE_SECRET: &str = r#"
[[gateway.rule]]
path = "/orders/**"
scope = "orders:secret"
[[gateway.rule]]
path = "/**"
scope = "read"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_could_mean_another_is_refused_and_on_the_record() {
    let behind = Behind::with(Upstream::answering(OK).await, "", ORDERS_ARE_SECRET).await;
    let tricks = [
        "/api/x/../orders/1",
        "/api/x/..%2forders/1",
        "/api/x/%2e%2e/orders/1",
        "/api/x/%2E%2e/orders/1",
        "/api/x/.%2e/orders/1",
        "/api/./orders/1",
        "/api/%2e/orders/1",
        "/api//orders/1",
        "/api/x//../orders/1",
        "/api/orders%2f1",
        "/api/%5corders",
        "/api/\\orders",
        "/api/x/..\\orders",
        "/api/x/..%5corders",
        "/api/x/..;/orders/1",
        "/api/x/..;a=b/orders/1",
        "/api/orders;a=b/1",
        "/api/orders%3b/1",
        "/api/%00/orders",
        "/api/orders%00",
        "/api/orders%0d%0ax:y",
        "/api/x/%c0%ae%c0%ae/orders",
        "/api/x/%252e%252e/orders",
        "/api/x%252forders",
        "/api/x/.../orders",
        "/api/x/..%20/orders",
        "/api/%zz",
        "/api/%",
    ];
    for path in tricks {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head(&format!("GET {path}"), &[])).receive();
        let answer = answer.unwrap_or_else(|| panic!("no answer to {path}"));
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
    }
    assert!(
        behind.upstream.received().is_empty(),
        "{:?}",
        behind.upstream.request_lines()
    );
    let recorded = behind.recorded().await;
    // All but those that are no HTTP.
    assert!(recorded.len() >= tricks.len() - 2, "{}", recorded.len());
    for call in &recorded {
        let (error, reason) = (&call.data()["error"], &call.data()["reason"]);
        assert_eq!((error, reason), (&json!("ambiguous_request"), &json!("ambiguous_path")));
    }
    // Without a token that is all there is to say.
    let answer = Connection::to(&behind.scene.url)
        .send(b"GET /api/x/../orders HTTP/1.1\r\nhost: h\r\n\r\n")
        .receive();
    assert_eq!(answer.expect("an answer").status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_by_another_name_meets_the_same_rule() {
    let behind = Behind::with(Upstream::answering(OK).await, "", ORDERS_ARE_SECRET).await;
    for path in [
        "/api/orders/1",
        "/api/orders",
        "/api/orders/",
        "/api/%6Frders/1",
        "/api/order%73/",
    ] {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head(&format!("GET {path}"), &[])).receive();
        assert_eq!(answer.expect("an answer").status, 403, "{path}");
    }
    assert!(behind.upstream.received().is_empty());
}

/// To an upstream that takes upper and lower case for the same, it is the path that the rule was written for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_letters_do_not_pass_by_the_rule_of_an_organisation() {
    let rules = r#"
[[gateway.rule]]
path = "/tenants/{org_code}/**"
scope = "read"
[[gateway.rule]]
path = "/**"
scope = "read"
"#;
    let behind = Behind::with(Upstream::answering(OK).await, "", rules).await;
    for (path, status) in [
        ("/api/Tenants/umbrella/orders", 400),
        ("/api/tenant%53/umbrella/orders", 400),
        ("/api/TENANTS/acme", 400),
        ("/api/tenants/umbrella/orders", 403),
        ("/api/tenants/acme/orders", 200),
        ("/api/orders", 200),
    ] {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head(&format!("GET {path}"), &[])).receive();
        assert_eq!(answer.expect("an answer").status, status, "{path}");
    }
    assert_eq!(behind.upstream.requests().len(), 2);
    let recorded = behind.recorded().await;
    let ambiguous = recorded.iter().filter(|call| call.data()["reason"] == "ambiguous_path");
    assert_eq!(ambiguous.count(), 3);
}

/// To many an upstream it is the other route's path, which asks for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_spelling_of_a_prefix_does_not_pass_by_its_route() {
    let upstream = Upstream::answering(OK).await;
    let rule = |scope: &str| format!("[[gateway.rule]]\nscope = \"{scope}\"\n");
    let inner = route(&upstream.url, "", &rule("delete")).replace("\"/api\"", "\"/api/secret\"");
    let config = route(&upstream.url, "", &rule("read")) + &inner;
    let behind = Behind::with_config(upstream, &config).await;
    let others = [
        "/api/%73ecret/x",
        "/api/%2573ecret/x",
        "/api/Secret/x",
        "/api/SECRET",
        "/api/secret;a/x",
        "/api/secret%3Ba/x",
        "/api/secret./x",
        "/api/secret%20/x",
        "/api/%C5%BFecret/x",
    ];
    for path in others {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head(&format!("GET {path}"), &[])).receive();
        let answer = answer.unwrap_or_else(|| panic!("no answer to {path}"));
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert!(answer.body.contains("urn:grantlog:problem:ambiguous_request"), "{path}");
    }
    assert!(
        behind.upstream.received().is_empty(),
        "{:?}",
        behind.upstream.request_lines()
    );
    let recorded = behind.recorded().await;
    assert_eq!(recorded.len(), others.len());
    for (call, path) in recorded.iter().zip(others) {
        let (reason, recorded) = (&call.data()["reason"], &call.data()["path"]);
        assert_eq!((reason, recorded), (&json!("ambiguous_path"), &json!(path)));
    }
    for (path, status) in [
        ("/api/secret/x", 403),
        ("/api/secrets", 200),
        ("/api/x/secret", 200),
        // What is no spelling of it goes on, as everywhere.
        ("/api/files/Inc.", 200),
        ("/api/cars;color=red", 200),
        ("/api/100%25", 200),
        // The route's own prefix is read as it stands.
        ("/%61pi/secret/x", 404),
        ("/Api/secret/x", 404),
    ] {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head(&format!("GET {path}"), &[])).receive();
        assert_eq!(answer.expect("an answer").status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_in_its_absolute_form_is_no_way_to_another_host() {
    let behind = Behind::with(Upstream::answering(OK).await, "", ORDERS_ARE_SECRET).await;
    for (target, status) in [
        ("http://attacker.example.com/api/x?y", 200),
        ("http://attacker.example.com/api/orders", 403),
        ("http://attacker.example.com/api/x/../orders", 400),
    ] {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head(&format!("GET {target}"), &[])).receive();
        assert_eq!(answer.expect("an answer").status, status, "{target}");
    }
    let seen = behind.upstream.only_request();
    assert_eq!(seen.line(), "GET /api/x?y HTTP/1.1");
    assert_eq!(seen.header("x-forwarded-host"), Some("attacker.example.com"));
    assert_ne!(seen.header("host"), Some("attacker.example.com"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_call_of_an_api_is_not_handed_on() {
    let rules = "[[gateway.rule]]\nscope = \"read\"\n";
    let behind = Behind::with(Upstream::answering(OK).await, "max_body_bytes = 10", rules).await;
    let websocket = ["Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    let one_of_two = ["Connection: upgrade", "Upgrade: foo/2, WebSocket"];
    let in_two_fields = ["Connection: upgrade", "Upgrade: foo", "Upgrade: websocket"];
    let too_large = ["Content-Length: 11"];
    let refused = [
        ("TRACE /api/x", &[][..], 501, "method_not_implemented"),
        ("GET /api/x", &websocket[..], 501, "upgrade_not_implemented"),
        ("GET /api/x", &one_of_two[..], 501, "upgrade_not_implemented"),
        ("GET /api/x", &in_two_fields[..], 501, "upgrade_not_implemented"),
        ("POST /api/x", &too_large[..], 413, "body_too_large"),
    ];
    for (line, headers, status, kind) in refused {
        let mut connection = Connection::to(&behind.scene.url);
        let answer = connection.send(&behind.head(line, headers)).receive();
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, status, "{line} {headers:?}");
        assert!(
            answer.body.contains(&format!("urn:grantlog:problem:{kind}")),
            "{}",
            answer.body
        );
    }
    // The record has what the caller was told.
    let recorded = behind.recorded().await;
    assert_eq!(recorded.len(), refused.len());
    for (call, (line, headers, _, kind)) in recorded.iter().zip(refused) {
        assert_eq!(call.kind(), "ApiCallDenied");
        let (error, reason) = (&call.data()["error"], &call.data()["reason"]);
        assert_eq!((error, reason), (&json!(kind), &json!(kind)), "{line} {headers:?}");
        assert_eq!(call.event["actor"], "orders-worker");
    }
    let mut connection = Connection::to(&behind.scene.url);
    let answer = connection.send(&behind.head("OPTIONS *", &[])).receive();
    assert_eq!(answer.expect("an answer").status, 404);
    // Authority form: no path, so no route, so no tunnel.
    let mut connection = Connection::to(&behind.scene.url);
    let answer = connection.send(&behind.head("CONNECT 127.0.0.1:22", &[])).receive();
    assert!(answer.is_none_or(|answer| answer.status >= 400));
    assert!(behind.upstream.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_behind_an_upgrade_is_not_another_request() {
    let behind = Behind::with(
        Upstream::answering(OK).await,
        "",
        "[[gateway.rule]]\nscope = \"read\"\n",
    )
    .await;
    let hidden = behind.head("GET /api/hidden", &[]);
    let length = format!("Content-Length: {}", hidden.len());
    let mut connection = Connection::to(&behind.scene.url);
    let upgrade = ["Connection: upgrade", "Upgrade: websocket", &length];
    connection.send(&[behind.head("POST /api/x", &upgrade), hidden].concat());
    assert_eq!(connection.receive().expect("an answer").status, 501);
    assert!(connection.receive().is_none(), "nothing more is answered");
    assert!(behind.upstream.received().is_empty());
}
