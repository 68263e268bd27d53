//! The event log of a configuration: the only file that names a concrete store.

use super::error::ServeError;
use crate::config::{Config, StoreLocation};
use crate::event_store::kurrentdb::{KurrentDbEventStore, KurrentDbOptions, KurrentDbUrl};
use crate::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use crate::event_store::{EventStore, OnCommit};
use crate::metrics::Metrics;
use crate::service::migrate::AppendOrder;
use std::path::PathBuf;
use std::sync::Arc;

/// The event log, for this server to write to.
pub(super) async fn open_store(config: &Config, metrics: Metrics) -> Result<Arc<dyn EventStore>, ServeError> {
    let on_commit: Option<OnCommit> = Some(Arc::new(move |events, took| {
        metrics.event_store_commit(events as u64, took);
    }));
    let (queue_capacity, max_batch_events) = (config.store.queue_capacity, config.store.max_batch_events);
    Ok(match &config.store.location {
        StoreLocation::Sqlite(path) => {
            let options = SqliteOptions {
                queue_capacity,
                max_batch_events,
                on_commit,
                ..SqliteOptions::new(path.clone())
            };
            Arc::new(SqliteEventStore::open(options).map_err(ServeError::part)?)
        }
        StoreLocation::KurrentDb(url) => {
            let options = KurrentDbOptions {
                queue_capacity,
                max_batch_events,
                on_commit,
                ..kurrentdb_options(config, url)
            };
            Arc::new(KurrentDbEventStore::open(options).await.map_err(ServeError::part)?)
        }
    })
}

/// The event log as it is now, beside the server that writes to it.
pub(super) async fn open_store_read_only(config: &Config) -> Result<Arc<dyn EventStore>, ServeError> {
    Ok(match &config.store.location {
        StoreLocation::Sqlite(path) => {
            let store = SqliteEventStore::open_read_only(SqliteOptions::new(path.clone()));
            Arc::new(store.map_err(ServeError::part)?)
        }
        StoreLocation::KurrentDb(url) => {
            let store = KurrentDbEventStore::open_read_only(kurrentdb_options(config, url)).await;
            Arc::new(store.map_err(ServeError::part)?)
        }
    })
}

/// Opens a log that nobody else is to write to meanwhile, and says how it treats appends. Its bounds are not those of
/// the configuration: a refusal of one append for a full queue, in the midst of others, would leave a gap.
pub(super) async fn open_for_migration(
    config: &Config,
    location: &StoreLocation,
    positions: PathBuf,
) -> Result<(Arc<dyn EventStore>, AppendOrder), ServeError> {
    match location {
        StoreLocation::Sqlite(path) => {
            let store = SqliteEventStore::open(SqliteOptions::new(path.clone())).map_err(ServeError::part)?;
            // One queue, one writer.
            Ok((Arc::new(store), AppendOrder::Kept))
        }
        StoreLocation::KurrentDb(url) => {
            let options = KurrentDbOptions {
                positions,
                ..kurrentdb_options(config, url)
            };
            let store = KurrentDbEventStore::open(options).await.map_err(ServeError::part)?;
            // Each stream is appended to by itself.
            Ok((Arc::new(store), AppendOrder::Unknown))
        }
    }
}

fn kurrentdb_options(config: &Config, url: &KurrentDbUrl) -> KurrentDbOptions {
    KurrentDbOptions {
        stream_prefix: config.store.stream_prefix.clone(),
        max_staleness: config.store.max_staleness,
        append_timeout: config.store.append_timeout,
        connect_timeout: config.store.connect_timeout,
        ..KurrentDbOptions::new(url.clone(), config.data_dir.join("positions.db"))
    }
}
