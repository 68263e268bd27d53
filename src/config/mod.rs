//! The configuration, parsed once: what the rest of Grantlog gets is typed, bounded and checked.
//!
//! Three layers, the later one wins: a TOML file, `GRANTLOG__SECTION__KEY` environment variables, and
//! the flags of `serve`. A key that nobody knows is an error, for a misspelt key of a security product
//! is a setting that silently does not hold. `grantlog.example.toml` explains every key.

mod error;
mod forwarding;
mod gateway;
mod issuer;
mod master_key;
mod node;
mod sections;
mod settings;

pub use error::{ConfigError, Origin, Problem};
pub use issuer::{InvalidIssuerUrl, IssuerUrl};
pub use master_key::MasterKeySource;
pub use node::{NodeConfig, Roles, StoreTraits};
pub use sections::{
    KeysConfig, LockoutConfig, LogFormat, ProjectionsConfig, RetentionConfig, SecretsConfig, ServerConfig,
    SessionsConfig, StoreConfig, StoreLocation, TelemetryConfig, TlsConfig, TokensConfig, TransparencyConfig,
};

use crate::forwarding::SinkSettings;
use crate::gateway::settings::RouteSettings;
use settings::Settings;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a variable of the environment must start with to be configuration.
pub const ENVIRONMENT_PREFIX: &str = "GRANTLOG__";
/// A configuration file may be at most this many bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The whole configuration, every value checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the log, its projections and the generated keys live.
    pub data_dir: PathBuf,
    /// Which of several nodes on one log this is, and what it is there for.
    pub node: NodeConfig,
    /// The HTTP server.
    pub server: ServerConfig,
    /// Certificate and key, `None` when the server speaks plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The event log.
    pub store: StoreConfig,
    /// Access tokens.
    pub tokens: TokensConfig,
    /// What failed requests lead to.
    pub lockout: LockoutConfig,
    /// How long sessions last.
    pub sessions: SessionsConfig,
    /// Client secrets.
    pub secrets: SecretsConfig,
    /// Signing keys and the master key that seals them.
    pub keys: KeysConfig,
    /// Checkpoints of the projections.
    pub projections: ProjectionsConfig,
    /// What outsiders check the log with.
    pub transparency: TransparencyConfig,
    /// What is kept of the log and its index.
    pub retention: RetentionConfig,
    /// Logs and OpenTelemetry.
    pub telemetry: TelemetryConfig,
    /// Where audit events go as they happen.
    pub forwarding: Vec<SinkSettings>,
    /// The APIs behind this server.
    pub gateway: Vec<RouteSettings>,
    effective: BTreeMap<&'static str, serde_json::Value>,
}

/// What the flags of `serve` override.
#[derive(Debug, Clone, Default)]
pub struct CliOverrides {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--issuer`
    pub issuer: Option<String>,
}

impl Config {
    /// Reads the file (when there is one), the environment's variables and the flags, and checks the
    /// whole. Every problem is reported at once.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        overrides: CliOverrides,
    ) -> Result<Config, ConfigError> {
        let mut settings = Settings::default();
        if let Some(path) = file {
            settings.add_file(path)?;
        }
        settings.add_environment(environment);
        settings.add_flags(overrides);
        Self::from_settings(settings)
    }

    /// SHA-256, in hex, of the effective configuration: every key with the value that holds, whichever
    /// layer it came from, as compact JSON ordered by key. Secrets have no part in it.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (key, value) in &self.effective {
            // One line per key: neither a key nor JSON without white space holds a line feed.
            hash.update(key.as_bytes());
            hash.update(b"=");
            hash.update(value.to_string().as_bytes());
            hash.update(b"\n");
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_settings(mut settings: Settings) -> Result<Config, ConfigError> {
        let data_dir = settings.path("data_dir", "./data");
        let server = ServerConfig::read(&mut settings);
        let tls = TlsConfig::read(&mut settings);
        let origins = node::Origins::of(&settings);
        let store = StoreConfig::read(&mut settings, &data_dir);
        let traits = store.location.traits();
        let node = NodeConfig::read(&mut settings, traits.is_shared);
        let tokens = TokensConfig::read(&mut settings);
        let lockout = LockoutConfig::read(&mut settings);
        let sessions = SessionsConfig::read(&mut settings);
        let secrets = SecretsConfig::read(&mut settings);
        let keys = KeysConfig::read(&mut settings, &data_dir);
        let projections = ProjectionsConfig::read(&mut settings);
        let transparency = TransparencyConfig::read(&mut settings, &data_dir);
        let retention = RetentionConfig::read(&mut settings);
        let telemetry = TelemetryConfig::read(&mut settings);
        let forwarding = forwarding::read(&mut settings, &telemetry.service_name);
        let gateway = gateway::read(&mut settings);
        let removes = (retention.log_after.is_some(), retention.log_max_bytes.is_some());
        traits.check(&mut settings, origins, &keys.master_key, removes);
        node.check(&mut settings, traits, &forwarding, &retention);
        let effective = settings.finish()?;
        Ok(Config {
            data_dir,
            node,
            server,
            tls,
            store,
            tokens,
            lockout,
            sessions,
            secrets,
            keys,
            projections,
            transparency,
            retention,
            telemetry,
            forwarding,
            gateway,
            effective,
        })
    }
}

/// The process's environment as [`Config::load`] takes it: the variables that are configuration. What is
/// not UTF-8 in a value arrives as U+FFFD, which `load` refuses.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name
            .into_string()
            .ok()
            .filter(|name| name.starts_with(ENVIRONMENT_PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

#[cfg(test)]
mod tests;
