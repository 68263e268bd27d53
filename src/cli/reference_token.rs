//! `app reference-token`: opaque tokens that an administrator makes for an application.

use crate::cli::client::{APPLICATIONS_READ, APPLICATIONS_WRITE, Call, Client};
use crate::cli::connection::SecretText;
use crate::cli::duration;
use crate::cli::inventory::{ListedToken, print_tokens, tell_of_revoked};
use crate::cli::registered::{APPLICATION, PageArguments, tell_of_more, with_reason};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, json};
use uuid::Uuid;

/// `app reference-token`.
#[derive(Debug, Subcommand)]
pub enum ReferenceTokenCommand {
    /// Make a reference token; it is shown once
    #[command(after_help = ISSUE_EXAMPLES)]
    Issue(IssueArguments),
    /// List an application's reference tokens, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Revoke a reference token: it opens nothing from now on
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArguments),
}

const ISSUE_EXAMPLES: &str = "\
Examples:
  grantlog app reference-token issue my.trusted.app/service \\
      --description \"nightly export\" --scope read --expires 30d
  grantlog app reference-token issue orders-worker --description ci --json \\
      | jq -r .reference_token

The application has to allow it first:
  grantlog app change my.trusted.app/service \\
      --reference-tokens administrators-only";
const LIST_EXAMPLES: &str = "\
Examples:
  grantlog app reference-token list my.trusted.app/service";
const REVOKE_EXAMPLES: &str = "\
Examples:
  grantlog app reference-token revoke my.trusted.app/service \\
      0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d --reason leaked

`grantlog app reference-token list` shows the ids.";

/// What is made.
#[derive(Debug, Args)]
pub struct IssueArguments {
    /// Its application: client_id or id
    app: String,
    /// What the token is for
    #[arg(long, value_name = "TEXT")]
    description: String,
    /// What it allows, space-separated, within the application's scope [default: all of it]
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<String>,
    /// API that it opens (repeatable) [default: all of the application's]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// How long it lives, 366 days at the most [default: 90d]
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds)]
    expires: Option<u64>,
}

/// Whose tokens are listed.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Their application: client_id or id
    app: String,
    #[command(flatten)]
    page: PageArguments,
}

/// Which token is revoked.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// Its application: client_id or id
    app: String,
    /// The token's id
    token_id: Uuid,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl ReferenceTokenCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        match self {
            Self::Issue(arguments) => arguments.run(console, options).await,
            Self::List(arguments) => arguments.run(console, options).await,
            Self::Revoke(arguments) => arguments.run(console, options).await,
        }
    }
}

impl IssueArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut body = Map::from_iter([("description".to_owned(), self.description.into())]);
        if !self.scope.is_empty() {
            body.insert("scope".into(), self.scope.join(" ").into());
        }
        if !self.audience.is_empty() {
            body.insert("audiences".into(), json!(self.audience));
        }
        if let Some(seconds) = self.expires {
            body.insert("expires_in_seconds".into(), seconds.into());
        }
        let client = Client::sign_in_with_all(console, options).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let call = Call {
            body: Some(body),
            ..Call::default()
        };
        let path = ["admin", APPLICATION.collection, &id, "reference-tokens"];
        let answer = client.call(Method::POST, &path, call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Deserialize)]
        struct Issued {
            #[serde(flatten)]
            token: ListedToken,
            #[serde(default)]
            reference_token: String,
        }
        let Issued { token, reference_token } = answer.parse()?;
        let text = SecretText::from(reference_token);
        console.line(&format!("{} has a new reference token", token.client_id))?;
        console.line("")?;
        // On one line whatever the terminal's width: it is there to be copied.
        console.line(&format!("  reference_token  {}", text.expose()))?;
        console.line("")?;
        console.line("This token is shown once and stored nowhere: keep it now.")?;
        console.line("")?;
        token.details().print(console)
    }
}

impl ListArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ]).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let query = self.page.parameters();
        let call = Call {
            query: &query,
            ..Call::default()
        };
        let path = ["admin", APPLICATION.collection, &id, "reference-tokens"];
        let answer = client.call(Method::GET, &path, call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            reference_tokens: Vec<ListedToken>,
            next: Option<String>,
        }
        let Page { reference_tokens, next } = answer.parse()?;
        if reference_tokens.is_empty() {
            console.note(&format!("{} has no reference token", self.app));
            return Ok(());
        }
        print_tokens(reference_tokens, console)?;
        tell_of_more(console, next.as_deref());
        Ok(())
    }
}

impl RevokeArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ, APPLICATIONS_WRITE]).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let token_id = self.token_id.hyphenated().to_string();
        let call = Call {
            body: Some(with_reason(Map::new(), self.reason)),
            ..Call::default()
        };
        let path = ["admin", APPLICATION.collection, &id, "reference-tokens", &token_id];
        let answer = client.call(Method::DELETE, &path, call).await?;
        tell_of_revoked(&answer, console, options)
    }
}
