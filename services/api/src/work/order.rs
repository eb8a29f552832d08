//! What a generation is asked to do.

use diffusion::SchedulerKind;
use diffusion::seed::NoiseKind;
use media::Format;
use onnx::SigmaSpread;
use serde::{Deserialize, Serialize};

use super::painting::MaskPainting;
use super::source::{LatentsSink, OwnLatents, SourceMask, SourcePicture};

/// Quality of JPEG files whose order names none.
const JPEG_QUALITY: u8 = 95;

/// A wish for images. What is none comes from the model's own defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateOrder {
    /// What to show; none is right for unconditional models and for variations of a picture.
    pub prompt: Option<String>,
    /// What not to show.
    pub negative_prompt: Option<String>,
    /// Whether the prompts weigh their words, as `(word:1.2)`.
    pub prompt_weights: bool,
    /// Class of the training data, for class-conditional models.
    pub class_label: Option<u32>,
    /// Name of the model; none is the installed one.
    pub model: Option<String>,
    /// Number of images.
    pub images: u32,
    /// Width and height; none is the model's own size.
    pub size: Option<(u32, u32)>,
    /// Seed of the first image, the n-th takes this plus n; none draws one.
    pub seed: Option<u64>,
    /// Which random numbers the seeds stand for; none is the service's own stream.
    pub noise_source: Option<NoiseKind>,
    /// Number of inference steps.
    pub steps: Option<u32>,
    /// Weight of classifier-free guidance.
    pub guidance_scale: Option<f32>,
    /// The scheduler.
    pub scheduler: Option<SchedulerKind>,
    /// How the sigmas are spread; none is as the model's configuration says.
    pub sigmas: Option<SigmaSpread>,
    /// Share of fresh noise in the steps of DDIM and TCD, 0 to 1.
    pub eta: Option<f32>,
    /// The picture to start from.
    pub init_image: Option<SourcePicture>,
    /// Where that picture is painted over.
    pub mask: Option<SourceMask>,
    /// How the masked part is painted, where it is not done plainly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub painting: Option<MaskPainting>,
    /// How much of that picture is replaced, above 0 to 1.
    pub strength: Option<f32>,
    /// Starting samples of the caller. They never travel to another process.
    #[serde(skip)]
    pub latents: Option<OwnLatents>,
    /// Where to leave the last samples, for a caller in this process.
    #[serde(skip)]
    pub last_latents: Option<LatentsSink>,
    /// Whether an order that is stopped is answered with what was finished by then. A worker's job is not: it records all
    /// of its images or none.
    #[serde(skip)]
    pub keep_finished: bool,
    /// Pictures of the way to keep of each image, for a strip; they are not recorded.
    pub preview_steps: usize,
    /// How the files are written.
    pub file: FileOptions,
}

/// How the file of an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// The format.
    pub format: Format,
    /// Quality of a JPEG file, 1 to 100; the other formats keep every pixel.
    pub quality: u8,
    /// Whether prompt and settings stand in the file, as other tools write them. Who has the file
    /// can then read the prompt, also after the ledger has erased its own copy.
    pub parameters: bool,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            format: Format::Png,
            quality: JPEG_QUALITY,
            parameters: true,
        }
    }
}

impl Default for GenerateOrder {
    /// One image without a prompt, with the model's defaults.
    fn default() -> Self {
        Self {
            prompt: None,
            negative_prompt: None,
            prompt_weights: false,
            class_label: None,
            model: None,
            images: 1,
            size: None,
            seed: None,
            noise_source: None,
            steps: None,
            guidance_scale: None,
            scheduler: None,
            sigmas: None,
            eta: None,
            init_image: None,
            mask: None,
            painting: None,
            strength: None,
            latents: None,
            last_latents: None,
            keep_finished: false,
            preview_steps: 0,
            file: FileOptions::default(),
        }
    }
}

impl GenerateOrder {
    /// One image of this prompt with the model's defaults.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: Some(prompt.into()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_json_with_its_pictures() {
        let order = GenerateOrder {
            scheduler: Some(SchedulerKind::Ddim),
            noise_source: Some(NoiseKind::TorchCpu),
            sigmas: Some(SigmaSpread::Karras),
            init_image: Some(SourcePicture {
                sha256: provenance::Digest::of(b"file"),
                width: 1,
                height: 1,
                rgb: vec![1, 2, 3],
                ingredient: credentials::Ingredient::without_manifest(media::Format::Png),
            }),
            ..GenerateOrder::new("a red heart")
        };
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<GenerateOrder>(&json).unwrap(), order);
    }
}
