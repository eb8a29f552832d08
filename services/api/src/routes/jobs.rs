//! `/v1/jobs`: asynchronous generations.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, ContentEncoding, HeaderName, LOCATION,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use ledger::{Job, JobEvent, JobHint, JobHintsReceiver, JobId, JobState};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::wire::EntryBody;
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::AppState;
use crate::turns::Turn;
use crate::work::jobs::{self, JobOutcome, JobProblem};
use crate::work::{GenerateOrder, IdempotencyKey, WorkError};

/// Jobs of a page when nobody says how many.
const PAGE_JOBS: u32 = 20;
/// A comment is sent so often when nothing happens, so that nothing in between closes the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After how long a client comes back to a broken connection, in milliseconds.
const RECONNECT_MS: u32 = 1_000;

/// An asynchronous generation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobBody {
    /// Name of the job.
    id: String,
    /// Always `job`.
    object: &'static str,
    /// `waiting`, `running`, `recording` (done; a checkpoint is to come), `succeeded`, `failed` or
    /// `cancelled`.
    state: &'static str,
    /// Whether it is to stop. From then on it records nothing.
    cancel_requested: bool,
    /// Request that its entries state.
    request_id: String,
    /// Number of images asked for.
    images: u32,
    /// Place in the queue, from 1, while it waits.
    queue_position: Option<u64>,
    /// How far the work is, once it began.
    progress: Option<ProgressBody>,
    /// How many workers began it.
    attempts: u32,
    /// When it was queued, in milliseconds since 1970 UTC.
    created_at_ms: u64,
    /// When the newest attempt began.
    started_at_ms: Option<u64>,
    /// When it ended.
    ended_at_ms: Option<u64>,
    /// Where its events are.
    events_url: String,
    /// What it made, once it has succeeded.
    result: Option<JobResult>,
    /// Why it failed.
    problem: Option<ProblemBody>,
}

/// How far the work is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobProgress)]
pub(super) struct ProgressBody {
    /// Image at work, from 0, as if one were made after another; some are made together.
    image_index: u32,
    /// Images of the job.
    images: u32,
    /// Step just done, from 0.
    step_index: u32,
    /// Steps of each image.
    steps: u32,
    /// Share of all steps that is done, 0 to 1.
    share: f64,
}

impl ProgressBody {
    fn new(images: u32, progress: ledger::JobProgress) -> Self {
        let ledger::JobProgress {
            image_index,
            step_index,
            steps,
        } = progress;
        let all = f64::from(images) * f64::from(steps);
        let done = progress.evaluations_done() as f64;
        Self {
            image_index,
            images,
            step_index,
            steps,
            share: (done / all.max(1.0)).min(1.0),
        }
    }
}

/// What a job made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobResult {
    /// The entries of its images, in order, with where image and bundle are.
    entries: Vec<EntryBody>,
    /// What the caller should know: a prompt that was cut, for example.
    warnings: Vec<String>,
    /// Where the time went.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    timings_ms: Option<serde_json::Value>,
}

impl JobBody {
    /// The job with what it made.
    async fn with_result(state: &Arc<AppState>, job: &Job) -> Result<Self, Problem> {
        let mut body = Self::new(job);
        if job.state == JobState::Succeeded {
            let mut entries = jobs::entries(state, job).await?;
            entries.sort_by_key(|recorded| image_index(&recorded.entry));
            let outcome = JobOutcome::of(job);
            let warnings = outcome.truncated_prompt.iter().map(|cut| {
                format!(
                    "the prompt has {} tokens, the model takes {}: it did not see the end",
                    cut.tokens, cut.tokens_max
                )
            });
            body.result = Some(JobResult {
                entries: entries.iter().map(EntryBody::from).collect(),
                warnings: warnings.collect(),
                timings_ms: outcome.timings_ms,
            });
        }
        Ok(body)
    }

    fn new(job: &Job) -> Self {
        let problem = (job.state == JobState::Failed)
            .then(|| Problem::from(WorkError::JobFailed(JobProblem::of_job(job))).body());
        let progress = job
            .progress
            .map(|progress| ProgressBody::new(job.images, progress));
        Self {
            id: job.id.to_string(),
            object: "job",
            state: job.state.as_str(),
            cancel_requested: job.cancel_requested,
            request_id: job.request_id.clone(),
            images: job.images,
            queue_position: job.queue_position,
            progress,
            attempts: job.attempts,
            created_at_ms: job.enqueued_at_ms,
            started_at_ms: job.started_at_ms,
            ended_at_ms: job.ended_at_ms,
            events_url: format!("{}/events", url(&job.id)),
            result: None,
            problem,
        }
    }
}

fn image_index(entry: &provenance::Entry) -> u32 {
    match entry {
        provenance::Entry::Generation(generation) => generation.image_index,
        _ => 0,
    }
}

fn url(id: &JobId) -> String {
    format!("/v1/jobs/{id}")
}

/// Whether the client asks for an answer before the work is done (RFC 7240).
pub(super) fn prefers_async(request: &HttpRequest) -> bool {
    let values = request.headers().get_all("prefer");
    let words = values.filter_map(|value| value.to_str().ok());
    words
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

/// Queues an order and answers 202 with where the job is.
pub(super) async fn accept(
    state: &Arc<AppState>,
    caller: &Caller,
    order: GenerateOrder,
    key: Option<&IdempotencyKey>,
) -> Result<HttpResponse, Problem> {
    let job = jobs::enqueue(state, caller, order, key).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, url(&job.id)))
        .insert_header((
            HeaderName::from_static("preference-applied"),
            "respond-async",
        ))
        .json(JobBody::with_result(state, &job).await?))
}

/// A job. Only the client that asked for it, or an admin, sees it.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "Name of the job")),
    responses(
        (status = 200, body = JobBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]))
)]
pub(super) async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let job = jobs::job(&state, &caller, &parse(&id)?).await?;
    Ok(HttpResponse::Ok().json(JobBody::with_result(&state, &job).await?))
}

/// Cancel a job. One that waits is cancelled now; one that runs stops after its present step and
/// records nothing; one that has ended stays as it is.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "Name of the job")),
    responses(
        (status = 200, body = JobBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]))
)]
pub(super) async fn cancel(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let job = jobs::cancel(&state, &caller, &parse(&id)?).await?;
    Ok(HttpResponse::Ok().json(JobBody::with_result(&state, &job).await?))
}

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct JobsQuery {
    /// Jobs of a page.
    limit: Option<u32>,
    /// Only jobs older than the one of this name: the last one of the page before.
    before: Option<String>,
}

/// One page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobsBody {
    /// Always `list`.
    object: &'static str,
    /// The jobs, newest first, without what they made.
    data: Vec<JobBody>,
    /// The value of `before` for the next page; null on the last one.
    next_before: Option<String>,
}

/// The caller's own jobs, newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    params(JobsQuery),
    responses(
        (status = 200, body = JobsBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]))
)]
pub(super) async fn list(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Query<JobsQuery>,
) -> Result<HttpResponse, Problem> {
    let most = state.config.limits.jobs_per_page_max;
    let limit = query.limit.unwrap_or(PAGE_JOBS.min(most));
    if limit == 0 || limit > most {
        let detail = format!("limit is {limit}, it must be 1 to jobs_per_page_max ({most})");
        return Err(Problem::invalid("limit", detail));
    }
    let before = query.before.as_deref().map(parse).transpose()?;
    // One more than asked for says whether there is a next page.
    let mut jobs = jobs::jobs(&state, &caller, before, limit + 1).await?;
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    let last = jobs.last().map(|job| job.id.to_string());
    Ok(HttpResponse::Ok().json(JobsBody {
        object: "list",
        data: jobs.iter().map(JobBody::new).collect(),
        next_before: last.filter(|_| more),
    }))
}

fn parse(id: &str) -> Result<JobId, Problem> {
    id.parse()
        .map_err(|error: ledger::LedgerError| WorkError::from(error).into())
}

/// Follow a job by server-sent events. Each event has an `id`; a client that comes back with
/// `Last-Event-ID` gets what happened since. The last event carries the job with what it made.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "Name of the job"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Only events after this one")
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended and every event was received"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]))
)]
pub(super) async fn events(
    state: web::Data<AppState>,
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    // Before the first look, so that nothing slips in between.
    let hints = state.jobs.subscribe();
    let job = jobs::job(&state, &caller, &parse(&id)?).await?;
    let after = last_event_id(&request)?;
    if job.state.is_end() && after >= job.last_event {
        return Ok(HttpResponse::NoContent().finish());
    }
    let turn = state.event_streams.take().await.map_err(|_| {
        let most = state.config.limits.event_streams_max;
        let detail = format!("event_streams_max ({most}) clients follow a job already");
        Problem::new(kinds::OVERLOADED, detail).retry_after(u64::from(RECONNECT_MS / 1_000))
    })?;
    let follower = Follower {
        state: state.into_inner(),
        job,
        after,
        hints,
        ready: VecDeque::from([Bytes::from(format!("retry: {RECONNECT_MS}\n\n"))]),
        ended: false,
        spoke_at: Instant::now(),
        _turn: turn,
    };
    let stream = futures_util::stream::unfold(follower, async |mut follower| {
        let chunk = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), follower))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // Compressed, events would wait for a full block.
        .insert_header((CONTENT_ENCODING, ContentEncoding::Identity))
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(Box::pin(stream)))
}

fn last_event_id(request: &HttpRequest) -> Result<u64, Problem> {
    let Some(value) = request.headers().get("last-event-id") else {
        return Ok(0);
    };
    let refused = || Problem::invalid("Last-Event-ID", "Last-Event-ID must be the id of an event");
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(refused)
}

/// One client that follows one job.
struct Follower {
    state: Arc<AppState>,
    job: Job,
    after: u64,
    hints: JobHintsReceiver,
    ready: VecDeque<Bytes>,
    ended: bool,
    spoke_at: Instant,
    _turn: Turn,
}

impl Follower {
    /// The next bytes to send; none at the end of the job, or of the service.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                self.spoke_at = Instant::now();
                return Some(chunk);
            }
            if self.ended || *self.state.stopping.borrow() {
                return None;
            }
            // A database that is down comes back; meanwhile the client is kept.
            if let Err(problem) = self.look().await
                && problem.kind == kinds::NOT_FOUND
            {
                return None;
            }
            if self.ready.is_empty() && !self.ended {
                self.wait().await;
            }
        }
    }

    /// Takes what happened since.
    async fn look(&mut self) -> Result<(), Problem> {
        for event in jobs::events(&self.state, &self.job.id, self.after).await? {
            if event.kind.is_last() {
                return self.look_at_end(&event).await;
            }
            let chunk = self.chunk(&event);
            self.ready.push_back(chunk);
            self.after = event.sequence;
        }
        Ok(())
    }

    /// The last event is told when it is true: a job has succeeded when a checkpoint covers it.
    async fn look_at_end(&mut self, event: &JobEvent) -> Result<(), Problem> {
        let (ledger, id) = (self.state.ledger.clone(), self.job.id.clone());
        let looked = self.state.run(async move { Ok(ledger.job(&id).await?) });
        self.job = looked.await?;
        if !self.job.state.is_end() {
            return Ok(());
        }
        let body = JobBody::with_result(&self.state, &self.job).await?;
        let data = serde_json::to_string(&body).expect("strings and numbers serialise");
        let chunk = render(event.sequence, self.job.state.as_str(), &data);
        self.ready.push_back(chunk);
        self.after = event.sequence;
        self.ended = true;
        Ok(())
    }

    fn chunk(&self, event: &JobEvent) -> Bytes {
        let progress = event
            .progress
            .map(|progress| ProgressBody::new(self.job.images, progress));
        let data = EventBody {
            event: event.kind.as_str(),
            happened_at_ms: event.happened_at_ms,
            progress,
        };
        let data = serde_json::to_string(&data).expect("strings and numbers serialise");
        render(event.sequence, event.kind.as_str(), &data)
    }

    /// Waits until a look may be worth it; says that the connection lives when it was silent long.
    async fn wait(&mut self) {
        let id = &self.job.id;
        let wanted = |hint: &JobHint| match hint {
            JobHint::Event(event) => event == id,
            JobHint::Published => true,
            JobHint::Waiting | JobHint::Cancel(_) => false,
        };
        let mut stopping = self.state.stopping.clone();
        tokio::select! {
            () = self.hints.wait(wanted, jobs::LOOK_INTERVAL) => {}
            _ = stopping.wait_for(|stops| *stops) => {}
        }
        if self.spoke_at.elapsed() >= KEEP_ALIVE {
            self.ready
                .push_back(Bytes::from_static(b": still here\n\n"));
        }
    }
}

/// The data of an event that is not the last.
#[derive(Debug, Serialize)]
struct EventBody {
    event: &'static str,
    happened_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressBody>,
}

/// One server-sent event. JSON has no line breaks, so the data is one line.
fn render(sequence: u64, event: &str, data: &str) -> Bytes {
    Bytes::from(format!("id: {sequence}\nevent: {event}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_preference_for_an_early_answer_is_found_among_others() {
        let prefers = |value: &str| {
            let request = TestRequest::post().insert_header(("prefer", value));
            prefers_async(&request.to_http_request())
        };
        assert!(prefers("respond-async"));
        assert!(prefers("wait=10, Respond-Async; foo=bar"));
        assert!(!prefers("return=minimal"));
        assert!(!prefers_async(&TestRequest::post().to_http_request()));
    }

    #[test]
    fn progress_counts_the_steps_of_all_images() {
        let progress = ledger::JobProgress {
            image_index: 1,
            step_index: 4,
            steps: 10,
        };
        let body = ProgressBody::new(2, progress);
        assert!((body.share - 0.75).abs() < 1e-9);
    }

    #[test]
    fn an_event_is_one_id_one_name_and_one_line_of_data() {
        let text = render(7, ledger::JobEventKind::Running.as_str(), "{}");
        assert_eq!(&text[..], b"id: 7\nevent: running\ndata: {}\n\n");
    }
}
