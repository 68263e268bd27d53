//! OTLP logs over gRPC: one log record per event. Its own exporter and not the SDK's, whose batches do not tell
//! which of them the receiver has acknowledged.

use super::forwarded_event::ForwardedEvent;
use super::settings::OtlpTarget;
use super::sink::{DeliveryError, FailureClass, Origin, Receipt};
use super::trust::{TrustError, read_pem};
use crate::outgoing::cause::{is_tls, root_cause};
use chrono::Utc;
use grantlog_projections::audit_record::Outcome;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use zeroize::Zeroizing;

/// The name of the instrumentation scope.
const SCOPE: &str = "grantlog.audit";
/// The largest answer, in bytes: a count and a message.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const NANOS_PER_MICRO: u64 = 1_000;

/// An OTLP receiver.
pub struct OtlpSink {
    endpoint: Endpoint,
    client: Option<LogsServiceClient<Channel>>,
    token: Option<MetadataValue<Ascii>>,
    resource: Resource,
}

impl OtlpSink {
    /// Connects with the first delivery.
    pub fn new(
        target: &OtlpTarget,
        token: Option<Zeroizing<String>>,
        timeout: Duration,
        origin: &Origin,
    ) -> Result<Self, TrustError> {
        let tls = |error: tonic::transport::Error| TrustError::Tls(root_cause(&error).to_string());
        let mut endpoint = Endpoint::from_shared(target.url.as_str().to_owned())
            .map_err(tls)?
            .connect_timeout(timeout)
            .user_agent(concat!("grantlog/", env!("CARGO_PKG_VERSION")))
            .map_err(tls)?;
        if target.url.scheme() == "https" {
            let mut config = match &target.tls.ca_file {
                Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&*read_pem(path)?)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            if let Some((certificate, key)) = &target.tls.client {
                config = config.identity(Identity::from_pem(&*read_pem(certificate)?, &*read_pem(key)?));
            }
            endpoint = endpoint.tls_config(config).map_err(tls)?;
        }
        let token = token
            .map(|token| {
                let mut value: MetadataValue<Ascii> = token
                    .parse()
                    .map_err(|_| TrustError::Tls("the bearer token fits in no header".into()))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        Ok(Self {
            endpoint,
            client: None,
            token,
            resource: Resource {
                attributes: vec![
                    attribute("service.name", &target.service_name),
                    attribute("service.version", env!("CARGO_PKG_VERSION")),
                    attribute("grantlog.issuer", &origin.issuer),
                ],
                ..Resource::default()
            },
        })
    }

    /// One export; acknowledged when the receiver answers OK.
    pub async fn deliver(&mut self, events: &[&ForwardedEvent]) -> Result<Receipt, DeliveryError> {
        let observed = u64::try_from(Utc::now().timestamp_micros()).unwrap_or(0) * NANOS_PER_MICRO;
        let mut request = Request::new(ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(InstrumentationScope {
                        name: SCOPE.into(),
                        version: env!("CARGO_PKG_VERSION").into(),
                        ..InstrumentationScope::default()
                    }),
                    log_records: events.iter().map(|event| record(event, observed)).collect(),
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        });
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        // Made here, because a channel lives in the runtime that it was made in. It connects again by itself.
        let client = self.client.get_or_insert_with(|| {
            LogsServiceClient::new(self.endpoint.connect_lazy()).max_decoding_message_size(MAX_ANSWER_BYTES)
        });
        let answer = client.export(request).await.map_err(|status| failure(&status))?;
        // OTLP §partial success: what was rejected must not be sent again.
        let rejected = answer
            .into_inner()
            .partial_success
            .map_or(0, |partial| partial.rejected_log_records);
        Ok(Receipt {
            rejected: u64::try_from(rejected).unwrap_or(0),
        })
    }
}

fn record(forwarded: &ForwardedEvent, observed: u64) -> LogRecord {
    let event = &forwarded.event;
    let (severity, text) = match event.outcome {
        Outcome::Success => (SeverityNumber::Info, "INFO"),
        Outcome::Refused => (SeverityNumber::Warn, "WARN"),
    };
    let mut attributes = vec![
        KeyValue {
            key: "grantlog.index".into(),
            value: Some(AnyValue {
                // An index beyond 2^63 is not reached.
                value: Some(Value::IntValue(i64::try_from(event.index).unwrap_or(i64::MAX))),
            }),
            ..KeyValue::default()
        },
        attribute("grantlog.id", &event.id.to_string()),
        attribute("grantlog.stream", event.stream.as_str()),
        attribute("grantlog.actor", &event.actor.to_string()),
        attribute("grantlog.outcome", event.outcome.as_str()),
    ];
    if let Some(client_id) = &event.client_id {
        attributes.push(attribute("grantlog.client_id", client_id));
    }
    if let Some(source) = &event.source {
        attributes.push(attribute("client.address", &source.ip.to_string()));
        if let Some(user_agent) = &source.user_agent {
            attributes.push(attribute("user_agent.original", user_agent));
        }
    }
    LogRecord {
        time_unix_nano: u64::try_from(event.time.unix_micros()).unwrap_or(0) * NANOS_PER_MICRO,
        observed_time_unix_nano: observed,
        severity_number: severity.into(),
        severity_text: text.into(),
        event_name: event.event_type.clone(),
        body: Some(AnyValue {
            value: Some(Value::StringValue(forwarded.json.get().to_owned())),
        }),
        attributes,
        trace_id: event.trace_id.as_deref().and_then(trace_id).unwrap_or_default(),
        ..LogRecord::default()
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}

/// 32 hex digits as 16 bytes.
fn trace_id(text: &str) -> Option<Vec<u8>> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(number.to_be_bytes().to_vec())
}

/// What the receiver says in words is left out: it may repeat what it was sent.
fn failure(status: &Status) -> DeliveryError {
    let class = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => FailureClass::Unauthorized,
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded => {
            FailureClass::Unavailable
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::NotFound | Code::Unimplemented => {
            FailureClass::Refused
        }
        _ => FailureClass::Protocol,
    };
    // A status that was made here has the reason as its source; one that arrived has none.
    if let Some(source) = std::error::Error::source(status) {
        let cause = root_cause(source).to_string();
        let class = if is_tls(source) {
            FailureClass::Tls
        } else {
            FailureClass::Connection
        };
        return DeliveryError::new(class, cause);
    }
    DeliveryError {
        retry_after: retry_delay(status),
        // gRPC answers this for a message beyond its size, too.
        is_too_large: matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange),
        ..DeliveryError::new(class, format!("the receiver answered {:?}", status.code()))
    }
}

/// google.rpc.RetryInfo in the status' details, as OTLP has it for throttling.
fn retry_delay(status: &Status) -> Option<Duration> {
    use tonic_types::StatusExt as _;
    status.get_details_retry_info()?.retry_delay
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::StoredEvent;

    #[test]
    fn a_record_has_the_events_time_type_severity_trace_and_json() {
        let stored = StoredEvent {
            index: 7,
            revision: 2,
            bytes: br#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","source":{"ip":"192.0.2.1","user_agent":"curl/8"},"trace_id":"0af7651916cd43dd8448eb211c80319c","data":{"client_id":"orders","error":"invalid_client","reason":"unknown_client","dialect":"standard"}}"#.as_slice().into(),
        };
        let forwarded = ForwardedEvent::read(&stored).unwrap();
        let record = record(&forwarded, 5);
        assert_eq!(record.time_unix_nano, 1_773_653_400_000_001_000);
        assert_eq!(record.observed_time_unix_nano, 5);
        assert_eq!(
            (record.severity_number(), record.severity_text.as_str()),
            (SeverityNumber::Warn, "WARN")
        );
        assert_eq!(record.event_name, "TokenRefused");
        assert_eq!(
            record.trace_id,
            0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes()
        );
        assert_eq!(
            record.body.unwrap().value,
            Some(Value::StringValue(forwarded.json.get().to_owned()))
        );
        let keys: Vec<_> = record
            .attributes
            .iter()
            .map(|attribute| attribute.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "grantlog.index",
                "grantlog.id",
                "grantlog.stream",
                "grantlog.actor",
                "grantlog.outcome",
                "grantlog.client_id",
                "client.address",
                "user_agent.original"
            ]
        );
    }

    #[test]
    fn what_a_receiver_says_in_words_is_left_out() {
        let error = failure(&Status::invalid_argument("your body was {secret}"));
        assert_eq!(error.class, FailureClass::Refused);
        assert_eq!(error.message, "the receiver answered InvalidArgument");
        assert_eq!(failure(&Status::unauthenticated("")).class, FailureClass::Unauthorized);
    }
}
