//! From file to file.

use crate::events::{fill, whole_log};
use crate::{Place, a_log_can_be_migrated, migrated};
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{BoxFuture, EventStore, removal};
use grantlog::service::migrate::{AppendOrder, MigrationError};
use std::sync::Arc;

a_log_can_be_migrated!(LogInAFile::new(AppendOrder::Kept), LogInAFile::new(AppendOrder::Kept));

/// As a store whose order nobody knows is treated.
mod one_append_at_a_time {
    use super::LogInAFile;
    use crate::a_log_can_be_migrated;
    use grantlog::service::migrate::AppendOrder;

    a_log_can_be_migrated!(
        LogInAFile::new(AppendOrder::Unknown),
        LogInAFile::new(AppendOrder::Unknown)
    );
}

pub struct LogInAFile {
    folder: tempfile::TempDir,
    order: AppendOrder,
}

impl LogInAFile {
    pub fn new(order: AppendOrder) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, order }
    }
}

impl Place for LogInAFile {
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventStore>> {
        let options = SqliteOptions::new(self.folder.path().join("events.db"));
        Box::pin(async { Arc::new(SqliteEventStore::open(options).expect("it opens")) as Arc<dyn EventStore> })
    }

    fn order(&self) -> AppendOrder {
        self.order
    }
}

#[tokio::test]
async fn a_copy_from_before_retention_ran_is_refused_though_its_root_is_the_same() {
    let (from, to) = (LogInAFile::new(AppendOrder::Kept), LogInAFile::new(AppendOrder::Kept));
    let (source, target) = (from.open().await, to.open().await);
    fill(&*source, 6).await;
    let before = migrated(&*source, &*target, to.order()).await.unwrap();
    let mut left = whole_log(&*source).await[2].clone();
    let text = r#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-1","type":"EventRemoved","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{"leaf_hash":"LEAF"}}"#;
    let leaf = grantlog::audit::transparency::merkle::leaf_hash(&left.bytes);
    let leaf = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, leaf);
    left.bytes = text.replace("LEAF", &leaf).into_bytes().into();
    assert_eq!(removal::removed(&left).unwrap(), left);
    source.remove(vec![left]).await.unwrap();
    let refused = migrated(&*source, &*target, to.order()).await;
    assert_eq!(refused, Err(MigrationError::RemovedInOne { index: 2 }));
    assert_eq!(crate::events::root(&whole_log(&*source).await), before.root);
}
