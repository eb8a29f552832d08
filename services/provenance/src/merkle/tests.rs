//! The fast tree against the literal one.

use super::literal;
use super::*;
use crate::{LeafIndex, ProvenanceError, TreeSize};

/// Big enough to pass several powers of two on both sides.
const LEAVES: usize = 140;

fn leaf_data() -> Vec<Vec<u8>> {
    (0..LEAVES)
        .map(|i| format!("leaf {i}").into_bytes())
        .collect()
}

fn size(leaves: usize) -> TreeSize {
    TreeSize::new(leaves as u64)
}

fn head(leaves: usize, root_hash: Hash) -> TreeHead {
    TreeHead {
        size: size(leaves),
        root_hash,
    }
}

/// All complete subtrees of the first `LEAVES` leaves, as storage would hold them.
struct Storage {
    nodes: std::collections::BTreeMap<NodeId, Hash>,
    appender: Appender,
}

impl Storage {
    fn new() -> Self {
        Self {
            nodes: std::collections::BTreeMap::new(),
            appender: Appender::empty(),
        }
    }

    fn append(&mut self, data: &[u8]) -> LeafIndex {
        let mut new_nodes = Vec::new();
        let index = self
            .appender
            .append(leaf_hash(data), &mut new_nodes)
            .unwrap();
        for node in new_nodes {
            let earlier = self.nodes.insert(node.id, node.hash);
            assert_eq!(earlier, None, "a node is completed once");
        }
        index
    }

    fn filled(leaves: usize) -> Self {
        let mut storage = Self::new();
        for data in &leaf_data()[..leaves] {
            storage.append(data);
        }
        storage
    }

    fn fetch(&self, ids: &[NodeId]) -> Vec<Hash> {
        ids.iter().map(|id| self.nodes[id]).collect()
    }
}

#[test]
fn the_root_equals_the_literal_root_at_every_size() {
    let data = leaf_data();
    let mut storage = Storage::new();
    assert_eq!(storage.appender.root(), literal::mth(&[]));
    for n in 0..LEAVES {
        assert_eq!(storage.append(&data[n]), LeafIndex::new(n as u64));
        let expected = literal::mth(&data[..=n]);
        assert_eq!(storage.appender.root(), expected);
        let nodes = root_nodes(size(n + 1));
        assert_eq!(storage.appender.edge(), storage.fetch(&nodes));
        assert_eq!(fold_root(&storage.fetch(&nodes)), expected);
    }
}

#[test]
fn an_appender_continues_from_the_right_edge_alone() {
    let data = leaf_data();
    let storage = Storage::filled(LEAVES);
    for n in 0..LEAVES {
        let edge = storage.fetch(&root_nodes(size(n)));
        let mut appender = Appender::new(size(n), edge).unwrap();
        let mut new_nodes = Vec::new();
        appender
            .append(leaf_hash(&data[n]), &mut new_nodes)
            .unwrap();
        for node in new_nodes {
            assert_eq!(storage.nodes[&node.id], node.hash);
        }
        assert_eq!(appender.root(), literal::mth(&data[..=n]));
    }
    assert_eq!(
        Appender::new(size(5), vec![empty_root()]).unwrap_err(),
        ProvenanceError::NodeCount {
            expected: 2,
            found: 1
        }
    );
}

#[test]
fn every_inclusion_proof_equals_the_literal_path_and_verifies() {
    let data = leaf_data();
    let storage = Storage::filled(LEAVES);
    for n in 1..=LEAVES {
        let root = literal::mth(&data[..n]);
        for (m, leaf) in data[..n].iter().enumerate() {
            // Every pair up to 70 leaves, then every seventh: the literal path is slow.
            if n > 70 && !(m + n).is_multiple_of(7) {
                continue;
            }
            let index = LeafIndex::new(m as u64);
            let nodes = inclusion_nodes(index, size(n)).unwrap();
            let proof = nodes.fold(&storage.fetch(nodes.ids())).unwrap();
            assert_eq!(proof, literal::path(m, &data[..n]), "leaf {m} of {n}");
            let verified = verify_inclusion(&leaf_hash(leaf), index, &head(n, root), &proof);
            assert_eq!(verified, Ok(()), "leaf {m} of {n}");
        }
    }
}

#[test]
fn every_consistency_proof_equals_the_literal_one_and_verifies() {
    let data = leaf_data();
    let storage = Storage::filled(LEAVES);
    let roots: Vec<Hash> = (0..=LEAVES).map(|n| literal::mth(&data[..n])).collect();
    for n in 1..=LEAVES {
        for m in 1..=n {
            if n > 70 && !(m + n).is_multiple_of(7) {
                continue;
            }
            let nodes = consistency_nodes(size(m), size(n)).unwrap();
            let proof = nodes.fold(&storage.fetch(nodes.ids())).unwrap();
            assert_eq!(proof, literal::proof(m, &data[..n]), "{m} to {n}");
            let verified = verify_consistency(&head(m, roots[m]), &head(n, roots[n]), &proof);
            assert_eq!(verified, Ok(()), "{m} to {n}");
        }
    }
}

#[test]
fn an_inclusion_proof_holds_at_its_own_place_alone() {
    let data = leaf_data();
    let storage = Storage::filled(20);
    for n in 1..=20 {
        for m in 0..n {
            let nodes = inclusion_nodes(LeafIndex::new(m), TreeSize::new(n)).unwrap();
            let proof = nodes.fold(&storage.fetch(nodes.ids())).unwrap();
            let leaf = leaf_hash(&data[m as usize]);
            let root = literal::mth(&data[..n as usize]);
            for other_m in 0..22 {
                let other = LeafIndex::new(other_m);
                let verified = verify_inclusion(&leaf, other, &head(n as usize, root), &proof);
                assert_eq!(verified.is_ok(), other_m == m, "{m} as {other_m} of {n}");
            }
        }
    }
}

#[test]
fn a_consistency_proof_holds_for_no_other_roots() {
    let data = leaf_data();
    let storage = Storage::filled(20);
    let other = leaf_hash(b"other");
    for n in 1..=20 {
        for m in 1..=n {
            let nodes = consistency_nodes(size(m), size(n)).unwrap();
            let proof = nodes.fold(&storage.fetch(nodes.ids())).unwrap();
            let (old, new) = (literal::mth(&data[..m]), literal::mth(&data[..n]));
            let verify =
                |old, new, proof: &[Hash]| verify_consistency(&head(m, old), &head(n, new), proof);
            assert!(verify(other, new, &proof).is_err());
            assert!(verify(old, other, &proof).is_err());
            for place in 0..proof.len() {
                let mut changed = proof.clone();
                changed[place] = other;
                assert!(verify(old, new, &changed).is_err(), "{m} to {n} at {place}");
            }
        }
    }
}

#[test]
fn proofs_in_the_largest_tree_are_planned_without_overflow() {
    let top = TreeSize::new(u64::MAX);
    for index in [0, 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1] {
        let nodes = inclusion_nodes(LeafIndex::new(index), top).unwrap();
        assert!(nodes.proof_length() <= 64);
    }
    for old in [1, 2, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX] {
        consistency_nodes(TreeSize::new(old), top).unwrap();
    }
    assert_eq!(root_nodes(top).len(), 64);
    let refused = inclusion_nodes(LeafIndex::new(u64::MAX), top).unwrap_err();
    assert_eq!(refused.code(), "index-out-of-range");
}

#[test]
fn a_full_tree_refuses_another_leaf() {
    let top = TreeSize::new(u64::MAX);
    let mut appender = Appender::new(top, vec![empty_root(); 64]).unwrap();
    let mut new_nodes = Vec::new();
    let refused = appender.append(empty_root(), &mut new_nodes).unwrap_err();
    assert_eq!(refused, ProvenanceError::TreeFull);
    assert!(new_nodes.is_empty());
    assert_eq!(appender.size(), top);
}

#[test]
fn hashes_that_were_not_asked_for_are_refused() {
    let nodes = inclusion_nodes(LeafIndex::new(0), size(5)).unwrap();
    assert_eq!(nodes.ids().len(), 3);
    for found in [0, 2, 4] {
        let refused = nodes.fold(&vec![empty_root(); found]).unwrap_err();
        assert_eq!(refused, ProvenanceError::NodeCount { expected: 3, found });
    }
}

#[test]
fn a_leaf_is_never_a_node() {
    let (left, right) = (leaf_hash(b"l"), leaf_hash(b"r"));
    let children = [left.as_bytes().as_slice(), right.as_bytes()].concat();
    assert_ne!(leaf_hash(&children), node_hash(&left, &right));
}
