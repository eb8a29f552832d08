//! Which key signs checkpoints of which size: the first key, those that followed, and those that were revoked.
//!
//! A statement that another checkpoint key follows ([`CheckpointKeySuccessionEntry`]) carries signatures of both
//! keys, so that whoever knows the old one need not believe a checkpoint to learn of the new one. From the
//! checkpoint that covers it on, the new key must have signed. For a time that the statement names the old key
//! signs as well, on a line of its own, for those who have not read it yet; whoever has, asks for the new one
//! alone. No rule here needs a clock.

use crate::keys::NamedKey;
use crate::{
    Checkpoint, CheckpointKeySuccessionEntry, CheckpointVerifier, LeafIndex, ProvenanceError,
    Revocation, SignedCheckpoint, TreeSize,
};

/// The keys that sign checkpoints, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointKeys {
    /// Never empty; each key ends where the next begins.
    keys: Vec<CheckpointKey>,
}

/// One key and the checkpoints that it must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointKey {
    /// The key.
    pub verifier: CheckpointVerifier,
    /// The smallest tree whose checkpoint it signs.
    pub from: TreeSize,
    /// The largest one, where another key follows.
    pub until: Option<TreeSize>,
    /// When it was named, in milliseconds since 1970 UTC as the statement claims; none for the first key.
    pub named_at_ms: Option<u64>,
    /// Until when it signs beside the key that follows, in milliseconds since 1970 UTC.
    pub signs_along_until_ms: Option<u64>,
    /// That it was revoked, where it was.
    pub revocation: Option<Revocation>,
}

impl From<CheckpointVerifier> for CheckpointKeys {
    /// The keys of a log whose first key this is.
    fn from(first: CheckpointVerifier) -> Self {
        Self {
            keys: vec![CheckpointKey {
                verifier: first,
                from: TreeSize::new(0),
                until: None,
                named_at_ms: None,
                signs_along_until_ms: None,
                revocation: None,
            }],
        }
    }
}

impl CheckpointKeys {
    /// All keys, the first one first.
    pub fn keys(&self) -> &[CheckpointKey] {
        &self.keys
    }

    /// The key that must sign now.
    pub fn current(&self) -> &CheckpointKey {
        self.keys.last().expect("there is always a first key")
    }

    /// The keys that sign the next checkpoint at this time, in milliseconds since 1970 UTC: the current one, and
    /// the one before it while it signs along.
    pub fn signing_at(&self, now_ms: u64) -> impl Iterator<Item = &CheckpointVerifier> {
        let (current, earlier) = self.keys.split_last().expect("there is always a first key");
        let along = earlier.last().filter(|key| key.signs_along_at(now_ms));
        [Some(current), along]
            .into_iter()
            .flatten()
            .map(|key| &key.verifier)
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        self.current().verifier.name()
    }

    /// The key of this name and id.
    pub fn key(&self, key_id: &str) -> Option<&CheckpointKey> {
        self.keys.iter().find(|key| key.verifier.key_id() == key_id)
    }

    /// The key that must have signed the checkpoint of a tree of this size.
    pub fn key_at(&self, tree_size: TreeSize) -> &CheckpointKey {
        let mut newest_first = self.keys.iter().rev();
        newest_first
            .find(|key| key.from <= tree_size)
            .expect("the first key begins with the empty tree")
    }

    /// Verifies that the log's key of its place has signed a checkpoint. Lines of others, such as witnesses, are
    /// ignored; every line of a key of the log must verify.
    ///
    /// # Errors
    /// Refuses another log's checkpoint, one that the key of its place has not signed, one that a revocation
    /// takes back, and one with a line of a known key that does not verify.
    pub fn verify<'a>(
        &self,
        signed: &'a SignedCheckpoint,
    ) -> Result<&'a Checkpoint, ProvenanceError> {
        let checkpoint = self.verify_signature(signed)?;
        let key = self.key_at(checkpoint.tree_size);
        match &key.revocation {
            Some(revocation) if checkpoint.tree_size.contains(revocation.since) => {
                Err(ProvenanceError::CheckpointKeyRevoked {
                    key: key.verifier.key_id(),
                    tree_size: checkpoint.tree_size,
                    since: revocation.since,
                    reason: revocation.reason.clone(),
                })
            }
            _ => Ok(checkpoint),
        }
    }

    /// Verifies as [`verify`](Self::verify) does, whatever was revoked since: for the log itself, and for whoever
    /// goes on to compare the root with the entries.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_signature<'a>(
        &self,
        signed: &'a SignedCheckpoint,
    ) -> Result<&'a Checkpoint, ProvenanceError> {
        let checkpoint = signed.unverified();
        if checkpoint.origin != self.origin() {
            return Err(ProvenanceError::OriginMismatch {
                expected: self.origin().to_owned(),
                found: checkpoint.origin.clone(),
            });
        }
        for key in &self.keys {
            for bytes in signed.note().signatures_of_key(key.named()) {
                key.named().verify(signed.note().text().as_bytes(), bytes)?;
            }
        }
        let needed = self.key_at(checkpoint.tree_size);
        if needed.lines(signed) > 0 {
            return Ok(checkpoint);
        }
        Err(self.not_signed(signed, needed))
    }

    /// Verifies as [`verify`](Self::verify) does, and refuses whatever stands in the text besides: at most one
    /// line of each key of the log, the newest key first, and no others.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and other lines.
    pub fn verify_sole<'a>(
        &self,
        signed: &'a SignedCheckpoint,
    ) -> Result<&'a Checkpoint, ProvenanceError> {
        let checkpoint = self.verify(signed)?;
        let found = signed.signature_count();
        let newest_first = self.keys.iter().rev().map(CheckpointKey::named);
        match signed.note().is_signed_in_order(newest_first) {
            true => Ok(checkpoint),
            false => Err(ProvenanceError::UnverifiedSignature { found }),
        }
    }

    /// Lines under the log's own name of keys that are not known here, as `name+id`: those that followed since,
    /// or somebody else's.
    pub fn unseen(&self, signed: &SignedCheckpoint) -> Vec<String> {
        let is_known = |id: [u8; 4]| self.keys.iter().any(|key| key.named().id() == id);
        let ids = signed.note().ids_of(self.origin());
        ids.filter(|id| !is_known(*id))
            .map(|id| crate::keys::label(self.origin(), id))
            .collect()
    }

    /// How many lines are of keys of the log.
    pub(crate) fn lines(&self, signed: &SignedCheckpoint) -> usize {
        self.keys.iter().map(|key| key.lines(signed)).sum()
    }

    fn not_signed(&self, signed: &SignedCheckpoint, needed: &CheckpointKey) -> ProvenanceError {
        if let Some(key) = self.keys.iter().find(|key| key.lines(signed) > 0) {
            return ProvenanceError::CheckpointKeyOutsideWindow {
                key: key.verifier.key_id(),
                needed: needed.verifier.key_id(),
                tree_size: signed.unverified().tree_size,
            };
        }
        let unseen = self.unseen(signed);
        let expected = needed.verifier.key_id();
        match unseen.is_empty() {
            true => ProvenanceError::UnknownKey {
                expected,
                found: signed.note().signers().join(", "),
            },
            false => ProvenanceError::CheckpointKeyUnseen {
                expected,
                found: unseen.join(", "),
            },
        }
    }

    /// Whether a key is one of these, whatever it is called.
    pub(crate) fn have_bytes_of(&self, key: &NamedKey) -> bool {
        self.keys.iter().any(|known| known.named().same_bytes(key))
    }

    /// Verifies a statement at this place that another key follows.
    pub(crate) fn check_succession(
        &self,
        leaf_index: LeafIndex,
        statement: &CheckpointKeySuccessionEntry,
    ) -> Result<CheckpointKey, ProvenanceError> {
        let refused = |detail: String| ProvenanceError::KeyStatement { leaf_index, detail };
        let current = &self.current().verifier;
        if statement.old_key != current.key_id() {
            let detail = format!(
                "it replaces {}, which does not sign checkpoints here",
                statement.old_key
            );
            return Err(refused(detail));
        }
        let successor = statement.successor(current);
        let successor = successor.map_err(|refusal| {
            refused(format!(
                "old and new key do not both agree to it: {refusal}"
            ))
        })?;
        if self.have_bytes_of(successor.key()) {
            return Err(refused("the new key has signed before".to_owned()));
        }
        let from = leaf_index.get().checked_add(1);
        Ok(CheckpointKey {
            verifier: successor,
            from: TreeSize::new(from.ok_or(ProvenanceError::TreeFull)?),
            until: None,
            named_at_ms: Some(statement.created_at_ms),
            signs_along_until_ms: None,
            revocation: None,
        })
    }

    /// Takes over a key that [`check_succession`](Self::check_succession) has answered.
    pub(crate) fn succeed(&mut self, next: CheckpointKey, signs_along_until_ms: u64) {
        let current = self.keys.last_mut().expect("there is always a first key");
        current.until = Some(TreeSize::new(next.from.get() - 1));
        current.signs_along_until_ms = Some(signs_along_until_ms);
        self.keys.push(next);
    }

    pub(crate) fn revoke(&mut self, key_id: &str, revocation: Revocation) {
        let mut keys = self.keys.iter_mut();
        if let Some(key) = keys.find(|key| key.verifier.key_id() == key_id) {
            key.revocation = Some(revocation);
        }
    }
}

impl CheckpointKey {
    /// Whether it signs beside the key that has followed it, at this time in milliseconds since 1970 UTC.
    pub fn signs_along_at(&self, now_ms: u64) -> bool {
        self.revocation.is_none()
            && self
                .signs_along_until_ms
                .is_some_and(|until| now_ms < until)
    }

    /// The first entry that none of the checkpoints covers which it signs alone.
    pub fn behind(&self) -> Option<LeafIndex> {
        self.until.map(|until| LeafIndex::new(until.get()))
    }

    /// The sizes of the smallest and the largest tree whose checkpoints a revocation takes back, of those that it
    /// signed alone; none where there are none.
    pub fn taken_back(&self) -> Option<(TreeSize, TreeSize)> {
        let (revocation, until) = (self.revocation.as_ref()?, self.until?);
        let first = TreeSize::new(revocation.since.get().saturating_add(1)).max(self.from);
        (first <= until).then_some((first, until))
    }

    fn named(&self) -> &NamedKey {
        self.verifier.key()
    }

    fn lines(&self, signed: &SignedCheckpoint) -> usize {
        signed.note().signatures_of_key(self.named()).count()
    }
}

#[cfg(test)]
mod tests;
