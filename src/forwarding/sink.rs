//! A place to deliver to, whatever it speaks.

use super::ForwardingError;
use super::forwarded_event::ForwardedEvent;
use super::otlp::OtlpSink;
use super::settings::{SinkSettings, Target};
use super::syslog::SyslogSink;
use super::webhook::WebhookSink;
use serde::Serialize;
use std::time::Duration;

/// The longest message about a failure, in characters.
const MAX_MESSAGE_CHARACTERS: usize = 200;

/// Who says it.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The issuer: `source` of a CloudEvent, an attribute of an OTLP resource.
    pub issuer: String,
}

/// A place to deliver to.
pub enum Sink {
    /// OTLP.
    Otlp(Box<OtlpSink>),
    /// Syslog.
    Syslog(SyslogSink),
    /// A webhook.
    Webhook(WebhookSink),
}

/// What an acknowledgement says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Events that the sink has refused for good: to send them again would not help.
    pub rejected: u64,
}

/// What kind of failure it was: a label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// No connection, or it broke off.
    Connection,
    /// TLS: a certificate that is not trusted, say.
    Tls,
    /// No answer in time.
    Timeout,
    /// The sink does not accept our credentials.
    Unauthorized,
    /// The sink refuses the delivery.
    Refused,
    /// The sink asks for patience, or has failed itself.
    Unavailable,
    /// The sink sends us elsewhere, which is not followed.
    Redirected,
    /// The sink is gone for good.
    Gone,
    /// The sink answers what its protocol does not have.
    Protocol,
    /// The log cannot be read or understood.
    Log,
}

/// A delivery that was not acknowledged. All of it is sent again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryError {
    /// Its class.
    pub class: FailureClass,
    /// In words: without secrets, and without what the sink answered.
    pub message: String,
    /// What the sink asks for.
    pub retry_after: Option<Duration>,
    /// Fewer events at once may do.
    pub is_too_large: bool,
}

impl Sink {
    /// Reads secrets and certificates; connects to nothing yet.
    pub fn new(settings: &SinkSettings, origin: &Origin) -> Result<Self, ForwardingError> {
        let secret = |source| ForwardingError::Secret {
            sink: settings.name.to_string(),
            source,
        };
        let trust = |source| ForwardingError::Trust {
            sink: settings.name.to_string(),
            source,
        };
        let token = match &settings.target {
            Target::Otlp(target) => target.bearer_token.as_ref(),
            Target::Webhook(target) => target.bearer_token.as_ref(),
            Target::Syslog(_) => None,
        };
        let token = token
            .map(|source| super::trust::bearer(source).map_err(secret))
            .transpose()?;
        Ok(match &settings.target {
            Target::Otlp(target) => Self::Otlp(Box::new(
                OtlpSink::new(target, token, settings.timeout, origin).map_err(trust)?,
            )),
            Target::Syslog(target) => Self::Syslog(SyslogSink::new(target).map_err(trust)?),
            Target::Webhook(target) => {
                let signer = super::webhook::signature::Signer::read(&target.secret).map_err(secret)?;
                let one_by_one = settings.batch_events == 1;
                let sink = WebhookSink::new(target, signer, token, settings.timeout, one_by_one, origin);
                Self::Webhook(sink.map_err(trust)?)
            }
        })
    }

    /// Delivers these events, of which there is at least one; `Ok` when the sink has acknowledged all of them.
    pub async fn deliver(&mut self, events: &[&ForwardedEvent]) -> Result<Receipt, DeliveryError> {
        match self {
            Self::Otlp(sink) => sink.deliver(events).await,
            Self::Syslog(sink) => sink.deliver(events).await,
            Self::Webhook(sink) => sink.deliver(events).await,
        }
    }

    /// How long to wait for more before a delivery that is not full.
    pub fn gathers_for(&self) -> Duration {
        match self {
            Self::Syslog(_) => super::syslog::GATHER,
            // While one delivery is on its way, the next one gathers.
            Self::Otlp(_) | Self::Webhook(_) => Duration::ZERO,
        }
    }
}

impl FailureClass {
    /// Its name, as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Redirected => "redirected",
            Self::Gone => "gone",
            Self::Protocol => "protocol",
            Self::Log => "log",
        }
    }
}

impl DeliveryError {
    /// With a message of our own, cut when it is long.
    pub fn new(class: FailureClass, message: impl AsRef<str>) -> Self {
        Self {
            class,
            message: message.as_ref().chars().take(MAX_MESSAGE_CHARACTERS).collect(),
            retry_after: None,
            is_too_large: false,
        }
    }

    /// No answer in time.
    pub fn timeout(after: Duration) -> Self {
        let message = format!("no acknowledgement within {} seconds", after.as_secs_f64());
        Self::new(FailureClass::Timeout, message)
    }

    /// A failure of the connection.
    pub fn connection(error: &std::io::Error) -> Self {
        let class = match crate::outgoing::cause::is_tls(error) {
            true => FailureClass::Tls,
            false => FailureClass::Connection,
        };
        Self::new(class, error.to_string())
    }
}
