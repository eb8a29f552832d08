//! One tiny pipeline of every family, exported by the reference's own exporter, against the
//! reference pipelines' images. Fixtures and the script that writes them lie in
//! `tests/golden/pipelines`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use diffusion::seed::NoiseKind;
use onnx::{GenerateRequest, Generator, Mask, Picture, Task};
use serde::Deserialize;
use support::{fixture, go_on, open};

/// Largest accepted difference of a value in 0..1.
const TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Expected {
    picture: Vec<u8>,
    mask: Vec<u8>,
    runs: Vec<Run>,
}

/// A request in Retrace's names and the reference's pixels, rows from the top, in 0..1.
#[derive(Deserialize)]
struct Run {
    prompt: Option<String>,
    negative_prompt: Option<String>,
    seed: u64,
    steps: u32,
    guidance_scale: Option<f32>,
    scheduler: Option<String>,
    size: Option<(u32, u32)>,
    strength: Option<f32>,
    eta: Option<f32>,
    class_label: Option<u32>,
    #[serde(default)]
    prompt_weights: bool,
    #[serde(default)]
    picture: bool,
    #[serde(default)]
    mask: bool,
    width: u32,
    height: u32,
    pixels: Vec<f64>,
}

fn expected(name: &str) -> Expected {
    let path = fixture("expected").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn family(name: &str) -> Generator {
    open(&fixture("families").join(name))
}

/// The sides of the picture and the mask in the expected files.
const SIDE: u32 = 16;

fn request(expected: &Expected, run: &Run) -> GenerateRequest {
    let defaults = GenerateRequest::default();
    GenerateRequest {
        prompt: run.prompt.clone(),
        negative_prompt: run.negative_prompt.clone(),
        prompt_weights: run.prompt_weights,
        class_label: run.class_label,
        seeds: vec![run.seed],
        noise: NoiseKind::TorchCpu,
        steps: run.steps,
        scheduler: run.scheduler.as_ref().map(|name| name.parse().unwrap()),
        eta: run.eta.unwrap_or(0.0),
        guidance_scale: run.guidance_scale.unwrap_or(1.0),
        size: run.size,
        init_image: run.picture.then(|| Picture {
            width: SIDE,
            height: SIDE,
            rgb: expected.picture.clone(),
        }),
        mask: run.mask.then(|| Mask {
            width: SIDE,
            height: SIDE,
            luma: expected.mask.clone(),
        }),
        strength: run.strength.unwrap_or(defaults.strength),
        ..defaults
    }
}

/// Compares every run of a family with the reference; the largest difference beyond the rounding
/// to 8 bits comes back.
fn compare(name: &str) -> f64 {
    let expected = expected(name);
    let mut generator = family(name);
    let mut worst = 0.0_f64;
    for (index, run) in expected.runs.iter().enumerate() {
        let request = request(&expected, run);
        let found = generator.generate(&request, &mut go_on).unwrap();
        let image = &found.images[0];
        assert_eq!((image.width, image.height), (run.width, run.height));
        assert_eq!(image.rgb.len(), run.pixels.len());
        let differences = image
            .rgb
            .iter()
            .zip(&run.pixels)
            .map(|(&found, &expected)| {
                ((f64::from(found) - expected * 255.0).abs() - 0.5).max(0.0) / 255.0
            });
        let largest = differences.fold(0.0, f64::max);
        println!("{name}, run {index} ({}): {largest:.6}", found.task);
        assert!(largest <= TOLERANCE, "{name}, run {index}: {largest}");
        worst = worst.max(largest);
    }
    worst
}

#[test]
fn stable_diffusion_1_makes_and_edits_pictures_as_the_reference_does() {
    compare("sd1");
}

#[test]
fn stable_diffusion_2_with_v_prediction_makes_the_pictures_of_the_reference() {
    compare("sd2");
}

#[test]
fn a_latent_consistency_model_makes_the_pictures_of_the_reference() {
    compare("lcm");
}

#[test]
fn a_turbo_model_makes_the_picture_of_the_reference_in_one_step() {
    compare("turbo");
}

#[test]
fn an_inpainting_model_with_nine_channels_paints_as_the_reference_does() {
    compare("inpaint");
}

#[test]
fn stable_diffusion_xl_makes_and_edits_pictures_as_the_reference_does() {
    compare("sdxl");
}

#[test]
fn stable_diffusion_3_makes_the_pictures_of_the_reference() {
    compare("sd3");
}

#[test]
fn flux_makes_the_pictures_of_the_reference() {
    compare("flux");
}

#[test]
fn an_unconditional_model_makes_the_pictures_of_the_reference() {
    compare("ddpm");
}

#[test]
fn a_class_conditional_model_makes_the_pictures_of_the_reference() {
    compare("classes");
}

#[test]
fn each_family_says_what_it_can_be_asked_for() {
    use Task::{ClassConditional, ImageToImage, Inpainting, TextToImage, Unconditional, Variation};
    for (name, tasks) in [
        (
            "sd1",
            vec![TextToImage, ImageToImage, Inpainting, Variation],
        ),
        (
            "flux",
            vec![TextToImage, ImageToImage, Inpainting, Variation],
        ),
        ("inpaint", vec![Inpainting]),
        ("ddpm", vec![Unconditional, Inpainting, Variation]),
        ("classes", vec![ClassConditional, Inpainting, Variation]),
    ] {
        assert_eq!(family(name).tasks(), tasks, "{name}");
    }
}
