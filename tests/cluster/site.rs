//! A KurrentDB, the Grantlog nodes on it, and how they are looked at.

use crate::clients::{AUDIENCE, Application};
use crate::log::Log;
use crate::running_server::{Administrator, RunningServer, Start};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grantlog::audit::transparency::merkle::{CompactRange, leaf_hash};
use grantlog::event_store::kurrentdb::{KurrentDbEventStore, KurrentDbOptions, KurrentDbUrl};
use grantlog::event_store::{EventStore, StoredEvent};
use grantlog_kurrentdb_double::{Cluster, Entrance, Options};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// Everything that is not held up happens well within this.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has come.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);

/// `[store]` of nodes that are not to be unavailable because the machine stands still for seconds.
pub const PATIENT: &str = "append_timeout_seconds = 30\nmax_staleness_seconds = 30\n";

/// The issuer is the same for all nodes, and stays; nobody is slowed down; the projections are saved often, so that a
/// kill finds them at work.
const CONFIG: &str = r#"
[server]
issuer = "http://grantlog.test"
[lockout]
max_failures = 1000000
max_refusals_per_source = 100000000
[projections]
checkpoint_every_events = 50
checkpoint_every_seconds = 1
"#;

/// A KurrentDB and what all nodes on it have in common.
pub struct Site {
    folder: TempDir,
    /// `None` when the server is a real one.
    double: Option<Cluster>,
    url: String,
    prefix: String,
    master_key: String,
}

impl Site {
    /// On the real server at `GRANTLOG_TEST_KURRENTDB_URL`, else on a double of one node.
    pub fn anywhere() -> Self {
        match std::env::var("GRANTLOG_TEST_KURRENTDB_URL") {
            Ok(url) => Self::at(url, None),
            Err(_) => Self::on_double(Options::default()),
        }
    }

    /// On a double, whatever there is: for what breaks the cluster.
    pub fn on_double(options: Options) -> Self {
        let double = Cluster::start(options).expect("the double starts");
        Self::at(double.connection_string(), Some(double))
    }

    fn at(url: String, double: Option<Cluster>) -> Self {
        let key = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            double,
            url,
            prefix: format!("cluster-{}.", Uuid::now_v7().simple()),
            master_key: STANDARD.encode(key),
        }
    }

    pub fn double(&self) -> &Cluster {
        self.double
            .as_ref()
            .expect("a test that breaks the cluster is on the double")
    }

    /// A node with an empty data folder and, on the double, a way into the cluster that nobody else uses.
    pub fn node(&self, name: &str) -> Node {
        let entrance = self
            .double
            .as_ref()
            .map(|double| double.entrance(name).expect("an entrance"));
        let url = match &entrance {
            Some(entrance) => entrance.connection_string(),
            None => self.url.clone(),
        };
        Node {
            data: self.folder.path().join(name),
            entrance,
            config: format!("{CONFIG}\n[node]\nname = {name:?}\n"),
            store: format!("[store]\nstream_prefix = {:?}\nurl = {url:?}\n", self.prefix),
            url,
            master_key: self.master_key.clone(),
        }
    }

    /// A folder or file of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What opens the log as the nodes do, by nobody's entrance.
    pub fn options(&self) -> KurrentDbOptions {
        let url = KurrentDbUrl::parse(&self.url).expect("a connection string");
        let positions = self.path(&format!("positions-{}.db", Uuid::now_v7().simple()));
        KurrentDbOptions {
            stream_prefix: self.prefix.clone(),
            ..KurrentDbOptions::new(url, positions)
        }
    }

    /// Reads what the log has got since: on the double from the double itself, so that the store is not believed.
    pub async fn read_on(&self, log: &mut Log) -> Result<(), String> {
        match &self.double {
            Some(double) => {
                let events = double.log();
                let ours = events.iter().filter(|event| event.stream.starts_with(&self.prefix));
                log.take_in(ours.enumerate().map(|(index, event)| StoredEvent {
                    index: index as u64,
                    revision: event.revision,
                    bytes: Arc::from(&event.data[..]),
                }))
            }
            None => {
                let store = KurrentDbEventStore::open_read_only(self.options()).await;
                log.read_from(&store.map_err(|error| error.to_string())?).await
            }
        }
    }

    pub async fn log(&self) -> Log {
        let mut log = Log::default();
        self.read_on(&mut log).await.expect("a log as it must be");
        log
    }

    /// How many events the log has.
    pub async fn size(&self) -> u64 {
        match &self.double {
            Some(double) => {
                let events = double.log();
                let ours = events.iter().filter(|event| event.stream.starts_with(&self.prefix));
                ours.count() as u64
            }
            None => {
                let store = KurrentDbEventStore::open_read_only(self.options()).await;
                store.expect("the log opens").log_size()
            }
        }
    }

    /// Waits until these nodes show the checkpoint of the whole log, and gives its root.
    pub async fn same_checkpoint(&self, servers: &[&RunningServer]) -> (u64, String) {
        let begun = Instant::now();
        loop {
            let log = self.log().await;
            let mut tree = CompactRange::default();
            log.bytes().iter().for_each(|bytes| tree.push(leaf_hash(bytes)));
            let expected = (log.events.len() as u64, STANDARD.encode(tree.root()));
            let mut shown = Vec::new();
            for server in servers {
                shown.push(checkpoint(server).await);
            }
            if shown.iter().all(|shown| shown.as_ref() == Some(&expected)) {
                return expected;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{shown:?} instead of {expected:?} after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Registers applications for [`crate::clients::Clients`].
    pub async fn applications(&self, administrator: &Administrator, count: usize) -> Arc<Vec<Application>> {
        let mut applications = Vec::new();
        for number in 0..count {
            let client_id = format!("my.trusted.app/service-{number}");
            let made = register(administrator, &client_id).await;
            applications.push(Application::new(
                text(&made, "id"),
                &client_id,
                text(&made, "client_secret"),
                number % 2 == 0,
            ));
        }
        Arc::new(applications)
    }
}

/// Registers the API [`AUDIENCE`].
pub async fn register_api(administrator: &Administrator) {
    let api = json!({"audience": AUDIENCE, "name": "Orders"});
    let (status, made) = administrator.post("/admin/apis", &api).await;
    assert!(status.is_success(), "{made}");
}

/// Registers an application of the API [`AUDIENCE`].
pub async fn register(administrator: &Administrator, client_id: &str) -> Value {
    let body = json!({
        "application_uri": client_id, "name": "Service", "scope": "read update introspect", "audiences": [AUDIENCE],
        "system_user": "svc.integration",
    });
    administrator.register(body).await
}

/// A text of an answer.
pub fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} is no text in {answer}"))
}

/// Size and root that the server shows, if it shows one.
pub async fn checkpoint(server: &RunningServer) -> Option<(u64, String)> {
    let answer = reqwest::get(format!("{}/checkpoint", server.url)).await.ok()?;
    let shown = answer.error_for_status().ok()?.text().await.ok()?;
    let mut lines = shown.lines().skip(1);
    Some((lines.next()?.parse().ok()?, lines.next()?.to_owned()))
}

/// Status and body of `/health/ready`.
pub async fn readiness(http: &Client, server: &RunningServer) -> (StatusCode, Value) {
    let answer = http.get(format!("{}/health/ready", server.url)).send().await;
    crate::running_server::json(answer.expect("it serves")).await
}

/// Waits until the node is ready, whatever it was before.
pub async fn ready(http: &Client, server: &RunningServer) {
    let begun = Instant::now();
    loop {
        let (status, body) = readiness(http, server).await;
        if status == StatusCode::OK {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "not ready after {PATIENCE:?}: {body}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A node's data folder and configuration, and its way into the cluster.
pub struct Node {
    pub data: PathBuf,
    entrance: Option<Entrance>,
    config: String,
    store: String,
    url: String,
    master_key: String,
}

impl Node {
    /// With these lines in `[store]`.
    pub fn with_store(mut self, lines: &str) -> Self {
        self.store.push_str(lines);
        self.store.push('\n');
        self
    }

    /// With these lines in `[node]`.
    pub fn with_node(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// With the log's key in this file. Lines for `[node]` come before it.
    pub fn with_log_key(mut self, file: &Path) -> Self {
        self.config.push_str(&format!(
            "[transparency]\nkey_file = {:?}\n",
            file.display().to_string()
        ));
        self
    }

    /// The same server on an SQLite file.
    pub fn on_sqlite(&self, file: &Path) -> Self {
        let url = format!("sqlite:{}", file.display());
        Self {
            data: self.data.clone(),
            entrance: None,
            config: self.config.clone(),
            store: format!("[store]\nurl = {url:?}\n"),
            url,
            master_key: self.master_key.clone(),
        }
    }

    /// Its `store.url`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn entrance(&self) -> &Entrance {
        self.entrance
            .as_ref()
            .expect("a test that breaks the cluster is on the double")
    }

    pub fn config(&self) -> String {
        format!("{}{}", self.config, self.store)
    }

    fn starting(&self) -> Start {
        Start::over(&self.data)
            .with_config(&self.config())
            .with_environment("GRANTLOG__KEYS__MASTER_KEY", &self.master_key)
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> RunningServer {
        tokio::task::block_in_place(|| self.starting().start())
    }

    /// Starts it and keeps the thread free meanwhile, so that others may start at the same time.
    pub fn start_beside(&self) -> tokio::task::JoinHandle<RunningServer> {
        let start = self.starting();
        tokio::task::spawn_blocking(|| start.start())
    }

    /// A command of the binary with this node's master key, configuration and data folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.data.with_extension("command.toml");
        std::fs::write(&config, self.config()).expect("the configuration can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_grantlog"));
        command
            .args(arguments)
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(&self.data)
            .env("GRANTLOG__KEYS__MASTER_KEY", &self.master_key)
            .stdin(std::process::Stdio::null());
        command
    }
}

/// The administrator's client_id and client_secret, which the node has that came first.
pub fn administrator_of(servers: &[&RunningServer]) -> (String, String) {
    let has_profile: Vec<_> = servers
        .iter()
        .filter(|server| server.data_dir.join("admin.json").exists())
        .collect();
    let [first] = has_profile[..] else {
        panic!(
            "{} of {} nodes have the administrator's secret",
            has_profile.len(),
            servers.len()
        );
    };
    first.administrator()
}
