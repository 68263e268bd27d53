//! Events of the audit trail as rows of a table.

use crate::cli::table::time;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Characters of a value of which nobody here knows what it means.
const MAX_UNKNOWN_CHARS: usize = 80;

/// One event, as the audit API gives it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditEvent {
    /// Its place in the log.
    pub index: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When.
    pub time: String,
    /// Who asked.
    pub actor: String,
    /// Where that came from.
    pub source: Option<Source>,
    /// The application that it is about.
    pub client_id: Option<String>,
    /// `success` or `refused`.
    pub outcome: String,
    /// The rest, as stored.
    pub data: Map<String, Value>,
}

/// Where a request came from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Source {
    /// Its address.
    pub ip: String,
}

impl AuditEvent {
    /// When, for a table.
    pub fn time(&self) -> String {
        time(&self.time).into_owned()
    }

    /// Where from, for a table.
    pub fn source(&self) -> String {
        self.source.as_ref().map(|source| source.ip.clone()).unwrap_or_default()
    }

    /// What exactly happened, in a line, or one for each changed attribute.
    pub fn what(&self) -> String {
        let text = |name: &str| self.data.get(name).map(value).unwrap_or_default();
        let mut what = match &*self.event_type {
            "ApplicationRegistered" => {
                let system_user = text("system_user");
                let scope = text("scope");
                joined([
                    named("scope", &scope),
                    named("system user", &system_user),
                    named("owner", &text("owner")),
                ])
            }
            "ApplicationChanged" | "ApiChanged" => self.changes(),
            "ApiRegistered" | "ApiDeleted" => text("audience"),
            "SecretRotated" => self.rotation(),
            "SecretRevoked" => joined([
                format!("secret {}", text("secret_id")),
                self.with_its_tokens().to_owned(),
            ]),
            "TokenRevoked" => format!("token {}", text("jti")),
            "TokensRevoked" => format!("all tokens until {}", time(&text("issued_until"))),
            "ReferenceTokenIssued" => joined([
                format!("reference token …{}", text("hint")),
                named("scope", &text("scope")),
                named("for", &text("audiences")),
                format!("until {}", time(&text("expires_at"))),
                text("description").replace('\n', " "),
            ]),
            "ReferenceTokenRevoked" => format!("reference token {}", text("token_id")),
            "SessionStarted" => joined([
                format!("session {}", text("session_id")),
                named("as", &text("system_user")),
            ]),
            "SessionEnded" => return format!("session {}: {}", text("session_id"), text("reason")),
            "SigningKeyAdded" | "SigningKeyActivated" | "SigningKeyRetired" => {
                format!("{} {}", text("kid"), text("alg"))
            }
            "TokenIssued" => joined([
                named("scope", &text("scope")),
                named("for", &text("audiences")),
                named("as", &text("system_user")),
            ]),
            "TokenRefused" => {
                let detail = text("detail");
                let reason = format!("{}: {}", text("error"), text("reason"));
                return if detail.is_empty() {
                    reason
                } else {
                    format!("{reason} ({detail})")
                };
            }
            "RequestsThrottled" => {
                format!("{} more failures in {} s", text("suppressed"), text("window_seconds"))
            }
            "ApiCallAuthorized" => joined([format!("{} {}", text("method"), text("path")), self.answered()]),
            "ApiCallDenied" => {
                let denied = format!("{} {}: {}", text("method"), text("path"), text("reason"));
                return joined([denied, self.answered()]);
            }
            "AuditTrailRead" => {
                let filter = text("filter");
                let what = match text("via").as_str() {
                    "" => format!("{} events", text("rows")),
                    via => via.to_owned(),
                };
                joined([what, named("filter", &filter)])
            }
            "AuditTrailExported" => {
                let range = format!(
                    "{} from {} to {}",
                    text("format"),
                    text("from_index"),
                    text("through_index")
                );
                joined([range, named("filter", &text("filter"))])
            }
            "LegalHoldPlaced" => joined([
                format!("hold {}", text("hold_id")),
                // The index after the last one of the range.
                match self.data.get("through_index").and_then(Value::as_u64) {
                    Some(end) => format!("from {} through {}", text("from_index"), end.saturating_sub(1)),
                    None => format!("from {} on", text("from_index")),
                },
            ]),
            "LegalHoldReleased" => format!("hold {} released", text("hold_id")),
            "EventsRemoved" => format!(
                "{} events from {} to {}, by {}",
                text("events"),
                text("from_index"),
                text("through_index"),
                text("rule")
            ),
            "IndexPruned" => format!("searches begin at {}, by {}", text("through_index"), text("rule")),
            "EventRemoved" => "removed".to_owned(),
            "ReportProduced" => joined([
                format!("{} as {}", text("report"), text("format")),
                named("parameters", &text("parameters")),
            ]),
            "ServiceStarted" => {
                let unclean = self.data.get("clean") == Some(&Value::Bool(false));
                let after = if unclean {
                    ", after a stop that was not clean"
                } else {
                    ""
                };
                let what = format!("version {}, store {}{after}", text("version"), text("store"));
                joined([what, named("node", &text("node"))])
            }
            "ServiceStopped" => joined([format!("version {}", text("version")), named("node", &text("node"))]),
            "ApplicationDisabled" => self.with_its_tokens().to_owned(),
            "ApplicationEnabled" | "ApplicationDeleted" => String::new(),
            // A newer server's: everything that fits in a line.
            _ => return self.unknown(),
        };
        let reason = text("reason");
        if !reason.is_empty() {
            let separator = if what.is_empty() { "" } else { "\n" };
            // Writing to a string does not fail.
            let _ = write!(what, "{separator}reason: {}", reason.replace('\n', " "));
        }
        what
    }

    fn with_its_tokens(&self) -> &'static str {
        match self.data.get("revoke_tokens") {
            Some(Value::Bool(true)) => "with its tokens",
            _ => "",
        }
    }

    /// What the API answered, when it was the API that told of the call.
    fn answered(&self) -> String {
        let status = self.data.get("report").and_then(|report| report.get("status"));
        named("the API answered", &status.map(value).unwrap_or_default())
    }

    fn changes(&self) -> String {
        let changes = self
            .data
            .get("changes")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let lines = changes.iter().map(|change| {
            let part = |name: &str| change.get(name).map_or_else(|| "?".into(), value);
            let [from, to] = ["from", "to"]
                .map(part)
                .map(|text| if text.is_empty() { "none".into() } else { text });
            format!("{}: {from} → {to}", part("field")).replace('\n', " ")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn rotation(&self) -> String {
        let hint = self.data.get("secret").and_then(|secret| secret.get("hint")).map(value);
        let mut what = match hint {
            Some(hint) if !hint.is_empty() => format!("new secret …{hint}"),
            _ => "new secret".to_owned(),
        };
        let superseded = self.data.get("superseded").and_then(Value::as_array);
        for old in superseded.map(Vec::as_slice).unwrap_or_default() {
            let until = old.get("accepted_until").map(value).unwrap_or_default();
            let _ = write!(what, "\nan older one until {}", time(&until));
        }
        what
    }

    fn unknown(&self) -> String {
        let shown = self
            .data
            .iter()
            .filter(|(_, value)| !value.is_object())
            .map(|(name, member)| {
                let text = value(member);
                let mut text = text.replace('\n', " ");
                if let Some((cut, _)) = text.char_indices().nth(MAX_UNKNOWN_CHARS) {
                    text.truncate(cut);
                    text.push('…');
                }
                format!("{name}={text}")
            });
        shown.collect::<Vec<_>>().join(" ")
    }
}

/// A JSON value as people write it.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            // A scope that an API defines is known by its name.
            if let Some(Value::String(name)) = members.get("name") {
                return name.clone();
            }
            members
                .iter()
                .map(|(name, member)| format!("{name}={}", self::value(member)))
                .collect::<Vec<_>>()
                .join(", ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn named(name: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{name} {text}")
    }
}

fn joined<const N: usize>(parts: [String; N]) -> String {
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn what(event_type: &str, data: Value) -> String {
        let event: AuditEvent = serde_json::from_value(json!({ "type": event_type, "data": data })).unwrap();
        event.what()
    }

    #[test]
    fn a_change_shows_old_and_new_value_of_each_attribute() {
        let data = json!({ "changes": [
            { "field": "scope", "from": "read", "to": "read update" },
            { "field": "org_code", "from": "acme", "to": null },
            { "field": "audiences", "from": [], "to": ["a", "b"] },
            { "field": "properties", "from": {}, "to": { "k": "v" } },
            { "field": "scopes", "from": [{ "name": "read", "description": "Reading" }], "to": [] },
        ], "reason": "ticket 7\nand more" });
        assert_eq!(
            what("ApplicationChanged", data),
            "scope: read → read update\norg_code: acme → none\naudiences: none → a, b\nproperties: none → k=v\n\
             scopes: read → none\nreason: ticket 7 and more"
        );
    }

    #[test]
    fn a_refusal_shows_the_code_and_the_true_reason() {
        let data = json!({ "error": "invalid_client", "reason": "secret_mismatch", "dialect": "standard" });
        assert_eq!(what("TokenRefused", data), "invalid_client: secret_mismatch");
        let data = json!({ "error": "invalid_scope", "reason": "scope_not_allowed", "detail": "admin" });
        assert_eq!(what("TokenRefused", data), "invalid_scope: scope_not_allowed (admin)");
    }

    #[test]
    fn a_rotation_shows_until_when_the_old_secrets_are_accepted() {
        let data = json!({ "secret": { "id": "x", "hint": "ab12" },
            "superseded": [{ "id": "y", "accepted_until": "2026-03-17T10:00:00.5Z" }] });
        assert_eq!(
            what("SecretRotated", data),
            "new secret …ab12\nan older one until 2026-03-17T10:00:00Z"
        );
    }

    #[test]
    fn an_event_that_nobody_here_knows_shows_what_it_has() {
        let data = json!({ "session_id": "s", "count": 3, "long": "x".repeat(200), "nested": { "a": 1 } });
        assert_eq!(
            what("SessionForgotten", data),
            format!("count=3 long={}… session_id=s", "x".repeat(80))
        );
    }

    #[test]
    fn a_hold_shows_its_id_and_its_range_and_how_it_ended() {
        let hold =
            |through: Value| json!({ "hold_id": "h", "from_index": 12, "through_index": through, "reason": "case 7" });
        assert_eq!(
            what("LegalHoldPlaced", hold(json!(16))),
            "hold h, from 12 through 15\nreason: case 7"
        );
        assert_eq!(
            what("LegalHoldPlaced", hold(Value::Null)),
            "hold h, from 12 on\nreason: case 7"
        );
        assert_eq!(what("LegalHoldReleased", json!({ "hold_id": "h" })), "hold h released");
    }

    #[test]
    fn a_revocation_shows_what_opens_nothing_any_more_and_why() {
        let data = json!({ "jti": "j", "reason": "leaked" });
        assert_eq!(what("TokenRevoked", data), "token j\nreason: leaked");
        let data = json!({ "issued_until": "2026-03-17T10:00:00.5Z", "reason": "leaked" });
        assert_eq!(
            what("TokensRevoked", data),
            "all tokens until 2026-03-17T10:00:00Z\nreason: leaked"
        );
        let data = json!({ "secret_id": "s", "reason": "leaked", "revoke_tokens": true });
        assert_eq!(what("SecretRevoked", data), "secret s, with its tokens\nreason: leaked");
        let data = json!({ "revoke_tokens": true });
        assert_eq!(what("ApplicationDisabled", data), "with its tokens");
        assert_eq!(
            what("ReferenceTokenRevoked", json!({ "token_id": "t" })),
            "reference token t"
        );
    }

    #[test]
    fn a_reference_token_shows_what_it_opens_and_what_it_is_for_and_not_its_hash() {
        let data = json!({ "token_id": "t", "hash": "CQkJ", "hint": "Qz7k", "scope": "read", "audiences": ["a", "b"],
            "expires_at": "2027-03-16T09:30:00.000000Z", "description": "the nightly\nimport" });
        assert_eq!(
            what("ReferenceTokenIssued", data),
            "reference token …Qz7k, scope read, for a, b, until 2027-03-16T09:30:00Z, the nightly import"
        );
    }

    #[test]
    fn a_session_shows_whose_it_is_and_why_it_ended() {
        let data = json!({ "session_id": "s", "jti": "j", "system_user": "svc" });
        assert_eq!(what("SessionStarted", data), "session s, as svc");
        let data = json!({ "session_id": "s", "jti": "j", "reason": "idle" });
        assert_eq!(what("SessionEnded", data), "session s: idle");
    }

    #[test]
    fn a_call_that_an_api_told_of_shows_what_the_api_answered() {
        let call =
            |report: Value| json!({ "method": "GET", "path": "/x", "reason": "refused_by_api", "report": report });
        let answered = json!({ "id": "i", "status": 403 });
        assert_eq!(
            what("ApiCallDenied", call(answered.clone())),
            "GET /x: refused_by_api, the API answered 403"
        );
        let data = json!({ "method": "GET", "path": "/x", "report": answered });
        assert_eq!(what("ApiCallAuthorized", data), "GET /x, the API answered 403");
        assert_eq!(
            what("ApiCallDenied", call(json!({ "id": "i" }))),
            "GET /x: refused_by_api"
        );
        assert_eq!(
            what("ApiCallAuthorized", json!({ "method": "GET", "path": "/x" })),
            "GET /x"
        );
    }

    #[test]
    fn every_type_of_event_is_shown_by_what_it_says() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        for event_type in grantlog_projections::Event::TYPES {
            let file = std::fs::read_to_string(format!("{golden}/{event_type}.json")).unwrap();
            let event: AuditEvent = serde_json::from_str(&file).unwrap();
            assert_ne!(event.what(), event.unknown(), "{event_type} has no words of its own");
            assert!(!event.what().contains("CQkJCQ"), "no hash is shown");
        }
    }

    #[test]
    fn an_event_without_anything_is_an_empty_row() {
        for event_type in ["ApplicationDisabled", "TokenIssued", "ApplicationChanged", ""] {
            assert_eq!(what(event_type, json!({})), "");
        }
    }
}
