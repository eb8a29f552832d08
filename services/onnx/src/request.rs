//! What a generator is asked and what it answers.

use diffusion::seed::NoiseKind;
use diffusion::{SchedulerKind, WatermarkId, WatermarkKey, guidance};
use ndarray::Array4;
use serde::{Deserialize, Serialize};

use crate::folder::{GUIDANCE_SCALE, NUM_INFERENCE_STEPS};
use crate::sigmas::SigmaSpread;

pub use crate::tokenizer::TruncatedPrompt;

/// Most images of one request.
pub const IMAGES_MAX: usize = 256;
/// Largest side of starting latents that a caller brings along.
pub const LATENT_SIDE_MAX: usize = 512;
/// Largest guidance scale; beyond it every known model burns out.
pub const GUIDANCE_SCALE_MAX: f32 = 100.0;

/// Strength of a request that starts from a picture and names none, as in the reference pipelines.
pub const STRENGTH: f32 = 0.8;

/// What a pipeline can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A prompt to a picture.
    TextToImage,
    /// A picture and a prompt to a picture.
    ImageToImage,
    /// A picture, a mask and (where the model takes one) a prompt to a picture that differs from
    /// the first under the mask only.
    Inpainting,
    /// A picture to one like it, without a prompt of the caller's: noise goes onto the picture and
    /// comes off again under the empty prompt, without guidance (the way of Meng et al. 2022, arXiv
    /// 2108.01073). It needs no image encoder, which these exports lack, and works with every
    /// scheduler; `strength` says how far from the picture it may go.
    Variation,
    /// A picture from nothing but noise.
    Unconditional,
    /// A class of the training data to a picture.
    ClassConditional,
}

impl Task {
    /// The name in entries and interfaces, such as `text-to-image`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextToImage => "text-to-image",
            Self::ImageToImage => "image-to-image",
            Self::Inpainting => "inpainting",
            Self::Variation => "variation",
            Self::Unconditional => "unconditional",
            Self::ClassConditional => "class-conditional",
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A request for images. Build it from [`GenerateRequest::new`] or from the model's own settings
/// ([`crate::GenerationDefaults::request`]) and set what differs.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// What to show; `None` is right for unconditional models and variations only.
    pub prompt: Option<String>,
    /// What not to show; the empty prompt when `None`.
    pub negative_prompt: Option<String>,
    /// Whether the prompts weigh their words, see [`crate::prompt_weights`]; otherwise brackets
    /// are text like any other.
    pub prompt_weights: bool,
    /// Class of the training data, for class-conditional models.
    pub class_label: Option<u32>,
    /// One seed per image (see [`diffusion::seed::image_seed`]); empty when `latents` is given.
    pub seeds: Vec<u64>,
    /// Which random numbers the seeds stand for.
    pub noise: NoiseKind,
    /// Number of denoising steps; the number of `timesteps` where those are given.
    pub steps: u32,
    /// The scheduler; the model's own when `None`.
    pub scheduler: Option<SchedulerKind>,
    /// Explicit timesteps on the training scale, falling, in place of the scheduler's spacing.
    pub timesteps: Option<Vec<f64>>,
    /// How the sigmas are spread; as the model's configuration says when `None`.
    pub sigmas: Option<SigmaSpread>,
    /// DDIM's eta: 0 is deterministic, 1 as noisy as DDPM.
    pub eta: f32,
    /// Classifier-free guidance scale; one or less switches guidance off.
    pub guidance_scale: f32,
    /// The part of the loop that is guided, from and to as fractions of its model evaluations:
    /// evaluation `i` of `n` is guided where `from <= i / n < to`. The others cost one row in
    /// place of two. The whole loop when `None`.
    pub guidance_interval: Option<(f64, f64)>,
    /// Indices of model evaluations that are skipped: the output of the evaluation before is used
    /// again.
    pub reuse: Vec<usize>,
    /// Width and height of the pictures; the model's own when `None`.
    pub size: Option<(u32, u32)>,
    /// The picture to start from; one of another size than `size` is stretched to it.
    pub init_image: Option<Picture>,
    /// Where `init_image` is painted over; a mask of another size is stretched like the picture.
    pub mask: Option<Mask>,
    /// What lies under the mask before the noise goes on.
    pub mask_fill: MaskFill,
    /// How much of the way to noise `init_image` goes, from above 0 to 1.
    pub strength: f32,
    /// Starting samples of shape (images, channels, height, width), used as they are, unscaled; with
    /// an `init_image`, the standard normal noise that goes onto it.
    pub latents: Option<Array4<f32>>,
    /// The mark in the starting noise of each image, which then does not come from its seed; for
    /// requests that start from noise alone.
    pub watermark: Option<Watermark>,
    /// Whether a request that is stopped is answered with the images that were finished by then, if any were.
    pub keep_finished: bool,
    /// How many previews of each image to decode on the way, the last one after the last step.
    pub preview_steps: usize,
}

impl Default for GenerateRequest {
    /// No prompt, no seeds; the other values are those of a model folder without
    /// `generation_config.json`.
    fn default() -> Self {
        Self {
            prompt: None,
            negative_prompt: None,
            prompt_weights: false,
            class_label: None,
            seeds: Vec::new(),
            noise: NoiseKind::default(),
            steps: NUM_INFERENCE_STEPS,
            scheduler: None,
            timesteps: None,
            sigmas: None,
            eta: 0.0,
            guidance_scale: GUIDANCE_SCALE,
            guidance_interval: None,
            reuse: Vec::new(),
            size: None,
            init_image: None,
            mask: None,
            mask_fill: MaskFill::default(),
            strength: STRENGTH,
            latents: None,
            watermark: None,
            keep_finished: false,
            preview_steps: 0,
        }
    }
}

impl GenerateRequest {
    /// A request for what `prompt` says; seeds are still to be named.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: Some(prompt.into()),
            ..Self::default()
        }
    }
}

/// Marks for the starting noise of the images of a request.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// What they are made with.
    pub key: WatermarkKey,
    /// One for each image.
    pub ids: Vec<WatermarkId>,
}

/// Everything in a request that shapes its loop: requests that have this in common differ only in
/// prompts, pictures, seeds and scales, and their images can go through one loop together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoopShape {
    /// Whether there is a prompt, a picture to start from, and a mask.
    task: (bool, bool, bool),
    size: Option<(u32, u32)>,
    latent_sides: Option<(usize, usize)>,
    steps: u32,
    scheduler: Option<SchedulerKind>,
    timesteps: Option<Vec<u64>>,
    sigmas: Option<SigmaSpread>,
    /// The bits of eta and of strength.
    eta: u32,
    strength: u32,
    is_guided: bool,
    guidance_interval: Option<(u64, u64)>,
    reuse: Vec<usize>,
}

impl GenerateRequest {
    /// How many images it asks for: one for each seed, or for each of its own latents.
    pub fn images(&self) -> usize {
        let latents = self.latents.as_ref();
        latents.map_or(self.seeds.len(), |latents| latents.dim().0)
    }

    /// What the loop of this request is like, see [`LoopShape`].
    pub fn loop_shape(&self) -> LoopShape {
        let bits = |values: &Vec<f64>| values.iter().map(|value| value.to_bits()).collect();
        let has_picture = self.init_image.is_some();
        LoopShape {
            task: (self.prompt.is_some(), has_picture, self.mask.is_some()),
            size: self.size,
            latent_sides: self.latents.as_ref().map(|latents| {
                let (_, _, height, width) = latents.dim();
                (height, width)
            }),
            steps: self.steps,
            scheduler: self.scheduler,
            timesteps: self.timesteps.as_ref().map(bits),
            sigmas: self.sigmas,
            eta: self.eta.to_bits(),
            // Without a picture the strength means nothing.
            strength: if has_picture {
                self.strength.to_bits()
            } else {
                0
            },
            is_guided: guidance::is_guided(self.guidance_scale),
            guidance_interval: self
                .guidance_interval
                .map(|(from, to)| (from.to_bits(), to.to_bits())),
            reuse: self.reuse.clone(),
        }
    }
}

/// Where a picture is painted over: one byte for each pixel, rows from the top. Above 127 is
/// repainted, the rest is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The bytes, `height * width`.
    pub luma: Vec<u8>,
}

/// What lies under a mask before the noise goes on. Where the loop starts from noise alone, which a strength of
/// one means, nothing of it is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MaskFill {
    /// The picture itself.
    #[default]
    Picture,
    /// The noise that the image starts with, once more, as latents.
    Noise,
    /// Latents of zero.
    Zeros,
}

/// A picture: 8-bit RGB, rows from the top, `height * width * 3` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The samples.
    pub rgb: Vec<u8>,
}

/// One finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedImage {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 8-bit RGB, rows from the top.
    pub rgb: Vec<u8>,
    /// The seed of its noise; `None` when the request brought its own latents.
    pub seed: Option<u64>,
}

/// What the model would show if it stopped after a step: its guess of the noise-free sample,
/// decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Place of the image in the request, from 0.
    pub image_index: usize,
    /// Loop counter of the step, from 0.
    pub step_index: usize,
    /// The picture.
    pub picture: Picture,
}

/// Told to the caller after each step.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Place of the image in the request, from 0.
    pub image_index: usize,
    /// Images of the request.
    pub images: usize,
    /// Loop counter of the step just done, from 0.
    pub step_index: usize,
    /// Steps of each image.
    pub steps: usize,
    /// Steps done of all images of the request, this one among them: its images may be made together
    /// or one after another.
    pub evaluations_done: usize,
    /// A preview, after the steps that have one.
    pub preview: Option<Preview>,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// From the text encoder to decoded pixels, callbacks and previews included.
    pub loop_ms: f64,
    /// Of these, inside ONNX Runtime sessions.
    pub session_ms: f64,
    /// Of these, in the text encoder.
    pub text_encoder_ms: f64,
    /// Of these, in the denoising model.
    pub unet_ms: f64,
    /// Of these, in the encoder of pictures.
    pub vae_encoder_ms: f64,
    /// Of these, in the decoder.
    pub vae_decoder_ms: f64,
}

impl Timings {
    /// Share of the loop spent outside ONNX Runtime sessions, from 0 to 1.
    pub fn outside_share(&self) -> f64 {
        if self.loop_ms > 0.0 {
            1.0 - self.session_ms / self.loop_ms
        } else {
            0.0
        }
    }
}

/// How much a request gave the model to read, and how much it made, in the units of its networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt and, under guidance, of the negative prompt that the first text encoder read, its marks of
    /// start and end among them, padding not.
    pub prompt_tokens: u64,
    /// Positions of the latents of the picture to start from; 0 without one.
    pub source_positions: u64,
    /// Positions of the latents of each image: height times width.
    pub image_positions: u64,
}

/// Finished images and how they came about.
#[derive(Debug, Clone)]
pub struct Generation {
    /// What was done.
    pub task: Task,
    /// The images, in the order of the seeds or latents.
    pub images: Vec<GeneratedImage>,
    /// The last samples, before decoding, shape (images, channels, height, width).
    pub latents: Array4<f32>,
    /// Set when the prompt was longer than the model takes.
    pub truncated_prompt: Option<TruncatedPrompt>,
    /// The scheduler that ran.
    pub scheduler: SchedulerKind,
    /// How much was read and made.
    pub usage: Usage,
    /// Where the time went, for everything that was made together.
    pub timings: Timings,
    /// The previews of all images, image by image.
    pub previews: Vec<Preview>,
}
