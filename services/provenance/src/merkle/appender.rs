//! Growing the tree from its right edge.

use super::nodes::{NodeId, fold_root, root_nodes};
use super::{Hash, node_hash};
use crate::{LeafIndex, ProvenanceError, TreeSize};

/// A complete subtree that an append has finished, to be stored and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Which subtree.
    pub id: NodeId,
    /// Its hash.
    pub hash: Hash,
}

/// Appends leaves to a tree of which only the right edge is known.
#[derive(Clone, Debug)]
pub struct Appender {
    size: TreeSize,
    /// The hashes of `root_nodes(size)`.
    edge: Vec<Hash>,
}

impl Appender {
    /// Starts with the tree without leaves.
    pub fn empty() -> Self {
        Self {
            size: TreeSize::new(0),
            edge: Vec::new(),
        }
    }

    /// Continues a tree from the hashes of [`root_nodes`] of its size, in the same order.
    ///
    /// # Errors
    /// Refuses more or fewer hashes than the size asks for. Whether they are the right ones shows in
    /// [`Appender::root`], which the caller compares with the last signed checkpoint.
    pub fn new(size: TreeSize, edge: Vec<Hash>) -> Result<Self, ProvenanceError> {
        let expected = root_nodes(size).len();
        if edge.len() != expected {
            return Err(ProvenanceError::NodeCount {
                expected,
                found: edge.len(),
            });
        }
        Ok(Self { size, edge })
    }

    /// The number of leaves.
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The root hash at the present size.
    pub fn root(&self) -> Hash {
        fold_root(&self.edge)
    }

    /// The right edge at the present size, in the order of [`root_nodes`].
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// Appends one leaf. Every subtree that it completes, the leaf itself first, is added to
    /// `new_nodes`. Answers the leaf's place.
    ///
    /// # Errors
    /// Refuses a leaf beyond 2^64 - 1.
    pub fn append(
        &mut self,
        leaf_hash: Hash,
        new_nodes: &mut Vec<NewNode>,
    ) -> Result<LeafIndex, ProvenanceError> {
        let place = self.size.get();
        let size = place.checked_add(1).ok_or(ProvenanceError::TreeFull)?;
        let mut node = NewNode {
            id: NodeId::new(0, place),
            hash: leaf_hash,
        };
        new_nodes.push(node);
        // Like adding one to a binary number: each set low bit of the old size is a subtree that the
        // new one completes.
        while node.id.index & 1 == 1 {
            let left = self
                .edge
                .pop()
                .expect("a node with an odd index has a left sibling on the edge");
            node = NewNode {
                id: NodeId::new(node.id.level + 1, node.id.index >> 1),
                hash: node_hash(&left, &node.hash),
            };
            new_nodes.push(node);
        }
        self.edge.push(node.hash);
        self.size = TreeSize::new(size);
        Ok(LeafIndex::new(place))
    }
}
