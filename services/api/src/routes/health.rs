//! `/healthz` and `/readyz`

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::health::{Health, QueueBody, health};
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::{AppState, SequencerStatus};
use crate::work;

/// How long `/healthz` waits for the database, which it can do without.
const QUEUE_LOOK_MAX: Duration = Duration::from_millis(500);

/// How the service is. Answers 200 while the process lives; `status` says whether it should be
/// looked at.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, body = Health)))]
pub(super) async fn healthz(state: web::Data<AppState>) -> HttpResponse {
    let queue = tokio::time::timeout(QUEUE_LOOK_MAX, work::jobs::job_queue(&state)).await;
    let queue = queue.ok().and_then(Result::ok).map(QueueBody::from);
    HttpResponse::Ok().json(Health {
        queue,
        ..health(&state).await
    })
}

/// Whether the service can do its work now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// Always true: a service that is not ready answers with a problem.
    ready: bool,
    /// Entries that the newest checkpoint covers.
    tree_size: u64,
}

/// Answers 200 when database and sequencer work, 503 otherwise.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, body = Ready),
        (status = 503, body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn readyz(state: web::Data<AppState>) -> Result<HttpResponse, Problem> {
    if *state.sequencer.borrow() == SequencerStatus::Ended {
        return Err(Problem::new(
            kinds::LEDGER_UNAVAILABLE,
            "the sequencer has stopped",
        ));
    }
    let checkpoint = work::latest_checkpoint(&state).await.map_err(|error| {
        let problem = Problem::from(error);
        // A log without a checkpoint is one whose sequencer has not begun.
        if problem.kind == kinds::NOT_FOUND {
            Problem::new(kinds::LEDGER_UNAVAILABLE, "the log has no checkpoint yet")
        } else {
            problem
        }
    })?;
    let tree_size = checkpoint.unverified().tree_size.get();
    Ok(HttpResponse::Ok().json(Ready {
        ready: true,
        tree_size,
    }))
}
