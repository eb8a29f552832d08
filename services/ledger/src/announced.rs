//! Models that workers announce, for processes that have no generator of their own.

use std::time::Duration;

use provenance::Digest;

use crate::LedgerError;
use crate::connect::Ledger;

/// Most models that are told of; a service has one or a few.
const MODELS_MAX: i64 = 100;

impl Ledger {
    /// Says that a worker has a model, and how it is described (JSON of at most 4,096 bytes).
    ///
    /// # Errors
    /// When the database fails or refuses the description.
    pub async fn announce_model(
        &self,
        digest: &Digest,
        description: &str,
    ) -> Result<(), LedgerError> {
        sqlx::query!(
            "INSERT INTO announced_models (digest, description) VALUES ($1, $2)
             ON CONFLICT (digest) DO UPDATE
             SET description = excluded.description, announced_at = clock_timestamp()",
            digest.as_bytes().as_slice(),
            description
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets the models that no worker announced within this time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_models(&self, silent: Duration) -> Result<(), LedgerError> {
        sqlx::query!(
            "DELETE FROM announced_models
             WHERE announced_at < clock_timestamp() - make_interval(secs => $1)",
            silent.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The descriptions of the models that a worker announced within this time, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn announced_models(&self, within: Duration) -> Result<Vec<String>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT description FROM announced_models
             WHERE announced_at > clock_timestamp() - make_interval(secs => $1)
             ORDER BY announced_at DESC, digest LIMIT $2",
            within.as_secs_f64(),
            MODELS_MAX
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| row.description).collect())
    }
}
