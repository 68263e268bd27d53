//! A sink that does not answer holds up nobody.

use crate::receiver::{Receiver, wait_until};
use crate::scene::Scene;
use crate::webhook_receiver::{WebhookReceiver, hang};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const TOKENS: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn every_token_is_answered_while_the_only_delivery_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let counted = answered.clone();
    let receiver = WebhookReceiver::with(0, move |stream, _| {
        hang(stream);
        counted.fetch_add(1, Ordering::SeqCst);
    });
    // And a syslog server that takes connections and reads nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = WebhookReceiver::config(receiver.port(), folder.path())
        + "timeout_seconds = 300\n"
        + &format!(
            "[[forwarding]]\nname = \"silent\"\nkind = \"syslog\"\nurl = \"tcp://{}\"\ntimeout_seconds = 300\n\
             from = \"beginning\"\n",
            silent.local_addr().unwrap()
        );
    let scene = Scene::in_folder(folder, &config).await;
    let application = scene.register("orders/worker", json!({})).await;
    wait_until("a delivery is on its way", || receiver.requests().len() == 1).await;
    let asked = (0..TOKENS).map(|_| scene.ask(&application.client_id, &application.client_secret, &[]));
    for answer in join_all(asked).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    assert_eq!(receiver.requests().len(), 1, "the one delivery is still on its way");
    assert_eq!(answered.load(Ordering::SeqCst), 0);
    let (status, shown) = scene.get("/audit/forwarding").await;
    assert_eq!(status, StatusCode::OK);
    for sink in shown["sinks"].as_array().unwrap() {
        assert_eq!(
            (&sink["acknowledged_through"], &sink["delivered"]),
            (&json!(0), &json!(0))
        );
        assert!(sink["lag"].as_u64().unwrap() > TOKENS as u64, "{sink}");
    }
    // Nor does it hold up the stop for longer than the grace.
    let started = std::time::Instant::now();
    scene.stop();
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
}
