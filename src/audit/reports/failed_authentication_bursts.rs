//! Guessing: many failed authentications close together, and whether one of them was followed by a success.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::{Parameters, SINCE, THRESHOLD, UNTIL, WINDOW};
use super::reading::Reading;
use super::{LogCheckpoint, MAX_ROWS, ReportKind};
use crate::audit::usage::{UsageRecord, Used, skim};
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::Event;
use grantlog_projections::event::RefusalReason;
use grantlog_projections::usage::{Moment, source_network};
use grantlog_projections::values::ApplicationId;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

pub(super) const KIND: ReportKind = ReportKind {
    name: "failed-authentication-bursts",
    title: "Bursts of failed authentications",
    purpose: "Runs of failed authentications of one client, or from one network, close together, their sources, and \
              whether a token was granted there right after.",
    parameters: &[THRESHOLD, WINDOW, SINCE, UNTIL],
    controls: CONTROLS,
    reading: |parameters| Box::new(Bursts::new(parameters.clone())),
};

const CONTROLS: &[Control] = &[
    pci(
        "10.2.1.4",
        "summarises invalid access attempts at the token endpoint, which the log has one by one and, in a flood, by number",
    ),
    soc2("CC7.2", "points at possible attacks on credentials"),
    soc2("CC7.3", "gives what is needed to judge whether an attack succeeded"),
    iso("A.8.15", "is an analysis of the log of failed authentications"),
    nist("AU-6", "supports the analysis of audit records for unusual activity"),
    nist("IA-5", "points at authenticators that may have been guessed or found"),
];

const BURSTS: &[Column] = &[
    column("target", "Of"),
    column("failures", "Failures"),
    column("followed_by_success", "Followed by a token"),
    column("success_index", "Token's event"),
    column("first", "First"),
    column("last", "Last"),
    column("counterparts", "From, or of"),
    column("reasons", "Reasons"),
    column("throttled", "of them throttled"),
    column("first_index", "First event"),
    column("last_index", "Last event"),
];

/// Runs that are followed at once; the one that failed longest ago makes room.
const MAX_OPEN: usize = 100_000;
/// Sources of a client, or clients of a source, that are named.
const MAX_COUNTERPARTS: usize = 20;

/// One run of failures.
struct Run {
    failures: u64,
    throttled: u64,
    first: Moment,
    last: Moment,
    reasons: BTreeMap<String, u64>,
    counterparts: BTreeMap<String, u64>,
    other_counterparts: u64,
    /// Where a token was granted meanwhile, or within the window after it.
    success: Option<Moment>,
}

/// What failures have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    Client(String),
    Network(IpNet),
}

struct Bursts {
    parameters: Parameters,
    runs: HashMap<Target, Run>,
    /// The target of each run, once, with the index and the time of a failure of its: to end runs that are over.
    /// One that has failed again since goes to the back when it comes to the front.
    order: VecDeque<(u64, i64, Target)>,
    /// The client_id of each application that is being guessed at.
    clients: HashMap<ApplicationId, String>,
    of_clients: Found,
    of_networks: Found,
    /// Bursts that a token followed.
    followed: u64,
    failures: u64,
    given_up: u64,
}

/// Bursts that are over.
#[derive(Default)]
struct Found {
    /// As many as a table shows, the ones that ended first.
    runs: Vec<(Target, Run)>,
    omitted: u64,
}

/// A failed authentication.
struct Failure {
    client_id: Option<String>,
    source: Option<IpAddr>,
    reason: String,
    times: u64,
    is_throttled: bool,
}

impl Bursts {
    fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            runs: HashMap::new(),
            order: VecDeque::new(),
            clients: HashMap::new(),
            of_clients: Found::default(),
            of_networks: Found::default(),
            followed: 0,
            failures: 0,
            given_up: 0,
        }
    }

    fn fail(&mut self, failure: &Failure, moment: Moment) {
        self.failures = self.failures.saturating_add(failure.times);
        let network = failure.source.map(source_network);
        let source = failure.source.map(|ip| ip.to_canonical().to_string());
        if let Some(client_id) = &failure.client_id {
            self.add(Target::Client(client_id.clone()), source, failure, moment);
            // Only now: a run that has ended takes its client out.
            self.clients
                .insert(ApplicationId::of_client_id(client_id), client_id.clone());
        }
        if let Some(network) = network {
            let client = failure.client_id.clone().unwrap_or_else(|| "no client_id".into());
            self.add(Target::Network(network), Some(client), failure, moment);
        }
    }

    fn add(&mut self, target: Target, counterpart: Option<String>, failure: &Failure, moment: Moment) {
        let window = i64::from(self.parameters.window_seconds);
        let is_apart = self
            .runs
            .get(&target)
            .is_some_and(|run| moment.time.unix_seconds() - run.last.time.unix_seconds() > window);
        if is_apart {
            self.end(&target);
        }
        if self.runs.len() >= MAX_OPEN && !self.runs.contains_key(&target) {
            self.make_room();
        }
        // A run that follows upon another of the same target takes over its place in the order.
        if !is_apart && !self.runs.contains_key(&target) {
            let time = moment.time.unix_seconds();
            self.order.push_back((moment.index, time, target.clone()));
        }
        let run = self.runs.entry(target).or_insert_with(|| Run {
            failures: 0,
            throttled: 0,
            first: moment,
            last: moment,
            reasons: BTreeMap::new(),
            counterparts: BTreeMap::new(),
            other_counterparts: 0,
            success: None,
        });
        run.failures = run.failures.saturating_add(failure.times);
        if failure.is_throttled {
            run.throttled = run.throttled.saturating_add(failure.times);
        }
        run.last = moment;
        *run.reasons.entry(failure.reason.clone()).or_default() += failure.times;
        if let Some(counterpart) = counterpart {
            if run.counterparts.len() < MAX_COUNTERPARTS || run.counterparts.contains_key(&counterpart) {
                *run.counterparts.entry(counterpart).or_default() += failure.times;
            } else {
                run.other_counterparts += failure.times;
            }
        }
    }

    /// A token was granted: it may be the end of a run of guesses.
    fn succeed(&mut self, record: &UsageRecord<'_>) {
        let window = i64::from(self.parameters.window_seconds);
        let now = record.moment.time.unix_seconds();
        let client = self.clients.get(&record.application_id).cloned().map(Target::Client);
        let network = record.source.map(|source| Target::Network(source_network(source)));
        for target in client.into_iter().chain(network) {
            if let Some(run) = self.runs.get_mut(&target)
                && run.success.is_none()
                && run.failures >= u64::from(self.parameters.threshold)
                && now - run.last.time.unix_seconds() <= window
                && run.has_met(record, &target)
            {
                run.success = Some(record.moment);
            }
        }
    }

    /// Ends the runs whose last failure is further back than the window.
    fn end_old(&mut self, now: i64) {
        let window = i64::from(self.parameters.window_seconds);
        while self.order.front().is_some_and(|(_, time, _)| now - time > window) {
            if let Some(target) = self.take_first() {
                self.end(&target);
            }
        }
    }

    fn make_room(&mut self) {
        while !self.order.is_empty() {
            if let Some(target) = self.take_first() {
                self.given_up += 1;
                self.end(&target);
                return;
            }
        }
    }

    /// Takes the first in the order, if it has not failed since it got there; if it has, it goes to the back. So each
    /// step is paid for by a failure, or ends a run.
    fn take_first(&mut self) -> Option<Target> {
        let (index, _, target) = self.order.pop_front()?;
        let last = self.runs.get(&target)?.last;
        if last.index == index {
            return Some(target);
        }
        self.order.push_back((last.index, last.time.unix_seconds(), target));
        None
    }

    fn end(&mut self, target: &Target) {
        let Some((target, run)) = self.runs.remove_entry(target) else {
            return;
        };
        if let Target::Client(client_id) = &target {
            self.clients.remove(&ApplicationId::of_client_id(client_id));
        }
        if run.failures >= u64::from(self.parameters.threshold) {
            self.followed += u64::from(run.success.is_some());
            let found = match &target {
                Target::Client(_) => &mut self.of_clients,
                Target::Network(_) => &mut self.of_networks,
            };
            if found.runs.len() < MAX_ROWS {
                found.runs.push((target, run));
            } else {
                found.omitted += 1;
            }
        }
    }
}

impl Found {
    fn show(mut self, table: &mut Table) {
        self.runs
            .sort_by_cached_key(|(target, run)| (run.first.index, target.text()));
        for (target, run) in &self.runs {
            run.show(target, table);
        }
        table.omitted += self.omitted;
    }
}

impl Run {
    fn show(&self, target: &Target, table: &mut Table) {
        let mut counterparts: Vec<String> = self
            .counterparts
            .iter()
            .map(|(name, count)| format!("{name} ({count})"))
            .collect();
        if self.other_counterparts > 0 {
            counterparts.push(format!("others ({})", self.other_counterparts));
        }
        table.row([
            Cell::Text(target.text()),
            Cell::Number(self.failures),
            Cell::Flag(self.success.is_some()),
            self.success
                .map_or(Cell::Nothing, |success| Cell::Number(success.index)),
            Cell::Time(self.first.time),
            Cell::Time(self.last.time),
            Cell::List(counterparts),
            Cell::list(self.reasons.iter().map(|(reason, count)| format!("{reason} ({count})"))),
            Cell::Number(self.throttled),
            Cell::Number(self.first.index),
            Cell::Number(self.last.index),
        ]);
    }

    /// Whether the token went to where the guesses came from: other clients of a network, and other sources of a
    /// client, are not suspicious because somebody else fails.
    fn has_met(&self, record: &UsageRecord<'_>, target: &Target) -> bool {
        match target {
            Target::Client(_) => record.source.is_none_or(|source| {
                self.other_counterparts > 0 || self.counterparts.contains_key(&source.to_canonical().to_string())
            }),
            Target::Network(_) => self
                .counterparts
                .keys()
                .any(|client_id| ApplicationId::of_client_id(client_id) == record.application_id),
        }
    }
}

impl Reading for Bursts {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        match codec::peek_type(&stored.bytes) {
            Some("TokenIssued") if self.runs.is_empty() => return Ok(()),
            Some("TokenIssued") => {
                if let Some(record) = skim(stored) {
                    self.succeed(&record);
                    return Ok(());
                }
            }
            Some("TokenRefused" | "RequestsThrottled") | None => {}
            Some(_) => return Ok(()),
        }
        let recorded = codec::decode(stored)?;
        let envelope = &recorded.envelope;
        let moment = Moment {
            index: recorded.index,
            time: envelope.time,
        };
        let failure = match &envelope.event {
            Event::TokenIssued(_) => {
                if let Some(
                    record @ UsageRecord {
                        used: Used::Token { .. },
                        ..
                    },
                ) = UsageRecord::of(&recorded)
                {
                    self.succeed(&record);
                }
                return Ok(());
            }
            Event::TokenRefused(data) if is_authentication(data.reason) => Failure {
                client_id: data.client_id.clone(),
                source: envelope.source.as_ref().map(|source| source.ip),
                reason: serde_json::to_value(data.reason)
                    .ok()
                    .and_then(|reason| reason.as_str().map(str::to_owned))
                    .unwrap_or_default(),
                times: 1,
                is_throttled: false,
            },
            Event::RequestsThrottled(data) => Failure {
                client_id: data.client_id.clone(),
                source: Some(data.source),
                reason: "throttled".into(),
                times: data.suppressed,
                is_throttled: true,
            },
            _ => return Ok(()),
        };
        if self.parameters.is_in_period(envelope.time) {
            self.end_old(envelope.time.unix_seconds());
            self.fail(&failure, moment);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let mut open: Vec<(u64, Target)> =
            Vec::from_iter(self.runs.iter().map(|(target, run)| (run.first.index, target.clone())));
        // Which ones find room must not depend on how a hash map orders them.
        open.sort_by_cached_key(|(first, target)| (*first, target.text()));
        for (_, target) in open {
            self.end(&target);
        }
        let mut clients = Table::new("by_client", "By client", "No client had a burst of failures.", BURSTS);
        let mut networks = Table::new(
            "by_network",
            "By source network",
            "No network had a burst of failures.",
            BURSTS,
        );
        self.of_clients.show(&mut clients);
        self.of_networks.show(&mut networks);
        let mut remarks = vec![
            "A failure is a refused authentication at the token endpoint; what was throttled counts with its number, at \
             the time when its window ended."
                .into(),
            "Followed by a token: one of the same client, from an address that failed, during the run or within the \
             window after it. That may be a guess that hit, or a client that corrected its secret."
                .into(),
        ];
        if self.given_up > 0 {
            remarks.push(format!(
                "{} runs ended early, because too many were under way at once.",
                self.given_up
            ));
        }
        Body {
            summary: vec![
                ("Failed authentications".into(), Cell::Number(self.failures)),
                (
                    "Clients with a burst".into(),
                    Cell::Number(clients.rows.len() as u64 + clients.omitted),
                ),
                (
                    "Networks with a burst".into(),
                    Cell::Number(networks.rows.len() as u64 + networks.omitted),
                ),
                ("Bursts followed by a token".into(), Cell::Number(self.followed)),
            ],
            remarks,
            tables: vec![clients, networks],
            ..Body::default()
        }
    }
}

impl Target {
    fn text(&self) -> String {
        match self {
            Self::Client(client_id) => client_id.clone(),
            Self::Network(network) => network.to_string(),
        }
    }
}

/// Whether the refusal is about who asks, not about what for.
fn is_authentication(reason: RefusalReason) -> bool {
    match reason {
        RefusalReason::UnknownClient
        | RefusalReason::Deleted
        | RefusalReason::Disabled
        | RefusalReason::PublicClient
        | RefusalReason::SecretMismatch
        | RefusalReason::SecretExpired
        | RefusalReason::SecretRevoked
        | RefusalReason::NetworkNotAllowed => true,
        RefusalReason::UnsupportedContentType
        | RefusalReason::BodyTooLarge
        | RefusalReason::DuplicateParameter
        | RefusalReason::Malformed
        | RefusalReason::MissingGrantType
        | RefusalReason::UnsupportedGrantType
        | RefusalReason::SeveralAuthenticationMethods
        | RefusalReason::UnreadableAuthorization
        | RefusalReason::EmptyCredentials
        | RefusalReason::MissingClientId
        | RefusalReason::MissingClientSecret
        | RefusalReason::MissingAudience
        | RefusalReason::SystemUserNotAllowed
        | RefusalReason::AudienceNotAuthorized
        | RefusalReason::ScopeNotAllowed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::reports::parameters::Cut;
    use grantlog_projections::values::Timestamp;

    const WINDOW_SECONDS: i64 = 60;

    fn bursts() -> Bursts {
        Bursts::new(Parameters {
            through_index: 0,
            now: None,
            cut: Cut::End,
            days: 90,
            since: None,
            until: None,
            threshold: 2,
            window_seconds: WINDOW_SECONDS as u32,
            gap_seconds: 86_400,
            client_id: None,
        })
    }

    /// A failure at that second, as the log has it.
    fn fail(bursts: &mut Bursts, index: u64, second: i64, client_id: &str) {
        let failure = Failure {
            client_id: Some(client_id.into()),
            source: None,
            reason: "secret_mismatch".into(),
            times: 1,
            is_throttled: false,
        };
        let time = Timestamp::from_unix_micros(second * 1_000_000);
        bursts.end_old(second);
        bursts.fail(&failure, Moment { index, time });
    }

    fn assert_each_run_is_in_the_order_once(bursts: &Bursts) {
        let mut targets: Vec<String> = bursts.order.iter().map(|(_, _, target)| target.text()).collect();
        targets.sort_unstable();
        let mut open: Vec<String> = bursts.runs.keys().map(Target::text).collect();
        open.sort_unstable();
        assert_eq!(targets, open);
    }

    #[test]
    fn a_run_is_kept_once_however_often_it_fails_and_ends_when_its_window_is_over() {
        let mut bursts = bursts();
        let mut index = 0;
        for second in 0..1_000 {
            for client_id in ["one", "other"] {
                fail(&mut bursts, index, second, client_id);
                index += 1;
            }
            assert_each_run_is_in_the_order_once(&bursts);
        }
        // Two windows later at the latest, whatever else fails meanwhile.
        for second in 1_000..1_000 + 2 * WINDOW_SECONDS + 2 {
            fail(&mut bursts, index, second, "third");
            index += 1;
            assert_each_run_is_in_the_order_once(&bursts);
        }
        assert_eq!(bursts.runs.len(), 1);
        assert_eq!(bursts.clients.len(), 1);
        let found: Vec<_> = bursts.of_clients.runs.iter().map(|(_, run)| run.failures).collect();
        assert_eq!(found, [1_000, 1_000]);
    }

    #[test]
    fn a_run_after_another_of_the_same_client_is_another() {
        let mut bursts = bursts();
        // A failure of others in between keeps the first run in memory beyond its window.
        for (index, second, client_id) in [
            (0, 0, "early"),
            (1, 50, "orders"),
            (2, 51, "orders"),
            (3, 55, "early"),
            (4, 112, "orders"),
            (5, 113, "orders"),
        ] {
            fail(&mut bursts, index, second, client_id);
            assert_each_run_is_in_the_order_once(&bursts);
        }
        assert_eq!(bursts.clients.len(), bursts.runs.len());
        let body = Box::new(bursts).finish(None);
        let rows: Vec<_> = body.tables[0]
            .rows
            .iter()
            .map(|row| (row[0].text(), row[9].text(), row[10].text()))
            .collect();
        let row = |client: &str, first: &str, last: &str| (client.to_owned(), first.to_owned(), last.to_owned());
        assert_eq!(
            rows,
            [row("early", "0", "3"), row("orders", "1", "2"), row("orders", "4", "5")]
        );
    }

    #[test]
    fn the_one_that_failed_longest_ago_makes_room() {
        let mut bursts = bursts();
        for client in 0..MAX_OPEN as u64 {
            fail(&mut bursts, client, 0, &format!("client-{client}"));
        }
        // It came first, but not last.
        fail(&mut bursts, MAX_OPEN as u64, 1, "client-0");
        fail(&mut bursts, MAX_OPEN as u64 + 1, 2, "one-more");
        assert_eq!((bursts.runs.len(), bursts.given_up), (MAX_OPEN, 1));
        assert!(bursts.runs.contains_key(&Target::Client("client-0".into())));
        assert!(!bursts.runs.contains_key(&Target::Client("client-1".into())));
        assert_each_run_is_in_the_order_once(&bursts);
    }

    #[test]
    fn bursts_beyond_the_rows_of_a_table_are_counted_and_not_kept() {
        let mut bursts = bursts();
        let mut index = 0;
        for burst in 0..MAX_ROWS as i64 + 3 {
            for second in 0..2 {
                fail(&mut bursts, index, burst * 100 + second, "orders");
                index += 1;
            }
        }
        assert_eq!(bursts.of_clients.runs.len(), MAX_ROWS);
        let body = Box::new(bursts).finish(None);
        assert_eq!((body.tables[0].rows.len(), body.tables[0].omitted), (MAX_ROWS, 3));
        let shown = body.summary.iter().find(|(name, _)| name == "Clients with a burst");
        assert_eq!(shown.unwrap().1.text(), (MAX_ROWS + 3).to_string());
    }
}
