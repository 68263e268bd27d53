use super::TraceParent;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use std::str::FromStr as _;
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of request spans. Without an OTLP endpoint it is off, whatever `log_filter` says.
pub const REQUEST_TARGET: &str = "grantlog::request";

/// A longer `tracestate` is not passed on (W3C Trace Context §3.3.1.5 asks for at least 512 characters).
const MAX_TRACE_STATE_BYTES: usize = 512;

/// The span of one HTTP request, named and described by OpenTelemetry's conventions for HTTP servers.
/// It holds nothing of the request but its method and the pattern of its route: no path, query, header or body.
#[derive(Debug, Clone)]
pub struct RequestSpan {
    span: Span,
    trace_id: Option<TraceId>,
}

impl RequestSpan {
    /// Starts the span, as a child of the caller's when the request carries one.
    ///
    /// `route` is the pattern (`/admin/applications/{uri}`), `traceparent` the one header of that name
    /// (`None` when there are several: W3C Trace Context §3.2 allows one), `tracestate` likewise.
    pub fn start(method: &'static str, route: &str, traceparent: Option<&[u8]>, tracestate: Option<&str>) -> Self {
        let parent = traceparent.and_then(TraceParent::parse);
        let span = tracing::info_span!(
            target: REQUEST_TARGET,
            "request",
            otel.name = display(format_args!("{method} {route}")),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method,
            http.route = route,
            http.response.status_code = Empty,
            "error.type" = Empty,
        );
        if span.is_disabled() {
            return Self {
                span,
                trace_id: parent.map(|parent| parent.trace_id),
            };
        }
        if let Some(parent) = parent {
            // Fails only for a span that is disabled or has begun, and this one is neither.
            let _ = span.set_parent(Context::new().with_remote_span_context(span_context(parent, tracestate)));
        }
        let trace_id = match parent {
            Some(parent) => parent.trace_id,
            None => span.context().span().span_context().trace_id(),
        };
        Self {
            span,
            trace_id: Some(trace_id).filter(|id| *id != TraceId::INVALID),
        }
    }

    /// The span, to run the request's future in.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The trace that the request belongs to, to be recorded with its event: the caller's, else the span's own
    /// when traces are exported. Prints as 32 hex digits.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    /// Records the answer.
    pub fn answered(&self, status: u16) {
        if self.span.is_disabled() {
            return;
        }
        self.span.record("http.response.status_code", status);
        // Of a server's answers only 5xx are its errors.
        if status >= 500 {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", display(status));
        }
    }
}

/// The method as telemetry names it: `_OTHER` for those that are not registered, of which a client can invent
/// as many as it likes.
pub fn http_method(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        _ => "_OTHER",
    }
}

fn span_context(parent: TraceParent, tracestate: Option<&str>) -> SpanContext {
    let flags = if parent.sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    let state = tracestate
        .filter(|state| state.len() <= MAX_TRACE_STATE_BYTES)
        .and_then(|state| TraceState::from_str(state).ok())
        .unwrap_or_default();
    SpanContext::new(parent.trace_id, parent.parent_id, flags, true, state)
}
