//! What an append does, and what it does not do.

use crate::Log;
use crate::events::{append, append_one, event, event_of, events, indexes, revisions, whole_log};
use grantlog::event_store::ExpectedRevision::{Any, Exact, NoStream};
use grantlog::event_store::{
    AppendError, Appended, EventStore, EventToAppend, ExpectedRevision, MAX_EVENT_BYTES, MAX_EVENTS_PER_APPEND,
    MAX_STREAM_NAME_BYTES,
};
use std::sync::Arc;
use uuid::Uuid;

pub async fn the_first_event_has_index_and_revision_zero(log: &dyn Log) {
    let store = log.open().await;
    assert_eq!(store.log_size(), 0);
    assert_eq!(
        append_one(&*store, "a").await,
        Appended {
            first_index: 0,
            last_index: 0,
            revision: 0
        }
    );
    assert_eq!(store.log_size(), 1);
}

pub async fn events_of_one_append_stand_together(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    let appended = store.append_to_stream(append("a", Any, events(3))).await.unwrap();
    assert_eq!(
        appended,
        Appended {
            first_index: 1,
            last_index: 3,
            revision: 3
        }
    );
    let stored = store.read_stream("a", 0, 10).await.unwrap();
    assert_eq!(
        (indexes(&stored), revisions(&stored)),
        (vec![0, 1, 2, 3], vec![0, 1, 2, 3])
    );
}

pub async fn streams_count_their_revisions_apart_and_share_the_index(log: &dyn Log) {
    let store = log.open().await;
    for stream in ["a", "b", "a", "c", "b", "a"] {
        append_one(&*store, stream).await;
    }
    let places = whole_log(&*store)
        .await
        .iter()
        .map(|event| (event.index, event.revision))
        .collect::<Vec<_>>();
    assert_eq!(places, [(0, 0), (1, 0), (2, 1), (3, 0), (4, 1), (5, 2)]);
}

pub async fn an_append_that_expects_no_stream_is_accepted_only_as_the_first(log: &dyn Log) {
    let store = log.open().await;
    store.append_to_stream(append("a", NoStream, events(2))).await.unwrap();
    assert_conflict(&*store, NoStream, Some(1)).await;
}

pub async fn an_append_that_expects_a_revision_is_accepted_only_right_behind_it(log: &dyn Log) {
    let store = log.open().await;
    assert_conflict(&*store, Exact(0), None).await;
    assert_conflict(&*store, Exact(u64::MAX), None).await;
    store.append_to_stream(append("a", NoStream, events(3))).await.unwrap();
    assert_conflict(&*store, Exact(1), Some(2)).await;
    assert_conflict(&*store, Exact(3), Some(2)).await;
    assert_conflict(&*store, Exact(u64::MAX), Some(2)).await;
    let appended = store.append_to_stream(append("a", Exact(2), events(1))).await.unwrap();
    assert_eq!(appended.revision, 3);
}

async fn assert_conflict(store: &dyn EventStore, expected: ExpectedRevision, actual: Option<u64>) {
    let refused = store
        .append_to_stream(append("a", expected, events(1)))
        .await
        .unwrap_err();
    assert_eq!(refused, AppendError::WrongExpectedRevision { expected, actual });
}

pub async fn a_refused_append_leaves_no_trace(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    store
        .append_to_stream(append("a", Exact(7), events(5)))
        .await
        .unwrap_err();
    store
        .append_to_stream(append("b", Exact(0), events(5)))
        .await
        .unwrap_err();
    assert_eq!(store.log_size(), 1);
    assert_eq!(store.read_stream("a", 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.read_stream("b", 0, 10).await.unwrap(), []);
    assert_eq!(
        append_one(&*store, "b").await,
        Appended {
            first_index: 1,
            last_index: 1,
            revision: 0
        }
    );
}

pub async fn indexes_are_dense_under_concurrent_appenders(log: &dyn Log) {
    const APPENDERS: usize = 64;
    const APPENDS: usize = 30;
    let store = log.open().await;
    let appenders = (0..APPENDERS).map(|appender| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut places = Vec::new();
            for n in 0..APPENDS {
                let events = events(1 + (appender + n) % 3);
                let bytes = events.iter().map(|event| event.bytes.clone()).collect::<Vec<_>>();
                let stream = format!("stream-{}", (appender * 7 + n) % 10);
                let appended = store.append_to_stream(append(&stream, Any, events)).await.unwrap();
                assert_eq!(appended.last_index - appended.first_index + 1, bytes.len() as u64);
                places.extend((appended.first_index..).zip(bytes));
            }
            places
        })
    });
    let mut acknowledged = Vec::new();
    for appender in appenders.collect::<Vec<_>>() {
        acknowledged.extend(appender.await.unwrap());
    }
    acknowledged.sort();
    let stored = whole_log(&*store)
        .await
        .into_iter()
        .map(|event| (event.index, event.bytes));
    assert_eq!(stored.collect::<Vec<_>>(), acknowledged);
    assert!(acknowledged.iter().map(|(index, _)| *index).eq(0..store.log_size()));
    for stream in 0..10 {
        let stored = store.read_stream(&format!("stream-{stream}"), 0, 4_096).await.unwrap();
        assert!(revisions(&stored).into_iter().eq(0..stored.len() as u64));
        assert!(stored.is_sorted_by_key(|event| event.index));
    }
}

pub async fn of_concurrent_appends_with_the_same_expectation_one_wins(log: &dyn Log) {
    let store = log.open().await;
    for round in 0..10 {
        let expected = if round == 0 { NoStream } else { Exact(round - 1) };
        let attempts = (0..32).map(|_| tokio::spawn(store.append_to_stream(append("a", expected, events(1)))));
        let mut winners = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(appended) => {
                    assert_eq!(appended.revision, round);
                    winners += 1;
                }
                Err(refused) => {
                    assert_eq!(
                        refused,
                        AppendError::WrongExpectedRevision {
                            expected,
                            actual: Some(round)
                        }
                    );
                }
            }
        }
        assert_eq!(winners, 1);
    }
    assert_eq!(store.log_size(), 10);
}

pub async fn a_conflict_does_not_harm_its_neighbours(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "contended").await;
    let attempts = (0..200).map(|n| {
        let append = if n % 2 == 0 {
            append(&format!("free-{n}"), NoStream, events(2))
        } else {
            append("contended", Exact(17), events(2))
        };
        (n, tokio::spawn(store.append_to_stream(append)))
    });
    for (n, attempt) in attempts.collect::<Vec<_>>() {
        let outcome = attempt.await.unwrap();
        if n % 2 == 0 {
            assert_eq!(outcome.unwrap().revision, 1);
        } else {
            assert_eq!(
                outcome.unwrap_err(),
                AppendError::WrongExpectedRevision {
                    expected: Exact(17),
                    actual: Some(0)
                }
            );
        }
    }
    assert_eq!(store.log_size(), 201);
    assert!(indexes(&whole_log(&*store).await).into_iter().eq(0..201));
}

pub async fn a_repeated_append_is_answered_as_the_first_time(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "other").await;
    let first = append("a", NoStream, events(3));
    let second = append("a", Exact(2), events(2));
    let appended_first = store.append_to_stream(first.clone()).await.unwrap();
    assert_eq!(store.append_to_stream(first.clone()).await.unwrap(), appended_first);
    let appended_second = store.append_to_stream(second.clone()).await.unwrap();
    assert_eq!(store.append_to_stream(second).await.unwrap(), appended_second);
    assert_eq!(store.append_to_stream(first).await.unwrap(), appended_first);
    assert_eq!(store.log_size(), 6);
}

pub async fn a_repeat_is_recognised_when_others_have_appended_since(log: &dyn Log) {
    let store = log.open().await;
    append_one(&*store, "a").await;
    let repeated = append("a", Exact(0), events(2));
    let appended = store.append_to_stream(repeated.clone()).await.unwrap();
    for _ in 0..5 {
        append_one(&*store, "a").await;
        append_one(&*store, "b").await;
    }
    assert_eq!(store.append_to_stream(repeated).await.unwrap(), appended);
    assert_eq!(store.log_size(), 13);
}

pub async fn an_append_made_twice_at_the_same_time_is_written_once(log: &dyn Log) {
    let store = log.open().await;
    for n in 0..20 {
        let twice = append(&format!("stream-{n}"), NoStream, events(2));
        let (one, other) = tokio::join!(
            store.append_to_stream(twice.clone()),
            store.append_to_stream(twice.clone())
        );
        assert_eq!(one.unwrap(), other.unwrap());
    }
    assert_eq!(store.log_size(), 40);
}

pub async fn the_same_expectation_with_other_events_is_a_conflict(log: &dyn Log) {
    let store = log.open().await;
    let original = events(2);
    store
        .append_to_stream(append("a", NoStream, original.clone()))
        .await
        .unwrap();
    let half_the_same = vec![original[0].clone(), event()];
    let other_order = vec![original[1].clone(), original[0].clone()];
    for events in [events(2), half_the_same, other_order] {
        let refused = store.append_to_stream(append("a", NoStream, events)).await.unwrap_err();
        assert_eq!(
            refused,
            AppendError::WrongExpectedRevision {
                expected: NoStream,
                actual: Some(1)
            }
        );
    }
    assert_eq!(store.log_size(), 2);
}

pub async fn a_repeat_that_brings_more_events_is_a_conflict(log: &dyn Log) {
    let store = log.open().await;
    let original = events(2);
    store
        .append_to_stream(append("a", NoStream, original.clone()))
        .await
        .unwrap();
    let longer = [original, events(1)].concat();
    let refused = store.append_to_stream(append("a", NoStream, longer)).await.unwrap_err();
    assert_eq!(
        refused,
        AppendError::WrongExpectedRevision {
            expected: NoStream,
            actual: Some(1)
        }
    );
}

pub async fn a_repeat_that_mixes_separate_appends_is_a_conflict(log: &dyn Log) {
    let store = log.open().await;
    let (one, other) = (event(), event());
    store
        .append_to_stream(append("a", NoStream, vec![one.clone()]))
        .await
        .unwrap();
    append_one(&*store, "between").await;
    store
        .append_to_stream(append("a", Exact(0), vec![other.clone()]))
        .await
        .unwrap();
    let refused = store
        .append_to_stream(append("a", NoStream, vec![one, other]))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        AppendError::WrongExpectedRevision {
            expected: NoStream,
            actual: Some(1)
        }
    );
}

pub async fn what_breaks_a_bound_is_refused(log: &dyn Log) {
    let store = log.open().await;
    let too_large = event_of(Uuid::now_v7(), vec![b' '; MAX_EVENT_BYTES + 1]);
    for broken in [
        append("a", Any, vec![]),
        append("a", Any, events(MAX_EVENTS_PER_APPEND + 1)),
        append("a", Any, vec![event(), too_large]),
        append("", Any, events(1)),
        append(&"a".repeat(MAX_STREAM_NAME_BYTES + 1), Any, events(1)),
    ] {
        let refused = store.append_to_stream(broken).await.unwrap_err();
        assert!(matches!(refused, AppendError::OutOfBounds(_)), "{refused}");
    }
    assert_eq!(store.log_size(), 0);
}

pub async fn what_just_keeps_the_bounds_is_accepted(log: &dyn Log) {
    let store = log.open().await;
    let largest = event_of(Uuid::now_v7(), vec![b' '; MAX_EVENT_BYTES]);
    let longest_name = "a".repeat(MAX_STREAM_NAME_BYTES);
    store
        .append_to_stream(append(&longest_name, NoStream, vec![largest.clone()]))
        .await
        .unwrap();
    let appended = store
        .append_to_stream(append("b", NoStream, events(MAX_EVENTS_PER_APPEND)))
        .await
        .unwrap();
    assert_eq!(appended.revision, MAX_EVENTS_PER_APPEND as u64 - 1);
    assert_eq!(
        *store.read_stream(&longest_name, 0, 1).await.unwrap()[0].bytes,
        *largest.bytes
    );
}

pub async fn bytes_come_back_verbatim(log: &dyn Log) {
    let store = log.open().await;
    let every_byte = (0..=255).collect::<Vec<u8>>();
    let contents: [&[u8]; 6] = [
        br#"{"id" : "x" , "b":1,"a":1.0,"a":2}  "#,
        "{\"name\":\"Übergröße ✓ \u{1F512}\"}".as_bytes(),
        b"\xff\xfe not UTF-8 \xc3\x28",
        b"\0",
        b"' ; DROP TABLE events; --\r\n",
        &every_byte,
    ];
    let events: Vec<EventToAppend> = contents
        .iter()
        .map(|bytes| event_of(Uuid::now_v7(), bytes.to_vec()))
        .collect();
    store.append_to_stream(append("a", Any, events)).await.unwrap();
    for (stored, bytes) in whole_log(&*store).await.iter().zip(contents) {
        assert_eq!(&*stored.bytes, bytes);
    }
    assert_eq!(store.log_size(), contents.len() as u64);
}

pub async fn an_append_whose_future_is_dropped_still_happens(log: &dyn Log) {
    let store = log.open().await;
    drop(store.append_to_stream(append("a", NoStream, events(2))));
    let mut following = store.subscribe_to_all(1);
    assert_eq!(indexes(&following.next_batch(1).await.unwrap()), [1]);
    let _: Arc<dyn EventStore> = store;
}
