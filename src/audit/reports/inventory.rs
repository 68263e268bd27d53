//! What is registered: applications, APIs and signing keys.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::AS_OF;
use super::reading::Reading;
use super::state_then::StateThen;
use super::{LogCheckpoint, ReportKind};
use crate::event_store::StoredEvent;
use crate::event_store::codec::DecodeError;
use grantlog_projections::event::ClientType;
use grantlog_projections::key_ring::KeyState;
use grantlog_projections::values::Timestamp;

pub(super) const KIND: ReportKind = ReportKind {
    name: "inventory",
    title: "Inventory of applications, APIs and signing keys",
    purpose: "Every application account that can get access tokens, every API that tokens are for, and every key that \
              signs them.",
    parameters: &[AS_OF],
    controls: CONTROLS,
    reading: |parameters| {
        Box::new(Inventory {
            state: StateThen::new(parameters.cut),
            now: parameters.now,
        })
    },
};

const CONTROLS: &[Control] = &[
    pci(
        "7.2.5",
        "lists all application accounts of this server with the access that each is assigned",
    ),
    pci(
        "8.6.1",
        "lists the system accounts that applications act as; this server has no interactive login",
    ),
    soc2(
        "CC6.1",
        "lists the accounts, credentials and keys under logical access control",
    ),
    iso("A.5.15", "shows the access rules in force for each application"),
    iso("A.5.16", "lists each identity with its owner over its life"),
    nist(
        "AC-2",
        "identifies the accounts of this server, their owners and their privileges",
    ),
];

const APPLICATIONS: &[Column] = &[
    column("client_id", "Application"),
    column("name", "Name"),
    column("owner", "Owner"),
    column("enabled", "Enabled"),
    column("system_user", "Acts as"),
    column("scope", "May have"),
    column("audiences", "May call"),
    column("secrets", "Valid secrets"),
    column("changed_at", "Changed"),
    column("client_type", "Type"),
    column("org_code", "Organisation"),
    column("allowed_networks", "May come from"),
    column("registered_at", "Registered"),
];
const APIS: &[Column] = &[
    column("audience", "Audience"),
    column("name", "Name"),
    column("scopes", "Defines"),
    column("signing_alg", "Signed with"),
    column("token_lifetime_seconds", "Token lifetime, seconds"),
    column("registered_at", "Registered"),
    column("changed_at", "Changed"),
];
const KEYS: &[Column] = &[
    column("kid", "Key"),
    column("alg", "Algorithm"),
    column("state", "State"),
    column("since", "Since"),
    column("added_at", "Added"),
];

struct Inventory {
    state: StateThen,
    now: Option<Timestamp>,
}

impl Reading for Inventory {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        self.state.take(stored)
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let mut applications = Table::new(
            "applications",
            "Applications",
            "No application was registered.",
            APPLICATIONS,
        );
        let (mut count, mut enabled) = (0, 0);
        for application in self.state.applications() {
            count += 1;
            enabled += usize::from(application.is_enabled);
            let valid = self.now.map_or(0, |now| application.secrets_accepted_at(now).count());
            applications.row([
                Cell::of(&application.uri),
                Cell::of(&application.name),
                Cell::maybe(application.owner.as_ref()),
                Cell::Flag(application.is_enabled),
                Cell::maybe(
                    application
                        .system_user
                        .as_ref()
                        .filter(|_| application.system_user_allowed),
                ),
                Cell::list(application.scope.tokens()),
                Cell::list(&application.audiences),
                Cell::count(valid),
                Cell::Time(application.changed_at),
                Cell::of(match application.client_type {
                    ClientType::Confidential => "Confidential",
                    ClientType::Public => "Public",
                }),
                Cell::maybe(application.org_code.as_ref()),
                Cell::list(&application.allowed_networks),
                Cell::Time(application.registered_at),
            ]);
        }
        let deleted = self.state.directory.application_count() - count;
        let mut apis = Table::new("apis", "APIs", "No API was registered.", APIS);
        for api in self.state.directory.apis_after(None).filter(|api| !api.is_deleted()) {
            apis.row([
                Cell::of(&api.audience),
                Cell::of(&api.name),
                Cell::list(api.scopes.iter().map(|scope| &scope.name)),
                Cell::maybe(api.signing_alg),
                api.token_lifetime_seconds
                    .map_or(Cell::Nothing, |lifetime| Cell::Number(lifetime.seconds().into())),
                Cell::Time(api.registered_at),
                Cell::Time(api.changed_at),
            ]);
        }
        let mut keys = Table::new("signing_keys", "Signing keys", "There was no signing key.", KEYS);
        for key in self.state.key_ring.keys() {
            let (state, since) = match key.state {
                KeyState::Announced => ("announced", key.added_at),
                KeyState::Active { since } => ("active", since),
                KeyState::Superseded { at } => ("superseded", at),
                KeyState::Retired { at } => ("retired", at),
            };
            keys.row([
                Cell::of(&key.kid),
                Cell::of(key.alg),
                Cell::of(state),
                Cell::Time(since),
                Cell::Time(key.added_at),
            ]);
        }
        Body {
            summary: vec![
                ("Applications".into(), Cell::count(count)),
                ("of them enabled".into(), Cell::count(enabled)),
                ("Deleted applications".into(), Cell::count(deleted)),
                ("APIs".into(), Cell::count(apis.rows.len())),
                ("Signing keys ever".into(), Cell::count(keys.rows.len())),
            ],
            tables: vec![applications, apis, keys],
            ..Body::default()
        }
    }
}
