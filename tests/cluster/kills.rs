//! Grantlog nodes under load that are killed in turn, and start over their data folder or over an empty one.

use crate::check::check;
use crate::clients::Clients;
use crate::entered::Two;
use crate::log::Log;
use crate::random::{Random, rounds};
use crate::running_server::Administrator;
use crate::site::{PATIENT, Site, ready};
use crate::told::Told;
use std::time::Instant;

/// Of so many starts one is over an empty data folder.
const EMPTIED: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_was_told_is_in_the_log_once_however_nodes_are_killed() {
    let mut random = Random::seeded("kills of nodes");
    let rounds = rounds(10);
    let two = Two::on(Site::anywhere(), PATIENT).await;
    let applications = two.site.applications(&two.administrator(0).await, 6).await;
    let Two {
        site,
        nodes,
        servers,
        http,
        secret: (client_id, client_secret),
    } = two;
    let mut servers = servers.map(Some);
    let (mut log, mut told) = (Log::default(), Told::default());
    let begun = Instant::now();
    for round in 0..rounds {
        let victim = round % 2;
        let mut load = Vec::new();
        for (at, server) in servers.iter().flatten().enumerate() {
            let administrator = match at == victim {
                true => Some(Administrator::signed_in(http.clone(), &server.url, &client_id, &client_secret).await),
                false => None,
            };
            let count = 8 + random.below(17);
            load.push(Clients::start(
                &http,
                &server.url,
                &applications,
                count,
                administrator,
                &mut random,
            ));
        }
        tokio::time::sleep(random.millis(20, 400)).await;
        let server = servers[victim].take().expect("it runs");
        tokio::task::block_in_place(|| server.kill());
        let survivor = load.remove(1 - victim);
        told.add_run(load.remove(0).ended().await);
        if round % EMPTIED == EMPTIED - 1 {
            std::fs::remove_dir_all(&nodes[victim].data).expect("the data folder can be removed");
        }
        // The other one is under load while it starts.
        let server = nodes[victim].start();
        told.add_run(survivor.stop().await);
        ready(&http, &server).await;
        servers[victim] = Some(server);
        site.read_on(&mut log)
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        check(&log, &told).unwrap_or_else(|problems| panic!("round {round}: {problems}"));
        let running: Vec<_> = servers.iter().flatten().collect();
        site.same_checkpoint(&running).await;
    }
    println!(
        "{rounds} rounds in {:?}: {} tokens, {} refusals and {} changes answered, {} answers 503, {} requests broken \
         off, {} events",
        begun.elapsed(),
        told.tokens.len(),
        told.refusals.len(),
        told.changes.len(),
        told.unavailable,
        told.broken_off,
        log.events.len()
    );
    assert!(told.tokens.len() > rounds * 10 && !told.changes.is_empty());
    assert_eq!(
        told.unavailable, 0,
        "a kill is no reason for the others to be unavailable"
    );
    for server in servers.into_iter().flatten() {
        assert_eq!(tokio::task::block_in_place(|| server.stop()).code(), Some(0));
    }
}
