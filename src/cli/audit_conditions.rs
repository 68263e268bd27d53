//! Which events a tail or an export is about: the conditions of a search.

use crate::cli::audit::Outcome;
use crate::cli::duration;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use std::time::Duration;

/// Conditions that must all hold.
#[derive(Debug, Args)]
pub struct Conditions {
    /// Only events for which this holds, e.g. 'reason eq "secret_mismatch"'
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Only of this type, e.g. TokenIssued
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only about this application
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Only what was done, or only what was refused
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// Only what came from this address or network
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<String>,
}

impl Conditions {
    /// As parameters of the query.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let outcome = self.outcome.map(|outcome| match outcome {
            Outcome::Success => "success".to_owned(),
            Outcome::Refused => "refused".to_owned(),
        });
        [
            ("filter", self.filter.clone()),
            ("type", self.event_type.clone()),
            ("client_id", self.client_id.clone()),
            ("outcome", outcome),
            ("source_ip", self.source_ip.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// A time as it is given, or what a span back from now means: asked again later, it must mean the same.
pub fn fixed_time(text: &str, now: DateTime<Utc>) -> String {
    let is_span = text.ends_with(|last: char| last.is_ascii_alphabetic()) && !text.contains(':');
    let span = is_span.then(|| duration::seconds(text).ok()).flatten();
    let time = span
        .and_then(|seconds| now.checked_sub_signed(chrono::TimeDelta::from_std(Duration::from_secs(seconds)).ok()?));
    match time {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_becomes_the_time_that_it_means_now() {
        let now = DateTime::from_timestamp(1_773_653_400, 0).unwrap(); // 2026-03-16T09:30:00Z
        assert_eq!(fixed_time("90m", now), "2026-03-16T08:00:00.000000Z");
        assert_eq!(fixed_time("1d", now), "2026-03-15T09:30:00.000000Z");
        for as_it_is in ["2026-03-16T09:30:00Z", "yesterday", "24", ""] {
            assert_eq!(fixed_time(as_it_is, now), as_it_is);
        }
    }
}
