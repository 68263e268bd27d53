//! What differs in an application between two points of its history, and which events made it so.

use crate::audit::changes::what_changed;
use crate::audit::reports::parameters::Cut;
use grantlog_projections::Event;
use grantlog_projections::event::ApplicationChange;
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Actor, ApplicationId, ApplicationUri, Remark, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What differs, and why.
#[derive(Debug, Serialize)]
pub struct ApplicationDiff {
    /// The application's id.
    pub id: ApplicationId,
    /// Its OAuth client_id.
    pub client_id: ApplicationUri,
    /// Where the comparison begins.
    pub from: DiffEnd,
    /// Where it ends.
    pub to: DiffEnd,
    /// Each attribute with another value, by name; each secret is one, by its id.
    pub changes: Vec<AttributeDiff>,
    /// What happened between the two, the oldest first.
    pub events: Vec<DiffEvent>,
}

/// One end of a comparison.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct DiffEnd {
    /// The moment.
    pub time: Option<Timestamp>,
    /// The application's last event by then; null: it was not registered yet.
    pub index: Option<u64>,
    /// The revision that this event gave it.
    pub revision: Option<u64>,
}

/// An attribute with another value.
#[derive(Debug, PartialEq, Serialize)]
pub struct AttributeDiff {
    /// Its name.
    pub field: String,
    /// The value at the beginning; null: none.
    pub from: Value,
    /// The value at the end; null: none.
    pub to: Value,
    /// The indexes of the events that touched it; none: time did it, as when a secret expires.
    pub events: Vec<u64>,
}

/// An event between the two ends.
#[derive(Debug, Serialize)]
pub struct DiffEvent {
    /// Its place in the log.
    pub index: u64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: Actor,
    /// The wire name of its type.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// Why, as its caller put it.
    pub reason: Option<Remark>,
    /// What it changed, in words.
    pub what: Vec<String>,
}

impl ApplicationDiff {
    /// Compares the state at two points of an application's own stream, the earlier one first; none when it was not
    /// registered by the later one.
    pub fn of(history: &[RecordedEvent], from: Cut, to: Cut) -> Option<Self> {
        let upto = |cut: Cut| history.iter().take_while(|recorded| cut.includes(recorded)).count();
        let (from_count, to_count) = (upto(from), upto(to));
        let state = |count: usize| history.iter().take(count).fold(None, TrustedApplication::fold);
        let (before, after) = (state(from_count), state(to_count));
        let known = after.as_ref().or(before.as_ref())?;
        let (id, client_id) = (known.id, known.uri.clone());
        let end = |count: usize, cut: Cut| {
            let last = count.checked_sub(1).and_then(|last| history.get(last));
            let time = match cut {
                Cut::Time(time) => Some(time),
                Cut::End | Cut::Index(_) => last.map(|last| last.envelope.time),
            };
            DiffEnd {
                time,
                index: last.map(|last| last.index),
                revision: last.map(|last| last.revision),
            }
        };
        let (from_end, to_end) = (end(from_count, from), end(to_count, to));
        let between = history.get(from_count..to_count).unwrap_or_default();
        let (before, after) = (
            attributes(before.as_ref(), from_end.time),
            attributes(after.as_ref(), to_end.time),
        );
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let none = Value::Null;
        let changes = names.into_iter().filter_map(|name| {
            let (old, new) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
            let events = between
                .iter()
                .filter(|recorded| touches(&recorded.envelope.event, name));
            (old != new).then(|| AttributeDiff {
                field: name.clone(),
                from: old.clone(),
                to: new.clone(),
                events: events.map(|recorded| recorded.index).collect(),
            })
        });
        Some(Self {
            id,
            client_id,
            from: from_end,
            to: to_end,
            changes: changes.collect(),
            events: between.iter().map(DiffEvent::of).collect(),
        })
    }
}

impl DiffEvent {
    fn of(recorded: &RecordedEvent) -> Self {
        let envelope = &recorded.envelope;
        Self {
            index: recorded.index,
            time: envelope.time,
            actor: envelope.actor.clone(),
            event_type: envelope.event.type_name(),
            reason: crate::audit::reports::reason(&envelope.event).cloned(),
            what: what_changed(&envelope.event),
        }
    }
}

/// The attributes as callers know them, each secret as one.
fn attributes(application: Option<&TrustedApplication>, at: Option<Timestamp>) -> Map<String, Value> {
    let Some(application) = application else {
        return Map::new();
    };
    // An application is always a JSON object.
    let Ok(Value::Object(mut attributes)) = serde_json::to_value(application) else {
        return Map::new();
    };
    // What every change changes, what never does, and what nobody is shown.
    for name in ["id", "uri", "revision", "registered_at", "changed_at", "secrets"] {
        attributes.remove(name);
    }
    for secret in &application.secrets {
        let shown = json!({
            "hint": secret.hint,
            "created_at": secret.created_at,
            "expires_at": secret.expires_at,
            "revoked_at": secret.revoked_at,
            "accepted": at.is_some_and(|at| secret.is_accepted_at(at)),
        });
        attributes.insert(format!("secrets.{}", secret.id), shown);
    }
    attributes
}

/// Whether the event has to do with the attribute.
fn touches(event: &Event, name: &str) -> bool {
    let is_secret = |id: &dyn std::fmt::Display| {
        name.strip_prefix("secrets.")
            .is_some_and(|known| known == id.to_string())
    };
    match event {
        Event::ApplicationRegistered(data) => match name.strip_prefix("secrets.") {
            Some(_) => data.secret.as_ref().is_some_and(|secret| is_secret(&secret.id)),
            None => true,
        },
        Event::ApplicationChanged(data) => data.changes.iter().any(|change| field(change).as_deref() == Some(name)),
        Event::ApplicationEnabled(_) | Event::ApplicationDisabled(_) => name == "is_enabled",
        Event::ApplicationDeleted(_) => matches!(name, "is_enabled" | "deleted_at"),
        Event::SecretRotated(data) => {
            is_secret(&data.secret.id) || data.superseded.iter().any(|old| is_secret(&old.id))
        }
        Event::SecretRevoked(data) => is_secret(&data.secret_id),
        // The others are not of an application's own stream.
        _ => false,
    }
}

fn field(change: &ApplicationChange) -> Option<String> {
    let change = serde_json::to_value(change).ok()?;
    Some(change.get("field")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantlog_projections::event::{
        ApplicationChanged, ApplicationRegistered, ClientType, FromTo, IssuedSecret, ReferenceTokens, SecretRotated,
        SupersededSecret,
    };
    use grantlog_projections::recorded_event::Envelope;
    use grantlog_projections::values::{Name, Scope, SecretHash, SecretId, StreamName};
    use uuid::Uuid;

    const START: i64 = 1_773_653_400_000_000;

    fn recorded(revision: u64, event: Event) -> RecordedEvent {
        RecordedEvent {
            index: revision * 10,
            revision,
            envelope: Envelope {
                id: Uuid::nil(),
                stream: StreamName::application(ApplicationId::of_client_id("orders")),
                time: at(i64::try_from(revision).unwrap()),
                actor: Actor::System,
                source: None,
                trace_id: None,
                event,
            },
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_unix_micros(START).plus_seconds(hours * 3_600)
    }

    fn secret(id: u128) -> IssuedSecret {
        IssuedSecret {
            id: SecretId(Uuid::from_u128(id)),
            hash: SecretHash([7; 32]),
            hint: None,
            expires_at: None,
        }
    }

    fn history() -> Vec<RecordedEvent> {
        let uri = ApplicationUri::parse("orders").unwrap();
        let application_id = ApplicationId::of(&uri);
        let registered = ApplicationRegistered {
            application_id,
            application_uri: uri.clone(),
            name: Name::parse("Orders").unwrap(),
            description: None,
            client_type: ClientType::Confidential,
            scope: Scope::parse("read").unwrap(),
            audiences: Vec::new(),
            system_user_allowed: false,
            system_user: None,
            org_code: None,
            is_enabled: true,
            owner: None,
            properties: Default::default(),
            token_lifetime_seconds: None,
            allowed_networks: Vec::new(),
            reference_tokens: ReferenceTokens::None,
            secret: Some(secret(1)),
        };
        let scope = |from: &str, to: &str| ApplicationChanged {
            application_id,
            application_uri: uri.clone(),
            changes: vec![ApplicationChange::Scope(FromTo {
                from: Scope::parse(from).unwrap(),
                to: Scope::parse(to).unwrap(),
            })],
            reason: Remark::parse("ticket 7").ok(),
        };
        let rotated = SecretRotated {
            application_id,
            application_uri: uri.clone(),
            secret: secret(2),
            superseded: vec![SupersededSecret {
                id: SecretId(Uuid::from_u128(1)),
                accepted_until: at(10),
            }],
            reason: None,
        };
        vec![
            recorded(0, registered.into()),
            recorded(1, scope("read", "read update").into()),
            recorded(2, rotated.into()),
            recorded(3, scope("read update", "read").into()),
        ]
    }

    fn fields(diff: &ApplicationDiff) -> Vec<(&str, Vec<u64>)> {
        diff.changes
            .iter()
            .map(|change| (change.field.as_str(), change.events.clone()))
            .collect()
    }

    #[test]
    fn an_attribute_that_differs_has_both_values_and_the_events_that_did_it() {
        let diff = ApplicationDiff::of(&history(), Cut::Index(5), Cut::Time(at(1))).unwrap();
        let expected = AttributeDiff {
            field: "scope".into(),
            from: json!("read"),
            to: json!("read update"),
            events: vec![10],
        };
        assert_eq!(diff.changes, [expected]);
        assert_eq!(diff.events.len(), 1);
        assert_eq!(diff.events[0].reason.as_ref().unwrap().as_str(), "ticket 7");
        assert_eq!(diff.events[0].what, ["scope: read → read update"]);
    }

    #[test]
    fn what_was_changed_and_changed_back_does_not_differ_and_its_events_are_there() {
        let diff = ApplicationDiff::of(&history(), Cut::Index(0), Cut::Index(30)).unwrap();
        let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (old, new) = (format!("secrets.{old}"), format!("secrets.{new}"));
        assert_eq!(fields(&diff), [(old.as_str(), vec![20]), (new.as_str(), vec![20])]);
        assert_eq!(diff.events.len(), 3);
    }

    #[test]
    fn a_secret_that_time_ended_differs_without_an_event_and_shows_no_hash() {
        let diff = ApplicationDiff::of(&history(), Cut::Time(at(4)), Cut::Time(at(11))).unwrap();
        let old = format!("secrets.{}", Uuid::from_u128(1));
        assert_eq!(fields(&diff), [(old.as_str(), vec![])]);
        assert_eq!(
            (&diff.changes[0].from["accepted"], &diff.changes[0].to["accepted"]),
            (&json!(true), &json!(false))
        );
        assert!(!serde_json::to_string(&diff).unwrap().contains("hash"));
    }

    #[test]
    fn before_its_registration_there_was_nothing_and_all_of_it_is_new() {
        let diff = ApplicationDiff::of(&history(), Cut::Time(at(-1)), Cut::Index(0)).unwrap();
        assert_eq!((diff.from.index, diff.to.index), (None, Some(0)));
        assert!(
            fields(&diff).iter().all(|(_, events)| *events == [0]),
            "{:?}",
            fields(&diff)
        );
        assert!(fields(&diff).iter().any(|(field, _)| *field == "name"));
        assert!(ApplicationDiff::of(&history(), Cut::Time(at(-2)), Cut::Time(at(-1))).is_none());
    }
}
