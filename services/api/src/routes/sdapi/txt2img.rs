//! `POST /sdapi/v1/txt2img`

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use diffusion::seed::NoiseKind;
use media::Format;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use utoipa::ToSchema;

use super::infos::{ImagesBody, Wish};
use super::options;
use crate::access::Caller;
use crate::config::Role;
use crate::problem::{Problem, ProblemBody, kinds};
use crate::runs::Run;
use crate::state::AppState;
use crate::work::infotext::{Schedule, schedule_of};
use crate::work::{self, FileOptions, GenerateAnswer, GenerateOrder, OnProgress, WorkError};

/// Steps between two pictures of the way, as A1111 has it by default.
const STEPS_PER_PREVIEW: u32 = 10;

/// A request in the shape of A1111's interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(in crate::routes) struct TextToImageRequest {
    /// What to show.
    #[schema(example = "a red heart")]
    pub(super) prompt: String,
    /// What not to show.
    pub(super) negative_prompt: String,
    /// Seed of the first image; -1 draws one.
    #[schema(value_type = Option<i64>)]
    pub(super) seed: Option<Number>,
    /// Name of a sampler, see `/sdapi/v1/samplers`; the model's own when left out.
    #[serde(rename = "sampler_name")]
    pub(super) scheduler_name: Option<String>,
    /// Older name of `sampler_name`, which wins.
    #[serde(rename = "sampler_index")]
    pub(super) older_scheduler_name: Option<String>,
    /// Name of a schedule, see `/sdapi/v1/schedulers`.
    pub(super) scheduler: Option<String>,
    /// Images of a batch; multiplied by `n_iter`.
    pub(super) batch_size: Option<u32>,
    /// Number of batches.
    pub(super) n_iter: Option<u32>,
    /// Denoising steps; the model's own when left out.
    pub(super) steps: Option<u32>,
    /// Weight of classifier-free guidance; the model's own when left out.
    pub(super) cfg_scale: Option<f32>,
    /// Width; the model's own when left out.
    pub(super) width: Option<u32>,
    /// Height; the model's own when left out.
    pub(super) height: Option<u32>,
    /// Share of fresh noise in the steps of DDIM and TCD; without meaning for other samplers.
    pub(super) eta: Option<f32>,
    /// Strength with which a picture is replaced; without meaning here.
    pub(super) denoising_strength: Option<f32>,
    /// `sd_model_checkpoint`, `samples_format` (png, jpg or webp) and `randn_source` (CPU, GPU or NV).
    #[schema(value_type = Object)]
    pub(super) override_settings: Map<String, Value>,
    /// Whether the answer carries the images; true when left out.
    pub(super) send_images: Option<bool>,
    /// Whether prompt and settings stand in the file; true when left out.
    pub(super) embed_parameters: Option<bool>,
    /// What else clients send: refused where it would change pictures and is not done here.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub(super) others: Map<String, Value>,
}

/// Values that change nothing, whatever they are.
const WITHOUT_MEANING: [&str; 17] = [
    "override_settings_restore_afterwards",
    "do_not_save_samples",
    "do_not_save_grid",
    "save_images",
    "script_args",
    "hr_scale",
    "hr_upscaler",
    "hr_second_pass_steps",
    "hr_resize_x",
    "hr_resize_y",
    "hr_checkpoint_name",
    "hr_sampler_name",
    "hr_scheduler",
    "hr_prompt",
    "hr_negative_prompt",
    "subseed",
    "force_task_id",
];

impl TextToImageRequest {
    /// Translates to a domain value and refuses what this service does not do.
    pub(super) async fn wish(&self, state: &Arc<AppState>) -> Result<Wish, Problem> {
        self.refuse_others()?;
        let scheduler_name = self
            .scheduler_name
            .as_deref()
            .or(self.older_scheduler_name.as_deref());
        let mut order = GenerateOrder {
            prompt: Some(self.prompt.clone()).filter(|text| !text.is_empty()),
            negative_prompt: Some(self.negative_prompt.clone()).filter(|text| !text.is_empty()),
            // A1111 has no other syntax.
            prompt_weights: true,
            images: self.images()?,
            seed: self.seed()?,
            steps: self.steps,
            guidance_scale: self.cfg_scale,
            size: self.size(state).await?,
            file: FileOptions {
                parameters: self.embed_parameters.unwrap_or(true),
                ..FileOptions::default()
            },
            ..GenerateOrder::default()
        };
        self.set_scheduler(&mut order, scheduler_name)?;
        self.set_overrides(&mut order, state).await?;
        if let Ok(slot) = state.engine.generator() {
            let steps = self.steps.unwrap_or(slot.defaults.num_inference_steps);
            order.preview_steps = (steps / STEPS_PER_PREVIEW) as usize;
        }
        Ok(Wish {
            order,
            batch_size: self.batch_size.unwrap_or(1),
        })
    }

    fn set_scheduler(
        &self,
        order: &mut GenerateOrder,
        scheduler_name: Option<&str>,
    ) -> Result<(), Problem> {
        let mut spread = None;
        if let Some(name) = self.scheduler.as_deref().filter(|name| !name.is_empty()) {
            let schedule = Schedule::find(name).ok_or_else(|| {
                let known = Schedule::ALL.map(|schedule| schedule.label).join(", ");
                let detail = format!("schedule {name:?} is not known; known are {known}");
                Problem::invalid("scheduler", detail)
            })?;
            spread = schedule.sigmas;
        }
        if let Some(name) = scheduler_name.filter(|name| !name.is_empty()) {
            let found = schedule_of(name).filter(|(named, _)| named.kind.is_generative());
            let (named, in_name) = found.ok_or_else(|| {
                let detail = format!("sampler {name:?} is not known; see /sdapi/v1/samplers");
                Problem::invalid("sampler_name", detail)
            })?;
            order.scheduler = Some(named.kind);
            spread = spread.or(in_name).or(named.sigmas);
            // Only these samplers have an eta; A1111 sends one to all.
            order.eta = self.eta.filter(|_| work::takes_eta(named.kind));
        }
        order.sigmas = spread;
        Ok(())
    }

    async fn set_overrides(
        &self,
        order: &mut GenerateOrder,
        state: &Arc<AppState>,
    ) -> Result<(), Problem> {
        const OVERRIDES: &str = "override_settings";
        for (name, value) in &self.override_settings {
            match (name.as_str(), value.as_str()) {
                ("sd_model_checkpoint", Some(model)) => options::check_model(state, model).await?,
                ("samples_format", Some("png")) => order.file.format = Format::Png,
                ("samples_format", Some("jpg" | "jpeg")) => order.file.format = Format::Jpeg,
                ("samples_format", Some("webp")) => order.file.format = Format::Webp,
                ("randn_source", Some("CPU")) => order.noise_source = Some(NoiseKind::TorchCpu),
                ("randn_source", Some("GPU" | "NV")) => {
                    order.noise_source = Some(NoiseKind::TorchCuda);
                }
                _ => {
                    let detail = format!(
                        "{OVERRIDES} may name sd_model_checkpoint, samples_format (png, jpg, webp) \
                         and randn_source (CPU, GPU, NV); {name} is {value}"
                    );
                    return Err(Problem::invalid(OVERRIDES, detail));
                }
            }
        }
        Ok(())
    }

    fn images(&self) -> Result<u32, Problem> {
        let (batch_size, n_iter) = (self.batch_size.unwrap_or(1), self.n_iter.unwrap_or(1));
        let images = batch_size.checked_mul(n_iter);
        images.ok_or_else(|| Problem::invalid("n_iter", "batch_size times n_iter is too many"))
    }

    fn seed(&self) -> Result<Option<u64>, Problem> {
        match &self.seed {
            None => Ok(None),
            Some(seed) if seed.as_i64() == Some(-1) => Ok(None),
            Some(seed) => seed.as_u64().map(Some).ok_or_else(|| {
                let detail = format!("seed is {seed}, it must be -1 or 0 to {}", u64::MAX);
                Problem::invalid("seed", detail)
            }),
        }
    }

    async fn size(&self, state: &Arc<AppState>) -> Result<Option<(u32, u32)>, Problem> {
        let size = match (self.width, self.height) {
            (None, None) => return Ok(None),
            (Some(width), Some(height)) => (width, height),
            (width, height) => {
                let own = work::model(state).await?.picture_size;
                (width.unwrap_or(own.0), height.unwrap_or(own.1))
            }
        };
        if size.0 == 0 || size.1 == 0 {
            return Err(Problem::invalid("width", "a side of 0 is no picture"));
        }
        Ok(Some(size))
    }

    /// Refuses what would change pictures and is not done here, unless it is switched off.
    fn refuse_others(&self) -> Result<(), Problem> {
        for (name, value) in &self.others {
            let name = name.as_str();
            let neutral = match name {
                _ if WITHOUT_MEANING.contains(&name) => true,
                "s_noise" => value.as_f64() == Some(1.0),
                "mask_round" => value.is_null() || value.as_bool() == Some(true),
                _ => is_off(value),
            };
            if !neutral {
                let detail = format!("{name} is {value}, which this service does not do");
                return Err(Problem::new(kinds::INVALID_REQUEST, detail));
            }
        }
        Ok(())
    }
}

/// Whether a value switches something off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "None",
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
    }
}

/// Generate images as A1111's interface does; sign and record them.
#[utoipa::path(
    post,
    path = "/sdapi/v1/txt2img",
    tag = "a1111",
    request_body = TextToImageRequest,
    responses(
        (status = 200, body = ImagesBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]), ("password" = ["generate"]))
)]
pub(in crate::routes) async fn txt2img(
    state: web::Data<AppState>,
    caller: Caller,
    body: web::Json<TextToImageRequest>,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    let request = body.into_inner();
    let wish = request.wish(&state).await?;
    let send_images = request.send_images.unwrap_or(true);
    let parameters = serde_json::to_value(&request).map_err(|error| Problem::internal(&error))?;
    carry_out(&state, &caller, wish, (parameters, send_images)).await
}

/// Carries out a wish that the client can follow and stop, and answers it. One that was stopped is answered with the
/// images that were finished by then: those are recorded, and what is half made is neither recorded nor handed out.
pub(super) async fn carry_out(
    state: &Arc<AppState>,
    caller: &Caller,
    wish: Wish,
    (parameters, send_images): (Value, bool),
) -> Result<HttpResponse, Problem> {
    let guard = state.runs.begin(&caller.client, wish.order.images as usize);
    let run = Arc::clone(guard.run());
    let on_progress: OnProgress = Box::new(move |progress| run.advance(progress));
    let order = GenerateOrder {
        keep_finished: true,
        ..wish.order.clone()
    };
    let work = work::generate(state, caller, order, Some(on_progress));
    let answer = stoppable(state, guard.run(), work).await?;
    let started_at_ms = guard.run().started_at_ms();
    let state = Arc::clone(state);
    let body = web::block(move || {
        let body = match answer {
            Some(answer) => ImagesBody::new(&state, &wish, answer, started_at_ms),
            None => ImagesBody::of_nothing(&wish, started_at_ms),
        };
        ImagesBody {
            images: if send_images { body.images } else { Vec::new() },
            parameters,
            ..body
        }
    });
    let body = body.await.map_err(|error| Problem::internal(&error))?;
    Ok(HttpResponse::Ok().json(body))
}

/// The answer to work that the client may stop; none when nothing was finished by then. Work that has begun here stops
/// by itself after its present step, with what is finished; any other is given up.
async fn stoppable(
    state: &AppState,
    run: &Run,
    work: impl Future<Output = Result<GenerateAnswer, WorkError>>,
) -> Result<Option<GenerateAnswer>, Problem> {
    let mut work = std::pin::pin!(work);
    let answer = tokio::select! {
        answer = &mut work => answer,
        () = run.interrupted() => {
            if state.config.role == Role::Api || run.snapshot().done == 0 {
                return Ok(None);
            }
            work.await
        }
    };
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(WorkError::Model(error)) if error.is_cancelled() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_clients_always_send_passes_and_what_is_not_done_is_refused_by_name() {
        let request = |value: Value| {
            let request: TextToImageRequest = serde_json::from_value(value).unwrap();
            request.refuse_others().map_err(|problem| problem.detail)
        };
        let usual = json!({
            "prompt": "a red heart", "enable_hr": false, "hr_scale": 2, "styles": [], "s_noise": 1,
            "s_churn": 0, "subseed": -1, "subseed_strength": 0.0, "restore_faces": false,
            "tiling": false, "script_name": null, "script_args": [], "alwayson_scripts": {},
            "hr_upscaler": "Latent", "firstphase_width": 0,
        });
        assert_eq!(request(usual), Ok(()));
        for (name, value) in [
            ("enable_hr", json!(true)),
            ("restore_faces", json!(true)),
            ("styles", json!(["photo"])),
            ("alwayson_scripts", json!({ "controlnet": {} })),
            ("s_churn", json!(0.5)),
            ("subseed_strength", json!(0.1)),
        ] {
            let refused = request(json!({ "prompt": "a", name: value })).unwrap_err();
            assert!(refused.contains(name), "{refused}");
        }
    }

    #[test]
    fn a_scheduler_under_its_other_name_brings_its_spread_unless_another_is_asked_for() {
        let order = |value: Value| {
            let request: TextToImageRequest = serde_json::from_value(value).unwrap();
            let mut order = GenerateOrder::default();
            let name = request.scheduler_name.clone();
            request
                .set_scheduler(&mut order, name.as_deref())
                .map(|()| order)
        };
        use diffusion::SchedulerKind as Kind;
        use onnx::SigmaSpread as Spread;
        let automatic = json!({ "sampler_name": "DPM++ 2M", "scheduler": "automatic", "eta": 1.0 });
        let automatic = order(automatic).unwrap();
        assert_eq!(automatic.scheduler, Some(Kind::DpmSolverMultistep));
        assert_eq!(
            (automatic.sigmas, automatic.eta),
            (Some(Spread::Karras), None)
        );
        let uniform = json!({ "sampler_name": "DPM++ 2M Karras", "scheduler": "Uniform" });
        assert_eq!(order(uniform).unwrap().sigmas, Some(Spread::Uniform));
        let ddim = json!({ "sampler_name": "DDIM", "eta": 0.5 });
        assert_eq!(order(ddim).unwrap().eta, Some(0.5));
        assert!(order(json!({ "sampler_name": "DPM fast" })).is_err());
        assert!(order(json!({ "scheduler": "turbo" })).is_err());
    }
}
