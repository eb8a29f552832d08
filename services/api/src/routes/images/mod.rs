//! What the paths below `/v1/images` share: the request's values, uploads, answers, streams.

mod answer;
mod form;
mod request;
mod stream;

pub(super) use answer::{GenerationResponse, warnings};
pub(super) use form::{EditForm, VariationForm, read as read_form};
pub(super) use request::{Delivery, ImageRequest};
pub(super) use stream::{Events, stream};

use actix_web::{HttpRequest, HttpResponse, web};

use super::jobs;
use crate::access::Caller;
use crate::problem::Problem;
use crate::state::AppState;
use crate::work::{self, GenerateOrder, IdempotencyKey};

/// Carries out an order and answers as the caller wants it: at once or as a stream.
pub(super) async fn deliver(
    state: web::Data<AppState>,
    caller: Caller,
    request: &HttpRequest,
    wanted: Wanted,
) -> Result<HttpResponse, Problem> {
    let Wanted {
        order,
        delivery,
        events,
    } = wanted;
    let key = idempotency_key(request)?;
    if !delivery.stream && jobs::prefers_async(request) {
        return jobs::accept(&state, &caller, order, key.as_ref()).await;
    }
    if delivery.stream {
        let job = stream::Job {
            order,
            key,
            delivery,
            events,
        };
        return stream(state, caller, job).await;
    }
    let answer = match key {
        None => work::generate(&state, &caller, order, None).await?,
        Some(key) => work::generate_once(&state, &caller, order, key).await?,
    };
    let base = delivery.by_url.then(|| base_url(request));
    let response = web::block(move || GenerationResponse::new(answer, base.as_deref())).await;
    let response = response.map_err(|error| Problem::internal(&error))?;
    Ok(HttpResponse::Ok().json(response))
}

/// An order, and how its answer is to come.
pub(super) struct Wanted {
    pub(super) order: GenerateOrder,
    pub(super) delivery: Delivery,
    pub(super) events: Events,
}

/// Scheme and host under which the caller reached the service.
fn base_url(request: &HttpRequest) -> String {
    let connection = request.connection_info();
    format!("{}://{}", connection.scheme(), connection.host())
}

/// The `Idempotency-Key` header.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(value) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    let key = IdempotencyKey::parse(value.to_str().unwrap_or_default())?;
    Ok(Some(key))
}
