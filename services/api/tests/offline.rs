//! Commands that need no ledger, on small models and on the installed detector.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::{Array4, Axis, Slice};
use ndarray_npy::{read_npy, write_npy};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A pipeline of a few kilobytes.
fn pipeline(name: &str) -> String {
    root()
        .join("tests/golden/pipelines")
        .join(name)
        .display()
        .to_string()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// Runs `retrace` in a folder outside the checkout, with the native parts of the checkout.
fn retrace(folder: &Path, arguments: &[&str]) -> Output {
    let native = std::env::var_os("RETRACE_RUNTIME").map(PathBuf::from);
    Command::new(env!("CARGO_BIN_EXE_retrace"))
        .args(arguments)
        .env_clear()
        .env(
            "RETRACE_RUNTIME",
            native.unwrap_or_else(|| root().join(".runtime")),
        )
        .current_dir(folder)
        .output()
        .unwrap()
}

/// The JSON lines of a command that succeeded.
fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    json_lines(output)
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn generate(folder: &Path, arguments: &[&str]) -> Output {
    let always = ["generate", "--offline", "--json", "--steps", "3"];
    retrace(folder, &[&always, arguments].concat())
}

#[test]
fn offline_images_are_repeatable_and_say_that_they_are_unsigned() {
    let folder = tempfile::tempdir().unwrap();
    let model = pipeline("conditional");
    let arguments = [
        "--model",
        &model,
        "--prompt",
        "a red heart",
        "--seed",
        "7",
        "-n",
        "2",
    ];
    let images = lines(&generate(folder.path(), &arguments));
    assert_eq!(images.len(), 2);
    assert_eq!(images[0]["signed"], false);
    assert_eq!(
        (&images[0]["seed"], &images[1]["seed"]),
        (&7.into(), &8.into())
    );
    assert_eq!(images[0]["model"]["digest"].as_str().unwrap().len(), 64);
    let written = folder
        .path()
        .join(images[0]["image_path"].as_str().unwrap());
    let png = std::fs::read(&written).unwrap();
    assert_eq!(
        images[0]["image"]["sha256"],
        provenance::Digest::of(&png).to_string()
    );
    let beside: Value =
        serde_json::from_slice(&std::fs::read(written.with_extension("json")).unwrap()).unwrap();
    assert_eq!(beside, images[0]);
    let decoded = media::decode(&png, &media::Limits::default()).unwrap();
    let mark = decoded
        .metadata
        .iter()
        .any(|item| format!("{item:?}").contains("Retrace-Signed"));
    assert!(mark, "{:?}", decoded.metadata);
    let second = ["--model", &model, "--prompt", "a red heart", "--seed", "8"];
    let alone = lines(&generate(folder.path(), &second));
    assert_eq!(
        alone[0]["image"]["pixel_sha256"],
        images[1]["image"]["pixel_sha256"]
    );
}

#[test]
fn an_unconditional_model_needs_no_prompt_and_refuses_one() {
    let folder = tempfile::tempdir().unwrap();
    let model = pipeline("unconditional");
    assert_eq!(
        lines(&generate(
            folder.path(),
            &["--model", &model, "--seed", "1"]
        ))
        .len(),
        1
    );
    let refused = generate(
        folder.path(),
        &["--model", &model, "--prompt", "a red heart"],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("takes no prompt"));
}

#[test]
fn starting_latents_are_used_as_they_are_and_give_one_image_each() {
    let folder = tempfile::tempdir().unwrap();
    let model = pipeline("unconditional");
    let end = path(folder.path(), "end.npy");
    let made = ["--model", &model, "--seed", "1", "--output-latents", &end];
    lines(&generate(folder.path(), &made));
    let end_of_one: Array4<f32> = read_npy(&end).unwrap();
    let (_, channels, height, width) = end_of_one.dim();
    let start = Array4::from_shape_fn((2, channels, height, width), |(n, c, y, x)| {
        ((n * 31 + c * 17 + y * 5 + x * 3) % 13) as f32 / 6.5 - 1.0
    });
    let both = path(folder.path(), "both.npy");
    write_npy(&both, &start).unwrap();
    let first = path(folder.path(), "first.npy");
    write_npy(&first, &start.slice_axis(Axis(0), Slice::from(..1))).unwrap();

    let made = [
        "--model",
        &model,
        "--latents",
        &both,
        "--output-latents",
        &end,
    ];
    let images = lines(&generate(folder.path(), &made));
    assert_eq!(images.len(), 2);
    assert_eq!(images[0]["seed"], Value::Null);
    assert_eq!(read_npy::<_, Array4<f32>>(&end).unwrap().dim(), start.dim());
    let alone = lines(&generate(
        folder.path(),
        &["--model", &model, "--latents", &first],
    ));
    assert_eq!(
        alone[0]["image"]["pixel_sha256"],
        images[0]["image"]["pixel_sha256"]
    );
}

#[test]
fn latents_that_do_not_fit_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let model = pipeline("unconditional");
    let garbage = path(folder.path(), "garbage.npy");
    std::fs::write(&garbage, b"\x93NUMPY\x01\x00 this is no header").unwrap();
    for latents in [garbage.as_str(), "missing.npy"] {
        let output = generate(folder.path(), &["--model", &model, "--latents", latents]);
        assert_eq!(output.status.code(), Some(2), "{latents}");
    }
    let flat = path(folder.path(), "flat.npy");
    write_npy(&flat, &Array4::<f32>::zeros((1, 7, 2, 2))).unwrap();
    let output = generate(folder.path(), &["--model", &model, "--latents", &flat]);
    assert_ne!(output.status.code(), Some(0));
    let written = std::fs::read_dir(folder.path().join("retrace-out")).unwrap();
    assert_eq!(written.count(), 0);
}

#[test]
fn a_folder_that_is_no_model_is_one_line_and_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let here = path(folder.path(), "");
    let output = generate(
        folder.path(),
        &["--model", &here, "--prompt", "a red heart"],
    );
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

/// A picture with texture everywhere.
fn picture(side: u32) -> Vec<u8> {
    // Multiplying and folding twice leaves no pattern that a PNG could shorten.
    let fold = |value: u32| (value ^ (value >> 15)).wrapping_mul(2_654_435_761);
    let noise = |i: u32| (fold(fold(i + 1)) >> 24) as u8;
    let rgb: Vec<u8> = (0..side * side * 3).map(noise).collect();
    media::encode_png(side, side, &rgb, &[]).unwrap()
}

#[test]
fn inversion_writes_the_strip_and_the_noise() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "picture.png");
    std::fs::write(&file, picture(64)).unwrap();
    let model = pipeline("conditional");
    let arguments = [
        "invert", &file, "--model", &model, "--steps", "3", "--tiles", "3", "--json",
    ];
    let report = &lines(&retrace(folder.path(), &arguments))[0];
    assert_eq!(report["steps"], 3);
    let noise: Array4<f32> =
        read_npy(folder.path().join(report["latents_path"].as_str().unwrap())).unwrap();
    assert_eq!(noise.dim().0, 1);
    let strip = std::fs::read(folder.path().join(report["strip_path"].as_str().unwrap())).unwrap();
    let strip = media::decode(&strip, &media::Limits::default()).unwrap();
    // Start, three pictures of the way, what came back, and four gaps.
    assert_eq!((strip.width - 4 * 4) % 5, 0);
}

#[test]
fn one_bad_file_does_not_keep_the_others_from_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let (good, small) = (
        path(folder.path(), "good.png"),
        path(folder.path(), "small.png"),
    );
    std::fs::write(&good, picture(256)).unwrap();
    std::fs::write(&small, picture(32)).unwrap();
    let truncated = path(folder.path(), "truncated.png");
    std::fs::write(&truncated, &picture(256)[..5_000]).unwrap();
    let models = path(&root(), "models");
    let wide = path(&root(), "tests/golden/media/colour/display_p3.jpg");
    let files = [truncated.as_str(), &good, "missing.png", &small, &wide];
    let options = ["score", "--offline", "--json", "--models", &models];
    let output = retrace(folder.path(), &[&options[..], &files].concat());
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let results = json_lines(&output);
    let paths: Vec<_> = results
        .iter()
        .map(|result| result["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, files);
    for refused in [&results[0], &results[2]] {
        assert!(
            refused["error"].is_string() && refused["verdict"].is_null(),
            "{refused}"
        );
    }
    assert!(results[1]["probability"].is_number() && results[1]["raw_score"].is_number());
    assert!(results[1]["evidence"].is_array() && results[1]["detector_version"].is_string());
    assert_eq!(results[1]["entry"], Value::Null);
    assert_eq!(results[1]["notes"], serde_json::json!([]));
    assert_eq!(results[1]["colour_profile"], Value::Null);
    let profile =
        serde_json::json!({ "name": "Display P3", "colours": "rgb", "treatment": "converted" });
    assert_eq!(results[4]["colour_profile"], profile);
    let note = results[4]["notes"][0].as_str().unwrap();
    assert!(
        note.contains("sRGB by the file's colour profile \"Display P3\""),
        "{note}"
    );
    assert_eq!(results[3]["verdict"], "Inconclusive");
    assert_eq!(
        (&results[3]["reason"], &results[3]["probability"]),
        (&"too_small".into(), &Value::Null)
    );
}

#[test]
fn a_folder_is_scored_into_a_table_that_a_second_run_goes_on_with() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("inbox/deep")).unwrap();
    std::fs::write(folder.path().join("inbox/deep/b.PNG"), picture(64)).unwrap();
    std::fs::write(folder.path().join("inbox/a.png"), picture(32)).unwrap();
    std::fs::write(folder.path().join("inbox/notes.txt"), b"no picture").unwrap();
    let models = path(&root(), "models");
    let table = folder.path().join("scores.csv");
    let options = [
        "score",
        "--offline",
        "--models",
        &models,
        "--output",
        "scores.csv",
    ];
    let output = retrace(folder.path(), &[&options[..], &["inbox"]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let first = std::fs::read_to_string(&table).unwrap();
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines.len(), 3, "{first}");
    assert!(lines[1].starts_with("inbox/a.png,") && lines[2].starts_with("inbox/deep/b.PNG,"));
    assert!(lines[2].contains(",Inconclusive,too_small,"), "{first}");
    // 1. A table that is there is not overwritten.
    let output = retrace(folder.path(), &[&options[..], &["inbox"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&table).unwrap(), first);
    // 2. A run that was killed in the middle of a line goes on and writes no file twice.
    std::fs::write(&table, &first[..first.len() - 9]).unwrap();
    let output = retrace(
        folder.path(),
        &[&options[..], &["--resume", "inbox"]].concat(),
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(std::fs::read_to_string(&table).unwrap(), first);
    // 3. A folder without pictures is a mistake in the command.
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let output = retrace(
        folder.path(),
        &["score", "--offline", "--models", &models, "empty"],
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn traces_are_lines_that_training_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let good = path(folder.path(), "good.png");
    std::fs::write(&good, picture(256)).unwrap();
    let models = path(&root(), "models");
    let out = path(folder.path(), "traces.jsonl");
    let garbage = path(folder.path(), "garbage.jpg");
    std::fs::write(&garbage, b"no picture").unwrap();
    let arguments = [
        "trace", "--models", &models, "--output", &out, &garbage, &good,
    ];
    let output = retrace(folder.path(), &arguments);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&out).unwrap();
    let (refused, traced) = text.split_once('\n').unwrap();
    assert!(serde_json::from_str::<Value>(refused).unwrap()["error"].is_string());
    let line = detector::TraceLine::parse(traced.trim_end()).unwrap();
    assert_eq!((line.path.as_str(), line.width), (good.as_str(), 256));
    assert!(!line.features.patches.is_empty());
    assert_eq!(line.trace, None);
}
