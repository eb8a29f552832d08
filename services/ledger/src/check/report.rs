//! What a check of the whole ledger found.

use std::fmt;

use provenance::{CheckpointKey, Digest, EntryKey, LeafIndex, TreeSize};
use serde::Serialize;

/// Most problems that a report spells out.
pub const PROBLEMS_MAX: usize = 100;

/// Something in the database that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// No entry has this leaf index although later ones exist. Nothing after it was verified.
    MissingEntry {
        /// Where the gap is.
        leaf_index: LeafIndex,
    },
    /// The stored leaf hash is not that of the envelope.
    LeafHash {
        /// Whose.
        leaf_index: LeafIndex,
    },
    /// The envelope or the entry in it cannot be read, or its signature does not verify.
    Envelope {
        /// Whose.
        leaf_index: LeafIndex,
        /// What is wrong with it.
        detail: String,
    },
    /// A column for searching does not say what the envelope says.
    Column {
        /// Whose.
        leaf_index: LeafIndex,
    },
    /// What a search by time relies on does not say when the entries of a block were made.
    Times {
        /// The leaf index of the block's first entry.
        first: LeafIndex,
    },
    /// A tree node is missing or has another hash than the entries give.
    Node {
        /// Its level.
        level: u8,
        /// Its place in the level.
        node_index: u64,
    },
    /// There are nodes that no entries stand for.
    SurplusNodes {
        /// How many nodes the entries give.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A checkpoint cannot be read, or its signature does not verify.
    Checkpoint {
        /// The tree size that it is stored under.
        tree_size: TreeSize,
        /// What is wrong with it.
        detail: String,
    },
    /// The line of a known witness under a checkpoint does not verify.
    Cosignature {
        /// The checkpoint's tree size.
        tree_size: TreeSize,
        /// The witness's key, as `name+id`.
        witness: String,
        /// What is wrong with the line.
        detail: String,
    },
    /// A kept time stamp is not one of the checkpoint.
    TimeStamp {
        /// The checkpoint's tree size.
        tree_size: TreeSize,
        /// What is wrong with it.
        detail: String,
    },
    /// A checkpoint's root is not that of the entries.
    Root {
        /// The checkpoint's tree size.
        tree_size: TreeSize,
        /// The root that the entries give.
        computed: Digest,
        /// The root that was signed.
        signed: Digest,
    },
    /// A checkpoint covers more entries than there are: the database was rolled back.
    Beyond {
        /// The checkpoint's tree size.
        tree_size: TreeSize,
        /// The number of entries.
        entries: TreeSize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingEntry { leaf_index } => {
                write!(
                    formatter,
                    "entry {leaf_index} is missing; nothing after it was verified"
                )
            }
            Self::LeafHash { leaf_index } => {
                write!(
                    formatter,
                    "entry {leaf_index} has another leaf hash than its envelope"
                )
            }
            Self::Envelope { leaf_index, detail } => {
                write!(formatter, "entry {leaf_index} does not verify: {detail}")
            }
            Self::Column { leaf_index } => {
                write!(
                    formatter,
                    "entry {leaf_index} has columns that contradict its envelope"
                )
            }
            Self::Times { first } => write!(
                formatter,
                "the times kept for the block of entry {first} are not those of its entries"
            ),
            Self::Node { level, node_index } => write!(
                formatter,
                "tree node {node_index} of level {level} is missing or has a wrong hash"
            ),
            Self::SurplusNodes { expected, found } => {
                write!(
                    formatter,
                    "there are {found} tree nodes where the entries give {expected}"
                )
            }
            Self::Checkpoint { tree_size, detail } => {
                write!(
                    formatter,
                    "checkpoint of size {tree_size} does not verify: {detail}"
                )
            }
            Self::Cosignature {
                tree_size,
                witness,
                detail,
            } => write!(
                formatter,
                "the cosignature of {witness} under the checkpoint of size {tree_size} does not verify: {detail}"
            ),
            Self::TimeStamp { tree_size, detail } => write!(
                formatter,
                "the time stamp of the checkpoint of size {tree_size} does not verify: {detail}"
            ),
            Self::Root {
                tree_size,
                computed,
                signed,
            } => write!(
                formatter,
                "checkpoint of size {tree_size} signs the root {signed}, the entries give {computed}"
            ),
            Self::Beyond { tree_size, entries } => write!(
                formatter,
                "checkpoint of size {tree_size} covers more than the {entries} entries there are"
            ),
        }
    }
}

/// What a check of the whole ledger found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The number of entries.
    pub entries: TreeSize,
    /// The root hash that the entries give.
    pub root_hash: Digest,
    /// The number of tree nodes compared.
    pub nodes: u64,
    /// The number of checkpoints compared.
    pub checkpoints: u64,
    /// The number of checkpoints with a time stamp.
    pub time_stamps: u64,
    /// How many entries the newest checkpoint covers. Later ones were just recorded.
    pub covered: TreeSize,
    /// The keys that signed the entries, in the order in which they followed one another.
    pub entry_keys: Vec<CheckedKey>,
    /// The keys that signed the checkpoints, in the order in which they followed one another.
    pub checkpoint_keys: Vec<CheckedCheckpointKey>,
    /// What is wrong, at most [`PROBLEMS_MAX`] items.
    pub problems: Vec<Problem>,
    /// How many problems more there are.
    pub problems_left_out: u64,
}

/// A key that signed entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedKey {
    /// The key, as `name+id`.
    pub key: String,
    /// The first entry that it may have signed.
    pub from: LeafIndex,
    /// The last one; none while it signs.
    pub until: Option<LeafIndex>,
    /// The first entry that a revocation takes back; none while it is not revoked.
    pub revoked_since: Option<LeafIndex>,
}

impl CheckedKey {
    pub(super) fn of(key: &EntryKey) -> Self {
        Self {
            key: key.verifier.key_id(),
            from: key.from,
            until: key.until,
            revoked_since: key.revocation.as_ref().map(|revocation| revocation.since),
        }
    }
}

/// A key that signed checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedCheckpointKey {
    /// The key, as `name+id`.
    pub key: String,
    /// The smallest tree whose checkpoint it signed.
    pub from: TreeSize,
    /// The largest one; none while it signs.
    pub until: Option<TreeSize>,
    /// Until when it signs beside the key that follows, in milliseconds since 1970 UTC; none where none follows.
    pub signs_along_until_ms: Option<u64>,
    /// The first entry that no checkpoint may cover which it signed alone; none while it is not revoked.
    pub revoked_since: Option<LeafIndex>,
}

impl CheckedCheckpointKey {
    pub(super) fn of(key: &CheckpointKey) -> Self {
        Self {
            key: key.verifier.key_id(),
            from: key.from,
            until: key.until,
            signs_along_until_ms: key.signs_along_until_ms,
            revoked_since: key.revocation.as_ref().map(|revocation| revocation.since),
        }
    }
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_left_out += 1;
        }
    }
}
