//! HTTP, one file per resource. A handler parses, calls a journey of [`crate::work`], and
//! answers; refusals are [`Problem`]s.

mod cases;
mod checkpoint;
mod edge;
mod edits;
mod entries;
mod export;
mod generations;
mod health;
mod images;
mod jobs;
mod metrics;
mod models;
mod openapi;
mod scores;
mod sdapi;
mod soft_binding;
mod tiles;
mod time_stamps;
mod uploads;
mod variations;
mod wire;

pub(crate) use export::{ExportTerms, export_answer};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::middleware::{Compress, from_fn};
use actix_web::{
    App, Error, FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder,
    ResponseError, web,
};

pub(crate) use uploads::{FormFields, UploadForm, read_form};

use crate::config::Role;
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
    let role = state.config.role;
    App::new()
        .app_data(state)
        .app_data(web::PayloadConfig::new(json_bytes_max))
        .app_data(
            web::JsonConfig::default()
                .limit(json_bytes_max)
                .error_handler(json_problem),
        )
        .app_data(web::PathConfig::default().error_handler(path_problem))
        .app_data(web::QueryConfig::default().error_handler(query_problem))
        .wrap(Compress::default())
        .wrap(from_fn(edge::edge))
        .configure(move |config| match role {
            Role::All | Role::Api => configure(config),
            Role::Worker => configure_worker(config),
        })
}

/// A worker says how it is, and nothing else.
fn configure_worker(config: &mut web::ServiceConfig) {
    config
        .service(get("/healthz", health::healthz))
        .service(get("/readyz", health::readyz))
        .service(get("/metrics", metrics::metrics));
}

/// Every path of the programs' interface.
fn configure(config: &mut web::ServiceConfig) {
    config
        .service(post("/v1/images/generations", generations::create))
        .service(post("/v1/images/edits", edits::create))
        .service(post("/v1/images/variations", variations::create))
        .service(get("/v1/models", models::list))
        .service(get("/v1/models/{id}", models::get))
        .service(get("/v1/jobs", jobs::list))
        .service(job("/v1/jobs/{id}"))
        .service(get("/v1/jobs/{id}/events", jobs::events))
        .service(post("/v1/scores", scores::create))
        .service(
            web::resource("/v1/cases")
                .route(web::get().to(cases::list))
                .route(web::head().to(cases::list))
                .route(web::post().to(cases::open))
                .default_service(web::to(|| method_not_allowed("GET, HEAD, POST"))),
        )
        .service(get("/v1/cases/{id}", cases::get))
        .service(
            web::resource("/v1/cases/{id}/image")
                .route(web::get().to(cases::image))
                .route(web::head().to(cases::image))
                .route(web::delete().to(cases::erase))
                .default_service(web::to(|| method_not_allowed("GET, HEAD, DELETE"))),
        )
        .service(get("/v1/cases/{id}/upload", cases::upload))
        .service(post("/v1/cases/{id}/notes", cases::add_note))
        .service(post("/v1/cases/{id}/close", cases::close))
        .service(get("/v1/entries", entries::list))
        .service(get("/v1/entries/export", export::export))
        .service(get("/v1/entries/{index}", entries::get))
        .service(get("/v1/entries/{index}/proof", entries::proof))
        .service(get("/v1/entries/{index}/bundle", entries::bundle))
        .service(get("/v1/entries/{index}/image", entries::image))
        .service(
            web::resource("/matches/byBinding")
                .route(web::get().to(soft_binding::by_binding))
                .route(web::head().to(soft_binding::by_binding))
                .route(web::post().to(soft_binding::by_posted_binding))
                .default_service(web::to(|| method_not_allowed("GET, HEAD, POST"))),
        )
        .service(get("/manifests/{id}", soft_binding::manifest))
        .service(get("/manifests/{id}/receipts", soft_binding::receipts))
        .service(post("/matches/byContent", soft_binding::by_content))
        .service(get(
            "/services/supportedAlgorithms",
            soft_binding::supported_algorithms,
        ))
        .service(get("/v1/consistency", checkpoint::consistency))
        .service(get("/v1/public-key", checkpoint::public_key))
        .service(get("/v1/checkpoints/time-stamps", time_stamps::list))
        .service(get("/v1/checkpoints/{tree_size}", time_stamps::checkpoint))
        .service(get(
            "/v1/checkpoints/{tree_size}/time-stamp",
            time_stamps::reply,
        ))
        .service(get("/checkpoint", checkpoint::latest))
        .service(get("/tile/entries/{index:.*}", tiles::entries))
        .service(get("/tile/{level}/{index:.*}", tiles::hashes))
        .service(get("/healthz", health::healthz))
        .service(get("/readyz", health::readyz))
        .service(get("/metrics", metrics::metrics))
        .configure(sdapi::configure)
        .configure(openapi::configure)
        .configure(crate::pages::configure);
}

/// A resource that is read; other methods are refused.
fn get<H, Args>(path: &str, handler: H) -> Resource
where
    H: Handler<Args> + Copy,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler))
        .route(web::head().to(handler))
        .default_service(web::to(|| method_not_allowed("GET, HEAD")))
}

/// A job: it is read and cancelled.
fn job(path: &str) -> Resource {
    web::resource(path)
        .route(web::get().to(jobs::get))
        .route(web::head().to(jobs::get))
        .route(web::delete().to(jobs::cancel))
        .default_service(web::to(|| method_not_allowed("GET, HEAD, DELETE")))
}

/// A resource that is posted to; other methods are refused.
fn post<H, Args>(path: &str, handler: H) -> Resource
where
    H: Handler<Args>,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::post().to(handler))
        .default_service(web::to(|| method_not_allowed("POST")))
}

async fn method_not_allowed(allowed: &'static str) -> HttpResponse {
    let detail = format!("this path knows {allowed} only");
    let mut response = Problem::new(kinds::METHOD_NOT_ALLOWED, detail).error_response();
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// A query that cannot be read, in the words of its parser alone.
fn query_problem(error: QueryPayloadError, _: &HttpRequest) -> Error {
    let detail = match &error {
        QueryPayloadError::Deserialize(cause) => cause.to_string(),
        _ => "the query cannot be read".to_owned(),
    };
    Problem::new(kinds::INVALID_REQUEST, detail).into()
}

/// A path with a part of the wrong kind names nothing.
fn path_problem(_: PathError, request: &HttpRequest) -> Error {
    let pattern = request.match_pattern().unwrap_or_default();
    Problem::new(
        kinds::NOT_FOUND,
        format!("the path is not of the form {pattern}"),
    )
    .into()
}

/// A body that is no JSON, or not the JSON that is asked for.
fn json_problem(error: JsonPayloadError, _: &HttpRequest) -> Error {
    use JsonPayloadError as Json;
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
