//! What every call of the admin and audit endpoints has in common: who calls, and what with.

use crate::http::body;
use crate::http::fields::cut;
use crate::http::problem::{Problem, call_refused, no_body_problem, not_json};
use crate::http::query_token::has_token;
use crate::http::{Doors, origin};
use crate::service::Service;
use crate::service::authorize_call::{Call, Caller, Credential};
use crate::service::record::Circumstances;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::event::Via;
use grantlog_projections::values::Actor;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Where a reference token may be instead of `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

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
    /// Reads the JSON object in the body (an empty body is an empty object), then lets the call through.
    ///
    /// In this order, because whoever is let through may be disabled or lose its secret while its body is still
    /// on the way: what is decided on is the moment at which the call is complete. What is wrong with the body is
    /// told only to those who are let through.
    pub async fn with_object(
        request: &HttpRequest,
        body: Payload,
        doors: &'a Doors,
        required_scope: &'static str,
    ) -> Result<(AuthorizedCall<'a>, Map<String, Value>), Problem> {
        let body = body::read(body, doors.body_timeout).await;
        let call = Self::of(request, doors, required_scope).await?;
        let body = body.map_err(no_body_problem)?;
        Ok((call, object(request, &body)?))
    }

    /// Lets a call through that carries a token with the scope, and puts it on the record either way.
    pub async fn of(
        request: &HttpRequest,
        doors: &'a Doors,
        required_scope: &'static str,
    ) -> Result<AuthorizedCall<'a>, Problem> {
        let circumstances = origin::circumstances(request, doors);
        let call = Call {
            via: Via::Admin,
            credential: credential(request),
            audience: &doors.service.settings().policy.issuer,
            method: request.method().as_str(),
            path: request.path(),
            required_scope,
            org_code: None,
            ruled_out: None,
        };
        let caller = doors.service.authorize_call(call, &circumstances).await;
        let caller = caller.map_err(|refused| call_refused(refused, &doors.service.settings().issuer))?;
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

/// The token that a request carries: as RFC 6750 §2.1 has it (the other two ways put the token where logs see it), or
/// a reference token in `X-Api-Key`. RFC 9110 §11.6.2 allows one header: of two, the next server may believe the other.
pub fn credential(request: &HttpRequest) -> Credential<'_> {
    let mut given = request.headers().get_all(header::AUTHORIZATION).map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let mut keys = request.headers().get_all(API_KEY).map(|value| value.to_str().ok());
    match (given.next(), given.next(), keys.next(), keys.next()) {
        (Some(Some(token)), None, None, _) => Credential::Token(token),
        (None, _, Some(Some(key)), None) => Credential::of_api_key(key.trim()),
        // Another scheme, or what is no text: no token of ours.
        (Some(None), None, None, _) => Credential::None,
        (None, _, Some(None), None) => Credential::NO_TOKEN,
        (None, _, None, _) => Credential::None,
        _ => Credential::Several,
    }
}

/// The same of a request that an API behind us gets with its query: a token there (RFC 6750 §2.3) is not ours to take,
/// but beside one that is, it is a second one, which the API may believe (RFC 6750 §2: one method of sending it).
pub fn credential_beside<'a>(request: &'a HttpRequest, query: Option<&str>) -> Credential<'a> {
    match credential(request) {
        Credential::None => Credential::None,
        _ if query.is_some_and(has_token) => Credential::Several,
        one => one,
    }
}

fn object(request: &HttpRequest, body: &[u8]) -> Result<Map<String, Value>, Problem> {
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
        return Err(not_json());
    }
    serde_json::from_slice(body)
        .map(|Members(members)| members)
        .map_err(|error| Problem::unreadable(format!("The body is not a JSON object as expected: {error}")))
}

/// The members of an object, each once. RFC 8259 §4 leaves open which of two counts: whoever has checked the
/// first must not have let the second through.
struct Members(Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachOnce;
        impl<'de> Visitor<'de> for EachOnce {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut given: M) -> Result<Members, M::Error> {
                let mut members = Map::new();
                while let Some(name) = given.next_key::<String>()? {
                    if members.contains_key(&name) {
                        return Err(M::Error::custom(format!("{:?} is there twice", cut(&name))));
                    }
                    members.insert(name, given.next_value()?);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(EachOnce)
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
