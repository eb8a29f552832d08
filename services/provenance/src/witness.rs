//! Witnesses, by C2SP tlog-witness and tlog-cosignature: whoever cosigns only checkpoints that continue
//! the last one it saw makes a log that shows different people different histories stand out.
//!
//! A cosignature is a line below the checkpoint. It covers a time beside the checkpoint's text, and is of
//! a key type of its own, so that it never passes for a signature of the log.

mod policy;

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey};

use crate::encoding::{base64_digest, base64_encode, check_length, decimal_u64};
use crate::keys::{NamedKey, SIGNATURE_TYPE_COSIGNATURE};
use crate::merkle::verify_consistency;
use crate::note::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, signature_line};
use crate::{
    Checkpoint, CheckpointKeys, Digest, ProvenanceError, SecretSeed, SignedCheckpoint, TreeSize,
};

pub use self::policy::{
    Cosignature, Cosignatures, PolicyWitness, WITNESS_POLICY_BYTES_MAX, WitnessPolicy,
};

/// Most hashes of a consistency proof, as the specification has it.
pub const CONSISTENCY_PROOF_HASHES_MAX: usize = 63;
/// Longest request: a size, a proof and a note.
pub const ADD_CHECKPOINT_BYTES_MAX: usize = NOTE_BYTES_MAX + 4_096;
/// A time in seconds, and an Ed25519 signature.
const COSIGNATURE_BYTES: usize = 8 + 64;

const WHAT: &str = "add-checkpoint request";

/// The secret half of a witness's key. Whoever holds it can make a split history look witnessed.
pub struct WitnessSigner {
    key: SigningKey,
    verifier: WitnessVerifier,
}

impl WitnessSigner {
    /// The signer of the witness with this name.
    ///
    /// # Errors
    /// Refuses a name that a signed note cannot carry.
    pub fn from_seed(name: &str, seed: impl Into<SecretSeed>) -> Result<Self, ProvenanceError> {
        let key = seed.into().signing_key();
        let named = NamedKey::new(name, SIGNATURE_TYPE_COSIGNATURE, key.verifying_key())?;
        let verifier = WitnessVerifier { key: named };
        Ok(Self { key, verifier })
    }

    /// The public half.
    pub fn verifier(&self) -> &WitnessVerifier {
        &self.verifier
    }

    /// The line that states that at this time, in seconds since 1970 UTC, this was the newest checkpoint
    /// of its log that the witness had seen, and that it continues all that it had seen before. Whether
    /// that is so is for the caller to ensure, see [`AddCheckpoint::admit`].
    pub fn cosign(&self, checkpoint: &SignedCheckpoint, time_s: u64) -> String {
        let message = cosigned_message(time_s, checkpoint.note().text());
        let signature = self.key.sign(message.as_bytes()).to_bytes();
        let bytes = [&time_s.to_be_bytes()[..], &signature].concat();
        let key = &self.verifier.key;
        signature_line(key.name(), key.id(), &bytes)
    }
}

impl fmt::Debug for WitnessSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "WitnessSigner({})", self.verifier.key.label())
    }
}

/// The public half of a witness's key. Written as a C2SP verifier key, `name+id+key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessVerifier {
    key: NamedKey,
}

impl WitnessVerifier {
    /// The witness's name.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// `name+id`, as signatures refer to the key.
    pub fn key_id(&self) -> String {
        self.key.label()
    }

    /// The signature line of this witness in its answer to a checkpoint that it was sent. Lines of other
    /// keys are ignored.
    ///
    /// # Errors
    /// Refuses an answer without a line of this witness that verifies.
    pub fn read_answer(
        &self,
        checkpoint: &SignedCheckpoint,
        answer: &str,
    ) -> Result<String, ProvenanceError> {
        let lines = answer.lines().take(NOTE_SIGNATURES_MAX);
        let mut refusal = ProvenanceError::malformed("answer of a witness", "it has no lines");
        for line in lines {
            match checkpoint.with_line(line).and_then(|one| self.verify(&one)) {
                Ok(_) => return Ok(line.to_owned()),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Verifies that this witness has cosigned the checkpoint. Answers the latest time that it states.
    ///
    /// # Errors
    /// Refuses a checkpoint without a line of this witness, and one with a line of it that does not
    /// verify.
    pub fn verify(&self, checkpoint: &SignedCheckpoint) -> Result<u64, ProvenanceError> {
        let note = checkpoint.note();
        let mut latest = None;
        for bytes in note.signatures_of(self.key.name(), self.key.id()) {
            let invalid = || ProvenanceError::SignatureInvalid {
                key: self.key.label(),
            };
            let bytes: &[u8; COSIGNATURE_BYTES] = bytes.try_into().map_err(|_| invalid())?;
            let (time_s, signature) = bytes.split_first_chunk::<8>().ok_or_else(invalid)?;
            let time_s = u64::from_be_bytes(*time_s);
            let message = cosigned_message(time_s, note.text());
            self.key.verify(message.as_bytes(), signature)?;
            latest = latest.max(Some(time_s));
        }
        latest.ok_or_else(|| ProvenanceError::UnknownKey {
            expected: self.key.label(),
            found: "lines of others alone".to_owned(),
        })
    }
}

impl fmt::Display for WitnessVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(formatter)
    }
}

impl FromStr for WitnessVerifier {
    type Err = ProvenanceError;

    fn from_str(text: &str) -> Result<Self, ProvenanceError> {
        let key = NamedKey::parse(text, SIGNATURE_TYPE_COSIGNATURE)?;
        Ok(Self { key })
    }
}

/// What a cosignature is made over.
fn cosigned_message(time_s: u64, checkpoint_text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{checkpoint_text}")
}

/// A log's request to a witness: its newest checkpoint, and the proof that it continues the one that
/// the witness saw last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the tree that the witness saw last; 0 for none.
    pub old_size: TreeSize,
    /// The consistency proof; none from size 0.
    pub consistency_proof: Vec<Digest>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// Parses the body of a request, without verifying it.
    ///
    /// # Errors
    /// Refuses every spelling but the canonical one, and more hashes than a proof can have.
    pub fn parse(text: &str) -> Result<Self, ProvenanceError> {
        check_length(WHAT, text.len(), ADD_CHECKPOINT_BYTES_MAX)?;
        let malformed = |detail: &str| ProvenanceError::malformed(WHAT, detail);
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| malformed("an empty line must precede the checkpoint"))?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .ok_or_else(|| malformed("the first line must state the old size"))?;
        let old_size = TreeSize::new(decimal_u64(WHAT, old_size)?);
        let consistency_proof = lines
            .map(|line| base64_digest(WHAT, line))
            .collect::<Result<Vec<_>, _>>()?;
        if consistency_proof.len() > CONSISTENCY_PROOF_HASHES_MAX {
            return Err(malformed("more than 63 hashes"));
        }
        Ok(Self {
            old_size,
            consistency_proof,
            checkpoint: SignedCheckpoint::parse(checkpoint)?,
        })
    }

    /// Decides whether the witness may cosign: the log has signed the checkpoint, knows what the witness
    /// saw last, and proves that the checkpoint continues it. Answers what the witness has to remember
    /// before it answers.
    ///
    /// # Errors
    /// What does not hold. Nothing may be remembered then.
    pub fn admit(
        &self,
        log: &CheckpointKeys,
        witnessed: Option<&Checkpoint>,
    ) -> Result<&Checkpoint, ProvenanceError> {
        let checkpoint = log.verify(&self.checkpoint)?;
        if self.old_size > checkpoint.tree_size {
            return Err(ProvenanceError::TreeShrank {
                old_size: self.old_size,
                new_size: checkpoint.tree_size,
            });
        }
        let empty = TreeSize::new(0);
        let seen = witnessed.map_or(empty, |witnessed| witnessed.tree_size);
        if self.old_size != seen {
            return Err(ProvenanceError::WitnessedSize {
                old_size: self.old_size,
                witnessed: seen,
            });
        }
        match witnessed.map(Checkpoint::tree_head) {
            Some(old)
                if old.size == checkpoint.tree_size && old.root_hash != checkpoint.root_hash =>
            {
                Err(ProvenanceError::WitnessedRoot {
                    tree_size: old.size,
                    witnessed: old.root_hash,
                    claimed: checkpoint.root_hash,
                })
            }
            Some(old) if old.size != empty => {
                verify_consistency(&old, &checkpoint.tree_head(), &self.consistency_proof)?;
                Ok(checkpoint)
            }
            _ if !self.consistency_proof.is_empty() => Err(ProvenanceError::ProofLength {
                expected: 0,
                found: self.consistency_proof.len(),
            }),
            _ => Ok(checkpoint),
        }
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "old {}", self.old_size)?;
        for hash in &self.consistency_proof {
            writeln!(formatter, "{}", base64_encode(hash.as_bytes()))?;
        }
        write!(formatter, "\n{}", self.checkpoint)
    }
}
