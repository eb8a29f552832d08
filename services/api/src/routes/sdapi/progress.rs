//! `GET /sdapi/v1/progress` and `POST /sdapi/v1/interrupt`
//!
//! A1111 knows one user. Here every client sees and stops its own generations.

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use media::Format;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::infos::timestamp;
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work;

/// How far the client's newest generation is.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::routes) struct ProgressBody {
    /// The part that is done, 0 to 1; 0 when nothing is under way.
    progress: f64,
    /// Seconds that it will take, by the time that it took so far.
    eta_relative: f64,
    /// Counters.
    state: StateBody,
    /// The newest picture of the way, in base64; neither signed nor recorded.
    current_image: Option<String>,
    /// Always null.
    textinfo: Option<String>,
}

/// Counters of the client's newest generation.
#[derive(Debug, Default, Serialize, ToSchema)]
struct StateBody {
    /// Always false.
    skipped: bool,
    /// Whether the client has stopped it.
    interrupted: bool,
    /// Always empty: generations have no names here.
    job: String,
    /// The client's generations under way.
    job_count: usize,
    /// When it began, as `YYYYMMDDhhmmss` in UTC; `0` when nothing is under way.
    job_timestamp: String,
    /// The image that is being made, from 0.
    job_no: usize,
    /// Steps done of that image.
    sampling_step: usize,
    /// Steps of an image.
    sampling_steps: usize,
}

/// What to tell.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
pub(in crate::routes) struct ProgressQuery {
    /// Leaves the picture out.
    skip_current_image: bool,
}

/// How far the client's newest generation is.
#[utoipa::path(
    get,
    path = "/sdapi/v1/progress",
    tag = "a1111",
    params(ProgressQuery),
    responses(
        (status = 200, body = ProgressBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]), ("password" = ["generate"]))
)]
pub(in crate::routes) async fn progress(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Query<ProgressQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    let Some((run, job_count)) = state.runs.newest(&caller.client) else {
        let mut nothing = ProgressBody::default();
        nothing.state.job_timestamp = "0".to_owned();
        return Ok(HttpResponse::Ok().json(nothing));
    };
    let snapshot = run.snapshot();
    let progress = snapshot.progress();
    let (image, step) = snapshot.image_and_step();
    let elapsed = run.elapsed().as_secs_f64();
    let preview = snapshot.preview.filter(|_| !query.skip_current_image);
    let current_image = preview.and_then(|picture| {
        let file = work::unsigned_file(&picture, Format::Png).ok()?;
        Some(STANDARD.encode(file))
    });
    Ok(HttpResponse::Ok().json(ProgressBody {
        progress,
        eta_relative: if progress > 0.0 {
            elapsed / progress - elapsed
        } else {
            0.0
        },
        state: StateBody {
            skipped: false,
            interrupted: snapshot.interrupted,
            job: String::new(),
            job_count,
            job_timestamp: timestamp(run.started_at_ms()),
            job_no: image,
            sampling_step: step,
            sampling_steps: snapshot.steps,
        },
        current_image,
        textinfo: None,
    }))
}

/// Stop the client's generations after their present step. Their requests are answered with the images that were
/// finished by then, which may be none: nothing half-made is signed or handed out. Of a worker's job nothing is.
#[utoipa::path(
    post,
    path = "/sdapi/v1/interrupt",
    tag = "a1111",
    responses(
        (status = 200, description = "An empty object"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]), ("password" = ["generate"]))
)]
pub(in crate::routes) async fn interrupt(
    state: web::Data<AppState>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    state.runs.interrupt(&caller.client);
    Ok(HttpResponse::Ok().json(serde_json::json!({})))
}
