//! Offline proofs that a leaf is in a log, by C2SP `tlog-proof@v1`.

use std::fmt;

use crate::encoding::{base64_decode, base64_digest, base64_encode, check_length, decimal_u64};
use crate::note::NOTE_BYTES_MAX;
use crate::{Digest, LeafIndex, ProvenanceError, SignedCheckpoint};

/// Most hashes of an inclusion proof: the height of a tree with 2^64 - 1 leaves.
pub const INCLUSION_PROOF_HASHES_MAX: usize = 64;
/// Longest proof text.
pub const TLOG_PROOF_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX;

const WHAT: &str = "tlog-proof";
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// A leaf's place, its inclusion proof and the checkpoint that the proof leads to. Parsing does not
/// verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Data that nothing authenticates. The proofs of this service have none.
    pub extra: Option<Vec<u8>>,
    /// The leaf's place in the log.
    pub leaf_index: LeafIndex,
    /// The inclusion proof, from the leaf's sibling up to the root's child.
    pub inclusion_proof: Vec<Digest>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

impl TlogProof {
    /// Parses the text of a proof without verifying it.
    ///
    /// # Errors
    /// Refuses every spelling but the canonical one.
    pub fn parse(text: &str) -> Result<Self, ProvenanceError> {
        check_length(WHAT, text.len(), TLOG_PROOF_BYTES_MAX)?;
        let malformed = |detail: &str| ProvenanceError::malformed(WHAT, detail);
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| malformed("an empty line must precede the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("the first line must be c2sp.org/tlog-proof@v1"));
        }
        let extra = lines
            .next_if(|line| line.starts_with("extra "))
            .and_then(|line| line.strip_prefix("extra "))
            .map(|encoded| base64_decode(WHAT, encoded))
            .transpose()?;
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .ok_or_else(|| malformed("the line of the index is missing"))?;
        let leaf_index = LeafIndex::new(decimal_u64(WHAT, index)?);
        let inclusion_proof = lines
            .map(|line| base64_digest(WHAT, line))
            .collect::<Result<Vec<_>, _>>()?;
        if inclusion_proof.len() > INCLUSION_PROOF_HASHES_MAX {
            return Err(malformed("more than 64 hashes"));
        }
        Ok(Self {
            extra,
            leaf_index,
            inclusion_proof,
            checkpoint: SignedCheckpoint::parse(checkpoint)?,
        })
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(formatter, "extra {}", base64_encode(extra))?;
        }
        writeln!(formatter, "index {}", self.leaf_index)?;
        for hash in &self.inclusion_proof {
            writeln!(formatter, "{}", base64_encode(hash.as_bytes()))?;
        }
        write!(formatter, "\n{}", self.checkpoint)
    }
}
