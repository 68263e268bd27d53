//! The `grantlog` command.

use clap::{Parser, Subcommand};
use grantlog::config::{CliOverrides, Config, environment};
use grantlog::{startup, telemetry::Telemetry};
use std::path::PathBuf;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long)]
        data_dir: Option<PathBuf>,
        #[arg(long)]
        listen: Option<String>,
        #[arg(long)]
        issuer: Option<String>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Serve {
        config,
        data_dir,
        listen,
        issuer,
    } = Cli::parse().command;
    let overrides = CliOverrides {
        data_dir,
        listen,
        issuer,
    };
    let config = Config::load(config.as_deref(), environment(), overrides)?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    startup::serve(config, telemetry).await?;
    Ok(())
}
