//! The command line. `serve`, `rebuild` and `migrate` work on a log and are carried out elsewhere; every
//! other command is a client that calls a running server over HTTP, like anybody else.
// Doc comments here are the texts of --help: what rustdoc would make of a URL in them does not count.
#![allow(rustdoc::bare_urls, rustdoc::invalid_html_tags)]

pub mod serve;

pub mod api;
pub mod app;
pub mod audit;
mod audit_export;
mod audit_forwarding;
mod audit_hold;
mod audit_tail;
pub mod audit_verify;
mod inventory;
pub mod key;
mod master_key;
mod reference_token;
pub mod report;
pub mod session;
pub mod token;

pub mod rebuild;

pub mod migrate;

mod health;

mod bench;

mod audit_conditions;
mod back_off;
mod client;
pub mod connection;
mod diff;
mod exchange;
mod exported_file;
mod records;

pub mod console;
mod duration;
mod event_rows;
mod lag;
mod printable;
mod registered;
mod stats;
mod table;
mod usage;

pub mod error;

pub use console::Console;
pub use error::CliError;

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use migrate::MigrateArguments;
use rebuild::RebuildArguments;
use serve::ServeArguments;
use std::path::PathBuf;
use std::process::ExitCode;

/// An OAuth 2.0 authorization server for services, and its client.
///
/// `grantlog serve` is the server: every app registration, secret rotation and token is an event in its
/// log. `rebuild`, `audit verify` and `audit verifier-key` read a data folder, `migrate` copies a log that nobody
/// serves, and `audit verify --url` checks a server from outside. All other commands call a running server.
#[derive(Debug, Parser)]
#[command(name = "grantlog", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub options: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  grantlog serve
  grantlog app register my.trusted.app/service --scope read \\
      --system-user svc.integration
  grantlog token request --client-id my.trusted.app/service \\
      --client-secret - < secret.txt
  grantlog audit search --client-id my.trusted.app/service --since 24h

`grantlog --help` says which server a command calls, and as whom.";

const LONG_EXAMPLES: &str = "\
Examples:
  grantlog serve
  grantlog app register my.trusted.app/service --scope read \\
      --system-user svc.integration
  grantlog token request --client-id my.trusted.app/service \\
      --client-secret - < secret.txt
  grantlog audit search --client-id my.trusted.app/service --since 24h

Which server a command calls: the first of
  1. --url
  2. the url in the file named by --profile
  3. the variable GRANTLOG_URL
  4. the url in the profile of the data folder
As whom: the first of
  1. client_id and client_secret in the file named by --profile
  2. the variables GRANTLOG_CLIENT_ID and GRANTLOG_CLIENT_SECRET, both
  3. client_id and client_secret in the profile of the data folder
The profile of the data folder is admin.json, and for `audit export`, `audit
hold place` and `audit hold release`, which only an auditor may, auditor.json.
The first start of the server writes both there:
{\"url\": …, \"client_id\": …, \"client_secret\": …}

Exit codes: 0 done, 1 refused or failed, 2 wrong usage.";

const GLOBAL_HEADING: &str = "Global options";

/// What every command understands.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalOptions {
    /// Folder of the event log, its keys and admin.json [default: ./data]
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL_HEADING)]
    pub data_dir: Option<PathBuf>,
    /// What every command that calls a server understands.
    #[command(flatten)]
    pub remote: RemoteOptions,
}

/// What every command that calls a server understands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = GLOBAL_HEADING)]
pub struct RemoteOptions {
    /// URL of the server, with its path if it has one [env: GRANTLOG_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// File with url, client_id and client_secret, instead of admin.json or auditor.json in the data folder
    #[arg(long, global = true, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Trust only the certificate authorities in this PEM file [env: GRANTLOG_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Print JSON: the server's answer, or one event per line
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ServeArguments),
    /// Commands that call a server.
    #[command(flatten)]
    Remote(RemoteCommand),
    /// Build every projection from the log again and compare
    Rebuild(RebuildArguments),
    /// Copy the event log into another store and compare the two
    Migrate(MigrateArguments),
}

/// What to ask a server for.
#[derive(Debug, Subcommand)]
pub enum RemoteCommand {
    /// Trusted Applications: register, change, rotate secrets
    #[command(subcommand)]
    App(app::AppCommand),
    /// APIs that tokens are for
    #[command(subcommand)]
    Api(api::ApiCommand),
    /// Tokens: ask for one, see which are out, revoke
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Sessions: tokens at work
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Signing keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// The audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Reports for reviews and audits, printable
    Report(report::ReportArguments),
    /// Ask a server whether it is ready
    Health(health::HealthArguments),
    /// Measure how fast a server gives tokens
    Bench(bench::BenchArguments),
}

/// Carries out a command that calls a server, on this process's own standard streams, and says how it
/// went. Blocks; must not be called from an asynchronous runtime.
pub fn run(command: RemoteCommand, options: &GlobalOptions) -> ExitCode {
    console::on_standard_streams(|console| run_on(console, command, options))
}

/// The same on any streams.
pub fn run_on(console: &mut Console<'_>, command: RemoteCommand, options: &GlobalOptions) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(console, command, options)),
        Err(error) => Err(CliError::Start(error)),
    };
    match outcome.and_then(|()| Ok(console.out.flush()?)) {
        Ok(()) => 0,
        Err(error) => error.report(console),
    }
}

async fn carry_out(console: &mut Console<'_>, command: RemoteCommand, options: &GlobalOptions) -> Result<(), CliError> {
    match command {
        RemoteCommand::App(command) => command.run(console, options).await,
        RemoteCommand::Api(command) => command.run(console, options).await,
        RemoteCommand::Token(command) => command.run(console, options).await,
        RemoteCommand::Session(command) => command.run(console, options).await,
        RemoteCommand::Key(command) => command.run(console, options).await,
        RemoteCommand::Audit(command) => command.run(console, options).await,
        RemoteCommand::Report(arguments) => arguments.run(console, options).await,
        RemoteCommand::Health(arguments) => arguments.run(console, options).await,
        RemoteCommand::Bench(arguments) => arguments.run(console, options).await,
    }
}

/// Refuses [`RemoteOptions`] on commands that call no server, and keeps them out of their help: an
/// option that is silently without effect misleads. `PRINTS_JSON`: but `--json` has an effect.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRemoteOptions<const PRINTS_JSON: bool> {
    /// Whether `--json` was given.
    pub json: bool,
}

/// Each option of [`RemoteOptions`]: its id and how it is written.
const REMOTE_OPTIONS: [(&str, &str); 4] = [
    ("url", "--url"),
    ("profile", "--profile"),
    ("ca_file", "--ca-file"),
    ("json", "--json"),
];

impl<const PRINTS_JSON: bool> NoRemoteOptions<PRINTS_JSON> {
    fn refused() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        REMOTE_OPTIONS.iter().filter(|(id, _)| !(PRINTS_JSON && *id == "json"))
    }
}

impl<const PRINTS_JSON: bool> Args for NoRemoteOptions<PRINTS_JSON> {
    fn augment_args(command: clap::Command) -> clap::Command {
        // An argument that a command has itself is not inherited from above: here it is, but hidden.
        RemoteOptions::augment_args(command).mut_args(|argument| {
            let is_refused = Self::refused().any(|(id, _)| argument.get_id() == id);
            argument.hide(is_refused)
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const PRINTS_JSON: bool> FromArgMatches for NoRemoteOptions<PRINTS_JSON> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        match Self::refused().find(|(id, _)| is_given(id)) {
            None => Ok(Self { json: is_given("json") }),
            Some((_, written)) => {
                let message = format!("{written} is for the commands that call a server");
                Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message))
            }
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::filter::Filter;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_before_and_after_the_command() {
        for line in [
            "grantlog --json --data-dir d --url http://x app list",
            "grantlog app list --json --data-dir d --url http://x",
            "grantlog --url http://x app --json list --data-dir d",
        ] {
            let options = parse(line).unwrap().options;
            assert!(options.remote.json, "{line}");
            assert_eq!(options.data_dir, Some("d".into()), "{line}");
            assert_eq!(options.remote.url.as_deref(), Some("http://x"), "{line}");
        }
    }

    #[test]
    fn serve_and_rebuild_take_a_data_folder_and_refuse_what_is_for_clients() {
        assert_eq!(
            parse("grantlog serve --data-dir d").unwrap().options.data_dir,
            Some("d".into())
        );
        assert_eq!(
            parse("grantlog --data-dir d rebuild").unwrap().options.data_dir,
            Some("d".into())
        );
        for line in [
            "grantlog serve --url http://x",
            "grantlog --url http://x serve",
            "grantlog serve --json",
            "grantlog --profile p rebuild",
            "grantlog rebuild --ca-file c",
            "grantlog migrate --from sqlite --to sqlite:x --url http://x",
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), ErrorKind::ArgumentConflict, "{line}");
        }
    }

    #[test]
    fn the_help_of_serve_does_not_speak_of_what_is_for_clients() {
        for (line, prints_json) in [
            ("grantlog serve --help", false),
            ("grantlog rebuild --help", true),
            ("grantlog migrate --help", true),
        ] {
            let help = parse(line).unwrap_err().to_string();
            assert!(help.contains("--data-dir") && !help.contains("--url"), "{help}");
            assert_eq!(help.contains("--json"), prints_json, "{help}");
        }
    }

    #[test]
    fn every_command_has_examples_that_work() {
        let command = Cli::command();
        let mut found = Vec::new();
        leaves(&command, "grantlog".into(), &mut found);
        assert!(found.len() > 20, "{}", found.len());
        for (path, leaf) in found {
            let help = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = examples(&help);
            assert!(
                examples.iter().any(|example| example.join(" ").starts_with(&path)),
                "{path}: {help}"
            );
            for example in examples {
                if let Err(error) = Cli::try_parse_from(&example) {
                    panic!("{example:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_filter_in_the_help_and_the_documents_can_be_read() {
        let command = Cli::command();
        let mut found = Vec::new();
        leaves(&command, "grantlog".into(), &mut found);
        let helps = found
            .into_iter()
            .map(|(path, leaf)| (path, leaf.get_after_help().map(ToString::to_string).unwrap_or_default()));
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let documents = std::fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let documents = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        let documents = documents.chain([root.join("README.md"), root.join("grantlog.example.toml")]);
        let documents = documents.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        let mut filters = 0;
        for (place, text) in helps.chain(documents) {
            // That of the server's own log is another one.
            let text = text.replace("log_filter = ", "");
            // As a flag, and as a key of the configuration.
            for behind in text.split("--filter ").skip(1).chain(text.split("filter = ").skip(1)) {
                let Some(quote) = behind.chars().next().filter(|first| ['"', '\''].contains(first)) else {
                    continue;
                };
                let filter = behind[1..].split(quote).next().unwrap();
                let read = Filter::parse(filter, grantlog_projections::values::Timestamp::from_unix_micros(0));
                assert!(read.is_ok(), "{place}: {filter}: {read:?}");
                filters += usize::from(!filter.is_empty());
            }
        }
        assert!(filters >= 8, "{filters}");
    }

    #[test]
    fn help_is_written_for_a_terminal_of_80_columns() {
        let command = Cli::command();
        let mut found = vec![("grantlog".to_owned(), &command)];
        leaves(&command, "grantlog".into(), &mut found);
        for (path, command) in found {
            for help in [command.get_after_help(), command.get_after_long_help()]
                .into_iter()
                .flatten()
            {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{path}: {line}");
                }
            }
        }
    }

    fn leaves<'a>(command: &'a clap::Command, path: String, found: &mut Vec<(String, &'a clap::Command)>) {
        if !command.has_subcommands() {
            found.push((path, command));
            return;
        }
        for sub in command.get_subcommands() {
            leaves(sub, format!("{path} {}", sub.get_name()), found);
        }
    }

    /// The command lines in a help, as a shell would split them.
    fn examples(help: &str) -> Vec<Vec<String>> {
        let joined = help.replace("\\\n", " ");
        let lines = joined.lines().filter_map(|line| {
            let line = line.strip_prefix("  ")?;
            Some(
                line.strip_prefix("TOKEN=$(")
                    .or_else(|| line.strip_prefix("(umask 077; "))
                    .and_then(|line| line.strip_suffix(')'))
                    .unwrap_or(line),
            )
        });
        let split = |line: &str| {
            let mut words = vec![String::new()];
            let mut quote = None;
            for char in line.chars() {
                match (char, quote, words.last_mut()) {
                    ('"' | '\'', None, _) => quote = Some(char),
                    (char, Some(open), _) if char == open => quote = None,
                    ('|' | '<' | '>', None, _) => break,
                    (' ', None, Some(last)) if last.is_empty() => {}
                    (' ', None, _) => words.push(String::new()),
                    (_, _, Some(last)) => last.push(char),
                    (_, _, None) => {}
                }
            }
            words.retain(|word| !word.is_empty());
            words
        };
        lines.filter(|line| line.starts_with("grantlog ")).map(split).collect()
    }
}
