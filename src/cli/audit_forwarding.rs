//! `audit forwarding`: how the sinks of the trail are doing.

use crate::cli::client::{AUDIT_READ, Call, Client};
use crate::cli::table::{Column, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::Args;
use reqwest::Method;
use serde::Deserialize;

/// What `--help` shows of it.
pub const EXAMPLES: &str = "\
Examples:
  grantlog audit forwarding
  grantlog audit forwarding --json | jq '.sinks[] | select(.lag > 1000)'";

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct ForwardingArguments {}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    sinks: Vec<Sink>,
}

/// A sink as the server shows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Sink {
    name: String,
    kind: String,
    target: String,
    state: String,
    lag: u64,
    last_delivery: Option<String>,
    last_error: Option<LastError>,
}

#[derive(Deserialize)]
struct LastError {
    class: String,
    message: String,
    time: String,
}

impl ForwardingArguments {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
        let answer = client
            .call(Method::GET, &["audit", "forwarding"], Call::default())
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let Shown { sinks } = answer.parse()?;
        if sinks.is_empty() {
            console.note("nothing is forwarded: the server's configuration has no [[forwarding]]");
            return Ok(());
        }
        let mut table = Table::new([
            Column::whole("NAME"),
            Column::whole("KIND"),
            Column::whole("STATE"),
            Column::number("LAG"),
            Column::whole("LAST DELIVERY").or_below("last delivery"),
            Column::whole("TARGET").or_below("to"),
            Column::wrapped("LAST ERROR", 30).or_below("last error"),
        ]);
        for sink in sinks {
            table.row([
                sink.name,
                sink.kind,
                sink.state,
                sink.lag.to_string(),
                sink.last_delivery.as_deref().map(time).unwrap_or_default().into_owned(),
                sink.target,
                sink.last_error
                    .map(|error| format!("{} {}: {}", time(&error.time), error.class, error.message))
                    .unwrap_or_default(),
            ]);
        }
        table.print(console)
    }
}
