//! A whole log copied from one store into another: the same events, byte for byte, at the same indexes and
//! revisions, hence with the same Merkle root. Broken off at any moment, it goes on when it is run again.
//!
//! ```text
//! is what the target holds the source's beginning? ─> append the rest, in order ─> read both again and compare
//! ```

use crate::audit::transparency::leaf::leaf_of;
use crate::audit::transparency::merkle::{CompactRange, Hash};
use crate::event_store::{
    Append, AppendError, Appended, BoxFuture, Direction, EventStore, EventToAppend, ExpectedRevision,
    MAX_EVENTS_PER_APPEND, ReadError, StoredEvent,
};
use futures_util::{StreamExt, stream, try_join};
use grantlog_projections::Event;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Events that are read at a time.
const PAGE_EVENTS: u64 = 1_024;
/// Pages that are read ahead.
const PAGES_AHEAD: usize = 4;
/// Bytes of events in one append: KurrentDB accepts 1 MiB by default, what it adds to each event included.
const MAX_APPEND_BYTES: usize = 512 * 1024;
/// Bytes of events in appends that are not answered yet.
const MAX_BYTES_UNDER_WAY: usize = 16 * 1024 * 1024;
/// Appends that are not answered yet, where a store takes them in the order in which they were made.
const MAX_APPENDS_UNDER_WAY: usize = 1_024;

/// Attempts at one append, where it is known to be recognised when it is repeated and nothing else is under way: a
/// leader that dies must not end a migration of hours.
const MAX_ATTEMPTS: u32 = 10;
/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How a store treats appends to different streams of which one is made before the other is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrder {
    /// They stand in the log in the order in which they were made: many may be under way.
    Kept,
    /// Nobody knows: one at a time.
    Unknown,
}

/// What a migration is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Comparing what the target holds already.
    Comparing,
    /// Appending what it does not.
    Copying,
    /// Reading everything again.
    Verifying,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// With what.
    pub step: Step,
    /// Events done, those that this step found done included.
    pub done: u64,
    /// Events in all.
    pub of: u64,
}

/// A log that is in both stores, and proven to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Events in it.
    pub events: u64,
    /// Those of them that the target held before.
    pub found: u64,
    /// Root of the Merkle tree over each of the two.
    pub root: Hash,
    /// How long appending took.
    pub copying: Duration,
}

/// Why a log was not migrated. The source is as it was; the texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// The source cannot be read.
    #[error("the source cannot be read: {}", .0.0)]
    Source(ReadError),
    /// The target cannot be read.
    #[error("the target cannot be read: {}", .0.0)]
    Target(ReadError),
    /// An event is none of Grantlog's.
    #[error("event {index} of the source is not an event envelope: {problem}; `grantlog audit verify` tells more")]
    NotAnEvent {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// An event is of a newer Grantlog.
    #[error(
        "event {index} of the source is of the unknown type {event_type}: a newer Grantlog wrote it; migrate with that one"
    )]
    UnknownType {
        /// Its index.
        index: u64,
        /// The type that it says it has.
        event_type: String,
    },
    /// The target is not empty, and not the beginning of the source.
    #[error(
        "the target holds another log: its event {index} is not the source's. Nothing was written; name an empty \
         target, or if this one is worth nothing, delete it first"
    )]
    AnotherLog {
        /// The first event that differs.
        index: u64,
    },
    /// The target holds more than the source.
    #[error(
        "the target holds {target} events, the source only {origin}: it is another log, or has been served from \
         since. Nothing was written; if all that is to come is in the target, there is nothing left to migrate"
    )]
    TargetIsLonger {
        /// Events in the target.
        target: u64,
        /// Events in the source.
        origin: u64,
    },
    /// Retention has removed an event from one of the two.
    #[error(
        "event {index} is whole in one of the two logs and removed in the other: retention ran on it since an earlier \
         migration. A copy must be the same byte for byte: delete the target and migrate again"
    )]
    RemovedInOne {
        /// Its index.
        index: u64,
    },
    /// Something writes to a log meanwhile.
    #[error(
        "the {which} has grown from {before} to {now} events meanwhile: something else writes to it. Stop every server \
         on it, then run the same command again"
    )]
    Grown {
        /// `source` or `target`.
        which: &'static str,
        /// Events that it should hold.
        before: u64,
        /// Events that it holds.
        now: u64,
    },
    /// Nobody knows whether something writes to a log.
    #[error(
        "the two logs were the same, but whether the {which} has grown since cannot be told: {reason}. Run the same \
         command again"
    )]
    CutOff {
        /// `source` or `target`.
        which: &'static str,
        /// Why.
        reason: String,
    },
    /// Something else writes to the target.
    #[error(
        "event {index} came to stand at index {at} of the target, in its stream at revision {revision} instead of \
         {expected_revision}: something else writes to it. The target is no copy any more: stop what writes to it, \
         delete it, and run the same command again"
    )]
    Misplaced {
        /// Its index in the source.
        index: u64,
        /// Its index in the target.
        at: u64,
        /// Its revision in the source.
        expected_revision: u64,
        /// Its revision in the target.
        revision: u64,
    },
    /// The target did not take an event.
    #[error(
        "event {index} could not be appended to the target: {error}. What is there is in order: run the same command again"
    )]
    NotAppended {
        /// Its index.
        index: u64,
        /// What the target says.
        error: AppendError,
    },
    /// What the target gives back is not what was appended.
    #[error(
        "event {index} of the target is not what was appended: do not use the target, and look for what is wrong with its store"
    )]
    NotTheSame {
        /// The first event that differs.
        index: u64,
    },
}

/// Copies all of the source into the target, which must be empty or hold a beginning of the source, and compares the
/// two. Nobody else may write to either of them. `progress` is called often.
pub async fn migrate(
    source: &dyn EventStore,
    target: &dyn EventStore,
    order: AppendOrder,
    mut progress: impl FnMut(Progress),
) -> Result<Migrated, MigrationError> {
    let (events, found) = (source.log_size(), target.log_size());
    if found > events {
        return Err(MigrationError::TargetIsLonger {
            target: found,
            origin: events,
        });
    }
    let compared = compare(source, target, found, |done| {
        progress(Progress {
            step: Step::Comparing,
            done,
            of: found,
        })
    });
    let root = compared.await?;
    let begun = Instant::now();
    copy(source, target, order, found..events, |done| {
        progress(Progress {
            step: Step::Copying,
            done,
            of: events,
        })
    })
    .await?;
    let copying = begun.elapsed();
    has_not_grown("source", events, source.log_size())?;
    has_not_grown("target", events, target.log_size())?;
    let root = match found == events {
        true => root,
        false => {
            let compared = compare(source, target, events, |done| {
                progress(Progress {
                    step: Step::Verifying,
                    done,
                    of: events,
                })
            });
            compared.await.map_err(|error| match error {
                MigrationError::AnotherLog { index } => MigrationError::NotTheSame { index },
                error => error,
            })?
        }
    };
    // Once more, for reading takes long: what a forgotten server wrote meanwhile would be in one log alone.
    for (which, store) in [("source", source), ("target", target)] {
        if let Some(reason) = store.cut_off() {
            return Err(MigrationError::CutOff { which, reason });
        }
        has_not_grown(which, events, store.log_size())?;
    }
    Ok(Migrated {
        events,
        found,
        root,
        copying,
    })
}

fn has_not_grown(which: &'static str, before: u64, now: u64) -> Result<(), MigrationError> {
    match before == now {
        true => Ok(()),
        false => Err(MigrationError::Grown { which, before, now }),
    }
}

/// Reads the first events of both logs, which must be the same; the root over them.
async fn compare(
    source: &dyn EventStore,
    target: &dyn EventStore,
    events: u64,
    mut progress: impl FnMut(u64),
) -> Result<Hash, MigrationError> {
    let pages = pages(0..events).map(|(from, count)| async move {
        try_join!(
            async { page(source, from, count).await.map_err(MigrationError::Source) },
            async { page(target, from, count).await.map_err(MigrationError::Target) }
        )
    });
    let mut pages = stream::iter(pages).buffered(PAGES_AHEAD);
    let (mut of_source, mut of_target) = (CompactRange::default(), CompactRange::default());
    while let Some(pages) = pages.next().await {
        let (ours, theirs) = pages?;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let leaves = (leaf_of(&ours.bytes), leaf_of(&theirs.bytes));
            let index = ours.index;
            if leaves.0 != leaves.1 || ours.revision != theirs.revision {
                return Err(MigrationError::AnotherLog { index });
            }
            // What is left of a removed event has the leaf that the whole one had.
            if ours.bytes != theirs.bytes {
                return Err(MigrationError::RemovedInOne { index });
            }
            of_source.push(leaves.0);
            of_target.push(leaves.1);
        }
        progress(of_target.size());
    }
    // Each leaf was compared; this is what an auditor compares.
    match of_source.root() == of_target.root() {
        true => Ok(of_target.root()),
        false => Err(MigrationError::AnotherLog { index: 0 }),
    }
}

async fn copy(
    source: &dyn EventStore,
    target: &dyn EventStore,
    order: AppendOrder,
    range: std::ops::Range<u64>,
    mut progress: impl FnMut(u64),
) -> Result<(), MigrationError> {
    let pages = pages(range).map(|(from, count)| page(source, from, count));
    let mut pages = stream::iter(pages).buffered(PAGES_AHEAD);
    let mut appends = Appends {
        target,
        most: match order {
            AppendOrder::Kept => MAX_APPENDS_UNDER_WAY,
            AppendOrder::Unknown => 1,
        },
        bytes: 0,
        under_way: VecDeque::new(),
    };
    let mut group: Option<Group> = None;
    while let Some(events) = pages.next().await {
        for event in events.map_err(MigrationError::Source)? {
            let header = Header::of(&event)?;
            if let Some(full) = group.take_if(|group| !group.takes(&header.stream, &event)) {
                appends.make(full, &mut progress).await?;
            }
            let to_append = header.to_append(&event)?;
            group
                .get_or_insert_with(|| Group::new(&header.stream, &event))
                .push(to_append);
        }
    }
    if let Some(last) = group {
        appends.make(last, &mut progress).await?;
    }
    while appends.answer(&mut progress).await? {}
    Ok(())
}

/// Consecutive events of one stream, which become one append.
struct Group {
    append: Append,
    first_index: u64,
    first_revision: u64,
    bytes: usize,
}

impl Group {
    fn new(stream: &str, first: &StoredEvent) -> Self {
        Self {
            append: Append {
                stream: stream.to_owned(),
                expected: match first.revision.checked_sub(1) {
                    None => ExpectedRevision::NoStream,
                    Some(before) => ExpectedRevision::Exact(before),
                },
                events: Vec::new(),
            },
            first_index: first.index,
            first_revision: first.revision,
            bytes: 0,
        }
    }

    /// Whether the log's next event is to be appended together with these.
    fn takes(&self, stream: &str, event: &StoredEvent) -> bool {
        self.append.stream == stream
            && self.append.events.len() < MAX_EVENTS_PER_APPEND
            && self.bytes + event.bytes.len() <= MAX_APPEND_BYTES
            && self.first_revision + self.append.events.len() as u64 == event.revision
    }

    fn push(&mut self, event: EventToAppend) {
        self.bytes += event.bytes.len();
        self.append.events.push(event);
    }

    /// Where it must come to stand.
    fn place(&self) -> Appended {
        let more = (self.append.events.len() as u64).saturating_sub(1);
        Appended {
            first_index: self.first_index,
            last_index: self.first_index + more,
            revision: self.first_revision + more,
        }
    }
}

/// Appends that the target has not answered, oldest first.
struct Appends<'a> {
    target: &'a dyn EventStore,
    most: usize,
    bytes: usize,
    under_way: VecDeque<UnderWay>,
}

struct UnderWay {
    place: Appended,
    bytes: usize,
    /// To be made again, where that is possible.
    again: Option<Append>,
    answer: BoxFuture<'static, Result<Appended, AppendError>>,
}

impl Appends<'_> {
    async fn make(&mut self, group: Group, progress: &mut impl FnMut(u64)) -> Result<(), MigrationError> {
        while self.under_way.len() >= self.most || self.bytes + group.bytes > MAX_BYTES_UNDER_WAY {
            if !self.answer(progress).await? {
                break;
            }
        }
        self.bytes += group.bytes;
        self.under_way.push_back(UnderWay {
            place: group.place(),
            bytes: group.bytes,
            again: (self.most == 1).then(|| group.append.clone()),
            answer: self.target.append_to_stream(group.append),
        });
        Ok(())
    }

    /// Waits for the oldest one; `false` when there is none.
    async fn answer(&mut self, progress: &mut impl FnMut(u64)) -> Result<bool, MigrationError> {
        let Some(oldest) = self.under_way.pop_front() else {
            return Ok(false);
        };
        self.bytes -= oldest.bytes;
        let index = oldest.place.first_index;
        let mut answer = oldest.answer.await;
        for _ in 1..MAX_ATTEMPTS {
            let (Err(AppendError::Indeterminate(_) | AppendError::Overloaded), Some(append)) = (&answer, &oldest.again)
            else {
                break;
            };
            if self.target.has_ended() {
                break;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            answer = self.target.append_to_stream(append.clone()).await;
        }
        let appended = answer.map_err(|error| MigrationError::NotAppended { index, error })?;
        if appended != oldest.place {
            return Err(MigrationError::Misplaced {
                index: oldest.place.last_index,
                at: appended.last_index,
                expected_revision: oldest.place.revision,
                revision: appended.revision,
            });
        }
        progress(appended.last_index + 1);
        Ok(true)
    }
}

/// What is needed of an event to append it; the rest of its bytes is nobody's business here, and is not read: an event
/// of long ago must arrive as it was written.
#[derive(Deserialize)]
struct Header<'a> {
    id: Uuid,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
}

impl<'a> Header<'a> {
    fn of(event: &'a StoredEvent) -> Result<Self, MigrationError> {
        serde_json::from_slice(&event.bytes).map_err(|error| MigrationError::NotAnEvent {
            index: event.index,
            problem: error.to_string(),
        })
    }

    fn to_append(&self, event: &StoredEvent) -> Result<EventToAppend, MigrationError> {
        let known = Event::TYPES.iter().find(|known| **known == self.event_type);
        let event_type = *known.ok_or_else(|| MigrationError::UnknownType {
            index: event.index,
            event_type: self.event_type.clone().into_owned(),
        })?;
        Ok(EventToAppend {
            id: self.id,
            event_type,
            bytes: event.bytes.clone(),
        })
    }
}

/// The range in pages: where each begins, and how many events it has.
fn pages(range: std::ops::Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let end = range.end;
    range
        .step_by(PAGE_EVENTS as usize)
        .map(move |from| (from, PAGE_EVENTS.min(end - from)))
}

/// Exactly these events, in however many reads the store answers them.
async fn page(store: &dyn EventStore, from: u64, count: u64) -> Result<Vec<StoredEvent>, ReadError> {
    let mut events = Vec::with_capacity(count as usize);
    while (events.len() as u64) < count {
        let next = from + events.len() as u64;
        let left = (count as usize).saturating_sub(events.len());
        let more = store.read_all(next, Direction::Forwards, left).await?;
        let missing = match more.iter().zip(next..).find(|(event, index)| event.index != *index) {
            Some((_, index)) => Some(index),
            None => more.is_empty().then_some(next),
        };
        if let Some(index) = missing {
            return Err(ReadError(format!("event {index} is missing")));
        }
        events.extend(more.into_iter().take(left));
    }
    Ok(events)
}
