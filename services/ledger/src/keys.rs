//! What the log says about its keys.

use provenance::entry::KEY_STATEMENT_KINDS;
use provenance::{
    Bundle, CheckpointKey, Envelope, KeyFile, KeyHistory, KeyStatement, LeafIndex,
    SignedCheckpoint, TreeSize,
};
use sqlx::PgConnection;

use crate::LedgerError;
use crate::connect::Ledger;
use crate::entries::{leaf_index_of, to_i64};

/// A statement about keys as it is recorded.
pub(crate) struct RecordedStatement {
    pub leaf_index: LeafIndex,
    pub envelope: Envelope,
}

/// The recorded statements about keys among the first entries, in the order of the log.
pub(crate) async fn statements(
    connection: &mut PgConnection,
    tree_size: TreeSize,
) -> Result<Vec<RecordedStatement>, LedgerError> {
    let kinds = KEY_STATEMENT_KINDS.map(str::to_owned);
    let rows = sqlx::query!(
        "SELECT leaf_index, envelope FROM entries
         WHERE kind = ANY($1) AND leaf_index < $2 ORDER BY leaf_index",
        &kinds[..],
        to_i64(tree_size.get(), "tree size")?
    )
    .fetch_all(connection)
    .await?;
    let parse = |row: (i64, Vec<u8>)| {
        Ok(RecordedStatement {
            leaf_index: leaf_index_of(row.0)?,
            envelope: Envelope::parse(&row.1)?,
        })
    };
    let rows = rows.into_iter();
    rows.map(|row| parse((row.leaf_index, row.envelope)))
        .collect()
}

/// The keys that these statements make of the first one.
pub(crate) fn history(
    first: KeyHistory,
    statements: &[RecordedStatement],
) -> Result<KeyHistory, LedgerError> {
    let mut history = first;
    for statement in statements {
        history.take(&statement.envelope, statement.leaf_index)?;
    }
    Ok(history)
}

impl Ledger {
    /// The keys that signed so far. The database is not trusted: each statement is verified, from
    /// the first key on.
    ///
    /// # Errors
    /// A recorded statement that does not hold.
    pub async fn key_history(&self) -> Result<KeyHistory, LedgerError> {
        let size = self.published_size().await?;
        let recorded = statements(&mut *self.pool.acquire().await?, size).await?;
        history(self.first_key(), &recorded)
    }

    pub(crate) fn first_key(&self) -> KeyHistory {
        KeyHistory::new(&self.options.public_keys)
    }

    /// The public key file as the log stands now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn key_file(&self) -> Result<KeyFile, LedgerError> {
        let file = KeyFile::new(self.options.public_keys.clone());
        let Some(checkpoint) = self.heads.published().await? else {
            return Ok(file);
        };
        let size = checkpoint.unverified().tree_size;
        let recorded = statements(&mut *self.pool.acquire().await?, size).await?;
        let proven = self.prove_statements(recorded, size).await?;
        Ok(file.with_statements(checkpoint, proven))
    }

    /// The first entry that states a time at or behind this one, in milliseconds since 1970 UTC.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn first_entry_since(&self, ms: u64) -> Result<Option<LeafIndex>, LedgerError> {
        let row = sqlx::query!(
            "SELECT min(leaf_index) AS leaf_index FROM entries WHERE created_at_ms >= $1",
            to_i64(ms, "time")?
        )
        .fetch_one(&self.pool)
        .await?;
        row.leaf_index.map(leaf_index_of).transpose()
    }

    /// A bundle with the statements about keys that it needs: those before its entry, where its key was revoked all
    /// until that, and where another checkpoint key follows all until that.
    pub(crate) async fn with_keys(&self, bundle: Bundle) -> Result<Bundle, LedgerError> {
        let checkpoint: &SignedCheckpoint = bundle.checkpoint();
        let size = checkpoint.unverified().tree_size;
        let mut recorded = statements(&mut *self.pool.acquire().await?, size).await?;
        if recorded.is_empty() {
            return Ok(bundle);
        }
        let keys = history(self.first_key(), &recorded)?;
        let signer = keys.key(bundle.envelope().key_id());
        let revoked_at = signer
            .and_then(|key| key.revocation.as_ref())
            .map(|revocation| revocation.recorded_at);
        let place = bundle.leaf_index();
        let mut newest_first = keys.checkpoints().keys().iter().rev();
        let named_at = newest_first.find_map(CheckpointKey::behind);
        recorded.retain(|statement| {
            statement.leaf_index < place
                || revoked_at.is_some_and(|revoked_at| statement.leaf_index <= revoked_at)
                || named_at.is_some_and(|named_at| statement.leaf_index <= named_at)
        });
        let proven = self.prove_statements(recorded, size).await?;
        Ok(bundle.with_keys(proven))
    }

    async fn prove_statements(
        &self,
        recorded: Vec<RecordedStatement>,
        size: TreeSize,
    ) -> Result<Vec<KeyStatement>, LedgerError> {
        let mut proven = Vec::with_capacity(recorded.len());
        for statement in recorded {
            let RecordedStatement {
                leaf_index,
                envelope,
            } = statement;
            proven.push(KeyStatement {
                inclusion_proof: self.inclusion_proof(leaf_index, size).await?,
                envelope,
                leaf_index,
            });
        }
        Ok(proven)
    }
}
