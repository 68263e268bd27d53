//! Every failure as an answer: the one place that knows status codes for failures.

use crate::audit::InvalidQuery;
use crate::audit::transparency::TransparencyError;
use crate::event_store::AppendError;
use crate::gateway::upstream::UpstreamFailure;
use crate::http::body::{MAX_BODY_BYTES, NoBody};
use crate::http::fields::InvalidField;
use crate::oauth::{Dialect, OAuthError};
use crate::policy::CommandRefused;
use crate::service::authorize_call::{CallRefused, RuledOut};
use crate::service::{Readiness, ServiceError};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use std::fmt;

/// When to try again after the log could not take a request, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An answer of the token endpoint that grants nothing (RFC 6749 §5.2).
pub fn token_error(dialect: Dialect, error: &OAuthError, issuer: &str) -> HttpResponse {
    let status = match error {
        OAuthError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        OAuthError::InvalidClient => StatusCode::UNAUTHORIZED,
        OAuthError::InsufficientScope { .. } => StatusCode::FORBIDDEN,
        OAuthError::SlowDown { .. } => StatusCode::TOO_MANY_REQUESTS,
        OAuthError::TemporarilyUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        OAuthError::UnsupportedContentType { .. }
        | OAuthError::DuplicateParameter { .. }
        | OAuthError::MalformedBody
        | OAuthError::MissingGrantType
        | OAuthError::UnsupportedGrantType { .. }
        | OAuthError::SeveralAuthenticationMethods
        | OAuthError::InvalidGrant
        | OAuthError::MissingClientId
        | OAuthError::MissingClientSecret
        | OAuthError::MissingAudience
        | OAuthError::MissingToken
        | OAuthError::NotTheClientsToken
        | OAuthError::UnauthorizedGrant
        | OAuthError::AudienceNotAuthorized { .. }
        | OAuthError::InvalidTarget { .. }
        | OAuthError::InvalidScope { .. } => StatusCode::BAD_REQUEST,
    };
    let mut response = HttpResponse::build(status);
    no_store(&mut response);
    if status == StatusCode::UNAUTHORIZED {
        challenge(&mut response, &format!("Basic realm=\"{issuer}\""));
    }
    if let Some(seconds) = error.retry_after_seconds() {
        response.insert_header((header::RETRY_AFTER, seconds));
    }
    response
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(error.encode(dialect))
}

/// The token endpoint takes POST alone.
pub fn use_post(dialect: Dialect) -> HttpResponse {
    let body = match dialect {
        Dialect::Standard | Dialect::Audience => {
            serde_json::json!({"error": "invalid_request", "error_description": "Use POST"})
        }
        Dialect::Json => {
            serde_json::json!({"isSuccess": false, "error": {"code": "invalid_request", "message": "Use POST"}})
        }
    };
    let mut response = HttpResponse::MethodNotAllowed();
    no_store(&mut response);
    response
        .insert_header((header::ALLOW, HeaderValue::from_static("POST")))
        .json(body)
}

/// There is nothing at this path.
pub async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "There is nothing at this path; /openapi.json lists what there is",
    )
}

/// The path exists, but not for this method.
pub fn use_methods(allowed: &'static str) -> impl Fn() -> std::future::Ready<HttpResponse> + Clone {
    move || {
        let detail = format!("This path takes {allowed}");
        let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).error_response();
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allowed));
        std::future::ready(response)
    }
}

/// The body could not be read.
pub fn no_body_problem(no_body: NoBody) -> Problem {
    match no_body {
        NoBody::TooLarge => {
            let detail = format!("A body may have {MAX_BODY_BYTES} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        }
        NoBody::TooSlow => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "The body did not arrive in time",
        ),
        NoBody::BrokenOff => Problem::unreadable("The body broke off"),
    }
}

/// The body of a change is not JSON.
pub fn not_json() -> Problem {
    let detail = "Content-Type must be application/json (or application/merge-patch+json to change something)";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail)
}

/// A batch of reported calls is too large.
pub fn batch_too_large(max_bytes: usize, max_lines: usize) -> Problem {
    let detail = format!("A batch may have {max_bytes} bytes and {max_lines} lines: send the rest in another");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// The body of a report is no NDJSON.
pub fn not_ndjson() -> Problem {
    let detail = "Content-Type must be application/x-ndjson: a JSON object per line";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail)
}

/// The log is not that long.
pub fn no_such_event(index: u64) -> Problem {
    let detail = format!("The log has no event {index} yet");
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// As many requests are being carried out as may be.
pub fn too_many_requests_in_flight() -> Problem {
    let detail = "As many requests are in flight as may be at once";
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
    problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
    problem
}

/// No checkpoint that was published has it.
pub fn no_such_tile() -> Problem {
    let detail = "There is no such tile, or no published checkpoint reaches it yet";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// No token of that id is found.
pub fn no_such_token() -> Problem {
    let detail = "The audit index finds no token with this jti";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// There is no such report.
pub fn no_such_report(names: &str) -> Problem {
    let detail = format!("There is no such report; there are {names}");
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// The service cannot do its work now, and says why.
pub fn not_ready(readiness: &Readiness) -> HttpResponse {
    let mut response = HttpResponse::ServiceUnavailable();
    no_store(&mut response);
    response
        .insert_header((header::RETRY_AFTER, RETRY_AFTER_SECONDS))
        .json(readiness)
}

/// A call that a proxy has asked about is not to pass. nginx knows 401 and 403 as refusals; whatever else it is told it
/// answers with a 500 of its own.
pub fn not_verified(refused: CallRefused, issuer: &str) -> Problem {
    let is_the_callers_fault = matches!(refused, CallRefused::SeveralTokens | CallRefused::SlowDown { .. });
    let mut problem = call_refused(refused, issuer);
    if is_the_callers_fault {
        problem.status = StatusCode::UNAUTHORIZED;
        problem.title = "Unauthorized";
        // RFC 9110 §15.5.2: a 401 has a challenge.
        problem.challenge.get_or_insert_with(|| bearer(issuer, &[]));
    }
    problem
}

/// An RFC 9457 problem.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    problem_type: String,
    title: &'static str,
    #[serde(serialize_with = "status_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip)]
    challenge: Option<String>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

/// What is wrong with one field.
#[derive(Debug, Serialize)]
struct FieldProblem {
    field: String,
    message: String,
}

impl Problem {
    /// A problem of a kind, with what the caller should know.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("urn:grantlog:problem:{kind}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
            errors: Vec::new(),
            column: None,
            challenge: None,
            retry_after_seconds: None,
        }
    }

    fn challenging(mut self, challenge: String) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// The body is not what the endpoint takes.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable", detail)
    }

    /// A field or parameter is not acceptable.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid", format!("{field}: {message}"));
        problem.errors.push(FieldProblem { field, message });
        problem
    }

    /// The request is for a node with another role. RFC 9110 §15.5.20: whoever gets this may ask another server, and
    /// asking this one again is of no use, which a 503 would promise; and a 404 would say that there is no such thing.
    pub fn misdirected(role: &str) -> Self {
        let detail = format!("This node has not the role `{role}` (node.roles): ask one that has");
        Self::new(StatusCode::MISDIRECTED_REQUEST, "role_missing", detail)
    }

    /// A caller's name fits no header.
    pub fn no_identity() -> Self {
        Self::internal(&"a caller's attributes cannot be put in headers")
    }

    fn unavailable(error: &ServiceError) -> Self {
        if !error.is_told_elsewhere() {
            tracing::error!(%error, "a request could not be carried out");
        }
        // Whoever reads "not done" does it again: where that is not certain it must not be said.
        let detail = match error {
            ServiceError::NotRecorded(AppendError::Indeterminate(_)) => {
                "The event log failed while it took this: look whether it was done when the server is back"
            }
            ServiceError::CutOff(_) => {
                "This server does not know the newest state of the event log, so it was not done"
            }
            ServiceError::NotReached(_) => "It was done, but this server does not show it yet",
            _ => "The event log cannot take this now, so it was not done",
        };
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
        problem
    }

    fn internal(error: &dyn fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server's log says why",
        )
    }
}

impl From<InvalidField> for Problem {
    fn from(invalid: InvalidField) -> Self {
        Self::invalid(invalid.field, invalid.message)
    }
}

impl From<InvalidQuery> for Problem {
    fn from(invalid: InvalidQuery) -> Self {
        let column = invalid.column;
        Self {
            column,
            ..Self::invalid(invalid.parameter, invalid.message)
        }
    }
}

impl From<CommandRefused> for Problem {
    fn from(refused: CommandRefused) -> Self {
        match refused {
            CommandRefused::Invalid { field, message } => Self::invalid(field, message),
            CommandRefused::NotFound(detail) => Self::new(StatusCode::NOT_FOUND, "not_found", detail),
            CommandRefused::BeyondCaller(_) => Self::new(StatusCode::FORBIDDEN, "beyond_caller", refused.to_string()),
            CommandRefused::Conflict(detail) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            CommandRefused::PreconditionFailed { .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                refused.to_string(),
            ),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(refused) => refused.into(),
            ServiceError::NotRecorded(AppendError::WrongExpectedRevision { .. }) => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                "Somebody else changed it at the same time: try again",
            ),
            ServiceError::NotRecorded(_) | ServiceError::NotReached(_) | ServiceError::CutOff(_) => {
                Self::unavailable(&error)
            }
            ServiceError::Busy(detail) => {
                let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
                problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
                problem
            }
            ServiceError::NoTrail => Self::misdirected("audit"),
            ServiceError::ShareTaken(detail) => {
                let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_at_once", detail);
                problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
                problem
            }
            ServiceError::TooLarge(_) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "This is more than one event can hold",
            ),
            ServiceError::NotRead(_)
            | ServiceError::Undecodable(_)
            | ServiceError::NoRandomness(_)
            | ServiceError::Keys(_)
            | ServiceError::Audit(_) => Self::internal(&error),
            ServiceError::Transparency(error) => error.into(),
        }
    }
}

impl From<TransparencyError> for Problem {
    fn from(error: TransparencyError) -> Self {
        let detail = match &error {
            TransparencyError::NotThatLong { .. } => {
                let detail = "The log is not that long yet";
                return Self::new(StatusCode::NOT_FOUND, "not_found", detail);
            }
            TransparencyError::Removed { .. } => {
                return Self::new(StatusCode::GONE, "removed", error.to_string());
            }
            TransparencyError::Altered { .. }
            | TransparencyError::Database(_)
            | TransparencyError::Log(_)
            | TransparencyError::BrokenOff(_) => return Self::internal(&error),
            // Why is logged where it happened.
            TransparencyError::Stopped(_) => "No checkpoint is published now; /health/ready says why",
            TransparencyError::Overloaded => "Too many proofs and tiles are asked for at once",
            TransparencyError::NotCaughtUp => "The tree has not read the log so far yet",
        };
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
        problem
    }
}

/// A call that was not let through, with the challenge of a server of this name (RFC 6750 §3: a challenge has a
/// parameter at least, also when no error is told).
pub fn call_refused(refused: CallRefused, issuer: &str) -> Problem {
    let detail = refused.to_string();
    // RFC 6750 §3.1 knows no other word for a token that is in order and does not suffice.
    let insufficient = [("error", "insufficient_scope"), ("error_description", detail.as_str())];
    match refused {
        // RFC 6750 §3.1: without a token the challenge says no more than that one is needed.
        CallRefused::NoToken => {
            let challenge = bearer(issuer, &[]);
            Problem::new(StatusCode::UNAUTHORIZED, "missing_token", detail).challenging(challenge)
        }
        CallRefused::InvalidToken(_) => {
            let challenge = bearer(issuer, &[("error", "invalid_token"), ("error_description", &detail)]);
            Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", detail).challenging(challenge)
        }
        CallRefused::SeveralTokens => {
            let challenge = bearer(issuer, &[("error", "invalid_request"), ("error_description", &detail)]);
            Problem::new(StatusCode::BAD_REQUEST, "invalid_request", detail).challenging(challenge)
        }
        CallRefused::InsufficientScope(scope) => {
            let challenge = bearer(issuer, &[("error", "insufficient_scope"), ("scope", &scope)]);
            Problem::new(StatusCode::FORBIDDEN, "insufficient_scope", detail).challenging(challenge)
        }
        CallRefused::OrgMismatch => {
            let challenge = bearer(issuer, &insufficient);
            Problem::new(StatusCode::FORBIDDEN, "org_mismatch", detail).challenging(challenge)
        }
        CallRefused::TooManySessions => {
            let challenge = bearer(issuer, &insufficient);
            Problem::new(StatusCode::FORBIDDEN, "too_many_sessions", detail).challenging(challenge)
        }
        CallRefused::RuledOut(RuledOut::NoRule) => {
            let challenge = bearer(issuer, &insufficient);
            Problem::new(StatusCode::FORBIDDEN, "no_rule", detail).challenging(challenge)
        }
        CallRefused::RuledOut(RuledOut::AmbiguousPath(_)) => {
            Problem::new(StatusCode::BAD_REQUEST, "ambiguous_request", detail)
        }
        CallRefused::RuledOut(RuledOut::MethodNotImplemented) => {
            Problem::new(StatusCode::NOT_IMPLEMENTED, "method_not_implemented", detail)
        }
        CallRefused::RuledOut(RuledOut::UpgradeNotImplemented) => {
            Problem::new(StatusCode::NOT_IMPLEMENTED, "upgrade_not_implemented", detail)
        }
        // The same whether it was announced or has come.
        CallRefused::RuledOut(RuledOut::BodyTooLarge { most_bytes }) => NotForwarded::TooLarge(most_bytes).into(),
        CallRefused::SlowDown { retry_after_seconds } => {
            let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", detail);
            problem.retry_after_seconds = Some(retry_after_seconds);
            problem
        }
        CallRefused::NotRecorded(error) => error.into(),
    }
}

/// A challenge (RFC 6750 §3) of this realm with more parameters: no value has quotes.
fn bearer(issuer: &str, parameters: &[(&str, &str)]) -> String {
    let mut challenge = format!("Bearer realm=\"{issuer}\"");
    for (name, value) in parameters {
        challenge += &format!(", {name}=\"{value}\"");
    }
    challenge
}

/// Why a call was not handed on to its upstream, or came to nothing there.
#[derive(Debug)]
pub enum NotForwarded {
    /// It holds what has no place in a request.
    Malformed,
    /// Its body is larger than the route takes, in bytes.
    TooLarge(u64),
    /// Its body did not come.
    TooSlow,
    /// Its body broke off.
    BrokenOff,
    /// Too many calls are at the upstream.
    Busy,
    /// The upstream failed.
    Upstream(UpstreamFailure),
}

impl From<NotForwarded> for Problem {
    fn from(reason: NotForwarded) -> Self {
        match reason {
            NotForwarded::Malformed => {
                let detail = "The request holds characters that have no place in it";
                Self::new(StatusCode::BAD_REQUEST, "ambiguous_request", detail)
            }
            NotForwarded::TooLarge(bytes) => {
                let detail = format!("A body may have {bytes} bytes");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
            }
            NotForwarded::TooSlow => no_body_problem(NoBody::TooSlow),
            NotForwarded::BrokenOff => no_body_problem(NoBody::BrokenOff),
            NotForwarded::Busy => {
                let detail = "As many calls are at the upstream as it may have at once";
                let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
                problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
                problem
            }
            NotForwarded::Upstream(failure) => {
                let (status, kind) = match failure {
                    UpstreamFailure::Unreachable | UpstreamFailure::Tls => {
                        (StatusCode::BAD_GATEWAY, "upstream_unreachable")
                    }
                    UpstreamFailure::NoProperAnswer => (StatusCode::BAD_GATEWAY, "upstream_failed"),
                    UpstreamFailure::ConnectTimeout | UpstreamFailure::Timeout => {
                        (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout")
                    }
                };
                Self::new(status, kind, failure.to_string())
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        no_store(&mut response);
        if let Some(text) = &self.challenge {
            challenge(&mut response, text);
        }
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        // A struct of texts and a number is always JSON.
        let body = serde_json::to_vec(self).unwrap_or_default();
        response
            .insert_header((
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            ))
            .body(body)
    }
}

impl actix_web::Responder for Problem {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &actix_web::HttpRequest) -> HttpResponse {
        self.error_response()
    }
}

fn challenge(response: &mut HttpResponseBuilder, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.insert_header((header::WWW_AUTHENTICATE, value));
    }
}

fn no_store(response: &mut HttpResponseBuilder) {
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    response.insert_header((header::PRAGMA, HeaderValue::from_static("no-cache")));
}

fn status_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
