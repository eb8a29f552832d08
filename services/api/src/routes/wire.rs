//! Shapes that several answers share.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::RecordedEntry;
use provenance::{Bundle, Digest, Entry, LeafIndex, SignedCheckpoint};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A recorded entry.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(super) struct EntryBody {
    /// Place in the log, from 0.
    pub(super) leaf_index: u64,
    /// SHA-256(0x00 || envelope), 64 hexadecimal digits.
    pub(super) leaf_hash: String,
    /// `generation` or `score`.
    pub(super) kind: String,
    /// The signed statement: version, kind and body, as in the canonical bytes.
    #[schema(value_type = Object)]
    pub(super) statement: Value,
    /// Where the bundle of this entry is.
    pub(super) bundle_url: String,
    /// Where the image is, for generations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image_url: Option<String>,
    /// When it was recorded, in milliseconds since 1970 UTC; not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) integrated_at_ms: Option<u64>,
}

impl EntryBody {
    pub(super) fn new(leaf_index: LeafIndex, leaf_hash: &Digest, entry: &Entry) -> Self {
        let index = leaf_index.get();
        let image_url =
            matches!(entry, Entry::Generation(_)).then(|| format!("/v1/entries/{index}/image"));
        Self {
            leaf_index: index,
            leaf_hash: leaf_hash.to_string(),
            kind: entry.kind().to_owned(),
            statement: serde_json::from_slice(&entry.to_bytes())
                .expect("the canonical bytes of an entry are JSON"),
            bundle_url: format!("/v1/entries/{index}/bundle"),
            image_url,
            integrated_at_ms: None,
        }
    }
}

impl From<&RecordedEntry> for EntryBody {
    fn from(recorded: &RecordedEntry) -> Self {
        let body = Self::new(recorded.leaf_index, &recorded.leaf_hash, &recorded.entry);
        Self {
            integrated_at_ms: Some(recorded.integrated_at_ms),
            ..body
        }
    }
}

/// A signed tree head.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checkpoint)]
pub(super) struct CheckpointBody {
    /// Name of the log.
    pub(super) origin: String,
    /// Number of entries.
    pub(super) tree_size: u64,
    /// Merkle root over them, 64 hexadecimal digits.
    pub(super) root_hash: String,
    /// The signed note (C2SP tlog-checkpoint), byte for byte.
    pub(super) note: String,
}

impl From<&SignedCheckpoint> for CheckpointBody {
    fn from(signed: &SignedCheckpoint) -> Self {
        let checkpoint = signed.unverified();
        Self {
            origin: checkpoint.origin.clone(),
            tree_size: checkpoint.tree_size.get(),
            root_hash: checkpoint.root_hash.to_string(),
            note: signed.text(),
        }
    }
}

/// Where an answer stands in the log, with everything to check it offline.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provenance)]
pub(super) struct ProvenanceBody {
    /// The entry.
    pub(super) entry: EntryBody,
    /// The checkpoint that covers it.
    pub(super) checkpoint: CheckpointBody,
    /// The hashes from the leaf's sibling up to the checkpoint's root.
    pub(super) inclusion_proof: Vec<String>,
    /// The bundle in base64: the file that `retrace-verify bundle` checks.
    pub(super) bundle: String,
}

impl ProvenanceBody {
    pub(super) fn new(entry: EntryBody, bundle: &Bundle) -> Self {
        Self {
            entry,
            checkpoint: bundle.checkpoint().into(),
            inclusion_proof: hexadecimal(bundle.inclusion_proof()),
            bundle: STANDARD.encode(bundle.to_bytes()),
        }
    }
}

pub(super) fn hexadecimal(digests: &[Digest]) -> Vec<String> {
    digests.iter().map(Digest::to_string).collect()
}
