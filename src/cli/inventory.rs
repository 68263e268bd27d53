//! `token list`, `show`, `revoke` and `revoke-all`: the tokens that are out.

use crate::cli::client::{APPLICATIONS_READ, Call, Client, LOG_PATIENCE, TOKENS_REVOKE};
use crate::cli::exchange::Answer;
use crate::cli::registered::{APPLICATION, PageArguments, tell_of_more, with_reason};
use crate::cli::table::{Column, Details, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  grantlog token list --client-id my.trusted.app/service --status active
  grantlog token list --kind reference
  grantlog token list --since 24h --json | jq -r '.tokens[].id'

An access token is shown as long as the audit trail finds its issue; a reference
token for ever.";
pub(super) const SHOW_EXAMPLES: &str = "\
Examples:
  grantlog token show 0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d
  grantlog token show 0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d --proof > token.proof";
pub(super) const REVOKE_EXAMPLES: &str = "\
Examples:
  grantlog token revoke 0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d \\
      --reason \"found in a log\"";
pub(super) const REVOKE_ALL_EXAMPLES: &str = "\
Examples:
  grantlog token revoke-all my.trusted.app/service --reason \"incident 12\"

The application can ask for new ones at once: `grantlog app disable` stops that.";

/// Which tokens are listed.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only of this application
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Only with this status now
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only access tokens, or only reference tokens
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only issued then or later (RFC 3339, or a span back from now such as 24h)
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<String>,
    /// Only issued before (RFC 3339, or a span back from now such as 24h)
    #[arg(long, value_name = "TIME|SPAN")]
    until: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

/// Whether a token opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    /// It opens what it is for
    Active,
    /// Its time is over
    Expired,
    /// It was revoked before its time
    Revoked,
    /// It is good again when its application is enabled
    Disabled,
}

/// What kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Access tokens
    Jwt,
    /// Reference tokens
    Reference,
}

/// Which token is shown.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Its jti, or the id of a reference token
    id: Uuid,
    /// Print only the proof that the log has its event (C2SP tlog-proof)
    #[arg(long, conflicts_with = "json")]
    proof: bool,
}

/// Which token is revoked.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// Its jti, or the id of a reference token
    id: Uuid,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Whose tokens are revoked.
#[derive(Debug, Args)]
pub struct RevokeAllArguments {
    /// Its client_id or its id
    app: String,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// A token as the server lists it: never itself.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ListedToken {
    pub id: String,
    pub kind: String,
    pub client_id: String,
    pub status: String,
    pub scope: String,
    pub audiences: Vec<String>,
    pub description: Option<String>,
    pub system_user: Option<String>,
    pub org_code: Option<String>,
    pub hint: String,
    pub secret_id: Option<String>,
    pub kid: Option<String>,
    pub alg: Option<String>,
    pub issued_by: Option<String>,
    pub issued_at: String,
    pub expires_at: String,
    pub revoked_at: Option<String>,
    pub session_id: Option<String>,
    pub last_used_at: Option<String>,
    pub index: u64,
}

impl ListArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut query = self.page.parameters();
        query.extend(self.client_id.map(|client_id| ("client_id", client_id)));
        query.extend(named(self.status).map(|status| ("status", status)));
        query.extend(named(self.kind).map(|kind| ("kind", kind)));
        query.extend(self.since.map(|since| ("since", since)));
        query.extend(self.until.map(|until| ("until", until)));
        let client = Client::sign_in(console, options, &[TOKENS_REVOKE]).await?;
        let call = Call {
            query: &query,
            patience: Some(LOG_PATIENCE),
            ..Call::default()
        };
        let answer = client.call(Method::GET, &["admin", "tokens"], call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tokens: Vec<ListedToken>,
            next: Option<String>,
        }
        let Page { tokens, next } = answer.parse()?;
        if tokens.is_empty() {
            console.note("no token matches");
        } else {
            print_tokens(tokens, console)?;
        }
        tell_of_more(console, next.as_deref());
        Ok(())
    }
}

/// As it is written on the command line, and on the wire.
fn named(value: Option<impl ValueEnum>) -> Option<String> {
    let value = value?.to_possible_value()?;
    Some(value.get_name().to_owned())
}

pub(super) fn print_tokens(tokens: Vec<ListedToken>, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut table = Table::new([
        Column::whole("TOKEN"),
        Column::whole("KIND"),
        Column::whole("STATUS"),
        Column::wrapped("CLIENT ID", 24).or_below("of"),
        Column::whole("ISSUED").or_below("issued"),
        Column::whole("EXPIRES").or_below("expires"),
        Column::whole("LAST USED").or_below("last used"),
        Column::wrapped("WHAT FOR", 16).or_below(""),
    ]);
    for token in tokens {
        table.row([
            token.id,
            token.kind,
            token.status,
            token.client_id,
            time(&token.issued_at).into_owned(),
            time(&token.expires_at).into_owned(),
            token
                .last_used_at
                .as_deref()
                .map(|last| time(last).into_owned())
                .unwrap_or_default(),
            token.description.unwrap_or(token.scope),
        ]);
    }
    table.print(console)
}

impl ShowArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[TOKENS_REVOKE]).await?;
        let id = self.id.hyphenated().to_string();
        let call = Call {
            patience: Some(LOG_PATIENCE),
            ..Call::default()
        };
        let answer = client.call(Method::GET, &["admin", "tokens", &id], call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Shown {
            #[serde(flatten)]
            token: ListedToken,
            claims: Option<Map<String, Value>>,
            last_call: Option<LastCall>,
            event: Event,
            proof: Option<String>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct LastCall {
            time: String,
            method: String,
            path: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Event {
            source: Option<Source>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Source {
            ip: String,
            user_agent: Option<String>,
        }
        let shown: Shown = answer.parse()?;
        if self.proof {
            let proof = shown
                .proof
                .ok_or_else(|| answer.unexpected("no proof: its log is not published now"))?;
            return proof.lines().try_for_each(|line| console.line(line));
        }
        let mut details = shown.token.details();
        if let Some(source) = shown.event.source {
            details.add("requested_from", source.ip);
            details.add_some("user_agent", source.user_agent);
        }
        if let Some(call) = shown.last_call {
            details.add(
                "last_call",
                format!("{} {} {}", time(&call.time), call.method, call.path),
            );
        }
        details.print(console)?;
        if let Some(claims) = shown.claims {
            console.line("")?;
            console.line("Claims")?;
            crate::cli::token::print_members(&claims, console)?;
        }
        Ok(())
    }
}

impl ListedToken {
    pub(super) fn details(&self) -> Details {
        let mut details = Details::default();
        details.add("id", &self.id);
        details.add("kind", &self.kind);
        details.add("client_id", &self.client_id);
        details.add("status", &self.status);
        details.add_some("description", self.description.as_deref());
        details.add("scope", if self.scope.is_empty() { "none" } else { &self.scope });
        let audiences = self.audiences.join("\n");
        details.add(
            "audiences",
            if audiences.is_empty() {
                "all of its application's"
            } else {
                &audiences
            },
        );
        details.add_some("system_user", self.system_user.as_deref());
        details.add_some("org_code", self.org_code.as_deref());
        details.add("hint", format!("…{}", self.hint));
        details.add_some("secret_id", self.secret_id.as_deref());
        details.add_some("kid", self.kid.as_deref());
        details.add_some("alg", self.alg.as_deref());
        details.add_some("issued_by", self.issued_by.as_deref());
        details.add("issued_at", time(&self.issued_at));
        details.add("expires_at", time(&self.expires_at));
        details.add_some("revoked_at", self.revoked_at.as_deref().map(time));
        details.add_some("session_id", self.session_id.as_deref());
        details.add_some("last_used_at", self.last_used_at.as_deref().map(time));
        details.add("event", self.index.to_string());
        details
    }
}

impl RevokeArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[TOKENS_REVOKE]).await?;
        let id = self.id.hyphenated().to_string();
        let call = Call {
            body: Some(with_reason(Map::new(), self.reason)),
            ..Call::default()
        };
        let path = ["admin", "tokens", &id, "revoke"];
        let answer = client.call(Method::POST, &path, call).await?;
        tell_of_revoked(&answer, console, options)
    }
}

/// What has become of a token that was to be revoked.
pub(super) fn tell_of_revoked(
    answer: &Answer,
    console: &mut Console<'_>,
    options: &GlobalOptions,
) -> Result<(), CliError> {
    if options.remote.json {
        return console.json(&answer.body);
    }
    let token: ListedToken = answer.parse()?;
    let (id, of) = (&token.id, &token.client_id);
    match (token.status.as_str(), &token.revoked_at) {
        ("expired", None) => console.line(&format!("{id} of {of} was over already: it opens nothing")),
        _ => console.line(&format!("{id} of {of} is revoked: it opens nothing any more")),
    }
}

impl RevokeAllArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ, TOKENS_REVOKE]).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let call = Call {
            body: Some(with_reason(Map::new(), self.reason)),
            ..Call::default()
        };
        let path = ["admin", APPLICATION.collection, &id, "revoke-tokens"];
        let answer = client.call(Method::POST, &path, call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Revoked {
            client_id: String,
            issued_until: String,
        }
        let revoked: Revoked = answer.parse()?;
        console.line(&format!(
            "all tokens of {} issued until {} are revoked",
            revoked.client_id,
            time(&revoked.issued_until)
        ))
    }
}
