//! A server on a port of its own that knows the metadata, gives tokens, and otherwise answers as it was told.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub const CLIENT_ID: &str = "grantlog.admin";
pub const CLIENT_SECRET: &str = "gls_s3cret+/%";
/// `CLIENT_ID` and `CLIENT_SECRET`, form-encoded, in base64.
pub const BASIC: &str = "Basic Z3JhbnRsb2cuYWRtaW46Z2xzX3MzY3JldCUyQiUyRiUyNQ==";
pub const TOKEN: &str = "eyJ0.admin.token";

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub authorization: Option<String>,
    pub if_match: Option<String>,
    pub content_type: Option<String>,
    pub user_agent: Option<String>,
    pub body: String,
}

/// An answer to be given once.
struct Reply {
    method: &'static str,
    target: String,
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

#[derive(Default)]
struct State {
    base: String,
    issuer_path: String,
    replies: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<Seen>>,
}

pub struct FakeServer {
    pub url: String,
    state: Arc<State>,
    handle: actix_web::dev::ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    pub fn start() -> Self {
        Self::start_below("", None)
    }

    /// With a path in its issuer, and with TLS.
    pub fn start_below(issuer_path: &str, tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            base: base.clone(),
            issuer_path: issuer_path.into(),
            ..State::default()
        });
        let shared = web::Data::from(state.clone());
        let (send, receive) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || App::new().app_data(shared.clone()).default_service(web::to(answer));
                let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(0);
                let server = match tls {
                    None => server.listen(listener).unwrap().run(),
                    Some(tls) => server.listen_rustls_0_23(listener, tls).unwrap().run(),
                };
                send.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        let handle = receive.recv().unwrap();
        Self {
            url: format!("{base}{issuer_path}"),
            state,
            handle,
            thread: Some(thread),
        }
    }

    /// Answers the next request of this kind so. Whatever is asked without having been expected is
    /// answered in a way that fails the test.
    pub fn on(&self, method: &'static str, target: &str, status: u16, body: Value) -> &Self {
        let content_type = if status >= 400 {
            "application/problem+json"
        } else {
            "application/json"
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.on_raw(
            method,
            target,
            status,
            vec![("Content-Type", content_type.into())],
            body,
        )
    }

    pub fn on_raw(
        &self,
        method: &'static str,
        target: &str,
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    ) -> &Self {
        let target = format!("{}{target}", self.state.issuer_path);
        self.state.replies.lock().unwrap().push_back(Reply {
            method,
            target,
            status,
            headers,
            body,
        });
        self
    }

    /// Every request so far, and that all that was expected has come.
    pub fn seen(&self) -> Vec<Seen> {
        let missing: Vec<_> = self
            .state
            .replies
            .lock()
            .unwrap()
            .iter()
            .map(|reply| format!("{} {}", reply.method, reply.target))
            .collect();
        assert!(missing.is_empty(), "expected, but never asked: {missing:?}");
        self.state.seen.lock().unwrap().clone()
    }

    /// The requests that came with the token, and that a token was asked for with this scope only.
    pub fn seen_with_scope(&self, scope: &str) -> Vec<Seen> {
        let scope: String = url::form_urlencoded::byte_serialize(scope.as_bytes()).collect();
        self.seen_asking_for(&format!("&scope={scope}"))
    }

    /// The same for a command that asks for all that its profile may have.
    pub fn seen_with_every_scope(&self) -> Vec<Seen> {
        self.seen_asking_for("")
    }

    fn seen_asking_for(&self, scope: &str) -> Vec<Seen> {
        let seen = self.seen();
        let (signing_in, calls) = seen.split_at(2.min(seen.len()));
        let issuer: String = url::form_urlencoded::byte_serialize(self.url.as_bytes()).collect();
        let expected = format!("grant_type=client_credentials{scope}&audience={issuer}");
        assert_eq!(
            signing_in[0].target,
            format!("{}/.well-known/oauth-authorization-server", self.state.issuer_path)
        );
        assert_eq!(signing_in[0].authorization, None);
        assert_eq!(
            (signing_in[1].method.as_str(), signing_in[1].body.as_str()),
            ("POST", expected.as_str())
        );
        assert_eq!(signing_in[1].authorization.as_deref(), Some(BASIC));
        for call in calls {
            assert_eq!(call.authorization, Some(format!("Bearer {TOKEN}")), "{call:?}");
        }
        calls.to_vec()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Seen {
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.content_type.as_deref(), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn answer(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let seen = Seen {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        authorization: header("authorization"),
        if_match: header("if-match"),
        content_type: header("content-type"),
        user_agent: header("user-agent"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    state.seen.lock().unwrap().push(seen.clone());
    let scripted = {
        let mut replies = state.replies.lock().unwrap();
        let at = replies
            .iter()
            .position(|reply| reply.method == seen.method && reply.target == seen.target);
        at.and_then(|at| replies.remove(at))
    };
    if let Some(reply) = scripted {
        let mut response = HttpResponse::build(StatusCode::from_u16(reply.status).unwrap());
        for header in reply.headers {
            response.insert_header(header);
        }
        return response.body(reply.body);
    }
    let issuer = format!("{}{}", state.base, state.issuer_path);
    match seen.target.strip_prefix(&state.issuer_path) {
        Some("/.well-known/oauth-authorization-server") => {
            HttpResponse::Ok().json(json!({ "issuer": issuer, "token_endpoint": format!("{issuer}/connect/token") }))
        }
        Some("/connect/token") => {
            HttpResponse::Ok().json(json!({ "access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer" }))
        }
        _ => HttpResponse::ImATeapot().body(format!("not expected: {}", seen.line())),
    }
}
