//! The `grantlog` command.

use clap::Parser;
use grantlog::config::{CliOverrides, Config, environment};
use grantlog::{startup, telemetry::Telemetry};
use std::path::PathBuf;

#[derive(Parser)]
struct Cli {
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[arg(long)]
    listen: Option<String>,
    #[arg(long)]
    issuer: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let overrides = CliOverrides {
        data_dir: cli.data_dir,
        listen: cli.listen,
        issuer: cli.issuer,
    };
    let config = Config::load(cli.config.as_deref(), environment(), overrides)?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    startup::serve(config, telemetry).await?;
    Ok(())
}
