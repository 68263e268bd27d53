//! Guessing: many failed authentications close together, and whether one of them was followed by a success.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::{Parameters, SINCE, THRESHOLD, UNTIL, WINDOW};
use super::reading::Reading;
use super::{LogCheckpoint, ReportKind};
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
    /// The targets in the order of their failures, with the index of the failure: to end runs that are over.
    order: VecDeque<(u64, i64, Target)>,
    /// The client_id of each application that is being guessed at.
    clients: HashMap<ApplicationId, String>,
    found: Vec<(Target, Run)>,
    failures: u64,
    given_up: u64,
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
            found: Vec::new(),
            failures: 0,
            given_up: 0,
        }
    }

    fn fail(&mut self, failure: &Failure, moment: Moment) {
        self.failures = self.failures.saturating_add(failure.times);
        let network = failure.source.map(source_network);
        let source = failure.source.map(|ip| ip.to_canonical().to_string());
        if let Some(client_id) = &failure.client_id {
            self.clients
                .insert(ApplicationId::of_client_id(client_id), client_id.clone());
            self.add(Target::Client(client_id.clone()), source, failure, moment);
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
        let run = self.runs.entry(target.clone()).or_insert_with(|| Run {
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
        self.order.push_back((moment.index, moment.time.unix_seconds(), target));
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
        while let Some((index, time, target)) = self.order.front() {
            if now - time <= window {
                return;
            }
            let is_last = self.runs.get(target).is_some_and(|run| run.last.index == *index);
            let target = target.clone();
            self.order.pop_front();
            if is_last {
                self.end(&target);
            }
        }
    }

    fn make_room(&mut self) {
        while let Some((index, _, target)) = self.order.pop_front() {
            if self.runs.get(&target).is_some_and(|run| run.last.index == index) {
                self.given_up += 1;
                self.end(&target);
                return;
            }
        }
    }

    fn end(&mut self, target: &Target) {
        let Some((target, run)) = self.runs.remove_entry(target) else {
            return;
        };
        if let Target::Client(client_id) = &target {
            self.clients.remove(&ApplicationId::of_client_id(client_id));
        }
        if run.failures >= u64::from(self.parameters.threshold) {
            self.found.push((target, run));
        }
    }
}

impl Run {
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
        let open: Vec<Target> = self.runs.keys().cloned().collect();
        for target in open {
            self.end(&target);
        }
        let mut found = self.found;
        found.sort_by(|(one, a), (other, b)| {
            a.first
                .index
                .cmp(&b.first.index)
                .then_with(|| one.text().cmp(&other.text()))
        });
        let mut clients = Table::new("by_client", "By client", "No client had a burst of failures.", BURSTS);
        let mut networks = Table::new(
            "by_network",
            "By source network",
            "No network had a burst of failures.",
            BURSTS,
        );
        let mut followed = 0;
        for (target, run) in found {
            followed += u64::from(run.success.is_some());
            let table = match target {
                Target::Client(_) => &mut clients,
                Target::Network(_) => &mut networks,
            };
            let mut counterparts: Vec<String> = run
                .counterparts
                .iter()
                .map(|(name, count)| format!("{name} ({count})"))
                .collect();
            if run.other_counterparts > 0 {
                counterparts.push(format!("others ({})", run.other_counterparts));
            }
            table.row([
                Cell::Text(target.text()),
                Cell::Number(run.failures),
                Cell::Flag(run.success.is_some()),
                run.success.map_or(Cell::Nothing, |success| Cell::Number(success.index)),
                Cell::Time(run.first.time),
                Cell::Time(run.last.time),
                Cell::List(counterparts),
                Cell::list(run.reasons.iter().map(|(reason, count)| format!("{reason} ({count})"))),
                Cell::Number(run.throttled),
                Cell::Number(run.first.index),
                Cell::Number(run.last.index),
            ]);
        }
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
                ("Bursts followed by a token".into(), Cell::Number(followed)),
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
