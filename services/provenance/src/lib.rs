//! Entries and their canonical bytes, digests, signatures, Merkle tree, checkpoints and offline bundles.
