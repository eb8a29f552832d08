//! The definitions of RFC 6962, section 2.1, word by word: slow, recursive, over the leaves' data.
//! The fast tree is compared with it.

use super::{Hash, empty_root, leaf_hash, node_hash};

/// The largest power of two smaller than n, found by doubling.
fn k(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// MTH(D_n).
pub(super) fn mth(d: &[Vec<u8>]) -> Hash {
    match d {
        [] => empty_root(),
        [only] => leaf_hash(only),
        _ => {
            let (left, right) = d.split_at(k(d.len()));
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// PATH(m, D_n).
pub(super) fn path(m: usize, d: &[Vec<u8>]) -> Vec<Hash> {
    if d.len() == 1 {
        return Vec::new();
    }
    let k = k(d.len());
    let (left, right) = d.split_at(k);
    let (mut proof, sibling) = if m < k {
        (path(m, left), mth(right))
    } else {
        (path(m - k, right), mth(left))
    };
    proof.push(sibling);
    proof
}

/// PROOF(m, D_n).
pub(super) fn proof(m: usize, d: &[Vec<u8>]) -> Vec<Hash> {
    subproof(m, d, true)
}

/// SUBPROOF(m, D_n, b).
fn subproof(m: usize, d: &[Vec<u8>], b: bool) -> Vec<Hash> {
    if m == d.len() {
        return if b { Vec::new() } else { vec![mth(d)] };
    }
    let k = k(d.len());
    let (left, right) = d.split_at(k);
    let (mut proof, sibling) = if m <= k {
        (subproof(m, left, b), mth(right))
    } else {
        (subproof(m - k, right, false), mth(left))
    };
    proof.push(sibling);
    proof
}
