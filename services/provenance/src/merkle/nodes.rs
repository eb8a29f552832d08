//! Which complete subtrees a root or a proof is made of.

use super::{Hash, empty_root, node_hash, split};
use crate::{LeafIndex, ProvenanceError, TreeSize};

/// A complete subtree: `2^level` leaves from leaf `index * 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// 0 for leaf hashes, at most 63.
    pub level: u8,
    /// The zero-based place among the nodes of its level.
    pub index: u64,
}

impl NodeId {
    /// The node of this level and place.
    pub const fn new(level: u8, index: u64) -> Self {
        Self { level, index }
    }
}

/// The complete subtrees whose hashes make the root of a tree of this size, from left to right.
/// This is also the tree's right edge, which [`super::Appender`] continues from. Empty for size 0.
pub fn root_nodes(size: TreeSize) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    cover(0, size.get(), &mut nodes);
    nodes
}

/// The root hash from the hashes of [`root_nodes`], in the same order.
pub fn fold_root(edge: &[Hash]) -> Hash {
    fold(edge).unwrap_or_else(empty_root)
}

/// The nodes to fetch for a proof, and how their hashes become the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofNodes {
    nodes: Vec<NodeId>,
    /// How many consecutive nodes make each hash of the proof. Most are 1; the subtree at the right
    /// border of the tree is not complete and is made of several.
    group_lengths: Vec<usize>,
}

impl ProofNodes {
    /// The nodes to fetch, in the order in which [`ProofNodes::fold`] wants their hashes.
    pub fn ids(&self) -> &[NodeId] {
        &self.nodes
    }

    /// How many hashes the proof has.
    pub fn proof_length(&self) -> usize {
        self.group_lengths.len()
    }

    /// The proof, from the hashes of [`ProofNodes::ids`] in the same order.
    ///
    /// # Errors
    /// Refuses more or fewer hashes than ids.
    pub fn fold(&self, hashes: &[Hash]) -> Result<Vec<Hash>, ProvenanceError> {
        if hashes.len() != self.nodes.len() {
            return Err(ProvenanceError::NodeCount {
                expected: self.nodes.len(),
                found: hashes.len(),
            });
        }
        let mut rest = hashes;
        let mut proof = Vec::with_capacity(self.group_lengths.len());
        for length in &self.group_lengths {
            let (group, after) = rest.split_at(*length);
            proof.extend(fold(group));
            rest = after;
        }
        Ok(proof)
    }

    /// Turns ranges of leaves, one for each hash of the proof, into nodes.
    fn from_ranges(ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut nodes = Vec::new();
        let mut group_lengths = Vec::new();
        for (begin, end) in ranges {
            let before = nodes.len();
            cover(begin, end, &mut nodes);
            group_lengths.push(nodes.len() - before);
        }
        Self {
            nodes,
            group_lengths,
        }
    }
}

/// The nodes for the inclusion proof of a leaf: PATH(m, D_n) of RFC 6962, section 2.1.1.
///
/// # Errors
/// Refuses an index outside the tree.
pub fn inclusion_nodes(
    leaf_index: LeafIndex,
    tree_size: TreeSize,
) -> Result<ProofNodes, ProvenanceError> {
    if !tree_size.contains(leaf_index) {
        return Err(ProvenanceError::IndexOutOfRange {
            leaf_index,
            tree_size,
        });
    }
    // Walks from the root down to the leaf and notes the sibling of each step.
    let (mut begin, mut end) = (0, tree_size.get());
    let mut siblings = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if leaf_index.get() < middle {
            siblings.push((middle, end));
            end = middle;
        } else {
            siblings.push((begin, middle));
            begin = middle;
        }
    }
    Ok(ProofNodes::from_ranges(siblings.into_iter().rev()))
}

/// The nodes for the consistency proof between two sizes: PROOF(m, D_n) of RFC 6962, section 2.1.2.
/// The proof between equal sizes is empty.
///
/// # Errors
/// Refuses a new size below the old one, and the empty tree as the old one.
pub fn consistency_nodes(
    old_size: TreeSize,
    new_size: TreeSize,
) -> Result<ProofNodes, ProvenanceError> {
    check_sizes(old_size, new_size)?;
    // Walks from the new root down to where the old tree ends on a complete subtree.
    let old_end = old_size.get();
    let (mut begin, mut end) = (0, new_size.get());
    let mut ranges = Vec::new();
    while old_end != end {
        let middle = begin + split(end - begin);
        if old_end <= middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((begin, middle));
            begin = middle;
        }
    }
    // The verifier knows the old root itself, so it is left out when the walk ended there.
    if begin > 0 {
        ranges.push((begin, end));
    }
    Ok(ProofNodes::from_ranges(ranges.into_iter().rev()))
}

/// The rules that two sizes must obey before any proof between them has a meaning.
pub(super) fn check_sizes(old_size: TreeSize, new_size: TreeSize) -> Result<(), ProvenanceError> {
    if new_size < old_size {
        return Err(ProvenanceError::TreeShrank { old_size, new_size });
    }
    if old_size.get() == 0 && new_size.get() > 0 {
        return Err(ProvenanceError::ConsistencyFromEmpty { new_size });
    }
    Ok(())
}

/// Adds the complete subtrees that cover the leaves `begin..end`, largest first. `begin` must be
/// aligned to the largest of them, as it is for every range that RFC 6962's splits produce.
fn cover(mut begin: u64, end: u64, nodes: &mut Vec<NodeId>) {
    while begin < end {
        let level = (end - begin).ilog2();
        nodes.push(NodeId {
            level: u8::try_from(level).expect("the logarithm of 64 bits is below 64"),
            index: begin >> level,
        });
        begin += 1 << level;
    }
}

/// Joins neighbouring subtrees, largest first, into one hash, from the right. `None` for none.
fn fold(hashes: &[Hash]) -> Option<Hash> {
    let (last, others) = hashes.split_last()?;
    let joined = others.iter().rev();
    Some(joined.fold(*last, |right, left| node_hash(left, &right)))
}
