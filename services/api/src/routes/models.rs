//! `GET /v1/models` and `GET /v1/models/{id}`

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::state::AppState;
use crate::work::{self, ModelFacts};

/// The installed models, in the shape of OpenAI's interface.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    /// `list`.
    object: &'static str,
    /// The models.
    data: Vec<ModelBody>,
}

/// A model that generates images.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(super) struct ModelBody {
    /// Its name, as requests and entries state it.
    id: String,
    /// `model`.
    object: &'static str,
    /// Always 0: a model's files do not say when they were made.
    created: u64,
    /// `retrace`.
    owned_by: &'static str,
    /// SHA-256 over all its parts, as entries state it.
    digest: String,
    /// `WIDTHxHEIGHT` of its pictures where a request names no size.
    size: String,
    /// Whether it takes a prompt.
    takes_prompt: bool,
    /// The scheduler of a request that names none.
    #[schema(value_type = String)]
    scheduler: diffusion::SchedulerKind,
    /// The steps of a request that names none.
    num_inference_steps: u32,
    /// The guidance scale of a request that names none.
    guidance_scale: f32,
}

impl From<ModelFacts> for ModelBody {
    fn from(model: ModelFacts) -> Self {
        let (width, height) = model.picture_size;
        Self {
            id: model.name,
            object: "model",
            created: 0,
            owned_by: "retrace",
            digest: model.digest.to_string(),
            size: format!("{width}x{height}"),
            takes_prompt: model.takes_prompt,
            scheduler: model.scheduler,
            num_inference_steps: model.num_inference_steps,
            guidance_scale: model.guidance_scale,
        }
    }
}

/// The model of this process, or those that workers announce where it leaves generating to them.
async fn installed(state: &Arc<AppState>) -> Result<Vec<ModelBody>, Problem> {
    let models = work::models(state).await?;
    Ok(models.into_iter().map(ModelBody::from).collect())
}

/// List the installed models.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "images",
    responses(
        (status = 200, body = ModelList),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = []), ("password" = []))
)]
pub(super) async fn list(state: web::Data<AppState>, _: Caller) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(ModelList {
        object: "list",
        data: installed(&state).await?,
    }))
}

/// Describe one model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "images",
    params(("id" = String, Path, description = "Name of the model")),
    responses(
        (status = 200, body = ModelBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = []), ("password" = []))
)]
pub(super) async fn get(
    state: web::Data<AppState>,
    _: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut models = installed(&state).await?.into_iter();
    let model = models.find(|model| model.id == *id);
    let unknown = || Problem {
        parameter: Some("model"),
        ..Problem::new(
            kinds::UNKNOWN_MODEL,
            format!("model {:?} is not installed", *id),
        )
    };
    Ok(HttpResponse::Ok().json(model.ok_or_else(unknown)?))
}
