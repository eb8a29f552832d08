//! The denoising loop, inversion and reconstruction on models whose answer is known.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::ControlFlow;

use diffusion::config::BetaSchedule;
use diffusion::{
    DiffusionError, NoisePredictor, SchedulerConfig, SchedulerKind, denoise, guidance, invert,
    reconstruct, seed,
};
use ndarray::{Array4, ArrayView4, Axis};

/// The exact predictor for data whose pixels are independent and normal, at any noise level:
/// `epsilon = noise (x - signal mean) / (signal^2 deviation^2 + noise^2)`, or for a flow model the
/// velocity that goes with it.
struct Gaussian {
    /// Noise to signal of each training timestep; empty for a flow model.
    sigmas: Vec<f64>,
    mean: f64,
    deviation: f64,
}

impl Gaussian {
    /// Signal and noise at a timestep; between two training timesteps sigma is interpolated.
    fn level(&self, timestep: f64) -> (f64, f64) {
        if self.sigmas.is_empty() {
            return (1.0 - timestep / 1000.0, timestep / 1000.0);
        }
        let low = timestep.floor() as usize;
        let high = (low + 1).min(self.sigmas.len() - 1);
        let share = timestep - timestep.floor();
        let sigma = self.sigmas[low] + share * (self.sigmas[high] - self.sigmas[low]);
        let signal = 1.0 / (1.0 + sigma * sigma).sqrt();
        (signal, sigma * signal)
    }

    /// Where the probability-flow ODE leads from a sample at a timestep: the same quantile of the
    /// data.
    fn destination(&self, sample: f64, timestep: f64) -> f64 {
        let (signal, noise) = self.level(timestep);
        let deviation = (signal * self.deviation).hypot(noise);
        self.mean + self.deviation * (sample - signal * self.mean) / deviation
    }
}

impl NoisePredictor for Gaussian {
    type Error = DiffusionError;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timestep: f64,
    ) -> Result<Array4<f32>, DiffusionError> {
        let (signal, noise) = self.level(timestep);
        let variance = (signal * self.deviation).powi(2) + noise * noise;
        Ok(sample.map(|&x| {
            let epsilon = noise * (f64::from(x) - signal * self.mean) / variance;
            let output = if self.sigmas.is_empty() {
                let spread = signal * self.deviation.powi(2);
                let original = self.mean + spread * (f64::from(x) - signal * self.mean) / variance;
                epsilon - original
            } else {
                epsilon
            };
            output as f32
        }))
    }
}

struct Constant(f32);

impl NoisePredictor for Constant {
    type Error = DiffusionError;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        _timestep: f64,
    ) -> Result<Array4<f32>, DiffusionError> {
        Ok(sample.map(|_| self.0))
    }
}

/// The betas are named because not all schedulers have the same defaults.
fn config_with(options: &str) -> SchedulerConfig {
    SchedulerConfig::parse(&format!(
        r#"{{"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
             "clip_sample": false, "set_alpha_to_one": true {options}}}"#
    ))
    .unwrap()
}

fn config() -> SchedulerConfig {
    config_with(r#", "timestep_spacing": "trailing""#)
}

fn gaussian(config: &SchedulerConfig, kind: SchedulerKind, deviation: f64) -> Gaussian {
    let sigmas = if kind.is_flow() {
        Vec::new()
    } else {
        config.noise_schedule().unwrap().sigmas()
    };
    Gaussian {
        sigmas,
        mean: 0.3,
        deviation,
    }
}

/// Runs a scheduler from the noise of seed 7, shape (1, 3, side, side).
fn sample_from(
    config: &SchedulerConfig,
    kind: SchedulerKind,
    (steps, side, deviation): (usize, usize, f64),
) -> Result<Array4<f32>, DiffusionError> {
    let mut scheduler = config.scheduler(kind, steps)?;
    let mut noise = seed::noise_source(seed::NoiseKind::ChaCha20, &[7]);
    let start = noise.normals((1, 3, side, side)) * scheduler.init_noise_sigma() as f32;
    denoise(
        &mut gaussian(config, kind, deviation),
        scheduler.as_mut(),
        start,
        noise.as_mut(),
        &mut |_| ControlFlow::Continue(()),
    )
}

#[test]
fn every_scheduler_finds_the_only_point_of_the_data() {
    for kind in SchedulerKind::GENERATIVE {
        let sample = sample_from(&config(), kind, (20, 4, 0.0)).unwrap();
        // DEIS and TCD end at the smallest noise level of training, not at none; the plain Heun
        // steps of the probability flow are the only ones that are not exact on a single point.
        let inexact = [
            SchedulerKind::Deis,
            SchedulerKind::Tcd,
            SchedulerKind::ProbabilityFlow,
        ];
        let limit = if inexact.contains(&kind) { 0.05 } else { 1e-3 };
        for value in &sample {
            assert!((value - 0.3).abs() < limit, "{kind}: {value}");
        }
    }
}

#[test]
fn cosine_schedules_stay_finite_at_few_steps_with_every_scheduler() {
    for spacing in ["linspace", "leading", "trailing"] {
        let config = SchedulerConfig {
            beta_schedule: Some(BetaSchedule::SquaredcosCapV2),
            ..config_with(&format!(r#", "timestep_spacing": "{spacing}""#))
        };
        for kind in SchedulerKind::GENERATIVE {
            for steps in 4..=10 {
                let sample = sample_from(&config, kind, (steps, 4, 0.5))
                    .unwrap_or_else(|error| panic!("{kind}, {steps} steps, {spacing}: {error}"));
                // PNDM's steps are as long as the training schedule over the number of steps, which
                // is not the distance of its timesteps with every spacing (as in the reference);
                // where noise is ten thousand times the signal, that throws it off.
                if kind == SchedulerKind::Pndm {
                    continue;
                }
                let largest = sample.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                assert!(largest < 1e4, "{kind}, {steps} steps, {spacing}: {largest}");
            }
        }
    }
}

/// Largest distance of a deterministic scheduler's answer from the exact one on normal data.
fn distance(kind: SchedulerKind, steps: usize) -> f64 {
    let config = config_with(r#", "timestep_spacing": "linspace""#);
    let model = gaussian(&config, kind, 0.5);
    let noise = seed::initial_noise(7, (3, 4, 4));
    let sample = sample_from(&config, kind, (steps, 4, 0.5)).unwrap();
    let pairs = sample.iter().zip(&noise);
    let distances = pairs.map(|(&found, &noise)| {
        // Samples in the sigma parametrisation start from sigma * noise, which scaled for the model
        // is a little less than the noise itself.
        let scheduler = config.scheduler(kind, steps).unwrap();
        let scale = scheduler.init_noise_sigma() * scheduler.model_input_scale(0);
        let expected = model.destination(f64::from(noise) * scale, 999.0);
        (f64::from(found) - expected).abs()
    });
    distances.fold(0.0, f64::max)
}

#[test]
fn the_probability_flow_maps_noise_to_the_same_quantile_of_normal_data() {
    let kind = SchedulerKind::ProbabilityFlow;
    let (coarse, fine) = (distance(kind, 50), distance(kind, 100));
    assert!(fine < 1e-3, "{fine}");
    // Heun's method is of second order: half the step, a quarter of the error.
    assert!(coarse > 3.0 * fine, "{coarse} {fine}");
}

#[test]
fn the_solvers_of_the_same_ode_arrive_at_the_same_quantile() {
    let kinds = [
        (SchedulerKind::Heun, 2e-3),
        (SchedulerKind::Kdpm2, 2e-3),
        (SchedulerKind::Lms, 2e-3),
        (SchedulerKind::Euler, 2e-2),
    ];
    for (kind, limit) in kinds {
        let distance = distance(kind, 200);
        assert!(distance < limit, "{kind}: {distance}");
    }
}

#[test]
fn random_samplers_draw_from_the_distribution_of_normal_data() {
    let config = config_with(r#", "timestep_spacing": "linspace""#);
    let kinds = SchedulerKind::GENERATIVE.into_iter();
    for kind in kinds.filter(|kind| kind.is_stochastic()) {
        // A consistency model's sampler adds the noise of the data's own spread in every step.
        if kind == SchedulerKind::Lcm {
            continue;
        }
        let sample = sample_from(&config, kind, (200, 32, 0.5)).unwrap();
        let count = sample.len() as f64;
        let mean = sample.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let squares = sample.iter().map(|&x| (f64::from(x) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        assert!((mean - 0.3).abs() < 0.04, "{kind}: mean {mean}");
        assert!(
            (deviation - 0.5).abs() < 0.03,
            "{kind}: deviation {deviation}"
        );
    }
}

#[test]
fn an_image_to_image_run_starts_where_its_strength_says() {
    for kind in SchedulerKind::GENERATIVE {
        let config = config_with(r#", "timestep_spacing": "leading", "skip_prk_steps": true"#);
        let mut scheduler = config.scheduler(kind, 10).unwrap();
        let first = diffusion::skipped_evaluations(scheduler.as_ref(), 10, 0.4).unwrap();
        assert_eq!(first, 6 * scheduler.evaluations_per_step(), "{kind}");
        scheduler.skip(first).unwrap();
        let mut noise = seed::noise_source(seed::NoiseKind::ChaCha20, &[7]);
        let original = Array4::from_elem((1, 3, 4, 4), 0.3);
        let fresh = noise.normals((1, 3, 4, 4));
        let start = scheduler.add_noise(original.view(), fresh.view(), first);
        let mut reports = Vec::new();
        let sample = denoise(
            &mut gaussian(&config, kind, 0.0),
            scheduler.as_mut(),
            start.unwrap(),
            noise.as_mut(),
            &mut |report| {
                reports.push((report.step_index, report.steps));
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        let evaluations = scheduler.timesteps().len() - first;
        assert_eq!(reports[0], (0, evaluations), "{kind}");
        assert_eq!(reports.len(), evaluations, "{kind}");
        // PNDM begins as the reference's does: it takes its second evaluation for the repeated one
        // and so ends a step above the data.
        if kind == SchedulerKind::Pndm {
            continue;
        }
        for value in &sample {
            assert!((value - 0.3).abs() < 0.05, "{kind}: {value}");
        }
    }
}

#[test]
fn a_strength_outside_its_range_or_without_a_step_is_refused() {
    let scheduler = config().scheduler(SchedulerKind::Ddim, 10).unwrap();
    for strength in [-0.1, 0.0, 0.05, 1.1, f64::NAN] {
        assert!(diffusion::skipped_evaluations(scheduler.as_ref(), 10, strength).is_err());
    }
    assert_eq!(
        diffusion::skipped_evaluations(scheduler.as_ref(), 10, 1.0),
        Ok(0)
    );
}

#[test]
fn every_kind_is_found_by_its_names() {
    let kinds = SchedulerKind::GENERATIVE.into_iter();
    for kind in kinds.chain([SchedulerKind::DdimInverse]) {
        assert_eq!(kind.name().parse(), Ok(kind));
        let json = serde_json::to_string(&kind).unwrap();
        assert_eq!(json, format!("\"{}\"", kind.name()));
        assert_eq!(serde_json::from_str::<SchedulerKind>(&json).unwrap(), kind);
        if let Some(class_name) = kind.class_name() {
            assert_eq!(SchedulerKind::from_class_name(class_name), Some(kind));
        }
    }
    let error = "ddimm".parse::<SchedulerKind>().unwrap_err().to_string();
    assert!(error.contains("ddim, pndm"), "{error}");
}

#[test]
fn reconstruction_undoes_an_inversion() {
    let config = config().for_inversion();
    let original = Array4::from_elem((1, 3, 4, 4), 0.3) + seed::initial_noise(1, (3, 4, 4)) * 0.1;
    let mut model = Constant(0.2);
    let mut inverse = config.scheduler(SchedulerKind::DdimInverse, 50).unwrap();
    let trace = invert(&mut model, inverse.as_mut(), original.clone(), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(trace.steps.len(), 50);
    let mut forward = config.scheduler(SchedulerKind::Ddim, 50).unwrap();
    let back = reconstruct(&mut model, forward.as_mut(), &trace, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    for (found, expected) in back.iter().zip(&original) {
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
    }
}

#[test]
fn a_model_that_answers_nan_is_refused_at_its_step() {
    let mut scheduler = config().scheduler(SchedulerKind::Ddim, 5).unwrap();
    let noise = seed::initial_noise(7, (1, 2, 2));
    let error = denoise(
        &mut Constant(f32::NAN),
        scheduler.as_mut(),
        noise,
        &mut seed::NoNoise,
        &mut |_| ControlFlow::Continue(()),
    );
    assert!(matches!(
        error,
        Err(DiffusionError::NotFinite { step_index: 0, .. })
    ));
}

#[test]
fn the_callback_stops_the_loop() {
    let mut scheduler = config().scheduler(SchedulerKind::Euler, 5).unwrap();
    let noise = seed::initial_noise(7, (1, 2, 2));
    let mut stop_at_two = |report: diffusion::StepReport<'_>| {
        if report.step_index == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let error = denoise(
        &mut Constant(0.0),
        scheduler.as_mut(),
        noise,
        &mut seed::NoNoise,
        &mut stop_at_two,
    );
    assert_eq!(error, Err(DiffusionError::Cancelled { step_index: 2 }));
}

#[test]
fn steps_out_of_order_are_refused() {
    let mut scheduler = config()
        .scheduler(SchedulerKind::DpmSolverMultistep, 5)
        .unwrap();
    let sample = seed::initial_noise(7, (1, 2, 2));
    let error = scheduler
        .step(1, sample.view(), sample.view(), &mut seed::NoNoise)
        .err();
    assert_eq!(
        error,
        Some(DiffusionError::StepIndex {
            step_index: 1,
            steps: 5,
            next: 0
        })
    );
}

#[test]
fn zero_steps_and_too_many_steps_are_refused() {
    for kind in SchedulerKind::GENERATIVE {
        for steps in [0, 1001] {
            let error = config().scheduler(kind, steps).err();
            let steps_max = 1000;
            assert_eq!(
                error,
                Some(DiffusionError::Steps { steps, steps_max }),
                "{kind}"
            );
        }
    }
}

#[test]
fn an_image_has_the_same_noise_alone_and_in_a_batch() {
    let seeds: Vec<u64> = (0..3)
        .map(|index| seed::image_seed(u64::MAX, index))
        .collect();
    assert_eq!(seeds, [u64::MAX, 0, 1]);
    let batch = seed::initial_noise_batch(&seeds, (4, 16, 16));
    for (row, &image_seed) in batch.axis_iter(Axis(0)).zip(&seeds) {
        let alone = seed::initial_noise(image_seed, (4, 16, 16));
        assert_eq!(row, alone.index_axis(Axis(0), 0));
    }
}

#[test]
fn initial_noise_is_standard_normal() {
    let noise = seed::initial_noise(3, (4, 64, 64));
    let count = noise.len() as f64;
    let mean = noise.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let square = noise
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        / count;
    let fourth = noise
        .iter()
        .map(|&value| f64::from(value).powi(4))
        .sum::<f64>()
        / count;
    assert!(mean.abs() < 0.03, "{mean}");
    assert!((square - 1.0).abs() < 0.04, "{square}");
    assert!((fourth - 3.0).abs() < 0.3, "{fourth}");
}

#[test]
fn guidance_leads_from_the_unconditional_through_the_conditional_prediction() {
    let pair = ndarray::arr1(&[1.0_f32, 2.0])
        .into_shape_with_order((2, 1, 1, 1))
        .unwrap();
    assert_eq!(
        guidance::guide(pair.view(), 1.0).unwrap()[[0, 0, 0, 0]],
        2.0
    );
    assert_eq!(
        guidance::guide(pair.view(), 3.0).unwrap()[[0, 0, 0, 0]],
        4.0
    );
    let three = Array4::<f32>::zeros((3, 1, 1, 1));
    assert!(guidance::guide(three.view(), 3.0).is_err());
}
