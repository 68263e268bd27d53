//! A log that several nodes write to, each with its own view of it: the view of a node can be held where it is, as if
//! the others' events were still on their way, and a node can be cut off.

use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{
    Append, AppendError, Appended, BoxFuture, Direction, EventStore, ReadError, StoredEvent, Subscription,
};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The log behind all views.
pub fn shared_log(folder: &Path) -> Arc<SqliteEventStore> {
    Arc::new(SqliteEventStore::open(SqliteOptions::new(folder.join("events.db"))).expect("the log opens"))
}

/// A node's view of the log.
pub struct View {
    log: Arc<SqliteEventStore>,
    /// Of how many events the node has heard, at the most.
    visible: watch::Sender<u64>,
    /// Of how many events those who follow the log have been told, at the most.
    told: watch::Sender<u64>,
    cut_off: Mutex<Option<String>>,
    /// Appends that came second.
    lost: Arc<Notify>,
}

impl View {
    pub fn of(log: &Arc<SqliteEventStore>) -> Arc<Self> {
        Arc::new(Self {
            log: log.clone(),
            visible: watch::Sender::new(u64::MAX),
            told: watch::Sender::new(u64::MAX),
            cut_off: Mutex::default(),
            lost: Arc::default(),
        })
    }

    /// From now on nothing new is heard of.
    pub fn hold(&self) {
        self.visible.send_replace(self.log.log_size());
    }

    /// Everything is heard of.
    pub fn release(&self) {
        self.visible.send_replace(u64::MAX);
    }

    /// From now on the node hears of everything, and its state follows nothing.
    pub fn hold_state(&self) {
        self.told.send_replace(self.log.log_size());
    }

    /// The state follows again.
    pub fn release_state(&self) {
        self.told.send_replace(u64::MAX);
    }

    pub fn cut(&self, reason: Option<&str>) {
        *self.cut_off.lock().unwrap() = reason.map(str::to_owned);
    }

    /// Resolves when an append of this node has come second.
    pub async fn has_lost(&self) {
        let lost = tokio::time::timeout(Duration::from_secs(20), self.lost.notified());
        lost.await.expect("an append that comes second");
    }
}

impl EventStore for View {
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let appended = self.log.append_to_stream(append);
        let (mut visible, lost) = (self.visible.subscribe(), self.lost.clone());
        Box::pin(async move {
            let appended = appended.await.inspect_err(|_| lost.notify_one())?;
            // Answered when this node has heard of it.
            let _ = visible.wait_for(|visible| *visible > appended.last_index).await;
            Ok(appended)
        })
    }

    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.log.read_stream(stream, from_revision, limit)
    }

    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.log.read_all(from, direction, limit)
    }

    fn streams_of(&self, range: std::ops::Range<u64>) -> BoxFuture<'_, Result<Vec<(u64, String)>, ReadError>> {
        self.log.streams_of(range)
    }

    fn read_indexes(&self, indexes: &[u64]) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.log.read_indexes(indexes)
    }

    fn subscribe_to_all(&self, from: u64) -> Box<dyn Subscription> {
        Box::new(Followed {
            events: self.log.subscribe_to_all(from),
            visible: self.visible.subscribe(),
            told: self.told.subscribe(),
            read: VecDeque::new(),
        })
    }

    /// As a store that cannot change what it holds.
    fn remove(&self, _: Vec<StoredEvent>) -> BoxFuture<'static, Result<(), AppendError>> {
        Box::pin(async { Err(AppendError::OutOfBounds("this log keeps everything")) })
    }

    fn used_bytes(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.log.used_bytes()
    }

    fn log_size(&self) -> u64 {
        self.log.log_size().min(*self.visible.borrow())
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        self.log.failed()
    }

    fn failure(&self) -> Option<String> {
        self.log.failure()
    }

    fn cut_off(&self) -> Option<String> {
        self.cut_off.lock().unwrap().clone()
    }

    fn has_ended(&self) -> bool {
        self.log.has_ended()
    }

    fn queue_depth(&self) -> u64 {
        self.log.queue_depth()
    }

    /// The log stays open for the others.
    fn close(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct Followed {
    events: Box<dyn Subscription>,
    visible: watch::Receiver<u64>,
    told: watch::Receiver<u64>,
    /// Read, but perhaps not heard of yet.
    read: VecDeque<StoredEvent>,
}

impl Subscription for Followed {
    fn next_batch(&mut self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        Box::pin(async move {
            if self.read.is_empty() {
                self.read = self.events.next_batch(limit).await?.into();
            }
            let first = self.read[0].index;
            let visible = self.visible.wait_for(|visible| *visible > first).await;
            let visible = *visible.map_err(|_| ReadError("the view is gone".into()))?;
            let told = self.told.wait_for(|told| *told > first).await;
            let visible = visible.min(*told.map_err(|_| ReadError("the view is gone".into()))?);
            let heard = self.read.iter().take_while(|event| event.index < visible).count();
            Ok(self.read.drain(..heard.min(limit)).collect())
        })
    }
}
