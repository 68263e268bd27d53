//! `grantlog rebuild`: its arguments, and how its outcome is told.

use crate::audit::index::rebuild::RebuildComparison;
use crate::cli::{NoRemoteOptions, console};
use crate::service::rebuild::StateComparison;
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const EXAMPLES: &str = "\
Builds the directory, the signing keys and the audit index from the log alone
and compares them with what is saved. It only reads: a server may be serving
from the folder. Exit code 1 when anything differs; then stop the server and
delete projections.db and audit.db: the next start builds them anew.

Examples:
  grantlog rebuild
  grantlog rebuild --data-dir /var/lib/grantlog
  grantlog rebuild --config grantlog.toml --json";

/// Events between two lines of progress.
const PROGRESS_EVENTS: u64 = 250_000;

/// The arguments of `rebuild`; the data folder is a global option.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct RebuildArguments {
    /// Configuration file of the server whose log it is
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Refuses what only clients understand.
    #[command(flatten)]
    pub no_remote_options: NoRemoteOptions<true>,
}

/// Tells people at a terminal how far it has come: what is being built, and how many events it has read.
pub fn progress() -> impl Fn(&'static str, u64) + Clone + Send + 'static {
    let is_watched = std::io::stderr().is_terminal();
    let told = Arc::new(AtomicU64::new(0));
    move |what, events| {
        let step = events / PROGRESS_EVENTS;
        if is_watched && step != told.swap(step, Ordering::Relaxed) && step > 0 {
            eprintln!("{what}: {} events", step * PROGRESS_EVENTS);
        }
    }
}

/// Prints what the comparison found; the exit code says whether anything differs.
pub fn report(state: &StateComparison, index: &RebuildComparison, json: bool) -> ExitCode {
    let seconds = state.elapsed.as_secs_f64();
    let state_rate = state.events as f64 / seconds.max(1e-9);
    let differences: Vec<&String> = state.differences.iter().chain(&index.difference).collect();
    console::on_standard_streams(|console| {
        let told = if json {
            let document = serde_json::json!({
                "state": {
                    "compared": state.is_compared,
                    "events": state.events,
                    "applications": state.applications,
                    "events_per_second": state_rate.round(),
                },
                "audit_index": {
                    "events": index.events,
                    "compared_events": index.compared_events,
                    "compared_rows": index.compared_rows,
                    "events_per_second": index.events_per_second().round(),
                },
                "differences": differences,
            });
            console.json(&document.to_string())
        } else {
            let mut lines = vec![
                format!(
                    "state        {} events, {} applications, {state_rate:.0} events/s",
                    state.events, state.applications
                ),
                format!(
                    "audit index  {} events, {} rows of the first {} events compared, {:.0} events/s",
                    index.events,
                    index.compared_rows,
                    index.compared_events,
                    index.events_per_second()
                ),
            ];
            lines.extend(differences.iter().map(|difference| format!("DIFFERS: {difference}")));
            if differences.is_empty() {
                lines.push(if state.is_compared {
                    "what is saved is what the log gives".into()
                } else {
                    "no state of this log is saved yet: there was nothing to compare the rebuilt one with".to_owned()
                });
            }
            lines.iter().try_for_each(|line| console.line(line))
        };
        match told {
            Ok(()) => u8::from(!differences.is_empty()),
            Err(error) => error.report(console),
        }
    })
}
