//! Values that few events share: the ids of events, tokens, sessions and traces. A row for each would be larger
//! than what it finds, so a segment keeps a few bits of each one's hash, in [`BUCKETS`] short lists. What is found
//! so may be another event's, and is looked at; nothing is missed.

use super::offsets::OffsetSet;
use super::varint;
use grantlog_projections::audit_record::AuditRecord;

/// Lists in a segment.
const BUCKETS: u32 = 256;
/// Bits of a hash that a list keeps. With the list's own eight, one in 2^26 of other identifiers is found too.
const KEPT_BITS: u32 = 18;

/// The bits of an identifier's hash that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) struct Identifier(u32);

impl Identifier {
    /// Of a UUID's 16 bytes, or a trace id's text.
    pub fn of(bytes: &[u8]) -> Self {
        // The finaliser of SplitMix64, over eight bytes at a time: it is part of the layout.
        let mut hash = bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk); // chunks of at most 8
            hash ^= u64::from_le_bytes(word);
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            hash ^= hash >> 31;
        }
        Self((hash >> (64 - KEPT_BITS - BUCKETS.ilog2())) as u32) // 26 bits are left
    }

    /// Which list it is in.
    pub fn bucket(self) -> u8 {
        (self.0 >> KEPT_BITS) as u8 // eight bits are left
    }

    fn rest(self) -> u64 {
        u64::from(self.0 & ((1 << KEPT_BITS) - 1))
    }
}

/// Hands over what the event is to be found by.
pub(super) fn identifiers(record: &AuditRecord<'_>, mut add: impl FnMut(Identifier)) {
    add(Identifier::of(record.id.as_bytes()));
    for id in [record.jti, record.session_id].into_iter().flatten() {
        // A token's id is that of the event that issued it.
        if id != record.id {
            add(Identifier::of(id.as_bytes()));
        }
    }
    if let Some(trace_id) = record.trace_id {
        add(Identifier::of(trace_id.as_bytes()));
    }
}

/// The lists that are not empty, with their numbers. The same identifiers give the same bytes, in whatever order.
pub(super) fn encode(mut identifiers: Vec<(Identifier, u16)>) -> Vec<(u8, Vec<u8>)> {
    identifiers.sort_unstable();
    identifiers.dedup();
    let mut lists: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut before = 0;
    for (identifier, offset) in identifiers {
        let bucket = identifier.bucket();
        if lists.last().is_none_or(|(last, _)| *last != bucket) {
            lists.push((bucket, Vec::new()));
            before = 0;
        }
        if let Some((_, bytes)) = lists.last_mut() {
            varint::push(bytes, identifier.rest() - before); // ascending within a list
            varint::push(bytes, u64::from(offset));
        }
        before = identifier.rest();
    }
    lists
}

/// Where the identifier may be, by the list that `encode` wrote; `None` when the bytes are not its work.
pub(super) fn find(identifier: Identifier, mut bytes: &[u8], size: usize) -> Option<OffsetSet> {
    let mut found = OffsetSet::empty(size);
    let mut rest = 0_u64;
    while !bytes.is_empty() {
        rest = rest.checked_add(varint::take(&mut bytes)?)?;
        let offset = varint::take(&mut bytes)?;
        if rest == identifier.rest() {
            found.insert(usize::try_from(offset).ok()?);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 500;

    proptest! {
        #[test]
        fn every_identifier_is_found_where_it_is(
            ids in proptest::collection::vec((any::<[u8; 16]>(), 0..SIZE as u16), 1..300),
        ) {
            let lists = encode(ids.iter().map(|(id, offset)| (Identifier::of(id), *offset)).collect());
            for (id, offset) in &ids {
                let identifier = Identifier::of(id);
                let (_, list) = lists.iter().find(|(bucket, _)| *bucket == identifier.bucket()).unwrap();
                let found = find(identifier, list, SIZE).unwrap();
                prop_assert!(found.ascending().any(|at| at == usize::from(*offset)));
            }
        }

        #[test]
        fn bytes_that_are_no_list_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = find(Identifier(7), &bytes, SIZE);
        }
    }

    #[test]
    fn an_identifier_takes_four_bytes_in_a_full_segment() {
        let ids = (0..16_384_u16).map(|at| (Identifier::of(&u128::from(at).to_be_bytes()), at));
        let bytes: usize = encode(ids.collect()).iter().map(|(_, list)| list.len()).sum();
        assert!(bytes < 16_384 * 9 / 2, "{bytes}");
    }

    #[test]
    fn the_hash_is_part_of_the_layout() {
        assert_eq!(
            Identifier::of(b"0af7651916cd43dd8448eb211c80319c"),
            Identifier::of(b"0af7651916cd43dd8448eb211c80319c")
        );
        assert_ne!(Identifier::of(b"a"), Identifier::of(b"a\0"));
    }
}
