//! Data folders as the real server leaves them, and what `audit verify` says of them.

use crate::facts;
use crate::running_server::{Administrator, RunningServer, Start};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, Direction, EventStore, ExpectedRevision, codec, removal};
use grantlog_projections::event::{EventsRemoved, RetentionRule};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, StreamName};
use reqwest::Method;
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// Events before the server starts: more than a segment of the audit index, and not a whole tile.
pub const LARGE: u64 = 16_900;
/// A few tiles.
pub const SMALL: u64 = 700;

/// Written once, copied for each test.
static LARGE_FOLDER: LazyLock<Original> = LazyLock::new(|| Original::of(LARGE));
static SMALL_FOLDER: LazyLock<Original> = LazyLock::new(|| Original::of(SMALL));

/// A folder that was served, published and stopped.
struct Original {
    folder: TempDir,
    kept: String,
}

impl Original {
    fn of(events: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        wait(facts::fill(
            &data.join("events.db"),
            &["orders", "billing", "reports"],
            events,
        ));
        let server = Start::over(&data).start();
        if events == LARGE {
            wait(indexed(&server, events));
        }
        let kept = checkpoint(&server);
        assert_eq!(server.stop().code(), Some(0));
        Self { folder, kept }
    }

    fn copy(&self) -> Folder {
        let folder = tempfile::tempdir().expect("a folder");
        let copied = Folder {
            folder,
            kept: self.kept.clone(),
        };
        copy(&self.folder.path().join("data"), &copied.data());
        copied
    }
}

/// A copy of a data folder, to be tampered with.
pub struct Folder {
    folder: TempDir,
    /// A checkpoint that was published while it was served.
    pub kept: String,
}

/// What `audit verify` said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub report: Value,
    pub stderr: String,
}

impl Said {
    /// What failed first in a check.
    pub fn failure(&self, check: &str) -> &str {
        let failures = self.report["failures"].as_array().map_or(&[][..], Vec::as_slice);
        let found = failures.iter().find(|failure| failure["check"] == check);
        found
            .and_then(|failure| failure["first"].as_str())
            .unwrap_or_else(|| panic!("nothing failed in {check}: {self:?}"))
    }

    #[track_caller]
    pub fn passed(&self) {
        assert!(self.code == Some(0) && self.report["verified"] == true, "{self:?}");
    }

    /// It failed, and says so by its exit code.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert!(self.code == Some(1) && self.report["verified"] == false, "{self:?}");
        self
    }
}

impl Folder {
    pub fn large() -> Self {
        LARGE_FOLDER.copy()
    }

    pub fn small() -> Self {
        SMALL_FOLDER.copy()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn start(&self) -> RunningServer {
        Start::over(&self.data()).start()
    }

    /// A file of the data folder, open to change it.
    pub fn database(&self, name: &str) -> Connection {
        Connection::open(self.data().join(name)).expect("a database")
    }

    pub fn execute(&self, name: &str, sql: &str) {
        let changed = self.database(name).execute(sql, []).expect("SQL that works");
        assert!(changed > 0, "{sql} changes nothing");
    }

    pub fn event(&self, index: u64) -> Vec<u8> {
        self.database("events.db")
            .query_row("SELECT bytes FROM events WHERE position = ?1", [index as i64], |row| {
                row.get(0)
            })
            .expect("an event")
    }

    pub fn put(&self, index: u64, bytes: &[u8]) {
        self.database("events.db")
            .execute(
                "UPDATE events SET bytes = ?2 WHERE position = ?1",
                rusqlite::params![index as i64, bytes],
            )
            .expect("a change");
    }

    /// What retention does when the time of all before an index has come: records that so many events of them go, and
    /// removes those that `goes` names.
    pub fn retain(&self, through: u64, events: u64, goes: impl Fn(u64) -> bool) {
        let fact = EventsRemoved {
            from_index: 0,
            through_index: through,
            events,
            rule: RetentionRule::Age,
        };
        let stream = StreamName::retention();
        let envelope = Envelope {
            id: Uuid::now_v7(),
            stream: stream.clone(),
            time: grantlog::service::now(),
            actor: Actor::System,
            source: None,
            trace_id: None,
            event: fact.into(),
        };
        let append = Append {
            stream: stream.as_str().to_owned(),
            expected: ExpectedRevision::Any,
            events: vec![codec::encode(&envelope).expect("a small event")],
        };
        wait(async {
            let options = SqliteOptions::new(self.data().join("events.db"));
            let store = SqliteEventStore::open(options).expect("the log opens");
            store.append_to_stream(append).await.expect("a healthy disk");
            let events = store.read_all(0, Direction::Forwards, through as usize).await;
            let left = events.expect("events");
            let left = left
                .iter()
                .filter(|event| goes(event.index))
                .map(|event| removal::removed(event).expect("an event"));
            store.remove(left.collect()).await.expect("a healthy disk");
            store.close().await;
        });
    }

    pub fn log_size(&self) -> u64 {
        let count = "SELECT count(*) FROM events";
        let count: i64 = self
            .database("events.db")
            .query_row(count, [], |row| row.get(0))
            .unwrap();
        count as u64
    }

    pub fn verifier_key(&self) -> String {
        let data = self.data();
        let output = Command::new(env!("CARGO_BIN_EXE_grantlog"))
            .args(["audit", "verifier-key", "--data-dir"])
            .arg(&data)
            .output()
            .expect("the binary starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    /// `audit verify` of the folder, all of it.
    pub fn verify(&self, more: &[&str]) -> Said {
        let data = self.data();
        let mut arguments = vec!["--data-dir", data.to_str().expect("UTF-8")];
        arguments.extend(more);
        verify(&arguments)
    }

    /// The same without the projections, which take longest.
    pub fn verify_log(&self, more: &[&str]) -> Said {
        self.verify(&[&["--log-only"], more].concat())
    }

    /// Writes a file beside the data folder and gives its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }
}

/// What would be left of an event that was removed, or of one of another stream with its hash.
pub fn remains(event: &[u8], stream: Option<&str>) -> Vec<u8> {
    use base64::Engine;
    let hash = grantlog::audit::transparency::merkle::leaf_hash(event);
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    let mut event: Value = serde_json::from_slice(event).expect("an event");
    let stream = stream.map_or_else(|| event["stream"].take(), Value::from);
    format!(
        r#"{{"id":{},"stream":{stream},"type":"EventRemoved","time":{},"actor":"system","data":{{"leaf_hash":"{hash}"}}}}"#,
        event["id"], event["time"],
    )
    .into_bytes()
}

pub fn verify(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(["audit", "verify", "--json"])
        .args(arguments)
        .output()
        .expect("the binary starts");
    Said {
        code: output.status.code(),
        report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until the server's audit index has so many events: its thread gives way to all others.
pub async fn indexed(server: &RunningServer, events: u64) {
    let administrator = Administrator::of(server).await;
    for _ in 0..100 {
        let answer = administrator.request(Method::GET, "/audit/events?limit=1").send().await;
        let page: Value = answer.expect("an answer").json().await.expect("JSON");
        if page["indexed_through"].as_u64() >= Some(events) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("the audit index has not reached event {events}");
}

/// The newest checkpoint of a server, as anybody gets it.
pub fn checkpoint(server: &RunningServer) -> String {
    wait(async {
        let answer = reqwest::get(format!("{}/checkpoint", server.url))
            .await
            .expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.text().await.expect("text")
    })
}

pub fn size_of(checkpoint: &str) -> u64 {
    checkpoint
        .lines()
        .nth(1)
        .and_then(|size| size.parse().ok())
        .expect("a size")
}

pub fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        // The lock and the shared memory of a database are of a process, not of the data.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}
