//! The `grantlog` command.

use anyhow::Context;
use clap::Parser;
use grantlog::cli::migrate::MigrateArguments;
use grantlog::cli::rebuild::RebuildArguments;
use grantlog::cli::serve::ServeArguments;
use grantlog::cli::{self, Cli, Command};
use grantlog::config::{CliOverrides, Config, environment};
use grantlog::startup::{self, Resets};
use grantlog::telemetry::Telemetry;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A token request allocates on one thread what the event log's writer and the audit index free on theirs, which
/// the system's allocator makes expensive.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a server that has stopped waits for blocking work that nobody waits for any more.
const LAST_BLOCKING_WORK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let Cli { options, command } = Cli::parse();
    // Libraries that do not choose one find this one: with a second one in the build they would not know which. Nobody
    // has chosen before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match command {
        Command::Remote(command) => return cli::run(command, &options),
        Command::Serve(arguments) => serve(arguments, options.data_dir),
        Command::Rebuild(arguments) => rebuild(arguments, options.data_dir),
        Command::Migrate(arguments) => migrate(arguments, options.data_dir),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn serve(arguments: ServeArguments, data_dir: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let overrides = CliOverrides {
        data_dir,
        listen: arguments.listen,
        issuer: arguments.issuer,
    };
    let config = Config::load(arguments.config.as_deref(), environment(), overrides)?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let resets = Resets {
        administrator: arguments.reset_administrator,
        auditor: arguments.reset_auditor,
    };
    let runtime = runtime()?;
    let served = runtime.block_on(startup::serve(config, telemetry, resets));
    runtime.shutdown_timeout(LAST_BLOCKING_WORK);
    served?;
    Ok(ExitCode::SUCCESS)
}

fn rebuild(arguments: RebuildArguments, data_dir: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let overrides = CliOverrides {
        data_dir,
        ..CliOverrides::default()
    };
    let config = Config::load(arguments.config.as_deref(), environment(), overrides)?;
    let (state, usage, index) = runtime()?.block_on(startup::rebuild(&config, cli::rebuild::progress()))?;
    Ok(cli::rebuild::report(
        &state,
        &usage,
        &index,
        arguments.no_remote_options.json,
    ))
}

fn migrate(arguments: MigrateArguments, data_dir: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let overrides = CliOverrides {
        data_dir,
        ..CliOverrides::default()
    };
    let config = Config::load(arguments.config.as_deref(), environment(), overrides)?;
    let (from, to) = match arguments.locations(&config.data_dir) {
        Ok(locations) => locations,
        Err(wrong_usage) => {
            eprintln!("error: {wrong_usage}");
            return Ok(ExitCode::from(2));
        }
    };
    let migrating = async {
        let progress = cli::migrate::progress();
        tokio::select! {
            migrated = startup::migrate(&config, &from, &to, progress) => Ok(migrated?),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted: run the same command again to go on")),
        }
    };
    let runtime = runtime()?;
    let migrated = runtime.block_on(migrating);
    runtime.shutdown_timeout(LAST_BLOCKING_WORK);
    Ok(cli::migrate::report(&migrated?, arguments.no_remote_options.json))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot start")
}
