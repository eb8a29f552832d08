//! Queueing a job, and cancelling one.

use provenance::Digest;
use sqlx::PgConnection;

use super::hints::{CANCEL, WAITING};
use super::{Job, JobEventKind, JobId, events};
use crate::LedgerError;
use crate::connect::Ledger;

/// A wish for work.
#[derive(Clone, Debug)]
pub struct NewJob<'a> {
    /// Client that asks.
    pub client: &'a str,
    /// Request that the entries will answer; the same in every attempt.
    pub request_id: &'a str,
    /// Digest over client and Idempotency-Key, when one was sent.
    pub idempotency: Option<Digest>,
    /// Number of images.
    pub images: u32,
    /// The order as JSON, with everything that the work needs.
    pub order: &'a str,
}

/// The limits of the queue. They are checked before the row is written, by every process for itself:
/// requests that arrive at the same moment may pass them by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// Most jobs that wait or run.
    pub jobs_waiting_max: u32,
    /// Most jobs of one client that wait or run.
    pub jobs_per_client_max: u32,
    /// Most bytes of an order.
    pub job_order_bytes_max: u32,
}

/// A job and whether this call queued it.
#[derive(Clone, Debug, PartialEq)]
pub struct Enqueued {
    /// The job as it is now.
    pub job: Job,
    /// Whether it is new; else an earlier request under the same Idempotency-Key queued it.
    pub is_new: bool,
}

impl Ledger {
    /// Queues a job, or finds the one that the same Idempotency-Key of the client stands for.
    ///
    /// # Errors
    /// Refuses a key that stands for another order, an order over its limit, and more work than the
    /// limits allow, for the client or for the service.
    pub async fn enqueue_job(
        &self,
        new: &NewJob<'_>,
        limits: &JobLimits,
    ) -> Result<Enqueued, LedgerError> {
        let bytes_max = limits.job_order_bytes_max;
        if u32::try_from(new.order.len()).is_ok_and(|bytes| bytes <= bytes_max) {
            if let Some(job) = self.job_of_key(new).await? {
                return Ok(Enqueued { job, is_new: false });
            }
            return self.insert_job(new, limits).await;
        }
        Err(LedgerError::JobOrderTooLarge { bytes_max })
    }

    /// The job that this key of this client stands for already.
    async fn job_of_key(&self, new: &NewJob<'_>) -> Result<Option<Job>, LedgerError> {
        let Some(key) = new.idempotency else {
            return Ok(None);
        };
        match self.job_by_key(new.client, &key).await? {
            Some(job) if job.request_id != new.request_id => Err(LedgerError::JobKeyConflict),
            known => Ok(known),
        }
    }

    /// The job of a client under an Idempotency-Key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_by_key(&self, client: &str, key: &Digest) -> Result<Option<Job>, LedgerError> {
        let row = sqlx::query!(
            "SELECT job_id FROM jobs WHERE client = $1 AND idempotency_sha256 = $2",
            client,
            key.as_bytes()
        )
        .fetch_optional(&self.pool)
        .await?;
        match row {
            Some(row) => Ok(Some(self.job(&row.job_id.parse()?).await?)),
            None => Ok(None),
        }
    }

    async fn insert_job(
        &self,
        new: &NewJob<'_>,
        limits: &JobLimits,
    ) -> Result<Enqueued, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        check_load(&mut transaction, new.client, limits).await?;
        let id = JobId::draw();
        let inserted = sqlx::query!(
            "INSERT INTO jobs (job_id, client, idempotency_sha256, request_id, images, client_order)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING
             RETURNING job_number",
            id.as_str(),
            new.client,
            new.idempotency.map(|key| key.as_bytes().to_vec()) as Option<Vec<u8>>,
            new.request_id,
            i32::try_from(new.images).map_err(|_| LedgerError::Beyond { what: "images" })?,
            new.order
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(inserted) = inserted else {
            // The same request was queued at the same moment.
            drop(transaction);
            return match self.job_of_key(new).await? {
                Some(job) => Ok(Enqueued { job, is_new: false }),
                None => Err(LedgerError::RequestConflict),
            };
        };
        events::record(&mut transaction, inserted.job_number, JobEventKind::Waiting).await?;
        events::tell(&mut transaction, WAITING, "").await?;
        transaction.commit().await?;
        Ok(Enqueued {
            job: self.job(&id).await?,
            is_new: true,
        })
    }

    /// Cancels a job. One that waits ends now; one that runs can record nothing from now on, and its
    /// worker stops after its present step. One that has ended stays as it is. Answers with the job.
    ///
    /// # Errors
    /// When there is no such job, or the database fails.
    pub async fn cancel_job(&self, id: &JobId) -> Result<Job, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let found = sqlx::query!(
            "SELECT job_number, state, cancel_requested FROM jobs WHERE job_id = $1 FOR UPDATE",
            id.as_str()
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or(LedgerError::NoSuchJob)?;
        match found.state.as_str() {
            "waiting" => {
                sqlx::query!(
                    "UPDATE jobs SET state = 'cancelled', cancel_requested = true,
                            client_order = NULL, ended_at = clock_timestamp()
                     WHERE job_number = $1",
                    found.job_number
                )
                .execute(&mut *transaction)
                .await?;
                events::record(&mut transaction, found.job_number, JobEventKind::Cancelled).await?;
            }
            "running" if !found.cancel_requested => {
                sqlx::query!(
                    "UPDATE jobs SET cancel_requested = true WHERE job_number = $1",
                    found.job_number
                )
                .execute(&mut *transaction)
                .await?;
                events::record(&mut transaction, found.job_number, JobEventKind::Cancelling)
                    .await?;
                events::tell(&mut transaction, CANCEL, id.as_str()).await?;
            }
            _ => {}
        }
        transaction.commit().await?;
        self.job(id).await
    }

    /// Forgets jobs that ended longer ago than this, at most `jobs_max` of them. Their entries stay.
    /// Answers how many were forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_jobs(
        &self,
        kept: std::time::Duration,
        jobs_max: u32,
    ) -> Result<u64, LedgerError> {
        let done = sqlx::query!(
            "DELETE FROM jobs WHERE job_number IN (
                 SELECT job_number FROM jobs
                 WHERE ended_at < now() - make_interval(secs => $1)
                 ORDER BY ended_at LIMIT $2)",
            kept.as_secs_f64(),
            i64::from(jobs_max)
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

/// Refuses more work than the limits allow. The counts are as dear as the limits are high.
async fn check_load(
    connection: &mut PgConnection,
    client: &str,
    limits: &JobLimits,
) -> Result<(), LedgerError> {
    let load = sqlx::query!(
        r#"SELECT count(*) AS "open!", count(*) FILTER (WHERE client = $1) AS "own!"
           FROM jobs WHERE state IN ('waiting', 'running')"#,
        client
    )
    .fetch_one(connection)
    .await?;
    if load.own >= i64::from(limits.jobs_per_client_max) {
        let jobs_per_client_max = limits.jobs_per_client_max;
        return Err(LedgerError::ClientJobsFull {
            jobs_per_client_max,
        });
    }
    if load.open >= i64::from(limits.jobs_waiting_max) {
        let jobs_waiting_max = limits.jobs_waiting_max;
        return Err(LedgerError::JobsFull { jobs_waiting_max });
    }
    Ok(())
}
