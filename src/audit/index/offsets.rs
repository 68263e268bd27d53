//! Sets of places within one segment: a bitmap to compute with, and its compact form at rest.

use super::varint;

/// A set of offsets, each below the segment's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) struct OffsetSet {
    words: Vec<u64>,
    size: usize,
}

impl OffsetSet {
    pub fn empty(size: usize) -> Self {
        Self {
            words: vec![0; size.div_ceil(64)],
            size,
        }
    }

    /// All offsets in the range; what lies beyond the size is left out.
    pub fn range(size: usize, range: std::ops::Range<usize>) -> Self {
        let mut set = Self::empty(size);
        let end = range.end.min(size);
        if range.start >= end {
            return set;
        }
        for (at, word) in set.words.iter_mut().enumerate() {
            let (low, high) = (at * 64, at * 64 + 64);
            if range.start < high && end > low {
                let mask = u64::MAX << range.start.saturating_sub(low);
                *word = if end < high {
                    mask & ((1 << (end - low)) - 1)
                } else {
                    mask
                };
            }
        }
        set
    }

    pub fn of(size: usize, offsets: &[u16]) -> Self {
        let mut set = Self::empty(size);
        for offset in offsets {
            set.insert(usize::from(*offset));
        }
        set
    }

    /// Adds the offset; one beyond the size is no member and changes nothing.
    pub fn insert(&mut self, offset: usize) {
        if offset < self.size
            && let Some(word) = self.words.get_mut(offset / 64)
        {
            *word |= 1 << (offset % 64);
        }
    }

    pub fn intersect(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    pub fn unite(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// A set of the same size with no member.
    pub fn emptied(&self) -> Self {
        Self::empty(self.size)
    }

    /// The members whose events have these indexes; the segment's first has index `first`.
    pub fn within(&self, indexes: &std::ops::Range<u64>, first: u64) -> Self {
        let offset = |index: u64| usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut set = Self::range(self.size, offset(indexes.start)..offset(indexes.end));
        set.intersect(self);
        set
    }

    pub fn contains(&self, offset: usize) -> bool {
        let word = self.words.get(offset / 64);
        word.is_some_and(|word| word & (1 << (offset % 64)) != 0)
    }

    /// How many members it has.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Keeps the members that the test accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (at, word) in self.words.iter_mut().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                if !keep(at * 64 + bit as usize) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The members, smallest first.
    pub fn ascending(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    at * 64 + bit
                })
            })
        })
    }

    /// The members, largest first.
    pub fn descending(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().rev().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = 63 - rest.leading_zeros() as usize;
                    rest &= !(1 << bit);
                    at * 64 + bit
                })
            })
        })
    }
}

/// The members one by one, as varints of the gaps between them.
const LIST: u8 = 0;
/// One bit per offset, the lowest bit of the first byte first; zero bytes at the end are left out.
const BITMAP: u8 = 1;
/// As `LIST`, of the offsets that are not members.
const ALL_BUT: u8 = 2;

/// The shortest form of the set of these offsets (ascending, each below `size`). The same set has the same
/// bytes always: of forms that are equally short the one with the smallest tag.
pub(super) fn encode(offsets: &[u16], size: usize) -> Vec<u8> {
    let last = offsets.last().map_or(0, |last| usize::from(*last) + 1);
    let bitmap_length = last.div_ceil(8);
    let mut best = vec![LIST];
    push_gaps(&mut best, offsets.iter().map(|offset| usize::from(*offset)));
    if best.len() > 1 + bitmap_length {
        let mut bytes = vec![0; 1 + bitmap_length];
        bytes[0] = BITMAP; // at least one long
        for offset in offsets {
            // `last` made room for the largest offset.
            bytes[1 + usize::from(*offset) / 8] |= 1 << (offset % 8);
        }
        best = bytes;
    }
    if offsets.len() * 2 > size {
        let members = OffsetSet::of(size, offsets);
        let mut others = OffsetSet::range(size, 0..size);
        others.subtract(&members);
        let mut bytes = vec![ALL_BUT];
        push_gaps(&mut bytes, others.ascending());
        if bytes.len() < best.len() {
            best = bytes;
        }
    }
    best
}

fn push_gaps(bytes: &mut Vec<u8>, offsets: impl Iterator<Item = usize>) {
    let mut next = 0;
    for offset in offsets {
        varint::push(bytes, (offset - next) as u64); // ascending, so never negative
        next = offset + 1;
    }
}

/// The set that `encode` wrote; `None` when the bytes are not its work.
pub(super) fn decode(bytes: &[u8], size: usize) -> Option<OffsetSet> {
    let (tag, rest) = bytes.split_first()?;
    match *tag {
        LIST => from_gaps(rest, size),
        ALL_BUT => {
            let others = from_gaps(rest, size)?;
            let mut set = OffsetSet::range(size, 0..size);
            set.subtract(&others);
            Some(set)
        }
        BITMAP => {
            let mut set = OffsetSet::empty(size);
            if rest.len() > size.div_ceil(8) {
                return None;
            }
            for (word, bytes) in set.words.iter_mut().zip(rest.chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes); // chunks of at most 8
                *word = u64::from_le_bytes(whole);
            }
            set.intersect(&OffsetSet::range(size, 0..size));
            Some(set)
        }
        _ => None,
    }
}

fn from_gaps(mut bytes: &[u8], size: usize) -> Option<OffsetSet> {
    let mut set = OffsetSet::empty(size);
    let mut next = 0_u64;
    while !bytes.is_empty() {
        let offset = next.checked_add(varint::take(&mut bytes)?)?;
        if offset >= size as u64 {
            return None;
        }
        set.insert(offset as usize); // below `size`, which is a usize
        next = offset + 1;
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 200;

    fn offsets() -> impl Strategy<Value = Vec<u16>> {
        (0.0..1.0_f64)
            .prop_flat_map(|density| proptest::collection::vec(proptest::bool::weighted(density), SIZE))
            .prop_map(|members| (0..SIZE as u16).filter(|at| members[usize::from(*at)]).collect())
    }

    proptest! {
        #[test]
        fn a_set_survives_its_compact_form(offsets in offsets()) {
            let bytes = encode(&offsets, SIZE);
            prop_assert!(bytes.len() <= 1 + SIZE.div_ceil(8));
            let set = decode(&bytes, SIZE).unwrap();
            prop_assert_eq!(&set, &OffsetSet::of(SIZE, &offsets));
            let ascending: Vec<u16> = set.ascending().map(|at| at as u16).collect();
            prop_assert_eq!(&ascending, &offsets);
            let mut descending: Vec<u16> = set.descending().map(|at| at as u16).collect();
            descending.reverse();
            prop_assert_eq!(&descending, &offsets);
        }

        #[test]
        fn bytes_that_are_no_set_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(set) = decode(&bytes, SIZE) {
                prop_assert!(set.ascending().all(|at| at < SIZE));
            }
        }

        #[test]
        fn a_range_holds_what_lies_in_it(start in 0..220_usize, end in 0..220_usize) {
            let set = OffsetSet::range(SIZE, start..end);
            let members: Vec<usize> = (start..end.min(SIZE)).collect();
            prop_assert_eq!(set.ascending().collect::<Vec<_>>(), members);
        }
    }

    #[test]
    fn the_form_fits_the_density() {
        assert_eq!(encode(&[3, 150], SIZE), [LIST, 3, 0x80 | 18, 1]);
        let all: Vec<u16> = (0..SIZE as u16).collect();
        assert_eq!(encode(&all, SIZE), [ALL_BUT]);
        let every_second: Vec<u16> = (0..SIZE as u16).step_by(2).collect();
        assert_eq!(encode(&every_second, SIZE)[0], BITMAP);
    }

    #[test]
    fn offsets_beyond_the_segment_are_refused() {
        assert_eq!(decode(&[LIST, 0x80 | 72, 1], SIZE), None);
        assert_eq!(decode(&[LIST, 0xff], SIZE), None);
        assert_eq!(decode(&[9], SIZE), None);
        assert_eq!(decode(&[], SIZE), None);
    }
}
