//! `POST /audit/api-calls`: calls that APIs tell of, a line of JSON each (NDJSON).

use crate::http::body::{self, NoBody};
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::{Fields, InvalidField};
use crate::http::problem::{Problem, batch_too_large, no_body_problem, not_ndjson, use_methods};
use crate::http::{Doors, origin};
use crate::service;
use crate::service::report_calls::{MAX_CALLS, REPORT_CALLS, ReportedCall, ReportedOutcome};
use actix_web::http::header;
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::event::DenialReason;
use grantlog_projections::values::{ApplicationUri, Audience, Scope, Source, Timestamp};
use serde_json::{Map, Value};
use std::net::IpAddr;
use uuid::Uuid;

/// The largest batch, in bytes.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// A reporter's clock may be ahead by so much, in seconds.
const MAX_AHEAD_SECONDS: i64 = 300;
/// Characters of a path.
const MAX_PATH_CHARS: usize = 1_024;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/audit/api-calls")
            .route(web::post().to(report))
            .default_service(web::to(use_methods("POST"))),
    );
}

async fn report(request: HttpRequest, body: Payload, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let body = body::read_up_to(MAX_BATCH_BYTES, body, doors.body_timeout).await;
    let call = AuthorizedCall::of(&request, &doors, REPORT_CALLS).await?;
    let body = body.map_err(|no_body| match no_body {
        NoBody::TooLarge => batch_too_large(MAX_BATCH_BYTES, MAX_CALLS),
        other => no_body_problem(other),
    })?;
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if !matches!(essence.as_str(), "application/x-ndjson" | "application/jsonl") {
        return Err(not_ndjson());
    }
    let calls = read_batch(&body)?;
    let reported = call
        .service
        .report_calls(calls, &call.caller, &call.circumstances)
        .await?;
    Ok(ok(&reported))
}

/// All lines or none: what is wrong with one is told with its number.
fn read_batch(body: &[u8]) -> Result<Vec<ReportedCall>, Problem> {
    let lines = body.split(|byte| *byte == b'\n').map(|line| line.trim_ascii());
    let mut calls = Vec::new();
    for (at, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let number = at + 1;
        if calls.len() == MAX_CALLS {
            return Err(batch_too_large(MAX_BATCH_BYTES, MAX_CALLS));
        }
        let members: Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| Problem::invalid(format!("line {number}"), format!("is not a JSON object: {error}")))?;
        let call = read_call(number, Fields::new(members)).map_err(|invalid| {
            let InvalidField { field, message } = invalid;
            Problem::invalid(format!("line {number}, {field}"), message)
        })?;
        calls.push(call);
    }
    Ok(calls)
}

fn read_call(line: usize, mut fields: Fields) -> Result<ReportedCall, InvalidField> {
    let missing = |name: &'static str| move || InvalidField::new(name, "is missing");
    let id = fields.value::<Uuid>("id", "a UUID, another for each call")?;
    let time = fields.parsed_value("time", Timestamp::parse)?;
    let time = time.ok_or_else(missing("time"))?;
    if time > service::now().plus_seconds(MAX_AHEAD_SECONDS) {
        return Err(InvalidField::new("time", "is in the future: set the reporter's clock"));
    }
    let method = fields
        .value::<String>("method", "a text")?
        .ok_or_else(missing("method"))?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if method.is_empty() || method.len() > 32 || !method.chars().all(is_token) {
        return Err(InvalidField::new("method", "must be an HTTP method (RFC 9110 §9.1)"));
    }
    let path = fields.value::<String>("path", "a text")?.ok_or_else(missing("path"))?;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') || path.chars().any(char::is_control) {
        return Err(InvalidField::new(
            "path",
            "must begin with / and have no control characters",
        ));
    }
    let status = fields.value::<u16>("status", "an HTTP status")?;
    if status.is_some_and(|status| !(100..600).contains(&status)) {
        return Err(InvalidField::new("status", "must be an HTTP status, 100 to 599"));
    }
    let trace_id = fields.value::<String>("trace_id", "a text")?;
    let is_trace_id = |id: &String| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if trace_id.as_ref().is_some_and(|id| !is_trace_id(id)) {
        return Err(InvalidField::new(
            "trace_id",
            "must be 32 lower-case hexadecimal digits (W3C Trace Context)",
        ));
    }
    let call = ReportedCall {
        line,
        id: id.ok_or_else(missing("id"))?,
        time,
        audience: fields.parsed_value("audience", Audience::parse)?,
        method,
        path: path.chars().take(MAX_PATH_CHARS).collect(),
        required_scope: fields
            .parsed_value("required_scope", Scope::parse)?
            .unwrap_or_else(Scope::none),
        source: source(&mut fields)?,
        trace_id,
        status,
        jti: fields.value::<Uuid>("jti", "a UUID: the token's jti")?,
        client_id: fields.parsed_value("client_id", ApplicationUri::parse)?,
        outcome: outcome(&mut fields)?,
    };
    fields.finish()?;
    if matches!(call.outcome, ReportedOutcome::Authorized) {
        for (name, is_there) in [("jti", call.jti.is_some()), ("client_id", call.client_id.is_some())] {
            if !is_there {
                return Err(InvalidField::new(
                    name,
                    "is missing: an authorized call is one of a token",
                ));
            }
        }
    }
    Ok(call)
}

fn source(fields: &mut Fields) -> Result<Option<Source>, InvalidField> {
    let Some(members) = fields.value::<Map<String, Value>>("source", r#"an object, {"ip", "user_agent"}"#)? else {
        return Ok(None);
    };
    let mut fields = Fields::new(members);
    let within = |invalid: InvalidField| InvalidField::new(format!("source.{}", invalid.field), invalid.message);
    let ip = fields.value::<IpAddr>("ip", "an IP address").map_err(within)?;
    let user_agent = fields.value::<String>("user_agent", "a text").map_err(within)?;
    fields.finish().map_err(within)?;
    let ip = ip.ok_or_else(|| InvalidField::new("source.ip", "is missing"))?;
    Ok(Some(Source {
        ip: ip.to_canonical(),
        user_agent: user_agent.map(|text| origin::displayable(text.as_bytes()).into()),
    }))
}

fn outcome(fields: &mut Fields) -> Result<ReportedOutcome, InvalidField> {
    let outcome = fields.value::<String>("outcome", "a text")?;
    let error = fields.value::<String>("error", "a text")?;
    let reason = fields.value::<String>("reason", "a text")?;
    let token_hint = fields.value::<String>("token_hint", "a text")?;
    match outcome.as_deref() {
        Some("authorized") => match (error, reason) {
            (None, None) => Ok(ReportedOutcome::Authorized),
            _ => Err(InvalidField::new(
                "error",
                "an authorized call has neither error nor reason",
            )),
        },
        Some("denied") => {
            let error = error.unwrap_or_else(|| "invalid_token".into());
            let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if error.is_empty() || error.len() > 64 || !error.chars().all(is_code) {
                return Err(InvalidField::new(
                    "error",
                    "must be an error code such as invalid_token (RFC 6750 §3.1)",
                ));
            }
            let is_hint = |hint: &String| hint.len() == 8 && hint.bytes().all(|b| b.is_ascii_graphic());
            if token_hint.as_ref().is_some_and(|hint| !is_hint(hint)) {
                return Err(InvalidField::new("token_hint", "must be the token's last 8 characters"));
            }
            Ok(ReportedOutcome::Denied {
                error,
                reason: named(reason)?,
                token_hint,
            })
        }
        _ => Err(InvalidField::new("outcome", "must be authorized or denied")),
    }
}

fn named(reason: Option<String>) -> Result<DenialReason, InvalidField> {
    let Some(reason) = reason else {
        return Ok(DenialReason::RefusedByApi);
    };
    let known = DenialReason::ALL.iter().find(|known| known.as_str() == reason);
    known.copied().ok_or_else(|| {
        let names: Vec<&str> = DenialReason::ALL.iter().map(|known| known.as_str()).collect();
        InvalidField::new("reason", format!("must be one of {}", names.join(", ")))
    })
}
