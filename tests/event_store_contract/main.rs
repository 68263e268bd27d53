//! What every event store has to do, whatever it is made of: one suite, run against each.
//!
//! A new store implements [`Log`] and invokes [`the_contract_holds_for!`] in a module of its own.

mod appending;
mod closing;
mod events;
mod following;
mod reading;

mod kurrentdb;
mod sqlite;

use grantlog::event_store::{BoxFuture, EventStore};
use std::sync::Arc;
use std::time::Duration;

/// How long a behaviour may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// One log that nobody else uses, empty at first.
trait Log: Send + Sync {
    /// Opens it: the first time, or again after it has been closed.
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventStore>>;
}

/// Runs one behaviour against a log.
async fn holds(behaviour: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, behaviour).await.expect("it hangs");
}

/// Makes a test of every behaviour; the expression makes a new, empty [`Log`].
macro_rules! the_contract_holds_for {
    ($new_log:expr) => {
        crate::the_contract_holds_for! { $new_log;
            appending {
                the_first_event_has_index_and_revision_zero,
                events_of_one_append_stand_together,
                streams_count_their_revisions_apart_and_share_the_index,
                an_append_that_expects_no_stream_is_accepted_only_as_the_first,
                an_append_that_expects_a_revision_is_accepted_only_right_behind_it,
                a_refused_append_leaves_no_trace,
                indexes_are_dense_under_concurrent_appenders,
                of_concurrent_appends_with_the_same_expectation_one_wins,
                a_conflict_does_not_harm_its_neighbours,
                a_repeated_append_is_answered_as_the_first_time,
                a_repeat_is_recognised_when_others_have_appended_since,
                an_append_made_twice_at_the_same_time_is_written_once,
                the_same_expectation_with_other_events_is_a_conflict,
                a_repeat_that_brings_more_events_is_a_conflict,
                a_repeat_that_mixes_separate_appends_is_a_conflict,
                what_breaks_a_bound_is_refused,
                what_just_keeps_the_bounds_is_accepted,
                bytes_come_back_verbatim,
                an_append_whose_future_is_dropped_still_happens,
            }
            reading {
                a_stream_is_read_from_a_revision_on,
                a_stream_is_told_from_those_with_similar_names,
                a_stream_that_does_not_exist_is_empty,
                it_is_told_which_stream_each_event_is_in,
                the_log_is_read_in_both_directions,
                reading_from_beyond_the_end_finds_nothing_ahead_and_everything_behind,
                pages_cover_the_log_without_gap_or_repetition,
                one_read_answers_with_a_bounded_number_of_events,
                events_are_read_by_index_in_the_order_asked_for,
                an_index_beyond_the_end_is_an_error,
                too_many_indexes_are_an_error,
                what_is_acknowledged_can_be_read_at_once,
                readers_never_see_beyond_the_log_size,
            }
            following {
                a_subscription_from_the_begin_delivers_everything,
                a_subscription_from_the_middle_begins_there,
                a_subscription_from_the_end_waits_for_the_next_event,
                a_subscription_from_beyond_the_end_waits_until_the_log_is_there,
                a_subscription_delivers_no_more_than_asked_for,
                a_subscription_delivers_what_is_committed_meanwhile_once_and_in_order,
                a_subscription_far_behind_catches_up,
                a_slow_subscription_misses_nothing_and_holds_nobody_up,
                an_abandoned_wait_skips_nothing,
                subscriptions_are_independent,
            }
            closing {
                a_closed_store_refuses_appends_and_reads,
                closing_commits_what_is_queued,
                closing_twice_is_closing_once,
                closing_ends_a_waiting_subscription,
                closing_is_no_failure,
                a_reopened_log_goes_on_where_it_was,
                a_repeat_is_recognised_after_reopening,
            }
        }
    };
    ($new_log:expr; $($theme:ident { $($behaviour:ident,)* })*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $behaviour() {
                let log = $new_log;
                crate::holds(crate::$theme::$behaviour(&log)).await;
            }
        )*)*
    };
}
use the_contract_holds_for;
