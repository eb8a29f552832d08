//! Options of a configuration across schedulers: what stays finite, what is refused and how, what
//! explicit timesteps mean.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use diffusion::{DiffusionError, Scheduler, SchedulerConfig, SchedulerKind, seed};
use ndarray::Array4;

/// The solvers and the schedulers of DDIM, which take lists of timesteps.
const LISTED: [SchedulerKind; 6] = [
    SchedulerKind::Ddim,
    SchedulerKind::DpmSolverMultistep,
    SchedulerKind::DpmSolverSinglestep,
    SchedulerKind::DpmSolverSde,
    SchedulerKind::UniPc,
    SchedulerKind::Deis,
];

fn parse(text: &str) -> SchedulerConfig {
    SchedulerConfig::parse(text).unwrap()
}

fn refusal(kind: SchedulerKind, text: &str) -> String {
    let refused = parse(text).scheduler(kind, 10);
    refused.err().expect("the option is refused").to_string()
}

/// Runs a scheduler with the exact prediction for data that is one point, and returns the end.
fn to_the_point(scheduler: &mut dyn Scheduler, prediction: &str, value: f32) -> Array4<f32> {
    let mut noise = seed::noise_source(seed::NoiseKind::ChaCha20, &[5]);
    let mut sample = seed::initial_noise(7, (2, 4, 4)) * scheduler.init_noise_sigma() as f32;
    for step_index in 0..scheduler.timesteps().len() {
        let level = scheduler.noise_level(step_index);
        let (signal, deviation) = (level.signal as f32, level.noise as f32);
        let output = sample.map(|x| {
            let epsilon = (x - signal * value) / deviation;
            match prediction {
                "epsilon" => epsilon,
                // v of the sample at unit variance, which is what models see.
                _ => (signal * epsilon - deviation * value) / signal.hypot(deviation),
            }
        });
        let step = scheduler.step(step_index, output.view(), sample.view(), noise.as_mut());
        sample = step.unwrap().prev_sample;
        assert!(sample.iter().all(|value| value.is_finite()));
    }
    sample
}

#[test]
fn cosine_schedules_stay_finite_in_a_few_steps_with_every_scheduler() {
    for kind in SchedulerKind::GENERATIVE {
        if kind.is_flow() {
            continue;
        }
        for spacing in ["leading", "linspace", "trailing"] {
            for steps in 4..=10 {
                let config = parse(&format!(
                    r#"{{"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "{spacing}"}}"#
                ));
                let mut scheduler = config.scheduler(kind, steps).unwrap();
                to_the_point(scheduler.as_mut(), "epsilon", 0.3);
            }
        }
    }
}

#[test]
fn every_solver_finds_the_only_point_of_the_data_with_every_spread() {
    let spreads = [
        r#""use_karras_sigmas": true"#,
        r#""use_exponential_sigmas": true"#,
        r#""use_beta_sigmas": true"#,
        r#""use_lu_lambdas": true"#,
        r#""beta_schedule": "squaredcos_cap_v2""#,
        r#""beta_schedule": "laplace""#,
        r#""beta_schedule": "sigmoid""#,
        r#""beta_schedule": "exp""#,
        r#""solver_order": 3"#,
        r#""solver_order": 3, "solver_type": "heun", "lower_order_final": true"#,
        r#""solver_type": "bh1""#,
        r#""algorithm_type": "dpmsolver++", "variance_type": "learned""#,
    ];
    for kind in &LISTED[1..] {
        for spread in spreads {
            for prediction in ["epsilon", "v_prediction"] {
                let text = format!(r#"{{"prediction_type": "{prediction}", {spread}}}"#);
                let mut scheduler = parse(&text).scheduler(*kind, 12).unwrap();
                let end = to_the_point(scheduler.as_mut(), prediction, 0.3);
                // DEIS does not end without noise.
                let last = scheduler.sigmas()[scheduler.timesteps().len()] as f32;
                let error = end.fold(0.0_f32, |error, value| error.max((value - 0.3).abs()));
                assert!(error < 0.01 + 5.0 * last, "{kind}, {text}: {error}");
            }
        }
    }
}

#[test]
fn a_list_of_the_plans_own_timesteps_gives_the_plan() {
    let config = parse(r#"{"clip_sample": false, "timestep_spacing": "trailing"}"#);
    for kind in LISTED {
        // DPM-Solver SDE lists midpoints too, the list names the starts of the steps.
        let planned = config.scheduler(kind, 10).unwrap();
        let stride = planned.evaluations_per_step();
        let list: Vec<f64> = planned
            .timesteps()
            .iter()
            .copied()
            .step_by(stride)
            .collect();
        let listed = config.scheduler_at(kind, &list).unwrap();
        assert_eq!(listed.timesteps(), planned.timesteps(), "{kind}");
        assert_eq!(listed.sigmas(), planned.sigmas(), "{kind}");
    }
}

#[test]
fn ddim_at_explicit_timesteps_goes_from_each_to_the_next() {
    // Sample v is known: with x0 = output, the next sample holds signal and noise of the next
    // timestep in the list, and nothing but x0 at the end.
    let config = parse(r#"{"clip_sample": false, "prediction_type": "sample"}"#);
    let alphas_cumprod = config.noise_schedule().unwrap().alphas_cumprod().to_vec();
    let mut scheduler = config
        .scheduler_at(SchedulerKind::Ddim, &[900.0, 300.0])
        .unwrap();
    let original = Array4::from_elem((1, 1, 1, 1), 0.5_f32);
    let noisy = |timestep: usize| {
        let alpha = alphas_cumprod[timestep];
        original.mapv(|x0| (alpha.sqrt() * f64::from(x0) - (1.0 - alpha).sqrt()) as f32)
    };
    let mut noise = seed::NoNoise;
    let first = scheduler
        .step(0, original.view(), noisy(900).view(), &mut noise)
        .unwrap();
    assert!((first.prev_sample[[0, 0, 0, 0]] - noisy(300)[[0, 0, 0, 0]]).abs() < 1e-5);
    let last = scheduler
        .step(1, original.view(), first.prev_sample.view(), &mut noise)
        .unwrap();
    assert!((last.prev_sample[[0, 0, 0, 0]] - 0.5).abs() < 1e-5);
}

#[test]
fn lists_that_are_no_plan_are_refused_with_the_reason() {
    let config = SchedulerConfig::default();
    for kind in LISTED {
        let refused = |list: &[f64]| config.scheduler_at(kind, list).err().unwrap();
        assert_eq!(
            refused(&[]).to_string(),
            "explicit timesteps refused: the list is empty"
        );
        assert_eq!(
            refused(&[500.0, 500.0]).to_string(),
            "explicit timesteps refused: each timestep is lower than the one before"
        );
        assert_eq!(
            refused(&[500.5, 20.0]).to_string(),
            "explicit timesteps refused: a timestep is a whole number"
        );
        assert!(matches!(
            refused(&[1000.0]),
            DiffusionError::Timestep { timestep: 1000, .. }
        ));
    }
    let falling = config.scheduler_at(SchedulerKind::DdimInverse, &[500.0, 20.0]);
    assert_eq!(
        falling.err().unwrap().to_string(),
        "explicit timesteps refused: each timestep is higher than the one before"
    );
    let spread = parse(r#"{"use_karras_sigmas": true}"#);
    for kind in &LISTED[1..] {
        assert!(
            spread.scheduler_at(*kind, &[500.0, 20.0]).is_err(),
            "{kind}"
        );
    }
}

#[test]
fn options_that_a_scheduler_cannot_follow_are_refused_by_name() {
    use SchedulerKind::{Ddim, Deis, DpmSolverMultistep, DpmSolverSde, DpmSolverSinglestep, UniPc};
    let cases = [
        (
            Ddim,
            r#"{"prediction_type": "flow_prediction"}"#,
            "choose epsilon, sample or v_prediction",
        ),
        (
            Ddim,
            r#"{"clip_sample_range": -1}"#,
            "clip_sample_range = -1",
        ),
        (
            DpmSolverMultistep,
            r#"{"solver_order": 4}"#,
            "solver_order = 4 is not supported; choose 1, 2 or 3",
        ),
        (
            DpmSolverMultistep,
            r#"{"algorithm_type": "dpmsolver"}"#,
            "final_sigmas_type = zero",
        ),
        (
            DpmSolverMultistep,
            r#"{"algorithm_type": "sde-dpmsolver", "solver_order": 3, "final_sigmas_type": "sigma_min"}"#,
            "solver_order = 3 is not supported with algorithm_type sde-dpmsolver; choose 1 or 2",
        ),
        (
            DpmSolverSinglestep,
            r#"{"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}"#,
            "choose dpmsolver, dpmsolver++ or sde-dpmsolver++",
        ),
        (
            DpmSolverSde,
            r#"{"prediction_type": "sample"}"#,
            "choose epsilon or v_prediction",
        ),
        (
            DpmSolverSde,
            r#"{"noise_sampler_seed": 3}"#,
            "noise_sampler_seed = 3",
        ),
        (UniPc, r#"{"solver_order": 5}"#, "choose 1 to 4"),
        (
            UniPc,
            r#"{"solver_p": {"_class_name": "DDIMScheduler"}}"#,
            "solver_p",
        ),
        (
            UniPc,
            r#"{"shift_terminal": 0.1}"#,
            "without use_flow_sigmas",
        ),
        (
            UniPc,
            r#"{"use_flow_sigmas": true, "use_dynamic_shifting": true}"#,
            "without the shift mu",
        ),
        (
            Deis,
            r#"{"algorithm_type": "sde-dpmsolver++"}"#,
            "choose deis, dpmsolver or dpmsolver++",
        ),
        (
            Deis,
            r#"{"use_flow_sigmas": true, "use_beta_sigmas": true}"#,
            "use_flow_sigmas = true",
        ),
        (
            Deis,
            r#"{"use_karras_sigmas": true, "use_beta_sigmas": true}"#,
            "only one of the three",
        ),
        (
            UniPc,
            r#"{"use_karras_sigmas": true, "sigma_min": 0}"#,
            "sigma_min",
        ),
        (
            UniPc,
            r#"{"prediction_type": "flow_prediction"}"#,
            "without use_flow_sigmas",
        ),
    ];
    for (kind, text, expected) in cases {
        let message = refusal(kind, text);
        assert!(message.contains(expected), "{kind}: {message}");
    }
    let eta = SchedulerConfig {
        eta: Some(1.5),
        ..SchedulerConfig::default()
    };
    let message = eta.scheduler(Ddim, 10).err().unwrap().to_string();
    assert!(
        message.starts_with("scheduler option eta = 1.5 is not supported"),
        "{message}"
    );
}

#[test]
fn a_configuration_written_for_one_class_works_for_the_others() {
    // What the reference's classes save, keys of other classes left in.
    let saved = [
        r#"{"_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.42.1",
            "solver_type": "bh2", "solver_p": null, "disable_corrector": [], "predict_x0": true,
            "lower_order_final": true, "trained_betas": null, "shift_terminal": null}"#,
        r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint", "euler_at_final": false, "lambda_min_clipped": -Infinity,
            "variance_type": null, "use_lu_lambdas": false, "time_shift_type": "exponential"}"#,
        r#"{"_class_name": "DEISMultistepScheduler", "algorithm_type": "deis",
            "solver_type": "logrho", "flow_shift": 1.0}"#,
        r#"{"_class_name": "PNDMScheduler", "skip_prk_steps": true, "set_alpha_to_one": false,
            "steps_offset": 1, "beta_schedule": "scaled_linear", "clip_sample": false}"#,
        r#"{"_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear",
            "timestep_type": "discrete", "sigma_min": null, "sigma_max": null}"#,
    ];
    for text in saved {
        let config = parse(text);
        assert!(config.kind().is_some(), "{text}");
        for kind in SchedulerKind::GENERATIVE {
            assert_eq!(config.scheduler(kind, 5).err(), None, "{kind}: {text}");
        }
    }
}

#[test]
fn the_kinds_of_multistep_fix_order_and_algorithm() {
    let third = parse(r#"{"solver_order": 3}"#);
    let kinds = [
        (SchedulerKind::DpmSolverMultistep, &third),
        (
            SchedulerKind::DpmSolverMultistep3,
            &SchedulerConfig::default(),
        ),
    ];
    let ends = kinds.map(|(kind, config)| {
        let mut scheduler = config.scheduler(kind, 8).unwrap();
        assert_eq!(scheduler.kind(), kind);
        let mut sample = seed::initial_noise(1, (1, 4, 4));
        for step_index in 0..8 {
            let output = sample.map(|x| x * 0.9);
            let step = scheduler.step(step_index, output.view(), sample.view(), &mut seed::NoNoise);
            sample = step.unwrap().prev_sample;
        }
        sample
    });
    assert_eq!(ends[0], ends[1]);
}
