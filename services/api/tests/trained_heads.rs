//! Heads that the training crate writes load in ONNX Runtime and give the scores that were fitted.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use ndarray::Array2;
use onnx::library::locate_library_from;
use onnx::{Heads, Provider, Runtime, RuntimeOptions};
use training::draws::Draws;
use training::logistic::{Linear, Samples};
use training::onnx_file::{linear_file, trees_file};
use training::trees::{TreeSettings, grow_trees};

/// 200 leaves of 32-bit floats are added up in another order.
const TOLERANCE: f64 = 1e-4;

fn runtime() -> Runtime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let native = std::env::var_os("RETRACE_RUNTIME").map_or(root.join(".runtime"), Into::into);
    let options = RuntimeOptions {
        library: locate_library_from(Some(&native), &native).unwrap(),
        provider: Provider::Cpu,
        require_gpu: false,
        threads: 1,
    };
    Runtime::load(&options).unwrap()
}

/// Rows whose values also lie on thresholds and far outside of what was fitted.
fn table(rows: usize) -> Array2<f32> {
    let mut draws = Draws::new(9, &["rows"]);
    Array2::from_shape_fn((rows, 6), |_| {
        (draws.between(-4.0, 4.0) * 8.0).round() as f32 / 8.0
    })
}

/// Scores of a head's file for the rows.
fn scores(file: &[u8], rows: &Array2<f32>) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.onnx");
    std::fs::write(&path, file).unwrap();
    let mut heads = Heads::open(&runtime(), &[path], rows.ncols()).unwrap();
    heads.scores(rows.view()).unwrap()
}

#[test]
fn trees_give_the_same_scores_as_onnx() {
    let rows = table(600);
    let labels: Vec<bool> = rows
        .rows()
        .into_iter()
        .map(|row| row[1] * row[1] + row[4] > 3.0)
        .collect();
    let chosen: Vec<usize> = (0..rows.nrows()).collect();
    let weights = vec![1.0; rows.nrows()];
    let samples = Samples {
        rows: rows.view(),
        chosen: &chosen,
        labels: &labels,
        weights: &weights,
    };
    let trees = grow_trees(
        &samples,
        &TreeSettings::TRACE,
        &mut Draws::new(1, &["trees"]),
    )
    .unwrap();
    let judged = &table(2000) * 1.25;
    for (found, expected) in scores(&trees_file(&trees), &judged)
        .iter()
        .zip(trees.scores(judged.view()))
    {
        assert!(
            (f64::from(*found) - expected).abs() < TOLERANCE,
            "{found} {expected}"
        );
    }
}

#[test]
fn a_logistic_regression_gives_the_same_scores_as_onnx() {
    let linear = Linear {
        weights: vec![0.5, -1.25, 0.0, 3.0, 1e-3, -2.0],
        intercept: -0.75,
    };
    let rows = table(50);
    for (found, row) in scores(&linear_file(&linear), &rows).iter().zip(rows.rows()) {
        let expected = linear.score(row.as_slice().unwrap());
        assert!(
            (f64::from(*found) - expected).abs() < TOLERANCE,
            "{found} {expected}"
        );
    }
}
