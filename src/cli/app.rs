//! `app`: Trusted Applications.

use crate::cli::audit_conditions::fixed_time;
use crate::cli::client::{APPLICATIONS_READ, APPLICATIONS_WRITE, Call, Client, LOG_PATIENCE};
use crate::cli::connection::SecretText;
use crate::cli::duration;
use crate::cli::exchange::Answer;
use crate::cli::reference_token::ReferenceTokenCommand;
use crate::cli::registered::{APPLICATION, PageArguments, check_agreement, tell_as_of, tell_of_more, with_reason};
use crate::cli::table::{Column, Details, Table, time};
use crate::cli::usage::{USAGE_EXAMPLES, UsageArguments};
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// `app`.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Register an application; its secret is shown once
    #[command(after_help = REGISTER_EXAMPLES)]
    Register(Box<RegisterArguments>),
    /// List applications
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Show an application, as it is or as it was
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArguments),
    /// Change attributes of an application
    #[command(after_help = CHANGE_EXAMPLES)]
    Change(Box<ChangeArguments>),
    /// Let an application ask for tokens again
    #[command(after_help = ENABLE_EXAMPLES)]
    Enable(SwitchArguments),
    /// Refuse an application every token from now on: the kill switch
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable(DisableArguments),
    /// Delete an application for ever; its name is never given out again
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(DeleteArguments),
    /// Give an application a new secret, shown once; the old ones stay valid for a while
    #[command(after_help = ROTATE_EXAMPLES)]
    RotateSecret(RotateArguments),
    /// Refuse a secret from now on
    #[command(after_help = REVOKE_EXAMPLES)]
    RevokeSecret(RevokeArguments),
    /// Reference tokens: opaque, made here for an application, shown once
    #[command(subcommand)]
    ReferenceToken(ReferenceTokenCommand),
    /// Show everything that happened to an application, with old and new values
    #[command(after_help = HISTORY_EXAMPLES)]
    History(HistoryArguments),
    /// Show what an application uses: which secret and scope, when last, from where
    #[command(after_help = USAGE_EXAMPLES)]
    Usage(UsageArguments),
}

const REGISTER_EXAMPLES: &str = "\
Examples:
  grantlog app register my.trusted.app/service --scope \"read update\" \\
      --system-user svc.integration
  grantlog app register orders-worker --audience https://orders.example.com \\
      --system-user svc.orders --owner team-orders --property region=eu \\
      --lifetime 15m --allow-network 10.0.0.0/8 --secret-expires 90d
  HASH=$(printf %s \"$SECRET\" | openssl dgst -sha256 -binary | base64)
  grantlog app register legacy --system-user svc --secret-hash \"$HASH\"";
const LIST_EXAMPLES: &str = "\
Examples:
  grantlog app list
  grantlog app list --enabled false --org-code acme
  grantlog app list --as-of 2026-03-16T10:00:00Z
  grantlog app list --query orders --json | jq -r '.applications[].client_id'";
const SHOW_EXAMPLES: &str = "\
Examples:
  grantlog app show my.trusted.app/service
  grantlog app show my.trusted.app/service --as-of 2026-03-16T10:00:00Z
  grantlog app show my.trusted.app/service --as-of 1h
  grantlog app show my.trusted.app/service --as-of 1234";
const CHANGE_EXAMPLES: &str = "\
Examples:
  grantlog app change my.trusted.app/service --scope \"read update\" \\
      --reason \"ticket 4711\"
  grantlog app change my.trusted.app/service --unset org_code \\
      --unset properties.region
  grantlog app change my.trusted.app/service --lifetime 15m --if-revision 3

--scope, --audience and --allow-network replace what there was; --property adds
or replaces one.";
const ENABLE_EXAMPLES: &str = "\
Examples:
  grantlog app enable my.trusted.app/service --reason \"incident 12 is over\"";
const DISABLE_EXAMPLES: &str = "\
Examples:
  grantlog app disable my.trusted.app/service --reason \"incident 12\"
  grantlog app disable my.trusted.app/service --revoke-tokens

Its tokens open nothing while it is disabled. With --revoke-tokens those that it
has now stay refused when it is enabled again.";
const DELETE_EXAMPLES: &str = "\
Examples:
  grantlog app delete my.trusted.app/service --reason \"retired\"
  grantlog app delete my.trusted.app/service --yes";
const ROTATE_EXAMPLES: &str = "\
Examples:
  grantlog app rotate-secret my.trusted.app/service
  grantlog app rotate-secret my.trusted.app/service --overlap 7d --expires 90d
  grantlog app rotate-secret my.trusted.app/service --overlap 0 --reason leaked
  grantlog app rotate-secret orders-worker --json | jq -r .client_secret";
const REVOKE_EXAMPLES: &str = "\
Examples:
  grantlog app revoke-secret my.trusted.app/service \\
      0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d --reason leaked --revoke-tokens

Without --revoke-tokens the tokens that the secret got are good until they
expire. `grantlog app show` lists the ids of the secrets.";
const HISTORY_EXAMPLES: &str = "\
Examples:
  grantlog app history my.trusted.app/service
  grantlog app history my.trusted.app/service --json | jq '.events[].data'";

/// What is registered.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// Its OAuth client_id, e.g. my.trusted.app/service
    #[arg(value_name = "URI")]
    application_uri: String,
    #[command(flatten)]
    attributes: Attributes,
    /// It cannot keep a secret; it gets none, and no token
    #[arg(long)]
    public: bool,
    /// Do not let it ask for tokens yet
    #[arg(long)]
    disabled: bool,
    /// Take over a secret, as base64(sha256(secret)), instead of making one
    #[arg(long, value_name = "BASE64", conflicts_with = "public")]
    secret_hash: Option<String>,
    /// The secret is refused after this time, e.g. 90d [default: never by itself]
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds, conflicts_with = "public")]
    secret_expires: Option<u64>,
}

/// Attributes that can be given and changed.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Attributes")]
struct Attributes {
    /// Name for people
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The most that it may ever be granted, space-separated
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<String>,
    /// API that it may ask for (repeatable)
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// Service account that its tokens act as
    #[arg(long, value_name = "USER")]
    system_user: Option<String>,
    /// Whether its tokens may act as a service account at all; who registers it with one allows that
    #[arg(long, value_name = "BOOL")]
    system_user_allowed: Option<bool>,
    /// Organisation that it is bound to
    #[arg(long, value_name = "CODE")]
    org_code: Option<String>,
    /// Who answers for it
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Property that its tokens carry (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    property: Vec<(String, String)>,
    /// How long its tokens live: seconds, or 15m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds)]
    lifetime: Option<u64>,
    /// Network that its requests must come from (repeatable); none: any
    #[arg(long, value_name = "CIDR")]
    allow_network: Vec<String>,
    /// Who may make reference tokens for it [default: none]
    #[arg(long, value_name = "WHO", value_enum)]
    reference_tokens: Option<ReferenceTokens>,
}

/// Who may make reference tokens for an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReferenceTokens {
    /// Nobody
    None,
    /// Administrators
    AdministratorsOnly,
}

/// Which are listed.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only of this organisation
    #[arg(long, value_name = "CODE")]
    org_code: Option<String>,
    /// Only those that may ask for tokens, or that may not
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// Only those with this text in client_id, name, owner or description
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// As they were at this time (RFC 3339, or a span back from now such as 1h) or after this event of the log
    #[arg(long, value_name = "TIME|SPAN|INDEX")]
    as_of: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

/// Which is shown, and when.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Its client_id or its id
    app: String,
    /// As it was at this time (RFC 3339, or a span back from now such as 1h) or after this event of the log
    #[arg(long, value_name = "TIME|SPAN|INDEX")]
    as_of: Option<String>,
}

/// What is changed.
#[derive(Debug, Args)]
pub struct ChangeArguments {
    /// Its client_id or its id
    app: String,
    #[command(flatten)]
    attributes: Attributes,
    /// It cannot keep a secret
    #[arg(long)]
    public: bool,
    /// It can keep a secret
    #[arg(long, conflicts_with = "public")]
    confidential: bool,
    /// Take an attribute away (repeatable): description, scope, audiences, system_user, org_code, owner,
    /// token_lifetime_seconds, allowed_networks, or properties.NAME
    #[arg(long, value_name = "FIELD", value_parser = unset)]
    unset: Vec<Unset>,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only if this is still its revision
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
}

/// What is switched on or off.
#[derive(Debug, Args)]
pub struct SwitchArguments {
    /// Its client_id or its id
    app: String,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// What is switched off.
#[derive(Debug, Args)]
pub struct DisableArguments {
    #[command(flatten)]
    switch: SwitchArguments,
    /// Refuse the tokens that it has now also when it is enabled again
    #[arg(long)]
    revoke_tokens: bool,
}

/// What is deleted.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// Its client_id or its id
    app: String,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// How a secret is rotated.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// Its client_id or its id
    app: String,
    /// How long the old secrets stay valid; 0: not at all [default: the server's, 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds)]
    overlap: Option<u64>,
    /// The new secret is refused after this time [default: never by itself]
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds)]
    expires: Option<u64>,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Which secret is revoked.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// Its client_id or its id
    app: String,
    /// The secret's id
    secret_id: Uuid,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Refuse the tokens that it got, too
    #[arg(long)]
    revoke_tokens: bool,
}

/// Whose history.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// Its client_id or its id; it may be deleted
    app: String,
}

/// An application as the server shows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Application {
    id: String,
    client_id: String,
    name: String,
    description: Option<String>,
    client_type: String,
    is_enabled: bool,
    scope: String,
    audiences: Vec<String>,
    system_user_allowed: bool,
    system_user: Option<String>,
    org_code: Option<String>,
    owner: Option<String>,
    properties: BTreeMap<String, String>,
    token_lifetime_seconds: Option<u64>,
    allowed_networks: Vec<String>,
    reference_tokens: Option<String>,
    secrets: Vec<Secret>,
    revision: u64,
    registered_at: String,
    changed_at: String,
    deleted_at: Option<String>,
}

/// A secret as the server shows it: never itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Secret {
    id: String,
    hint: Option<String>,
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    accepted: bool,
}

/// A new secret, on its way to the one person who sees it.
#[derive(Deserialize)]
struct NewSecret {
    #[serde(default)]
    client_id: String,
    client_secret: Option<String>,
}

impl AppCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        match self {
            Self::Register(arguments) => arguments.run(console, options).await,
            Self::List(arguments) => arguments.run(console, options).await,
            Self::Show(arguments) => arguments.run(console, options).await,
            Self::Change(arguments) => arguments.run(console, options).await,
            Self::Enable(arguments) => arguments.run(console, options, "enable", Map::new()).await,
            Self::Disable(arguments) => {
                let body = with_tokens(arguments.revoke_tokens);
                arguments.switch.run(console, options, "disable", body).await
            }
            Self::Delete(arguments) => arguments.run(console, options).await,
            Self::RotateSecret(arguments) => arguments.run(console, options).await,
            Self::RevokeSecret(arguments) => arguments.run(console, options).await,
            Self::ReferenceToken(command) => command.run(console, options).await,
            Self::History(arguments) => APPLICATION.history(console, options, &arguments.app).await,
            Self::Usage(arguments) => arguments.run(console, options).await,
        }
    }
}

impl RegisterArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut body = self.attributes.patch()?;
        body.insert("application_uri".into(), self.application_uri.into());
        if self.public {
            body.insert("client_type".into(), "Public".into());
        }
        if self.disabled {
            body.insert("is_enabled".into(), false.into());
        }
        if let Some(hash) = self.secret_hash {
            body.insert("application_secret_hash".into(), hash.into());
        }
        if let Some(seconds) = self.secret_expires {
            body.insert("secret_expires_in_seconds".into(), seconds.into());
        }
        let client = Client::sign_in_with_all(console, options).await?;
        let call = Call {
            body: Some(body),
            ..Call::default()
        };
        let answer = client
            .call(Method::POST, &["admin", APPLICATION.collection], call)
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let application: Application = answer.parse()?;
        console.line(&format!("Registered {}", application.client_id))?;
        show_new_secret(&answer, console)?;
        console.line("")?;
        application.print(console)
    }
}

impl ListArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut query = self.page.parameters();
        query.extend(self.org_code.map(|org_code| ("org_code", org_code)));
        query.extend(self.enabled.map(|enabled| ("enabled", enabled.to_string())));
        query.extend(self.query.map(|text| ("q", text)));
        let as_of = self.as_of.map(|as_of| fixed_time(&as_of, Utc::now()));
        query.extend(as_of.map(|as_of| ("as_of", as_of)));
        let client = Client::sign_in(console, options, &[APPLICATIONS_READ]).await?;
        let call = Call {
            query: &query,
            patience: Some(LOG_PATIENCE),
            ..Call::default()
        };
        let answer = client
            .call(Method::GET, &["admin", APPLICATION.collection], call)
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            applications: Vec<Application>,
            next: Option<String>,
        }
        let Page { applications, next } = answer.parse()?;
        let mut table = Table::new([
            Column::wrapped("CLIENT ID", 40),
            Column::whole("ENABLED"),
            Column::wrapped("NAME", 16).or_below(""),
            Column::wrapped("SYSTEM USER", 20).or_below("as"),
            Column::wrapped("ORG", 12).or_below("org"),
            Column::wrapped("SCOPE", 16).or_below("scope"),
        ]);
        for application in applications {
            // Without a name of its own an application is named after its client_id.
            let name = if application.name == application.client_id {
                String::new()
            } else {
                application.name
            };
            table.row([
                application.client_id,
                yes_or_no(application.is_enabled).into(),
                name,
                application.system_user.unwrap_or_default(),
                application.org_code.unwrap_or_default(),
                application.scope,
            ]);
        }
        if table.is_empty() {
            console.note("no application matches");
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
        let answer = APPLICATION.show(&client, &self.app, as_of.clone()).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let application: Application = answer.parse()?;
        console.line(&application.client_id)?;
        tell_as_of(as_of.as_deref(), console)?;
        application.print(console)
    }
}

impl ChangeArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut body = self.attributes.patch()?;
        if self.public || self.confidential {
            let client_type = if self.public { "Public" } else { "Confidential" };
            body.insert("client_type".into(), client_type.into());
        }
        for unset in self.unset {
            unset.apply(&mut body)?;
        }
        if body.is_empty() {
            return Err(CliError::Usage(
                "there is nothing to change: give at least one attribute, or --unset".into(),
            ));
        }
        let client = Client::sign_in_with_all(console, options).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let call = Call {
            body: Some(with_reason(body, self.reason)),
            if_revision: self.if_revision,
            ..Call::default()
        };
        let answer = client
            .call(Method::PATCH, &["admin", APPLICATION.collection, &id], call)
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let application: Application = answer.parse()?;
        console.line(&format!(
            "{} is now at revision {}",
            application.client_id, application.revision
        ))?;
        application.print(console)
    }
}

impl SwitchArguments {
    async fn run(
        self,
        console: &mut Console<'_>,
        options: &GlobalOptions,
        verb: &str,
        body: Map<String, Value>,
    ) -> Result<(), CliError> {
        // Anybody who may change applications may stop any of them.
        let client = match verb {
            "disable" => sign_in_to_change(console, options).await?,
            _ => Client::sign_in_with_all(console, options).await?,
        };
        let id = APPLICATION.find(&client, &self.app).await?;
        let call = Call {
            body: Some(with_reason(body, self.reason)),
            ..Call::default()
        };
        let answer = client
            .call(Method::POST, &["admin", APPLICATION.collection, &id, verb], call)
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let application: Application = answer.parse()?;
        let state = if application.is_enabled { "enabled" } else { "disabled" };
        console.line(&format!(
            "{} is {state} (revision {})",
            application.client_id, application.revision
        ))
    }
}

impl DeleteArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        check_agreement(console, self.yes)?;
        let client = sign_in_to_change(console, options).await?;
        APPLICATION
            .delete(console, &client, &self.app, self.yes, self.reason)
            .await?;
        if options.remote.json {
            return Ok(());
        }
        console.line(&format!("{} is deleted", self.app))
    }
}

impl RotateArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut body = Map::new();
        if let Some(seconds) = self.overlap {
            body.insert("overlap_seconds".into(), seconds.into());
        }
        if let Some(seconds) = self.expires {
            body.insert("expires_in_seconds".into(), seconds.into());
        }
        let client = Client::sign_in_with_all(console, options).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let call = Call {
            body: Some(with_reason(body, self.reason)),
            ..Call::default()
        };
        let answer = client
            .call(Method::POST, &["admin", APPLICATION.collection, &id, "secrets"], call)
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        console.line(&format!("{} has a new secret", self.app))?;
        show_new_secret(&answer, console)?;
        let application: Application = answer.parse()?;
        application.print_secrets(console)?;
        if application.client_id == client.client_id {
            console.note(
                "this is the application that you just called the server as: put the new secret into your profile, or \
                 into GRANTLOG_CLIENT_SECRET",
            );
        }
        Ok(())
    }
}

impl RevokeArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = sign_in_to_change(console, options).await?;
        let id = APPLICATION.find(&client, &self.app).await?;
        let secret_id = self.secret_id.hyphenated().to_string();
        let path = ["admin", APPLICATION.collection, &id, "secrets", &secret_id];
        let call = Call {
            body: Some(with_reason(with_tokens(self.revoke_tokens), self.reason)),
            ..Call::default()
        };
        let answer = client.call(Method::DELETE, &path, call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        console.line(&format!("{}: the secret {secret_id} is revoked", self.app))?;
        answer.parse::<Application>()?.print_secrets(console)
    }
}

/// A body that says so when the tokens are to go, too.
fn with_tokens(revoke_tokens: bool) -> Map<String, Value> {
    let revoked = revoke_tokens.then(|| ("revoke_tokens".to_owned(), true.into()));
    revoked.into_iter().collect()
}

async fn sign_in_to_change(console: &mut Console<'_>, options: &GlobalOptions) -> Result<Client, CliError> {
    // To find it by its name, and to change it.
    Client::sign_in(console, options, &[APPLICATIONS_READ, APPLICATIONS_WRITE]).await
}

impl Attributes {
    /// As a merge patch: what was not given is left out.
    fn patch(&self) -> Result<Map<String, Value>, CliError> {
        let mut patch = Map::new();
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                patch.insert(field.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let list = |items: &[String]| (!items.is_empty()).then(|| json!(items));
        set("name", text(&self.name));
        set("description", text(&self.description));
        set("scope", (!self.scope.is_empty()).then(|| self.scope.join(" ").into()));
        set("audiences", list(&self.audience));
        set("system_user", text(&self.system_user));
        set("system_user_allowed", self.system_user_allowed.map(Value::from));
        set("org_code", text(&self.org_code));
        set("owner", text(&self.owner));
        set("token_lifetime_seconds", self.lifetime.map(Value::from));
        set("allowed_networks", list(&self.allow_network));
        let reference_tokens = self.reference_tokens.map(|who| match who {
            ReferenceTokens::None => "None",
            ReferenceTokens::AdministratorsOnly => "AdministratorsOnly",
        });
        set("reference_tokens", reference_tokens.map(Value::from));
        let mut properties = Map::new();
        for (name, value) in &self.property {
            if properties.insert(name.clone(), value.clone().into()).is_some() {
                return Err(CliError::Usage(format!("--property {name} is given twice")));
            }
        }
        set(
            "properties",
            (!properties.is_empty()).then_some(Value::Object(properties)),
        );
        Ok(patch)
    }
}

/// An attribute to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unset {
    /// Its value becomes null, or nothing in another form.
    Field(&'static str),
    /// One of the properties.
    Property(String),
}

/// Makes what takes an attribute's place.
type Nothing = fn() -> Value;

/// What can be taken away, and what takes its place.
const UNSETTABLE: [(&str, Nothing); 8] = [
    ("description", || Value::Null),
    ("scope", || "".into()),
    ("audiences", || json!([])),
    ("system_user", || Value::Null),
    ("org_code", || Value::Null),
    ("owner", || Value::Null),
    ("token_lifetime_seconds", || Value::Null),
    ("allowed_networks", || json!([])),
];

fn unset(text: &str) -> Result<Unset, String> {
    if let Some(name) = text.strip_prefix("properties.").filter(|name| !name.is_empty()) {
        return Ok(Unset::Property(name.to_owned()));
    }
    // As a flag or as a field: both are before the user's eyes.
    let field = text.replace('-', "_");
    let field = match &*field {
        "audience" => "audiences",
        "lifetime" => "token_lifetime_seconds",
        "allow_network" => "allowed_networks",
        other => other,
    };
    let known = UNSETTABLE.iter().find(|(name, _)| *name == field);
    known.map(|(name, _)| Unset::Field(name)).ok_or_else(|| {
        let names = UNSETTABLE.map(|(name, _)| name).join(", ");
        format!("what can be taken away: {names}, properties.NAME")
    })
}

impl Unset {
    fn apply(self, patch: &mut Map<String, Value>) -> Result<(), CliError> {
        let contradiction = |name: &str| CliError::Usage(format!("{name} is both given and --unset"));
        match self {
            Self::Field(field) => {
                if patch.contains_key(field) {
                    return Err(contradiction(field));
                }
                let nothing = UNSETTABLE
                    .iter()
                    .find(|(name, _)| *name == field)
                    .map(|(_, nothing)| nothing());
                patch.insert(field.to_owned(), nothing.unwrap_or_default());
            }
            Self::Property(name) => {
                let properties = patch.entry("properties").or_insert_with(|| json!({}));
                // An object: `Attributes::patch` and the line above make no other.
                if let Some(properties) = properties.as_object_mut()
                    && properties
                        .insert(name.clone(), Value::Null)
                        .is_some_and(|before| !before.is_null())
                {
                    return Err(contradiction(&format!("properties.{name}")));
                }
            }
        }
        Ok(())
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a property is NAME=VALUE".into()),
    }
}

fn show_new_secret(answer: &Answer, console: &mut Console<'_>) -> Result<(), CliError> {
    let NewSecret {
        client_id,
        client_secret,
    } = answer.parse()?;
    let Some(secret) = client_secret.map(SecretText::from) else {
        return Ok(());
    };
    console.line("")?;
    // Each on one line whatever the terminal's width: they are there to be copied.
    console.line(&format!("  client_id      {client_id}"))?;
    console.line(&format!("  client_secret  {}", secret.expose()))?;
    console.line("")?;
    console.line("This secret is shown once and stored nowhere: keep it now.")
}

impl Application {
    fn print(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        let or = |text: &str, otherwise: &str| {
            if text.is_empty() {
                otherwise.to_owned()
            } else {
                text.to_owned()
            }
        };
        let mut details = Details::default();
        details.add("id", &self.id);
        details.add("name", &self.name);
        details.add_some("description", self.description.as_deref());
        details.add("is_enabled", yes_or_no(self.is_enabled));
        details.add("client_type", &self.client_type);
        details.add("scope", or(&self.scope, "none"));
        details.add("audiences", or(&self.audiences.join("\n"), "none"));
        details.add(
            "system_user",
            match (&self.system_user, self.system_user_allowed) {
                (None, _) => "none: it gets no token".to_owned(),
                (Some(user), true) => user.clone(),
                (Some(user), false) => {
                    format!("{user}, but not allowed: it gets no token (--system-user-allowed true)")
                }
            },
        );
        details.add_some("org_code", self.org_code.as_deref());
        details.add_some("owner", self.owner.as_deref());
        for (name, value) in &self.properties {
            details.add(&format!("properties.{name}"), value);
        }
        let lifetime = self.token_lifetime_seconds.map(|seconds| seconds.to_string());
        details.add_some("token_lifetime_seconds", lifetime);
        details.add("allowed_networks", or(&self.allowed_networks.join("\n"), "any"));
        details.add_some(
            "reference_tokens",
            self.reference_tokens.as_deref().filter(|policy| *policy != "None"),
        );
        details.add("revision", self.revision.to_string());
        details.add("registered_at", time(&self.registered_at));
        details.add("changed_at", time(&self.changed_at));
        details.add_some("deleted_at", self.deleted_at.as_deref().map(time));
        details.print(console)?;
        self.print_secrets(console)
    }

    fn print_secrets(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        let mut table = Table::new([
            Column::whole("SECRET"),
            Column::whole("HINT"),
            Column::whole("STATE"),
            Column::whole("EXPIRES").or_below("expires"),
            Column::whole("CREATED").or_below("created"),
        ]);
        for secret in &self.secrets {
            let state = match (secret.accepted, &secret.revoked_at) {
                (true, _) => "accepted",
                (false, Some(_)) => "revoked",
                (false, None) => "expired",
            };
            table.row([
                secret.id.clone(),
                secret.hint.as_ref().map(|hint| format!("…{hint}")).unwrap_or_default(),
                state.into(),
                secret.expires_at.as_deref().map_or("never".into(), time).into_owned(),
                time(&secret.created_at).into_owned(),
            ]);
        }
        if table.is_empty() {
            return Ok(());
        }
        console.line("")?;
        table.print(console)
    }
}

fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_a_name_and_a_value() {
        assert_eq!(property("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(property("a="), Ok(("a".into(), String::new())));
        assert!(property("a").is_err() && property("=b").is_err());
    }

    #[test]
    fn an_attribute_is_taken_away_by_its_field_or_its_flag() {
        assert_eq!(unset("org_code"), Ok(Unset::Field("org_code")));
        assert_eq!(unset("org-code"), Ok(Unset::Field("org_code")));
        assert_eq!(unset("lifetime"), Ok(Unset::Field("token_lifetime_seconds")));
        assert_eq!(unset("properties.a-b"), Ok(Unset::Property("a-b".into())));
        for other in ["name", "client_id", "properties", "properties.", "secrets", ""] {
            assert!(unset(other).is_err(), "{other}");
        }
    }

    #[test]
    fn taking_away_is_null_or_empty_in_the_patch() {
        let mut patch = Map::from_iter([("properties".to_owned(), json!({ "a": "b" }))]);
        for field in ["owner", "audiences", "scope", "properties.gone"] {
            unset(field).unwrap().apply(&mut patch).unwrap();
        }
        let expected = json!({ "owner": null, "audiences": [], "scope": "", "properties": { "a": "b", "gone": null } });
        assert_eq!(Value::Object(patch), expected);
    }

    #[test]
    fn an_attribute_is_not_given_and_taken_away_at_once() {
        let mut patch = Map::from_iter([
            ("owner".to_owned(), json!("x")),
            ("properties".to_owned(), json!({ "a": "b" })),
        ]);
        assert!(unset("owner").unwrap().apply(&mut patch).is_err());
        assert!(unset("properties.a").unwrap().apply(&mut patch).is_err());
    }
}
