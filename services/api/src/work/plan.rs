//! The checks of an order before any work, and what follows from it.

use std::collections::BTreeMap;
use std::fmt::Display;

use credentials::Ingredient;
use diffusion::seed::{NoiseKind, image_seed};
use diffusion::{SchedulerKind, WatermarkId};
use onnx::{GenerateRequest, Generation, Mask, Picture, Task};
use provenance::{Decimal, Digest, GenerationDetails, RecordedNoise, RecordedTask, commit};

use super::order::{FileOptions, GenerateOrder};
use super::painting::MaskPainting;
use super::source::{LatentsSink, OwnLatents};
use super::{WorkError, infotext};
use crate::config::Limits;
use crate::engine::GeneratorSlot;
use crate::watermarking;

/// Seeds that are drawn stay below 2^53, so that every JSON reader keeps them exactly.
const DRAWN_SEED_BITS: u32 = 53;
/// Strength of an order that starts from a picture and names none, as in the reference pipelines.
const STRENGTH: f32 = onnx::request::STRENGTH;
/// The same under a mask: what is painted over is painted anew.
const STRENGTH_UNDER_MASK: f32 = 1.0;

/// A checked order: every value is set.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to show.
    pub prompt: Option<String>,
    /// What not to show.
    pub negative_prompt: Option<String>,
    /// Seed of the first image.
    pub seed: u64,
    /// Number of images.
    pub images: u32,
    /// Number of inference steps.
    pub steps: u32,
    /// Weight of classifier-free guidance.
    pub guidance_scale: f32,
    /// The scheduler.
    pub scheduler: SchedulerKind,
    /// What the model is asked for.
    pub task: Task,
    /// How the files are written.
    pub file: FileOptions,
    /// How a masked part is painted.
    pub(super) painting: Option<MaskPainting>,
    request: GenerateRequest,
    /// Digests of the uploaded files: the initial image, the mask.
    sources: Vec<Digest>,
    /// What a manifest says about the initial image.
    pub(super) ingredient: Option<Ingredient>,
    latents: Option<OwnLatents>,
    last_latents: Option<LatentsSink>,
}

impl GenerateOrder {
    /// Checks every value against the model and the limits, and fills in the defaults.
    ///
    /// # Errors
    /// [`WorkError::Invalid`] with the parameter, or [`WorkError::UnknownModel`].
    pub fn plan(&self, slot: &GeneratorSlot, limits: &Limits) -> Result<Plan, WorkError> {
        self.check_model(slot)?;
        self.check_prompt(slot, limits)?;
        self.check_size(limits)?;
        self.check_sources(limits)?;
        let images = self.check_images(limits)?;
        let scheduler = self.check_scheduler(slot)?;
        let request = GenerateRequest {
            scheduler: Some(scheduler),
            steps: self.check_steps(slot, limits)?,
            guidance_scale: self.check_guidance(slot, limits)?,
            ..self.request(slot)
        };
        let task = self.task(slot);
        // Own latents have no seed: random steps draw from the image's place.
        let drawn = || self.latents.as_ref().map_or_else(draw_seed, |_| 0);
        let init = self.init_image.iter().map(|picture| picture.sha256);
        let mask = self.mask.iter().map(|mask| mask.sha256);
        let ingredient = self.init_image.as_ref();
        Ok(Plan {
            ingredient: ingredient.map(|picture| picture.ingredient.clone()),
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            seed: self.seed.unwrap_or_else(drawn),
            images,
            steps: request.steps,
            guidance_scale: request.guidance_scale,
            scheduler,
            task,
            file: self.file,
            painting: self.painting,
            sources: init.chain(mask).collect(),
            latents: self.latents.clone(),
            last_latents: self.last_latents.clone(),
            request,
        })
    }

    /// What the model is asked for.
    fn task(&self, slot: &GeneratorSlot) -> Task {
        match (&self.init_image, &self.mask) {
            (Some(_), Some(_)) => Task::Inpainting,
            (Some(_), None) if self.prompt.is_none() => Task::Variation,
            (Some(_), None) => Task::ImageToImage,
            (None, _) if slot.takes_prompt => Task::TextToImage,
            (None, _) if self.class_label.is_some() => Task::ClassConditional,
            (None, _) => Task::Unconditional,
        }
    }

    /// The request as the order has it, without what is checked against limits.
    fn request(&self, slot: &GeneratorSlot) -> GenerateRequest {
        let own = slot.defaults.request();
        let same_steps = self.steps.is_none_or(|steps| steps == own.steps);
        let same_scheduler = self
            .scheduler
            .is_none_or(|kind| own.scheduler.unwrap_or(slot.scheduler) == kind);
        let from_noise = self.init_image.is_none();
        let untouched = self.sigmas.is_none() && self.eta.is_none();
        let base = if same_steps && same_scheduler && from_noise && untouched {
            own
        } else {
            // The model's timesteps, interval and reuse were chosen for its own settings.
            GenerateRequest::default()
        };
        let strength = match self.mask {
            Some(_) => STRENGTH_UNDER_MASK,
            None => STRENGTH,
        };
        GenerateRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            prompt_weights: self.prompt_weights,
            class_label: self.class_label,
            noise: self.noise_source.unwrap_or_default(),
            sigmas: self.sigmas,
            eta: self.eta.unwrap_or(base.eta),
            // A part of a picture is worked on at a size that does not follow from the picture.
            size: self.size.or(self.painting.map(|_| slot.picture_size)),
            init_image: self.init_image.as_ref().map(|picture| Picture {
                width: picture.width,
                height: picture.height,
                rgb: picture.rgb.clone(),
            }),
            mask: self.mask.as_ref().map(|mask| Mask {
                width: mask.width,
                height: mask.height,
                luma: mask.luma.clone(),
            }),
            strength: self.strength.unwrap_or(strength),
            latents: self.latents.as_ref().map(|latents| latents.0.clone()),
            keep_finished: self.keep_finished,
            preview_steps: self.preview_steps,
            ..base
        }
    }

    fn check_model(&self, slot: &GeneratorSlot) -> Result<(), WorkError> {
        match &self.model {
            Some(asked) if *asked != slot.model.name => Err(WorkError::UnknownModel {
                asked: asked.clone(),
                installed: slot.model.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn check_size(&self, limits: &Limits) -> Result<(), WorkError> {
        let Some((width, height)) = self.size else {
            return Ok(());
        };
        let most = limits.picture_pixels_max;
        if u64::from(width) * u64::from(height) > most {
            let detail = format!("size is {width}x{height}, over picture_pixels_max ({most})");
            return Err(WorkError::invalid("size", detail));
        }
        Ok(())
    }

    fn check_sources(&self, limits: &Limits) -> Result<(), WorkError> {
        if let Some(painting) = &self.painting {
            painting.check((self.init_image.as_ref(), self.mask.as_ref()), limits)?;
        }
        match (&self.init_image, &self.mask) {
            (None, Some(_)) => {
                let detail = "a mask needs the picture that it belongs to";
                return Err(WorkError::invalid("mask", detail));
            }
            (Some(image), Some(mask))
                if (image.width, image.height) != (mask.width, mask.height) =>
            {
                let detail = format!(
                    "the mask is {}x{}, the picture {}x{}: they must have one size",
                    mask.width, mask.height, image.width, image.height
                );
                return Err(WorkError::invalid("mask", detail));
            }
            _ => {}
        }
        match self.strength {
            Some(_) if self.init_image.is_none() => {
                let detail = "strength belongs to a picture to start from";
                Err(WorkError::invalid("strength", detail))
            }
            Some(strength) if !(strength > 0.0 && strength <= 1.0) => {
                let detail = format!("strength is {strength}, it must lie above 0, up to 1");
                Err(WorkError::invalid("strength", detail))
            }
            _ if self.init_image.is_some() && self.latents.is_some() => {
                let detail = "latents and a picture to start from exclude each other";
                Err(WorkError::invalid("latents", detail))
            }
            _ => Ok(()),
        }
    }

    fn check_images(&self, limits: &Limits) -> Result<u32, WorkError> {
        let images = match &self.latents {
            Some(latents) => u32::try_from(latents.images()).unwrap_or(u32::MAX),
            None => self.images,
        };
        let most = limits.images_per_request_max;
        if images == 0 || images > most {
            let detail = format!("n is {images}, it must be 1 to images_per_request_max ({most})");
            return Err(WorkError::invalid("n", detail));
        }
        Ok(images)
    }

    fn check_steps(&self, slot: &GeneratorSlot, limits: &Limits) -> Result<u32, WorkError> {
        let steps = self.steps.unwrap_or(slot.defaults.num_inference_steps);
        let most = limits.steps_max;
        if steps == 0 || steps > most {
            let detail =
                format!("num_inference_steps is {steps}, it must be 1 to steps_max ({most})");
            return Err(WorkError::invalid("num_inference_steps", detail));
        }
        Ok(steps)
    }

    fn check_guidance(&self, slot: &GeneratorSlot, limits: &Limits) -> Result<f32, WorkError> {
        let guidance_scale = self.guidance_scale.unwrap_or(slot.defaults.guidance_scale);
        let most = limits.guidance_scale_max;
        if !(0.0..=most).contains(&guidance_scale) {
            let detail = format!(
                "guidance_scale is {guidance_scale}, it must be 0 to guidance_scale_max ({most})"
            );
            return Err(WorkError::invalid("guidance_scale", detail));
        }
        Ok(guidance_scale)
    }

    fn check_scheduler(&self, slot: &GeneratorSlot) -> Result<SchedulerKind, WorkError> {
        let own = slot.defaults.scheduler.unwrap_or(slot.scheduler);
        let scheduler = self.scheduler.unwrap_or(own);
        if !scheduler.is_generative() {
            let detail = format!("{scheduler} does not lead from noise to an image");
            return Err(WorkError::invalid("scheduler", detail));
        }
        match self.eta {
            Some(eta) if !(0.0..=1.0).contains(&eta) => {
                let detail = format!("eta is {eta}, it must be 0 to 1");
                Err(WorkError::invalid("eta", detail))
            }
            Some(eta) if eta > 0.0 && !takes_eta(scheduler) => {
                let detail = format!("{scheduler} has no eta; ddim and tcd have one");
                Err(WorkError::invalid("eta", detail))
            }
            _ => Ok(scheduler),
        }
    }

    fn check_prompt(&self, slot: &GeneratorSlot, limits: &Limits) -> Result<(), WorkError> {
        let most = limits.prompt_bytes_max;
        let texts = [
            ("prompt", &self.prompt),
            ("negative_prompt", &self.negative_prompt),
        ];
        for (parameter, text) in texts {
            let Some(text) = text else { continue };
            if !slot.takes_prompt {
                return Err(WorkError::invalid(parameter, "this model takes no prompt"));
            }
            if text.len() > most {
                let bytes = text.len();
                let detail =
                    format!("{parameter} has {bytes} bytes, over prompt_bytes_max ({most})");
                return Err(WorkError::invalid(parameter, detail));
            }
            if text.contains('\0') {
                let detail = "a zero character is not allowed";
                return Err(WorkError::invalid(parameter, detail));
            }
        }
        let variation = self.init_image.is_some() && self.mask.is_none() && self.prompt.is_none();
        let prompt = self.prompt.as_deref().unwrap_or_default();
        if slot.takes_prompt && !variation && prompt.trim().is_empty() {
            return Err(WorkError::invalid("prompt", "the prompt is empty"));
        }
        Ok(())
    }
}

/// Whether the scheduler's steps take an eta.
pub(crate) fn takes_eta(scheduler: SchedulerKind) -> bool {
    matches!(scheduler, SchedulerKind::Ddim | SchedulerKind::Tcd)
}

pub(super) fn draw_seed() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    u64::from_le_bytes(bytes) >> (u64::BITS - DRAWN_SEED_BITS)
}

impl Plan {
    /// The request for the generator.
    #[must_use]
    pub fn request(&self) -> GenerateRequest {
        let mut request = self.request.clone();
        if self.latents.is_none() {
            let images = 0..self.images as usize;
            request.seeds = images.map(|index| image_seed(self.seed, index)).collect();
        }
        request
    }

    /// Leaves the last samples where the order wants them.
    pub(super) fn leave_latents(&self, generation: &Generation) {
        if let Some(sink) = &self.last_latents {
            sink.put(&generation.latents);
        }
    }

    /// The seed of one image.
    #[must_use]
    pub fn seed_of(&self, image_index: usize) -> u64 {
        image_seed(self.seed, image_index)
    }

    /// The guidance scale as entries state it.
    pub(super) fn guidance_decimal(&self) -> Result<Decimal, WorkError> {
        Ok(Decimal::from_f32(self.guidance_scale)?)
    }

    /// What the entry of one image states beside the settings that every generation has. The salts
    /// of its source commitments follow from the prompt's salt, so that erasing it closes them too.
    pub(super) fn details(
        &self,
        image_index: usize,
        (salt, watermark): (&[u8; 32], Option<WatermarkId>),
    ) -> Result<GenerationDetails, WorkError> {
        let own = self.latents.as_ref();
        let noise_source = match own {
            Some(_) => RecordedNoise::Latents,
            None => recorded_noise(self.request.noise),
        };
        let strength = (!self.sources.is_empty()).then_some(self.request.strength);
        let sources = self.sources.iter().enumerate().map(|(place, sha256)| {
            let key = commit(salt, format!("source {place}").as_bytes());
            commit(key.as_bytes(), sha256.as_bytes())
        });
        Ok(GenerationDetails {
            noise_source,
            initial_latents_sha256: own.and_then(|latents| latents.digest(image_index)),
            task: recorded_task(self.task),
            strength: strength.map(Decimal::from_f32).transpose()?,
            sources: sources.collect(),
            watermark: watermarking::recorded(watermark),
            settings: self.settings()?,
            // It is taken of the image, which is not there yet.
            perceptual_hash: None,
        })
    }

    /// Whether the images can be marked, and the mark read again: they start from the service's own noise
    /// alone, at the model's own size, at which uploads are inverted.
    pub(super) fn can_be_marked(&self, slot: &GeneratorSlot) -> bool {
        let request = &self.request;
        slot.carries_watermark
            && self.latents.is_none()
            && request.init_image.is_none()
            && request.noise == NoiseKind::ChaCha20
            && request.size.is_none_or(|size| size == slot.picture_size)
    }

    /// Everything that makes the pixels of an image, as one text.
    pub(super) fn makes_pixels(
        &self,
        image_index: usize,
        slot: &GeneratorSlot,
    ) -> Result<String, WorkError> {
        let mut lines = vec![
            slot.model.digest.to_string(),
            self.scheduler.to_string(),
            self.steps.to_string(),
            self.guidance_decimal()?.to_string(),
            self.seed_of(image_index).to_string(),
        ];
        let settings = self.settings()?.into_iter();
        lines.extend(settings.map(|(name, value)| format!("{name}={value}")));
        // Behind an empty line there is nothing but the prompt.
        lines.push(String::new());
        lines.push(self.committed_prompt());
        Ok(lines.join("\n"))
    }

    /// Every further setting that changes pixels, where it is not the neutral one.
    fn settings(&self) -> Result<BTreeMap<String, String>, WorkError> {
        let request = &self.request;
        let mut settings = BTreeMap::new();
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        if let Some(timesteps) = &request.timesteps {
            set("timesteps", list(timesteps));
        }
        if let Some((from, to)) = request.guidance_interval {
            set("guidance_interval", list(&[from, to]));
        }
        if !request.reuse.is_empty() {
            set("reuse", list(&request.reuse));
        }
        if let Some(sigmas) = request.sigmas {
            set("sigmas", sigmas.to_string());
        }
        if request.eta != 0.0 {
            set("eta", Decimal::from_f32(request.eta)?.to_string());
        }
        if request.prompt_weights {
            set("prompt_weights", "true".to_owned());
        }
        if let Some(class_label) = request.class_label {
            set("class_label", class_label.to_string());
        }
        if let Some(painting) = &self.painting {
            for (name, value) in painting.settings()? {
                set(name, value);
            }
        }
        Ok(settings)
    }

    /// The text that the prompt commitment commits to: the prompt, and below a line of its own
    /// the negative prompt where there is one.
    pub(super) fn committed_prompt(&self) -> String {
        let prompt = self.prompt.as_deref().unwrap_or_default();
        match &self.negative_prompt {
            Some(negative) => format!("{prompt}\nNegative prompt: {negative}"),
            None => prompt.to_owned(),
        }
    }

    /// Prompt and settings of one image of this size as other tools write them into files.
    #[must_use]
    pub fn infotext(&self, slot: &GeneratorSlot, image: (usize, (u32, u32))) -> String {
        let (image_index, (width, height)) = image;
        let own = infotext::Settings {
            steps: self.steps,
            scheduler: self.scheduler,
            sigmas: self.request.sigmas,
            guidance_scale: self.guidance_scale,
            seed: self.seed_of(image_index),
            size: (width, height),
            model: &slot.model,
            strength: (!self.sources.is_empty()).then_some(self.request.strength),
            noise: self.request.noise,
            eta: self.request.eta,
            painting: self.painting,
        };
        let prompt = self.prompt.as_deref().unwrap_or_default();
        let negative = self.negative_prompt.as_deref().unwrap_or_default();
        infotext::write(prompt, negative, &own)
    }
}

fn list(values: &[impl Display]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.join(",")
}

fn recorded_noise(noise: diffusion::seed::NoiseKind) -> RecordedNoise {
    match noise {
        diffusion::seed::NoiseKind::ChaCha20 => RecordedNoise::ChaCha20,
        diffusion::seed::NoiseKind::TorchCpu => RecordedNoise::TorchCpu,
        diffusion::seed::NoiseKind::TorchCuda => RecordedNoise::TorchCuda,
    }
}

fn recorded_task(task: Task) -> RecordedTask {
    match task {
        Task::TextToImage => RecordedTask::TextToImage,
        Task::ImageToImage => RecordedTask::ImageToImage,
        Task::Inpainting => RecordedTask::Inpainting,
        Task::Variation => RecordedTask::Variation,
        Task::Unconditional => RecordedTask::Unconditional,
        Task::ClassConditional => RecordedTask::ClassConditional,
    }
}
