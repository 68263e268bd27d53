//! From a configuration to a running server. The only file that names a concrete store.

use crate::audit::AuditIndex;
use crate::audit::index::rebuild::{RebuildComparison, RebuildProgress, rebuild_and_compare};
use crate::audit::transparency::verify::findings::{Check, Findings};
use crate::audit::transparency::verify::folder::{Folder, VerifiedLog};
use crate::audit::transparency::verify::{Expected, ExportFile};
use crate::audit::transparency::{Signers, Transparency, TransparencySettings, VerifierKey};
use crate::audit::usage::UsageProjection;
use crate::audit::usage::rebuild::{UsageComparison, rebuild_usage};
use crate::config::{Config, IssuerUrl, MasterKeySource, StoreLocation};
use crate::credentials::client_secret::ClientSecret;
use crate::credentials::log_key::{LogKeyError, PublicLogKey};
use crate::credentials::sealing::MasterKey;
use crate::credentials::signing_key::RsaBits;
use crate::event_store::kurrentdb::{KurrentDbEventStore, KurrentDbOptions, KurrentDbUrl};
use crate::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use crate::event_store::{EventStore, OnCommit};
use crate::forwarding::Forwarding;
use crate::forwarding::sink::{Origin, Sink};
use crate::gateway::Gateway;
use crate::http::roles::{self, Roles};
use crate::http::tls::Serving;
use crate::http::{self, Doors, Exposure, observed, routes};
use crate::metrics::Metrics;
use crate::policy::retention::RetentionRules;
use crate::policy::signing_keys::KeyRotation;
use crate::policy::{ADMINISTRATOR, AUDITOR, FIRST_APPLICATIONS, FirstApplication, PolicySettings};
use crate::service::checkpoint::Checkpoint;
use crate::service::keys::Keys;
use crate::service::live_state::{self, CheckpointEvery, LiveState};
use crate::service::migrate::{self, AppendOrder, Migrated, Progress};
use crate::service::rebuild::{StateComparison, rebuild_state};
use crate::service::sessions::SessionSettings;
use crate::service::throttle::{Throttle, ThrottleSettings};
use crate::service::trail::Trail;
use crate::service::{Service, ServiceSettings};
use crate::telemetry::Telemetry;
use actix_service::IntoServiceFactory;
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, HttpServer, web};
use grantlog_projections::values::Audience;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// How often ended lockout windows are reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often signing keys are looked after.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether sessions are over.
const END_SESSIONS_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether something is to be given up.
const RETAIN_EVERY: Duration = Duration::from_secs(10);
/// After the log has failed, requests in flight get their 503 within this time.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another server holds the data folder.
    #[error("the data folder is in use: another server holds {lock_file}; stop it, or choose another with --data-dir")]
    FolderInUse {
        /// The file that it holds locked.
        lock_file: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --listen (port 0 takes a free one)")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// TLS.
    #[error("tls: {0}")]
    Tls(String),
    /// The issuer's path is one of the server's own.
    #[error("server.issuer: the path {0} is one of the server's own; use another, such as /id")]
    IssuerPath(String),
    /// A route would hide the server's own paths, or they it.
    #[error("gateway.prefix: {0} is one of the server's own paths, or around or below one; use another, such as /api")]
    GatewayPrefix(String),
    /// A part of the server did not come up.
    #[error("{0}")]
    Part(Box<dyn std::error::Error + Send + Sync>),
    /// The event log failed while serving.
    #[error("{0}")]
    LogFailed(String),
}

impl ServeError {
    fn part(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Part(Box::new(error))
    }

    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// What the command line needs to reach this server; kept in the data folder, closed to others.
#[derive(Serialize, Deserialize)]
struct Profile {
    url: String,
    client_id: String,
    client_secret: String,
}

impl Profile {
    fn new(url: &str, first: &FirstApplication, secret: &ClientSecret) -> Self {
        Self {
            url: url.to_owned(),
            client_id: first.client_id.to_owned(),
            client_secret: secret.expose().to_owned(),
        }
    }
}

/// Whose secret is to be made anew, on the word of an operator at the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resets {
    /// The first administrator's.
    pub administrator: bool,
    /// The first auditor's.
    pub auditor: bool,
}

/// Serves until it is told to stop, or the log fails.
pub async fn serve(config: Config, telemetry: Telemetry, resets: Resets) -> Result<(), ServeError> {
    let listener = listen(config.server.listen)?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen {
        address: config.server.listen,
        source,
    })?;
    let tls = config
        .tls
        .as_ref()
        .map(|tls| tls_config(&tls.certificate_file, &tls.key_file))
        .transpose()?;
    let issuer = config
        .server
        .issuer
        .clone()
        .unwrap_or_else(|| IssuerUrl::of_listener(tls.is_some(), address));
    let url = IssuerUrl::of_listener(tls.is_some(), reachable(address))
        .as_str()
        .to_owned();

    check_sinks(&config, &issuer).await?;
    let gateway = Arc::new(gateway(&config, &issuer).await?);
    let metrics = Metrics::new(telemetry.meter().as_ref());
    let _folder = claim(&config.data_dir)?;
    let (service, store) = build(&config, &issuer, metrics).await?;
    let service = Arc::new(service);
    let begun = begin(&service, &config.data_dir, &url, resets).await;
    // What the log says about its failure names the file and tells what to do.
    let why = || store.failure().or_else(|| service.state_failure());
    begun.map_err(|error| why().map_or(error, ServeError::LogFailed))?;

    let forwarding = Arc::new(forward(&config, &issuer, store.clone(), service.metrics().clone()).await?);
    let roles = Roles {
        token: config.node.roles.token,
        audit: config.node.roles.audit,
    };
    let doors = web::Data::new(Doors {
        service: service.clone(),
        roles,
        forwarding: forwarding.clone(),
        gateway: gateway.clone(),
        is_tls: tls.is_some(),
        issuer_path: issuer.path().to_owned(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        transparency: Exposure {
            is_public: config.transparency.is_public,
            entries_are_public: config.transparency.entries_are_public,
        },
        body_timeout: config.server.client_request_timeout,
    });
    let application = move || {
        let doors = doors.clone();
        App::new()
            .app_data(doors.clone())
            .app_data(web::Data::new(gateway.connections()))
            .wrap(Condition::new(roles.are_some(), from_fn(roles::keep_to_roles)))
            .wrap(from_fn(observed::observe))
            .configure(routes(doors))
    };
    let workers = config.server.workers.get();
    let max_connections = config.server.max_connections.div_ceil(workers);
    let server = match tls {
        Some(tls) => {
            let serving = Serving {
                workers,
                max_connections,
                client_request_timeout: config.server.client_request_timeout,
                keep_alive: config.server.keep_alive,
                shutdown_timeout: config.server.shutdown_timeout,
            };
            http::tls::server(listener, tls, serving, move || application().into_factory())
        }
        None => HttpServer::new(application)
            .workers(workers)
            .max_connections(max_connections)
            // Else the end of an answer would wait until the client has acknowledged its beginning.
            .tcp_nodelay(true)
            .client_request_timeout(config.server.client_request_timeout)
            .keep_alive(config.server.keep_alive)
            .shutdown_timeout(config.server.shutdown_timeout.as_secs())
            .disable_signals()
            .listen(listener)
            .map(HttpServer::run),
    };
    let server = server.map_err(|source| ServeError::Listen { address, source })?;
    let handle = server.handle();
    let serving = tokio::spawn(server);
    // Two tasks: a flood of reports must not keep the signing keys waiting.
    let reports = tokio::spawn(report(service.clone(), forwarding.clone()));
    let upkeep = tokio::spawn(look_after(service.clone()));
    let retention = roles.audit.then(|| tokio::spawn(retain(service.clone())));
    let session_ends = tokio::spawn(end_sessions(service.clone()));
    // Whoever reads that it listens may stop it at once.
    let told_to_stop = stop_signal().map_err(ServeError::part)?;
    say(&format!("listening on {url}"))?;

    let outcome = tokio::select! {
        signal = told_to_stop => Ok(signal),
        failure = store.failed() => Err(ServeError::LogFailed(failure)),
    };
    reports.abort();
    upkeep.abort();
    if let Some(retention) = retention {
        retention.abort();
    }
    session_ends.abort();
    match outcome {
        Ok(signal) => {
            tracing::info!(signal, "stopping: finishing what is in flight");
            service.end_streams();
            handle.stop(true).await;
            let _ = serving.await;
            stop_forwarding(forwarding).await;
            service.stop(signal).await;
            stop_telemetry(telemetry).await;
            // The stop itself may be what could not be recorded.
            store
                .failure()
                .map_or(Ok(()), |failure| Err(ServeError::LogFailed(failure)))
        }
        Err(failure) => {
            // Said at once and in the log, too: it is the reason for every 503 from here on.
            tracing::error!(%failure, "stopping: nothing more can be recorded, so nothing more is granted");
            tokio::time::sleep(LAST_ANSWERS).await;
            handle.stop(false).await;
            stop_forwarding(forwarding).await;
            stop_telemetry(telemetry).await;
            Err(failure)
        }
    }
}

/// Builds the projections of a data folder from zero and compares them with the saved ones. Only reads:
/// a server may be serving from the folder.
pub async fn rebuild(
    config: &Config,
    progress: impl Fn(&'static str, u64) + Clone + Send + 'static,
) -> Result<(StateComparison, UsageComparison, RebuildComparison), ServeError> {
    let store = open_store_read_only(config).await?;
    let checkpoint = Checkpoint::open_existing(&state_file(config)).map_err(ServeError::part)?;
    let report = progress.clone();
    let state = rebuild_state(&*store, checkpoint.as_ref(), move |events| report("state", events));
    let state = state.await.map_err(ServeError::part)?;
    let report = progress.clone();
    let usage_file = usage_file(config);
    let usage = rebuild_usage(&usage_file, &*store, move |events| report("usage", events));
    let usage = usage.await.map_err(ServeError::part)?;
    let report = move |now: RebuildProgress| progress("audit index", now.events);
    let index = rebuild_and_compare(&index_file(config), store, report)
        .await
        .map_err(ServeError::part)?;
    Ok((state, usage, index))
}

/// Copies the log at one place to another and compares the two. Neither may be served meanwhile, nor may a server run
/// over the data folder.
pub async fn migrate(
    config: &Config,
    from: &StoreLocation,
    to: &StoreLocation,
    progress: impl FnMut(Progress),
) -> Result<Migrated, ServeError> {
    let side = |side: &'static str| {
        move |error: ServeError| {
            ServeError::Part(format!("{side}: {error}. No server may run on either log while it is copied").into())
        }
    };
    if is_one_log(from, to) {
        return Err(ServeError::Part("--from and --to name the same log".into()));
    }
    let is_needed = [from, to]
        .iter()
        .any(|side| matches!(side, StoreLocation::KurrentDb(_)));
    let _folder = match is_needed || config.data_dir.exists() {
        true => Some(claim(&config.data_dir)?),
        false => None,
    };
    if let StoreLocation::Sqlite(path) = from
        && !path.exists()
    {
        return Err(ServeError::Part(
            format!("--from: there is no event log {}", path.display()).into(),
        ));
    }
    // A node that serves from the target goes on with the positions that were learnt here.
    let beside = config.data_dir.join("positions.db");
    let apart = match (from, to) {
        (StoreLocation::KurrentDb(_), StoreLocation::KurrentDb(_)) => config.data_dir.join("positions.from.db"),
        _ => beside.clone(),
    };
    let (source, _) = open_for_migration(config, from, apart).await.map_err(side("--from"))?;
    let (target, order) = open_for_migration(config, to, beside).await.map_err(side("--to"))?;
    let migrated = migrate::migrate(&*source, &*target, order, progress).await;
    // The end of the files' locks and the move of the write-ahead log are waited for, whatever came of it.
    source.close().await;
    target.close().await;
    migrated.map_err(ServeError::part)
}

/// Whether both name one log, as far as the names tell: streams have the same prefix in both, so two lists that share a
/// host do, in whatever order and with whatever scheme or user.
fn is_one_log(one: &StoreLocation, other: &StoreLocation) -> bool {
    match (one, other) {
        (StoreLocation::KurrentDb(one), StoreLocation::KurrentDb(other)) => {
            let (one, other) = (hosts(one), hosts(other));
            one.iter().any(|host| other.contains(host))
        }
        _ => one == other,
    }
}

/// `host:port` of each, of the URL as it is shown: `scheme://***:***@host:port,host:port`.
fn hosts(url: &KurrentDbUrl) -> Vec<String> {
    let shown = url.to_string();
    let hosts = shown.rsplit(['/', '@']).next().unwrap_or_default();
    hosts.split(',').map(str::to_ascii_lowercase).collect()
}

/// Opens a log that nobody else is to write to meanwhile, and says how it treats appends. Its bounds are not those of
/// the configuration: a refusal of one append for a full queue, in the midst of others, would leave a gap.
async fn open_for_migration(
    config: &Config,
    location: &StoreLocation,
    positions: PathBuf,
) -> Result<(Arc<dyn EventStore>, AppendOrder), ServeError> {
    match location {
        StoreLocation::Sqlite(path) => {
            let store = SqliteEventStore::open(SqliteOptions::new(path.clone())).map_err(ServeError::part)?;
            // One queue, one writer.
            Ok((Arc::new(store), AppendOrder::Kept))
        }
        StoreLocation::KurrentDb(url) => {
            let options = KurrentDbOptions {
                positions,
                ..kurrentdb_options(config, url)
            };
            let store = KurrentDbEventStore::open(options).await.map_err(ServeError::part)?;
            // Each stream is appended to by itself.
            Ok((Arc::new(store), AppendOrder::Unknown))
        }
    }
}

/// The key that verifies the log of a data folder.
pub fn verifier_key(config: &Config) -> Result<VerifierKey, ServeError> {
    let path = &config.transparency.key_file;
    let key = PublicLogKey::load(path).map_err(ServeError::part)?;
    VerifierKey::new(&key.name, key.public_key).ok_or_else(|| ServeError::part(LogKeyError::NotAKey(path.clone())))
}

/// Reads the whole log of a data folder and holds it against its tiles, its checkpoints, those that somebody has
/// kept, and an export. Only reads: a server may be serving from the folder.
pub async fn verify(
    config: &Config,
    key: &VerifierKey,
    remembered: Vec<Expected>,
    export: Option<ExportFile>,
    findings: &mut Findings,
    progress: impl FnMut(u64, u64),
) -> Result<VerifiedLog, ServeError> {
    // The folder first: a server that is running publishes nothing that the log does not hold by then.
    let folder = Folder::read(&config.data_dir, key, findings)
        .await
        .map_err(ServeError::part)?;
    let store = open_store_read_only(config).await?;
    Ok(folder.verify(store, remembered, export, findings, progress).await)
}

/// Builds the projections of a data folder again and compares them with the saved ones.
pub async fn verify_projections(config: &Config, findings: &mut Findings) {
    let (state, usage, index) = match rebuild(config, |_, _| {}).await {
        Ok(compared) => compared,
        Err(error) => return findings.failed(Check::State, error.to_string()),
    };
    let differences = state.differences.iter().map(|difference| (Check::State, difference));
    let differences = differences
        .chain(usage.differences.iter().map(|difference| (Check::Usage, difference)))
        .chain(
            index
                .difference
                .iter()
                .map(|difference| (Check::AuditIndex, difference)),
        );
    for (check, difference) in differences {
        findings.failed(check, difference.clone());
    }
    match state.is_compared {
        true => findings.checked(
            Check::State,
            state.events,
            format!(
                "{} applications, folded from {} events",
                state.applications, state.events
            ),
        ),
        false => findings.note("no state is saved to compare with"),
    }
    match (usage.is_compared, usage.removed) {
        (false, _) => findings.note("no uses are saved to compare with"),
        (true, 0) => findings.checked(
            Check::Usage,
            usage.applications as u64,
            format!(
                "{} applications, folded from {} events",
                usage.applications, usage.events
            ),
        ),
        (true, removed) => findings.note(format!(
            "the saved uses speak of {removed} facts that were removed since: they cannot be compared with the log"
        )),
    }
    match index.is_compared {
        true => findings.checked(
            Check::AuditIndex,
            index.compared_rows,
            format!(
                "{} rows, of the first {} events",
                index.compared_rows, index.compared_events
            ),
        ),
        false => findings.note("no audit index is saved to compare with"),
    }
}

/// Makes the data folder if there is none, and keeps other servers out of it until the file is closed, however
/// the process ends. The log has a lock of its own, but may lie elsewhere: two servers with a log each would
/// save their projections over one another.
fn claim(folder: &Path) -> Result<fs::File, ServeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(ServeError::file(folder))?;
    let lock_file = folder.join("server.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_file)
        .map_err(ServeError::file(&lock_file))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::FolderInUse { lock_file }),
        Err(TryLockError::Error(source)) => Err(ServeError::File {
            path: lock_file,
            source,
        }),
    }
}

/// The event log, for this server to write to.
async fn open_store(config: &Config, metrics: Metrics) -> Result<Arc<dyn EventStore>, ServeError> {
    let on_commit: Option<OnCommit> = Some(Arc::new(move |events, took| {
        metrics.event_store_commit(events as u64, took);
    }));
    let (queue_capacity, max_batch_events) = (config.store.queue_capacity, config.store.max_batch_events);
    Ok(match &config.store.location {
        StoreLocation::Sqlite(path) => {
            let options = SqliteOptions {
                queue_capacity,
                max_batch_events,
                on_commit,
                ..SqliteOptions::new(path.clone())
            };
            Arc::new(SqliteEventStore::open(options).map_err(ServeError::part)?)
        }
        StoreLocation::KurrentDb(url) => {
            let options = KurrentDbOptions {
                queue_capacity,
                max_batch_events,
                on_commit,
                ..kurrentdb_options(config, url)
            };
            Arc::new(KurrentDbEventStore::open(options).await.map_err(ServeError::part)?)
        }
    })
}

/// The event log as it is now, beside the server that writes to it.
async fn open_store_read_only(config: &Config) -> Result<Arc<dyn EventStore>, ServeError> {
    Ok(match &config.store.location {
        StoreLocation::Sqlite(path) => {
            let store = SqliteEventStore::open_read_only(SqliteOptions::new(path.clone()));
            Arc::new(store.map_err(ServeError::part)?)
        }
        StoreLocation::KurrentDb(url) => {
            let store = KurrentDbEventStore::open_read_only(kurrentdb_options(config, url)).await;
            Arc::new(store.map_err(ServeError::part)?)
        }
    })
}

fn kurrentdb_options(config: &Config, url: &KurrentDbUrl) -> KurrentDbOptions {
    KurrentDbOptions {
        stream_prefix: config.store.stream_prefix.clone(),
        max_staleness: config.store.max_staleness,
        append_timeout: config.store.append_timeout,
        connect_timeout: config.store.connect_timeout,
        ..KurrentDbOptions::new(url.clone(), config.data_dir.join("positions.db"))
    }
}

async fn build(
    config: &Config,
    issuer: &IssuerUrl,
    metrics: Metrics,
) -> Result<(Service, Arc<dyn EventStore>), ServeError> {
    let master_key = match &config.keys.master_key {
        MasterKeySource::Environment(key) => Ok(key.clone()),
        MasterKeySource::File(path) => MasterKey::load(path).map(Arc::new),
        MasterKeySource::DataFolder(path) => MasterKey::load_or_create(path).map(Arc::new),
    }
    .map_err(ServeError::part)?;

    let store = open_store(config, metrics.clone()).await?;

    let keys = Arc::new(Keys::new(master_key.clone()));
    let checkpoint = Checkpoint::open(&state_file(config))
        .inspect_err(live_state::tell_unsaved)
        .ok();
    let every = CheckpointEvery {
        events: config.projections.checkpoint_every_events,
        time: config.projections.checkpoint_every,
    };
    let live = LiveState::open(store.clone(), checkpoint, every, keys.clone())
        .await
        .map_err(ServeError::part)?;
    let trail = match config.node.roles.audit {
        true => Some(trail(config, issuer, &master_key, &store).await),
        false => None,
    };
    let throttle = Throttle::new(ThrottleSettings {
        max_failures: config.lockout.max_failures,
        max_refusals_per_source: config.lockout.max_refusals_per_source,
        window: config.lockout.window,
        max_tracked: config.lockout.max_tracked,
    });
    let settings = settings(config, issuer)?;
    Ok((
        Service::new(
            settings,
            store.clone(),
            live,
            keys,
            master_key,
            trail,
            throttle,
            metrics,
        ),
        store,
    ))
}

/// What a node with the role `audit` keeps. A part that cannot be opened says why, and the others work.
async fn trail(config: &Config, issuer: &IssuerUrl, master_key: &MasterKey, store: &Arc<dyn EventStore>) -> Trail {
    let index = match AuditIndex::open(&index_file(config), store.clone()).await {
        Ok(index) => index,
        Err(error) => AuditIndex::stopped(&index_file(config), store.clone(), &error),
    };
    let usage = match UsageProjection::open(&usage_file(config), store.clone()).await {
        Ok(usage) => usage,
        Err(error) => UsageProjection::stopped(&usage_file(config), &error),
    };
    let transparency = TransparencySettings {
        data_dir: config.data_dir.clone(),
        key_file: config.transparency.key_file.clone(),
        signers: match (
            config.store.location.traits().is_shared,
            config.transparency.key_file_is_named,
        ) {
            (false, _) => Signers::One,
            (true, false) => Signers::AllNodes,
            (true, true) => Signers::AllWhoHaveTheFile,
        },
        origin: config.transparency.origin.clone(),
        default_origin: log_name(issuer),
        publish_interval: config.transparency.publish_interval,
    };
    Trail {
        index,
        usage,
        transparency: Transparency::open(transparency, master_key, store.clone()).await,
    }
}

/// First segments of the server's own paths: an issuer below one of them would hide it.
const OWN_PATHS: [&str; 12] = [
    "connect",
    "oauth2",
    "token",
    "verify",
    ".well-known",
    "health",
    "metrics",
    "openapi.json",
    "admin",
    "audit",
    "checkpoint",
    "tile",
];

/// The gateway, with the certificates that it trusts.
async fn gateway(config: &Config, issuer: &IssuerUrl) -> Result<Gateway, ServeError> {
    for route in &config.gateway {
        let prefix = &route.prefix;
        let below_issuer = prefix.strip_prefix(issuer.path()).unwrap_or(prefix);
        let is_own = [prefix.as_str(), below_issuer].iter().any(|path| {
            let first_segment = path.split('/').nth(1).unwrap_or_default();
            // The token endpoint is at /id/connect/token, too.
            OWN_PATHS.contains(&first_segment) || matches!(first_segment, "" | "id")
        });
        let issuer_is_below = format!("{}/", issuer.path()).starts_with(&format!("{prefix}/"));
        if is_own || issuer_is_below {
            return Err(ServeError::GatewayPrefix(prefix.clone()));
        }
    }
    let routes = config.gateway.clone();
    tokio::task::spawn_blocking(move || Gateway::new(routes))
        .await
        .map_err(ServeError::part)?
        .map_err(ServeError::part)
}

fn settings(config: &Config, issuer: &IssuerUrl) -> Result<ServiceSettings, ServeError> {
    let first_segment = issuer.path().split('/').nth(1).unwrap_or_default();
    if OWN_PATHS.contains(&first_segment) {
        let path = issuer.path().to_owned();
        return Err(ServeError::IssuerPath(path));
    }
    let own = Audience::parse(issuer.as_str()).map_err(ServeError::part)?;
    Ok(ServiceSettings {
        issuer: issuer.as_str().to_owned(),
        policy: PolicySettings {
            default_audience: config.tokens.default_audience.clone().unwrap_or_else(|| own.clone()),
            issuer: own,
            default_lifetime: config.tokens.default_lifetime,
            default_algorithm: config.tokens.default_signing_algorithm,
        },
        key_rotation: KeyRotation {
            rotate_after_seconds: seconds(config.keys.rotate_after),
            announce_ahead_seconds: seconds(config.keys.announce_ahead),
            default_algorithm: config.tokens.default_signing_algorithm,
        },
        rsa_bits: RsaBits::try_from(u32::from(config.keys.rsa_bits)).map_err(ServeError::part)?,
        default_overlap_seconds: seconds(config.secrets.default_overlap),
        sessions: SessionSettings {
            idle: config.sessions.idle,
            absolute: config.sessions.absolute,
            max_per_application: config.sessions.max_per_application,
        },
        retention: RetentionRules {
            index_after_seconds: config.retention.index_after.map(seconds),
            index_max_bytes: config.retention.index_max_bytes,
            log_after_seconds: config.retention.log_after.map(seconds),
            log_max_bytes: config.retention.log_max_bytes,
        },
        store_kind: config.store.location.kind(),
        config_digest: config.digest(),
        node: config.node.name.clone(),
    })
}

/// What has to be on the record before anybody is served.
async fn begin(service: &Service, folder: &Path, url: &str, resets: Resets) -> Result<(), ServeError> {
    for first in &FIRST_APPLICATIONS {
        first_application(service, first, folder, url).await?;
    }
    service.start().await.map_err(ServeError::part)?;
    for (first, wanted) in [(&ADMINISTRATOR, resets.administrator), (&AUDITOR, resets.auditor)] {
        if wanted {
            new_secret(service, first, folder, url).await?;
        }
    }
    Ok(())
}

/// Where a first application's secret is kept for the command line.
fn profile_name(first: &FirstApplication) -> &'static str {
    match first.client_id == AUDITOR.client_id {
        true => "auditor.json",
        false => "admin.json",
    }
}

/// Registers one of the first applications and keeps its secret in its profile; on every start the profile is
/// told where the server is now.
///
/// The secret is kept before the registration, for a crash in between would lose it, and under another name, for
/// another node may register the same application at the same time: then that secret opens nothing. One that an earlier
/// start has kept is registered again, for its registration may still be on its way to the log.
async fn first_application(
    service: &Service,
    first: &FirstApplication,
    folder: &Path,
    url: &str,
) -> Result<(), ServeError> {
    let path = folder.join(profile_name(first));
    let unproven = path.with_extension("json.unproven");
    if service.needs(first) {
        let secret = match kept(&unproven)?.and_then(|profile| ClientSecret::again(&profile.client_secret)) {
            Some(secret) => secret,
            None => ClientSecret::generate().map_err(ServeError::part)?,
        };
        write_profile(&unproven, &Profile::new(url, first, &secret))?;
        let is_ours = service.register_first(first, &secret).await.map_err(ServeError::part)?;
        settle(&unproven, &path, is_ours)?;
        let (article, reset, what_for) = match first.client_id == AUDITOR.client_id {
            true => (
                "auditor",
                "--reset-auditor",
                "`grantlog audit export` uses it: an administrator cannot take the audit trail out",
            ),
            false => (
                "administrator",
                "--reset-administrator",
                "the other commands work on this machine: try `grantlog app list` and `grantlog token request`",
            ),
        };
        if !is_ours {
            return say(&format!(
                "first start: another node has just registered the {article} application, {}: its secret is shown there, \
                 once; should nobody have it, `grantlog serve {reset}` makes another",
                first.client_id
            ));
        }
        return say(&format!(
            "first start: the {article} application is registered\n  client_id:     {}\n  client_secret: {}\n  \
             This secret is shown once; it is also in {} (mode 0600),\n  so that {what_for}",
            first.client_id,
            secret.expose(),
            path.display(),
        ));
    }
    prove(service, first, &unproven, &path)?;
    // An operator may have moved the profile elsewhere: then there is nothing to keep up to date.
    let Ok(text) = fs::read(&path) else { return Ok(()) };
    match serde_json::from_slice::<Profile>(&text) {
        Ok(profile) if profile.url == url => Ok(()),
        Ok(profile) => write_profile(
            &path,
            &Profile {
                url: url.to_owned(),
                ..profile
            },
        ),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the administrator's profile cannot be read; left as it is");
            Ok(())
        }
    }
}

/// A profile that was kept before its registration becomes the profile when the log has that very secret; else another
/// node's registration came first, or none, and it is of no use.
fn prove(service: &Service, first: &FirstApplication, unproven: &Path, path: &Path) -> Result<(), ServeError> {
    if !unproven.exists() {
        return Ok(());
    }
    let is_proven = kept(unproven)?.is_some_and(|profile| service.is_secret_of(first, &profile.client_secret));
    settle(unproven, path, is_proven)
}

/// The profile in this file, if there is one.
fn kept(path: &Path) -> Result<Option<Profile>, ServeError> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ServeError::file(path)(error)),
    }
}

fn settle(unproven: &Path, path: &Path, is_proven: bool) -> Result<(), ServeError> {
    match is_proven {
        true => fs::rename(unproven, path),
        false => fs::remove_file(unproven),
    }
    .and_then(|()| {
        path.parent()
            .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    })
    .map_err(ServeError::file(unproven))
}

/// On the word of whoever may read the data folder. The secret is kept before it counts: were it the other
/// way round, a crash in between would lose it.
async fn new_secret(service: &Service, first: &FirstApplication, folder: &Path, url: &str) -> Result<(), ServeError> {
    let secret = ClientSecret::generate().map_err(ServeError::part)?;
    let path = folder.join(profile_name(first));
    write_profile(&path, &Profile::new(url, first, &secret))?;
    service
        .reset_first(first, &secret, &account())
        .await
        .map_err(ServeError::part)?;
    say(&format!(
        "{} has a new secret, the old ones are refused (tokens that are out live until they expire)\n  \
         client_secret: {}\n  It is shown once; it is also in {} (mode 0600)",
        first.client_id,
        secret.expose(),
        path.display(),
    ))
}

/// The account that this process runs as: by its number, and its name where the machine knows one.
fn account() -> String {
    let Ok(process) = fs::metadata("/proc/self") else {
        return "unknown".into();
    };
    let number = process.uid().to_string();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or(number)
}

/// Whole or not at all, and closed to others from its first byte on.
fn write_profile(path: &Path, profile: &Profile) -> Result<(), ServeError> {
    let beside = path.with_extension("json.new");
    let mut text = serde_json::to_vec_pretty(profile).map_err(ServeError::part)?;
    text.push(b'\n');
    let write = || {
        if let Err(error) = fs::remove_file(&beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // Else a power failure could take the profile and leave the registration of its secret.
        path.parent()
            .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(ServeError::file(path))
}

async fn report(service: Arc<Service>, forwarding: Arc<Forwarding>) {
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.report_suppressed(false).await;
        // Also for those who do not scrape: the lag of a dead sink grows without anything that it does.
        forwarding.gauge();
    }
}

async fn look_after(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        service.upkeep().await;
    }
}

async fn end_sessions(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(END_SESSIONS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = service.end_sessions_that_are_over().await
            && !error.is_told_elsewhere()
        {
            tracing::warn!(%error, "sessions that are over could not be ended yet");
        }
    }
}

async fn retain(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(RETAIN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = service.retain().await {
            tracing::warn!(%error, "what is to be given up could not be yet");
        }
    }
}

/// Resolves when the server is told to stop. From the call on, no such signal kills it.
fn stop_signal() -> io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// From here on audit events leave as they happen. Reading certificates and checkpoints blocks.
/// Reads the secrets and certificates of every sink before anything is written: what is missing must not be found
/// when a first start has already made keys and shown secrets.
async fn check_sinks(config: &Config, issuer: &IssuerUrl) -> Result<(), ServeError> {
    let sinks = config.forwarding.clone();
    let origin = origin(issuer);
    let check = move || {
        sinks
            .iter()
            .try_for_each(|settings| Sink::new(settings, &origin).map(drop))
    };
    tokio::task::spawn_blocking(check)
        .await
        .map_err(ServeError::part)?
        .map_err(ServeError::part)
}

fn origin(issuer: &IssuerUrl) -> Origin {
    Origin {
        issuer: issuer.as_str().to_owned(),
    }
}

async fn forward(
    config: &Config,
    issuer: &IssuerUrl,
    store: Arc<dyn EventStore>,
    metrics: Metrics,
) -> Result<Forwarding, ServeError> {
    let sinks = config.forwarding.clone();
    let folder = config.data_dir.join("forwarding");
    let origin = origin(issuer);
    tokio::task::spawn_blocking(move || Forwarding::start(sinks, &folder, &origin, store, metrics))
        .await
        .map_err(ServeError::part)?
        .map_err(ServeError::part)
}

/// What is on its way may take seconds to arrive.
async fn stop_forwarding(forwarding: Arc<Forwarding>) {
    let _ = tokio::task::spawn_blocking(move || forwarding.stop()).await;
}

/// Exporting what is left may take seconds, and blocks.
async fn stop_telemetry(telemetry: Telemetry) {
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
}

/// Listens as the server does; `bench/` measures against a baseline that must differ in nothing else.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
    let socket = socket.map_err(failed)?;
    // A restart must not wait for the last connections' TIME_WAIT.
    socket.set_reuse_address(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket.into())
}

/// TLS as the server speaks it; for the same baseline.
pub fn tls_config(certificate: &Path, key: &Path) -> Result<rustls::ServerConfig, ServeError> {
    let of = |path: &Path, error: &dyn std::fmt::Display| ServeError::Tls(format!("{}: {error}", path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| of(certificate, &error))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key_der))
        .map_err(|error| of(certificate, &error))
}

/// Where a client on this machine finds the server: an unspecified address is no destination.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn state_file(config: &Config) -> PathBuf {
    config.data_dir.join("projections.db")
}

fn usage_file(config: &Config) -> PathBuf {
    config.data_dir.join("usage.db")
}

fn index_file(config: &Config) -> PathBuf {
    config.data_dir.join("audit.db")
}

/// C2SP tlog-checkpoint: a URL without its scheme. A key's name has no plus, which a path may have.
fn log_name(issuer: &IssuerUrl) -> String {
    let name = issuer
        .as_str()
        .split_once("://")
        .map_or(issuer.as_str(), |(_, name)| name);
    format!("{}/audit", name.replace('+', "%2B"))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// On stdout, at once, whoever reads it.
fn say(text: &str) -> Result<(), ServeError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|source| ServeError::File {
            path: "stdout".into(),
            source,
        })
}
