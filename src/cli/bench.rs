//! `bench`: how fast a server gives tokens to this machine. One process that only asks, so that anybody can see what to
//! expect before they measure more finely with `bench/`.

use crate::cli::client::warn_of_plain_http;
use crate::cli::connection::Connection;
use crate::cli::exchange::Exchange;
use crate::cli::table::Details;
use crate::cli::token::{AuthenticationMethod, Dialect, TokenQuestion};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::Args;
use futures_util::future::join_all;
use serde::Serialize;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Every token is an event in the server's log and stays there. The application is
that of the other commands (see `grantlog --help`); give it no more scopes than
others have: tokens of grantlog.admin are good for everything until they expire.
This command uses the processor, too: on one machine it and the server share it.

Examples:
  grantlog bench
  grantlog bench --connections 64 --seconds 10
  GRANTLOG_CLIENT_ID=my.trusted.app/service grantlog bench --json";

/// Seconds that a run may take: so many latencies are kept in memory.
const MAX_SECONDS: i64 = 300;
/// Connections at the most.
const MAX_CONNECTIONS: i64 = 1_024;

/// How much is asked.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArguments {
    /// Connections that ask at the same time, each as soon as it was answered
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=MAX_CONNECTIONS))]
    connections: u16,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=MAX_SECONDS))]
    seconds: u16,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Measured {
    connections: u16,
    seconds: f64,
    tokens: usize,
    tokens_per_second: f64,
    /// Requests that got no token.
    failed: usize,
    latency_ms: Latency,
}

/// From the request to the whole answer, in milliseconds.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

/// What one connection has seen.
#[derive(Default)]
struct Seen {
    latencies_us: Vec<u32>,
    failed: usize,
    failure: Option<CliError>,
}

impl BenchArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let connection = Connection::find(console, options, None)?;
        warn_of_plain_http(&connection, console);
        let exchange = Exchange::new(&connection.server)?;
        let question = TokenQuestion {
            dialect: Dialect::Standard,
            method: AuthenticationMethod::Basic,
            credentials: &connection.credentials,
            scope: None,
            audiences: &[],
            resources: &[],
        };
        // Who gets no token is told why before anything is measured.
        question.ask(&exchange).await?;
        if !options.remote.json {
            let client_id = &connection.credentials.client_id;
            let Self { connections, seconds } = self;
            console.note(&format!(
                "asking for tokens of {client_id} for {seconds} s, {connections} at a time"
            ));
        }
        let begun = Instant::now();
        let end = begun + Duration::from_secs(self.seconds.into());
        let asking = (0..self.connections).map(|_| ask_until(end, &question, &exchange));
        let seen = join_all(asking).await;
        let took = begun.elapsed();
        let mut latencies_us = Vec::new();
        let (mut failed, mut failure) = (0, None);
        for mut seen in seen {
            latencies_us.append(&mut seen.latencies_us);
            failed += seen.failed;
            failure = failure.or(seen.failure);
        }
        let measured = Measured {
            connections: self.connections,
            seconds: took.as_secs_f64(),
            tokens: latencies_us.len(),
            tokens_per_second: latencies_us.len() as f64 / took.as_secs_f64(),
            failed,
            latency_ms: Latency::of(latencies_us),
        };
        measured.print(console, options.remote.json)?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

/// Asks again and again. A refusal is counted, and is waited after: a server that says no at once is not to be flooded.
async fn ask_until(end: Instant, question: &TokenQuestion<'_>, exchange: &Exchange) -> Seen {
    const PAUSE: Duration = Duration::from_millis(100);
    let mut seen = Seen::default();
    while Instant::now() < end {
        let asked = Instant::now();
        match question.ask(exchange).await {
            Ok(_) => {
                let micros = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
                seen.latencies_us.push(micros);
            }
            Err(error) => {
                seen.failed += 1;
                seen.failure.get_or_insert(error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    seen
}

impl Latency {
    fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        // The smallest that is not exceeded by more than the rest.
        let at = |share: f64| {
            let rank = (micros.len() as f64 * share).ceil() as usize;
            let micros = micros.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            f64::from(micros) / 1_000.0
        };
        Self {
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

impl Measured {
    fn print(&self, console: &mut Console<'_>, as_json: bool) -> Result<(), CliError> {
        if as_json {
            // Numbers and nothing else: they are always JSON.
            return console.json(&serde_json::to_string(self).unwrap_or_default());
        }
        let Latency { p50, p90, p99, max } = &self.latency_ms;
        let mut details = Details::default();
        details.add("tokens", format!("{} in {:.1} s", self.tokens, self.seconds));
        details.add("rate", format!("{:.0} tokens/s", self.tokens_per_second));
        details.add(
            "latency",
            format!("p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, longest {max:.2} ms"),
        );
        details.add("without a token", self.failed.to_string());
        details.print(console)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_latencies_is_not_above_its_percentile() {
        let latency = Latency::of((1..=1_000).rev().map(|milliseconds| milliseconds * 1_000).collect());
        let Latency { p50, p90, p99, max } = latency;
        assert_eq!([p50, p90, p99, max], [500.0, 900.0, 990.0, 1_000.0]);
        let Latency { p50, max, .. } = Latency::of(vec![7_500]);
        assert_eq!([p50, max], [7.5, 7.5]);
        assert_eq!(Latency::of(Vec::new()).max, 0.0);
    }
}
