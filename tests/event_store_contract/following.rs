//! Subscriptions: everything from an index on, once and in order, at the reader's pace.

use crate::Log;
use crate::events::{append_many, append_one, indexes, whole_log};
use grantlog::event_store::{StoredEvent, Subscription};
use std::time::Duration;

/// More events than a store may keep in memory for its subscriptions.
const FAR_BEHIND: usize = 20_000;
/// How long to watch that nothing comes.
const A_MOMENT: Duration = Duration::from_millis(100);

async fn receive(following: &mut dyn Subscription, count: usize) -> Vec<StoredEvent> {
    let mut received = Vec::new();
    while received.len() < count {
        let batch = following.next_batch(count - received.len()).await.unwrap();
        assert!(!batch.is_empty());
        received.extend(batch);
    }
    received
}

async fn assert_waits(following: &mut dyn Subscription) {
    let waited = tokio::time::timeout(A_MOMENT, following.next_batch(10)).await;
    assert!(waited.is_err(), "{waited:?}");
}

pub async fn a_subscription_from_the_begin_delivers_everything(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 300).await;
    let mut following = store.subscribe_to_all(0);
    assert_eq!(receive(&mut *following, 300).await, whole_log(&*store).await);
    assert_waits(&mut *following).await;
}

pub async fn a_subscription_from_the_middle_begins_there(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 10).await;
    let mut following = store.subscribe_to_all(7);
    assert_eq!(indexes(&receive(&mut *following, 3).await), [7, 8, 9]);
    assert_waits(&mut *following).await;
}

pub async fn a_subscription_from_the_end_waits_for_the_next_event(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 10).await;
    let mut following = store.subscribe_to_all(10);
    assert_waits(&mut *following).await;
    append_one(&*store, "b").await;
    assert_eq!(indexes(&following.next_batch(10).await.unwrap()), [10]);
}

pub async fn a_subscription_from_beyond_the_end_waits_until_the_log_is_there(log: &dyn Log) {
    let store = log.open().await;
    let mut following = store.subscribe_to_all(3);
    for _ in 0..3 {
        append_one(&*store, "a").await;
        assert_waits(&mut *following).await;
    }
    append_many(&*store, "a", 2).await;
    assert_eq!(indexes(&receive(&mut *following, 2).await), [3, 4]);
}

pub async fn a_subscription_delivers_no_more_than_asked_for(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 10).await;
    let mut following = store.subscribe_to_all(0);
    assert!(following.next_batch(3).await.unwrap().len() <= 3);
    assert_eq!(following.next_batch(1).await.unwrap().len(), 1);
}

pub async fn a_subscription_delivers_what_is_committed_meanwhile_once_and_in_order(log: &dyn Log) {
    const EVENTS: usize = 2_000;
    let store = log.open().await;
    let mut following = store.subscribe_to_all(0);
    let appenders = (0..20).map(|appender| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..EVENTS / 20 {
                append_one(&*store, &format!("stream-{appender}")).await;
            }
        })
    });
    let appenders = appenders.collect::<Vec<_>>();
    let received = receive(&mut *following, EVENTS).await;
    for appender in appenders {
        appender.await.unwrap();
    }
    assert_eq!(received, whole_log(&*store).await);
}

pub async fn a_subscription_far_behind_catches_up(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", FAR_BEHIND).await;
    let mut following = store.subscribe_to_all(0);
    let received = receive(&mut *following, FAR_BEHIND).await;
    assert!(indexes(&received).into_iter().eq(0..FAR_BEHIND as u64));
    append_one(&*store, "a").await;
    assert_eq!(indexes(&following.next_batch(10).await.unwrap()), [FAR_BEHIND as u64]);
}

pub async fn a_slow_subscription_misses_nothing_and_holds_nobody_up(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 10).await;
    let mut slow = store.subscribe_to_all(0);
    let mut received = receive(&mut *slow, 5).await;
    // It does not read on while more is appended than a store keeps in memory.
    append_many(&*store, "a", FAR_BEHIND).await;
    let mut prompt = store.subscribe_to_all(store.log_size());
    append_one(&*store, "a").await;
    assert_eq!(prompt.next_batch(10).await.unwrap().len(), 1);
    received.extend(receive(&mut *slow, FAR_BEHIND + 6).await);
    assert!(indexes(&received).into_iter().eq(0..store.log_size()));
}

pub async fn an_abandoned_wait_skips_nothing(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 100).await;
    let mut following = store.subscribe_to_all(0);
    let mut received = Vec::new();
    for n in 0..200 {
        // Whatever stage the read has reached by then, it is dropped.
        let patience = Duration::from_micros(n * 5);
        if let Ok(batch) = tokio::time::timeout(patience, following.next_batch(1)).await {
            received.extend(batch.unwrap());
        }
    }
    received.extend(receive(&mut *following, 100 - received.len()).await);
    assert!(indexes(&received).into_iter().eq(0..100));
}

pub async fn subscriptions_are_independent(log: &dyn Log) {
    let store = log.open().await;
    let mut followers = (0..5)
        .map(|from| (from, store.subscribe_to_all(from)))
        .collect::<Vec<_>>();
    append_many(&*store, "a", 50).await;
    for (from, following) in &mut followers {
        let received = receive(&mut **following, 50 - *from as usize).await;
        assert!(indexes(&received).into_iter().eq(*from..50));
    }
}
