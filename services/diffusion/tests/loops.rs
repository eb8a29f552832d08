//! The denoising loop, inversion and reconstruction on models whose answer is known.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::ControlFlow;

use diffusion::{
    DiffusionError, NoisePredictor, SchedulerConfig, SchedulerKind, denoise, guidance, invert,
    reconstruct, seed,
};
use ndarray::{Array4, ArrayView4, Axis};

/// The exact noise predictor for data that is one point: `epsilon = (x - signal * point) / noise`.
struct Point {
    alphas_cumprod: Vec<f64>,
    value: f32,
}

impl NoisePredictor for Point {
    type Error = DiffusionError;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timestep: f64,
    ) -> Result<Array4<f32>, DiffusionError> {
        let alpha = self.alphas_cumprod[timestep as usize];
        let (signal, noise) = (alpha.sqrt() as f32, (1.0 - alpha).sqrt() as f32);
        Ok(sample.map(|x| (x - signal * self.value) / noise))
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

fn config() -> SchedulerConfig {
    SchedulerConfig::parse(r#"{"clip_sample": false, "timestep_spacing": "trailing"}"#).unwrap()
}

fn point(value: f32) -> Point {
    Point {
        alphas_cumprod: config().noise_schedule().unwrap().alphas_cumprod().to_vec(),
        value,
    }
}

#[test]
fn every_scheduler_finds_the_only_point_of_the_data() {
    for kind in SchedulerKind::GENERATIVE {
        let mut scheduler = config().scheduler(kind, 20).unwrap();
        let noise = seed::initial_noise(7, (3, 4, 4)) * scheduler.init_noise_sigma() as f32;
        let sample = denoise(
            &mut point(0.3),
            scheduler.as_mut(),
            noise,
            &mut seed::NoNoise,
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap();
        for value in &sample {
            assert!((value - 0.3).abs() < 1e-3, "{kind}: {value}");
        }
    }
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
            assert_eq!(
                error,
                Some(DiffusionError::Steps {
                    steps,
                    steps_max: 1000
                })
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
