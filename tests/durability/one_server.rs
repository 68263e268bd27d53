//! One data folder, one server: a second one says what is in its way and leaves everything as it is. And a
//! first start that meets a failing disk leaves a folder that the next start completes.

use crate::check::check;
use crate::clients::{self, Clients};
use crate::log::Log;
use crate::random::Random;
use crate::running_server::{Administrator, request_token};
use crate::scene::{Scene, register_applications};
use crate::served;
use std::path::Path;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_names_the_lock_in_its_way_and_the_first_one_serves_on() {
    let (http, scene) = (clients::http(), Scene::new());
    let server = scene.start();
    let administrator = Administrator::with(http.clone(), &server).await;
    let applications = register_applications(&administrator).await;
    let clients = Clients::start(
        &http,
        &server.url,
        &applications,
        16,
        Some(administrator),
        &mut Random::seeded("second server"),
    );
    clients.answered(50).await;
    let profile = std::fs::read(scene.file("admin.json")).expect("a profile");
    // With a log of its own it would still share projections, index and keys.
    for store in ["sqlite", "sqlite:elsewhere.db"] {
        let second = scene.server().with_environment("GRANTLOG__STORE__URL", store);
        let started = tokio::task::block_in_place(|| second.try_start());
        let (status, stderr) = started.map(|_| ()).expect_err("there are two servers now");
        assert_eq!(status.code(), Some(1), "{stderr}");
        let said = stderr.lines().rfind(|line| line.contains("in use")).unwrap_or(&stderr);
        let lock = scene.file("server.lock");
        assert!(said.contains(lock.to_str().expect("UTF-8")), "{said}");
    }
    assert!(!Path::new("elsewhere.db").exists());
    // Two folders, one log.
    let other = Scene::new();
    let second = other
        .server()
        .with_environment("GRANTLOG__STORE__URL", format!("sqlite:{}", scene.log().display()));
    let started = tokio::task::block_in_place(|| second.try_start());
    let (status, stderr) = started.map(|_| ()).expect_err("there are two servers now");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("events.db.lock"), "{stderr}");

    clients.answered(300).await;
    let told = clients.stop().await;
    assert!(told.unavailable == 0 && told.broken_off == 0, "{told:?}");
    assert_eq!(std::fs::read(scene.file("admin.json")).expect("a profile"), profile);
    let log = Log::read(&scene.log()).await.unwrap();
    check(&log, &told).unwrap();
    let administrator = Administrator::with(http, &server).await;
    served::compare_state(&administrator, &served::folded(&log)).await;
    // The system releases the locks of a server that was killed.
    tokio::task::block_in_place(|| server.kill());
    assert_eq!(tokio::task::block_in_place(|| scene.start().stop()).code(), Some(0));
}

/// Which file the disk fails for, by the beginning of its name, and whether the server can do without it.
const FILES: [(&str, bool); 6] = [
    ("master.", false),
    ("admin.json", false),
    ("auditor.json", false),
    ("events.db", false),
    ("projections.db", true),
    ("audit.db", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_on_a_failing_disk_names_the_file_and_the_next_one_completes_it() {
    let http = clients::http();
    for (file, can_do_without) in FILES {
        for fault in ["write:EIO", "write:ENOSPC", "fsync:EIO", "write:TORN-ENOSPC:after=2"] {
            let scene = Scene::new();
            let start = scene.server_on(None, &format!("{fault}:path={file}"));
            match tokio::task::block_in_place(|| start.try_start()) {
                Ok(server) => {
                    assert!(
                        can_do_without || fault.contains("after"),
                        "{fault} of {file} was not met"
                    );
                    let (client_id, secret) = server.administrator();
                    let (status, answer) = request_token(&http, &server.url, &client_id, &secret, &[]).await;
                    assert_eq!(status, 200, "{fault} of {file}: {answer}");
                    tokio::task::block_in_place(|| server.kill());
                }
                Err((status, stderr)) => {
                    assert!(!can_do_without, "{fault} of {file}: {stderr}");
                    assert_eq!(status.code(), Some(1), "{stderr}");
                    let said = stderr
                        .lines()
                        .rfind(|line| line.starts_with("Error: "))
                        .unwrap_or(&stderr);
                    assert!(
                        said.contains(scene.file(file).to_str().expect("UTF-8")),
                        "{fault} of {file}: {said}"
                    );
                }
            }
            let server = scene.start();
            let (client_id, secret) = server.administrator();
            let (status, answer) = request_token(&http, &server.url, &client_id, &secret, &[]).await;
            assert_eq!(status, 200, "{fault} of {file}: {answer}");
            assert_eq!(tokio::task::block_in_place(|| server.stop()).code(), Some(0));
            served::compare_saved(&scene).await;
        }
    }
}
