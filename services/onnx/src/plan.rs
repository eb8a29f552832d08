//! Requests checked against the model before any work is done.

use diffusion::schedulers::flow_match_euler::{FlowMatchEuler, dynamic_shift, flux_sigmas};
use diffusion::{Scheduler, SchedulerConfig, SchedulerKind, guidance, scheduler};
use ndarray::Array4;

use crate::error::OnnxError;
use crate::evaluation::EvaluationPlan;
use crate::family::Family;
use crate::generator::{Generator, preview_indices};
use crate::request::{
    GUIDANCE_SCALE_MAX, GenerateRequest, IMAGES_MAX, LATENT_SIDE_MAX, Picture, Task,
};
use crate::sigmas::SigmaSpread;

/// A checked request.
pub(crate) struct Plan {
    pub(crate) task: Task,
    pub(crate) images: usize,
    pub(crate) schedule: Schedule,
    /// Channels, height and width of the sample.
    pub(crate) shape: diffusion::seed::SampleShape,
    /// Width and height of the pictures.
    pub(crate) picture_size: (u32, u32),
    pub(crate) is_guided: bool,
    pub(crate) evaluations: EvaluationPlan,
    /// Step indices after which a preview is decoded.
    pub(crate) preview_indices: Vec<usize>,
}

impl Plan {
    /// Whether two requests of one [`GenerateRequest::loop_shape`] came out with one kind of loop.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.task, self.shape, self.picture_size, self.is_guided)
            == (other.task, other.shape, other.picture_size, other.is_guided)
    }
}

/// How to build the scheduler of one run of the loop.
pub(crate) struct Schedule {
    pub(crate) kind: SchedulerKind,
    config: SchedulerConfig,
    steps: usize,
    timesteps: Option<Vec<f64>>,
    /// Whether the sigmas are those that Flux hands to its scheduler.
    has_flux_sigmas: bool,
    /// Evaluations that are left out at the start.
    first: usize,
}

impl Schedule {
    /// The scheduler, at the start of the loop.
    pub(crate) fn scheduler(&self) -> Result<Box<dyn Scheduler>, OnnxError> {
        let mut scheduler = self.whole()?;
        if self.first > 0 {
            scheduler.skip(self.first)?;
        }
        Ok(scheduler)
    }

    fn whole(&self) -> Result<Box<dyn Scheduler>, OnnxError> {
        Ok(match &self.timesteps {
            Some(timesteps) => self.config.scheduler_at(self.kind, timesteps)?,
            None if self.has_flux_sigmas => {
                // The configuration's own limits come first: an absurd number of steps must not
                // become a list.
                self.config.scheduler(self.kind, self.steps)?;
                let sigmas = flux_sigmas(self.steps);
                Box::new(FlowMatchEuler::at_sigmas(&self.config, &sigmas)?)
            }
            None => self.config.scheduler(self.kind, self.steps)?,
        })
    }
}

impl Generator {
    /// Checks a request against the model.
    pub(crate) fn plan(&mut self, request: &GenerateRequest) -> Result<Plan, OnnxError> {
        let task = self.task(request)?;
        self.refuse_conditions(request, task)?;
        let (picture_size, shape) = self.plan_size(request)?;
        let images = self.plan_images(request, shape)?;
        let schedule = self.plan_schedule(request, task, shape)?;
        let planned = schedule.scheduler()?;
        let evaluations = planned.timesteps().len() - planned.first_step();
        refuse_interval(request, evaluations)?;
        refuse_watermark(request, images)?;
        Ok(Plan {
            task,
            images,
            schedule,
            shape,
            picture_size,
            is_guided: self.is_guided(request, task),
            evaluations: EvaluationPlan {
                evaluations,
                guidance_interval: request.guidance_interval,
                reuse: request.reuse.clone(),
            },
            preview_indices: preview_indices(evaluations, request.preview_steps),
        })
    }

    /// What a request asks for.
    fn task(&self, request: &GenerateRequest) -> Result<Task, OnnxError> {
        let task = match (&request.init_image, &request.mask) {
            (None, Some(_)) => {
                return Err(OnnxError::request("mask needs an init_image to paint over"));
            }
            (Some(_), Some(_)) => Task::Inpainting,
            (Some(_), None) if request.prompt.is_some() => Task::ImageToImage,
            (Some(_), None) => Task::Variation,
            (None, None) if self.takes_prompt() => Task::TextToImage,
            (None, None) if self.class_count().is_some() => Task::ClassConditional,
            (None, None) => Task::Unconditional,
        };
        if self.tasks().contains(&task) {
            return Ok(task);
        }
        let served: Vec<&str> = self.tasks().iter().map(|task| task.name()).collect();
        Err(OnnxError::request(format!(
            "this model does not serve {task}; it serves {}",
            served.join(", ")
        )))
    }

    fn refuse_conditions(&self, request: &GenerateRequest, task: Task) -> Result<(), OnnxError> {
        let scale = request.guidance_scale;
        if !scale.is_finite() || !(0.0..=GUIDANCE_SCALE_MAX).contains(&scale) {
            return Err(OnnxError::request(format!(
                "guidance_scale {scale} is outside 0..={GUIDANCE_SCALE_MAX}"
            )));
        }
        if !(0.0..=1.0).contains(&request.eta) {
            let eta = request.eta;
            return Err(OnnxError::request(format!("eta {eta} is outside 0..=1")));
        }
        let has_prompt = request.prompt.is_some() || request.negative_prompt.is_some();
        if !self.takes_prompt() && has_prompt {
            return Err(OnnxError::request("this model takes no prompt"));
        }
        if self.takes_prompt() && task != Task::Variation && request.prompt.is_none() {
            return Err(OnnxError::request("this model needs a prompt"));
        }
        let negative = request.negative_prompt.as_deref().unwrap_or_default();
        if !negative.is_empty() && !self.takes_negative_prompt() {
            return Err(OnnxError::request("this model takes no negative_prompt"));
        }
        match (self.class_count(), request.class_label) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(OnnxError::request("this model takes no class_label")),
            (Some(count), Some(label)) if label < count => Ok(()),
            (Some(count), _) => Err(OnnxError::request(format!(
                "this model needs a class_label from 0 to {}",
                count - 1
            ))),
        }
    }

    /// Whether both branches of guidance run. A variation has no prompt to be led to.
    fn is_guided(&self, request: &GenerateRequest, task: Task) -> bool {
        self.takes_negative_prompt()
            && task != Task::Variation
            && guidance::is_guided(request.guidance_scale)
    }

    /// Width and height of the pictures, and the shape of their sample.
    fn plan_size(
        &mut self,
        request: &GenerateRequest,
    ) -> Result<((u32, u32), diffusion::seed::SampleShape), OnnxError> {
        let own_shape = self.sample_shape();
        let per_latent = self.pixels_per_latent()?;
        let Some((width, height)) = request.size else {
            let shape = match &request.latents {
                Some(latents) => {
                    let (_, _, height, width) = latents.dim();
                    (own_shape.0, height, width)
                }
                None => own_shape,
            };
            let size = (shape.2 as u32 * per_latent, shape.1 as u32 * per_latent);
            return Ok((size, shape));
        };
        let factor = self.picture_factor()?;
        let own_size = (
            own_shape.2 as u32 * per_latent,
            own_shape.1 as u32 * per_latent,
        );
        if self.denoiser.fixed_sides().is_some() && (width, height) != own_size {
            return Err(OnnxError::request(format!(
                "size {width}x{height}; this model makes {}x{} only",
                own_size.0, own_size.1
            )));
        }
        let side_max = LATENT_SIDE_MAX as u32 * per_latent;
        let fits = |side: u32| side.is_multiple_of(factor) && (factor..=side_max).contains(&side);
        if (width, height) != own_size && !(fits(width) && fits(height)) {
            return Err(OnnxError::request(format!(
                "size {width}x{height}; both sides must be multiples of {factor} up to {side_max}"
            )));
        }
        let sides = (
            (height / per_latent) as usize,
            (width / per_latent) as usize,
        );
        Ok(((width, height), (own_shape.0, sides.0, sides.1)))
    }

    fn plan_images(
        &self,
        request: &GenerateRequest,
        shape: diffusion::seed::SampleShape,
    ) -> Result<usize, OnnxError> {
        let images = match &request.latents {
            None => request.seeds.len(),
            Some(latents) => {
                refuse_latents(latents, shape)?;
                if !request.seeds.is_empty() {
                    return Err(OnnxError::request(
                        "seeds and latents exclude each other: the latents are used as they are",
                    ));
                }
                latents.dim().0
            }
        };
        if (1..=IMAGES_MAX).contains(&images) {
            return Ok(images);
        }
        Err(OnnxError::request(format!(
            "{images} images; between 1 and {IMAGES_MAX} are possible"
        )))
    }

    fn plan_schedule(
        &self,
        request: &GenerateRequest,
        task: Task,
        shape: diffusion::seed::SampleShape,
    ) -> Result<Schedule, OnnxError> {
        let kind = request
            .scheduler
            .unwrap_or_else(|| self.default_scheduler());
        let mut config = SigmaSpread::applied(request.sigmas, &self.scheduler_config).into_owned();
        self.refuse_scheduler(kind, &config)?;
        if request.eta > 0.0 {
            config.eta = Some(f64::from(request.eta));
        }
        if self.family.is_flow() && config.use_dynamic_shifting.unwrap_or(false) {
            let factor = self.denoiser.factor();
            let tokens = (shape.1 / factor) * (shape.2 / factor);
            config.mu = Some(dynamic_shift(&config, tokens));
        }
        let steps = request.steps as usize;
        if let Some(timesteps) = &request.timesteps
            && timesteps.len() != steps
        {
            return Err(OnnxError::request(format!(
                "{} timesteps with steps {steps}; the two must agree",
                timesteps.len()
            )));
        }
        let has_flux_sigmas =
            self.family == Family::Flux && !config.use_flow_sigmas.unwrap_or(false);
        let mut schedule = Schedule {
            kind,
            config,
            steps,
            timesteps: request.timesteps.clone(),
            has_flux_sigmas: has_flux_sigmas && kind.is_flow(),
            first: 0,
        };
        if matches!(
            task,
            Task::ImageToImage | Task::Inpainting | Task::Variation
        ) {
            schedule.first = self.skipped(request, schedule.whole()?.as_ref())?;
        }
        Ok(schedule)
    }

    /// How many evaluations a request that starts from a picture leaves out.
    fn skipped(
        &self,
        request: &GenerateRequest,
        planned: &dyn Scheduler,
    ) -> Result<usize, OnnxError> {
        // The number as it was written: 0.7 in 32 bits is a little less than 0.7, and one step of
        // ten would be lost.
        let strength = request.strength.to_string().parse().unwrap_or(f64::NAN);
        let steps = request.steps as usize;
        let skipped = scheduler::skipped_evaluations(planned, steps, strength)?;
        if self.family.is_flow() {
            // These pipelines round the number of steps left out, not that of the steps kept.
            let kept = (steps as f64 * strength).min(steps as f64);
            return Ok((steps as f64 - kept) as usize * planned.evaluations_per_step());
        }
        Ok(skipped)
    }

    fn refuse_scheduler(
        &self,
        kind: SchedulerKind,
        config: &SchedulerConfig,
    ) -> Result<(), OnnxError> {
        if !kind.is_generative() {
            let names = SchedulerKind::GENERATIVE.map(SchedulerKind::name);
            return Err(OnnxError::request(format!(
                "{kind} does not lead to an image; choose one of {}",
                names.join(", ")
            )));
        }
        let takes_flow = kind.is_flow() || config.use_flow_sigmas.unwrap_or(false);
        if self.family.is_flow() && !takes_flow {
            return Err(OnnxError::request(format!(
                "{kind} is for models that predict noise; this model needs {}",
                SchedulerKind::FlowMatchEuler
            )));
        }
        if !self.family.is_flow() && kind.is_flow() {
            return Err(OnnxError::request(format!(
                "{kind} is for flow-matching models; this model predicts noise"
            )));
        }
        Ok(())
    }
}

fn refuse_latents(
    latents: &Array4<f32>,
    shape: diffusion::seed::SampleShape,
) -> Result<(), OnnxError> {
    let (_, channels, height, width) = latents.dim();
    let sides = 1..=LATENT_SIDE_MAX;
    let fits = (channels, height, width) == shape;
    if !fits || !sides.contains(&height) || !sides.contains(&width) {
        return Err(OnnxError::request(format!(
            "latents of shape {:?}; expected (images, {}, {}, {}) with sides of 1 to \
             {LATENT_SIDE_MAX}",
            latents.shape(),
            shape.0,
            shape.1,
            shape.2,
        )));
    }
    if latents.iter().any(|value| !value.is_finite()) {
        return Err(OnnxError::request(
            "latents hold a value that is not finite",
        ));
    }
    Ok(())
}

fn refuse_interval(request: &GenerateRequest, evaluations: usize) -> Result<(), OnnxError> {
    if let Some((from, to)) = request.guidance_interval
        && !(0.0 <= from && from <= to && to <= 1.0)
    {
        return Err(OnnxError::request(format!(
            "guidance_interval {from} to {to}; both lie in 0..=1, the first not above the second"
        )));
    }
    let possible = 1..evaluations;
    match request.reuse.iter().find(|index| !possible.contains(index)) {
        None => Ok(()),
        Some(index) => Err(OnnxError::request(format!(
            "reuse names evaluation {index}; this loop has {evaluations}, and the first one has \
             none before it"
        ))),
    }
}

fn refuse_watermark(request: &GenerateRequest, images: usize) -> Result<(), OnnxError> {
    let Some(watermark) = &request.watermark else {
        return Ok(());
    };
    if request.init_image.is_some() || request.latents.is_some() {
        return Err(OnnxError::request(
            "watermark belongs to images that start from drawn noise alone",
        ));
    }
    if watermark.ids.len() != images {
        let ids = watermark.ids.len();
        return Err(OnnxError::request(format!(
            "watermark has {ids} ids for {images} images"
        )));
    }
    Ok(())
}

/// Refuses a picture or mask whose buffer has not the length that its sides ask for.
pub(crate) fn refuse_buffer(
    what: &str,
    size: (u32, u32),
    found: usize,
    bytes_per_pixel: usize,
) -> Result<(), OnnxError> {
    let bytes = size.0 as usize * size.1 as usize * bytes_per_pixel;
    if bytes > 0 && found == bytes {
        return Ok(());
    }
    Err(OnnxError::request(format!(
        "{what} of {} x {} pixels with {found} bytes; expected {bytes}",
        size.0, size.1
    )))
}

/// As [`refuse_buffer`].
pub(crate) fn refuse_picture(what: &str, picture: &Picture) -> Result<(), OnnxError> {
    let size = (picture.width, picture.height);
    refuse_buffer(what, size, picture.rgb.len(), 3)
}
