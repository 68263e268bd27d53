//! `session`: tokens at work.

use crate::cli::client::{Call, Client, TOKENS_REVOKE};
use crate::cli::registered::{PageArguments, tell_of_more, with_reason};
use crate::cli::table::{Column, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Map;
use uuid::Uuid;

/// `session`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List sessions that are not over, oldest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// End a session; its token stays good, and starts a new one when it is used again
    #[command(after_help = END_EXAMPLES)]
    End(EndArguments),
}

const LIST_EXAMPLES: &str = "\
Examples:
  grantlog session list
  grantlog session list --client-id my.trusted.app/service";
const END_EXAMPLES: &str = "\
Examples:
  grantlog session end 0195a0c2-6a30-7c4e-9a63-0d6f7f1b2c3d

To refuse the token from now on, too: grantlog token revoke.";

/// Which are listed.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only of this application
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    #[command(flatten)]
    page: PageArguments,
}

/// Which is ended.
#[derive(Debug, Args)]
pub struct EndArguments {
    /// The session's id
    id: Uuid,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// A session as the server shows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Session {
    id: String,
    client_id: String,
    token_id: String,
    system_user: Option<String>,
    started_at: String,
    last_used_at: String,
    calls: u64,
    ends_at: String,
    ends_by: String,
}

impl SessionCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        match self {
            Self::List(arguments) => arguments.run(console, options).await,
            Self::End(arguments) => arguments.run(console, options).await,
        }
    }
}

impl ListArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut query = self.page.parameters();
        query.extend(self.client_id.map(|client_id| ("client_id", client_id)));
        let client = Client::sign_in(console, options, &[TOKENS_REVOKE]).await?;
        let call = Call {
            query: &query,
            ..Call::default()
        };
        let answer = client.call(Method::GET, &["admin", "sessions"], call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            sessions: Vec<Session>,
            next: Option<String>,
        }
        let Page { sessions, next } = answer.parse()?;
        let mut table = Table::new([
            Column::whole("SESSION"),
            Column::wrapped("CLIENT ID", 24).or_below("of"),
            Column::number("CALLS"),
            Column::whole("STARTED").or_below("started"),
            Column::whole("LAST USED").or_below("last used"),
            Column::whole("ENDS").or_below("ends"),
            Column::wrapped("AS", 16).or_below("as"),
            Column::whole("TOKEN").or_below("token"),
        ]);
        for session in sessions {
            table.row([
                session.id,
                session.client_id,
                session.calls.to_string(),
                time(&session.started_at).into_owned(),
                time(&session.last_used_at).into_owned(),
                format!("{} ({})", time(&session.ends_at), session.ends_by),
                session.system_user.unwrap_or_default(),
                session.token_id,
            ]);
        }
        if table.is_empty() {
            console.note("there is no such session");
        } else {
            table.print(console)?;
        }
        tell_of_more(console, next.as_deref());
        Ok(())
    }
}

impl EndArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[TOKENS_REVOKE]).await?;
        let id = self.id.hyphenated().to_string();
        let call = Call {
            body: Some(with_reason(Map::new(), self.reason)),
            ..Call::default()
        };
        let answer = client.call(Method::DELETE, &["admin", "sessions", &id], call).await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        let session: Session = answer.parse()?;
        console.line(&format!("{id} of {} is over; its token stays good", session.client_id))
    }
}
