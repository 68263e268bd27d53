use super::*;
use crate::config::{CliOverrides, Config};
use opentelemetry::trace::TraceContextExt as _;
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const HEADER: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn without_an_endpoint_the_callsite_of_request_spans_is_off_for_good_whatever_the_filter_says() {
    let callsite = with_subscriber(Registry::default(), || {
        let span = RequestSpan::start("GET", "/", None, None);
        span.span()
            .metadata()
            .expect("a registry without filters wants every span")
    });
    for filter in ["info", "trace", "trace,grantlog::request=trace"] {
        let (telemetry, subscriber) = Telemetry::build(&config(filter, ""), Lines::default(), false).unwrap();
        assert!(subscriber.register_callsite(callsite).is_never(), "{filter}");
        assert!(telemetry.meter().is_none());
        let on = config(filter, &format!("http://{}", dead_address()));
        let (_telemetry, subscriber) = Telemetry::build(&on, Lines::default(), false).unwrap();
        assert!(
            !subscriber.register_callsite(callsite).is_never(),
            "{filter} with an endpoint"
        );
    }
}

#[test]
fn without_an_endpoint_the_trace_is_the_callers_or_none() {
    let (_telemetry, subscriber) = Telemetry::build(&config("info", ""), Lines::default(), false).unwrap();
    with_subscriber(subscriber, || {
        let span = RequestSpan::start("POST", "/connect/token", Some(HEADER), None);
        assert_eq!(span.trace_id().unwrap().to_string(), TRACE);
        assert_eq!(
            RequestSpan::start("POST", "/connect/token", None, None).trace_id(),
            None
        );
        assert_eq!(
            RequestSpan::start("POST", "/connect/token", Some(b"00-00-00-00"), None).trace_id(),
            None
        );
        span.answered(500);
    });
}

#[test]
fn with_an_endpoint_a_request_without_a_caller_has_a_trace_of_its_own() {
    let config = config("info", &format!("http://{}", dead_address()));
    let (telemetry, subscriber) = Telemetry::build(&config, Lines::default(), false).unwrap();
    assert!(telemetry.meter().is_some());
    with_subscriber(subscriber, || {
        let first = RequestSpan::start("GET", "/", None, None).trace_id().unwrap();
        let second = RequestSpan::start("GET", "/", None, None).trace_id().unwrap();
        assert_ne!(first, second);
        let joined = RequestSpan::start("GET", "/", Some(HEADER), Some("vendor=value"));
        assert_eq!(joined.trace_id().unwrap().to_string(), TRACE);
        assert_eq!(
            joined.span().context().span().span_context().trace_id().to_string(),
            TRACE
        );
    });
}

#[test]
fn logs_are_lines_for_people_or_json_for_programs() {
    let text = logged(&config("info", ""), || {
        tracing::info!(port = 8080, "listening");
        tracing::debug!("left out");
    });
    assert!(
        text.contains("INFO grantlog::telemetry::tests: listening port=8080"),
        "{text}"
    );
    assert!(!text.contains("left out") && !text.contains('\u{1b}'), "{text}");
    let mut config = config("info", "");
    config.log_format = LogFormat::Json;
    let line: serde_json::Value =
        serde_json::from_str(&logged(&config, || tracing::warn!(port = 8080, "listening\nstill"))).unwrap();
    assert_eq!(
        (&line["level"], &line["message"], &line["port"]),
        (&"WARN".into(), &"listening\nstill".into(), &8080.into())
    );
    assert!(line["timestamp"].is_string() && line["target"] == "grantlog::telemetry::tests");
}

#[test]
fn the_same_complaint_about_the_collector_is_logged_once_a_minute() {
    let text = logged(&config("info", ""), || {
        for attempt in 0..5 {
            tracing::error!(target: "opentelemetry_sdk", attempt, "export failed");
            tracing::error!(attempt, "grantlog's own");
            tracing::info!(target: "opentelemetry_sdk", "chatter");
        }
        tracing::warn!(target: "opentelemetry-otlp", "another complaint");
    });
    assert_eq!(text.matches("export failed").count(), 1, "{text}");
    assert_eq!(text.matches("grantlog's own").count(), 5, "{text}");
    assert_eq!(text.matches("another complaint").count(), 1, "{text}");
    assert!(!text.contains("chatter"), "{text}");
}

#[test]
fn a_dead_or_silent_collector_delays_no_request_and_no_stop() {
    // Accepts connections (the kernel does) and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [dead_address(), silent.local_addr().unwrap()];
    std::thread::scope(|scope| {
        for address in addresses {
            scope.spawn(move || serves_and_stops_in_time_without_a_collector_at(address));
        }
    });
}

#[test]
fn an_endpoint_by_https_is_accepted_and_telemetry_can_be_dropped_inside_a_runtime() {
    let config = config("info", &format!("https://localhost:{}", dead_address().port()));
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(async {
            drop(Telemetry::build(&config, Lines::default(), false).unwrap());
        });
}

#[test]
fn a_method_that_nobody_registered_is_other() {
    assert_eq!(http_method("POST"), "POST");
    assert_eq!(http_method("post"), "_OTHER");
    assert_eq!(http_method("X-9f3c"), "_OTHER");
}

fn serves_and_stops_in_time_without_a_collector_at(address: std::net::SocketAddr) {
    let config = config("info", &format!("http://{address}"));
    let (telemetry, subscriber) = Telemetry::build(&config, Lines::default(), false).unwrap();
    let metrics = crate::metrics::Metrics::new(telemetry.meter().as_ref());
    let started = Instant::now();
    with_subscriber(subscriber, || {
        for request in 0..3 * MAX_QUEUED_SPANS {
            let span = RequestSpan::start("GET", "/verify", None, None);
            let _inside = span.span().enter();
            tracing::info!(request, "handled");
            metrics.http_request("/verify", "GET", 200, Duration::from_millis(1));
            span.answered(200);
        }
    });
    let requests = started.elapsed();
    // A collector that is waited for takes minutes; a machine under load some seconds.
    assert!(requests < Duration::from_secs(60), "{requests:?}");
    let started = Instant::now();
    assert!(!telemetry.shutdown(), "nothing was handed over");
    let stop = started.elapsed();
    assert!(stop < SHUTDOWN_TIMEOUT + Duration::from_secs(30), "{stop:?}");
}

/// One subscriber at a time: those of several threads share what they know of each callsite, and
/// tracing-subscriber takes it amiss when that changes between its two looks at an event.
fn with_subscriber<T>(subscriber: impl Into<tracing::Dispatch>, run: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    tracing::dispatcher::with_default(&subscriber.into(), run)
}

fn config(log_filter: &str, otlp_endpoint: &str) -> TelemetryConfig {
    let environment = [
        ("GRANTLOG__TELEMETRY__LOG_FILTER".to_owned(), log_filter.to_owned()),
        (
            "GRANTLOG__TELEMETRY__OTLP_ENDPOINT".to_owned(),
            otlp_endpoint.to_owned(),
        ),
    ];
    Config::load(None, environment.into_iter(), CliOverrides::default())
        .unwrap()
        .telemetry
}

/// Where nobody listens: the port was free a moment ago.
fn dead_address() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn logged(config: &TelemetryConfig, run: impl FnOnce()) -> String {
    let lines = Lines::default();
    let (_telemetry, subscriber) = Telemetry::build(config, lines.clone(), false).unwrap();
    with_subscriber(subscriber, run);
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
