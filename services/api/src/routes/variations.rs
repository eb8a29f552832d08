//! `POST /v1/images/variations`

use actix_web::{HttpRequest, HttpResponse, web};

use super::images::{self, Events, GenerationResponse, VariationForm, Wanted};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, GenerateOrder};

/// Make pictures like another one, without a prompt. They are signed and recorded, with a
/// commitment to the uploaded file.
#[utoipa::path(
    post,
    path = "/v1/images/variations",
    tag = "images",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "The same key with the same request is carried out once"),
        ("Prefer" = Option<String>, Header,
            description = "With `respond-async` the answer is a job, which does the work"),
    ),
    request_body(content = VariationForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = GenerationResponse),
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
    if form.mask.is_some() {
        let detail = "a variation takes no mask; /v1/images/edits does";
        return Err(Problem::invalid("mask", detail));
    }
    let (order, delivery) = form.request.parse()?;
    if order.prompt.is_some() {
        let detail = "a variation takes no prompt; /v1/images/edits does";
        return Err(Problem::invalid("prompt", detail));
    }
    let order = GenerateOrder {
        init_image: Some(work::open_picture(&state, form.image).await?),
        ..order
    };
    let wanted = Wanted {
        order,
        delivery,
        events: Events::GENERATION,
    };
    images::deliver(state, caller, &request, wanted).await
}
