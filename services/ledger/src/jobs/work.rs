//! The worker's side: claim, heartbeat, end.
//!
//! Every statement of a worker names its fencing token. A worker whose lease ran out, and whose job
//! somebody else claimed, gets [`LedgerError::JobLost`] and changes nothing.

use std::time::Duration;

use sqlx::PgConnection;

use super::events::{self, PROGRESS_SEQUENCE_MAX};
use super::hints::{EVENT, WAITING};
use super::{JobEventKind, JobId, JobProgress};
use crate::append::intake::Row;
use crate::connect::Ledger;
use crate::{LedgerError, SignedEntry};

/// What a worker offers.
#[derive(Clone, Debug)]
pub struct WorkerTerms {
    /// Its name, for people who look.
    pub holder: String,
    /// How long it may be silent before its job is claimed by another.
    pub job_lease: Duration,
    /// How many workers may begin a job and be lost before the job fails.
    pub job_attempts_max: u32,
}

/// A job in the hands of a worker.
#[derive(Clone, Debug)]
pub struct ClaimedJob {
    /// Its name.
    pub id: JobId,
    /// Client that asked.
    pub client: String,
    /// Request that its entries answer.
    pub request_id: String,
    /// Number of images asked for.
    pub images: u32,
    /// The order as JSON.
    pub order: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    job_number: i64,
    fencing_token: i64,
    lease_s: f64,
}

/// What a worker learns when it says that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// The job is still its own.
    GoOn,
    /// The job is to stop.
    Cancel,
}

impl Ledger {
    /// Whether a job could be claimed now. A cheap look before a worker makes room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_claimable_job(&self) -> Result<bool, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT EXISTS (SELECT FROM jobs WHERE state = 'waiting' AND run_after <= clock_timestamp())
                   OR EXISTS (SELECT FROM jobs WHERE state = 'running' AND lease_expires_at < clock_timestamp())
                   AS "claimable!""#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.claimable)
    }

    /// Claims the oldest job that waits, or whose worker was lost. Rows that another worker is
    /// claiming are passed over, so that no worker waits for another.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_job(&self, terms: &WorkerTerms) -> Result<Option<ClaimedJob>, LedgerError> {
        let lease_s = terms.job_lease.as_secs_f64();
        let mut transaction = self.pool.begin().await?;
        end_lost_jobs(&mut transaction, terms.job_attempts_max).await?;
        let row = sqlx::query!(
            r#"WITH next AS (
                   SELECT job_number FROM jobs
                   WHERE (state = 'waiting' AND run_after <= clock_timestamp())
                      OR (state = 'running' AND lease_expires_at < clock_timestamp())
                   ORDER BY job_number LIMIT 1
                   FOR UPDATE SKIP LOCKED
               )
               UPDATE jobs SET state = 'running', holder = $1, attempts = attempts + 1,
                   fencing_token = fencing_token + 1, started_at = clock_timestamp(),
                   lease_expires_at = clock_timestamp() + make_interval(secs => $2)
               FROM next WHERE jobs.job_number = next.job_number
               RETURNING jobs.job_number, job_id, client, request_id, images, attempts,
                   fencing_token, client_order AS "client_order!""#,
            terms.holder,
            lease_s
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(row) = &row {
            events::record(&mut transaction, row.job_number, JobEventKind::Running).await?;
        }
        transaction.commit().await?;
        // A crash here leaves a running job whose lease runs out; then it is claimed again.
        row.map(|row| {
            Ok(ClaimedJob {
                id: row.job_id.parse()?,
                client: row.client,
                request_id: row.request_id,
                images: u32::try_from(row.images).unwrap_or_default(),
                order: row.client_order,
                attempt: u32::try_from(row.attempts).unwrap_or_default(),
                job_number: row.job_number,
                fencing_token: row.fencing_token,
                lease_s,
            })
        })
        .transpose()
    }

    /// Says that the worker lives, and tells how far it is when it got further.
    ///
    /// # Errors
    /// [`LedgerError::JobLost`] when the job is another worker's by now.
    pub async fn heartbeat(
        &self,
        claimed: &ClaimedJob,
        progress: Option<JobProgress>,
    ) -> Result<Heartbeat, LedgerError> {
        let columns = progress.map(JobProgress::columns);
        let column = |place: usize| columns.map(|columns| columns[place]);
        let row = sqlx::query!(
            r#"WITH held AS (
                   UPDATE jobs SET lease_expires_at = clock_timestamp() + make_interval(secs => $3),
                       last_event = last_event + CASE WHEN $4::integer IS NULL THEN 0 ELSE 1 END
                   WHERE job_number = $1 AND fencing_token = $2 AND state = 'running'
                   RETURNING job_number, job_id, last_event, cancel_requested
               ), kept AS (
                   INSERT INTO job_events (job_number, sequence, kind, image_index, step_index, steps)
                   SELECT job_number, last_event, 'progress', $4, $5, $6 FROM held
                   WHERE $4::integer IS NOT NULL AND last_event <= $7
               )
               SELECT cancel_requested,
                   CASE WHEN $4::integer IS NOT NULL THEN pg_notify($8, job_id) IS NULL END AS told
               FROM held"#,
            claimed.job_number,
            claimed.fencing_token,
            claimed.lease_s,
            column(0) as Option<i32>,
            column(1) as Option<i32>,
            column(2) as Option<i32>,
            PROGRESS_SEQUENCE_MAX,
            EVENT
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or(LedgerError::JobLost)?;
        Ok(if row.cancel_requested {
            Heartbeat::Cancel
        } else {
            Heartbeat::GoOn
        })
    }

    /// Ends a job with its entries: they are queued, and the job has succeeded, in one transaction.
    /// Without entries it succeeds by those that are recorded for its request already.
    ///
    /// # Errors
    /// [`LedgerError::JobLost`] when the job is another worker's by now or is to stop: then nothing
    /// is queued. Refuses entries of another client or request.
    pub async fn finish_job(
        &self,
        claimed: &ClaimedJob,
        entries: &[SignedEntry],
        outcome: &str,
    ) -> Result<(), LedgerError> {
        let rows = entries.iter().map(Row::of).collect::<Result<Vec<_>, _>>()?;
        for entry in entries {
            let stated = entry.envelope.unverified_entry()?;
            let (request_id, _) = crate::entries::request_of(&stated);
            if stated.client() != claimed.client || request_id != claimed.request_id {
                return Err(LedgerError::ForeignEntry);
            }
        }
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query!(
            "UPDATE jobs SET state = 'succeeded', client_order = NULL, holder = NULL,
                    lease_expires_at = NULL, ended_at = clock_timestamp(), outcome = $3
             WHERE job_number = $1 AND fencing_token = $2 AND state = 'running'
               AND NOT cancel_requested",
            claimed.job_number,
            claimed.fencing_token,
            outcome
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() != 1 {
            return Err(LedgerError::JobLost);
        }
        self.enqueue_all(&mut transaction, &rows).await?;
        events::record(
            &mut transaction,
            claimed.job_number,
            JobEventKind::Succeeded,
        )
        .await?;
        // A crash here leaves nothing of this: the lease runs out and the job is claimed again.
        transaction.commit().await?;
        // A crash here leaves queued entries, which the sequencer records, and a job that has ended.
        Ok(())
    }

    /// Ends a job that cannot be done.
    ///
    /// # Errors
    /// [`LedgerError::JobLost`] as above.
    pub async fn fail_job(&self, claimed: &ClaimedJob, problem: &str) -> Result<(), LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query!(
            "UPDATE jobs SET state = 'failed', client_order = NULL, holder = NULL,
                    lease_expires_at = NULL, ended_at = clock_timestamp(), problem = $3
             WHERE job_number = $1 AND fencing_token = $2 AND state = 'running'",
            claimed.job_number,
            claimed.fencing_token,
            problem
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() != 1 {
            return Err(LedgerError::JobLost);
        }
        events::record(&mut transaction, claimed.job_number, JobEventKind::Failed).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends a job that was to stop, and has.
    ///
    /// # Errors
    /// [`LedgerError::JobLost`] as above.
    pub async fn end_cancelled_job(&self, claimed: &ClaimedJob) -> Result<(), LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query!(
            "UPDATE jobs SET state = 'cancelled', client_order = NULL, holder = NULL,
                    lease_expires_at = NULL, ended_at = clock_timestamp()
             WHERE job_number = $1 AND fencing_token = $2 AND state = 'running'",
            claimed.job_number,
            claimed.fencing_token
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() != 1 {
            return Err(LedgerError::JobLost);
        }
        events::record(
            &mut transaction,
            claimed.job_number,
            JobEventKind::Cancelled,
        )
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Gives a job back to the queue, where it keeps its place. With a pause it counts as an attempt
    /// and waits so long (a failure that may pass); without, it does not count (a worker that stops).
    ///
    /// # Errors
    /// [`LedgerError::JobLost`] as above.
    pub async fn hand_back_job(
        &self,
        claimed: &ClaimedJob,
        pause: Option<Duration>,
    ) -> Result<(), LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query!(
            "UPDATE jobs SET state = 'waiting', holder = NULL, lease_expires_at = NULL,
                    attempts = attempts - CASE WHEN $3::float8 IS NULL THEN 1 ELSE 0 END,
                    run_after = clock_timestamp() + make_interval(secs => coalesce($3::float8, 0))
             WHERE job_number = $1 AND fencing_token = $2 AND state = 'running'
               AND NOT cancel_requested",
            claimed.job_number,
            claimed.fencing_token,
            pause.map(|pause| pause.as_secs_f64()) as Option<f64>
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() != 1 {
            drop(transaction);
            // It was to stop, or is another worker's by now.
            return self.end_cancelled_job(claimed).await;
        }
        events::record(
            &mut transaction,
            claimed.job_number,
            JobEventKind::HandedBack,
        )
        .await?;
        events::tell(&mut transaction, WAITING, "").await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Ends jobs whose worker was lost: those that were to stop, and those that no worker survived.
async fn end_lost_jobs(
    connection: &mut PgConnection,
    job_attempts_max: u32,
) -> Result<(), LedgerError> {
    let problem = format!(
        r#"{{"code":"worker-lost","detail":"{job_attempts_max} workers in turn were lost or failed while they ran this job"}}"#
    );
    let ended = sqlx::query!(
        r#"WITH lost AS (
               SELECT job_number FROM jobs
               WHERE state = 'running' AND lease_expires_at < clock_timestamp()
                 AND (cancel_requested OR attempts >= $1)
               FOR UPDATE SKIP LOCKED
           )
           UPDATE jobs SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'failed' END,
               problem = CASE WHEN cancel_requested THEN NULL ELSE $2 END,
               client_order = NULL, holder = NULL, lease_expires_at = NULL,
               ended_at = clock_timestamp()
           FROM lost WHERE jobs.job_number = lost.job_number
           RETURNING jobs.job_number, cancel_requested"#,
        i32::try_from(job_attempts_max).unwrap_or(i32::MAX),
        problem
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in ended {
        let kind = if row.cancel_requested {
            JobEventKind::Cancelled
        } else {
            JobEventKind::Failed
        };
        events::record(connection, row.job_number, kind).await?;
    }
    Ok(())
}
