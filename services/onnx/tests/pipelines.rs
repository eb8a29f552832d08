//! Small pipelines with random weights against the reference implementation, and what a generator
//! promises about its answers. Fixtures and the script that writes them lie in
//! `tests/golden/pipelines`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::ops::ControlFlow;
use std::path::Path;

use diffusion::SchedulerKind;
use ndarray::{Array4, Axis, concatenate};
use onnx::{GenerateRequest, Generation, InvertRequest, OnnxError, Picture};
use serde::Deserialize;
use support::{fixture, go_on, open, request, runtime, scratch_copy};

/// Largest accepted difference of a value in 0..1 (pixels) or of a latent, relative above 1.
const TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Expected {
    prompt: String,
    negative_prompt: String,
    steps: u32,
    guidance_scale: f32,
    shape: [usize; 4],
    latents: Vec<f32>,
    runs: std::collections::BTreeMap<String, Vec<ExpectedImage>>,
    inversion: Option<ExpectedInversion>,
    long_prompt: Option<LongPrompt>,
}

#[derive(Deserialize)]
struct ExpectedImage {
    latents: Vec<f32>,
    pixels: Vec<f32>,
}

#[derive(Deserialize)]
struct ExpectedInversion {
    rgb: Vec<u8>,
    latents: Vec<f32>,
    noise: Vec<f32>,
    reconstructed_latents: Vec<f32>,
}

#[derive(Deserialize)]
struct LongPrompt {
    prompt: String,
    tokens: usize,
}

fn expected(name: &str) -> Expected {
    let path = fixture("expected").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn assert_near<'a>(what: &str, found: impl IntoIterator<Item = &'a f32>, expected: &[f32]) {
    let found: Vec<f32> = found.into_iter().copied().collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        let limit = TOLERANCE * expected.abs().max(1.0);
        assert!(difference <= limit, "{what}: {found} instead of {expected}");
    }
}

/// `pixels` are planes of values in 0..1; 8-bit samples may be off by their rounding.
fn assert_picture(what: &str, rgb: &[u8], pixels: &[f32]) {
    assert_eq!(rgb.len(), pixels.len(), "{what}");
    let area = rgb.len() / 3;
    for (index, &found) in rgb.iter().enumerate() {
        let expected = pixels[(index % 3) * area + index / 3] * 255.0;
        let limit = 0.5 + TOLERANCE * 255.0;
        let difference = (f32::from(found) - expected).abs();
        assert!(difference <= limit, "{what}: {found} instead of {expected}");
    }
}

#[test]
fn every_pipeline_makes_the_images_of_the_reference_from_given_latents() {
    for name in ["conditional", "clip", "unconditional"] {
        let expected = expected(name);
        let mut generator = open(&fixture(name));
        let latents = Array4::from_shape_vec(expected.shape, expected.latents.clone()).unwrap();
        for (scheduler, images) in &expected.runs {
            let prompted = generator.takes_prompt();
            let request = GenerateRequest {
                prompt: prompted.then(|| expected.prompt.clone()),
                negative_prompt: prompted.then(|| expected.negative_prompt.clone()),
                seeds: Vec::new(),
                steps: expected.steps,
                scheduler: Some(scheduler.parse().unwrap()),
                guidance_scale: expected.guidance_scale,
                latents: Some(latents.clone()),
                ..GenerateRequest::default()
            };
            let found = generator.generate(&request, &mut go_on).unwrap();
            assert_eq!(found.images.len(), images.len());
            for (index, image) in images.iter().enumerate() {
                let what = format!("{name}, {scheduler}, image {index}");
                let last = found.latents.index_axis(Axis(0), index);
                assert_near(&what, last.iter(), &image.latents);
                assert_picture(&what, &found.images[index].rgb, &image.pixels);
                assert_eq!(found.images[index].seed, None);
            }
        }
    }
}

#[test]
fn inversion_and_reconstruction_follow_the_reference() {
    let expected = expected("conditional");
    let inversion = expected.inversion.unwrap();
    let picture = Picture {
        width: 16,
        height: 16,
        rgb: inversion.rgb,
    };
    let request = InvertRequest {
        picture: &picture,
        steps: Some(expected.steps),
        preview_steps: 3,
    };
    let mut reports = Vec::new();
    let found = open(&fixture("conditional"))
        .invert(&request, &mut |done, all| {
            reports.push((done, all));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_near("latents", &found.latents, &inversion.latents);
    assert_near("noise", found.trace.noise(), &inversion.noise);
    let back = &found.reconstructed_latents;
    assert_near("reconstruction", back, &inversion.reconstructed_latents);
    assert_eq!(found.trace.steps.len(), 6);
    assert_eq!(found.strip.len(), 3);
    assert!(!found.resized);
    assert_eq!(reports.len(), 12);
    assert_eq!(reports[11], (12, 12));
    assert_eq!(found.statistics.len(), onnx::inversion::STATISTICS.len());
    assert!(found.statistics.values().all(|value| value.is_finite()));
}

#[test]
fn a_rule_in_the_model_folder_gives_a_verdict() {
    let folder = scratch_copy("conditional");
    let rule = r#"{"version": 1, "inversion_steps": 6, "note": "ignored", "intercept": 0.25,
        "statistics": ["noise_log_mean_square", "reconstruction_log_mse"],
        "coefficients": [2.0, -1.0], "threshold_probability": 0.5}"#;
    std::fs::write(folder.path().join("inversion.json"), rule).unwrap();
    let picture = Picture {
        width: 31,
        height: 9,
        rgb: (0..31 * 9 * 3).map(|value| (value % 251) as u8).collect(),
    };
    let request = InvertRequest {
        picture: &picture,
        steps: None,
        preview_steps: 0,
    };
    let mut generator = open(folder.path());
    let found = generator.invert(&request, &mut support::on).unwrap();
    let verdict = found.verdict.unwrap();
    let statistic = |name: &str| found.statistics[name];
    let logit =
        0.25 + 2.0 * statistic("noise_log_mean_square") - statistic("reconstruction_log_mse");
    assert!((verdict.value - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-12);
    assert_eq!(verdict.made_by_this_model, logit > 0.0);
    assert!(found.resized);
    let (width, height) = (found.reconstruction.width, found.reconstruction.height);
    assert_eq!((width, height), (16, 16));
    let other_steps = InvertRequest {
        steps: Some(5),
        ..request
    };
    let found = generator.invert(&other_steps, &mut support::on).unwrap();
    assert_eq!(found.verdict, None);
}

/// The bits of everything that a generation hands out.
fn bits(generation: &Generation, index: usize) -> (Vec<u8>, Vec<u32>) {
    let latents = generation.latents.index_axis(Axis(0), index);
    (
        generation.images[index].rgb.clone(),
        latents.iter().map(|value| value.to_bits()).collect(),
    )
}

#[test]
fn the_same_seed_gives_the_same_bits_alone_in_a_batch_with_any_threads_and_after_reopening() {
    let folder = fixture("conditional");
    let first = open(&folder).generate(&request(&[5]), &mut go_on).unwrap();
    let expected = bits(&first, 0);
    let mut generator = open(&folder);
    let batch = generator
        .generate(&request(&[4, 5, 6]), &mut go_on)
        .unwrap();
    assert_eq!(bits(&batch, 1), expected);
    assert_ne!(bits(&batch, 0), expected);
    let again = generator.generate(&request(&[5]), &mut go_on).unwrap();
    assert_eq!(bits(&again, 0), expected);
    for threads in 1..=4 {
        let mut other = onnx::Generator::open(&support::runtime_with(threads), &folder).unwrap();
        let found = other.generate(&request(&[5]), &mut go_on).unwrap();
        assert_eq!(bits(&found, 0), expected, "{threads} threads");
    }
    let previewed = GenerateRequest {
        preview_steps: 3,
        ..request(&[5])
    };
    let found = generator.generate(&previewed, &mut go_on).unwrap();
    assert_eq!(bits(&found, 0), expected);
}

#[test]
fn the_built_in_generator_gives_the_same_bits_alone_in_a_batch_and_with_any_threads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/generator");
    let request = |seeds: &[u64]| GenerateRequest {
        prompt: Some("a red heart".to_owned()),
        steps: 3,
        ..request(seeds)
    };
    let mut generator = open(&folder);
    let batch = generator.generate(&request(&[8, 9]), &mut go_on).unwrap();
    let alone = generator.generate(&request(&[9]), &mut go_on).unwrap();
    assert_eq!(bits(&batch, 1), bits(&alone, 0));
    for threads in [1, 3] {
        let mut other = onnx::Generator::open(&support::runtime_with(threads), &folder).unwrap();
        let found = other.generate(&request(&[9]), &mut go_on).unwrap();
        assert_eq!(bits(&found, 0), bits(&alone, 0), "{threads} threads");
    }
}

#[test]
fn clip_tokens_are_the_same_from_either_form_of_the_tokenizer() {
    let folder = scratch_copy("clip");
    let tokenizer = folder.path().join("tokenizer");
    let text = std::fs::read_to_string(tokenizer.join("tokenizer.json")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    let model = &whole["model"];
    std::fs::write(tokenizer.join("vocab.json"), model["vocab"].to_string()).unwrap();
    let merges: Vec<String> = model["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| {
            format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            )
        })
        .collect();
    let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
    std::fs::write(tokenizer.join("merges.txt"), merges).unwrap();
    std::fs::remove_file(tokenizer.join("tokenizer.json")).unwrap();
    let request = GenerateRequest {
        prompt: Some("A  Red\tdog".to_owned()),
        ..request(&[3])
    };
    let older = open(folder.path()).generate(&request, &mut go_on).unwrap();
    let newer = open(&fixture("clip"))
        .generate(&request, &mut go_on)
        .unwrap();
    assert_eq!(bits(&older, 0), bits(&newer, 0));
}

#[test]
fn given_latents_are_used_as_they_are() {
    let mut generator = open(&fixture("conditional"));
    let noise = diffusion::seed::initial_noise(5, generator.sample_shape());
    let given = GenerateRequest {
        seeds: Vec::new(),
        latents: Some(concatenate(Axis(0), &[noise.view(), noise.view()]).unwrap()),
        ..request(&[])
    };
    // DDIM starts from unscaled noise, so that the seed's own noise gives the seed's image.
    let from_latents = generator.generate(&given, &mut go_on).unwrap();
    let from_seed = generator.generate(&request(&[5]), &mut go_on).unwrap();
    assert_eq!(bits(&from_latents, 0), bits(&from_seed, 0));
    assert_eq!(bits(&from_latents, 1), bits(&from_seed, 0));
}

#[test]
fn progress_counts_steps_and_brings_previews() {
    let mut generator = open(&fixture("conditional"));
    let mut seen = Vec::new();
    let request = GenerateRequest {
        preview_steps: 2,
        ..request(&[1, 2])
    };
    let found = generator
        .generate(&request, &mut |progress| {
            seen.push((
                progress.image_index,
                progress.step_index,
                progress.preview.is_some(),
            ));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen.len(), 12);
    assert_eq!(seen[2], (0, 2, true));
    assert_eq!(seen[11], (1, 5, true));
    assert_eq!(found.previews.len(), 4);
    assert_eq!(found.previews[0].picture.rgb.len(), 16 * 16 * 3);
    assert!(found.timings.loop_ms >= found.timings.session_ms);
    assert!(found.timings.unet_ms > 0.0);
}

#[test]
fn the_progress_callback_cancels_a_request() {
    let mut generator = open(&fixture("conditional"));
    let error = generator
        .generate(&request(&[1, 2]), &mut |progress| {
            if progress.image_index == 1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn a_prompt_that_is_too_long_is_reported_with_what_was_dropped() {
    for name in ["conditional", "clip"] {
        let long = expected(name).long_prompt.unwrap();
        let mut generator = open(&fixture(name));
        let request = GenerateRequest {
            prompt: Some(long.prompt.clone()),
            ..request(&[1])
        };
        let found = generator.generate(&request, &mut go_on).unwrap();
        let truncated = found.truncated_prompt.unwrap();
        assert_eq!(truncated.tokens, long.tokens);
        assert_eq!(truncated.tokens_max, 12);
        assert!(!truncated.dropped.is_empty());
        assert!(
            long.prompt.ends_with(&truncated.dropped),
            "{}",
            truncated.dropped
        );
    }
}

#[test]
fn defaults_come_from_the_model_folder() {
    let generator = open(&fixture("conditional"));
    assert_eq!(generator.defaults().num_inference_steps, 6);
    assert_eq!(generator.default_scheduler(), SchedulerKind::Ddim);
    let unconditional = open(&fixture("unconditional"));
    assert_eq!(
        unconditional.defaults(),
        onnx::GenerationDefaults::default()
    );
}

#[test]
fn a_loop_that_leaves_the_finite_numbers_is_refused() {
    let mut generator = open(&fixture("conditional"));
    let request = GenerateRequest {
        latents: Some(Array4::from_elem((1, 4, 8, 8), 3.0e38)),
        ..request(&[])
    };
    let error = generator.generate(&request, &mut go_on).unwrap_err();
    assert!(
        matches!(
            error,
            OnnxError::Diffusion(diffusion::DiffusionError::NotFinite { .. })
        ),
        "{error}"
    );
}

#[test]
fn an_image_of_one_colour_is_refused() {
    // A mask that keeps everything gives the picture back, which is plain grey.
    let request = GenerateRequest {
        prompt: None,
        init_image: Some(Picture {
            width: 8,
            height: 8,
            rgb: vec![127; 8 * 8 * 3],
        }),
        mask: Some(onnx::Mask {
            width: 8,
            height: 8,
            luma: vec![0; 8 * 8],
        }),
        ..request(&[1])
    };
    let error = open(&fixture("unconditional"))
        .generate(&request, &mut go_on)
        .unwrap_err();
    assert!(
        matches!(error, OnnxError::ImageConstant { image_index: 0 }),
        "{error}"
    );
}

#[test]
fn impossible_requests_are_refused_before_any_work() {
    let mut generator = open(&fixture("conditional"));
    let latents = |shape: (usize, usize, usize, usize)| Some(Array4::zeros(shape));
    let refused = [
        (
            GenerateRequest {
                steps: 0,
                ..request(&[1])
            },
            "0 inference steps",
        ),
        (
            GenerateRequest {
                steps: 1001,
                ..request(&[1])
            },
            "1001 inference steps",
        ),
        (request(&[]), "0 images"),
        (request(&[7; 257]), "257 images"),
        (
            GenerateRequest {
                prompt: None,
                ..request(&[1])
            },
            "needs a prompt",
        ),
        (
            GenerateRequest {
                guidance_scale: f32::NAN,
                ..request(&[1])
            },
            "guidance_scale NaN",
        ),
        (
            GenerateRequest {
                latents: latents((1, 3, 8, 8)),
                ..request(&[])
            },
            "latents of shape [1, 3, 8, 8]",
        ),
        (
            GenerateRequest {
                latents: latents((1, 4, 8, 8)),
                ..request(&[1])
            },
            "exclude each other",
        ),
        (
            GenerateRequest {
                scheduler: Some(SchedulerKind::DdimInverse),
                ..request(&[1])
            },
            "does not lead to an image",
        ),
    ];
    for (request, reason) in refused {
        let error = generator
            .generate(&request, &mut go_on)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
    let mut unconditional = open(&fixture("unconditional"));
    let error = unconditional
        .generate(&request(&[1]), &mut go_on)
        .unwrap_err();
    assert!(error.to_string().contains("takes no prompt"), "{error}");
}

#[test]
fn timings_and_status_belong_to_the_runtime_that_was_asked_for() {
    let status = runtime().provider_status().clone();
    assert_eq!(status.used, onnx::Provider::Cpu);
    assert_eq!(status.warning, None);
}
