//! Whether the log says everything that happened: when it was being written, and what it counted instead of naming.

use super::controls::{Control, iso, nist, pci, soc2};
use super::document::{Body, Cell, Column, Table, column};
use super::parameters::{Parameters, SILENCE, SINCE, UNTIL};
use super::reading::Reading;
use super::{LogCheckpoint, ReportKind};
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::Event;
use grantlog_projections::service_run::{MAX_RUNNING_NODES, ServiceRun};
use grantlog_projections::values::{NodeName, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;

pub(super) const KIND: ReportKind = ReportKind {
    name: "log-completeness",
    title: "Completeness of the log",
    purpose: "When the server ran and how it stopped, what it refused, what it counted without naming each, and when \
              nothing was written.",
    parameters: &[SINCE, UNTIL, SILENCE],
    controls: CONTROLS,
    reading: |parameters| Box::new(LogCompleteness::new(parameters.clone())),
};

const CONTROLS: &[Control] = &[
    pci("10.2.1", "shows when the audit log was being written"),
    pci(
        "10.2.1.6",
        "lists every start and stop of the server, and with it of its audit log",
    ),
    soc2("CC7.2", "points at interruptions that have to be explained"),
    iso("A.8.15", "shows that events are recorded, and when none were"),
    nist(
        "AU-5",
        "shows stops that nobody ordered, as after a failure of the audit log",
    ),
    nist("AU-12", "shows that audit records are generated"),
];

const RUNS: &[Column] = &[
    column("index", "Event"),
    column("time", "Time"),
    column("what", "What"),
    column("version", "Version"),
    column("detail", "Detail"),
];
const GAPS: &[Column] = &[
    column("from", "From"),
    column("until", "Until"),
    column("seconds", "Seconds"),
    column("before_index", "Event before"),
    column("why", "Why"),
];
const REFUSALS: &[Column] = &[
    column("what", "What"),
    column("reason", "Reason"),
    column("count", "Requests"),
];

/// Nodes that one line names.
const MAX_NODES_SHOWN: usize = 8;

/// Why nothing was written for a while.
enum Silence {
    Stopped,
    Crashed,
    Quiet,
    /// A node has come up; nobody knows whether these were up, for they have not stopped in an orderly way.
    Unknown(Vec<String>),
}

impl Silence {
    /// A node comes up while others may be: some of them are named.
    fn before_start_beside(others: Vec<Option<&NodeName>>) -> Self {
        let shown = others.iter().take(MAX_NODES_SHOWN);
        let mut names: Vec<String> = shown
            .map(|node| node.map_or_else(|| "one without a name".to_owned(), NodeName::to_string))
            .collect();
        let more = others.len().saturating_sub(MAX_NODES_SHOWN);
        names.extend((more > 0).then(|| format!("{more} more")));
        Self::Unknown(names)
    }
}

struct LogCompleteness {
    parameters: Parameters,
    runs: Table,
    gaps: Table,
    refusals: BTreeMap<(&'static str, String), u64>,
    last: Option<(u64, Timestamp)>,
    /// Which nodes are up; a server alone on its log has no name.
    run: ServiceRun,
    /// Whether there was a start or a stop.
    has_run: bool,
    events: u64,
    starts: u64,
    stops: u64,
    unclean: u64,
    refused: u64,
    throttled: u64,
    /// Of each node's last start.
    config_digests: BTreeMap<Option<NodeName>, String>,
}

impl LogCompleteness {
    fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            runs: Table::new(
                "runs",
                "Starts and stops, the oldest first",
                "There was no start.",
                RUNS,
            ),
            gaps: Table::new(
                "gaps",
                "Times without any event",
                "No silence was that long, and no stop.",
                GAPS,
            ),
            refusals: BTreeMap::new(),
            last: None,
            run: ServiceRun::default(),
            has_run: false,
            events: 0,
            starts: 0,
            stops: 0,
            unclean: 0,
            refused: 0,
            throttled: 0,
            config_digests: BTreeMap::new(),
        }
    }

    /// Looks at the time between two events; `silence` says what is known about it.
    fn between(&mut self, time: Timestamp, silence: Silence) {
        let Some((before, earlier)) = self.last else { return };
        let seconds = u64::try_from(time.unix_seconds() - earlier.unix_seconds()).unwrap_or(0);
        let is_long = seconds > u64::from(self.parameters.gap_seconds);
        let why = match silence {
            Silence::Stopped => "stopped".to_owned(),
            Silence::Crashed => "ended without a stop: it may have run for a part of this time".to_owned(),
            Silence::Quiet if is_long => "running, and nobody asked".to_owned(),
            Silence::Unknown(nodes) if is_long => {
                let nodes = nodes.join(", ");
                format!("no node recorded anything; not known to have stopped: {nodes}")
            }
            Silence::Quiet | Silence::Unknown(_) => return,
        };
        if self.parameters.is_in_period(time) {
            self.gaps.row([
                Cell::Time(earlier),
                Cell::Time(time),
                Cell::Number(seconds),
                Cell::Number(before),
                Cell::of(why),
            ]);
        }
    }

    fn refuse(&mut self, what: &'static str, reason: &impl serde::Serialize, times: u64) {
        let reason = serde_json::to_value(reason).ok();
        let reason = reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or_default();
        *self.refusals.entry((what, reason.to_owned())).or_default() += times;
    }
}

/// As much of an event as its time.
#[derive(Deserialize)]
struct Timed {
    time: Timestamp,
}

impl Reading for LogCompleteness {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        const WANTED: [&str; 5] = [
            "ServiceStarted",
            "ServiceStopped",
            "TokenRefused",
            "RequestsThrottled",
            "ApiCallDenied",
        ];
        if codec::peek_type(&stored.bytes).is_some_and(|found| !WANTED.contains(&found))
            && let Ok(Timed { time }) = serde_json::from_slice(&stored.bytes)
        {
            self.between(time, Silence::Quiet);
            self.last = Some((stored.index, time));
            self.events += u64::from(self.parameters.is_in_period(time));
            return Ok(());
        }
        let recorded = codec::decode(stored)?;
        let (index, envelope) = (recorded.index, &recorded.envelope);
        let time = envelope.time;
        let is_in_period = self.parameters.is_in_period(time);
        self.events += u64::from(is_in_period);
        match &envelope.event {
            Event::ServiceStarted(data) => {
                // What is before the very first start is made by it: no run has ended there. Another node that is up
                // would have written if anybody had asked; whether it is up, only its next start tells.
                let was_running = self.run.is_running(data.node.as_ref());
                let others: Vec<_> = self.run.running().filter(|node| *node != data.node.as_ref()).collect();
                let silence = match (was_running, self.has_run) {
                    _ if !others.is_empty() => Silence::before_start_beside(others),
                    (true, _) => Silence::Crashed,
                    (false, true) => Silence::Stopped,
                    (false, false) => Silence::Quiet,
                };
                self.between(time, silence);
                let digest = data.config_digest.clone();
                let before = self.config_digests.insert(data.node.clone(), digest);
                let changed = before.is_some_and(|before| before != data.config_digest);
                // As many as are remembered as up: the first of them goes, whichever that is.
                if self.config_digests.len() > MAX_RUNNING_NODES {
                    self.config_digests.pop_first();
                }
                if is_in_period {
                    self.starts += 1;
                    self.unclean += u64::from(!data.clean);
                    let mut detail = vec![format!("store {}", data.store)];
                    detail.extend(data.node.iter().map(|node| format!("node {node}")));
                    if !data.clean {
                        detail.push("the run before ended without a stop".into());
                    }
                    if changed {
                        detail.push("with another configuration than before".into());
                    }
                    self.runs.row([
                        Cell::Number(index),
                        Cell::Time(time),
                        Cell::of("start"),
                        Cell::of(&data.version),
                        Cell::List(detail),
                    ]);
                }
                self.has_run = true;
            }
            Event::ServiceStopped(data) => {
                self.between(time, Silence::Quiet);
                if is_in_period {
                    let node = data.node.iter().map(|node| format!("node {node}"));
                    let detail = std::iter::once(data.reason.clone()).chain(node).collect();
                    self.stops += 1;
                    self.runs.row([
                        Cell::Number(index),
                        Cell::Time(time),
                        Cell::of("stop"),
                        Cell::of(&data.version),
                        Cell::List(detail),
                    ]);
                }
                self.has_run = true;
            }
            event => {
                self.between(time, Silence::Quiet);
                match event {
                    Event::TokenRefused(data) if is_in_period => {
                        self.refused += 1;
                        self.refuse("token", &data.reason, 1);
                    }
                    Event::ApiCallDenied(data) if is_in_period => {
                        self.refused += 1;
                        self.refuse("API call", &data.reason, 1);
                    }
                    Event::RequestsThrottled(data) if is_in_period => {
                        self.throttled = self.throttled.saturating_add(data.suppressed);
                        self.refuse("token", &"throttled", data.suppressed);
                    }
                    _ => {}
                }
            }
        }
        self.run.apply(&recorded);
        self.last = Some((index, time));
        Ok(())
    }

    fn finish(self: Box<Self>, _: Option<&LogCheckpoint>) -> Body {
        let mut refusals = Table::new("refusals", "Refused requests", "Nothing was refused.", REFUSALS);
        for ((what, reason), count) in self.refusals {
            refusals.row([Cell::of(what), Cell::Text(reason), Cell::Number(count)]);
        }
        Body {
            summary: vec![
                ("Events".into(), Cell::Number(self.events)),
                ("Starts".into(), Cell::Number(self.starts)),
                ("Stops in an orderly way".into(), Cell::Number(self.stops)),
                ("Runs that ended without a stop".into(), Cell::Number(self.unclean)),
                ("Refused requests, each an event".into(), Cell::Number(self.refused)),
                ("Throttled requests, counted only".into(), Cell::Number(self.throttled)),
                ("Missing indexes".into(), Cell::Number(0)),
            ],
            remarks: vec![
                "No answer leaves this server before its event is durable: what is not in the log was not granted. Of \
                 requests that were throttled in a window that a crash cut off, the number may be missing."
                    .into(),
                "The events of the range were read one after another; their indexes are dense.".into(),
            ],
            tables: vec![self.runs, self.gaps, refusals],
            ..Body::default()
        }
    }
}
