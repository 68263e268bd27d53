//! Where each stream ends. The writer alone changes streams, so what it remembers is true.

use hashlink::LruCache;
use rusqlite::{Connection, OptionalExtension};

/// Streams whose end is remembered, the recently used ones: about 10 MB at the most. Any other costs one
/// descent in each of two indexes.
const MAX_REMEMBERED_STREAMS: usize = 65_536;

/// The end of a stream that has at least one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamHead {
    /// The stream's row.
    pub(super) id: i64,
    /// The revision of its last event.
    pub(super) revision: u64,
}

/// The ends of the recently used streams.
pub(super) struct StreamHeads {
    remembered: LruCache<Box<str>, StreamHead>,
}

impl StreamHeads {
    pub(super) fn new() -> Self {
        Self {
            remembered: LruCache::new(MAX_REMEMBERED_STREAMS),
        }
    }

    /// The stream's end, `None` when there is no such stream.
    pub(super) fn get(&mut self, log: &Connection, stream: &str) -> rusqlite::Result<Option<StreamHead>> {
        if let Some(head) = self.remembered.get(stream) {
            return Ok(Some(*head));
        }
        let head = log
            .prepare_cached(
                "SELECT id, (SELECT max(revision) FROM events WHERE stream = streams.id) \
                 FROM streams WHERE name = ?1",
            )?
            .query_row([stream], |row| {
                Ok(StreamHead {
                    id: row.get(0)?,
                    revision: row.get::<_, i64>(1)?.unsigned_abs(),
                })
            })
            .optional()?;
        if let Some(head) = head {
            self.remembered.insert(stream.into(), head);
        }
        Ok(head)
    }

    /// Remembers where the stream ends now.
    pub(super) fn set(&mut self, stream: &str, head: StreamHead) {
        match self.remembered.get_mut(stream) {
            Some(known) => *known = head,
            None => {
                self.remembered.insert(stream.into(), head);
            }
        }
    }
}
