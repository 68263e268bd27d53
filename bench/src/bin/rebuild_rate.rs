//! Builds every projection of a data folder from zero and tells how fast that was and whether it equals what is
//! served: what `grantlog rebuild` does, with the figures that the bench wants.

use clap::Parser;
use grantlog::config::{CliOverrides, Config, environment};
use grantlog::startup;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Arguments {
    /// The data folder.
    #[arg(long)]
    data_dir: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let overrides = CliOverrides {
        data_dir: Some(Arguments::parse().data_dir),
        ..CliOverrides::default()
    };
    let config = Config::load(None, environment(), overrides)?;
    let started = Instant::now();
    let (state, usage, index) = startup::rebuild(&config, |_, _| {}).await?;
    let report = serde_json::json!({
        "seconds": started.elapsed().as_secs_f64(),
        "state": {
            "events": state.events,
            "seconds": state.elapsed.as_secs_f64(),
            "differences": state.differences,
        },
        "usage": {
            "events": usage.events,
            "seconds": usage.elapsed.as_secs_f64(),
            "differences": usage.differences,
        },
        "audit_index": {
            "events": index.events,
            "seconds": index.elapsed.as_secs_f64(),
            "differences": Vec::from_iter(index.difference),
        },
    });
    println!("{report}");
    Ok(())
}
