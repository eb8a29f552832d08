//! The answer to `txt2img` and `img2img`, with what A1111 tells in `info`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use provenance::{Decimal, Entry};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::png_info::infotext_of;
use crate::routes::wire::{EntryBody, ProvenanceBody};
use crate::state::AppState;
use crate::work::infotext::{MODEL_HASH_DIGITS, NamedScheduler};
use crate::work::{GenerateAnswer, GenerateOrder, RecordedPicture};

/// An order, and what the answer repeats of its request.
pub(super) struct Wish {
    pub(super) order: GenerateOrder,
    pub(super) batch_size: u32,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct ImagesBody {
    /// The files in base64.
    pub(super) images: Vec<String>,
    /// The request's values, without pictures.
    #[schema(value_type = Object)]
    pub(super) parameters: Value,
    /// A JSON document as text, with A1111's members (`seed`, `all_seeds`, `infotexts` and so on),
    /// and `warnings`. Where a worker in another process made the images, `infotexts` are those of the
    /// files, and empty with `embed_parameters` false.
    pub(super) info: String,
    /// Entry, proof and checkpoint of each image.
    pub(super) provenance: Vec<ProvenanceBody>,
}

impl ImagesBody {
    /// The answer to a wish that was carried out.
    pub(super) fn new(
        state: &Arc<AppState>,
        wish: &Wish,
        answer: GenerateAnswer,
        started_at_ms: u64,
    ) -> Self {
        let info = info(state, wish, &answer, started_at_ms);
        let (mut images, mut provenance) = (Vec::new(), Vec::new());
        for picture in answer.images {
            images.push(STANDARD.encode(&picture.file));
            let entry = Entry::Generation(picture.entry);
            let entry = EntryBody::new(picture.leaf_index, &picture.leaf_hash, &entry);
            provenance.push(ProvenanceBody::new(entry, &picture.bundle));
        }
        Self {
            images,
            parameters: Value::Null,
            info: info.to_string(),
            provenance,
        }
    }
}

impl ImagesBody {
    /// The answer to a wish that was stopped before its first image was finished.
    pub(super) fn of_nothing(wish: &Wish, started_at_ms: u64) -> Self {
        let order = &wish.order;
        let info = json!({
            "prompt": order.prompt.as_deref().unwrap_or_default(),
            "all_prompts": [],
            "negative_prompt": order.negative_prompt.as_deref().unwrap_or_default(),
            "all_negative_prompts": [],
            "seed": order.seed.map_or(json!(-1), Value::from),
            "all_seeds": [],
            "batch_size": wish.batch_size,
            "infotexts": [],
            "job_timestamp": timestamp(started_at_ms),
            "interrupted": true,
            "warnings": [interruption(0, order.images)],
        });
        Self {
            images: Vec::new(),
            parameters: Value::Null,
            info: info.to_string(),
            provenance: Vec::new(),
        }
    }
}

/// What a client is told that stopped its own request.
fn interruption(finished: usize, images: u32) -> String {
    format!(
        "interrupted after {finished} of {images} images: what is half made is not signed and not handed out"
    )
}

/// What A1111 tells about its images. Values come from the signed entries, the prompts from the
/// request.
fn info(state: &AppState, wish: &Wish, answer: &GenerateAnswer, started_at_ms: u64) -> Value {
    let Some(RecordedPicture { entry, .. }) = answer.images.first() else {
        return json!({});
    };
    let order = &wish.order;
    let images = &answer.images;
    let prompt = order.prompt.as_deref().unwrap_or_default();
    let negative_prompt = order.negative_prompt.as_deref().unwrap_or_default();
    let seeds: Vec<u64> = images.iter().map(|image| image.entry.seed).collect();
    let named = NamedScheduler::find(&entry.scheduler);
    let scheduler_name = named.map_or(entry.scheduler.as_str(), |named| named.name);
    let details = entry.details.as_ref();
    let strength = details.and_then(|details| details.strength.as_ref());
    let settings = details.map(|details| &details.settings);
    let mut warnings = crate::routes::images::warnings(answer);
    let interrupted = images.len() < order.images as usize;
    if interrupted {
        warnings.push(interruption(images.len(), order.images));
    }
    json!({
        "prompt": prompt,
        "all_prompts": vec![prompt; images.len()],
        "negative_prompt": negative_prompt,
        "all_negative_prompts": vec![negative_prompt; images.len()],
        "seed": entry.seed,
        "all_seeds": seeds,
        "subseed": entry.seed,
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": entry.image.width,
        "height": entry.image.height,
        "sampler_name": scheduler_name,
        "cfg_scale": number(&entry.guidance_scale),
        "steps": entry.steps,
        "batch_size": wish.batch_size,
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": entry.model.name,
        "sd_model_hash": &entry.model.digest.to_string()[..MODEL_HASH_DIGITS],
        "sd_vae_name": null,
        "sd_vae_hash": null,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": strength.map(number),
        "extra_generation_params": settings,
        "index_of_first_image": 0,
        "infotexts": infotexts(state, wish, images),
        "styles": [],
        "job_timestamp": timestamp(started_at_ms),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": false,
        "version": concat!("Retrace ", env!("CARGO_PKG_VERSION")),
        "interrupted": interrupted,
        "warnings": warnings,
    })
}

/// A decimal as JSON writes it: 64 bits keep the shortest spelling of 32.
fn number(decimal: &Decimal) -> f64 {
    decimal
        .as_str()
        .parse()
        .unwrap_or(f64::from(decimal.to_f32()))
}

/// The text of each image, as its file carries it.
fn infotexts(state: &AppState, wish: &Wish, images: &[RecordedPicture]) -> Vec<String> {
    let seed = images.first().map(|image| image.entry.seed);
    let order = GenerateOrder {
        seed,
        ..wish.order.clone()
    };
    let Ok(slot) = state.engine.generator() else {
        // A worker made them, and this process has no model to write the same text with.
        return images
            .iter()
            .map(|image| infotext_in(&image.file))
            .collect();
    };
    // The order was planned before with the same values but for the seed, which every number fits.
    let Ok(plan) = order.plan(slot, &state.config.limits) else {
        return Vec::new();
    };
    let texts = images.iter().enumerate().map(|(index, image)| {
        let size = (image.entry.image.width, image.entry.image.height);
        plan.infotext(slot, (index, size))
    });
    texts.collect()
}

/// The text that a file of the service's own making carries, empty where it was made without.
fn infotext_in(file: &[u8]) -> String {
    let decoded = media::decode(file, &media::Limits::default());
    let found = decoded
        .ok()
        .and_then(|decoded| infotext_of(&decoded.metadata).map(str::to_owned));
    found.unwrap_or_default()
}

/// `YYYYMMDDhhmmss`, as A1111 writes it, in UTC.
pub(super) fn timestamp(at_ms: u64) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.unwrap_or_default().strftime("%Y%m%d%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_as_a1111_writes_them() {
        assert_eq!(timestamp(1_767_225_600_123), "20260101000000");
    }
}
