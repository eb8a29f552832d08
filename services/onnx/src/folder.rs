//! A model folder in the diffusers ONNX layout: `model_index.json` and one folder per part.

use std::path::{Path, PathBuf};

use diffusion::{SchedulerConfig, SchedulerKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::OnnxError;
use crate::request::GenerateRequest;

/// Names of the folders that a pipeline may read.
pub(crate) const PART_FOLDERS: [&str; 6] = [
    "scheduler",
    "text_encoder",
    "tokenizer",
    "unet",
    "vae_decoder",
    "vae_encoder",
];
/// Names of the single files that a pipeline may read.
pub(crate) const SINGLE_FILES: [&str; 3] = [
    "model_index.json",
    "generation_config.json",
    "inversion.json",
];
/// Parts that belong to pipelines of another kind.
const FOREIGN_PARTS: [&str; 4] = ["transformer", "text_encoder_2", "text_encoder_3", "vqvae"];
/// Pipelines that make images without a prompt.
const UNCONDITIONAL_CLASSES: [&str; 2] = ["DDPMPipeline", "DDIMPipeline"];

/// Steps of a request that names none, for a folder without `generation_config.json`.
pub const NUM_INFERENCE_STEPS: u32 = 25;
/// Guidance scale of a request that names none, for a folder without `generation_config.json`: the
/// usual value for Stable Diffusion.
pub const GUIDANCE_SCALE: f32 = 7.5;

/// Scaling of the latents where `vae_decoder/config.json` has none: that of Stable Diffusion 1.
const SCALING_FACTOR: f32 = 0.18215;

/// What a request gets when it names no value; from `generation_config.json` of the model folder,
/// or the constants of this module. Keys that are not known are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct GenerationDefaults {
    /// Number of denoising steps.
    pub num_inference_steps: u32,
    /// Guidance scale.
    pub guidance_scale: f32,
    /// The scheduler, where it is another than that of `scheduler_config.json`.
    pub scheduler: Option<SchedulerKind>,
    /// Explicit timesteps, as many as `num_inference_steps`.
    pub timesteps: Option<Vec<f64>>,
    /// The guided part of the loop, see [`GenerateRequest::guidance_interval`].
    pub guidance_interval: Option<(f64, f64)>,
    /// Model evaluations that are skipped, see [`GenerateRequest::reuse`].
    pub reuse: Vec<usize>,
}

impl Default for GenerationDefaults {
    fn default() -> Self {
        Self {
            num_inference_steps: NUM_INFERENCE_STEPS,
            guidance_scale: GUIDANCE_SCALE,
            scheduler: None,
            timesteps: None,
            guidance_interval: None,
            reuse: Vec::new(),
        }
    }
}

impl GenerationDefaults {
    /// A request with the model's own settings, without prompt and seeds. Timesteps, interval and
    /// reuse were chosen for these steps and this scheduler: whoever changes one of the two
    /// clears them.
    pub fn request(&self) -> GenerateRequest {
        GenerateRequest {
            steps: self.num_inference_steps,
            guidance_scale: self.guidance_scale,
            scheduler: self.scheduler,
            timesteps: self.timesteps.clone(),
            guidance_interval: self.guidance_interval,
            reuse: self.reuse.clone(),
            ..GenerateRequest::default()
        }
    }
}

#[derive(Debug, Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class_name: String,
    #[serde(rename = "_name_or_path", default)]
    name_or_path: Option<String>,
}

/// One number for both sides, or one for each.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum SampleSize {
    Square(usize),
    Sides([usize; 2]),
}

/// What the pipeline needs of `unet/config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UnetConfig {
    #[serde(default)]
    in_channels: Option<usize>,
    #[serde(default)]
    sample_size: Option<SampleSize>,
}

impl UnetConfig {
    /// Channels of the sample.
    pub(crate) fn channels(&self) -> Option<usize> {
        self.in_channels
    }

    /// Height and width of the sample.
    pub(crate) fn sides(&self) -> Option<(usize, usize)> {
        self.sample_size.map(|size| match size {
            SampleSize::Square(side) => (side, side),
            SampleSize::Sides([height, width]) => (height, width),
        })
    }
}

/// What the pipeline needs of `vae_decoder/config.json` and `vae_encoder/config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct VaeConfig {
    /// Latents are multiplied by this after encoding.
    #[serde(default)]
    scaling_factor: Option<f32>,
    /// Latents are lowered by this before scaling.
    #[serde(default)]
    shift_factor: Option<f32>,
}

impl VaeConfig {
    pub(crate) fn scaling_factor(self) -> f32 {
        self.scaling_factor.unwrap_or(SCALING_FACTOR)
    }

    pub(crate) fn shift_factor(self) -> f32 {
        self.shift_factor.unwrap_or(0.0)
    }
}

/// What the pipeline needs of `text_encoder/config.json`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct TextEncoderConfig {
    /// Longest token sequence the encoder takes.
    #[serde(default)]
    pub(crate) max_position_embeddings: Option<usize>,
}

/// A model folder whose index has been read.
#[derive(Debug, Clone)]
pub(crate) struct ModelFolder {
    root: PathBuf,
    index: ModelIndexParts,
}

#[derive(Debug, Clone)]
struct ModelIndexParts {
    class_name: String,
    name: String,
}

impl ModelFolder {
    /// Reads `model_index.json` and refuses pipelines of another kind.
    pub(crate) fn read(root: &Path) -> Result<Self, OnnxError> {
        let path = root.join("model_index.json");
        let text = read_text(&path)?;
        let index: ModelIndex = parse_json(&path, &text)?;
        let entries: serde_json::Map<String, serde_json::Value> = parse_json(&path, &text)?;
        let foreign = FOREIGN_PARTS.iter().find(|part| {
            // An absent optional part is written as [null, null].
            let listed = entries.get(**part).and_then(|value| value.get(0));
            listed.is_some_and(|library| !library.is_null())
        });
        if let Some(part) = foreign {
            return Err(OnnxError::folder(
                &path,
                format!("the part {part:?} belongs to a pipeline that is not supported"),
            ));
        }
        let name = index
            .name_or_path
            .as_deref()
            .and_then(|name| name.rsplit('/').next())
            .filter(|name| !name.is_empty())
            .map_or_else(|| folder_name(root), str::to_owned);
        Ok(Self {
            root: root.to_owned(),
            index: ModelIndexParts {
                class_name: index.class_name,
                name,
            },
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The name that the model goes by in entries.
    pub(crate) fn name(&self) -> &str {
        &self.index.name
    }

    /// Whether the pipeline takes no prompt.
    pub(crate) fn is_unconditional(&self) -> bool {
        UNCONDITIONAL_CLASSES.contains(&self.index.class_name.as_str())
    }

    /// The model file of a part.
    pub(crate) fn model_path(&self, part: &str) -> PathBuf {
        self.root.join(part).join("model.onnx")
    }

    /// Whether a part has a model file.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.model_path(part).is_file()
    }

    /// The configuration of a part.
    pub(crate) fn part_config<T: DeserializeOwned>(&self, part: &str) -> Result<T, OnnxError> {
        let path = self.root.join(part).join("config.json");
        parse_json(&path, &read_text(&path)?)
    }

    /// A single file at the top of the folder, if it is there.
    pub(crate) fn optional_file<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, OnnxError> {
        let path = self.root.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        parse_json(&path, &read_text(&path)?).map(Some)
    }

    /// The scheduler configuration.
    pub(crate) fn scheduler_config(&self) -> Result<SchedulerConfig, OnnxError> {
        let path = self.root.join("scheduler").join("scheduler_config.json");
        SchedulerConfig::parse(&read_text(&path)?)
            .map_err(|error| OnnxError::folder(&path, error.to_string()))
    }
}

fn folder_name(root: &Path) -> String {
    let absolute = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    absolute.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

pub(crate) fn read_text(path: &Path) -> Result<String, OnnxError> {
    std::fs::read_to_string(path).map_err(|error| OnnxError::from_io(path, &error))
}

pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, OnnxError> {
    serde_json::from_str(text).map_err(|error| OnnxError::folder(path, error.to_string()))
}
