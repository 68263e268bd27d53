//! A data folder, read and not changed, a server may be running over it: every event, every tile, every checkpoint.

use super::export::{ExportFile, InLog};
use super::findings::{Check, Findings};
use super::removals::{Removal, RemovalCheck};
use super::streams::{Place, Streams};
use super::tree::{Expected, TreeCheck, expected};
use crate::audit::transparency::leaf::leaf_of;
use crate::audit::transparency::merkle::{self, Hash, verify_consistency, verify_inclusion};
use crate::audit::transparency::published::PublishedFile;
use crate::audit::transparency::tile_file::{TileReader, Unusable};
use crate::audit::transparency::tiles::{Edge, Tile, TileId, TileNodes, Tiles};
use crate::audit::transparency::verifier::VerifierKey;
use crate::audit::transparency::{published_file, tile_file};
use crate::event_store::{Direction, EventStore, ReadError, StoredEvent, codec};
use futures_util::{StreamExt, stream};
use grantlog_projections::values::{StreamName, Timestamp};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Events that are read and hashed at a time.
const BATCH_EVENTS: u64 = 1_024;
/// Batches that are under way for each core.
const BATCHES_PER_CORE: usize = 2;
/// Events of which a proof is made from the tiles.
const PROVEN_EVENTS: u64 = 64;
/// Between a log's first event and one at whose time a checkpoint must have been published, in seconds: one is made
/// once a minute when the log has grown, and at an orderly stop.
const PUBLISHED_WITHIN_SECONDS: i64 = 600;
/// Checkpoints of which a proof is made from the tiles.
const PROVEN_CHECKPOINTS: usize = 64;

/// Why a folder cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The work was broken off.
    #[error("the verification was broken off: {0}")]
    BrokenOff(String),
}

/// What a data folder says about its log, as it was when this was read: before the log is opened, so that a running
/// server has published nothing that the log does not hold.
pub struct Folder {
    published: Vec<Expected>,
    /// Why none is kept, though this server alone signs for the log.
    unpublished: Option<Unpublished>,
    tiles: Option<(TileReader, Edge)>,
}

/// Why a folder keeps no checkpoint that was published.
struct Unpublished {
    path: PathBuf,
    /// Whether there is no file, which a server makes before it signs anything.
    is_lost: bool,
}

impl Unpublished {
    /// A log without a checkpoint can have been rolled back, and nobody could tell.
    fn hold(&self, log_size: u64, times: Option<(Timestamp, Timestamp)>, findings: &mut Findings) {
        let path = self.path.display();
        // Only a log that has hardly begun has none published yet.
        let is_young = times.is_none_or(|(first, last)| last <= first.plus_seconds(PUBLISHED_WITHIN_SECONDS));
        match (log_size, self.is_lost) {
            (0, _) => findings.note(format!("{path} has no checkpoint, and the log no event")),
            (_, true) => findings.failed(
                Check::Checkpoints,
                format!(
                    "{path} is not there or empty, so nobody can tell whether the log was rolled back: restore it, or give a \
                     checkpoint that you have kept (--checkpoint)"
                ),
            ),
            (_, false) if is_young => {
                findings
                    .note("no checkpoint is published yet: a server publishes one within a minute, and when it stops");
            }
            (_, false) => findings.failed(
                Check::Checkpoints,
                format!(
                    "{path} has no checkpoint, though the log is old enough to have been published: restore it, or \
                     give a checkpoint that you have kept (--checkpoint); if no server ever ran over it for a minute, \
                     start one and ask again when it has published"
                ),
            ),
        }
    }
}

impl Folder {
    /// Reads the published checkpoints and looks at the tiles. `publishes`: whether this folder's server, and nobody
    /// else, publishes the log.
    pub async fn read(
        data_dir: &Path,
        key: &VerifierKey,
        publishes: bool,
        findings: &mut Findings,
    ) -> Result<Self, FolderError> {
        let (data_dir, key) = (data_dir.to_owned(), key.clone());
        let (folder, found) = tokio::task::spawn_blocking(move || {
            let mut findings = Findings::default();
            let folder = Self::look(&data_dir, &key, publishes, &mut findings);
            (folder, findings)
        })
        .await
        .map_err(|error| FolderError::BrokenOff(error.to_string()))?;
        for failure in found.failures {
            (0..failure.count).for_each(|_| findings.failed(failure.check, failure.first.clone()));
        }
        found.notes.into_iter().for_each(|note| findings.note(note));
        folder
    }

    fn look(data_dir: &Path, key: &VerifierKey, publishes: bool, findings: &mut Findings) -> Result<Self, FolderError> {
        let (published_path, tile_path) = (published_file(data_dir), tile_file(data_dir));
        let mut published = Vec::new();
        // None: it is not there. How many it keeps.
        let mut kept_count = None;
        let read = PublishedFile::open_read_only(&published_path).and_then(|file| {
            let Some(file) = file else { return Ok(()) };
            kept_count = Some(0_u64);
            file.for_each(|kept| {
                kept_count = kept_count.map(|count| count + 1);
                let name = format!("checkpoint {}", kept.size);
                let said = expected(key, &kept.note, name.clone(), Check::Checkpoints, findings);
                if said
                    .as_ref()
                    .is_some_and(|said| said.size != kept.size || said.root[..] != kept.root[..])
                {
                    findings.failed(
                        Check::Checkpoints,
                        format!("{name}: what is kept beside it is not what it says"),
                    );
                }
                published.extend(said);
            })
        });
        let mut unpublished = None;
        match (read, kept_count) {
            (Err(error), _) => findings.failed(Check::Checkpoints, format!("{}: {error}", published_path.display())),
            (Ok(()), None | Some(0)) if publishes => {
                unpublished = Some(Unpublished {
                    path: published_path,
                    is_lost: kept_count.is_none(),
                });
            }
            // Of several nodes each publishes by itself, and one that has just come has published nothing; one without
            // the role never does.
            (Ok(()), None) => findings.note(format!(
                "{} is not there: no published checkpoint is kept",
                published_path.display()
            )),
            (Ok(()), Some(_)) => {}
        }
        let mut tiles = None;
        if tile_path.exists() {
            let reader = TileReader::open(&tile_path).map_err(|source| FolderError::Database {
                path: tile_path.clone(),
                source,
            })?;
            match reader.edge() {
                Ok(edge) => tiles = Some((reader, edge)),
                Err(Unusable::Stale(reason)) => findings.failed(Check::Tiles, reason),
                Err(Unusable::Failed(error)) => findings.failed(Check::Tiles, error.to_string()),
            }
        } else {
            findings.note(format!(
                "{} is not there: it is made again when the server starts",
                tile_path.display()
            ));
        }
        Ok(Self {
            published,
            unpublished,
            tiles,
        })
    }

    /// Reads the whole log and holds everything against it. `progress` hears how many events are read.
    pub async fn verify(
        mut self,
        store: Arc<dyn EventStore>,
        remembered: Vec<Expected>,
        mut export: Option<ExportFile>,
        findings: &mut Findings,
        mut progress: impl FnMut(u64, u64),
    ) -> VerifiedLog {
        let log_size = store.log_size();
        let mut times: Option<(Timestamp, Timestamp)> = None;
        let unpublished = self.unpublished.take().filter(|_| remembered.is_empty());
        let mut checkpoints = self.published.clone();
        checkpoints.extend(remembered);
        if checkpoints.is_empty() {
            findings.note("an altered log cannot be told without a checkpoint: give one that you have kept");
        }
        let mut tree = TreeCheck::new(checkpoints);
        let mut streams = Streams::default();
        let mut removals = RemovalCheck::of_log();
        let mut tile_count = 0;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let batches = (0..log_size.div_ceil(BATCH_EVENTS)).map(|batch| {
            let store = store.clone();
            async move { examined(store, batch * BATCH_EVENTS, log_size).await }
        });
        let mut batches = stream::iter(batches).buffered(cores * BATCHES_PER_CORE);
        let mut is_whole = true;
        while let Some(batch) = batches.next().await {
            for event in batch.events {
                let index = tree.size();
                if let Some(problem) = &event.problem {
                    findings.failed(Check::Events, problem.clone());
                }
                if let Some((id, stream, time)) = &event.place {
                    times = Some((times.map_or(*time, |(first, _)| first), *time));
                    let kept = Place {
                        stream: event.kept_in.as_deref(),
                        revision: event.revision,
                    };
                    streams.add(index, stream, *id, kept, findings);
                }
                if let Some(export) = &mut export {
                    let in_log = match &event.removal {
                        Some(Removal::Left { .. }) => InLog::Removed,
                        _ => InLog::Whole,
                    };
                    export.compare(index, &event.leaf, in_log, findings);
                }
                if let Some(removal) = event.removal {
                    removals.take(index, removal);
                }
                tree.push(event.leaf, findings, |id, tile, findings| {
                    tile_count += u64::from(self.compare(id, &tile, findings));
                });
            }
            progress(tree.size(), log_size);
            if let Some(error) = batch.error {
                findings.failed(Check::Events, error);
                is_whole = false;
                break;
            }
        }
        drop(batches);
        let size = tree.size();
        findings.checked(
            Check::Events,
            size,
            format!("{size} read, at dense indexes, each understood"),
        );
        let count = streams.count();
        findings.checked(
            Check::Streams,
            count,
            format!("{count} with dense revisions, each event kept in the one that it names"),
        );
        removals.finish(findings);
        if let Some(unpublished) = unpublished {
            unpublished.hold(log_size, times, findings);
        }
        if let Some((_, edge)) = &self.tiles
            && is_whole
        {
            if edge.size() > log_size {
                let what = format!("they are of {} events, the log has {log_size}", edge.size());
                findings.failed(Check::Tiles, what);
            }
            findings.checked(
                Check::Tiles,
                tile_count,
                format!("{tile_count} full tiles have the hashes of the events"),
            );
        }
        let (root, edge) = (tree.root(), tree.edge().clone());
        if is_whole {
            self.prove(size, &root, &edge, findings);
            tree.finish(findings);
        } else {
            findings.note(format!("checkpoints over more than {size} events could not be checked"));
        }
        if let Some(mut export) = export {
            hold(&mut export, &*store, size, findings).await;
            export.finish(Some(size), findings);
        }
        VerifiedLog { size, root }
    }

    /// Whether the tile is in the file, whose hashes must be these.
    fn compare(&self, id: TileId, computed: &Tile, findings: &mut Findings) -> bool {
        let Some((reader, edge)) = &self.tiles else {
            return false;
        };
        if id.width_in(edge.size()) < computed.hashes().len() as u64 {
            // Not written yet.
            return false;
        }
        let what = match reader.tile(id) {
            Ok(Some(kept)) if kept == *computed => return true,
            Ok(Some(kept)) => {
                let place = kept
                    .hashes()
                    .iter()
                    .zip(computed.hashes())
                    .position(|(kept, computed)| kept != computed);
                let index = id.number * computed.hashes().len() as u64 + place.unwrap_or_default() as u64;
                match id.level {
                    0 => format!("event {index}: its leaf hash in tile {id} is another"),
                    _ => format!("tile {id}: hash {} is another", place.unwrap_or_default()),
                }
            }
            Ok(None) => format!("tile {id} is missing"),
            Err(error) => format!("tile {id}: {error}"),
        };
        findings.failed(Check::Tiles, what);
        true
    }

    /// Makes proofs as the server does, from the tiles, and verifies them as a client does.
    fn prove(&mut self, size: u64, root: &Hash, edge: &Edge, findings: &mut Findings) {
        let Some((reader, kept)) = self.tiles.take().filter(|(_, kept)| kept.size() <= size && size > 0) else {
            return;
        };
        // Beyond the tiles in the file the computed ones stand in: the file's are compared already.
        let mut tiles = Kept {
            reader,
            edge: edge.clone(),
            is_current: kept.size() / 256 == size / 256,
        };
        if !tiles.is_current {
            findings.note(format!(
                "the tiles reach {} events only; the server makes the rest when it starts",
                kept.size()
            ));
            return;
        }
        let mut count = 0;
        let places =
            (0..PROVEN_EVENTS.min(size)).map(|n| n * (size - 1) / PROVEN_EVENTS.min(size).saturating_sub(1).max(1));
        for index in places {
            let mut nodes = TileNodes(&mut tiles);
            let proof = merkle::Nodes::node(&mut nodes, 0, index)
                .and_then(|leaf| Ok((leaf, merkle::inclusion_proof(&mut nodes, index, size)?)));
            let is_proven = proof.is_ok_and(|(leaf, proof)| verify_inclusion(&leaf, index, size, &proof, root).is_ok());
            if !is_proven {
                findings.failed(Check::Proofs, format!("event {index}: its proof does not prove it"));
            }
            count += 1;
        }
        let step = (self.published.len() / PROVEN_CHECKPOINTS).max(1);
        for old in self
            .published
            .iter()
            .step_by(step)
            .filter(|old| (1..=size).contains(&old.size))
        {
            let proof = merkle::consistency_proof(&mut TileNodes(&mut tiles), old.size, size);
            let is_proven =
                proof.is_ok_and(|proof| verify_consistency((old.size, &old.root), (size, root), &proof).is_ok());
            if !is_proven {
                findings.failed(
                    Check::Proofs,
                    format!("{}: the log is not consistent with it", old.name),
                );
            }
            count += 1;
        }
        findings.checked(
            Check::Proofs,
            count,
            format!("{count} made from the tiles, of inclusion and consistency"),
        );
    }
}

/// Holds an export that is made for reading against the events of its range.
async fn hold(export: &mut ExportFile, store: &dyn EventStore, size: u64, findings: &mut Findings) {
    let through = export.manifest.through_index.min(size);
    while let Some(next) = export.wants_events().filter(|next| *next < through) {
        let wanted = usize::try_from(BATCH_EVENTS.min(through - next)).unwrap_or(usize::MAX);
        match store.read_all(next, Direction::Forwards, wanted).await {
            Ok(events) if !events.is_empty() => events.iter().for_each(|event| export.hold(event, findings)),
            Ok(_) => return export.cannot_be_held(format!("event {next} is missing in the log")),
            Err(error) => return export.cannot_be_held(error.to_string()),
        }
    }
}

/// How much of the log was read, and its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedLog {
    /// Events.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

struct Kept {
    reader: TileReader,
    edge: Edge,
    is_current: bool,
}

impl Tiles for Kept {
    type Error = rusqlite::Error;

    fn tile(&mut self, id: TileId, width: u64) -> rusqlite::Result<Tile> {
        let found = match self.edge.tile(id) {
            Some(tile) => Some(tile),
            None => self.reader.tile(id)?,
        };
        found
            .filter(|tile| tile.hashes().len() as u64 >= width)
            .ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}

/// Events in the order of the log, up to the first that cannot be read.
struct Batch {
    events: Vec<Examined>,
    error: Option<String>,
}

/// What is kept of an event once it is read.
struct Examined {
    leaf: Hash,
    revision: u64,
    /// Its id, stream and time, when it is understood.
    place: Option<(Uuid, StreamName, Timestamp)>,
    /// Why it is not.
    problem: Option<String>,
    /// The stream that the store has it in.
    kept_in: Option<String>,
    /// What it has to do with removals.
    removal: Option<Removal>,
}

async fn examined(store: Arc<dyn EventStore>, from: u64, log_size: u64) -> Batch {
    let count = BATCH_EVENTS.min(log_size - from);
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    let (events, error) = match store.read_all(from, Direction::Forwards, wanted).await {
        Ok(events) if events.len() as u64 == count => (events, None),
        Ok(_) => one_by_one(&*store, from, count, None).await,
        Err(error) => one_by_one(&*store, from, count, Some(error)).await,
    };
    let (kept_in, error) = match store.streams_of(from..from + count).await {
        Ok(kept_in) => (kept_in, error),
        Err(failed) => (Vec::new(), error.or(Some(failed.to_string()))),
    };
    let work = tokio::task::spawn_blocking(move || {
        let mut kept_in: HashMap<u64, String> = kept_in.into_iter().collect();
        let examine = |stored: &StoredEvent| Examined {
            kept_in: kept_in.remove(&stored.index),
            ..examine(stored)
        };
        events.iter().map(examine).collect()
    });
    match work.await {
        Ok(events) => Batch { events, error },
        Err(stopped) => Batch {
            events: Vec::new(),
            error: Some(stopped.to_string()),
        },
    }
}

/// What can be read of a batch that cannot be read as a whole, and the first event that cannot.
async fn one_by_one(
    store: &dyn EventStore,
    from: u64,
    count: u64,
    whole: Option<ReadError>,
) -> (Vec<StoredEvent>, Option<String>) {
    let mut events = Vec::new();
    for index in from..from + count {
        match store.read_indexes(&[index]).await {
            Ok(mut read) => events.append(&mut read),
            Err(error) => return (events, Some(format!("event {index}: {error}"))),
        }
    }
    // Each can be read alone.
    let error = whole.map(|error| format!("event {from} and those that follow it: {error}"));
    (events, error)
}

fn examine(stored: &StoredEvent) -> Examined {
    let decoded = codec::decode(stored);
    let (place, problem) = match decoded {
        Ok(recorded) => {
            let envelope = recorded.envelope;
            (Some((envelope.id, envelope.stream, envelope.time)), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    Examined {
        leaf: leaf_of(&stored.bytes),
        revision: stored.revision,
        place,
        problem,
        kept_in: None,
        removal: Removal::of(&stored.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_log_that_has_hardly_begun_may_have_no_published_checkpoint() {
        let time = |second| Timestamp::from_unix_micros(1_773_653_400_000_000).plus_seconds(second);
        let first = Some((time(0), time(30)));
        let later = Some((time(0), time(PUBLISHED_WITHIN_SECONDS + 1)));
        for (size, is_lost, times, is_good) in [
            (0, true, None, true),
            (0, false, None, true),
            (9, true, first, false),
            (9, false, first, true),
            (9, false, later, false),
        ] {
            let mut findings = Findings::default();
            let path = "checkpoints.db".into();
            Unpublished { path, is_lost }.hold(size, times, &mut findings);
            assert_eq!(findings.are_good(), is_good, "{size} {is_lost} {times:?}");
            assert_eq!(findings.notes.len(), usize::from(is_good));
        }
    }
}
