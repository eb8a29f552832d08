//! Every scheduler against full loops of the reference implementation, and the initial noise
//! against an independent computation. The vectors and the script that writes them lie in
//! `tests/golden/schedulers`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use diffusion::{Scheduler, SchedulerConfig, SchedulerKind, seed};
use ndarray::{Array4, ArrayView4, Axis};
use serde::Deserialize;

/// Largest accepted difference, relative to the largest value of a step.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    scheduler: String,
    config: serde_json::Value,
    num_inference_steps: usize,
    /// Explicit timesteps instead of a number.
    at: Option<Vec<f64>>,
    eta: f64,
    /// The step index that the loop starts at.
    first: usize,
    steps_from_scaled: bool,
    init_noise_sigma: f64,
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    steps: Vec<Step>,
    #[serde(default)]
    known: Option<Known>,
}

#[derive(Deserialize)]
struct Known {
    abs_sum: Option<f64>,
    abs_mean: Option<f64>,
}

#[derive(Deserialize)]
struct Step {
    prev_sample: Recorded,
    pred_original_sample: Option<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    sum: f64,
    abs_sum: f64,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Noise {
    seed: String,
    values: Vec<f64>,
}

/// The noise that the vectors were made with; see the script beside them.
#[derive(Default)]
struct GivenNoise {
    draws: u64,
}

impl seed::NoiseSource for GivenNoise {
    fn normals(&mut self, shape: (usize, usize, usize, usize)) -> Array4<f32> {
        let mut index = 0;
        let noise = Array4::from_shape_simple_fn(shape, || {
            let residue = (index * 7919 + self.draws * 104_729) % 2003;
            index += 1;
            (3.0_f64.sqrt() * (2.0 * residue as f64 / 2002.0 - 1.0)) as f32
        });
        self.draws += 1;
        noise
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/schedulers")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn starting_sample() -> Array4<f32> {
    Array4::from_shape_fn((4, 3, 8, 8), |(b, c, h, w)| {
        (((c * 8 + h) * 8 + w) * 4 + b) as f32 / 768.0
    })
}

fn assert_close(what: &str, found: f64, expected: f64, scale: f64) {
    let limit = TOLERANCE * scale.max(expected.abs());
    assert!(
        (found - expected).abs() <= limit,
        "{what}: {found} instead of {expected}"
    );
}

/// `abs_sum_min`: sum of magnitudes that differences are judged against where that of the recorded
/// array is smaller.
fn assert_recorded(what: &str, found: ArrayView4<'_, f32>, expected: &Recorded, abs_sum_min: f64) {
    let values: Vec<f64> = found.iter().map(|&value| f64::from(value)).collect();
    let scale = expected.abs_sum.max(abs_sum_min);
    let mean_abs = scale / values.len() as f64;
    let abs_sum: f64 = values.iter().map(|value| value.abs()).sum();
    assert_close(what, abs_sum, expected.abs_sum, scale);
    // A sum may cancel; its error is judged against the sum of magnitudes.
    assert_close(what, values.iter().sum(), expected.sum, scale);
    let last = expected.values.len() - 1;
    for (place, &value) in expected.values.iter().enumerate() {
        let index = (place as f64 * (values.len() - 1) as f64 / last as f64).round_ties_even();
        assert_close(what, values[index as usize], value, mean_abs);
    }
}

/// The scheduler of a case, with the recorded timesteps and sigmas.
fn planned(name: &str, case: &Case) -> Box<dyn Scheduler> {
    let mut config = SchedulerConfig::parse(&case.config.to_string()).unwrap();
    config.eta = Some(case.eta);
    let kind: SchedulerKind = case.scheduler.parse().unwrap();
    let mut scheduler = match &case.at {
        Some(timesteps) => config.scheduler_at(kind, timesteps).unwrap(),
        None => config.scheduler(kind, case.num_inference_steps).unwrap(),
    };
    if case.first > 0 {
        scheduler.skip(case.first).unwrap();
    }
    assert_eq!(scheduler.timesteps().len(), case.timesteps.len(), "{name}");
    for (found, expected) in scheduler.timesteps().iter().zip(&case.timesteps) {
        assert_close(&format!("{name}: timestep"), *found, *expected, 1e-2);
    }
    for (found, expected) in scheduler.sigmas().iter().zip(&case.sigmas) {
        assert_close(&format!("{name}: sigma"), *found, *expected, 0.0);
    }
    scheduler
}

/// What the recorded loops have for a model: `x * t / (t + 1)`, and where the case says that
/// variances are learned, as many channels again.
fn model_output(case: &Case, input: &Array4<f32>, t: f32) -> Array4<f32> {
    let output = input * t / (t + 1.0);
    if case.config.get("variance_type").is_none() {
        return output;
    }
    let variance = &output * 0.5;
    ndarray::concatenate(Axis(1), &[output.view(), variance.view()]).unwrap()
}

fn run(name: &str, case: &Case) {
    let mut scheduler = planned(name, case);
    let sigma = scheduler.init_noise_sigma();
    let what = format!("{name}: init_noise_sigma");
    assert_close(&what, sigma, case.init_noise_sigma, 0.0);
    let mut sample = starting_sample() * sigma as f32;
    let mut noise = GivenNoise::default();
    for (expected, step_index) in case.steps.iter().zip(case.first..) {
        let scaled = &sample * scheduler.model_input_scale(step_index) as f32;
        let output = model_output(case, &scaled, scheduler.timesteps()[step_index] as f32);
        let from = if case.steps_from_scaled {
            &scaled
        } else {
            &sample
        };
        let output = scheduler
            .step(step_index, output.view(), from.view(), &mut noise)
            .unwrap();
        let what = format!("{name}, step {step_index}");
        let (prev, prev_expected) = (output.prev_sample.view(), &expected.prev_sample);
        // What is left where a step cancels its input is rounding of the input's size.
        let left_over: f64 = from.iter().map(|value| f64::from(value.abs())).sum::<f64>() * 0.01;
        assert_recorded(&what, prev, prev_expected, left_over);
        if let Some(original) = &expected.pred_original_sample {
            // The noise-free sample is a small difference of arrays of the sample's size, in 32 bits.
            let abs_sum = expected.prev_sample.abs_sum;
            assert_recorded(&what, output.pred_original_sample.view(), original, abs_sum);
        }
        sample = output.prev_sample;
    }
    if let Some(known) = &case.known {
        let abs_sum: f64 = sample.iter().map(|value| f64::from(value.abs())).sum();
        let found = known
            .abs_sum
            .map_or(abs_sum / sample.len() as f64, |_| abs_sum);
        let expected = known.abs_sum.or(known.abs_mean).unwrap();
        assert!(
            (found - expected).abs() < 1e-2,
            "{name}: {found} instead of {expected}"
        );
    }
}

#[test]
fn every_scheduler_follows_the_reference_through_full_loops() {
    let (mut cases, mut failed) = (0, Vec::new());
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|ending| ending != "json")
            || ["VERSIONS.json", "noise.json"].contains(&name.as_str())
        {
            continue;
        }
        let outcome = std::panic::catch_unwind(|| run(&name, &read(&path)));
        failed.extend(outcome.err().map(|_| name));
        cases += 1;
    }
    assert!(
        failed.is_empty(),
        "{} loops differ: {failed:?}",
        failed.len()
    );
    assert!(cases >= 157, "only {cases} golden loops were found");
}

#[test]
fn initial_noise_is_the_documented_stream() {
    for expected in read::<Vec<Noise>>(&folder().join("noise.json")) {
        let noise = seed::initial_noise(expected.seed.parse().unwrap(), (3, 4, 4));
        for (found, expected) in noise.iter().zip(&expected.values) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{found} {expected}"
            );
        }
    }
}

#[test]
fn initial_noise_keeps_its_bits() {
    let noise = seed::initial_noise(42, (4, 16, 16));
    // FNV-1a over the bit patterns.
    let hash = noise.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    });
    assert_eq!(hash, 7_386_027_726_821_886_799);
}
