//! Signed tree heads, by C2SP tlog-checkpoint.

use std::fmt;
use std::str::FromStr;

use crate::encoding::{base64_digest, base64_encode, decimal_u64};
use crate::keys::check_key_name;
use crate::merkle::{TreeHead, empty_root};
use crate::note::SignedNote;
use crate::{CheckpointSigner, CheckpointVerifier, Digest, ProvenanceError, TreeSize};

const WHAT: &str = "checkpoint";

/// The head of a log's tree: this many leaves have this root hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// The number of leaves.
    pub tree_size: TreeSize,
    /// The root of the RFC 6962 tree over them.
    pub root_hash: Digest,
}

impl Checkpoint {
    /// Signs the checkpoint. Whether it continues the checkpoints signed before is for the caller to
    /// ensure.
    ///
    /// # Errors
    /// Refuses an origin that is not the signer's, and a root of the empty tree that is not its root; and
    /// fails when the signer does.
    pub fn sign(self, signer: &CheckpointSigner) -> Result<SignedCheckpoint, ProvenanceError> {
        if self.origin != signer.public().name() {
            return Err(ProvenanceError::OriginMismatch {
                expected: signer.public().name().to_owned(),
                found: self.origin,
            });
        }
        self.check()?;
        let note = SignedNote::sign(self.note_text(), signer)?;
        Ok(SignedCheckpoint {
            checkpoint: self,
            note,
        })
    }

    /// Size and root, as proofs want them.
    pub fn tree_head(&self) -> TreeHead {
        TreeHead {
            size: self.tree_size,
            root_hash: self.root_hash,
        }
    }

    /// The text under the signature: origin, tree size and root hash, a line each.
    fn note_text(&self) -> String {
        let root_hash = base64_encode(self.root_hash.as_bytes());
        format!("{}\n{}\n{root_hash}\n", self.origin, self.tree_size)
    }

    /// Parses the text that is signed: origin, tree size and root hash, a line each.
    ///
    /// # Errors
    /// Refuses every other spelling, and extension lines.
    pub fn parse_text(text: &[u8]) -> Result<Self, ProvenanceError> {
        let text = str::from_utf8(text);
        Self::parse_note_text(text.map_err(|_| ProvenanceError::malformed(WHAT, "not UTF-8"))?)
    }

    fn parse_note_text(text: &str) -> Result<Self, ProvenanceError> {
        let lines: Vec<&str> = text.split('\n').collect();
        // Extension lines are permitted by the format but mean nothing here, and what nobody can read
        // is not believed.
        let [origin, tree_size, root_hash, ""] = lines[..] else {
            return Err(ProvenanceError::malformed(
                WHAT,
                "three lines are needed: origin, tree size and root hash",
            ));
        };
        let checkpoint = Self {
            origin: origin.to_owned(),
            tree_size: TreeSize::new(decimal_u64(WHAT, tree_size)?),
            root_hash: base64_digest(WHAT, root_hash)?,
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    fn check(&self) -> Result<(), ProvenanceError> {
        check_key_name(&self.origin)?;
        if self.tree_size.get() == 0 && self.root_hash != empty_root() {
            return Err(ProvenanceError::RootMismatch {
                computed: empty_root(),
                claimed: self.root_hash,
            });
        }
        Ok(())
    }
}

/// A checkpoint with its signature lines. Parsing does not verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: SignedNote,
}

impl SignedCheckpoint {
    /// Parses the text of a signed checkpoint without verifying it.
    ///
    /// # Errors
    /// Refuses every spelling but the canonical one, and extension lines.
    pub fn parse(text: &str) -> Result<Self, ProvenanceError> {
        let note = SignedNote::parse(text)?;
        let checkpoint = Checkpoint::parse_note_text(note.text())?;
        Ok(Self { checkpoint, note })
    }

    /// The checkpoint with a line of another key of the same log as well, below those that are there.
    ///
    /// # Errors
    /// Refuses a signer of another log, and fails when the signer does.
    pub fn also_signed_by(&self, signer: &CheckpointSigner) -> Result<Self, ProvenanceError> {
        if self.checkpoint.origin != signer.public().name() {
            return Err(ProvenanceError::OriginMismatch {
                expected: signer.public().name().to_owned(),
                found: self.checkpoint.origin.clone(),
            });
        }
        let mut both = self.clone();
        both.note.sign_also(signer)?;
        Ok(both)
    }

    /// Verifies the signature of one key of the log, see [`crate::CheckpointKeys`] for a log that has had others. Lines of other keys, such as witnesses, are ignored.
    ///
    /// # Errors
    /// Refuses another log's checkpoint, one that the key has not signed, and one with a signature
    /// line of the key that does not verify.
    pub fn verify(&self, verifier: &CheckpointVerifier) -> Result<&Checkpoint, ProvenanceError> {
        if self.checkpoint.origin != verifier.name() {
            return Err(ProvenanceError::OriginMismatch {
                expected: verifier.name().to_owned(),
                found: self.checkpoint.origin.clone(),
            });
        }
        self.note.verify(verifier.key())?;
        Ok(&self.checkpoint)
    }

    /// Verifies as [`SignedCheckpoint::verify`] does, and refuses lines of other keys too: nothing
    /// may stand in the text that was not verified.
    ///
    /// # Errors
    /// As [`SignedCheckpoint::verify`], and more than one signature line.
    pub fn verify_sole(
        &self,
        verifier: &CheckpointVerifier,
    ) -> Result<&Checkpoint, ProvenanceError> {
        let checkpoint = self.verify(verifier)?;
        match self.note.signature_count() {
            1 => Ok(checkpoint),
            found => Err(ProvenanceError::UnverifiedSignature { found }),
        }
    }

    /// The note under the checkpoint.
    pub(crate) fn note(&self) -> &SignedNote {
        &self.note
    }

    /// The checkpoint with one more signature line, such as a witness's. It is not verified here.
    ///
    /// # Errors
    /// Refuses a line that is none, and more lines than a note may have.
    pub fn with_line(&self, line: &str) -> Result<Self, ProvenanceError> {
        let mut cosigned = self.clone();
        cosigned.note.add_line(line)?;
        Ok(cosigned)
    }

    /// The text with the signature lines of the log alone, as it was published before any witness cosigned it. These
    /// are the bytes that a time stamp of the checkpoint is over.
    pub fn text_of_log(&self) -> String {
        let own = self.note.with_lines_of(&self.checkpoint.origin);
        own.to_string()
    }

    /// How many signature lines the checkpoint has, verified or not.
    pub fn signature_count(&self) -> usize {
        self.note.signature_count()
    }

    /// What the text says, believed without looking at the signature.
    pub fn unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The whole text with its signature lines.
    pub fn text(&self) -> String {
        self.note.to_string()
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(formatter)
    }
}

impl FromStr for SignedCheckpoint {
    type Err = ProvenanceError;

    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_another_log_is_not_signed() {
        let signer = CheckpointSigner::from_seed("retrace.test/log", [1; 32]).unwrap();
        let checkpoint = |origin: &str, tree_size, root_hash| Checkpoint {
            origin: origin.to_owned(),
            tree_size: TreeSize::new(tree_size),
            root_hash,
        };
        let other = checkpoint("other.test/log", 1, Digest::of(b"x"));
        assert_eq!(other.sign(&signer).unwrap_err().code(), "origin-mismatch");
        let wrong_root = checkpoint("retrace.test/log", 0, Digest::of(b"x"));
        assert_eq!(
            wrong_root.sign(&signer).unwrap_err().code(),
            "root-mismatch"
        );
        let empty = checkpoint("retrace.test/log", 0, empty_root());
        assert!(empty.sign(&signer).is_ok());
    }
}
