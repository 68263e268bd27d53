//! The embedded store: the contract, and what is special about a log in one file.

use crate::events::{append, append_many, append_one, events, padded, whole_log};
use crate::{Log, the_contract_holds_for};
use grantlog::event_store::ExpectedRevision::{Any, Exact, NoStream};
use grantlog::event_store::sqlite::{OpenError, SqliteEventStore, SqliteOptions};
use grantlog::event_store::{AppendError, BoxFuture, Direction, EventStore, MAX_EVENTS_PER_REMOVAL, StoredEvent};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

the_contract_holds_for!(LogInAFile::new());

struct LogInAFile {
    folder: tempfile::TempDir,
}

impl LogInAFile {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("events.db")
    }

    fn options(&self) -> SqliteOptions {
        SqliteOptions::new(self.path())
    }
}

impl Log for LogInAFile {
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventStore>> {
        Box::pin(async { Arc::new(SqliteEventStore::open(self.options()).unwrap()) as Arc<dyn EventStore> })
    }
}

/// A store whose writer stops after each commit until it is let on.
fn held_up(options: SqliteOptions) -> (SqliteEventStore, mpsc::SyncSender<()>) {
    let (let_on, wait) = mpsc::sync_channel(1_000);
    let wait = Mutex::new(wait);
    let on_commit = move |_, _| {
        let _ = wait.lock().unwrap().recv();
    };
    let store = SqliteEventStore::open(SqliteOptions {
        on_commit: Some(Arc::new(on_commit)),
        ..options
    })
    .unwrap();
    (store, let_on)
}

#[tokio::test]
async fn appends_of_one_batch_to_the_same_stream_see_one_another() {
    let log = LogInAFile::new();
    let (store, let_on) = held_up(log.options());
    append_one(&store, "first").await;
    // The writer is held up: these wait together and are committed together.
    let chain = (0..10).map(|n| {
        let expected = if n == 0 { NoStream } else { Exact(n - 1) };
        store.append_to_stream(append("a", expected, events(1)))
    });
    let chain = chain.collect::<Vec<_>>();
    let too_late = store.append_to_stream(append("a", Exact(4), events(1)));
    assert_eq!(store.queue_depth(), 11);
    drop(let_on);
    for (revision, outcome) in chain.into_iter().enumerate() {
        assert_eq!(outcome.await.unwrap().revision, revision as u64);
    }
    let refused = too_late.await.unwrap_err();
    assert_eq!(
        refused,
        AppendError::WrongExpectedRevision {
            expected: Exact(4),
            actual: Some(9)
        }
    );
    assert_eq!(store.queue_depth(), 0);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let log = LogInAFile::new();
    let (store, let_on) = held_up(SqliteOptions {
        queue_capacity: 5,
        ..log.options()
    });
    append_one(&store, "a").await;
    while store.queue_depth() > 0 {
        tokio::task::yield_now().await;
    }
    let waiting = (0..5)
        .map(|_| store.append_to_stream(append("a", Any, events(1))))
        .collect::<Vec<_>>();
    let mut outcome = store.append_to_stream(append("a", Any, events(1)));
    let std::task::Poll::Ready(Err(refused)) = futures_util::poll!(&mut outcome) else {
        panic!("it was not refused at once")
    };
    assert_eq!(refused, AppendError::Overloaded);
    drop(let_on);
    for append in waiting {
        append.await.unwrap();
    }
    append_one(&store, "a").await;
    assert_eq!(store.log_size(), 7);
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_too() {
    let log = LogInAFile::new();
    let (store, let_on) = held_up(log.options());
    append_one(&store, "a").await;
    let large: Vec<_> = events(128).into_iter().map(|event| padded(event, 65_000)).collect();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut outcome = store.append_to_stream(append("a", Any, large.clone()));
        match futures_util::poll!(&mut outcome) {
            std::task::Poll::Pending => waiting.push(outcome),
            std::task::Poll::Ready(outcome) => break outcome.unwrap_err(),
        }
    };
    assert_eq!(refused, AppendError::Overloaded);
    assert!(
        waiting.len() >= 7 && waiting.len() < 10,
        "{} appends of 8 MB wait",
        waiting.len()
    );
    drop(let_on);
    for append in waiting {
        append.await.unwrap();
    }
    store.append_to_stream(append("a", Any, large)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_share_commits_and_an_idle_store_does_not_wait_for_company() {
    let log = LogInAFile::new();
    let (commits, committed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let on_commit = {
        let (commits, committed) = (commits.clone(), committed.clone());
        move |events, duration| {
            assert!(duration > Duration::ZERO);
            commits.fetch_add(1, Ordering::SeqCst);
            committed.fetch_add(events, Ordering::SeqCst);
        }
    };
    let options = SqliteOptions {
        on_commit: Some(Arc::new(on_commit)),
        ..log.options()
    };
    let store = SqliteEventStore::open(options).unwrap();
    for _ in 0..10 {
        append_one(&store, "alone").await;
    }
    let waiting = (0..2_000)
        .map(|_| store.append_to_stream(append("together", Any, events(1))))
        .collect::<Vec<_>>();
    for append in waiting {
        append.await.unwrap();
    }
    store.close().await;
    assert_eq!(committed.load(Ordering::SeqCst), 2_010);
    let commits = commits.load(Ordering::SeqCst);
    assert!((11..1_000).contains(&commits), "{commits} commits");
}

#[tokio::test]
async fn a_batch_takes_in_no_more_than_its_bound() {
    let log = LogInAFile::new();
    let largest = Arc::new(AtomicUsize::new(0));
    let on_commit = {
        let largest = largest.clone();
        move |events, _| {
            largest.fetch_max(events, Ordering::SeqCst);
        }
    };
    let options = SqliteOptions {
        max_batch_events: 10,
        on_commit: Some(Arc::new(on_commit)),
        ..log.options()
    };
    let store = SqliteEventStore::open(options).unwrap();
    let waiting = (0..500)
        .map(|_| store.append_to_stream(append("a", Any, events(3))))
        .collect::<Vec<_>>();
    for append in waiting {
        append.await.unwrap();
    }
    store.close().await;
    // It takes in appends until it holds ten events, so the last one may exceed that by two.
    let largest = largest.load(Ordering::SeqCst);
    assert!((3..=12).contains(&largest), "{largest} events in one commit");
}

#[tokio::test]
async fn two_stores_cannot_write_to_one_log() {
    let log = LogInAFile::new();
    let store = SqliteEventStore::open(log.options()).unwrap();
    let Err(refused) = SqliteEventStore::open(log.options()) else {
        panic!("a second writer was let in")
    };
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("events.db.lock"), "{refused}");
    append_one(&store, "a").await;
    store.close().await;
    SqliteEventStore::open(log.options()).unwrap();
}

#[tokio::test]
async fn a_store_that_is_dropped_lets_go_of_the_log() {
    let log = LogInAFile::new();
    let store = SqliteEventStore::open(log.options()).unwrap();
    let following = store.subscribe_to_all(0);
    let queued = store.append_to_stream(append("a", Any, events(1)));
    drop(store);
    queued.await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let store = loop {
        match SqliteEventStore::open(log.options()) {
            Ok(store) => break store,
            Err(refused) => assert!(Instant::now() < deadline, "{refused}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(store.log_size(), 1);
    drop(following);
}

#[tokio::test]
async fn a_writer_that_panics_has_failed() {
    let log = LogInAFile::new();
    let on_commit = |_, _| panic!("this is the test's panic");
    let options = SqliteOptions {
        on_commit: Some(Arc::new(on_commit)),
        ..log.options()
    };
    let store = SqliteEventStore::open(options).unwrap();
    append_one(&store, "a").await;
    let message = store.failed().await;
    assert!(message.contains("fault of the program"), "{message}");
    let refused = store.append_to_stream(append("a", Any, events(1))).await.unwrap_err();
    assert_eq!(refused, AppendError::Closed(message));
    assert_eq!(whole_log(&store).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_closed_log_is_one_file() {
    let log = LogInAFile::new();
    let store = SqliteEventStore::open(log.options()).unwrap();
    append_many(&store, "a", 1_000).await;
    whole_log(&store).await;
    store.close().await;
    assert!(!log.folder.path().join("events.db-wal").exists());
    assert!(!log.folder.path().join("events.db-shm").exists());
}

#[tokio::test]
async fn the_write_ahead_log_stays_bounded_and_small_events_cost_few_bytes_more_than_their_own() {
    let log = LogInAFile::new();
    let store = SqliteEventStore::open(log.options()).unwrap();
    let mut largest = 0;
    for _ in 0..800 {
        let large = events(128).into_iter().map(|event| padded(event, 600)).collect();
        store.append_to_stream(append("a", Any, large)).await.unwrap();
        largest = largest.max(
            std::fs::metadata(log.folder.path().join("events.db-wal"))
                .unwrap()
                .len(),
        );
    }
    // 102,400 events are 66 MB; the bound is 8 MiB and one batch.
    assert!(largest < 9 * 1024 * 1024, "{largest} bytes");
    store.close().await;
    let overhead = std::fs::metadata(log.path()).unwrap().len() as f64 / 102_400.0 - 600.0;
    assert!(overhead < 50.0, "{overhead} bytes per event");
}

#[tokio::test]
async fn a_log_can_be_read_by_others_while_it_is_written_to() {
    let log = LogInAFile::new();
    let store = SqliteEventStore::open(log.options()).unwrap();
    append_many(&store, "a", 300).await;
    let view = SqliteEventStore::open_read_only(log.options()).unwrap();
    append_many(&store, "a", 300).await;
    assert_eq!(view.log_size(), 300);
    assert_eq!(
        whole_log(&view).await,
        store.read_all(0, Direction::Forwards, 300).await.unwrap()
    );
    assert_eq!(view.read_stream("a", 0, 4_096).await.unwrap().len(), 300);
    let refused = view.append_to_stream(append("a", Any, events(1))).await.unwrap_err();
    assert!(
        matches!(&refused, AppendError::Closed(why) if why.contains("reading only")),
        "{refused}"
    );
    let mut following = view.subscribe_to_all(299);
    assert_eq!(following.next_batch(10).await.unwrap().len(), 1);
    following.next_batch(10).await.unwrap_err();
    view.close().await;
    store.close().await;
    let view = SqliteEventStore::open_read_only(log.options()).unwrap();
    assert_eq!(whole_log(&view).await.len(), 600);
}

#[tokio::test]
async fn an_event_that_someone_removed_from_the_file_is_missed() {
    let log = LogInAFile::new();
    let store = SqliteEventStore::open(log.options()).unwrap();
    append_many(&store, "a", 10).await;
    store.close().await;
    let file = rusqlite::Connection::open(log.path()).unwrap();
    file.execute("DELETE FROM events WHERE position = 4", []).unwrap();
    drop(file);
    let store = SqliteEventStore::open(log.options()).unwrap();
    for (from, direction) in [
        (0, Direction::Forwards),
        (4, Direction::Forwards),
        (9, Direction::Backwards),
    ] {
        let error = store.read_all(from, direction, 10).await.unwrap_err();
        assert!(error.to_string().contains("event 4 is missing"), "{error}");
    }
    store.read_indexes(&[4]).await.unwrap_err();
    store.read_stream("a", 0, 10).await.unwrap_err();
    store.subscribe_to_all(4).next_batch(1).await.unwrap_err();
    assert_eq!(store.read_all(5, Direction::Forwards, 10).await.unwrap().len(), 5);
}

/// What is left of an event: shorter, in its place.
fn left_of(event: &StoredEvent) -> StoredEvent {
    StoredEvent {
        bytes: b"{}".as_slice().into(),
        ..event.clone()
    }
}

#[tokio::test]
async fn what_is_left_stands_in_the_place_of_what_was_removed_also_after_reopening() {
    let log = LogInAFile::new();
    let store = log.open().await;
    append_many(&*store, "a", 50).await;
    append_many(&*store, "b", 50).await;
    let before = whole_log(&*store).await;
    let left: Vec<StoredEvent> = before[10..60].iter().map(left_of).collect();
    store.remove(left.clone()).await.unwrap();
    let expected: Vec<StoredEvent> = [&before[..10], &left[..], &before[60..]].concat();
    assert_eq!(whole_log(&*store).await, expected);
    assert_eq!(store.read_indexes(&[59, 60]).await.unwrap(), expected[59..61]);
    assert_eq!(store.read_stream("b", 9, 2).await.unwrap(), expected[59..61]);
    // The streams go on where they were.
    assert_eq!(append_one(&*store, "a").await.revision, 50);
    store.close().await;
    drop(store);
    let store = log.open().await;
    assert_eq!(store.log_size(), 101);
    assert_eq!(whole_log(&*store).await[..100], expected);
}

#[tokio::test]
async fn what_was_removed_is_not_in_the_file_any_more_and_its_space_is_free() {
    let log = LogInAFile::new();
    let store = log.open().await;
    let marked = |count: usize| (0..count).map(|_| padded(events(1).remove(0), 900)).collect::<Vec<_>>();
    for _ in 0..40 {
        store.append_to_stream(append("a", Any, marked(100))).await.unwrap();
    }
    let before = store.used_bytes().await.unwrap();
    let all = whole_log(&*store).await;
    for batch in all.chunks(500) {
        store.remove(batch.iter().map(left_of).collect()).await.unwrap();
    }
    let after = store.used_bytes().await.unwrap();
    assert!(after < before / 3, "{after} of {before} bytes are still used");
    store.close().await;
    let file = std::fs::read(log.path()).unwrap();
    let marker = b"TokenIssued";
    assert!(!file.windows(marker.len()).any(|window| window == marker));
}

#[tokio::test]
async fn a_removal_beyond_its_bounds_changes_nothing() {
    let log = LogInAFile::new();
    let store = log.open().await;
    append_many(&*store, "a", 10).await;
    let before = whole_log(&*store).await;
    let mut beyond = left_of(&before[9]);
    beyond.index = 10;
    for (refused, what) in [
        (vec![left_of(&before[0]), beyond], "an event that is not there"),
        (vec![left_of(&before[0]); MAX_EVENTS_PER_REMOVAL + 1], "too many"),
    ] {
        let error = store.remove(refused).await.unwrap_err();
        assert!(matches!(error, AppendError::OutOfBounds(_)), "{what}: {error}");
    }
    assert_eq!(whole_log(&*store).await, before);
    store.close().await;
    let closed = store.remove(vec![left_of(&before[0])]).await.unwrap_err();
    assert!(matches!(closed, AppendError::Closed(_)), "{closed}");
}

#[tokio::test]
async fn a_removal_that_cannot_be_done_changes_nothing_and_the_log_goes_on() {
    let log = LogInAFile::new();
    let store = log.open().await;
    append_many(&*store, "a", 10).await;
    let before = whole_log(&*store).await;
    store.close().await;
    drop(store);
    let file = rusqlite::Connection::open(log.path()).unwrap();
    file.execute("DELETE FROM events WHERE position = 4", []).unwrap();
    drop(file);
    let store = log.open().await;
    let left: Vec<StoredEvent> = before[2..6].iter().map(left_of).collect();
    let error = store.remove(left).await.unwrap_err();
    assert!(matches!(error, AppendError::NotRemoved(_)), "{error}");
    assert_eq!(store.failure(), None);
    assert_eq!(store.read_indexes(&[2, 3, 5]).await.unwrap()[0], before[2]);
    assert_eq!(append_one(&*store, "a").await.revision, 10);
    store.remove(vec![left_of(&before[2])]).await.unwrap();
    assert_eq!(store.read_indexes(&[2]).await.unwrap(), [left_of(&before[2])]);
}

#[tokio::test]
async fn appends_and_removals_that_wait_together_are_all_done() {
    let log = LogInAFile::new();
    let (store, let_on) = held_up(log.options());
    // The writer is held up after this commit: what follows waits together.
    append_many(&store, "a", 20).await;
    let before = whole_log(&store).await;
    let store = Arc::new(store);
    let waiting = (0..10_usize).map(|n| {
        let (store, left) = (store.clone(), left_of(&before[n]));
        tokio::spawn(async move {
            let appended = store.append_to_stream(append("b", Any, events(1)));
            store.remove(vec![left]).await.unwrap();
            appended.await.unwrap();
        })
    });
    let waiting: Vec<_> = waiting.collect();
    drop(let_on);
    for task in waiting {
        task.await.unwrap();
    }
    let after = whole_log(&*store).await;
    assert_eq!(after.len(), 30);
    assert!(after[..10].iter().all(|event| &*event.bytes == b"{}"));
    assert_eq!(after[10..20], before[10..20]);
}
