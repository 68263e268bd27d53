//! A small log whose every figure can be counted by hand: what the tests of the reports stand on.

use crate::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use crate::event_store::{Append, EventStore, ExpectedRevision, codec};
use grantlog_projections::Event;
use grantlog_projections::event::*;
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

/// 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600;
pub const DAY: i64 = 86_400;
pub const ADMIN: &str = "grantlog.admin";
pub const ORDERS: &str = "orders-worker";
pub const HOSTILE: &str = "hostile.app";
pub const HOSTILE_NAME: &str = "<img src=x onerror=\"alert('1')\"> & co";
pub const HOSTILE_OWNER: &str = "=HYPERLINK(\"http://evil.example\",\"x\")";
pub const GUESSER: &str = "203.0.113.66";

pub struct ConstructedLog {
    pub store: Arc<SqliteEventStore>,
    pub folder: TempDir,
}

impl ConstructedLog {
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteEventStore::open(SqliteOptions::new(folder.path().join("events.db"))).unwrap();
        Self {
            store: Arc::new(store),
            folder,
        }
    }

    /// What a server does when it is started on an empty folder.
    pub async fn first_start(&self) {
        self.register(0, Actor::System, ADMIN, "audit:read", 100, |_| {}).await;
        let start = started(true, "a");
        self.add(1, StreamName::service(), Actor::System, None, start).await;
    }

    /// A start after a run that did not stop.
    pub async fn start_after_a_crash(&self, seconds: i64) {
        let start = started(false, "a");
        self.add(seconds, StreamName::service(), Actor::System, None, start)
            .await;
    }

    /// A start, then a hold that is placed and released, and what retention gives up.
    pub async fn hold_and_remove(&self) {
        let (start, hold_id) = (started(true, "a"), Uuid::from_u128(1));
        self.add(0, StreamName::service(), Actor::System, None, start).await;
        let placed = LegalHoldPlaced {
            hold_id,
            from_index: 12,
            through_index: Some(16),
            reason: Remark::parse("case 7").unwrap(),
        };
        let released = LegalHoldReleased { hold_id, reason: None };
        let retention = StreamName::retention;
        self.add(1, retention(), actor("auditor"), None, placed).await;
        self.add(2, retention(), actor("auditor"), None, released).await;
        let removed = EventsRemoved {
            from_index: 0,
            through_index: 16_384,
            events: 7,
            rule: RetentionRule::Age,
        };
        self.add(3, retention(), Actor::System, None, removed).await;
        let pruned = IndexPruned {
            through_index: 16_384,
            rule: RetentionRule::Size,
        };
        self.add(4, retention(), Actor::System, None, pruned).await;
    }

    /// Tokens that an administrator made and revoked, and one that its application gave up.
    pub async fn revocations(&self) {
        let (application_id, tokens) = (
            ApplicationId::of_client_id(ORDERS),
            StreamName::tokens(ApplicationId::of_client_id(ORDERS)),
        );
        let made = ReferenceTokenIssued {
            token_id: Uuid::from_u128(1),
            application_id,
            application_uri: uri(ORDERS),
            hash: SecretHash([7; 32]),
            hint: "Qz7k".into(),
            scope: Scope::parse("read").unwrap(),
            audiences: vec![Audience::parse("https://api.example").unwrap()],
            expires_at: at(DAY),
            description: Remark::parse("the import").unwrap(),
        };
        self.add(1, tokens.clone(), admin(), Some("192.0.2.1"), made).await;
        let revoked = ReferenceTokenRevoked {
            token_id: Uuid::from_u128(1),
            application_id,
            application_uri: uri(ORDERS),
            reason: Remark::parse("leaked").ok(),
        };
        self.add(2, tokens.clone(), admin(), None, revoked).await;
        for by in [admin(), actor(ORDERS)] {
            let revoked = TokenRevoked {
                jti: Uuid::from_u128(2),
                application_id,
                application_uri: uri(ORDERS),
                expires_at: at(DAY),
                reason: Remark::parse("lost").ok(),
            };
            self.add(3, tokens.clone(), by, None, revoked).await;
        }
        let all = TokensRevoked {
            application_id,
            application_uri: uri(ORDERS),
            issued_until: at(4),
            reason: Remark::parse("all lost").ok(),
        };
        self.add(4, tokens, admin(), None, all).await;
        let secret = SecretRevoked {
            application_id,
            application_uri: uri(ORDERS),
            secret_id: SecretId(Uuid::from_u128(3)),
            reason: None,
            revoke_tokens: true,
        };
        self.add(5, stream_of(ORDERS), admin(), None, secret).await;
        let disabled = ApplicationDisabled {
            application_id,
            application_uri: uri(ORDERS),
            reason: None,
            revoke_tokens: true,
        };
        self.add(6, stream_of(ORDERS), admin(), None, disabled).await;
    }

    /// The log that the tests count in:
    ///
    /// | index | day | what |
    /// |---|---|---|
    /// | 0 | 0 | start |
    /// | 1 | 0 | grantlog.admin registered by the system, secret 100 |
    /// | 2 | 0 | orders-worker registered: read update, secret 1 |
    /// | 3 | 1 | hostile.app registered: read, secret 2 |
    /// | 4 | 1 | token of orders-worker: read, asked for |
    /// | 5 | 2 | token of orders-worker: read update, not asked for |
    /// | 6 | 10 | scope of orders-worker becomes read update DomainApi |
    /// | 7 | 11 | secret 3 of orders-worker; secret 1 until day 12 |
    /// | 8–19 | 50 | 12 wrong secrets for orders-worker, a second apart |
    /// | 20 | 50 | 30 more, throttled |
    /// | 21 | 50 | a token of orders-worker with secret 3, from where the guesses came |
    /// | 22 | 60 | start after a crash, with another configuration |
    /// | 23 | 61 | auditor searches |
    /// | 24 | 61 | somebody without the scope is refused /audit/events |
    /// | 25 | 62 | auditor exports |
    /// | 26 | 100 | stop |
    /// | 27 | 101 | start |
    pub async fn of_120_days() -> Self {
        let log = Self::empty();
        let service = StreamName::service;
        log.add(0, service(), Actor::System, None, started(true, "a")).await;
        log.register(
            0,
            Actor::System,
            ADMIN,
            "applications:read applications:write audit:read",
            100,
            |_| {},
        )
        .await;
        log.register(0, admin(), ORDERS, "read update", 1, |data| {
            data.owner = Remark::parse("team-orders").ok();
        })
        .await;
        log.register(DAY, admin(), HOSTILE, "read", 2, |data| {
            data.name = Name::parse(HOSTILE_NAME).unwrap();
            data.owner = Remark::parse(HOSTILE_OWNER).ok();
        })
        .await;
        log.token(DAY, ORDERS, 1, "read", true, "192.0.2.7").await;
        log.token(2 * DAY, ORDERS, 1, "read update", false, "192.0.2.8").await;
        let changed = ApplicationChanged {
            application_id: ApplicationId::of_client_id(ORDERS),
            application_uri: uri(ORDERS),
            changes: vec![ApplicationChange::Scope(FromTo {
                from: Scope::parse("read update").unwrap(),
                to: Scope::parse("read update DomainApi").unwrap(),
            })],
            reason: Remark::parse("ticket 4711").ok(),
        };
        log.add(10 * DAY, stream_of(ORDERS), admin(), Some("198.51.100.2"), changed)
            .await;
        let rotated = SecretRotated {
            application_id: ApplicationId::of_client_id(ORDERS),
            application_uri: uri(ORDERS),
            secret: secret(3),
            superseded: vec![SupersededSecret {
                id: SecretId(Uuid::from_u128(1)),
                accepted_until: at(12 * DAY),
            }],
            reason: None,
        };
        log.add(11 * DAY, stream_of(ORDERS), admin(), Some("198.51.100.2"), rotated)
            .await;
        for second in 0..12 {
            log.refuse(50 * DAY + second, ORDERS, GUESSER).await;
        }
        let throttled = RequestsThrottled {
            client_id: Some(ORDERS.into()),
            application_id: Some(ApplicationId::of_client_id(ORDERS)),
            source: GUESSER.parse().unwrap(),
            window_seconds: 60,
            suppressed: 30,
        };
        let requests = StreamName::token_requests(Some(ApplicationId::of_client_id(ORDERS)));
        log.add(50 * DAY + 60, requests, Actor::System, None, throttled).await;
        log.token(50 * DAY + 70, ORDERS, 3, "read", true, GUESSER).await;
        log.add(60 * DAY, service(), Actor::System, None, started(false, "b"))
            .await;
        let read = AuditTrailRead {
            application_uri: uri("auditor"),
            filter: BTreeMap::from([("client_id".to_owned(), ORDERS.to_owned())]),
            rows: 4,
            through_index: 23,
            via: TrailAccess::Search,
        };
        log.add(
            61 * DAY,
            StreamName::audit_access(),
            actor("auditor"),
            Some("192.0.2.9"),
            read,
        )
        .await;
        let denied = ApiCallDenied {
            via: Via::Admin,
            application_id: Some(ApplicationId::of_client_id(ORDERS)),
            application_uri: Some(uri(ORDERS)),
            jti: None,
            token_hint: None,
            audience: Audience::parse("https://id.example.com").unwrap(),
            method: "GET".into(),
            path: "/audit/events".into(),
            required_scope: "audit:read".into(),
            error: "insufficient_scope".into(),
            reason: DenialReason::InsufficientScope,
            token_kind: TokenKind::Jwt,
            report: None,
        };
        let calls = StreamName::api_calls(Some(ApplicationId::of_client_id(ORDERS)));
        log.add(61 * DAY + 1, calls, actor(ORDERS), Some(GUESSER), denied).await;
        let exported = AuditTrailExported {
            application_uri: uri("auditor"),
            format: "ndjson".into(),
            filter: BTreeMap::new(),
            from_index: 0,
            through_index: 25,
        };
        log.add(
            62 * DAY,
            StreamName::audit_access(),
            actor("auditor"),
            Some("192.0.2.9"),
            exported,
        )
        .await;
        let stopped = ServiceStopped {
            version: "0.1.0".into(),
            reason: "SIGTERM".into(),
            node: None,
        };
        log.add(100 * DAY, service(), Actor::System, None, stopped).await;
        log.add(101 * DAY, service(), Actor::System, None, started(true, "b"))
            .await;
        assert_eq!(log.store.log_size(), 28);
        log
    }

    pub async fn node_starts(&self, seconds: i64, node: &str, clean: bool) {
        let fact = ServiceStarted {
            node: NodeName::parse(node).ok(),
            ..started(clean, node)
        };
        self.add(seconds, StreamName::service(), Actor::System, None, fact)
            .await;
    }

    pub async fn node_stops(&self, seconds: i64, node: &str) {
        let fact = ServiceStopped {
            version: "0.1.0".into(),
            reason: "SIGTERM".into(),
            node: NodeName::parse(node).ok(),
        };
        self.add(seconds, StreamName::service(), Actor::System, None, fact)
            .await;
    }

    pub async fn add(
        &self,
        seconds: i64,
        stream: StreamName,
        actor: Actor,
        source: Option<&str>,
        event: impl Into<Event>,
    ) {
        let envelope = Envelope {
            id: Uuid::now_v7(),
            stream: stream.clone(),
            time: at(seconds),
            actor,
            source: source.map(|ip| Source {
                ip: ip.parse().unwrap(),
                user_agent: None,
            }),
            trace_id: None,
            event: event.into(),
        };
        let append = Append {
            stream: stream.as_str().into(),
            expected: ExpectedRevision::Any,
            events: vec![codec::encode(&envelope).unwrap()],
        };
        self.store.append_to_stream(append).await.unwrap();
    }

    pub async fn register(
        &self,
        seconds: i64,
        by: Actor,
        client_id: &str,
        scope: &str,
        secret_id: u128,
        more: impl FnOnce(&mut ApplicationRegistered),
    ) {
        let mut data = ApplicationRegistered {
            application_id: ApplicationId::of_client_id(client_id),
            application_uri: uri(client_id),
            name: Name::parse(client_id).unwrap(),
            description: None,
            client_type: ClientType::Confidential,
            scope: Scope::parse(scope).unwrap(),
            audiences: Vec::new(),
            system_user_allowed: true,
            system_user: SystemUser::parse("svc").ok(),
            org_code: None,
            is_enabled: true,
            owner: None,
            properties: BTreeMap::new(),
            token_lifetime_seconds: None,
            allowed_networks: Vec::new(),
            reference_tokens: ReferenceTokens::None,
            secret: Some(secret(secret_id)),
        };
        more(&mut data);
        self.add(seconds, stream_of(client_id), by, None, data).await;
    }

    pub async fn token(
        &self,
        seconds: i64,
        client_id: &str,
        secret_id: u128,
        scope: &str,
        is_asked: bool,
        source: &str,
    ) {
        let application_id = ApplicationId::of_client_id(client_id);
        let scope = Scope::parse(scope).unwrap();
        let data = TokenIssued {
            jti: Uuid::now_v7(),
            application_id,
            application_uri: uri(client_id),
            secret_id: SecretId(Uuid::from_u128(secret_id)),
            auth_method: AuthMethod::ClientSecretBasic,
            dialect: Dialect::Standard,
            scope_requested: is_asked.then(|| scope.clone()),
            scope,
            audiences: Vec::new(),
            system_user: SystemUser::parse("svc").unwrap(),
            org_code: None,
            kid: KeyId::parse("2026-01-01").unwrap(),
            alg: SigningAlgorithm::Es256,
            issued_at: at(seconds),
            expires_at: at(seconds + 3_600),
            token_hint: "abcdefgh".into(),
        };
        let stream = StreamName::token_requests(Some(application_id));
        self.add(seconds, stream, actor(client_id), Some(source), data).await;
    }

    pub async fn refuse(&self, seconds: i64, client_id: &str, source: &str) {
        let application_id = ApplicationId::of_client_id(client_id);
        let data = TokenRefused {
            client_id: Some(client_id.into()),
            application_id: Some(application_id),
            error: "invalid_client".into(),
            reason: RefusalReason::SecretMismatch,
            detail: None,
            dialect: Dialect::Standard,
        };
        let stream = StreamName::token_requests(Some(application_id));
        self.add(seconds, stream, Actor::Anonymous, Some(source), data).await;
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros((START + seconds) * 1_000_000)
}

fn uri(client_id: &str) -> ApplicationUri {
    ApplicationUri::parse(client_id).unwrap()
}

fn actor(client_id: &str) -> Actor {
    Actor::Application(uri(client_id))
}

fn admin() -> Actor {
    actor(ADMIN)
}

fn stream_of(client_id: &str) -> StreamName {
    StreamName::application(ApplicationId::of_client_id(client_id))
}

fn secret(id: u128) -> IssuedSecret {
    IssuedSecret {
        id: SecretId(Uuid::from_u128(id)),
        hash: SecretHash([7; 32]),
        hint: Some("wxyz".into()),
        expires_at: None,
    }
}

fn started(clean: bool, config_digest: &str) -> ServiceStarted {
    ServiceStarted {
        version: "0.1.0".into(),
        store: "sqlite".into(),
        config_digest: config_digest.into(),
        clean,
        node: None,
    }
}
