//! What an entry states about a generated image.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::bodies::{Body1, Body2, Body3};
use super::{MODEL_PARTS_MAX, check_text, check_text_within, invalid};
use crate::{Decimal, Digest, ProvenanceError};

/// Most further settings of one entry.
pub const SETTINGS_MAX: usize = 32;
/// Longest value of a further setting: a list of some hundred timesteps.
pub const SETTING_BYTES_MAX: usize = 4_096;
/// Most pictures that a generation may start from.
pub const SOURCES_MAX: usize = 8;

/// What [`GenerationDetails::watermark`] begins with where the starting noise carries a mark; its id follows, ten
/// lower-case hexadecimal digits.
pub const NOISE_WATERMARK: &str = "noise-v1:";
/// Hexadecimal digits of an id.
const WATERMARK_DIGITS: usize = 10;

/// States that an image was generated here, by which model and with which settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationEntry {
    /// Identifies the request; images of one request share it.
    pub request_id: String,
    /// The zero-based place of the image in its request.
    pub image_index: u32,
    /// Milliseconds since 1970-01-01 UTC. A claim of the service, not a proof of time.
    pub created_at_ms: u64,
    /// The client that asked for it.
    pub client: String,
    /// The image handed out.
    pub image: RecordedImage,
    /// The model that made it.
    pub model: RecordedModel,
    /// The scheduler's name.
    pub scheduler: String,
    /// The number of inference steps.
    pub steps: u32,
    /// The seed of the image's noise. Where the caller brought the initial latents, it is the seed of
    /// the noise that the steps add.
    pub seed: u64,
    /// What versions 2 and 3 state besides; none in an entry of version 1.
    pub details: Option<GenerationDetails>,
    /// The weight of classifier-free guidance.
    pub guidance_scale: Decimal,
    /// [`crate::commit`] to the prompt; salt and prompt are kept elsewhere and can be erased.
    pub prompt_commitment: Digest,
}

/// What version 2 of a [`GenerationEntry`] states besides: all else that changes pixels. Version 3 adds
/// the perceptual hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationDetails {
    /// What the initial noise was drawn from.
    pub noise_source: RecordedNoise,
    /// SHA-256 of the initial latents where the caller brought them: their dimensions (batch 1,
    /// channels, height, width) as four big-endian `u32`s, then the values as little-endian `f32`s,
    /// row by row.
    pub initial_latents_sha256: Option<Digest>,
    /// What was asked of the model.
    pub task: RecordedTask,
    /// How much of a source picture was replaced, 0 to 1; none without one.
    pub strength: Option<Decimal>,
    /// [`crate::commit`] to the SHA-256 of each picture that the generation started from, the initial
    /// image first, then the mask.
    pub sources: Vec<Digest>,
    /// The mark in the initial noise, see [`NOISE_WATERMARK`]; `none` without one.
    pub watermark: String,
    /// Every other setting that changes pixels, such as `timesteps`, `eta` or `class_label`.
    pub settings: BTreeMap<String, String>,
    /// What finds changed copies of the image; none in an entry of version 2.
    pub perceptual_hash: Option<RecordedPerceptualHash>,
}

/// A perceptual hash of a generated image: copies that were re-compressed or reduced have a similar one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedPerceptualHash {
    /// How it was computed.
    pub algorithm: PerceptualAlgorithm,
    /// Its 256 bits, as the algorithm's reference implementation prints them.
    pub hash: Digest,
    /// How much structure the image has, 0 to 100: hashes of images with little are shared by many.
    pub quality: u8,
}

/// An algorithm of perceptual hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PerceptualAlgorithm {
    /// PDQ, 256 bits.
    #[serde(rename = "pdq")]
    Pdq,
}

/// What the initial noise of an image was drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedNoise {
    /// The service's own stream: ChaCha20 under the seed.
    #[serde(rename = "chacha20")]
    ChaCha20,
    /// The stream of PyTorch's generator for processors.
    TorchCpu,
    /// The stream of PyTorch's generator for CUDA.
    TorchCuda,
    /// No stream: the caller brought the initial latents.
    Latents,
}

/// What was asked of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedTask {
    /// A picture of a prompt.
    TextToImage,
    /// A picture of a prompt that starts from another picture.
    ImageToImage,
    /// A picture whose masked part alone is made anew.
    Inpainting,
    /// A picture like another one, without a prompt.
    Variation,
    /// A picture of whatever the model was trained on.
    Unconditional,
    /// A picture of one of the model's classes.
    ClassConditional,
}

impl RecordedNoise {
    /// The name, as the canonical bytes spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChaCha20 => "chacha20",
            Self::TorchCpu => "torch-cpu",
            Self::TorchCuda => "torch-cuda",
            Self::Latents => "latents",
        }
    }
}

impl RecordedTask {
    /// The name, as the canonical bytes spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextToImage => "text-to-image",
            Self::ImageToImage => "image-to-image",
            Self::Inpainting => "inpainting",
            Self::Variation => "variation",
            Self::Unconditional => "unconditional",
            Self::ClassConditional => "class-conditional",
        }
    }

    /// How many pictures it starts from.
    pub fn sources(self) -> usize {
        match self {
            Self::TextToImage | Self::Unconditional | Self::ClassConditional => 0,
            Self::ImageToImage | Self::Variation => 1,
            Self::Inpainting => 2,
        }
    }
}

impl fmt::Display for RecordedNoise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for RecordedTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The image of a [`GenerationEntry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedImage {
    /// The digest of the file's bytes.
    pub sha256: Digest,
    /// The digest of the decoded pixels, which survives re-encoding without loss.
    pub pixel_sha256: Digest,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The file's media type, such as `image/png`.
    pub media_type: String,
}

/// The model of a [`GenerationEntry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedModel {
    /// The model's name.
    pub name: String,
    /// One digest over all parts.
    pub digest: Digest,
    /// The digest of each file, by its path inside the model's folder.
    pub parts: BTreeMap<String, Digest>,
}

impl GenerationEntry {
    /// The version of the canonical bytes.
    pub fn version(&self) -> u64 {
        match &self.details {
            None => 1,
            Some(details) if details.perceptual_hash.is_none() => 2,
            Some(_) => 3,
        }
    }

    pub(super) fn check_fields(&self) -> Result<(), ProvenanceError> {
        check_text("request_id", &self.request_id)?;
        check_text("media_type", &self.image.media_type)?;
        check_text("scheduler", &self.scheduler)?;
        check_text("model.name", &self.model.name)?;
        if self.image.width == 0 || self.image.height == 0 {
            return Err(invalid("image", "width and height must be at least 1"));
        }
        if self.model.parts.is_empty() || self.model.parts.len() > MODEL_PARTS_MAX {
            let detail = format!("a model has 1 to {MODEL_PARTS_MAX} parts");
            return Err(invalid("model.parts", detail));
        }
        for path in self.model.parts.keys() {
            check_text("model.parts", path)?;
        }
        self.details
            .as_ref()
            .map_or(Ok(()), GenerationDetails::check_fields)
    }
}

impl GenerationDetails {
    /// The id of the mark in the starting noise, as a number below 2^40; none where there is no mark, or one
    /// of a kind that is not known here.
    pub fn watermark_id(&self) -> Option<u64> {
        let digits = self.watermark.strip_prefix(NOISE_WATERMARK)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_id = digits.len() == WATERMARK_DIGITS && digits.bytes().all(is_digit);
        u64::from_str_radix(digits, 16).ok().filter(|_| is_id)
    }

    fn check_fields(&self) -> Result<(), ProvenanceError> {
        let own_latents = self.noise_source == RecordedNoise::Latents;
        if own_latents != self.initial_latents_sha256.is_some() {
            let detail = "it belongs to the noise source latents, and to no other";
            return Err(invalid("initial_latents_sha256", detail));
        }
        if self.sources.len() > SOURCES_MAX {
            let detail = format!("a generation has at most {SOURCES_MAX} sources");
            return Err(invalid("sources", detail));
        }
        let (task, sources) = (self.task, self.task.sources());
        if self.sources.len() != sources {
            let detail = format!("the task {task} starts from {sources} pictures");
            return Err(invalid("sources", detail));
        }
        match &self.strength {
            Some(_) if sources == 0 => {
                return Err(invalid("strength", "the task starts from no picture"));
            }
            Some(strength) if !(0.0..=1.0).contains(&strength.to_f32()) => {
                return Err(invalid("strength", "it lies outside 0 to 1"));
            }
            _ => {}
        }
        if self.perceptual_hash.is_some_and(|hash| hash.quality > 100) {
            return Err(invalid(
                "perceptual_hash",
                "its quality lies outside 0 to 100",
            ));
        }
        check_text("watermark", &self.watermark)?;
        if self.settings.len() > SETTINGS_MAX {
            let detail = format!("at most {SETTINGS_MAX} settings are allowed");
            return Err(invalid("settings", detail));
        }
        for (name, value) in &self.settings {
            check_text("settings", name)?;
            check_text_within("settings", value, SETTING_BYTES_MAX)?;
        }
        Ok(())
    }
}

/// As the canonical bytes of its version spell the body.
impl Serialize for GenerationEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self.clone();
        match entry.details.clone() {
            None => Body1::from(entry).serialize(serializer),
            Some(details) => match details.perceptual_hash {
                None => Body2::new(entry, details).serialize(serializer),
                Some(hash) => Body3::new(entry, details, hash).serialize(serializer),
            },
        }
    }
}
