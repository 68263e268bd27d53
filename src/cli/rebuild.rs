//! `grantlog rebuild`: its arguments, and how its outcome is told.

use crate::audit::index::rebuild::RebuildComparison;
use crate::audit::usage::rebuild::UsageComparison;
use crate::cli::{NoRemoteOptions, console};
use crate::service::rebuild::StateComparison;
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const EXAMPLES: &str = "\
Builds the directory, the signing keys, the usage and the audit index from the
log alone and compares them with what is saved. It only reads: a server may be
serving from the folder. Exit code 1 when anything differs; then stop the server
and delete projections.db, usage.db and audit.db: the next start builds them
anew.

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
pub fn report(state: &StateComparison, usage: &UsageComparison, index: &RebuildComparison, json: bool) -> ExitCode {
    let is_different = differences(state, usage, index).next().is_some();
    console::on_standard_streams(|console| {
        let told = if json {
            console.json(&document(state, usage, index).to_string())
        } else {
            lines(state, usage, index)
                .iter()
                .try_for_each(|line| console.line(line))
        };
        match told {
            Ok(()) => u8::from(is_different),
            Err(error) => error.report(console),
        }
    })
}

fn document(state: &StateComparison, usage: &UsageComparison, index: &RebuildComparison) -> serde_json::Value {
    serde_json::json!({
        "state": {
            "compared": state.is_compared,
            "events": state.events,
            "applications": state.applications,
            "events_per_second": state_rate(state).round(),
        },
        "usage": {
            "compared": usage.is_compared,
            "events": usage.events,
            "applications": usage.applications,
            "removed_events": usage.removed,
            "events_per_second": rate(usage.events, usage.elapsed).round(),
        },
        "audit_index": {
            "compared": index.is_compared,
            "events": index.events,
            "compared_events": index.compared_events,
            "compared_rows": index.compared_rows,
            "events_per_second": index.events_per_second().round(),
        },
        "differences": differences(state, usage, index).collect::<Vec<_>>(),
    })
}

fn lines(state: &StateComparison, usage: &UsageComparison, index: &RebuildComparison) -> Vec<String> {
    let mut lines = vec![
        match state.is_compared {
            true => format!(
                "state        {} events, {} applications, {:.0} events/s",
                state.events,
                state.applications,
                state_rate(state)
            ),
            false => "state        nothing saved to compare".to_owned(),
        },
        match usage.is_compared {
            true if usage.removed == 0 => format!(
                "usage        {} events, {} applications, {:.0} events/s",
                usage.events,
                usage.applications,
                rate(usage.events, usage.elapsed)
            ),
            true => format!(
                "usage        counts {} events that retention has removed since: not compared",
                usage.removed
            ),
            false => "usage        nothing saved to compare".to_owned(),
        },
        match index.is_compared {
            true => format!(
                "audit index  {} events, {} rows of the first {} events compared, {:.0} events/s",
                index.events,
                index.compared_rows,
                index.compared_events,
                index.events_per_second()
            ),
            false => "audit index  nothing saved to compare".to_owned(),
        },
    ];
    lines.extend(differences(state, usage, index).map(|difference| format!("DIFFERS: {difference}")));
    let is_any_compared = state.is_compared || usage.is_compared || index.is_compared;
    if is_any_compared && differences(state, usage, index).next().is_none() {
        lines.push("what is saved is what the log gives".to_owned());
    }
    lines
}

fn differences<'a>(
    state: &'a StateComparison,
    usage: &'a UsageComparison,
    index: &'a RebuildComparison,
) -> impl Iterator<Item = &'a String> {
    state
        .differences
        .iter()
        .chain(&usage.differences)
        .chain(&index.difference)
}

fn state_rate(state: &StateComparison) -> f64 {
    rate(state.events, state.elapsed)
}

fn rate(events: u64, elapsed: Duration) -> f64 {
    events as f64 / elapsed.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(is_compared: bool) -> StateComparison {
        StateComparison {
            is_compared,
            events: 7,
            applications: 2,
            differences: Vec::new(),
            elapsed: Duration::from_secs(1),
        }
    }

    fn usage(is_compared: bool) -> UsageComparison {
        UsageComparison {
            is_compared,
            events: 7,
            applications: 2,
            removed: 0,
            differences: Vec::new(),
            elapsed: Duration::from_secs(1),
        }
    }

    fn index(is_compared: bool, difference: Option<&str>) -> RebuildComparison {
        RebuildComparison {
            is_compared,
            events: 7,
            compared_events: 0,
            compared_rows: 0,
            difference: difference.map(str::to_owned),
            elapsed: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_is_not_saved_is_no_difference_and_the_other_is_told_of() {
        assert_eq!(
            lines(&state(false), &usage(false), &index(false, None)),
            [
                "state        nothing saved to compare",
                "usage        nothing saved to compare",
                "audit index  nothing saved to compare"
            ]
        );
        let one = lines(&state(false), &usage(false), &index(true, None));
        assert_eq!(one[0], "state        nothing saved to compare");
        assert!(one[2].starts_with("audit index  7 events"), "{one:?}");
        assert_eq!(one[3], "what is saved is what the log gives");
        let differing = lines(&state(false), &usage(false), &index(true, Some("row 3")));
        assert_eq!(differing[3..], ["DIFFERS: row 3"]);
        assert_eq!(
            document(&state(false), &usage(false), &index(true, None))["state"]["compared"],
            false
        );
    }
}
