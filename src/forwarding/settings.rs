//! What the operator sets for a sink, checked.

use crate::audit::AuditEvent;
use crate::audit::filter::{Filter, InvalidFilter};
use chrono::Utc;
use grantlog_projections::values::Timestamp;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// A file with a secret may be at most this many bytes.
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;
/// The longest name of a sink.
pub const MAX_NAME_BYTES: usize = 63;

/// One sink.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// Tells it from the others, and names its checkpoint.
    pub name: SinkName,
    /// Where it delivers to.
    pub target: Target,
    /// Which events it gets.
    pub filter: EventFilter,
    /// Where it begins when it has no checkpoint yet.
    pub from: StartAt,
    /// Events in one delivery at the most.
    pub batch_events: usize,
    /// How long one delivery may take.
    pub timeout: Duration,
    /// The longest pause between two attempts that the sink has not asked for.
    pub retry_max: Duration,
}

/// 1 to 63 of a-z, 0-9 and '-': also a file's name and a metric's label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SinkName(Arc<str>);

/// Where a new sink begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the next event.
    Now,
    /// With the first event of the log.
    Beginning,
}

/// Where a sink delivers to, and how.
#[derive(Debug, Clone)]
pub enum Target {
    /// OTLP logs over gRPC.
    Otlp(OtlpTarget),
    /// Syslog, RFC 5424, over TCP or TLS.
    Syslog(SyslogTarget),
    /// HTTP POST of CloudEvents with Standard Webhooks signatures.
    Webhook(WebhookTarget),
}

/// An OTLP receiver.
#[derive(Debug, Clone)]
pub struct OtlpTarget {
    /// `http` or `https`, without a path.
    pub url: Url,
    /// Whom to trust, and who we are.
    pub tls: TlsFiles,
    /// Sent as `authorization: Bearer`.
    pub bearer_token: Option<SecretSource>,
    /// `service.name` of the resource.
    pub service_name: String,
}

/// A syslog server.
#[derive(Debug, Clone)]
pub struct SyslogTarget {
    /// `tcp` or `tls`, a host and a port.
    pub url: Url,
    /// Whom to trust, and who we are.
    pub tls: TlsFiles,
    /// RFC 5424 §6.2.1.
    pub facility: Facility,
    /// RFC 5424 §6.2.4.
    pub hostname: String,
}

/// A webhook's receiver.
#[derive(Debug, Clone)]
pub struct WebhookTarget {
    /// `https`; `http` on the loopback interface.
    pub url: Url,
    /// Whom to trust, and who we are.
    pub tls: TlsFiles,
    /// What signs: one secret, or two while they are changed.
    pub secret: SecretSource,
    /// Sent as `Authorization: Bearer`.
    pub bearer_token: Option<SecretSource>,
}

/// Files for TLS, PEM.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The only certificate authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Where a secret is; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of the environment.
    Environment(String),
    /// A file.
    File(PathBuf),
}

/// Why a secret cannot be had. Never says what was found.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or empty.
    #[error("the environment has no variable {0} with the secret")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("the secret's file {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// What is there is not what is wanted.
    #[error("{place} does not hold {accepted}")]
    Unfit {
        /// The variable or file.
        place: String,
        /// What it should hold.
        accepted: &'static str,
    },
}

impl SinkName {
    /// Checks a name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_fit = (1..=MAX_NAME_BYTES).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        is_fit.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Target {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Otlp(_) => "otlp",
            Self::Syslog(_) => "syslog",
            Self::Webhook(_) => "webhook",
        }
    }

    /// Where it is, without the path and query of a URL: those of a webhook may be as good as a password.
    pub fn place(&self) -> String {
        let url = match self {
            Self::Otlp(target) => &target.url,
            Self::Syslog(target) => &target.url,
            Self::Webhook(target) => &target.url,
        };
        let host = url.host_str().unwrap_or_default();
        match url.port_or_known_default() {
            Some(port) => format!("{}://{host}:{port}", url.scheme()),
            None => format!("{}://{host}", url.scheme()),
        }
    }
}

impl SecretSource {
    /// Reads the secret, white space around it left out.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        let text = match self {
            Self::Environment(name) => Zeroizing::new(std::env::var(name).unwrap_or_default()),
            Self::File(path) => {
                let failed = |source| SecretError::File {
                    path: path.clone(),
                    source,
                };
                let mut text = Zeroizing::new(String::new());
                std::fs::File::open(path)
                    .and_then(|file| file.take(MAX_SECRET_FILE_BYTES).read_to_string(&mut text))
                    .map_err(failed)?;
                text
            }
        };
        match (text.trim(), self) {
            ("", Self::Environment(name)) => Err(SecretError::NoVariable(name.clone())),
            ("", Self::File(_)) => Err(self.unfit("a secret")),
            (secret, _) => Ok(Zeroizing::new(secret.to_owned())),
        }
    }

    /// What is there is not this.
    pub fn unfit(&self, accepted: &'static str) -> SecretError {
        SecretError::Unfit {
            place: self.to_string(),
            accepted,
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// RFC 5424 §6.2.1: where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// Those that an application may claim, by their usual names.
    pub const CHOICES: [(&'static str, Facility); 12] = [
        ("user", Facility(1)),
        ("daemon", Facility(3)),
        ("auth", Facility(4)),
        ("authpriv", Facility(10)),
        ("local0", Facility(16)),
        ("local1", Facility(17)),
        ("local2", Facility(18)),
        ("local3", Facility(19)),
        ("local4", Facility(20)),
        ("local5", Facility(21)),
        ("local6", Facility(22)),
        ("local7", Facility(23)),
    ];
    /// Security messages.
    pub const AUTHPRIV: Facility = Facility(10);

    /// The numerical code.
    pub fn code(self) -> u8 {
        self.0
    }
}

/// Which events a sink gets.
#[derive(Debug, Clone, Default)]
pub struct EventFilter(Option<Filter>);

impl EventFilter {
    /// A SCIM filter expression as searches of the trail take it; empty: every event. A span back from now is
    /// counted from this moment.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        Filter::parse(text, Timestamp::new(Utc::now())).map(|filter| Self(Some(filter)))
    }

    /// Whether the sink gets this event.
    pub fn lets_through(&self, event: &AuditEvent) -> bool {
        self.0.as_ref().is_none_or(|filter| filter.matches(event))
    }
}

/// The expression in its canonical form, empty when every event is meant.
impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |filter| filter.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sinks_name_is_fit_for_a_file_and_a_label() {
        for good in ["siem", "a", "0", "splunk-eu-1", &"x".repeat(63)] {
            assert_eq!(SinkName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a.b", "a/b", "..", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(SinkName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_is_read_from_its_file_without_the_white_space_around_it_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "  whsec_abc\n").unwrap();
        let source = SecretSource::File(path.clone());
        assert_eq!(*source.read().unwrap(), "whsec_abc");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(source.read(), Err(SecretError::Unfit { .. })));
        let none = SecretSource::Environment("GRANTLOG_TEST_NO_SUCH_VARIABLE".into());
        assert!(
            none.read()
                .unwrap_err()
                .to_string()
                .contains("GRANTLOG_TEST_NO_SUCH_VARIABLE")
        );
    }

    #[test]
    fn the_place_of_a_webhook_does_not_tell_its_path() {
        let target = Target::Webhook(WebhookTarget {
            url: "https://hooks.example.com/services/T00/B00/in-the-path?token=abc"
                .parse()
                .unwrap(),
            tls: TlsFiles::default(),
            secret: SecretSource::Environment("X".into()),
            bearer_token: None,
        });
        assert_eq!(target.place(), "https://hooks.example.com:443");
    }
}
