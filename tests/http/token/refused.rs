//! The error table, row by row, at every endpoint: status, code, description, headers, and the event.

use super::{Ask, Endpoint, basic};
use crate::scene::{Answer, Application, Scene};
use grantlog::oauth::{Dialect, OAuthError};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// One wrong request and what comes of it.
struct Row {
    ask: Ask,
    status: u16,
    code: &'static str,
    description: String,
    /// The true reason, in the event.
    reason: &'static str,
    /// The client that the event names.
    client_id: Option<String>,
}

struct Rows {
    scene: Scene,
    rows: Vec<Row>,
}

impl Rows {
    async fn new() -> Self {
        let scene = Scene::start().await;
        scene.register_api("https://orders", json!({})).await;
        scene
            .register_api("https://defines", json!({"scopes": [{"name": "read"}]}))
            .await;
        Self {
            scene,
            rows: Vec::new(),
        }
    }

    async fn application(&self, name: &str, more: Value) -> Application {
        let mut attributes = json!({"audiences": ["https://orders", "https://defines"]});
        crate::scene::merge(&mut attributes, more);
        self.scene.register(name, attributes).await
    }

    fn row(
        &mut self,
        ask: Ask,
        (status, code): (u16, &'static str),
        description: &str,
        reason: &'static str,
        client_id: Option<&str>,
    ) {
        self.rows.push(Row {
            ask,
            status,
            code,
            description: description.to_owned(),
            reason,
            client_id: client_id.map(str::to_owned),
        });
    }

    /// Sends each request and holds the answer, and the one event that it left, against the row.
    async fn check(self) {
        let Self { scene, rows } = self;
        let mut log_size = scene.log_size().await;
        for row in rows {
            let what = format!("{} at {:?}", row.reason, row.ask.endpoint());
            let answer = row
                .ask
                .clone()
                .header("user-agent", b"row/1")
                .send(&scene.http, &scene.url)
                .await;
            check_answer(&answer, &row, &scene.url, &what);

            let events = scene.log_from(log_size).await;
            assert_eq!(events.len(), 1, "{what}: {events:?}");
            log_size += 1;
            let (event, data) = (&events[0].event, events[0].data());
            assert_eq!(events[0].kind(), "TokenRefused", "{what}");
            assert_eq!(data["reason"], row.reason, "{what}");
            assert_eq!(data["error"], row.code, "{what}");
            assert_eq!(data["dialect"], row.ask.endpoint().dialect(), "{what}");
            assert_eq!(data["client_id"], json!(row.client_id), "{what}");
            assert_eq!(
                event["source"],
                json!({"ip": "127.0.0.1", "user_agent": "row/1"}),
                "{what}"
            );
            let application_id = data["application_id"].as_str();
            assert_eq!(
                event["stream"].as_str(),
                Some(&*format!("token-requests-{}", application_id.unwrap_or("unknown"))),
                "{what}"
            );
        }
    }
}

fn check_answer(answer: &Answer, row: &Row, issuer: &str, what: &str) {
    let endpoint = row.ask.endpoint();
    assert_eq!(answer.status.as_u16(), row.status, "{what}: {}", answer.body);
    assert_eq!(answer.json(), endpoint.refusal(row.code, &row.description), "{what}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    assert_eq!(answer.header("pragma"), Some("no-cache"), "{what}");
    let challenge = format!("Basic realm=\"{issuer}\"");
    let expected = (row.status == 401).then_some(challenge.as_str());
    assert_eq!(answer.header("www-authenticate"), expected, "{what}");
    assert_eq!(answer.header("retry-after"), None, "{what}");
}

const INVALID_REQUEST: (u16, &str) = (400, "invalid_request");

#[tokio::test]
async fn requests_that_cannot_be_read() {
    let mut rows = Rows::new().await;
    let application = rows.application("reader", json!({})).await;
    let (id, secret) = (application.client_id.as_str(), application.client_secret.as_str());
    for endpoint in Endpoint::ALL {
        let good = || Ask::at(endpoint, id, secret);
        let is_json = endpoint == Endpoint::Json;

        if endpoint != Endpoint::FormAtJson {
            let wanted = if is_json {
                "application/json"
            } else {
                "application/x-www-form-urlencoded"
            };
            let description = format!("Content-Type must be {wanted}");
            let mut wrong = vec![
                None,
                Some("text/plain"),
                Some("multipart/form-data; boundary=x"),
                Some(""),
            ];
            if !is_json {
                wrong.push(Some("application/json"));
            }
            for content_type in wrong {
                let ask = good().content_type(content_type);
                rows.row(ask, INVALID_REQUEST, &description, "unsupported_content_type", None);
            }
        }

        let named = |name: &'static str| match (is_json, name) {
            (true, "grant_type") => "grantType",
            (true, "client_secret") => "clientSecret",
            _ => name,
        };
        for name in ["grant_type", "client_secret", "scope", "audience", "something_else"] {
            let ask = good().without(name).with(name, "a").with(name, "a");
            let description = format!("Duplicate parameter: {}", named(name));
            rows.row(ask, INVALID_REQUEST, &description, "duplicate_parameter", Some(id));
        }
        let ask = good().with("a\"b\\cé", "1").with("a\"b\\cé", "2");
        rows.row(
            ask,
            INVALID_REQUEST,
            "Duplicate parameter: a?b?c?",
            "duplicate_parameter",
            Some(id),
        );

        let bodies: Vec<(&[u8], Option<&str>)> = if is_json {
            vec![
                (b"", None),
                (b"null", None),
                (b"[]", None),
                (b"{", None),
                (b"{} {}", None),
                (br#"{"clientId": "c", "grantType": 7}"#, Some("c")),
                (br#"{"clientId": "c", "clientSecret": {}}"#, Some("c")),
                (b"{\"clientId\": \"c\", \"scope\": \"\xff\"}", None),
                (br#"{"clientId": "c", "scope": "a\u0000b"}"#, Some("c")),
                (br#"{"clientId": "c", "scope": "\ud800"}"#, Some("c")),
            ]
        } else {
            vec![
                (b"client_id=c&scope=%", Some("c")),
                (b"client_id=c&scope=%zz", Some("c")),
                (b"client_id=c&scope=%ff", Some("c")),
                (b"client_id=c&scope=\xc3\x28", Some("c")),
                (b"client_id=c&scope=a%00b", Some("c")),
                (b"client_id=c&scope=a%0d%0aSet-Cookie:%20x=y", Some("c")),
                (b"client_id=c&%0a=1", Some("c")),
                (b"{\"client_id\": \"c\"}\x01", None),
            ]
        };
        for (body, client_id) in bodies {
            let ask = good().body(body);
            rows.row(ask, INVALID_REQUEST, "Malformed request body", "malformed", client_id);
        }
        let many: String = (0..65).map(|number| format!("p{number}=&")).collect();
        if !is_json {
            rows.row(
                good().body(many),
                INVALID_REQUEST,
                "Malformed request body",
                "malformed",
                None,
            );
        }

        let too_large = vec![b'a'; 64 * 1024 + 1];
        rows.row(
            good().body(too_large),
            (413, "invalid_request"),
            "Request body is too large",
            "body_too_large",
            None,
        );
    }
    rows.check().await;
}

#[tokio::test]
async fn requests_for_another_grant_or_without_credentials() {
    let mut rows = Rows::new().await;
    let application = rows.application("asker", json!({})).await;
    let (id, secret) = (application.client_id.as_str(), application.client_secret.as_str());
    for endpoint in Endpoint::ALL {
        let good = || Ask::at(endpoint, id, secret);

        for ask in [good().without("grant_type"), good().instead("grant_type", "")] {
            rows.row(
                ask,
                INVALID_REQUEST,
                "Missing grant_type",
                "missing_grant_type",
                Some(id),
            );
        }

        let unsupported = if endpoint == Endpoint::Audience {
            "invalid_request"
        } else {
            "unsupported_grant_type"
        };
        for (grant_type, shown) in [
            ("password", "password"),
            ("Client_Credentials", "Client_Credentials"),
            ("client_credentials ", "client_credentials "),
            ("<script>\"é\\", "<script>???"),
        ] {
            let description = format!("Unsupported grant type: {shown}");
            let ask = good().instead("grant_type", grant_type);
            rows.row(
                ask,
                (400, unsupported),
                &description,
                "unsupported_grant_type",
                Some(id),
            );
        }
        let long = format!("Unsupported grant type: {}...", "x".repeat(125));
        let ask = good().instead("grant_type", &"x".repeat(10_000));
        rows.row(ask, (400, unsupported), &long, "unsupported_grant_type", Some(id));

        let several = "Use one client authentication method";
        let header = basic(id, secret);
        let reason = "several_authentication_methods";
        let twice = good().header("authorization", header.as_bytes());
        rows.row(twice.clone(), INVALID_REQUEST, several, reason, Some(id));
        let same_header_twice = good().basic().header("authorization", header.as_bytes());
        rows.row(same_header_twice, INVALID_REQUEST, several, reason, None);
        let of_another = good().basic().with("client_id", "another");
        rows.row(of_another, INVALID_REQUEST, several, reason, Some(id));
        rows.row(
            good().header("authorization", b"Bearer abc"),
            INVALID_REQUEST,
            several,
            reason,
            Some(id),
        );
        if endpoint != Endpoint::Json {
            let assertion = good().with("client_assertion", "eyJ");
            rows.row(assertion, INVALID_REQUEST, several, reason, Some(id));
        }

        let invalid = (400, "invalid_grant");
        let description = "Client credentials are invalid or missing";
        let bare = || good().without("client_id").without("client_secret");
        let unreadable: [&[u8]; 9] = [
            b"Basic",
            b"Basic ",
            b"Basic !!!",
            b"Basic bm9jb2xvbg==",
            b"Basic /w==",
            b"Bearer abc",
            b"Digest username=\"a\"",
            b"\xff\xfe",
            b"Basic YTolenp6", // a:%zz
        ];
        for header in unreadable {
            let ask = bare().header("authorization", header);
            rows.row(ask, invalid, description, "unreadable_authorization", None);
        }
        rows.row(
            good().instead("client_id", ""),
            invalid,
            description,
            "empty_credentials",
            None,
        );
        rows.row(
            good().instead("client_secret", ""),
            invalid,
            description,
            "empty_credentials",
            Some(id),
        );
        rows.row(
            bare().header("authorization", basic("", secret).as_bytes()),
            invalid,
            description,
            "empty_credentials",
            None,
        );
        rows.row(
            bare().header("authorization", basic(id, "").as_bytes()),
            invalid,
            description,
            "empty_credentials",
            Some(id),
        );

        rows.row(
            good().without("client_id"),
            INVALID_REQUEST,
            "Missing client_id",
            "missing_client_id",
            None,
        );
        rows.row(bare(), INVALID_REQUEST, "Missing client_id", "missing_client_id", None);
        rows.row(
            good().without("client_secret"),
            INVALID_REQUEST,
            "Missing client_secret",
            "missing_client_secret",
            Some(id),
        );

        if endpoint == Endpoint::Audience {
            for ask in [
                good().without("audience"),
                good().instead("audience", ""),
                good().instead("audience", "  "),
            ] {
                rows.row(ask, INVALID_REQUEST, "Missing audience", "missing_audience", Some(id));
            }
        }
    }
    rows.check().await;
}

#[tokio::test]
async fn clients_that_are_not_who_they_should_be_get_one_answer_for_every_reason() {
    let mut rows = Rows::new().await;
    let good = rows.application("good", json!({})).await;
    let disabled = rows.application("disabled", json!({"is_enabled": false})).await;
    let public = rows.application("public", json!({"client_type": "Public"})).await;
    let elsewhere = rows
        .application(
            "elsewhere",
            json!({"allowed_networks": ["10.0.0.0/8", "2001:db8::/32"]}),
        )
        .await;
    let expired = rows
        .application("expired", json!({"secret_expires_in_seconds": 1}))
        .await;
    let revoked = rows.application("revoked", json!({})).await;
    let deleted = rows.application("deleted", json!({})).await;
    let scene = &rows.scene;
    let path = format!("{}/secrets/{}", revoked.path(), revoked.secret_id);
    let (status, _) = scene.administer(Method::DELETE, &path, json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = scene.administer(Method::DELETE, &deleted.path(), json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;

    let wrong = "gls_not-the-secret";
    for endpoint in Endpoint::ALL {
        for (id, secret, reason) in [
            ("nobody", wrong, "unknown_client"),
            ("GOOD", good.client_secret.as_str(), "unknown_client"),
            ("good", wrong, "secret_mismatch"),
            ("good", &good.client_secret[..52], "secret_mismatch"),
            ("disabled", &disabled.client_secret, "disabled"),
            ("disabled", wrong, "secret_mismatch"),
            (&public.client_id, wrong, "public_client"),
            ("elsewhere", &elsewhere.client_secret, "network_not_allowed"),
            ("expired", &expired.client_secret, "secret_expired"),
            ("revoked", &revoked.client_secret, "secret_revoked"),
            ("deleted", &deleted.client_secret, "deleted"),
        ] {
            for ask in [Ask::at(endpoint, id, secret), Ask::at(endpoint, id, secret).basic()] {
                let description = "Invalid client_id or client_secret";
                rows.row(ask, (401, "invalid_client"), description, reason, Some(id));
            }
        }
    }
    rows.check().await;
}

#[tokio::test]
async fn clients_that_ask_for_what_they_may_not_have() {
    let mut rows = Rows::new().await;
    let good = rows.application("good", json!({})).await;
    let none = rows.application("no-system-user", json!({"system_user": null})).await;
    let forbidden = rows
        .application("not-allowed", json!({"system_user_allowed": false}))
        .await;
    for endpoint in Endpoint::ALL {
        let ask = || Ask::at(endpoint, "good", &good.client_secret);
        for application in [&none, &forbidden] {
            let id = application.client_id.as_str();
            rows.row(
                Ask::at(endpoint, id, &application.client_secret),
                (400, "unauthorized_client"),
                "The client is not authorized to use this grant type",
                "system_user_not_allowed",
                Some(id),
            );
        }

        let own = rows.scene.url.clone();
        for audience in ["https://nowhere", "https://orders/", own.as_str()] {
            let description = format!("The client is not authorized for the audience: {audience}");
            let refused = (400, "unauthorized_client");
            let alone = ask().instead("audience", audience);
            rows.row(alone, refused, &description, "audience_not_authorized", Some("good"));
            let second = ask().instead("audience", &format!("https://orders {audience}"));
            rows.row(second, refused, &description, "audience_not_authorized", Some("good"));
            if endpoint != Endpoint::Json {
                let resource = ask().with("resource", "https://orders").with("resource", audience);
                let refused = (400, "invalid_target");
                rows.row(resource, refused, &description, "audience_not_authorized", Some("good"));
            }
        }

        for (scope, shown) in [
            ("read admin", "admin"),
            ("admin delete", "admin delete"),
            ("openid READ", "READ"),
            ("\"quoted\" \\", "?quoted? ?"),
        ] {
            let description = format!("Invalid scope: {shown}");
            let refused = (400, "invalid_scope");
            rows.row(
                ask().with("scope", scope),
                refused,
                &description,
                "scope_not_allowed",
                Some("good"),
            );
        }
        let limited = ask()
            .instead("audience", "https://defines")
            .with("scope", "read update");
        rows.row(
            limited,
            (400, "invalid_scope"),
            "Invalid scope: update",
            "scope_not_allowed",
            Some("good"),
        );
    }
    rows.check().await;
}

#[tokio::test]
async fn of_two_errors_the_earlier_row_of_the_table_is_told() {
    let mut rows = Rows::new().await;
    let good = rows.application("good", json!({})).await;
    let (id, secret) = ("good", good.client_secret.as_str());
    for endpoint in [Endpoint::Connect, Endpoint::Audience] {
        let wrong_everything = || {
            Ask::at(endpoint, id, "wrong")
                .instead("grant_type", "password")
                .with("scope", "admin")
                .header("authorization", b"Basic !!!")
        };
        let ask = wrong_everything()
            .with("x", "")
            .with("x", "")
            .content_type(Some("text/plain"));
        let form = "Content-Type must be application/x-www-form-urlencoded";
        rows.row(ask, INVALID_REQUEST, form, "unsupported_content_type", None);
        let ask = wrong_everything().with("x", "").with("x", "");
        rows.row(
            ask,
            INVALID_REQUEST,
            "Duplicate parameter: x",
            "duplicate_parameter",
            Some(id),
        );
        let ask = wrong_everything().without("grant_type");
        rows.row(
            ask,
            INVALID_REQUEST,
            "Missing grant_type",
            "missing_grant_type",
            Some(id),
        );
        let code = if endpoint == Endpoint::Audience {
            "invalid_request"
        } else {
            "unsupported_grant_type"
        };
        let description = "Unsupported grant type: password";
        rows.row(
            wrong_everything(),
            (400, code),
            description,
            "unsupported_grant_type",
            Some(id),
        );
        let ask = wrong_everything().instead("grant_type", "client_credentials");
        let several = "Use one client authentication method";
        rows.row(
            ask,
            INVALID_REQUEST,
            several,
            "several_authentication_methods",
            Some(id),
        );
        let ask = Ask::at(endpoint, "", "wrong")
            .without("audience")
            .without("client_secret");
        let description = "Client credentials are invalid or missing";
        rows.row(ask, (400, "invalid_grant"), description, "empty_credentials", None);
    }
    let ask = Ask::at(Endpoint::Audience, id, "wrong").without("audience");
    rows.row(ask, INVALID_REQUEST, "Missing audience", "missing_audience", Some(id));
    let ask = Ask::at(Endpoint::Connect, id, "wrong")
        .with("scope", "admin")
        .with("audience", "https://nowhere");
    let description = "Invalid client_id or client_secret";
    rows.row(ask, (401, "invalid_client"), description, "secret_mismatch", Some(id));
    let ask = Ask::at(Endpoint::Connect, id, secret)
        .with("scope", "admin")
        .with("audience", "https://nowhere");
    let description = "The client is not authorized for the audience: https://nowhere";
    rows.row(
        ask,
        (400, "unauthorized_client"),
        description,
        "audience_not_authorized",
        Some(id),
    );
    rows.check().await;
}

#[tokio::test]
async fn other_methods_than_post_are_answered_405_with_allow_and_leave_no_event() {
    let scene = Scene::start().await;
    let before = scene.log_size().await;
    for endpoint in [
        Endpoint::Connect,
        Endpoint::IdConnect,
        Endpoint::Audience,
        Endpoint::Json,
    ] {
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = scene
                .http
                .request(method.clone(), format!("{}{}", scene.url, endpoint.path()));
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {}",
                endpoint.path()
            );
            assert_eq!(answer.header("allow"), Some("POST"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            if method != Method::HEAD {
                assert_eq!(answer.json(), endpoint.refusal("invalid_request", "Use POST"));
            }
        }
    }
    assert_eq!(scene.log_size().await, before);
}

/// The log that cannot be written has its own tests (`tests/durability`); here it is how that is said.
#[actix_web::test]
async fn a_log_that_cannot_be_written_is_503_with_retry_after_in_every_dialect() {
    let error = OAuthError::TemporarilyUnavailable { retry_after_seconds: 7 };
    for (dialect, body) in [
        (Dialect::Standard, json!({"error": "temporarily_unavailable"})),
        (Dialect::Audience, json!({"error": "temporarily_unavailable"})),
        (
            Dialect::Json,
            json!({"isSuccess": false, "error": {"code": "temporarily_unavailable", "message": ""}}),
        ),
    ] {
        let response = grantlog::http::problem::token_error(dialect, &error, "https://id.example.com");
        assert_eq!(response.status().as_u16(), 503);
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(header("retry-after").as_deref(), Some("7"));
        assert_eq!(header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(header("www-authenticate"), None);
        let bytes = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), body);
    }
}
