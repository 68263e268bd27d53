//! The file of full tiles, `tiles.db`: a row for each, 32 bytes for every event and an eighth of a byte above.
//!
//! They can be made again from the log at any time: where an event was removed its leaf hash is left. So losing the
//! newest of them to a power failure does no harm: nothing here waits for the disk.

use super::tiles::{Edge, TILE_HASHES, TILE_HEIGHT, TILE_LEVELS, Tile, TileId};
use crate::rebuildable;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA user_version` of the table below.
const VERSION: i32 = 1;
/// What the write-ahead log is cut back to after a checkpoint, in bytes.
const JOURNAL_BYTES: i64 = 16 << 20;
/// How long a statement waits for a lock that another process holds.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Bits of a row's key that hold the number; the level is above them. 2^56 tiles are 2^64 events.
const NUMBER_BITS: u32 = 56;

const SCHEMA: &str = "CREATE TABLE tile (id INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT;";

/// Why a file of tiles cannot be used as it is.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is of another version, or not whole.
    Stale(String),
    /// SQLite refuses.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        match rebuildable::is_damage(&error) {
            true => Self::Stale(error.to_string()),
            false => Self::Failed(error),
        }
    }
}

/// The connection that writes.
pub(super) struct TileWriter {
    connection: Connection,
}

impl TileWriter {
    /// Opens the file, or makes it, and says how far its tiles reach.
    pub fn open(path: &Path) -> Result<(Self, Edge), Unusable> {
        let mut connection = rebuildable::open(path)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        let edge = edge(&connection)?;
        Ok((Self { connection }, edge))
    }

    /// Adds tiles, all or none.
    pub fn append(&mut self, tiles: &[(TileId, Tile)]) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO tile VALUES (?1, ?2)")?;
            for (id, tile) in tiles {
                insert.execute(params![key(*id), tile.hashes().as_flattened()])?;
            }
        }
        transaction.commit()
    }
}

/// A connection that only reads.
pub(super) struct TileReader {
    connection: Connection,
}

impl TileReader {
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        Ok(Self { connection })
    }

    /// How far the tiles reach, and the incomplete ones above them.
    pub fn edge(&self) -> Result<Edge, Unusable> {
        edge(&self.connection)
    }

    /// A full tile.
    pub fn tile(&self, id: TileId) -> rusqlite::Result<Option<Tile>> {
        tile(&self.connection, id)
    }
}

fn tile(connection: &Connection, id: TileId) -> rusqlite::Result<Option<Tile>> {
    let mut read = connection.prepare_cached("SELECT hashes FROM tile WHERE id = ?1")?;
    let found = read.query_row([key(id)], |row| {
        Tile::from_bytes(row.get_ref(0)?.as_blob()?)
            .filter(|tile| tile.hashes().len() as u64 == TILE_HASHES)
            .ok_or_else(|| {
                let text = format!("tile {id} is not 256 hashes");
                rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, text.into())
            })
    });
    found.optional()
}

/// From how many tiles there are; that none is missing in between is found when it is read.
fn edge(connection: &Connection) -> Result<Edge, Unusable> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        return Err(Unusable::Stale("it was made by another version".into()));
    }
    let mut counts = [0_u64; TILE_LEVELS];
    for (level, count) in (0_u8..).zip(&mut counts) {
        let number = (1 << NUMBER_BITS) - 1;
        let last: Option<i64> = connection.query_row(
            "SELECT max(id) FROM tile WHERE id BETWEEN ?1 AND ?2",
            params![key(TileId { level, number: 0 }), key(TileId { level, number })],
            |row| row.get(0),
        )?;
        *count = last.map_or(0, |last| (last.cast_unsigned() & number) + 1);
    }
    let mut above = Vec::new();
    for (level, (below, count)) in (0_u8..).zip(counts.iter().zip(counts.iter().skip(1))) {
        if below >> TILE_HEIGHT != *count {
            return Err(Unusable::Stale(format!(
                "level {} does not fit level {level}",
                level + 1
            )));
        }
        let mut hashes = Vec::new();
        for number in count * TILE_HASHES..*below {
            let id = TileId { level, number };
            let tile = tile(connection, id)?.ok_or_else(|| Unusable::Stale(format!("tile {id} is missing")))?;
            hashes.push(tile.root());
        }
        above.push(hashes);
    }
    Ok(Edge::of_full_tiles(counts.first().copied().unwrap_or_default(), above))
}

fn key(id: TileId) -> i64 {
    // Below 2^59: a level is below 8.
    (u64::from(id.level) << NUMBER_BITS | id.number).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{CompactRange, leaf_hash, root};
    use super::super::tiles::{TileNodes, Tiles};
    use super::*;

    struct Stored(TileReader, Edge);

    impl Tiles for Stored {
        type Error = rusqlite::Error;

        fn tile(&mut self, id: TileId, _: u64) -> rusqlite::Result<Tile> {
            let found = self.0.tile(id)?.or_else(|| self.1.tile(id));
            found.ok_or(rusqlite::Error::QueryReturnedNoRows)
        }
    }

    fn written(path: &Path, events: u64) -> Edge {
        let (mut writer, mut edge) = TileWriter::open(path).unwrap();
        let mut full = Vec::new();
        (edge.size()..events).for_each(|n| edge.push(leaf_hash(&n.to_be_bytes()), &mut full));
        writer.append(&full).unwrap();
        edge
    }

    #[test]
    fn a_file_that_is_opened_again_goes_on_where_its_full_tiles_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiles.db");
        for events in [100, 256, 70_000, 70_144, 140_000] {
            let edge = written(&path, events);
            let mut range = CompactRange::default();
            (0..events).for_each(|n| range.push(leaf_hash(&n.to_be_bytes())));
            let mut stored = Stored(TileReader::open(&path).unwrap(), edge);
            assert_eq!(
                root(&mut TileNodes(&mut stored), events).unwrap(),
                range.root(),
                "{events}"
            );
            assert_eq!(stored.0.edge().unwrap().size(), events / 256 * 256);
        }
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiles.db");
        written(&path, 70_000);
        let tamper = |sql: &str| Connection::open(&path).unwrap().execute(sql, []).unwrap();
        tamper("DELETE FROM tile WHERE id = 260");
        assert!(matches!(TileWriter::open(&path), Err(Unusable::Stale(_))));
        tamper(&format!("DELETE FROM tile WHERE id = {}", 1_u64 << NUMBER_BITS));
        assert!(matches!(TileWriter::open(&path), Err(Unusable::Stale(_))));
        std::fs::write(&path, [b'x'; 8_192]).unwrap();
        assert!(matches!(TileWriter::open(&path), Err(Unusable::Stale(_))));
    }
}
