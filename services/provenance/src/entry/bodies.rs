//! The bodies of generation entries, version by version, in the order of their canonical bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::generation::{
    GenerationDetails, GenerationEntry, RecordedImage, RecordedModel, RecordedNoise,
    RecordedPerceptualHash, RecordedTask,
};
use crate::encoding::u64_string;
use crate::{Decimal, Digest};

/// The body of version 1, in the order of its canonical bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body1 {
    request_id: String,
    image_index: u32,
    created_at_ms: u64,
    client: String,
    image: RecordedImage,
    model: RecordedModel,
    scheduler: String,
    steps: u32,
    #[serde(with = "u64_string")]
    seed: u64,
    guidance_scale: Decimal,
    prompt_commitment: Digest,
}

/// The body of version 2, in the order of its canonical bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body2 {
    request_id: String,
    image_index: u32,
    created_at_ms: u64,
    client: String,
    image: RecordedImage,
    model: RecordedModel,
    scheduler: String,
    steps: u32,
    #[serde(with = "u64_string")]
    seed: u64,
    noise_source: RecordedNoise,
    initial_latents_sha256: Option<Digest>,
    task: RecordedTask,
    strength: Option<Decimal>,
    sources: Vec<Digest>,
    watermark: String,
    settings: BTreeMap<String, String>,
    guidance_scale: Decimal,
    prompt_commitment: Digest,
}

/// The body of version 3, in the order of its canonical bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body3 {
    request_id: String,
    image_index: u32,
    created_at_ms: u64,
    client: String,
    image: RecordedImage,
    model: RecordedModel,
    scheduler: String,
    steps: u32,
    #[serde(with = "u64_string")]
    seed: u64,
    noise_source: RecordedNoise,
    initial_latents_sha256: Option<Digest>,
    task: RecordedTask,
    strength: Option<Decimal>,
    sources: Vec<Digest>,
    watermark: String,
    perceptual_hash: RecordedPerceptualHash,
    settings: BTreeMap<String, String>,
    guidance_scale: Decimal,
    prompt_commitment: Digest,
}

impl From<GenerationEntry> for Body1 {
    fn from(entry: GenerationEntry) -> Self {
        Self {
            request_id: entry.request_id,
            image_index: entry.image_index,
            created_at_ms: entry.created_at_ms,
            client: entry.client,
            image: entry.image,
            model: entry.model,
            scheduler: entry.scheduler,
            steps: entry.steps,
            seed: entry.seed,
            guidance_scale: entry.guidance_scale,
            prompt_commitment: entry.prompt_commitment,
        }
    }
}

impl From<Body1> for GenerationEntry {
    fn from(body: Body1) -> Self {
        Self {
            request_id: body.request_id,
            image_index: body.image_index,
            created_at_ms: body.created_at_ms,
            client: body.client,
            image: body.image,
            model: body.model,
            scheduler: body.scheduler,
            steps: body.steps,
            seed: body.seed,
            details: None,
            guidance_scale: body.guidance_scale,
            prompt_commitment: body.prompt_commitment,
        }
    }
}

impl Body2 {
    pub(super) fn new(entry: GenerationEntry, details: GenerationDetails) -> Self {
        Self {
            request_id: entry.request_id,
            image_index: entry.image_index,
            created_at_ms: entry.created_at_ms,
            client: entry.client,
            image: entry.image,
            model: entry.model,
            scheduler: entry.scheduler,
            steps: entry.steps,
            seed: entry.seed,
            noise_source: details.noise_source,
            initial_latents_sha256: details.initial_latents_sha256,
            task: details.task,
            strength: details.strength,
            sources: details.sources,
            watermark: details.watermark,
            settings: details.settings,
            guidance_scale: entry.guidance_scale,
            prompt_commitment: entry.prompt_commitment,
        }
    }
}

impl From<Body2> for GenerationEntry {
    fn from(body: Body2) -> Self {
        Self {
            request_id: body.request_id,
            image_index: body.image_index,
            created_at_ms: body.created_at_ms,
            client: body.client,
            image: body.image,
            model: body.model,
            scheduler: body.scheduler,
            steps: body.steps,
            seed: body.seed,
            details: Some(GenerationDetails {
                noise_source: body.noise_source,
                initial_latents_sha256: body.initial_latents_sha256,
                task: body.task,
                strength: body.strength,
                sources: body.sources,
                watermark: body.watermark,
                settings: body.settings,
                perceptual_hash: None,
            }),
            guidance_scale: body.guidance_scale,
            prompt_commitment: body.prompt_commitment,
        }
    }
}

impl Body3 {
    pub(super) fn new(
        entry: GenerationEntry,
        details: GenerationDetails,
        perceptual_hash: RecordedPerceptualHash,
    ) -> Self {
        Self {
            request_id: entry.request_id,
            image_index: entry.image_index,
            created_at_ms: entry.created_at_ms,
            client: entry.client,
            image: entry.image,
            model: entry.model,
            scheduler: entry.scheduler,
            steps: entry.steps,
            seed: entry.seed,
            noise_source: details.noise_source,
            initial_latents_sha256: details.initial_latents_sha256,
            task: details.task,
            strength: details.strength,
            sources: details.sources,
            watermark: details.watermark,
            perceptual_hash,
            settings: details.settings,
            guidance_scale: entry.guidance_scale,
            prompt_commitment: entry.prompt_commitment,
        }
    }
}

impl From<Body3> for GenerationEntry {
    fn from(body: Body3) -> Self {
        Self {
            request_id: body.request_id,
            image_index: body.image_index,
            created_at_ms: body.created_at_ms,
            client: body.client,
            image: body.image,
            model: body.model,
            scheduler: body.scheduler,
            steps: body.steps,
            seed: body.seed,
            details: Some(GenerationDetails {
                noise_source: body.noise_source,
                initial_latents_sha256: body.initial_latents_sha256,
                task: body.task,
                strength: body.strength,
                sources: body.sources,
                watermark: body.watermark,
                settings: body.settings,
                perceptual_hash: Some(body.perceptual_hash),
            }),
            guidance_scale: body.guidance_scale,
            prompt_commitment: body.prompt_commitment,
        }
    }
}
