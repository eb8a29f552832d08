//! HTTP, one file per resource. A handler parses, calls a journey of [`crate::work`], and
//! answers; refusals are [`Problem`]s.

mod checkpoint;
mod edge;
mod entries;
mod generations;
mod health;
mod openapi;
mod scores;
mod wire;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, Error, web};

pub(crate) use scores::read_form;

use crate::problem::{Problem, kinds};
use crate::state::AppState;

/// The application of one web worker.
pub fn app(
    state: web::Data<AppState>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let json_bytes_max = state.config.limits.json_bytes_max;
    App::new()
        .app_data(state)
        .app_data(web::PayloadConfig::new(json_bytes_max))
        .app_data(
            web::JsonConfig::default()
                .limit(json_bytes_max)
                .error_handler(json_problem),
        )
        .app_data(web::PathConfig::default().error_handler(|error, _| {
            Problem::new(kinds::NOT_FOUND, format!("the path is not valid: {error}")).into()
        }))
        .app_data(web::QueryConfig::default().error_handler(|error, _| {
            Problem::new(kinds::INVALID_REQUEST, error.to_string()).into()
        }))
        .wrap(Compress::default())
        .wrap(from_fn(edge::edge))
        .configure(configure)
}

/// Every path of the programs' interface.
fn configure(config: &mut web::ServiceConfig) {
    config
        .route(
            "/v1/images/generations",
            web::post().to(generations::create),
        )
        .route("/v1/scores", web::post().to(scores::create))
        .route("/v1/entries", web::get().to(entries::list))
        .route("/v1/entries/{index}", web::get().to(entries::get))
        .route("/v1/entries/{index}/proof", web::get().to(entries::proof))
        .route("/v1/entries/{index}/bundle", web::get().to(entries::bundle))
        .route("/v1/entries/{index}/image", web::get().to(entries::image))
        .route("/v1/consistency", web::get().to(checkpoint::consistency))
        .route("/v1/public-key", web::get().to(checkpoint::public_key))
        .route("/checkpoint", web::get().to(checkpoint::latest))
        .route("/healthz", web::get().to(health::healthz))
        .route("/readyz", web::get().to(health::readyz))
        .configure(openapi::configure)
        .configure(crate::pages::configure);
}

/// A body that is no JSON, or not the JSON that is asked for.
fn json_problem(error: actix_web::error::JsonPayloadError, _: &actix_web::HttpRequest) -> Error {
    use actix_web::error::JsonPayloadError as Json;
    let problem = match &error {
        Json::OverflowKnownLength { limit, .. } | Json::Overflow { limit } => {
            let detail = format!("the body is over the limit json_bytes_max of {limit}");
            Problem::new(kinds::TOO_LARGE, detail)
        }
        Json::ContentType => Problem::new(
            kinds::UNSUPPORTED_MEDIA,
            "the body must be application/json",
        ),
        Json::Deserialize(cause) => Problem::new(kinds::INVALID_REQUEST, cause.to_string()),
        _ => Problem::new(kinds::INVALID_REQUEST, "the body could not be read"),
    };
    problem.into()
}
