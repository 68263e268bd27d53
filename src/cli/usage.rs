//! `app usage`: what an application uses, to be asked before one revokes a secret or takes a scope away.

use crate::cli::client::{APPLICATIONS_READ, AUDIT_READ, Call, Client};
use crate::cli::lag::tell_of_lag;
use crate::cli::registered::APPLICATION;
use crate::cli::table::{Column, Details, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::Args;
use reqwest::Method;
use serde::Deserialize;

/// Examples of `app usage`.
pub const USAGE_EXAMPLES: &str = "\
Examples:
  grantlog app usage my.trusted.app/service
  grantlog app usage my.trusted.app/service --days 90
  grantlog app usage my.trusted.app/service --json | jq '.unused_scopes'

Is the old secret still used, and from where? Each secret has the tokens that
it got, when the last one, and the networks that they were asked for from.";

/// Whose usage.
#[derive(Debug, Args)]
pub struct UsageArguments {
    /// Its client_id or its id
    app: String,
    /// The last days to tell apart, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..=100))]
    days: u8,
}

#[derive(Deserialize)]
struct Usage {
    client_id: String,
    days: u32,
    indexed_through: u64,
    log_size: u64,
    tokens_issued: Option<Use>,
    tokens_refused: Option<Use>,
    calls: Option<Use>,
    #[serde(default)]
    secrets: Vec<Secret>,
    #[serde(default)]
    scopes: Vec<Scope>,
    #[serde(default)]
    unused_scopes: Vec<String>,
    #[serde(default)]
    refused_networks: Vec<Network>,
}

#[derive(Deserialize)]
struct Use {
    count: u64,
    last: String,
}

#[derive(Deserialize)]
struct Secret {
    id: String,
    hint: Option<String>,
    accepted: bool,
    uses: u64,
    uses_in_days: u64,
    last_used: Option<String>,
    #[serde(default)]
    networks: Vec<Network>,
    #[serde(default)]
    networks_other: u64,
}

#[derive(Deserialize)]
struct Scope {
    scope: String,
    allowed: bool,
    tokens: Option<Use>,
    asked: Option<Use>,
    calls: Option<Use>,
}

#[derive(Deserialize)]
struct Network {
    network: String,
    uses: u64,
    last_used: String,
    in_days: bool,
}

impl UsageArguments {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ, AUDIT_READ]).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let query = [("days", self.days.to_string())];
        let call = Call {
            query: &query,
            ..Call::default()
        };
        let path = ["admin", APPLICATION.collection, &id, "usage"];
        let answer = client.call(Method::GET, &path, call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        answer.parse::<Usage>()?.print(console)
    }
}

impl Usage {
    fn print(self, console: &mut Console<'_>) -> Result<(), CliError> {
        console.line(&self.client_id)?;
        let mut details = Details::default();
        details.add("tokens issued", said(self.tokens_issued.as_ref()));
        details.add("tokens refused", said(self.tokens_refused.as_ref()));
        details.add("calls", said(self.calls.as_ref()));
        let unused = match self.unused_scopes.as_slice() {
            [] => "none".to_owned(),
            scopes => scopes.join(" "),
        };
        details.add(&format!("unused scopes in {} days", self.days), unused);
        details.print(console)?;
        let days = self.days;
        print_secrets(self.secrets, days, console)?;
        print_scopes(self.scopes, console)?;
        if !self.refused_networks.is_empty() {
            console.line("")?;
            console.line("Refused requests came from")?;
            let mut table = Table::new([
                Column::whole("NETWORK"),
                Column::number("REQUESTS"),
                Column::whole("LAST"),
            ]);
            for network in self.refused_networks {
                let last = time(&network.last_used).into_owned();
                table.row([network.network, network.uses.to_string(), last]);
            }
            table.print(console)?;
        }
        tell_of_lag("counted", Some(self.indexed_through), Some(self.log_size), console);
        Ok(())
    }
}

fn print_secrets(secrets: Vec<Secret>, days: u32, console: &mut Console<'_>) -> Result<(), CliError> {
    console.line("")?;
    let mut table = Table::new([
        Column::whole("SECRET"),
        Column::whole("HINT"),
        Column::whole("ACCEPTED"),
        Column::number("TOKENS"),
        Column::number("OF THESE DAYS"),
        Column::whole("LAST USED").or_below("last used"),
        Column::wrapped("FROM", 20).or_below("from"),
    ]);
    for secret in secrets {
        let recent = secret.networks.iter().filter(|network| network.in_days);
        let mut from: Vec<String> = recent
            .map(|network| format!("{} ({})", network.network, network.uses))
            .collect();
        let earlier = secret.networks.iter().filter(|network| !network.in_days);
        let earlier = earlier.map(|network| network.uses).sum::<u64>() + secret.networks_other;
        if earlier > 0 {
            from.push(format!("longer ago ({earlier})"));
        }
        table.row([
            secret.id,
            secret.hint.unwrap_or_default(),
            if secret.accepted { "yes".into() } else { "no".into() },
            secret.uses.to_string(),
            secret.uses_in_days.to_string(),
            secret
                .last_used
                .map_or_else(|| "never".to_owned(), |last| time(&last).into_owned()),
            from.join(", "),
        ]);
    }
    if table.is_empty() {
        return console.line("It has no secret");
    }
    console.line(&format!("Secrets; of these days: of the last {days}"))?;
    table.print(console)
}

fn print_scopes(scopes: Vec<Scope>, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut table = Table::new([
        Column::wrapped("SCOPE", 24),
        Column::whole("ALLOWED"),
        Column::number("TOKENS"),
        Column::whole("LAST").or_below("last"),
        Column::number("ASKED FOR"),
        Column::number("CALLS"),
    ]);
    let count = |used: Option<&Use>| used.map_or(0, |used| used.count).to_string();
    for scope in scopes {
        let last = scope.tokens.as_ref().map(|used| time(&used.last).into_owned());
        table.row([
            scope.scope,
            if scope.allowed { "yes".into() } else { "no".into() },
            count(scope.tokens.as_ref()),
            last.unwrap_or_else(|| "never".to_owned()),
            count(scope.asked.as_ref()),
            count(scope.calls.as_ref()),
        ]);
    }
    if table.is_empty() {
        return Ok(());
    }
    console.line("")?;
    console.line("Scopes; asked for: by tokens whose request named scopes")?;
    table.print(console)
}

fn said(used: Option<&Use>) -> String {
    match used {
        None => "none".to_owned(),
        Some(used) => format!("{}, the last at {}", used.count, time(&used.last)),
    }
}
