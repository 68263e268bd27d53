//! Receivers that answer what they should not.

use crate::receiver::{PATIENCE, Receiver, assert_is_the_log, wait_for_log, wait_until};
use crate::scene::Scene;
use crate::webhook_receiver::{WebhookReceiver, accept, refuse};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_are_survived_and_nothing_is_lost_by_them() {
    let elsewhere = WebhookReceiver::with(0, |stream, _| accept(stream));
    let location = format!("Location: http://127.0.0.1:{}/\r\n", elsewhere.port());
    let receiver = WebhookReceiver::with(0, move |stream, number| match number {
        0 => refuse(stream, "307 Go Away", &location),
        1 => refuse(stream, "301 Go Away", &location),
        // A body that never ends.
        2 => {
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n");
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        }
        // A head that never ends.
        3 => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-More: ");
            while stream.write_all(&[b'y'; 65_536]).is_ok() {}
        }
        // A head that drips.
        4 => {
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".iter().cycle() {
                std::thread::sleep(Duration::from_millis(100));
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
            }
        }
        5 => drop(stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n")),
        6 => drop(stream.shutdown(std::net::Shutdown::Both)),
        7 => refuse(stream, "599 Whatever", "Retry-After: 999999999999999999999999\r\n"),
        8 => refuse(
            stream,
            "101 Switching Protocols",
            "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        ),
        // Accepted, with a body that drips: the answer is in the head.
        9 => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
            while stream.write_all(b"z").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        _ => accept(stream),
    });
    let folder = tempfile::tempdir().unwrap();
    let config = WebhookReceiver::config(receiver.port(), folder.path()) + "timeout_seconds = 6\n";
    let scene = Scene::in_folder(folder, &config).await;
    let log = scene.log().await;
    wait_for_log(&receiver, &log).await;
    assert_eq!(elsewhere.requests().len(), 0, "nobody is followed elsewhere");
    let requests = receiver.requests();
    // Each refusal had the same event sent again; the tenth request was accepted by its head alone.
    for (number, request) in requests.iter().take(10).enumerate() {
        assert_eq!(request.body["data"]["index"], 0, "request {number}");
    }
    assert_eq!(requests[10].body["data"]["index"], 1);
    assert_is_the_log(&receiver.received(), &scene.log().await, 1);
    let sink = sink(&scene).await;
    assert_eq!((&sink["state"], &sink["failures"]), (&json!("delivering"), &json!(9)));
    assert!(
        !scene.server.stderr().contains("xxxx"),
        "what a sink says is not logged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_pauses_its_sink_until_the_next_start() {
    let receiver = WebhookReceiver::with(0, |stream, number| match number {
        0 => refuse(stream, "410 Gone", ""),
        _ => accept(stream),
    });
    let folder = tempfile::tempdir().unwrap();
    let config = WebhookReceiver::config(receiver.port(), folder.path());
    let scene = Scene::in_folder(folder, &config).await;
    wait_until("it is asked", || receiver.requests().len() == 1).await;
    let sink = wait_for_state(&scene, "paused").await;
    assert_eq!(sink["last_error"]["class"], "gone");
    assert_eq!(sink["last_error"]["message"], "the receiver answered 410");
    assert_eq!(sink["next_attempt"], Value::Null);
    // Longer than any pause between two attempts.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(receiver.requests().len(), 1, "nothing more is sent");
    assert!(scene.server.stderr().contains("the sink is paused"));
    let scene = Scene::in_folder(scene.stop(), &config).await;
    let received = wait_for_log(&receiver, &scene.log().await).await;
    assert_is_the_log(&received, &scene.log().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_patience_gets_it() {
    let receiver = WebhookReceiver::with(0, |stream, number| match number {
        0 => refuse(stream, "503 Busy", "Retry-After: 3\r\n"),
        _ => accept(stream),
    });
    let folder = tempfile::tempdir().unwrap();
    let config = WebhookReceiver::config(receiver.port(), folder.path());
    let scene = Scene::in_folder(folder, &config).await;
    wait_until("it is asked again", || receiver.requests().len() > 1).await;
    let requests = receiver.requests();
    let pause = requests[1].at - requests[0].at;
    // Without the header it would be asked again within a second: that is the longest pause here.
    assert!(pause > Duration::from_millis(2_500), "{pause:?}");
    wait_for_log(&receiver, &scene.log().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_fewer_events_at_once_gets_fewer() {
    let receiver = WebhookReceiver::with(0, |stream, number| match number {
        0..=2 => refuse(stream, "413 Too Much", ""),
        _ => accept(stream),
    });
    let scene = Scene::start().await;
    scene.register("orders/worker", json!({})).await;
    let folder = scene.stop();
    let config = WebhookReceiver::config(receiver.port(), folder.path()) + "batch_events = 100\n";
    let scene = Scene::in_folder(folder, &config).await;
    let received = wait_for_log(&receiver, &scene.log().await).await;
    assert_is_the_log(&received, &scene.log().await, 0);
    let sizes: Vec<_> = receiver
        .requests()
        .iter()
        .map(|request| request.events().len())
        .collect();
    assert!(sizes[0] >= 8, "{sizes:?}");
    for refused in 0..3 {
        assert_eq!(
            sizes[refused + 1],
            sizes[refused] / 2,
            "half of what was refused: {sizes:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syslog_server_that_resets_or_talks_has_not_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (bytes, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            match number {
                // Closes with something unread: a reset.
                0 => drop(stream.read(&mut [0])),
                // Reads all, and talks without end before it closes.
                1 => {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(15)));
                    while stream.write_all(&[b'!'; 4_096]).is_ok() {}
                }
                // Reads all, and does not close: no acknowledgement either.
                2 => {
                    let _ = stream.read_to_end(&mut Vec::new());
                    held.push(stream);
                }
                _ => {
                    let mut all = Vec::new();
                    let _ = stream.read_to_end(&mut all);
                    let _ = bytes.send(all);
                }
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[forwarding]]\nname = \"hook\"\nkind = \"syslog\"\nurl = \"tcp://127.0.0.1:{port}\"\nfrom = \"beginning\"\n\
         timeout_seconds = 6\nretry_max_seconds = 1\n"
    );
    let scene = Scene::in_folder(folder, &config).await;
    let first = tokio::task::spawn_blocking(move || received.recv_timeout(Duration::from_secs(60)).unwrap())
        .await
        .unwrap();
    let text = String::from_utf8(first).unwrap();
    assert!(
        text.contains(" index=\"0\" "),
        "after three failures it begins with the first event: {text}"
    );
    let sink = wait_for_state(&scene, "delivering").await;
    assert_eq!(sink["failures"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_server_with_a_certificate_that_is_not_trusted_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = |made: &rcgen::CertifiedKey<rcgen::KeyPair>, name: &str| {
        std::fs::write(folder.path().join(name), made.cert.pem()).unwrap();
        folder.path().join(name)
    };
    let make = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (server, other) = (make(), make());
    let certificate = file(&server, "server.pem");
    let key = folder.path().join("server.key");
    std::fs::write(&key, server.signing_key.serialize_pem()).unwrap();
    let tls = grantlog::startup::tls_config(&certificate, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (plain, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let tls = std::sync::Arc::new(tls);
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut connection = rustls::ServerConnection::new(tls.clone()).unwrap();
            let mut all = Vec::new();
            let _ = rustls::Stream::new(&mut connection, &mut stream).read_to_end(&mut all);
            let _ = plain.send(all);
        }
    });
    let other = file(&other, "other.pem");
    let sink = |kind: &str, url: &str, more: &str| {
        format!(
            "[[forwarding]]\nname = \"{kind}\"\nkind = \"{kind}\"\nurl = \"{url}\"\nca_file = {other:?}\n\
             from = \"beginning\"\nretry_max_seconds = 1\n{more}"
        )
    };
    let secret = folder.path().join("secret");
    std::fs::write(&secret, crate::webhook_receiver::SECRET).unwrap();
    let config = sink("syslog", &format!("tls://127.0.0.1:{port}"), "")
        + &sink("otlp", &format!("https://127.0.0.1:{port}"), "")
        + &sink(
            "webhook",
            &format!("https://127.0.0.1:{port}/"),
            &format!("secret_file = {secret:?}\n"),
        );
    let scene = Scene::in_folder(folder, &config).await;
    for at in 0..3 {
        let started = Instant::now();
        loop {
            let (_, shown) = scene.get("/audit/forwarding").await;
            let sink = &shown["sinks"][at];
            if sink["state"] == "retrying" {
                assert_eq!(sink["last_error"]["class"], "tls", "{sink}");
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{sink}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    while let Ok(bytes) = seen.try_recv() {
        assert_eq!(bytes, b"", "nothing is sent to who is not trusted");
    }
}

pub async fn sink(scene: &Scene) -> Value {
    let (status, shown) = scene.get("/audit/forwarding").await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    shown["sinks"][0].clone()
}

pub async fn wait_for_state(scene: &Scene, state: &str) -> Value {
    let started = Instant::now();
    loop {
        let sink = sink(scene).await;
        if sink["state"] == state {
            return sink;
        }
        assert!(started.elapsed() < PATIENCE, "{sink}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
