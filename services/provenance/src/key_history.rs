//! Which key signed which entries: the first key, those that followed, and those that were revoked.
//!
//! At every place of the log exactly one entry key signs: the first from entry 0 on, each other one from the entry
//! behind the statement that names it ([`KeySuccessionEntry`]); the keys of its checkpoints are [`CheckpointKeys`]. A revocation takes back entries of an earlier
//! key from a place on; statements about keys are not taken back, or the keys after them would hang in the
//! air. Whoever walks the log builds the history on the way; whoever looks at one entry gets the statements
//! with their proofs ([`KeyStatement`]), in its [`crate::Bundle`] or in the [`crate::KeyFile`].

mod ahead;

use serde::{Deserialize, Serialize};

pub use self::ahead::VerifiedAhead;
use crate::{
    Checkpoint, CheckpointKeySuccessionEntry, CheckpointKeys, Digest, Entry, EntryVerifier,
    Envelope, KeyRevocationEntry, KeySuccessionEntry, LeafIndex, ProvenanceError, PublicKeys,
    merkle,
};

/// Most statements about keys of one log: they travel with every later bundle.
pub const KEY_STATEMENTS_MAX: usize = 64;

/// Longest canonical bytes of a statement with its proof.
pub(crate) const KEY_STATEMENT_BYTES_MAX: usize = 8 * 1024;

/// A statement about keys with the proof that the log holds it, under a checkpoint that stands beside it. Not
/// believed until it is taken into a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStatement {
    /// The statement under the signature of the key that signed by then.
    pub envelope: Envelope,
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hashes from the leaf's sibling up.
    pub inclusion_proof: Vec<Digest>,
}

/// The keys that signed so far, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHistory {
    /// Never empty; each key ends where the next begins.
    keys: Vec<EntryKey>,
    checkpoints: CheckpointKeys,
    /// Where the statements lie, and the digests of what they say: the history grows at its end.
    statements: Vec<(LeafIndex, Digest)>,
    is_prepared: bool,
}

/// One key and the entries that it signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryKey {
    /// The key.
    pub verifier: EntryVerifier,
    /// The first entry that it may have signed.
    pub from: LeafIndex,
    /// When it was named, in milliseconds since 1970 UTC as the statement claims; none for the first key.
    pub named_at_ms: Option<u64>,
    /// The last entry that it may have signed, which names the key after it.
    pub until: Option<LeafIndex>,
    /// That it was revoked, where it was.
    pub revocation: Option<Revocation>,
}

/// That a key was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The first entry that is not to be believed; of a checkpoint key, that no checkpoint may cover which is.
    pub since: LeafIndex,
    /// The entry that says so.
    pub recorded_at: LeafIndex,
    /// Why.
    pub reason: String,
}

impl KeyHistory {
    /// The history of a log whose first keys these are.
    pub fn new(first: &PublicKeys) -> Self {
        Self {
            checkpoints: first.checkpoint.clone().into(),
            keys: vec![EntryKey {
                verifier: first.entries.clone(),
                from: LeafIndex::new(0),
                named_at_ms: None,
                until: None,
                revocation: None,
            }],
            statements: Vec::new(),
            is_prepared: false,
        }
    }

    /// The same history with keys that verify many signatures, see [`EntryVerifier::prepared`].
    #[must_use]
    pub fn prepared(mut self) -> Self {
        self.is_prepared = true;
        for key in &mut self.keys {
            key.verifier = key.verifier.prepared();
        }
        self
    }

    /// How many statements made it.
    pub fn statements(&self) -> usize {
        self.statements.len()
    }

    /// The keys that sign checkpoints.
    pub fn checkpoints(&self) -> &CheckpointKeys {
        &self.checkpoints
    }

    /// Whether the two were made of the same statements as far as both go: one is the other, some time later.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let mut pairs = self.statements.iter().zip(&other.statements);
        pairs.all(|(own, other)| own == other)
    }

    /// All entry keys, the first one first.
    pub fn keys(&self) -> &[EntryKey] {
        &self.keys
    }

    /// The entry key that signs now.
    pub fn current(&self) -> &EntryKey {
        self.keys.last().expect("a history begins with a key")
    }

    /// The entry key of this name and id.
    pub fn key(&self, key_id: &str) -> Option<&EntryKey> {
        self.keys.iter().find(|key| key.verifier.key_id() == key_id)
    }

    /// Whether a revocation takes back the entry at this place.
    pub fn has_taken_back(&self, leaf_index: LeafIndex) -> bool {
        self.keys
            .iter()
            .filter_map(EntryKey::taken_back)
            .any(|(first, last)| (first..=last).contains(&leaf_index))
    }

    /// Verifies an envelope as the entry at this place.
    ///
    /// # Errors
    /// Refuses a key that is not known by then or signs other places, a revoked one, and everything that
    /// [`Envelope::verify`] does.
    pub fn verify(
        &self,
        envelope: &Envelope,
        leaf_index: LeafIndex,
    ) -> Result<Entry, ProvenanceError> {
        let Some(key) = self.key(envelope.key_id()) else {
            // The current key says what was expected.
            return envelope.verify(&self.current().verifier);
        };
        let entry = envelope.verify(&key.verifier)?;
        self.admit(key, leaf_index, &entry)?;
        Ok(entry)
    }

    /// Whether a key whose signature holds may have signed this entry at this place.
    fn admit(
        &self,
        key: &EntryKey,
        leaf_index: LeafIndex,
        entry: &Entry,
    ) -> Result<(), ProvenanceError> {
        let name = || key.verifier.key_id();
        if let Some(revocation) = key.revocation.as_ref()
            && leaf_index >= revocation.since
            && !(entry.is_key_statement() && key.covers(leaf_index))
        {
            return Err(ProvenanceError::KeyRevoked {
                key: name(),
                leaf_index,
                since: revocation.since,
                reason: revocation.reason.clone(),
            });
        }
        if !key.covers(leaf_index) {
            return Err(ProvenanceError::KeyOutsideWindow {
                key: name(),
                leaf_index,
                from: key.from,
                until: key.until,
            });
        }
        Ok(())
    }

    /// Whether an entry of this key, whose signature was verified before, may stand at this place; what it
    /// says about keys is taken over.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and a statement about keys that does not hold.
    pub fn meet(
        &mut self,
        leaf_index: LeafIndex,
        key_id: &str,
        entry: &Entry,
    ) -> Result<(), ProvenanceError> {
        let Some(key) = self.key(key_id) else {
            return Err(ProvenanceError::UnknownKey {
                expected: self.current().verifier.key_id(),
                found: key_id.to_owned(),
            });
        };
        self.admit(key, leaf_index, entry)?;
        match entry {
            Entry::KeySuccession(statement) => self.succeed(leaf_index, statement),
            Entry::CheckpointKeySuccession(statement) => {
                self.succeed_checkpoints(leaf_index, statement)
            }
            Entry::KeyRevocation(statement) => self.revoke(leaf_index, statement),
            Entry::Generation(_) | Entry::Score(_) => return Ok(()),
        }?;
        let digest = Digest::of(&entry.to_bytes());
        self.statements.push((leaf_index, digest));
        Ok(())
    }

    /// Verifies the next statement about keys and takes it over.
    ///
    /// # Errors
    /// As [`meet`](Self::meet); and an entry that is no statement about keys.
    pub fn take(
        &mut self,
        envelope: &Envelope,
        leaf_index: LeafIndex,
    ) -> Result<(), ProvenanceError> {
        let entry = self.verify(envelope, leaf_index)?;
        if !entry.is_key_statement() {
            let detail = format!("entry {leaf_index} says nothing about keys");
            return Err(ProvenanceError::KeyStatement { leaf_index, detail });
        }
        self.meet(leaf_index, envelope.key_id(), &entry)
    }

    /// Takes over statements in the order of the log, each signed by the keys before it. That the log holds them
    /// is another matter.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(crate) fn take_all(&mut self, statements: &[KeyStatement]) -> Result<(), ProvenanceError> {
        let mut statements = statements.iter();
        statements.try_for_each(|statement| self.take(&statement.envelope, statement.leaf_index))
    }

    /// Verifies that the tree of a verified checkpoint holds statements.
    ///
    /// # Errors
    /// A statement that the tree does not hold.
    pub(crate) fn verify_held(
        statements: &[KeyStatement],
        checkpoint: &Checkpoint,
    ) -> Result<(), ProvenanceError> {
        let head = checkpoint.tree_head();
        let mut statements = statements.iter();
        statements.try_for_each(|statement| {
            merkle::verify_inclusion(
                &statement.envelope.leaf_hash(),
                statement.leaf_index,
                &head,
                &statement.inclusion_proof,
            )
        })
    }

    /// Whether there may be one more statement, at this place.
    fn count(&self, leaf_index: LeafIndex) -> Result<(), ProvenanceError> {
        let refused = |detail: &str| ProvenanceError::KeyStatement {
            leaf_index,
            detail: detail.to_owned(),
        };
        if self.last().is_some_and(|last| leaf_index <= last) {
            return Err(refused("it does not lie behind the statement before"));
        }
        if self.statements.len() == KEY_STATEMENTS_MAX {
            return Err(refused("a log has at most 64 statements about keys"));
        }
        Ok(())
    }

    fn last(&self) -> Option<LeafIndex> {
        self.statements.last().map(|(leaf_index, _)| *leaf_index)
    }

    fn succeed(
        &mut self,
        leaf_index: LeafIndex,
        statement: &KeySuccessionEntry,
    ) -> Result<(), ProvenanceError> {
        let refused = |detail: String| ProvenanceError::KeyStatement { leaf_index, detail };
        let current = &self.current().verifier;
        if statement.old_key != current.key_id() {
            let detail = format!(
                "it replaces {}, which does not sign here",
                statement.old_key
            );
            return Err(refused(detail));
        }
        let mut successor = statement.successor().map_err(|refusal| {
            refused(format!(
                "the new key does not show that it is held: {refusal}"
            ))
        })?;
        if successor.name() != current.name() {
            return Err(refused("the new key is of another log".to_owned()));
        }
        if self
            .keys
            .iter()
            .any(|key| key.verifier.key().same_bytes(successor.key()))
            || self.checkpoints.have_bytes_of(successor.key())
        {
            return Err(refused("the new key has signed before".to_owned()));
        }
        let Some(from) = leaf_index.get().checked_add(1).map(LeafIndex::new) else {
            return Err(ProvenanceError::TreeFull);
        };
        self.count(leaf_index)?;
        if self.is_prepared {
            successor = successor.prepared();
        }
        self.keys
            .last_mut()
            .expect("a history begins with a key")
            .until = Some(leaf_index);
        self.keys.push(EntryKey {
            verifier: successor,
            from,
            named_at_ms: Some(statement.created_at_ms),
            until: None,
            revocation: None,
        });
        Ok(())
    }

    fn succeed_checkpoints(
        &mut self,
        leaf_index: LeafIndex,
        statement: &CheckpointKeySuccessionEntry,
    ) -> Result<(), ProvenanceError> {
        let next = self.checkpoints.check_succession(leaf_index, statement)?;
        let mut entry_keys = self.keys.iter();
        if entry_keys.any(|key| key.verifier.key().same_bytes(next.verifier.key())) {
            let detail = "the new key has signed entries".to_owned();
            return Err(ProvenanceError::KeyStatement { leaf_index, detail });
        }
        self.count(leaf_index)?;
        self.checkpoints
            .succeed(next, statement.old_key_signs_until_ms);
        Ok(())
    }

    /// Whether a revocation could be the next entry.
    ///
    /// # Errors
    /// Refuses an unknown key, one that signs now, and a place where the key signed nothing or was revoked
    /// before.
    pub fn check_revocation(&self, statement: &KeyRevocationEntry) -> Result<(), ProvenanceError> {
        let next = self.last().map_or(0, |last| last.get().saturating_add(1));
        let next = LeafIndex::new(next);
        match self.checkpoints.key(&statement.key) {
            Some(_) => self.check_checkpoint_revocation(next, statement),
            None => self.revoked_place(next, statement).map(drop),
        }
    }

    fn check_checkpoint_revocation(
        &self,
        leaf_index: LeafIndex,
        statement: &KeyRevocationEntry,
    ) -> Result<(), ProvenanceError> {
        let refused = |detail: &str| ProvenanceError::KeyStatement {
            leaf_index,
            detail: format!("{}: {detail}", statement.key),
        };
        let Some(key) = self.checkpoints.key(&statement.key) else {
            return Err(refused("the log has no such key"));
        };
        let Some(behind) = key.behind() else {
            return Err(refused(
                "it signs now; another key must follow before it is revoked",
            ));
        };
        let signs_there = |since: LeafIndex| since <= behind && since.get() + 1 >= key.from.get();
        if !signs_there(statement.since) {
            return Err(refused("it signed no checkpoint alone that covers it"));
        }
        match &key.revocation {
            Some(known) if known.since <= statement.since => {
                Err(refused("it was revoked from there on before"))
            }
            _ => Ok(()),
        }
    }

    /// Which key a revocation is about, once it may be.
    fn revoked_place(
        &self,
        leaf_index: LeafIndex,
        statement: &KeyRevocationEntry,
    ) -> Result<usize, ProvenanceError> {
        let refused = |detail: &str| ProvenanceError::KeyStatement {
            leaf_index,
            detail: format!("{}: {detail}", statement.key),
        };
        let place = self
            .keys
            .iter()
            .position(|key| key.verifier.key_id() == statement.key);
        let Some(place) = place else {
            return Err(refused("the log has no such key"));
        };
        let key = &self.keys[place];
        let Some(until) = key.until else {
            return Err(refused(
                "it signs now; another key must follow before it is revoked",
            ));
        };
        if !(key.from..=until).contains(&statement.since)
            && statement.since.get() != until.get() + 1
        {
            return Err(refused("it signed no entry there"));
        }
        if key
            .revocation
            .as_ref()
            .is_some_and(|known| known.since <= statement.since)
        {
            return Err(refused("it was revoked from there on before"));
        }
        Ok(place)
    }

    fn revoke(
        &mut self,
        leaf_index: LeafIndex,
        statement: &KeyRevocationEntry,
    ) -> Result<(), ProvenanceError> {
        let revocation = Revocation {
            since: statement.since,
            recorded_at: leaf_index,
            reason: statement.reason.clone(),
        };
        if self.checkpoints.key(&statement.key).is_some() {
            self.check_checkpoint_revocation(leaf_index, statement)?;
            self.count(leaf_index)?;
            self.checkpoints.revoke(&statement.key, revocation);
            return Ok(());
        }
        let place = self.revoked_place(leaf_index, statement)?;
        self.count(leaf_index)?;
        self.keys[place].revocation = Some(revocation);
        Ok(())
    }
}

impl EntryKey {
    /// Whether it may have signed the entry at this place.
    pub fn covers(&self, leaf_index: LeafIndex) -> bool {
        leaf_index >= self.from && self.until.is_none_or(|until| leaf_index <= until)
    }

    /// The first and the last of its entries that were taken back by a revocation; none where there are none.
    pub fn taken_back(&self) -> Option<(LeafIndex, LeafIndex)> {
        let (revocation, until) = (self.revocation.as_ref()?, self.until?);
        // The last one names the key after it, and stays.
        let last = until.get().checked_sub(1).map(LeafIndex::new)?;
        (revocation.since <= last).then_some((revocation.since, last))
    }
}

#[cfg(test)]
mod tests;
