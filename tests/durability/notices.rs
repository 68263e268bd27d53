//! The test of the test: servers that lose what they have told their clients go through the same clients and
//! the same check as the real one, and are found out.
//!
//! | server                                                | killed | power fails | check |
//! |-------------------------------------------------------|--------|-------------|-------|
//! | replies before the commit                             | yes    | no          | red   |
//! | replies after the commit                              | yes    | no          | green |
//! | `synchronous=NORMAL`, fsync fails                     | yes    | yes         | red   |
//! | `synchronous=FULL`, fsync fails                       | yes    | yes         | green |
//! | `synchronous=NORMAL`, fsync works                     | yes    | yes         | red   |
//! | `synchronous=FULL`, fsync works                       | yes    | yes         | green |
//! | the real server, fsync works                          | yes    | yes         | green |
//! | the real server, fsync fails                          | yes    | yes         | green |

use crate::check::check;
use crate::clients::{self, Application, Clients};
use crate::fake_server::{FakeServer, Replies};
use crate::log::Log;
use crate::random::{Random, rounds};
use crate::running_server::Administrator;
use crate::scene::{Scene, register_applications};
use crate::shim::Disk;
use crate::told::Told;
use grantlog::event_store::sqlite::Durability;
use std::sync::Arc;

/// Rounds in which a fault that shows by chance must have shown: it shows in most.
const ROUNDS: usize = 25;

/// Rounds over one log, each ended by a kill and, with a disk, by a power failure; the first problem ends them.
async fn rounds_with(
    random: &mut Random,
    rounds: usize,
    replies: Replies,
    durability: Durability,
    fault: Option<&str>,
) -> (Result<(), String>, Told) {
    let http = clients::http();
    let scene = Scene::new();
    let disk = fault.map(|_| Disk::new(scene.folder()));
    let applications = ["orders", "reports"].map(|name| Application::new(name, name, "secret", true));
    let applications = Arc::new(Vec::from(applications));
    let mut told = Told::default();
    let start = || {
        let disk = disk.as_ref().zip(fault);
        tokio::task::block_in_place(|| FakeServer::start(&scene, replies, durability, disk))
    };
    let mut server = start().expect("it starts over an empty folder");
    for _ in 0..rounds {
        let clients = Clients::start(&http, &server.url, &applications, 32, None, random);
        // Each commit answers 32 at the most, and syncs once: enough of them for the fault to be met.
        clients
            .answered(if fault == Some(FSYNC_FAILS) { 32 * 14 } else { 10 })
            .await;
        tokio::time::sleep(random.millis(5, 200)).await;
        tokio::task::block_in_place(|| server.kill());
        let now_told = clients.ended().await;
        if let Some(disk) = &disk {
            disk.fail_power(&scene.log());
        }
        // As the real one it recovers when it starts, so the log is read behind it.
        let (started, checked) = match start() {
            Ok(started) => (
                Some(started),
                Log::read(&scene.log()).await.and_then(|log| check(&log, &now_told)),
            ),
            Err(error) => (None, Err(format!("it does not start again: {error}"))),
        };
        told.add_run(now_told);
        match (started, checked) {
            (Some(started), Ok(())) => server = started,
            (_, checked) => return (checked, told),
        }
    }
    let checked = Log::read(&scene.log()).await.and_then(|log| check(&log, &told));
    (checked, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_before_the_commit_is_noticed() {
    let mut random = Random::seeded("reply before the commit");
    let (checked, told) = rounds_with(&mut random, ROUNDS, Replies::BeforeTheCommit, Durability::Full, None).await;
    let problems = checked.expect_err("nothing was noticed");
    println!("red, as it must be: {problems}");
    assert!(
        problems.contains("was received and is not in the log") && told.wrong.is_empty(),
        "{problems}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_after_the_commit_is_found_right_by_the_same_check() {
    let mut random = Random::seeded("reply after the commit");
    let (checked, told) = rounds_with(&mut random, 10, Replies::AfterTheCommit, Durability::Full, None).await;
    checked.unwrap();
    assert!(told.tokens.len() >= 100);
}

/// What the disk does in a round: its path is the write-ahead log, which every commit writes to.
const FSYNC_FAILS: &str = "fsync:EIO:after=12:path=events.db-wal";
const NOTHING_FAILS: &str = "";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_synchronous_normal_loses_is_noticed_and_synchronous_full_loses_nothing() {
    let mut random = Random::seeded("synchronous");
    for fault in [FSYNC_FAILS, NOTHING_FAILS] {
        let (checked, told) = rounds_with(
            &mut random,
            3,
            Replies::AfterTheCommit,
            Durability::UnsafeNormal,
            Some(fault),
        )
        .await;
        let problems = checked.expect_err("nothing was noticed");
        println!("red, as it must be, under {fault:?}: {problems}");
        assert!(problems.contains("was received and is not in the log"), "{problems}");
        assert!(
            told.unavailable == 0 && told.wrong.is_empty(),
            "it noticed nothing itself"
        );

        let (checked, told) = rounds_with(&mut random, 3, Replies::AfterTheCommit, Durability::Full, Some(fault)).await;
        checked.unwrap();
        println!(
            "green, as it must be, under {fault:?}: {} tokens, {} times 503",
            told.tokens.len(),
            told.unavailable
        );
        assert!(!told.tokens.is_empty());
        assert_eq!(told.unavailable > 0, fault == FSYNC_FAILS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_server_keeps_its_word_when_the_power_fails() {
    let mut random = Random::seeded("power failures");
    let http = clients::http();
    let scene = Scene::new();
    let disk = Disk::new(scene.folder());
    let start = || tokio::task::block_in_place(|| scene.server_on(Some(&disk), "").start());
    let mut server = start();
    let administrator = Administrator::with(http.clone(), &server).await;
    let applications = register_applications(&administrator).await;
    let mut told = Told::default();
    for round in 0..(rounds(100) / 8).max(4) {
        let administrator = Administrator::with(http.clone(), &server).await;
        let clients = Clients::start(&http, &server.url, &applications, 32, Some(administrator), &mut random);
        clients.answered(10).await;
        if round % 2 == 0 {
            scene.steer("fsync:EIO:path=events.db-wal");
        }
        tokio::time::sleep(random.millis(5, 250)).await;
        tokio::task::block_in_place(|| server.kill());
        scene.steer("");
        let now_told = clients.ended().await;
        disk.fail_power(&scene.log());
        server = start();
        let log = Log::read(&scene.log()).await.unwrap();
        check(&log, &now_told).unwrap();
        told.add_run(now_told);
        check(&log, &told).unwrap();
    }
    println!(
        "{} tokens, {} changes, {} times 503",
        told.tokens.len(),
        told.changes.len(),
        told.unavailable
    );
    assert!(told.tokens.len() > 20 && told.unavailable > 0);
}
