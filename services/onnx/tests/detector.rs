//! The detector of `models/detector` against an independent implementation.

use std::path::{Path, PathBuf};

use detector::{Evidence, PictureView, Reason, Silence, Verdict};
use onnx::{Detector, OnnxError, Runtime, RuntimeOptions, locate_library};
use serde::Deserialize;

#[path = "../../../tests/golden/detector/picture.rs"]
mod picture;

#[derive(Deserialize)]
struct SemanticVectors {
    head: String,
    raw_scores: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Vectors {
    digests: std::collections::BTreeMap<String, String>,
    raw_scores: Vec<f32>,
    raw_score: f32,
    probability: f32,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn runtime() -> Runtime {
    let library = locate_library().expect("`cargo xtask setup` fetches ONNX Runtime");
    Runtime::load(&RuntimeOptions::cpu(library)).expect("the fixture is sound")
}

fn open_detector() -> Detector {
    let library = locate_library().expect("`cargo xtask setup` fetches ONNX Runtime");
    let native = onnx::library::native_folder(&library);
    let folder = root().join("models/detector");
    Detector::open(&runtime(), &folder, &native).expect("the fixture is sound")
}

fn open_without_encoder() -> Detector {
    let folder = root().join("models/detector");
    Detector::open(&runtime(), &folder, Path::new("nowhere")).expect("the fixture is sound")
}

fn vectors() -> Vectors {
    let path = root().join("tests/golden/detector/end_to_end.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture is sound"))
        .expect("the fixture is sound")
}

#[test]
fn prior_and_heads_are_the_ones_that_the_golden_vectors_were_made_with() {
    let detector = open_detector();
    for (path, digest) in vectors().digests {
        assert_eq!(
            detector.identity().parts[&path].to_string(),
            digest,
            "{path}"
        );
    }
}

#[test]
fn a_score_equals_that_of_an_independent_implementation() {
    let rgb = picture::synthetic_picture();
    let view = PictureView::new(picture::WIDTH as u32, picture::HEIGHT as u32, &rgb).unwrap();
    // Without the image encoder, which has vectors of its own.
    let answer = open_without_encoder().assess(&view).unwrap();
    let expected = vectors();
    let found: Vec<f32> = answer
        .heatmap
        .cells
        .iter()
        .map(|cell| cell.raw_score)
        .collect();
    assert_eq!(found.len(), expected.raw_scores.len());
    // A feature that lies next to a branch of a tree may fall on its other side: 200 trees of a
    // few hundredths each keep that far below this.
    for (found, expected) in found.iter().zip(&expected.raw_scores) {
        assert!(
            (found - expected).abs() < 0.1,
            "found {found}, expected {expected}"
        );
    }
    assert!((answer.raw_score.unwrap() - expected.raw_score).abs() < 0.05);
    assert!((answer.probability.unwrap() - expected.probability).abs() < 0.02);
}

#[test]
fn raw_scores_of_the_views_equal_those_of_an_independent_implementation() {
    let path = root().join("tests/golden/detector/semantic.json");
    let text = std::fs::read_to_string(path).expect("the fixture is sound");
    let expected: SemanticVectors = serde_json::from_str(&text).expect("the fixture is sound");
    let mut detector = open_detector();
    let head = detector.identity().parts["heads/semantic.onnx"].to_string();
    assert_eq!(
        head, expected.head,
        "the vectors were made with another head"
    );
    for (times, expected) in [1, 8].into_iter().zip(&expected.raw_scores) {
        let (width, height, rgb) = picture::repeated(times);
        let view = PictureView::new(width, height, &rgb).unwrap();
        let features = detector
            .embed(&view)
            .unwrap()
            .expect("the picture is large enough");
        let answer = detector.assess(&view).unwrap();
        let found = answer.evidence.iter().find_map(|finding| match finding {
            Evidence::SemanticViews {
                raw_score, views, ..
            } => Some((*raw_score, *views)),
            _ => None,
        });
        let (raw_score, views) = found.expect("the encoder is among the native parts");
        assert_eq!(
            (views, features.views.len()),
            (expected.len(), expected.len())
        );
        let mean = expected.iter().sum::<f32>() / expected.len() as f32;
        // Two resamplings differ by one grey level in a few pixels, which moves a raw score a little.
        assert!(
            (raw_score - mean).abs() < 0.1,
            "found {raw_score}, expected {mean}"
        );
    }
}

#[test]
fn without_its_encoder_the_detector_says_that_the_trace_speaks_alone() {
    let rgb = picture::synthetic_picture();
    let view = PictureView::new(picture::WIDTH as u32, picture::HEIGHT as u32, &rgb).unwrap();
    let mut detector = open_without_encoder();
    assert_eq!(detector.semantic_installed(), Some(false));
    assert_ne!(
        detector.identity().digest,
        open_detector().identity().digest
    );
    let silent = Evidence::SemanticSilent {
        silence: Silence::NotInstalled,
    };
    assert!(detector.assess(&view).unwrap().evidence.contains(&silent));
}

#[test]
fn another_encoder_than_the_head_was_fitted_on_is_refused() {
    let native = tempfile::tempdir().unwrap();
    std::fs::create_dir(native.path().join("semantic")).unwrap();
    let encoder = native.path().join("semantic/clip_encoder.int8.onnx");
    std::fs::write(encoder, b"another").unwrap();
    let folder = root().join("models/detector");
    let refused = Detector::open(&runtime(), &folder, native.path()).unwrap_err();
    assert!(
        refused.to_string().contains("semantic.json needs 2d2da5e2"),
        "{refused}"
    );
}

#[test]
fn the_same_picture_gives_the_same_score_to_the_last_bit() {
    let rgb = picture::synthetic_picture();
    let view = PictureView::new(picture::WIDTH as u32, picture::HEIGHT as u32, &rgb).unwrap();
    let first = open_detector().assess(&view).unwrap();
    assert_eq!(first, open_detector().assess(&view).unwrap());
}

#[test]
fn a_picture_smaller_than_a_patch_gets_no_probability() {
    let view = PictureView::new(64, 64, &[7; 64 * 64 * 3]).unwrap();
    let answer = open_detector().assess(&view).unwrap();
    assert_eq!(
        (answer.verdict, answer.reason),
        (Verdict::Inconclusive, Reason::TooSmall)
    );
    assert_eq!(answer.probability, None);
}

#[test]
fn a_folder_without_its_files_is_refused_by_the_name_of_the_file() {
    let refused = Detector::open(&runtime(), Path::new("nowhere"), Path::new("nowhere"));
    assert!(matches!(refused, Err(OnnxError::FileMissing { .. })));
    assert!(refused.unwrap_err().to_string().contains("detector.json"));
}
