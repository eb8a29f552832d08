//! Time stamps of published checkpoints.
//!
//! What an answer of an authority says is not known here: whoever connects to the ledger hands in how one is
//! verified. The database is not trusted with it: readers get the answer and the note, and verify both.

use std::time::Duration;

use provenance::{Digest, SignedCheckpoint, TreeSize};

use crate::LedgerError;
use crate::blocking::blocking;
use crate::connect::Ledger;
use crate::entries::{digest, to_i64, tree_size_of};

/// Time stamps of one page at most.
pub const PAGE_TIME_STAMPS_MAX: u32 = 100;

/// Verifies that an authority's answer (the second) is a time stamp of a note (the first), byte for byte. Says why it
/// is none.
pub type TimeStampCheck = fn(&[u8], &[u8]) -> Result<(), String>;

/// A time stamp that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptTimeStamp {
    /// Size of the checkpoint's tree.
    pub tree_size: TreeSize,
    /// Root hash of the checkpoint.
    pub root_hash: Digest,
    /// The note that is stamped: the checkpoint as the log alone has signed it.
    pub note: String,
    /// The answer of the authority, DER.
    pub reply: Vec<u8>,
}

impl Ledger {
    /// Records the answer with which an authority has stamped a published checkpoint. A second one for the same
    /// checkpoint changes nothing.
    ///
    /// # Errors
    /// Refuses an answer that is no time stamp of the published note.
    pub async fn add_time_stamp(
        &self,
        checkpoint: &SignedCheckpoint,
        reply: Vec<u8>,
    ) -> Result<(), LedgerError> {
        let tree_size = checkpoint.unverified().tree_size;
        let size = to_i64(tree_size.get(), "tree size")?;
        let published = sqlx::query!("SELECT note FROM checkpoints WHERE tree_size = $1", size)
            .fetch_optional(&self.pool)
            .await?
            .ok_or(LedgerError::NoSuchCheckpoint { tree_size })?;
        let reply = match self.options.time_stamps {
            None => reply,
            Some(verify) => {
                blocking(move || match verify(published.note.as_bytes(), &reply) {
                    Ok(()) => Ok(reply),
                    Err(detail) => Err(LedgerError::TimeStampRefused { tree_size, detail }),
                })
                .await?
            }
        };
        sqlx::query!(
            "INSERT INTO checkpoint_time_stamps (tree_size, reply) VALUES ($1, $2)
             ON CONFLICT (tree_size) DO NOTHING",
            size,
            reply
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The time stamp of the checkpoint of this size.
    ///
    /// # Errors
    /// When there is none.
    pub async fn time_stamp(&self, tree_size: TreeSize) -> Result<KeptTimeStamp, LedgerError> {
        let mut found = self
            .time_stamps_between(to_i64(tree_size.get(), "tree size")?, tree_size, 1)
            .await?;
        found.pop().ok_or(LedgerError::NoTimeStamp { tree_size })
    }

    /// Kept time stamps, that of the largest tree first, from below this size.
    ///
    /// # Errors
    /// Refuses pages of none and of more than [`PAGE_TIME_STAMPS_MAX`].
    pub async fn time_stamps(
        &self,
        before: Option<TreeSize>,
        limit: u32,
    ) -> Result<Vec<KeptTimeStamp>, LedgerError> {
        if !(1..=PAGE_TIME_STAMPS_MAX).contains(&limit) {
            return Err(LedgerError::TimeStampPageSize {
                page_time_stamps_max: PAGE_TIME_STAMPS_MAX,
            });
        }
        let most = match before.map(TreeSize::get) {
            None => i64::MAX.unsigned_abs(),
            Some(0) => return Ok(Vec::new()),
            Some(before) => (before - 1).min(i64::MAX.unsigned_abs()),
        };
        self.time_stamps_between(0, TreeSize::new(most), limit)
            .await
    }

    /// The size of the tree that was stamped last, and how long ago; none before the first stamp.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_time_stamp(&self) -> Result<Option<(TreeSize, Duration)>, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT tree_size, extract(epoch FROM now() - received_at)::double precision AS "age_s!"
               FROM checkpoint_time_stamps ORDER BY tree_size DESC LIMIT 1"#
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        // A clock that was set back gives a negative age.
        let age = Duration::try_from_secs_f64(row.age_s).unwrap_or_default();
        Ok(Some((tree_size_of(row.tree_size)?, age)))
    }

    async fn time_stamps_between(
        &self,
        least: i64,
        most: TreeSize,
        limit: u32,
    ) -> Result<Vec<KeptTimeStamp>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT tree_size, root_hash, note, reply
             FROM checkpoint_time_stamps JOIN checkpoints USING (tree_size)
             WHERE tree_size BETWEEN $1 AND $2 ORDER BY tree_size DESC LIMIT $3",
            least,
            to_i64(most.get(), "tree size")?,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(KeptTimeStamp {
                    tree_size: tree_size_of(row.tree_size)?,
                    root_hash: digest(&row.root_hash)?,
                    note: row.note,
                    reply: row.reply,
                })
            })
            .collect()
    }
}
