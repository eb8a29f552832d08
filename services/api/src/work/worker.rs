//! The worker: claims jobs and works them off, keeps its lease by heartbeats, and lets go when it is
//! told to.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ledger::{ClaimedJob, Heartbeat, JobHint, JobProgress, LedgerError, WorkerTerms};
use onnx::LoopShape;
use tokio::sync::{mpsc, watch};

use super::batches::Admission;
use super::generate::{MadeForJob, make_for_job};
use super::jobs::JobProblem;
use super::{GenerateOrder, WorkError};
use crate::problem::{Problem, kinds};
use crate::request_id;
use crate::state::AppState;
use crate::turns::Turn;

/// How often to look for jobs, and for leases that ran out, when no notification comes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Progress is told at most so often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait after the database failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The pause before the second attempt; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(2);
/// How often ended jobs are looked through for those to forget.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
/// Most jobs that one look forgets.
const FORGET_MAX: u32 = 10_000;

/// Claims and works off one job after another until the service stops; then the job at hand goes
/// back to the queue.
pub async fn work_off_jobs(state: Arc<AppState>, mut stopping: watch::Receiver<bool>) {
    let terms = WorkerTerms {
        holder: format!("process {} of {}", std::process::id(), host_name()),
        job_lease: Duration::from_millis(state.config.limits.job_lease_ms),
        job_attempts_max: state.config.limits.job_attempts_max,
    };
    let mut hints = state.jobs.subscribe();
    while !*stopping.borrow() {
        match claim(&state, &terms, &mut stopping).await {
            Ok(Some((claimed, turn))) => {
                let others = claim_companions(&state, &terms, &claimed).await;
                work_off_together(&state, (&claimed, turn), &others, &stopping).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot claim a job now");
                tokio::time::sleep(RETRY_INTERVAL).await;
                continue;
            }
        }
        tokio::select! {
            _ = stopping.wait_for(|stops| *stops) => return,
            () = hints.wait(|hint| *hint == JobHint::Waiting, POLL_INTERVAL) => {}
        }
    }
}

/// Forgets jobs that ended long ago, until the service stops.
pub async fn forget_old_jobs(state: Arc<AppState>, mut stopping: watch::Receiver<bool>) {
    let kept = Duration::from_secs(state.config.limits.jobs_kept_s_max);
    while !*stopping.borrow() {
        match state.ledger.prune_jobs(kept, FORGET_MAX).await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "forgot jobs that ended long ago"),
            Err(error) => tracing::debug!(%error, "could not look for old jobs"),
        }
        tokio::select! {
            _ = stopping.wait_for(|stops| *stops) => return,
            () = tokio::time::sleep(FORGET_INTERVAL) => {}
        }
    }
}

/// The name of this machine, for people who look.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

/// Makes room first and claims then, so that no job is held by a worker that has no time for it.
async fn claim(
    state: &AppState,
    terms: &WorkerTerms,
    stopping: &mut watch::Receiver<bool>,
) -> Result<Option<(ClaimedJob, Turn)>, LedgerError> {
    if !state.ledger.has_claimable_job().await? {
        return Ok(None);
    }
    let turn = tokio::select! {
        _ = stopping.wait_for(|stops| *stops) => return Ok(None),
        turn = state.generations.take_patiently() => turn,
    };
    // Not broken off from here on: a claim that nobody knows of would hold its job for a lease.
    let claimed = state.ledger.claim_job(terms).await?;
    Ok(claimed.map(|claimed| (claimed, turn)))
}

/// Claims further jobs while they have the shape of the first and making them together pays, up to
/// the first of another shape, which then waits for its turn here.
async fn claim_companions(
    state: &AppState,
    terms: &WorkerTerms,
    first: &ClaimedJob,
) -> Vec<ClaimedJob> {
    let mut others = Vec::new();
    let Some((shape, mut images)) = shape_of(state, first) else {
        return others;
    };
    let wanted = state.batches.images_wanted(&shape);
    while images < wanted {
        match state.ledger.claim_job(terms).await {
            Ok(Some(claimed)) => {
                let found = shape_of(state, &claimed);
                others.push(claimed);
                match found {
                    Some((other, more)) if other == shape => images += more,
                    _ => break,
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "cannot claim another job now");
                break;
            }
        }
    }
    others
}

/// The shape of a job's loop and its images, if its order can be carried out.
fn shape_of(state: &AppState, claimed: &ClaimedJob) -> Option<(LoopShape, usize)> {
    let order: GenerateOrder = serde_json::from_str(&claimed.order).ok()?;
    let slot = state.engine.generator().ok()?;
    let request = order.plan(slot, &state.config.limits).ok()?.request();
    Some((request.loop_shape(), request.images()))
}

/// Works off a job in its turn and others beside it or after it.
async fn work_off_together(
    state: &Arc<AppState>,
    (claimed, turn): (&ClaimedJob, Turn),
    others: &[ClaimedJob],
    stopping: &watch::Receiver<bool>,
) {
    let (arrival, arrivals) = mpsc::channel(1);
    let beside = others.iter().map(|claimed| {
        let turns = state.generations.clone();
        (claimed, Admission::WaitPatiently(turns, arrival.clone()))
    });
    let mut jobs: Vec<(&ClaimedJob, Admission)> = beside.collect();
    drop(arrival);
    jobs.push((claimed, Admission::Held(turn, arrivals)));
    let jobs = jobs
        .into_iter()
        .map(|(claimed, admission)| work_off(state, claimed, admission, stopping.clone()));
    join_all(jobs).await;
}

/// Why the work on a job was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LetGo {
    /// It was cancelled.
    Cancelled,
    /// Another worker has it by now.
    Lost,
    /// The service stops.
    Stopping,
}

/// Works off a claimed job, under its own request id, whatever comes of it.
async fn work_off(
    state: &Arc<AppState>,
    claimed: &ClaimedJob,
    admission: Admission,
    stopping: watch::Receiver<bool>,
) {
    let job_id = &claimed.id;
    let work = async {
        let (progress, reached) = watch::channel(None);
        let made = make(state, claimed, admission, progress);
        let ended = tokio::select! {
            made = made => end(state, claimed, made).await,
            why = keep(state, claimed, reached, stopping) => let_go(state, claimed, why).await,
        };
        match ended {
            Ok(()) => {}
            Err(LedgerError::JobLost) => {
                tracing::warn!(%job_id, "the job is another worker's by now");
            }
            // Its lease runs out, and it is claimed again.
            Err(error) => tracing::warn!(%job_id, %error, "could not end a job"),
        }
    };
    tracing::info!(%job_id, attempt = claimed.attempt, "works off a job");
    request_id::scope(claimed.request_id.clone(), work).await;
}

/// Generates, stores and signs. Dropping the future stops it after its present step.
async fn make(
    state: &Arc<AppState>,
    claimed: &ClaimedJob,
    admission: Admission,
    progress: watch::Sender<Option<JobProgress>>,
) -> Result<MadeForJob, WorkError> {
    let order: GenerateOrder = serde_json::from_str(&claimed.order).map_err(|error| {
        // Another version queued it; a worker of that version can read it.
        tracing::warn!(%error, "cannot read the order of a job");
        WorkError::Interrupted
    })?;
    let on_progress = Box::new(move |step: onnx::Progress| {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        progress.send_replace(Some(JobProgress::after(
            number(step.evaluations_done),
            number(step.steps),
        )));
        ControlFlow::Continue(())
    });
    make_for_job(state, claimed, order, (admission, on_progress)).await
}

/// Keeps the lease, tells how far the work is, and completes when it is to be let go.
async fn keep(
    state: &Arc<AppState>,
    claimed: &ClaimedJob,
    mut reached: watch::Receiver<Option<JobProgress>>,
    mut stopping: watch::Receiver<bool>,
) -> LetGo {
    let beat_interval = Duration::from_millis(state.config.limits.job_lease_ms) / 3;
    let mut hints = state.jobs.subscribe();
    loop {
        let cancelled = |hint: &JobHint| *hint == JobHint::Cancel(claimed.id.clone());
        tokio::select! {
            _ = stopping.wait_for(|stops| *stops) => return LetGo::Stopping,
            () = hints.wait(cancelled, beat_interval) => {}
            () = next_progress(&mut reached) => {}
        }
        let progress = match reached.has_changed() {
            Ok(true) => *reached.borrow_and_update(),
            _ => None,
        };
        match state.ledger.heartbeat(claimed, progress).await {
            Ok(Heartbeat::GoOn) => {}
            Ok(Heartbeat::Cancel) => return LetGo::Cancelled,
            Err(LedgerError::JobLost) => return LetGo::Lost,
            Err(error) => {
                // The work may still be finished, if nobody else claims it meanwhile: the fencing
                // token decides, not this clock.
                tracing::warn!(%error, "a heartbeat was not heard");
                tokio::time::sleep(RETRY_INTERVAL.min(beat_interval)).await;
            }
        }
    }
}

/// Completes when there is progress to tell, and not too often.
async fn next_progress(reached: &mut watch::Receiver<Option<JobProgress>>) {
    tokio::time::sleep(PROGRESS_INTERVAL).await;
    if reached.changed().await.is_err() {
        // The steps are done; only the lease is left to keep.
        std::future::pending::<()>().await;
    }
    reached.mark_changed();
}

/// Ends a job whose work came to an end: with its entries, with a problem, or for another attempt.
async fn end(
    state: &Arc<AppState>,
    claimed: &ClaimedJob,
    made: Result<MadeForJob, WorkError>,
) -> Result<(), LedgerError> {
    let error = match made {
        Ok(MadeForJob { entries, outcome }) => {
            match state.ledger.finish_job(claimed, &entries, &outcome).await {
                // It was to stop in the last moment, if it is not lost altogether.
                Err(LedgerError::JobLost) => return state.ledger.end_cancelled_job(claimed).await,
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => WorkError::from(error),
                Ok(()) => return Ok(()),
            }
        }
        Err(error) => error,
    };
    let problem = Problem::from(error);
    let is_final = problem.kind.status < 500 || problem.kind == kinds::GENERATION_FAILED;
    if is_final || claimed.attempt >= state.config.limits.job_attempts_max {
        let problem =
            serde_json::to_string(&JobProblem::of(&problem)).expect("three strings serialise");
        return state.ledger.fail_job(claimed, &problem).await;
    }
    let pause = PAUSE
        * 2_u32
            .saturating_pow(claimed.attempt.saturating_sub(1))
            .min(64);
    state.ledger.hand_back_job(claimed, Some(pause)).await
}

/// Lets go of a job whose work was stopped in the middle.
async fn let_go(
    state: &Arc<AppState>,
    claimed: &ClaimedJob,
    why: LetGo,
) -> Result<(), LedgerError> {
    match why {
        LetGo::Cancelled => state.ledger.end_cancelled_job(claimed).await,
        LetGo::Stopping => state.ledger.hand_back_job(claimed, None).await,
        LetGo::Lost => Err(LedgerError::JobLost),
    }
}
