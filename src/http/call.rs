//! What every call of the admin and audit endpoints has in common: who calls, and what with.

use crate::http::body;
use crate::http::problem::{Problem, no_body_problem};
use crate::http::{Doors, origin};
use crate::service::Service;
use crate::service::authorize_call::{Call, Caller};
use crate::service::record::Circumstances;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::values::Actor;
use serde::Serialize;
use serde_json::{Map, Value};

/// A call that was let through and is on the record.
pub struct AuthorizedCall<'a> {
    /// What is behind the door.
    pub service: &'a Service,
    /// Who calls.
    pub caller: Caller,
    /// What events keep of the call.
    pub circumstances: Circumstances,
}

impl<'a> AuthorizedCall<'a> {
    /// Lets a call through that carries a token with the scope, and puts it on the record either way.
    pub async fn of(
        request: &HttpRequest,
        doors: &'a Doors,
        required_scope: &'static str,
    ) -> Result<AuthorizedCall<'a>, Problem> {
        let circumstances = origin::circumstances(request, doors);
        let call = Call {
            bearer: bearer(request),
            method: request.method().as_str(),
            path: request.path(),
            required_scope,
        };
        let caller = doors.service.authorize_call(call, &circumstances).await?;
        Ok(Self {
            service: &doors.service,
            caller,
            circumstances,
        })
    }

    /// The caller as events name it.
    pub fn actor(&self) -> Actor {
        self.caller.actor()
    }
}

/// RFC 6750 §2.1; the other two ways put the token where logs see it.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The JSON object in the body; an empty body is an empty object.
pub async fn object(request: &HttpRequest, body: Payload, doors: &Doors) -> Result<Map<String, Value>, Problem> {
    let body = body::read(body, doors.body_timeout).await.map_err(no_body_problem)?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if !matches!(essence.as_str(), "application/json" | "application/merge-patch+json") {
        let detail = "Content-Type must be application/json (or application/merge-patch+json to change something)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail));
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::unreadable("The body must be a JSON object")),
        Err(error) => Err(Problem::unreadable(format!("The body is not JSON: {error}"))),
    }
}

/// The revision in `If-Match` (RFC 9110 §13.1.1): an entity tag as `ETag` gave it; `*` and none mean any.
pub fn if_match(request: &HttpRequest) -> Result<Option<u64>, Problem> {
    let Some(value) = request.headers().get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let revision = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(|tag| tag.parse().ok());
    revision
        .map(Some)
        .ok_or_else(|| Problem::invalid("If-Match", "must be one entity tag as ETag gave it, e.g. \"3\""))
}

/// An answer with its revision as ETag.
pub fn with_revision(status: StatusCode, revision: u64, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::ETAG, format!("\"{revision}\"")))
        .json(body)
}

/// An answer.
pub fn ok(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body)
}
