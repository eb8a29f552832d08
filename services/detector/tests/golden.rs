//! Every feature against an independent implementation (`tests/golden/detector`).

use detector::features::names;
use detector::patches::Selection;
use detector::{ImageTrace, PictureView, TraceConfig, extract, features};
use diffusion::NoisePredictor;
use ndarray::{Array4, ArrayView4};
use serde::Deserialize;

#[path = "../../../tests/golden/detector/picture.rs"]
mod picture;

use picture::{HEIGHT, WIDTH, synthetic_picture};

/// 32-bit samples on both sides, added up in another order, under logarithms of small powers.
const TOLERANCE: f64 = 2e-3;

#[derive(Deserialize)]
struct Vectors {
    places: Vec<Place>,
    rows: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Place {
    x: usize,
    y: usize,
    selection: Selection,
}

/// Twice the hyperbolic tangent of the high pass over four noise levels, edges repeated.
struct HighPass;

impl NoisePredictor for HighPass {
    type Error = std::convert::Infallible;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        noise_level: f64,
    ) -> Result<Array4<f32>, Self::Error> {
        let (_, _, height, width) = sample.dim();
        Ok(Array4::from_shape_fn(sample.dim(), |(n, c, y, x)| {
            let mut blur = 0.0;
            for (dy, wy) in [(0, 1.0), (1, 2.0), (2, 1.0)] {
                for (dx, wx) in [(0, 1.0), (1, 2.0), (2, 1.0)] {
                    let row = (y + dy).saturating_sub(1).min(height - 1);
                    let column = (x + dx).saturating_sub(1).min(width - 1);
                    blur += wy * wx * sample[[n, c, row, column]] / 16.0;
                }
            }
            2.0 * ((sample[[n, c, y, x]] - blur) / (4.0 * noise_level) as f32).tanh()
        }))
    }
}

fn config() -> TraceConfig {
    TraceConfig {
        flattest: 2,
        richest: 2,
        spread: 1,
        ..TraceConfig::default()
    }
}

fn trace_of_the_synthetic_picture() -> ImageTrace {
    let rgb = synthetic_picture();
    let picture =
        PictureView::new(WIDTH as u32, HEIGHT as u32, &rgb).expect("the fixture is sound");
    extract(&picture, &config(), &mut HighPass).expect("the fixture is sound")
}

#[test]
fn features_equal_those_of_an_independent_implementation() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/detector/vectors.json"
    );
    let vectors: Vectors = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let trace = trace_of_the_synthetic_picture();
    assert_eq!(trace.patches.len(), vectors.places.len());
    for (patch, expected) in trace.patches.iter().zip(&vectors.places) {
        assert_eq!((patch.place.x, patch.place.y), (expected.x, expected.y));
        assert_eq!(patch.place.selection, expected.selection);
    }
    let rows = features(&trace).rows;
    let names = names(&config());
    for (patch, expected) in vectors.rows.iter().enumerate() {
        assert_eq!(expected.len(), names.len());
        for (column, expected) in expected.iter().enumerate() {
            let found = f64::from(rows[[patch, column]]);
            assert!(
                (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0),
                "patch {patch}, {}: found {found}, expected {expected}",
                names[column]
            );
        }
    }
}

#[test]
fn the_same_picture_gives_the_same_trace_to_the_last_bit() {
    assert_eq!(
        trace_of_the_synthetic_picture(),
        trace_of_the_synthetic_picture()
    );
}
