//! The lease: one row in the database says who may record and publish.
//!
//! Expiry is measured by the clock of the database alone. Each transaction of the holder locks the row
//! with its fencing token first, so that a holder that was asleep for too long is refused instead of
//! working beside its successor.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use crate::LedgerError;
use crate::connect::Ledger;

/// The right to sequence, until it expires or another process takes it.
#[derive(Debug)]
pub(super) struct Lease {
    fencing_token: i64,
    seconds: f64,
}

/// What a process asks for.
pub(super) struct Terms<'a> {
    /// Its name, for people who look.
    pub holder: &'a str,
    /// How long the lease lasts without a heartbeat.
    pub duration: Duration,
}

impl Lease {
    /// Takes the lease if nobody holds it, or if this process itself held it last.
    pub(super) async fn take(
        pool: &PgPool,
        terms: &Terms<'_>,
        previous: Option<&Self>,
    ) -> Result<Option<Self>, LedgerError> {
        let seconds = terms.duration.as_secs_f64();
        let row = sqlx::query!(
            "UPDATE sequencer_lease
             SET holder = $1, fencing_token = fencing_token + 1,
                 expires_at = clock_timestamp() + make_interval(secs => $2)
             WHERE expires_at < clock_timestamp() OR fencing_token = $3
             RETURNING fencing_token",
            terms.holder,
            seconds,
            previous.map(|lease| lease.fencing_token) as Option<i64>
        )
        .fetch_optional(pool)
        .await?;
        Ok(row.map(|row| Self {
            fencing_token: row.fencing_token,
            seconds,
        }))
    }

    /// Locks the row for the rest of the transaction and extends the lease: fence and heartbeat.
    pub(super) async fn hold(&self, connection: &mut PgConnection) -> Result<(), LedgerError> {
        let done = sqlx::query!(
            "UPDATE sequencer_lease SET expires_at = clock_timestamp() + make_interval(secs => $2)
             WHERE fencing_token = $1",
            self.fencing_token,
            self.seconds
        )
        .execute(connection)
        .await?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(LedgerError::LeaseLost),
        }
    }

    /// Gives the lease back, so that a successor need not wait.
    pub(super) async fn release(&self, pool: &PgPool) -> Result<(), LedgerError> {
        sqlx::query!(
            "UPDATE sequencer_lease SET expires_at = '-infinity' WHERE fencing_token = $1",
            self.fencing_token
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}

impl Ledger {
    /// The name of the process that sequences, if any holds the lease now. Without one, appends wait.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sequencer_holder(&self) -> Result<Option<String>, LedgerError> {
        let row = sqlx::query!(
            "SELECT holder FROM sequencer_lease WHERE expires_at >= clock_timestamp()"
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| row.holder))
    }
}
