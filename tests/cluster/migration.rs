//! `grantlog migrate` between SQLite and KurrentDB, on logs that a server has written.

use crate::clients::AUDIENCE;
use crate::running_server::{Administrator, RunningServer, request_token};
use crate::site::{Node, PATIENCE, Site, register, register_api, text};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, Direction, EventStore, EventToAppend, ExpectedRevision, MAX_EVENTS_PER_READ};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

async fn bytes_of(path: &Path) -> Vec<Arc<[u8]>> {
    let store = SqliteEventStore::open_read_only(SqliteOptions::new(path)).expect("a log");
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < store.log_size() {
        let page = store.read_all(bytes.len() as u64, Direction::Forwards, MAX_EVENTS_PER_READ);
        bytes.extend(page.await.expect("it can be read").into_iter().map(|event| event.bytes));
    }
    bytes
}

fn migrate(by: &Node, from: &str, to: &str) -> Command {
    by.command(&["migrate", "--json", "--from", from, "--to", to])
}

/// How much there is when nothing is on its way any more: what a killed process had sent may still be taken.
async fn settled(site: &Site) -> u64 {
    let mut size = site.size().await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = site.size().await;
        if now == size {
            return size;
        }
        size = now;
    }
}

/// Runs it to its end, and gives what it said.
fn document(mut command: Command) -> Value {
    let output = tokio::task::block_in_place(|| command.output().expect("the binary runs"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Size and root as `audit verify` says them.
fn verified(node: &Node) -> (Value, Value) {
    let said = document(node.command(&["audit", "verify", "--json"]));
    assert_eq!(said["verified"], true, "{said}");
    (said["events"].clone(), said["root"].clone())
}

/// The name and the id of the key that has signed the server's checkpoint.
async fn signer(server: &RunningServer) -> String {
    let answer = reqwest::get(format!("{}/checkpoint", server.url))
        .await
        .expect("an answer");
    let note = answer.text().await.expect("a note");
    let signature = note.lines().last().expect("a signature");
    // "— <name> <base64>", which begins with the id, of four bytes: five characters and a bit.
    let (name, encoded) = signature.rsplit_once(' ').expect("a signature's line");
    format!("{name} {}", &encoded[..5])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_goes_from_sqlite_into_kurrentdb_and_back_with_the_same_bytes_and_the_same_root() {
    let site = Site::anywhere();
    let node = site.node("node");
    let file = node.data.join("events.db");
    let alone = node.on_sqlite(&file);
    let server = alone.start();
    let administrator = Administrator::of(&server).await;
    register_api(&administrator).await;
    let made = register(&administrator, "orders").await;
    let secret = text(&made, "client_secret");
    let http = Client::new();
    for _ in 0..20 {
        let answer = request_token(&http, &server.url, "orders", secret, &[("audience", AUDIENCE)]).await;
        assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
    }
    assert!(tokio::task::block_in_place(|| server.stop()).success());

    let sqlite = format!("sqlite:{}", file.display());
    let there = document(migrate(&node, &sqlite, &node.url()));
    let source = bytes_of(&file).await;
    assert_eq!(site.log().await.bytes(), source);
    let (events, root) = verified(&alone);
    assert_eq!((&there["events"], &there["root"]), (&events, &root));
    assert_eq!(events, source.len());
    assert_eq!(
        verified(&node),
        (events, root.clone()),
        "of the same folder with the log in KurrentDB"
    );

    // Served from there, with all that it knew; but a key that the others do not have signs nothing.
    let server = node.start();
    let answer = request_token(&http, &server.url, "orders", secret, &[("audience", AUDIENCE)]).await;
    assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
    let refused = reqwest::get(format!("{}/checkpoint", server.url))
        .await
        .expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(tokio::task::block_in_place(|| server.stop()).success());

    // Given to all of them, it signs what it signed before, on each.
    let key = site.path("transparency.key");
    std::fs::copy(node.data.join("transparency.key"), &key).expect("the server alone has made one");
    let (node, other) = (node.with_log_key(&key), site.node("other").with_log_key(&key));
    let servers = [node.start(), other.start()];
    let grown = site.same_checkpoint(&servers.each_ref()).await;
    assert!(grown.0 > source.len() as u64);
    assert_eq!(signer(&servers[0]).await, signer(&servers[1]).await);
    for server in servers {
        assert!(tokio::task::block_in_place(|| server.stop()).success());
    }

    let back = site.path("back.db");
    let home = document(migrate(&node, &node.url(), &format!("sqlite:{}", back.display())));
    let log = site.log().await;
    assert_eq!(bytes_of(&back).await, log.bytes());
    assert_eq!(verified(&node), (home["events"].clone(), home["root"].clone()));
    let server = node.on_sqlite(&back).start();
    let answer = request_token(&http, &server.url, "orders", secret, &[("audience", AUDIENCE)]).await;
    assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
    assert!(tokio::task::block_in_place(|| server.stop()).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_into_kurrentdb_that_is_killed_again_and_again_is_completed_by_the_next() {
    const EVENTS: usize = 20_000;
    let site = Site::anywhere();
    let node = site.node("node");
    std::fs::create_dir_all(&node.data).expect("a folder");
    let file = node.data.join("source.db");
    let source = SqliteEventStore::open(SqliteOptions::new(&file)).expect("the log opens");
    let event = |stream: &str| {
        let id = Uuid::now_v7();
        let bytes = format!(
            r#"{{"id":"{id}","stream":"{stream}","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","data":{{"padding":"{}"}}}}"#,
            "x".repeat(200)
        );
        EventToAppend {
            id,
            event_type: "TokenRefused",
            bytes: bytes.into_bytes().into(),
        }
    };
    for run in 0..EVENTS / 10 {
        let stream = ["service", "application-1", "token-requests-1"][run % 3];
        let append = Append {
            stream: stream.to_owned(),
            expected: ExpectedRevision::Any,
            events: (0..10).map(|_| event(stream)).collect(),
        };
        source.append_to_stream(append).await.expect("a healthy disk");
    }
    source.close().await;
    drop(source);

    let command = || migrate(&node, &format!("sqlite:{}", file.display()), &node.url());
    let (mut kills, mut before) = (0, 0);
    for _ in 0..3 {
        let mut child = command()
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary runs");
        let begun = Instant::now();
        let is_running = loop {
            if child.try_wait().expect("its state can be asked for").is_some() {
                break false;
            }
            if site.size().await > before {
                break true;
            }
            assert!(begun.elapsed() < PATIENCE, "no event was copied in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        child.kill().expect("it can be killed");
        child.wait().expect("it has ended");
        before = settled(&site).await;
        kills += usize::from(is_running && before < EVENTS as u64);
    }
    assert!(kills > 0, "it was never killed in the middle");
    let completed = document(command());
    assert_eq!(
        (&completed["events"], &completed["found"]),
        (&EVENTS.into(), &before.into())
    );
    let again = document(command());
    assert_eq!((&again["copied"], &again["root"]), (&0.into(), &completed["root"]));
}
