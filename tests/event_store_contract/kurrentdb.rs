//! The contract on KurrentDB: the double of the real server that this repository has, or a real one, if there is one
//! at `GRANTLOG_TEST_KURRENTDB_URL`. Each log has streams with a prefix of its own, so a server may be used again.

use crate::{Log, the_contract_holds_for};
use grantlog::event_store::kurrentdb::{KurrentDbEventStore, KurrentDbOptions, KurrentDbUrl};
use grantlog::event_store::{BoxFuture, EventStore};
use grantlog_kurrentdb_double::{Cluster, Options};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

struct ClusterLog {
    folder: TempDir,
    /// `None` when the server is a real one.
    _double: Option<Cluster>,
    url: String,
    prefix: String,
}

impl ClusterLog {
    fn new() -> Self {
        let (double, url) = match std::env::var("GRANTLOG_TEST_KURRENTDB_URL") {
            Ok(url) => (None, url),
            Err(_) => {
                let double = Cluster::start(Options::default()).expect("the double starts");
                let url = double.connection_string();
                (Some(double), url)
            }
        };
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            _double: double,
            url,
            prefix: format!("contract-{}.", Uuid::now_v7().simple()),
        }
    }
}

impl Log for ClusterLog {
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
}

the_contract_holds_for!(ClusterLog::new());
