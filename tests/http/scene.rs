//! A server of a test's own, its administrator, and its log.

use crate::running_server::{Administrator, RunningServer, Start, json};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, Direction, EventStore, ExpectedRevision, codec};
use grantlog_projections::Event;
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, StreamName, Timestamp};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// What is asynchronous (the audit index, reports) happens well within this.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Scene {
    pub server: RunningServer,
    pub http: Client,
    /// As `listening on` said it, or below an issuer's path.
    pub url: String,
    administrator: Administrator,
    /// Deleted last.
    pub folder: TempDir,
}

impl Scene {
    pub async fn start() -> Self {
        Self::with_config("").await
    }

    pub async fn with_config(toml: &str) -> Self {
        Self::in_folder(tempfile::tempdir().expect("a folder"), toml).await
    }

    pub async fn in_folder(folder: TempDir, toml: &str) -> Self {
        let server = Start::over(&folder.path().join("data")).with_config(toml).start();
        let http = client();
        let administrator = Administrator::with(http.clone(), &server).await;
        Self {
            url: server.url.clone(),
            server,
            http,
            administrator,
            folder,
        }
    }

    /// Stops the server in an orderly way and gives the folder back.
    pub fn stop(self) -> TempDir {
        let status = self.server.stop();
        assert_eq!(status.code(), Some(0), "an orderly stop");
        self.folder
    }

    /// Kills the server and gives the folder back.
    pub fn kill(self) -> TempDir {
        self.server.kill();
        self.folder
    }

    /// A request with the administrator's token.
    pub fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.administrator.request(method, path)
    }

    /// A request with the administrator's token and a JSON body: its status and JSON answer.
    pub async fn administer(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        json(self.admin(method, path).json(&body).send().await.expect("an answer")).await
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.administrator.get(path).await
    }

    /// Registers an application that may have tokens, with whatever else is given.
    pub async fn register(&self, application_uri: &str, more: Value) -> Application {
        let mut body = json!({
            "application_uri": application_uri, "system_user": "svc.integration", "scope": "read update DomainApi",
        });
        merge(&mut body, more);
        let made = self.administrator.register(body).await;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Application {
            id: text("id"),
            client_id: text("client_id"),
            client_secret: text("client_secret"),
            secret_id: text("secret_id"),
        }
    }

    /// Registers an API and answers its id.
    pub async fn register_api(&self, audience: &str, more: Value) -> String {
        let mut body = json!({"audience": audience});
        merge(&mut body, more);
        let (status, made) = self.administrator.post("/admin/apis", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["id"].as_str().expect("an id").to_owned()
    }

    /// A token request in the standard dialect.
    pub async fn ask(&self, client_id: &str, client_secret: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_secret", client_secret),
        ];
        form.extend_from_slice(more);
        let request = self.http.post(format!("{}/connect/token", self.url)).form(&form);
        Answer::of(request.send().await.expect("an answer")).await
    }

    /// A token of the application.
    pub async fn token(&self, application: &Application, more: &[(&str, &str)]) -> String {
        let answer = self.ask(&application.client_id, &application.client_secret, more).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()["access_token"].as_str().expect("a token").to_owned()
    }

    /// A request with that token.
    pub fn with_token(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(token)
    }

    /// The events of the log, from an index on, read beside the server: reading leaves no event.
    pub async fn log_from(&self, index: u64) -> Vec<Logged> {
        read_log(&self.folder, index).await
    }

    pub async fn log(&self) -> Vec<Logged> {
        self.log_from(0).await
    }

    pub async fn log_size(&self) -> u64 {
        self.log().await.len() as u64
    }

    /// Waits until there are such events.
    pub async fn wait_for(&self, what: &str, is_there: impl Fn(&[Logged]) -> bool) -> Vec<Logged> {
        let started = Instant::now();
        loop {
            let log = self.log().await;
            if is_there(&log) {
                return log;
            }
            assert!(started.elapsed() < PATIENCE, "{what} is not in the log: {log:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A search of the trail, repeated until the index has read what the log held at first.
    pub async fn search(&self, query: &str) -> Value {
        let wanted = self.log_size().await;
        let started = Instant::now();
        loop {
            let (status, page) = self.get(&format!("/audit/events?{query}")).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            if page["indexed_through"].as_u64().expect("a number") >= wanted {
                return page;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the index does not reach {wanted}: {page}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An application as its registration answered it.
#[derive(Debug, Clone)]
pub struct Application {
    pub id: String,
    pub client_id: String,
    pub client_secret: String,
    pub secret_id: String,
}

impl Application {
    pub fn path(&self) -> String {
        format!("/admin/applications/{}", self.id)
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.text().await.expect("a body"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice");
        Some(value.to_str().expect("a printable header"))
    }
}

/// An event of the log.
#[derive(Debug, Clone)]
pub struct Logged {
    pub index: u64,
    pub revision: u64,
    /// The stored envelope.
    pub event: Value,
}

impl Logged {
    pub fn kind(&self) -> &str {
        self.event["type"].as_str().expect("a type")
    }

    pub fn data(&self) -> &Value {
        &self.event["data"]
    }
}

pub async fn read_log(folder: &TempDir, from: u64) -> Vec<Logged> {
    read_log_of(&folder.path().join("data/events.db"), from).await
}

/// The events of the log in this file, from an index on.
pub async fn read_log_of(path: &Path, from: u64) -> Vec<Logged> {
    let store = SqliteEventStore::open_read_only(SqliteOptions {
        readers: 1,
        ..SqliteOptions::new(path)
    })
    .expect("the log opens");
    let mut log = Vec::new();
    loop {
        let read = store
            .read_all(from + log.len() as u64, Direction::Forwards, 4_096)
            .await
            .expect("the log can be read");
        if read.is_empty() {
            return log;
        }
        log.extend(read.iter().map(|stored| Logged {
            index: stored.index,
            revision: stored.revision,
            event: serde_json::from_slice(&stored.bytes).expect("an event is JSON"),
        }));
    }
}

/// Adds facts to the log of a server that does not run, as another server would have written them.
pub async fn append_to_log(folder: &TempDir, facts: Vec<(StreamName, Event)>) {
    append_to_log_at(folder, grantlog::service::now(), facts).await;
}

/// The same at a time of the past.
pub async fn append_to_log_at(folder: &TempDir, time: Timestamp, facts: Vec<(StreamName, Event)>) {
    let path = folder.path().join("data/events.db");
    let store = SqliteEventStore::open(SqliteOptions::new(path)).expect("the log opens");
    for (stream, event) in facts {
        let envelope = Envelope {
            id: Uuid::now_v7(),
            stream: stream.clone(),
            time,
            actor: Actor::System,
            source: None,
            trace_id: None,
            event,
        };
        let append = Append {
            stream: stream.as_str().to_owned(),
            expected: ExpectedRevision::Any,
            events: vec![codec::encode(&envelope).expect("a small event")],
        };
        store.append_to_stream(append).await.expect("a healthy disk");
    }
    store.close().await;
}

/// Without system certificates, which take long to read, and without a proxy.
pub fn client() -> Client {
    Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .build()
        .expect("a client")
}

/// An application without how often its secrets were used, which is counted a little later.
pub fn without_usage(mut application: Value) -> Value {
    if let Some(shown) = application.as_object_mut() {
        shown.remove("usage_through");
    }
    for secret in application["secrets"].as_array_mut().expect("secrets") {
        let secret = secret.as_object_mut().expect("an object");
        secret.remove("uses");
        secret.remove("last_used");
    }
    application
}

/// Puts the members of one object into another.
pub fn merge(into: &mut Value, more: Value) {
    let into = into.as_object_mut().expect("an object");
    if let Value::Object(more) = more {
        into.extend(more);
    }
}

/// The middle part of a JWT, read without looking at its signature.
pub fn claims(token: &str) -> Value {
    decoded_part(token, 1)
}

/// The first part of a JWT.
pub fn jose_header(token: &str) -> Value {
    decoded_part(token, 0)
}

fn decoded_part(token: &str, part: usize) -> Value {
    use base64::Engine;
    let part = token.split('.').nth(part).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}
