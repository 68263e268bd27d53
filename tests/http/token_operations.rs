//! Introspection (RFC 7662) and revocation (RFC 7009), as resource servers and clients see them, and what they leave.

use crate::attack_tokens::forge::Forge;
use crate::scene::{Answer, Application, Logged, Scene};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ORDERS: &str = "https://api.test/orders";
const STOCK: &str = "https://api.test/stock";

/// Two APIs, a resource server for the first, and a client that may use both.
struct Stage {
    scene: Scene,
    server: Application,
    client: Application,
}

impl Stage {
    async fn set() -> Self {
        Self::with_config("").await
    }

    async fn with_config(toml: &str) -> Self {
        let scene = Scene::with_config(toml).await;
        for api in [ORDERS, STOCK] {
            scene.register_api(api, json!({})).await;
        }
        let server = scene
            .register("orders.api", json!({"scope": "introspect", "audiences": [ORDERS]}))
            .await;
        let more = json!({"audiences": [ORDERS, STOCK], "org_code": "ACME", "reference_tokens": "AdministratorsOnly"});
        let client = scene.register("orders-worker", more).await;
        Self { scene, server, client }
    }

    async fn post(&self, path: &str, by: &Application, token: &str) -> Answer {
        let form = [("token", token), ("token_type_hint", "access_token")];
        let request = self.scene.http.post(format!("{}{path}", self.scene.url));
        let request = request.basic_auth(&by.client_id, Some(&by.client_secret)).form(&form);
        Answer::of(request.send().await.expect("an answer")).await
    }

    async fn introspect(&self, by: &Application, token: &str) -> Value {
        let answer = self.post("/connect/introspect", by, token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    async fn revoke(&self, by: &Application, token: &str) -> Answer {
        self.post("/connect/revoke", by, token).await
    }

    /// The events since then that are about calls and tokens.
    async fn events_since(&self, index: u64) -> Vec<Logged> {
        self.scene.log_from(index).await
    }

    async fn reference_token(&self) -> (String, String) {
        let path = format!("{}/reference-tokens", self.client.path());
        let body = json!({"description": "nightly import", "scope": "read"});
        let (status, made) = self.scene.administer(Method::POST, &path, body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |name: &str| made[name].as_str().expect(name).to_owned();
        (text("id"), text("reference_token"))
    }
}

fn kinds(events: &[Logged]) -> Vec<&str> {
    events.iter().map(Logged::kind).collect()
}

#[tokio::test]
async fn a_resource_server_learns_of_a_token_for_its_own_api_and_the_question_begins_its_session() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[("scope", "read")]).await;
    let before = stage.scene.log_size().await;
    let told = stage.introspect(&stage.server, &token).await;
    let claims = crate::scene::claims(&token);
    assert_eq!(told["active"], true);
    for claim in [
        "iss",
        "sub",
        "client_id",
        "jti",
        "iat",
        "nbf",
        "exp",
        "client_system_user",
        "org_code",
        "scope",
    ] {
        assert_eq!(told[claim], claims[claim], "{claim} of {told}");
    }
    // Its own API, not the other one that the token is for.
    assert_eq!(told["aud"], json!([ORDERS]));
    assert_eq!(told["token_type"], "Bearer");
    assert_eq!(told["token_kind"], "jwt");

    let events = stage.events_since(before).await;
    assert_eq!(kinds(&events), ["SessionStarted", "ApiCallAuthorized"]);
    let call = &events[1];
    assert_eq!(call.event["actor"], "orders.api");
    assert_eq!(call.data()["via"], "introspection");
    assert_eq!(call.data()["application_uri"], "orders-worker");
    assert_eq!(call.data()["jti"], claims["jti"]);
    assert_eq!(call.data()["audience"], ORDERS);
    assert_eq!(call.data()["session_id"], told["session_id"]);
    assert_eq!(events[0].data()["session_id"], told["session_id"]);

    let again = stage.introspect(&stage.server, &token).await;
    assert_eq!(again["session_id"], told["session_id"]);
    assert_eq!(kinds(&stage.events_since(before + 2).await), ["ApiCallAuthorized"]);
}

#[tokio::test]
async fn a_token_that_opens_nothing_of_the_callers_is_inactive_and_the_record_has_the_true_reason() {
    let stage = Stage::set().await;
    let scene = &stage.scene;
    let for_stock = scene.token(&stage.client, &[("audience", STOCK)]).await;
    let revoked = scene.token(&stage.client, &[]).await;
    assert_eq!(stage.revoke(&stage.client, &revoked).await.status, StatusCode::OK);
    let (signed, signature) = revoked.rsplit_once('.').expect("three parts");
    let (first, rest) = signature.split_at(1);
    let forged = format!("{signed}.{}{rest}", if first == "A" { "B" } else { "A" });
    for (token, reason) in [
        (for_stock.as_str(), "wrong_audience"),
        (&revoked, "token_revoked"),
        (&forged, "bad_signature"),
        ("opaque", "malformed_token"),
        ("glr_000000000000000000000000000000000000000000000", "malformed_token"),
    ] {
        let before = scene.log_size().await;
        assert_eq!(stage.introspect(&stage.server, token).await, json!({"active": false}));
        let events = stage.events_since(before).await;
        assert_eq!(kinds(&events), ["ApiCallDenied"], "{reason}");
        assert_eq!(events[0].data()["reason"], reason);
        assert_eq!(events[0].data()["error"], "inactive");
        assert_eq!(events[0].event["actor"], "orders.api");
    }
    let before = scene.log_size().await;
    let disabled = scene.token(&stage.client, &[]).await;
    scene
        .administer(Method::POST, &format!("{}/disable", stage.client.path()), json!({}))
        .await;
    assert_eq!(
        stage.introspect(&stage.server, &disabled).await,
        json!({"active": false})
    );
    let events = stage.events_since(before).await;
    let last = events.last().expect("an event");
    assert_eq!(last.data()["reason"], "application_disabled");
}

#[tokio::test]
async fn whoever_asks_must_prove_who_it_is_and_have_the_scope() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    let impostor = Application {
        client_secret: "wrong".into(),
        ..stage.server.clone()
    };
    let before = stage.scene.log_size().await;
    let answer = stage.post("/connect/introspect", &impostor, &token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json()["error"], "invalid_client");
    assert!(
        answer
            .header("www-authenticate")
            .is_some_and(|challenge| challenge.starts_with("Basic realm="))
    );
    let answer = stage.post("/connect/introspect", &stage.client, &token).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["error"], "insufficient_scope");
    let nameless = stage.scene.http.post(format!("{}/connect/introspect", stage.scene.url));
    let answer = Answer::of(
        nameless
            .form(&[("token", token.as_str())])
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    assert_eq!(
        (answer.status, answer.json()["error"].as_str()),
        (StatusCode::BAD_REQUEST, Some("invalid_request"))
    );
    let got = Answer::of(
        stage
            .scene
            .http
            .get(format!("{}/connect/introspect", stage.scene.url))
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    assert_eq!(
        (got.status, got.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, Some("POST"))
    );

    let events = stage.events_since(before).await;
    let reasons: Vec<&Value> = events.iter().map(|event| &event.data()["reason"]).collect();
    assert_eq!(reasons, ["secret_mismatch", "insufficient_scope", "malformed_request"]);
    assert_eq!(events[0].event["actor"], "anonymous");
    assert_eq!(events[1].event["actor"], "orders-worker");
    let all = serde_json::to_string(&events.iter().map(|event| &event.event).collect::<Vec<_>>()).expect("JSON");
    assert!(!all.contains(&token), "no event holds the token that was asked about");
}

/// The log tells to the millisecond when a token was made; what is told of it is what it says itself.
#[tokio::test]
async fn a_resource_server_is_told_the_times_that_the_token_says() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    let forge = Forge::of(&stage.scene, &token).await;
    let (iat, nbf) = (forge.now() - 100, forge.now() - 50);
    let other = forge.with_claims(|claims| {
        claims["iat"] = json!(iat);
        claims["nbf"] = json!(nbf);
    });
    let told = stage.introspect(&stage.server, &other).await;
    assert_eq!(
        (&told["active"], &told["iat"], &told["nbf"]),
        (&json!(true), &json!(iat), &json!(nbf))
    );
}

/// RFC 7662 §2.2: `active` is about the token. A limit of sessions does not make a good one look bad.
#[tokio::test]
async fn a_good_token_is_active_also_where_its_application_has_as_many_sessions_as_it_may() {
    let stage = Stage::with_config("[sessions]\nmax_per_application = 1").await;
    let (first, second) = (
        stage.scene.token(&stage.client, &[]).await,
        stage.scene.token(&stage.client, &[]).await,
    );
    let told = stage.introspect(&stage.server, &first).await;
    assert!(told["session_id"].is_string(), "{told}");
    let before = stage.scene.log_size().await;
    let told = stage.introspect(&stage.server, &second).await;
    assert_eq!(told["active"], true, "{told}");
    assert!(told.get("session_id").is_none(), "{told}");
    let events = stage.events_since(before).await;
    assert_eq!(kinds(&events), ["ApiCallAuthorized"], "the question is on the record");
    assert!(events[0].data().get("session_id").is_none());
    assert_eq!(events[0].data()["jti"], crate::scene::claims(&second)["jti"]);
}

#[tokio::test]
async fn an_api_that_was_taken_from_an_application_sees_its_tokens_no_more() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    assert_eq!(stage.introspect(&stage.server, &token).await["active"], true);
    let less = json!({"audiences": [STOCK]});
    let (changed, body) = stage.scene.administer(Method::PATCH, &stage.client.path(), less).await;
    assert_eq!(changed, StatusCode::OK, "{body}");
    let before = stage.scene.log_size().await;
    assert_eq!(stage.introspect(&stage.server, &token).await, json!({"active": false}));
    let events = stage.events_since(before).await;
    assert_eq!(events[0].data()["reason"], "wrong_audience");
}

#[tokio::test]
async fn a_client_revokes_its_own_token_and_from_the_answer_on_it_opens_nothing() {
    let stage = Stage::set().await;
    let (token, other) = (
        stage.scene.token(&stage.client, &[]).await,
        stage.scene.token(&stage.client, &[]).await,
    );
    assert_eq!(stage.introspect(&stage.server, &token).await["active"], true);
    let before = stage.scene.log_size().await;
    let answer = stage.revoke(&stage.client, &token).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""));
    assert_eq!(stage.introspect(&stage.server, &token).await, json!({"active": false}));
    assert_eq!(
        stage.introspect(&stage.server, &other).await["active"],
        true,
        "only the one"
    );
    let events = stage.events_since(before).await;
    assert_eq!(kinds(&events)[..2], ["TokenRevoked", "SessionEnded"]);
    assert_eq!(events[0].event["actor"], "orders-worker");
    assert_eq!(events[0].event["stream"], format!("tokens-{}", stage.client.id));
    assert_eq!(events[0].data()["jti"], crate::scene::claims(&token)["jti"]);
    assert_eq!(events[1].data()["reason"], "revoked");

    // RFC 7009 §2.2: what is revoked already, and what is no token, is answered in the same way and changes nothing.
    let before = stage.scene.log_size().await;
    for nothing in [token.as_str(), "opaque"] {
        assert_eq!(stage.revoke(&stage.client, nothing).await.status, StatusCode::OK);
    }
    assert_eq!(stage.scene.log_size().await, before);

    // And after a restart it is still revoked.
    let folder = stage.scene.kill();
    let issuer = crate::scene::claims(&token)["iss"]
        .as_str()
        .expect("an issuer")
        .to_owned();
    let config = format!("[server]\nissuer = \"{issuer}\"\n");
    let stage = Stage {
        scene: Scene::in_folder(folder, &config).await,
        ..stage
    };
    assert_eq!(stage.introspect(&stage.server, &token).await, json!({"active": false}));
    assert_eq!(stage.introspect(&stage.server, &other).await["active"], true);
}

#[tokio::test]
async fn nobody_revokes_the_token_of_another() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    let before = stage.scene.log_size().await;
    let answer = stage.revoke(&stage.server, &token).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["error"], "unauthorized_client");
    let events = stage.events_since(before).await;
    assert_eq!(kinds(&events), ["ApiCallDenied"]);
    assert_eq!(events[0].data()["reason"], "not_the_clients_token");
    assert_eq!(stage.introspect(&stage.server, &token).await["active"], true);
}

#[tokio::test]
async fn a_reference_token_is_introspected_and_revoked_like_any_other() {
    let stage = Stage::set().await;
    let (token_id, token) = stage.reference_token().await;
    let told = stage.introspect(&stage.server, &token).await;
    assert_eq!(
        (&told["active"], &told["token_kind"]),
        (&json!(true), &json!("reference")),
        "{told}"
    );
    assert_eq!((&told["jti"], &told["scope"]), (&json!(token_id), &json!("read")));
    assert_eq!(told["org_code"], "ACME");
    assert_eq!(stage.revoke(&stage.client, &token).await.status, StatusCode::OK);
    assert_eq!(stage.introspect(&stage.server, &token).await, json!({"active": false}));
}
