//! The tree cut into tiles as C2SP tlog-tiles has it: 256 hashes wide, eight levels high, and how tiles are named.

use super::merkle::{CompactRange, Hash, Nodes, complete_root};
use std::fmt;
use std::sync::Arc;

/// Hashes in a full tile.
pub const TILE_HASHES: u64 = 256;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Levels of the tree that a tile spans.
pub(super) const TILE_HEIGHT: u32 = 8;
/// Tile levels that a tree of 64-bit sizes can have.
pub(super) const TILE_LEVELS: usize = 8;

/// Which tile: its level, 0 for leaf hashes, and its place in that level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// 0 to 7: a tree of 64-bit sizes has no other.
    pub level: u8,
    /// From 0.
    pub number: u64,
}

impl TileId {
    /// How many hashes this tile has in a tree of `size` leaves: 0 to 256.
    pub fn width_in(self, size: u64) -> u64 {
        let hashes = size.checked_shr(u32::from(self.level) * TILE_HEIGHT).unwrap_or(0);
        let before = self.number.saturating_mul(TILE_HASHES);
        hashes.saturating_sub(before).min(TILE_HASHES)
    }
}

impl fmt::Display for TileId {
    /// As its resource is named, without `/tile/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, tile_path(self.number))
    }
}

/// The number of a tile as a path: groups of three digits, all but the last with an `x`.
pub fn tile_path(number: u64) -> String {
    let mut path = format!("{:03}", number % 1_000);
    let mut rest = number / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    path
}

/// A tile's number and width from its path, `x001/x234/067` or `x001/x234/067.p/9`. `None` when the path is not
/// how the number is written: each resource has one name.
pub fn parse_tile_path(path: &str) -> Option<(u64, u64)> {
    let (number, width) = match path.split_once(".p/") {
        Some((number, width)) => (number, decimal(width).filter(|width| (1..TILE_HASHES).contains(width))?),
        None => (path, TILE_HASHES),
    };
    let digits: String = number.split('/').map(|group| group.trim_start_matches('x')).collect();
    // More than the largest number has are no number.
    let parsed = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
    let parsed: u64 = parsed.parse().ok()?;
    (tile_path(parsed) == number).then_some((parsed, width))
}

/// A tile's level from its path.
pub fn parse_tile_level(text: &str) -> Option<u8> {
    decimal(text)
        .filter(|level| *level < TILE_LEVELS as u64)
        .map(|level| level as u8) // below 8
}

/// A whole number as C2SP writes it: no sign, no leading zero.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// The hashes of a tile, full or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile(Arc<[Hash]>);

impl Tile {
    /// From the bytes of a resource; `None` when they are not 1 to 256 hashes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let is_tile = rest.is_empty() && !hashes.is_empty() && hashes.len() as u64 <= TILE_HASHES;
        is_tile.then(|| Self(hashes.into()))
    }

    /// From hashes, at most 256.
    pub(super) fn of(hashes: &[Hash]) -> Self {
        Self(hashes.into())
    }

    /// The hashes.
    pub fn hashes(&self) -> &[Hash] {
        &self.0
    }

    /// As a resource, `width` hashes wide; `None` when it is not that wide.
    pub fn to_bytes(&self, width: u64) -> Option<Vec<u8>> {
        let hashes = self.0.get(..usize::try_from(width).ok()?)?;
        Some(hashes.concat())
    }

    /// The root over all its hashes; of a full tile it is a hash of the level above.
    pub fn root(&self) -> Hash {
        let mut range = CompactRange::default();
        self.0.iter().for_each(|hash| range.push(*hash));
        range.root()
    }
}

/// The incomplete tile of each level: what a tree needs in memory to grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// From level 0 on, each with fewer than 256 hashes.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// That of a tree whose level-0 tiles are all full; `levels` are the incomplete tiles above them.
    pub(super) fn of_full_tiles(full: u64, above: Vec<Vec<Hash>>) -> Self {
        let mut levels = vec![Vec::new()];
        levels.extend(above);
        Self {
            size: full * TILE_HASHES,
            levels,
        }
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, by its hash; tiles that it completes are added to `full`, the lowest first.
    pub fn push(&mut self, leaf: Hash, full: &mut Vec<(TileId, Tile)>) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0..TILE_LEVELS {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(level) else {
                return;
            };
            hashes.push(hash);
            if (hashes.len() as u64) < TILE_HASHES {
                return;
            }
            let shift = (level as u32 + 1) * TILE_HEIGHT;
            let id = TileId {
                level: level as u8, // below 8
                number: self.size.checked_shr(shift).unwrap_or(0).saturating_sub(1),
            };
            hash = complete_root(hashes);
            full.push((id, Tile::of(hashes)));
            hashes.clear();
        }
    }

    /// The incomplete tile, when it is this one.
    pub fn tile(&self, id: TileId) -> Option<Tile> {
        let shift = (u32::from(id.level) + 1) * TILE_HEIGHT;
        let hashes = self.levels.get(usize::from(id.level))?;
        (id.number == self.size.checked_shr(shift).unwrap_or(0) && !hashes.is_empty()).then(|| Tile::of(hashes))
    }
}

/// Gives tiles to whoever needs nodes.
pub trait Tiles {
    /// Why one cannot be had.
    type Error;

    /// The tile with at least `width` hashes.
    fn tile(&mut self, id: TileId, width: u64) -> Result<Tile, Self::Error>;
}

/// The nodes of a tree that are in, or below, the hashes of its tiles.
pub struct TileNodes<'a, T>(pub &'a mut T);

impl<T: Tiles> Nodes for TileNodes<'_, T> {
    type Error = T::Error;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, T::Error> {
        let (tile_level, height) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << height;
        let id = TileId {
            level: tile_level as u8, // a tree's height is below 64
            number: first / TILE_HASHES,
        };
        let (begin, count) = (first % TILE_HASHES, 1_u64 << height);
        let tile = self.0.tile(id, begin + count)?;
        // The tile is as wide as was asked for: `begin + count` is at most 256.
        let hashes = tile
            .hashes()
            .get(begin as usize..(begin + count) as usize)
            .unwrap_or_default();
        Ok(complete_root(hashes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{
        consistency_proof, inclusion_proof, leaf_hash, root, verify_consistency, verify_inclusion,
    };
    use super::*;
    use std::collections::BTreeMap;

    struct Kept {
        full: BTreeMap<TileId, Tile>,
        edge: Edge,
    }

    impl Tiles for Kept {
        type Error = TileId;

        fn tile(&mut self, id: TileId, width: u64) -> Result<Tile, TileId> {
            let found = self.full.get(&id).cloned().or_else(|| self.edge.tile(id));
            found.filter(|tile| tile.hashes().len() as u64 >= width).ok_or(id)
        }
    }

    fn tree(size: u64) -> (Kept, CompactRange) {
        let mut kept = Kept {
            full: BTreeMap::new(),
            edge: Edge::default(),
        };
        let mut range = CompactRange::default();
        let mut full = Vec::new();
        for n in 0..size {
            let hash = leaf_hash(&n.to_be_bytes());
            kept.edge.push(hash, &mut full);
            range.push(hash);
        }
        kept.full.extend(full);
        (kept, range)
    }

    #[test]
    fn a_tile_is_named_as_tlog_tiles_says() {
        assert_eq!(tile_path(1_234_067), "x001/x234/067");
        assert_eq!(tile_path(0), "000");
        assert_eq!(tile_path(999), "999");
        assert_eq!(tile_path(1_000), "x001/000");
        assert_eq!(parse_tile_path("x001/x234/067"), Some((1_234_067, 256)));
        assert_eq!(parse_tile_path("x001/x234/067.p/9"), Some((1_234_067, 9)));
        for number in [0, 5, 999, 1_000, 70_000, u64::MAX] {
            assert_eq!(parse_tile_path(&tile_path(number)), Some((number, 256)));
        }
    }

    #[test]
    fn each_tile_has_one_name_only() {
        for path in [
            "",
            "0",
            "00",
            "0000",
            "1000",
            "x000/001",
            "001/000",
            "x001/x000",
            "xx01/000",
            "x001/00",
            "-01",
            "+01",
            "000.p/0",
            "000.p/256",
            "000.p/01",
            "000.p/",
            "000.p",
            "000.p/1/2",
            "x/000",
            "000/",
            "/000",
            "x018/x446/x744/x073/x709/x551/616",
            "٠٠١",
        ] {
            assert_eq!(parse_tile_path(path), None, "{path}");
        }
        for level in ["", "00", "01", "8", "63", "-1", "x"] {
            assert_eq!(parse_tile_level(level), None, "{level}");
        }
        assert_eq!(parse_tile_level("7"), Some(7));
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_of_the_specification() {
        let (kept, _) = tree(70_000);
        let full = |level| kept.full.keys().filter(|id| id.level == level).count();
        assert_eq!((full(0), full(1), full(2)), (273, 1, 0));
        let partial = |level, number| kept.edge.tile(TileId { level, number }).map(|tile| tile.hashes().len());
        assert_eq!(
            (partial(0, 273), partial(1, 1), partial(2, 0)),
            (Some(112), Some(17), Some(1))
        );
        for (id, width) in [
            ((0, 272), 256),
            ((0, 273), 112),
            ((0, 274), 0),
            ((1, 1), 17),
            ((2, 0), 1),
            ((3, 0), 0),
        ] {
            let id = TileId {
                level: id.0,
                number: id.1,
            };
            assert_eq!(id.width_in(70_000), width, "{id}");
        }
    }

    #[test]
    fn a_tree_of_one_full_tile_has_a_tile_of_one_hash_above_and_no_empty_one() {
        let (kept, range) = tree(256);
        assert_eq!(kept.edge.tile(TileId { level: 0, number: 1 }), None);
        let above = kept.edge.tile(TileId { level: 1, number: 0 }).unwrap();
        assert_eq!(above.hashes(), [range.root()]);
    }

    #[test]
    fn tiles_give_the_roots_and_the_proofs_of_every_size() {
        let (mut kept, _) = tree(70_000);
        let mut range = CompactRange::default();
        let watched = [
            1, 2, 255, 256, 257, 511, 512, 4_097, 65_535, 65_536, 65_537, 69_999, 70_000,
        ];
        let mut roots = Vec::new();
        for n in 0..70_000_u64 {
            range.push(leaf_hash(&n.to_be_bytes()));
            if watched.contains(&range.size()) {
                assert_eq!(
                    root(&mut TileNodes(&mut kept), range.size()),
                    Ok(range.root()),
                    "{}",
                    range.size()
                );
                roots.push((range.size(), range.root()));
            }
        }
        let (size, last) = (70_000, range.root());
        for index in watched.map(|size| size - 1) {
            let proof = inclusion_proof(&mut TileNodes(&mut kept), index, size).unwrap();
            verify_inclusion(&leaf_hash(&index.to_be_bytes()), index, size, &proof, &last).unwrap();
        }
        for (old, root) in roots {
            let proof = consistency_proof(&mut TileNodes(&mut kept), old, size).unwrap();
            verify_consistency((old, &root), (size, &last), &proof).unwrap();
        }
    }

    #[test]
    fn a_tile_is_bytes_of_whole_hashes_only() {
        assert_eq!(Tile::from_bytes(&[]), None);
        assert_eq!(Tile::from_bytes(&[0; 31]), None);
        assert_eq!(Tile::from_bytes(&[0; 33]), None);
        assert_eq!(Tile::from_bytes(&[0; 257 * 32]), None);
        let tile = Tile::from_bytes(&[7; 64]).unwrap();
        assert_eq!(tile.to_bytes(2).unwrap(), [7; 64]);
        assert_eq!(tile.to_bytes(1).unwrap(), [7; 32]);
        assert_eq!(tile.to_bytes(3), None);
    }
}
