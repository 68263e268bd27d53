//! What an upstream is told of the caller, what it never gets, and what comes back.

use crate::behind::{Behind, READ_AND_UPDATE};
use crate::raw::Connection;
use crate::scene::claims;
use crate::upstream::{OK, Upstream};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_learns_who_calls_and_never_sees_the_token() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let call = behind
        .call(Method::GET, "/api/orders")
        .header("traceparent", traceparent)
        .header("accept-encoding", "br");
    assert_eq!(call.send().await.expect("an answer").status(), 200);
    let seen = behind.upstream.only_request();
    let told = claims(&behind.token);
    assert_eq!(seen.header("x-client-id"), Some("orders-worker"));
    assert_eq!(seen.header("x-system-user"), Some("svc.integration"));
    assert_eq!(seen.header("x-scope"), told["scope"].as_str());
    assert_eq!(seen.header("x-org-code"), Some("acme"));
    assert_eq!(seen.header("x-token-id"), told["jti"].as_str());
    let [call] = &behind.recorded().await[..] else {
        panic!("one event")
    };
    assert_eq!(seen.header("x-session-id"), call.data()["session_id"].as_str());
    assert_eq!(seen.header("traceparent"), Some(traceparent));
    assert_eq!(call.event["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(seen.header("accept-encoding"), Some("br"));
    assert_eq!(seen.header("authorization"), None);
    let upstream = behind.upstream.url.strip_prefix("http://").expect("its address");
    assert_eq!(seen.header("host"), Some(upstream));
    let asked = behind.scene.url.strip_prefix("http://").expect("its address");
    assert_eq!(seen.header("x-forwarded-host"), Some(asked));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("via"), Some("1.1 grantlog"));
    assert!(!seen.head.contains(&behind.token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_cannot_say_who_it_is() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let forged = [
        "X-Client-Id: admin",
        "x-client-id: admin",
        "X_Client_Id: admin",
        "X-SYSTEM-USER: admin",
        "X_SYSTEM_USER: admin",
        "X-Scope: admin",
        "x_scope: admin",
        "X-Org-Code: admin",
        "X-Org_Code: admin",
        "X-Session-Id: admin",
        "X-Token-Id: admin",
        "X-Forwarded-For: admin",
        "X-Forwarded-Proto: admin",
        "X-Forwarded-Host: admin",
        "Forwarded: for=admin",
        "X-Real-Ip: admin",
        "X-HTTP-Method-Override: admin",
        "X-Original-URL: /admin",
        "X-Rewrite-Url: /admin",
        "Proxy: http://admin",
        "CF-Connecting-IP: admin",
        "X-Envoy-External-Address: admin",
        "Remote_User: admin",
        "X-Remote-User: admin",
        "X-Auth-Request-Email: admin",
        "Remote-Groups: admin",
        "Client-Cert: :admin:",
        "SSL_CLIENT_VERIFY: admin",
        "X-Authentik-Username: admin",
        "Cf-Access-Authenticated-User-Email: admin",
        "X-Envoy-Original-Path: /admin",
        // Whoever has these removed by name would be nobody at the upstream.
        "Connection: x-client-id, x-org-code, x-scope, x-forwarded-for, host",
    ];
    let mut connection = Connection::to(&behind.scene.url);
    let answer = connection.send(&behind.head("GET /api/orders", &forged)).receive();
    assert_eq!(answer.expect("an answer").status, 200);
    let seen = behind.upstream.only_request();
    assert!(!seen.head.contains("admin"), "{}", seen.head);
    assert_eq!(seen.header("x-client-id"), Some("orders-worker"));
    assert_eq!(seen.header("x-org-code"), Some("acme"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(seen.header("host").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxys_word_about_the_way_goes_on() {
    let upstream = Upstream::answering(OK).await;
    let config = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n".to_owned()
        + &crate::behind::route(&upstream.url, "", READ_AND_UPDATE);
    let behind = Behind::with_config(upstream, &config).await;
    let said = [
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example.com",
    ];
    let answer = Connection::to(&behind.scene.url)
        .send(&behind.head("GET /api/orders", &said))
        .receive();
    assert_eq!(answer.expect("an answer").status, 200);
    let seen = behind.upstream.only_request();
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example.com"));
    assert_eq!(behind.recorded().await[0].event["source"]["ip"], "203.0.113.9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_the_next_server_alone_stays_here_both_ways() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-End: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                  Content-Length: 2\r\n\r\nok";
    let behind = Behind::of(Upstream::answering(answer).await).await;
    let given = [
        "Connection: keep-alive, X-Hop, upgrade",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: x-trailer",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "X-End: 1",
    ];
    let mut connection = Connection::to(&behind.scene.url);
    let answer = connection.send(&behind.head("GET /api/orders", &given)).receive();
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    let seen = behind.upstream.only_request();
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(seen.all(name), [""; 0], "{name}");
    }
    assert_eq!(seen.header("x-end"), Some("1"));
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-end"), Some("1"));
    assert_eq!(
        answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_goes_on_where_the_route_says_so() {
    let behind = Behind::with(Upstream::answering(OK).await, "forward_token = true", READ_AND_UPDATE).await;
    let call = behind.call(Method::GET, "/api/orders").send();
    assert_eq!(call.await.expect("an answer").status(), 200);
    let token = format!("Bearer {}", behind.token);
    assert_eq!(
        behind.upstream.only_request().header("authorization"),
        Some(token.as_str())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    for (answer, length) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n", Some("1234")),
        ("HTTP/1.1 200 OK\r\n\r\n", Some("0")),
        (
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 9\r\n\r\n",
            Some("9"),
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
    ] {
        let behind = Behind::of(Upstream::answering(answer).await).await;
        let mut connection = Connection::to(&behind.scene.url);
        // A second request shows that nothing is left of the first answer.
        connection.send(&behind.head("HEAD /api/orders", &[]));
        let first = connection.receive_head().expect("an answer");
        assert_eq!(first.header("content-length"), length, "{answer}");
        connection.send(&behind.head("HEAD /api/orders", &[]));
        assert_eq!(connection.receive_head().expect("another").status, first.status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_waits_for_leave_to_send_its_body_gets_it() {
    let behind = Behind::of(Upstream::answering(OK).await).await;
    let mut connection = Connection::to(&behind.scene.url);
    connection.send(&behind.head("POST /api/orders", &["Expect: 100-continue", "Content-Length: 3"]));
    assert_eq!(connection.receive().expect("leave").status, 100);
    assert_eq!(connection.send(b"abc").receive().expect("an answer").status, 200);
    let seen = behind.upstream.only_request();
    assert_eq!(seen.header("expect"), None);
    assert_eq!(
        (seen.header("content-length"), &seen.body[..]),
        (Some("3"), &b"abc"[..])
    );
}
