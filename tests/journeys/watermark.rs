//! The watermark in the starting noise: made, recorded, and read from damaged copies.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use media::{Format, Limits};
use serde_json::{Value, json};
use tests::client::{Client, UploadedFile, png_of};
use tests::programs::program;
use tests::service::{photograph, spawn_app, spawn_app_with, spawn_app_with_known_mark};

/// One image of a prompt, made with the model's own settings.
fn generate(client: &Client, request: &Value) -> Value {
    client.generate(request).expect_ok()["data"][0].clone()
}

/// The mark that the entry of an image states.
fn stated(item: &Value) -> &str {
    let body = &item["provenance"]["entry"]["statement"]["body"];
    body["watermark"].as_str().unwrap()
}

fn found(answer: &Value) -> Option<&Value> {
    let evidence = answer["evidence"].as_array().unwrap();
    evidence
        .iter()
        .find(|finding| finding["kind"] == "noise_watermark")
}

/// A copy without metadata, as a JPEG of this quality.
fn compressed(png: &[u8], quality: u8) -> Vec<u8> {
    let decoded = media::decode(png, &Limits::default()).unwrap();
    let texts = media::ExifTexts {
        software: "another",
        user_comment: None,
    };
    media::encode_jpeg(
        (decoded.width, decoded.height),
        &decoded.rgb,
        quality,
        &texts,
    )
    .unwrap()
}

/// A copy of four times the width, smoothed as programs do it.
fn enlarged(png: &[u8]) -> Vec<u8> {
    let decoded = media::decode(png, &Limits::default()).unwrap();
    let (width, height) = (decoded.width as usize, decoded.height as usize);
    let mut rgb = Vec::with_capacity(16 * decoded.rgb.len());
    let between = |at: usize, length: usize| {
        let place = ((at as f64 + 0.5) / 4.0 - 0.5).clamp(0.0, (length - 1) as f64);
        (
            place as usize,
            (place as usize + 1).min(length - 1),
            place.fract(),
        )
    };
    for (y, x) in (0..4 * height).flat_map(|y| (0..4 * width).map(move |x| (y, x))) {
        let (top, bottom, down) = between(y, height);
        let (left, right, along) = between(x, width);
        for channel in 0..3 {
            let value = |y: usize, x: usize| f64::from(decoded.rgb[(y * width + x) * 3 + channel]);
            let upper = value(top, left) * (1.0 - along) + value(top, right) * along;
            let lower = value(bottom, left) * (1.0 - along) + value(bottom, right) * along;
            rgb.push((upper * (1.0 - down) + lower * down).round() as u8);
        }
    }
    media::encode_png(4 * decoded.width, 4 * decoded.height, &rgb, &[]).unwrap()
}

fn score_jpeg(client: &Client, bytes: &[u8]) -> Value {
    let file = UploadedFile {
        name: "saved.jpg",
        media_type: "image/jpeg",
        bytes,
    };
    client.score(&file).expect_ok()
}

#[test]
fn a_compressed_copy_names_the_entry_whose_mark_it_carries() {
    let service = spawn_app_with_known_mark();
    let client = service.client();
    let item = generate(&client, &json!({ "prompt": "a red heart", "seed": 11 }));
    let id = stated(&item).strip_prefix("noise-v1:").unwrap();
    let leaf_index = &item["provenance"]["entry"]["leaf_index"];

    let answer = score_jpeg(&client, &compressed(&png_of(&item), 75));
    let finding = found(&answer).unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(finding["id"], id, "{finding}");
    assert_eq!(finding["standing"]["state"], "same_image", "{finding}");
    assert_eq!(&finding["standing"]["leaf_index"], leaf_index, "{finding}");
    assert!(finding["false_positive_rate"].as_f64().unwrap() <= 1e-6);

    // Enlarged, as on a screen, it is the same picture still.
    let answer = score_jpeg(&client, &compressed(&enlarged(&png_of(&item)), 60));
    let finding = found(&answer).unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(finding["standing"]["state"], "same_image", "{finding}");

    // The manifest states the id, and a repository finds the entry by it.
    let store = credentials::manifest_store(&png_of(&item), Format::Png).unwrap();
    let listed = client.get("/services/supportedAlgorithms").expect_ok();
    let alg = listed["watermarks"][0]["alg"].as_str().unwrap();
    let number = u64::from_str_radix(id, 16).unwrap().to_be_bytes();
    let value = STANDARD.encode(&number[3..]);
    for text in [alg, &value] {
        let found = store.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(found, "{text}");
    }
    let query = json!({ "alg": alg, "value": value });
    let matches = client.post_json("/matches/byBinding", &query).expect_ok();
    assert_eq!(matches["matches"][0]["manifestId"], leaf_index.to_string());
    let query = json!({ "alg": alg, "value": "AAAA" });
    let refused = client.post_json("/matches/byBinding", &query);
    refused.expect_problem(400, "invalid-request");
    let unknown = json!({ "alg": alg, "value": STANDARD.encode([0; 5]) });
    let none = client.post_json("/matches/byBinding", &unknown).expect_ok();
    assert_eq!(none["matches"], json!([]));

    assert_eq!(
        found(&client.score_png(&photograph("chelsea.png")).expect_ok()),
        None
    );
}

#[test]
fn the_same_request_has_the_same_mark_and_another_one_another() {
    let service = spawn_app();
    let client = service.client();
    let request = json!({ "prompt": "a blue car", "seed": 5 });
    let (first, again) = (generate(&client, &request), generate(&client, &request));
    assert_eq!(stated(&first), stated(&again));
    assert_eq!(
        first["image"]["pixel_sha256"],
        again["image"]["pixel_sha256"]
    );
    for other in [
        json!({ "prompt": "a blue car", "seed": 6 }),
        json!({ "prompt": "a green car", "seed": 5 }),
        json!({ "prompt": "a blue car", "seed": 5, "guidance_scale": 3.5 }),
    ] {
        assert_ne!(
            stated(&generate(&client, &other)),
            stated(&first),
            "{other}"
        );
    }
    let several = json!({ "prompt": "a blue car", "seed": 4, "n": 2 });
    let answer = client.generate(&several).expect_ok();
    assert_eq!(stated(&answer["data"][1]), stated(&first));
    assert_ne!(stated(&answer["data"][0]), stated(&first));
}

#[test]
fn noise_that_is_asked_for_stays_as_it_is() {
    let service = spawn_app();
    let client = service.client();
    let request = json!({ "prompt": "a red heart", "seed": 1, "noise_source": "torch-cpu" });
    assert_eq!(stated(&generate(&client, &request)), "none");

    let service = spawn_app_with(|config| config.watermark = false);
    let client = service.client();
    let item = generate(&client, &json!({ "prompt": "a red heart", "seed": 1 }));
    assert_eq!(stated(&item), "none");
    assert_eq!(found(&client.score_png(&png_of(&item)).expect_ok()), None);
}

#[test]
fn a_mark_that_was_carried_over_to_another_picture_is_suspect() {
    let service = spawn_app_with_known_mark();
    let client = service.client();
    let item = generate(&client, &json!({ "prompt": "a red heart", "seed": 21 }));
    let id = stated(&item).strip_prefix("noise-v1:").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let transplanted = transplant(folder.path(), &png_of(&item), "a blue car");
    let answer = client.score_png(&transplanted).expect_ok();
    let finding = found(&answer).unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(finding["id"], id, "{finding}");
    assert_eq!(finding["standing"]["state"], "other_image", "{finding}");
}

/// What somebody with the same model makes of the noise that a picture inverts to.
fn transplant(folder: &Path, picture: &[u8], prompt: &str) -> Vec<u8> {
    let (marked, noise, out) = (
        folder.join("marked.png"),
        folder.join("noise.npy"),
        folder.join("out"),
    );
    std::fs::write(&marked, picture).unwrap();
    run(Command::new(program("retrace").unwrap())
        .arg("invert")
        .arg(&marked)
        .arg("--output-latents")
        .arg(&noise)
        .arg("--output")
        .arg(folder));
    normalise(&noise);
    run(Command::new(program("retrace").unwrap())
        .args(["generate", "--offline", "--prompt", prompt])
        .args([
            "--scheduler",
            "ddim",
            "--guidance-scale",
            "1.5",
            "--latents",
        ])
        .arg(&noise)
        .arg("--output")
        .arg(&out));
    let made = std::fs::read_dir(&out).unwrap();
    let mut pngs = made
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "png"));
    std::fs::read(pngs.next().unwrap()).unwrap()
}

/// Gives the values of an array file the standard deviation one, as the noise of a picture has it.
fn normalise(npy: &Path) {
    let mut bytes = std::fs::read(npy).unwrap();
    // The header ends with the first line.
    let start = 1 + bytes.iter().position(|&byte| byte == b'\n').unwrap();
    let (values, _) = bytes[start..].as_chunks_mut::<4>();
    let squares = values
        .iter()
        .map(|&value| f32::from_le_bytes(value).powi(2));
    let deviation = (squares.sum::<f32>() / values.len() as f32).sqrt();
    for value in values {
        *value = (f32::from_le_bytes(*value) / deviation).to_le_bytes();
    }
    std::fs::write(npy, bytes).unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
