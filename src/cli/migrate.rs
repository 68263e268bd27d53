//! `grantlog migrate`: its arguments, and how its progress and outcome are told.

use crate::cli::{NoRemoteOptions, console};
use crate::config::StoreLocation;
use crate::service::migrate::{Migrated, Progress, Step};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Copies every event, byte for byte and in order, then reads both logs again and
compares them and their Merkle roots. Stop every server on either log first.
Broken off at any moment, it goes on when it is run again. A target that holds
anything but a beginning of the source is refused. Exit code 0 when the target
is a proven copy. A URL with a password is better put into the variable, which
other users of the machine cannot see.

Examples:
  grantlog migrate --data-dir /var/lib/grantlog --from sqlite \\
      --to sqlite:/mnt/new/events.db
  grantlog migrate --config grantlog.toml --from sqlite \\
      --to 'kurrentdb://db1:2113?tls=true'
  grantlog migrate --config grantlog.toml --from sqlite:old/events.db \\
      --to sqlite:new/events.db --json";

/// Between two lines of progress for a person.
const TERMINAL_EVERY: Duration = Duration::from_secs(2);
/// Between two lines of progress in a file.
const FILE_EVERY: Duration = Duration::from_secs(30);

/// The arguments of `migrate`; the data folder is a global option.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct MigrateArguments {
    /// The log to copy, as store.url names it
    #[arg(long, value_name = "STORE", env = "GRANTLOG_MIGRATE_FROM", hide_env_values = true)]
    pub from: String,
    /// Where to, as store.url names it: empty, or what an earlier run has begun
    #[arg(long, value_name = "STORE", env = "GRANTLOG_MIGRATE_TO", hide_env_values = true)]
    pub to: String,
    /// Configuration file whose store section is for both, but for its url
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Refuses what only clients understand.
    #[command(flatten)]
    pub no_remote_options: NoRemoteOptions<true>,
}

impl MigrateArguments {
    /// Where from and where to. The error is wrong usage, and does not repeat a URL: there may be a password in it.
    pub fn locations(&self, data_dir: &Path) -> Result<(StoreLocation, StoreLocation), String> {
        let location = |flag: &str, url: &str| {
            StoreLocation::parse(url, data_dir).map_err(|accepted| format!("{flag} must be {accepted}"))
        };
        Ok((location("--from", &self.from)?, location("--to", &self.to)?))
    }
}

/// Tells on stderr how far it has come: events, events/s and the time that is left of the step.
pub fn progress() -> impl FnMut(Progress) {
    let every = match std::io::stderr().is_terminal() {
        true => TERMINAL_EVERY,
        false => FILE_EVERY,
    };
    let mut told = Instant::now();
    let mut begun: Option<(Progress, Instant)> = None;
    move |now| {
        let (first, since) = match begun {
            Some((first, since)) if first.step == now.step => (first, since),
            _ => *begun.insert((now, Instant::now())),
        };
        if told.elapsed() >= every {
            told = Instant::now();
            eprintln!("{}", line(now, now.done - first.done, since.elapsed()));
        }
    }
}

fn line(now: Progress, events: u64, took: Duration) -> String {
    let what = match now.step {
        Step::Comparing => "comparing what is there",
        Step::Copying => "copying",
        Step::Verifying => "verifying",
    };
    let rate = rate(events, took);
    let left = match rate > 0.0 {
        true => format!(", {} left", span((now.of - now.done) as f64 / rate)),
        false => String::new(),
    };
    format!("{what}: {} of {} events, {rate:.0} events/s{left}", now.done, now.of)
}

fn span(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Prints what was migrated.
pub fn report(migrated: &Migrated, json: bool) -> ExitCode {
    console::on_standard_streams(|console| {
        let told = match json {
            true => console.json(&document(migrated).to_string()),
            false => console.line(&sentence(migrated)),
        };
        match told {
            Ok(()) => 0,
            Err(error) => error.report(console),
        }
    })
}

fn document(migrated: &Migrated) -> serde_json::Value {
    serde_json::json!({
        "events": migrated.events,
        "found": migrated.found,
        "copied": copied(migrated),
        "events_per_second": rate(copied(migrated), migrated.copying).round(),
        "root": STANDARD.encode(migrated.root),
    })
}

fn sentence(migrated: &Migrated) -> String {
    let (events, found, copied) = (migrated.events, migrated.found, copied(migrated));
    let how = match copied {
        0 => "all were there before".to_owned(),
        _ => format!(
            "{found} were there before, {copied} copied at {:.0} events/s",
            rate(copied, migrated.copying)
        ),
    };
    let root = STANDARD.encode(migrated.root);
    format!("the same log: {events} events, {how}; root {root}")
}

fn copied(migrated: &Migrated) -> u64 {
    migrated.events - migrated.found
}

fn rate(events: u64, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_many_how_fast_and_how_long() {
        let now = |step, done| Progress { step, done, of: 90_000 };
        assert_eq!(
            line(now(Step::Copying, 30_000), 20_000, Duration::from_secs(2)),
            "copying: 30000 of 90000 events, 10000 events/s, 6 s left"
        );
        assert_eq!(
            line(now(Step::Verifying, 0), 0, Duration::from_secs(2)),
            "verifying: 0 of 90000 events, 0 events/s"
        );
        for (seconds, text) in [(0.2, "1 s"), (61.0, "1 min 1 s"), (7_320.0, "2 h 2 min")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn the_outcome_names_the_root_as_audit_verify_does() {
        let migrated = Migrated {
            events: 10,
            found: 4,
            root: [7; 32],
            copying: Duration::from_secs(2),
        };
        let root = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        assert_eq!(
            sentence(&migrated),
            format!("the same log: 10 events, 4 were there before, 6 copied at 3 events/s; root {root}")
        );
        let all = Migrated { found: 10, ..migrated };
        assert_eq!(
            sentence(&all),
            format!("the same log: 10 events, all were there before; root {root}")
        );
        assert_eq!(
            document(&migrated),
            serde_json::json!({"events": 10, "found": 4, "copied": 6, "events_per_second": 3.0, "root": root})
        );
    }
}
