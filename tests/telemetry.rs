//! What leaves by OTLP, seen by a receiver that speaks it: one process, one subscriber, so one test.

use grantlog::config::{CliOverrides, Config};
use grantlog::metrics::Metrics;
use grantlog::telemetry::{RequestSpan, Telemetry, http_method};
use grantlog_projections::values::SigningAlgorithm;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SECRET: &str = "gls_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG123456";

#[tokio::test(flavor = "multi_thread")]
async fn traces_metrics_and_logs_reach_the_collector_joined_by_the_callers_trace_and_without_a_secret() {
    let received = Received::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(received.clone()))
            .add_service(MetricsServiceServer::new(received.clone()))
            .add_service(LogsServiceServer::new(received.clone()))
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    let environment = [
        ("GRANTLOG__TELEMETRY__OTLP_ENDPOINT".to_owned(), endpoint),
        (
            "GRANTLOG__TELEMETRY__SERVICE_NAME".to_owned(),
            "grantlog-under-test".to_owned(),
        ),
    ];
    let config = Config::load(None, environment.into_iter(), CliOverrides::default()).unwrap();
    let telemetry = Telemetry::start(&config.telemetry).unwrap();
    assert!(Telemetry::start(&config.telemetry).is_err(), "one process logs once");
    let metrics = Metrics::new(telemetry.meter().as_ref());

    // A request as the HTTP layer sees it. The secret is in its query and body; neither is given away.
    let header = format!("00-{TRACE}-{PARENT}-01");
    let target = format!("/connect/token?client_secret={SECRET}");
    let request = RequestSpan::start(
        http_method("POST"),
        "/connect/token",
        Some(header.as_bytes()),
        Some("v=1"),
    );
    assert_eq!(request.trace_id().unwrap().to_string(), TRACE);
    async {
        tracing::info!(client_id = "orders-worker", "token issued");
        tokio::task::yield_now().await;
        // What is written while exporting must not be exported: the next export would write it again.
        tracing::error!(target: "opentelemetry_sdk", "a complaint about the collector");
        tracing::info!(target: "h2::codec", "a frame");
    }
    .instrument(request.span().clone())
    .await;
    request.answered(200);
    assert!(target.contains(SECRET));
    let failing = RequestSpan::start(http_method("BREW"), "/health/ready", None, None);
    let own_trace = failing.trace_id().unwrap().to_string();
    failing.answered(503);
    drop((request, failing));

    metrics.token_request("standard", "issued", "");
    metrics.http_request("/connect/token", "POST", 200, Duration::from_millis(3));
    metrics.event_store_commit(12, Duration::from_millis(1));
    metrics.event_store_queue_depth(5);
    metrics.event_store_log_size(1_012);
    metrics.projection_lag("audit_index", 2);
    metrics.request_throttled();
    metrics.signing_keys(SigningAlgorithm::EdDsa, "announced", 1);
    metrics.forwarding_delivered("siem", 8, 0);
    metrics.forwarding_failure("siem", "timeout");
    metrics.forwarding_lag("siem", 40);
    metrics.forwarding_is_up("siem", true);

    let handed_over = tokio::task::spawn_blocking(move || telemetry.shutdown()).await.unwrap();
    assert!(handed_over);

    let spans = received.spans();
    let token = &spans["POST /connect/token"];
    assert_eq!(
        (hex(&token.trace_id), hex(&token.parent_span_id)),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    assert_eq!((token.kind(), token.trace_state.as_str()), (SpanKind::Server, "v=1"));
    assert_eq!(attribute(&token.attributes, "http.request.method"), "POST");
    assert_eq!(attribute(&token.attributes, "http.route"), "/connect/token");
    assert_eq!(attribute(&token.attributes, "http.response.status_code"), "200");
    assert!(token.events.is_empty(), "log lines are log records: {:?}", token.events);
    assert!(
        token
            .status
            .as_ref()
            .is_none_or(|status| status.code() == StatusCode::Unset)
    );
    let failing = &spans["_OTHER /health/ready"];
    assert_eq!((hex(&failing.trace_id), failing.parent_span_id.len()), (own_trace, 0));
    assert_eq!(failing.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(attribute(&failing.attributes, "error.type"), "503");
    assert_eq!(spans.len(), 2, "{:?}", spans.keys());

    let logs = received.logs.lock().unwrap();
    let records: Vec<_> = logs
        .iter()
        .flat_map(|request| &request.resource_logs)
        .flat_map(|resource| &resource.scope_logs)
        .flat_map(|scope| &scope.log_records)
        .collect();
    let [record] = records[..] else { panic!("{records:#?}") };
    assert_eq!(
        text(record.body.as_ref().and_then(|body| body.value.as_ref())),
        "token issued"
    );
    assert_eq!(attribute(&record.attributes, "client_id"), "orders-worker");
    assert_eq!(hex(&record.trace_id), TRACE);
    assert_eq!(record.span_id, token.span_id);

    let figures = received.figures();
    for (name, value) in [
        ("grantlog.token_requests{dialect=standard,error=,outcome=issued}", 1.0),
        (
            "grantlog.http_requests{method=POST,route=/connect/token,status=200}",
            1.0,
        ),
        ("grantlog.http_request_duration{route=/connect/token}", 0.003),
        ("grantlog.event_store_commit_duration{}", 0.001),
        ("grantlog.event_store_batch_events{}", 12.0),
        ("grantlog.event_store_events{}", 12.0),
        ("grantlog.event_store_queue_depth{}", 5.0),
        ("grantlog.event_store_log_size{}", 1_012.0),
        ("grantlog.projection_lag_events{projection=audit_index}", 2.0),
        ("grantlog.requests_throttled{}", 1.0),
        ("grantlog.signing_keys{alg=EdDSA,state=announced}", 1.0),
        ("grantlog.forwarding_delivered_events{sink=siem}", 8.0),
        ("grantlog.forwarding_failures{class=timeout,sink=siem}", 1.0),
        ("grantlog.forwarding_lag_events{sink=siem}", 40.0),
        ("grantlog.forwarding_up{sink=siem}", 1.0),
    ] {
        assert_eq!(figures.get(name), Some(&value), "{name} in {figures:#?}");
    }

    let everything = format!(
        "{:?} {logs:?} {:?}",
        received.traces.lock().unwrap(),
        received.metrics.lock().unwrap()
    );
    assert!(everything.contains("grantlog-under-test") && everything.contains(env!("CARGO_PKG_VERSION")));
    assert!(!everything.contains("gls_") && !everything.contains("client_secret"));
}

#[derive(Debug, Clone, Default)]
struct Received {
    traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
}

impl Received {
    fn spans(&self) -> BTreeMap<String, Span> {
        let requests = self.traces.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let spans = resources
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| &scope.spans);
        spans.map(|span| (span.name.clone(), span.clone())).collect()
    }

    /// Each figure under its name and attributes: the value, or the sum of a histogram.
    fn figures(&self) -> BTreeMap<String, f64> {
        let requests = self.metrics.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_metrics);
        let metrics = resources
            .flat_map(|resource| &resource.scope_metrics)
            .flat_map(|scope| &scope.metrics);
        metrics.flat_map(points).collect()
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.lock().unwrap().push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Received {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.lock().unwrap().push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

fn points(metric: &Metric) -> Vec<(String, f64)> {
    let number = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
        let value = match point.value {
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            Some(number_data_point::Value::AsDouble(value)) => value,
            None => f64::NAN,
        };
        (named(metric, &point.attributes), value)
    };
    match metric.data.as_ref() {
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().map(number).collect(),
        Some(Data::Sum(sum)) => {
            assert!(sum.is_monotonic, "{}", metric.name);
            sum.data_points.iter().map(number).collect()
        }
        Some(Data::Histogram(histogram)) => histogram
            .data_points
            .iter()
            .map(|point| (named(metric, &point.attributes), point.sum.unwrap_or(f64::NAN)))
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn named(metric: &Metric, attributes: &[KeyValue]) -> String {
    let mut attributes: Vec<_> = attributes
        .iter()
        .map(|pair| format!("{}={}", pair.key, attribute(attributes, &pair.key)))
        .collect();
    attributes.sort();
    format!("{}{{{}}}", metric.name, attributes.join(","))
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let pair = attributes.iter().find(|pair| pair.key == key);
    text(
        pair.and_then(|pair| pair.value.as_ref())
            .and_then(|value| value.value.as_ref()),
    )
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
