//! `report`: what auditors ask for.

use crate::cli::audit_conditions::fixed_time;
use crate::cli::client::{AUDIT_READ, Call, Client, LOG_PATIENCE};
use crate::cli::exchange::Answer;
use crate::cli::table::{Column, Table};
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a person is told that it still does.
const TELL_EVERY: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  grantlog report
  grantlog report inventory
  grantlog report access-review --as-of 2026-03-31T00:00:00Z \\
      --format html --output review.html
  grantlog report old-secrets --days 180 --format csv --output secrets.csv
  grantlog report unused-scopes --days 30
  grantlog report failed-authentication-bursts --since 7d --threshold 20
  grantlog report log-integrity --through-index 1000000

Without a name the reports are listed. A report prints the command that makes
it again: for the same range and parameters its bytes are the same.";

/// Which report, of what, and how it looks.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReportArguments {
    /// Its name; without one the reports are listed
    name: Option<String>,
    /// How it looks [default: text, or json with --json]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write it to this file instead of the terminal
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The log's size up to which it speaks [default: all that there is]
    #[arg(long, value_name = "SIZE")]
    through_index: Option<u64>,
    /// The state at this time (RFC 3339, or a span back from now) or after this event of the log
    #[arg(long, value_name = "TIME|SPAN|INDEX")]
    as_of: Option<String>,
    /// Days back from the end of the range
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// From this time on: RFC 3339, or a span back from the end of the range such as 30d
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME|SPAN")]
    until: Option<String>,
    /// Failures that make a burst
    #[arg(long, value_name = "N")]
    threshold: Option<u32>,
    /// Failures further apart are of different bursts
    #[arg(long, value_name = "SECONDS")]
    window_seconds: Option<u32>,
    /// A silence longer than this is listed
    #[arg(long, value_name = "SECONDS")]
    gap_seconds: Option<u32>,
    /// Only this application
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
}

/// How a report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
    Html,
}

impl ReportArguments {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let Some(name) = &self.name else {
            // Not the list instead of what was meant.
            if self.format.is_some() || self.output.is_some() || self.parameters(Format::Text).len() > 1 {
                return Err(CliError::Usage(
                    "this needs a report's NAME; `grantlog report` alone lists them".into(),
                ));
            }
            return list(console, options).await;
        };
        let format = self.format.unwrap_or(match options.remote.json {
            true => Format::Json,
            false => Format::Text,
        });
        let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
        let query = self.parameters(format);
        let call = Call {
            query: &query,
            patience: Some(LOG_PATIENCE),
            ..Call::default()
        };
        let path = ["audit", "reports", name];
        let answer = wait_for(client.call(Method::GET, &path, call), console).await?;
        match &self.output {
            Some(path) => write_file(path, &answer, console),
            // On a terminal nothing is obeyed; elsewhere every byte is as the server made it.
            None if console.columns.is_some() => answer.body.lines().try_for_each(|line| console.line(line)),
            None => Ok(console.out.write_all(answer.body.as_bytes())?),
        }
    }

    fn parameters(&self, format: Format) -> Vec<(&'static str, String)> {
        let format = match format {
            Format::Text => "text",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Html => "html",
        };
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        [
            ("format", Some(format.to_owned())),
            ("through_index", self.through_index.map(|through| through.to_string())),
            ("as_of", self.as_of.as_ref().map(|as_of| fixed_time(as_of, Utc::now()))),
            ("days", number(self.days)),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("threshold", number(self.threshold)),
            ("window_seconds", number(self.window_seconds)),
            ("gap_seconds", number(self.gap_seconds)),
            ("client_id", self.client_id.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// Tells a person now and then that there is something to wait for.
async fn wait_for(
    answer: impl Future<Output = Result<Answer, CliError>>,
    console: &mut Console<'_>,
) -> Result<Answer, CliError> {
    let mut answer = std::pin::pin!(answer);
    let mut seconds = 0;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(TELL_EVERY) => {
                seconds += TELL_EVERY.as_secs();
                if console.err_is_terminal {
                    console.note(&format!("the server reads the log: {seconds} s"));
                }
            }
        }
    }
}

/// For the owner's eyes: a report names who may have what.
fn write_file(path: &Path, answer: &Answer, console: &mut Console<'_>) -> Result<(), CliError> {
    let unwritable = |source| CliError::Unwritable {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(unwritable)?;
    file.write_all(answer.body.as_bytes()).map_err(unwritable)?;
    file.sync_all().map_err(unwritable)?;
    let bytes = answer.body.len();
    console.note(&format!("{}: {bytes} bytes", path.display()));
    Ok(())
}

async fn list(console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
    let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
    let answer = client.call(Method::GET, &["audit", "reports"], Call::default()).await?;
    if options.remote.json {
        return console.json(&answer.body);
    }
    #[derive(Deserialize)]
    struct List {
        reports: Vec<Kind>,
    }
    #[derive(Deserialize)]
    struct Kind {
        name: String,
        purpose: String,
        #[serde(default)]
        parameters: Vec<Parameter>,
    }
    #[derive(Deserialize)]
    struct Parameter {
        name: String,
    }
    let List { reports } = answer.parse()?;
    let mut table = Table::new([
        Column::whole("REPORT"),
        Column::wrapped("WHAT", 30),
        Column::wrapped("PARAMETERS", 20).or_below("with"),
    ]);
    for report in reports {
        let parameters = report
            .parameters
            .iter()
            .map(|parameter| format!("--{}", parameter.name.replace('_', "-")))
            .collect::<Vec<_>>();
        table.row([report.name, report.purpose, parameters.join(" ")]);
    }
    table.print(console)
}
