//! What a generator is asked and what it answers.

use diffusion::SchedulerKind;
use ndarray::Array4;
use serde::Serialize;

pub use crate::tokenizer::TruncatedPrompt;

/// Most images of one request.
pub const IMAGES_MAX: usize = 256;
/// Largest side of starting latents that a caller brings along.
pub const LATENT_SIDE_MAX: usize = 512;
/// Largest guidance scale; beyond it every known model burns out.
pub const GUIDANCE_SCALE_MAX: f32 = 100.0;

/// A request for images.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// What to show; `None` is right for unconditional models only.
    pub prompt: Option<String>,
    /// What not to show; the empty prompt when `None`.
    pub negative_prompt: Option<String>,
    /// One seed per image (see [`diffusion::seed::image_seed`]); empty when `latents` is given.
    pub seeds: Vec<u64>,
    /// Number of denoising steps.
    pub steps: u32,
    /// The scheduler; the model's own when `None`.
    pub scheduler: Option<SchedulerKind>,
    /// Classifier-free guidance scale; one or less switches guidance off.
    pub guidance_scale: f32,
    /// Starting samples of shape (images, channels, height, width), used as they are, unscaled.
    pub latents: Option<Array4<f32>>,
    /// How many previews of each image to decode on the way, the last one after the last step.
    pub preview_steps: usize,
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

/// Finished images and how they came about.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The images, in the order of the seeds or latents.
    pub images: Vec<GeneratedImage>,
    /// The last samples, before decoding, shape (images, channels, height, width).
    pub latents: Array4<f32>,
    /// Set when the prompt was longer than the model takes.
    pub truncated_prompt: Option<TruncatedPrompt>,
    /// The scheduler that ran.
    pub scheduler: SchedulerKind,
    /// Where the time went.
    pub timings: Timings,
    /// The previews of all images, in order.
    pub previews: Vec<Preview>,
}
