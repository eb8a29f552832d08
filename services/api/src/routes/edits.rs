//! `POST /v1/images/edits`

use actix_web::{HttpRequest, HttpResponse, web};

use super::images::{self, EditForm, Events, GenerationResponse, Wanted};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, GenerateOrder, MaskReading};

/// Paint a picture anew as a prompt says: the whole picture, or what a mask leaves transparent.
/// The result is signed and recorded, with commitments to the uploaded files.
#[utoipa::path(
    post,
    path = "/v1/images/edits",
    tag = "images",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "The same key with the same request is carried out once"),
        ("Prefer" = Option<String>, Header,
            description = "With `respond-async` the answer is a job, which does the work"),
    ),
    request_body(content = EditForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The images, or with `stream` the events \
          `image_edit.partial_image` and `image_edit.completed`", content(
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
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    let form = images::read_form(&state, &request, payload).await?;
    let (order, delivery) = form.request.parse()?;
    let init_image = work::open_picture(&state, form.image).await?;
    let mask = match form.mask {
        None => None,
        Some(file) => Some(work::open_mask(&state, file, MaskReading::Transparency).await?),
    };
    let order = GenerateOrder {
        init_image: Some(init_image),
        mask,
        ..order
    };
    let wanted = Wanted {
        order,
        delivery,
        events: Events::EDIT,
    };
    images::deliver(state, caller, &request, wanted).await
}
