//! `key`: the keys that tokens are signed with.

use crate::cli::audit_conditions::fixed_time;
use crate::cli::client::{AUDIT_READ, Call, Client, KEYS_WRITE};
use crate::cli::event_rows::AuditEvent;
use crate::cli::exchange::Answer;
use crate::cli::master_key::{self, MasterArguments};
use crate::cli::registered::{print_history, with_reason};
use crate::cli::table::{Column, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Map;

/// `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List signing keys
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Sign with a new key from now on; the old one stays published until its tokens have expired
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(RotateArguments),
    /// Publish a key no longer: what it signed is invalid from now on
    #[command(after_help = RETIRE_EXAMPLES)]
    Retire(RetireArguments),
    /// Make a master key, which seals the signing keys, and print it
    #[command(after_help = MASTER_EXAMPLES)]
    Master(MasterArguments),
    /// Show everything that happened to the signing keys
    #[command(after_help = HISTORY_EXAMPLES)]
    History(HistoryArguments),
}

const LIST_EXAMPLES: &str = "\
Examples:
  grantlog key list
  grantlog key list --as-of 2026-03-16T10:00:00Z
  grantlog key list --json | jq '.keys[].public_jwk'";
const ROTATE_EXAMPLES: &str = "\
Examples:
  grantlog key rotate
  grantlog key rotate --alg RS256 --reason \"yearly\"";
const RETIRE_EXAMPLES: &str = "\
Examples:
  grantlog key retire 2026-03-16 --reason \"the disk was stolen\"";

const MASTER_EXAMPLES: &str = "\
Examples:
  (umask 077; grantlog key master > master.key)

Every node on one log gets the same one, by keys.master_key_file or
GRANTLOG__KEYS__MASTER_KEY.";

const HISTORY_EXAMPLES: &str = "\
Examples:
  grantlog key history
  grantlog key history --json | jq '.events[].data.kid'";

/// When.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// As they were at this time (RFC 3339, or a span back from now such as 1h) or after this event of the log
    #[arg(long, value_name = "TIME|SPAN|INDEX")]
    as_of: Option<String>,
}

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct HistoryArguments {}

/// Which key is rotated.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// Algorithm whose key is rotated [default: the server's, ES256]
    #[arg(long, value_name = "ALG")]
    alg: Option<String>,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Which key is retired.
#[derive(Debug, Args)]
pub struct RetireArguments {
    /// Its id
    #[arg(value_parser = kid)]
    kid: String,
    /// Why; the audit trail keeps it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// A key as the server shows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SigningKey {
    kid: String,
    alg: String,
    state: String,
    added_at: String,
    since: Option<String>,
    at: Option<String>,
}

impl KeyCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        match self {
            Self::History(HistoryArguments {}) => return history(console, options).await,
            Self::Master(arguments) => return master_key::run(arguments, console),
            Self::List(_) | Self::Rotate(_) | Self::Retire(_) => {}
        }
        let client = Client::sign_in(console, options, &[KEYS_WRITE]).await?;
        let keys = ["admin", "signing-keys"];
        let answer = match self {
            // Done above, with another scope, and without any.
            Self::History(_) | Self::Master(_) => return Ok(()),
            Self::List(arguments) => {
                let as_of = arguments.as_of.map(|as_of| fixed_time(&as_of, Utc::now()));
                let query: Vec<_> = as_of.into_iter().map(|as_of| ("as_of", as_of)).collect();
                let call = Call {
                    query: &query,
                    ..Call::default()
                };
                client.call(Method::GET, &keys, call).await?
            }
            Self::Rotate(arguments) => {
                let mut body = Map::new();
                if let Some(alg) = arguments.alg {
                    body.insert("alg".into(), alg.into());
                }
                let call = Call {
                    body: Some(with_reason(body, arguments.reason)),
                    ..Call::default()
                };
                client
                    .call(Method::POST, &["admin", "signing-keys", "rotate"], call)
                    .await?
            }
            Self::Retire(arguments) => {
                let path = ["admin", "signing-keys", &arguments.kid, "retire"];
                let call = Call {
                    body: Some(with_reason(Map::new(), arguments.reason)),
                    ..Call::default()
                };
                let answer = client.call(Method::POST, &path, call).await?;
                if answer.body.is_empty() {
                    return if options.remote.json {
                        Ok(())
                    } else {
                        console.line(&format!("{} is retired", arguments.kid))
                    };
                }
                answer
            }
        };
        if options.remote.json {
            console.json(&answer.body)
        } else {
            print(&answer, console)
        }
    }
}

async fn history(console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
    let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
    let path = ["admin", "signing-keys", "history"];
    let answer = client.call(Method::GET, &path, Call::default()).await?;
    if options.remote.json {
        return console.json(&answer.body);
    }
    #[derive(Deserialize)]
    struct History {
        #[serde(default)]
        events: Vec<AuditEvent>,
    }
    print_history(answer.parse::<History>()?.events, console)
}

fn print(answer: &Answer, console: &mut Console<'_>) -> Result<(), CliError> {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(default)]
        keys: Vec<SigningKey>,
    }
    let Keys { keys } = answer.parse()?;
    let mut table = Table::new([
        Column::wrapped("KID", 40),
        Column::whole("ALG"),
        Column::whole("STATE"),
        Column::whole("SINCE").or_below("since"),
        Column::whole("ADDED").or_below("added"),
    ]);
    for key in keys {
        let since = key.since.or(key.at).unwrap_or_else(|| key.added_at.clone());
        table.row([
            key.kid,
            key.alg,
            key.state,
            time(&since).into_owned(),
            time(&key.added_at).into_owned(),
        ]);
    }
    if table.is_empty() {
        console.note("there is no signing key");
        return Ok(());
    }
    table.print(console)
}

/// What can be an id: it becomes a part of a path.
fn kid(text: &str) -> Result<String, String> {
    let is_kid = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if is_kid && text.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err("a key's id is of letters, digits, dots and hyphens; `grantlog key list` shows them".into())
    }
}

#[cfg(test)]
mod tests {
    use super::kid;

    #[test]
    fn an_id_is_no_way_out_of_a_path() {
        assert!(kid("2026-03-16-rs256.2").is_ok());
        for other in ["", ".", "..", "a/b", "a b", "%2e"] {
            assert!(kid(other).is_err(), "{other}");
        }
    }
}
