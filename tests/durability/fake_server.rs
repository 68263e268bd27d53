//! A server that is as wrong as a test wants it to be. It speaks the token endpoint's dialects, grants
//! everything, and keeps its log with the library's store. It is this very test program, which is started again
//! to run [`a_child_process_serves_as_its_parent_tells_it`] alone.

use crate::facts;
use crate::scene::Scene;
use crate::shim::{Disk, FaultShim};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use grantlog::event_store::sqlite::{Durability, SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, EventStore};
use grantlog_projections::values::Source;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use uuid::Uuid;

const LOG: &str = "DURABILITY_FAKE_LOG";
const DURABILITY: &str = "DURABILITY_FAKE_DURABILITY";
const REPLIES: &str = "DURABILITY_FAKE_REPLIES";
/// What its word begins with, to be told from those of the test harness.
const WORD: &str = "fake server: ";

/// When a token leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// As from the real server.
    AfterTheCommit,
    /// While its event is on its way to the log.
    BeforeTheCommit,
}

/// A fake server that runs until it is killed.
pub struct FakeServer {
    child: Child,
    pub url: String,
}

impl FakeServer {
    /// Over the log of this scene, on a disk with this fault of the shim. `Err` when it ends instead of serving.
    pub fn start(
        scene: &Scene,
        replies: Replies,
        durability: Durability,
        disk: Option<(&Disk, &str)>,
    ) -> Result<Self, String> {
        std::fs::create_dir_all(scene.data()).expect("a folder");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args([
                "--exact",
                "fake_server::a_child_process_serves_as_its_parent_tells_it",
                "--nocapture",
            ])
            .env(LOG, scene.log())
            .env(DURABILITY, format!("{durability:?}"))
            .env(REPLIES, format!("{replies:?}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some((disk, fault)) = disk {
            FaultShim::build().preload(&mut command);
            disk.attach(&mut command);
            command
                .env("GRANTLOG_DISK_PATH", "events.db")
                .env("GRANTLOG_FAULT", fault);
        }
        let mut child = command.spawn().expect("this program starts");
        let mut words = BufReader::new(child.stdout.take().expect("stdout is piped"))
            .lines()
            .map_while(Result::ok);
        let word = words.find_map(|line| Some(line.split_once(WORD)?.1.to_owned()));
        match word {
            Some(url) if url.starts_with("http") => Ok(Self { child, url }),
            other => {
                child.wait().expect("it has ended");
                Err(other.unwrap_or_default())
            }
        }
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With a log in its environment it is such a child; else it holds the words that parents use.
#[test]
fn a_child_process_serves_as_its_parent_tells_it() {
    let Some(log) = std::env::var_os(LOG) else {
        for durability in [Durability::Full, Durability::UnsafeNormal] {
            assert_eq!(durability_told(&format!("{durability:?}")), durability);
        }
        for replies in [Replies::AfterTheCommit, Replies::BeforeTheCommit] {
            assert_eq!(replies_told(&format!("{replies:?}")), replies);
        }
        return;
    };
    let told = |name| std::env::var(name).expect("a parent tells everything");
    serve(
        Path::new(&log),
        durability_told(&told(DURABILITY)),
        replies_told(&told(REPLIES)),
    )
    .expect("it serves until it is killed");
}

fn durability_told(text: &str) -> Durability {
    match text {
        "Full" => Durability::Full,
        "UnsafeNormal" => Durability::UnsafeNormal,
        _ => panic!("{text} is no durability"),
    }
}

fn replies_told(text: &str) -> Replies {
    match text {
        "AfterTheCommit" => Replies::AfterTheCommit,
        "BeforeTheCommit" => Replies::BeforeTheCommit,
        _ => panic!("{text} is no moment"),
    }
}

#[actix_web::main]
async fn serve(log: &Path, durability: Durability, replies: Replies) -> std::io::Result<()> {
    let options = SqliteOptions {
        durability,
        ..SqliteOptions::new(log)
    };
    let store = match SqliteEventStore::open(options) {
        Ok(store) => web::Data::new(Arc::new(store)),
        Err(error) => return say(&error.to_string()),
    };
    let server = HttpServer::new(move || {
        let token = move |request: HttpRequest, body: web::Bytes, store: web::Data<Arc<SqliteEventStore>>| async move {
            grant(&request, &body, &store, replies).await
        };
        App::new()
            .app_data(store.clone())
            .default_service(web::post().to(token))
    });
    let server = server.workers(2).bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0];
    say(&format!("http://{address}"))?;
    server.run().await
}

fn say(word: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{WORD}{word}")?;
    out.flush()
}

async fn grant(request: &HttpRequest, body: &[u8], store: &SqliteEventStore, replies: Replies) -> HttpResponse {
    let client_id = client_id(request, body).expect("the clients send their client_id");
    let jti = Uuid::now_v7();
    let part = |content: Value| URL_SAFE_NO_PAD.encode(content.to_string());
    let claims = part(json!({"jti": jti, "client_id": client_id}));
    let token = format!("{}.{claims}.{}", part(json!({"alg": "none"})), jti.simple());
    let append = store.append_to_stream(issued(request, &client_id, jti, &token));
    if replies == Replies::AfterTheCommit
        && let Err(error) = append.await
    {
        let body = match request.path() {
            "/token" => json!({"error": {"code": "temporarily_unavailable", "message": error.to_string()}}),
            _ => json!({"error": "temporarily_unavailable"}),
        };
        return HttpResponse::ServiceUnavailable()
            .insert_header(("Retry-After", "1"))
            .json(body);
    }
    match request.path() {
        "/token" => HttpResponse::Ok().json(json!({"data": {"accessToken": token}})),
        _ => HttpResponse::Ok().json(json!({"access_token": token})),
    }
}

fn issued(request: &HttpRequest, client_id: &str, jti: Uuid, token: &str) -> Append {
    let user_agent = request
        .headers()
        .get("user-agent")
        .and_then(|value| value.to_str().ok());
    let ip = request.peer_addr().expect("a peer").ip();
    let source = Source {
        ip,
        user_agent: user_agent.map(Into::into),
    };
    facts::token_issued(client_id, jti, &token[token.len() - 8..], source)
}

fn client_id(request: &HttpRequest, body: &[u8]) -> Option<String> {
    if request.path() == "/token" {
        let body: Value = serde_json::from_slice(body).ok()?;
        return Some(body["clientId"].as_str()?.to_owned());
    }
    if let Some(basic) = request.headers().get("authorization") {
        let credentials = STANDARD.decode(basic.to_str().ok()?.strip_prefix("Basic ")?).ok()?;
        return Some(String::from_utf8(credentials).ok()?.split_once(':')?.0.to_owned());
    }
    let mut form = url::form_urlencoded::parse(body);
    form.find(|(name, _)| name == "client_id")
        .map(|(_, value)| value.into_owned())
}
