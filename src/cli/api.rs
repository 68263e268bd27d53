//! `api`: the APIs that tokens are for.

use crate::cli::audit_conditions::fixed_time;
use crate::cli::client::{APPLICATIONS_READ, APPLICATIONS_WRITE, Call, Client, LOG_PATIENCE};
use crate::cli::duration;
use crate::cli::registered::{API, PageArguments, check_agreement, tell_as_of, tell_of_more, with_reason};
use crate::cli::table::{Column, Details, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// `api`.
#[derive(Debug, Subcommand)]
pub enum ApiCommand {
    /// Register an API
    #[command(after_help = REGISTER_EXAMPLES)]
    Register(RegisterArguments),
    /// List APIs
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Show an API, as it is or as it was
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArguments),
    /// Change attributes of an API
    #[command(after_help = CHANGE_EXAMPLES)]
    Change(ChangeArguments),
    /// Delete an API that no application may ask for any more
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(DeleteArguments),
    /// Show everything that happened to an API, with old and new values
    #[command(after_help = HISTORY_EXAMPLES)]
    History(HistoryArguments),
}

const REGISTER_EXAMPLES: &str = "\
Examples:
  grantlog api register https://orders.example.com --scope read=\"See orders\" \\
      --scope update
  grantlog api register https://legacy.example.com --signing-alg RS256 \\
      --token-type JWT --lifetime 15m";
const LIST_EXAMPLES: &str = "\
Examples:
  grantlog api list
  grantlog api list --as-of 2026-03-16T10:00:00Z
  grantlog api list --json | jq -r '.apis[].audience'";
const SHOW_EXAMPLES: &str = "\
Examples:
  grantlog api show https://orders.example.com
  grantlog api show https://orders.example.com --as-of 2026-03-16T10:00:00Z";
const CHANGE_EXAMPLES: &str = "\
Examples:
  grantlog api change https://orders.example.com --scope read --scope update
  grantlog api change https://orders.example.com --unset signing_alg \\
      --reason \"back to the default\"

--scope replaces all scopes that there were.";
const DELETE_EXAMPLES: &str = "\
Examples:
  grantlog api delete https://orders.example.com --reason \"replaced\"
  grantlog api delete https://orders.example.com --yes";
const HISTORY_EXAMPLES: &str = "\
Examples:
  grantlog api history https://orders.example.com";

/// What is registered.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// What `aud` of its tokens carries, e.g. https://orders.example.com
    audience: String,
    #[command(flatten)]
    attributes: Attributes,
}

/// Attributes that can be given and changed.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Attributes")]
struct Attributes {
    /// Name for people
    #[arg(long)]
    name: Option<String>,
    /// Scope that it defines (repeatable); none: any
    #[arg(long, value_name = "NAME[=DESCRIPTION]", value_parser = scope)]
    scope: Vec<ApiScope>,
    /// Algorithm of its tokens: ES256, RS256, PS256 or EdDSA [default: the server's]
    #[arg(long, value_name = "ALG")]
    signing_alg: Option<String>,
    /// What `typ` of its tokens says: at+jwt, or JWT for older verifiers
    #[arg(long, value_name = "TYPE")]
    token_type: Option<String>,
    /// How long its tokens live where the application does not say: seconds, or 15m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds)]
    lifetime: Option<u64>,
}

/// Which are listed.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// As they were at this time (RFC 3339, or a span back from now such as 1h) or after this event of the log
    #[arg(long, value_name = "TIME|SPAN|INDEX")]
    as_of: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

/// Which is shown, and when.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Its audience or its id
    api: String,
    /// As it was at this time (RFC 3339, or a span back from now such as 1h) or after this event of the log
    #[arg(long, value_name = "TIME|SPAN|INDEX")]
    as_of: Option<String>,
}

/// What is changed.
#[derive(Debug, Args)]
pub struct ChangeArguments {
    /// Its audience or its id
    api: String,
    #[command(flatten)]
    attributes: Attributes,
    /// Take an attribute away (repeatable): scopes, signing_alg, token_lifetime_seconds
    #[arg(long, value_name = "FIELD", value_parser = unset)]
    unset: Vec<&'static str>,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only if this is still its revision
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
}

/// What is deleted.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// Its audience or its id
    api: String,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Whose history.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// Its audience or its id; it may be deleted
    api: String,
}

/// An API as the server shows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Api {
    id: String,
    audience: String,
    name: String,
    scopes: Vec<ApiScope>,
    signing_alg: Option<String>,
    token_type: String,
    token_lifetime_seconds: Option<u64>,
    revision: u64,
    registered_at: String,
    changed_at: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct ApiScope {
    name: String,
    description: Option<String>,
}

impl ApiCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        match self {
            Self::Register(arguments) => arguments.run(console, options).await,
            Self::List(arguments) => arguments.run(console, options).await,
            Self::Show(arguments) => arguments.run(console, options).await,
            Self::Change(arguments) => arguments.run(console, options).await,
            Self::Delete(arguments) => arguments.run(console, options).await,
            Self::History(arguments) => API.history(console, options, &arguments.api).await,
        }
    }
}

impl RegisterArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut body = self.attributes.patch();
        body.insert("audience".into(), self.audience.into());
        let client = Client::sign_in(console, options, &[APPLICATIONS_WRITE]).await?;
        let call = Call {
            body: Some(body),
            ..Call::default()
        };
        let answer = client.call(Method::POST, &["admin", API.collection], call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let api: Api = answer.parse()?;
        console.line(&format!("Registered {}", api.audience))?;
        api.print(console)
    }
}

impl ListArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut query = self.page.parameters();
        let as_of = self.as_of.map(|as_of| fixed_time(&as_of, Utc::now()));
        query.extend(as_of.map(|as_of| ("as_of", as_of)));
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ]).await?;
        let call = Call {
            query: &query,
            patience: Some(LOG_PATIENCE),
            ..Call::default()
        };
        let answer = client.call(Method::GET, &["admin", API.collection], call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            apis: Vec<Api>,
            next: Option<String>,
        }
        let Page { apis, next } = answer.parse()?;
        let mut table = Table::new([
            Column::wrapped("AUDIENCE", 40),
            Column::whole("ALG"),
            Column::whole("TYPE"),
            Column::wrapped("NAME", 16).or_below(""),
            Column::wrapped("SCOPES", 16).or_below("scopes"),
        ]);
        for api in apis {
            let name = if api.name == api.audience {
                String::new()
            } else {
                api.name
            };
            let scopes: Vec<_> = api.scopes.iter().map(|scope| scope.name.as_str()).collect();
            table.row([
                api.audience,
                api.signing_alg.unwrap_or_else(|| "default".into()),
                api.token_type,
                name,
                if scopes.is_empty() {
                    "any".into()
                } else {
                    scopes.join(" ")
                },
            ]);
        }
        if table.is_empty() {
            console.note("there is no API");
            return Ok(());
        }
        table.print(console)?;
        tell_of_more(console, next.as_deref());
        Ok(())
    }
}

impl ShowArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ]).await?;
        let as_of = self.as_of.map(|as_of| fixed_time(&as_of, Utc::now()));
        let answer = API.show(&client, &self.api, as_of.clone()).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let api: Api = answer.parse()?;
        console.line(&api.audience)?;
        tell_as_of(as_of.as_deref(), console)?;
        api.print(console)
    }
}

impl ChangeArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut body = self.attributes.patch();
        for field in self.unset {
            let nothing = if field == "scopes" { json!([]) } else { Value::Null };
            if body
                .insert(field.to_owned(), nothing)
                .is_some_and(|before| !before.is_null())
            {
                return Err(CliError::Usage(format!("{field} is both given and --unset")));
            }
        }
        if body.is_empty() {
            return Err(CliError::Usage(
                "there is nothing to change: give at least one attribute, or --unset".into(),
            ));
        }
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ, APPLICATIONS_WRITE]).await?;
        let id = API.find(&client, &self.api).await?;
        let call = Call {
            body: Some(with_reason(body, self.reason)),
            if_revision: self.if_revision,
            ..Call::default()
        };
        let answer = client
            .call(Method::PATCH, &["admin", API.collection, &id], call)
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let api: Api = answer.parse()?;
        console.line(&format!("{} is now at revision {}", api.audience, api.revision))?;
        api.print(console)
    }
}

impl DeleteArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        check_agreement(console, self.yes)?;
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ, APPLICATIONS_WRITE]).await?;
        API.delete(console, &client, &self.api, self.yes, self.reason).await?;
        if options.remote.json {
            return Ok(());
        }
        console.line(&format!("{} is deleted", self.api))
    }
}

impl Attributes {
    /// As a merge patch: what was not given is left out.
    fn patch(&self) -> Map<String, Value> {
        let mut patch = Map::new();
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                patch.insert(field.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Value::from);
        set("name", text(&self.name));
        let scopes: Vec<_> = self.scope.iter().map(ApiScope::to_json).collect();
        set("scopes", (!scopes.is_empty()).then_some(Value::Array(scopes)));
        set("signing_alg", text(&self.signing_alg));
        set("token_type", text(&self.token_type));
        set("token_lifetime_seconds", self.lifetime.map(Value::from));
        patch
    }
}

impl ApiScope {
    fn to_json(&self) -> Value {
        match &self.description {
            Some(description) => json!({ "name": self.name, "description": description }),
            None => json!({ "name": self.name }),
        }
    }
}

impl Api {
    fn print(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        let mut details = Details::default();
        details.add("id", &self.id);
        details.add("name", &self.name);
        let scopes: Vec<_> = self
            .scopes
            .iter()
            .map(|scope| match &scope.description {
                Some(description) => format!("{}  {}", scope.name, description.replace('\n', " ")),
                None => scope.name.clone(),
            })
            .collect();
        details.add(
            "scopes",
            if scopes.is_empty() {
                "any".to_owned()
            } else {
                scopes.join("\n")
            },
        );
        details.add(
            "signing_alg",
            self.signing_alg.as_deref().unwrap_or("the server's default"),
        );
        details.add("token_type", &self.token_type);
        details.add_some(
            "token_lifetime_seconds",
            self.token_lifetime_seconds.map(|seconds| seconds.to_string()),
        );
        details.add("revision", self.revision.to_string());
        details.add("registered_at", time(&self.registered_at));
        details.add("changed_at", time(&self.changed_at));
        details.print(console)
    }
}

fn scope(text: &str) -> Result<ApiScope, String> {
    // RFC 6749 §3.3 lets a scope hold a `=`; one that does is registered over HTTP.
    let (name, description) = match text.split_once('=') {
        Some((name, description)) => (name, Some(description.to_owned())),
        None => (text, None),
    };
    if name.is_empty() || name.contains(' ') {
        return Err("a scope is NAME or NAME=DESCRIPTION, and the name has no spaces".into());
    }
    Ok(ApiScope {
        name: name.to_owned(),
        description,
    })
}

fn unset(text: &str) -> Result<&'static str, String> {
    match text {
        "scopes" | "scope" => Ok("scopes"),
        "signing_alg" | "signing-alg" => Ok("signing_alg"),
        "token_lifetime_seconds" | "lifetime" => Ok("token_lifetime_seconds"),
        _ => Err("what can be taken away: scopes, signing_alg, token_lifetime_seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_name_with_or_without_a_description() {
        assert_eq!(
            scope("read"),
            Ok(ApiScope {
                name: "read".into(),
                description: None
            })
        );
        assert_eq!(
            scope("read=See a=b"),
            Ok(ApiScope {
                name: "read".into(),
                description: Some("See a=b".into())
            })
        );
        assert!(scope("").is_err() && scope("=x").is_err() && scope("read update").is_err());
    }
}
