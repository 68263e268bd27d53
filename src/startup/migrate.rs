//! Copies a log from one place to another.

use super::error::ServeError;
use super::folder::claim;
use super::stores::open_for_migration;
use crate::config::{Config, StoreLocation};
use crate::event_store::kurrentdb::KurrentDbUrl;
use crate::service::migrate::{self, Migrated, Progress};

/// Copies the log at one place to another and compares the two. Neither may be served meanwhile, nor may a server run
/// over the data folder.
pub async fn migrate(
    config: &Config,
    from: &StoreLocation,
    to: &StoreLocation,
    progress: impl FnMut(Progress),
) -> Result<Migrated, ServeError> {
    let side = |side: &'static str| {
        move |error: ServeError| {
            ServeError::Part(format!("{side}: {error}. No server may run on either log while it is copied").into())
        }
    };
    if is_one_log(from, to) {
        return Err(ServeError::Part("--from and --to name the same log".into()));
    }
    let is_needed = [from, to]
        .iter()
        .any(|side| matches!(side, StoreLocation::KurrentDb(_)));
    let _folder = match is_needed || config.data_dir.exists() {
        true => Some(claim(&config.data_dir)?),
        false => None,
    };
    if let StoreLocation::Sqlite(path) = from
        && !path.exists()
    {
        return Err(ServeError::Part(
            format!("--from: there is no event log {}", path.display()).into(),
        ));
    }
    // A node that serves from the target goes on with the positions that were learnt here.
    let beside = config.data_dir.join("positions.db");
    let apart = match (from, to) {
        (StoreLocation::KurrentDb(_), StoreLocation::KurrentDb(_)) => config.data_dir.join("positions.from.db"),
        _ => beside.clone(),
    };
    let (source, _) = open_for_migration(config, from, apart).await.map_err(side("--from"))?;
    let (target, order) = open_for_migration(config, to, beside).await.map_err(side("--to"))?;
    let migrated = migrate::migrate(&*source, &*target, order, progress).await;
    // The end of the files' locks and the move of the write-ahead log are waited for, whatever came of it.
    source.close().await;
    target.close().await;
    migrated.map_err(ServeError::part)
}

/// Whether both name one log, as far as the names tell: streams have the same prefix in both, so two lists that share a
/// host do, in whatever order and with whatever scheme or user.
fn is_one_log(one: &StoreLocation, other: &StoreLocation) -> bool {
    match (one, other) {
        (StoreLocation::KurrentDb(one), StoreLocation::KurrentDb(other)) => {
            let (one, other) = (hosts(one), hosts(other));
            one.iter().any(|host| other.contains(host))
        }
        _ => one == other,
    }
}

/// `host:port` of each, of the URL as it is shown: `scheme://***:***@host:port,host:port`.
fn hosts(url: &KurrentDbUrl) -> Vec<String> {
    let shown = url.to_string();
    let hosts = shown.rsplit(['/', '@']).next().unwrap_or_default();
    hosts.split(',').map(str::to_ascii_lowercase).collect()
}
