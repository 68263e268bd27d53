//! `audit`: reading the trail.

use crate::cli::audit_export::{self, ExportArguments};
use crate::cli::audit_forwarding::{self, ForwardingArguments};
use crate::cli::audit_hold::{HoldCommand, RETENTION_EXAMPLES, RetentionArguments};
use crate::cli::audit_tail::{self, TailArguments};
use crate::cli::audit_verify::{KEY_EXAMPLES, VERIFY_EXAMPLES, VerifierKeyArguments, VerifyArguments};
use crate::cli::client::{AUDIT_READ, Call, Client};
use crate::cli::diff::{DIFF_EXAMPLES, DiffArguments};
use crate::cli::event_rows::AuditEvent;
use crate::cli::lag::tell_of_lag;
use crate::cli::registered::tell_of_more;
use crate::cli::stats::{STATS_EXAMPLES, StatsArguments};
use crate::cli::table::{Column, Table};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Events in one page when all are wanted: the most that the server gives.
const LARGEST_PAGE: u16 = 1_000;

/// `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find events, the newest first
    #[command(after_help = SEARCH_EXAMPLES)]
    Search(SearchArguments),
    /// What must not be removed
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Show what is kept of the log and its index, and what is not any more
    #[command(after_help = RETENTION_EXAMPLES)]
    Retention(RetentionArguments),
    /// Show events as they happen
    #[command(after_help = audit_tail::EXAMPLES)]
    Tail(TailArguments),
    /// Take a copy of a range of the log
    #[command(after_help = audit_export::EXAMPLES)]
    Export(ExportArguments),
    /// Check every event, checkpoint and projection of a log, here or on a server
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArguments),
    /// Show how the places that events are forwarded to are doing
    #[command(after_help = audit_forwarding::EXAMPLES)]
    Forwarding(ForwardingArguments),
    /// Print the key that verifies the log of a data folder
    #[command(after_help = KEY_EXAMPLES)]
    VerifierKey(VerifierKeyArguments),
    /// Show what differs in an application between two points in time, and who made it so
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(DiffArguments),
    /// Count events by type, outcome, application, reason or source network
    #[command(after_help = STATS_EXAMPLES)]
    Stats(StatsArguments),
}

const SEARCH_EXAMPLES: &str = "\
Examples:
  grantlog audit search --client-id my.trusted.app/service
  grantlog audit search --type TokenRefused --since 24h --source-ip 203.0.113.7
  grantlog audit search --since 7d \\
      --filter 'reason sw \"secret_\" and source_ip eq \"203.0.113.0/24\"'
  grantlog audit search --since 2026-03-01T00:00:00Z \\
      --until 2026-04-01T00:00:00Z --all --json > march.ndjson
  grantlog audit search --from-index 1000 --order asc --limit 100";

/// Which events.
#[derive(Debug, Args)]
pub struct SearchArguments {
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
    /// Only from this time on: RFC 3339, or a span back from now such as 24h or 30d
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<String>,
    /// Only before this time: RFC 3339, or a span back from now
    #[arg(long, value_name = "TIME|SPAN")]
    until: Option<String>,
    /// Only from this place in the log on
    #[arg(long, value_name = "INDEX")]
    from_index: Option<u64>,
    /// The newest (desc) or the oldest (asc) first
    #[arg(long, value_enum, default_value_t = Order::Desc)]
    order: Order,
    /// The most to show, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on where a search ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Show all, page after page
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Whether what was asked for was done.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Outcome {
    Success,
    Refused,
}

/// Which events come first.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Asc,
    Desc,
}

impl AuditCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        match self {
            Self::Search(arguments) => arguments.run(console, options).await,
            Self::Hold(command) => command.run(console, options).await,
            Self::Retention(arguments) => arguments.run(console, options).await,
            Self::Tail(arguments) => arguments.run(console, options).await,
            Self::Export(arguments) => arguments.run(console, options).await,
            Self::Verify(arguments) => arguments.run(console, options).await,
            Self::Forwarding(arguments) => arguments.run(console, options).await,
            Self::VerifierKey(arguments) => arguments.run(console, options),
            Self::Diff(arguments) => arguments.run(console, options).await,
            Self::Stats(arguments) => arguments.run(console, options).await,
        }
    }
}

/// One page of an answer; events as they are written.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    events: Vec<Box<RawValue>>,
    next: Option<String>,
    /// How many events of the log the answer speaks of.
    indexed_through: Option<u64>,
    /// How many events the log has.
    log_size: Option<u64>,
    /// Where the index begins, when retention has given up what was before.
    indexed_from: Option<u64>,
    /// The server stopped at a bound on its work: there may be more, however few these are.
    #[serde(default)]
    partial: bool,
    /// What of the filter no index answers.
    #[serde(default)]
    unindexed: Vec<String>,
}

impl SearchArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
        let mut table = events_table();
        let mut after = self.after.clone();
        let mut shown = 0;
        let mut end = None;
        loop {
            let limit = if self.all { LARGEST_PAGE } else { self.limit - shown };
            let query = self.parameters(limit, after.as_deref());
            let call = Call {
                query: &query,
                ..Call::default()
            };
            let answer = client.call(Method::GET, &["audit", "events"], call).await?;
            let page: Page = answer.parse()?;
            let end = *end.get_or_insert_with(|| {
                tell_of_lag("searched", page.indexed_through, page.log_size, console);
                page.tell_of_beginning(console);
                page.tell_of_cost(console);
                page.log_size.unwrap_or(u64::MAX)
            });
            // Oldest first there is always a next page, for what comes later: each page that is read is
            // itself an event. All there is, is all there was when the first page was answered.
            let mut is_last = matches!(self.order, Order::Asc) && page.events.is_empty() && !page.partial;
            for written in &page.events {
                let event: AuditEvent = serde_json::from_str(written.get())
                    .map_err(|_| answer.unexpected("an event that cannot be read"))?;
                if self.all && matches!(self.order, Order::Asc) {
                    is_last |= event.index.saturating_add(1) >= end;
                    if event.index >= end {
                        break;
                    }
                }
                shown = shown.saturating_add(1);
                if options.remote.json {
                    console.json(written.get())?;
                } else {
                    table.row(event.row());
                }
            }
            if !table.is_empty() {
                table.print(console)?;
            }
            // Each page is seen as it comes, and a reader that has gone away ends the paging.
            console.out.flush()?;
            match page.next {
                Some(next) if !is_last && (self.all || (page.partial && shown < self.limit)) => {
                    if after.as_ref() == Some(&next) {
                        return Err(answer.unexpected("a page that is followed by itself"));
                    }
                    after = Some(next);
                }
                next => {
                    if shown == 0 {
                        console.note("no event matches");
                    } else if let (Some(next), false) = (next, self.all) {
                        match self.order {
                            Order::Desc => tell_of_more(console, Some(&next)),
                            Order::Asc => console.note(&format!("what comes later: repeat with --after {next}")),
                        }
                    }
                    return Ok(());
                }
            }
        }
    }

    fn parameters(&self, limit: u16, after: Option<&str>) -> Vec<(&'static str, String)> {
        let outcome = self.outcome.map(|outcome| match outcome {
            Outcome::Success => "success".to_owned(),
            Outcome::Refused => "refused".to_owned(),
        });
        let order = match self.order {
            Order::Asc => "asc",
            Order::Desc => "desc",
        };
        [
            ("filter", self.filter.clone()),
            ("type", self.event_type.clone()),
            ("client_id", self.client_id.clone()),
            ("outcome", outcome),
            ("source_ip", self.source_ip.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("from_index", self.from_index.map(|index| index.to_string())),
            ("order", Some(order.to_owned())),
            ("limit", Some(limit.to_string())),
            ("after", after.map(str::to_owned)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// A table of events.
pub(super) fn events_table() -> Table<7> {
    Table::new([
        Column::number("INDEX"),
        Column::whole("TIME"),
        Column::whole("TYPE"),
        Column::wrapped("CLIENT ID", 40),
        Column::whole("OUTCOME").or_below(""),
        Column::whole("SOURCE").or_below("from"),
        Column::wrapped("WHAT", 24).or_below(""),
    ])
}

impl AuditEvent {
    /// Its row in [`events_table`].
    pub(super) fn row(&self) -> [String; 7] {
        [
            self.index.to_string(),
            self.time(),
            self.event_type.clone(),
            self.client_id.clone().unwrap_or_default(),
            self.outcome.clone(),
            self.source(),
            self.what(),
        ]
    }
}

impl Page {
    /// What was given up is not found, and did happen.
    fn tell_of_beginning(&self, console: &mut Console<'_>) {
        if let Some(begin) = self.indexed_from.filter(|begin| *begin > 0) {
            console.note(&format!(
                "the index begins at event {begin}: what was before is not searched; tail and export read the log"
            ));
        }
    }

    /// A search that takes long says why.
    fn tell_of_cost(&self, console: &mut Console<'_>) {
        if !self.unindexed.is_empty() {
            let parts = self.unindexed.join(", ");
            console.note(&format!("no index answers this part of the filter: {parts}"));
        }
        if self.partial {
            console.note("the log is looked through a part at a time: this may take a while");
        }
    }
}
