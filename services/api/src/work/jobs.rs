//! Generations as jobs: queued for a worker, followed, cancelled, answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::{
    EntryFilter, Job, JobEvent, JobHint, JobId, JobQueue, JobState, LedgerError, NewJob, Order,
    RecordedEntry,
};
use onnx::{Progress, TruncatedPrompt, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::generate::{GenerateAnswer, OnProgress};
use super::idempotency::Claim;
use super::{GenerateOrder, IdempotencyKey, WorkError, audit};
use crate::access::Caller;
use crate::problem::Problem;
use crate::request_id;
use crate::state::AppState;
use crate::turns::NoTurn;

/// How often a job is looked at when no notification comes.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a job that is done tells beside its entries. It holds nothing of the prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobOutcome {
    /// Tokens of the prompt and tokens that the model takes, when it did not see the end.
    pub truncated_prompt: Option<Truncated>,
    /// How much was read and made.
    pub usage: Option<Usage>,
    /// Where the time went, as [`onnx::Timings`] writes it.
    pub timings_ms: Option<Value>,
}

/// How much of a prompt was cut off. The text itself is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// Tokens of the whole prompt.
    pub tokens: usize,
    /// Tokens that the model takes.
    pub tokens_max: usize,
}

impl JobOutcome {
    /// The outcome of a job; nothing for one that has not succeeded.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let outcome = job.outcome.as_deref();
        // One that another version wrote in another shape is only less to tell.
        outcome
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }
}

/// Why a job failed, as it is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProblem {
    /// The code of the problem's kind.
    pub code: String,
    /// What happened, fit for the public.
    pub detail: String,
    /// Which parameter was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
}

impl JobProblem {
    pub(super) fn of(problem: &Problem) -> Self {
        Self {
            code: problem.kind.code.to_owned(),
            detail: problem.detail.clone(),
            parameter: problem.parameter.map(str::to_owned),
        }
    }

    /// The problem of a failed job.
    #[must_use]
    pub fn of_job(job: &Job) -> Self {
        let kept = job.problem.as_deref();
        let unknown = || Self {
            code: "internal".to_owned(),
            // The one failure that leaves no problem behind: see `ledger::Job::problem`.
            detail: "the ledger refused the entries of this job".to_owned(),
            parameter: None,
        };
        kept.and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_else(unknown)
    }
}

/// Queues an order. The same key of the same client gives the same job.
///
/// # Errors
/// Refuses orders that the model or the limits do not allow, a key that stands for another order,
/// and more work than the limits of the queue allow.
pub async fn enqueue(
    state: &Arc<AppState>,
    caller: &Caller,
    order: GenerateOrder,
    key: Option<&IdempotencyKey>,
) -> Result<Job, WorkError> {
    let claim = key.map(|key| Claim::new(&caller.client, key, &order));
    let queued = queue(state, caller, order, claim.as_ref()).await?;
    Ok(queued.job)
}

/// Queues an order under a claim.
async fn queue(
    state: &Arc<AppState>,
    caller: &Caller,
    order: GenerateOrder,
    claim: Option<&Claim>,
) -> Result<ledger::Enqueued, WorkError> {
    let order = ready_to_travel(state, order)?;
    let json = serde_json::to_string(&order).map_err(|error| {
        let detail = format!("this order cannot wait in the queue: {error}");
        WorkError::invalid("prompt", detail)
    })?;
    let request_id = match claim {
        Some(claim) => claim.request_id().to_owned(),
        None => request_id::current_or_new(),
    };
    let idempotency = claim.map(Claim::owner);
    let (ledger, client) = (state.ledger.clone(), caller.client.clone());
    let limits = state.config.limits.jobs();
    state
        .run(async move {
            let new = NewJob {
                client: &client,
                request_id: &request_id,
                idempotency,
                images: order.images,
                order: &json,
            };
            Ok(ledger.enqueue_job(&new, &limits).await?)
        })
        .await
}

/// The order as a worker gets it: checked as far as this process can, its seed drawn, so that every
/// attempt makes the same pictures.
fn ready_to_travel(state: &AppState, order: GenerateOrder) -> Result<GenerateOrder, WorkError> {
    if order.latents.is_some() {
        let detail = "starting latents do not travel to a worker";
        return Err(WorkError::invalid("latents", detail));
    }
    let images_max = state.config.limits.images_per_request_max;
    if order.images == 0 || order.images > images_max {
        let detail = format!(
            "n is {}, it must be 1 to images_per_request_max ({images_max})",
            order.images
        );
        return Err(WorkError::invalid("n", detail));
    }
    // Without a generator here, the worker refuses what its model does not do.
    let planned = match state.engine.generator() {
        Ok(slot) => Some(order.plan(slot, &state.config.limits)?.seed),
        Err(_) => None,
    };
    let seed = order
        .seed
        .or(planned)
        .unwrap_or_else(super::plan::draw_seed);
    Ok(GenerateOrder {
        seed: Some(seed),
        // Pictures of the way are not recorded, so nobody would see them.
        preview_steps: 0,
        ..order
    })
}

/// A job, if this caller may see it.
///
/// # Errors
/// [`LedgerError::NoSuchJob`] for a job of another client too, so that ids tell nothing.
pub async fn job(state: &Arc<AppState>, caller: &Caller, id: &JobId) -> Result<Job, WorkError> {
    let (ledger, wanted) = (state.ledger.clone(), id.clone());
    let job = state
        .run(async move { Ok(ledger.job(&wanted).await?) })
        .await?;
    visible(caller, job)
}

fn visible(caller: &Caller, job: Job) -> Result<Job, WorkError> {
    if job.client == caller.client || caller.may(ledger::Scope::Admin) {
        Ok(job)
    } else {
        Err(LedgerError::NoSuchJob.into())
    }
}

/// The caller's own jobs, newest first, before the one of this name.
///
/// # Errors
/// When the page is empty or over its limit, or there is no such job.
pub async fn jobs(
    state: &Arc<AppState>,
    caller: &Caller,
    before: Option<JobId>,
    limit: u32,
) -> Result<Vec<Job>, WorkError> {
    let (ledger, client) = (state.ledger.clone(), caller.client.clone());
    state
        .run(async move { Ok(ledger.jobs_of(&client, before.as_ref(), limit).await?) })
        .await
}

/// Cancels a job of the caller. From now on it records nothing.
///
/// # Errors
/// As [`job`].
pub async fn cancel(state: &Arc<AppState>, caller: &Caller, id: &JobId) -> Result<Job, WorkError> {
    let seen = job(state, caller, id).await?;
    if seen.state.is_end() {
        return Ok(seen);
    }
    let (ledger, id) = (state.ledger.clone(), id.clone());
    state
        .run(async move { Ok(ledger.cancel_job(&id).await?) })
        .await
}

/// The events of a job after a place.
///
/// # Errors
/// When the database fails.
pub async fn events(
    state: &Arc<AppState>,
    id: &JobId,
    after: u64,
) -> Result<Vec<JobEvent>, WorkError> {
    let (ledger, id) = (state.ledger.clone(), id.clone());
    state
        .run(async move { Ok(ledger.job_events(&id, after).await?) })
        .await
}

/// The entries of a job that has succeeded; none of any other.
///
/// # Errors
/// When the database fails.
pub async fn entries(state: &Arc<AppState>, job: &Job) -> Result<Vec<RecordedEntry>, WorkError> {
    if job.state != JobState::Succeeded {
        return Ok(Vec::new());
    }
    let filter = EntryFilter {
        kind: Some("generation".to_owned()),
        client: Some(job.client.clone()),
        request_id: Some(job.request_id.clone()),
        order: Order::Ascending,
        ..EntryFilter::default()
    };
    let ledger = state.ledger.clone();
    let page = state
        .run(async move {
            Ok(ledger
                .search(&filter, None, ledger::PAGE_ENTRIES_MAX)
                .await?)
        })
        .await?;
    Ok(page.entries)
}

/// How much work waits.
///
/// # Errors
/// When the database fails.
pub async fn job_queue(state: &Arc<AppState>) -> Result<JobQueue, WorkError> {
    let ledger = state.ledger.clone();
    state
        .run(async move { Ok(ledger.job_queue().await?) })
        .await
}

/// The job that stands for a claim, if an asynchronous request came first under its key.
pub(super) async fn job_of(
    state: &AppState,
    client: &str,
    claim: &Claim,
) -> Result<Option<Job>, WorkError> {
    match state.ledger.job_by_key(client, &claim.owner()).await? {
        Some(job) if job.request_id != claim.request_id() => {
            Err(LedgerError::JobKeyConflict.into())
        }
        known => Ok(known),
    }
}

/// Has a worker carry out an order, and waits for its answer. A job without a key is cancelled when
/// its client leaves: nobody could ask for it again.
pub(super) async fn generate_by_worker(
    state: &Arc<AppState>,
    caller: &Caller,
    (order, claim): (GenerateOrder, Option<Claim>),
    on_progress: Option<OnProgress>,
) -> Result<GenerateAnswer, WorkError> {
    let queued = queue(state, caller, order, claim.as_ref()).await?;
    let mut leaving = claim.is_none().then(|| CancelOnDrop {
        state: Arc::clone(state),
        id: Some(queued.job.id.clone()),
    });
    let (shared, id) = (Arc::clone(state), queued.job.id);
    let answer = state
        .run(async move { answer(&shared, &id, on_progress).await })
        .await;
    // Whoever is still here is answered when the job is out of the queue.
    if let Some(id) = leaving.as_mut().and_then(|leaving| leaving.id.take())
        && answer.is_err()
    {
        let ledger = state.ledger.clone();
        let cancelled = state.run(async move { Ok(ledger.cancel_job(&id).await?) });
        if let Err(error) = cancelled.await {
            tracing::debug!(%error, "could not cancel a job that was given up");
        }
    }
    answer
}

/// Waits until a job has ended, and gives its answer.
pub(super) async fn answer(
    state: &Arc<AppState>,
    id: &JobId,
    on_progress: Option<OnProgress>,
) -> Result<GenerateAnswer, WorkError> {
    let job = ended(state, id, on_progress).await?;
    match job.state {
        JobState::Cancelled => Err(WorkError::JobCancelled),
        JobState::Failed => Err(WorkError::JobFailed(JobProblem::of_job(&job))),
        JobState::Succeeded | JobState::Recording | JobState::Running | JobState::Waiting => {
            let recorded = audit::recorded_generation(state, &job.client, &job.request_id).await?;
            let answer = recorded.ok_or(WorkError::Interrupted)?;
            let outcome = JobOutcome::of(&job);
            Ok(GenerateAnswer {
                usage: outcome.usage,
                truncated_prompt: outcome.truncated_prompt.map(|cut| TruncatedPrompt {
                    tokens: cut.tokens,
                    tokens_max: cut.tokens_max,
                    dropped: String::new(),
                }),
                ..answer
            })
        }
    }
}

/// Follows a job to its end. One that no worker takes in time is given up.
async fn ended(
    state: &Arc<AppState>,
    id: &JobId,
    mut on_progress: Option<OnProgress>,
) -> Result<Job, WorkError> {
    let mut hints = state.jobs.subscribe();
    let mut told = None;
    let mut waiting_since = Instant::now();
    loop {
        let job = state.ledger.job(id).await?;
        if job.state.is_end() {
            return Ok(job);
        }
        if let (Some(on_progress), Some(progress)) = (&mut on_progress, job.progress)
            && told != Some(progress)
        {
            told = Some(progress);
            // A client that has enough leaves, which cancels the job.
            let _ = on_progress(Progress {
                image_index: progress.image_index as usize,
                images: job.images as usize,
                step_index: progress.step_index as usize,
                steps: progress.steps as usize,
                evaluations_done: progress.evaluations_done(),
                preview: None,
            });
        }
        let wait_max = state.config.limits.turn_wait_max();
        if job.state != JobState::Waiting {
            waiting_since = Instant::now();
        } else if waiting_since.elapsed() >= wait_max {
            let wait_ms = state.config.limits.turn_wait_ms_max;
            return Err(NoTurn::TimedOut { wait_ms }.into());
        }
        let recording = job.state == JobState::Recording;
        let wanted = |hint: &JobHint| match hint {
            JobHint::Event(event) => event == id,
            JobHint::Published => recording,
            JobHint::Waiting | JobHint::Cancel(_) => false,
        };
        hints.wait(wanted, LOOK_INTERVAL.min(wait_max)).await;
    }
}

/// Cancels a job that nobody waits for any more.
struct CancelOnDrop {
    state: Arc<AppState>,
    id: Option<JobId>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let ledger = self.state.ledger.clone();
        // When even this fails, the work is done and recorded, and nobody asks for it.
        self.state.runtime.spawn(async move {
            if let Err(error) = ledger.cancel_job(&id).await {
                tracing::debug!(%error, "could not cancel a job whose client has left");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::kinds;

    #[test]
    fn a_problem_survives_the_queue_with_its_kind_and_parameter() {
        let problem = Problem::invalid("n", "n is 9");
        let json = serde_json::to_string(&JobProblem::of(&problem)).unwrap();
        let kept: JobProblem = serde_json::from_str(&json).unwrap();
        let shown = Problem::from(WorkError::JobFailed(kept));
        assert_eq!(shown.kind, kinds::INVALID_REQUEST);
        assert_eq!(
            (shown.parameter, shown.detail),
            (Some("n"), "n is 9".to_owned())
        );
    }

    #[test]
    fn a_problem_that_the_database_wrote_is_understood() {
        let kept: JobProblem =
            serde_json::from_str(r#"{"code":"worker-lost","detail":"3 workers"}"#).unwrap();
        let shown = Problem::from(WorkError::JobFailed(kept));
        assert_eq!(shown.kind, kinds::WORKER_LOST);
    }
}
