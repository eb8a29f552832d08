//! The one error of this crate.

use crate::keys::SigningFailure;
use crate::{Digest, LeafIndex, TreeSize};

/// Why something was refused. [`ProvenanceError::code`] gives a stable word for scripts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// The bytes do not have the shape of the thing they claim to be.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// The thing that was parsed.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The bytes mean something, but are not the one permitted spelling of it.
    #[error("{what} is not in its canonical form")]
    NotCanonical {
        /// The thing that was parsed.
        what: &'static str,
    },
    /// The input is longer than its limit.
    #[error("{what} has {bytes} bytes, more than the limit of {bytes_max}")]
    TooLong {
        /// The thing that was parsed or made.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The entry's version is not one that this crate knows.
    #[error("unknown entry version {version}")]
    UnknownVersion {
        /// The version found.
        version: u64,
    },
    /// The entry's kind is not one that this crate knows.
    #[error("unknown entry kind {kind:?}")]
    UnknownKind {
        /// The kind found.
        kind: String,
    },
    /// A field of an entry holds a value that may not be signed.
    #[error("entry field {field} is refused: {detail}")]
    InvalidField {
        /// The field's name in the canonical JSON.
        field: &'static str,
        /// Which rule it broke.
        detail: String,
    },
    /// The envelope's payload type is not that of an entry.
    #[error("unknown payload type {found:?}")]
    UnknownPayloadType {
        /// The payload type found.
        found: String,
    },
    /// A key's name breaks the rules of signed notes.
    #[error("key name {name:?} is refused: {detail}")]
    InvalidKeyName {
        /// The name found.
        name: String,
        /// Which rule it broke.
        detail: &'static str,
    },
    /// The bytes are not a usable Ed25519 public key.
    #[error("public key of {name:?} is refused: {detail}")]
    InvalidPublicKey {
        /// The key's name.
        name: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// Nothing here was signed by the key asked for.
    #[error("signed by {found}, not by the expected key {expected}")]
    UnknownKey {
        /// The key asked for, as `name+id`.
        expected: String,
        /// The keys found, as `name+id`.
        found: String,
    },
    /// A signature that names the key asked for does not verify.
    #[error("the signature of {key} does not verify")]
    SignatureInvalid {
        /// The key asked for, as `name+id`.
        key: String,
    },
    /// A key of this log signed an entry at a place where another one signs.
    #[error("{key} signs the entries {from} to {}, and not entry {leaf_index}", until.map_or_else(|| "now".to_owned(), |until| until.to_string()))]
    KeyOutsideWindow {
        /// The key, as `name+id`.
        key: String,
        /// Where it signed.
        leaf_index: LeafIndex,
        /// The first entry that it may sign.
        from: LeafIndex,
        /// The last one, where another key follows.
        until: Option<LeafIndex>,
    },
    /// A key was revoked, and the entry is one of those that are not to be believed.
    #[error(
        "{key} was revoked from entry {since} on ({reason}), and entry {leaf_index} is not before"
    )]
    KeyRevoked {
        /// The key, as `name+id`.
        key: String,
        /// Where it signed.
        leaf_index: LeafIndex,
        /// The first entry that is not to be believed.
        since: LeafIndex,
        /// Why it was revoked.
        reason: String,
    },
    /// A checkpoint was signed under the log's name by a key that no statement known here names.
    #[error(
        "signed by {found}, a key under the log's name that is not known here, and not by {expected}: either the log has named another checkpoint key since, which its newer public key file proves, or somebody else has signed"
    )]
    CheckpointKeyUnseen {
        /// The key of its place as far as it is known, as `name+id`.
        expected: String,
        /// The keys found, as `name+id`.
        found: String,
    },
    /// A checkpoint was signed by a key of this log, and not by the one that signs checkpoints of this size.
    #[error("signed by {key} and not by {needed}, which signs checkpoints of {tree_size} entries")]
    CheckpointKeyOutsideWindow {
        /// The key that has signed, as `name+id`.
        key: String,
        /// The key of its place, as `name+id`.
        needed: String,
        /// The size of the tree.
        tree_size: TreeSize,
    },
    /// A checkpoint key was revoked, and the checkpoint is one of those that are not to be believed.
    #[error(
        "{key} was revoked ({reason}), and checkpoints that cover entry {since} are not to be believed, as this one of {tree_size} entries"
    )]
    CheckpointKeyRevoked {
        /// The key, as `name+id`.
        key: String,
        /// The size of the tree.
        tree_size: TreeSize,
        /// The first entry whose checkpoints are not to be believed.
        since: LeafIndex,
        /// Why it was revoked.
        reason: String,
    },
    /// A statement about keys breaks a rule.
    #[error("the statement about keys in entry {leaf_index} is refused: {detail}")]
    KeyStatement {
        /// Where it stands.
        leaf_index: LeafIndex,
        /// Which rule it breaks.
        detail: String,
    },
    /// A bundle's checkpoint carries a signature line that nothing here can verify, or one twice.
    #[error(
        "checkpoint has {found} signature lines where one of each of the log's signing keys is allowed, newest first"
    )]
    UnverifiedSignature {
        /// How many lines were found.
        found: usize,
    },
    /// Fewer witnesses have cosigned a checkpoint than the policy demands.
    #[error("the policy demands the cosignatures of {quorum:?}, and found are those of: {}", if cosigned.is_empty() { "nobody" } else { cosigned })]
    QuorumMissing {
        /// The name of the group or witness that must have cosigned.
        quorum: String,
        /// The names of those that did.
        cosigned: String,
    },
    /// The checkpoint belongs to another log.
    #[error("checkpoint is of the log {found:?}, not of {expected:?}")]
    OriginMismatch {
        /// The origin asked for.
        expected: String,
        /// The origin found.
        found: String,
    },
    /// The leaf index lies outside the tree.
    #[error("leaf index {leaf_index} is outside a tree of size {tree_size}")]
    IndexOutOfRange {
        /// The leaf index asked for.
        leaf_index: LeafIndex,
        /// The size of the tree.
        tree_size: TreeSize,
    },
    /// A proof has more or fewer hashes than its place in the tree requires.
    #[error("proof has {found} hashes where {expected} are needed")]
    ProofLength {
        /// How many are needed.
        expected: usize,
        /// How many were found.
        found: usize,
    },
    /// The root computed from a proof is not the root hash claimed.
    #[error("the proof leads to the root hash {computed}, not to {claimed}")]
    RootMismatch {
        /// The root that the proof leads to.
        computed: Digest,
        /// The root that was claimed.
        claimed: Digest,
    },
    /// The old root computed from a consistency proof is not the old root hash claimed.
    #[error("the proof leads to the old root hash {computed}, not to {claimed}")]
    OldRootMismatch {
        /// The old root that the proof leads to.
        computed: Digest,
        /// The old root that was claimed.
        claimed: Digest,
    },
    /// The newer tree is smaller than the older one.
    #[error("the new tree size {new_size} is smaller than the old tree size {old_size}")]
    TreeShrank {
        /// The older size.
        old_size: TreeSize,
        /// The newer size.
        new_size: TreeSize,
    },
    /// Consistency with the empty tree says nothing, so RFC 6962 defines no proof of it.
    #[error("there is no consistency proof from the empty tree to size {new_size}")]
    ConsistencyFromEmpty {
        /// The newer size.
        new_size: TreeSize,
    },
    /// A witness has seen another tree than the one that a log says it has seen last.
    #[error("the log says that size {old_size} was witnessed last, but it was {witnessed}")]
    WitnessedSize {
        /// The size that the log says.
        old_size: TreeSize,
        /// The size that was witnessed.
        witnessed: TreeSize,
    },
    /// A log shows a witness another root for a size that it has shown before: two histories.
    #[error("the root hash {witnessed} was witnessed for size {tree_size}, not {claimed}")]
    WitnessedRoot {
        /// The size.
        tree_size: TreeSize,
        /// The root that was witnessed.
        witnessed: Digest,
        /// The root shown now.
        claimed: Digest,
    },
    /// The hashes handed in are not as many as the nodes asked for.
    #[error("{found} tree nodes were given where {expected} were asked for")]
    NodeCount {
        /// How many were asked for.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// The tree cannot grow beyond 2^64 - 1 leaves.
    #[error("the tree is full")]
    TreeFull,
    /// Whoever holds the key has made no signature that can be used.
    #[error("nothing was signed by {key}: {failure}")]
    NotSigned {
        /// The key, as `name+id`.
        key: String,
        /// Why.
        failure: SigningFailure,
    },
}

impl ProvenanceError {
    /// A stable kebab-case word for this refusal, for scripts and reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::NotCanonical { .. } => "not-canonical",
            Self::TooLong { .. } => "too-long",
            Self::UnknownVersion { .. } => "unknown-entry-version",
            Self::UnknownKind { .. } => "unknown-entry-kind",
            Self::InvalidField { .. } => "invalid-entry-field",
            Self::UnknownPayloadType { .. } => "unknown-payload-type",
            Self::InvalidKeyName { .. } => "invalid-key-name",
            Self::InvalidPublicKey { .. } => "invalid-public-key",
            Self::UnknownKey { .. } => "unknown-key",
            Self::SignatureInvalid { .. } => "signature-invalid",
            Self::KeyOutsideWindow { .. } => "key-outside-window",
            Self::KeyRevoked { .. } => "key-revoked",
            Self::CheckpointKeyUnseen { .. } => "checkpoint-key-unseen",
            Self::CheckpointKeyOutsideWindow { .. } => "checkpoint-key-outside-window",
            Self::CheckpointKeyRevoked { .. } => "checkpoint-key-revoked",
            Self::KeyStatement { .. } => "key-statement",
            Self::UnverifiedSignature { .. } => "unverified-signature",
            Self::QuorumMissing { .. } => "quorum-missing",
            Self::OriginMismatch { .. } => "origin-mismatch",
            Self::IndexOutOfRange { .. } => "index-out-of-range",
            Self::ProofLength { .. } => "proof-length",
            Self::RootMismatch { .. } => "root-mismatch",
            Self::OldRootMismatch { .. } => "old-root-mismatch",
            Self::TreeShrank { .. } => "tree-shrank",
            Self::ConsistencyFromEmpty { .. } => "consistency-from-empty-tree",
            Self::WitnessedSize { .. } => "witnessed-size",
            Self::WitnessedRoot { .. } => "witnessed-root",
            Self::NodeCount { .. } => "node-count",
            Self::TreeFull => "tree-full",
            Self::NotSigned { .. } => "not-signed",
        }
    }

    /// A [`ProvenanceError::Malformed`] with its detail in words.
    pub(crate) fn malformed(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            detail: detail.into(),
        }
    }
}
