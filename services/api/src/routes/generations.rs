//! `POST /v1/images/generations`

use actix_web::{HttpRequest, HttpResponse, web};

use super::images::{self, Events, GenerationResponse, ImageRequest, Wanted};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;

/// Generate images, sign and record them. The answer comes when a checkpoint covers every entry; as
/// a stream it begins with pictures of the way, which are neither signed nor recorded.
#[utoipa::path(
    post,
    path = "/v1/images/generations",
    tag = "images",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "The same key with the same request is carried out once"),
        ("Prefer" = Option<String>, Header,
            description = "With `respond-async` the answer is a job, which does the work"),
    ),
    request_body = ImageRequest,
    responses(
        (status = 200, description = "The images, or with `stream` the events \
          `image_generation.partial_image` and `image_generation.completed`", content(
            (GenerationResponse = "application/json"), (String = "text/event-stream"))),
        (status = 202, description = "The job, where `Prefer: respond-async` asked for one"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]), ("password" = ["generate"]))
)]
pub(super) async fn create(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    body: web::Json<ImageRequest>,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    let (order, delivery) = body.into_inner().parse()?;
    let wanted = Wanted {
        order,
        delivery,
        events: Events::GENERATION,
    };
    images::deliver(state, caller, &request, wanted).await
}
