//! Reading jobs.

use super::{JobId, JobProgress};
use crate::LedgerError;
use crate::connect::Ledger;

/// Most jobs of one page.
const PAGE_JOBS_MAX: u32 = 1_000;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for a worker.
    Waiting,
    /// A worker has it.
    Running,
    /// The work is done; its entries wait for a checkpoint that covers them.
    Recording,
    /// A published checkpoint covers all of its entries.
    Succeeded,
    /// It ended with a problem.
    Failed,
    /// It was cancelled: it recorded nothing.
    Cancelled,
}

impl JobState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Recording => "recording",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it stays so.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job as its client sees it. Times are milliseconds since 1970 UTC by the clock of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Client that asked.
    pub client: String,
    /// Request that its entries answer.
    pub request_id: String,
    /// Number of images asked for.
    pub images: u32,
    /// Where it is in its life.
    pub state: JobState,
    /// Whether it is to stop.
    pub cancel_requested: bool,
    /// How many workers began and did not hand it back.
    pub attempts: u32,
    /// Place in the queue, from 1, while it waits.
    pub queue_position: Option<u64>,
    /// How far the work is.
    pub progress: Option<JobProgress>,
    /// Sequence number of its newest event.
    pub last_event: u64,
    /// When it was queued.
    pub enqueued_at_ms: u64,
    /// When the newest attempt began.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// What it tells beside its entries, as JSON, once the work is done.
    pub outcome: Option<String>,
    /// Why it failed, as JSON. None for a failed job whose entries the sequencer refused.
    pub problem: Option<String>,
}

/// How much work waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobQueue {
    /// Jobs that wait.
    pub waiting: u64,
    /// Jobs that run.
    pub running: u64,
    /// How long the oldest waiting job has waited, in milliseconds.
    pub oldest_waiting_ms: Option<u64>,
}

/// A row of the view `job_views`.
struct JobRow {
    job_id: String,
    client: String,
    request_id: String,
    images: i32,
    state: String,
    cancel_requested: bool,
    attempts: i32,
    last_event: i64,
    outcome: Option<String>,
    problem: Option<String>,
    enqueued_at_ms: i64,
    started_at_ms: Option<i64>,
    ended_at_ms: Option<i64>,
    queue_position: Option<i64>,
    recorded: Option<i64>,
    covered: Option<i64>,
    is_pending: Option<bool>,
    image_index: Option<i32>,
    step_index: Option<i32>,
    steps: Option<i32>,
}

impl JobRow {
    fn state(&self) -> Result<JobState, LedgerError> {
        let images = i64::from(self.images);
        Ok(match self.state.as_str() {
            "waiting" => JobState::Waiting,
            "running" => JobState::Running,
            "failed" => JobState::Failed,
            "cancelled" => JobState::Cancelled,
            "succeeded" if self.covered.unwrap_or_default() >= images => JobState::Succeeded,
            "succeeded"
                if self.is_pending.unwrap_or_default()
                    || self.recorded.unwrap_or_default() >= images =>
            {
                JobState::Recording
            }
            // Entries are missing and none is on its way: the sequencer refused them.
            "succeeded" => JobState::Failed,
            other => return Err(LedgerError::damaged(format!("unknown state {other:?}"))),
        })
    }
}

impl TryFrom<JobRow> for Job {
    type Error = LedgerError;

    fn try_from(row: JobRow) -> Result<Self, LedgerError> {
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(Self {
            state: row.state()?,
            id: row.job_id.parse()?,
            client: row.client,
            request_id: row.request_id,
            images: u32::try_from(row.images).unwrap_or_default(),
            cancel_requested: row.cancel_requested,
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            queue_position: row.queue_position.map(number),
            progress: JobProgress::from_columns([row.image_index, row.step_index, row.steps]),
            last_event: number(row.last_event),
            enqueued_at_ms: number(row.enqueued_at_ms),
            started_at_ms: row.started_at_ms.map(number),
            ended_at_ms: row.ended_at_ms.map(number),
            outcome: row.outcome,
            problem: row.problem,
        })
    }
}

impl Ledger {
    /// A job.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchJob`] when there is none of this name, or it was pruned.
    pub async fn job(&self, id: &JobId) -> Result<Job, LedgerError> {
        let row = sqlx::query_as!(
            JobRow,
            r#"SELECT job_id AS "job_id!", client AS "client!", request_id AS "request_id!",
                      images AS "images!", state AS "state!",
                      cancel_requested AS "cancel_requested!", attempts AS "attempts!",
                      last_event AS "last_event!", outcome, problem,
                      enqueued_at_ms AS "enqueued_at_ms!", started_at_ms, ended_at_ms,
                      queue_position, recorded, covered, is_pending,
                      image_index, step_index, steps
               FROM job_views WHERE job_id = $1"#,
            id.as_str()
        )
        .fetch_optional(&self.pool)
        .await?;
        row.ok_or(LedgerError::NoSuchJob)?.try_into()
    }

    /// The jobs of a client, newest first, before the one of this name.
    ///
    /// # Errors
    /// Refuses pages of 0 and of more than 1,000 jobs.
    pub async fn jobs_of(
        &self,
        client: &str,
        before: Option<&JobId>,
        limit: u32,
    ) -> Result<Vec<Job>, LedgerError> {
        if !(1..=PAGE_JOBS_MAX).contains(&limit) {
            return Err(LedgerError::JobPageSize {
                page_jobs_max: PAGE_JOBS_MAX,
            });
        }
        let before = match before {
            None => i64::MAX,
            Some(id) => {
                sqlx::query!(
                    "SELECT job_number FROM jobs WHERE job_id = $1 AND client = $2",
                    id.as_str(),
                    client
                )
                .fetch_optional(&self.pool)
                .await?
                .ok_or(LedgerError::NoSuchJob)?
                .job_number
            }
        };
        let rows = sqlx::query_as!(
            JobRow,
            r#"SELECT job_id AS "job_id!", client AS "client!", request_id AS "request_id!",
                      images AS "images!", state AS "state!",
                      cancel_requested AS "cancel_requested!", attempts AS "attempts!",
                      last_event AS "last_event!", outcome, problem,
                      enqueued_at_ms AS "enqueued_at_ms!", started_at_ms, ended_at_ms,
                      queue_position, recorded, covered, is_pending,
                      image_index, step_index, steps
               FROM job_views WHERE client = $1 AND job_number < $2
               ORDER BY job_number DESC LIMIT $3"#,
            client,
            before,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Job::try_from).collect()
    }

    /// How much work waits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_queue(&self) -> Result<JobQueue, LedgerError> {
        let row = sqlx::query!(
            r#"SELECT (SELECT count(*) FROM jobs WHERE state = 'waiting') AS "waiting!",
                      (SELECT count(*) FROM jobs WHERE state = 'running') AS "running!",
                      (SELECT (extract(epoch FROM clock_timestamp() - enqueued_at) * 1000)::bigint
                       FROM jobs WHERE state = 'waiting' ORDER BY job_number LIMIT 1)
                          AS oldest_waiting_ms"#
        )
        .fetch_one(&self.pool)
        .await?;
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(JobQueue {
            waiting: number(row.waiting),
            running: number(row.running),
            oldest_waiting_ms: row.oldest_waiting_ms.map(number),
        })
    }
}
