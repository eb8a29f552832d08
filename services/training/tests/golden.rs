//! Fits against scikit-learn's and LightGBM's on the same table (`tests/golden/training/make_golden.py`).

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use ndarray::Array2;
use serde_json::Value;
use training::draws::Draws;
use training::figures::auc;
use training::logistic::{Linear, LogisticSettings, Samples, fit_logistic};
use training::ridge::fit_ridge;
use training::trees::{TreeSettings, grow_trees};

/// Weights agree to this share of the largest one. The reference stops at a tolerance of its own.
const WEIGHT_TOLERANCE: f64 = 1e-4;
/// Mean held-out AUC of trees over five seeds may lie this far from the reference's, whose seeds alone spread over 0.03:
/// both draw features and rows at random, from different generators.
const AUC_TOLERANCE: f64 = 0.01;

struct Generator(u64);

impl Generator {
    fn unit(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1_u32 << 24)
    }
}

struct Table {
    rows: Array2<f32>,
    labels: Vec<bool>,
    weights: Vec<f64>,
    chosen: Vec<usize>,
}

impl Table {
    /// As `table()` in the script.
    fn new(state: u64, count: usize, columns: usize) -> Self {
        let mut draw = Generator(state);
        let (mut rows, mut labels, mut weights) =
            (Array2::zeros((count, columns)), Vec::new(), Vec::new());
        for mut out in rows.rows_mut() {
            let row: Vec<f64> = (0..columns)
                .map(|column| (draw.unit() - 0.5) * f64::from(1 << (column % 4)))
                .collect();
            let step = if row[9] > 0.3 { 0.7 } else { -0.3 };
            let hidden = row[1] + 0.5 * row[5] - 0.25 * row[7] + row[3].abs() - 2.0 + step;
            labels.push(hidden + 3.0 * (draw.unit() - 0.5) > 0.0);
            weights.push(0.5 + draw.unit());
            out.iter_mut()
                .zip(row)
                .for_each(|(cell, value)| *cell = value as f32);
        }
        Self {
            rows,
            labels,
            weights,
            chosen: (0..count).collect(),
        }
    }

    fn samples(&self) -> Samples<'_> {
        Samples {
            rows: self.rows.view(),
            chosen: &self.chosen,
            labels: &self.labels,
            weights: &self.weights,
        }
    }
}

fn golden() -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/training/golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn fitted_table(golden: &Value) -> Table {
    let size = |name: &str| golden[name].as_u64().unwrap() as usize;
    let table = Table::new(1, size("fitted"), size("columns"));
    let first: Vec<f32> = numbers(&golden["first_row"])
        .iter()
        .map(|value| *value as f32)
        .collect();
    assert_eq!(
        table.rows.row(0).to_vec(),
        first,
        "both draw the same table"
    );
    table
}

fn same(found: &Linear, expected: &Value) {
    let weights = numbers(&expected["weights"]);
    let largest = weights
        .iter()
        .fold(0.0_f64, |largest, weight| largest.max(weight.abs()));
    for (found, expected) in found.weights.iter().zip(&weights) {
        assert!(
            (found - expected).abs() <= WEIGHT_TOLERANCE * largest,
            "{found} {expected}"
        );
    }
    let intercept = expected["intercept"].as_f64().unwrap();
    assert!((found.intercept - intercept).abs() <= WEIGHT_TOLERANCE * largest.max(intercept.abs()));
}

#[test]
fn logistic_regression_finds_the_weights_that_scikit_learn_finds() {
    let golden = golden();
    let table = fitted_table(&golden);
    for expected in golden["logistic"].as_array().unwrap() {
        let settings = LogisticSettings {
            standardised: expected["standardised"].as_bool().unwrap(),
            ..LogisticSettings::small(expected["strength"].as_f64().unwrap())
        };
        same(
            &fit_logistic(&table.samples(), &settings, None).unwrap(),
            expected,
        );
    }
}

#[test]
fn ridge_regression_chooses_the_strength_and_finds_the_weights_that_scikit_learn_does() {
    let golden = golden();
    let table = fitted_table(&golden);
    let rows = table.rows.mapv(f64::from);
    let target: Vec<f64> = rows
        .rows()
        .into_iter()
        .map(|row| 3.0 * row[0] - row[2] + row[6] * row[6])
        .collect();
    same(&fit_ridge(rows.view(), &target).unwrap(), &golden["ridge"]);
}

#[test]
fn trees_tell_held_out_rows_apart_as_well_as_lightgbm_does() {
    let golden = golden();
    let table = fitted_table(&golden);
    let held = Table::new(
        2,
        golden["held"].as_u64().unwrap() as usize,
        table.rows.ncols(),
    );
    let reference = numbers(&golden["trees_held_out_auc"]);
    let mean = reference.iter().sum::<f64>() / reference.len() as f64;
    let mut found = Vec::new();
    for seed in 0..5 {
        let trees = grow_trees(
            &table.samples(),
            &TreeSettings::TRACE,
            &mut Draws::new(seed, &["golden"]),
        )
        .unwrap();
        found.push(auc(&trees.scores(held.rows.view()), &held.labels).unwrap());
    }
    let own = found.iter().sum::<f64>() / found.len() as f64;
    assert!(
        (own - mean).abs() <= AUC_TOLERANCE,
        "{found:?} against {reference:?}"
    );
}
