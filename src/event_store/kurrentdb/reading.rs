//! Reading from the cluster. Where an event is, this node knows by itself, so a read also shows whether the cluster
//! still has it there.

use super::connections::{CallError, Connections, Right};
use super::lanes::appended;
use super::log::{Log, Together};
use super::positions::order;
use crate::event_store::{Appended, MAX_EVENTS_PER_READ, ReadError, StoredEvent};
use eventstore::{
    Client, Error, Position, ReadAllOptions, ReadStreamOptions, RecordedEvent, StreamPosition, SubscriptionFilter,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tonic::Code;
use uuid::Uuid;

/// A read may take this long before it counts as failed, and another is made.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// All attempts at a read, and the wait before the first, take no longer than this: with the append that comes before
/// a read of the trail, less than the 30 s after which a proxy in front would answer in this node's place.
const READ_PATIENCE: Duration = Duration::from_secs(20);
/// A read is made this often at the most.
const MAX_ATTEMPTS: usize = 3;
/// Before it is made again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Before it is looked again for an event that must come.
const LOOK_AGAIN_PAUSE: Duration = Duration::from_millis(20);
/// Reads under way at once.
const MAX_READS: usize = 16;
/// Events that are read without being asked for, when that spares a read.
const MAX_GAP: u64 = 16;
/// Events that the server looks at before it says how far it is, when none of them is of this log.
const FILTER_WINDOW: u32 = 4_096;

/// Why events could not be read.
#[derive(Debug, Clone)]
pub(super) enum Unread {
    /// The cluster answers, and does not have this event where it was.
    Missing(u64),
    /// The cluster could not be asked.
    Failed(String),
}

impl From<Unread> for ReadError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Missing(index) => missing(index),
            Unread::Failed(why) => Self(why),
        }
    }
}

impl From<ReadError> for Unread {
    fn from(ReadError(why): ReadError) -> Self {
        Self::Failed(why)
    }
}

/// Reads the log.
pub(super) struct Reading {
    log: Arc<Log>,
    connections: Arc<Connections>,
    permits: Semaphore,
}

impl Reading {
    pub(super) fn new(log: Arc<Log>, connections: Arc<Connections>) -> Self {
        Self {
            log,
            connections,
            permits: Semaphore::new(MAX_READS),
        }
    }

    /// The events with these indexes, which the log must have.
    pub(super) async fn range(&self, first: u64, end: u64) -> Result<Vec<StoredEvent>, Unread> {
        let count = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        if let Some(events) = self.log.tail.take(first, count)
            && events.len() == count
        {
            return Ok(events);
        }
        let positions = self.log.positions.range(first, count).map_err(failed)?;
        let events = self
            .tried(Right::ReadAll, |client| self.events_at(client, &positions))
            .await?;
        events
            .into_iter()
            .zip(&positions)
            .zip(first..)
            .map(|((event, position), index)| match event.position == *position {
                true => Ok(stored(&event, index)),
                false => Err(Unread::Missing(index)),
            })
            .collect::<Result<Vec<_>, _>>()
            .and_then(|events| match events.len() == count {
                true => Ok(events),
                false => Err(Unread::Missing(first + events.len() as u64)),
            })
    }

    /// The names of the streams that the cluster has these events in, as this log calls them.
    pub(super) async fn streams_of(&self, first: u64, end: u64) -> Result<Vec<(u64, String)>, ReadError> {
        let count = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        let positions = self.log.positions.range(first, count).map_err(failed)?;
        let events = self
            .tried(Right::ReadAll, |client| self.events_at(client, &positions))
            .await?;
        let names = events.into_iter().zip(&positions).zip(first..);
        Ok(names
            .filter(|((event, position), _)| event.position == **position)
            .filter_map(|((event, _), index)| {
                let name = event.stream_id().strip_prefix(&self.log.prefix)?;
                Some((index, name.to_owned()))
            })
            .collect())
    }

    /// The events with these indexes, in this order.
    pub(super) async fn indexes(&self, indexes: &[u64]) -> Result<Vec<StoredEvent>, ReadError> {
        let size = *self.log.size.borrow();
        if indexes.len() > MAX_EVENTS_PER_READ {
            return Err(ReadError(format!(
                "{} events were asked for, {MAX_EVENTS_PER_READ} is the most",
                indexes.len()
            )));
        }
        if let Some(beyond) = indexes.iter().find(|index| **index >= size) {
            return Err(ReadError(format!("there is no event {beyond}: the log has {size}")));
        }
        let runs = runs(indexes);
        let mut found: Vec<StoredEvent> = stream::iter(runs)
            .map(|(first, end)| async move { self.range(first, end).await.map_err(ReadError::from) })
            .buffered(MAX_READS)
            .try_concat()
            .await?;
        found.dedup_by_key(|event| event.index);
        indexes
            .iter()
            .map(|index| {
                let at = found.binary_search_by_key(index, |event| event.index);
                at.map(|at| found[at].clone()).map_err(|_| missing(*index))
            })
            .collect()
    }

    /// A stream's events from a revision on, of those that this node has read.
    pub(super) async fn stream(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
        let limit = limit.min(MAX_EVENTS_PER_READ);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let size = *self.log.size.borrow();
        let events = self
            .tried(Right::ReadStreams, |client| self.events_of(client, stream, from, limit))
            .await?;
        let mut found = Vec::with_capacity(events.len());
        for (event, revision) in events.into_iter().zip(from..) {
            if event.revision != revision {
                return Err(ReadError(format!("event {revision} of the stream {stream} is missing")));
            }
            // Events that this node has not read yet are not there yet.
            let index = self.log.positions.find(event.position).map_err(failed)?;
            let Some(index) = index.filter(|index| *index < size) else {
                break;
            };
            found.push(stored(&event, index));
        }
        Ok(found)
    }

    /// Waits until this node has read the event that a stream has at this revision, wherever it was written. It may
    /// never be there: who calls this bounds how long it waits.
    pub(super) async fn is_there(&self, stream: &str, revision: u64) {
        let there = loop {
            // KurrentDB refuses an append because of an event that it does not show yet: what it compares with is
            // what its leader has written, and what it shows is what a majority of its nodes has.
            let read = self.tried(Right::ReadStreams, |client| self.events_of(client, stream, revision, 1));
            match read.await.as_deref() {
                Ok([event, ..]) => break event.position,
                Ok([]) | Err(_) => tokio::time::sleep(LOOK_AGAIN_PAUSE).await,
            }
        };
        let mut position = self.log.position.subscribe();
        let is_read = position.wait_for(|read| read.is_some_and(|read| order(read) >= order(there)));
        // The log, which keeps the sender, is here.
        let _ = is_read.await;
    }

    /// The last revision of a stream in the cluster, `None` when there is no such stream.
    pub(super) async fn head_of(&self, stream: &str, deadline: Instant) -> Result<Option<u64>, String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the KurrentDB did not answer in time".to_owned());
            }
            let deadline = left.min(READ_DEADLINE);
            let read = self
                .connections
                .call(deadline, Right::ReadStreams, |client| async move {
                    let options = self.of_stream().backwards().position(StreamPosition::End).max_count(1);
                    let name = format!("{}{stream}", self.log.prefix);
                    let mut reading = client.read_stream(name, &options).await?;
                    reading.next().await
                });
            match read.await {
                Ok(last) => return Ok(last.map(|event| event.get_original_event().revision)),
                Err(CallError::Refused(Error::ResourceNotFound)) => return Ok(None),
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Where an append is whose events have these ids and begin at this revision; `None` when the events are there and
    /// no append was so. An error while they are not there, or this node has not read them.
    pub(super) async fn find_append(
        &self,
        stream: &str,
        first_revision: u64,
        ids: &[Uuid],
    ) -> Result<Option<Appended>, ReadError> {
        let events = self
            .tried(Right::ReadStreams, |client| {
                self.events_of(client, stream, first_revision, ids.len())
            })
            .await?;
        let are_there = events.len() == ids.len() && events.iter().zip(ids).all(|(event, id)| event.id == *id);
        let (true, Some(last)) = (are_there, events.last()) else {
            // A leader that is new may show less than was acknowledged.
            return Err(ReadError("the events are not there yet".to_owned()));
        };
        let is_one = events.iter().enumerate().all(|(at, event)| {
            let together = Together { at, of: ids.len() };
            Together::of(event) == together
        });
        if !is_one {
            return Ok(None);
        }
        let index = self.log.positions.find(last.position).map_err(failed)?;
        match index.filter(|index| *index < *self.log.size.borrow()) {
            Some(last_index) => {
                let first_index = (last_index + 1).saturating_sub(ids.len() as u64);
                Ok(Some(appended(first_index, ids.len(), last.revision)))
            }
            None => Err(ReadError("this node has not read it yet".to_owned())),
        }
    }

    /// Where the next event of this log is that this node has not read, `None` when it has read all. What there is of
    /// others in `$all` is not looked at twice, so that this stays cheap beside a busy neighbour; before this node has
    /// looked through it, the server may need longer than there is time for.
    pub(super) async fn next_unread(&self, deadline: Duration) -> Result<Option<Position>, CallError> {
        let read = *self.log.position.borrow();
        let from = self
            .log
            .through()
            .map_or(StreamPosition::Start, StreamPosition::Position);
        let read = read.map_or((0, 0), order);
        self.connections
            .long_call(deadline, Right::ReadAll, |client| async move {
                // The event at the position that it begins with is one of them.
                let options = self.of_all().forwards().position(from).max_count(2);
                let mut reading = client.read_all(&options).await?;
                while let Some(event) = reading.next().await? {
                    let position = event.get_original_event().position;
                    if order(position) > read {
                        return Ok(Some(position));
                    }
                }
                Ok(None)
            })
            .await
    }

    /// Where the newest event of all is in the cluster, whoever's it is.
    pub(super) async fn end_of_all(&self, deadline: Duration) -> Result<Option<Position>, CallError> {
        self.connections
            .call(
                deadline,
                Right::ReadAll,
                |client| async move { self.newest(&client).await },
            )
            .await
    }

    async fn newest(&self, client: &Client) -> eventstore::Result<Option<Position>> {
        let options = self.anything().backwards().position(StreamPosition::End).max_count(1);
        Ok(first_of(client, &options).await?.map(|event| event.position))
    }

    /// Whether the cluster has the event with this index where it was, and it is the one with this id.
    pub(super) async fn has(&self, index: u64, id: Option<Uuid>) -> Result<bool, CallError> {
        let position = self.log.positions.get(index);
        let position = position.map_err(|error| CallError::Broken(failed(error).0))?;
        self.connections
            .call(READ_DEADLINE, Right::ReadAll, |client| async move {
                self.is_at(&client, position, id).await
            })
            .await
    }

    /// Whether this event is at this position. Positions are places in the log's bytes: in another log, or one that
    /// was rolled back and written to since, another event can be there, or none begins there, and KurrentDB refuses
    /// to read from such a place. What else it may answer says nothing of the event.
    pub(super) async fn is_at(
        &self,
        client: &Client,
        position: Position,
        id: Option<Uuid>,
    ) -> eventstore::Result<bool> {
        let options = self
            .of_all()
            .forwards()
            .position(StreamPosition::Position(position))
            .max_count(1);
        let found = match first_of(client, &options).await {
            Err(error) if is_no_place(&error) => return Ok(false),
            found => found?,
        };
        Ok(found.is_some_and(|event| event.position == position && id.is_none_or(|id| id == event.id)))
    }

    /// What selects the events of this log.
    pub(super) fn filter(&self) -> SubscriptionFilter {
        SubscriptionFilter::on_stream_name()
            .add_prefix(&self.log.prefix)
            .max(FILTER_WINDOW)
    }

    async fn tried<T, F>(&self, right: Right, read: impl Fn(Arc<Client>) -> F) -> Result<T, ReadError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until = Instant::now() + READ_PATIENCE;
        let Ok(_permit) = tokio::time::timeout_at(until.into(), self.permits.acquire()).await else {
            return Err(ReadError("too many reads of the KurrentDB are under way".to_owned()));
        };
        let mut last = "the KurrentDB did not answer in time".to_owned();
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            if self
                .log
                .end
                .borrow()
                .as_ref()
                .is_some_and(|end| *end == crate::event_store::end::End::Closed)
            {
                return Err(ReadError("it is closed".to_owned()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match self.connections.call(left.min(READ_DEADLINE), right, &read).await {
                Ok(found) => return Ok(found),
                Err(error) => last = error.to_string(),
            }
        }
        Err(ReadError(last))
    }

    async fn events_at(&self, client: Arc<Client>, positions: &[Position]) -> Result<Vec<RecordedEvent>, Error> {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return Ok(Vec::new());
        };
        let options = self
            .of_all()
            .forwards()
            .position(StreamPosition::Position(*first))
            .max_count(positions.len());
        let mut reading = client.read_all(&options).await?;
        let mut events = Vec::with_capacity(positions.len());
        while let Some(event) = reading.next().await? {
            let Some(event) = event.event else { continue };
            if order(event.position) > order(*last) {
                break;
            }
            events.push(event);
            // KurrentDB ends a filtered read when it has found one event more or has come to the log's end, which may
            // be far behind much of others.
            if events.len() == positions.len() {
                break;
            }
        }
        Ok(events)
    }

    async fn events_of(
        &self,
        client: Arc<Client>,
        stream: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, Error> {
        let options = self
            .of_stream()
            .forwards()
            .position(StreamPosition::Position(from))
            .max_count(limit);
        let name = format!("{}{stream}", self.log.prefix);
        let mut reading = client.read_stream(name, &options).await?;
        let mut events = Vec::new();
        loop {
            match reading.next().await {
                Ok(Some(event)) => events.extend(event.event),
                Ok(None) => return Ok(events),
                // There is no such stream.
                Err(Error::ResourceNotFound) => return Ok(events),
                Err(error) => return Err(error),
            }
        }
    }

    fn of_all(&self) -> ReadAllOptions {
        self.anything().filter(self.filter())
    }

    fn anything(&self) -> ReadAllOptions {
        let options = ReadAllOptions::default().deadline(READ_DEADLINE);
        match self.connections.authentication() {
            Some(authentication) => options.authenticated(authentication.clone()),
            None => options,
        }
    }

    fn of_stream(&self) -> ReadStreamOptions {
        let options = ReadStreamOptions::default().deadline(READ_DEADLINE);
        match self.connections.authentication() {
            Some(authentication) => options.authenticated(authentication.clone()),
            None => options,
        }
    }
}

/// Whether KurrentDB says that no event begins at the position that it was to read from. It has no code for that:
/// these are its words, up to 23.10 and since.
fn is_no_place(error: &Error) -> bool {
    match error {
        Error::Grpc { code, message } => {
            *code as i32 == Code::InvalidArgument as i32 && message.contains("invalid position")
        }
        // "Unexpected FilteredReadAllResult: InvalidPosition", with the code that stands for everything unexpected.
        Error::ServerError(status) => status.contains("ReadAllResult: InvalidPosition"),
        _ => false,
    }
}

async fn first_of(client: &Client, options: &ReadAllOptions) -> eventstore::Result<Option<RecordedEvent>> {
    let found = client.read_all(options).await?.next().await?;
    Ok(found.and_then(|found| found.link.or(found.event)))
}

fn stored(event: &RecordedEvent, index: u64) -> StoredEvent {
    StoredEvent {
        index,
        revision: event.revision,
        bytes: event.data[..].into(),
    }
}

/// Ranges that hold all of the indexes, in ascending order.
fn runs(indexes: &[u64]) -> Vec<(u64, u64)> {
    let mut sorted = indexes.to_vec();
    sorted.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for index in sorted {
        match runs.last_mut() {
            Some((first, end)) if index <= *end + MAX_GAP && index - *first < MAX_EVENTS_PER_READ as u64 => {
                *end = (*end).max(index + 1);
            }
            _ => runs.push((index, index + 1)),
        }
    }
    runs
}

fn missing(index: u64) -> ReadError {
    ReadError(format!(
        "event {index} is no longer where it was in the KurrentDB: the log was changed by other means"
    ))
}

fn failed(error: io::Error) -> ReadError {
    ReadError(format!("the positions of events: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_are_near_one_another_are_read_together() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[7]), [(7, 8)]);
        assert_eq!(runs(&[20, 3, 4, 3, 1_000]), [(3, 21), (1_000, 1_001)]);
        assert_eq!(runs(&[0, 17, 35]), [(0, 18), (35, 36)]);
        let far_apart: Vec<u64> = (0..4_096).map(|number| number * 17).collect();
        assert!(
            runs(&far_apart)
                .iter()
                .all(|(first, end)| end - first <= MAX_EVENTS_PER_READ as u64)
        );
    }

    /// As the client hands a status on.
    fn from_server(code: Code, message: &str) -> Error {
        match code {
            Code::Unknown | Code::Unavailable | Code::Internal | Code::DataLoss => {
                Error::ServerError(tonic::Status::new(code, message).to_string())
            }
            code => Error::Grpc {
                code: (code as i32).into(),
                message: message.to_owned(),
            },
        }
    }

    #[test]
    fn only_the_words_for_a_place_where_no_event_begins_say_that_an_event_is_gone() {
        for (code, message) in [
            (Code::Unknown, "Unexpected FilteredReadAllResult: InvalidPosition"),
            (
                Code::Unknown,
                "Unexpected FilteredReadAllResult: InvalidPosition >> Log record at 7",
            ),
            (Code::InvalidArgument, "Trying to read from an invalid position."),
        ] {
            assert!(is_no_place(&from_server(code, message)), "{message}");
        }
        for (code, message) in [
            (Code::Unknown, "Unexpected FilteredReadAllResult: Error >> the disk"),
            (Code::Unknown, "Exception was thrown by handler."),
            (Code::Unavailable, "Server Is Not Ready"),
            (Code::Internal, "h2 protocol error"),
            (Code::DataLoss, "checksum mismatch"),
            (Code::InvalidArgument, "The combination is invalid."),
            (Code::ResourceExhausted, "Server Is Too Busy"),
        ] {
            assert!(!is_no_place(&from_server(code, message)), "{message}");
        }
        for error in [Error::ConnectionClosed, Error::DeadlineExceeded, Error::AccessDenied] {
            assert!(!is_no_place(&error), "{error}");
        }
    }
}
