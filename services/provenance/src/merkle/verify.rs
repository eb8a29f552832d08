//! Verifying proofs without any tree, by RFC 9162, sections 2.1.3.2 and 2.1.4.2.

use super::nodes::check_sizes;
use super::{Hash, TreeHead, consistency_nodes, empty_root, inclusion_nodes, node_hash};
use crate::{LeafIndex, ProvenanceError};

/// Verifies that the leaf with this hash stands at this place of the tree with this size and root.
///
/// # Errors
/// Says whether the index, the number of hashes or the root is wrong.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    leaf_index: LeafIndex,
    head: &TreeHead,
    proof: &[Hash],
) -> Result<(), ProvenanceError> {
    check_proof_length(
        inclusion_nodes(leaf_index, head.size)?.proof_length(),
        proof,
    )?;
    // The path from the leaf to the root, and beside it the path of the tree's last leaf: where they
    // meet, the right border begins, on which a node may have no right sibling.
    let mut node = leaf_index.get();
    let mut last = head.size.get() - 1;
    let mut computed = *leaf_hash;
    for sibling in proof {
        if node & 1 == 1 || node == last {
            computed = node_hash(sibling, &computed);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            computed = node_hash(&computed, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    check_root(&computed, &head.root_hash)
}

/// Verifies that the tree of the new size and root continues the tree of the old size and root.
///
/// # Errors
/// Says whether the sizes, the number of hashes, the old or the new root is wrong. The empty tree as
/// the older one is refused unless both are empty: a proof from it would say nothing.
pub fn verify_consistency(
    old: &TreeHead,
    new: &TreeHead,
    proof: &[Hash],
) -> Result<(), ProvenanceError> {
    let (old_size, new_size) = (old.size, new.size);
    check_sizes(old_size, new_size)?;
    check_proof_length(consistency_nodes(old_size, new_size)?.proof_length(), proof)?;
    if old_size == new_size {
        if old_size.get() == 0 {
            check_root(&empty_root(), &old.root_hash)?;
        }
        return check_root(&old.root_hash, &new.root_hash);
    }
    // The walk starts at the last complete subtree of the old tree. When the old tree is that subtree,
    // its hash is the old root; otherwise the proof begins with it.
    let shift = old_size.get().trailing_zeros();
    let (start, path) = if old_size.get().is_power_of_two() {
        (&old.root_hash, proof)
    } else {
        proof
            .split_first()
            .expect("the length was checked: between these sizes a proof has a first hash")
    };
    let mut node = (old_size.get() - 1) >> shift;
    let mut last = (new_size.get() - 1) >> shift;
    let (mut computed_old, mut computed_new) = (*start, *start);
    for sibling in path {
        if node & 1 == 1 || node == last {
            computed_old = node_hash(sibling, &computed_old);
            computed_new = node_hash(sibling, &computed_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            computed_new = node_hash(&computed_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if computed_old != old.root_hash {
        return Err(ProvenanceError::OldRootMismatch {
            computed: computed_old,
            claimed: old.root_hash,
        });
    }
    check_root(&computed_new, &new.root_hash)
}

fn check_proof_length(expected: usize, proof: &[Hash]) -> Result<(), ProvenanceError> {
    if proof.len() != expected {
        return Err(ProvenanceError::ProofLength {
            expected,
            found: proof.len(),
        });
    }
    Ok(())
}

fn check_root(computed: &Hash, claimed: &Hash) -> Result<(), ProvenanceError> {
    if computed != claimed {
        return Err(ProvenanceError::RootMismatch {
            computed: *computed,
            claimed: *claimed,
        });
    }
    Ok(())
}
