//! The schedulers that draw noise or evaluate the model more than once a step, and torch's random
//! numbers, against the reference implementation. The vectors and the script that writes them lie
//! in `tests/golden/schedulers`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use diffusion::config::SchedulerConfig;
use diffusion::schedulers::euler::Churn;
use diffusion::schedulers::flow_match_euler::FlowMatchEuler;
use diffusion::seed::{NoiseKind, NoiseSource, noise_source};
use diffusion::{Scheduler, SchedulerKind};
use ndarray::{Array4, ArrayView4, Axis, concatenate};
use serde::Deserialize;

/// Largest accepted difference, relative to the mean magnitude of a step's output.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    scheduler: String,
    config: serde_json::Value,
    num_inference_steps: Option<usize>,
    set: Settings,
    step: StepArguments,
    begin: usize,
    steps_from_scaled: bool,
    init_noise_sigma: f64,
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    steps: Vec<Step>,
    noisy: Vec<Noisy>,
    torch_seed: Option<u64>,
    known: Option<f64>,
}

/// Arguments of the reference's `set_timesteps`.
#[derive(Deserialize)]
struct Settings {
    timesteps: Option<Vec<f64>>,
    sigmas: Option<Vec<f64>>,
    mu: Option<f64>,
}

/// Arguments of the reference's `step`.
#[derive(Deserialize)]
struct StepArguments {
    eta: Option<f64>,
    s_churn: Option<f64>,
    s_tmin: Option<f64>,
    s_tmax: Option<f64>,
    s_noise: Option<f64>,
}

#[derive(Deserialize)]
struct Step {
    step_index: usize,
    prev_sample: Recorded,
    pred_original_sample: Option<Recorded>,
}

#[derive(Deserialize)]
struct Noisy {
    step_index: usize,
    sample: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    sum: f64,
    abs_sum: f64,
    values: Vec<f64>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/schedulers/stochastic")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn starting_sample() -> Array4<f32> {
    Array4::from_shape_fn((4, 3, 8, 8), |(b, c, h, w)| {
        (((c * 8 + h) * 8 + w) * 4 + b) as f32 / 768.0
    })
}

/// The fixed waves that the golden script draws instead of noise.
struct Waves {
    count: u32,
}

impl NoiseSource for Waves {
    fn normals(&mut self, shape: (usize, usize, usize, usize)) -> Array4<f32> {
        self.count += 1;
        let mut index = 0.0;
        Array4::from_shape_simple_fn(shape, || {
            index += 1.0;
            let phase = 12.9898 * index + 78.233 * f64::from(self.count);
            (2.0_f64.sqrt() * phase.sin()) as f32
        })
    }
}

/// One torch generator for the whole batch, as the reference's own tests use.
struct OneStream(Box<dyn NoiseSource>);

impl NoiseSource for OneStream {
    fn normals(&mut self, shape: (usize, usize, usize, usize)) -> Array4<f32> {
        let values = self.0.normals((1, shape.0 * shape.1, shape.2, shape.3));
        values.into_shape_with_order(shape).unwrap()
    }
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

fn build(case: &Case) -> Box<dyn Scheduler> {
    let mut config = SchedulerConfig::parse(&case.config.to_string()).unwrap();
    config.eta = case.step.eta;
    config.mu = case.set.mu;
    if let Some(amount) = case.step.s_churn {
        let default = Churn::default();
        config.churn = Some(Churn {
            amount,
            sigma_min: case.step.s_tmin.unwrap_or(default.sigma_min),
            sigma_max: case.step.s_tmax.unwrap_or(default.sigma_max),
            deviation: case.step.s_noise.unwrap_or(default.deviation),
        });
    }
    let kind: SchedulerKind = case.scheduler.parse().unwrap();
    match (&case.set.timesteps, &case.set.sigmas) {
        (Some(timesteps), _) => config.scheduler_at(kind, timesteps).unwrap(),
        (None, Some(sigmas)) => Box::new(FlowMatchEuler::at_sigmas(&config, sigmas).unwrap()),
        (None, None) => {
            let steps = case.num_inference_steps.unwrap();
            config.scheduler(kind, steps).unwrap()
        }
    }
}

fn assert_plan(name: &str, case: &Case, scheduler: &dyn Scheduler) {
    assert_eq!(scheduler.timesteps().len(), case.timesteps.len(), "{name}");
    for (found, expected) in scheduler.timesteps().iter().zip(&case.timesteps) {
        assert_close(&format!("{name}: timestep"), *found, *expected, 1.0);
    }
    if !scheduler.sigmas().is_empty() && !case.scheduler.starts_with("kdpm2") {
        for (found, expected) in scheduler.sigmas().iter().zip(&case.sigmas) {
            assert_close(&format!("{name}: sigma"), *found, *expected, 0.0);
        }
    }
    if case.scheduler.starts_with("kdpm2") {
        // The reference lists the sigma that a step leads to for its second evaluation, too; here
        // that place holds the sigma at which the model is asked.
        for (found, expected) in scheduler.sigmas().iter().zip(&case.sigmas).step_by(2) {
            assert_close(&format!("{name}: sigma"), *found, *expected, 0.0);
        }
    }
    assert_close(
        &format!("{name}: init_noise_sigma"),
        scheduler.init_noise_sigma(),
        case.init_noise_sigma,
        0.0,
    );
}

/// `output(x, t) = x t / (t + 1)`, with the made-up variance half of the script where it is learned.
fn model(case: &Case, sample: &Array4<f32>, t: f32) -> Array4<f32> {
    let output = sample * t / (t + 1.0);
    let variance_type = case.config["variance_type"].as_str().unwrap_or_default();
    if !variance_type.starts_with("learned") {
        return output;
    }
    let variance = output.mapv(|value| 0.2 + 0.5 * value.abs() / (1.0 + value.abs()));
    concatenate(Axis(1), &[output.view(), variance.view()]).unwrap()
}

fn run(name: &str, case: &Case) {
    let mut scheduler = build(case);
    assert_plan(name, case, scheduler.as_ref());
    for noisy in &case.noisy {
        let noise = Waves { count: 0 }.normals((4, 3, 8, 8));
        let original = starting_sample();
        let sample = scheduler.add_noise(original.view(), noise.view(), noisy.step_index);
        let what = format!("{name}, noisy at {}", noisy.step_index);
        assert_recorded(&what, sample.unwrap().view(), &noisy.sample, 0.0);
    }
    let mut noise: Box<dyn NoiseSource> = match case.torch_seed {
        Some(seed) => Box::new(OneStream(noise_source(NoiseKind::TorchCpu, &[seed]))),
        None => Box::new(Waves { count: 0 }),
    };
    let mut sample = starting_sample() * scheduler.init_noise_sigma() as f32;
    if case.begin > 0 {
        let start_noise = Waves { count: 0 }.normals((4, 3, 8, 8));
        let original = starting_sample();
        sample = scheduler
            .add_noise(original.view(), start_noise.view(), case.begin)
            .unwrap();
        scheduler.skip(case.begin).unwrap();
    }
    let mut expected = case.steps.iter().peekable();
    for step_index in case.begin..case.timesteps.len() {
        let scaled = &sample * scheduler.model_input_scale(step_index) as f32;
        let t = scheduler.timesteps()[step_index] as f32;
        let model_output = model(case, &scaled, t);
        let from = if case.steps_from_scaled {
            &scaled
        } else {
            &sample
        };
        let output = scheduler
            .step(step_index, model_output.view(), from.view(), noise.as_mut())
            .unwrap();
        if let Some(expected) = expected.next_if(|step| step.step_index == step_index) {
            let what = format!("{name}, step {step_index}");
            // What is left where a step cancels its input is rounding of the input's size, or of
            // the several arrays of that size that multistep formulas add up.
            let magnitudes: f64 = from.iter().map(|value| f64::from(value.abs())).sum();
            let found = output.prev_sample.view();
            assert_recorded(&what, found, &expected.prev_sample, magnitudes * 0.02);
            if let Some(original) = &expected.pred_original_sample {
                // A small difference of arrays of the sample's size, in 32 bits.
                let found = output.pred_original_sample.view();
                assert_recorded(&format!("{what}, original"), found, original, magnitudes);
            }
        }
        sample = output.prev_sample;
    }
    assert!(expected.next().is_none(), "{name}: steps are left over");
    if let Some(known) = case.known {
        let abs_sum: f64 = sample.iter().map(|value| f64::from(value.abs())).sum();
        let limit = 1e-2_f64.max(1e-5 * known);
        assert!(
            (abs_sum - known).abs() < limit,
            "{name}: sum {abs_sum} instead of {known}"
        );
    }
}

#[test]
fn every_scheduler_follows_the_reference_with_the_same_noise() {
    let mut cases = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if ["VERSIONS", "torch_noise", "score_sde"].contains(&name.as_str()) {
            continue;
        }
        let case: Case = read(&path);
        cases += 1;
        if let Err(panic) = std::panic::catch_unwind(|| run(&name, &case)) {
            let message = panic.downcast_ref::<String>().cloned();
            failures.push(message.unwrap_or_else(|| format!("{name} panicked")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases >= 103, "only {cases} golden loops were found");
}

#[derive(Deserialize)]
struct ScoreSde {
    snr: f64,
    corrected: Recorded,
    time: f64,
    moved: Recorded,
}

#[test]
fn the_langevin_corrector_takes_the_step_of_the_reference() {
    let golden: ScoreSde = read(&folder().join("score_sde.json"));
    let sample = first_image();
    // The corrector of the reference lacks the factor alpha of algorithm 5, which is near one at
    // the first timesteps.
    let config = SchedulerConfig {
        snr: Some(golden.snr),
        ..SchedulerConfig::default()
    };
    let kind = SchedulerKind::PredictorCorrector;
    let mut scheduler = config.scheduler_at(kind, &[1.0, 0.0]).unwrap();
    let alphas_cumprod = config.noise_schedule().unwrap().alphas_cumprod().to_vec();
    let score = &sample * -0.3 - 0.1;
    let noise_pred = score * -(1.0 - alphas_cumprod[0]).sqrt() as f32;
    let first = Array4::zeros(sample.dim());
    scheduler
        .step(
            0,
            first.view(),
            sample.view(),
            &mut diffusion::seed::NoNoise,
        )
        .unwrap();
    let mut noise = Waves { count: 0 };
    let output = scheduler.step(1, noise_pred.view(), sample.view(), &mut noise);
    let corrected = output.unwrap().prev_sample;
    assert_near(&corrected, &golden.corrected, 2e-4);
}

#[test]
fn the_ancestral_predictor_agrees_with_the_references_sde_step_to_second_order_in_beta() {
    let golden: ScoreSde = read(&folder().join("score_sde.json"));
    // The reference discretises the SDE at a continuous time; this is the nearest timestep.
    let timestep = (golden.time * 1000.0 - 1.0).round();
    let config = SchedulerConfig::default();
    let kind = SchedulerKind::PredictorCorrector;
    let list = [timestep, timestep - 1.0];
    let mut scheduler = config.scheduler_at(kind, &list).unwrap();
    let sample = first_image();
    let noise_pred = &sample * 0.4 + 0.2;
    // The second drawing of the script is the one of this step.
    let mut noise = Waves { count: 1 };
    let output = scheduler.step(0, noise_pred.view(), sample.view(), &mut noise);
    let moved = output.unwrap().prev_sample;
    // beta is 0.01 here: its square is 1e-4, and the two discretisations of time differ by half a
    // timestep, a thousandth of beta and of the deviation of the noise.
    assert_near(&moved, &golden.moved, 1e-3);
}

fn assert_near(found: &Array4<f32>, expected: &Recorded, limit: f64) {
    let values: Vec<f64> = found.iter().map(|&value| f64::from(value)).collect();
    let last = expected.values.len() - 1;
    for (place, &value) in expected.values.iter().enumerate() {
        let index = (place as f64 * (values.len() - 1) as f64 / last as f64).round_ties_even();
        let difference = (values[index as usize] - value).abs();
        assert!(difference < limit, "{} {value}", values[index as usize]);
    }
}

/// The first image of the starting sample.
fn first_image() -> Array4<f32> {
    starting_sample().view().split_at(Axis(0), 1).0.to_owned()
}

#[derive(Deserialize)]
struct TorchNoise {
    seed: String,
    calls: Vec<TorchCall>,
}

#[derive(Deserialize)]
struct TorchCall {
    size: usize,
    sum: f64,
    values: Vec<f64>,
}

#[test]
fn torch_cpu_noise_is_what_torch_draws_for_tensors_of_any_size_in_a_row() {
    for case in read::<Vec<TorchNoise>>(&folder().join("torch_noise.json")) {
        let mut source = noise_source(NoiseKind::TorchCpu, &[case.seed.parse().unwrap()]);
        for (place, call) in case.calls.iter().enumerate() {
            let values = source.normals((1, 1, 1, call.size));
            let what = format!("seed {}, call {place} of {} values", case.seed, call.size);
            let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
            assert!((sum - call.sum).abs() < 1e-4, "{what}: {sum} {}", call.sum);
            let tail = values.iter().skip(call.size - call.values.len());
            for (&found, &expected) in tail.zip(&call.values) {
                let difference = (f64::from(found) - expected).abs();
                assert!(difference < 2e-6, "{what}: {found} instead of {expected}");
            }
        }
    }
}

#[test]
fn an_image_draws_the_same_noise_alone_and_in_a_batch_with_every_source() {
    for kind in NoiseKind::ALL {
        let mut batch = noise_source(kind, &[7, 8]);
        let mut alone = noise_source(kind, &[8]);
        for size in [3, 20, 5] {
            let both = batch.normals((2, 1, 1, size));
            assert_eq!(
                both.index_axis(Axis(0), 1),
                alone.normals((1, 1, 1, size)).index_axis(Axis(0), 0),
                "{kind}"
            );
        }
    }
}

#[test]
fn later_noise_of_the_default_source_continues_the_stream_of_the_initial_noise() {
    let mut source = noise_source(NoiseKind::ChaCha20, &[42]);
    let first = source.normals((1, 3, 1, 3));
    let second = source.normals((1, 3, 1, 3));
    let whole = diffusion::seed::initial_noise(42, (3, 2, 3));
    let drawn: Vec<f32> = first.into_iter().chain(second).collect();
    assert_eq!(drawn, whole.into_iter().collect::<Vec<f32>>());
}
