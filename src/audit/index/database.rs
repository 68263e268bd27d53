//! The index database: complete segments only, so that its rows depend on the log alone, never on when they
//! were written. It is safe to delete: it is built again from the log.

use super::field::Field;
use super::identifier::{self, Identifier};
use super::listing;
use super::offsets::{self, OffsetSet};
use super::plan::ValueSet;
use super::pruning;
use super::segment::{Row, Segment};
use super::times::{self, TimeBounds};
use crate::audit::query::Order;
use crate::rebuildable;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use std::path::Path;
use std::sync::Arc;

/// The layout of the tables and what the records' values mean: a change here makes older files other versions.
const LAYOUT: u32 = 2;
/// Page cache of the writer, in KiB.
const WRITER_CACHE_KIB: i64 = 16_384;
/// Page cache of each reader, in KiB.
const READER_CACHE_KIB: i64 = 4_096;
/// What the write-ahead log is cut back to after a checkpoint, in bytes.
const JOURNAL_BYTES: i64 = 16 << 20;

const SCHEMA: &str = "
    CREATE TABLE posting (
        field INTEGER NOT NULL,
        value BLOB NOT NULL,
        segment INTEGER NOT NULL,
        offsets BLOB NOT NULL,
        PRIMARY KEY (field, value, segment)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE segment (
        segment INTEGER PRIMARY KEY,
        earliest INTEGER NOT NULL,
        latest INTEGER NOT NULL,
        last_event BLOB NOT NULL,
        times BLOB NOT NULL
    ) STRICT;
    CREATE TABLE pruned (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        segments INTEGER NOT NULL,
        is_complete INTEGER NOT NULL
    ) STRICT;";

/// What an index database holds of a segment besides its postings and times.
pub(super) struct SegmentRow {
    pub bounds: TimeBounds,
    pub last_event: Vec<u8>,
}

/// Why an index database cannot be used as it is.
pub(super) enum Unusable {
    /// It is of another version, or not whole: building it again helps.
    Stale(String),
    /// Building it again would not help.
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

/// The one connection that writes.
pub(super) struct Writer {
    connection: Connection,
}

impl Writer {
    /// Opens the file, makes it when there is none, and says which segments it holds: `0..n` without a gap.
    pub fn open(path: &Path, size: usize) -> Result<(Self, Vec<SegmentRow>), Unusable> {
        let mut connection = rebuildable::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A lost transaction is read from the log again: only the file's integrity counts here.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", version(size))?;
            transaction.commit()?;
        }
        let segments = rows(&connection, size)?;
        Ok((Self { connection }, segments))
    }

    /// How many segments at the beginning were given up.
    pub fn pruned_segments(&self) -> rusqlite::Result<u64> {
        pruning::pruned_segments(&self.connection)
    }

    /// Adds segments that are complete and follow what is there, all or none of them.
    pub fn append(&mut self, segments: &[Arc<Segment>]) -> rusqlite::Result<()> {
        let mut rows: Vec<_> = segments
            .iter()
            .flat_map(|segment| {
                let rows = segment.rows().into_iter();
                rows.map(|(row, value, content)| (row.number(), value, segment.number, content))
            })
            .collect();
        // In the order of the key, so that each page of the table is visited once.
        rows.sort_unstable();
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO posting VALUES (?1, ?2, ?3, ?4)")?;
            for (row, value, number, content) in rows {
                insert.execute(params![row, value, number.cast_signed(), content])?;
            }
            let mut insert = transaction.prepare_cached("INSERT INTO segment VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for segment in segments {
                let Some(bounds) = TimeBounds::of(&segment.times) else {
                    continue;
                };
                insert.execute(params![
                    segment.number.cast_signed(), // far below 2^63: the log's indexes are u64
                    bounds.earliest,
                    bounds.latest,
                    segment.last_event,
                    times::encode(&segment.times)
                ])?;
            }
        }
        transaction.commit()
    }
}

/// A connection that only reads.
pub(in crate::audit) struct Reader {
    pub(super) connection: Connection,
    size: usize,
}

impl Reader {
    pub fn open(path: &Path, size: usize) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        Ok(Self { connection, size })
    }

    /// The segments that the database holds, or why it is of no use.
    pub(super) fn segments(&self) -> Result<Vec<SegmentRow>, Unusable> {
        rows(&self.connection, self.size)
    }

    /// How many segments at the beginning were given up.
    pub fn pruned_segments(&self) -> rusqlite::Result<u64> {
        pruning::pruned_segments(&self.connection)
    }

    /// Until it is dropped, every read sees the database as it is at the first of them.
    pub fn look(&self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.unchecked_transaction()
    }

    /// The first segment in the given order, from `at` on, with a row for this value, and the places that the row
    /// holds: one look-up by primary key. `None` when there is no such segment.
    pub fn seek(&self, row: Row, value: &[u8], at: u64, order: Order) -> rusqlite::Result<Option<(u64, OffsetSet)>> {
        let mut seek = self.connection.prepare_cached(match order {
            Order::Asc => {
                "SELECT segment, offsets FROM posting WHERE field = ?1 AND value = ?2 AND segment >= ?3
                 ORDER BY segment LIMIT 1"
            }
            Order::Desc => {
                "SELECT segment, offsets FROM posting WHERE field = ?1 AND value = ?2 AND segment <= ?3
                 ORDER BY segment DESC LIMIT 1"
            }
        })?;
        let found = seek.query_row(params![row.number(), value, at.cast_signed()], |row| {
            let offsets = offsets::decode(row.get_ref(1)?.as_blob()?, self.size).ok_or_else(|| damaged("offsets"))?;
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), offsets))
        });
        found.optional()
    }

    /// The places that a row of this segment holds: none when there is no such row.
    pub fn places(&self, row: Row, value: &[u8], segment: u64) -> rusqlite::Result<OffsetSet> {
        let places = self.content(row, value, segment, |content| {
            offsets::decode(content, self.size).ok_or_else(|| damaged("offsets"))
        });
        Ok(places?.unwrap_or_else(|| OffsetSet::empty(self.size)))
    }

    /// Where in this segment the identifier may be.
    pub fn identified(&self, identifier: Identifier, segment: u64) -> rusqlite::Result<OffsetSet> {
        let found = self.content(Row::Identifiers, &[identifier.bucket()], segment, |content| {
            identifier::find(identifier, content, self.size).ok_or_else(|| damaged("identifiers"))
        });
        Ok(found?.unwrap_or_else(|| OffsetSet::empty(self.size)))
    }

    /// Calls with each value that the field has in this segment, in order.
    pub fn listed(&self, field: Field, segment: u64, then: impl FnMut(&[u8])) -> rusqlite::Result<()> {
        let each = self.content(Row::Listing, &[field as u8], segment, |content| {
            listing::each(content, then).ok_or_else(|| damaged("values"))
        });
        each.map(|_| ())
    }

    /// The first value of the range that is greater than `after`, whatever its segment.
    pub fn next_value(&self, range: &ValueSet, after: Option<&[u8]>) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut next = self.connection.prepare_cached(match after {
            None => "SELECT value FROM posting WHERE field = ?1 AND value >= ?2 ORDER BY value LIMIT 1",
            Some(_) => "SELECT value FROM posting WHERE field = ?1 AND value > ?2 ORDER BY value LIMIT 1",
        })?;
        let row = Row::Value(range.field).number();
        let found = next.query_row(params![row, after.unwrap_or(&range.from)], |row| {
            row.get::<_, Vec<u8>>(0)
        });
        Ok(found.optional()?.filter(|value| range.contains(value)))
    }

    fn content<T>(
        &self,
        row: Row,
        value: &[u8],
        segment: u64,
        read: impl FnOnce(&[u8]) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let mut query = self
            .connection
            .prepare_cached("SELECT offsets FROM posting WHERE field = ?1 AND value = ?2 AND segment = ?3")?;
        query
            .query_row(params![row.number(), value, segment.cast_signed()], |row| {
                read(row.get_ref(0)?.as_blob()?)
            })
            .optional()
    }

    /// The times of a segment's events.
    pub fn times(&self, segment: u64) -> rusqlite::Result<Vec<i64>> {
        let mut read = self
            .connection
            .prepare_cached("SELECT times FROM segment WHERE segment = ?1")?;
        read.query_row([segment.cast_signed()], |row| {
            times::decode(row.get_ref(0)?.as_blob()?, self.size).ok_or_else(|| damaged("times"))
        })
    }
}

fn rows(connection: &Connection, size: usize) -> Result<Vec<SegmentRow>, Unusable> {
    let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found != version(size) {
        return Err(Unusable::Stale("it was made by another version".into()));
    }
    let mut read = connection.prepare("SELECT segment, earliest, latest, last_event FROM segment ORDER BY segment")?;
    let mut rows = read.query([])?;
    let mut segments = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)?.cast_unsigned() != segments.len() as u64 {
            return Err(Unusable::Stale("segments are missing".into()));
        }
        segments.push(SegmentRow {
            bounds: TimeBounds {
                earliest: row.get(1)?,
                latest: row.get(2)?,
            },
            last_event: row.get(3)?,
        });
    }
    Ok(segments)
}

/// Names the layout, the segment size and the fields: a file with any other is of another version.
fn version(size: usize) -> i32 {
    let fields: Vec<String> = Field::ALL
        .iter()
        .map(|field| format!("{} {}", *field as u8, field.name()))
        .collect();
    let description = format!("layout {LAYOUT}, segments of {size}, fields {}", fields.join(", "));
    crc32fast::hash(description.as_bytes()).cast_signed()
}

pub(super) fn damaged(what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        0,
        rusqlite::types::Type::Blob,
        format!("the audit index is damaged ({what} cannot be read): delete it and start again").into(),
    )
}
