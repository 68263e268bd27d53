//! Whether what a server serves is what its log says: the projections folded from zero, and a naive search.

use crate::log::Log;
use crate::random::Random;
use crate::running_server::Administrator;
use crate::scene::Scene;
use grantlog::service::snapshot::{Changed, Snapshot};
use grantlog::startup;
use grantlog_projections::audit_record::{AuditRecord, Outcome};
use grantlog_projections::key_ring::KeyState;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::{Event, RecordedEvent};
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// What the audit index is behind after a start it catches up with in much less.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log, folded from zero.
pub fn folded(log: &Log) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut changed = Changed::default();
    log.events
        .iter()
        .for_each(|recorded| snapshot.apply(recorded, &mut changed));
    snapshot
}

/// Compares applications, APIs and keys with what the admin API shows.
pub async fn compare_state(administrator: &Administrator, folded: &Snapshot) {
    let mut shown = pages(administrator, "/admin/applications?limit=1000", "applications").await;
    for application in folded
        .directory
        .applications_after(None)
        .filter(|application| !application.is_deleted())
    {
        let id = application.id.to_string();
        let at = shown.iter().position(|shown| shown["id"] == id.as_str());
        let listed = shown.swap_remove(at.unwrap_or_else(|| panic!("{} is not listed", application.uri)));
        assert_shows_application(&listed, application);
    }
    assert!(shown.is_empty(), "the log does not know {shown:?}");

    let mut shown = pages(administrator, "/admin/apis?limit=1000", "apis").await;
    for api in folded.directory.apis_after(None).filter(|api| !api.is_deleted()) {
        let at = shown
            .iter()
            .position(|shown| shown["audience"] == api.audience.as_str());
        let listed = shown.swap_remove(at.unwrap_or_else(|| panic!("{} is not listed", api.audience)));
        assert_shows(&listed, &**api, &[]);
    }
    assert!(shown.is_empty(), "the log does not know {shown:?}");

    let (status, shown) = administrator.get("/admin/signing-keys").await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    let keys: Vec<_> = folded.key_ring.keys().collect();
    assert_eq!(shown["keys"].as_array().expect("keys").len(), keys.len(), "{shown}");
    for (shown, key) in shown["keys"].as_array().expect("keys").iter().zip(&keys) {
        assert_shows(shown, &***key, &["sealed_private_key"]);
    }
    let (_, published) = administrator.get("/.well-known/jwks.json").await;
    let published: Vec<_> = published["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|jwk| jwk["kid"].clone())
        .collect();
    let expected: Vec<_> = keys
        .iter()
        .filter(|key| !matches!(key.state, KeyState::Retired { .. }))
        .collect();
    assert_eq!(
        published,
        expected
            .iter()
            .map(|key| Value::from(key.kid.as_str()))
            .collect::<Vec<_>>()
    );
}

/// One application in full, the one that the list shows too.
pub async fn compare_application(administrator: &Administrator, folded: &Snapshot, random: &mut Random) {
    let all: Vec<_> = folded.directory.applications_after(None).collect();
    let application = random.pick(&all);
    let (status, shown) = administrator
        .get(&format!("/admin/applications/{}", application.id))
        .await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_shows_application(&shown, application);
}

fn assert_shows_application(shown: &Value, application: &TrustedApplication) {
    assert_shows(shown, application, &["uri", "secrets"]);
    assert_eq!(shown["client_id"], application.uri.as_str());
    let secrets = shown["secrets"].as_array().expect("secrets");
    assert_eq!(secrets.len(), application.secrets.len(), "{shown}");
    for (shown, secret) in secrets.iter().zip(&application.secrets) {
        assert_shows(shown, secret, &["hash"]);
    }
}

/// Everything in the state is shown as it is, but for these.
fn assert_shows(shown: &Value, state: &impl Serialize, but: &[&str]) {
    let state: Map<String, Value> = serde_json::from_value(serde_json::to_value(state).expect("JSON")).expect("fields");
    for (name, value) in state.iter().filter(|(name, _)| !but.contains(&name.as_str())) {
        assert_eq!(&shown[name], value, "{name} of {shown}");
    }
}

async fn pages(administrator: &Administrator, path: &str, name: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let (status, mut page) = administrator.get(&format!("{path}{after}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        all.append(page[name].as_array_mut().expect(name));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", percent_encoding::utf8_percent_encode(next, ESCAPED)),
            None => return all,
        }
    }
}

const ESCAPED: &percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC;

/// Builds the saved projections anew with the library and compares them, as `grantlog rebuild` does.
pub async fn compare_saved(scene: &Scene) {
    let (state, usage, index) = startup::rebuild(&scene.config(), |_, _| {}).await.expect("a rebuild");
    assert!(state.differences.is_empty(), "{:?}", state.differences);
    assert!(usage.differences.is_empty(), "{:?}", usage.differences);
    assert_eq!(index.difference, None);
}

/// Waits until the state is saved: a save begins with the start, and takes its time.
pub async fn saved(scene: &Scene) {
    let begun = Instant::now();
    loop {
        let rebuilt = startup::rebuild(&scene.config(), |_, _| {}).await;
        if rebuilt.is_ok_and(|(state, ..)| state.is_compared) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the state is not saved");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until state and index have read the whole log, and the server is ready.
pub async fn caught_up(administrator: &Administrator) {
    caught_up_but(administrator, None).await;
}

/// The same of a server that is not ready, for one reason that says this.
pub async fn caught_up_but(administrator: &Administrator, reason: Option<&str>) {
    let begun = Instant::now();
    loop {
        let (status, readiness) = administrator.get("/health/ready").await;
        let (size, state, index) = (
            &readiness["log_size"],
            &readiness["state_through"],
            &readiness["indexed_through"],
        );
        let is_expected = match (reason, readiness["reasons"].as_array().map(Vec::as_slice)) {
            (None, Some([])) => status == StatusCode::OK,
            (Some(reason), Some([told])) => {
                status == StatusCode::SERVICE_UNAVAILABLE && told.as_str().is_some_and(|told| told.contains(reason))
            }
            _ => false,
        };
        if is_expected && size == state && size == index {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "not caught up after {PATIENCE:?}: {readiness}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One search by an application, newest first, against the log.
pub async fn compare_search(administrator: &Administrator, log: &Log, client_id: &str, limit: usize) {
    let query = format!("client_id={client_id}&limit={limit}");
    let (status, page) = administrator.get(&format!("/audit/events?{query}")).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let found: Vec<u64> = page["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(index_of)
        .collect();
    let naive = log
        .events
        .iter()
        .rev()
        .filter(|recorded| AuditRecord::from(*recorded).client_id == Some(client_id));
    let naive: Vec<u64> = naive.map(|recorded| recorded.index).take(limit).collect();
    assert_eq!(found, naive, "{query}");
}

type Matches<'a> = Box<dyn Fn(&AuditRecord<'_>) -> bool + 'a>;

/// Many searches, to their last page, against a scan of the log.
pub async fn compare_searches(administrator: &Administrator, log: &Log, client_ids: &[&str]) {
    let mut searches: Vec<(String, Matches<'_>)> = vec![
        (String::new(), Box::new(|_| true)),
        (
            "outcome=refused".into(),
            Box::new(|record| record.outcome == Outcome::Refused),
        ),
        ("source_ip=127.0.0.1&type=TokenRefused".into(), {
            Box::new(|record| record.source_ip.is_some() && record.event_type == "TokenRefused")
        }),
    ];
    for client_id in client_ids {
        searches.push((
            format!("client_id={client_id}"),
            Box::new(|record| record.client_id == Some(*client_id)),
        ));
        let issued = format!("client_id={client_id}&type=TokenIssued&outcome=success");
        searches.push((
            issued,
            Box::new(|record| record.client_id == Some(*client_id) && is_issued(record)),
        ));
    }
    for event_type in Event::TYPES.iter().filter(|event_type| **event_type != "TokenIssued") {
        searches.push((
            format!("type={event_type}"),
            Box::new(|record| record.event_type == *event_type),
        ));
    }
    for (query, matches) in searches {
        let found = search(administrator, &query, log.events.len() as u64).await;
        let naive: Vec<&RecordedEvent> = log
            .events
            .iter()
            .filter(|recorded| matches(&AuditRecord::from(*recorded)))
            .collect();
        assert_eq!(found.len(), naive.len(), "{query}");
        for (found, recorded) in found.iter().zip(naive) {
            assert_eq!(index_of(found), recorded.index, "{query}");
            assert_eq!(found["id"], recorded.envelope.id.to_string(), "{query}");
            assert_eq!(found["revision"], recorded.revision, "{query}");
        }
    }
}

fn is_issued(record: &AuditRecord<'_>) -> bool {
    record.event_type == "TokenIssued"
}

/// What a search finds below an index, oldest first. Each page is on the trail too, beyond it.
async fn search(administrator: &Administrator, query: &str, below: u64) -> Vec<Value> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let (status, mut page) = administrator
            .get(&format!("/audit/events?{query}&order=asc&limit=1000{after}"))
            .await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let events = page["events"].as_array_mut().expect("events");
        let is_last = events.is_empty() && page["partial"] != true;
        let events = page["events"].as_array_mut().expect("events");
        let beyond = events.iter().position(|event| index_of(event) >= below);
        found.extend(events.drain(..beyond.unwrap_or(events.len())));
        if is_last || beyond.is_some() {
            return found;
        }
        after = format!(
            "&after={}",
            page["next"].as_str().expect("oldest first there is always a next page")
        );
    }
}

fn index_of(event: &Value) -> u64 {
    event["index"].as_u64().expect("an index")
}
