//! Who may have what, for whoever has to confirm it.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::{AS_OF, CLIENT_ID};
use super::reading::Reading;
use super::state_then::StateThen;
use super::{LogCheckpoint, ReportKind};
use crate::event_store::StoredEvent;
use crate::event_store::codec::DecodeError;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::Timestamp;

pub(super) const KIND: ReportKind = ReportKind {
    name: "access-review",
    title: "Access review",
    purpose: "What each application account may do at a point in time, who made it so and why, for its owner to \
              confirm.",
    parameters: &[AS_OF, CLIENT_ID],
    controls: CONTROLS,
    reading: |parameters| {
        Box::new(AccessReview {
            state: StateThen::new(parameters.cut),
            now: parameters.now,
            client_id: parameters.client_id.clone(),
        })
    },
};

const CONTROLS: &[Control] = &[
    pci(
        "7.2.5",
        "shows the privileges of every application account, so that least privilege can be judged",
    ),
    pci(
        "7.2.5.1",
        "is the list that a periodic review works on; the review itself is what is signed on it",
    ),
    soc2("CC6.2", "shows who registered each account, and when"),
    soc2("CC6.3", "shows the privileges that are to be confirmed or taken away"),
    iso("A.5.18", "supports the review of access rights at planned intervals"),
    nist("AC-2", "supports the review of accounts for compliance (AC-2 j)"),
];

/// Scopes of this server's own API that change what it does, or show what it knows.
const PRIVILEGED: [&str; 6] = [
    "applications:write",
    "keys:write",
    "tokens:revoke",
    "audit:read",
    "audit:export",
    "audit:hold",
];

const ACCESS: &[Column] = &[
    column("client_id", "Application"),
    column("owner", "Owner"),
    column("enabled", "Enabled"),
    column("scope", "May have"),
    column("audiences", "May call"),
    column("system_user", "Acts as"),
    column("secrets", "Valid secrets"),
    column("to_look_at", "To look at"),
    column("decision", "Decision"),
    column("org_code", "Organisation"),
    column("allowed_networks", "May come from"),
    column("registered_by", "Registered by"),
    column("registered_at", "Registered"),
    column("changed_by", "Last changed by"),
    column("changed_at", "Changed"),
    column("change", "Change"),
    column("change_index", "Event"),
    column("reason", "Reason"),
];

struct AccessReview {
    state: StateThen,
    now: Option<Timestamp>,
    client_id: Option<String>,
}

impl Reading for AccessReview {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        self.state.take(stored)
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let mut access = Table::new(
            "access",
            "What each application may do",
            "No application is there.",
            ACCESS,
        );
        let (mut count, mut privileged, mut to_look_at) = (0, 0, 0);
        let wanted = |application: &TrustedApplication| {
            self.client_id
                .as_ref()
                .is_none_or(|wanted| application.uri.as_str() == wanted)
        };
        for application in self.state.applications().filter(|application| wanted(application)) {
            let remarks = self.to_look_at(application);
            count += 1;
            privileged += usize::from(is_privileged(application));
            to_look_at += usize::from(!remarks.is_empty());
            let last = self.state.last_changes.get(&application.id);
            access.row([
                Cell::of(&application.uri),
                Cell::maybe(application.owner.as_ref()),
                Cell::Flag(application.is_enabled),
                Cell::list(application.scope.tokens()),
                Cell::list(&application.audiences),
                Cell::maybe(
                    application
                        .system_user
                        .as_ref()
                        .filter(|_| application.system_user_allowed),
                ),
                Cell::count(self.now.map_or(0, |now| application.secrets_accepted_at(now).count())),
                Cell::List(remarks),
                // For whoever reviews.
                Cell::Nothing,
                Cell::maybe(application.org_code.as_ref()),
                Cell::list(&application.allowed_networks),
                Cell::maybe(last.map(|last| &last.registered_by)),
                Cell::Time(application.registered_at),
                Cell::maybe(last.map(|last| &last.by)),
                Cell::time(last.map(|last| last.at)),
                Cell::maybe(last.map(|last| last.event_type)),
                last.map_or(Cell::Nothing, |last| Cell::Number(last.index)),
                Cell::maybe(last.and_then(|last| last.reason.as_ref())),
            ]);
        }
        Body {
            summary: vec![
                ("Applications".into(), Cell::count(count)),
                ("with a scope of this server's own API".into(), Cell::count(privileged)),
                ("with something to look at".into(), Cell::count(to_look_at)),
            ],
            remarks: vec![
                "The column Decision is for the reviewer: keep, change or remove.".into(),
                "An empty \"May call\" is the server's default audience; an empty \"May come from\" is any network."
                    .into(),
            ],
            tables: vec![access],
            is_signed_off: true,
        }
    }
}

impl AccessReview {
    fn to_look_at(&self, application: &TrustedApplication) -> Vec<String> {
        let now = self.now;
        let accepted = || now.into_iter().flat_map(|now| application.secrets_accepted_at(now));
        let remarks = [
            (is_privileged(application), "may use this server's own API"),
            (application.owner.is_none(), "no owner"),
            (application.allowed_networks.is_empty(), "from any network"),
            (
                accepted().any(|secret| secret.expires_at.is_none()),
                "a secret that never expires",
            ),
            (accepted().count() > 1, "more than one valid secret"),
            (
                !application.is_enabled && accepted().next().is_some(),
                "disabled, with a valid secret",
            ),
        ];
        let remarks = remarks.into_iter().filter(|(is_so, _)| *is_so);
        remarks.map(|(_, remark)| remark.to_owned()).collect()
    }
}

fn is_privileged(application: &TrustedApplication) -> bool {
    PRIVILEGED.iter().any(|scope| application.scope.contains(scope))
}
