//! Verifying entries before their turn: the signatures of many in any order and on several threads, and then,
//! in the order of the log, whether each key may sign at its place.

use crate::merkle::{Hash, leaf_hash};
use crate::{Entry, Envelope, KeyHistory, LeafIndex, ProvenanceError};

/// An entry that can be read and whose signature holds under the key that it names, where that key was known.
/// Whether it may stand at its place is not known yet: [`KeyHistory::meet_ahead`].
#[derive(Clone, Debug)]
pub struct VerifiedAhead {
    leaf_hash: Hash,
    envelope: Envelope,
    /// None where no key that was known by then made it, which may be one that an entry before it names.
    entry: Option<Entry>,
}

impl VerifiedAhead {
    /// The hash of its leaf.
    pub fn leaf_hash(&self) -> Hash {
        self.leaf_hash
    }

    /// What it states, where the key that made it was known. Whether that key may sign at its place is not
    /// known yet.
    pub fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }
}

impl KeyHistory {
    /// Reads the bytes of an entry and verifies the signature alone.
    ///
    /// # Errors
    /// Refuses what [`Envelope::parse`] and [`Envelope::verify`] refuse, but for a key that is not known.
    pub fn verify_ahead(&self, bytes: &[u8]) -> Result<VerifiedAhead, ProvenanceError> {
        let envelope = Envelope::parse(bytes)?;
        let key = self.key(envelope.key_id());
        let entry = key.map(|key| envelope.verify(&key.verifier)).transpose()?;
        Ok(VerifiedAhead {
            // The parser accepts canonical bytes alone, so these are the leaf.
            leaf_hash: leaf_hash(bytes),
            envelope,
            entry,
        })
    }

    /// Whether an entry that was verified ahead, under an earlier state of this history, may stand at this
    /// place; what it says about keys is taken over. Answers what it states.
    ///
    /// # Errors
    /// As [`verify`](Self::verify) and [`meet`](Self::meet).
    pub fn meet_ahead(
        &mut self,
        leaf_index: LeafIndex,
        verified: VerifiedAhead,
    ) -> Result<Entry, ProvenanceError> {
        let VerifiedAhead {
            envelope, entry, ..
        } = verified;
        let entry = match entry {
            Some(entry) => entry,
            None => self.verify(&envelope, leaf_index)?,
        };
        self.meet(leaf_index, envelope.key_id(), &entry)?;
        Ok(entry)
    }
}
