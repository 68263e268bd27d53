//! Events in the words of the Open Cybersecurity Schema Framework 1.8 (<https://schema.ocsf.io>), one per line.
//!
//! What the schema has no attribute for is in `unmapped`, and so is an event's data, without what is withheld: nothing
//! is lost by the translation. Nothing here depends on the version of the server that exports: the same range
//! gives the same bytes after an upgrade too, as long as this mapping does not change.

use super::ExportError;
use crate::audit::event::AuditEvent;
use crate::audit::withheld::without_secrets;
use crate::event_store::StoredEvent;
use grantlog_projections::audit_record::Outcome;
use grantlog_projections::event::CallReport;
use grantlog_projections::values::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The version of the schema.
pub const SCHEMA_VERSION: &str = "1.8.0";
/// Reports, and is reported on, under this name.
const PRODUCT: &str = "Grantlog";

/// Adds the line of an event.
pub fn write(out: &mut Vec<u8>, stored: &StoredEvent) -> Result<(), ExportError> {
    let event = AuditEvent::read(stored)?;
    let unwritable = |source| ExportError::Unwritable {
        index: stored.index,
        source,
    };
    let data: Map<String, Value> = serde_json::from_str(event.data.get()).map_err(unwritable)?;
    serde_json::to_writer(&mut *out, &translated(&event, &data)).map_err(unwritable)?;
    out.push(b'\n');
    Ok(())
}

/// An event of the schema: the attributes of every class, then those of its own.
#[derive(Serialize)]
struct OcsfEvent<'a> {
    class_uid: u32,
    class_name: &'static str,
    category_uid: u32,
    category_name: &'static str,
    activity_id: u32,
    activity_name: &'static str,
    type_uid: u32,
    type_name: String,
    severity_id: u32,
    severity: &'static str,
    status_id: u32,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'a Value>,
    /// Milliseconds since 1970: the microseconds are in `metadata.original_time`.
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<&'a Value>,
    message: String,
    metadata: Value,
    #[serde(flatten)]
    own: Map<String, Value>,
    unmapped: Unmapped<'a>,
}

#[derive(Serialize)]
struct Unmapped<'a> {
    stream: &'a str,
    revision: u64,
    data: Cow<'a, RawValue>,
}

/// A class of events: its number and name, and its category's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class(u32, &'static str, u32, &'static str);

const AUTHENTICATION: Class = Class(3002, "Authentication", 3, IAM);
const ENTITY_MANAGEMENT: Class = Class(3004, "Entity Management", 3, IAM);
const APPLICATION_LIFECYCLE: Class = Class(6002, "Application Lifecycle", 6, APPLICATION);
const API_ACTIVITY: Class = Class(6003, "API Activity", 6, APPLICATION);
const IAM: &str = "Identity & Access Management";
const APPLICATION: &str = "Application Activity";

/// An activity of a class.
type Activity = (u32, &'static str);

const LOGON: Activity = (1, "Logon");
const LOGOFF: Activity = (2, "Logoff");
const CREATE: Activity = (1, "Create");
const READ: Activity = (2, "Read");
const UPDATE: Activity = (3, "Update");
const DELETE: Activity = (4, "Delete");
const ENABLE: Activity = (8, "Enable");
const DISABLE: Activity = (9, "Disable");
const ACTIVATE: Activity = (10, "Activate");
const DEACTIVATE: Activity = (11, "Deactivate");
const START: Activity = (3, "Start");
const STOP: Activity = (4, "Stop");
const OTHER: Activity = (99, "Other");

/// Which class and activity an event is; `None` for a type that nobody has decided about, which is told as
/// another activity of the server.
fn kind(event_type: &str, data: &Map<String, Value>) -> Option<(Class, Activity)> {
    Some(match event_type {
        "TokenIssued" | "TokenRefused" | "RequestsThrottled" => (AUTHENTICATION, LOGON),
        // A session is a token at work, from its first use on: that is what the schema calls a session, too.
        "SessionStarted" => (AUTHENTICATION, LOGON),
        "SessionEnded" => (AUTHENTICATION, LOGOFF),
        "ApiCallAuthorized" | "ApiCallDenied" => (API_ACTIVITY, activity_of(text(data, "method"))),
        "AuditTrailRead" | "AuditTrailExported" | "ReportProduced" => (API_ACTIVITY, READ),
        "ApplicationRegistered" | "ApiRegistered" | "SecretRotated" | "SigningKeyAdded" | "ReferenceTokenIssued" => {
            (ENTITY_MANAGEMENT, CREATE)
        }
        "ApplicationChanged" | "ApiChanged" => (ENTITY_MANAGEMENT, UPDATE),
        "ApplicationDeleted"
        | "ApiDeleted"
        | "SecretRevoked"
        | "TokenRevoked"
        | "TokensRevoked"
        | "ReferenceTokenRevoked" => (ENTITY_MANAGEMENT, DELETE),
        "ApplicationEnabled" => (ENTITY_MANAGEMENT, ENABLE),
        "ApplicationDisabled" => (ENTITY_MANAGEMENT, DISABLE),
        "SigningKeyActivated" => (ENTITY_MANAGEMENT, ACTIVATE),
        "SigningKeyRetired" => (ENTITY_MANAGEMENT, DEACTIVATE),
        "LegalHoldPlaced" => (ENTITY_MANAGEMENT, CREATE),
        "LegalHoldReleased" | "EventsRemoved" | "IndexPruned" | "EventRemoved" => (ENTITY_MANAGEMENT, DELETE),
        "ServiceStarted" => (APPLICATION_LIFECYCLE, START),
        "ServiceStopped" => (APPLICATION_LIFECYCLE, STOP),
        _ => return None,
    })
}

/// RFC 9110 §9.3: what a method is for.
fn activity_of(method: &str) -> Activity {
    match method {
        "GET" | "HEAD" => READ,
        "POST" => CREATE,
        "PUT" | "PATCH" => UPDATE,
        "DELETE" => DELETE,
        _ => OTHER,
    }
}

fn translated<'a>(event: &'a AuditEvent, data: &'a Map<String, Value>) -> OcsfEvent<'a> {
    let (class, activity) = kind(&event.event_type, data).unwrap_or((APPLICATION_LIFECYCLE, OTHER));
    let Class(class_uid, class_name, category_uid, category_name) = class;
    let (activity_id, activity_name) = activity;
    let (severity_id, severity) = severity(event, data);
    let report = event.report();
    // What the API answered, when it was the API that told of the call (RFC 9110 §15).
    let answer = report.as_ref().and_then(|report| report.status);
    let is_refused = event.outcome == Outcome::Refused;
    let (status_id, status) = match is_refused || answer.is_some_and(|answer| answer >= 400) {
        false => (1, "Success"),
        true => (2, "Failure"),
    };
    let error = data.get("error").map(Cow::Borrowed);
    let message = match &event.client_id {
        Some(client_id) => format!("{}: {client_id}", event.event_type),
        None => event.event_type.clone(),
    };
    OcsfEvent {
        class_uid,
        class_name,
        category_uid,
        category_name,
        activity_id,
        activity_name,
        type_uid: class_uid * 100 + activity_id,
        type_name: format!("{class_name}: {activity_name}"),
        severity_id,
        severity,
        status_id,
        status,
        status_code: error.or_else(|| answer.map(|answer| Cow::Owned(json!(answer.to_string())))),
        status_detail: data.get("reason").filter(|_| is_refused),
        time: milliseconds(report.as_ref().map_or(event.time, |report| report.time)),
        count: data.get("suppressed"),
        message,
        metadata: metadata(event, report.as_ref()),
        own: match class {
            AUTHENTICATION => authentication(event, data),
            ENTITY_MANAGEMENT => entity_management(event, data),
            API_ACTIVITY => api_activity(event, data, report.as_ref()),
            _ => application_lifecycle(event, data),
        },
        unmapped: Unmapped {
            stream: event.stream.as_str(),
            revision: event.revision,
            // These files are for other systems, which have no use for what forwarding withholds from them, too.
            data: without_secrets(event.data.get()).map_or(Cow::Borrowed(&*event.data), Cow::Owned),
        },
    }
}

fn severity(event: &AuditEvent, data: &Map<String, Value>) -> (u32, &'static str) {
    let is_unclean_start = data.get("clean") == Some(&Value::Bool(false));
    match (event.event_type.as_str(), event.outcome) {
        ("RequestsThrottled", _) => (3, "Medium"),
        _ if is_unclean_start => (3, "Medium"),
        (_, Outcome::Refused) => (2, "Low"),
        (_, Outcome::Success) => (1, "Informational"),
    }
}

/// A call that an API has told of has the time that the API gave, and the API as its reporter.
fn metadata(event: &AuditEvent, report: Option<&CallReport>) -> Value {
    let mut metadata = json!({
        "version": SCHEMA_VERSION,
        "product": {"name": PRODUCT, "vendor_name": PRODUCT},
        "uid": event.id,
        "sequence": event.index,
        "event_code": event.event_type,
        "original_time": event.time,
        "log_name": event.stream.as_str(),
    });
    if let (Some(trace_id), Some(metadata)) = (&event.trace_id, metadata.as_object_mut()) {
        metadata.insert("correlation_uid".into(), json!(trace_id));
    }
    if let (Some(report), Some(metadata)) = (report, metadata.as_object_mut()) {
        metadata.insert("original_time".into(), json!(report.time));
        metadata.insert("logged_time".into(), json!(milliseconds(event.time)));
        let reporter = json!({"name": event.actor, "uid": report.reporter_id});
        metadata.insert("reporter".into(), reporter);
    }
    metadata
}

/// Who asked for a token is both the actor and the subject.
fn authentication(event: &AuditEvent, data: &Map<String, Value>) -> Map<String, Value> {
    let mut user = Object::default();
    user.add("name", event.client_id.as_deref().unwrap_or("unknown"));
    user.add_of(data, "uid", "application_id");
    user.add_of(data, "credential_uid", "secret_id");
    user.add("type_id", 4);
    user.add("type", "Service");
    if let Some(org_code) = data.get("org_code") {
        user.add("org", json!({"name": org_code}));
    }
    let mut own = Object::default();
    own.add("user", user.0);
    own.add("service", json!({"name": PRODUCT}));
    own.add("auth_protocol_id", 6);
    own.add("auth_protocol", "OAUTH 2.0");
    own.add("is_remote", true);
    if let Some(jti) = data.get("jti") {
        let expires = data.get("expires_at").or_else(|| data.get("token_expires_at"));
        let expires = expires.and_then(Value::as_str);
        let mut session = session(data, jti);
        session.add("is_remote", true);
        if event.event_type == "SessionEnded" {
            session.add_of(data, "expiration_reason", "reason");
        }
        if let Some(expires) = expires.and_then(|time| Timestamp::parse(time).ok()) {
            session.add("expiration_time", milliseconds(expires));
        }
        own.add("session", session.0);
    }
    // What a flood left has no request, but says where it came from.
    let source = event.source.as_ref().map(|source| json!(source.ip));
    if let Some(ip) = source.or_else(|| data.get("source").cloned()) {
        own.add("src_endpoint", json!({"ip": ip}));
    }
    own.add_user_agent(event);
    own.0
}

/// The session of a token, and while it has none of its own, the token.
fn session(data: &Map<String, Value>, jti: &Value) -> Object {
    let mut session = Object::default();
    match data.get("session_id") {
        Some(session_id) => {
            session.add("uid", session_id);
            session.add("credential_uid", jti);
        }
        None => session.add("uid", jti),
    }
    session
}

fn api_activity(event: &AuditEvent, data: &Map<String, Value>, report: Option<&CallReport>) -> Map<String, Value> {
    let mut own = Object::default();
    own.add("actor", actor(event, data));
    let mut api = Object::default();
    match event.event_type.as_str() {
        "ApiCallAuthorized" | "ApiCallDenied" => {
            api.add("operation", text(data, "method"));
            api.add("service", json!({"name": text(data, "audience")}));
            if let (Some(error), Some(reason)) = (data.get("error"), data.get("reason")) {
                api.add("response", json!({"error": error, "error_message": reason}));
            }
            let mut request = json!({"http_method": text(data, "method"), "url": {"path": text(data, "path")}});
            if let (Some(user_agent), Some(request)) = (event.user_agent(), request.as_object_mut()) {
                request.insert("user_agent".into(), json!(user_agent));
            }
            own.add("http_request", request);
            if let Some(status) = report.and_then(|report| report.status) {
                own.add("http_response", json!({"code": status}));
            }
        }
        other => {
            api.add("operation", other);
            api.add("service", json!({"name": PRODUCT}));
            own.add("resources", json!([{"name": "audit trail", "type": "log"}]));
            own.add_user_agent(event);
        }
    }
    own.add("api", api.0);
    // Required: what has no source is of the server's own doing, or told without.
    let without = || json!({"svc_name": report.map_or(PRODUCT, |_| text(data, "application_uri"))});
    let source = event.address().map(|ip| json!({"ip": ip}));
    own.add("src_endpoint", source.unwrap_or_else(without));
    own.0
}

fn entity_management(event: &AuditEvent, data: &Map<String, Value>) -> Map<String, Value> {
    let secret_id = data.get("secret").and_then(|secret| secret.get("id"));
    let (kind, uid, name) = match event.event_type.as_str() {
        "SecretRotated" => ("Client Secret", secret_id, data.get("application_uri")),
        "SecretRevoked" => ("Client Secret", data.get("secret_id"), data.get("application_uri")),
        "TokenRevoked" => ("Access Token", data.get("jti"), data.get("application_uri")),
        // All that it had: they have no id in common but its own.
        "TokensRevoked" => ("Access Tokens", data.get("application_id"), data.get("application_uri")),
        "ReferenceTokenIssued" | "ReferenceTokenRevoked" => {
            ("Reference Token", data.get("token_id"), data.get("application_uri"))
        }
        "ApiRegistered" | "ApiChanged" | "ApiDeleted" => ("API", data.get("api_id"), data.get("audience")),
        "SigningKeyAdded" | "SigningKeyActivated" | "SigningKeyRetired" => ("Signing Key", data.get("kid"), None),
        "LegalHoldPlaced" | "LegalHoldReleased" => ("Legal Hold", data.get("hold_id"), None),
        "EventsRemoved" | "IndexPruned" | "EventRemoved" => ("Audit Trail", None, None),
        _ => (
            "Trusted Application",
            data.get("application_id"),
            data.get("application_uri"),
        ),
    };
    let mut entity = Object::default();
    entity.add("type", kind);
    entity.add("type_id", 99);
    if let Some(uid) = uid {
        entity.add("uid", uid);
    }
    match name.or(uid) {
        Some(name) => entity.add("name", name),
        // Of name and uid the schema requires one.
        None => entity.add("name", kind),
    }
    let mut own = Object::default();
    own.add("entity", entity.0);
    own.add("actor", actor(event, data));
    own.add_of(data, "comment", "description");
    own.add_of(data, "comment", "reason");
    if let Some(source) = source(event) {
        own.add("src_endpoint", source);
    }
    own.add_user_agent(event);
    own.0
}

fn application_lifecycle(event: &AuditEvent, data: &Map<String, Value>) -> Map<String, Value> {
    let mut app = Object::default();
    app.add("name", PRODUCT);
    app.add("vendor_name", PRODUCT);
    app.add_of(data, "version", "version");
    let mut own = Object::default();
    own.add("app", app.0);
    own.add("actor", actor(event, data));
    own.0
}

/// Who asked, as a user of the schema. Of a call that an API has told of that is whoever called the API.
fn actor(event: &AuditEvent, data: &Map<String, Value>) -> Value {
    let name = match (&event.client_id, data.contains_key("report")) {
        (client_id, true) => json!(client_id.as_deref().unwrap_or("anonymous")),
        (_, false) => json!(event.actor),
    };
    let (type_id, kind) = match name.as_str() {
        Some("system") => (3, "System"),
        Some("anonymous") | None => (0, "Unknown"),
        Some(operator) if operator.starts_with("operator:") => (2, "Admin"),
        Some(_) => (4, "Service"),
    };
    let mut actor = json!({"user": {"name": name, "type_id": type_id, "type": kind}});
    // A token that is revoked is another's than the one who revokes it used.
    let jti = data.get("jti").filter(|_| event.event_type != "TokenRevoked");
    if let (Some(jti), Some(actor)) = (jti, actor.as_object_mut()) {
        actor.insert("session".into(), json!(session(data, jti).0));
    }
    actor
}

fn source(event: &AuditEvent) -> Option<Value> {
    event.source.as_ref().map(|source| json!({"ip": source.ip}))
}

fn user_agent(event: &AuditEvent) -> Option<&str> {
    event.source.as_ref()?.user_agent.as_deref()
}

fn text<'a>(data: &'a Map<String, Value>, name: &str) -> &'a str {
    data.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn milliseconds(time: Timestamp) -> i64 {
    time.unix_micros().div_euclid(1_000)
}

/// An object that is put together member by member.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn add(&mut self, name: &str, value: impl Serialize) {
        // Texts, numbers and trees of them are always JSON.
        self.0.insert(name.to_owned(), json!(value));
    }

    /// A member of the data under another name, where it is there.
    fn add_of(&mut self, data: &Map<String, Value>, name: &str, member: &str) {
        if let Some(value) = data.get(member) {
            self.add(name, value);
        }
    }

    fn add_user_agent(&mut self, event: &AuditEvent) {
        if let Some(user_agent) = user_agent(event) {
            self.add("http_request", json!({"user_agent": user_agent}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::withheld::WITHHELD;
    use grantlog_projections::Event;

    /// The events of the golden files.
    fn golden() -> Vec<Value> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let stored = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| std::fs::read(path).unwrap())
            .filter(|bytes| serde_json::from_slice::<Value>(bytes).is_ok_and(|event| event.get("stream").is_some()));
        let translate = |(index, bytes): (usize, Vec<u8>)| {
            let stored = StoredEvent {
                index: index as u64,
                revision: 1,
                bytes: bytes.into(),
            };
            let mut out = Vec::new();
            write(&mut out, &stored).unwrap();
            serde_json::from_slice(&out).unwrap()
        };
        stored.enumerate().map(translate).collect()
    }

    #[test]
    fn it_is_decided_of_every_type_what_it_is() {
        for event_type in Event::TYPES {
            assert!(kind(event_type, &Map::new()).is_some(), "{event_type}");
        }
        assert_eq!(kind("NeverHappened", &Map::new()), None);
    }

    #[test]
    fn every_event_has_what_its_class_requires() {
        let mut seen = Vec::new();
        for event in golden() {
            let class = event["class_uid"].as_u64().unwrap();
            let activity = event["activity_id"].as_u64().unwrap();
            assert_eq!(event["type_uid"], class * 100 + activity, "{event}");
            assert_eq!(event["category_uid"], class / 1000, "{event}");
            let required: &[&str] = match class {
                3002 => &["user", "service"],
                3004 => &["entity"],
                6002 => &["app"],
                6003 => &["actor", "api", "src_endpoint"],
                other => panic!("{other}"),
            };
            for name in ["time", "severity_id", "metadata"].iter().chain(required) {
                assert!(!event[name].is_null(), "{name}: {event}");
            }
            assert_eq!(event["metadata"]["version"], "1.8.0");
            seen.push(event["metadata"]["event_code"].as_str().unwrap().to_owned());
        }
        for event_type in Event::TYPES {
            assert!(
                seen.iter().any(|seen| seen == event_type),
                "{event_type} has no golden file"
            );
        }
    }

    /// The line of one golden file.
    fn of_file(file: &str) -> Value {
        let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
        let stored = StoredEvent {
            index: 7,
            revision: 0,
            bytes: std::fs::read(path).unwrap().trim_ascii_end().into(),
        };
        let mut out = Vec::new();
        write(&mut out, &stored).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn hashes_of_secrets_and_sealed_keys_are_withheld() {
        let registered = of_file("ApplicationRegistered.json");
        assert_eq!(registered["unmapped"]["data"]["secret"]["hash"], WITHHELD);
        let added = of_file("SigningKeyAdded.json");
        assert_eq!(added["unmapped"]["data"]["sealed_private_key"], WITHHELD);
    }

    #[test]
    fn a_session_begins_with_a_logon_and_ends_with_a_logoff() {
        let (started, ended) = (of_file("SessionStarted.json"), of_file("SessionEnded.json"));
        assert_eq!(
            (&started["type_uid"], &ended["type_uid"]),
            (&json!(300_201), &json!(300_202))
        );
        assert_eq!(started["session"]["uid"], ended["session"]["uid"]);
        assert_eq!(started["session"]["credential_uid"], started["unmapped"]["data"]["jti"]);
        assert_eq!(ended["session"]["expiration_reason"], "revoked");
        assert_eq!(ended["status_id"], 1);
        let call = of_file("ApiCallAuthorized.session.json");
        assert_eq!(
            call["actor"]["session"],
            json!({
                "uid": started["session"]["uid"], "credential_uid": call["unmapped"]["data"]["jti"]
            })
        );
        let before = of_file("ApiCallAuthorized.json");
        assert_eq!(
            before["actor"]["session"],
            json!({"uid": before["unmapped"]["data"]["jti"]})
        );
    }

    #[test]
    fn a_call_that_an_api_told_of_is_of_its_caller_at_its_time_with_what_the_api_answered() {
        let call = of_file("ApiCallAuthorized.reported.json");
        assert_eq!(call["actor"]["user"]["name"], "my.trusted.app/service");
        assert_eq!(call["src_endpoint"]["ip"], "192.0.2.9");
        assert_eq!(call["http_request"]["user_agent"], "reports/2");
        assert_eq!(call["http_response"]["code"], 200);
        assert_eq!(call["time"], 1_773_653_399_500_i64);
        assert_eq!(call["metadata"]["original_time"], "2026-03-16T09:29:59.500000Z");
        assert_eq!(call["metadata"]["logged_time"], 1_773_653_400_000_i64);
        assert_eq!(call["metadata"]["reporter"]["name"], "grantlog.admin");
        assert_eq!((&call["status_id"], &call["status_code"]), (&json!(1), &json!("200")));
        let refused = of_file("ApiCallDenied.reported.json");
        assert_eq!(refused["http_response"]["code"], 403);
        assert_eq!(
            (&refused["status_id"], &refused["status_code"]),
            (&json!(2), &json!("insufficient_scope"))
        );
        assert_eq!(refused["status_detail"], "refused_by_api");
        // Without a source the schema still wants one.
        let bare = of_file("ApiCallAuthorized.reported.minimal.json");
        assert_eq!(bare["src_endpoint"], json!({"svc_name": "my.trusted.app/service"}));
        assert_eq!((&bare["status_id"], &bare["status_code"]), (&json!(1), &Value::Null));
    }

    #[test]
    fn a_call_that_its_api_answered_with_an_error_has_failed() {
        let path = format!(
            "{}/tests/golden/ApiCallAuthorized.reported.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(path).unwrap();
        for (status, status_id) in [(200, 1), (304, 1), (399, 1), (400, 2), (503, 2)] {
            let stored = StoredEvent {
                index: 7,
                revision: 0,
                bytes: text
                    .trim_end()
                    .replace(r#""status":200"#, &format!(r#""status":{status}"#))
                    .into_bytes()
                    .into(),
            };
            let mut out = Vec::new();
            write(&mut out, &stored).unwrap();
            let event: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(event["status_id"], status_id, "{status}");
            assert_eq!(event["severity_id"], 1);
        }
    }

    #[test]
    fn what_was_revoked_is_an_entity_that_is_gone() {
        for (file, kind, uid) in [
            ("TokenRevoked.json", "Access Token", "jti"),
            ("TokensRevoked.json", "Access Tokens", "application_id"),
            ("ReferenceTokenRevoked.json", "Reference Token", "token_id"),
            ("SecretRevoked.revoke_tokens.json", "Client Secret", "secret_id"),
        ] {
            let event = of_file(file);
            assert_eq!(event["type_uid"], 300_404, "{file}");
            assert_eq!(event["entity"]["type"], kind);
            assert_eq!(event["entity"]["uid"], event["unmapped"]["data"][uid]);
            assert_eq!(event["comment"], "asked for by the owner");
            assert!(
                event["actor"]["session"].is_null(),
                "whoever revokes a token does not call with it"
            );
        }
        let made = of_file("ReferenceTokenIssued.json");
        assert_eq!(
            (&made["type_uid"], &made["comment"]),
            (&json!(300_401), &json!("the nightly import"))
        );
    }

    #[test]
    fn a_granted_token_is_a_logon_and_a_refused_one_a_failed_logon() {
        let events = golden();
        let of = |event_type: &str| {
            events
                .iter()
                .find(|event| event["metadata"]["event_code"] == event_type)
                .unwrap()
        };
        let issued = of("TokenIssued");
        assert_eq!(
            (&issued["type_uid"], &issued["status_id"]),
            (&json!(300_201), &json!(1))
        );
        assert_eq!(issued["user"]["name"], "my.trusted.app/service");
        assert_eq!(issued["unmapped"]["data"]["application_uri"], "my.trusted.app/service");
        let refused = of("TokenRefused");
        assert_eq!(
            (&refused["type_uid"], &refused["status_id"]),
            (&json!(300_201), &json!(2))
        );
        assert_eq!(refused["severity_id"], 2);
    }
}
