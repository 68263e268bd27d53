//! A log that is copied from one store into another: one suite for every pair of stores, and the command with real
//! files.
//!
//! A new store implements [`Place`] and invokes [`a_log_can_be_migrated!`] in a module of its own.

mod events;

mod copying;
mod kurrentdb;
mod sqlite;

mod misbehaving;

#[path = "../running_server/mod.rs"]
mod running_server;

mod command;

use grantlog::event_store::{BoxFuture, EventStore};
use grantlog::service::migrate::{AppendOrder, Migrated, MigrationError, migrate};
use std::sync::Arc;
use std::time::Duration;

/// How long a migration of a few events may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where one log that nobody else uses is, empty at first.
trait Place: Send + Sync {
    /// Opens it: the first time, or again after it has been closed.
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventStore>>;

    /// How its store treats appends that are under way together.
    fn order(&self) -> AppendOrder;
}

/// Migrates between two open stores, and tells nobody how far it is.
async fn migrated(
    source: &dyn EventStore,
    target: &dyn EventStore,
    order: AppendOrder,
) -> Result<Migrated, MigrationError> {
    let migrating = migrate(source, target, order, |_| {});
    tokio::time::timeout(PATIENCE, migrating).await.expect("it hangs")
}

/// Makes a test of every behaviour; the expressions make a new, empty [`Place`] for the source and for the target.
macro_rules! a_log_can_be_migrated {
    ($source:expr, $target:expr) => {
        crate::a_log_can_be_migrated! { $source, $target;
            an_empty_log_is_copied_by_doing_nothing,
            every_event_arrives_byte_for_byte_at_its_index_and_revision,
            it_goes_on_wherever_it_was_cut_off,
            a_migration_that_is_done_is_only_verified,
            what_is_left_of_removed_events_is_copied_and_the_root_is_that_of_the_whole_log,
            a_target_with_another_log_is_refused_and_left_as_it_is,
            a_target_that_differs_in_a_revision_alone_is_refused,
            a_target_that_holds_more_is_refused,
            large_events_are_copied_in_appends_of_bounded_size,
            an_event_that_is_none_stops_it_before_anything_that_follows_is_written,
            an_event_of_an_unknown_type_stops_it,
        }
    };
    ($source:expr, $target:expr; $($behaviour:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let new_source = || -> Box<dyn crate::Place> { Box::new($source) };
                let new_target = || -> Box<dyn crate::Place> { Box::new($target) };
                crate::copying::$behaviour(&new_source, &new_target).await;
            }
        )*
    };
}
use a_log_can_be_migrated;
