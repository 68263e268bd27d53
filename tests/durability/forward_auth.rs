//! No call passes without its event: a proxy that asks `/verify` all the time, a server that is killed at random
//! moments, and one whose disk fails.

use crate::clients;
use crate::log::Log;
use crate::random::{Random, rounds};
use crate::running_server::{Administrator, RunningServer, request_token};
use crate::scene::{Scene, register_applications};
use crate::told::RequestName;
use grantlog_projections::Event;
use grantlog_projections::event::{ApiCallAuthorized, DenialReason, Via};
use reqwest::header::{RETRY_AFTER, USER_AGENT};
use reqwest::{Client, StatusCode};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// An answer takes much less.
const PATIENCE: Duration = Duration::from_secs(30);
/// Questions without a whole answer, one after the other, after which a proxy takes the server for gone.
const TAKEN_FOR_GONE: usize = 3;
/// What a call of the proxy needs; the tokens allow no more than `read`.
const QUESTIONS: [(&str, bool); 3] = [("scope=read", true), ("", true), ("scope=update", false)];

/// What a proxy was told.
#[derive(Default)]
struct Told {
    passed: Vec<Passed>,
    refused: Vec<RequestName>,
    /// Answers 503, and when the first was read.
    unavailable: Option<(usize, Instant)>,
    /// Without a whole answer: it may be on the record or not.
    broken_off: Vec<RequestName>,
    wrong: Vec<String>,
}

/// A call that was let through.
struct Passed {
    request: RequestName,
    client_id: String,
    session_id: String,
    token_id: String,
    asked: Instant,
}

/// Proxies at work, until the server is gone.
struct Proxies {
    tasks: JoinSet<Told>,
    answers: Arc<AtomicUsize>,
}

impl Proxies {
    fn start(http: &Client, url: &str, tokens: &Arc<Vec<String>>, count: usize, random: &mut Random) -> Self {
        let mut tasks = JoinSet::new();
        let answers = Arc::new(AtomicUsize::new(0));
        for _ in 0..count {
            let (http, url, tokens) = (http.clone(), url.to_owned(), tokens.clone());
            let (answers, mut random) = (answers.clone(), random.fork());
            tasks.spawn(async move {
                let mut told = Told::default();
                let mut failures = 0;
                while failures < TAKEN_FOR_GONE {
                    let name = RequestName::next();
                    let (token, question) = (random.pick(&tokens[..]), *random.pick(&QUESTIONS));
                    match ask(&http, &url, token, &name, question, &mut told).await {
                        Ok(()) => {
                            answers.fetch_add(1, Ordering::Relaxed);
                            failures = 0;
                        }
                        Err(_) => {
                            told.broken_off.push(name);
                            failures += 1;
                        }
                    }
                }
                told
            });
        }
        Self { tasks, answers }
    }

    async fn answered(&self, count: usize) {
        let begun = Instant::now();
        while self.answers.load(Ordering::Relaxed) < count {
            assert!(begun.elapsed() < PATIENCE, "no {count} answers within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn ended(mut self) -> Told {
        let mut told = Told::default();
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.expect("no proxy panics");
            told.passed.extend(ended.passed);
            told.refused.extend(ended.refused);
            told.broken_off.extend(ended.broken_off);
            told.wrong.extend(ended.wrong);
            told.unavailable = match (told.unavailable, ended.unavailable) {
                (Some((one, first)), Some((another, other))) => Some((one + another, first.min(other))),
                (one, another) => one.or(another),
            };
        }
        told
    }
}

/// `Err` when there is no whole answer.
async fn ask(
    http: &Client,
    url: &str,
    token: &str,
    name: &RequestName,
    (question, may_pass): (&str, bool),
    told: &mut Told,
) -> reqwest::Result<()> {
    let asked = Instant::now();
    let request = http.get(format!("{url}/verify?audience={}&{question}", clients::AUDIENCE));
    let answer = request.bearer_auth(token).header(USER_AGENT, &name.0).send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let body = answer.text().await?;
    match status {
        StatusCode::OK if may_pass => told.passed.push(Passed {
            request: name.clone(),
            client_id: header("x-client-id"),
            session_id: header("x-session-id"),
            token_id: header("x-token-id"),
            asked,
        }),
        StatusCode::FORBIDDEN if !may_pass => told.refused.push(name.clone()),
        StatusCode::SERVICE_UNAVAILABLE if headers.contains_key(RETRY_AFTER) => {
            told.unavailable.get_or_insert_with(|| (0, Instant::now())).0 += 1;
        }
        _ => told.wrong.push(format!("{question:?} was answered {status} {body}")),
    }
    Ok(())
}

/// Is what the proxies were told in the log, once?
fn check(log: &Log, told: &Told) {
    assert!(told.wrong.is_empty(), "{:?}", told.wrong);
    let calls_of = |name: &RequestName| -> Vec<Event> {
        let events = log.of_request(&name.0).map(|recorded| recorded.envelope.event.clone());
        let is_call = |event: &Event| matches!(event, Event::ApiCallAuthorized(_) | Event::ApiCallDenied(_));
        events.filter(is_call).collect()
    };
    for passed in &told.passed {
        let calls = calls_of(&passed.request);
        let [Event::ApiCallAuthorized(call)] = &calls[..] else {
            panic!("{} passed and is on the record as {calls:?}", passed.request.0);
        };
        assert_eq!(call.via, Via::ForwardAuth);
        assert_eq!(call.application_uri.as_str(), passed.client_id);
        assert_eq!(call.jti.to_string(), passed.token_id);
        assert_eq!(session_of(call).to_string(), passed.session_id);
    }
    for name in &told.refused {
        let calls = calls_of(name);
        let is_it =
            matches!(&calls[..], [Event::ApiCallDenied(call)] if call.reason == DenialReason::InsufficientScope);
        assert!(is_it, "{} was refused and is on the record as {calls:?}", name.0);
    }
    for name in &told.broken_off {
        let calls = calls_of(name).len();
        assert!(
            calls <= 1,
            "{} was asked once and is on the record {calls} times",
            name.0
        );
    }
    if let Some((_, first)) = told.unavailable {
        let later = told.passed.iter().find(|passed| passed.asked > first);
        assert!(later.is_none(), "a call passed after the log had failed");
    }
}

fn session_of(call: &ApiCallAuthorized) -> Uuid {
    call.session_id.expect("a call that passes has a session")
}

/// Every call belongs to a session that was begun before it and had not ended, and no token has two at a time.
fn check_sessions(log: &Log) {
    let mut open: HashMap<Uuid, Uuid> = HashMap::new();
    let mut known: HashSet<Uuid> = HashSet::new();
    for recorded in &log.events {
        let index = recorded.index;
        match &recorded.envelope.event {
            Event::SessionStarted(started) => {
                assert!(
                    known.insert(started.session_id),
                    "session {} begins twice",
                    started.session_id
                );
                let other = open.insert(started.jti, started.session_id);
                assert_eq!(other, None, "event {index} begins a second session of {}", started.jti);
            }
            Event::SessionEnded(ended) => {
                let was = open.remove(&ended.jti);
                assert_eq!(
                    was,
                    Some(ended.session_id),
                    "event {index} ends a session that is not open"
                );
            }
            Event::ApiCallAuthorized(call) if call.via == Via::ForwardAuth => {
                assert_eq!(
                    open.get(&call.jti),
                    Some(&session_of(call)),
                    "event {index} is of no open session"
                );
            }
            _ => {}
        }
    }
}

/// A token of each of the applications, which allows to read.
async fn tokens(http: &Client, server: &RunningServer) -> Arc<Vec<String>> {
    let administrator = Administrator::with(http.clone(), server).await;
    let applications = register_applications(&administrator).await;
    let mut tokens = Vec::new();
    for application in applications.iter() {
        let more = [("scope", "read"), ("audience", clients::AUDIENCE)];
        let (status, answer) =
            request_token(http, &server.url, &application.client_id, &application.secret(), &more).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        tokens.push(answer["access_token"].as_str().expect("a token").to_owned());
    }
    Arc::new(tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_passed_before_a_kill_is_on_the_record_once_and_its_session_goes_on() {
    let mut random = Random::seeded("forward auth, kills");
    let rounds = rounds(40);
    let (http, scene) = (clients::http(), Scene::new());
    let mut server = scene.start();
    let tokens = tokens(&http, &server).await;
    let mut log = Log::default();
    let (mut passed, mut broken_off) = (0, 0);
    for round in 1..=rounds {
        let count = 8 + random.below(41);
        let proxies = Proxies::start(&http, &server.url, &tokens, count, &mut random);
        tokio::time::sleep(random.millis(5, 200)).await;
        tokio::task::block_in_place(|| server.kill());
        let told = proxies.ended().await;
        server = scene.start();
        log.read_on(&scene.log())
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        check(&log, &told);
        assert!(told.unavailable.is_none(), "a kill is no reason to be unavailable");
        passed += told.passed.len();
        broken_off += told.broken_off.len();
    }
    check_sessions(&log);
    println!(
        "{rounds} rounds: {passed} calls passed, {broken_off} broke off, {} events",
        log.events.len()
    );
    assert!(passed > rounds);
    // A kill ends no session: the state that a start reads has it.
    let sessions = log
        .events
        .iter()
        .filter(|recorded| recorded.envelope.event.type_name() == "SessionStarted");
    let of_administrators = sessions.clone().filter(|recorded| {
        matches!(&recorded.envelope.event, Event::SessionStarted(started) if started.application_uri.as_str().starts_with("grantlog."))
    });
    assert_eq!(sessions.count() - of_administrators.count(), tokens.len());
    assert_eq!(tokio::task::block_in_place(|| server.stop()).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_passes_on_a_disk_that_fails() {
    let mut random = Random::seeded("forward auth, failing disk");
    let (http, scene) = (clients::http(), Scene::new());
    let mut server = tokio::task::block_in_place(|| scene.server_on(None, "").start());
    let tokens = tokens(&http, &server).await;
    for fault in [
        "fsync:EIO:after=5",
        "write:EIO:every=20",
        "write:ENOSPC:after=3",
        "write:TORN-EIO:after=8",
    ] {
        let proxies = Proxies::start(&http, &server.url, &tokens, 24, &mut random);
        proxies.answered(50).await;
        scene.steer(fault);
        let status = tokio::task::block_in_place(|| server.wait_for_end());
        assert_ne!(status.code(), Some(0), "{fault}");
        let told = proxies.ended().await;
        assert!(told.unavailable.is_some(), "{fault}: nobody was told");
        scene.steer("");
        server = tokio::task::block_in_place(|| scene.server_on(None, "").start());
        let log = Log::read(&scene.log())
            .await
            .unwrap_or_else(|error| panic!("{fault}: {error}"));
        check(&log, &told);
        check_sessions(&log);
    }
    assert_eq!(tokio::task::block_in_place(|| server.stop()).code(), Some(0));
}
