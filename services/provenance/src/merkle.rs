//! The Merkle tree of RFC 6962 (same tree and proofs in RFC 9162, section 2.1).
//!
//! The tree is stored as the hashes of its *complete subtrees*, which never change once written. A
//! node of level 0 is a leaf hash; node `i` of level `l` covers the leaves `i * 2^l` up to
//! `(i + 1) * 2^l`. Reading works in two halves, so that asynchronous storage needs no trait here:
//! [`root_nodes`], [`inclusion_nodes`] and [`consistency_nodes`] list the nodes to fetch, and folding
//! the fetched hashes gives the root or the proof. Writing goes through [`Appender`], which needs the
//! right edge alone.

mod appender;
mod nodes;
mod verify;

#[cfg(test)]
mod literal;
#[cfg(test)]
mod tests;

pub use appender::{Appender, NewNode};
pub use nodes::{NodeId, ProofNodes, consistency_nodes, fold_root, inclusion_nodes, root_nodes};
pub use verify::{verify_consistency, verify_inclusion};

use crate::{Digest, TreeSize};

/// A hash of a tree node.
pub type Hash = Digest;

/// The size of a tree and its root hash, which together fix every leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// The number of leaves.
    pub size: TreeSize,
    /// The root over them.
    pub root_hash: Hash,
}

/// Before the data of a leaf, so that no leaf can be read as an inner node.
const LEAF_PREFIX: [u8; 1] = [0x00];
/// Before the two children of an inner node.
const NODE_PREFIX: [u8; 1] = [0x01];

/// The hash of a leaf: SHA-256(0x00 || data).
pub fn leaf_hash(data: &[u8]) -> Hash {
    Digest::of_parts(&[&LEAF_PREFIX, data])
}

/// The hash of an inner node: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Digest::of_parts(&[&NODE_PREFIX, left.as_bytes(), right.as_bytes()])
}

/// The root hash of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Digest::of(b"")
}

/// The largest power of two below `leaves`, where RFC 6962 splits a tree. `leaves` is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}
