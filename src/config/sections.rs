//! The sections of the configuration: one struct each, with its keys, defaults and bounds.

use super::settings::{Accepted, Settings};
use super::{IssuerUrl, MasterKeySource, Origin};
use crate::credentials::sealing::MasterKey;
use crate::event_store::kurrentdb::KurrentDbUrl;
use grantlog_projections::values::{Audience, SigningAlgorithm, TokenLifetime};
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

/// The most proxies (or networks of proxies) that can be trusted.
const MAX_TRUSTED_PROXIES: usize = 256;
/// The longest name of the service in telemetry.
const MAX_SERVICE_NAME_CHARACTERS: usize = 128;
/// The longest name of the log.
const MAX_LOG_NAME_CHARACTERS: usize = 256;
/// The longest log filter.
const MAX_LOG_FILTER_BYTES: usize = 4_096;
const DAY_SECONDS: u64 = 86_400;

/// `[server]`
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads that serve requests.
    pub workers: NonZeroUsize,
    /// The server's name for itself; `None`: the address that it turns out to listen on.
    pub issuer: Option<IssuerUrl>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a stop waits for the requests in flight.
    pub shutdown_timeout: Duration,
    /// Connections open at once, in the whole process.
    pub max_connections: usize,
    /// How long a client may take to send its request's head.
    pub client_request_timeout: Duration,
    /// How long an idle connection stays open; zero: closed after each answer.
    pub keep_alive: Duration,
}

/// `[tls]`
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
}

/// `[store]`
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where the event log is.
    pub location: StoreLocation,
    /// Appends that wait for the writer at the most; beyond it requests get 503.
    pub queue_capacity: usize,
    /// Events that one commit holds at the most.
    pub max_batch_events: usize,
    /// What the names of the log's streams begin with in a KurrentDB.
    pub stream_prefix: String,
    /// A node that has not known for so long what the cluster knows grants nothing.
    pub max_staleness: Duration,
    /// An append to a cluster that is not answered after so long is given up.
    pub append_timeout: Duration,
    /// How long a start waits for a cluster that does not answer.
    pub connect_timeout: Duration,
}

/// Where the event log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A KurrentDB cluster.
    KurrentDb(KurrentDbUrl),
}

impl StoreLocation {
    /// Reads a store's URL; the default file lies in the data folder.
    pub fn parse(text: &str, data_dir: &Path) -> Result<Self, String> {
        if KurrentDbUrl::is_meant_by(text) {
            return KurrentDbUrl::parse(text)
                .map(Self::KurrentDb)
                .map_err(|error| format!("a KurrentDB connection string, but {error}"));
        }
        match text.split_once(':') {
            None if text == "sqlite" => Ok(Self::Sqlite(data_dir.join("events.db"))),
            Some(("sqlite", path)) if !path.is_empty() && !path.contains('\0') => Ok(Self::Sqlite(path.into())),
            _ => Err(r#""sqlite", "sqlite:<path>" or "kurrentdb://<user>:<password>@<host>:2113?tls=true""#.to_owned()),
        }
    }

    /// The kind of store, for the record.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::KurrentDb(_) => "kurrentdb",
        }
    }
}

/// `[tokens]`
#[derive(Debug, Clone)]
pub struct TokensConfig {
    /// Lifetime of a token whose application and API set none.
    pub default_lifetime: TokenLifetime,
    /// `aud` of a token that names no API; `None`: the issuer.
    pub default_audience: Option<Audience>,
    /// Signs for APIs that choose no algorithm.
    pub default_signing_algorithm: SigningAlgorithm,
}

/// `[lockout]`
#[derive(Debug, Clone)]
pub struct LockoutConfig {
    /// Failures of one client from one source in a window that are answered; more are throttled.
    pub max_failures: u32,
    /// Refusals of one source in a window that are recorded one by one; more are throttled.
    pub max_refusals_per_source: u32,
    /// The window.
    pub window: Duration,
    /// Pairs of client and source, and sources, that are counted at once.
    pub max_tracked: usize,
}

/// `[secrets]`
#[derive(Debug, Clone)]
pub struct SecretsConfig {
    /// How long a rotated secret stays valid when the rotation does not say.
    pub default_overlap: Duration,
}

/// `[keys]`
#[derive(Debug, Clone)]
pub struct KeysConfig {
    /// Age at which a signing key is replaced.
    pub rotate_after: Duration,
    /// How long before it signs a key is published.
    pub announce_ahead: Duration,
    /// Modulus of new RSA keys.
    pub rsa_bits: u16,
    /// What seals private keys at rest.
    pub master_key: MasterKeySource,
}

/// `[projections]`
#[derive(Debug, Clone)]
pub struct ProjectionsConfig {
    /// A checkpoint is written after this many events,
    pub checkpoint_every_events: u64,
    /// or after this time, whichever comes first.
    pub checkpoint_every: Duration,
}

/// `[sessions]`
#[derive(Debug, Clone)]
pub struct SessionsConfig {
    /// A session whose token is not used for so long ends.
    pub idle: Duration,
    /// A session ends after so long in any case.
    pub absolute: Duration,
    /// Sessions that one application may have at a time when it calls APIs; `None`: any number.
    pub max_per_application: Option<u32>,
}

/// `[transparency]`
#[derive(Debug, Clone)]
pub struct TransparencyConfig {
    /// The log's name; `None`: made of the issuer.
    pub origin: Option<String>,
    /// The file of the key that signs checkpoints.
    pub key_file: PathBuf,
    /// Whether the operator has named that file.
    pub key_file_is_named: bool,
    /// Whether checkpoints and hashes are for everybody.
    pub is_public: bool,
    /// Whether whole events are, too.
    pub entries_are_public: bool,
    /// Whoever asks for the newest checkpoint has a new one made at most this often.
    pub publish_interval: Duration,
}

/// `[retention]`. Nothing is given up by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Searches find what is not older than this.
    pub index_after: Option<Duration>,
    /// The audit index may take so many bytes.
    pub index_max_bytes: Option<u64>,
    /// Facts of the trail that are older than this are removed from the log.
    pub log_after: Option<Duration>,
    /// The log may take so many bytes.
    pub log_max_bytes: Option<u64>,
}

/// `[telemetry]`
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// What logs look like.
    pub log_format: LogFormat,
    /// What is logged: `EnvFilter` directives, known to parse.
    pub log_filter: String,
    /// Where traces, metrics and logs go by OTLP over gRPC; `None`: nowhere.
    pub otlp_endpoint: Option<Url>,
    /// `service.name` of the telemetry.
    pub service_name: String,
    /// The share of traces that is exported, of those whose caller has not decided.
    pub trace_sample_ratio: f64,
}

/// What logs look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl ServerConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        Self {
            listen: settings.text("server.listen", SocketAddr::from(([127, 0, 0, 1], 8080)), |text| {
                text.parse()
                    .map_err(|_| r#"an IP address and port such as "127.0.0.1:8080" or "[::]:8080""#.into())
            }),
            workers: NonZeroUsize::new(settings.integer("server.workers", 0, 0..=256) as usize)
                .or_else(|| std::thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
            issuer: settings.optional_text("server.issuer", |text| {
                text.parse::<IssuerUrl>().map_err(|e| e.to_string().into())
            }),
            trusted_proxies: settings.list("server.trusted_proxies", MAX_TRUSTED_PROXIES, network),
            shutdown_timeout: seconds(settings.integer("server.shutdown_timeout_seconds", 30, 0..=3_600)),
            max_connections: settings.integer("server.max_connections", 10_000, 1..=1_000_000) as usize,
            client_request_timeout: seconds(settings.integer("server.client_request_timeout_seconds", 5, 1..=300)),
            keep_alive: seconds(settings.integer("server.keep_alive_seconds", 75, 0..=3_600)),
        }
    }
}

impl TlsConfig {
    pub(super) fn read(settings: &mut Settings) -> Option<Self> {
        let origins = [settings.origin("tls.certificate_file"), settings.origin("tls.key_file")];
        let files = [
            settings.optional_path("tls.certificate_file"),
            settings.optional_path("tls.key_file"),
        ];
        match (files, origins) {
            ([Some(certificate_file), Some(key_file)], _) => Some(Self {
                certificate_file,
                key_file,
            }),
            ([None, None], _) => None,
            ([Some(_), None], [origin, _]) => {
                settings.contradiction(
                    origin,
                    "tls.certificate_file is set, so tls.key_file must be too".to_owned(),
                );
                None
            }
            ([None, Some(_)], [_, origin]) => {
                settings.contradiction(
                    origin,
                    "tls.key_file is set, so tls.certificate_file must be too".to_owned(),
                );
                None
            }
        }
    }
}

impl StoreConfig {
    pub(super) fn read(settings: &mut Settings, data_dir: &Path) -> Self {
        let default = StoreLocation::Sqlite(data_dir.join("events.db"));
        Self {
            location: settings.text("store.url", default, |text| {
                StoreLocation::parse(text, data_dir).map_err(Into::into)
            }),
            queue_capacity: settings.integer("store.queue_capacity", 4_096, 1..=1_000_000) as usize,
            max_batch_events: settings.integer("store.max_batch_events", 1_024, 128..=65_536) as usize,
            stream_prefix: settings.text("store.stream_prefix", "grantlog.".to_owned(), stream_prefix),
            max_staleness: seconds(settings.integer("store.max_staleness_seconds", 5, 1..=60)),
            append_timeout: seconds(settings.integer("store.append_timeout_seconds", 5, 1..=60)),
            connect_timeout: seconds(settings.integer("store.connect_timeout_seconds", 60, 1..=3_600)),
        }
    }
}

impl SessionsConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        let most = settings.integer("sessions.max_per_application", 0, 0..=1_000_000) as u32;
        Self {
            idle: seconds(settings.integer("sessions.idle_seconds", 1_200, 1..=DAY_SECONDS)),
            absolute: seconds(settings.integer("sessions.absolute_seconds", 3_600, 1..=DAY_SECONDS)),
            max_per_application: (most > 0).then_some(most),
        }
    }
}

impl TokensConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        let longest = u64::from(TokenLifetime::MAX_SECONDS);
        let lifetime = settings.integer("tokens.default_lifetime_seconds", 3_600, 60..=longest);
        let algorithms = SigningAlgorithm::ALL.map(|algorithm| (algorithm.as_str(), algorithm));
        Self {
            default_lifetime: TokenLifetime::parse(lifetime as i64)
                .expect("3,600 and the range are accepted lifetimes"),
            default_audience: settings.optional_text("tokens.default_audience", |text| {
                Audience::parse(text).map_err(|e| e.rule.into())
            }),
            default_signing_algorithm: settings.choice(
                "tokens.default_signing_algorithm",
                SigningAlgorithm::Es256,
                &algorithms,
            ),
        }
    }
}

impl LockoutConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        Self {
            max_failures: settings.integer("lockout.max_failures", 20, 1..=1_000_000) as u32,
            max_refusals_per_source: settings.integer("lockout.max_refusals_per_source", 6_000, 1..=100_000_000) as u32,
            window: seconds(settings.integer("lockout.window_seconds", 60, 1..=DAY_SECONDS)),
            max_tracked: settings.integer("lockout.max_tracked", 100_000, 1..=10_000_000) as usize,
        }
    }
}

impl SecretsConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        let range = 0..=365 * DAY_SECONDS;
        Self {
            default_overlap: seconds(settings.integer("secrets.default_overlap_seconds", DAY_SECONDS, range)),
        }
    }
}

impl KeysConfig {
    pub(super) fn read(settings: &mut Settings, data_dir: &Path) -> Self {
        let rotate_origin = settings.origin("keys.rotate_after_days");
        let announce_origin = settings.origin("keys.announce_days_ahead");
        let rotate_after_days = settings.integer("keys.rotate_after_days", 90, 1..=3_650);
        let announce_days_ahead = settings.integer("keys.announce_days_ahead", 14, 0..=3_650);
        if announce_days_ahead >= rotate_after_days {
            let origin = if announce_origin == Origin::Default {
                rotate_origin
            } else {
                announce_origin
            };
            settings.contradiction(
                origin,
                format!(
                    "keys.announce_days_ahead is {announce_days_ahead}, but must be less than \
                     keys.rotate_after_days, which is {rotate_after_days}"
                ),
            );
        }
        let file_origin = settings.origin("keys.master_key_file");
        let file = settings.optional_path("keys.master_key_file");
        let given = settings.secret("keys.master_key", "base64 of exactly 32 bytes", |text| {
            MasterKey::from_base64(text).ok().map(Arc::new)
        });
        let master_key = match (given, file) {
            (None, None) => MasterKeySource::DataFolder(data_dir.join("master.key")),
            (None, Some(file)) => MasterKeySource::File(file),
            (Some(key), None) => MasterKeySource::Environment(key),
            (Some(key), Some(_)) => {
                let message = "keys.master_key_file and the environment's master key are both set; keep one";
                settings.contradiction(file_origin, message.to_owned());
                MasterKeySource::Environment(key)
            }
        };
        Self {
            rotate_after: seconds(rotate_after_days * DAY_SECONDS),
            announce_ahead: seconds(announce_days_ahead * DAY_SECONDS),
            rsa_bits: settings.choice(
                "keys.rsa_bits",
                2_048,
                &[("2048", 2_048), ("3072", 3_072), ("4096", 4_096)],
            ),
            master_key,
        }
    }
}

impl ProjectionsConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        let events = settings.integer("projections.checkpoint_every_events", 50_000, 1..=10_000_000);
        let every = settings.integer("projections.checkpoint_every_seconds", 10, 1..=DAY_SECONDS);
        Self {
            checkpoint_every_events: events,
            checkpoint_every: seconds(every),
        }
    }
}

impl TransparencyConfig {
    pub(super) fn read(settings: &mut Settings, data_dir: &Path) -> Self {
        let origin = settings.origin("transparency.public_entries");
        let is_public = settings.boolean("transparency.public", true);
        let entries_are_public = settings.boolean("transparency.public_entries", false);
        if entries_are_public && !is_public {
            settings.contradiction(
                origin,
                "transparency.public_entries is true, so transparency.public must be too".to_owned(),
            );
        }
        let origin = settings.optional_text("transparency.origin", log_name);
        let key_file = settings.optional_path("transparency.key_file");
        Self {
            origin,
            key_file_is_named: key_file.is_some(),
            key_file: key_file.unwrap_or_else(|| data_dir.join("transparency.key")),
            is_public,
            entries_are_public,
            publish_interval: Duration::from_millis(settings.integer(
                "transparency.publish_interval_milliseconds",
                1_000,
                0..=3_600_000,
            )),
        }
    }
}

impl RetentionConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        const MOST_DAYS: u64 = 36_500;
        const MOST_BYTES: u64 = 1 << 50;
        // 0 keeps everything.
        let wanted = |number: u64| (number > 0).then_some(number);
        let mut days = |key| wanted(settings.integer(key, 0, 0..=MOST_DAYS)).map(|days| seconds(days * DAY_SECONDS));
        let (index_after, log_after) = (days("retention.index_days"), days("retention.log_days"));
        let mut bytes = |key| wanted(settings.integer(key, 0, 0..=MOST_BYTES));
        Self {
            index_after,
            index_max_bytes: bytes("retention.index_max_bytes"),
            log_after,
            log_max_bytes: bytes("retention.log_max_bytes"),
        }
    }
}

impl TelemetryConfig {
    pub(super) fn read(settings: &mut Settings) -> Self {
        Self {
            log_format: settings.choice(
                "telemetry.log_format",
                LogFormat::Text,
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            ),
            log_filter: settings.text(
                "telemetry.log_filter",
                "info,actix_server=warn,kurrentdb=off".to_owned(),
                log_filter,
            ),
            otlp_endpoint: settings.optional_text("telemetry.otlp_endpoint", otlp_endpoint),
            service_name: settings.text("telemetry.service_name", "grantlog".to_owned(), |text| {
                word(text, MAX_SERVICE_NAME_CHARACTERS)
            }),
            trace_sample_ratio: settings.number("telemetry.trace_sample_ratio", 1.0, 0.0..=1.0),
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            // Without its password.
            Self::KurrentDb(url) => url.fmt(f),
        }
    }
}

/// Not a system stream's, and short enough for KurrentDB with the longest of our own names behind it.
fn stream_prefix(text: &str) -> Result<String, Accepted> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    match (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("1 to 64 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"".into()),
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A network, or an address for a network of one. Bits beside the mask are refused: whoever writes
/// 10.1.2.3/8 means either that address or that network, and trust is not to be guessed.
fn network(text: &str) -> Result<IpNet, Accepted> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| r#"an IP address or network such as "127.0.0.1" or "10.0.0.0/8""#)?;
    if network != network.trunc() {
        return Err(format!(
            "the network {:?} or the address {:?}",
            network.trunc().to_string(),
            network.addr().to_string()
        )
        .into());
    }
    Ok(network)
}

/// C2SP signed-note: a key's name has no white space and no plus.
fn log_name(text: &str) -> Result<String, Accepted> {
    let accepted = r#"a name such as "grantlog.example.com/audit": visible ASCII without white space and +"#;
    match word(text, MAX_LOG_NAME_CHARACTERS) {
        Ok(name) if !name.contains('+') => Ok(name),
        _ => Err(accepted.into()),
    }
}

fn word(text: &str, max_characters: usize) -> Result<String, Accepted> {
    if text.is_empty() || text.len() > max_characters || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("1 to {max_characters} visible ASCII characters without white space").into());
    }
    Ok(text.to_owned())
}

fn log_filter(text: &str) -> Result<String, Accepted> {
    let accepted = r#"a level or a list of target=level such as "info" or "info,grantlog=debug" (off, error, warn, info, debug, trace)"#;
    if text.is_empty() || text.len() > MAX_LOG_FILTER_BYTES || EnvFilter::builder().parse(text).is_err() {
        return Err(accepted.into());
    }
    // A bare word that is no level would be a target at TRACE: "inof" would log next to nothing.
    let is_directive = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    if !text.contains('[') && !text.split(',').all(|part| is_directive(part.trim())) {
        return Err(accepted.into());
    }
    Ok(text.to_owned())
}

/// gRPC has no path of its own, and a password in the URL would end up in this process's output.
fn otlp_endpoint(text: &str) -> Result<Url, Accepted> {
    let accepted = r#"the http or https URL of an OTLP/gRPC receiver, without a path, such as "http://127.0.0.1:4317""#;
    let url = Url::parse(text).map_err(|_| accepted)?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if matches!(url.scheme(), "http" | "https") && has_host && bare && anonymous {
        Ok(url)
    } else {
        Err(accepted.into())
    }
}
