//! `audit hold` and `audit retention`: what is kept of the trail.

use crate::cli::audit_conditions::fixed_time;
use crate::cli::client::{AUDIT_HOLD, AUDIT_READ, Call, Client};
use crate::cli::registered::with_reason;
use crate::cli::table::{Column, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Map;
use uuid::Uuid;

/// `audit hold`.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep a range of the log from being removed
    #[command(after_help = PLACE_EXAMPLES)]
    Place(PlaceArguments),
    /// List the holds in force
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// End a hold
    #[command(after_help = RELEASE_EXAMPLES)]
    Release(ReleaseArguments),
}

const PLACE_EXAMPLES: &str = "\
Only the log's beginning is ever removed, so a hold keeps what came after its
range, too. What was removed before stays so.

Examples:
  grantlog audit hold place --since 2026-03-01T00:00:00Z --reason \"case 7\"
  grantlog audit hold place --since 30d --reason \"case 8\"
  grantlog audit hold place --from-index 12000 --through-index 15000 \\
      --reason \"incident 2026-11\"";
const LIST_EXAMPLES: &str = "\
Examples:
  grantlog audit hold list
  grantlog audit hold list --json | jq '.holds[].reason'";
const RELEASE_EXAMPLES: &str = "\
Examples:
  grantlog audit hold release 01a1f9ff-c5d1-7113-a487-831e720a9c70 \\
      --reason \"settled\"";
/// What `--help` shows of `audit retention`.
pub const RETENTION_EXAMPLES: &str = "\
Examples:
  grantlog audit retention
  grantlog audit retention --json | jq .removed_through";

/// What is held.
#[derive(Debug, Args)]
pub struct PlaceArguments {
    /// The first index of the range
    #[arg(
        long,
        value_name = "INDEX",
        required_unless_present = "since",
        conflicts_with = "since"
    )]
    from_index: Option<u64>,
    /// The time of its first event: RFC 3339, or a span back from now such as 30d
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<String>,
    /// The index after its last one [default: whatever comes]
    #[arg(long, value_name = "INDEX")]
    through_index: Option<u64>,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct ListArguments {}

/// Which hold ends.
#[derive(Debug, Args)]
pub struct ReleaseArguments {
    /// Its id
    id: Uuid,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct RetentionArguments {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Hold {
    id: String,
    from_index: u64,
    through_index: Option<u64>,
    reason: String,
    placed_by: String,
    placed_at: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rules {
    index_after_seconds: Option<u64>,
    index_max_bytes: Option<u64>,
    log_after_seconds: Option<u64>,
    log_max_bytes: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Retention {
    rules: Rules,
    removed_through: u64,
    removed_events: u64,
    indexed_from: u64,
    log_size: u64,
    log_bytes: u64,
    index_bytes: u64,
    holds: Vec<Hold>,
}

impl HoldCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        // Whoever reads the trail may know what is kept of it.
        let scope = match self {
            Self::List(_) => AUDIT_READ,
            Self::Place(_) | Self::Release(_) => AUDIT_HOLD,
        };
        let client = Client::sign_in(console, options, &[scope]).await?;
        let holds = ["audit", "holds"];
        match self {
            Self::Place(arguments) => {
                let mut body = with_reason(Map::new(), Some(arguments.reason));
                let index = |index: Option<u64>| index.map(Into::into);
                for (name, value) in [
                    ("from_index", index(arguments.from_index)),
                    (
                        "since",
                        arguments.since.map(|since| fixed_time(&since, Utc::now()).into()),
                    ),
                    ("through_index", index(arguments.through_index)),
                ] {
                    if let Some(value) = value {
                        body.insert(name.into(), value);
                    }
                }
                let call = Call {
                    body: Some(body),
                    ..Call::default()
                };
                let answer = client.call(Method::POST, &holds, call).await?;
                if options.remote.json {
                    return console.json(&answer.body);
                }
                let hold: Hold = answer.parse()?;
                console.line(&format!(
                    "hold {}: what is from index {} on stays",
                    hold.id, hold.from_index
                ))
            }
            Self::List(ListArguments {}) => {
                let answer = client.call(Method::GET, &holds, Call::default()).await?;
                if options.remote.json {
                    return console.json(&answer.body);
                }
                let Retention { holds, .. } = answer.parse()?;
                if holds.is_empty() {
                    console.note("nothing is held");
                    return Ok(());
                }
                list(holds, console)
            }
            Self::Release(arguments) => {
                let id = arguments.id.to_string();
                let call = Call {
                    body: Some(with_reason(Map::new(), arguments.reason)),
                    ..Call::default()
                };
                client.call(Method::DELETE, &["audit", "holds", &id], call).await?;
                match options.remote.json {
                    true => Ok(()),
                    false => console.line(&format!("hold {id} is released")),
                }
            }
        }
    }
}

impl RetentionArguments {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
        let answer = client
            .call(Method::GET, &["audit", "retention"], Call::default())
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let shown: Retention = answer.parse()?;
        let rule = |days: Option<u64>, bytes: Option<u64>| match (days.map(|seconds| seconds / 86_400), bytes) {
            (None, None) => "everything is kept".to_owned(),
            (Some(days), None) => format!("{days} days are kept"),
            (None, Some(bytes)) => format!("{bytes} bytes are kept"),
            (Some(days), Some(bytes)) => format!("{days} days are kept, and {bytes} bytes"),
        };
        console.line(&format!(
            "log:   {} events, {} bytes; {}",
            shown.log_size,
            shown.log_bytes,
            rule(shown.rules.log_after_seconds, shown.rules.log_max_bytes)
        ))?;
        console.line(&format!(
            "       {} facts of the trail before index {} were removed",
            shown.removed_events, shown.removed_through
        ))?;
        console.line(&format!(
            "index: {} bytes, from index {} on; {}",
            shown.index_bytes,
            shown.indexed_from,
            rule(shown.rules.index_after_seconds, shown.rules.index_max_bytes)
        ))?;
        match shown.holds.is_empty() {
            true => console.line("holds: none"),
            false => {
                console.line("holds:")?;
                list(shown.holds, console)
            }
        }
    }
}

fn list(holds: Vec<Hold>, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut table = Table::new([
        Column::whole("ID"),
        Column::number("FROM"),
        Column::number("THROUGH"),
        Column::whole("SINCE"),
        Column::wrapped("BY", 24).or_below("by"),
        Column::wrapped("REASON", 24).or_below("because of"),
    ]);
    for hold in holds {
        table.row([
            hold.id,
            hold.from_index.to_string(),
            hold.through_index.map(|index| index.to_string()).unwrap_or_default(),
            time(&hold.placed_at).into_owned(),
            hold.placed_by,
            hold.reason,
        ]);
    }
    table.print(console)
}
