//! The embedded store on a disk that fails: a child process appends under an injected fault and says what
//! was acknowledged; afterwards the log must hold all of that, each event once and at its index.
//!
//! `fault_shim.c` says how faults are injected; it works for any program, the whole server included.
#![cfg(target_os = "linux")]

mod acknowledged;
mod appending_child;
mod shim;

use acknowledged::check;
use appending_child::{Acknowledges, Child};
use grantlog::event_store::sqlite::Durability;
use shim::{Disk, FaultShim};
use std::path::PathBuf;

/// One log and what the tests have been told is in it.
struct Scene {
    folder: tempfile::TempDir,
    shim: FaultShim,
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            shim: FaultShim::build(),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("events.db")
    }

    fn child(&self) -> Child {
        let mut child = Child::new(&self.log());
        self.shim.preload(child.command());
        child
    }
}

/// What a write or fsync answers instead of doing its work.
const FAULTS: [&str; 8] = [
    "fsync:EIO",
    "fsync:ENOSPC",
    "write:EIO",
    "write:ENOSPC",
    "write:EDQUOT",
    "write:TORN-EIO",
    "write:TORN-ENOSPC",
    "write+fsync+truncate:EIO",
];

/// Which call it is: opening makes about 25 writes and 10 fsyncs, a commit some ten writes and one fsync.
const NTH: [usize; 9] = [1, 2, 4, 9, 13, 20, 33, 60, 200];

#[tokio::test]
async fn whichever_write_or_fsync_fails_nothing_acknowledged_is_lost_and_nothing_follows() {
    let mut failed_while_serving = 0;
    for fault in FAULTS {
        for nth in NTH {
            for persistence in [format!("every={nth}"), format!("after={}", nth - 1)] {
                let scene = Scene::new();
                let injected = format!("{fault}:{persistence}:path=events.db");
                let told = scene.child().under(&injected).appends(600).run();
                let what = format!("under {injected}: {told:?}");
                match (&told.not_opened, &told.failed) {
                    // A fault that meets the last checkpoint, on closing, takes nothing from anybody.
                    (None, None) => assert!(
                        told.finished && (told.acknowledged.len() >= 600 || !told.stderr.contains("fault_shim")),
                        "{what}"
                    ),
                    (Some(message), None) => assert_tells_what_happened(message, &scene, "SQLITE_"),
                    (None, Some(message)) => {
                        assert_tells_what_happened(message, &scene, name_of(fault));
                        assert_tells_what_happened(message, &scene, "start again");
                        assert_eq!(told.acknowledged_after_the_failure, 0, "{what}");
                        assert!(told.refused_as_closed > 0, "{what}");
                        failed_while_serving += 1;
                    }
                    (Some(_), Some(_)) => panic!("{what}"),
                }
                // The restart recovers, and the log takes events again.
                check(&scene.log(), &told.acknowledged)
                    .await
                    .unwrap_or_else(|loss| panic!("{loss} {what}"));
            }
        }
    }
    assert!(
        failed_while_serving >= 30,
        "only {failed_while_serving} of the faults met a serving store"
    );
}

/// What the operator reads about a commit that met this fault.
fn name_of(fault: &str) -> &'static str {
    match fault {
        "write:ENOSPC" | "write:TORN-ENOSPC" => "the disk is full (SQLITE_FULL, extended code 13",
        "fsync:EIO" | "fsync:ENOSPC" => "the disk failed (SQLITE_IOERR_FSYNC, extended code 1034",
        "write+fsync+truncate:EIO" => "the disk failed (SQLITE_IOERR_",
        _ => "the disk failed (SQLITE_IOERR_WRITE, extended code 778",
    }
}

fn assert_tells_what_happened(message: &str, scene: &Scene, words: &str) {
    assert!(
        message.contains(scene.log().to_str().unwrap()) && message.contains(words),
        "{message}"
    );
}

#[tokio::test]
async fn writes_that_are_cut_short_are_completed() {
    let scene = Scene::new();
    let told = scene
        .child()
        .under("write:SHORT:every=3:path=events.db")
        .appends(600)
        .run();
    assert!(
        told.finished && told.failed.is_none() && told.stderr.contains("is short"),
        "{told:?}"
    );
    assert!(told.acknowledged.len() >= 600);
    check(&scene.log(), &told.acknowledged).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fills_up_while_serving_ends_the_store_and_space_brings_it_back() {
    let scene = Scene::new();
    let control = scene.folder.path().join("control");
    let mut child = scene.child().steered_by(&control).start();
    child.wait_for_acknowledgements(300);
    shim::steer(&control, "write:ENOSPC:path=events.db");
    let told = child.wait();
    let message = told.failed.as_deref().unwrap();
    assert_tells_what_happened(message, &scene, "the disk is full (SQLITE_FULL");
    assert_tells_what_happened(message, &scene, "free space");
    assert_eq!(told.acknowledged_after_the_failure, 0);
    check(&scene.log(), &told.acknowledged).await.unwrap();
    let again = scene.child().appends(100).run();
    assert!(again.finished && again.failed.is_none(), "{again:?}");
    check(&scene.log(), &[told.acknowledged, again.acknowledged].concat())
        .await
        .unwrap();
}

/// Moving the write-ahead log into the file is no commit, but it is the same disk.
#[tokio::test]
async fn a_checkpoint_that_fails_ends_the_store_and_loses_nothing() {
    for (fault, words) in [
        ("fsync:EIO", "SQLITE_IOERR_FSYNC"),
        ("write:ENOSPC", "the disk is full"),
    ] {
        let scene = Scene::new();
        let control = scene.folder.path().join("control");
        let mut child = scene.child().steered_by(&control).start();
        child.wait_for_acknowledgements(300);
        shim::steer(&control, &format!("{fault}:path=events.db$"));
        let told = child.wait();
        let message = told.failed.as_deref().unwrap();
        assert_tells_what_happened(message, &scene, "moving its write-ahead log into the file");
        assert_tells_what_happened(message, &scene, words);
        assert_eq!(told.acknowledged_after_the_failure, 0);
        check(&scene.log(), &told.acknowledged).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_acknowledged_survives_kills_and_power_failures() {
    let scene = Scene::new();
    let disk = Disk::new(scene.folder.path());
    let mut acknowledged = Vec::new();
    for round in 0..12 {
        let mut child = scene.child().on(&disk).start();
        child.wait_for_acknowledgements(1 + 41 * round);
        acknowledged.extend(child.kill().acknowledged);
        if round % 3 != 0 {
            disk.fail_power(&scene.log());
        }
    }
    check(&scene.log(), &acknowledged).await.unwrap();
}

/// After a failed fsync the kernel shows what it did not write, and calls it written. Whoever appends behind
/// that loses everything with the next power failure.
#[tokio::test]
async fn what_a_failed_fsync_left_in_memory_alone_reaches_the_disk_before_anything_follows_it() {
    for nth in [14, 20, 35] {
        let scene = Scene::new();
        let disk = Disk::new(scene.folder.path());
        let fault = format!("fsync:EIO:every={nth}:path=events.db-wal");
        let first = scene.child().on(&disk).under(&fault).appends(2_000).run();
        assert!(first.failed.is_some(), "{first:?}");
        let second = scene.child().on(&disk).appends(200).run_and_kill();
        disk.fail_power(&scene.log());
        check(&scene.log(), &[first.acknowledged, second.acknowledged].concat())
            .await
            .unwrap();
    }
}

/// The test of the test: with a durability that does not deserve the name, acknowledged events are lost,
/// and the check notices.
#[tokio::test]
async fn the_check_notices_what_synchronous_normal_loses() {
    let run = async |durability| {
        let scene = Scene::new();
        let disk = Disk::new(scene.folder.path());
        let fault = "fsync:EIO:after=12:path=events.db-wal";
        let told = scene
            .child()
            .on(&disk)
            .under(fault)
            .with(durability)
            .appends(600)
            .run_and_kill();
        disk.fail_power(&scene.log());
        (check(&scene.log(), &told.acknowledged).await, told)
    };
    let (outcome, told) = run(Durability::UnsafeNormal).await;
    assert!(told.acknowledged.len() >= 600 && told.failed.is_none(), "{told:?}");
    let loss = outcome.expect_err("synchronous=NORMAL seems to lose nothing");
    assert!(loss.contains("is not in the log"), "{loss}");

    let (outcome, told) = run(Durability::Full).await;
    assert!(told.failed.is_some(), "{told:?}");
    outcome.unwrap();
}

/// The other test of the test: a service that answers before the commit.
#[tokio::test]
async fn the_check_notices_an_acknowledgement_before_the_commit() {
    let scene = Scene::new();
    let fault = "write:EIO:after=60:path=events.db";
    let told = scene
        .child()
        .under(fault)
        .acknowledging(Acknowledges::BeforeTheCommit)
        .appends(600)
        .run();
    assert!(told.failed.is_some(), "{told:?}");
    let loss = check(&scene.log(), &told.acknowledged)
        .await
        .expect_err("nothing seems to be lost");
    assert!(loss.contains("is not in the log"), "{loss}");
}
