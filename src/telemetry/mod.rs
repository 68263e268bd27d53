//! Logs on stderr, and traces, metrics and logs by OTLP when an endpoint is configured.
//!
//! Exporters work on threads of their own behind bounded queues: a collector that is slow, dead or was
//! never there costs dropped telemetry, never a request.

mod collector_complaints;
mod request_span;
mod trace_parent;

pub use request_span::{REQUEST_TARGET, RequestSpan, http_method};
pub use trace_parent::TraceParent;

use crate::config::{LogFormat, TelemetryConfig};
use collector_complaints::CollectorComplaints;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder as LogBatch, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder as SpanBatch, BatchSpanProcessor, Sampler, SdkTracerProvider};
use std::io::IsTerminal as _;
use std::sync::mpsc;
use std::time::Duration;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry};
use uuid::Uuid;

/// Spans that wait for export at the most; more are dropped and counted.
pub const MAX_QUEUED_SPANS: usize = 8_192;
/// Log records that wait for export at the most; more are dropped and counted.
pub const MAX_QUEUED_LOG_RECORDS: usize = 8_192;
/// Spans or log records in one export.
pub const MAX_EXPORT_BATCH: usize = 512;
/// How long a connection to the collector, and an export over it, may take.
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for the last exports.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose logs never leave by OTLP: they are written while exporting, so that each export would cause the next.
const EXPORTING_TARGETS: [&str; 7] = ["opentelemetry", "tonic", "tower", "hyper", "h2", "rustls", "mio"];

/// The process's telemetry, for as long as it runs.
#[derive(Debug)]
pub struct Telemetry {
    otlp: Option<Otlp>,
}

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_filter` does not parse.
    #[error("telemetry.log_filter: {0}")]
    LogFilter(#[from] ParseError),
    /// `telemetry.otlp_endpoint` is no endpoint, or TLS to it cannot be set up.
    #[error("telemetry.otlp_endpoint: {}", with_causes(.0))]
    Endpoint(#[from] tonic::transport::Error),
    /// An exporter could not be made.
    #[error("telemetry.otlp_endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The exporters' thread could not be started.
    #[error("cannot start the telemetry thread: {0}")]
    Thread(#[from] std::io::Error),
    /// This process logs already.
    #[error("telemetry has been started before: {0}")]
    StartedBefore(#[from] TryInitError),
}

#[derive(Debug)]
struct Otlp {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
    /// Drives the connection. `None` once it is being dropped: a runtime must not be dropped inside another.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Telemetry {
    /// Installs logging, and the exporters when there is an endpoint, for the whole process: once.
    /// A collector that does not answer is no error.
    pub fn start(config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
        let colours = std::io::stderr().is_terminal();
        let (telemetry, subscriber) = Self::build(config, std::io::stderr, colours)?;
        subscriber.try_init()?;
        Ok(telemetry)
    }

    /// Where the metrics go, `None` without an endpoint.
    pub fn meter(&self) -> Option<Meter> {
        self.otlp.as_ref().map(|otlp| otlp.metrics.meter_with_scope(scope()))
    }

    /// Exports what is queued. Blocks, at most [`SHUTDOWN_TIMEOUT`]; answers whether everything was handed over.
    pub fn shutdown(self) -> bool {
        let Some(otlp) = self.otlp else { return true };
        let (done, finished) = mpsc::sync_channel(1);
        // On a thread that can be left behind: the SDK's periodic reader waits for its export without an end.
        let stop = move || {
            let results = [otlp.traces.shutdown(), otlp.metrics.shutdown(), otlp.logs.shutdown()];
            let _ = done.send(results.iter().all(Result::is_ok));
        };
        match std::thread::Builder::new()
            .name("telemetry-stop".to_owned())
            .spawn(stop)
        {
            Ok(_) => finished.recv_timeout(SHUTDOWN_TIMEOUT).unwrap_or(false),
            Err(_) => false,
        }
    }

    fn build<W>(
        config: &TelemetryConfig,
        writer: W,
        colours: bool,
    ) -> Result<(Telemetry, impl Subscriber + Send + Sync + use<W>), TelemetryError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let mut layers = vec![log_layer(config, writer, colours)?];
        let otlp = match &config.otlp_endpoint {
            None => None,
            Some(endpoint) => {
                let otlp = Otlp::start(config, endpoint)?;
                layers.push(otlp.trace_layer());
                layers.push(otlp.log_layer(config)?);
                Some(otlp)
            }
        };
        Ok((Telemetry { otlp }, Registry::default().with(layers)))
    }
}

impl Otlp {
    fn start(config: &TelemetryConfig, endpoint: &url::Url) -> Result<Self, TelemetryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()?;
        let channel = {
            let _inside = runtime.enter();
            connect_when_needed(endpoint)?
        };
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", Uuid::now_v7().to_string()))
            .build();

        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_timeout(EXPORT_TIMEOUT);
        let batch = SpanBatch::default()
            .with_max_queue_size(MAX_QUEUED_SPANS)
            .with_max_export_batch_size(MAX_EXPORT_BATCH)
            .build();
        let traces = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(exporter.build()?)
                    .with_batch_config(batch)
                    .build(),
            )
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                config.trace_sample_ratio,
            ))))
            .with_resource(resource.clone())
            .build();

        let exporter = MetricExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_timeout(EXPORT_TIMEOUT);
        let metrics = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter.build()?).build())
            .with_resource(resource.clone())
            .build();

        let exporter = LogExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(EXPORT_TIMEOUT);
        let batch = LogBatch::default()
            .with_max_queue_size(MAX_QUEUED_LOG_RECORDS)
            .with_max_export_batch_size(MAX_EXPORT_BATCH)
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_log_processor(
                BatchLogProcessor::builder(exporter.build()?)
                    .with_batch_config(batch)
                    .build(),
            )
            .with_resource(resource)
            .build();

        Ok(Self {
            traces,
            metrics,
            logs,
            runtime: Some(runtime),
        })
    }

    /// Grantlog's own spans. Log lines go as log records, not as events of the span too.
    fn trace_layer(&self) -> BoxedLayer {
        let own_spans = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("grantlog"));
        tracing_opentelemetry::layer()
            .with_tracer(self.traces.tracer_with_scope(scope()))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(own_spans.with_max_level_hint(LevelFilter::INFO))
            .boxed()
    }

    fn log_layer(&self, config: &TelemetryConfig) -> Result<BoxedLayer, TelemetryError> {
        let filter = log_filter(config)?.and(not_written_while_exporting());
        Ok(OpenTelemetryTracingBridge::new(&self.logs).with_filter(filter).boxed())
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn log_layer<W>(config: &TelemetryConfig, writer: W, colours: bool) -> Result<BoxedLayer, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = log_filter(config)?.and(CollectorComplaints::default());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match config.log_format {
        LogFormat::Text => lines.with_ansi(colours).with_filter(filter).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_filter(filter)
            .boxed(),
    })
}

/// What is logged. Request spans are no log: without an OTLP endpoint nobody wants them, and their callsite
/// then costs one relaxed load.
fn log_filter(config: &TelemetryConfig) -> Result<EnvFilter, ParseError> {
    let no_request_spans = format!("{REQUEST_TARGET}=off").parse()?;
    Ok(EnvFilter::builder()
        .parse(&config.log_filter)?
        .add_directive(no_request_spans))
}

fn not_written_while_exporting() -> impl Filter<Registry> {
    filter_fn(|metadata| {
        !EXPORTING_TARGETS
            .iter()
            .any(|target| metadata.target().starts_with(target))
    })
    .with_max_level_hint(LevelFilter::TRACE)
}

/// One connection for all three signals, made by the first export and made anew when it breaks.
fn connect_when_needed(endpoint: &url::Url) -> Result<Channel, tonic::transport::Error> {
    let tls = endpoint.scheme() == "https";
    let endpoint = Endpoint::from_shared(endpoint.as_str().to_owned())?
        .connect_timeout(EXPORT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT);
    let endpoint = if tls {
        endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?
    } else {
        endpoint
    };
    Ok(endpoint.connect_lazy())
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("grantlog")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
