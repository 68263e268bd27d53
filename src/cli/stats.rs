//! `audit stats`: counts over the trail.

use crate::cli::client::{AUDIT_READ, Call, Client, LOG_PATIENCE};
use crate::cli::lag::tell_of_lag;
use crate::cli::table::{Column, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Examples of `audit stats`.
pub const STATS_EXAMPLES: &str = "\
Examples:
  grantlog audit stats
  grantlog audit stats --by reason --since 24h --interval hour
  grantlog audit stats --by client_id --since 30d
  grantlog audit stats --by source_network --since 7d --json";

/// What is counted.
#[derive(Debug, Args)]
pub struct StatsArguments {
    /// What is told apart
    #[arg(long, value_enum, default_value_t = By::Type)]
    by: By,
    /// Only from this time on: RFC 3339, or a span back from now such as 24h or 30d
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME|SPAN")]
    until: Option<String>,
    /// The spans that time is cut into
    #[arg(long, value_enum, default_value_t = Interval::None)]
    interval: Interval,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Type,
    Outcome,
    #[value(name = "client_id", alias = "client-id")]
    ClientId,
    Reason,
    #[value(name = "source_network", alias = "source-network")]
    SourceNetwork,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Interval {
    Hour,
    Day,
    None,
}

#[derive(Deserialize)]
struct Statistics {
    events: u64,
    without: u64,
    #[serde(default)]
    totals: Vec<Total>,
    other: u64,
    #[serde(default)]
    buckets: Vec<Bucket>,
    indexed_through: u64,
    log_size: u64,
}

#[derive(Deserialize)]
struct Total {
    value: String,
    count: u64,
}

#[derive(Deserialize)]
struct Bucket {
    start: String,
    #[serde(default)]
    counts: BTreeMap<String, u64>,
    other: u64,
}

impl StatsArguments {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
        let by = match self.by {
            By::Type => "type",
            By::Outcome => "outcome",
            By::ClientId => "client_id",
            By::Reason => "reason",
            By::SourceNetwork => "source_network",
        };
        let interval = match self.interval {
            Interval::Hour => "hour",
            Interval::Day => "day",
            Interval::None => "none",
        };
        let mut query = vec![("by", by.to_owned()), ("interval", interval.to_owned())];
        query.extend(self.since.map(|since| ("since", since)));
        query.extend(self.until.map(|until| ("until", until)));
        let call = Call {
            query: &query,
            patience: Some(LOG_PATIENCE),
            ..Call::default()
        };
        let answer = client.call(Method::GET, &["audit", "stats"], call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        answer.parse::<Statistics>()?.print(by, console)
    }
}

impl Statistics {
    fn print(self, by: &str, console: &mut Console<'_>) -> Result<(), CliError> {
        if self.buckets.is_empty() {
            let mut table = Table::new([Column::number("EVENTS"), Column::wrapped("VALUE", 20)]);
            for total in self.totals {
                table.row([total.count.to_string(), total.value]);
            }
            if self.other > 0 {
                table.row([self.other.to_string(), "others".into()]);
            }
            if !table.is_empty() {
                table.print(console)?;
            }
        } else {
            let mut table = Table::new([
                Column::whole("FROM"),
                Column::number("EVENTS"),
                Column::wrapped("VALUE", 20),
            ]);
            for bucket in self.buckets {
                let start = time(&bucket.start).into_owned();
                for (value, count) in bucket.counts {
                    table.row([start.clone(), count.to_string(), value]);
                }
                if bucket.other > 0 {
                    table.row([start, bucket.other.to_string(), "others".into()]);
                }
            }
            table.print(console)?;
        }
        let without = match self.without {
            0 => String::new(),
            without => format!(", {without} of them without a {by}"),
        };
        console.note(&format!("{} events{without}", self.events));
        tell_of_lag("counted", Some(self.indexed_through), Some(self.log_size), console);
        Ok(())
    }
}
