//! A change of configuration in words: of what, and from what to what.

use grantlog_projections::Event;
use grantlog_projections::event::{
    ApiChange, ApplicationChange, ApplicationRegistered, IssuedSecret, ReferenceTokenIssued,
};
use serde_json::Value;

/// What a change is of; none for events that change no configuration.
pub fn object(event: &Event) -> Option<String> {
    Some(match event {
        Event::ApplicationRegistered(data) => data.application_uri.to_string(),
        Event::ApplicationChanged(data) => data.application_uri.to_string(),
        Event::ApplicationEnabled(data) => data.application_uri.to_string(),
        Event::ApplicationDisabled(data) => data.application_uri.to_string(),
        Event::ApplicationDeleted(data) => data.application_uri.to_string(),
        Event::SecretRotated(data) => data.application_uri.to_string(),
        Event::SecretRevoked(data) => data.application_uri.to_string(),
        Event::TokenRevoked(data) => data.application_uri.to_string(),
        Event::TokensRevoked(data) => data.application_uri.to_string(),
        Event::ReferenceTokenIssued(data) => data.application_uri.to_string(),
        Event::ReferenceTokenRevoked(data) => data.application_uri.to_string(),
        Event::ApiRegistered(data) => data.audience.to_string(),
        Event::ApiChanged(data) => data.audience.to_string(),
        Event::ApiDeleted(data) => data.audience.to_string(),
        Event::SigningKeyAdded(data) => data.kid.to_string(),
        Event::SigningKeyActivated(data) => data.kid.to_string(),
        Event::SigningKeyRetired(data) => data.kid.to_string(),
        Event::LegalHoldPlaced(data) => format!("legal hold {}", data.hold_id),
        Event::LegalHoldReleased(data) => format!("legal hold {}", data.hold_id),
        Event::EventsRemoved(_) => "the oldest facts of the trail".into(),
        Event::IndexPruned(_) => "the audit index".into(),
        Event::ServiceStarted(_)
        | Event::ServiceStopped(_)
        | Event::TokenIssued(_)
        | Event::TokenRefused(_)
        | Event::RequestsThrottled(_)
        | Event::ApiCallAuthorized(_)
        | Event::SessionStarted(_)
        | Event::SessionEnded(_)
        | Event::ApiCallDenied(_)
        | Event::AuditTrailRead(_)
        | Event::AuditTrailExported(_)
        | Event::ReportProduced(_)
        | Event::EventRemoved(_) => return None,
    })
}

/// What a change consists of, an entry for each attribute; no secret's hash is in it.
pub fn what_changed(event: &Event) -> Vec<String> {
    match event {
        Event::ApplicationRegistered(data) => registered(data),
        Event::ApplicationChanged(data) => data.changes.iter().map(application_change).collect(),
        Event::SecretRotated(data) => {
            let superseded = data
                .superseded
                .iter()
                .map(|old| format!("secret {} accepted until {}", old.id, old.accepted_until));
            [format!("new {}", secret(&data.secret))]
                .into_iter()
                .chain(superseded)
                .collect()
        }
        Event::SecretRevoked(data) => {
            let tokens = if data.revoke_tokens { " with its tokens" } else { "" };
            vec![format!("secret {} revoked{tokens}", data.secret_id)]
        }
        Event::ApplicationDisabled(data) if data.revoke_tokens => vec!["its tokens revoked".into()],
        Event::TokenRevoked(data) => vec![format!("token {} revoked", data.jti)],
        Event::TokensRevoked(data) => vec![format!("all tokens issued until {} revoked", data.issued_until)],
        Event::ReferenceTokenIssued(data) => reference_token(data),
        Event::ReferenceTokenRevoked(data) => vec![format!("reference token {} revoked", data.token_id)],
        Event::ApiRegistered(data) => {
            let scopes = data
                .scopes
                .iter()
                .map(|scope| scope.name.as_str())
                .collect::<Vec<_>>()
                .join(" ");
            let given = [
                Some(format!("name: {}", data.name)),
                (!scopes.is_empty()).then(|| format!("scopes: {scopes}")),
                data.signing_alg.map(|alg| format!("signing_alg: {alg}")),
                data.token_lifetime_seconds
                    .map(|lifetime| format!("token_lifetime_seconds: {}", lifetime.seconds())),
            ];
            given.into_iter().flatten().collect()
        }
        Event::ApiChanged(data) => data.changes.iter().map(api_change).collect(),
        Event::SigningKeyAdded(data) => vec![format!("{} key announced", data.alg)],
        Event::SigningKeyActivated(data) => vec![format!("{} key signs from now on", data.alg)],
        Event::SigningKeyRetired(data) => vec![format!("{} key is no longer published", data.alg)],
        Event::LegalHoldPlaced(data) => {
            let through = data
                .through_index
                .map_or_else(|| "whatever comes".to_owned(), |through| through.to_string());
            vec![format!("from event {} to {through}", data.from_index)]
        }
        Event::EventsRemoved(data) => {
            vec![format!(
                "{} events of {} to {}",
                data.events, data.from_index, data.through_index
            )]
        }
        Event::IndexPruned(data) => vec![format!("nothing is found before event {}", data.through_index)],
        Event::ApplicationEnabled(_)
        | Event::ApplicationDisabled(_)
        | Event::ApplicationDeleted(_)
        | Event::ApiDeleted(_)
        | Event::LegalHoldReleased(_)
        | Event::ServiceStarted(_)
        | Event::ServiceStopped(_)
        | Event::TokenIssued(_)
        | Event::TokenRefused(_)
        | Event::RequestsThrottled(_)
        | Event::ApiCallAuthorized(_)
        | Event::SessionStarted(_)
        | Event::SessionEnded(_)
        | Event::ApiCallDenied(_)
        | Event::AuditTrailRead(_)
        | Event::AuditTrailExported(_)
        | Event::ReportProduced(_)
        | Event::EventRemoved(_) => Vec::new(),
    }
}

fn registered(data: &ApplicationRegistered) -> Vec<String> {
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| texts.join(" "));
    let audiences = data.audiences.iter().map(ToString::to_string).collect();
    let networks = data.allowed_networks.iter().map(ToString::to_string).collect();
    let given = [
        ("name", Some(data.name.to_string())),
        ("scope", Some(data.scope.to_string()).filter(|scope| !scope.is_empty())),
        ("audiences", list(audiences)),
        ("system_user", data.system_user.as_ref().map(ToString::to_string)),
        ("org_code", data.org_code.as_ref().map(ToString::to_string)),
        ("owner", data.owner.as_ref().map(ToString::to_string)),
        ("allowed_networks", list(networks)),
        ("is_enabled", (!data.is_enabled).then(|| "false".to_owned())),
    ];
    let given = given
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    given.chain(data.secret.as_ref().map(secret)).collect()
}

fn reference_token(data: &ReferenceTokenIssued) -> Vec<String> {
    let audiences = data.audiences.iter().map(ToString::to_string).collect::<Vec<_>>();
    let given = [
        Some(format!(
            "new reference token {} ending in {}, expires {}",
            data.token_id, data.hint, data.expires_at
        )),
        Some(format!("description: {}", data.description)),
        (!data.scope.is_empty()).then(|| format!("scope: {}", data.scope)),
        (!audiences.is_empty()).then(|| format!("audiences: {}", audiences.join(" "))),
    ];
    given.into_iter().flatten().collect()
}

fn secret(secret: &IssuedSecret) -> String {
    let hint = secret
        .hint
        .as_ref()
        .map(|hint| format!(" ending in {hint}"))
        .unwrap_or_default();
    let expires = secret
        .expires_at
        .map(|end| format!(", expires {end}"))
        .unwrap_or_default();
    format!("secret {}{hint}{expires}", secret.id)
}

fn application_change(change: &ApplicationChange) -> String {
    from_to(serde_json::to_value(change).unwrap_or_default())
}

fn api_change(change: &ApiChange) -> String {
    from_to(serde_json::to_value(change).unwrap_or_default())
}

/// `{"field": …, "from": …, "to": …}` in words.
fn from_to(change: Value) -> String {
    let field = change.get("field").and_then(Value::as_str).unwrap_or_default();
    let shown = |name: &str| change.get(name).map(value).unwrap_or_default();
    format!("{field}: {} → {}", shown("from"), shown("to"))
}

/// A value for people.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) if text.is_empty() => "none".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join(" "),
        Value::Object(members) if members.is_empty() => "none".into(),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, member)| format!("{name}={}", self::value(member)));
            members.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}
