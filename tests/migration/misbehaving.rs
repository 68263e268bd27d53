//! Stores that do what no store should, or that are written to by somebody else: a migration notices.

use crate::events::{event, fill, whole_log};
use crate::sqlite::LogInAFile;
use crate::{Place, migrated};
use grantlog::event_store::{
    Append, AppendError, Appended, BoxFuture, Direction, EventStore, ExpectedRevision, ReadError, StoredEvent,
    Subscription,
};
use grantlog::service::migrate::{AppendOrder, MigrationError};
use std::sync::{Arc, Mutex};

/// What happens before an append is passed on.
type BeforeAppend = Box<dyn Fn(&dyn EventStore, &Append) -> Option<AppendError> + Send + Sync>;
/// What becomes of a page that was read.
type AfterRead = Box<dyn Fn(&mut Vec<StoredEvent>) + Send + Sync>;

/// A store with somebody in between.
pub struct Interfered {
    store: Arc<dyn EventStore>,
    before_append: BeforeAppend,
    after_read: AfterRead,
    cut_off: Option<String>,
}

impl Interfered {
    fn with(store: Arc<dyn EventStore>) -> Self {
        Self {
            store,
            before_append: Box::new(|_, _| None),
            after_read: Box::new(|_| {}),
            cut_off: None,
        }
    }
}

/// What an append holds.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub events: usize,
    pub bytes: usize,
}

/// A store, and the appends that it gets.
pub fn watched(store: Arc<dyn EventStore>) -> (Interfered, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let note = seen.clone();
    let store = Interfered {
        before_append: Box::new(move |_, append| {
            note.lock().unwrap().push(Seen {
                events: append.events.len(),
                bytes: append.events.iter().map(|event| event.bytes.len()).sum(),
            });
            None
        }),
        ..Interfered::with(store)
    };
    (store, seen)
}

/// A foreign event, in a stream of its own or in this one.
fn foreign(stream: &str) -> Append {
    Append {
        stream: stream.to_owned(),
        expected: ExpectedRevision::Any,
        events: vec![event(stream, 200)],
    }
}

/// Waits where nothing may be awaited: the store's writer has a thread of its own.
fn append_and_wait(append: BoxFuture<'static, Result<Appended, AppendError>>) {
    let waiting = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(append).unwrap();
    });
    waiting.join().unwrap();
}

async fn filled(events: usize) -> (LogInAFile, Arc<dyn EventStore>) {
    let place = LogInAFile::new(AppendOrder::Kept);
    let store = place.open().await;
    fill(&*store, events).await;
    (place, store)
}

#[tokio::test]
async fn somebody_else_who_writes_to_the_target_is_noticed_at_the_next_event() {
    let (_from, source) = filled(20).await;
    let to = LogInAFile::new(AppendOrder::Unknown);
    let target = Interfered {
        before_append: Box::new(|store, append| {
            // Under way before the migration's own, and not waited for, as another writer's would be.
            if append.expected == ExpectedRevision::Exact(0) {
                drop(store.append_to_stream(foreign("sessions")));
            }
            None
        }),
        ..Interfered::with(to.open().await)
    };
    let stopped = migrated(&*source, &target, to.order()).await;
    assert!(matches!(stopped, Err(MigrationError::Misplaced { .. })), "{stopped:?}");
    let told = stopped.unwrap_err().to_string();
    assert!(told.contains("something else writes to it"), "{told}");
}

#[tokio::test]
async fn somebody_else_who_writes_to_the_same_stream_is_noticed_too() {
    let (_from, source) = filled(20).await;
    let to = LogInAFile::new(AppendOrder::Unknown);
    let target = Interfered {
        before_append: Box::new(|store, append| {
            drop(store.append_to_stream(foreign(&append.stream)));
            None
        }),
        ..Interfered::with(to.open().await)
    };
    let stopped = migrated(&*source, &target, to.order()).await;
    assert!(
        matches!(
            stopped,
            Err(MigrationError::NotAppended {
                index: 0,
                error: AppendError::WrongExpectedRevision { .. }
            })
        ),
        "{stopped:?}"
    );
}

#[tokio::test]
async fn a_source_that_grows_meanwhile_is_refused() {
    let (_from, source) = filled(20).await;
    let to = LogInAFile::new(AppendOrder::Unknown);
    let grows = source.clone();
    let target = Interfered {
        before_append: Box::new(move |_, _| {
            append_and_wait(grows.append_to_stream(foreign("service")));
            None
        }),
        ..Interfered::with(to.open().await)
    };
    let stopped = migrated(&*source, &target, to.order()).await;
    assert!(
        matches!(
            stopped,
            Err(MigrationError::Grown {
                which: "source",
                before: 20,
                ..
            })
        ),
        "{stopped:?}"
    );
    // What was copied is a beginning of what there is now: the next run, with no server, completes it.
    let (whole, target) = (whole_log(&*source).await, target.store.clone());
    let completed = migrated(&*source, &*target, to.order()).await.unwrap();
    assert_eq!((completed.found, completed.events), (20, whole.len() as u64));
    assert_eq!(whole_log(&*target).await, whole);
}

#[tokio::test]
async fn a_log_that_grows_while_the_two_are_compared_for_the_last_time_is_refused() {
    for which in ["source", "target"] {
        let (_from, source) = filled(20).await;
        let to = LogInAFile::new(AppendOrder::Unknown);
        let copy = to.open().await;
        let grows = match which {
            "source" => source.clone(),
            _ => copy.clone(),
        };
        let target = Interfered {
            after_read: Box::new(move |events| {
                // The whole copy was read, and neither log has grown yet.
                if events.len() == 20 && grows.log_size() == 20 {
                    append_and_wait(grows.append_to_stream(foreign("service")));
                }
            }),
            ..Interfered::with(copy)
        };
        let stopped = migrated(&*source, &target, to.order()).await;
        let (before, now) = (20, 21);
        assert_eq!(stopped, Err(MigrationError::Grown { which, before, now }));
    }
}

#[tokio::test]
async fn a_log_that_may_have_grown_unnoticed_is_refused() {
    let (_from, source) = filled(20).await;
    let to = LogInAFile::new(AppendOrder::Unknown);
    let target = Interfered {
        cut_off: Some("nothing was heard of the cluster".into()),
        ..Interfered::with(to.open().await)
    };
    // Also when everything is there already.
    for _ in 0..2 {
        let stopped = migrated(&*source, &target, to.order()).await;
        assert!(
            matches!(stopped, Err(MigrationError::CutOff { which: "target", .. })),
            "{stopped:?}"
        );
        assert_eq!(target.log_size(), 20);
    }
}

#[tokio::test]
async fn a_target_that_gives_back_something_else_is_no_copy() {
    let (_from, source) = filled(20).await;
    let to = LogInAFile::new(AppendOrder::Kept);
    let target = Interfered {
        after_read: Box::new(|events| {
            for event in events.iter_mut().filter(|event| event.index == 13) {
                let mut bytes = event.bytes.to_vec();
                bytes.push(b' ');
                event.bytes = bytes.into();
            }
        }),
        ..Interfered::with(to.open().await)
    };
    let stopped = migrated(&*source, &target, to.order()).await;
    assert_eq!(stopped, Err(MigrationError::NotTheSame { index: 13 }));
}

#[tokio::test]
async fn a_target_that_stops_accepting_leaves_a_beginning_that_the_next_run_completes() {
    let (_from, source) = filled(40).await;
    let to = LogInAFile::new(AppendOrder::Kept);
    let store = to.open().await;
    let left = Mutex::new(6);
    let target = Interfered {
        before_append: Box::new(move |_, _| {
            let mut left = left.lock().unwrap();
            match *left {
                0 => Some(AppendError::Closed("the disk is full".into())),
                _ => {
                    *left -= 1;
                    None
                }
            }
        }),
        ..Interfered::with(store.clone())
    };
    let stopped = migrated(&*source, &target, to.order()).await;
    assert!(
        matches!(stopped, Err(MigrationError::NotAppended { .. })),
        "{stopped:?}"
    );
    store.close().await;
    let target = to.open().await;
    assert!(0 < target.log_size() && target.log_size() < 40);
    let completed = migrated(&*source, &*target, to.order()).await.unwrap();
    assert_eq!(completed.events, 40);
    assert_eq!(whole_log(&*target).await, whole_log(&*source).await);
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_made_again_and_written_once() {
    let (_from, source) = filled(20).await;
    let to = LogInAFile::new(AppendOrder::Unknown);
    let lost = Mutex::new(1);
    let target = Interfered {
        before_append: Box::new(move |store, append| {
            let mut left = lost.lock().unwrap();
            if append.expected == ExpectedRevision::Exact(0) && *left > 0 {
                *left -= 1;
                drop(store.append_to_stream(append.clone()));
                return Some(AppendError::Indeterminate("its leader has gone".into()));
            }
            None
        }),
        ..Interfered::with(to.open().await)
    };
    let migrated = migrated(&*source, &target, to.order()).await.unwrap();
    assert_eq!(migrated.events, 20);
    assert_eq!(whole_log(&target).await, whole_log(&*source).await);
}

#[tokio::test]
async fn a_source_that_skips_an_event_stops_it() {
    let (_from, store) = filled(20).await;
    let source = Interfered {
        after_read: Box::new(|events| events.retain(|event| event.index != 11)),
        ..Interfered::with(store)
    };
    let to = LogInAFile::new(AppendOrder::Kept);
    let stopped = migrated(&source, &*to.open().await, to.order()).await;
    assert!(matches!(stopped, Err(MigrationError::Source(_))), "{stopped:?}");
}

impl EventStore for Interfered {
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        match (self.before_append)(&*self.store, &append) {
            None => self.store.append_to_stream(append),
            Some(error) => Box::pin(async { Err(error) }),
        }
    }

    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.store.read_stream(stream, from_revision, limit)
    }

    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let read = self.store.read_all(from, direction, limit);
        Box::pin(async move {
            let mut events = read.await?;
            (self.after_read)(&mut events);
            Ok(events)
        })
    }

    fn streams_of(&self, range: std::ops::Range<u64>) -> BoxFuture<'_, Result<Vec<(u64, String)>, ReadError>> {
        self.store.streams_of(range)
    }

    fn read_indexes(&self, indexes: &[u64]) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.store.read_indexes(indexes)
    }

    fn subscribe_to_all(&self, from: u64) -> Box<dyn Subscription> {
        self.store.subscribe_to_all(from)
    }

    fn remove(&self, removed: Vec<StoredEvent>) -> BoxFuture<'static, Result<(), AppendError>> {
        self.store.remove(removed)
    }

    fn used_bytes(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.store.used_bytes()
    }

    fn log_size(&self) -> u64 {
        self.store.log_size()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        self.store.failed()
    }

    fn failure(&self) -> Option<String> {
        self.store.failure()
    }

    fn has_ended(&self) -> bool {
        self.store.has_ended()
    }

    fn cut_off(&self) -> Option<String> {
        self.cut_off.clone().or_else(|| self.store.cut_off())
    }

    fn queue_depth(&self) -> u64 {
        self.store.queue_depth()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.store.close()
    }
}
