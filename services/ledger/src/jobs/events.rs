//! What happens to a job, numbered, for clients that follow it.

use sqlx::PgConnection;

use super::JobId;
use super::hints::EVENT;
use crate::LedgerError;
use crate::connect::Ledger;

/// Most events that one look answers with.
pub(super) const EVENTS_MAX: i64 = 500;
/// From this number on a job's progress is no longer kept, only what changes its state: at four a
/// second that is more than half an hour.
pub(super) const PROGRESS_SEQUENCE_MAX: i64 = 10_000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEventKind {
    /// It waits for a worker.
    Waiting,
    /// A worker began.
    Running,
    /// A step was done.
    Progress,
    /// Its worker gave it back, or was lost: it waits again.
    HandedBack,
    /// It is to stop.
    Cancelling,
    /// Its entries are queued, and recorded as soon as the sequencer comes to them.
    Succeeded,
    /// It ended with a problem.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl JobEventKind {
    const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Running,
        Self::Progress,
        Self::HandedBack,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Progress => "progress",
            Self::HandedBack => "handed_back",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(word: &str) -> Result<Self, LedgerError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| LedgerError::damaged(format!("unknown event {word:?}")))
    }

    /// Whether no event follows.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobProgress {
    /// Image at work, from 0, as if one were made after another.
    pub image_index: u32,
    /// Step just done, from 0.
    pub step_index: u32,
    /// Steps of each image.
    pub steps: u32,
}

impl JobProgress {
    /// After so many steps of all images together, the first counting 1.
    #[must_use]
    pub fn after(evaluations_done: u32, steps: u32) -> Self {
        let last = evaluations_done.saturating_sub(1);
        let steps_of_image = steps.max(1);
        Self {
            image_index: last / steps_of_image,
            step_index: last % steps_of_image,
            steps,
        }
    }

    /// Steps done of all images.
    #[must_use]
    pub fn evaluations_done(&self) -> usize {
        self.image_index as usize * self.steps as usize + self.step_index as usize + 1
    }

    /// From three columns that are null together.
    pub(super) fn from_columns(columns: [Option<i32>; 3]) -> Option<Self> {
        let [image_index, step_index, steps] =
            columns.map(|number| number.and_then(|number| u32::try_from(number).ok()));
        Some(Self {
            image_index: image_index?,
            step_index: step_index?,
            steps: steps?,
        })
    }

    /// As the database keeps the numbers: limits keep them far below 2^31.
    pub(super) fn columns(self) -> [i32; 3] {
        [self.image_index, self.step_index, self.steps]
            .map(|number| i32::try_from(number).unwrap_or(i32::MAX))
    }
}

/// One event of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// Place among the job's events, from 1, with gaps where progress was not kept.
    pub sequence: u64,
    /// What happened.
    pub kind: JobEventKind,
    /// How far the work is, for progress.
    pub progress: Option<JobProgress>,
    /// When, in milliseconds since 1970 UTC by the clock of the database.
    pub happened_at_ms: u64,
}

impl Ledger {
    /// The events of a job after a place, in order, at most 500.
    ///
    /// # Errors
    /// When the database fails. A job that does not exist has no events.
    pub async fn job_events(&self, id: &JobId, after: u64) -> Result<Vec<JobEvent>, LedgerError> {
        let rows = sqlx::query!(
            r#"SELECT sequence, kind, image_index, step_index, steps,
                      (extract(epoch FROM happened_at) * 1000)::bigint AS "happened_at_ms!"
               FROM job_events
               WHERE job_number = (SELECT job_number FROM jobs WHERE job_id = $1)
                 AND sequence > $2
               ORDER BY sequence LIMIT $3"#,
            id.as_str(),
            i64::try_from(after).unwrap_or(i64::MAX),
            EVENTS_MAX
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(JobEvent {
                    sequence: u64::try_from(row.sequence).unwrap_or_default(),
                    kind: JobEventKind::parse(&row.kind)?,
                    progress: JobProgress::from_columns([
                        row.image_index,
                        row.step_index,
                        row.steps,
                    ]),
                    happened_at_ms: u64::try_from(row.happened_at_ms).unwrap_or_default(),
                })
            })
            .collect()
    }
}

/// Numbers and keeps an event that changes a job's state, and tells those who follow it.
pub(super) async fn record(
    connection: &mut PgConnection,
    job_number: i64,
    kind: JobEventKind,
) -> Result<(), LedgerError> {
    sqlx::query!(
        "WITH numbered AS (
             UPDATE jobs SET last_event = last_event + 1 WHERE job_number = $1
             RETURNING job_number, job_id, last_event
         ), kept AS (
             INSERT INTO job_events (job_number, sequence, kind)
             SELECT job_number, last_event, $2 FROM numbered
         )
         SELECT pg_notify($3, job_id) IS NULL AS told FROM numbered",
        job_number,
        kind.as_str(),
        EVENT
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// Tells those who listen, when the transaction commits.
pub(super) async fn tell(
    connection: &mut PgConnection,
    channel: &str,
    payload: &str,
) -> Result<(), LedgerError> {
    sqlx::query!(
        r#"SELECT pg_notify($1, $2) IS NULL AS told"#,
        channel,
        payload
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}
