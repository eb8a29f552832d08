//! What opens the prompt commitments, and how it is forgotten.

use provenance::LeafIndex;

use crate::connect::Ledger;
use crate::entries::to_i64;
use crate::{LedgerError, PromptSecret};

impl Ledger {
    /// The salt and prompt of an entry; none when none was kept or it was erased.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prompt(&self, leaf_index: LeafIndex) -> Result<Option<PromptSecret>, LedgerError> {
        let row = sqlx::query!(
            "SELECT salt, prompt FROM prompts
             WHERE leaf_hash = (SELECT leaf_hash FROM entries WHERE leaf_index = $1)",
            to_i64(leaf_index.get(), "leaf index")?
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let salt = row.salt.try_into();
            Ok(PromptSecret {
                salt: salt.map_err(|_| LedgerError::damaged("a salt that has not 32 bytes"))?,
                prompt: row.prompt,
            })
        })
        .transpose()
    }

    /// Forgets the salt and prompt of an entry. The entry, its proof and its commitment stay valid,
    /// and nobody can open the commitment any more. Answers whether there was something to forget.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn erase_prompt(&self, leaf_index: LeafIndex) -> Result<bool, LedgerError> {
        let done = sqlx::query!(
            "DELETE FROM prompts
             WHERE leaf_hash = (SELECT leaf_hash FROM entries WHERE leaf_index = $1)",
            to_i64(leaf_index.get(), "leaf index")?
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
