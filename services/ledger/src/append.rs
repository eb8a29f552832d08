//! Appending: queue a signed entry, wait for the checkpoint that covers it, answer with the proof.

use std::fmt;

use provenance::{Bundle, Digest, Entry, Envelope, LeafIndex, commit};
use sqlx::PgExecutor;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connect::Ledger;
use crate::hints::PENDING;
use crate::publication::Outcome;
use crate::{LedgerError, entries};

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
        // Registered before it is queued, so that no publication can slip in between unseen.
        let outcome = self.publications.expect(envelope.leaf_hash());
        let queued = match self.enqueue(&self.pool, &signed).await {
            Err(error) => self.explain(error, &envelope.leaf_hash()).await?,
            Ok(queued) => queued,
        };
        if let Queued::Known = queued {
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
        let outcomes: Vec<_> = entries
            .iter()
            .map(|entry| self.publications.expect(entry.envelope.leaf_hash()))
            .collect();
        let mut transaction = self.pool.begin().await?;
        for entry in entries {
            let queued = self.enqueue(&mut *transaction, entry).await;
            // A transaction that met a constraint is over, so there is nothing to look up in it.
            queued.map_err(|error| match error.constraint() {
                Some("pending_request_unique") => LedgerError::RequestConflict,
                _ => error,
            })?;
        }
        transaction.commit().await?;
        self.publications.look();
        let deadline = Instant::now() + self.options.append_timeout;
        let mut appended = Vec::with_capacity(entries.len());
        for (entry, outcome) in entries.iter().zip(outcomes) {
            appended.push(self.covered(&entry.envelope, outcome, deadline).await?);
        }
        Ok(appended)
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
                checkpoint,
            } => {
                let tree_size = checkpoint.unverified().tree_size;
                let proof = self.inclusion_hashes(leaf_index, tree_size).await?;
                let checkpoint = (*checkpoint).clone();
                Ok(Appended {
                    leaf_index,
                    leaf_hash,
                    bundle: Bundle::new(envelope.clone(), leaf_index, proof, checkpoint),
                })
            }
        }
    }

    /// Queues the envelope and keeps the secret, in one statement: both or neither. Refuses more work
    /// than the sequencer can be expected to catch up with: the distance between first and last arrival
    /// is at least the number of waiting rows less one, and costs two index look-ups.
    pub(crate) async fn enqueue(
        &self,
        executor: impl PgExecutor<'_>,
        signed: &SignedEntry,
    ) -> Result<Queued, LedgerError> {
        let SignedEntry { envelope, secret } = signed;
        let entry = envelope.unverified_entry()?;
        let secret = secret.as_ref();
        check_secret(&entry, secret)?;
        let pending_max = self.options.pending_max;
        let leaf_hash = envelope.leaf_hash();
        let (request_id, image_index) = entries::request_of(&entry);
        let row = sqlx::query!(
            r#"WITH known AS (
                   SELECT FROM entries WHERE leaf_hash = $1
                   UNION ALL SELECT FROM pending WHERE leaf_hash = $1
               ), queue AS (
                   SELECT coalesce(max(arrival) - min(arrival), 0) >= $10 AS is_full
                   FROM pending WHERE refusal IS NULL
               ), queued AS (
                   INSERT INTO pending (leaf_hash, envelope, kind, request_id, image_index, client)
                   SELECT $1, $2, $3, $4, $5, $6 FROM queue
                   WHERE NOT is_full AND NOT EXISTS (SELECT FROM known)
                   ON CONFLICT (leaf_hash) DO NOTHING
                   RETURNING arrival
               ), kept AS (
                   INSERT INTO prompts (leaf_hash, salt, prompt)
                   SELECT $1, $7, $8 FROM queued WHERE $7::bytea IS NOT NULL
                   ON CONFLICT (leaf_hash) DO NOTHING
               )
               SELECT EXISTS (SELECT FROM queued) AS "is_new!",
                      (SELECT is_full FROM queue) AND NOT EXISTS (SELECT FROM known) AS "is_refused!",
                      (SELECT pg_notify($9, '') IS NULL FROM queued
                       WHERE NOT EXISTS (SELECT FROM pending WHERE refusal IS NULL)) AS told"#,
            leaf_hash.as_bytes(),
            envelope.to_bytes(),
            entry.kind(),
            request_id,
            i64::from(image_index),
            entry.client(),
            secret.map(|secret| secret.salt.to_vec()) as Option<Vec<u8>>,
            secret.map(|secret| secret.prompt.as_str()) as Option<&str>,
            PENDING,
            i64::from(pending_max)
        )
        .fetch_one(executor)
        .await?;
        match row {
            row if row.is_new => Ok(Queued::New),
            row if row.is_refused => Err(LedgerError::QueueFull { pending_max }),
            _ => Ok(Queued::Known),
        }
    }

    /// Two appends of one envelope at the same moment may meet the constraint on requests before the
    /// one on leaf hashes; that is no conflict.
    async fn explain(&self, error: LedgerError, leaf_hash: &Digest) -> Result<Queued, LedgerError> {
        if error.constraint() != Some("pending_request_unique") {
            return Err(error);
        }
        let row = sqlx::query!(
            r#"SELECT EXISTS (SELECT FROM pending WHERE leaf_hash = $1)
                   OR EXISTS (SELECT FROM entries WHERE leaf_hash = $1) AS "is_known!""#,
            leaf_hash.as_bytes()
        )
        .fetch_one(&self.pool)
        .await?;
        if row.is_known {
            Ok(Queued::Known)
        } else {
            Err(LedgerError::RequestConflict)
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
