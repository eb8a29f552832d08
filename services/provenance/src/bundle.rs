//! Everything an auditor needs about one entry, besides the public keys, in one file.
//!
//! The file is compact JSON: `{"format":"retrace-bundle@v1","envelope":{…},"proof":"…"}`, where the
//! envelope is the DSSE envelope that the log's leaf consists of and the proof is a C2SP
//! `tlog-proof@v1` text.
//!
//! Where the log's first keys are not enough, because another one has followed or one was revoked, the format is
//! `retrace-bundle@v2` and `keys` stands at the end: the log's statements about keys, from the first on, each with
//! its own inclusion proof under the checkpoint of the proof.

use serde::{Deserialize, Serialize};

use crate::encoding::{canonical_json, check_length, parse_canonical_json};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::key_history::{KEY_STATEMENT_BYTES_MAX, KEY_STATEMENTS_MAX};
use crate::merkle::{self, Hash};
use crate::tlog_proof::TLOG_PROOF_BYTES_MAX;
use crate::{
    Checkpoint, Digest, Entry, Envelope, KeyHistory, KeyStatement, LeafIndex, ProvenanceError,
    PublicKeys, SignedCheckpoint, TlogProof,
};

/// The name and version of the format.
pub const BUNDLE_FORMAT: &str = "retrace-bundle@v1";
/// The name and version of the format with statements about keys.
pub const BUNDLE_FORMAT_WITH_KEYS: &str = "retrace-bundle@v2";
/// Longest bundle.
pub const BUNDLE_BYTES_MAX: usize =
    ENVELOPE_BYTES_MAX + TLOG_PROOF_BYTES_MAX + KEY_STATEMENTS_MAX * KEY_STATEMENT_BYTES_MAX;

const WHAT: &str = "bundle";

/// A signed entry and the proof that the log holds it. Parsing does not verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    envelope: Envelope,
    proof: TlogProof,
    keys: Vec<KeyStatement>,
}

/// What a bundle proves once everything in it has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBundle {
    /// The statement of the service.
    pub entry: Entry,
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Hash,
    /// The checkpoint that covers it.
    pub checkpoint: Checkpoint,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    envelope: Envelope,
    proof: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<KeyStatement>,
}

impl Bundle {
    /// Puts a bundle together. Nothing is verified here.
    pub fn new(
        envelope: Envelope,
        leaf_index: LeafIndex,
        inclusion_proof: Vec<Digest>,
        checkpoint: SignedCheckpoint,
    ) -> Self {
        Self {
            envelope,
            proof: TlogProof {
                extra: None,
                leaf_index,
                inclusion_proof,
                checkpoint,
            },
            keys: Vec::new(),
        }
    }

    /// The same bundle with the statements about keys that it needs, proven under its checkpoint.
    #[must_use]
    pub fn with_keys(self, keys: Vec<KeyStatement>) -> Self {
        Self { keys, ..self }
    }

    /// The canonical bytes of the file, without a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical_json(&Wire {
            format: format_of(&self.keys).to_owned(),
            envelope: self.envelope.clone(),
            proof: self.proof.to_string(),
            keys: self.keys.clone(),
        })
    }

    /// Parses a bundle without verifying it.
    ///
    /// # Errors
    /// Refuses another format, data that nothing authenticates, and every spelling but the canonical
    /// one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProvenanceError> {
        check_length(WHAT, bytes.len(), BUNDLE_BYTES_MAX)?;
        let wire: Wire = parse_canonical_json(WHAT, bytes)?;
        if wire.format != format_of(&wire.keys) {
            return Err(ProvenanceError::malformed(
                WHAT,
                format!("unknown format {:?}", wire.format),
            ));
        }
        let proof = TlogProof::parse(&wire.proof)?;
        if proof.extra.is_some() {
            return Err(ProvenanceError::malformed(
                WHAT,
                "extra data is not authenticated and not allowed",
            ));
        }
        let bundle = Self {
            envelope: wire.envelope,
            proof,
            keys: wire.keys,
        };
        // The envelope is parsed as a part of the bundle, past its own limit.
        let envelope_bytes = bundle.envelope.to_bytes().len();
        check_length("envelope", envelope_bytes, ENVELOPE_BYTES_MAX)?;
        if bundle.to_bytes() != bytes {
            return Err(ProvenanceError::NotCanonical { what: WHAT });
        }
        Ok(bundle)
    }

    /// Verifies everything: the checkpoint's signature, the leaf's inclusion, the entry's signature
    /// and shape.
    ///
    /// # Errors
    /// The first part that does not hold.
    pub fn verify(&self, keys: &PublicKeys) -> Result<VerifiedBundle, ProvenanceError> {
        let history = self.key_history(keys)?;
        let checkpoint = history
            .checkpoints()
            .verify_sole(self.checkpoint())?
            .clone();
        self.verify_inclusion_in(&checkpoint)?;
        Ok(VerifiedBundle {
            entry: self.verify_entry_under(&history)?,
            leaf_index: self.leaf_index(),
            leaf_hash: self.envelope.leaf_hash(),
            checkpoint,
        })
    }

    /// Verifies the checkpoint alone, under the key of its size. No signature lines but the log's are allowed.
    ///
    /// # Errors
    /// As [`key_history`](Self::key_history) and [`crate::CheckpointKeys::verify_sole`].
    pub fn verify_checkpoint(&self, keys: &PublicKeys) -> Result<&Checkpoint, ProvenanceError> {
        let history = self.key_history(keys)?;
        history.checkpoints().verify_sole(self.checkpoint())
    }

    /// Verifies that the envelope is a leaf under the root of this checkpoint.
    ///
    /// # Errors
    /// As [`merkle::verify_inclusion`].
    pub fn verify_inclusion_in(&self, checkpoint: &Checkpoint) -> Result<(), ProvenanceError> {
        merkle::verify_inclusion(
            &self.envelope.leaf_hash(),
            self.proof.leaf_index,
            &checkpoint.tree_head(),
            &self.proof.inclusion_proof,
        )
    }

    /// Verifies the entry's signature and shape, under the key that signs at its place, and the statements
    /// about keys that this needs.
    ///
    /// # Errors
    /// As [`KeyHistory::verify`] and [`key_history`](Self::key_history).
    pub fn verify_entry(&self, keys: &PublicKeys) -> Result<Entry, ProvenanceError> {
        self.verify_entry_under(&self.key_history(keys)?)
    }

    /// Verifies the entry's signature and shape under keys that are known from elsewhere.
    ///
    /// # Errors
    /// As [`KeyHistory::verify`].
    pub fn verify_entry_under(&self, history: &KeyHistory) -> Result<Entry, ProvenanceError> {
        history.verify(&self.envelope, self.leaf_index())
    }

    /// The keys that signed, as far as this bundle proves.
    ///
    /// # Errors
    /// As [`stated_keys`](Self::stated_keys); and where there are statements, a checkpoint that does not verify
    /// under the keys that they name, and one that its tree does not hold.
    pub fn key_history(&self, keys: &PublicKeys) -> Result<KeyHistory, ProvenanceError> {
        let history = self.stated_keys(keys)?;
        if !self.keys.is_empty() {
            let checkpoint = history.checkpoints().verify(self.checkpoint())?;
            KeyHistory::verify_held(&self.keys, checkpoint)?;
        }
        Ok(history)
    }

    /// The keys that signed, as the statements of the bundle have it: each is signed by the keys before it. That
    /// the log holds them is not verified here.
    ///
    /// # Errors
    /// As [`KeyHistory::take`].
    pub fn stated_keys(&self, keys: &PublicKeys) -> Result<KeyHistory, ProvenanceError> {
        let mut history = KeyHistory::new(keys);
        history.take_all(&self.keys)?;
        Ok(history)
    }

    /// The envelope, not yet believed.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The leaf's place, not yet believed.
    pub fn leaf_index(&self) -> LeafIndex {
        self.proof.leaf_index
    }

    /// The inclusion proof, not yet believed.
    pub fn inclusion_proof(&self) -> &[Digest] {
        &self.proof.inclusion_proof
    }

    /// The checkpoint, not yet believed.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.proof.checkpoint
    }

    /// The proof, not yet believed. Its text is a `.tlog-proof` file of its own.
    pub fn tlog_proof(&self) -> &TlogProof {
        &self.proof
    }
}

/// The name of the format says whether there are statements about keys.
fn format_of(keys: &[KeyStatement]) -> &'static str {
    match keys {
        [] => BUNDLE_FORMAT,
        _ => BUNDLE_FORMAT_WITH_KEYS,
    }
}
