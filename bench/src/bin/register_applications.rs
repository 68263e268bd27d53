//! Registers applications through the admin API and tells how long each tenth of them took: linear time means
//! that the last tenth takes as long as the first.

use anyhow::Context as _;
use clap::Parser;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[derive(Parser)]
struct Arguments {
    /// The server.
    #[arg(long)]
    url: String,
    /// An administrator's token.
    #[arg(long)]
    token: String,
    /// How many; they are named bench/0, bench/1, …
    #[arg(long)]
    applications: u64,
    /// The number of the first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// `base64(sha256(secret))` of the secret that all of them get.
    #[arg(long)]
    secret_hash: String,
    /// Requests at the same time.
    #[arg(long, default_value_t = 64)]
    connections: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arc::new(Arguments::parse());
    // The bench's servers are on the loopback interface and have signed their certificates themselves.
    let client = reqwest::Client::builder().danger_accept_invalid_certs(true).build()?;
    let parts = 10.min(arguments.applications).max(1);
    let mut seconds = Vec::new();
    let whole = Instant::now();
    for part in 0..parts {
        let share = |part: u64| arguments.from + arguments.applications * part / parts;
        let (next, end) = (Arc::new(AtomicU64::new(share(part))), share(part + 1));
        let started = Instant::now();
        let workers = (0..arguments.connections).map(|_| {
            let (arguments, client, next) = (arguments.clone(), client.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return anyhow::Ok(());
                    }
                    register(&arguments, &client, number).await?;
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await??;
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    let total = whole.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({"applications": arguments.applications, "seconds": total, "seconds_per_part": seconds})
    );
    Ok(())
}

async fn register(arguments: &Arguments, client: &reqwest::Client, number: u64) -> anyhow::Result<()> {
    let application = serde_json::json!({
        "application_uri": format!("bench/{number}"),
        "name": format!("Bench {number}"),
        "scope": "read update DomainApi",
        "system_user_allowed": true,
        "system_user": "svc.bench",
        "owner": "Team of the bench",
        "org_code": format!("org-{}", number % 1_000),
        "application_secret_hash": arguments.secret_hash,
    });
    let request = client
        .post(format!("{}/admin/applications", arguments.url))
        .bearer_auth(&arguments.token)
        .json(&application);
    let answer = request.send().await?;
    let status = answer.status();
    if status != reqwest::StatusCode::CREATED {
        let text = answer.text().await.context("reading the error")?;
        anyhow::bail!("registering bench/{number}: {status} {text}");
    }
    answer.bytes().await?;
    Ok(())
}
