//! What a request can ask of a pipeline beside its prompt, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use diffusion::SchedulerKind;
use ndarray::Array4;
use onnx::{GenerateRequest, Generation, Generator, Mask, OnnxError, Picture, Task};
use support::{fixture, go_on, open, scratch_copy};

fn family(name: &str) -> Generator {
    open(&fixture("families").join(name))
}

/// Four DDIM steps with guidance, one image per seed.
fn request(seeds: &[u64]) -> GenerateRequest {
    GenerateRequest {
        seeds: seeds.to_vec(),
        steps: 4,
        guidance_scale: 3.0,
        scheduler: Some(SchedulerKind::Ddim),
        ..GenerateRequest::new("a red dog")
    }
}

fn picture(side: u32) -> Picture {
    Picture {
        width: side,
        height: side,
        rgb: (0..side * side * 3)
            .map(|value| (value * 53 % 256) as u8)
            .collect(),
    }
}

fn refusal(generator: &mut Generator, request: &GenerateRequest) -> String {
    generator
        .generate(request, &mut go_on)
        .unwrap_err()
        .to_string()
}

/// The bits of everything that a generation hands out.
fn bits(generation: &Generation) -> (Vec<Vec<u8>>, Vec<u32>) {
    let images = generation.images.iter().map(|image| image.rgb.clone());
    let latents = generation.latents.iter().map(|value| value.to_bits());
    (images.collect(), latents.collect())
}

#[test]
fn outside_of_its_interval_a_loop_is_not_guided() {
    let mut generator = family("sd1");
    let mut with = |interval: Option<(f64, f64)>, guidance_scale: f32| {
        let request = GenerateRequest {
            guidance_interval: interval,
            guidance_scale,
            ..request(&[1])
        };
        bits(&generator.generate(&request, &mut go_on).unwrap())
    };
    let guided = with(None, 3.0);
    let unguided = with(None, 1.0);
    let half = with(Some((0.0, 0.5)), 3.0);
    assert_eq!(with(Some((0.0, 1.0)), 3.0), guided);
    assert_eq!(with(Some((0.0, 0.0)), 3.0), unguided);
    assert!(half != guided && half != unguided);
}

#[test]
fn explicit_timesteps_stand_in_for_the_spacing() {
    let mut generator = family("sd2");
    let spaced = generator.generate(&request(&[1]), &mut go_on).unwrap();
    let listed = GenerateRequest {
        timesteps: Some(vec![751.0, 501.0, 251.0, 1.0]),
        ..request(&[1])
    };
    let found = generator.generate(&listed, &mut go_on).unwrap();
    assert_eq!(bits(&found), bits(&spaced));
    let wrong = GenerateRequest { steps: 5, ..listed };
    let error = refusal(&mut generator, &wrong);
    assert!(error.contains("4 timesteps with steps 5"), "{error}");
}

#[test]
fn a_reused_output_saves_an_evaluation_and_changes_the_image() {
    let mut generator = family("sd1");
    let plain = generator.generate(&request(&[1]), &mut go_on).unwrap();
    let reusing = GenerateRequest {
        reuse: vec![2],
        ..request(&[1])
    };
    let mut told = 0;
    let found = generator
        .generate(&reusing, &mut |_| {
            told += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(told, 4);
    assert_ne!(bits(&found), bits(&plain));
    for index in [0, 4] {
        let request = GenerateRequest {
            reuse: vec![index],
            ..request(&[1])
        };
        let error = refusal(&mut generator, &request);
        assert!(error.contains("reuse names evaluation"), "{error}");
    }
}

#[test]
fn images_made_together_have_the_bits_of_images_made_alone() {
    let built_in = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/generator");
    let folders = ["sd1", "sdxl", "sd3"].map(|name| fixture("families").join(name));
    for folder in folders.iter().chain([&built_in]) {
        let mut generator = open(folder);
        let request = GenerateRequest {
            scheduler: None,
            steps: 3,
            preview_steps: 1,
            ..request(&[5, 6, 7, 8, 9])
        };
        let alone = generator.generate(&request, &mut go_on).unwrap();
        generator.set_images_per_batch(4);
        let together = generator.generate(&request, &mut go_on).unwrap();
        assert_eq!(bits(&together), bits(&alone), "{}", folder.display());
        let mut previews = together.previews;
        previews.sort_by_key(|preview| preview.image_index);
        assert_eq!(previews, alone.previews);
    }
}

#[test]
fn a_variation_has_no_prompt_and_is_not_guided() {
    let mut generator = family("sd1");
    let mut with = |guidance_scale: f32, strength: f32| {
        let request = GenerateRequest {
            prompt: None,
            init_image: Some(picture(16)),
            guidance_scale,
            strength,
            ..request(&[1])
        };
        generator.generate(&request, &mut go_on).unwrap()
    };
    let found = with(7.0, 0.5);
    assert_eq!(found.task, Task::Variation);
    assert_eq!(bits(&found), bits(&with(1.0, 0.5)));
    assert_ne!(bits(&found), bits(&with(1.0, 1.0)));
}

#[test]
fn inpainting_leaves_the_pixels_that_a_mask_keeps() {
    let original = picture(8);
    let luma: Vec<u8> = (0..64)
        .map(|pixel| if pixel % 8 < 4 { 255 } else { 127 })
        .collect();
    let request = GenerateRequest {
        prompt: None,
        init_image: Some(original.clone()),
        mask: Some(Mask {
            width: 8,
            height: 8,
            luma,
        }),
        ..request(&[1])
    };
    let found = family("ddpm").generate(&request, &mut go_on).unwrap();
    assert_eq!(found.task, Task::Inpainting);
    let rgb = &found.images[0].rgb;
    let kept = |pixel: &usize| pixel % 8 >= 4;
    for pixel in (0..64).filter(kept) {
        let range = pixel * 3..pixel * 3 + 3;
        assert_eq!(rgb[range.clone()], original.rgb[range]);
    }
    assert_ne!(rgb[..12], original.rgb[..12]);
}

#[test]
fn pictures_of_another_size_are_stretched() {
    let request = GenerateRequest {
        init_image: Some(picture(37)),
        mask: Some(Mask {
            width: 5,
            height: 9,
            luma: vec![255; 45],
        }),
        size: Some((20, 12)),
        ..request(&[1])
    };
    let found = family("sd1").generate(&request, &mut go_on).unwrap();
    let image = &found.images[0];
    assert_eq!((image.width, image.height), (20, 12));
}

#[test]
fn a_long_prompt_is_cut_and_reported_by_every_family() {
    for name in ["sd1", "sdxl", "sd3", "flux"] {
        let mut generator = family(name);
        let request = GenerateRequest {
            prompt: Some("zebra crossing ".repeat(40)),
            scheduler: None,
            size: Some((16, 16)),
            steps: 1,
            ..request(&[1])
        };
        let found = generator.generate(&request, &mut go_on).unwrap();
        let truncated = found.truncated_prompt.unwrap();
        assert_eq!(truncated.tokens_max, 77, "{name}");
        assert!(truncated.tokens > 77);
    }
}

#[test]
fn sixteen_bit_floats_that_overflow_are_named_with_their_file() {
    let mut generator = open(&fixture("clip"));
    let request = GenerateRequest {
        latents: Some(Array4::from_elem((1, 4, 8, 8), 6.0e4)),
        ..request(&[])
    };
    let error = generator.generate(&request, &mut go_on).unwrap_err();
    assert!(matches!(error, OnnxError::HalfNotFinite { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("unet/model.onnx with 32-bit floats"),
        "{text}"
    );
}

#[test]
fn impossible_requests_name_the_field_and_what_would_be_accepted() {
    let edited = |request: GenerateRequest| GenerateRequest {
        init_image: Some(picture(16)),
        ..request
    };
    let mask = |luma: usize| {
        Some(Mask {
            width: 16,
            height: 16,
            luma: vec![0; luma],
        })
    };
    let one = || request(&[1]);
    let refused = [
        (
            "sd1",
            GenerateRequest {
                size: Some((18, 16)),
                ..one()
            },
            "multiples of 4",
        ),
        (
            "sd1",
            GenerateRequest {
                size: Some((0, 16)),
                ..one()
            },
            "multiples of 4",
        ),
        (
            "sd1",
            GenerateRequest {
                size: Some((65536, 16)),
                ..one()
            },
            "up to 1024",
        ),
        (
            "sd1",
            GenerateRequest { eta: 1.5, ..one() },
            "eta 1.5 is outside 0..=1",
        ),
        (
            "sd1",
            GenerateRequest {
                guidance_scale: 101.0,
                ..one()
            },
            "outside 0..=100",
        ),
        (
            "sd1",
            GenerateRequest {
                mask: mask(256),
                ..one()
            },
            "mask needs an init_image",
        ),
        (
            "sd1",
            edited(GenerateRequest {
                mask: mask(9),
                ..one()
            }),
            "expected 256",
        ),
        (
            "sd1",
            edited(GenerateRequest {
                strength: 0.0,
                ..one()
            }),
            "strength",
        ),
        (
            "sd1",
            edited(GenerateRequest {
                strength: f32::NAN,
                ..one()
            }),
            "strength",
        ),
        (
            "sd1",
            GenerateRequest {
                class_label: Some(0),
                ..one()
            },
            "takes no class_label",
        ),
        (
            "sd1",
            GenerateRequest {
                guidance_interval: Some((0.5, 0.2)),
                ..one()
            },
            "0..=1",
        ),
        (
            "sd1",
            GenerateRequest {
                scheduler: Some(SchedulerKind::FlowMatchEuler),
                ..one()
            },
            "predicts noise",
        ),
        ("sd3", one(), "flow-match-euler"),
        (
            "lcm",
            GenerateRequest {
                negative_prompt: Some("x".into()),
                ..one()
            },
            "negative_prompt",
        ),
        ("inpaint", one(), "it serves inpainting"),
        (
            "classes",
            GenerateRequest {
                prompt: None,
                ..one()
            },
            "class_label from 0 to 3",
        ),
        (
            "classes",
            GenerateRequest {
                prompt: None,
                class_label: Some(4),
                ..one()
            },
            "class_label from 0 to 3",
        ),
    ];
    for (name, request, reason) in refused {
        let error = refusal(&mut family(name), &request);
        assert!(error.contains(reason), "{name}: {error}");
    }
    let fixed = GenerateRequest {
        size: Some((32, 32)),
        ..one()
    };
    let error = refusal(&mut open(&fixture("conditional")), &fixed);
    assert!(error.contains("16x16 only"), "{error}");
}

#[test]
fn a_folder_that_lacks_a_part_or_has_one_of_another_model_is_refused() {
    let folder = scratch_copy("families/sdxl");
    let unet = folder.path().join("unet/model.onnx");
    std::fs::copy(fixture("families/sd1/unet/model.onnx"), &unet).unwrap();
    let error = refusal(&mut open(folder.path()), &request(&[1]));
    assert!(error.contains("encoder_hidden_states"), "{error}");
    assert!(
        error.contains("[1, 77, 32]") || error.contains("[2, 77, 32]"),
        "{error}"
    );
    std::fs::remove_dir_all(folder.path().join("text_encoder_2")).unwrap();
    let error = Generator::open(&support::runtime(), folder.path());
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("text_encoder_2/config.json is missing"),
        "{error}"
    );
}

#[test]
fn the_model_folder_names_the_settings_of_a_request() {
    let folder = scratch_copy("families/sd1");
    let settings = r#"{"num_inference_steps": 3, "guidance_scale": 2.5, "scheduler": "ddim",
        "timesteps": [801, 401, 1], "guidance_interval": [0, 0.5], "reuse": [2], "note": 1}"#;
    std::fs::write(folder.path().join("generation_config.json"), settings).unwrap();
    let mut generator = open(folder.path());
    assert_eq!(generator.default_scheduler(), SchedulerKind::Ddim);
    let request = GenerateRequest {
        prompt: Some("a dog".to_owned()),
        seeds: vec![1],
        ..generator.defaults().request()
    };
    assert_eq!(request.timesteps.as_deref(), Some(&[801.0, 401.0, 1.0][..]));
    assert_eq!(
        (request.guidance_interval, &request.reuse),
        (Some((0.0, 0.5)), &vec![2])
    );
    generator.generate(&request, &mut go_on).unwrap();
}
