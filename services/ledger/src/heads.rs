//! The heads of the log: what was published, and which of it witnesses have cosigned.
//!
//! The database is trusted with neither signatures nor cosignatures: both are verified whenever they are
//! read.

use std::sync::{Arc, Mutex, PoisonError};

use provenance::{
    CheckpointKeys, KeyHistory, LeafIndex, ProvenanceError, PublicKeys, SignedCheckpoint, TreeSize,
    WitnessPolicy, WitnessVerifier,
};
use sqlx::PgPool;

use crate::LedgerError;
use crate::connect::{Ledger, LedgerOptions};
use crate::entries::{leaf_index_of, to_i64};
use crate::hints::PUBLISHED;
use crate::keys;

/// Cosigned checkpoints that are looked at together on the way back to one with a quorum.
const LOOKED_AT_TOGETHER: i64 = 64;

/// Reads checkpoints.
#[derive(Debug)]
pub(crate) struct Heads {
    pool: PgPool,
    first: PublicKeys,
    /// The keys that sign checkpoints, as far as they were needed.
    log: Mutex<Arc<CheckpointKeys>>,
    policy: WitnessPolicy,
    known: Mutex<Known>,
}

/// What was found before: looking for a newer one need not go further back.
#[derive(Clone, Debug, Default)]
struct Known {
    witnessed: Option<SignedCheckpoint>,
    /// No checkpoint below this size, and above the one found, has a quorum.
    looked_until: i64,
}

/// A published checkpoint with its cosignatures.
struct CosignedRow {
    tree_size: i64,
    note: String,
    lines: Vec<String>,
}

impl Heads {
    pub(crate) fn new(pool: PgPool, options: &LedgerOptions) -> Self {
        Self {
            pool,
            log: Mutex::new(Arc::new(options.public_keys.checkpoint.clone().into())),
            first: options.public_keys.clone(),
            policy: options.witnesses.clone(),
            known: Mutex::default(),
        }
    }

    /// The newest published checkpoint, as the log alone has signed it.
    pub(crate) async fn published(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        let row = sqlx::query!("SELECT note FROM checkpoints ORDER BY tree_size DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        match row {
            Some(row) => Ok(Some(self.parse(&row.note).await?)),
            None => Ok(None),
        }
    }

    /// The newest published checkpoint, with the cosignatures that it has by now.
    pub(crate) async fn latest(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        match self.published().await? {
            Some(checkpoint) => Ok(Some(self.with_cosignatures(checkpoint).await?)),
            None => Ok(None),
        }
    }

    /// The checkpoint that was published for this size, with its cosignatures.
    pub(crate) async fn at(&self, tree_size: TreeSize) -> Result<SignedCheckpoint, LedgerError> {
        let size = to_i64(tree_size.get(), "tree size")?;
        let row = sqlx::query!("SELECT note FROM checkpoints WHERE tree_size = $1", size)
            .fetch_optional(&self.pool)
            .await?
            .ok_or(LedgerError::NoSuchCheckpoint { tree_size })?;
        self.with_cosignatures(self.parse(&row.note).await?).await
    }

    /// The newest checkpoint that enough witnesses have cosigned. Where the policy demands none, the
    /// newest one.
    pub(crate) async fn witnessed(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        if self.policy.quorum().is_none() {
            return self.latest().await;
        }
        let mut known = self.known().clone();
        let mut below = i64::MAX;
        let floor = known.looked_until;
        loop {
            let rows = self.cosigned_between(floor, below).await?;
            for row in &rows {
                known.looked_until = known.looked_until.max(row.tree_size);
                let checkpoint = self.parse(&row.note).await?;
                let cosigned = self.policy.cosigned(&checkpoint, &row.lines);
                if self.policy.suffices(&cosigned, &self.log()).is_ok() {
                    known.witnessed = Some(cosigned);
                    self.remember(known.clone());
                    return Ok(known.witnessed);
                }
            }
            match rows.last() {
                Some(row) if rows.len() as i64 == LOOKED_AT_TOGETHER => below = row.tree_size,
                _ => break,
            }
        }
        self.remember(known.clone());
        Ok(known.witnessed)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the newer of two looks that ended at the same time.
    fn remember(&self, found: Known) {
        let size = |known: &Known| {
            known
                .witnessed
                .as_ref()
                .map(|one| one.unverified().tree_size)
        };
        let mut known = self.known();
        if size(&found) >= size(&known) && found.looked_until >= known.looked_until {
            *known = found;
        }
    }

    /// Checkpoints with any cosignature, the newest first.
    async fn cosigned_between(
        &self,
        from: i64,
        below: i64,
    ) -> Result<Vec<CosignedRow>, LedgerError> {
        let rows = sqlx::query_as!(
            CosignedRow,
            r#"SELECT checkpoints.tree_size, note, array_agg(line ORDER BY received_at, witness) AS "lines!"
               FROM cosignatures JOIN checkpoints ON checkpoints.tree_size = cosignatures.tree_size
               WHERE cosignatures.tree_size >= $1 AND cosignatures.tree_size < $2
               GROUP BY checkpoints.tree_size
               ORDER BY checkpoints.tree_size DESC LIMIT $3"#,
            from,
            below,
            LOOKED_AT_TOGETHER
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    async fn with_cosignatures(
        &self,
        checkpoint: SignedCheckpoint,
    ) -> Result<SignedCheckpoint, LedgerError> {
        if self.policy.witnesses().is_empty() {
            return Ok(checkpoint);
        }
        let rows = sqlx::query!(
            "SELECT line FROM cosignatures WHERE tree_size = $1 ORDER BY received_at, witness",
            to_i64(checkpoint.unverified().tree_size.get(), "tree size")?
        )
        .fetch_all(&self.pool)
        .await?;
        let lines: Vec<String> = rows.into_iter().map(|row| row.line).collect();
        Ok(self.policy.cosigned(&checkpoint, &lines))
    }

    /// Reads a checkpoint of the log. Where it names keys that were not known before, the log is asked for them.
    ///
    /// What was revoked since makes no difference here: the log compares the roots with its own tree.
    async fn parse(&self, note: &str) -> Result<SignedCheckpoint, LedgerError> {
        let checkpoint = SignedCheckpoint::parse(note)?;
        let mut log = self.log();
        if !log.unseen(&checkpoint).is_empty() {
            log = self.read_keys().await?;
        }
        log.verify_signature(&checkpoint)?;
        Ok(checkpoint)
    }

    /// Whether a checkpoint that was read here was signed by another key than the log's first.
    pub(crate) fn know_other_keys(&self) -> bool {
        self.log().keys().len() > 1
    }

    fn log(&self) -> Arc<CheckpointKeys> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&log)
    }

    async fn read_keys(&self) -> Result<Arc<CheckpointKeys>, LedgerError> {
        let whole = TreeSize::new(i64::MAX.unsigned_abs());
        let recorded = keys::statements(&mut *self.pool.acquire().await?, whole).await?;
        let history = keys::history(KeyHistory::new(&self.first), &recorded)?;
        let read = Arc::new(history.checkpoints().clone());
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        *log = Arc::clone(&read);
        Ok(read)
    }
}

impl Ledger {
    /// The newest published checkpoint, verified, with the cosignatures of known witnesses that it has by
    /// now; none before the first sequencer started.
    ///
    /// # Errors
    /// When the database fails or its newest checkpoint does not verify.
    pub async fn latest_checkpoint(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        self.heads.latest().await
    }

    /// The newest checkpoint that enough witnesses have cosigned. Where no quorum is demanded, the newest.
    ///
    /// # Errors
    /// As [`latest_checkpoint`](Self::latest_checkpoint).
    pub async fn witnessed_checkpoint(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        self.heads.witnessed().await
    }

    /// The newest published checkpoint, verified, as the log alone has signed it.
    ///
    /// # Errors
    /// As [`latest_checkpoint`](Self::latest_checkpoint).
    pub async fn published_checkpoint(&self) -> Result<Option<SignedCheckpoint>, LedgerError> {
        self.heads.published().await
    }

    /// The checkpoint that was published for this tree size, verified.
    ///
    /// # Errors
    /// Refuses sizes for which none was published.
    pub async fn checkpoint(&self, tree_size: TreeSize) -> Result<SignedCheckpoint, LedgerError> {
        self.heads.at(tree_size).await
    }

    /// The checkpoint that proofs of an entry lead to when nobody names one: the newest that enough
    /// witnesses have cosigned, or the newest of all for an entry that none of those covers yet.
    pub(crate) async fn checkpoint_covering(
        &self,
        leaf_index: LeafIndex,
    ) -> Result<SignedCheckpoint, LedgerError> {
        match self.heads.witnessed().await? {
            Some(witnessed) if witnessed.unverified().tree_size.contains(leaf_index) => {
                Ok(witnessed)
            }
            _ => self
                .latest_checkpoint()
                .await?
                .ok_or(LedgerError::NoCheckpoint),
        }
    }

    /// The size of the newest tree that a witness is known to have cosigned; 0 for none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn size_cosigned_by(
        &self,
        witness: &WitnessVerifier,
    ) -> Result<TreeSize, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT coalesce(max(tree_size), 0) AS "size!" FROM cosignatures WHERE witness = $1"#,
            witness.key_id()
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(TreeSize::new(leaf_index_of(row.size)?.get()))
    }

    /// Records the line with which a witness has cosigned a published checkpoint. A second line of the
    /// same witness for the same checkpoint changes nothing.
    ///
    /// # Errors
    /// Refuses a line that the witness has not signed, and a checkpoint that was not published.
    pub async fn add_cosignature(
        &self,
        checkpoint: &SignedCheckpoint,
        witness: &WitnessVerifier,
        line: &str,
    ) -> Result<(), LedgerError> {
        witness.verify(&checkpoint.with_line(line)?)?;
        let tree_size = checkpoint.unverified().tree_size;
        let published = self.checkpoint(tree_size).await?;
        if published.unverified() != checkpoint.unverified() {
            return Err(ProvenanceError::WitnessedRoot {
                tree_size,
                witnessed: checkpoint.unverified().root_hash,
                claimed: published.unverified().root_hash,
            }
            .into());
        }
        let mut transaction = self.pool.begin().await?;
        sqlx::query!(
            "INSERT INTO cosignatures (tree_size, witness, line) VALUES ($1, $2, $3)
             ON CONFLICT (tree_size, witness) DO NOTHING",
            to_i64(tree_size.get(), "tree size")?,
            witness.key_id(),
            line
        )
        .execute(&mut *transaction)
        .await?;
        // Appends may wait for a quorum.
        sqlx::query!(r#"SELECT pg_notify($1, '') IS NULL AS told"#, PUBLISHED)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}
