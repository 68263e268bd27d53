//! Applications that nobody seems to need.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::DAYS;
use super::reading::Reading;
use super::state_then::StateThen;
use super::{LogCheckpoint, ReportKind};
use crate::audit::usage::usage_record;
use crate::event_store::StoredEvent;
use crate::event_store::codec::DecodeError;
use grantlog_projections::usage::Usage;
use grantlog_projections::values::Timestamp;

pub(super) const KIND: ReportKind = ReportKind {
    name: "dormant-applications",
    title: "Dormant applications",
    purpose: "Enabled applications that got no token in the last days.",
    parameters: &[DAYS],
    controls: CONTROLS,
    reading: |parameters| {
        Box::new(DormantApplications {
            state: StateThen::new(parameters.cut),
            usage: Usage::default(),
            now: parameters.now,
            limit: parameters.days_ago(),
            days: parameters.days,
        })
    },
};

const CONTROLS: &[Control] = &[
    pci(
        "7.2.5.1",
        "lists the accounts whose access may no longer be appropriate",
    ),
    soc2("CC6.2", "supports removing accounts that are no longer needed"),
    iso("A.5.16", "supports the removal of identities that are not used"),
    nist(
        "AC-2",
        "lists accounts that were inactive for a defined period (AC-2(3))",
    ),
];

const APPLICATIONS: &[Column] = &[
    column("client_id", "Application"),
    column("owner", "Owner"),
    column("registered_at", "Registered"),
    column("tokens", "Tokens ever"),
    column("last_token", "Last token"),
    column("last_token_index", "Event"),
    column("last_refused", "Last refused"),
    column("secrets", "Valid secrets"),
];

struct DormantApplications {
    state: StateThen,
    usage: Usage,
    now: Option<Timestamp>,
    limit: Option<Timestamp>,
    days: u32,
}

impl Reading for DormantApplications {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        self.state.take(stored)?;
        usage_record(stored, |record| {
            self.usage.add(record);
        })
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let title = format!("Enabled, and without a token in the last {} days", self.days);
        let mut dormant = Table::new(
            "applications",
            title,
            "Every enabled application got a token.",
            APPLICATIONS,
        );
        let (mut enabled, mut recent) = (0_u64, 0_u64);
        if let (Some(now), Some(limit)) = (self.now, self.limit) {
            for application in self.state.applications().filter(|application| application.is_enabled) {
                enabled += 1;
                let usage = self.usage.application(application.id);
                let issued = usage.and_then(|usage| usage.issued);
                if issued.is_some_and(|issued| issued.last.time >= limit) {
                    continue;
                }
                if application.registered_at >= limit {
                    recent += 1;
                    continue;
                }
                dormant.row([
                    Cell::of(&application.uri),
                    Cell::maybe(application.owner.as_ref()),
                    Cell::Time(application.registered_at),
                    Cell::Number(issued.map_or(0, |issued| issued.count)),
                    Cell::time(issued.map(|issued| issued.last.time)),
                    issued.map_or(Cell::Nothing, |issued| Cell::Number(issued.last.index)),
                    Cell::time(usage.and_then(|usage| usage.refused).map(|refused| refused.last.time)),
                    Cell::count(application.secrets_accepted_at(now).count()),
                ]);
            }
        }
        Body {
            summary: vec![
                ("Enabled applications".into(), Cell::Number(enabled)),
                (
                    "of them dormant".into(),
                    Cell::Number(dormant.rows.len() as u64 + dormant.omitted),
                ),
                ("without a token yet, but registered since".into(), Cell::Number(recent)),
            ],
            tables: vec![dormant],
            ..Body::default()
        }
    }
}
