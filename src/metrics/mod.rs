//! Figures about the running server, for Prometheus to scrape and, when there is an OTLP endpoint, for the
//! collector: the same atomics are read for both.
//!
//! Labels come from the code alone, never from a request: every parameter that becomes one is `&'static str`,
//! an enum or a status code. The one exception is the name of a forwarding sink, which is the configuration's.

mod family;
mod histogram;

use family::{Family, Labels};
use histogram::Histogram;

use grantlog_projections::event::{DenialReason, Via};
use grantlog_projections::values::SigningAlgorithm;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// `Content-Type` of what [`Metrics::encode`] answers: OpenMetrics text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the durations' buckets, in nanoseconds: 0.25 ms to 10 s.
const DURATION_BOUNDS: &[u64] = &[
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Upper bounds of the batches' buckets, in events.
const BATCH_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];
const NANOSECONDS_PER_SECOND: f64 = 1e9;

type GaugeU64 = Gauge<u64, AtomicU64>;

/// The figures. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    figures: Arc<Figures>,
    registry: Arc<Registry>,
}

#[derive(Debug)]
struct Figures {
    token_requests: Family<TokenRequestLabels, Counter>,
    api_calls: Family<ApiCallLabels, Counter>,
    http_requests: Family<HttpRequestLabels, Counter>,
    http_request_duration: Family<RouteLabels, Histogram>,
    commit_duration: Histogram,
    batch_events: Histogram,
    queue_depth: GaugeU64,
    events: Counter,
    log_size: GaugeU64,
    store_up: GaugeU64,
    open_sessions: GaugeU64,
    projection_lag: Family<ProjectionLabels, GaugeU64>,
    requests_throttled: Counter,
    signing_keys: Family<SigningKeyLabels, GaugeU64>,
    forwarding_delivered: Family<SinkLabels, Counter>,
    forwarding_rejected: Family<SinkLabels, Counter>,
    forwarding_failures: Family<SinkFailureLabels, Counter>,
    forwarding_lag: Family<SinkLabels, GaugeU64>,
    forwarding_up: Family<SinkLabels, GaugeU64>,
    exported: Option<ExportedHistograms>,
}

/// OpenTelemetry cannot read a histogram that it has not made, so these are recorded twice.
#[derive(Debug)]
struct ExportedHistograms {
    http_request_duration: opentelemetry::metrics::Histogram<f64>,
    commit_duration: opentelemetry::metrics::Histogram<f64>,
    batch_events: opentelemetry::metrics::Histogram<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct TokenRequestLabels {
    dialect: &'static str,
    outcome: &'static str,
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ApiCallLabels {
    via: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct HttpRequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ProjectionLabels {
    projection: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct SigningKeyLabels {
    alg: &'static str,
    state: &'static str,
}

/// A sink's name is the operator's: there are few of them, and none comes from a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct SinkFailureLabels {
    sink: String,
    class: &'static str,
}

impl Metrics {
    /// Figures at zero, which leave by OTLP too when there is a meter ([`Telemetry::meter`](crate::telemetry::Telemetry::meter)).
    pub fn new(meter: Option<&Meter>) -> Self {
        let figures = Arc::new(Figures {
            token_requests: Family::default(),
            api_calls: Family::default(),
            http_requests: Family::default(),
            http_request_duration: Family::new(|| Histogram::new(DURATION_BOUNDS, NANOSECONDS_PER_SECOND)),
            commit_duration: Histogram::new(DURATION_BOUNDS, NANOSECONDS_PER_SECOND),
            batch_events: Histogram::new(BATCH_BOUNDS, 1.0),
            queue_depth: GaugeU64::default(),
            events: Counter::default(),
            log_size: GaugeU64::default(),
            store_up: GaugeU64::default(),
            open_sessions: GaugeU64::default(),
            projection_lag: Family::default(),
            requests_throttled: Counter::default(),
            signing_keys: Family::default(),
            forwarding_delivered: Family::default(),
            forwarding_rejected: Family::default(),
            forwarding_failures: Family::default(),
            forwarding_lag: Family::default(),
            forwarding_up: Family::default(),
            exported: meter.map(ExportedHistograms::new),
        });
        if let Some(meter) = meter {
            figures.observe_with(meter);
        }
        let registry = Arc::new(figures.registry());
        Self { figures, registry }
    }

    /// A token request was answered. `error` is the RFC's code, empty when a token was issued.
    pub fn token_request(&self, dialect: &'static str, outcome: &'static str, error: &'static str) {
        self.figures.token_requests.with(
            &TokenRequestLabels {
                dialect,
                outcome,
                error,
            },
            Counter::inc,
        );
    }

    /// An API call was decided. `reason` is why it was denied, if it was.
    pub fn api_call(&self, via: Via, reason: Option<DenialReason>) {
        let labels = ApiCallLabels {
            via: via.as_str(),
            outcome: reason.map_or("success", |_| "refused"),
            reason: reason.map_or("", DenialReason::as_str),
        };
        self.figures.api_calls.with(&labels, Counter::inc);
    }

    /// A request was answered. `route` is the pattern that it matched, `method` one of
    /// [`http_method`](crate::telemetry::http_method)'s.
    pub fn http_request(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        let figures = &*self.figures;
        figures
            .http_requests
            .with(&HttpRequestLabels { route, method, status }, Counter::inc);
        figures
            .http_request_duration
            .with(&RouteLabels { route }, |histogram| histogram.observe(nanoseconds(took)));
        if let Some(exported) = &figures.exported {
            exported
                .http_request_duration
                .record(took.as_secs_f64(), &[KeyValue::new("route", route)]);
        }
    }

    /// The event store committed a batch: how many events, how long from its first write to stable storage.
    pub fn event_store_commit(&self, events: u64, took: Duration) {
        let figures = &*self.figures;
        figures.events.inc_by(events);
        figures.commit_duration.observe(nanoseconds(took));
        figures.batch_events.observe(events);
        if let Some(exported) = &figures.exported {
            exported.commit_duration.record(took.as_secs_f64(), &[]);
            exported.batch_events.record(events, &[]);
        }
    }

    /// How many appends wait for the event store's writer.
    pub fn event_store_queue_depth(&self, appends: u64) {
        self.figures.queue_depth.set(appends);
    }

    /// How many events the log holds.
    pub fn event_store_log_size(&self, events: u64) {
        self.figures.log_size.set(events);
    }

    /// Whether the log can be written and its newest state is known.
    pub fn event_store_is_up(&self, is_up: bool) {
        self.figures.store_up.set(u64::from(is_up));
    }

    /// How many sessions are open.
    pub fn open_sessions(&self, sessions: u64) {
        self.figures.open_sessions.set(sessions);
    }

    /// How many events of the log a projection has not folded in.
    pub fn projection_lag(&self, projection: &'static str, events: u64) {
        self.figures
            .projection_lag
            .with(&ProjectionLabels { projection }, |gauge| gauge.set(events));
    }

    /// A request was answered 429.
    pub fn request_throttled(&self) {
        self.figures.requests_throttled.inc();
    }

    /// How many signing keys of an algorithm are in a state (`announced`, `active`, `retired`, say).
    pub fn signing_keys(&self, alg: SigningAlgorithm, state: &'static str, keys: u64) {
        self.figures.signing_keys.with(
            &SigningKeyLabels {
                alg: alg.as_str(),
                state,
            },
            |gauge| gauge.set(keys),
        );
    }

    /// A sink of forwarded events has acknowledged so many, and refused so many for good.
    pub fn forwarding_delivered(&self, sink: &str, events: u64, rejected: u64) {
        let labels = SinkLabels { sink: sink.to_owned() };
        self.figures
            .forwarding_delivered
            .with(&labels, |counter| counter.inc_by(events));
        self.figures
            .forwarding_rejected
            .with(&labels, |counter| counter.inc_by(rejected));
    }

    /// A delivery was not acknowledged; `class` is the failure's, from the code.
    pub fn forwarding_failure(&self, sink: &str, class: &'static str) {
        let sink = sink.to_owned();
        self.figures
            .forwarding_failures
            .with(&SinkFailureLabels { sink, class }, Counter::inc);
    }

    /// How many events of the log a sink has not acknowledged.
    pub fn forwarding_lag(&self, sink: &str, events: u64) {
        let labels = SinkLabels { sink: sink.to_owned() };
        self.figures.forwarding_lag.with(&labels, |gauge| gauge.set(events));
    }

    /// Whether a sink's last delivery went well.
    pub fn forwarding_is_up(&self, sink: &str, is_up: bool) {
        let labels = SinkLabels { sink: sink.to_owned() };
        self.figures
            .forwarding_up
            .with(&labels, |gauge| gauge.set(u64::from(is_up)));
    }

    /// All figures as OpenMetrics text, with [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail, and no metric here does either.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

impl Figures {
    fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("grantlog");
        all.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        all.register("token_requests", "Token requests answered", self.token_requests.clone());
        all.register("api_calls", "API calls decided", self.api_calls.clone());
        all.register("http_requests", "HTTP requests answered", self.http_requests.clone());
        all.register_with_unit(
            "http_request_duration",
            "From the request's head to the answer's",
            Unit::Seconds,
            self.http_request_duration.clone(),
        );
        all.register_with_unit(
            "event_store_commit_duration",
            "From a batch's first write to stable storage",
            Unit::Seconds,
            self.commit_duration.clone(),
        );
        all.register(
            "event_store_batch_events",
            "Events in one commit",
            self.batch_events.clone(),
        );
        all.register(
            "event_store_queue_depth",
            "Appends that wait for the writer",
            self.queue_depth.clone(),
        );
        all.register(
            "event_store_events",
            "Events committed by this process",
            self.events.clone(),
        );
        all.register("event_store_log_size", "Events in the log", self.log_size.clone());
        all.register(
            "event_store_up",
            "Whether the log can be written and its newest state is known",
            self.store_up.clone(),
        );
        all.register("open_sessions", "Sessions that are open", self.open_sessions.clone());
        all.register(
            "projection_lag_events",
            "Events not folded in yet",
            self.projection_lag.clone(),
        );
        all.register(
            "requests_throttled",
            "Requests answered 429",
            self.requests_throttled.clone(),
        );
        all.register("signing_keys", "Signing keys", self.signing_keys.clone());
        all.register(
            "forwarding_delivered_events",
            "Events that a sink has acknowledged",
            self.forwarding_delivered.clone(),
        );
        all.register(
            "forwarding_rejected_events",
            "Events that a sink has refused for good",
            self.forwarding_rejected.clone(),
        );
        all.register(
            "forwarding_failures",
            "Deliveries that a sink has not acknowledged",
            self.forwarding_failures.clone(),
        );
        all.register(
            "forwarding_lag_events",
            "Events of the log that a sink has not acknowledged",
            self.forwarding_lag.clone(),
        );
        all.register(
            "forwarding_up",
            "Whether a sink's last delivery went well",
            self.forwarding_up.clone(),
        );
        all
    }

    /// The same names as Prometheus sees, once a collector has translated them back.
    fn observe_with(self: &Arc<Self>, meter: &Meter) {
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.token_requests")
            .with_unit("{request}")
            .with_callback(move |observer| {
                figures
                    .token_requests
                    .each(|labels, count| observer.observe(count.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.api_calls")
            .with_unit("{call}")
            .with_callback(move |observer| {
                figures
                    .api_calls
                    .each(|labels, count| observer.observe(count.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.http_requests")
            .with_unit("{request}")
            .with_callback(move |observer| {
                figures
                    .http_requests
                    .each(|labels, count| observer.observe(count.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.event_store_queue_depth")
            .with_unit("{append}")
            .with_callback(move |observer| observer.observe(figures.queue_depth.get(), &[]))
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.event_store_events")
            .with_unit("{event}")
            .with_callback(move |observer| observer.observe(figures.events.get(), &[]))
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.event_store_log_size")
            .with_unit("{event}")
            .with_callback(move |observer| observer.observe(figures.log_size.get(), &[]))
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.event_store_up")
            .with_callback(move |observer| observer.observe(figures.store_up.get(), &[]))
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.open_sessions")
            .with_unit("{session}")
            .with_callback(move |observer| observer.observe(figures.open_sessions.get(), &[]))
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.projection_lag_events")
            .with_unit("{event}")
            .with_callback(move |observer| {
                figures
                    .projection_lag
                    .each(|labels, lag| observer.observe(lag.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.requests_throttled")
            .with_unit("{request}")
            .with_callback(move |observer| observer.observe(figures.requests_throttled.get(), &[]))
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.signing_keys")
            .with_unit("{key}")
            .with_callback(move |observer| {
                figures
                    .signing_keys
                    .each(|labels, keys| observer.observe(keys.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.forwarding_delivered_events")
            .with_unit("{event}")
            .with_callback(move |observer| {
                figures
                    .forwarding_delivered
                    .each(|labels, count| observer.observe(count.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.forwarding_rejected_events")
            .with_unit("{event}")
            .with_callback(move |observer| {
                figures
                    .forwarding_rejected
                    .each(|labels, count| observer.observe(count.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_counter("grantlog.forwarding_failures")
            .with_unit("{delivery}")
            .with_callback(move |observer| {
                figures
                    .forwarding_failures
                    .each(|labels, count| observer.observe(count.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.forwarding_lag_events")
            .with_unit("{event}")
            .with_callback(move |observer| {
                figures
                    .forwarding_lag
                    .each(|labels, lag| observer.observe(lag.get(), &labels.attributes()));
            })
            .build();
        let figures = Arc::clone(self);
        meter
            .u64_observable_gauge("grantlog.forwarding_up")
            .with_callback(move |observer| {
                figures
                    .forwarding_up
                    .each(|labels, up| observer.observe(up.get(), &labels.attributes()));
            })
            .build();
    }
}

impl ExportedHistograms {
    fn new(meter: &Meter) -> Self {
        let seconds: Vec<f64> = DURATION_BOUNDS
            .iter()
            .map(|bound| *bound as f64 / NANOSECONDS_PER_SECOND)
            .collect();
        let duration = |name| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_boundaries(seconds.clone())
                .build()
        };
        Self {
            http_request_duration: duration("grantlog.http_request_duration"),
            commit_duration: duration("grantlog.event_store_commit_duration"),
            batch_events: meter
                .u64_histogram("grantlog.event_store_batch_events")
                .with_unit("{event}")
                .with_boundaries(BATCH_BOUNDS.iter().map(|bound| *bound as f64).collect())
                .build(),
        }
    }
}

impl Labels for TokenRequestLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("dialect", self.dialect),
            KeyValue::new("outcome", self.outcome),
            KeyValue::new("error", self.error),
        ]
    }
}

impl Labels for ApiCallLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("via", self.via),
            KeyValue::new("outcome", self.outcome),
            KeyValue::new("reason", self.reason),
        ]
    }
}

impl Labels for HttpRequestLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("route", self.route),
            KeyValue::new("method", self.method),
            KeyValue::new("status", i64::from(self.status)),
        ]
    }
}

impl Labels for RouteLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![KeyValue::new("route", self.route)]
    }
}

impl Labels for ProjectionLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![KeyValue::new("projection", self.projection)]
    }
}

impl Labels for SigningKeyLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![KeyValue::new("alg", self.alg), KeyValue::new("state", self.state)]
    }
}

impl Labels for SinkLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![KeyValue::new("sink", self.sink.clone())]
    }
}

impl Labels for SinkFailureLabels {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("sink", self.sink.clone()),
            KeyValue::new("class", self.class),
        ]
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_has_every_figure_under_its_name() {
        let metrics = Metrics::new(None);
        metrics.token_request("standard", "issued", "");
        metrics.token_request("standard", "issued", "");
        metrics.token_request("json", "refused", "invalid_client");
        metrics.http_request("/connect/token", "POST", 200, Duration::from_micros(900));
        metrics.http_request("/connect/token", "POST", 200, Duration::from_millis(30));
        metrics.http_request("/health/live", "GET", 200, Duration::from_secs(11));
        metrics.event_store_commit(3, Duration::from_micros(250));
        metrics.api_call(Via::Gateway, None);
        metrics.api_call(Via::ForwardAuth, Some(DenialReason::TokenExpired));
        metrics.event_store_commit(5_000, Duration::from_millis(2));
        metrics.event_store_queue_depth(7);
        metrics.event_store_log_size(5_010);
        metrics.event_store_is_up(true);
        metrics.open_sessions(4);
        metrics.projection_lag("audit_index", 12);
        metrics.request_throttled();
        metrics.signing_keys(SigningAlgorithm::Es256, "active", 1);
        metrics.signing_keys(SigningAlgorithm::Es256, "active", 2);
        metrics.forwarding_delivered("siem", 8, 1);
        metrics.forwarding_failure("siem", "timeout");
        metrics.forwarding_lag("siem", 40);
        metrics.forwarding_is_up("siem", false);
        let text = metrics.encode();
        let version = format!(r#"grantlog_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION"));
        for line in [
            version.as_str(),
            r#"grantlog_token_requests_total{dialect="standard",outcome="issued",error=""} 2"#,
            r#"grantlog_token_requests_total{dialect="json",outcome="refused",error="invalid_client"} 1"#,
            r#"grantlog_api_calls_total{via="gateway",outcome="success",reason=""} 1"#,
            r#"grantlog_api_calls_total{via="forward_auth",outcome="refused",reason="token_expired"} 1"#,
            r#"grantlog_http_requests_total{route="/connect/token",method="POST",status="200"} 2"#,
            "# TYPE grantlog_http_request_duration_seconds histogram",
            "# UNIT grantlog_http_request_duration_seconds seconds",
            r#"grantlog_http_request_duration_seconds_bucket{le="0.0005",route="/connect/token"} 0"#,
            r#"grantlog_http_request_duration_seconds_bucket{le="0.001",route="/connect/token"} 1"#,
            r#"grantlog_http_request_duration_seconds_bucket{le="0.05",route="/connect/token"} 2"#,
            r#"grantlog_http_request_duration_seconds_bucket{le="+Inf",route="/connect/token"} 2"#,
            r#"grantlog_http_request_duration_seconds_count{route="/connect/token"} 2"#,
            r#"grantlog_http_request_duration_seconds_sum{route="/connect/token"} 0.0309"#,
            r#"grantlog_http_request_duration_seconds_bucket{le="10.0",route="/health/live"} 0"#,
            r#"grantlog_http_request_duration_seconds_bucket{le="+Inf",route="/health/live"} 1"#,
            // A value on a bound is in its bucket.
            r#"grantlog_event_store_commit_duration_seconds_bucket{le="0.00025"} 1"#,
            "grantlog_event_store_commit_duration_seconds_sum 0.00225",
            r#"grantlog_event_store_batch_events_bucket{le="4.0"} 1"#,
            r#"grantlog_event_store_batch_events_bucket{le="4096.0"} 1"#,
            r#"grantlog_event_store_batch_events_bucket{le="+Inf"} 2"#,
            "grantlog_event_store_batch_events_sum 5003.0",
            "grantlog_event_store_events_total 5003",
            "grantlog_event_store_queue_depth 7",
            "grantlog_event_store_log_size 5010",
            "grantlog_event_store_up 1",
            "grantlog_open_sessions 4",
            r#"grantlog_projection_lag_events{projection="audit_index"} 12"#,
            "grantlog_requests_throttled_total 1",
            r#"grantlog_signing_keys{alg="ES256",state="active"} 2"#,
            r#"grantlog_forwarding_delivered_events_total{sink="siem"} 8"#,
            r#"grantlog_forwarding_rejected_events_total{sink="siem"} 1"#,
            r#"grantlog_forwarding_failures_total{sink="siem",class="timeout"} 1"#,
            r#"grantlog_forwarding_lag_events{sink="siem"} 40"#,
            r#"grantlog_forwarding_up{sink="siem"} 0"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn figures_counted_on_many_threads_are_all_there() {
        let metrics = Metrics::new(None);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let metrics = metrics.clone();
                scope.spawn(move || {
                    for _ in 0..1_000 {
                        metrics.http_request("/verify", "GET", 200, Duration::from_millis(1));
                    }
                });
            }
        });
        let text = metrics.encode();
        assert!(text.contains(r#"grantlog_http_requests_total{route="/verify",method="GET",status="200"} 4000"#));
        assert!(text.contains(r#"grantlog_http_request_duration_seconds_count{route="/verify"} 4000"#));
    }
}
