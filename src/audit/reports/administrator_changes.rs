//! Every change of what this server grants, with the old and the new value.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::{Parameters, SINCE, UNTIL};
use super::reading::Reading;
use super::state_then::reason;
use super::{LogCheckpoint, ReportKind};
use crate::audit::changes::{object, what_changed};
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::Event;
use std::collections::BTreeMap;

pub(super) const KIND: ReportKind = ReportKind {
    name: "administrator-changes",
    title: "Changes by administrators",
    purpose: "Every change of applications, secrets, reference tokens, APIs, signing keys and legal holds, and every \
              revocation: who, from where, what, and why.",
    parameters: &[SINCE, UNTIL],
    controls: CONTROLS,
    reading: |parameters| {
        Box::new(AdministratorChanges {
            parameters: parameters.clone(),
            changes: Table::new("changes", "Changes, the oldest first", "Nothing was changed.", CHANGES),
            by_actor: BTreeMap::new(),
            others: 0,
        })
    },
};

const CONTROLS: &[Control] = &[
    pci(
        "10.2.1.2",
        "lists all changes that were made with administrative access to this server",
    ),
    pci(
        "10.2.1.5",
        "lists changes to authentication credentials: secrets made, rotated and revoked, accounts made, changed and deleted",
    ),
    pci("10.2.1.7", "lists what was registered and deleted on this server"),
    soc2("CC6.2", "shows who registered, changed and removed accounts"),
    soc2("CC7.2", "supports the review of changes for anomalies"),
    iso("A.5.16", "shows the changes of identities over their life"),
    iso("A.8.15", "is an extract of the log of privileged activities"),
    nist("AU-2", "shows the changes that this server logs"),
    nist(
        "AU-3",
        "shows for each what, when, where, the source, the outcome and who",
    ),
    nist("AU-6", "supports the review of audit records"),
    nist("AU-7", "is made of audit records on demand, and alters none of them"),
];

const CHANGES: &[Column] = &[
    column("index", "Event"),
    column("time", "Time"),
    column("actor", "Who"),
    column("source", "From"),
    column("type", "Change"),
    column("object", "Of"),
    column("what", "What"),
    column("reason", "Reason"),
    column("trace_id", "Trace"),
];
const ACTORS: &[Column] = &[column("actor", "Who"), column("changes", "Changes")];
/// Actors that are told apart.
const MAX_ACTORS: usize = 10_000;

struct AdministratorChanges {
    parameters: Parameters,
    changes: Table,
    by_actor: BTreeMap<String, u64>,
    others: u64,
}

impl Reading for AdministratorChanges {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        // Holds and removals change no state, but are somebody's doing: what is passed over is the trail alone.
        if codec::peek_type(&stored.bytes).is_some_and(Event::may_be_removed) {
            return Ok(());
        }
        let recorded = codec::decode(stored)?;
        let envelope = &recorded.envelope;
        let Some(object) = object(&envelope.event) else {
            return Ok(());
        };
        // RFC 7009: an application that gives its own token up is no administrator.
        if matches!(envelope.event, Event::TokenRevoked(_)) && envelope.actor.to_string() == object {
            return Ok(());
        }
        if !self.parameters.is_in_period(envelope.time) {
            return Ok(());
        }
        let actor = envelope.actor.to_string();
        if self.by_actor.len() < MAX_ACTORS || self.by_actor.contains_key(&actor) {
            *self.by_actor.entry(actor.clone()).or_default() += 1;
        } else {
            self.others += 1;
        }
        self.changes.row([
            Cell::Number(recorded.index),
            Cell::Time(envelope.time),
            Cell::Text(actor),
            Cell::maybe(envelope.source.as_ref().map(|source| source.ip)),
            Cell::of(envelope.event.type_name()),
            Cell::Text(object),
            Cell::List(what_changed(&envelope.event)),
            Cell::maybe(reason(&envelope.event)),
            Cell::maybe(envelope.trace_id.as_ref()),
        ]);
        Ok(())
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let count = self.changes.rows.len() as u64 + self.changes.omitted;
        let mut actors = Table::new("by_actor", "Changes by actor", "Nobody changed anything.", ACTORS);
        let by_system = self.by_actor.get("system").copied().unwrap_or(0);
        for (actor, changes) in self.by_actor {
            actors.row([Cell::Text(actor), Cell::Number(changes)]);
        }
        if self.others > 0 {
            actors.row([Cell::of("others"), Cell::Number(self.others)]);
        }
        Body {
            summary: vec![
                ("Changes".into(), Cell::Number(count)),
                ("of them by the server itself".into(), Cell::Number(by_system)),
            ],
            remarks: vec![
                "The actor `system` is the server itself: its first start and the rotation of its keys.".into(),
            ],
            tables: vec![self.changes, actors],
            ..Body::default()
        }
    }
}
