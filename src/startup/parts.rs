//! The parts of a server, each from its section of the configuration.

use super::error::ServeError;
use super::folder::{index_file, state_file, usage_file};
use super::stores::open_store;
use crate::audit::AuditIndex;
use crate::audit::transparency::{Signers, Transparency, TransparencySettings};
use crate::audit::usage::UsageProjection;
use crate::config::{Config, IssuerUrl, MasterKeySource};
use crate::credentials::sealing::MasterKey;
use crate::credentials::signing_key::RsaBits;
use crate::event_store::EventStore;
use crate::forwarding::Forwarding;
use crate::forwarding::sink::{Origin, Sink};
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::policy::PolicySettings;
use crate::policy::retention::RetentionRules;
use crate::policy::signing_keys::KeyRotation;
use crate::service::checkpoint::Checkpoint;
use crate::service::keys::Keys;
use crate::service::live_state::{self, CheckpointEvery, LiveState};
use crate::service::sessions::SessionSettings;
use crate::service::throttle::{Throttle, ThrottleSettings};
use crate::service::trail::Trail;
use crate::service::{Service, ServiceSettings};
use grantlog_projections::values::Audience;
use std::sync::Arc;
use std::time::Duration;

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

pub(super) async fn build(
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
        signers: signers(config),
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

/// Who signs checkpoints of the log.
pub(super) fn signers(config: &Config) -> Signers {
    match (
        config.store.location.traits().is_shared,
        config.transparency.key_file_is_named,
    ) {
        (false, _) => Signers::One,
        (true, false) => Signers::AllNodes,
        (true, true) => Signers::AllWhoHaveTheFile,
    }
}

/// The gateway, with the certificates that it trusts.
pub(super) async fn gateway(config: &Config, issuer: &IssuerUrl) -> Result<Gateway, ServeError> {
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

/// Reads the secrets and certificates of every sink before anything is written: what is missing must not be found
/// when a first start has already made keys and shown secrets.
pub(super) async fn check_sinks(config: &Config, issuer: &IssuerUrl) -> Result<(), ServeError> {
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

/// From here on audit events leave as they happen. Reading certificates and checkpoints blocks.
pub(super) async fn forward(
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
