//! Test code only: the double as a process of its own, to run Grantlog against.

use std::io::Write;
use std::time::Duration;

use clap::Parser;
use grantlog_kurrentdb_double::{Cluster, Options, Security};

/// A test double of KurrentDB, for tests and benches. It keeps everything in memory and nothing on disk: when it
/// ends, every event is gone. Never run it as an event store.
///
/// It listens on 127.0.0.1, prints one line with its connection string when it serves, and runs until SIGINT or
/// SIGTERM. With Grantlog: `grantlog-kurrentdb-double --nodes 3`, and put the line into `store.url`.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "EXAMPLE\n  cargo run --release -p grantlog-kurrentdb-double -- --nodes 3"
)]
struct Arguments {
    /// How many nodes; the first one is the leader.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,

    /// The first node's port, the others follow it; 0 takes any that are free.
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    port_base: u16,

    /// Encrypt, with certificates made for this run; the connection string names the authority's.
    #[arg(long)]
    tls: bool,

    /// Let only this user in, with this password.
    #[arg(long, value_name = "USER:PASSWORD")]
    user: Option<String>,

    /// The most that one append may hold, in bytes.
    #[arg(long, default_value_t = 1024 * 1024, value_name = "BYTES")]
    max_append_bytes: usize,

    /// How long it takes to find another leader, in milliseconds.
    #[arg(long, default_value_t = 1000, value_name = "MILLISECONDS")]
    election_delay: u64,

    /// Let TCP take its time to acknowledge, as it does for the real server: with the client's use of Nagle's
    /// algorithm, appends on a busy connection then wait up to 40 ms each.
    #[arg(long)]
    delayed_acknowledgements: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let user = match &arguments.user {
        Some(user) => Some(
            user.split_once(':')
                .ok_or_else(|| anyhow::anyhow!("--user takes USER:PASSWORD"))?,
        ),
        None => None,
    };
    let cluster = Cluster::start(Options {
        nodes: arguments.nodes.into(),
        port_base: arguments.port_base,
        security: Security {
            tls: arguments.tls,
            user: user.map(|(user, password)| (user.to_owned(), password.to_owned())),
        },
        max_append_bytes: arguments.max_append_bytes,
        election_delay: Duration::from_millis(arguments.election_delay),
        delayed_acknowledgements: arguments.delayed_acknowledgements,
        ..Options::default()
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", cluster.connection_string())?;
    out.flush()?;
    eprintln!("serving from memory, for tests only; ends with SIGINT or SIGTERM, and every event with it");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(until_told_to_end())
}

async fn until_told_to_end() -> anyhow::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    Ok(())
}
