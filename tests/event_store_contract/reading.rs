//! Reads of a stream, of the log, and by index.

use crate::Log;
use crate::events::{append, append_many, append_one, events, indexes, revisions, whole_log};
use grantlog::event_store::Direction::{Backwards, Forwards};
use grantlog::event_store::ExpectedRevision::Any;
use grantlog::event_store::{EventStore, MAX_EVENTS_PER_READ};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub async fn a_stream_is_read_from_a_revision_on(log: &dyn Log) {
    let store = log.open().await;
    for _ in 0..10 {
        append_one(&*store, "a").await;
        append_one(&*store, "b").await;
    }
    let stored = store.read_stream("b", 4, 3).await.unwrap();
    assert_eq!((revisions(&stored), indexes(&stored)), (vec![4, 5, 6], vec![9, 11, 13]));
    assert_eq!(revisions(&store.read_stream("b", 8, 100).await.unwrap()), [8, 9]);
    assert_eq!(store.read_stream("b", 10, 100).await.unwrap(), []);
    assert_eq!(store.read_stream("b", u64::MAX, 100).await.unwrap(), []);
    assert_eq!(store.read_stream("b", 0, 0).await.unwrap(), []);
}

pub async fn a_stream_is_told_from_those_with_similar_names(log: &dyn Log) {
    let store = log.open().await;
    let names = [
        "application-1",
        "application-10",
        "Application-1",
        "application-1 ",
        "application_1",
        "application-%",
    ];
    for (n, name) in names.iter().enumerate() {
        store.append_to_stream(append(name, Any, events(n + 1))).await.unwrap();
    }
    for (n, name) in names.iter().enumerate() {
        assert_eq!(store.read_stream(name, 0, 100).await.unwrap().len(), n + 1, "{name}");
    }
}

pub async fn a_stream_that_does_not_exist_is_empty(log: &dyn Log) {
    let store = log.open().await;
    assert_eq!(store.read_stream("nowhere", 0, 10).await.unwrap(), []);
    append_one(&*store, "a").await;
    assert_eq!(store.read_stream("nowhere", 0, 10).await.unwrap(), []);
}

pub async fn it_is_told_which_stream_each_event_is_in(log: &dyn Log) {
    let store = log.open().await;
    for name in ["a", "b-1", "a", "b-10", "b-1"] {
        append_one(&*store, name).await;
    }
    let named = |names: &[(u64, &str)]| {
        names
            .iter()
            .map(|(at, name)| (*at, (*name).to_owned()))
            .collect::<Vec<_>>()
    };
    let all = [(0, "a"), (1, "b-1"), (2, "a"), (3, "b-10"), (4, "b-1")];
    assert_eq!(store.streams_of(0..5).await.unwrap(), named(&all));
    assert_eq!(store.streams_of(3..100).await.unwrap(), named(&all[3..]));
    assert_eq!(store.streams_of(5..9).await.unwrap(), []);
    assert_eq!(store.streams_of(2..2).await.unwrap(), []);
}

pub async fn the_log_is_read_in_both_directions(log: &dyn Log) {
    let store = log.open().await;
    assert_eq!(store.read_all(0, Forwards, 10).await.unwrap(), []);
    assert_eq!(store.read_all(0, Backwards, 10).await.unwrap(), []);
    append_many(&*store, "a", 10).await;
    assert_eq!(indexes(&store.read_all(0, Forwards, 3).await.unwrap()), [0, 1, 2]);
    assert_eq!(indexes(&store.read_all(7, Forwards, 10).await.unwrap()), [7, 8, 9]);
    assert_eq!(indexes(&store.read_all(9, Backwards, 3).await.unwrap()), [9, 8, 7]);
    assert_eq!(indexes(&store.read_all(2, Backwards, 10).await.unwrap()), [2, 1, 0]);
    assert_eq!(indexes(&store.read_all(0, Backwards, 10).await.unwrap()), [0]);
    assert_eq!(store.read_all(5, Forwards, 0).await.unwrap(), []);
    assert_eq!(store.read_all(5, Backwards, 0).await.unwrap(), []);
}

pub async fn reading_from_beyond_the_end_finds_nothing_ahead_and_everything_behind(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 5).await;
    for beyond in [5, 6, 1_000_000, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
        assert_eq!(store.read_all(beyond, Forwards, 10).await.unwrap(), []);
        assert_eq!(indexes(&store.read_all(beyond, Backwards, 2).await.unwrap()), [4, 3]);
    }
}

pub async fn pages_cover_the_log_without_gap_or_repetition(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 100).await;
    let mut forwards = Vec::new();
    while let Some(last) = store.read_all(forwards.len() as u64, Forwards, 7).await.unwrap().last() {
        forwards.extend(forwards.len() as u64..=last.index);
    }
    assert!(forwards.into_iter().eq(0..100));
    let mut backwards = Vec::new();
    let mut from = Some(u64::MAX);
    while let Some(page_from) = from {
        let page = indexes(&store.read_all(page_from, Backwards, 7).await.unwrap());
        from = page.last().and_then(|last| last.checked_sub(1));
        backwards.extend(page);
    }
    assert!(backwards.into_iter().eq((0..100).rev()));
}

pub async fn one_read_answers_with_a_bounded_number_of_events(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", MAX_EVENTS_PER_READ + 10).await;
    assert_eq!(
        store.read_all(0, Forwards, usize::MAX).await.unwrap().len(),
        MAX_EVENTS_PER_READ
    );
    assert_eq!(
        store.read_all(u64::MAX, Backwards, usize::MAX).await.unwrap().len(),
        MAX_EVENTS_PER_READ
    );
    assert_eq!(
        store.read_stream("a", 0, usize::MAX).await.unwrap().len(),
        MAX_EVENTS_PER_READ
    );
    let mut following = store.subscribe_to_all(0);
    assert!(following.next_batch(usize::MAX).await.unwrap().len() <= MAX_EVENTS_PER_READ);
}

pub async fn events_are_read_by_index_in_the_order_asked_for(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 50).await;
    let asked_for = [49, 0, 17, 17, 3];
    let stored = store.read_indexes(&asked_for).await.unwrap();
    assert_eq!(indexes(&stored), asked_for);
    let whole = whole_log(&*store).await;
    assert!(stored.iter().all(|event| *event == whole[event.index as usize]));
    assert_eq!(store.read_indexes(&[]).await.unwrap(), []);
}

pub async fn an_index_beyond_the_end_is_an_error(log: &dyn Log) {
    let store = log.open().await;
    append_many(&*store, "a", 5).await;
    for beyond in [5, u64::MAX] {
        store.read_indexes(&[0, beyond]).await.unwrap_err();
    }
}

pub async fn too_many_indexes_are_an_error(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    assert_eq!(
        store.read_indexes(&vec![0; MAX_EVENTS_PER_READ]).await.unwrap().len(),
        MAX_EVENTS_PER_READ
    );
    store.read_indexes(&vec![0; MAX_EVENTS_PER_READ + 1]).await.unwrap_err();
}

pub async fn what_is_acknowledged_can_be_read_at_once(log: &dyn Log) {
    let store = log.open().await;
    let appenders = (0..8).map(|appender| {
        let store = store.clone();
        tokio::spawn(async move {
            for revision in 0..20 {
                let stream = format!("stream-{appender}");
                let appended = append_one(&*store, &stream).await;
                assert!(store.log_size() > appended.last_index);
                let by_index = store.read_indexes(&[appended.last_index]).await.unwrap();
                assert_eq!(by_index, store.read_stream(&stream, revision, 10).await.unwrap());
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.unwrap();
    }
}

pub async fn readers_never_see_beyond_the_log_size(log: &dyn Log) {
    let store = log.open().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (store, done): (Arc<dyn EventStore>, _) = (store.clone(), done.clone());
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let stream = store.read_stream("a", 0, 4_096).await.unwrap();
                let newest = store.read_all(u64::MAX, Backwards, 1).await.unwrap();
                let size = store.log_size();
                assert!(stream.iter().chain(&newest).all(|event| event.index < size));
            }
        })
    };
    append_many(&*store, "a", 4_000).await;
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
}
