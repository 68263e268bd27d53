//! The real server on a disk that fails under its log: nothing is granted any more, everybody is told so, the
//! process ends and says why, and the next start knows all that was answered before.

use crate::check::check;
use crate::clients::{self, Application, Clients};
use crate::log::Log;
use crate::random::Random;
use crate::running_server::{Administrator, RunningServer};
use crate::scene::{Scene, register_applications};
use crate::served;
use crate::told::Told;
use std::sync::Arc;

/// What the operator reads when a commit meets the fault.
const FAULTS: [(&str, &str); 12] = [
    ("fsync:EIO", "the disk failed (SQLITE_IOERR_FSYNC"),
    ("fsync:EIO:after=5", "the disk failed (SQLITE_IOERR_FSYNC"),
    ("fsync:EIO:every=7", "the disk failed (SQLITE_IOERR_FSYNC"),
    ("fsync:ENOSPC:after=20", "the disk failed (SQLITE_IOERR_FSYNC"),
    ("write:EIO", "the disk failed (SQLITE_IOERR_WRITE"),
    ("write:EIO:every=50", "the disk failed (SQLITE_IOERR_WRITE"),
    ("write:ENOSPC", "the disk is full (SQLITE_FULL"),
    ("write:ENOSPC:after=33", "the disk is full (SQLITE_FULL"),
    ("write:EDQUOT:after=3", "the disk failed (SQLITE_IOERR_WRITE"),
    ("write:TORN-EIO:after=8", "the disk failed (SQLITE_IOERR_WRITE"),
    ("write:TORN-ENOSPC:every=21", "the disk is full (SQLITE_FULL"),
    ("write+fsync+truncate:EIO:after=60", "the disk failed (SQLITE_IOERR_"),
];

/// An application that asks for tokens, and the server that serves it.
struct Served {
    http: reqwest::Client,
    applications: Arc<Vec<Application>>,
    server: RunningServer,
}

async fn served(scene: &Scene) -> Served {
    let http = clients::http();
    let server = tokio::task::block_in_place(|| scene.server_on(None, "").start());
    let administrator = Administrator::with(http.clone(), &server).await;
    let applications = register_applications(&administrator).await;
    Served {
        http,
        applications,
        server,
    }
}

impl Served {
    async fn clients(&self, random: &mut Random) -> Clients {
        let administrator = Administrator::with(self.http.clone(), &self.server).await;
        Clients::start(
            &self.http,
            &self.server.url,
            &self.applications,
            32,
            Some(administrator),
            random,
        )
    }
}

/// What the server has said to the operator since it said this much.
fn said_since(server: &RunningServer, before: usize) -> String {
    server.stderr()[before..].to_owned()
}

fn assert_granted_nothing_after(told: &Told, what: &str) {
    assert!(told.wrong.is_empty(), "{what}: {:?}", told.wrong);
    assert!(told.unavailable > 0, "{what}: nobody was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_ends_the_server_and_grants_nothing() {
    let mut random = Random::seeded("failing log");
    let scene = Scene::new();
    let mut served = served(&scene).await;
    let mut told = Told::default();
    for (fault, expected) in FAULTS {
        let before = served.server.stderr().len();
        let clients = served.clients(&mut random).await;
        clients.answered(20).await;
        scene.steer(&format!("{fault}:path=events.db"));
        let status = tokio::task::block_in_place(|| served.server.wait_for_end());
        let now_told = clients.ended().await;
        let said = said_since(&served.server, before);
        let last = said.lines().rfind(|line| line.starts_with("Error: ")).unwrap_or(&said);
        assert_eq!(status.code(), Some(1), "{fault}: {last}");
        assert_granted_nothing_after(&now_told, fault);
        let path = scene.log();
        for words in [path.to_str().expect("UTF-8"), expected, "To do: ", "start again"] {
            assert!(last.contains(words), "{fault}: {words} is not in: {last}");
        }
        assert!(
            said.lines().count() < 100,
            "{fault}: the operator has to read {} lines",
            said.lines().count()
        );

        scene.steer("");
        served.server = tokio::task::block_in_place(|| scene.server_on(None, "").start());
        let log = Log::read(&scene.log())
            .await
            .unwrap_or_else(|error| panic!("{fault}: {error}"));
        check(&log, &now_told).unwrap_or_else(|problems| panic!("{fault}: {problems}"));
        told.add_run(now_told);
        let administrator = Administrator::with(served.http.clone(), &served.server).await;
        served::compare_state(&administrator, &served::folded(&log)).await;
    }
    let log = Log::read(&scene.log()).await.unwrap();
    check(&log, &told).unwrap();
    println!(
        "{} tokens, {} changes, {} times 503",
        told.tokens.len(),
        told.changes.len(),
        told.unavailable
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_disk_that_fails_says_so_or_serves_and_the_next_one_recovers() {
    let http = clients::http();
    let scene = Scene::new();
    tokio::task::block_in_place(|| scene.start().kill());
    let (mut refused, mut served) = (0, 0);
    for fault in [
        "fsync:EIO",
        "write:EIO",
        "write:ENOSPC",
        "write:TORN-EIO",
        "truncate:EIO",
    ] {
        for every in [1, 2, 3, 5, 9] {
            let fault = format!("{fault}:every={every}:path=events.db");
            std::fs::remove_file(scene.data().with_extension("stderr")).expect("what earlier starts said");
            let start = scene.server_on(None, &fault);
            match tokio::task::block_in_place(|| start.try_start()) {
                Ok(server) => {
                    served += 1;
                    // Whether this one fails depends on what it has written before.
                    let _ = http.post(format!("{}/connect/token", server.url)).send().await;
                    tokio::task::block_in_place(|| server.kill());
                }
                Err((status, stderr)) => {
                    refused += 1;
                    let last = stderr
                        .lines()
                        .rfind(|line| line.starts_with("Error: "))
                        .unwrap_or(&stderr);
                    assert_eq!(status.code(), Some(1), "{fault}: {last}");
                    assert!(
                        last.contains("events.db") && last.contains("SQLITE_"),
                        "{fault}: {last}"
                    );
                }
            }
            tokio::task::block_in_place(|| scene.start().kill());
            Log::read(&scene.log())
                .await
                .unwrap_or_else(|error| panic!("{fault}: {error}"));
        }
    }
    println!("{refused} starts were refused, {served} served");
    assert!(refused > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_are_cut_short_are_completed() {
    let mut random = Random::seeded("short writes");
    let scene = Scene::new();
    let served = served(&scene).await;
    let clients = served.clients(&mut random).await;
    scene.steer("write:SHORT:every=3:path=events.db");
    clients.answered(300).await;
    let told = clients.stop().await;
    assert!(told.unavailable == 0 && told.tokens.len() > 100);
    assert!(served.server.stderr().contains("is short"));
    check(&Log::read(&scene.log()).await.unwrap(), &told).unwrap();
    scene.steer("");
    assert_eq!(tokio::task::block_in_place(|| served.server.stop()).code(), Some(0));
}
