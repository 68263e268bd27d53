//! What the receivers get: the form of each kind, signed, filtered, and without secrets.

use crate::otlp_receiver::{OtlpReceiver, event_of};
use crate::receiver::{PATIENCE, Receiver, free_port, wait_for_log, wait_until};
use crate::rsyslog::{self, Rsyslog};
use crate::scene::Scene;
use crate::webhook_receiver::{SECRET, WebhookReceiver, accept};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_gets_the_events_that_its_filter_lets_through() {
    let receiver = WebhookReceiver::with(0, |stream, _| accept(stream));
    let folder = tempfile::tempdir().unwrap();
    let config = WebhookReceiver::config(receiver.port(), folder.path())
        + "filter = 'type eq \"TokenRefused\" and client_id eq \"orders/worker\"'\n";
    let scene = Scene::in_folder(folder, &config).await;
    let application = scene.register("orders/worker", json!({})).await;
    scene.token(&application, &[]).await;
    scene.ask("billing", "wrong", &[]).await;
    scene.ask("orders/worker", "wrong", &[]).await;
    let log = scene.log().await;
    wait_until("the refusal arrives", || !receiver.received().is_empty()).await;
    let wanted: Vec<_> = log
        .iter()
        .filter(|event| event.kind() == "TokenRefused" && event.data()["client_id"] == "orders/worker")
        .map(|event| event.index)
        .collect();
    let received: Vec<_> = receiver.received().iter().map(|event| event.index).collect();
    assert_eq!(received, wanted);
    // What is held back is done with: it is no lag.
    let started = Instant::now();
    loop {
        let (_, shown) = scene.get("/audit/forwarding").await;
        if shown["sinks"][0]["acknowledged_through"].as_u64().unwrap() > wanted[0] {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_is_the_audit_apis_event_without_hashes_and_sealed_keys() {
    let receiver = WebhookReceiver::with(0, |stream, _| accept(stream));
    let folder = tempfile::tempdir().unwrap();
    let config = WebhookReceiver::config(receiver.port(), folder.path()) + "batch_events = 50\n";
    let scene = Scene::in_folder(folder, &config).await;
    let application = scene.register("orders/worker", json!({})).await;
    let path = format!("/admin/applications/{}/secrets", application.id);
    let (status, rotated) = scene.administer(Method::POST, &path, json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{rotated}");
    let token = scene.token(&application, &[]).await;
    let log = scene.log().await;
    wait_for_log(&receiver, &log).await;
    let mut withheld = 0;
    for event in receiver.requests().iter().flat_map(|request| request.events()) {
        let index = event["data"]["index"].as_u64().unwrap();
        let (status, mut expected) = scene.get(&format!("/audit/events/{index}")).await;
        assert_eq!(status, StatusCode::OK);
        for place in ["/data/secret/hash", "/data/sealed_private_key"] {
            if let Some(secret) = expected.pointer_mut(place) {
                *secret = "withheld".into();
                withheld += 1;
            }
        }
        assert_eq!(event["data"], expected);
        assert_eq!(event["source"], scene.url.as_str());
        assert_eq!(
            event["type"],
            format!("grantlog.{}", expected["type"].as_str().unwrap())
        );
    }
    assert!(
        withheld >= 4,
        "two secrets, a rotation and a signing key at least: {withheld}"
    );
    let sent: Vec<u8> = receiver
        .requests()
        .iter()
        .flat_map(|request| request.raw_body.clone())
        .collect();
    let sent = String::from_utf8(sent).unwrap();
    let (administrator, secret) = scene.server.administrator();
    assert!(sent.contains(&administrator));
    for secret in [&secret, &application.client_secret, &token, SECRET] {
        assert!(!sent.contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_understands_the_header_and_the_structured_data() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = Rsyslog::config(port, folder.path()) + "facility = \"local3\"\n";
    let receiver = Rsyslog::start(port, folder.path()).await;
    let scene = Scene::in_folder(folder, &config).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    // Quotes and brackets in a client_id that nobody has; an event far beyond syslog's usual kilobyte.
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "a\"b]c\\d"),
        ("client_secret", "x"),
    ];
    let asked = scene
        .http
        .post(format!("{}/connect/token", scene.url))
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .form(&form);
    assert_eq!(asked.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let large = json!({"description": "d".repeat(900), "properties": properties()});
    scene.register("orders/worker", large).await;
    let log = scene.log().await;
    wait_for_log(&receiver, &log).await;
    let lines = receiver.lines();
    let refused = lines.iter().find(|line| line.contains(" TokenRefused ")).unwrap();
    // local3 (19) and warning (4).
    assert!(
        refused.starts_with("156 id.example.com grantlog TokenRefused [grantlog@32473 index=\""),
        "{refused}"
    );
    assert!(refused.contains(&format!(" trace_id=\"{trace}\"]")), "{refused}");
    let event = rsyslog::event_of(refused);
    assert_eq!(event["trace_id"], trace);
    let escaped = event["client_id"].as_str().unwrap();
    let escaped = escaped.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
    assert!(refused.contains(&format!(" client_id=\"{escaped}\" ")), "{refused}");
    let registered = lines
        .iter()
        .find(|line| line.len() > 8_192)
        .expect("the large event is whole");
    assert_eq!(rsyslog::event_of(registered)["data"]["properties"], properties());
    assert!(
        lines.iter().any(|line| line.starts_with("158 ")),
        "a success is informational"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_record_has_the_events_own_type_time_trace_and_resource() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let token = folder.path().join("token");
    std::fs::write(&token, "collector-token\n").unwrap();
    let config = OtlpReceiver::config(port, folder.path()) + &format!("bearer_token_file = {token:?}\n");
    let receiver = OtlpReceiver::start(port, folder.path()).await;
    let scene = Scene::in_folder(folder, &config).await;
    scene.ask("orders", "wrong", &[]).await;
    wait_for_log(&receiver, &scene.log().await).await;
    let requests = receiver.requests();
    let resource = requests[0].resource_logs[0].resource.as_ref().unwrap();
    let attribute = |name: &str| {
        let found = resource.attributes.iter().find(|attribute| attribute.key == name);
        found.and_then(|attribute| attribute.value.clone()?.value)
    };
    assert_eq!(attribute("service.name"), Some(Any::StringValue("grantlog".into())));
    assert_eq!(attribute("grantlog.issuer"), Some(Any::StringValue(scene.url.clone())));
    for record in receiver.records() {
        let event = event_of(&record);
        assert_eq!(record.event_name, event["type"].as_str().unwrap());
        assert_eq!(
            record.severity_text,
            if event["outcome"] == "refused" { "WARN" } else { "INFO" }
        );
        let index = record
            .attributes
            .iter()
            .find(|attribute| attribute.key == "grantlog.index")
            .unwrap();
        let index = index.value.clone().unwrap().value;
        assert_eq!(index, Some(Any::IntValue(event["index"].as_i64().unwrap())));
    }
    // With another token the receiver's words, which may repeat what it was sent, are not shown.
    let folder = scene.stop();
    std::fs::write(&token, "another-token").unwrap();
    let scene = Scene::in_folder(folder, &config).await;
    let started = std::time::Instant::now();
    let sink = loop {
        let (_, shown) = scene.get("/audit/forwarding").await;
        if shown["sinks"][0]["state"] == "retrying" {
            break shown["sinks"][0].clone();
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "{shown}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(sink["last_error"]["class"], "unauthorized");
    let told = format!("{sink}{}", scene.server.stderr());
    assert!(
        !told.contains("collector-token") && !told.contains("another-token"),
        "{told}"
    );
}

fn properties() -> Value {
    (0..30)
        .map(|n| (format!("property-{n}"), Value::from("v".repeat(250))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_otlp_receiver_over_tls_is_shown_the_clients_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let receiver = OtlpReceiver::over_tls(port, &made.cert.pem(), &made.signing_key.serialize_pem());
    let config = OtlpReceiver::config(port, folder.path()).replace("http://", "https://")
        + &format!("ca_file = {certificate:?}\nclient_certificate_file = {certificate:?}\nclient_key_file = {key:?}\n");
    let scene = Scene::in_folder(folder, &config).await;
    wait_for_log(&receiver, &scene.log().await).await;
}
