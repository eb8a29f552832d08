//! Appending: queue a signed entry, wait for the checkpoint that covers it, answer with the proof.

pub(crate) mod intake;

use std::fmt;

use provenance::{Bundle, Digest, Entry, Envelope, LeafIndex, commit};
use sqlx::PgConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::intake::Row;
use crate::LedgerError;
use crate::connect::Ledger;
use crate::publication::Outcome;

/// What opens the prompt commitment of a generation. Kept in a table of its own, where it can be
/// erased without touching the log.
#[derive(Clone, PartialEq, Eq)]
pub struct PromptSecret {
    /// The salt, 32 random bytes drawn for this commitment alone.
    pub salt: [u8; 32],
    /// The prompt.
    pub prompt: String,
}

impl fmt::Debug for PromptSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PromptSecret(..)")
    }
}

/// A signed entry to be recorded, with what opens its commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEntry {
    /// The entry in its envelope.
    pub envelope: Envelope,
    /// What opens the prompt commitment, where it is to be kept.
    pub secret: Option<PromptSecret>,
}

/// A recorded entry with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Digest,
    /// Envelope, inclusion proof and checkpoint.
    pub bundle: Bundle,
}

/// How the queue met an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It waits for the sequencer now.
    New,
    /// It was queued or recorded before.
    Known,
}

impl Ledger {
    /// Records a signed entry and answers when a published checkpoint covers it.
    ///
    /// Appending the same envelope again answers with the same place: a caller that got no answer
    /// may simply try again. The signature is verified by the sequencer, under the log's entry key.
    ///
    /// # Errors
    /// Refuses a secret that does not open the commitment, a second entry for the same client, kind,
    /// request and image, and a full queue. [`LedgerError::NotYetPublished`] says that the entry is
    /// queued but no checkpoint came in time.
    pub async fn append(
        &self,
        envelope: &Envelope,
        secret: Option<PromptSecret>,
    ) -> Result<Appended, LedgerError> {
        let signed = SignedEntry {
            envelope: envelope.clone(),
            secret,
        };
        let row = Row::of(&signed)?;
        // Registered before it is queued, so that no publication can slip in between unseen.
        let outcome = self.publications.expect(row.leaf_hash());
        if let Queued::Known = self.intake.queue(row).await? {
            // It may be covered already, and then no further publication would tell.
            self.publications.look();
        }
        let deadline = Instant::now() + self.options.append_timeout;
        self.covered(&signed.envelope, outcome, deadline).await
    }

    /// Records the entries of one request: all are queued or none. Answers, in their order, when a
    /// published checkpoint covers every one.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_all(&self, entries: &[SignedEntry]) -> Result<Vec<Appended>, LedgerError> {
        if let [only] = entries {
            return Ok(vec![
                self.append(&only.envelope, only.secret.clone()).await?,
            ]);
        }
        let rows = entries.iter().map(Row::of).collect::<Result<Vec<_>, _>>()?;
        let outcomes: Vec<_> = rows
            .iter()
            .map(|row| self.publications.expect(row.leaf_hash()))
            .collect();
        let mut transaction = self.pool.begin().await?;
        self.enqueue_all(&mut transaction, &rows).await?;
        transaction.commit().await?;
        self.publications.look();
        let deadline = Instant::now() + self.options.append_timeout;
        let mut appended = Vec::with_capacity(entries.len());
        for (entry, outcome) in entries.iter().zip(outcomes) {
            appended.push(self.covered(&entry.envelope, outcome, deadline).await?);
        }
        Ok(appended)
    }

    /// Queues rows in a transaction that the caller gives up when any of them is refused.
    pub(crate) async fn enqueue_all(
        &self,
        transaction: &mut PgConnection,
        rows: &[Row],
    ) -> Result<(), LedgerError> {
        let queued = intake::enqueue(transaction, self.options.pending_max, rows).await?;
        queued.into_iter().try_for_each(|row| row.map(drop))
    }

    /// Waits until a published checkpoint covers a queued entry.
    async fn covered(
        &self,
        envelope: &Envelope,
        outcome: oneshot::Receiver<Outcome>,
        deadline: Instant,
    ) -> Result<Appended, LedgerError> {
        let leaf_hash = envelope.leaf_hash();
        let timeout = self.options.append_timeout;
        let Ok(Ok(outcome)) = tokio::time::timeout_at(deadline, outcome).await else {
            return Err(LedgerError::NotYetPublished { leaf_hash, timeout });
        };
        match outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Covered {
                leaf_index,
                proof,
                checkpoint,
            } => {
                let checkpoint = (*checkpoint).clone();
                let mut bundle = Bundle::new(envelope.clone(), leaf_index, proof, checkpoint);
                // Whoever knows the first keys needs nothing else about them: the log grew until here.
                if envelope.key_id() != self.options.public_keys.entries.key_id()
                    || self.heads.know_other_keys()
                {
                    bundle = self.with_keys(bundle).await?;
                }
                Ok(Appended {
                    leaf_index,
                    leaf_hash,
                    bundle,
                })
            }
        }
    }
}

fn check_secret(entry: &Entry, secret: Option<&PromptSecret>) -> Result<(), LedgerError> {
    let Some(secret) = secret else {
        return Ok(());
    };
    match entry {
        Entry::Generation(generation)
            if commit(&secret.salt, secret.prompt.as_bytes()) == generation.prompt_commitment =>
        {
            Ok(())
        }
        _ => Err(LedgerError::SecretMismatch),
    }
}
