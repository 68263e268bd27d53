//! One pass over the log for a report.

use super::document::Body;
use super::{LogCheckpoint, ReportError};
use crate::event_store::codec::DecodeError;
use crate::event_store::{Direction, EventStore, MAX_EVENTS_PER_READ, ReadError, StoredEvent};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// After each batch the thread rests for this part of the time that the batch took: a report may take longer, a
/// token may not.
const REST: f64 = 0.25;

/// What takes the events of the log, one after another.
pub(in crate::audit) trait TakesEvents: Send {
    /// Takes the next event.
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError>;
}

/// What a report keeps of the log while it reads.
pub(in crate::audit) trait Reading: Send {
    /// Takes the next event.
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError>;

    /// What it has come to.
    fn finish(self: Box<Self>, checkpoint: Option<&LogCheckpoint>) -> Body;
}

impl TakesEvents for Box<dyn Reading> {
    fn read(&mut self, stored: &StoredEvent) -> Result<(), DecodeError> {
        (**self).read(stored)
    }
}

/// Gives the reading these events of the log, in order and without a gap, on a thread of its own. The turn is given
/// back when the thread is done: whoever asked may have gone before.
pub(in crate::audit) async fn read_log<R: TakesEvents + 'static, T: Send + 'static>(
    store: Arc<dyn EventStore>,
    range: Range<u64>,
    reading: R,
    finish: impl FnOnce(R) -> T + Send + 'static,
    turn: impl Send + 'static,
) -> Result<T, ReportError> {
    let broken_off = |error: &dyn std::fmt::Display| ReportError::BrokenOff(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| broken_off(&error))?;
    let (send, mut receive) = tokio::sync::oneshot::channel();
    let (gone, is_gone) = tokio::sync::watch::channel(());
    std::thread::Builder::new()
        .name("report".into())
        .spawn(move || {
            let read = runtime.block_on(read(&*store, range, reading, &is_gone));
            let read = read.map(finish);
            drop(turn);
            let _ = send.send(read); // the caller may have gone
        })
        .map_err(|error| broken_off(&error))?;
    // Dropped with this future: the thread then stops after its batch.
    let _gone = gone;
    (&mut receive).await.map_err(|error| broken_off(&error))?
}

async fn read<R: TakesEvents>(
    store: &dyn EventStore,
    range: Range<u64>,
    mut reading: R,
    is_gone: &tokio::sync::watch::Receiver<()>,
) -> Result<R, ReportError> {
    let (mut next, through_index) = (range.start, range.end);
    while next < through_index {
        if is_gone.has_changed().is_err() {
            return Err(ReportError::BrokenOff("nobody waits for it any more".into()));
        }
        let begun = Instant::now();
        let limit =
            usize::try_from(through_index - next).map_or(MAX_EVENTS_PER_READ, |left| left.min(MAX_EVENTS_PER_READ));
        let events = store.read_all(next, Direction::Forwards, limit).await?;
        for event in &events {
            if event.index != next {
                return Err(ReadError(format!(
                    "the log went on with event {} where {next} follows",
                    event.index
                ))
                .into());
            }
            reading.read(event)?;
            next += 1;
        }
        if events.is_empty() {
            return Err(ReadError(format!("event {next} of {through_index} is not there")).into());
        }
        if next < through_index {
            tokio::time::sleep(begun.elapsed().mul_f64(REST)).await;
        }
    }
    Ok(reading)
}
