//! `GET` and `POST /sdapi/v1/options`

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

use super::catalogue::title;
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::AppState;
use crate::work;

const MODEL: &str = "sd_model_checkpoint";

/// Tell the options that this service has.
#[utoipa::path(
    get,
    path = "/sdapi/v1/options",
    tag = "a1111",
    responses(
        (status = 200, body = Object),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = []), ("password" = []))
)]
pub(in crate::routes) async fn options(
    state: web::Data<AppState>,
    _: Caller,
) -> Result<HttpResponse, Problem> {
    let models = work::models(&state).await?;
    let model = models.first();
    Ok(HttpResponse::Ok().json(json!({
        MODEL: model.map(title),
        "sd_checkpoint_hash": model.map(|model| model.digest.to_string()),
        "samples_format": "png",
        "randn_source": null,
        "show_progress_every_n_steps": 10,
        "enable_pnginfo": true,
    })))
}

/// Accept the installed model as the one to use; every other option is refused.
#[utoipa::path(
    post,
    path = "/sdapi/v1/options",
    tag = "a1111",
    request_body = Object,
    responses(
        (status = 200, description = "null"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]), ("password" = ["generate"]))
)]
pub(in crate::routes) async fn set_options(
    state: web::Data<AppState>,
    caller: Caller,
    body: web::Json<Map<String, Value>>,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    for (name, value) in body.iter() {
        match (name.as_str(), value.as_str()) {
            (MODEL, Some(model)) => check_model(&state, model).await?,
            _ => {
                let detail = format!("the option {name} cannot be set here; {MODEL} alone can");
                return Err(Problem::new(kinds::INVALID_REQUEST, detail));
            }
        }
    }
    Ok(HttpResponse::Ok().json(Value::Null))
}

/// Refuses a model that is not installed. A1111's clients name it by its title, its name or the
/// start of its digest, in any case of letters.
pub(super) async fn check_model(state: &Arc<AppState>, asked: &str) -> Result<(), Problem> {
    let model = work::model(state).await?;
    let names = [title(&model), model.name.clone(), model.hash()];
    if names.iter().any(|name| name.eq_ignore_ascii_case(asked)) {
        return Ok(());
    }
    let detail = format!("model {asked:?} is not installed, {:?} is", title(&model));
    Err(Problem {
        parameter: Some(MODEL),
        ..Problem::new(kinds::UNKNOWN_MODEL, detail)
    })
}
