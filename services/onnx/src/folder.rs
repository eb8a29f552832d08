//! A model folder in the diffusers ONNX layout: `model_index.json` and one folder per part.

use std::path::{Path, PathBuf};

use diffusion::{SchedulerConfig, SchedulerKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::OnnxError;
use crate::family::Family;
use crate::request::GenerateRequest;

/// Names of the folders that a pipeline may read.
pub(crate) const PART_FOLDERS: [&str; 11] = [
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    "transformer",
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

/// Steps of a request that names none, for a folder without `generation_config.json`.
pub const NUM_INFERENCE_STEPS: u32 = 25;
/// Guidance scale of a request that names none, for a folder without `generation_config.json`: the
/// usual value for Stable Diffusion.
pub const GUIDANCE_SCALE: f32 = 7.5;

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
    #[serde(default)]
    force_zeros_for_empty_prompt: Option<bool>,
    #[serde(default)]
    requires_aesthetics_score: Option<bool>,
}

/// A model folder whose index has been read.
#[derive(Debug, Clone)]
pub(crate) struct ModelFolder {
    root: PathBuf,
    index: ModelIndexParts,
}

#[derive(Debug, Clone)]
struct ModelIndexParts {
    family: Family,
    name: String,
    parts: Vec<String>,
    zeros_for_empty_prompt: bool,
    aesthetic_score: bool,
}

impl ModelFolder {
    /// Reads `model_index.json` and refuses pipelines of another kind.
    pub(crate) fn read(root: &Path) -> Result<Self, OnnxError> {
        let path = root.join("model_index.json");
        let text = read_text(&path)?;
        let index: ModelIndex = parse_json(&path, &text)?;
        let family = Family::of_class(&index.class_name).ok_or_else(|| {
            let reason = format!(
                "the class {:?} is not served; {} are",
                index.class_name,
                Family::accepted()
            );
            OnnxError::folder(&path, reason)
        })?;
        let entries: serde_json::Map<String, serde_json::Value> = parse_json(&path, &text)?;
        let parts = entries.iter().filter(|(_, value)| {
            // An absent optional part is written as [null, null].
            value.get(0).is_some_and(|library| !library.is_null())
        });
        let parts = parts.map(|(part, _)| part.clone()).collect();
        let name = index
            .name_or_path
            .as_deref()
            .and_then(|name| name.rsplit('/').next())
            .filter(|name| !name.is_empty())
            .map_or_else(|| folder_name(root), str::to_owned);
        Ok(Self {
            root: root.to_owned(),
            index: ModelIndexParts {
                family,
                name,
                parts,
                zeros_for_empty_prompt: index.force_zeros_for_empty_prompt.unwrap_or(false),
                aesthetic_score: index.requires_aesthetics_score.unwrap_or(false),
            },
        })
    }

    /// The family of the pipeline.
    pub(crate) fn family(&self) -> Family {
        self.index.family
    }

    /// Whether `model_index.json` lists a part.
    pub(crate) fn lists(&self, part: &str) -> bool {
        self.index.parts.iter().any(|listed| listed == part)
    }

    /// Whether zeros stand for the negative prompt where a request has none.
    pub(crate) fn zeros_for_empty_prompt(&self) -> bool {
        self.index.zeros_for_empty_prompt
    }

    /// Whether the model is told how beautiful a picture should be (the refiner of Stable
    /// Diffusion XL).
    pub(crate) fn wants_aesthetic_score(&self) -> bool {
        self.index.aesthetic_score
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The name that the model goes by in entries.
    pub(crate) fn name(&self) -> &str {
        &self.index.name
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
