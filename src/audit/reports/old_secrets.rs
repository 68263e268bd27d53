//! Secrets that are due for rotation.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::DAYS;
use super::reading::Reading;
use super::state_then::StateThen;
use super::{LogCheckpoint, ReportKind};
use crate::audit::usage::{UsageRecord, Used, usage_record};
use crate::event_store::StoredEvent;
use crate::event_store::codec::DecodeError;
use grantlog_projections::usage::Use;
use grantlog_projections::values::{SecretId, Timestamp};
use std::collections::{HashMap, HashSet};

pub(super) const KIND: ReportKind = ReportKind {
    name: "old-secrets",
    title: "Old secrets",
    purpose: "Valid client secrets that are older than a number of days, and whether they are still used.",
    parameters: &[DAYS],
    controls: CONTROLS,
    reading: |parameters| {
        Box::new(OldSecrets {
            state: StateThen::new(parameters.cut),
            uses: HashMap::new(),
            room: MIN_ROOM,
            now: parameters.now,
            limit: parameters.days_ago(),
            days: parameters.days,
        })
    },
};

const CONTROLS: &[Control] = &[
    pci(
        "8.6.3",
        "lists the application secrets that were not changed within the period that you chose",
    ),
    soc2("CC6.1", "shows which credentials are past their rotation"),
    iso(
        "A.5.17",
        "supports the management of authentication information over its life",
    ),
    nist("IA-5", "shows the authenticators that are due to be refreshed (IA-5 f)"),
];

const SECRETS: &[Column] = &[
    column("client_id", "Application"),
    column("owner", "Owner"),
    column("enabled", "Enabled"),
    column("secret_id", "Secret"),
    column("hint", "Ends with"),
    column("created_at", "Made"),
    column("age_days", "Age, days"),
    column("expires_at", "Expires"),
    column("uses", "Tokens"),
    column("last_used", "Last used"),
];

/// Uses that are kept before it is looked which of them are of secrets that are gone.
const MIN_ROOM: usize = 1_024;

struct OldSecrets {
    state: StateThen,
    /// The uses of secrets that applications have, and of about as many that none has any longer.
    uses: HashMap<SecretId, Use>,
    /// How many uses there may be before those of secrets that are gone are forgotten.
    room: usize,
    now: Option<Timestamp>,
    limit: Option<Timestamp>,
    days: u32,
}

impl Reading for OldSecrets {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        self.state.take(stored)?;
        if self.uses.len() >= self.room {
            self.forget_what_is_gone();
        }
        usage_record(stored, |record| {
            if let UsageRecord {
                used: Used::Token { secret_id, .. },
                moment,
                ..
            } = record
            {
                let first = Use {
                    count: 0,
                    first: *moment,
                    last: *moment,
                };
                let known = self.uses.entry(*secret_id).or_insert(first);
                known.count += 1;
                known.last = *moment;
            }
        })
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let title = format!("Valid secrets older than {} days, the oldest first", self.days);
        let mut secrets = Table::new("secrets", title, "No valid secret is that old.", SECRETS);
        let (mut valid, mut unused) = (0, 0);
        let mut old = Vec::new();
        if let (Some(now), Some(limit)) = (self.now, self.limit) {
            for application in self.state.applications() {
                for secret in application.secrets_accepted_at(now) {
                    valid += 1;
                    if secret.created_at < limit {
                        old.push((secret.created_at, application, secret, now));
                    }
                }
            }
        }
        old.sort_by_key(|(created_at, application, secret, _)| (*created_at, application.uri.clone(), secret.id));
        for (created_at, application, secret, now) in &old {
            let used = self.uses.get(&secret.id);
            unused += usize::from(used.is_none());
            secrets.row([
                Cell::of(&application.uri),
                Cell::maybe(application.owner.as_ref()),
                Cell::Flag(application.is_enabled),
                Cell::of(secret.id),
                Cell::maybe(secret.hint.as_ref()),
                Cell::Time(*created_at),
                Cell::Number(days_between(*created_at, *now)),
                Cell::time(secret.expires_at),
                Cell::Number(used.map_or(0, |used| used.count)),
                Cell::time(used.map(|used| used.last.time)),
            ]);
        }
        Body {
            summary: vec![
                ("Valid secrets".into(), Cell::count(valid)),
                ("of them older".into(), Cell::count(old.len())),
                ("of these never used".into(), Cell::count(unused)),
            ],
            remarks: vec!["An imported secret counts from its import: how old it was then the log cannot know.".into()],
            tables: vec![secrets],
            ..Body::default()
        }
    }
}

impl OldSecrets {
    /// A secret that no application has any longer never comes back, and is in no row.
    fn forget_what_is_gone(&mut self) {
        let kept: HashSet<SecretId> = self
            .state
            .applications()
            .flat_map(|application| application.secrets.iter().map(|secret| secret.id))
            .collect();
        self.uses.retain(|id, _| kept.contains(id));
        // Twice as many: the next look is paid for by as many new uses.
        self.room = MIN_ROOM.max(kept.len().saturating_mul(2));
    }
}

fn days_between(earlier: Timestamp, later: Timestamp) -> u64 {
    let seconds = later.unix_seconds().saturating_sub(earlier.unix_seconds());
    u64::try_from(seconds / 86_400).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::reports::constructed_log::{ConstructedLog, ORDERS};
    use crate::audit::reports::parameters::Cut;
    use crate::event_store::{Direction, EventStore};
    use grantlog_projections::usage::Moment;
    use grantlog_projections::values::Actor;
    use uuid::Uuid;

    #[tokio::test]
    async fn uses_of_secrets_that_are_gone_are_forgotten_and_those_of_the_others_are_not() {
        let log = ConstructedLog::empty();
        log.register(0, Actor::System, ORDERS, "read", 1, |_| {}).await;
        log.token(1, ORDERS, 1, "read", true, "192.0.2.1").await;
        log.token(2, ORDERS, 1, "read", true, "192.0.2.1").await;
        let mut report = OldSecrets {
            state: StateThen::new(Cut::End),
            uses: HashMap::new(),
            room: MIN_ROOM,
            now: None,
            limit: None,
            days: 90,
        };
        let stored = log.store.read_all(0, Direction::Forwards, 10).await.unwrap();
        for event in &stored[..2] {
            report.read(event).unwrap();
        }
        let moment = Moment {
            index: 0,
            time: Timestamp::from_unix_micros(0),
        };
        let gone = Use {
            count: 1,
            first: moment,
            last: moment,
        };
        report
            .uses
            .extend((0..MIN_ROOM as u128).map(|id| (SecretId(Uuid::from_u128(1_000 + id)), gone)));
        report.read(&stored[2]).unwrap();
        assert_eq!((report.uses.len(), report.room), (1, MIN_ROOM));
        assert_eq!(report.uses[&SecretId(Uuid::from_u128(1))].count, 2);
    }
}
