//! The detector of `models/detector` against an independent implementation.

use std::path::{Path, PathBuf};

use detector::{PictureView, Reason, Verdict};
use onnx::{Detector, OnnxError, Runtime, RuntimeOptions, locate_library};
use serde::Deserialize;

#[path = "../../../tests/golden/detector/picture.rs"]
mod picture;

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
    Detector::open(&runtime(), &root().join("models/detector")).expect("the fixture is sound")
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
    let answer = open_detector().assess(&view).unwrap();
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
    let refused = Detector::open(&runtime(), Path::new("nowhere"));
    assert!(matches!(refused, Err(OnnxError::FileMissing { .. })));
    assert!(refused.unwrap_err().to_string().contains("detector.json"));
}
