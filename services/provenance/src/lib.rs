//! Entries and their canonical bytes, digests, signatures, the Merkle tree, checkpoints and offline bundles.
//!
//! The crate is pure: it does no I/O, reads no clock and draws no randomness, so that the same inputs
//! always give the same signed bytes. A statement travels through it in this order:
//!
//! 1. An [`Entry`] says what happened. Its canonical bytes are compact JSON with a version and a kind.
//! 2. An [`Envelope`] (DSSE) carries these bytes and one Ed25519 signature of the entry key. The
//!    envelope's own canonical bytes are the leaf of the log.
//! 3. [`merkle`] is the RFC 6962 tree over the leaves: roots, inclusion and consistency proofs.
//! 4. A [`Checkpoint`] (C2SP tlog-checkpoint, a signed note) fixes tree size and root hash under the
//!    checkpoint key.
//! 5. A [`Bundle`] holds an envelope and its C2SP `tlog-proof@v1` text, which is all that an auditor
//!    with the [`PublicKeys`] needs.
//!    Where another key followed the first of its purpose, the log says so itself ([`KeyHistory`],
//!    [`CheckpointKeys`]), and bundle and [`KeyFile`] carry the proof.
//! 6. A [`Tile`] names one of the files that the whole log is read as (C2SP tlog-tiles).
//! 7. A [`witness`] cosigns checkpoints that continue the one it saw before (C2SP tlog-witness).
//!
//! # Strictness
//!
//! Every parser accepts exactly the bytes that the writer produces and nothing else: base64 without
//! spare bits, decimals without leading zeroes, JSON that is equal to its own re-serialisation. A
//! bundle therefore has no byte that could be changed without being noticed: each byte is covered by
//! a signature, by the Merkle tree, or by the one permitted spelling. (While one checkpoint key signs
//! beside the next, whoever holds a bundle can leave the older line out.)
//!
//! The formats are those of the secure-systems-lab DSSE specification 1.0, RFC 6962 and RFC 9162,
//! RFC 8032, and C2SP `signed-note`, `tlog-checkpoint`, `tlog-tiles`, `tlog-proof`, `tlog-cosignature`
//! and `tlog-witness`.

pub mod bundle;
pub mod checkpoint;
mod checkpoint_keys;
pub mod commitment;
pub mod decimal;
pub mod digest;
mod encoding;
pub mod entry;
pub mod envelope;
mod error;
pub mod export;
pub mod key_file;
pub mod key_history;
pub mod keys;
pub mod merkle;
pub mod near;
pub mod note;
pub mod position;
pub mod tile;
pub mod tlog_proof;
pub mod witness;

pub use bundle::{Bundle, VerifiedBundle};
pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use checkpoint_keys::{CheckpointKey, CheckpointKeys};
pub use commitment::commit;
pub use decimal::Decimal;
pub use digest::Digest;
pub use entry::{
    CheckpointKeySuccessionEntry, Entry, GenerationDetails, GenerationEntry, KeyRequest,
    KeyRevocationEntry, KeySuccessionEntry, NOISE_WATERMARK, PerceptualAlgorithm, RecordedDetector,
    RecordedImage, RecordedModel, RecordedNoise, RecordedPerceptualHash, RecordedTask,
    RecordedVerdict, ScoreEntry,
};
pub use envelope::Envelope;
pub use error::ProvenanceError;
pub use export::{ExportEncoding, ExportManifest, ExportWriter, LineEncoding, SignedManifest};
pub use key_file::KeyFile;
pub use key_history::{EntryKey, KeyHistory, KeyStatement, Revocation, VerifiedAhead};
pub use keys::{
    CheckpointSigner, CheckpointVerifier, EntrySigner, EntryVerifier, KeyHolder, PublicKeys,
    SecretSeed, SigningFailure,
};
pub use near::{NEAR_DISTANCE_MAX, NearIndex, Neighbour};
pub use position::{LeafIndex, TreeSize};
pub use tile::{Tile, TileLevel};
pub use tlog_proof::TlogProof;
pub use witness::{AddCheckpoint, WitnessPolicy, WitnessSigner, WitnessVerifier};
