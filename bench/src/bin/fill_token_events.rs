//! Fills the log of a stopped server with token events as months of work would have left them: through the event
//! store, with the codec, one append per request.
//!
//! The data folder must have been served before, with the applications registered: keys and applications are
//! read from its log. How busy an application is falls off as 1/rank (Zipf), so that some are in every segment
//! of the audit index and some in a few. One request in fifty is refused.

use anyhow::Context as _;
use bench::random::Random;
use bench::zipf::Zipf;
use chrono::Utc;
use clap::Parser;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use grantlog::event_store::kurrentdb::{KurrentDbEventStore, KurrentDbOptions, KurrentDbUrl};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, Direction, EventStore, ExpectedRevision, MAX_EVENTS_PER_READ, codec};
use grantlog_projections::Event;
use grantlog_projections::directory::Directory;
use grantlog_projections::event::{AuthMethod, Dialect, RefusalReason, TokenIssued, TokenRefused};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Actor, Audience, KeyId, SigningAlgorithm, Source, StreamName, Timestamp};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

/// Appends in flight: as many as the writer's queue takes.
const IN_FLIGHT: usize = 2_048;
/// One request in so many is refused.
const REFUSED_ONE_IN: u64 = 50;
/// The time that the events are spread over.
const SPREAD_DAYS: i64 = 90;
const LIFETIME_SECONDS: i64 = 3_600;

#[derive(Parser)]
struct Arguments {
    /// The log: `events.db` in the data folder, or the connection string of a KurrentDB.
    #[arg(long)]
    log: String,
    /// The prefix of its streams in a KurrentDB.
    #[arg(long, default_value = "grantlog.")]
    stream_prefix: String,
    /// How many events to add.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// What the tokens are for.
    #[arg(long)]
    issuer: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let store = open(&arguments).await?;
    let (applications, key) = what_is_there(&*store).await?;
    let issuer = Audience::parse(&arguments.issuer)?;
    let mut random = Random::default();
    let choice = Zipf::of(applications.len());
    let begins = Utc::now().timestamp_micros() - SPREAD_DAYS * 86_400 * 1_000_000;
    let step = SPREAD_DAYS * 86_400 * 1_000_000 / i64::try_from(arguments.events.max(1))?;

    let started = Instant::now();
    let mut in_flight = FuturesOrdered::new();
    for number in 0..arguments.events {
        let application = &applications[choice.pick(&mut random)];
        let time = Timestamp::from_unix_micros(begins + step * i64::try_from(number)?);
        let event = token_event(
            application,
            &key,
            &issuer,
            time,
            random.one_in(REFUSED_ONE_IN),
            &mut random,
        );
        in_flight.push_back(store.append_to_stream(append(application, event, time, &mut random)?));
        if in_flight.len() >= IN_FLIGHT {
            in_flight.next().await.transpose()?;
        }
    }
    while let Some(appended) = in_flight.next().await {
        appended?;
    }
    let seconds = started.elapsed().as_secs_f64();
    store.close().await;
    let quietest = applications.last().map(|application| application.uri.to_string());
    let report = serde_json::json!({
        "events": arguments.events,
        "seconds": seconds,
        "busiest": applications.first().map(|application| application.uri.to_string()),
        "middle": applications.get(applications.len() / 2).map(|application| application.uri.to_string()),
        "quietest": quietest,
    });
    println!("{report}");
    Ok(())
}

async fn open(arguments: &Arguments) -> anyhow::Result<Arc<dyn EventStore>> {
    if !KurrentDbUrl::is_meant_by(&arguments.log) {
        return Ok(Arc::new(SqliteEventStore::open(SqliteOptions::new(&arguments.log))?));
    }
    let folder = std::env::temp_dir().join(format!("fill-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let options = KurrentDbOptions {
        stream_prefix: arguments.stream_prefix.clone(),
        ..KurrentDbOptions::new(KurrentDbUrl::parse(&arguments.log)?, folder.join("positions.db"))
    };
    let store = KurrentDbEventStore::open(options).await;
    std::fs::remove_dir_all(&folder)?;
    Ok(Arc::new(store?))
}

struct Key {
    kid: KeyId,
    alg: SigningAlgorithm,
}

async fn what_is_there(store: &dyn EventStore) -> anyhow::Result<(Vec<Arc<TrustedApplication>>, Key)> {
    let (mut directory, mut key) = (Directory::default(), None);
    let mut next = 0;
    while next < store.log_size() {
        for stored in store.read_all(next, Direction::Forwards, MAX_EVENTS_PER_READ).await? {
            let recorded = codec::decode(&stored)?;
            directory.apply(&recorded);
            if let Event::SigningKeyAdded(added) = &recorded.envelope.event {
                key = Some(Key {
                    kid: added.kid.clone(),
                    alg: added.alg,
                });
            }
            next = stored.index + 1;
        }
    }
    let applications: Vec<_> = directory
        .applications_after(None)
        .filter(|application| application.uri.as_str().starts_with("bench/"))
        .cloned()
        .collect();
    anyhow::ensure!(!applications.is_empty(), "no application named bench/… is registered");
    Ok((applications, key.context("the log has no signing key")?))
}

fn token_event(
    application: &TrustedApplication,
    key: &Key,
    issuer: &Audience,
    time: Timestamp,
    is_refused: bool,
    random: &mut Random,
) -> Event {
    match application.secrets.first().filter(|_| !is_refused) {
        Some(secret) => TokenIssued {
            jti: random.uuid(time),
            application_id: application.id,
            application_uri: application.uri.clone(),
            secret_id: secret.id,
            auth_method: AuthMethod::ClientSecretPost,
            dialect: Dialect::Standard,
            scope_requested: Some(application.scope.clone()),
            scope: application.scope.clone(),
            audiences: vec![issuer.clone()],
            system_user: application
                .system_user
                .clone()
                .unwrap_or_else(|| unreachable!("bench/… have one")),
            org_code: None,
            kid: key.kid.clone(),
            alg: key.alg,
            issued_at: time,
            expires_at: time.plus_seconds(LIFETIME_SECONDS),
            token_hint: random.text(8),
        }
        .into(),
        None => TokenRefused {
            client_id: Some(application.uri.to_string()),
            application_id: Some(application.id),
            error: "invalid_client".to_owned(),
            reason: RefusalReason::SecretMismatch,
            detail: None,
            dialect: Dialect::Standard,
        }
        .into(),
    }
}

fn append(
    application: &TrustedApplication,
    event: Event,
    time: Timestamp,
    random: &mut Random,
) -> anyhow::Result<Append> {
    let (id, actor) = match &event {
        Event::TokenIssued(issued) => (issued.jti, Actor::Application(application.uri.clone())),
        _ => (random.uuid(time), Actor::Anonymous),
    };
    let stream = StreamName::token_requests(Some(application.id));
    let network = random.bits().to_be_bytes();
    let envelope = Envelope {
        id,
        stream: stream.clone(),
        time,
        actor,
        source: Some(Source {
            ip: IpAddr::V4(Ipv4Addr::new(10, 20, network[0] % 4, network[1])),
            user_agent: Some("python-requests/2.32.3".into()),
        }),
        trace_id: None,
        event,
    };
    Ok(Append {
        stream: stream.as_str().to_owned(),
        expected: ExpectedRevision::Any,
        events: vec![codec::encode(&envelope)?],
    })
}
