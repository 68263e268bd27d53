//! Webhooks: HTTP POST of CloudEvents, signed as Standard Webhooks has it. A delivery is acknowledged by any 2xx.

pub mod cloud_event;

pub mod signature;

use super::forwarded_event::ForwardedEvent;
use super::settings::WebhookTarget;
use super::sink::{DeliveryError, FailureClass, Origin, Receipt};
use super::trust::{TrustError, read_pem};
use crate::outgoing::cause::{is_tls, root_cause};
use crate::outgoing::loopback::is_loopback;
use chrono::Utc;
use cloud_event::CloudEvent;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Identity, Response, Url};
use sha2::{Digest, Sha256};
use signature::Signer;
use std::time::Duration;
use zeroize::Zeroizing;

/// An answer's body is read this far, so that the connection can be used again; it is kept nowhere.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// And for this long.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Idle connections are closed before most servers do.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// A webhook's receiver.
pub struct WebhookSink {
    http: Client,
    url: Url,
    token: Option<HeaderValue>,
    signer: Signer,
    one_by_one: bool,
    source: String,
}

impl WebhookSink {
    /// Connects with the first delivery. `one_by_one`: one event as the body, else a list of them.
    pub fn new(
        target: &WebhookTarget,
        signer: Signer,
        token: Option<Zeroizing<String>>,
        timeout: Duration,
        one_by_one: bool,
        origin: &Origin,
    ) -> Result<Self, TrustError> {
        let tls = |error: reqwest::Error| TrustError::Tls(root_cause(&error).to_string());
        let mut builder = Client::builder()
            .user_agent(concat!("grantlog/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout)
            .timeout(timeout)
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(1)
            // What is signed for one receiver goes to no other.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &target.tls.ca_file {
            let not_pem = || TrustError::Pem {
                path: path.clone(),
                expected: "certificates",
            };
            let certificates = Certificate::from_pem_bundle(&read_pem(path)?).map_err(|_| not_pem())?;
            if certificates.is_empty() {
                return Err(not_pem());
            }
            builder = builder.tls_certs_only(certificates);
        } else if target.url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        if let Some((certificate, key)) = &target.tls.client {
            // reqwest wants both in one text.
            let mut pem = read_pem(certificate)?;
            pem.push(b'\n');
            pem.extend_from_slice(&read_pem(key)?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(tls)?);
        }
        if is_loopback(&target.url) {
            builder = builder.no_proxy();
        }
        let token = token
            .map(|token| {
                let mut value = HeaderValue::from_str(&token)
                    .map_err(|_| TrustError::Tls("the bearer token fits in no header".into()))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        Ok(Self {
            http: builder.build().map_err(tls)?,
            url: target.url.clone(),
            token,
            signer,
            one_by_one,
            source: origin.issuer.clone(),
        })
    }

    /// One request; acknowledged by 2xx.
    pub async fn deliver(&mut self, events: &[&ForwardedEvent]) -> Result<Receipt, DeliveryError> {
        let events: Vec<_> = events.iter().map(|event| CloudEvent::of(event, &self.source)).collect();
        let unwritable = |_| DeliveryError::new(FailureClass::Log, "an event cannot be written as JSON");
        let (content_type, body) = match events.as_slice() {
            [event] if self.one_by_one => (cloud_event::ONE, serde_json::to_vec(event).map_err(unwritable)?),
            events => (cloud_event::BATCH, serde_json::to_vec(events).map_err(unwritable)?),
        };
        let id = message_id(&body);
        let timestamp = Utc::now().timestamp();
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signer.sign(&id, timestamp, &body));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let answer = request.body(body).send().await.map_err(|error| failed(&error))?;
        let outcome = judge(&answer);
        // The answer is in its head; a body that never ends changes nothing about it.
        let _ = tokio::time::timeout(ANSWER_TIME, drain(answer)).await;
        outcome
    }
}

/// The same for the same body, so that whoever drops repeats by it drops no event: a batch may be cut elsewhere when
/// it is delivered again.
fn message_id(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("msg_{hex}")
}

fn judge(answer: &Response) -> Result<Receipt, DeliveryError> {
    let status = answer.status().as_u16();
    let class = match status {
        200..=299 => return Ok(Receipt::default()),
        300..=399 => FailureClass::Redirected,
        401 | 403 => FailureClass::Unauthorized,
        // Standard Webhooks: the receiver is gone for good, stop.
        410 => FailureClass::Gone,
        408 | 429 | 500..=599 => FailureClass::Unavailable,
        400..=499 => FailureClass::Refused,
        _ => FailureClass::Protocol,
    };
    Err(DeliveryError {
        retry_after: retry_after(answer),
        is_too_large: status == 413,
        ..DeliveryError::new(class, format!("the receiver answered {status}"))
    })
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    date.signed_duration_since(Utc::now()).to_std().ok()
}

async fn drain(mut answer: Response) {
    let mut read = 0_usize;
    while read < MAX_ANSWER_BYTES {
        match answer.chunk().await {
            Ok(Some(chunk)) => read = read.saturating_add(chunk.len()),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Without the URL, whose path may be as good as a password.
fn failed(error: &reqwest::Error) -> DeliveryError {
    let cause = root_cause(error);
    let class = if error.is_timeout() {
        FailureClass::Timeout
    } else if is_tls(error) {
        FailureClass::Tls
    } else if error.is_connect() || cause.is::<std::io::Error>() {
        FailureClass::Connection
    } else {
        FailureClass::Protocol
    };
    match class {
        FailureClass::Timeout => DeliveryError::new(class, "no answer in time"),
        // The outermost error would tell the URL; a root that is reqwest's own has no more to say.
        _ if cause.is::<reqwest::Error>() => DeliveryError::new(class, "the request could not be sent"),
        _ => DeliveryError::new(class, cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_same_id_when_it_is_sent_again_and_another_when_it_is_another() {
        assert_eq!(message_id(b"one"), message_id(b"one"));
        assert_ne!(message_id(b"one"), message_id(b"one, two"));
        assert_eq!(message_id(b"one").len(), 36);
    }
}
