//! `GET /sdapi/v1/samplers`, `/sdapi/v1/schedulers` and `/sdapi/v1/sd-models`

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::infotext::{NAMED_SCHEDULERS, NamedScheduler, Schedule};
use crate::work::{self, ModelFacts};

/// A sampler.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NamedScheduler)]
pub(in crate::routes) struct NamedSchedulerBody {
    /// Its name.
    name: &'static str,
    /// Further names.
    aliases: Vec<&'static str>,
    /// `scheduler`: the schedule that comes with it.
    options: BTreeMap<&'static str, &'static str>,
}

impl From<&NamedScheduler> for NamedSchedulerBody {
    fn from(named: &NamedScheduler) -> Self {
        let scheduler = named.sigmas.map(|sigmas| ("scheduler", sigmas.name()));
        let mut aliases = named.aliases.to_vec();
        aliases.push(named.kind.name());
        Self {
            name: named.name,
            aliases,
            options: scheduler.into_iter().collect(),
        }
    }
}

/// A schedule of sigmas.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct SchedulerBody {
    /// Its name in requests.
    name: &'static str,
    /// Its name for people.
    label: &'static str,
    /// Always null.
    aliases: Option<Vec<String>>,
    /// The exponent of Karras' schedule; -1 for the others.
    default_rho: f64,
    /// Always false.
    need_inner_model: bool,
}

impl From<&Schedule> for SchedulerBody {
    fn from(schedule: &Schedule) -> Self {
        let karras = schedule.sigmas == Some(onnx::SigmaSpread::Karras);
        Self {
            name: schedule.name,
            label: schedule.label,
            aliases: None,
            // Karras et al. 2022 (arXiv 2206.00364), table 1.
            default_rho: if karras { 7.0 } else { -1.0 },
            need_inner_model: false,
        }
    }
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CheckpointModel)]
pub(in crate::routes) struct ModelBody {
    /// Its name and the start of its digest, `NAME [DIGITS]`.
    title: String,
    /// Its name.
    model_name: String,
    /// The start of its digest.
    hash: String,
    /// SHA-256 over all its parts.
    sha256: String,
    /// Its name: no path of the service is told.
    filename: String,
    /// Always null.
    config: Option<String>,
}

impl From<ModelFacts> for ModelBody {
    fn from(model: ModelFacts) -> Self {
        Self {
            title: title(&model),
            hash: model.hash(),
            sha256: model.digest.to_string(),
            filename: model.name.clone(),
            model_name: model.name,
            config: None,
        }
    }
}

/// What A1111 calls a model.
pub(super) fn title(model: &ModelFacts) -> String {
    format!("{} [{}]", model.name, model.hash())
}

/// List the samplers.
#[utoipa::path(
    get,
    path = "/sdapi/v1/samplers",
    tag = "a1111",
    responses(
        (status = 200, body = [NamedSchedulerBody]),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = []), ("password" = []))
)]
pub(in crate::routes) async fn named_schedulers(
    state: web::Data<AppState>,
    _: Caller,
) -> Result<HttpResponse, Problem> {
    // Schedulers of flow models belong to flow models, and no others do.
    let models = work::models(&state).await?;
    let flow = models.first().map(|model| model.scheduler.is_flow());
    let usable = |named: &&NamedScheduler| {
        named.kind.is_generative() && flow.is_none_or(|flow| named.kind.is_flow() == flow)
    };
    let named_schedulers: Vec<NamedSchedulerBody> = NAMED_SCHEDULERS
        .iter()
        .filter(usable)
        .map(Into::into)
        .collect();
    Ok(HttpResponse::Ok().json(named_schedulers))
}

/// List the schedules of sigmas.
#[utoipa::path(
    get,
    path = "/sdapi/v1/schedulers",
    tag = "a1111",
    responses(
        (status = 200, body = [SchedulerBody]),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = []), ("password" = []))
)]
pub(in crate::routes) async fn schedulers(_: Caller) -> HttpResponse {
    let schedules: Vec<SchedulerBody> = Schedule::ALL.iter().map(Into::into).collect();
    HttpResponse::Ok().json(schedules)
}

/// List the installed models.
#[utoipa::path(
    get,
    path = "/sdapi/v1/sd-models",
    tag = "a1111",
    responses(
        (status = 200, body = [ModelBody]),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = []), ("password" = []))
)]
pub(in crate::routes) async fn sd_models(
    state: web::Data<AppState>,
    _: Caller,
) -> Result<HttpResponse, Problem> {
    let models = work::models(&state).await?.into_iter();
    let models: Vec<ModelBody> = models.map(ModelBody::from).collect();
    Ok(HttpResponse::Ok().json(models))
}
