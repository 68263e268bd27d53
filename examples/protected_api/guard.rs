//! How a call is let in: RFC 6750, and a report of each.

use crate::keys::Keys;
use crate::settings::Settings;
use crate::verify::{Caller, verify};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Characters of a path and of a User-Agent that a report carries.
const MAX_REPORTED_CHARS: usize = 256;

/// Stands before every route.
pub struct Guard {
    settings: Settings,
    keys: Keys,
    calls: mpsc::Sender<Value>,
}

impl Guard {
    /// Fetches keys from the issuer, and sends calls to the reporter.
    pub fn new(settings: Settings, http: reqwest::Client, calls: mpsc::Sender<Value>) -> Self {
        let keys = Keys::new(format!("{}/.well-known/jwks.json", settings.issuer), http);
        Self { settings, keys, calls }
    }

    /// Lets a call in or answers its refusal, and hands it to the reporter either way.
    pub async fn call(
        &self,
        request: &HttpRequest,
        scope: &str,
        org_code: Option<&str>,
        answer: impl FnOnce(&Caller) -> HttpResponse,
    ) -> HttpResponse {
        // A place first: a call that cannot be reported does not happen.
        let Ok(place) = self.calls.try_reserve() else {
            return HttpResponse::ServiceUnavailable()
                .insert_header((header::RETRY_AFTER, 1))
                .finish();
        };
        let verified = match token(request) {
            Ok(token) => verify(token, &self.settings, &self.keys).await,
            Err(refused) => Err(refused),
        };
        let (response, outcome) = match &verified {
            Err(refused) => refusal(refused, &self.settings.audience),
            Ok(caller) => match may(caller, scope, org_code) {
                Err(refused) => refusal(&refused, &self.settings.audience),
                Ok(()) => (answer(caller), json!({"outcome": "authorized"})),
            },
        };
        let mut call = json!({
            "id": Uuid::now_v7(),
            "time": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
            "audience": self.settings.audience,
            "method": request.method().as_str(),
            // Without the query: secrets belong in no URL and are there all the same.
            "path": cut(request.uri().path()),
            "required_scope": scope,
            "status": response.status().as_u16(),
        });
        merge(&mut call, outcome);
        // Of a caller that has gone by now there is no address.
        if let Some(source) = source(request) {
            merge(&mut call, json!({"source": source}));
        }
        if let Ok(caller) = &verified {
            merge(
                &mut call,
                json!({"jti": caller.claims["jti"], "client_id": caller.claims["client_id"]}),
            );
        }
        place.send(call);
        response
    }
}

/// Why a call is not let in. The reason is a word of Grantlog's log (`DenialReason`).
pub struct Refused {
    status: StatusCode,
    /// RFC 6750 §3: what is told besides the realm.
    challenge: String,
    error: &'static str,
    reason: &'static str,
}

impl Refused {
    /// RFC 6750 §3.1: whoever presents no token is told nothing but that one is needed.
    fn no_token() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: String::new(),
            error: "missing_token",
            reason: "missing_token",
        }
    }

    fn several_tokens() -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            challenge: r#"error="invalid_request", error_description="one token is needed, not several""#.into(),
            error: "invalid_request",
            reason: "several_tokens",
        }
    }

    pub fn invalid(reason: &'static str, description: &str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: format!(r#"error="invalid_token", error_description="{description}""#),
            error: "invalid_token",
            reason,
        }
    }

    fn insufficient_scope(needed: &str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            challenge: format!(r#"error="insufficient_scope", scope="{needed}""#),
            error: "insufficient_scope",
            reason: "insufficient_scope",
        }
    }

    fn other_organisation() -> Self {
        const DESCRIPTION: &str = "the token is not bound to this organisation";
        Self {
            status: StatusCode::FORBIDDEN,
            challenge: format!(r#"error="insufficient_scope", error_description="{DESCRIPTION}""#),
            error: "insufficient_scope",
            reason: "org_mismatch",
        }
    }
}

/// Whether the token opens this.
fn may(caller: &Caller, scope: &str, org_code: Option<&str>) -> Result<(), Refused> {
    let granted = caller.claims["scope"].as_str().unwrap_or_default();
    let mut needed = scope.split_ascii_whitespace();
    if !needed.all(|needed| granted.split(' ').any(|granted| granted == needed)) {
        return Err(Refused::insufficient_scope(scope));
    }
    match org_code {
        Some(org_code) if caller.claims["org_code"].as_str() != Some(org_code) => Err(Refused::other_organisation()),
        _ => Ok(()),
    }
}

/// RFC 6750 §2.1. The other two ways put the token where logs see it.
fn token(request: &HttpRequest) -> Result<&str, Refused> {
    let mut given = request.headers().get_all(header::AUTHORIZATION);
    match (given.next(), given.next()) {
        (None, _) => Err(Refused::no_token()),
        (Some(_), Some(_)) => Err(Refused::several_tokens()),
        (Some(value), None) => match value.to_str().ok().and_then(|value| value.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
            _ => Err(Refused::no_token()),
        },
    }
}

fn refusal(refused: &Refused, realm: &str) -> (HttpResponse, Value) {
    let mut response = HttpResponse::build(refused.status);
    // RFC 6750 §3: the scheme is followed by a parameter at least.
    let separator = if refused.challenge.is_empty() { "" } else { ", " };
    let challenge = format!(r#"Bearer realm="{realm}"{separator}{}"#, refused.challenge);
    response.insert_header((header::WWW_AUTHENTICATE, challenge));
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    let outcome = json!({"outcome": "denied", "error": refused.error, "reason": refused.reason});
    (response.json(json!({"error": refused.error})), outcome)
}

fn source(request: &HttpRequest) -> Option<Value> {
    let mut source = json!({"ip": request.peer_addr()?.ip()});
    let user_agent = request.headers().get(header::USER_AGENT);
    if let Some(user_agent) = user_agent.and_then(|value| value.to_str().ok()) {
        merge(&mut source, json!({"user_agent": cut(user_agent)}));
    }
    Some(source)
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_REPORTED_CHARS).collect()
}
