//! Scopes that an application may have and does not need.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::{CLIENT_ID, DAYS};
use super::reading::Reading;
use super::state_then::StateThen;
use super::{LogCheckpoint, ReportKind};
use crate::audit::usage::usage_record;
use crate::event_store::StoredEvent;
use crate::event_store::codec::DecodeError;
use grantlog_projections::usage::{ScopeUsage, Usage};
use grantlog_projections::values::Timestamp;

pub(super) const KIND: ReportKind = ReportKind {
    name: "unused-scopes",
    title: "Unused scopes",
    purpose: "Scopes that applications may have and that none of their tokens of the last days carried, or carried \
              only because the request named no scope.",
    parameters: &[DAYS, CLIENT_ID],
    controls: CONTROLS,
    reading: |parameters| {
        Box::new(UnusedScopes {
            state: StateThen::new(parameters.cut),
            usage: Usage::default(),
            limit: parameters.days_ago(),
            days: parameters.days,
            client_id: parameters.client_id.clone(),
        })
    },
};

const CONTROLS: &[Control] = &[
    pci(
        "7.2.5",
        "points at privileges beyond what an application account was seen to need",
    ),
    soc2("CC6.3", "supports taking away access that is no longer needed"),
    iso("A.5.18", "supports the removal of access rights that are not used"),
    nist("AC-2", "supports aligning account privileges with what is used"),
];

const SCOPES: &[Column] = &[
    column("client_id", "Application"),
    column("owner", "Owner"),
    column("scope", "Scope"),
    column("allowed_since", "Application changed"),
    column("last_in_token", "Last in a token"),
    column("last_asked_for", "Last asked for by name"),
    column("last_call", "Last needed by a call here"),
];

struct UnusedScopes {
    state: StateThen,
    usage: Usage,
    limit: Option<Timestamp>,
    days: u32,
    client_id: Option<String>,
}

impl Reading for UnusedScopes {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        self.state.take(stored)?;
        usage_record(stored, |record| {
            self.usage.add(record);
        })
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let days = self.days;
        let mut unused = Table::new(
            "unused",
            format!("In no token of the last {days} days"),
            "Every scope was in a token.",
            SCOPES,
        );
        let mut by_default = Table::new(
            "by_default",
            format!("In tokens of the last {days} days only because the requests named no scope"),
            "Every scope that was in a token was asked for by name, or needed.",
            SCOPES,
        );
        let mut scopes = 0;
        let is_recent = |used: Option<grantlog_projections::usage::Use>| {
            used.is_some_and(|used| self.limit.is_some_and(|limit| used.last.time >= limit))
        };
        let none = ScopeUsage::default();
        for application in self.state.applications() {
            if self
                .client_id
                .as_ref()
                .is_some_and(|wanted| application.uri.as_str() != wanted)
            {
                continue;
            }
            let usage = self.usage.application(application.id);
            for scope in application.scope.tokens() {
                scopes += 1;
                let used = usage.and_then(|usage| usage.scopes.get(scope)).unwrap_or(&none);
                let table = match (
                    is_recent(used.granted),
                    is_recent(used.asked) || is_recent(used.exercised),
                ) {
                    (_, true) => continue,
                    (true, false) => &mut by_default,
                    (false, false) => &mut unused,
                };
                table.row([
                    Cell::of(&application.uri),
                    Cell::maybe(application.owner.as_ref()),
                    Cell::of(scope),
                    Cell::Time(application.changed_at),
                    Cell::time(used.granted.map(|used| used.last.time)),
                    Cell::time(used.asked.map(|used| used.last.time)),
                    Cell::time(used.exercised.map(|used| used.last.time)),
                ]);
            }
        }
        Body {
            summary: vec![
                ("Scopes that applications may have".into(), Cell::Number(scopes)),
                (
                    "of them in no token".into(),
                    Cell::Number(unused.rows.len() as u64 + unused.omitted),
                ),
                (
                    "of them by default only".into(),
                    Cell::Number(by_default.rows.len() as u64 + by_default.omitted),
                ),
            ],
            remarks: vec![
                "A request that names no scope is granted all that the application may have: that a token carried a \
                 scope does not show that it was needed."
                    .into(),
                "What a resource server does with a token is not in this log; calls are those to this server's own API."
                    .into(),
            ],
            tables: vec![unused, by_default],
            ..Body::default()
        }
    }
}
