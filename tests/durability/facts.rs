//! Events as the server writes them, for tests that write to a log themselves.

use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, EventStore, ExpectedRevision, MAX_EVENTS_PER_APPEND, codec};
use grantlog::service;
use grantlog_projections::Event;
use grantlog_projections::event::{
    ApiCallDenied, AuthMethod, CallReport, DenialReason, Dialect, ReferenceTokenIssued, SessionStarted, TokenIssued,
    TokenKind, TokenRevoked, TokensRevoked, Via,
};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{
    Actor, ApplicationId, ApplicationUri, Audience, KeyId, Remark, Scope, SecretHash, SecretId, SigningAlgorithm,
    Source, StreamName, SystemUser,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use uuid::Uuid;

/// A token of this application was issued.
pub fn token_issued(client_id: &str, jti: Uuid, token_hint: &str, source: Source) -> Append {
    let application_id = ApplicationId::of_client_id(client_id);
    let application_uri = ApplicationUri::parse(client_id).expect("a client_id");
    let now = service::now();
    let event = TokenIssued {
        jti,
        application_id,
        application_uri: application_uri.clone(),
        secret_id: SecretId(jti),
        auth_method: AuthMethod::ClientSecretPost,
        dialect: Dialect::Standard,
        scope_requested: None,
        scope: Scope::none(),
        audiences: Vec::new(),
        system_user: SystemUser::parse("svc").expect("a name"),
        org_code: None,
        kid: KeyId::parse("2026-03-16").expect("a key id"),
        alg: SigningAlgorithm::Es256,
        issued_at: now,
        expires_at: now,
        token_hint: token_hint.to_owned(),
    };
    let stream = StreamName::token_requests(Some(application_id));
    let envelope = Envelope {
        id: jti,
        stream: stream.clone(),
        time: now,
        actor: Actor::Application(application_uri),
        source: Some(source),
        trace_id: None,
        event: event.into(),
    };
    Append {
        stream: stream.as_str().to_owned(),
        expected: ExpectedRevision::Any,
        events: vec![codec::encode(&envelope).expect("a small event")],
    }
}

/// Appends what the API side's state is made of, about tokens that nobody has: one of each. No server may be running.
pub async fn add_token_facts(log: &Path, client_id: &str) {
    let application_id = ApplicationId::of_client_id(client_id);
    let application_uri = ApplicationUri::parse(client_id).expect("a client_id");
    let (now, later) = (service::now(), service::now().plus_seconds(600));
    let uri = || application_uri.clone();
    let of_tokens: Vec<Event> = vec![
        TokenRevoked {
            jti: Uuid::now_v7(),
            application_id,
            application_uri: uri(),
            expires_at: later,
            reason: None,
        }
        .into(),
        TokensRevoked {
            application_id,
            application_uri: uri(),
            issued_until: now.plus_seconds(-86_400),
            reason: None,
        }
        .into(),
        ReferenceTokenIssued {
            token_id: Uuid::now_v7(),
            application_id,
            application_uri: uri(),
            hash: SecretHash([7; 32]),
            hint: "abcd".into(),
            scope: Scope::none(),
            audiences: Vec::new(),
            expires_at: later,
            description: Remark::parse("a test").expect("a remark"),
        }
        .into(),
    ];
    let of_calls: Vec<Event> = vec![
        SessionStarted {
            session_id: Uuid::now_v7(),
            application_id,
            application_uri: uri(),
            jti: Uuid::now_v7(),
            token_kind: TokenKind::Jwt,
            system_user: None,
            token_expires_at: later,
            node: None,
        }
        .into(),
        ApiCallDenied {
            via: Via::Reported,
            application_id: Some(application_id),
            application_uri: Some(uri()),
            jti: None,
            token_hint: None,
            audience: Audience::parse("https://api.test/orders").expect("an audience"),
            method: "GET".into(),
            path: "/".into(),
            required_scope: String::new(),
            error: "insufficient_scope".into(),
            reason: DenialReason::RefusedByApi,
            token_kind: TokenKind::Jwt,
            report: Some(CallReport {
                id: Uuid::now_v7(),
                reporter_id: application_id,
                time: now,
                source: None,
                status: Some(403),
            }),
        }
        .into(),
    ];
    let store = SqliteEventStore::open(SqliteOptions::new(log)).expect("the log opens");
    for (stream, events) in [
        (StreamName::tokens(application_id), of_tokens),
        (StreamName::api_calls(Some(application_id)), of_calls),
    ] {
        let encoded = events.into_iter().map(|event| {
            let envelope = Envelope {
                id: Uuid::now_v7(),
                stream: stream.clone(),
                time: now,
                actor: Actor::System,
                source: None,
                trace_id: None,
                event,
            };
            codec::encode(&envelope).expect("a small event")
        });
        let append = Append {
            stream: stream.as_str().to_owned(),
            expected: ExpectedRevision::Any,
            events: encoded.collect(),
        };
        store.append_to_stream(append).await.expect("a healthy disk");
    }
    store.close().await;
}

/// Appends tokens of these applications, by turns, until the log has so many events. No server may be running.
pub async fn fill(log: &Path, client_ids: &[&str], events: u64) {
    let store = SqliteEventStore::open(SqliteOptions::new(log)).expect("the log opens");
    let source = Source {
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: None,
    };
    let mut turns = client_ids.iter().cycle();
    while store.log_size() < events {
        let client_id = turns.next().expect("an application");
        let more = MAX_EVENTS_PER_APPEND.min((events - store.log_size()) as usize);
        let mut append = token_issued(client_id, Uuid::now_v7(), "fillfill", source.clone());
        for _ in 1..more {
            append
                .events
                .extend(token_issued(client_id, Uuid::now_v7(), "fillfill", source.clone()).events);
        }
        store.append_to_stream(append).await.expect("a healthy disk");
    }
    store.close().await;
}
