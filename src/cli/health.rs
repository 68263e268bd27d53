//! `health`: whether a server is ready. For scripts, and for containers that have nothing else to ask with.

use crate::cli::connection::Server;
use crate::cli::exchange::Exchange;
use crate::cli::{CliError, Console, GlobalOptions};
use clap::Args;
use reqwest::Method;
use serde::Deserialize;

const EXAMPLES: &str = "\
Needs no credentials. Exit code 0 when the server is ready, 1 when it is not or
does not answer.

Examples:
  grantlog health
  grantlog health --url http://127.0.0.1:8080";

/// `health` takes nothing but what every command takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct HealthArguments {}

/// What `/health/ready` answers.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    log_size: u64,
}

impl HealthArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let server = Server::find_anywhere(console, options)?;
        let exchange = Exchange::new(&server)?;
        let request = exchange.request(Method::GET, exchange.url(&["health", "ready"]));
        let answer = exchange.send(request).await?;
        // A server that is not ready answers a failure, with the same body; what else answers one has another.
        let readiness: Readiness = match answer.parse() {
            Ok(readiness) => readiness,
            Err(error) if answer.status.is_success() => return Err(error),
            Err(_) => return Err(answer.refusal()),
        };
        if options.remote.json {
            console.json(&answer.body)?;
        }
        match readiness.ready {
            false => Err(CliError::NotReady(readiness.reasons.join("; "))),
            true if options.remote.json => Ok(()),
            true => console.line(&format!("ready, {} events", readiness.log_size)),
        }
    }
}
