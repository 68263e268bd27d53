//! `given(facts).when(command).then(expectation)`.

use grantlog::policy::PolicySettings;
use grantlog_projections::directory::Directory;
use grantlog_projections::event::Event;
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::recorded_event::{Envelope, RecordedEvent};
use grantlog_projections::tokens::Tokens;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    Actor, ApplicationId, Audience, SigningAlgorithm, StreamName, Timestamp, TokenLifetime,
};
use std::collections::HashMap;
use uuid::Uuid;

/// When the first fact of every specification happened.
const START: &str = "2026-03-16T09:30:00Z";

/// A span of time, in microseconds.
pub type Span = i64;

pub const fn microseconds(count: i64) -> Span {
    count
}

pub const fn seconds(count: i64) -> Span {
    count * 1_000_000
}

pub const fn hours(count: i64) -> Span {
    seconds(count * 3_600)
}

pub const fn days(count: i64) -> Span {
    hours(count * 24)
}

/// The time that long after the start.
pub fn after(span: Span) -> Timestamp {
    let start = Timestamp::parse(START).expect("a time");
    Timestamp::from_unix_micros(start.unix_micros() + span)
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Fact {
    stream: StreamName,
    event: Event,
    after: Span,
}

impl Fact {
    pub fn new(stream: StreamName, event: impl Into<Event>) -> Self {
        Self {
            stream,
            event: event.into(),
            after: 0,
        }
    }

    /// It happened that long after the start.
    pub fn at(mut self, after: Span) -> Self {
        self.after = after;
        self
    }
}

/// What the facts so far have led to.
pub struct Given {
    pub directory: Directory,
    pub key_ring: KeyRing,
    pub tokens: Tokens,
    log_size: u64,
    revisions: HashMap<String, u64>,
}

pub fn given(facts: impl IntoIterator<Item = Fact>) -> Given {
    let mut given = Given {
        directory: Directory::default(),
        key_ring: KeyRing::default(),
        tokens: Tokens::default(),
        log_size: 0,
        revisions: HashMap::new(),
    };
    facts.into_iter().for_each(|fact| given.happen(fact));
    given
}

impl Given {
    /// One more fact.
    pub fn happen(&mut self, fact: Fact) {
        let next = self.revisions.entry(fact.stream.as_str().to_owned()).or_default();
        let recorded = RecordedEvent {
            index: self.log_size,
            revision: *next,
            envelope: Envelope {
                id: Uuid::from_u128(u128::from(self.log_size)),
                stream: fact.stream,
                time: after(fact.after),
                actor: Actor::System,
                source: None,
                trace_id: None,
                event: fact.event,
            },
        };
        *next += 1;
        self.log_size += 1;
        self.directory.apply(&recorded);
        self.key_ring.apply(&recorded);
        self.tokens.apply(&recorded);
    }

    /// The application of that name.
    pub fn application(&self, client_id: &str) -> &TrustedApplication {
        self.directory
            .application(ApplicationId::of_client_id(client_id))
            .unwrap_or_else(|| panic!("the facts name no application {client_id}"))
    }

    pub fn when<C: Command>(&self, command: C) -> When<C::Outcome> {
        When {
            outcome: command.decide(self),
        }
    }
}

/// What is asked for.
pub trait Command {
    type Outcome;
    fn decide(self, given: &Given) -> Self::Outcome;
}

/// A closure over the state is a command too.
impl<O, F: FnOnce(&Given) -> O> Command for F {
    type Outcome = O;
    fn decide(self, given: &Given) -> O {
        self(given)
    }
}

pub struct When<O> {
    outcome: O,
}

impl<O> When<O> {
    #[track_caller]
    pub fn then(self, expectation: impl Expectation<O>) {
        expectation.check(self.outcome);
    }
}

/// What is decided.
pub trait Expectation<O> {
    #[track_caller]
    fn check(self, outcome: O);
}

/// A closure over the outcome is an expectation too.
impl<O, F: FnOnce(O)> Expectation<O> for F {
    #[track_caller]
    fn check(self, outcome: O) {
        self(outcome);
    }
}

/// The operator's settings of all specifications.
pub fn settings() -> PolicySettings {
    PolicySettings {
        issuer: audience("https://id.example.com"),
        default_audience: audience("https://default.example.com"),
        default_lifetime: TokenLifetime::parse(3_600).expect("a lifetime"),
        default_algorithm: SigningAlgorithm::Es256,
    }
}

pub fn audience(text: &str) -> Audience {
    Audience::parse(text).expect("an audience")
}
