//! The answer to a request for images.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnx::Usage;
use provenance::Entry;
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::wire::{EntryBody, ProvenanceBody};
use crate::work::{GenerateAnswer, RecordedPicture};

/// The answer, in the shape of OpenAI's images interface with provenance beside each image.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct GenerationResponse {
    /// The request's id, as the entries state it.
    id: String,
    /// Seconds since 1970 UTC.
    created: u64,
    /// Name of the model.
    model: String,
    /// `png`, `jpeg` or `webp`.
    output_format: String,
    /// `WIDTHxHEIGHT`.
    size: String,
    /// `opaque`: pictures have no transparency.
    background: String,
    /// The images.
    data: Vec<GeneratedImage>,
    /// What the caller should know: a prompt that was cut, for example.
    warnings: Vec<String>,
    /// How much was read and made; left out when the answer was given before.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody>,
    /// Where the time went; left out when the answer was given before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    timings_ms: Option<onnx::Timings>,
}

/// One image with its provenance.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct GeneratedImage {
    /// The file in base64, unless an address was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) b64_json: Option<String>,
    /// The address of the file, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The seed of its noise.
    seed: u64,
    /// The image's digests and size, as the entry states them.
    pub(super) image: ImageBody,
    /// Entry, proof and checkpoint.
    provenance: ProvenanceBody,
}

/// An image's digests and size.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct ImageBody {
    /// SHA-256 of the file.
    sha256: String,
    /// SHA-256 of the pixels, with a domain string and the size before them.
    pixel_sha256: String,
    /// Width in pixels.
    width: u32,
    /// Height in pixels.
    height: u32,
    /// Media type of the file.
    media_type: String,
}

impl From<&provenance::RecordedImage> for ImageBody {
    fn from(image: &provenance::RecordedImage) -> Self {
        Self {
            sha256: image.sha256.to_string(),
            pixel_sha256: image.pixel_sha256.to_string(),
            width: image.width,
            height: image.height,
            media_type: image.media_type.clone(),
        }
    }
}

impl ImageBody {
    /// `WIDTHxHEIGHT`.
    pub(super) fn size(&self) -> String {
        format!("{}x{}", self.width, self.height)
    }

    /// The word for the format in OpenAI's interface.
    pub(super) fn output_format(&self) -> &str {
        let (_, format) = self.media_type.split_once('/').unwrap_or_default();
        format
    }
}

impl GeneratedImage {
    /// The image itself, or its address below `base`.
    pub(in crate::routes) fn new(picture: RecordedPicture, base: Option<&str>) -> Self {
        let image = ImageBody::from(&picture.entry.image);
        let seed = picture.entry.seed;
        let entry = Entry::Generation(picture.entry);
        let entry = EntryBody::new(picture.leaf_index, &picture.leaf_hash, &entry);
        let path = entry.image_url.as_deref().unwrap_or_default();
        Self {
            b64_json: base.is_none().then(|| STANDARD.encode(&picture.file)),
            url: base.map(|base| format!("{base}{path}")),
            seed,
            image,
            provenance: ProvenanceBody::new(entry, &picture.bundle),
        }
    }
}

impl GenerationResponse {
    /// The answer with the images themselves, or with addresses below `base`.
    pub(in crate::routes) fn new(answer: GenerateAnswer, base: Option<&str>) -> Self {
        let warnings = warnings(&answer);
        let model = answer.images.first().map(|image| &image.entry.model.name);
        let model = model.cloned().unwrap_or_default();
        let data: Vec<GeneratedImage> = answer
            .images
            .into_iter()
            .map(|image| GeneratedImage::new(image, base))
            .collect();
        let images = data.len() as u64;
        let first = data.first().map(|first| &first.image);
        Self {
            id: answer.request_id,
            created: answer.created_at_ms / 1_000,
            model,
            output_format: first.map_or_else(String::new, |image| image.output_format().to_owned()),
            size: first.map_or_else(String::new, ImageBody::size),
            background: "opaque".to_owned(),
            warnings,
            usage: answer.usage.map(|usage| UsageBody::new(usage, images)),
            timings_ms: answer.timings,
            data,
        }
    }
}

/// What OpenAI's clients expect, in the units of the model's own networks: nothing is charged by tokens here.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct UsageBody {
    /// The sum of the details.
    input_tokens: u64,
    /// What was read.
    input_tokens_details: InputTokensBody,
    /// Positions of the latents of the images, height times width of each.
    output_tokens: u64,
    /// Both together.
    total_tokens: u64,
}

/// What a model read.
#[derive(Debug, Serialize, ToSchema)]
struct InputTokensBody {
    /// Positions of the latents of the picture to start from; 0 without one.
    image_tokens: u64,
    /// Tokens of the prompt and, under guidance, of the negative prompt that the first text encoder read.
    text_tokens: u64,
}

impl UsageBody {
    /// Of so many images of a request.
    pub(super) fn new(usage: Usage, images: u64) -> Self {
        let input_tokens = usage.source_positions + usage.prompt_tokens;
        let output_tokens = images * usage.image_positions;
        Self {
            input_tokens,
            input_tokens_details: InputTokensBody {
                image_tokens: usage.source_positions,
                text_tokens: usage.prompt_tokens,
            },
            output_tokens,
            total_tokens: input_tokens + output_tokens,
        }
    }
}

/// What the caller should know.
pub(in crate::routes) fn warnings(answer: &GenerateAnswer) -> Vec<String> {
    let cut = answer.truncated_prompt.iter().map(|cut| {
        format!(
            "the prompt has {} tokens, the model takes {}: it did not see {:?}",
            cut.tokens, cut.tokens_max, cut.dropped
        )
    });
    cut.collect()
}
