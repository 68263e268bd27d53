//! Events in the words of the Open Cybersecurity Schema Framework 1.8 (<https://schema.ocsf.io>), one per line.
//!
//! What the schema has no attribute for is in `unmapped`, and so is the whole of an event's data, verbatim: nothing
//! is lost by the translation. Nothing here depends on the version of the server that exports: the same range
//! gives the same bytes after an upgrade too, as long as this mapping does not change.

use super::ExportError;
use crate::audit::event::AuditEvent;
use crate::event_store::StoredEvent;
use grantlog_projections::audit_record::Outcome;
use grantlog_projections::values::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

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
    status_code: Option<&'a Value>,
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
    data: &'a RawValue,
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
        "ApiCallAuthorized" | "ApiCallDenied" => (API_ACTIVITY, activity_of(text(data, "method"))),
        "AuditTrailRead" | "AuditTrailExported" | "ReportProduced" => (API_ACTIVITY, READ),
        "ApplicationRegistered" | "ApiRegistered" | "SecretRotated" | "SigningKeyAdded" => (ENTITY_MANAGEMENT, CREATE),
        "ApplicationChanged" | "ApiChanged" => (ENTITY_MANAGEMENT, UPDATE),
        "ApplicationDeleted" | "ApiDeleted" | "SecretRevoked" => (ENTITY_MANAGEMENT, DELETE),
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
    let (status_id, status) = match event.outcome {
        Outcome::Success => (1, "Success"),
        Outcome::Refused => (2, "Failure"),
    };
    let is_refused = event.outcome == Outcome::Refused;
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
        status_code: data.get("error"),
        status_detail: data.get("reason").filter(|_| is_refused),
        time: milliseconds(event.time),
        count: data.get("suppressed"),
        message,
        metadata: metadata(event),
        own: match class {
            AUTHENTICATION => authentication(event, data),
            ENTITY_MANAGEMENT => entity_management(event, data),
            API_ACTIVITY => api_activity(event, data),
            _ => application_lifecycle(event, data),
        },
        unmapped: Unmapped {
            stream: event.stream.as_str(),
            revision: event.revision,
            data: &event.data,
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

fn metadata(event: &AuditEvent) -> Value {
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
        let expires = data.get("expires_at").and_then(Value::as_str);
        let mut session = Object::default();
        session.add("uid", jti);
        session.add("is_remote", true);
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

fn api_activity(event: &AuditEvent, data: &Map<String, Value>) -> Map<String, Value> {
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
            if let (Some(user_agent), Some(request)) = (user_agent(event), request.as_object_mut()) {
                request.insert("user_agent".into(), json!(user_agent));
            }
            own.add("http_request", request);
        }
        other => {
            api.add("operation", other);
            api.add("service", json!({"name": PRODUCT}));
            own.add("resources", json!([{"name": "audit trail", "type": "log"}]));
            own.add_user_agent(event);
        }
    }
    own.add("api", api.0);
    // Required: what has no source is of the server's own doing.
    own.add(
        "src_endpoint",
        source(event).unwrap_or_else(|| json!({"svc_name": PRODUCT})),
    );
    own.0
}

fn entity_management(event: &AuditEvent, data: &Map<String, Value>) -> Map<String, Value> {
    let secret_id = data.get("secret").and_then(|secret| secret.get("id"));
    let (kind, uid, name) = match event.event_type.as_str() {
        "SecretRotated" => ("Client Secret", secret_id, data.get("application_uri")),
        "SecretRevoked" => ("Client Secret", data.get("secret_id"), data.get("application_uri")),
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

/// Who asked, as a user of the schema.
fn actor(event: &AuditEvent, data: &Map<String, Value>) -> Value {
    let name = json!(event.actor);
    let (type_id, kind) = match name.as_str() {
        Some("system") => (3, "System"),
        Some("anonymous") | None => (0, "Unknown"),
        Some(operator) if operator.starts_with("operator:") => (2, "Admin"),
        Some(_) => (4, "Service"),
    };
    let mut actor = json!({"user": {"name": name, "type_id": type_id, "type": kind}});
    if let (Some(jti), Some(actor)) = (data.get("jti"), actor.as_object_mut()) {
        actor.insert("session".into(), json!({"uid": jti}));
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
