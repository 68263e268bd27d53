//! What is asked of a report. Whatever is left out becomes what it means for the log of this moment, and is printed:
//! with the printed parameters the same report is made again.

use super::{ReportError, ReportKind};
use crate::audit::query::{span_seconds, whole_number};
use crate::event_store::stream::read_stream;
use crate::event_store::{EventStore, ReadError, codec};
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::values::{ApplicationId, StreamName, Timestamp};

/// The longest span, in days.
pub const MAX_DAYS: u32 = 3_650;
/// The longest window, in seconds: a week.
pub const MAX_WINDOW_SECONDS: u32 = 604_800;
/// The most failures that a burst may need.
pub const MAX_THRESHOLD: u32 = 1_000_000;
/// Characters of a client_id.
const MAX_CLIENT_ID: usize = 256;

/// A parameter of a report.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub description: &'static str,
    /// What it is when it is left out; empty: nothing.
    pub default: &'static str,
}

/// How far the log is to be read: every report has it.
pub const THROUGH_INDEX: Parameter = Parameter {
    name: "through_index",
    description: "The log's size up to which it speaks; left out: all that there is",
    default: "",
};
pub(super) const AS_OF: Parameter = Parameter {
    name: "as_of",
    description: "A time (RFC 3339) or the index of an event: the state then",
    default: "",
};
pub(super) const DAYS: Parameter = Parameter {
    name: "days",
    description: "Days back from the end of the range, 1 to 3650",
    default: "90",
};
pub(super) const SINCE: Parameter = Parameter {
    name: "since",
    description: "From this time on: RFC 3339, or a span back from the end of the range such as 30d",
    default: "",
};
pub(super) const UNTIL: Parameter = Parameter {
    name: "until",
    description: "Before this time: RFC 3339, or a span back from the end of the range",
    default: "",
};
pub(super) const THRESHOLD: Parameter = Parameter {
    name: "threshold",
    description: "Failures that make a burst, 2 to 1000000",
    default: "10",
};
pub(super) const WINDOW: Parameter = Parameter {
    name: "window_seconds",
    description: "Failures further apart than this are of different bursts, 1 to 604800",
    default: "300",
};
pub(super) const SILENCE: Parameter = Parameter {
    name: "gap_seconds",
    description: "A silence longer than this is listed, 60 to 31536000",
    default: "86400",
};
pub(super) const CLIENT_ID: Parameter = Parameter {
    name: "client_id",
    description: "This application only",
    default: "",
};

/// A parameter that cannot be used. Both may be shown to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {message}")]
pub struct InvalidParameter {
    /// Its name, cut.
    pub parameter: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// A point in the log's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The end of the range.
    End,
    /// After everything decided up to then.
    Time(Timestamp),
    /// After the event at this index.
    Index(u64),
}

impl Cut {
    /// Whether the event had happened by then.
    pub fn includes(self, recorded: &RecordedEvent) -> bool {
        match self {
            Self::End => true,
            Self::Time(time) => recorded.envelope.time <= time,
            Self::Index(index) => recorded.index <= index,
        }
    }
}

/// The parameters of one report, read.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// The log's size up to which the report speaks.
    pub through_index: u64,
    /// What it takes for now: the time of the last event before `cut`; none for an empty log.
    pub now: Option<Timestamp>,
    /// The state of which moment.
    pub cut: Cut,
    /// Days back.
    pub days: u32,
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// Failures that make a burst.
    pub threshold: u32,
    /// Failures further apart are of different bursts.
    pub window_seconds: u32,
    /// A silence that is worth telling.
    pub gap_seconds: u32,
    /// One application only.
    pub client_id: Option<String>,
}

impl Parameters {
    pub(super) async fn read(
        kind: &ReportKind,
        given: &[(String, String)],
        store: &dyn EventStore,
    ) -> Result<Self, ReportError> {
        let given = Given::new(kind, given)?;
        let log_size = store.log_size();
        let mut through_index = match given.value("through_index") {
            None => log_size,
            Some(text) => whole_number(text)
                .filter(|through| *through <= log_size)
                .ok_or_else(|| invalid("through_index", format!("must be 0 to {log_size}, the log's size now")))?,
        };
        let cut = match given.value("as_of") {
            None => Cut::End,
            Some(text) => match (whole_number(text), Timestamp::parse(text)) {
                (Some(index), _) if index < through_index => {
                    // What comes behind it says nothing about then.
                    through_index = index + 1;
                    Cut::Index(index)
                }
                (Some(_), _) => return Err(invalid("as_of", format!("the range has {through_index} events")).into()),
                (None, Ok(time)) => Cut::Time(time),
                (None, Err(_)) => {
                    let message = "must be RFC 3339 (2026-03-16T09:30:00Z) or the index of an event";
                    return Err(invalid("as_of", message).into());
                }
            },
        };
        let last = match through_index.checked_sub(1) {
            None => None,
            Some(index) => {
                let stored = store.read_indexes(&[index]).await?;
                let stored = stored
                    .first()
                    .ok_or_else(|| ReadError(format!("event {index} is not there")))?;
                Some(codec::decode(stored)?.envelope.time)
            }
        };
        let now = match cut {
            Cut::Time(time) => Some(time),
            Cut::End | Cut::Index(_) => last,
        };
        let parameters = Self {
            through_index,
            now,
            cut,
            days: given.number("days", 1..=MAX_DAYS)?.unwrap_or(90),
            since: given.time("since", now)?,
            until: given.time("until", now)?,
            threshold: given.number("threshold", 2..=MAX_THRESHOLD)?.unwrap_or(10),
            window_seconds: given.number("window_seconds", 1..=MAX_WINDOW_SECONDS)?.unwrap_or(300),
            gap_seconds: given.number("gap_seconds", 60..=31_536_000)?.unwrap_or(86_400),
            client_id: given.value("client_id").map(str::to_owned),
        };
        if parameters
            .client_id
            .as_ref()
            .is_some_and(|id| id.chars().count() > MAX_CLIENT_ID)
        {
            return Err(invalid("client_id", format!("must be 1 to {MAX_CLIENT_ID} characters")).into());
        }
        if let Some(client_id) = &parameters.client_id {
            parameters.check_registered(client_id, store).await?;
        }
        match (parameters.since, parameters.until) {
            (Some(since), Some(until)) if since >= until => Err(invalid("until", "must be later than since").into()),
            _ => Ok(parameters),
        }
    }

    /// Refuses an application that was not registered in the range: a report that finds nothing wrong with it would
    /// be read as good news.
    async fn check_registered(&self, client_id: &str, store: &dyn EventStore) -> Result<(), ReportError> {
        let stream = StreamName::application(ApplicationId::of_client_id(client_id));
        let first = read_stream(store, &stream, 0, 1).await?;
        let is_there = match first.first() {
            Some(first) => first.index < self.through_index && self.cut.includes(&codec::decode(first)?),
            None => false,
        };
        match is_there {
            true => Ok(()),
            false => Err(invalid("client_id", "no such application in this range").into()),
        }
    }

    /// The parameters that the report has, with what was left out.
    pub fn effective(&self, kind: &ReportKind) -> Vec<(&'static str, String)> {
        let cut = match self.cut {
            Cut::End => None,
            Cut::Time(time) => Some(time.to_string()),
            Cut::Index(index) => Some(index.to_string()),
        };
        let values = [
            ("as_of", cut),
            ("days", Some(self.days.to_string())),
            ("since", self.since.map(|time| time.to_string())),
            ("until", self.until.map(|time| time.to_string())),
            ("threshold", Some(self.threshold.to_string())),
            ("window_seconds", Some(self.window_seconds.to_string())),
            ("gap_seconds", Some(self.gap_seconds.to_string())),
            ("client_id", self.client_id.clone()),
        ];
        let is_known = |name: &str| kind.parameters.iter().any(|known| known.name == name);
        let values = values.into_iter().filter(|(name, _)| is_known(name));
        let values = values.filter_map(|(name, value)| Some((name, value?)));
        [("through_index", self.through_index.to_string())]
            .into_iter()
            .chain(values)
            .collect()
    }

    /// The first moment of the last `days`.
    pub fn days_ago(&self) -> Option<Timestamp> {
        self.now.map(|now| now.plus_seconds(-i64::from(self.days) * 86_400))
    }

    /// Whether the time is in the period.
    pub fn is_in_period(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }
}

/// What was given, each parameter once and known.
struct Given<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Given<'a> {
    fn new(kind: &ReportKind, given: &'a [(String, String)]) -> Result<Self, InvalidParameter> {
        let mut values: Vec<(&str, &str)> = Vec::new();
        for (name, value) in given {
            let names = || {
                kind.parameters
                    .iter()
                    .map(|known| known.name)
                    .chain(["through_index", "format"])
            };
            if !names().any(|known| known == name) {
                let shown: String = name.chars().filter(|char| !char.is_control()).take(64).collect();
                let known = names().collect::<Vec<_>>().join(", ");
                return Err(invalid(
                    shown,
                    format!("{} has no such parameter; it has {known}", kind.name),
                ));
            }
            if values.iter().any(|(known, _)| known == name) {
                return Err(invalid(name, "may be given once"));
            }
            // A variable of a script that is not set, say: all applications are not what is meant.
            if name == "client_id" && value.is_empty() {
                return Err(invalid(name, format!("must be 1 to {MAX_CLIENT_ID} characters")));
            }
            values.push((name, value));
        }
        Ok(Self(values))
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, InvalidParameter> {
        let Some(text) = self.value(name) else { return Ok(None) };
        whole_number(text)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number))
            .map(Some)
            .ok_or_else(|| invalid(name, format!("must be {} to {}", range.start(), range.end())))
    }

    fn time(&self, name: &str, now: Option<Timestamp>) -> Result<Option<Timestamp>, InvalidParameter> {
        let Some(text) = self.value(name) else { return Ok(None) };
        if let Ok(time) = Timestamp::parse(text) {
            return Ok(Some(time));
        }
        match span_seconds(text).filter(|seconds| *seconds <= i64::from(MAX_DAYS) * 86_400) {
            // An empty log has no time to count back from, and nothing to find.
            Some(seconds) => Ok(now.map(|now| now.plus_seconds(-seconds))),
            None => {
                let message =
                    "must be RFC 3339 (2026-03-16T09:30:00Z) or a span back from the end of the range, such as 30d";
                Err(invalid(name, message))
            }
        }
    }
}

fn invalid(parameter: impl Into<String>, message: impl Into<String>) -> InvalidParameter {
    InvalidParameter {
        parameter: parameter.into(),
        message: message.into(),
    }
}
