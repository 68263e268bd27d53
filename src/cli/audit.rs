//! `audit`: reading the trail.

use crate::cli::client::{AUDIT_READ, Call, Client};
use crate::cli::event_rows::AuditEvent;
use crate::cli::registered::tell_of_more;
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
}

const SEARCH_EXAMPLES: &str = "\
Examples:
  grantlog audit search --client-id my.trusted.app/service
  grantlog audit search --type TokenRefused --since 24h --source-ip 203.0.113.7
  grantlog audit search --since 2026-03-01T00:00:00Z --until 2026-04-01T00:00:00Z --all --json > march.ndjson
  grantlog audit search --from-index 1000 --order asc --limit 100";

/// Which events.
#[derive(Debug, Args)]
pub struct SearchArguments {
    /// Only of this type, e.g. TokenIssued
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only about this application
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Only what was done, or only what was refused
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// Only what came from this address
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
    /// The newest or the oldest first
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
enum Outcome {
    /// It was
    Success,
    /// It was not
    Refused,
}

/// Which events come first.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    /// The oldest
    Asc,
    /// The newest
    Desc,
}

impl AuditCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let Self::Search(arguments) = self;
        arguments.run(console, options).await
    }
}

/// One page of an answer; events as they are written.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    events: Vec<Box<RawValue>>,
    next: Option<String>,
    indexed_through: Option<u64>,
    log_size: Option<u64>,
}

impl SearchArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
        let as_json = options.remote.json;
        let mut table = Table::new([
            Column::number("INDEX"),
            Column::whole("TIME"),
            Column::whole("TYPE"),
            Column::wrapped("CLIENT ID", 40),
            Column::whole("OUTCOME").or_below(),
            Column::whole("SOURCE").or_below(),
            Column::wrapped("WHAT", 24).or_below(),
        ]);
        let mut query = self.parameters();
        let mut after = self.after.clone();
        let mut is_first = true;
        loop {
            query.retain(|(name, _)| *name != "after");
            query.extend(after.clone().map(|after| ("after", after)));
            let call = Call {
                query: &query,
                ..Call::default()
            };
            let answer = client.call(Method::GET, &["audit", "events"], call).await?;
            let page: Page = answer.parse()?;
            if is_first {
                page.tell_of_lag(console);
            }
            let is_empty = page.events.is_empty();
            for event in page.events {
                if as_json {
                    console.json(event.get())?;
                    continue;
                }
                let event: AuditEvent =
                    serde_json::from_str(event.get()).map_err(|_| answer.unexpected("an event that cannot be read"))?;
                table.row([
                    event.index.to_string(),
                    event.time(),
                    event.event_type.clone(),
                    event.client_id.clone().unwrap_or_default(),
                    event.outcome.clone(),
                    event.source(),
                    event.what(),
                ]);
            }
            if !table.is_empty() {
                table.print(console)?;
            } else if is_first && is_empty {
                console.note("no event matches");
            }
            // Each page is seen as it comes, and a reader that has gone away ends the paging.
            console.out.flush()?;
            is_first = false;
            match page.next {
                Some(next) if !self.all => {
                    tell_of_more(console, Some(&next));
                    return Ok(());
                }
                Some(next) if after.as_ref() == Some(&next) => {
                    return Err(answer.unexpected("a page that is followed by itself"));
                }
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let outcome = self.outcome.map(|outcome| match outcome {
            Outcome::Success => "success".to_owned(),
            Outcome::Refused => "refused".to_owned(),
        });
        let order = match self.order {
            Order::Asc => "asc",
            Order::Desc => "desc",
        };
        let limit = if self.all { LARGEST_PAGE } else { self.limit };
        [
            ("type", self.event_type.clone()),
            ("client_id", self.client_id.clone()),
            ("outcome", outcome),
            ("source_ip", self.source_ip.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("from_index", self.from_index.map(|index| index.to_string())),
            ("order", Some(order.to_owned())),
            ("limit", Some(limit.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

impl Page {
    /// An answer that does not speak about the newest events says so.
    fn tell_of_lag(&self, console: &mut Console<'_>) {
        if let (Some(through), Some(size)) = (self.indexed_through, self.log_size) {
            let missing = size.saturating_sub(through.saturating_add(1));
            if missing > 0 {
                console.note(&format!("the newest {missing} events of the log are not indexed yet"));
            }
        }
    }
}
