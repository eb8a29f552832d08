//! `/sdapi/v1`: the interface of A1111's web interface, as its clients call it.
//!
//! Every image is signed and recorded as on any other path. What this service does not do is
//! refused by name.

mod catalogue;
mod img2img;
mod infos;
mod options;
mod png_info;
mod progress;
mod txt2img;

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use serde::de::DeserializeOwned;

pub(super) use catalogue::{
    __path_named_schedulers, __path_schedulers, __path_sd_models, named_schedulers, schedulers,
    sd_models,
};
pub(super) use img2img::{__path_img2img, img2img};
pub(super) use options::{__path_options, __path_set_options, options, set_options};
pub(super) use png_info::{__path_png_info, png_info};
pub(super) use progress::{__path_interrupt, __path_progress, interrupt, progress};
pub(super) use txt2img::{__path_txt2img, txt2img};

use super::{get, post, uploads};
use crate::access::Caller;
use crate::problem::{Problem, kinds};
use crate::state::AppState;

/// Room for the values around pictures in base64.
const AROUND_PICTURES_BYTES: u64 = 64 << 10;

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(post("/sdapi/v1/txt2img", txt2img))
        .service(post("/sdapi/v1/img2img", img2img))
        .service(get("/sdapi/v1/progress", progress))
        .service(post("/sdapi/v1/interrupt", interrupt))
        .service(get("/sdapi/v1/samplers", named_schedulers))
        .service(get("/sdapi/v1/schedulers", schedulers))
        .service(get("/sdapi/v1/sd-models", sd_models))
        .service(post("/sdapi/v1/png-info", png_info))
        .service(get("/sdapi/v1/scripts", scripts))
        .service(
            web::resource("/sdapi/v1/options")
                .route(web::get().to(options))
                .route(web::post().to(set_options)),
        );
}

/// No scripts are installed, and none can be.
async fn scripts(_: Caller) -> HttpResponse {
    let none: [&str; 0] = [];
    HttpResponse::Ok().json(serde_json::json!({ "txt2img": none, "img2img": none }))
}

/// Reads JSON that may carry `pictures` pictures, in its turn and its time.
async fn read_json<T: DeserializeOwned + Send + 'static>(
    state: &AppState,
    payload: web::Payload,
    pictures: u64,
) -> Result<T, Problem> {
    let bytes_max = state.config.limits.upload_bytes_max;
    // Four characters of base64 for three bytes.
    let encoded = bytes_max
        .div_ceil(3)
        .saturating_mul(4)
        .saturating_mul(pictures);
    let most = encoded.saturating_add(AROUND_PICTURES_BYTES);
    let reading = uploads::read_limited(payload, most, bytes_max);
    let body = uploads::in_time(state, reading).await?;
    let parsed = web::block(move || serde_json::from_slice(&body)).await;
    parsed
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::new(kinds::INVALID_REQUEST, error.to_string()))
}
