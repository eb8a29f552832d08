//! The built-in model with the settings of its own `generation_config.json`, against the reference
//! implementation's schedulers. The vectors and the script that writes them lie in
//! `tests/golden/generator`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use ndarray::{Array4, ArrayView4, Axis};
use ndarray_npy::read_npy;
use onnx::GenerateRequest;

mod support;

/// The prompts of the vectors, in order.
const PROMPTS: [&str; 2] = ["red heart, noto style", "a green turtle"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden(name: &str) -> PathBuf {
    root().join("tests/golden/generator").join(name)
}

fn row(array: &Array4<f32>, index: usize) -> ArrayView4<'_, f32> {
    let (_, rest) = array.view().split_at(Axis(0), index);
    rest.split_at(Axis(0), 1).0
}

#[test]
fn the_built_in_models_own_settings_give_the_references_pictures() {
    let mut generator = support::open(&root().join("models/generator"));
    let start: Array4<f32> = read_npy(golden("own_start.npy")).unwrap();
    let expected: Array4<f32> = read_npy(golden("own_latents.npy")).unwrap();
    for (index, prompt) in PROMPTS.iter().enumerate() {
        let request = GenerateRequest {
            prompt: Some((*prompt).to_owned()),
            latents: Some(row(&start, index).to_owned()),
            ..generator.defaults().request()
        };
        let made = generator.generate(&request, &mut support::go_on).unwrap();
        let difference = &made.latents - &row(&expected, index);
        let largest = difference.iter().fold(0.0_f32, |most, d| most.max(d.abs()));
        assert!(largest < 1e-3, "{prompt}: {largest}");
    }
}
