//! A server under load, killed at random moments.

use crate::check::check;
use crate::clients::{self, Clients};
use crate::log::Log;
use crate::random::{Random, rounds};
use crate::running_server::{Administrator, request_token};
use crate::scene::{Scene, register_applications};
use crate::served;
use crate::told::Told;
use std::time::Instant;

/// Rounds after which everything is compared, not only what the round has added.
const THOROUGH_EVERY: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_was_told_before_a_kill_is_in_the_log_once_and_served_ever_after() {
    let mut random = Random::seeded("kills");
    let rounds = rounds(100);
    let http = clients::http();
    let scene = Scene::new();
    let mut server = scene.start();
    let mut administrator = Administrator::with(http.clone(), &server).await;
    let applications = register_applications(&administrator).await;
    let client_ids: Vec<&str> = applications
        .iter()
        .map(|application| application.client_id.as_str())
        .collect();
    let (mut log, mut told) = (Log::default(), Told::default());
    let begun = Instant::now();
    for round in 1..=rounds {
        let count = 16 + random.below(49);
        let clients = Clients::start(
            &http,
            &server.url,
            &applications,
            count,
            Some(administrator),
            &mut random,
        );
        tokio::time::sleep(random.millis(5, 200)).await;
        tokio::task::block_in_place(|| server.kill());
        let now_told = clients.ended().await;
        if random.percent(15) {
            // A start must bear it too.
            let mut starting = scene.starting();
            tokio::time::sleep(random.millis(0, 120)).await;
            starting.kill().expect("it can be killed");
            starting.wait().expect("it has ended");
        }
        server = scene.start();
        administrator = Administrator::with(http.clone(), &server).await;

        log.read_on(&scene.log())
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        check(&log, &now_told).unwrap_or_else(|problems| panic!("round {round}: {problems}"));
        told.add_run(now_told);
        let folded = served::folded(&log);
        served::compare_application(&administrator, &folded, &mut random).await;
        served::caught_up(&administrator).await;
        let application = random.pick(&applications);
        served::compare_search(&administrator, &log, &application.client_id, 50).await;
        if round % THOROUGH_EVERY == 0 || round == rounds {
            let anew = Log::read(&scene.log())
                .await
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert!(
                anew.goes_on_from(&log),
                "round {round}: the log does not begin as it did"
            );
            check(&anew, &told).unwrap_or_else(|problems| panic!("round {round}: {problems}"));
            served::compare_state(&administrator, &served::folded(&anew)).await;
            served::caught_up(&administrator).await;
            served::compare_searches(&administrator, &anew, &client_ids).await;
            served::compare_saved(&scene).await;
        }
    }
    println!(
        "{rounds} rounds in {:?}: {} tokens, {} refusals and {} changes answered, {} calls reached the API, {} requests \
         broken off, {} events",
        begun.elapsed(),
        told.tokens.len(),
        told.refusals.len(),
        told.changes.len(),
        told.forwarded.iter().filter(|call| call.reached > 0).count(),
        told.broken_off,
        log.events.len()
    );
    assert!(told.tokens.len() > rounds && told.refusals.len() > rounds && told.changes.len() > rounds / 4);
    assert!(told.forwarded.iter().filter(|call| call.reached > 0).count() > rounds / 4);
    assert_eq!(told.unavailable, 0, "a kill is no reason to be unavailable");
    let status = tokio::task::block_in_place(|| server.stop());
    assert_eq!(status.code(), Some(0));
    served::compare_saved(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_is_killed_at_any_moment_is_completed_by_the_next() {
    let mut random = Random::seeded("first starts");
    let http = clients::http();
    for _ in 0..(rounds(100) / 4).max(3) {
        let scene = Scene::new();
        for _ in 0..1 + random.below(3) {
            let mut starting = scene.starting();
            tokio::time::sleep(random.millis(0, 150)).await;
            starting.kill().expect("it can be killed");
            starting.wait().expect("it has ended");
        }
        let server = scene.start();
        let (client_id, client_secret) = server.administrator();
        let (status, answer) = request_token(&http, &server.url, &client_id, &client_secret, &[]).await;
        assert_eq!(status, 200, "{answer}\n{}", server.stderr());
        let log = Log::read(&scene.log()).await.expect("a log");
        served::compare_state(&Administrator::with(http.clone(), &server).await, &served::folded(&log)).await;
        assert_eq!(tokio::task::block_in_place(|| server.stop()).code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_was_told_before_a_stop_is_in_the_log_and_the_stop_is_clean() {
    let mut random = Random::seeded("stops");
    let http = clients::http();
    let scene = Scene::new();
    let mut server = scene.start();
    let mut administrator = Administrator::with(http.clone(), &server).await;
    let applications = register_applications(&administrator).await;
    let mut told = Told::default();
    for _ in 0..(rounds(100) / 20).max(3) {
        let clients = Clients::start(&http, &server.url, &applications, 32, Some(administrator), &mut random);
        tokio::time::sleep(random.millis(50, 300)).await;
        let stopping = Instant::now();
        let status = tokio::task::block_in_place(|| server.stop());
        assert_eq!(status.code(), Some(0));
        println!("a stop under load took {:?}", stopping.elapsed());
        told.add_run(clients.ended().await);
        let log = Log::read(&scene.log()).await.expect("a log");
        check(&log, &told).unwrap();
        let last = log.events.last().expect("an event").envelope.event.type_name();
        assert_eq!(last, "ServiceStopped");
        served::compare_saved(&scene).await;
        server = scene.start();
        administrator = Administrator::with(http.clone(), &server).await;
    }
    assert!(!told.tokens.is_empty() && told.unavailable == 0);
}
