//! Broken model folders, manifests and runtimes: each is refused by the name of what is wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use onnx::{Generator, Manifest, Mismatch, OnnxError, Provider, Runtime, RuntimeOptions};
use provenance::Digest;
use support::{fixture, go_on, open, request, runtime, scratch_copy};

fn refusal(folder: &Path) -> String {
    match Generator::open(&runtime(), folder) {
        Ok(_) => panic!("the folder was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in [
        "model_index.json",
        "unet/model.onnx",
        "unet/config.json",
        "text_encoder/model.onnx",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
        "vae_decoder/model.onnx",
    ] {
        let folder = scratch_copy("conditional");
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = refusal(folder.path());
        assert!(
            error.contains(file) && error.contains("is missing"),
            "{error}"
        );
    }
}

#[test]
fn missing_external_weights_are_an_error_of_their_model() {
    let folder = scratch_copy("clip");
    std::fs::remove_file(folder.path().join("unet/weights.pb")).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("unet/model.onnx"), "{error}");
    assert!(error.contains("weights.pb"), "{error}");
}

#[test]
fn a_model_in_the_wrong_place_is_refused_by_its_inputs() {
    let folder = scratch_copy("conditional");
    let decoder = folder.path().join("vae_decoder/model.onnx");
    std::fs::copy(&decoder, folder.path().join("unet/model.onnx")).unwrap();
    let error = refusal(folder.path());
    assert!(
        error.contains("unet needs the input \"latent_sample\""),
        "{error}"
    );
}

#[test]
fn pipelines_of_another_class_are_refused_with_those_that_are_served() {
    let folder = scratch_copy("conditional");
    std::fs::write(
        folder.path().join("model_index.json"),
        r#"{"_class_name": "KandinskyPipeline", "unet": ["diffusers", "X"]}"#,
    )
    .unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("model_index.json"), "{error}");
    assert!(error.contains("\"KandinskyPipeline\""), "{error}");
    assert!(error.contains("StableDiffusionXLPipeline"), "{error}");
}

#[test]
fn a_rule_with_a_statistic_that_is_not_known_is_refused() {
    let folder = scratch_copy("conditional");
    let rule = r#"{"version": 1, "inversion_steps": 6, "intercept": 0, "statistics": ["mood"],
        "coefficients": [1], "threshold_probability": 0.5}"#;
    std::fs::write(folder.path().join("inversion.json"), rule).unwrap();
    let error = refusal(folder.path());
    assert!(
        error.contains("inversion.json") && error.contains("\"mood\""),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    let folder = scratch_copy("conditional");
    std::fs::write(folder.path().join("unet/model.onnx"), b"not a model").unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("unet/model.onnx does not load"), "{error}");
}

#[test]
fn the_identity_lists_every_file_and_changes_with_each() {
    let folder = scratch_copy("clip");
    let before = open(folder.path()).model().clone();
    for path in [
        "model_index.json",
        "unet/weights.pb",
        "tokenizer/tokenizer.json",
    ] {
        assert!(before.parts.contains_key(path), "{path}");
    }
    let weights = std::fs::read(fixture("clip").join("unet/weights.pb")).unwrap();
    assert_eq!(before.parts["unet/weights.pb"], Digest::of(&weights));
    assert_eq!(
        before.digest,
        onnx::identity::digest_of_parts(&before.parts)
    );
    std::fs::write(folder.path().join("scheduler/note.txt"), "x").unwrap();
    let after = open(folder.path()).model().clone();
    assert_ne!(before.digest, after.digest);
    assert_eq!(after.parts.len(), before.parts.len() + 1);
}

#[test]
fn cuda_that_does_not_work_falls_back_with_a_warning() {
    let options = RuntimeOptions {
        provider: Provider::Cuda,
        ..RuntimeOptions::cpu(onnx::locate_library().unwrap())
    };
    let runtime = Runtime::load(&options).unwrap();
    let status = runtime.provider_status();
    assert_eq!(status.asked, Provider::Cuda);
    if status.used == Provider::Cpu {
        let warning = status.warning.as_deref().unwrap();
        assert!(
            warning.starts_with("CUDA was asked for and does not work"),
            "{warning}"
        );
        let strict = RuntimeOptions {
            require_gpu: true,
            ..options
        };
        let error = Runtime::load(&strict).unwrap_err();
        assert!(matches!(error, OnnxError::GpuMissing { .. }), "{error}");
    }
    let mut generator = Generator::open(&runtime, &fixture("conditional")).unwrap();
    generator.generate(&request(&[1]), &mut go_on).unwrap();
}

#[test]
fn a_library_that_is_not_there_is_an_error_and_no_panic() {
    let options = RuntimeOptions::cpu("/nowhere/libonnxruntime.so".into());
    let error = Runtime::load(&options).unwrap_err();
    assert!(matches!(error, OnnxError::LibraryLoad { .. }), "{error}");
}

fn manifest_line(path: &str, contents: &[u8]) -> String {
    let (sha256, bytes) = (Digest::of(contents), contents.len());
    format!(
        "[[file]]\npath = \"{path}\"\nsha256 = \"{sha256}\"\nbytes = {bytes}\nsource = \"trained \
         here\"\nlicence = \"Apache-2.0\"\n\n"
    )
}

#[test]
fn the_manifest_names_every_file_that_differs() {
    let models = tempfile::tempdir().unwrap();
    let write = |path: &str, contents: &[u8]| {
        let path = models.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    };
    for (path, contents) in [
        ("generator/good.onnx", &b"good"[..]),
        ("generator/changed.onnx", b"evil"),
        ("generator/longer.onnx", b"longer"),
        ("generator/sub/unlisted.onnx", b"?"),
        ("generator/README.md", b"a card"),
        ("training/train.py", b"code"),
    ] {
        write(path, contents);
    }
    let good = manifest_line("generator/good.onnx", b"good");
    write("manifest.toml", good.as_bytes());
    let listed = Manifest::load(models.path()).unwrap();
    assert_eq!(listed.check().unwrap_err().len(), 3);
    let text = [
        good,
        manifest_line("generator/changed.onnx", b"kind"),
        manifest_line("generator/longer.onnx", b"long"),
        manifest_line("detector/missing.onnx", b"x"),
    ]
    .concat();
    write("manifest.toml", text.as_bytes());
    let mismatches = Manifest::load(models.path()).unwrap().check().unwrap_err();
    let names: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    assert_eq!(mismatches.len(), 4, "{names:?}");
    assert!(
        matches!(&mismatches[0], Mismatch::Digest { path, .. } if path == "generator/changed.onnx")
    );
    assert!(
        matches!(&mismatches[1], Mismatch::Length { path, .. } if path == "generator/longer.onnx")
    );
    assert!(
        matches!(&mismatches[2], Mismatch::Missing { path } if path == "detector/missing.onnx")
    );
    assert!(
        matches!(&mismatches[3], Mismatch::Unlisted { path } if path == "generator/sub/unlisted.onnx")
    );
}

#[test]
fn a_manifest_that_leads_out_of_its_folder_is_refused() {
    let models = tempfile::tempdir().unwrap();
    for path in ["../outside", "/etc/passwd", ""] {
        let text = manifest_line(path, b"x");
        std::fs::write(models.path().join("manifest.toml"), text).unwrap();
        let error = Manifest::load(models.path()).unwrap_err();
        assert!(matches!(error, OnnxError::Manifest { .. }), "{error}");
    }
}

#[test]
fn a_missing_manifest_is_named() {
    let models = tempfile::tempdir().unwrap();
    let error = Manifest::load(models.path()).unwrap_err().to_string();
    assert!(error.contains("manifest.toml is missing"), "{error}");
}
