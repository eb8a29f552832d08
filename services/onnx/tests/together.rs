//! Requests that are made together: each gets what it gets alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use diffusion::SchedulerKind;
use ndarray::Array4;
use onnx::{GenerateRequest, Generation, Generator, Mask, OnnxError, Picture, Progress};
use support::{fixture, go_on, open};

fn family(name: &str) -> PathBuf {
    fixture("families").join(name)
}

fn built_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/generator")
}

/// Four guided steps of a scheduler that draws fresh noise.
fn request(prompt: &str, seed: u64) -> GenerateRequest {
    GenerateRequest {
        seeds: vec![seed],
        steps: 4,
        guidance_scale: 3.0,
        scheduler: Some(SchedulerKind::EulerAncestral),
        ..GenerateRequest::new(prompt)
    }
}

fn together(
    generator: &mut Generator,
    requests: &[GenerateRequest],
) -> Vec<Result<Generation, OnnxError>> {
    generator.generate_together(requests, &mut |_, _| ControlFlow::Continue(()))
}

/// The bits of everything that a generation hands out.
fn bits(generation: &Generation) -> (Vec<Vec<u8>>, Vec<u32>) {
    let images = generation.images.iter().map(|image| image.rgb.clone());
    let latents = generation.latents.iter().map(|value| value.to_bits());
    (images.collect(), latents.collect())
}

/// Makes the requests alone and in batches of up to four, twice: the first batch of a form is
/// proven, the second one relies on that.
fn compare(folder: &Path, requests: &[GenerateRequest]) {
    let mut generator = open(folder);
    let alone: Vec<Generation> = requests
        .iter()
        .map(|request| generator.generate(request, &mut go_on).unwrap())
        .collect();
    generator.set_images_per_batch(4);
    for _ in 0..2 {
        let found = together(&mut generator, requests);
        for (place, (found, alone)) in found.into_iter().zip(&alone).enumerate() {
            let found = found.unwrap();
            let name = folder.display();
            assert_eq!(bits(&found), bits(alone), "request {place} of {name}");
            assert_eq!(found.previews, alone.previews, "request {place} of {name}");
            assert_eq!(found.truncated_prompt, alone.truncated_prompt);
        }
    }
}

#[test]
fn prompts_seeds_and_scales_that_differ_go_through_one_loop_with_the_bits_of_each_alone() {
    for folder in [family("sd1"), family("sdxl"), family("sd3"), built_in()] {
        let scheduler = (!folder.ends_with("sd3")).then_some(SchedulerKind::EulerAncestral);
        let mut requests = [
            request("a red heart", 1),
            request("a blue car with very many words in its prompt", 2),
            request("", 3),
            request("a green leaf", u64::MAX),
        ];
        for (request, scale) in requests.iter_mut().zip([1.5, 3.0, 7.5, 20.0]) {
            request.scheduler = scheduler;
            request.guidance_scale = scale;
        }
        requests[1].negative_prompt = Some("a dog".to_owned());
        requests[2].preview_steps = 3;
        compare(&folder, &requests);
    }
}

#[test]
fn a_scale_that_the_model_takes_itself_may_differ() {
    let mut requests = [request("a cat", 1), request("a cat", 1)];
    for (request, scale) in requests.iter_mut().zip([2.0, 9.0]) {
        request.scheduler = Some(SchedulerKind::Lcm);
        request.guidance_scale = scale;
    }
    compare(&family("lcm"), &requests);
}

#[test]
fn requests_with_pictures_and_masks_go_together() {
    let picture = |side: u32, factor: u32| Picture {
        width: side,
        height: side,
        rgb: (0..side * side * 3)
            .map(|value| (value * factor % 256) as u8)
            .collect(),
    };
    let with = |seed: u64, factor: u32| GenerateRequest {
        init_image: Some(picture(16, factor)),
        mask: Some(Mask {
            width: 16,
            height: 16,
            luma: (0..256_u32).map(|value| (value * factor) as u8).collect(),
        }),
        strength: 1.0,
        ..request("a red dog", seed)
    };
    // One takes the mask itself, in the other the loop puts back what it keeps.
    for name in ["inpaint", "sd1"] {
        compare(&family(name), &[with(1, 53), with(2, 71), with(3, 5)]);
    }
}

#[test]
fn images_of_several_requests_share_loops_whatever_their_shapes() {
    let many = GenerateRequest {
        seeds: vec![4, 5, 6],
        ..request("a red heart", 0)
    };
    let longer = GenerateRequest {
        steps: 6,
        ..request("a moon", 8)
    };
    let unguided = GenerateRequest {
        guidance_scale: 1.0,
        ..request("a moon", 8)
    };
    let reusing = GenerateRequest {
        reuse: vec![2],
        guidance_interval: Some((0.0, 0.6)),
        ..request("a moon", 8)
    };
    let again = GenerateRequest {
        seeds: vec![9, 10],
        ..reusing.clone()
    };
    let requests = [
        many,
        longer,
        request("a dog", 7),
        unguided,
        reusing,
        request("a cat", 8),
        again,
    ];
    compare(&family("sd1"), &requests);
}

#[test]
fn a_request_that_is_stopped_leaves_within_a_step_and_the_others_go_on() {
    let requests = [
        request("a dog", 1),
        request("a cat", 2),
        request("a car", 3),
    ];
    let mut generator = open(&family("sd1"));
    let alone = requests.each_ref().map(|request| {
        let found = generator.generate(request, &mut go_on).unwrap();
        bits(&found)
    });
    generator.set_images_per_batch(4);
    let mut told: Vec<(usize, usize)> = Vec::new();
    let mut on_progress = |place: usize, progress: Progress| {
        told.push((place, progress.step_index));
        if place == 1 && progress.step_index == 1 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let found = generator.generate_together(&requests, &mut on_progress);
    assert!(found[1].as_ref().unwrap_err().is_cancelled());
    for place in [0, 2] {
        assert_eq!(bits(found[place].as_ref().unwrap()), alone[place]);
    }
    let steps = |wanted: usize| told.iter().filter(|(place, _)| *place == wanted).count();
    assert_eq!([steps(0), steps(1), steps(2)], [4, 2, 4]);
}

#[test]
fn a_request_that_fails_fails_alone() {
    let shape = (1, 4, 8, 8);
    let own = |value: f32| GenerateRequest {
        seeds: Vec::new(),
        latents: Some(Array4::from_shape_fn(shape, |(_, c, y, x)| {
            value * ((c + y + x) as f32).sin()
        })),
        ..request("a dog", 0)
    };
    let refused = GenerateRequest {
        guidance_scale: f32::NAN,
        ..own(1.0)
    };
    let requests = [own(1.0), own(3.0e38), refused, own(0.5)];
    let mut generator = open(&family("sd1"));
    let mut alone = |place: usize| {
        let found = generator.generate(&requests[place], &mut go_on).unwrap();
        bits(&found)
    };
    let expected = [alone(0), alone(3)];
    generator.set_images_per_batch(4);
    for _ in 0..2 {
        let found = together(&mut generator, &requests);
        assert_eq!(bits(found[0].as_ref().unwrap()), expected[0]);
        assert_eq!(bits(found[3].as_ref().unwrap()), expected[1]);
        let error = found[1].as_ref().unwrap_err().to_string();
        assert!(error.contains("is not finite"), "{error}");
        let error = found[2].as_ref().unwrap_err().to_string();
        assert!(error.contains("guidance_scale"), "{error}");
    }
}

#[test]
fn progress_counts_the_evaluations_of_each_request() {
    let mut generator = open(&family("sd1"));
    generator.set_images_per_batch(4);
    let many = GenerateRequest {
        seeds: vec![1, 2],
        ..request("a dog", 0)
    };
    let mut done = [Vec::new(), Vec::new()];
    let mut on_progress = |place: usize, progress: Progress| {
        done[place].push(progress.evaluations_done);
        ControlFlow::Continue(())
    };
    for answer in generator.generate_together(&[many, request("a cat", 3)], &mut on_progress) {
        answer.unwrap();
    }
    assert_eq!(done[0], (1..=8).collect::<Vec<_>>());
    assert_eq!(done[1], (1..=4).collect::<Vec<_>>());
}
