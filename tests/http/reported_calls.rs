//! Calls that APIs tell of: recorded once however often they are told, held against the tokens of the log.

use crate::scene::{Answer, Application, Scene, claims, merge};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

const ORDERS: &str = "https://api.test/orders";

struct Stage {
    scene: Scene,
    client: Application,
    reporter: String,
}

impl Stage {
    async fn set() -> Self {
        Self::over(Scene::start().await).await
    }

    async fn over(scene: Scene) -> Self {
        scene.register_api(ORDERS, json!({})).await;
        let more = json!({"scope": "calls:report", "audiences": [ORDERS, scene.url]});
        let server = scene.register("orders.api", more).await;
        let client = scene.register("orders-worker", json!({"audiences": [ORDERS]})).await;
        let reporter = scene.token(&server, &[("audience", scene.url.as_str())]).await;
        Self {
            scene,
            client,
            reporter,
        }
    }

    async fn report(&self, lines: &[Value]) -> Answer {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.send("application/x-ndjson", body).await
    }

    async fn send(&self, content_type: &str, body: String) -> Answer {
        let request = self.scene.http.post(format!("{}/audit/api-calls", self.scene.url));
        let request = request.bearer_auth(&self.reporter).header("content-type", content_type);
        Answer::of(request.body(body).send().await.expect("an answer")).await
    }

    async fn reported(&self, lines: &[Value]) -> Value {
        let answer = self.report(lines).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    }

    /// A call of this token that the API let through, with whatever else is given.
    fn call(&self, token: &str, more: Value) -> Value {
        let mut call = json!({
            "id": Uuid::now_v7(), "time": "2026-03-16T09:30:00Z", "method": "GET", "path": "/orders/7?secret=1",
            "required_scope": "read", "jti": claims(token)["jti"], "client_id": self.client.client_id,
            "outcome": "authorized", "status": 200, "source": {"ip": "192.0.2.7", "user_agent": "worker/1"},
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
        });
        merge(&mut call, more);
        call
    }

    async fn calls_in_the_log(&self) -> Vec<Value> {
        let log = self.scene.log().await;
        let reported = log.into_iter().filter(|event| event.data()["via"] == "reported");
        reported.map(|event| event.event).collect()
    }
}

#[tokio::test]
async fn a_call_is_recorded_once_however_often_it_is_told_also_after_a_kill() {
    let issuer = "http://grantlog.test";
    let config = format!("[server]\nissuer = \"{issuer}\"\n");
    let scene = Scene::with_config(&config).await;
    scene.register_api(ORDERS, json!({})).await;
    let more = json!({"scope": "calls:report", "audiences": [ORDERS, issuer]});
    let server = scene.register("orders.api", more).await;
    let client = scene.register("orders-worker", json!({"audiences": [ORDERS]})).await;
    let reporter = scene.token(&server, &[("audience", issuer)]).await;
    let token = scene.token(&client, &[]).await;
    let stage = Stage {
        scene,
        client,
        reporter,
    };
    let lines = [
        stage.call(&token, json!({})),
        stage.call(&token, json!({"method": "POST"})),
    ];
    let told = stage.reported(&lines).await;
    assert_eq!(told, json!({"recorded": 2, "duplicates": 0, "rejected": []}));
    let again = [
        lines[0].clone(),
        lines[1].clone(),
        lines[1].clone(),
        stage.call(&token, json!({})),
    ];
    assert_eq!(
        stage.reported(&again).await,
        json!({"recorded": 1, "duplicates": 3, "rejected": []})
    );
    let folder = stage.scene.kill();
    let stage = Stage {
        scene: Scene::in_folder(folder, &config).await,
        ..stage
    };
    assert_eq!(stage.reported(&again).await["duplicates"], 4);
    let calls = stage.calls_in_the_log().await;
    assert_eq!(calls.len(), 3);
    let ids: Vec<&Value> = calls.iter().map(|call| &call["data"]["report"]["id"]).collect();
    assert_eq!(
        ids,
        [&lines[0]["id"], &lines[1]["id"], &again[3]["id"]],
        "in the order they were told"
    );
}

#[tokio::test]
async fn a_call_is_on_the_record_with_what_the_api_saw_and_belongs_to_the_tokens_session() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    let denied = json!({
        "outcome": "denied", "error": "insufficient_scope", "reason": "insufficient_scope", "status": 403,
    });
    stage
        .reported(&[stage.call(&token, json!({})), stage.call(&token, denied)])
        .await;
    let calls = stage.calls_in_the_log().await;
    let (authorized, denied) = (&calls[0], &calls[1]);
    assert_eq!(authorized["type"], "ApiCallAuthorized");
    assert_eq!(authorized["actor"], "orders.api");
    assert_eq!(authorized["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(authorized["stream"], format!("api-calls-{}", stage.client.id));
    let data = &authorized["data"];
    assert_eq!(data["application_uri"], "orders-worker");
    assert_eq!(data["path"], "/orders/7", "without the query");
    assert_eq!(data["audience"], ORDERS, "its only one");
    assert_eq!(data["system_user"], "svc.integration", "as the token's event has it");
    assert_eq!(
        data["report"]["source"],
        json!({"ip": "192.0.2.7", "user_agent": "worker/1"})
    );
    assert_eq!(data["report"]["time"], "2026-03-16T09:30:00.000000Z");
    assert_eq!(data["report"]["status"], 200);
    assert_eq!(denied["type"], "ApiCallDenied");
    assert_eq!(denied["data"]["reason"], "insufficient_scope");

    let log = stage.scene.log().await;
    let started: Vec<_> = log
        .iter()
        .filter(|event| event.kind() == "SessionStarted" && event.data()["jti"] == claims(&token)["jti"])
        .collect();
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].data()["session_id"], data["session_id"]);

    // Found by where the call came from, not by where the report did.
    let page = stage.scene.search("source_ip=192.0.2.0/24").await;
    assert_eq!(page["events"].as_array().expect("events").len(), 2, "{page}");
}

#[tokio::test]
async fn a_call_of_no_token_that_was_issued_to_its_client_is_rejected_and_the_others_are_recorded() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    let lines = [
        stage.call(&token, json!({"jti": Uuid::now_v7()})),
        stage.call(&token, json!({"client_id": "orders.api"})),
        stage.call(&token, json!({})),
        stage.call(&token, json!({"audience": "https://api.test/others"})),
        // Refused by the API: who presented it is not proven, so nobody is named.
        stage.call(
            &token,
            json!({"jti": Uuid::now_v7(), "outcome": "denied", "token_hint": "abcd1234"}),
        ),
    ];
    let told = stage.reported(&lines).await;
    assert_eq!(
        (&told["recorded"], &told["duplicates"]),
        (&json!(2), &json!(0)),
        "{told}"
    );
    let rejected: Vec<(&Value, &Value)> = told["rejected"]
        .as_array()
        .expect("rejected")
        .iter()
        .map(|rejected| (&rejected["line"], &rejected["id"]))
        .collect();
    assert_eq!(
        rejected,
        [
            (&json!(1), &lines[0]["id"]),
            (&json!(2), &lines[1]["id"]),
            (&json!(4), &lines[3]["id"])
        ]
    );
    let calls = stage.calls_in_the_log().await;
    assert_eq!(calls.len(), 2);
    let denied = &calls[1]["data"];
    assert_eq!(denied["application_uri"], Value::Null);
    assert_eq!(
        (&denied["token_hint"], &denied["reason"]),
        (&json!("abcd1234"), &json!("refused_by_api"))
    );
    assert_eq!(calls[1]["stream"], "api-calls-unknown");
}

#[tokio::test]
async fn a_line_that_cannot_be_taken_is_named_and_nothing_of_its_batch_is_recorded() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    for (wrong, field) in [
        (json!({"id": "seven"}), "line 2, id"),
        (json!({"time": "yesterday"}), "line 2, time"),
        (json!({"time": "2126-03-16T09:30:00Z"}), "line 2, time"),
        (json!({"path": "orders"}), "line 2, path"),
        (json!({"method": "GE T"}), "line 2, method"),
        (json!({"status": 99}), "line 2, status"),
        (json!({"outcome": "maybe"}), "line 2, outcome"),
        (json!({"jti": null}), "line 2, jti"),
        (json!({"trace_id": "xyz"}), "line 2, trace_id"),
        (json!({"source": {"ip": "here"}}), "line 2, source.ip"),
        (json!({"outcome": "denied", "reason": "because"}), "line 2, reason"),
        (json!({"color": "red"}), "line 2, color"),
    ] {
        let answer = stage
            .report(&[stage.call(&token, json!({})), stage.call(&token, wrong)])
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{field}: {}", answer.body);
        assert_eq!(answer.json()["errors"][0]["field"], field, "{}", answer.body);
    }
    let answer = stage.send("application/x-ndjson", "{}\nnot json\n".into()).await;
    assert_eq!(answer.json()["errors"][0]["field"], "line 1, time", "{}", answer.body);
    let answer = stage.send("application/json", "{}".into()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let many: Vec<Value> = (0..1_001).map(|_| stage.call(&token, json!({}))).collect();
    assert_eq!(stage.report(&many).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let large = stage.send("application/x-ndjson", " ".repeat(1024 * 1024 + 1)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(stage.calls_in_the_log().await.is_empty());
    assert_eq!(stage.reported(&[]).await["recorded"], 0);
}

#[tokio::test]
async fn a_full_batch_is_recorded_in_one_go_and_one_token_begins_one_session() {
    let stage = Stage::set().await;
    let (one, other) = (
        stage.scene.token(&stage.client, &[]).await,
        stage.scene.token(&stage.client, &[]).await,
    );
    let slim = |token: &str| {
        json!({"id": Uuid::now_v7(), "time": "2026-03-16T09:30:00Z", "method": "GET", "path": "/orders",
               "jti": claims(token)["jti"], "client_id": "orders-worker", "outcome": "authorized"})
    };
    let lines: Vec<Value> = (0..1_000)
        .map(|n| slim(if n % 2 == 0 { &one } else { &other }))
        .collect();
    assert_eq!(stage.reported(&lines).await["recorded"], 1_000);
    assert_eq!(stage.calls_in_the_log().await.len(), 1_000);
    let log = stage.scene.log().await;
    let begun = log
        .iter()
        .filter(|event| event.kind() == "SessionStarted" && event.data()["application_uri"] == "orders-worker");
    assert_eq!(begun.count(), 2);
}

#[tokio::test]
async fn only_who_has_the_scope_may_tell() {
    let stage = Stage::set().await;
    let token = stage.scene.token(&stage.client, &[]).await;
    let line = stage.call(&token, json!({}));
    let stage = Stage {
        reporter: token,
        ..stage
    };
    let answer = stage.report(&[line]).await;
    assert_eq!(
        answer.status,
        StatusCode::UNAUTHORIZED,
        "its token is for another audience"
    );
    assert!(stage.calls_in_the_log().await.is_empty());
}
