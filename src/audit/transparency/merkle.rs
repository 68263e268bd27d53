//! Merkle tree hashing as RFC 6962 §2.1 (RFC 9162 §2.1) has it: roots, and proofs of inclusion and consistency,
//! made from any source of nodes and verified from nothing but the hashes.

use sha2::{Digest, Sha256};

/// A SHA-256 hash: of a leaf, a node or a whole tree.
pub type Hash = [u8; 32];

/// No tree of 64-bit sizes is higher, so no proof is longer.
pub const MAX_PROOF_HASHES: usize = 64;

/// The hash of a leaf: `SHA256(0x00 ‖ entry)`.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of a node: `SHA256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The root of the tree without leaves: `SHA256("")`.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root over consecutive nodes of one level, whose number is a power of two.
pub fn complete_root(hashes: &[Hash]) -> Hash {
    debug_assert!(hashes.len().is_power_of_two());
    let mut range = CompactRange::default();
    for hash in hashes {
        range.push(*hash);
    }
    range.root()
}

/// A tree as it grows, known by the roots of its complete subtrees alone: at most 64 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    /// The largest, leftmost subtree first: one for each bit that is set in the size.
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each bit that the increment carries over joins two subtrees of one height.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// Where the hashes of complete subtrees come from.
pub trait Nodes {
    /// Why one cannot be had.
    type Error;

    /// The root of the complete subtree of `2^level` leaves from leaf `index · 2^level` on.
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The root of the tree of the first `size` leaves.
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 {
        return Ok(empty_root());
    }
    range_root(nodes, 0, size)
}

/// RFC 6962 §2.1.1: the hashes from the leaf's sibling upward that lead to the root. `index < size`.
pub fn inclusion_proof<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut begin, mut end) = (0, size);
    let mut downward = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            downward.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            downward.push(range_root(nodes, begin, middle)?);
            begin = middle;
        }
    }
    downward.reverse();
    Ok(downward)
}

/// RFC 6962 §2.1.2: the hashes that lead from the root of the first `old` leaves to that of the first `new`.
/// `0 < old <= new`; of equal sizes it is empty.
pub fn consistency_proof<N: Nodes>(nodes: &mut N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut begin, mut end) = (0, new);
    let mut downward = Vec::new();
    while old != end {
        let middle = begin + split(end - begin);
        if old <= middle {
            downward.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            downward.push(range_root(nodes, begin, middle)?);
            begin = middle;
        }
    }
    // The old tree's own root is known to whoever asks.
    if begin != 0 {
        downward.push(range_root(nodes, begin, end)?);
    }
    downward.reverse();
    Ok(downward)
}

/// A proof does not prove what it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead to the root")]
pub struct InvalidProof;

/// RFC 9162 §2.1.3.2: whether the leaf is at the index in the tree of this size and root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), InvalidProof> {
    if index >= size {
        return Err(InvalidProof);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(InvalidProof);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root {
        Ok(())
    } else {
        Err(InvalidProof)
    }
}

/// RFC 9162 §2.1.4.2: whether the tree of the new size and root begins with the one of the old.
pub fn verify_consistency(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    proof: &[Hash],
) -> Result<(), InvalidProof> {
    let holds = |is_so: bool| if is_so { Ok(()) } else { Err(InvalidProof) };
    if old > new {
        return Err(InvalidProof);
    }
    if old == new {
        return holds(proof.is_empty() && old_root == new_root);
    }
    if old == 0 {
        // Every tree begins with the empty one.
        return holds(proof.is_empty() && *old_root == empty_root());
    }
    let mut proof = proof.iter();
    let first = if old.is_power_of_two() {
        old_root
    } else {
        proof.next().ok_or(InvalidProof)?
    };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in proof {
        if last == 0 {
            return Err(InvalidProof);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    holds(last == 0 && old_hash == *old_root && new_hash == *new_root)
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The root of leaves `begin..end`, a range as the recursion of RFC 6962 §2.1 cuts it: its begin is a multiple
/// of the smallest power of two that is not below its length.
fn range_root<N: Nodes>(nodes: &mut N, begin: u64, end: u64) -> Result<Hash, N::Error> {
    let mut complete = Vec::new();
    let mut begin = begin;
    while begin < end {
        let left = end - begin;
        let height = 63 - left.leading_zeros();
        complete.push(nodes.node(height, begin >> height)?);
        begin += 1 << height;
    }
    let mut complete = complete.into_iter().rev();
    let last = complete.next().unwrap_or_else(empty_root);
    Ok(complete.fold(last, |right, left| node_hash(&left, &right)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use ct_merkle::{HashableLeaf, RootHash};
    use proptest::prelude::*;
    use std::convert::Infallible;

    struct Leaves(Vec<Hash>);

    impl Nodes for Leaves {
        type Error = Infallible;

        fn node(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
            let (first, count) = ((index << level) as usize, 1_usize << level);
            Ok(complete_root(&self.0[first..first + count]))
        }
    }

    /// The leaves of the reference tree that certificate-transparency implementations share.
    const REFERENCE: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_reference_tree_has_its_root() {
        let mut range = CompactRange::default();
        assert_eq!(range.root(), empty_root());
        REFERENCE.iter().for_each(|leaf| range.push(leaf_hash(leaf)));
        let expected = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
        assert_eq!(hex(&range.root()), expected);
        let mut leaves = Leaves(REFERENCE.iter().map(|leaf| leaf_hash(leaf)).collect());
        assert_eq!(hex(&root(&mut leaves, 8).unwrap()), expected);
        assert_eq!(
            hex(&empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn the_reference_tree_of_seven_has_the_proofs_of_rfc_6962() {
        let mut nodes = Leaves(REFERENCE.iter().map(|leaf| leaf_hash(leaf)).collect());
        // RFC 6962 §2.1.3: the path of d6 in the tree of seven is [i, k], the proof from 6 to 7 is [i, j, k].
        let i = nodes.node(1, 2).unwrap();
        let (j, k) = (nodes.node(0, 6).unwrap(), nodes.node(2, 0).unwrap());
        assert_eq!(inclusion_proof(&mut nodes, 6, 7).unwrap(), [i, k]);
        assert_eq!(consistency_proof(&mut nodes, 6, 7).unwrap(), [i, j, k]);
    }

    struct Bytes(Vec<u8>);

    impl HashableLeaf for Bytes {
        fn hash<H: ct_merkle::digest::Update>(&self, hasher: &mut H) {
            hasher.update(&self.0);
        }
    }

    fn theirs(entries: &[Vec<u8>]) -> MemoryBackedTree<Sha256, Bytes> {
        let mut tree = MemoryBackedTree::new();
        entries.iter().for_each(|entry| tree.push(Bytes(entry.clone())));
        tree
    }

    fn concatenated(proof: &[Hash]) -> Vec<u8> {
        proof.concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ct_merkle_agrees_on_roots_and_takes_our_proofs(
            entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 1..200),
            a in any::<prop::sample::Index>(),
            b in any::<prop::sample::Index>(),
        ) {
            let mut ours = Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect());
            let size = entries.len() as u64;
            let tree = theirs(&entries);
            let new_root = root(&mut ours, size).unwrap();
            let their_root = tree.root();
            prop_assert_eq!(their_root.as_bytes().as_slice(), new_root.as_slice());

            let index = a.index(entries.len());
            let proof = inclusion_proof(&mut ours, index as u64, size).unwrap();
            let theirs_included = tree.prove_inclusion(index);
            prop_assert_eq!(theirs_included.as_bytes(), concatenated(&proof));
            let leaf = leaf_hash(&entries[index]);
            prop_assert_eq!(verify_inclusion(&leaf, index as u64, size, &proof, &new_root), Ok(()));

            let old = 1 + b.index(entries.len());
            let old_root = root(&mut ours, old as u64).unwrap();
            let proof = consistency_proof(&mut ours, old as u64, size).unwrap();
            prop_assert_eq!(verify_consistency((old as u64, &old_root), (size, &new_root), &proof), Ok(()));
            if old < entries.len() {
                let old_tree = theirs(&entries[..old]);
                let theirs = tree.prove_consistency(entries.len() - old);
                prop_assert_eq!(theirs.as_bytes(), concatenated(&proof));
                let mut digest = sha2::digest::Output::<Sha256>::default();
                digest.copy_from_slice(&old_root);
                let ours = RootHash::<Sha256>::new(digest, old as u64);
                prop_assert!(ours == old_tree.root());
                let proof = ct_merkle::ConsistencyProof::<Sha256>::try_from_bytes(concatenated(&proof)).unwrap();
                prop_assert!(tree.root().verify_consistency(&ours, &proof).is_ok());
            }
        }

        #[test]
        fn a_proof_holds_for_nothing_else(
            count in 2..60_u64,
            index in 0..60_u64,
            old in 1..60_u64,
            place in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let (index, old) = (index % count, 1 + old % (count - 1));
            let mut nodes = Leaves((0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect());
            let new_root = root(&mut nodes, count).unwrap();
            let leaf = nodes.0[index as usize];
            let mut proof = inclusion_proof(&mut nodes, index, count).unwrap();
            for (other, at) in [(leaf_hash(b"other"), index), (leaf, (index + 1) % count)] {
                prop_assert!(verify_inclusion(&other, at, count, &proof, &new_root).is_err());
            }
            let at = place.index(proof.len() * 32);
            proof[at / 32][at % 32] ^= 1 << bit;
            prop_assert!(verify_inclusion(&leaf, index, count, &proof, &new_root).is_err());
            proof[at / 32][at % 32] ^= 1 << bit;
            proof.push(leaf);
            prop_assert!(verify_inclusion(&leaf, index, count, &proof, &new_root).is_err());

            let old_root = root(&mut nodes, old).unwrap();
            let mut proof = consistency_proof(&mut nodes, old, count).unwrap();
            let at = place.index(proof.len() * 32);
            proof[at / 32][at % 32] ^= 1 << bit;
            prop_assert!(verify_consistency((old, &old_root), (count, &new_root), &proof).is_err());
            proof[at / 32][at % 32] ^= 1 << bit;
            prop_assert!(verify_consistency((old, &leaf_hash(b"x")), (count, &new_root), &proof).is_err());
            proof.pop();
            prop_assert!(verify_consistency((old, &old_root), (count, &new_root), &proof).is_err());
        }

        #[test]
        fn a_tree_that_grows_has_the_root_of_the_whole(count in 0..600_u64) {
            let mut nodes = Leaves(Vec::new());
            let mut range = CompactRange::default();
            for n in 0..count {
                nodes.0.push(leaf_hash(&n.to_be_bytes()));
                range.push(leaf_hash(&n.to_be_bytes()));
            }
            prop_assert_eq!(range.size(), count);
            prop_assert_eq!(range.root(), root(&mut nodes, count).unwrap());
        }
    }
}
