//! Sizes of the log and of its queues, for whoever watches the service.

use crate::LedgerError;
use crate::connect::Ledger;

/// How large everything is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Entries that the newest checkpoint covers.
    pub entries: u64,
    /// Entries that the newest checkpoint covers and the one before did not: the last batch that was
    /// published.
    pub batch_entries: u64,
    /// Entries that wait for the sequencer.
    pub pending: u64,
    /// Jobs that wait for a worker.
    pub jobs_waiting: u64,
    /// Jobs that a worker holds.
    pub jobs_running: u64,
}

impl Ledger {
    /// Reads the sizes. Checkpoints are not verified here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn gauges(&self) -> Result<Gauges, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT
                 coalesce((SELECT tree_size FROM checkpoints
                           ORDER BY tree_size DESC LIMIT 1), 0) AS "newest!",
                 coalesce((SELECT tree_size FROM checkpoints
                           ORDER BY tree_size DESC OFFSET 1 LIMIT 1), 0) AS "before!",
                 (SELECT count(*) FROM pending WHERE refusal IS NULL) AS "pending!",
                 (SELECT count(*) FROM jobs WHERE state = 'waiting') AS "jobs_waiting!",
                 (SELECT count(*) FROM jobs WHERE state = 'running') AS "jobs_running!""#
        )
        .fetch_one(&self.pool)
        .await?;
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(Gauges {
            entries: count(row.newest),
            batch_entries: count(row.newest - row.before),
            pending: count(row.pending),
            jobs_waiting: count(row.jobs_waiting),
            jobs_running: count(row.jobs_running),
        })
    }
}
