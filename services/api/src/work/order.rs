//! What a generation is asked to do, and the checks before any work.

use diffusion::SchedulerKind;
use diffusion::seed::image_seed;
use onnx::GenerateRequest;
use provenance::{Decimal, GenerationDetails, RecordedNoise, RecordedTask};

use super::WorkError;
use crate::config::Limits;
use crate::engine::GeneratorSlot;

/// Seeds that are drawn stay below 2^53, so that every JSON reader keeps them exactly.
const DRAWN_SEED_BITS: u32 = 53;

/// A wish for images. What is none comes from the model's own defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOrder {
    /// What to show; none is right for unconditional models only.
    pub prompt: Option<String>,
    /// What not to show.
    pub negative_prompt: Option<String>,
    /// Name of the model; none is the installed one.
    pub model: Option<String>,
    /// Number of images.
    pub images: u32,
    /// Width and height; none is the model's own size, the only one there is.
    pub size: Option<(u32, u32)>,
    /// Seed of the first image, the n-th takes this plus n; none draws one.
    pub seed: Option<u64>,
    /// Number of inference steps.
    pub steps: Option<u32>,
    /// Weight of classifier-free guidance.
    pub guidance_scale: Option<f32>,
    /// The scheduler.
    pub scheduler: Option<SchedulerKind>,
    /// Pictures of the way to keep of each image, for a strip; they are not recorded.
    pub preview_steps: usize,
}

impl GenerateOrder {
    /// One image of this prompt with the model's defaults.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: Some(prompt.into()),
            negative_prompt: None,
            model: None,
            images: 1,
            size: None,
            seed: None,
            steps: None,
            guidance_scale: None,
            scheduler: None,
            preview_steps: 0,
        }
    }

    /// Checks every value against the model and the limits, and fills in the defaults.
    ///
    /// # Errors
    /// [`WorkError::Invalid`] with the parameter, or [`WorkError::UnknownModel`].
    pub fn plan(&self, slot: &GeneratorSlot, limits: &Limits) -> Result<Plan, WorkError> {
        self.check_model(slot)?;
        self.check_prompt(slot, limits)?;
        let images = self.images;
        if images == 0 || images > limits.images_per_request_max {
            let most = limits.images_per_request_max;
            let detail = format!("n is {images}, it must be 1 to images_per_request_max ({most})");
            return Err(WorkError::invalid("n", detail));
        }
        let steps = self.steps.unwrap_or(slot.defaults.num_inference_steps);
        if steps == 0 || steps > limits.steps_max {
            let most = limits.steps_max;
            let detail =
                format!("num_inference_steps is {steps}, it must be 1 to steps_max ({most})");
            return Err(WorkError::invalid("num_inference_steps", detail));
        }
        let guidance_scale = self.guidance_scale.unwrap_or(slot.defaults.guidance_scale);
        let most = limits.guidance_scale_max;
        if !(0.0..=most).contains(&guidance_scale) {
            let detail = format!(
                "guidance_scale is {guidance_scale}, it must be 0 to guidance_scale_max ({most})"
            );
            return Err(WorkError::invalid("guidance_scale", detail));
        }
        let scheduler = self.scheduler.unwrap_or(slot.scheduler);
        if !SchedulerKind::GENERATIVE.contains(&scheduler) {
            let detail = format!("{scheduler} does not lead from noise to an image");
            return Err(WorkError::invalid("scheduler", detail));
        }
        Ok(Plan {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            seed: self.seed.unwrap_or_else(draw_seed),
            images,
            steps,
            guidance_scale,
            scheduler,
            preview_steps: self.preview_steps,
        })
    }

    fn check_model(&self, slot: &GeneratorSlot) -> Result<(), WorkError> {
        if let Some(asked) = self
            .model
            .as_ref()
            .filter(|asked| **asked != slot.model.name)
        {
            let (asked, installed) = (asked.clone(), slot.model.name.clone());
            return Err(WorkError::UnknownModel { asked, installed });
        }
        let (width, height) = slot.picture_size;
        match self.size {
            Some(size) if size != (width, height) => {
                let detail = format!(
                    "size is {}x{}, this model makes pictures of {width}x{height}",
                    size.0, size.1
                );
                Err(WorkError::invalid("size", detail))
            }
            _ => Ok(()),
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
                return Err(WorkError::invalid(
                    parameter,
                    "a zero character is not allowed",
                ));
            }
        }
        let empty = self
            .prompt
            .as_ref()
            .is_none_or(|prompt| prompt.trim().is_empty());
        if slot.takes_prompt && empty {
            return Err(WorkError::invalid("prompt", "the prompt is empty"));
        }
        Ok(())
    }
}

fn draw_seed() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    u64::from_le_bytes(bytes) >> (u64::BITS - DRAWN_SEED_BITS)
}

/// A checked order: every value is set.
#[derive(Debug, Clone, PartialEq)]
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
    /// Pictures of the way to keep of each image.
    pub preview_steps: usize,
}

impl Plan {
    /// The request for the generator.
    #[must_use]
    pub fn request(&self) -> GenerateRequest {
        let seeds = (0..self.images as usize)
            .map(|index| image_seed(self.seed, index))
            .collect();
        GenerateRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            seeds,
            steps: self.steps,
            scheduler: Some(self.scheduler),
            guidance_scale: self.guidance_scale,
            preview_steps: self.preview_steps,
            ..GenerateRequest::default()
        }
    }

    /// The guidance scale as entries state it.
    pub(super) fn guidance_decimal(&self) -> Result<Decimal, WorkError> {
        Ok(Decimal::from_f32(self.guidance_scale)?)
    }

    /// What entries state beside the settings that every generation has.
    pub(super) fn details(&self) -> GenerationDetails {
        GenerationDetails {
            noise_source: RecordedNoise::ChaCha20,
            initial_latents_sha256: None,
            task: match self.prompt {
                Some(_) => RecordedTask::TextToImage,
                None => RecordedTask::Unconditional,
            },
            strength: None,
            sources: Vec::new(),
            watermark: "none".to_owned(),
            settings: std::collections::BTreeMap::new(),
        }
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
}
