//! The end of a store, and the log after it.

use crate::Log;
use crate::events::{append, append_many, append_one, events, indexes, whole_log};
use grantlog::event_store::ExpectedRevision::{Any, Exact, NoStream};
use grantlog::event_store::{AppendError, Appended, Direction};
use std::time::Duration;

pub async fn a_closed_store_refuses_appends_and_reads(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    store.close().await;
    let refused = store.append_to_stream(append("a", Any, events(1))).await.unwrap_err();
    assert!(matches!(refused, AppendError::Closed(_)), "{refused}");
    store.read_all(0, Direction::Forwards, 1).await.unwrap_err();
    store.read_stream("a", 0, 1).await.unwrap_err();
    store.read_indexes(&[0]).await.unwrap_err();
}

pub async fn closing_commits_what_is_queued(log: &dyn Log) {
    let store = log.open().await;
    let queued = (0..500).map(|n| store.append_to_stream(append(&format!("stream-{n}"), NoStream, events(2))));
    let queued = queued.collect::<Vec<_>>();
    store.close().await;
    let mut places = Vec::new();
    for append in queued {
        places.push(append.await.unwrap().first_index);
    }
    places.sort_unstable();
    assert!(places.into_iter().eq((0..1_000).step_by(2)));
    assert_eq!(whole_log(&*log.open().await).await.len(), 1_000);
}

pub async fn closing_twice_is_closing_once(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    tokio::join!(store.close(), store.close());
    store.close().await;
    assert_eq!(log.open().await.log_size(), 1);
}

pub async fn closing_ends_a_waiting_subscription(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    let mut following = store.subscribe_to_all(1);
    let waiting = tokio::spawn(async move { following.next_batch(1).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.close().await;
    waiting.await.unwrap().unwrap_err();
}

pub async fn closing_is_no_failure(log: &dyn Log) {
    let store = log.open().await;
    let failed = store.failed();
    store.close().await;
    drop(store);
    assert!(tokio::time::timeout(Duration::from_millis(100), failed).await.is_err());
}

pub async fn a_reopened_log_goes_on_where_it_was(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 5).await;
    append_many(&*store, "b", 3).await;
    let before = whole_log(&*store).await;
    store.close().await;

    let store = log.open().await;
    assert_eq!(store.log_size(), 8);
    assert_eq!(whole_log(&*store).await, before);
    let refused = store
        .append_to_stream(append("a", NoStream, events(1)))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        AppendError::WrongExpectedRevision {
            expected: NoStream,
            actual: Some(4)
        }
    );
    let appended = store.append_to_stream(append("a", Exact(4), events(1))).await.unwrap();
    assert_eq!(
        appended,
        Appended {
            first_index: 8,
            last_index: 8,
            revision: 5
        }
    );
    let mut following = store.subscribe_to_all(6);
    let received = [
        following.next_batch(2).await.unwrap(),
        following.next_batch(1).await.unwrap(),
    ]
    .concat();
    assert_eq!(indexes(&received), [6, 7, 8]);
}

pub async fn a_repeat_is_recognised_after_reopening(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    let repeated = append("a", Exact(0), events(3));
    let appended = store.append_to_stream(repeated.clone()).await.unwrap();
    store.close().await;
    let store = log.open().await;
    assert_eq!(store.append_to_stream(repeated).await.unwrap(), appended);
    assert_eq!(store.log_size(), 4);
}
