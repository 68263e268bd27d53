//! A log in memory and facts to put in it: what the tests of the audit trail stand on.

use crate::event_store::{
    Append, AppendError, Appended, BoxFuture, Direction, EventStore, MAX_EVENTS_PER_READ, ReadError, StoredEvent,
    Subscription, codec,
};
use grantlog_projections::Event;
use grantlog_projections::audit_record::Outcome;
use grantlog_projections::event::{
    ApiCallAuthorized, ApplicationDisabled, AuthMethod, CallReport, Dialect, IndexPruned, RefusalReason,
    RequestsThrottled, RetentionRule, ServiceStopped, SessionStarted, TokenIssued, TokenKind, TokenRefused, Via,
};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::*;
use proptest::prelude::*;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use uuid::Uuid;

/// A fact with what the audit trail is to find it by, told apart from how the audit trail reads it.
#[derive(Debug, Clone)]
pub struct Fact {
    pub event_type: &'static str,
    pub client_id: Option<&'static str>,
    pub ip: Option<IpAddr>,
    pub micros: i64,
}

pub const CLIENTS: [&str; 4] = ["orders", "billing/eu", "reports", "never-seen"];
pub const TYPES: [&str; 8] = [
    "TokenIssued",
    "TokenRefused",
    "ServiceStopped",
    "ApplicationDisabled",
    "RequestsThrottled",
    "ApiCallAuthorized",
    "SessionStarted",
    "ApiDeleted",
];
pub const ADDRESSES: [&str; 5] = [
    "192.0.2.1",
    "::ffff:192.0.2.1",
    "198.51.100.7",
    "2001:db8::5",
    "203.0.113.9",
];

impl Fact {
    pub fn outcome(&self) -> Outcome {
        match self.event_type {
            "TokenRefused" | "RequestsThrottled" => Outcome::Refused,
            _ => Outcome::Success,
        }
    }

    pub fn envelope(&self) -> Envelope {
        let client = self.client_id.unwrap_or("nobody");
        let uri = ApplicationUri::parse(client).unwrap();
        let application_id = ApplicationId::of(&uri);
        let time = Timestamp::from_unix_micros(self.micros);
        let event: Event = match self.event_type {
            "TokenIssued" => TokenIssued {
                jti: Uuid::nil(),
                application_id,
                application_uri: uri,
                secret_id: SecretId(Uuid::nil()),
                auth_method: AuthMethod::ClientSecretBasic,
                dialect: Dialect::Standard,
                scope_requested: None,
                scope: Scope::parse("read update").unwrap(),
                audiences: vec![Audience::parse("https://api.example").unwrap()],
                system_user: SystemUser::parse("svc.integration").unwrap(),
                org_code: None,
                kid: KeyId::parse("2026-03-16").unwrap(),
                alg: SigningAlgorithm::Es256,
                issued_at: time,
                expires_at: time.plus_seconds(3_600),
                token_hint: "abcdefgh".into(),
            }
            .into(),
            "TokenRefused" => TokenRefused {
                client_id: self.client_id.map(str::to_owned),
                application_id: None,
                error: "invalid_client".into(),
                reason: RefusalReason::UnknownClient,
                detail: None,
                dialect: Dialect::Json,
            }
            .into(),
            "RequestsThrottled" => RequestsThrottled {
                client_id: Some(client.into()),
                application_id: None,
                source: IpAddr::from([192, 0, 2, 200]),
                window_seconds: 60,
                suppressed: 9,
            }
            .into(),
            "ApplicationDisabled" => ApplicationDisabled {
                application_id,
                application_uri: uri,
                reason: None,
                revoke_tokens: false,
            }
            .into(),
            "ServiceStopped" => ServiceStopped {
                version: "0.1.0".into(),
                reason: "SIGTERM".into(),
                node: None,
            }
            .into(),
            // Every other call is told by its API, which calls from elsewhere.
            "ApiCallAuthorized" => ApiCallAuthorized {
                via: if self.is_told() { Via::Reported } else { Via::Gateway },
                application_id,
                application_uri: uri,
                jti: Uuid::from_u128(7),
                token_hint: "abcdefgh".into(),
                system_user: None,
                org_code: None,
                audience: Audience::parse("https://api.example").unwrap(),
                method: "GET".into(),
                path: "/odata".into(),
                required_scope: "read".into(),
                session_id: Some(Uuid::from_u128(8)),
                token_kind: TokenKind::Jwt,
                report: self.is_told().then(|| CallReport {
                    id: Uuid::from_u128(self.micros as u128),
                    reporter_id: application_id,
                    time,
                    source: self.source(),
                    status: Some(200),
                }),
            }
            .into(),
            "SessionStarted" => SessionStarted {
                session_id: Uuid::from_u128(8),
                application_id,
                application_uri: uri,
                jti: Uuid::from_u128(7),
                token_kind: TokenKind::Jwt,
                system_user: None,
                token_expires_at: time.plus_seconds(3_600),
                node: None,
            }
            .into(),
            other => panic!("no such fact here: {other}"),
        };
        Envelope {
            id: Uuid::from_u128(self.micros as u128),
            stream: StreamName::token_requests(Some(application_id)),
            time,
            actor: Actor::Anonymous,
            source: match self.is_told() {
                true => Some(Source {
                    ip: IpAddr::from([192, 0, 2, 99]),
                    user_agent: None,
                }),
                false => self.source(),
            },
            trace_id: None,
            event,
        }
    }
}

impl Fact {
    /// Whether it is a call that its API has told of.
    fn is_told(&self) -> bool {
        self.event_type == "ApiCallAuthorized" && self.micros % 2 == 0
    }

    fn source(&self) -> Option<Source> {
        self.ip.map(|ip| Source {
            ip,
            user_agent: Some("test/1".into()),
        })
    }
}

/// A log's worth of facts: few values, so that they meet, and times that step back now and then.
pub fn facts(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Fact>> {
    let fact = (
        0..7_usize,
        0..3_usize,
        proptest::option::weighted(0.8, 0..4_usize),
        -30..60_i64,
        any::<bool>(),
    );
    proptest::collection::vec(fact, count).prop_map(|facts| {
        let mut micros = 1_773_653_400_000_000;
        let mut fact = |(event_type, client, ip, step, known): (usize, usize, Option<usize>, i64, bool)| {
            micros += step;
            let event_type = TYPES[event_type];
            let client_id = match event_type {
                "ServiceStopped" => None,
                "TokenRefused" if !known => None,
                _ => Some(CLIENTS[client]),
            };
            Fact {
                event_type,
                client_id,
                ip: ip.map(|ip| ADDRESSES[ip].parse().unwrap()),
                micros,
            }
        };
        facts.into_iter().map(&mut fact).collect()
    })
}

/// `count` tokens of one application, a microsecond apart.
pub fn tokens(count: i64) -> Vec<Fact> {
    let token = |at| Fact {
        event_type: "TokenIssued",
        client_id: Some(CLIENTS[0]),
        ip: Some(ADDRESSES[0].parse().unwrap()),
        micros: 1_773_653_400_000_000 + at,
    };
    (0..count).map(token).collect()
}

/// The log. `batch` bounds what a subscription answers at a time.
pub struct MemoryLog {
    events: Arc<Mutex<Vec<StoredEvent>>>,
    size: watch::Sender<u64>,
    has_ended: Arc<AtomicBool>,
    batch: usize,
    /// Events that `read_all` has answered.
    pub events_read: AtomicU64,
}

impl MemoryLog {
    pub fn of(facts: &[Fact]) -> Arc<Self> {
        Self::in_batches(facts, usize::MAX)
    }

    pub fn in_batches(facts: &[Fact], batch: usize) -> Arc<Self> {
        let log = Self {
            events: Arc::default(),
            size: watch::Sender::new(0),
            has_ended: Arc::default(),
            batch,
            events_read: AtomicU64::new(0),
        };
        log.add(facts);
        Arc::new(log)
    }

    pub fn add(&self, facts: &[Fact]) {
        for fact in facts {
            self.add_bytes(codec::encode(&fact.envelope()).unwrap().bytes);
        }
    }

    /// Says that what is before this index is found no more.
    pub fn give_up_before(&self, through_index: u64) {
        let envelope = Envelope {
            id: Uuid::from_u128(through_index.into()),
            stream: StreamName::retention(),
            time: Timestamp::from_unix_micros(1_773_653_500_000_000),
            actor: Actor::System,
            source: None,
            trace_id: None,
            event: IndexPruned {
                through_index,
                rule: RetentionRule::Age,
            }
            .into(),
        };
        self.add_bytes(codec::encode(&envelope).unwrap().bytes);
    }

    pub fn add_bytes(&self, bytes: impl Into<Arc<[u8]>>) {
        let mut events = self.events.lock().unwrap();
        let index = events.len() as u64;
        events.push(StoredEvent {
            index,
            revision: index,
            bytes: bytes.into(),
        });
        self.size.send_replace(events.len() as u64);
    }
}

impl MemoryLog {
    /// As when a commit has failed: no event follows, and whoever waits for one is told.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        self.size.send_modify(|_| {});
    }
}

impl EventStore for MemoryLog {
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        append.events.into_iter().for_each(|event| self.add_bytes(event.bytes));
        let last = self.log_size() - 1;
        Box::pin(async move {
            Ok(Appended {
                first_index: last,
                last_index: last,
                revision: last,
            })
        })
    }

    /// Revisions here are indexes: facts are added without regard to their streams.
    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let is_of_stream = |event: &&StoredEvent| {
            codec::decode(event).is_ok_and(|recorded| recorded.envelope.stream.as_str() == stream)
        };
        let events = self.events.lock().unwrap();
        let of_stream = events
            .iter()
            .filter(is_of_stream)
            .filter(|event| event.revision >= from_revision)
            .take(limit.min(MAX_EVENTS_PER_READ))
            .cloned()
            .collect();
        Box::pin(async { Ok(of_stream) })
    }

    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        assert_eq!(direction, Direction::Forwards);
        let events = self.events.lock().unwrap();
        let events = events
            .iter()
            .skip(from as usize)
            .take(limit.min(MAX_EVENTS_PER_READ))
            .cloned()
            .collect::<Vec<_>>();
        self.events_read.fetch_add(events.len() as u64, Ordering::Relaxed);
        Box::pin(async { Ok(events) })
    }

    fn streams_of(&self, range: Range<u64>) -> BoxFuture<'_, Result<Vec<(u64, String)>, ReadError>> {
        let events = self.events.lock().unwrap();
        let named = events
            .iter()
            .filter(|event| range.contains(&event.index))
            .filter_map(|event| Some((event.index, codec::stream_of(&event.bytes)?.into_owned())))
            .collect();
        Box::pin(async { Ok(named) })
    }

    fn read_indexes(&self, indexes: &[u64]) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        assert!(indexes.len() <= MAX_EVENTS_PER_READ);
        let events = self.events.lock().unwrap();
        let read = |index: &u64| {
            events
                .get(*index as usize)
                .cloned()
                .ok_or(ReadError(format!("no event {index}")))
        };
        let events = indexes.iter().map(read).collect();
        Box::pin(async { events })
    }

    fn remove(&self, removed: Vec<StoredEvent>) -> BoxFuture<'static, Result<(), AppendError>> {
        let mut events = self.events.lock().unwrap();
        for left in removed {
            let index = left.index as usize;
            events[index] = left;
        }
        Box::pin(async { Ok(()) })
    }

    fn used_bytes(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        let bytes = self
            .events
            .lock()
            .unwrap()
            .iter()
            .map(|event| event.bytes.len() as u64)
            .sum();
        Box::pin(async move { Ok(bytes) })
    }

    fn subscribe_to_all(&self, from: u64) -> Box<dyn Subscription> {
        Box::new(Follower {
            events: self.events.clone(),
            size: self.size.subscribe(),
            has_ended: self.has_ended.clone(),
            next: from,
            batch: self.batch,
        })
    }

    fn log_size(&self) -> u64 {
        *self.size.borrow()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }

    fn failure(&self) -> Option<String> {
        None
    }

    fn cut_off(&self) -> Option<String> {
        None
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    fn queue_depth(&self) -> u64 {
        0
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct Follower {
    events: Arc<Mutex<Vec<StoredEvent>>>,
    size: watch::Receiver<u64>,
    has_ended: Arc<AtomicBool>,
    next: u64,
    batch: usize,
}

impl Subscription for Follower {
    fn next_batch(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        Box::pin(async move {
            let next = self.next;
            let gone = |_| ReadError("the log has closed".into());
            let has_ended = &self.has_ended;
            let size = *self
                .size
                .wait_for(|size| *size > next || has_ended.load(Ordering::Relaxed))
                .await
                .map_err(gone)?;
            if size <= next {
                return Err(ReadError("the log has failed".into()));
            }
            let limit = limit.min(self.batch);
            let batch: Vec<_> = self
                .events
                .lock()
                .unwrap()
                .iter()
                .skip(next as usize)
                .take(limit)
                .cloned()
                .collect();
            self.next += batch.len() as u64;
            Ok(batch)
        })
    }
}
