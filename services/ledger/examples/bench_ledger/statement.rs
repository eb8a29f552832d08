//! The entries of the benchmark: generations by a model of as many files as the built-in generator has, with
//! a perceptual hash and a watermark each, as the service records them.

use std::collections::BTreeMap;

use ledger::PromptSecret;
use provenance::{
    Decimal, Digest, Entry, GenerationDetails, GenerationEntry, NOISE_WATERMARK,
    PerceptualAlgorithm, RecordedImage, RecordedModel, RecordedNoise, RecordedPerceptualHash,
    RecordedTask, commit,
};

use crate::Failure;

const PROMPT: &str = "a red heart";
const MODEL_PARTS: usize = 12;
/// Clients share the log unevenly: every hundredth entry is of the second.
const CLIENTS: [&str; 2] = ["bench", "seldom"];

/// The entry of this number and what opens its commitment.
pub fn numbered(number: u64) -> Result<(Entry, PromptSecret), Failure> {
    let mut salt = [0; 32];
    salt[..8].copy_from_slice(&number.to_be_bytes());
    let request_id = format!("request-{number}");
    let part = |number: usize| {
        let name = format!("part/{number}.onnx");
        let digest = Digest::of(name.as_bytes());
        (name, digest)
    };
    let entry = GenerationEntry {
        image_index: 0,
        created_at_ms: 1_700_000_000_000 + number,
        client: CLIENTS[usize::from(number % 100 == 99)].to_owned(),
        image: RecordedImage {
            sha256: Digest::of(request_id.as_bytes()),
            pixel_sha256: Digest::of(&salt),
            width: 64,
            height: 64,
            media_type: "image/png".to_owned(),
        },
        model: RecordedModel {
            name: "emoji".to_owned(),
            digest: Digest::of(b"model"),
            parts: (0..MODEL_PARTS).map(part).collect(),
        },
        scheduler: "ddim".to_owned(),
        steps: 20,
        seed: number,
        details: Some(details(number, Digest::of(&salt))),
        guidance_scale: Decimal::from_f32(3.5)?,
        prompt_commitment: commit(&salt, PROMPT.as_bytes()),
        request_id,
    };
    let prompt = PROMPT.to_owned();
    Ok((Entry::Generation(entry), PromptSecret { salt, prompt }))
}

fn details(number: u64, hash: Digest) -> GenerationDetails {
    GenerationDetails {
        noise_source: RecordedNoise::ChaCha20,
        initial_latents_sha256: None,
        task: RecordedTask::TextToImage,
        strength: None,
        sources: Vec::new(),
        watermark: format!("{NOISE_WATERMARK}{number:010x}"),
        settings: BTreeMap::new(),
        perceptual_hash: Some(RecordedPerceptualHash {
            algorithm: PerceptualAlgorithm::Pdq,
            hash,
            quality: 100,
        }),
    }
}
