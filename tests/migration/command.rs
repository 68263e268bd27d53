//! `grantlog migrate` as an operator runs it, on real files.

use crate::events::{append, event, whole_log};
use crate::running_server::{Administrator, Start, request_token};
use grantlog::event_store::EventStore;
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A few thousand events take seconds; a machine under load may need this.
const PATIENCE: Duration = Duration::from_secs(240);

struct Folders {
    folder: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["from", "to"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self { folder }
    }

    fn from(&self) -> PathBuf {
        self.folder.path().join("from/events.db")
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("to/events.db")
    }

    /// `migrate --from sqlite`, the log in the data folder.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grantlog"));
        command
            .args(["migrate", "--from", "sqlite", "--json", "--data-dir"])
            .arg(self.from().parent().expect("it is in a folder"))
            .arg("--to")
            .arg(format!("sqlite:{}", self.to().display()))
            .stdin(Stdio::null());
        command
    }

    fn migrate(&self) -> Output {
        self.command().output().expect("the binary runs")
    }
}

fn open(path: &Path) -> SqliteEventStore {
    SqliteEventStore::open(SqliteOptions::new(path)).expect("the log opens")
}

fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Root and size as `audit verify` says them, of the log that this configuration names.
fn verified(data_dir: &Path, config: &str) -> (String, u64) {
    let file = data_dir.with_extension("verify.toml");
    std::fs::write(&file, config).expect("the configuration can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(["audit", "verify", "--log-only", "--json", "--config"])
        .arg(&file)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .expect("the binary runs");
    let said = document(&output);
    let find = |name: &str| {
        said.get(name)
            .or_else(|| said.get("log")?.get(name))
            .unwrap_or_else(|| panic!("no {name} in {said}"))
            .clone()
    };
    (
        find("root").as_str().expect("text").to_owned(),
        find("events").as_u64().expect("a number"),
    )
}

#[tokio::test]
async fn a_migrated_log_verifies_with_the_same_root_and_serves_as_the_old_one_did() {
    let folders = Folders::new();
    let data_dir = folders.from().parent().expect("a folder").to_owned();
    let server = Start::over(&data_dir).start();
    let administrator = Administrator::of(&server).await;
    let made = administrator
        .register(serde_json::json!({"application_uri": "orders", "scope": "read", "system_user": "svc", "system_user_allowed": true}))
        .await;
    let secret = made["client_secret"].as_str().expect("a secret").to_owned();
    let http = Client::new();
    for _ in 0..5 {
        let answer = request_token(&http, &server.url, "orders", &secret, &[]).await;
        assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
    }

    // Not while it is served.
    let refused = folders.migrate();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("in use"), "{}", stderr(&refused));
    assert!(!folders.to().exists());

    assert!(server.stop().success());
    let migrated = document(&folders.migrate());
    assert_eq!(migrated["copied"], migrated["events"]);
    let moved = format!("[store]\nurl = \"sqlite:{}\"\n", folders.to().display());
    let of_source = verified(&data_dir, "");
    assert_eq!(verified(&data_dir, &moved), of_source);
    assert_eq!(migrated["root"], of_source.0.as_str());
    assert_eq!(migrated["events"], of_source.1);

    // The same data folder with its keys, the log elsewhere.
    let server = Start::over(&data_dir).with_config(&moved).start();
    let answer = request_token(&http, &server.url, "orders", &secret, &[]).await;
    assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
    assert!(server.stop().success());
    let (_, size) = verified(&data_dir, &moved);
    assert!(size > of_source.1, "{size}");

    // It has been served from: there is no way back into the old one but its own.
    let late = folders.migrate();
    assert_eq!(late.status.code(), Some(1));
    assert!(
        stderr(&late).contains("has been served from since"),
        "{}",
        stderr(&late)
    );
}

#[tokio::test]
async fn killed_again_and_again_it_completes_the_copy() {
    const EVENTS: usize = 60_000;
    let folders = Folders::new();
    let source = open(&folders.from());
    let mut size = 0;
    while size < EVENTS {
        for stream in ["service", "application-1"] {
            append(&source, stream, (0..100).map(|_| event(stream, 400)).collect()).await;
            size += 100;
        }
    }
    source.close().await;

    let (mut kills, mut before) = (0, 0);
    for _ in 0..3 {
        let mut child = folders
            .command()
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let running = wait_for_more_than(before, &folders.to(), &mut child);
        child.kill().expect("it can be killed");
        child.wait().expect("it has ended");
        let there = open(&folders.to());
        let now = there.log_size();
        there.close().await;
        assert!(now >= before, "{now} after {before}");
        kills += usize::from(running && now < EVENTS as u64);
        before = now;
    }
    assert!(kills > 0, "it was never killed in the middle");

    let completed = document(&folders.migrate());
    assert_eq!(
        (&completed["events"], &completed["found"]),
        (&EVENTS.into(), &before.into())
    );
    let (source, target) = (open(&folders.from()), open(&folders.to()));
    assert!(whole_log(&source).await == whole_log(&target).await);
    source.close().await;
    target.close().await;
    let again = document(&folders.migrate());
    assert_eq!((&again["copied"], &again["root"]), (&0.into(), &completed["root"]));
}

/// Waits until the target has more events than before; `false` when the migration has ended.
fn wait_for_more_than(before: u64, target: &Path, child: &mut Child) -> bool {
    let begun = Instant::now();
    loop {
        if child.try_wait().expect("its state can be asked for").is_some() {
            return false;
        }
        let size = SqliteEventStore::open_read_only(SqliteOptions::new(target)).map_or(0, |log| log.log_size());
        if size > before {
            return true;
        }
        assert!(begun.elapsed() < PATIENCE, "no event was copied in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_not_there_or_is_no_store_is_told_apart() {
    let folders = Folders::new();
    let missing = folders.migrate();
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        stderr(&missing).contains("--from: there is no event log"),
        "{}",
        stderr(&missing)
    );
    assert!(!folders.from().exists() && !folders.to().exists());

    let no_store = Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(["migrate", "--from", "sqlite", "--to", "postgres://user:hunter2@x"])
        .output()
        .expect("the binary runs");
    assert_eq!(no_store.status.code(), Some(2), "{}", stderr(&no_store));
    assert!(
        stderr(&no_store).starts_with("error: --to must be \"sqlite\""),
        "{}",
        stderr(&no_store)
    );
    assert!(!stderr(&no_store).contains("hunter2"));

    let same = Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(["migrate", "--from", "sqlite:a.db", "--to", "sqlite:a.db"])
        .output()
        .expect("the binary runs");
    assert_eq!(same.status.code(), Some(1));
    assert!(stderr(&same).contains("the same log"), "{}", stderr(&same));
}
