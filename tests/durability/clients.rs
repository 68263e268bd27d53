//! Clients that keep a server busy and remember what they were told: token requests in all dialects, some of
//! them with wrong secrets, and an administrator who changes things meanwhile.
#![allow(dead_code)] // other test targets use a part of this

use crate::random::Random;
use crate::running_server::Administrator;
use crate::told::{Change, ForwardedCall, Refusal, RequestName, Token, Told};
use crate::upstream;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// An API that the applications may ask for.
pub const AUDIENCE: &str = "https://api.test/orders";
/// Requests without a whole answer, one after the other, after which a client takes the server for gone.
const TAKEN_FOR_GONE: usize = 3;
/// What was sent arrives within this, or never.
const ON_THE_WAY: Duration = Duration::from_millis(20);
/// An answer takes much less.
const PATIENCE: Duration = Duration::from_secs(30);

/// An application and the secret that its clients use.
pub struct Application {
    pub id: String,
    pub client_id: String,
    /// Whether the administrator leaves its secret and its switch alone.
    pub is_steady: bool,
    /// Whether its server has the API behind it.
    pub is_behind_gateway: bool,
    secret: Mutex<String>,
}

impl Application {
    pub fn new(id: &str, client_id: &str, secret: &str, is_steady: bool) -> Self {
        let (id, client_id) = (id.to_owned(), client_id.to_owned());
        Self {
            id,
            client_id,
            is_steady,
            is_behind_gateway: false,
            secret: Mutex::new(secret.to_owned()),
        }
    }

    /// The same, of a server that has the API behind it.
    pub fn behind_gateway(self) -> Self {
        Self {
            is_behind_gateway: true,
            ..self
        }
    }

    pub fn secret(&self) -> String {
        self.secret.lock().unwrap().clone()
    }
}

/// What all clients of a test go through; each keeps its connection alive.
pub fn http() -> Client {
    Client::builder().timeout(PATIENCE).build().expect("a client")
}

/// Clients at work. They end when the server is gone, or when they are told to.
pub struct Clients {
    tasks: JoinSet<Told>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
}

impl Clients {
    /// So many clients of these applications, and an administrator if there is one.
    pub fn start(
        http: &Client,
        url: &str,
        applications: &Arc<Vec<Application>>,
        count: usize,
        administrator: Option<Administrator>,
        random: &mut Random,
    ) -> Self {
        let (stop, answers) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let mut client = OneClient {
                http: http.clone(),
                url: url.to_owned(),
                applications: applications.clone(),
                random: random.fork(),
                token: None,
                told: Told::default(),
            };
            let (stop, answers) = (stop.clone(), answers.clone());
            tasks.spawn(async move {
                let mut failures = 0;
                while failures < TAKEN_FOR_GONE && !stop.load(Ordering::Relaxed) {
                    match client.request().await {
                        Ok(()) => {
                            failures = 0;
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {
                            failures += 1;
                            client.told.broken_off += 1;
                        }
                    }
                }
                client.told
            });
        }
        if let Some(administrator) = administrator {
            let mut changes = Changes {
                administrator,
                applications: applications.clone(),
                random: random.fork(),
                known_switches: vec![None; applications.len()],
                told: Told::default(),
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if changes.make_one().await.is_err() {
                        changes.told.broken_off += 1;
                        break;
                    }
                }
                changes.told
            });
        }
        Self { tasks, stop, answers }
    }

    /// Waits until the clients have had so many answers.
    pub async fn answered(&self, count: usize) {
        let begun = Instant::now();
        while self.answers.load(Ordering::Relaxed) < count {
            assert!(begun.elapsed() < PATIENCE, "no {count} answers within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets them finish what they are at.
    pub async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.ended().await
    }

    /// Waits until they have noticed that the server is gone.
    pub async fn ended(mut self) -> Told {
        let mut told = Told::default();
        while let Some(ended) = self.tasks.join_next().await {
            told.add(ended.expect("no client panics"));
        }
        // What is on the way to the API when the last answer is there has arrived a moment later.
        tokio::time::sleep(ON_THE_WAY).await;
        for call in &mut told.forwarded {
            call.reached += upstream::reached(&call.request);
        }
        told
    }
}

struct OneClient {
    http: Client,
    url: String,
    applications: Arc<Vec<Application>>,
    random: Random,
    /// The last token that it got.
    token: Option<String>,
    told: Told,
}

impl OneClient {
    /// `Err` when there is no whole answer.
    async fn request(&mut self) -> reqwest::Result<()> {
        match self.token.clone() {
            Some(token) if self.random.percent(40) => self.call_api(&token).await,
            _ => self.request_token().await,
        }
    }

    /// Calls the API behind the server.
    async fn call_api(&mut self, token: &str) -> reqwest::Result<()> {
        let name = RequestName::next();
        let asked = Instant::now();
        let method = if self.random.percent(50) {
            Method::GET
        } else {
            Method::POST
        };
        let request = self.http.request(method, format!("{}/api/orders", self.url));
        let answer = request.bearer_auth(token).header(USER_AGENT, &name.0).send().await;
        let mut call = ForwardedCall {
            request: name,
            reached: 0,
            is_let_through: None,
            asked,
        };
        let answer = match answer {
            Ok(answer) => {
                let (status, retry_after) = (answer.status(), answer.headers().contains_key(RETRY_AFTER));
                answer.bytes().await.map(|body| (status, retry_after, body))
            }
            Err(error) => Err(error),
        };
        match &answer {
            Ok((StatusCode::OK, ..)) => call.is_let_through = Some(true),
            Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, ..)) => call.is_let_through = Some(false),
            Ok((StatusCode::SERVICE_UNAVAILABLE, true, _)) => self.told.is_unavailable(),
            Ok((status, _, body)) => self.told.wrong.push(format!("a call was answered {status} {body:?}")),
            Err(_) => {}
        }
        self.told.forwarded.push(call);
        answer.map(drop)
    }

    /// `Err` when there is no whole answer.
    async fn request_token(&mut self) -> reqwest::Result<()> {
        let applications = self.applications.clone();
        let application = self.random.pick(&applications);
        let (mut client_id, mut secret) = (application.client_id.clone(), application.secret());
        let mut scope = "read";
        match self.random.below(100) {
            0..8 => secret.push('x'),
            8..12 => client_id = format!("nobody-{}", self.random.below(1_000)),
            12..15 => scope = "read everything",
            _ => {}
        }
        let name = RequestName::next();
        let is_json = self.random.percent(25);
        let request = self.in_some_dialect(is_json, &client_id, &secret, scope);
        let asked = Instant::now();
        let answer = request.header(USER_AGENT, &name.0).send().await?;
        let (status, retry_after) = (answer.status(), answer.headers().contains_key(RETRY_AFTER));
        let body = answer.bytes().await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (token, error) = match is_json {
            true => (&body["data"]["accessToken"], &body["error"]["code"]),
            false => (&body["access_token"], &body["error"]),
        };
        match (status, token.as_str(), error.as_str()) {
            (StatusCode::OK, Some(text), _) => match read_token(name, &client_id, text, asked) {
                Some(token) => {
                    if application.is_behind_gateway {
                        self.token = Some(text.to_owned());
                    }
                    self.told.tokens.push(token);
                }
                None => self.told.wrong.push(format!("this is no token: {body}")),
            },
            (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED, _, Some(error)) => {
                self.told.refusals.push(Refusal {
                    request: name,
                    error: error.to_owned(),
                });
            }
            (StatusCode::SERVICE_UNAVAILABLE, None, Some("temporarily_unavailable")) if retry_after => {
                self.told.is_unavailable();
            }
            _ => self
                .told
                .wrong
                .push(format!("a token request was answered {status} {body}")),
        }
        Ok(())
    }

    fn in_some_dialect(&mut self, is_json: bool, client_id: &str, secret: &str, scope: &str) -> RequestBuilder {
        if is_json {
            let body = json!({"grantType": "client_credentials", "clientId": client_id, "clientSecret": secret,
                              "scope": scope});
            return self.http.post(format!("{}/token", self.url)).json(&body);
        }
        let mut form = vec![("grant_type", "client_credentials"), ("scope", scope)];
        let mut path = "/connect/token";
        if self.random.percent(33) {
            path = "/oauth2/token";
            form.push(("audience", AUDIENCE));
        }
        let request = self.http.post(format!("{}{path}", self.url));
        if self.random.percent(50) {
            request.basic_auth(client_id, Some(secret)).form(&form)
        } else {
            form.extend([("client_id", client_id), ("client_secret", secret)]);
            request.form(&form)
        }
    }
}

/// What its holder can read in a token (RFC 7519 §3.1).
fn read_token(request: RequestName, client_id: &str, token: &str, asked: Instant) -> Option<Token> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(Token {
        request,
        client_id: (claims["client_id"].as_str()? == client_id).then(|| client_id.to_owned())?,
        jti: claims["jti"].as_str()?.parse().ok()?,
        hint: token.get(token.len() - 8..)?.to_owned(),
        asked,
    })
}

struct Changes {
    administrator: Administrator,
    applications: Arc<Vec<Application>>,
    random: Random,
    /// Whether an application is enabled, as far as the answers tell.
    known_switches: Vec<Option<bool>>,
    told: Told,
}

impl Changes {
    /// `Err` when there is no whole answer.
    async fn make_one(&mut self) -> reqwest::Result<()> {
        let applications = self.applications.clone();
        let at = self.random.below(applications.len());
        let application = &applications[at];
        let path = format!("/admin/applications/{}", application.id);
        match self.random.below(10) {
            0..3 if !application.is_steady => {
                let body = json!({"overlap_seconds": 2, "reason": "rotated by a test"});
                let made = self
                    .call(Method::POST, &format!("{path}/secrets"), &body, Some("SecretRotated"))
                    .await?;
                if let Some(secret) = made["client_secret"].as_str() {
                    *application.secret.lock().unwrap() = secret.to_owned();
                }
            }
            3..6 if !application.is_steady => {
                let on = self.known_switches[at] != Some(true);
                let (verb, event_type) = if on {
                    ("enable", "ApplicationEnabled")
                } else {
                    ("disable", "ApplicationDisabled")
                };
                // The first time it may be enabled already: then nothing changes.
                let expected = self.known_switches[at].map(|_| event_type);
                let made = self
                    .call(Method::POST, &format!("{path}/{verb}"), &json!({}), expected)
                    .await?;
                // An answer that it is unavailable leaves open what became of it.
                self.known_switches[at] = made["is_enabled"].as_bool();
            }
            6..8 => {
                let query = format!("/audit/events?limit=3&client_id={}", application.client_id);
                self.call(Method::GET, &query, &Value::Null, Some("AuditTrailRead"))
                    .await?;
            }
            _ => {
                let body = json!({"description": RequestName::next().0, "properties": {"round": "another"}});
                self.call(Method::PATCH, &path, &body, Some("ApplicationChanged"))
                    .await?;
            }
        }
        Ok(())
    }

    async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        event_type: Option<&'static str>,
    ) -> reqwest::Result<Value> {
        let name = RequestName::next();
        let mut request = self.administrator.request(method, path).header(USER_AGENT, &name.0);
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let (status, retry_after) = (answer.status(), answer.headers().contains_key(RETRY_AFTER));
        let body = answer.bytes().await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            let revision = body["revision"].as_u64();
            self.told.changes.push(Change {
                request: name,
                event_type,
                revision,
            });
        } else if status == StatusCode::SERVICE_UNAVAILABLE && retry_after {
            self.told.is_unavailable();
        } else if status == StatusCode::CONFLICT && event_type == Some("SecretRotated") {
            // More rotations within an overlap than an application may have secrets: a quick machine gets there. It
            // is told so, and nothing has changed.
        } else {
            self.told.wrong.push(format!("{path} was answered {status} {body}"));
        }
        Ok(body)
    }
}
