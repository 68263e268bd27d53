//! Reading and following. Both are pulled by the connection: whoever reads slowly has nothing stored up for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use crate::cluster::Shared;
use crate::filter::Filter;
use crate::log::{Reader, Selection};
use crate::wire::streams::read_req;
use crate::wire::streams::read_resp::{self, Content};
use crate::wire::{EncodedReadResp, shared as wire};

/// Answers that are made ready at a time.
const BATCH: usize = 256;

/// How many events a live subscription may be behind before it is told that it fell behind.
const LIVE_BUFFER: usize = 500;

/// What the server takes for a filter's window when the client leaves it open, in events.
const DEFAULT_WINDOW: u32 = 32;

/// A stream of answers, in batches.
pub(crate) type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<EncodedReadResp, Status>> + Send>>;

/// What is read.
enum Source {
    All(Selection),
    Stream(String),
}

/// Where a read starts. Of a stream, numbers are revisions; of `$all`, positions.
enum Start {
    First,
    Last,
    At(u64),
}

/// Answers a read or subscription at a node.
pub(crate) fn read(shared: &Arc<Shared>, node: usize, options: read_req::Options) -> Result<Answers, Status> {
    let invalid = |what: &str| Status::invalid_argument(what.to_owned());
    let filter = match &options.filter_option {
        Some(read_req::options::FilterOption::Filter(filter)) => Some(filter),
        _ => None,
    };
    let (source, start) = match &options.stream_option {
        Some(read_req::options::StreamOption::All(all)) => {
            let start = match &all.all_option {
                Some(read_req::all_options::AllOption::Position(position)) => Start::At(position.commit_position),
                Some(read_req::all_options::AllOption::End(_)) => Start::Last,
                _ => Start::First,
            };
            let filter = filter.map(Filter::parse).transpose().map_err(|error| invalid(&error))?;
            (Source::All(shared.log.select(filter)), start)
        }
        Some(read_req::options::StreamOption::Stream(of)) => {
            let name = of
                .stream_identifier
                .as_ref()
                .map(|id| id.stream_name.to_vec())
                .unwrap_or_default();
            let name = String::from_utf8(name).map_err(|_| invalid("the stream's name is not UTF-8"))?;
            let start = match &of.revision_option {
                Some(read_req::stream_options::RevisionOption::Revision(revision)) => Start::At(*revision),
                Some(read_req::stream_options::RevisionOption::End(_)) => Start::Last,
                _ => Start::First,
            };
            (Source::Stream(name), start)
        }
        None => return Err(invalid("neither a stream nor $all is asked for")),
    };
    let in_halves = matches!(
        options.uuid_option.as_ref().and_then(|option| option.content.as_ref()),
        Some(read_req::uuid_option::Content::Structured(_))
    );
    let view = View {
        shared: Arc::clone(shared),
        node,
        source,
        in_halves,
    };
    let backwards = options.read_direction() == read_req::ReadDirection::Backwards;
    match options.count_option {
        Some(read_req::options::CountOption::Subscription(_)) if backwards => Err(invalid("subscriptions go forwards")),
        Some(read_req::options::CountOption::Subscription(_)) => {
            let interval = filter.map(|filter| {
                let window = match filter.window {
                    Some(read_req::filter_options::Window::Max(max)) => max,
                    _ => DEFAULT_WINDOW,
                };
                u64::from(window).saturating_mul(u64::from(filter.checkpoint_interval_multiplier))
            });
            if interval == Some(0) {
                return Err(invalid("the checkpoint interval is zero"));
            }
            Ok(match view.begins_nowhere(&start) {
                true => Box::pin(stream::iter([Ok(confirmation()), Err(no_place_to_follow_from())])),
                false => follow(view, start, interval),
            })
        }
        Some(read_req::options::CountOption::Count(count)) => {
            if view.begins_nowhere(&start) {
                return Err(no_place_to_read_from(filter.is_some()));
            }
            let with_last = options
                .control_option
                .as_ref()
                .is_some_and(|control| control.compatibility >= 1);
            Ok(read_once(view, start, backwards, count, with_last))
        }
        None => Err(invalid("neither a count nor a subscription is asked for")),
    }
}

/// What a node shows of a source.
struct View {
    shared: Arc<Shared>,
    node: usize,
    source: Source,
    in_halves: bool,
}

/// A number that grows along the source: of a stream, a revision; of `$all`, a place in the log.
type Cursor = usize;

impl View {
    /// Runs `look` with the log and the cursor behind its last event, as far as the node sees it.
    fn look<T>(&self, look: impl FnOnce(&Reader<'_>, Cursor) -> T) -> T {
        // Both together: what is written in between may not be shown yet.
        let state = self.shared.lock();
        let reader = self.shared.log.read();
        let end = state.shown(self.node).min(reader.len());
        drop(state);
        let end = match &self.source {
            Source::All(_) => end,
            Source::Stream(name) => reader
                .stream(name)
                .map_or(0, |places| places.partition_point(|place| (*place as usize) < end)),
        };
        look(&reader, end)
    }

    /// Whether it would begin inside a record. What lies behind the log's end is a place like any other.
    fn begins_nowhere(&self, start: &Start) -> bool {
        match (&self.source, start) {
            (Source::All(_), Start::At(position)) => self.look(|reader, _| {
                let place = reader.at(*position);
                *position < reader.end() && reader.position(place) != Some(*position)
            }),
            _ => false,
        }
    }

    /// Whether a read of it that has all it was asked for is not to end.
    fn is_held_at_its_end(&self) -> bool {
        let is_filtered = matches!(self.source, Source::All(Selection::Indexed(_) | Selection::Filtered(_)));
        is_filtered && self.shared.lock().faults.hold_ends_of_reads
    }

    fn next(&self, reader: &Reader<'_>, from: Cursor, end: Cursor) -> Option<Cursor> {
        match &self.source {
            Source::All(selection) => reader.next(selection, from, end),
            Source::Stream(_) => Some(from).filter(|from| *from < end),
        }
    }

    fn previous(&self, reader: &Reader<'_>, end: Cursor) -> Option<Cursor> {
        match &self.source {
            Source::All(selection) => reader.previous(selection, end),
            Source::Stream(_) => end.checked_sub(1),
        }
    }

    fn place(&self, reader: &Reader<'_>, at: Cursor) -> Option<usize> {
        match &self.source {
            Source::All(_) => Some(at),
            Source::Stream(name) => Some(*reader.stream(name)?.get(at)? as usize),
        }
    }

    fn answer(&self, reader: &Reader<'_>, at: Cursor) -> Option<EncodedReadResp> {
        let place = self.place(reader, at)?;
        let answer = reader.answer(place)?;
        Some(if self.in_halves {
            reader.with_id_in_halves(place, answer)
        } else {
            answer
        })
    }

    fn position(&self, reader: &Reader<'_>, at: Cursor) -> Option<u64> {
        reader.position(self.place(reader, at)?)
    }
}

fn read_once(view: View, start: Start, backwards: bool, count: u64, with_last: bool) -> Answers {
    struct Read {
        view: View,
        at: Cursor,
        left: u64,
        backwards: bool,
        with_last: bool,
        missing: Option<String>,
    }
    let (at, missing) = view.look(|reader, end| {
        let missing = match &view.source {
            Source::Stream(name) if end == 0 => Some(name.clone()),
            _ => None,
        };
        // Forwards from the event, backwards from behind it; of `$all`, backwards from before the position.
        let at = match (&view.source, start, backwards) {
            (_, Start::First, false) => 0,
            (_, Start::Last, _) => end,
            (Source::All(_), Start::First, true) => 0,
            (Source::All(_), Start::At(position), _) => reader.at(position),
            (Source::Stream(_), Start::First, true) => 1,
            (Source::Stream(_), Start::At(revision), false) => usize::try_from(revision).unwrap_or(usize::MAX),
            (Source::Stream(_), Start::At(revision), true) => {
                usize::try_from(revision).unwrap_or(usize::MAX).saturating_add(1)
            }
        };
        (at.min(end), missing)
    });
    let read = Read {
        view,
        at,
        left: count,
        backwards,
        with_last,
        missing,
    };
    let batches = stream::unfold(Some(read), |read| async move {
        let mut read = read?;
        if let Some(name) = read.missing.take() {
            let stream_identifier = wire::StreamIdentifier {
                stream_name: Bytes::from(name.into_bytes()),
            };
            let not_found = read_resp::StreamNotFound {
                stream_identifier: Some(stream_identifier),
            };
            return Some((vec![EncodedReadResp::of(Content::StreamNotFound(not_found))], None));
        }
        let is_held = read.view.is_held_at_its_end();
        if read.left == 0 && is_held {
            std::future::pending::<()>().await;
        }
        let mut batch = Vec::with_capacity(BATCH);
        let ended = read.view.look(|reader, end| {
            while batch.len() < BATCH && read.left > 0 {
                let found = if read.backwards {
                    read.view.previous(reader, read.at.min(end))
                } else {
                    read.view.next(reader, read.at, end)
                };
                let Some(found) = found else { return Some(end) };
                batch.extend(read.view.answer(reader, found));
                read.at = if read.backwards { found } else { found + 1 };
                read.left -= 1;
            }
            (read.left == 0 && !is_held).then_some(end)
        });
        let Some(end) = ended else {
            return Some((batch, Some(read)));
        };
        if read.with_last
            && let (Source::Stream(_), Some(last)) = (&read.view.source, end.checked_sub(1))
        {
            batch.push(EncodedReadResp::of(Content::LastStreamPosition(last as u64)));
        }
        Some((batch, None))
    });
    Box::pin(batches.flat_map(|batch| stream::iter(batch.into_iter().map(Ok))))
}

/// A subscription: confirmation, what is there, a word that this was it, and then what comes.
struct Subscription {
    view: View,
    /// The position that it began behind, of `$all`. Up to there nothing is sent, not even what is written later
    /// because the log did not come so far: the client knows it all, as the server sees it.
    behind: Option<u64>,
    /// The first event that was not looked at.
    at: Cursor,
    /// How many events may be looked at without a checkpoint, of a filtered subscription.
    interval: Option<u64>,
    /// Events that were looked at since the last checkpoint.
    looked_at: u64,
    live: bool,
    /// Whether anything was looked at since it is catching up.
    moved: bool,
    last_checkpoint: Option<u64>,
    confirmed: bool,
    ended_before: u64,
    changed: watch::Receiver<u64>,
}

fn follow(view: View, start: Start, interval: Option<u64>) -> Answers {
    let behind = match (&view.source, &start) {
        (Source::All(_), Start::At(position)) => Some(*position),
        _ => None,
    };
    // Behind the event that is named: it is the last one that the client knows.
    let at = view.look(|reader, end| match (&view.source, start) {
        (_, Start::First) => 0,
        (_, Start::Last) => end,
        (Source::All(_), Start::At(position)) => reader.behind(position).min(end),
        (Source::Stream(_), Start::At(revision)) => usize::try_from(revision).unwrap_or(usize::MAX).saturating_add(1),
    });
    view.shared.subscriptions.fetch_add(1, Ordering::SeqCst);
    let ended_before = view.shared.lock().faults.ended_subscriptions;
    let changed = view.shared.changed.subscribe();
    let subscription = Subscription {
        view,
        behind,
        at,
        interval,
        looked_at: 0,
        live: false,
        moved: false,
        last_checkpoint: None,
        confirmed: false,
        ended_before,
        changed,
    };
    let batches = stream::unfold(subscription, |mut subscription| async move {
        let batch = subscription.next_batch().await?;
        Some((batch, subscription))
    });
    Box::pin(batches.flat_map(|batch| stream::iter(batch.into_iter().map(Ok))))
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.view.shared.subscriptions.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Subscription {
    /// Waits until there is something to send; `None` when the subscription is to end.
    async fn next_batch(&mut self) -> Option<VecDeque<EncodedReadResp>> {
        if !self.confirmed {
            self.confirmed = true;
            return Some(VecDeque::from([confirmation()]));
        }
        loop {
            self.changed.borrow_and_update();
            let (ended, stalled) = {
                let state = self.view.shared.lock();
                (
                    state.faults.ended_subscriptions != self.ended_before,
                    state.faults.stall_subscriptions,
                )
            };
            if ended {
                return None;
            }
            if !stalled {
                let batch = self.take();
                if !batch.is_empty() {
                    return Some(batch);
                }
            }
            self.changed.changed().await.ok()?;
        }
    }

    fn take(&mut self) -> VecDeque<EncodedReadResp> {
        let mut batch = VecDeque::with_capacity(BATCH + 2);
        let Subscription {
            view,
            behind,
            at,
            interval,
            looked_at,
            live,
            moved,
            last_checkpoint,
            ..
        } = self;
        view.look(|reader, end| {
            if let Some(behind) = *behind {
                *at = (*at).max(reader.behind(behind).min(end));
            }
            let mut checkpoint = |at: Cursor, batch: &mut VecDeque<EncodedReadResp>| {
                let position = at.checked_sub(1).and_then(|last| view.position(reader, last));
                if position.is_some() && position != *last_checkpoint {
                    *last_checkpoint = position;
                    let position = position.unwrap_or_default();
                    view.shared.checkpoints.fetch_add(1, Ordering::SeqCst);
                    view.shared.last_checkpoint.fetch_max(position, Ordering::SeqCst);
                    batch.push_back(checkpoint_at(position));
                }
            };
            if *live && end.saturating_sub(*at) > LIVE_BUFFER {
                *live = false;
                *moved = false;
                *looked_at = 0;
                let now = live_or_not(view, reader, *at);
                batch.push_back(EncodedReadResp::of(Content::FellBehind(now)));
                if interval.is_some() {
                    checkpoint(*at, &mut batch);
                }
            }
            while batch.len() < BATCH && *at < end {
                *moved = true;
                let mut found = view.next(reader, *at, end);
                let behind = found.map_or(end, |found| found + 1);
                if let Some(interval) = *interval {
                    while *looked_at + (behind - *at) as u64 >= interval && batch.len() < BATCH {
                        *at += (interval - *looked_at) as usize;
                        *looked_at = 0;
                        if let Some(event) = found.take_if(|found| *found < *at) {
                            batch.extend(view.answer(reader, event));
                        }
                        checkpoint(*at, &mut batch);
                    }
                    if batch.len() >= BATCH {
                        break;
                    }
                    *looked_at += (behind - *at) as u64;
                }
                if let Some(event) = found {
                    batch.extend(view.answer(reader, event));
                }
                *at = behind;
            }
            if !*live && *at >= end {
                *live = true;
                if interval.is_some() && *moved {
                    checkpoint(*at, &mut batch);
                }
                *looked_at = 0;
                batch.push_back(EncodedReadResp::of(Content::CaughtUp(live_or_not(view, reader, *at))));
            }
        });
        batch
    }
}

fn confirmation() -> EncodedReadResp {
    EncodedReadResp::of(Content::Confirmation(read_resp::SubscriptionConfirmation {
        subscription_id: Uuid::new_v4().to_string(),
    }))
}

/// The server knows a position only as the place of a record in its files. For a read that begins elsewhere it has no
/// code of its own.
fn no_place_to_read_from(is_filtered: bool) -> Status {
    let what = if is_filtered {
        "FilteredReadAllResult"
    } else {
        "ReadAllResult"
    };
    Status::unknown(format!("Unexpected {what}: InvalidPosition"))
}

/// For a subscription it has one.
fn no_place_to_follow_from() -> Status {
    Status::invalid_argument("Trying to read from an invalid position.")
}

fn checkpoint_at(position: u64) -> EncodedReadResp {
    EncodedReadResp::of(Content::Checkpoint(read_resp::Checkpoint {
        commit_position: position,
        prepare_position: position,
        timestamp: Some(now()),
    }))
}

fn live_or_not(view: &View, reader: &Reader<'_>, at: Cursor) -> read_resp::LiveOrNot {
    let last = at.checked_sub(1);
    let position = last.and_then(|last| view.position(reader, last));
    let position = position.map(|position| wire::AllStreamPosition {
        commit_position: position,
        prepare_position: position,
    });
    match view.source {
        Source::All(_) => read_resp::LiveOrNot {
            timestamp: Some(now()),
            stream_revision: None,
            position,
        },
        Source::Stream(_) => read_resp::LiveOrNot {
            timestamp: Some(now()),
            stream_revision: last.map(|last| last as i64),
            position: None,
        },
    }
}

fn now() -> prost_types::Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: since_epoch.as_secs() as i64,
        nanos: since_epoch.subsec_nanos() as i32,
    }
}
