//! Fills the log of a stopped server with a year that could have been: through the event store, with the codec, one
//! append per request.
//!
//! A few thousand applications, of which some are busy and some quiet (Zipf); nights and weekends are calm. Tokens
//! are issued and used, one request in forty is refused, secrets are rotated and applications changed. One application
//! in ten falls silent after the first quarter. In the twentieth week a network sprays passwords over all
//! applications, and on the two hundredth day one application's secret is tried until it is found.

use bench::random::Random;
use bench::zipf::Zipf;
use chrono::{TimeZone as _, Timelike as _, Utc};
use clap::Parser;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, EventStore, ExpectedRevision, codec};
use grantlog_projections::Event;
use grantlog_projections::event::{
    ApiCallAuthorized, ApiCallDenied, ApplicationChange, ApplicationChanged, ApplicationRegistered, AuthMethod,
    ClientType, DenialReason, Dialect, FromTo, IssuedSecret, ReferenceTokens, RefusalReason, SecretRotated,
    SupersededSecret, TokenIssued, TokenKind, TokenRefused, Via,
};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{
    Actor, ApplicationId, ApplicationUri, Audience, KeyId, Name, Remark, Scope, SecretHash, SecretId, SigningAlgorithm,
    Source, StreamName, SystemUser, Timestamp,
};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// Appends in flight: as many as the writer's queue takes.
const IN_FLIGHT: usize = 2_048;
const DAYS: i64 = 365;
const HOUR_MICROS: i64 = 3_600 * 1_000_000;
const LIFETIME_SECONDS: i64 = 3_600;
const OVERLAP_SECONDS: i64 = 86_400;
/// The network that sprays passwords, for six hours.
const SPRAY: ([u8; 3], i64) = ([198, 51, 100], 20 * 7 * 24 + 2);
/// The address that tries one application's secrets, for three hours.
const BRUTE_FORCE: ([u8; 4], i64) = ([203, 0, 113, 77], 200 * 24 + 3);
/// The last hour of the applications that fall silent.
const SILENT_AFTER: i64 = 90 * 24;

#[derive(Parser)]
struct Arguments {
    /// The log, `events.db` in the data folder.
    #[arg(long)]
    log: PathBuf,
    /// How many events to add, but for those that register the applications.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// How many applications there are.
    #[arg(long, default_value_t = 3_000)]
    applications: usize,
    /// What the tokens are for.
    #[arg(long)]
    issuer: String,
    /// The hash of the applications' first secrets.
    #[arg(long)]
    secret_hash: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let store: Arc<dyn EventStore> = Arc::new(SqliteEventStore::open(SqliteOptions::new(arguments.log))?);
    let now = Utc::now().timestamp_micros();
    let begins = now - now.rem_euclid(HOUR_MICROS) - DAYS * 24 * HOUR_MICROS;
    let mut year = Year {
        random: Random::default(),
        choice: Zipf::of(arguments.applications),
        applications: Vec::new(),
        issuer: Audience::parse(&arguments.issuer)?,
        hash: SecretHash::parse(&arguments.secret_hash)?,
        scope: Scope::parse("read update DomainApi")?,
        kid: KeyId::parse("2026-01-01")?,
        samples: Samples::default(),
    };
    let mut log = Log {
        store: store.clone(),
        in_flight: FuturesOrdered::new(),
        events: 0,
    };
    let started = Instant::now();
    for number in 0..arguments.applications {
        let envelope = year.register(number, Timestamp::from_unix_micros(begins + number as i64))?;
        log.append(envelope).await?;
    }
    let hours = DAYS * 24;
    let weights: Vec<f64> = (0..hours).map(|hour| rhythm(begins + hour * HOUR_MICROS)).collect();
    let all: f64 = weights.iter().sum();
    let (mut due, mut done) = (0.0, 0);
    for (hour, weight) in (0..hours).zip(weights) {
        due += weight / all * arguments.events as f64;
        let events = (due as u64).saturating_sub(done);
        done += events;
        let first = begins + hour * HOUR_MICROS;
        for number in 0..events {
            let step = HOUR_MICROS / events.max(1) as i64;
            let jitter = (year.random.part() * step as f64) as i64;
            let time = Timestamp::from_unix_micros(first + step * number as i64 + jitter);
            let envelope = year.event(hour, time, number, events)?;
            log.append(envelope).await?;
        }
    }
    log.finish().await?;
    let seconds = started.elapsed().as_secs_f64();
    store.close().await;
    let report = json!({
        "events": log.events,
        "seconds": seconds,
        "filters": year.filters(begins)?,
    });
    println!("{report}");
    Ok(())
}

/// How busy an hour is: working days more than weekends, days more than nights.
fn rhythm(micros: i64) -> f64 {
    use chrono::Datelike as _;
    let Some(time) = Utc.timestamp_micros(micros).single() else {
        return 1.0;
    };
    let day = if time.weekday().num_days_from_monday() < 5 {
        1.0
    } else {
        0.3
    };
    let hour = match time.hour() {
        8..18 => 1.0,
        6..8 | 18..22 => 0.5,
        _ => 0.2,
    };
    day * hour
}

struct Log {
    store: Arc<dyn EventStore>,
    in_flight: FuturesOrdered<
        grantlog::event_store::BoxFuture<
            'static,
            Result<grantlog::event_store::Appended, grantlog::event_store::AppendError>,
        >,
    >,
    events: u64,
}

impl Log {
    async fn append(&mut self, envelope: Envelope) -> anyhow::Result<()> {
        let append = Append {
            stream: envelope.stream.as_str().to_owned(),
            expected: ExpectedRevision::Any,
            events: vec![codec::encode(&envelope)?],
        };
        self.in_flight.push_back(self.store.append_to_stream(append));
        self.events += 1;
        if self.in_flight.len() >= IN_FLIGHT {
            self.in_flight.next().await.transpose()?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        while let Some(appended) = self.in_flight.next().await {
            appended?;
        }
        Ok(())
    }
}

struct Application {
    uri: ApplicationUri,
    id: ApplicationId,
    addresses: Vec<IpAddr>,
    user_agent: Arc<str>,
    secret: SecretId,
    /// Its last token.
    token: Option<(Uuid, String)>,
}

/// What there is to search for.
#[derive(Default)]
struct Samples {
    jti: Option<Uuid>,
    trace_id: Option<String>,
}

struct Year {
    random: Random,
    choice: Zipf,
    applications: Vec<Application>,
    issuer: Audience,
    hash: SecretHash,
    scope: Scope,
    kid: KeyId,
    samples: Samples,
}

impl Year {
    fn register(&mut self, number: usize, time: Timestamp) -> anyhow::Result<Envelope> {
        const TEAMS: [&str; 8] = [
            "sales", "billing", "stock", "payroll", "reports", "mobile", "partner", "it",
        ];
        const USER_AGENTS: [&str; 4] = [
            "python-requests/2.32.3",
            "Go-http-client/2.0",
            "Apache-HttpClient/5.4 (Java/21.0.5)",
            "okhttp/4.12.0",
        ];
        let team = TEAMS[number % TEAMS.len()];
        let uri = ApplicationUri::parse(&format!("bench/{team}.example.com/service-{number}"))?;
        let id = ApplicationId::of(&uri);
        let [a, b, c, ..] = self.random.bits().to_be_bytes();
        let addresses = (0..=number % 3).map(|host| match number % 20 {
            // Of a partner, from outside.
            0 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, c)),
            _ => IpAddr::V4(Ipv4Addr::new(10, a % 16, b, c.wrapping_add(host as u8))),
        });
        let application = Application {
            uri: uri.clone(),
            id,
            addresses: addresses.collect(),
            user_agent: USER_AGENTS[number % USER_AGENTS.len()].into(),
            secret: SecretId(self.random.uuid(time)),
            token: None,
        };
        let fact = ApplicationRegistered {
            application_id: id,
            application_uri: uri,
            name: Name::parse(&format!("Service {number} of {team}"))?,
            description: None,
            client_type: ClientType::Confidential,
            scope: self.scope.clone(),
            audiences: vec![self.issuer.clone()],
            system_user_allowed: true,
            system_user: Some(SystemUser::parse("svc.integration")?),
            org_code: None,
            is_enabled: true,
            owner: Some(Remark::parse(&format!("{team}@example.com"))?),
            properties: Default::default(),
            token_lifetime_seconds: None,
            allowed_networks: Vec::new(),
            reference_tokens: ReferenceTokens::None,
            secret: Some(IssuedSecret {
                id: application.secret,
                hash: self.hash,
                hint: Some("6789".into()),
                expires_at: None,
            }),
        };
        self.applications.push(application);
        let stream = StreamName::application(id);
        Ok(self.envelope(time, stream, administrator()?, None, fact.into()))
    }

    fn event(&mut self, hour: i64, time: Timestamp, number: u64, of: u64) -> anyhow::Result<Envelope> {
        if (SPRAY.1..SPRAY.1 + 6).contains(&hour) && self.random.one_in(2) {
            let [a, b, c] = SPRAY.0;
            let host = (self.random.bits() % 250) as u8;
            let at = self.random.below(self.applications.len());
            return self.refused(time, at, Some([a, b, c, host]), RefusalReason::SecretMismatch);
        }
        if (BRUTE_FORCE.1..BRUTE_FORCE.1 + 3).contains(&hour) && self.random.one_in(3) {
            let victim = self.applications.len() / 2;
            let found = hour == BRUTE_FORCE.1 + 2 && number + of / 100 >= of;
            return match found {
                true => self.issued(time, victim, Some(BRUTE_FORCE.0)),
                false => self.refused(time, victim, Some(BRUTE_FORCE.0), RefusalReason::SecretMismatch),
            };
        }
        let mut at = self.choice.pick(&mut self.random);
        if at % 10 == 9 && hour > SILENT_AFTER {
            at -= 1;
        }
        match self.random.bits() % 10_000 {
            0..2 => self.changed(time, at),
            2..4 => self.rotated(time, at),
            4..250 => {
                let reason = match self.random.bits() % 10 {
                    0..5 => RefusalReason::SecretMismatch,
                    5..7 => RefusalReason::ScopeNotAllowed,
                    7 => RefusalReason::SecretExpired,
                    8 => RefusalReason::AudienceNotAuthorized,
                    _ => RefusalReason::UnknownClient,
                };
                self.refused(time, at, None, reason)
            }
            250..280 => self.denied(time, at),
            280..4_000 => self.called(time, at),
            _ => self.issued(time, at, None),
        }
    }

    fn issued(&mut self, time: Timestamp, at: usize, from: Option<[u8; 4]>) -> anyhow::Result<Envelope> {
        let jti = self.random.uuid(time);
        let hint = self.random.text(8);
        let application = &mut self.applications[at];
        application.token = Some((jti, hint.clone()));
        let (id, actor) = (application.id, Actor::Application(application.uri.clone()));
        let fact = TokenIssued {
            jti,
            application_id: id,
            application_uri: application.uri.clone(),
            secret_id: application.secret,
            auth_method: AuthMethod::ClientSecretPost,
            dialect: Dialect::Standard,
            scope_requested: None,
            scope: self.scope.clone(),
            audiences: vec![self.issuer.clone()],
            system_user: SystemUser::parse("svc.integration")?,
            org_code: None,
            kid: self.kid.clone(),
            alg: SigningAlgorithm::Es256,
            issued_at: time,
            expires_at: time.plus_seconds(LIFETIME_SECONDS),
            token_hint: hint,
        };
        let source = self.source(at, from);
        let mut envelope = self.envelope(time, StreamName::token_requests(Some(id)), actor, source, fact.into());
        envelope.id = jti;
        // Of some time before the end.
        if self.samples.jti.is_none() || self.random.one_in(1_000) {
            self.samples.jti = Some(jti);
            self.samples.trace_id = envelope.trace_id.clone();
        }
        Ok(envelope)
    }

    fn refused(
        &mut self,
        time: Timestamp,
        at: usize,
        from: Option<[u8; 4]>,
        reason: RefusalReason,
    ) -> anyhow::Result<Envelope> {
        let application = &self.applications[at];
        let is_unknown = reason == RefusalReason::UnknownClient;
        let application_id = (!is_unknown).then_some(application.id);
        let error = match reason {
            RefusalReason::ScopeNotAllowed => "invalid_scope",
            RefusalReason::AudienceNotAuthorized => "unauthorized_client",
            _ => "invalid_client",
        };
        let fact = TokenRefused {
            client_id: Some(match is_unknown {
                true => format!("{}-old", application.uri),
                false => application.uri.to_string(),
            }),
            application_id,
            error: error.into(),
            reason,
            detail: None,
            dialect: Dialect::Standard,
        };
        let source = self.source(at, from);
        let stream = StreamName::token_requests(application_id);
        Ok(self.envelope(time, stream, Actor::Anonymous, source, fact.into()))
    }

    fn called(&mut self, time: Timestamp, at: usize) -> anyhow::Result<Envelope> {
        let Some((jti, token_hint)) = self.applications[at].token.clone() else {
            return self.issued(time, at, None);
        };
        let (method, path) = self.path();
        let application = &self.applications[at];
        let (id, actor) = (application.id, Actor::Application(application.uri.clone()));
        let fact = ApiCallAuthorized {
            via: Via::Admin,
            application_id: id,
            application_uri: application.uri.clone(),
            jti,
            token_hint,
            system_user: Some(SystemUser::parse("svc.integration")?),
            org_code: None,
            audience: self.issuer.clone(),
            method,
            path,
            required_scope: "DomainApi".into(),
            session_id: None,
            token_kind: TokenKind::Jwt,
            report: None,
        };
        let source = self.source(at, None);
        Ok(self.envelope(time, StreamName::api_calls(Some(id)), actor, source, fact.into()))
    }

    fn denied(&mut self, time: Timestamp, at: usize) -> anyhow::Result<Envelope> {
        let (method, path) = self.path();
        let fact = ApiCallDenied {
            via: Via::Admin,
            application_id: None,
            application_uri: None,
            jti: None,
            token_hint: Some(self.random.text(8)),
            audience: self.issuer.clone(),
            method,
            path,
            required_scope: "DomainApi".into(),
            error: "invalid_token".into(),
            reason: DenialReason::TokenExpired,
            token_kind: TokenKind::Jwt,
            report: None,
        };
        let source = self.source(at, None);
        Ok(self.envelope(time, StreamName::api_calls(None), Actor::Anonymous, source, fact.into()))
    }

    fn changed(&mut self, time: Timestamp, at: usize) -> anyhow::Result<Envelope> {
        let application = &self.applications[at];
        let id = application.id;
        let fact = ApplicationChanged {
            application_id: id,
            application_uri: application.uri.clone(),
            changes: vec![ApplicationChange::Owner(FromTo {
                from: None,
                to: Some(Remark::parse("on-call@example.com")?),
            })],
            reason: Some(Remark::parse("moved to another team")?),
        };
        Ok(self.envelope(time, StreamName::application(id), administrator()?, None, fact.into()))
    }

    fn rotated(&mut self, time: Timestamp, at: usize) -> anyhow::Result<Envelope> {
        let secret = SecretId(self.random.uuid(time));
        let application = &mut self.applications[at];
        let before = std::mem::replace(&mut application.secret, secret);
        let id = application.id;
        let fact = SecretRotated {
            application_id: id,
            application_uri: application.uri.clone(),
            secret: IssuedSecret {
                id: secret,
                hash: self.hash,
                hint: Some("6789".into()),
                expires_at: None,
            },
            superseded: vec![SupersededSecret {
                id: before,
                accepted_until: time.plus_seconds(OVERLAP_SECONDS),
            }],
            reason: Some(Remark::parse("quarterly rotation")?),
        };
        Ok(self.envelope(time, StreamName::application(id), administrator()?, None, fact.into()))
    }

    fn path(&mut self) -> (String, String) {
        const ENTITIES: [&str; 6] = [
            "Crm_Sales_Customers",
            "Crm_Sales_SalesOrders",
            "Logistics_Inventory_Stores",
            "Finance_Payments_PaymentOrders",
            "General_Products_Products",
            "Production_Resources_Machines",
        ];
        let entity = ENTITIES[self.random.below(ENTITIES.len())];
        let number = self.random.below(50);
        match self.random.below(4) {
            0 => ("POST".into(), format!("/api/domain/odata/{entity}")),
            1 => ("PATCH".into(), format!("/api/domain/odata/{entity}({number})")),
            _ => ("GET".into(), format!("/api/domain/odata/{entity}({number})")),
        }
    }

    fn source(&mut self, at: usize, from: Option<[u8; 4]>) -> Option<Source> {
        let application = &self.applications[at];
        let own = self.random.below(application.addresses.len());
        Some(Source {
            ip: from.map_or(application.addresses[own], IpAddr::from),
            user_agent: Some(match from {
                Some(_) => "curl/8.5.0".into(),
                None => application.user_agent.clone(),
            }),
        })
    }

    fn envelope(
        &mut self,
        time: Timestamp,
        stream: StreamName,
        actor: Actor,
        source: Option<Source>,
        event: Event,
    ) -> Envelope {
        let trace = u128::from(self.random.bits()) << 64 | u128::from(self.random.bits());
        Envelope {
            id: self.random.uuid(time),
            stream,
            time,
            actor,
            source,
            trace_id: Some(format!("{trace:032x}")),
            event,
        }
    }

    /// Filters for every field that is indexed, of values that are frequent and of values that are rare.
    fn filters(&self, begins: i64) -> anyhow::Result<serde_json::Value> {
        let busy = &self.applications[0];
        let quiet = &self.applications[self.applications.len() - 2];
        let victim = &self.applications[self.applications.len() / 2];
        let [a, b, c, d] = BRUTE_FORCE.0;
        let [x, y, z] = SPRAY.0;
        let time = |hours: i64| Timestamp::from_unix_micros(begins + hours * HOUR_MICROS);
        let attack = BRUTE_FORCE.1;
        Ok(json!({
            "single": [
                ["client_id, busy", format!(r#"client_id eq "{}""#, busy.uri)],
                ["client_id, quiet", format!(r#"client_id eq "{}""#, quiet.uri)],
                ["client_id sw, a team", r#"client_id sw "bench/payroll.""#],
                ["type, frequent", r#"type eq "TokenIssued""#],
                ["type, rare", r#"type eq "SecretRotated""#],
                ["outcome", r#"outcome eq "refused""#],
                ["reason, frequent", r#"reason eq "secret_mismatch""#],
                ["reason, rare", r#"reason co "moved to""#],
                ["source_ip, busy", format!(r#"source_ip eq "{}""#, busy.addresses[0])],
                ["source_ip, rare", format!(r#"source_ip eq "{a}.{b}.{c}.{d}""#)],
                ["network, most", r#"source_ip eq "10.0.0.0/8""#],
                ["network, an attacker's", format!(r#"source_ip eq "{x}.{y}.{z}.0/24""#)],
                ["jti", format!(r#"jti eq "{}""#, self.samples.jti.unwrap_or_default())],
                ["trace_id", format!(r#"trace_id eq "{}""#, self.samples.trace_id.as_deref().unwrap_or_default())],
                ["secret_id, busy", format!(r#"secret_id eq "{}""#, busy.secret.0)],
                ["secret_id, quiet", format!(r#"secret_id eq "{}""#, quiet.secret.0)],
                ["session_id", format!(r#"session_id eq "{}""#, Uuid::nil())],
                ["actor, busy", format!(r#"actor eq "{}""#, busy.uri)],
                ["actor, rare", r#"actor eq "grantlog.admin""#],
                ["path sw, all", r#"path sw "/api/domain/""#],
                ["path sw, some", r#"path sw "/api/domain/odata/Finance_Payments_PaymentOrders(17""#],
                ["path sw, none", r#"path sw "/audit""#],
                ["time, a day", format!(r#"time ge "{}" and time lt "{}""#, time(4_000), time(4_024))],
                ["index", "index lt 5000"],
            ],
            "three": [
                ["type, reason, network", format!(
                    r#"type eq "TokenRefused" and reason eq "secret_mismatch" and source_ip eq "{x}.{y}.{z}.0/24""#
                )],
                ["client_id, outcome, time", format!(
                    r#"client_id eq "{}" and outcome eq "success" and time ge "{}""#, victim.uri, time(attack)
                )],
                ["client_id, type, source_ip: none", format!(
                    r#"client_id eq "{}" and type eq "TokenIssued" and source_ip eq "{a}.{b}.{c}.{d}""#, busy.uri
                )],
                ["network, path, not client_id", format!(
                    r#"source_ip eq "10.3.0.0/16" and path sw "/api/domain/odata/Crm" and not (client_id eq "{}")"#,
                    busy.uri
                )],
                ["secret_id, type, not network", format!(
                    r#"secret_id eq "{}" and type eq "TokenIssued" and not (source_ip eq "10.0.0.0/8")"#,
                    victim.secret.0
                )],
            ],
            "unindexed": [["user_agent co", r#"user_agent co "curl""#]],
        }))
    }
}

fn administrator() -> anyhow::Result<Actor> {
    Ok(Actor::Application(ApplicationUri::parse("grantlog.admin")?))
}
