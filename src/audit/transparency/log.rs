//! The transparent log as the rest of the server sees it: checkpoints, tiles, proofs.
//!
//! A published checkpoint is a fact that the world has seen. So the newest is kept before it leaves and never goes
//! back, one over fewer events leaves only when it is proven to be consistent with it, and at every start the tree of the log must have the root that was published: when it has not,
//! because the log was rolled back or altered, nothing more is published, and what was published stays as it is.

use super::checkpoint::Checkpoint;
use super::follower;
use super::leaf::{leaf_of, remains};
use super::merkle::{self, Hash};
use super::note::{Note, Signature};
use super::proof::TlogProof;
use super::published::PublishedFile;
use super::tile_file::{TileReader, TileWriter, Unusable};
use super::tiles::{Edge, TILE_HASHES, Tile, TileId, TileNodes, Tiles};
use super::verifier::VerifierKey;
use super::{published_file, tile_file};
use crate::credentials::log_key::{LogKey, LogKeyError};
use crate::credentials::sealing::MasterKey;
use crate::event_store::{Direction, EventStore, MAX_EVENTS_PER_READ, ReadError, StoredEvent};
use crate::rebuildable;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Requests that read tiles at the same time.
pub const READERS: usize = 2;
/// Bundles of events that are put together at the same time: each may have 16 MiB.
pub const BUNDLES: usize = 2;
/// Requests that wait for one of the readers; more are refused.
pub const MAX_WAITING: usize = 64;
/// Events before the end of the full tiles that are compared with the log at each start. All of them are compared
/// by `grantlog audit verify`.
const EVENTS_CHECKED_AT_START: u64 = 4_096;
/// How long a request waits for the tree to reach the event that it is about.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stop waits for the last checkpoint.
const LAST_CHECKPOINT: Duration = Duration::from_secs(2);

/// Where a transparent log is kept, and what it is called.
#[derive(Debug, Clone)]
pub struct TransparencySettings {
    /// The folder of its files.
    pub data_dir: PathBuf,
    /// The file of its key.
    pub key_file: PathBuf,
    /// Who signs for it.
    pub signers: Signers,
    /// Its name, when the operator has set one.
    pub origin: Option<String>,
    /// Its name when a key is made and the operator has set none.
    pub default_origin: String,
    /// A new checkpoint is made for whoever asks for the newest at most this often.
    pub publish_interval: Duration,
}

/// Who signs for a log, which says where its key comes from, and whether the files beside it belong to the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signers {
    /// This server: it makes the key when there is none, and a key without the published checkpoints has lost them.
    One,
    /// All nodes that have the master key, of which the key is derived: a new node goes on where others are.
    AllNodes,
    /// All nodes that were given the key's file, which must be there.
    AllWhoHaveTheFile,
}

/// Why a transparent log cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum TransparencyError {
    /// It has stopped: its log is not the one that was published, or its files are of no use. For the operator.
    #[error("{0}")]
    Stopped(String),
    /// The log has no such event yet.
    #[error("the log has {log_size} events, not {size}")]
    NotThatLong {
        /// How many would be needed.
        size: u64,
        /// How many there are.
        log_size: u64,
    },
    /// An event is not the one that the tree was made of.
    #[error("event {index} of the log is not the one that its leaf hash was made of: run `grantlog audit verify`")]
    Altered {
        /// Which.
        index: u64,
    },
    /// Retention has removed an event: its hash is all that is left.
    #[error("event {index} was removed; its hash is all that is left of it")]
    Removed {
        /// Which.
        index: u64,
    },
    /// Too many ask at the same time.
    #[error("too many proofs and tiles are asked for at once")]
    Overloaded,
    /// The tree has not read so far yet.
    #[error("the tree has not read the log so far yet")]
    NotCaughtUp,
    /// A file cannot be read or written.
    #[error("the files of the transparent log cannot be read or written: {0}")]
    Database(#[from] rusqlite::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The work was broken off.
    #[error("a proof was broken off: {0}")]
    BrokenOff(String),
}

/// A checkpoint as it was published: the same size has the same bytes for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// How many events it is over.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The signed note.
    pub text: String,
}

/// A proof that an event is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProof {
    /// The event's place.
    pub index: u64,
    /// The hash of its stored bytes as a leaf.
    pub leaf_hash: Hash,
    /// From the leaf's sibling upward.
    pub hashes: Vec<Hash>,
    /// The checkpoint whose root they lead to.
    pub checkpoint: SignedCheckpoint,
}

impl EventProof {
    /// As C2SP tlog-proof writes it.
    pub fn to_text(&self) -> Result<String, TransparencyError> {
        let checkpoint =
            Note::parse(&self.checkpoint.text).map_err(|error| TransparencyError::Stopped(error.to_string()))?;
        let proof = TlogProof {
            index: self.index,
            hashes: self.hashes.clone(),
            checkpoint,
        };
        Ok(proof.to_string())
    }
}

/// The transparent log: follows the event log by itself.
pub struct Transparency {
    shared: Arc<Shared>,
    store: Arc<dyn EventStore>,
    publish_interval: Duration,
    /// Held by whoever makes the newest checkpoint, so that those who ask together get the same.
    publishing: tokio::sync::Mutex<()>,
    /// One permit for every request that reads tiles or waits to.
    places: Arc<Semaphore>,
    /// One permit for every request that reads tiles.
    running: Arc<Semaphore>,
    /// One permit for every bundle of events that is put together.
    bundling: Arc<Semaphore>,
    follower: Mutex<Option<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
}

/// What the follower and the requests share.
pub(super) struct Shared {
    /// None when it has stopped before it began.
    opened: Option<Opened>,
    pub progress: watch::Sender<Progress>,
    /// The published checkpoint over the most events, and when this run published it; none: an earlier one did.
    newest: watch::Sender<Option<(Arc<SignedCheckpoint>, Option<Instant>)>>,
}

/// Key and files.
struct Opened {
    key: LogKey,
    verifier: VerifierKey,
    tile_path: PathBuf,
    edge: RwLock<Arc<Edge>>,
    readers: Mutex<Vec<TileReader>>,
    published: Mutex<PublishedFile>,
}

/// How far the tree has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Events in the tree.
    pub size: u64,
    /// Whether the tree is known to have every root that was published.
    pub is_proven: bool,
    /// Why there will be no more.
    pub failure: Option<Arc<str>>,
}

/// What a start finds in the files.
struct Found {
    opened: Opened,
    writer: TileWriter,
    edge: Edge,
    /// The newest published checkpoint: the tree must have its root.
    expected: Option<SignedCheckpoint>,
}

impl Transparency {
    /// Opens the files, or makes them, and starts to follow the log. When it cannot, or must not, it has stopped:
    /// `failed` says why, and the rest of the server can do without it.
    pub async fn open(settings: TransparencySettings, master_key: &MasterKey, store: Arc<dyn EventStore>) -> Self {
        let publish_interval = settings.publish_interval;
        let (stop, stopped) = watch::channel(false);
        let started = match find(&settings, master_key, &*store).await {
            Ok(found) => {
                let progress = Progress {
                    size: found.edge.size(),
                    is_proven: found.expected.is_none(),
                    failure: None,
                };
                let newest = found.expected.clone().map(|newest| (Arc::new(newest), None));
                let shared = Arc::new(Shared {
                    opened: Some(found.opened),
                    progress: watch::Sender::new(progress),
                    newest: watch::Sender::new(newest),
                });
                let (store, edge, expected) = (store.clone(), found.edge, found.expected);
                follower::start(shared.clone(), store, found.writer, edge, expected, stopped)
                    .map(|thread| (shared, Some(thread)))
                    .map_err(|error| format!("the transparent log's follower cannot be started: {error}"))
            }
            Err(reason) => Err(reason),
        };
        let (shared, follower) = started.unwrap_or_else(|reason| {
            let shared = Shared {
                opened: None,
                progress: watch::Sender::default(),
                newest: watch::Sender::default(),
            };
            shared.stop(reason);
            (Arc::new(shared), None)
        });
        Self {
            shared,
            store,
            publish_interval,
            publishing: tokio::sync::Mutex::default(),
            places: Arc::new(Semaphore::new(READERS + MAX_WAITING)),
            running: Arc::new(Semaphore::new(READERS)),
            bundling: Arc::new(Semaphore::new(BUNDLES)),
            follower: Mutex::new(follower),
            stop,
        }
    }

    /// The signed checkpoint over the first `size` events, which must be durable; the same size gives the same bytes
    /// for ever. It leaves only below one that is kept: so many rows are kept as the log had ends when somebody asked,
    /// whatever sizes are asked for.
    pub async fn checkpoint_at(&self, size: u64) -> Result<SignedCheckpoint, TransparencyError> {
        self.reach(size).await?;
        self.blocking(move |shared| {
            if !shared.has_published(size) {
                shared.publish_newest()?;
            }
            shared.publish(size)
        })
        .await
    }

    /// The checkpoint over all that the log has, or more by then: it is kept.
    async fn checkpoint_now(&self) -> Result<SignedCheckpoint, TransparencyError> {
        self.reach(self.store.log_size()).await?;
        self.blocking(Shared::publish_newest).await
    }

    /// The newest checkpoint; a new one when the log has grown and none was made for a while.
    pub async fn latest(&self) -> Result<SignedCheckpoint, TransparencyError> {
        self.proven().await?;
        if let Some(newest) = self.fresh() {
            return Ok(newest);
        }
        let _alone = self.publishing.lock().await;
        match self.fresh() {
            Some(newest) => Ok(newest),
            None => self.checkpoint_now().await,
        }
    }

    /// The first `width` hashes of a tile, as its resource has them; none when no published checkpoint has it.
    pub async fn tile(&self, id: TileId, width: u64) -> Result<Option<Vec<u8>>, TransparencyError> {
        self.proven().await?;
        if !self.is_published(id, width) {
            return Ok(None);
        }
        self.blocking(move |shared| {
            let tile = shared.with_tiles(|tiles| tiles.tile(id, width))?;
            Ok(tile.to_bytes(width))
        })
        .await
    }

    /// The first `width` events of a bundle of 256, as its resource has them; none when no published checkpoint has
    /// them. Each is compared with its leaf hash.
    pub async fn entries(&self, number: u64, width: u64) -> Result<Option<Vec<u8>>, TransparencyError> {
        self.proven().await?;
        let id = TileId { level: 0, number };
        if !self.is_published(id, width) {
            return Ok(None);
        }
        let tile = self
            .blocking(move |shared| shared.with_tiles(|tiles| tiles.tile(id, width)))
            .await?;
        let turn = self.turn(&self.bundling).await?;
        let wanted = usize::try_from(width).unwrap_or_default();
        let events = self
            .store
            .read_all(number * TILE_HASHES, Direction::Forwards, wanted)
            .await?;
        // Up to 16 MiB are hashed.
        holding(turn, move || bundle(&events, &tile)).await.map(Some)
    }

    /// A proof that the event at the index is in the log, to a checkpoint that is made at once when no published one
    /// reaches it.
    pub async fn proof(&self, index: u64) -> Result<EventProof, TransparencyError> {
        self.proven().await?;
        let newest = self.newest().filter(|newest| newest.size > index);
        let checkpoint = match newest {
            Some(newest) => newest,
            None => {
                let log_size = self.store.log_size();
                if index >= log_size {
                    let size = index.saturating_add(1);
                    return Err(TransparencyError::NotThatLong { size, log_size });
                }
                self.checkpoint_now().await?
            }
        };
        let size = checkpoint.size;
        let (leaf, hashes) = self
            .blocking(move |shared| {
                shared.with_tiles(|tiles| {
                    let mut nodes = TileNodes(tiles);
                    let leaf = merkle::Nodes::node(&mut nodes, 0, index)?;
                    Ok((leaf, merkle::inclusion_proof(&mut nodes, index, size)?))
                })
            })
            .await?;
        let events = self.store.read_indexes(&[index]).await?;
        if events.iter().any(|event| leaf_of(&event.bytes) != leaf) {
            return Err(TransparencyError::Altered { index });
        }
        Ok(EventProof {
            index,
            leaf_hash: leaf,
            hashes,
            checkpoint,
        })
    }

    /// The key that verifies checkpoints; none when the log has stopped before it began.
    pub fn verifier_key(&self) -> Option<&VerifierKey> {
        self.shared.opened.as_ref().map(|opened| &opened.verifier)
    }

    /// How many events the tree has.
    pub fn size(&self) -> u64 {
        self.shared.progress.borrow().size
    }

    /// Why nothing more is published, when that is so.
    pub fn failed(&self) -> Option<String> {
        self.shared.failure()
    }

    /// Publishes what happened last and stops following the log. Idempotent. Close it before the store.
    pub async fn close(&self) {
        if !*self.stop.borrow() && self.failed().is_none() {
            // The next start, or the next who asks, makes it otherwise.
            let last = self.checkpoint_now();
            match tokio::time::timeout(LAST_CHECKPOINT, last).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the last checkpoint could not be published"),
                Err(_) => tracing::warn!("the last checkpoint could not be published in time"),
            }
        }
        self.stop.send_replace(true);
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower {
            // Fails only when the thread panicked, which `failed` then says.
            let _ = tokio::task::spawn_blocking(move || follower.join()).await;
        }
    }

    fn newest(&self) -> Option<SignedCheckpoint> {
        self.shared
            .newest
            .borrow()
            .as_ref()
            .map(|(newest, _)| (**newest).clone())
    }

    /// The newest checkpoint, when no newer one is due.
    fn fresh(&self) -> Option<SignedCheckpoint> {
        let newest = self.shared.newest.borrow();
        let (newest, published) = newest.as_ref()?;
        let is_fresh =
            newest.size >= self.store.log_size() || published.is_some_and(|at| at.elapsed() < self.publish_interval);
        is_fresh.then(|| (**newest).clone())
    }

    fn is_published(&self, id: TileId, width: u64) -> bool {
        self.newest().is_some_and(|newest| id.width_in(newest.size) >= width)
    }

    async fn proven(&self) -> Result<(), TransparencyError> {
        self.wait(|progress| progress.is_proven).await
    }

    async fn reach(&self, size: u64) -> Result<(), TransparencyError> {
        let log_size = self.store.log_size();
        if size > log_size {
            return Err(TransparencyError::NotThatLong { size, log_size });
        }
        self.wait(|progress| progress.is_proven && progress.size >= size).await
    }

    async fn wait(&self, is_there: impl Fn(&Progress) -> bool) -> Result<(), TransparencyError> {
        let mut progress = self.shared.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.failure.is_some() || is_there(progress));
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(progress)) => match &progress.failure {
                Some(failure) => Err(TransparencyError::Stopped(failure.to_string())),
                None => Ok(()),
            },
            // The sender is `self`'s.
            Ok(Err(_)) => Err(TransparencyError::Stopped("the transparent log is closed".into())),
            Err(_) => Err(TransparencyError::NotCaughtUp),
        }
    }

    /// Reads files where it may block, as soon as it is this one's turn.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, TransparencyError> + Send + 'static,
    ) -> Result<T, TransparencyError> {
        let turn = self.turn(&self.running).await?;
        let shared = self.shared.clone();
        holding(turn, move || work(&shared)).await
    }

    /// A place among those who wait, and one among those who work.
    async fn turn(&self, working: &Arc<Semaphore>) -> Result<Turn, TransparencyError> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| TransparencyError::Overloaded)?;
        // The semaphores are never closed.
        let working = working.clone().acquire_owned().await;
        Ok((place, working.map_err(|_| TransparencyError::Overloaded)?))
    }
}

/// The permits of one request.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Works where it may block. Whoever asked may go: the work goes on, and keeps its turn until it is done.
async fn holding<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> Result<T, TransparencyError> + Send + 'static,
) -> Result<T, TransparencyError> {
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    working
        .await
        .unwrap_or_else(|broken| Err(TransparencyError::BrokenOff(broken.to_string())))
}

/// The events as a bundle, each held against its leaf.
fn bundle(events: &[StoredEvent], tile: &Tile) -> Result<Vec<u8>, TransparencyError> {
    let mut bundle = Vec::new();
    for (event, leaf) in events.iter().zip(tile.hashes()) {
        if leaf_of(&event.bytes) != *leaf {
            return Err(TransparencyError::Altered { index: event.index });
        }
        if remains(&event.bytes).is_some() {
            return Err(TransparencyError::Removed { index: event.index });
        }
        // An event is never longer: the store refuses it.
        let length = u16::try_from(event.bytes.len()).unwrap_or(u16::MAX);
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(&event.bytes);
    }
    Ok(bundle)
}

impl Drop for Transparency {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Shared {
    /// Signs the checkpoint over the first `size` events, and keeps it when it is the newest. One that is kept already
    /// is answered as it is kept.
    pub fn publish(&self, size: u64) -> Result<SignedCheckpoint, TransparencyError> {
        let opened = self.opened()?;
        if let Some(failure) = self.failure() {
            return Err(TransparencyError::Stopped(failure));
        }
        let file = opened.published.lock().unwrap_or_else(PoisonError::into_inner);
        let root = self.root(size)?;
        let known = file.of_size(size)?;
        let checkpoint = match &known {
            Some(known) => {
                let said = opened.verifier.checkpoint(&known.note);
                if !said.is_ok_and(|said| (said.size, said.root) == (size, root)) {
                    let reason = mismatch(size);
                    self.stop(reason.clone());
                    return Err(TransparencyError::Stopped(reason));
                }
                SignedCheckpoint {
                    size,
                    root,
                    text: known.note.clone(),
                }
            }
            None => {
                let newest = self.newest.borrow().as_ref().map(|(newest, _)| newest.clone());
                match newest.filter(|newest| newest.size > size) {
                    Some(newest) => self.prove_consistency((size, &root), (newest.size, &newest.root))?,
                    None => file.keep(size, &root, &opened.sign(size, root).text)?,
                }
                opened.sign(size, root)
            }
        };
        drop(file);
        self.newest.send_if_modified(|newest| {
            let is_newer = newest.as_ref().is_none_or(|(newest, _)| newest.size < size);
            if is_newer || newest.as_ref().is_some_and(|(newest, _)| newest.size == size) {
                *newest = Some((Arc::new(checkpoint.clone()), Some(Instant::now())));
            }
            is_newer
        });
        Ok(checkpoint)
    }

    /// Publishes the tree as far as it has come: all that it has is durable.
    fn publish_newest(&self) -> Result<SignedCheckpoint, TransparencyError> {
        let reached = self.progress.borrow().size;
        let checkpoint = self.publish(reached)?;
        // Somebody may have published more meanwhile: that one is kept.
        let newest = self.newest.borrow();
        let newer = newest.as_ref().filter(|(newest, _)| newest.size > checkpoint.size);
        Ok(newer.map_or(checkpoint, |(newest, _)| (**newest).clone()))
    }

    /// Proves as a client would that the tree that was published begins with the one that is about to be.
    fn prove_consistency(&self, old: (u64, &Hash), new: (u64, &Hash)) -> Result<(), TransparencyError> {
        let proof = match old.0 {
            0 => Vec::new(), // every tree begins with the empty one
            size => self.with_tiles(|tiles| merkle::consistency_proof(&mut TileNodes(tiles), size, new.0))?,
        };
        merkle::verify_consistency(old, new, &proof).map_err(|_| {
            let reason = mismatch(new.0);
            self.stop(reason.clone());
            TransparencyError::Stopped(reason)
        })
    }

    /// Whether a kept checkpoint is over so many events, or more.
    fn has_published(&self, size: u64) -> bool {
        self.newest
            .borrow()
            .as_ref()
            .is_some_and(|(newest, _)| newest.size >= size)
    }

    /// How many events the newest published checkpoint is over.
    pub fn published_size(&self) -> u64 {
        self.newest.borrow().as_ref().map_or(0, |(newest, _)| newest.size)
    }

    /// The root of the tree of the first `size` events.
    pub fn root(&self, size: u64) -> Result<Hash, TransparencyError> {
        self.with_tiles(|tiles| merkle::root(&mut TileNodes(tiles), size))
    }

    /// Shows the requests the tree as it is now. Its full tiles must be in the file.
    pub fn show(&self, edge: Edge) {
        if let Some(opened) = &self.opened {
            *opened.edge.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(edge);
        }
    }

    /// Why nothing more is published.
    pub fn failure(&self) -> Option<String> {
        self.progress.borrow().failure.as_deref().map(str::to_owned)
    }

    /// Says why nothing more will be published, loudly.
    pub fn stop(&self, reason: String) {
        tracing::error!("{reason}");
        self.end(&reason);
    }

    /// The same without a word to the operator.
    pub fn end(&self, reason: &str) {
        self.progress.send_modify(|progress| {
            progress.failure.get_or_insert_with(|| reason.into());
        });
    }

    fn opened(&self) -> Result<&Opened, TransparencyError> {
        self.opened
            .as_ref()
            .ok_or_else(|| TransparencyError::Stopped(self.failure().unwrap_or_default()))
    }

    /// Lends the tiles of the tree as it is now.
    fn with_tiles<T>(&self, read: impl FnOnce(&mut ShownTiles) -> rusqlite::Result<T>) -> Result<T, TransparencyError> {
        let opened = self.opened()?;
        // The edge first: the full tiles below it are in the file already.
        let edge = opened.edge.read().unwrap_or_else(PoisonError::into_inner).clone();
        let idle = opened.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => TileReader::open(&opened.tile_path)?,
        };
        let mut tiles = ShownTiles {
            reader,
            edge,
            seen: HashMap::new(),
        };
        let result = read(&mut tiles);
        let mut readers = opened.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS {
            readers.push(tiles.reader);
        }
        Ok(result?)
    }
}

impl Opened {
    fn sign(&self, size: u64, root: Hash) -> SignedCheckpoint {
        let body = Checkpoint {
            origin: self.verifier.name().to_owned(),
            size,
            root,
        }
        .to_string();
        let signature = Signature {
            name: self.verifier.name().to_owned(),
            key_id: self.verifier.key_id(),
            bytes: self.key.sign(&body),
        };
        let note = Note {
            text: body,
            signatures: vec![signature],
        };
        SignedCheckpoint {
            size,
            root,
            text: note.to_string(),
        }
    }
}

/// The full tiles in the file and the incomplete ones in memory. A look-up of one proof meets a tile more than once.
struct ShownTiles {
    reader: TileReader,
    edge: Arc<Edge>,
    seen: HashMap<TileId, Tile>,
}

impl Tiles for ShownTiles {
    type Error = rusqlite::Error;

    fn tile(&mut self, id: TileId, width: u64) -> rusqlite::Result<Tile> {
        if let Some(tile) = self.seen.get(&id) {
            return Ok(tile.clone());
        }
        let found = match self.edge.tile(id) {
            Some(tile) => Some(tile),
            None => self.reader.tile(id)?,
        };
        let tile = found
            .filter(|tile| tile.hashes().len() as u64 >= width)
            .ok_or_else(|| rusqlite::Error::InvalidParameterName(format!("tile {id} is missing")))?;
        self.seen.insert(id, tile.clone());
        Ok(tile)
    }
}

/// What the log's tree and the world's checkpoint of this size have to do with each other: nothing.
pub(super) fn mismatch(size: u64) -> String {
    format!(
        "the log is not the one that was published: the tree of its first {size} events has not the root of the \
         checkpoint that the world has seen, so nothing is published. Run `grantlog audit verify`; restore the log"
    )
}

/// Key and files as they are, checked as far as a start can: the rest is checked while the log is read.
async fn find(
    settings: &TransparencySettings,
    master_key: &MasterKey,
    store: &dyn EventStore,
) -> Result<Found, String> {
    let published_path = published_file(&settings.data_dir);
    let of_published =
        |error: rusqlite::Error| format!("the published checkpoints {}: {error}", published_path.display());
    let known_key = match LogKey::load(&settings.key_file, master_key) {
        Err(LogKeyError::Missing(_)) => None,
        loaded => Some(loaded.map_err(|error| error.to_string())?),
    };
    // The file is made before the key, so a key without the file has lost it, and with it what the world has seen:
    // this log could be an older one, and nobody could tell. A first start that was cut short has the file alone.
    let published = match known_key {
        Some(_) if settings.signers == Signers::One => PublishedFile::open_existing(&published_path)
            .map_err(of_published)?
            .ok_or_else(|| {
                format!(
                    "{} is missing, and the key {} has signed for this log before: restore it. Without it nobody can \
                     tell whether the log was rolled back, so nothing is published",
                    published_path.display(),
                    settings.key_file.display()
                )
            })?,
        // What other nodes have published is not known here, and does not have to be: their keys are this one.
        _ => PublishedFile::open(&published_path).map_err(of_published)?,
    };
    let newest = published.newest().map_err(of_published)?;
    let key = find_key(settings, master_key, known_key, newest.is_some())?;
    let public = key.public();
    let verifier = VerifierKey::new(&public.name, public.public_key).ok_or_else(|| {
        format!(
            "{}: a log cannot be called {:?}",
            settings.key_file.display(),
            public.name
        )
    })?;
    let expected = match newest {
        None => None,
        Some(newest) => {
            let said = verifier.checkpoint(&newest.note).map_err(|error| {
                let path = published_path.display();
                format!(
                    "{path}: the checkpoint of {} events is not to be believed: {error}",
                    newest.size
                )
            })?;
            if said.size != newest.size {
                return Err(format!(
                    "{}: the checkpoint of {} events is kept as one of {}",
                    published_path.display(),
                    said.size,
                    newest.size
                ));
            }
            Some(SignedCheckpoint {
                size: said.size,
                root: said.root,
                text: newest.note,
            })
        }
    };
    let (size, log_size) = (expected.as_ref().map_or(0, |expected| expected.size), store.log_size());
    if log_size < size {
        return Err(format!(
            "the log was rolled back: it has {log_size} events, and a checkpoint of {size} was published, so nothing \
             is published. Restore the log; what is recorded meanwhile makes it another"
        ));
    }
    let tile_path = tile_file(&settings.data_dir);
    let (writer, edge) = find_tiles(&tile_path, store, size).await?;
    let opened = Opened {
        key,
        verifier,
        tile_path,
        edge: RwLock::new(Arc::new(edge.clone())),
        readers: Mutex::default(),
        published: Mutex::new(published),
    };
    Ok(Found {
        opened,
        writer,
        edge,
        expected,
    })
}

/// The key in the file; else a new one, when nothing was signed yet.
fn find_key(
    settings: &TransparencySettings,
    master_key: &MasterKey,
    known: Option<LogKey>,
    is_needed: bool,
) -> Result<LogKey, String> {
    let key = match known {
        Some(key) => {
            check_others_have_it(settings, master_key, &key)?;
            key
        }
        None if is_needed => {
            return Err(format!(
                "the key {} is missing, and checkpoints were signed with it: restore it. A new one would be the key \
                 of another log",
                settings.key_file.display()
            ));
        }
        None => {
            let name = settings.origin.as_ref().unwrap_or(&settings.default_origin);
            let path = &settings.key_file;
            match settings.signers {
                Signers::One => LogKey::create(path, master_key, name),
                Signers::AllNodes => LogKey::derive(path, master_key, name),
                Signers::AllWhoHaveTheFile => Err(LogKeyError::Missing(path.clone())),
            }
            .map_err(|error| error.to_string())?
        }
    };
    match &settings.origin {
        Some(origin) if *origin != key.public().name => Err(format!(
            "transparency.origin is {origin:?}, but the log in {} is called {:?}, and its checkpoints are out under that \
             name",
            settings.key_file.display(),
            key.public().name
        )),
        _ => Ok(key),
    }
}

/// A log that was moved from a server alone has the random key that this one made, and nodes without its file would
/// derive another: one log, signed with two keys.
fn check_others_have_it(settings: &TransparencySettings, master_key: &MasterKey, key: &LogKey) -> Result<(), String> {
    if settings.signers != Signers::AllNodes || key.is_derived_from(master_key).map_err(|error| error.to_string())? {
        return Ok(());
    }
    Err(format!(
        "the key {} is not the one that the other nodes derive from the master key: the log was moved from a server \
         that made it for itself. So nothing is published. Give this file to all nodes with the role \"audit\" by \
         transparency.key_file, this one included",
        settings.key_file.display()
    ))
}

/// The tiles of this log. Those of another are made again, unless they contradict what was published.
async fn find_tiles(path: &Path, store: &dyn EventStore, published: u64) -> Result<(TileWriter, Edge), String> {
    let of_tiles = |error: rusqlite::Error| format!("the tiles {}: {error}", path.display());
    let stale = match TileWriter::open(path) {
        Ok((writer, edge)) => match misfit(path, &edge, store).await? {
            None => return Ok((writer, edge)),
            Some(Misfit::Altered(index)) if index < published => {
                return Err(format!(
                    "the log was altered: event {index} is not the one that was published, so nothing is published. \
                     Run `grantlog audit verify`; restore the log"
                ));
            }
            Some(Misfit::Altered(index)) => format!("event {index} of the log is not the one that they were made of"),
            Some(Misfit::Longer) => "they are of more events than the log has".to_owned(),
        },
        Err(Unusable::Stale(reason)) => reason,
        Err(Unusable::Failed(error)) => return Err(of_tiles(error)),
    };
    tracing::warn!(path = %path.display(), reason = stale, "the tiles are dropped and made again from the log");
    rebuildable::remove(path).map_err(|error| format!("the tiles {} cannot be removed: {error}", path.display()))?;
    TileWriter::open(path).map_err(|unusable| match unusable {
        Unusable::Failed(error) => of_tiles(error),
        Unusable::Stale(reason) => format!("the tiles {}: {reason}", path.display()),
    })
}

enum Misfit {
    Longer,
    Altered(u64),
}

/// Compares the newest full tiles with the log.
async fn misfit(path: &Path, edge: &Edge, store: &dyn EventStore) -> Result<Option<Misfit>, String> {
    if edge.size() > store.log_size() {
        return Ok(Some(Misfit::Longer));
    }
    let of_tiles = |error: rusqlite::Error| format!("the tiles {}: {error}", path.display());
    let reader = TileReader::open(path).map_err(of_tiles)?;
    let mut next = edge.size().saturating_sub(EVENTS_CHECKED_AT_START);
    while next < edge.size() {
        let wanted = usize::try_from(edge.size() - next)
            .unwrap_or(usize::MAX)
            .min(MAX_EVENTS_PER_READ);
        let events = store.read_all(next, Direction::Forwards, wanted).await;
        let events = events.map_err(|error| error.to_string())?;
        for bundle in events.chunks(TILE_HASHES as usize) {
            let number = next / TILE_HASHES;
            let tile = reader.tile(TileId { level: 0, number }).map_err(of_tiles)?;
            let hashes = tile.as_ref().map_or(&[][..], Tile::hashes);
            for (place, event) in bundle.iter().enumerate() {
                if hashes.get(place) != Some(&leaf_of(&event.bytes)) {
                    return Ok(Some(Misfit::Altered(event.index)));
                }
                next = event.index + 1;
            }
        }
        if events.is_empty() {
            break;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{CompactRange, leaf_hash, verify_consistency};
    use super::*;
    use crate::audit::memory_log::{MemoryLog, tokens};
    use tempfile::TempDir;

    struct Folder {
        folder: TempDir,
        master: MasterKey,
    }

    impl Folder {
        fn new() -> Self {
            let (folder, master) = (tempfile::tempdir().unwrap(), MasterKey::generate().unwrap());
            Self { folder, master }
        }

        fn settings(&self) -> TransparencySettings {
            TransparencySettings {
                data_dir: self.folder.path().to_owned(),
                key_file: self.folder.path().join("transparency.key"),
                signers: Signers::One,
                origin: None,
                default_origin: "grantlog.example.com/audit".into(),
                publish_interval: Duration::ZERO,
            }
        }

        async fn open(&self, store: &Arc<MemoryLog>) -> Transparency {
            Transparency::open(self.settings(), &self.master, store.clone()).await
        }

        /// A log of so many events, published, and closed again.
        async fn published(&self, events: i64) -> Arc<MemoryLog> {
            let log = MemoryLog::of(&tokens(events));
            let transparency = self.open(&log).await;
            assert_eq!(transparency.latest().await.unwrap().size, events as u64);
            transparency.close().await;
            log
        }

        fn remove(&self, name: &str) {
            rebuildable::remove(&self.folder.path().join(name)).unwrap();
        }
    }

    #[tokio::test]
    async fn a_new_node_with_the_key_of_the_others_goes_on_where_they_are() {
        let (here, there) = (Folder::new(), Folder::new());
        let log = here.published(3).await;
        std::fs::copy(here.settings().key_file, there.settings().key_file).unwrap();
        let settings = TransparencySettings {
            signers: Signers::AllWhoHaveTheFile,
            ..there.settings()
        };
        let node = Transparency::open(settings, &here.master, log.clone()).await;
        assert_eq!(node.latest().await.unwrap().size, 3);
        node.close().await;
    }

    #[tokio::test]
    async fn a_node_that_was_not_given_the_file_of_the_key_makes_none() {
        let folder = Folder::new();
        let settings = TransparencySettings {
            signers: Signers::AllWhoHaveTheFile,
            ..folder.settings()
        };
        let node = Transparency::open(settings, &folder.master, MemoryLog::of(&tokens(3))).await;
        assert!(refused(&node).await.contains("there is no key"));
        assert!(!folder.settings().key_file.exists());
    }

    #[tokio::test]
    async fn a_key_that_a_server_alone_made_must_be_given_to_all_nodes_before_any_of_them_signs() {
        let folder = Folder::new();
        let log = folder.published(3).await;
        let signed_by = |signers| TransparencySettings {
            signers,
            ..folder.settings()
        };
        let node = Transparency::open(signed_by(Signers::AllNodes), &folder.master, log.clone()).await;
        let reason = refused(&node).await;
        assert!(reason.contains("by transparency.key_file"), "{reason}");
        node.close().await;
        let node = Transparency::open(signed_by(Signers::AllWhoHaveTheFile), &folder.master, log).await;
        assert_eq!(node.latest().await.unwrap().size, 3);
        node.close().await;
    }

    #[tokio::test]
    async fn a_key_that_a_node_has_derived_is_its_key_after_a_restart() {
        let folder = Folder::new();
        let settings = TransparencySettings {
            signers: Signers::AllNodes,
            ..folder.settings()
        };
        let log = MemoryLog::of(&tokens(3));
        for _ in 0..2 {
            let node = Transparency::open(settings.clone(), &folder.master, log.clone()).await;
            assert_eq!(node.latest().await.unwrap().size, 3);
            node.close().await;
        }
    }

    async fn root_of(log: &MemoryLog, size: u64) -> Hash {
        let mut range = CompactRange::default();
        while range.size() < size {
            let wanted = (size - range.size()) as usize;
            for event in log.read_all(range.size(), Direction::Forwards, wanted).await.unwrap() {
                range.push(leaf_hash(&event.bytes));
            }
        }
        range.root()
    }

    /// Published or refused within a test's patience.
    async fn refused(transparency: &Transparency) -> String {
        match transparency.latest().await {
            Err(TransparencyError::Stopped(reason)) => {
                assert_eq!(transparency.failed(), Some(reason.clone()));
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_whose_client_has_gone_keeps_its_turn_until_its_work_is_done() {
        let folder = Folder::new();
        let log = folder.published(300).await;
        let transparency = folder.open(&log).await;
        assert_eq!(transparency.latest().await.unwrap().size, 300);
        let id = TileId { level: 0, number: 0 };
        {
            // Their blocking parts wait for it.
            let _held = transparency.shared.opened.as_ref().unwrap().readers.lock().unwrap();
            for _ in 0..2 * READERS {
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                let request = std::pin::pin!(transparency.tile(id, TILE_HASHES));
                assert!(request.poll(&mut context).is_pending());
            }
            assert_eq!(transparency.running.available_permits(), 0);
        }
        let all = transparency.running.acquire_many(READERS as u32);
        drop(tokio::time::timeout(PATIENCE, all).await.unwrap().unwrap());
        assert!(transparency.entries(0, TILE_HASHES).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_checkpoint_is_of_any_durable_size_and_always_the_same() {
        let folder = Folder::new();
        let log = MemoryLog::of(&tokens(700));
        let transparency = folder.open(&log).await;
        let key = transparency.verifier_key().unwrap().clone();
        let mut last = None;
        for size in [0, 1, 255, 256, 257, 513, 700] {
            let checkpoint = transparency.checkpoint_at(size).await.unwrap();
            assert_eq!(checkpoint.root, root_of(&log, size).await, "{size}");
            let said = key.checkpoint(&checkpoint.text).unwrap();
            assert_eq!((said.size, said.root), (size, checkpoint.root));
            assert_eq!(transparency.checkpoint_at(size).await.unwrap(), checkpoint);
            last = Some(checkpoint);
        }
        let beyond = transparency.checkpoint_at(701).await;
        assert!(matches!(
            beyond,
            Err(TransparencyError::NotThatLong {
                size: 701,
                log_size: 700
            })
        ));
        transparency.close().await;
        let again = folder.open(&log).await;
        assert_eq!(again.checkpoint_at(700).await.ok(), last, "after a restart too");
    }

    #[tokio::test]
    async fn the_newest_checkpoint_follows_the_log_and_never_goes_back() {
        let folder = Folder::new();
        let log = MemoryLog::of(&tokens(10));
        let transparency = folder.open(&log).await;
        assert_eq!(transparency.latest().await.unwrap().size, 10);
        log.add(&tokens(300));
        assert_eq!(transparency.latest().await.unwrap().size, 310);
        transparency.checkpoint_at(20).await.unwrap();
        assert_eq!(transparency.latest().await.unwrap().size, 310);
    }

    #[tokio::test]
    async fn whatever_sizes_are_asked_for_only_ends_of_the_log_are_kept() {
        let folder = Folder::new();
        let log = folder.published(300).await;
        let kept = || {
            let file = PublishedFile::open(&published_file(folder.folder.path())).unwrap();
            let mut sizes = Vec::new();
            file.for_each(|checkpoint| sizes.push(checkpoint.size)).unwrap();
            sizes
        };
        let before = kept();
        let transparency = folder.open(&log).await;
        let mut asked = Vec::new();
        for size in 0..300 {
            asked.push(transparency.checkpoint_at(size).await.unwrap());
        }
        assert_eq!(kept(), before);
        // Beyond the newest: what is kept reaches it before it leaves.
        log.add(&tokens(50));
        asked.push(transparency.checkpoint_at(320).await.unwrap());
        let after = kept();
        assert!(
            after.len() == before.len() + 1 && after.last() >= Some(&320),
            "{after:?}"
        );
        transparency.close().await;
        let again = folder.open(&log).await;
        for checkpoint in asked {
            assert_eq!(again.checkpoint_at(checkpoint.size).await.unwrap(), checkpoint);
        }
    }

    #[tokio::test]
    async fn a_key_whose_checkpoints_are_lost_signs_nothing_and_makes_no_new_file() {
        let folder = Folder::new();
        folder.published(600).await;
        folder.remove("checkpoints.db");
        let shorter = MemoryLog::of(&tokens(500));
        for _ in 0..2 {
            let reason = refused(&folder.open(&shorter).await).await;
            assert!(reason.contains("checkpoints.db is missing, and the key "), "{reason}");
            assert!(!published_file(folder.folder.path()).exists());
        }
        std::fs::write(published_file(folder.folder.path()), []).unwrap();
        for _ in 0..2 {
            let reason = refused(&folder.open(&shorter).await).await;
            assert!(reason.contains("checkpoints.db is missing"), "emptied: {reason}");
        }
    }

    #[tokio::test]
    async fn a_first_start_that_was_cut_short_goes_on() {
        for is_empty in [false, true] {
            let folder = Folder::new();
            let path = published_file(folder.folder.path());
            if is_empty {
                std::fs::write(&path, []).unwrap();
            } else {
                drop(PublishedFile::open(&path).unwrap());
            }
            folder.published(10).await;
        }
        // The key was made, and nothing was published yet.
        let folder = Folder::new();
        let log = MemoryLog::of(&tokens(10));
        drop(folder.open(&log).await);
        folder.published(10).await;
    }

    #[tokio::test]
    async fn a_checkpoint_is_made_at_most_so_often_and_at_once_for_a_proof() {
        let folder = Folder::new();
        let log = MemoryLog::of(&tokens(10));
        let settings = TransparencySettings {
            publish_interval: Duration::from_secs(3_600),
            ..folder.settings()
        };
        let transparency = Transparency::open(settings, &folder.master, log.clone()).await;
        assert_eq!(transparency.latest().await.unwrap().size, 10);
        log.add(&tokens(1));
        assert_eq!(transparency.latest().await.unwrap().size, 10);
        assert_eq!(transparency.proof(9).await.unwrap().checkpoint.size, 10);
        assert_eq!(transparency.proof(10).await.unwrap().checkpoint.size, 11);
        assert_eq!(transparency.latest().await.unwrap().size, 11);
    }

    #[tokio::test]
    async fn a_proof_proves_its_event_and_no_other() {
        let folder = Folder::new();
        let log = MemoryLog::of(&tokens(600));
        let transparency = folder.open(&log).await;
        let key = transparency.verifier_key().unwrap().clone();
        for index in [0, 255, 256, 599] {
            let text = transparency.proof(index).await.unwrap().to_text().unwrap();
            let bytes = log.read_indexes(&[index]).await.unwrap()[0].bytes.clone();
            let (proven, checkpoint) = key.inclusion(&text, &leaf_hash(&bytes)).unwrap();
            assert_eq!((proven, checkpoint.size), (index, 600));
            assert!(key.inclusion(&text, &leaf_hash(b"another")).is_err());
        }
        let beyond = transparency.proof(600).await;
        assert!(matches!(beyond, Err(TransparencyError::NotThatLong { .. })));
    }

    #[tokio::test]
    async fn only_what_is_published_is_served_and_tiles_give_every_root() {
        let folder = Folder::new();
        let log = MemoryLog::of(&tokens(600));
        let settings = TransparencySettings {
            publish_interval: Duration::from_secs(3_600),
            ..folder.settings()
        };
        let transparency = Transparency::open(settings, &folder.master, log.clone()).await;
        let id = |level, number| TileId { level, number };
        assert_eq!(
            transparency.tile(id(0, 0), 256).await.unwrap(),
            None,
            "nothing is published yet"
        );
        transparency.latest().await.unwrap();
        log.add(&tokens(200));
        assert_eq!(transparency.checkpoint_at(0).await.unwrap().size, 0);
        assert_eq!(transparency.tile(id(0, 2), 88).await.unwrap().unwrap().len(), 88 * 32);
        assert_eq!(transparency.tile(id(0, 2), 89).await.unwrap(), None);
        assert_eq!(transparency.tile(id(1, 0), 2).await.unwrap().unwrap().len(), 64);
        assert_eq!(transparency.tile(id(1, 0), 3).await.unwrap(), None);
        let tile = transparency.tile(id(0, 1), 256).await.unwrap().unwrap();
        let bundle = transparency.entries(1, 256).await.unwrap().unwrap();
        let mut rest = &bundle[..];
        for hash in tile.as_chunks::<32>().0 {
            let (length, more) = rest.split_first_chunk::<2>().unwrap();
            let (entry, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
            assert_eq!(leaf_hash(entry), *hash);
            rest = more;
        }
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn every_checkpoint_is_consistent_with_every_earlier_one() {
        let folder = Folder::new();
        let log = MemoryLog::of(&tokens(300));
        let transparency = folder.open(&log).await;
        let mut checkpoints = vec![transparency.latest().await.unwrap()];
        for more in [1, 211, 1, 255] {
            log.add(&tokens(more));
            checkpoints.push(transparency.latest().await.unwrap());
        }
        let shared = &transparency.shared;
        for (n, new) in checkpoints.iter().enumerate() {
            for old in &checkpoints[..n] {
                let proof = shared
                    .with_tiles(|tiles| merkle::consistency_proof(&mut TileNodes(tiles), old.size, new.size))
                    .unwrap();
                verify_consistency((old.size, &old.root), (new.size, &new.root), &proof).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn lost_tiles_are_made_again_and_held_against_what_was_published() {
        let folder = Folder::new();
        let log = folder.published(600).await;
        folder.remove("tiles.db");
        log.add(&tokens(5));
        let transparency = folder.open(&log).await;
        assert_eq!(transparency.latest().await.unwrap().root, root_of(&log, 605).await);
        assert_eq!(transparency.failed(), None);
    }

    #[tokio::test]
    async fn a_log_that_was_rolled_back_is_not_published_and_the_evidence_stays() {
        let folder = Folder::new();
        let log = folder.published(600).await;
        let newest = |folder: &Folder| {
            PublishedFile::open(&published_file(folder.folder.path()))
                .unwrap()
                .newest()
                .unwrap()
        };
        let evidence = newest(&folder);
        let shorter = MemoryLog::of(&tokens(599));
        let transparency = folder.open(&shorter).await;
        let reason = refused(&transparency).await;
        assert!(
            reason.contains("rolled back: it has 599 events, and a checkpoint of 600"),
            "{reason}"
        );
        assert!(matches!(
            transparency.proof(3).await,
            Err(TransparencyError::Stopped(_))
        ));
        assert!(matches!(
            transparency.checkpoint_at(3).await,
            Err(TransparencyError::Stopped(_))
        ));
        transparency.close().await;
        // It grows again, into another log of that size: no better.
        let mut other = tokens(700);
        other.iter_mut().skip(590).for_each(|fact| fact.micros += 1);
        let transparency = folder.open(&MemoryLog::of(&other)).await;
        assert!(refused(&transparency).await.contains("600"));
        transparency.close().await;
        assert_eq!(newest(&folder), evidence);
        // The log as it was is published on.
        assert_eq!(folder.open(&log).await.latest().await.unwrap().size, 600);
    }

    #[tokio::test]
    async fn an_altered_log_is_found_by_its_tiles_or_by_its_checkpoint() {
        for without_tiles in [false, true] {
            let folder = Folder::new();
            folder.published(600).await;
            if without_tiles {
                folder.remove("tiles.db");
            }
            let mut altered = tokens(600);
            altered[300].client_id = Some("reports");
            let transparency = folder.open(&MemoryLog::of(&altered)).await;
            let reason = refused(&transparency).await;
            let expected = if without_tiles { "first 600 events" } else { "event 300" };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[tokio::test]
    async fn an_altered_event_gets_no_proof_even_where_a_start_does_not_look() {
        let folder = Folder::new();
        let events = EVENTS_CHECKED_AT_START as i64 + 600;
        folder.published(events).await;
        let mut altered = tokens(events);
        altered[5].client_id = Some("reports");
        let transparency = folder.open(&MemoryLog::of(&altered)).await;
        transparency.latest().await.unwrap();
        assert!(matches!(
            transparency.proof(5).await,
            Err(TransparencyError::Altered { index: 5 })
        ));
        assert!(matches!(
            transparency.entries(0, 6).await,
            Err(TransparencyError::Altered { index: 5 })
        ));
        assert!(transparency.proof(6).await.is_ok());
    }

    #[tokio::test]
    async fn a_checkpoint_that_was_edited_or_a_key_that_is_lost_stops_it() {
        let folder = Folder::new();
        let log = folder.published(10).await;
        let key = std::fs::read(folder.settings().key_file).unwrap();
        std::fs::remove_file(folder.settings().key_file).unwrap();
        assert!(
            refused(&folder.open(&log).await)
                .await
                .contains("is missing, and checkpoints were signed")
        );
        std::fs::write(folder.settings().key_file, key).unwrap();
        let renamed = TransparencySettings {
            origin: Some("other.example.com".into()),
            ..folder.settings()
        };
        let transparency = Transparency::open(renamed, &folder.master, log.clone()).await;
        assert!(refused(&transparency).await.contains("other.example.com"));
        rusqlite::Connection::open(published_file(folder.folder.path()))
            .unwrap()
            .execute("UPDATE checkpoint SET note = replace(note, 'audit', 'Audit')", [])
            .unwrap();
        assert!(refused(&folder.open(&log).await).await.contains("not to be believed"));
    }
}
