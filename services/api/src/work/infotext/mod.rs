//! Prompt and settings as one text, in the form that A1111's web interface writes into its files
//! and that many tools read: the prompt, the negative prompt, one line of settings.

mod names;
mod parse;

pub(crate) use names::{ALL as NAMED_SCHEDULERS, NamedScheduler, Schedule, schedule_of};
pub(crate) use parse::parse;

use std::fmt::Write as _;

use diffusion::SchedulerKind;
use diffusion::seed::NoiseKind;
use onnx::{ModelIdentity, SigmaSpread};

use super::MaskPainting;

/// Hexadecimal digits of a model's digest that stand for the model.
pub(crate) const MODEL_HASH_DIGITS: usize = 10;

/// The settings of one image.
pub(crate) struct Settings<'a> {
    pub(crate) steps: u32,
    pub(crate) scheduler: SchedulerKind,
    pub(crate) sigmas: Option<SigmaSpread>,
    pub(crate) guidance_scale: f32,
    pub(crate) seed: u64,
    /// Width and height.
    pub(crate) size: (u32, u32),
    pub(crate) model: &'a ModelIdentity,
    /// Set for images that start from a picture.
    pub(crate) strength: Option<f32>,
    pub(crate) noise: NoiseKind,
    pub(crate) eta: f32,
    /// How a masked part was painted.
    pub(crate) painting: Option<MaskPainting>,
}

/// The start of a model's digest, as A1111 shows it.
pub(crate) fn model_hash(model: &ModelIdentity) -> String {
    let mut digest = model.digest.to_string();
    digest.truncate(MODEL_HASH_DIGITS);
    digest
}

/// Writes the text.
pub(crate) fn write(prompt: &str, negative_prompt: &str, settings: &Settings<'_>) -> String {
    let mut text = String::new();
    if !prompt.is_empty() {
        text.push_str(prompt);
        text.push('\n');
    }
    if !negative_prompt.is_empty() {
        let _ = writeln!(text, "Negative prompt: {negative_prompt}");
    }
    let (width, height) = settings.size;
    let mut pairs = vec![
        ("Steps", settings.steps.to_string()),
        ("Sampler", names::name(settings.scheduler).to_owned()),
    ];
    if let Some(sigmas) = settings.sigmas {
        pairs.push(("Schedule type", names::label(sigmas).to_owned()));
    }
    pairs.extend([
        ("CFG scale", settings.guidance_scale.to_string()),
        ("Seed", settings.seed.to_string()),
        ("Size", format!("{width}x{height}")),
        ("Model hash", model_hash(settings.model)),
        ("Model", settings.model.name.clone()),
    ]);
    if let Some(strength) = settings.strength {
        pairs.push(("Denoising strength", strength.to_string()));
    }
    if let Some(painting) = &settings.painting {
        pairs.extend(masked(painting));
    }
    if settings.eta != 0.0 {
        pairs.push(("Eta", settings.eta.to_string()));
    }
    if settings.noise != NoiseKind::default() {
        let source = match settings.noise {
            NoiseKind::TorchCpu => "CPU",
            _ => "NV",
        };
        pairs.push(("RNG", source.to_owned()));
    }
    let version = concat!("Retrace ", env!("CARGO_PKG_VERSION"));
    pairs.push(("Version", version.to_owned()));
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", quoted(value)))
        .collect();
    text.push_str(&pairs.join(", "));
    text
}

/// How a masked part was painted, as A1111 writes it.
fn masked(painting: &MaskPainting) -> Vec<(&'static str, String)> {
    let mut pairs = vec![
        ("Mask blur", painting.blur.to_string()),
        ("Masked content", painting.content.name().to_owned()),
    ];
    if let Some(padding) = painting.padding {
        pairs.push(("Inpaint area", "Only masked".to_owned()));
        pairs.push(("Masked area padding", padding.to_string()));
    }
    pairs
}

/// A value that could be mistaken for several is written as a JSON string.
fn quoted(value: String) -> String {
    if value.contains([',', ':', '\n', '"']) {
        return serde_json::Value::String(value).to_string();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_written_is_read_again() {
        let model = ModelIdentity {
            name: "emoji, 64".to_owned(),
            digest: provenance::Digest::of(b"model"),
            parts: BTreeMap::new(),
        };
        let settings = Settings {
            steps: 20,
            scheduler: SchedulerKind::DpmSolverMultistep,
            sigmas: Some(SigmaSpread::Karras),
            guidance_scale: 7.5,
            seed: 1,
            size: (64, 48),
            model: &model,
            strength: Some(0.75),
            noise: NoiseKind::TorchCuda,
            eta: 0.0,
            painting: Some(MaskPainting {
                blur: 4.0,
                content: crate::work::MaskedContent::LatentNoise,
                padding: Some(32),
            }),
        };
        let text = write("a red heart\non white", "blue", &settings);
        let expected = "a red heart\non white\nNegative prompt: blue\nSteps: 20, Sampler: DPM++ 2M, \
                        Schedule type: Karras, CFG scale: 7.5, Seed: 1, Size: 64x48, Model hash: ";
        assert!(text.starts_with(expected), "{text}");
        let parsed = parse(&text);
        assert_eq!(parsed.prompt, "a red heart\non white");
        assert_eq!(parsed.negative_prompt, "blue");
        let value = |name: &str| {
            let mut settings = parsed.settings.iter();
            settings.find(|(key, _)| key == name).unwrap().1.clone()
        };
        assert_eq!(value("Model"), "emoji, 64");
        assert_eq!(value("Seed"), "1");
        assert_eq!(value("RNG"), "NV");
        assert_eq!(value("Masked content"), "latent noise");
        assert_eq!(value("Masked area padding"), "32");
    }
}
