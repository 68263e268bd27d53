//! `audit diff`: what differs in an application between two points in time, and who made it so.

use crate::cli::audit_conditions::fixed_time;
use crate::cli::client::{APPLICATIONS_READ, AUDIT_READ, Call, Client};
use crate::cli::registered::APPLICATION;
use crate::cli::table::{Column, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

/// Examples of `audit diff`.
pub const DIFF_EXAMPLES: &str = "\
Examples:
  grantlog audit diff my.trusted.app/service 2026-03-01T00:00:00Z \\
      2026-04-01T00:00:00Z
  grantlog audit diff my.trusted.app/service 1h 0s
  grantlog audit diff my.trusted.app/service 1200 1900 --json";

/// Of which application, between which points.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// Its client_id or its id; it may be deleted
    app: String,
    /// From this time (RFC 3339, or a span back from now such as 30d), or after this event of the log
    #[arg(value_name = "TIME|SPAN|INDEX")]
    from: String,
    /// To this time, or after this event; a time to come shows which secrets will have expired by then
    #[arg(value_name = "TIME|SPAN|INDEX")]
    to: String,
}

#[derive(Deserialize)]
struct Diff {
    client_id: String,
    #[serde(default)]
    changes: Vec<Change>,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Change {
    field: String,
    from: Value,
    to: Value,
    #[serde(default)]
    events: Vec<u64>,
}

#[derive(Deserialize)]
struct Event {
    index: u64,
    time: String,
    actor: String,
    #[serde(rename = "type")]
    event_type: String,
    reason: Option<String>,
    #[serde(default)]
    what: Vec<String>,
}

impl DiffArguments {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ, AUDIT_READ]).await?;
        let id = APPLICATION.find_even_deleted(&client, &self.app).await?;
        let now = Utc::now();
        let query = [("from", fixed_time(&self.from, now)), ("to", fixed_time(&self.to, now))];
        let call = Call {
            query: &query,
            ..Call::default()
        };
        let path = ["admin", APPLICATION.collection, &id, "diff"];
        let answer = client.call(Method::GET, &path, call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let diff: Diff = answer.parse()?;
        console.line(&diff.client_id)?;
        if diff.changes.is_empty() {
            console.line("nothing differs")?;
        } else {
            let mut table = Table::new([
                Column::wrapped("FIELD", 20),
                Column::wrapped("FROM", 20),
                Column::wrapped("TO", 20),
                Column::whole("EVENTS").or_below("events"),
            ]);
            for change in diff.changes {
                let events = change.events.iter().map(ToString::to_string).collect::<Vec<_>>();
                let events = match events.is_empty() {
                    true => "none: by time".to_owned(),
                    false => events.join(" "),
                };
                table.row([change.field, value(&change.from), value(&change.to), events]);
            }
            table.print(console)?;
        }
        if !diff.events.is_empty() {
            console.line("")?;
            let mut table = Table::new([
                Column::number("INDEX"),
                Column::whole("TIME"),
                Column::whole("TYPE"),
                Column::wrapped("ACTOR", 24),
                Column::wrapped("WHAT", 24).or_below(""),
                Column::wrapped("REASON", 16).or_below("reason"),
            ]);
            for event in diff.events {
                table.row([
                    event.index.to_string(),
                    time(&event.time).into_owned(),
                    event.event_type,
                    event.actor,
                    event.what.join("\n"),
                    event.reason.unwrap_or_default(),
                ]);
            }
            table.print(console)?;
        }
        Ok(())
    }
}

/// A value in a cell.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(self::value).collect::<Vec<_>>().join(" "),
        Value::Object(members) => {
            let members = members.iter().filter(|(_, member)| !member.is_null());
            let members = members.map(|(name, member)| format!("{name} {}", self::value(member)));
            members.collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}
