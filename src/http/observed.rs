//! Every request is counted and timed, and is a span when traces are wanted.

use crate::http::Doors;
use crate::telemetry::{RequestSpan, http_method};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use std::time::Instant;
use tracing::Instrument;

/// The trace that a request belongs to, as its events keep it: 32 hex digits.
#[derive(Debug, Clone)]
pub struct TraceId(pub String);

/// Counts and times a request, and puts it in a span.
pub async fn observe<B: MessageBody>(
    doors: web::Data<Doors>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let method = http_method(request.method().as_str());
    let path = request.path();
    let route = match route(path.strip_prefix(doors.issuer_path.as_str()).unwrap_or(path)) {
        "other" if doors.gateway.route(path).is_some() => "gateway",
        route => route,
    };
    let headers = request.headers();
    let state = headers.get("tracestate").and_then(|value| value.to_str().ok());
    let span = RequestSpan::start(method, route, single(headers, "traceparent"), state);
    if let Some(trace_id) = span.trace_id() {
        request.extensions_mut().insert(TraceId(trace_id.to_string()));
    }
    let answer = next.call(request).instrument(span.span().clone()).await;
    let status = match &answer {
        Ok(response) => response.status().as_u16(),
        Err(error) => error.as_response_error().status_code().as_u16(),
    };
    span.answered(status);
    doors
        .service
        .metrics()
        .http_request(route, method, status, started.elapsed());
    answer
}

/// RFC 9110 §5.3: a header that is no list is not repeated; of a repeated one nothing is believed.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

/// The route's pattern: a bounded set, whatever callers ask for.
fn route(path: &str) -> &'static str {
    const EXACT: &[&str] = &[
        "/connect/token",
        "/id/connect/token",
        "/oauth2/token",
        "/token",
        "/connect/introspect",
        "/connect/revoke",
        "/audit/api-calls",
        "/verify",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration/jwks",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/admin/applications",
        "/admin/tokens",
        "/admin/sessions",
        "/admin/apis",
        "/admin/signing-keys",
        "/admin/signing-keys/rotate",
        "/audit/events",
        "/audit/tail",
        "/audit/export",
        "/audit/export/manifest",
        "/checkpoint",
        "/",
    ];
    const BELOW: &[(&str, &str)] = &[
        ("/verify/", "/verify"),
        ("/admin/applications/", "/admin/applications/{id}"),
        ("/admin/tokens/", "/admin/tokens/{jti}"),
        ("/admin/sessions/", "/admin/sessions/{id}"),
        ("/admin/apis/", "/admin/apis/{id}"),
        ("/admin/signing-keys/", "/admin/signing-keys/{kid}"),
        ("/audit/events/", "/audit/events/{index}"),
        ("/audit/tokens/", "/audit/tokens/{jti}/proof"),
        ("/tile/entries/", "/tile/entries/{number}"),
        ("/tile/", "/tile/{level}/{number}"),
    ];
    EXACT
        .iter()
        .find(|known| **known == path)
        .copied()
        .or_else(|| {
            BELOW
                .iter()
                .find(|(prefix, _)| path.starts_with(prefix))
                .map(|(_, route)| *route)
        })
        .unwrap_or("other")
}
