//! Into KurrentDB and back: the double of the real server that this repository has, or a real one, if there is one at
//! `GRANTLOG_TEST_KURRENTDB_URL`. Each log has streams with a prefix of its own, so a server may be used again.

use crate::events::{fill, root, whole_log};
use crate::sqlite::LogInAFile;
use crate::{Place, migrated};
use grantlog::event_store::kurrentdb::{KurrentDbEventStore, KurrentDbOptions, KurrentDbUrl};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{BoxFuture, EventStore};
use grantlog::service::migrate::{AppendOrder, Step, migrate};
use grantlog_kurrentdb_double::{Cluster, Options, UnderWay};
use std::process::{Command, Output};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

mod from_a_file {
    use super::ClusterLog;
    use crate::a_log_can_be_migrated;
    use crate::sqlite::LogInAFile;
    use grantlog::service::migrate::AppendOrder;

    a_log_can_be_migrated!(LogInAFile::new(AppendOrder::Kept), ClusterLog::new());
}

mod into_a_file {
    use super::ClusterLog;
    use crate::a_log_can_be_migrated;
    use crate::sqlite::LogInAFile;
    use grantlog::service::migrate::AppendOrder;

    a_log_can_be_migrated!(ClusterLog::new(), LogInAFile::new(AppendOrder::Kept));
}

struct ClusterLog {
    folder: TempDir,
    /// `None` when the server is a real one.
    _double: Option<Cluster>,
    url: String,
    prefix: String,
}

impl ClusterLog {
    fn new() -> Self {
        match std::env::var("GRANTLOG_TEST_KURRENTDB_URL") {
            Ok(url) => Self::at(None, url),
            Err(_) => {
                let double = Cluster::start(Options::default()).expect("the double starts");
                let url = double.connection_string();
                Self::at(Some(double), url)
            }
        }
    }

    fn at(double: Option<Cluster>, url: String) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            _double: double,
            url,
            prefix: format!("migration-{}.", Uuid::now_v7().simple()),
        }
    }
}

impl Place for ClusterLog {
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventStore>> {
        Box::pin(async {
            let url = KurrentDbUrl::parse(&self.url).expect("a connection string");
            let options = KurrentDbOptions {
                stream_prefix: self.prefix.clone(),
                ..KurrentDbOptions::new(url, self.folder.path().join("positions.db"))
            };
            let store = KurrentDbEventStore::open(options).await.expect("the log opens");
            Arc::new(store) as Arc<dyn EventStore>
        })
    }

    fn order(&self) -> AppendOrder {
        AppendOrder::Unknown
    }
}

/// On the double alone: it breaks the cluster on purpose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_in_the_midst_ends_nothing() {
    let double = Cluster::start(Options {
        nodes: 3,
        ..Options::default()
    })
    .expect("the double starts");
    let to = ClusterLog::at(None, double.connection_string());
    let from = LogInAFile::new(AppendOrder::Kept);
    let (source, target) = (from.open().await, to.open().await);
    fill(&*source, 400).await;
    let mut is_killed = false;
    let migrating = migrate(&*source, &*target, to.order(), |now| {
        if now.step == Step::Copying && now.done > 100 && !is_killed {
            is_killed = true;
            double.kill_leader(UnderWay::Committed);
        }
    });
    let migrated = migrating.await.unwrap();
    assert!(is_killed);
    let log = whole_log(&*source).await;
    assert_eq!(whole_log(&*target).await, log);
    assert_eq!(migrated.root, root(&log));
}

/// `migrate` between these, with the data folder and the configuration in this folder.
fn command(folder: &TempDir, from: &str, to: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(["migrate", "--json", "--config"])
        .arg(folder.path().join("grantlog.toml"))
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        // As a URL with a password is given.
        .env("GRANTLOG_MIGRATE_FROM", from)
        .env("GRANTLOG_MIGRATE_TO", to)
        .output()
        .expect("the binary runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_takes_a_log_there_and_back_with_the_same_root() {
    let there = ClusterLog::new();
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!("[store]\nstream_prefix = \"{}\"\n", there.prefix);
    std::fs::write(folder.path().join("grantlog.toml"), config).expect("a file");
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let source = SqliteEventStore::open(SqliteOptions::new(&old)).expect("the log opens");
    fill(&source, 500).await;
    let log = whole_log(&source).await;
    source.close().await;

    let said = |output: Output| -> serde_json::Value {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let old_url = format!("sqlite:{}", old.display());
    let out = said(command(&folder, &old_url, &there.url));
    let back = said(command(&folder, &there.url, &format!("sqlite:{}", new.display())));
    assert_eq!((&out["copied"], &back["copied"]), (&500.into(), &500.into()));
    assert_eq!(out["root"], back["root"]);
    let copy = SqliteEventStore::open(SqliteOptions::new(&new)).expect("the log opens");
    assert_eq!(whole_log(&copy).await, log);
    copy.close().await;
    // The cluster's own view, and the suite's: nothing is left to do.
    let (source, target) = (SqliteEventStore::open(SqliteOptions::new(&old)), there.open().await);
    let again = migrated(&source.expect("the log opens"), &*target, there.order())
        .await
        .unwrap();
    assert_eq!((again.found, again.events), (500, 500));
}

#[test]
fn one_cluster_under_two_names_is_no_place_to_migrate_to() {
    let folder = tempfile::tempdir().expect("a folder");
    // Nobody is there: it is refused before anybody is asked.
    let config = "[store]\nconnect_timeout_seconds = 1\n";
    std::fs::write(folder.path().join("grantlog.toml"), config).expect("a file");
    let from = "kurrentdb://db1.invalid:2113,db2.invalid:2114?tls=false";
    for to in [
        "kurrentdb://db2.invalid:2114,db1.invalid:2113?tls=false",
        "esdb://someone:else@DB2.invalid:2114",
        "kurrentdb+discover://db1.invalid?tls=false",
    ] {
        let refused = command(&folder, from, to);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("--from and --to name the same log"), "{to}: {stderr}");
    }
}
