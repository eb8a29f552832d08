//! DPM-Solver++ for the reverse SDE with a midpoint, two evaluations a step (the form of Karras et
//! al. 2022, arXiv 2206.00364, with the exponential integrator of Lu et al. 2022, arXiv 2211.01095).
//!
//! The noise is a Brownian path over sigma. The evaluation at the start of a step needs the path's
//! increment from sigma to the midpoint, the one at the midpoint its increment over the whole step,
//! which contains the former. Increments over intervals that do not overlap are independent, so the
//! path is drawn as it is needed: one array of standard normals for each half of a step, and the
//! whole step's increment is the sum of its halves. The distribution is that of the reference's
//! Brownian tree; its values are those of the [`NoiseSource`], not of the tree.

use ndarray::{Array4, ArrayView4};
use serde_json::Value;

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::{
    Ancestral, Denoised, PlanRules, SigmaPlan, geometric_mean, input_scale,
};
use crate::schedulers::{
    StepCounter, map_pair, refuse_flow_prediction, refuse_shapes, weighted_sum,
};
use crate::seed::NoiseSource;
use crate::spacing::{Steps, sigma_to_timestep};

/// The DPM-Solver SDE scheduler. Samples are `x0 + sigma * noise`; the model sees them divided by
/// `sqrt(sigma^2 + 1)`.
#[derive(Debug, Clone)]
pub struct DpmSolverSde {
    /// One per evaluation: start and midpoint of each step, and the start of the last step.
    timesteps: Vec<f64>,
    /// As the reference lists them, one more than timesteps.
    sigmas: Vec<f64>,
    /// The sigma of the sample at each evaluation.
    evaluated: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    /// At a midpoint: the sample at the start of the step, and the normals of the first half.
    started: Option<(Array4<f32>, Array4<f32>)>,
    counter: StepCounter,
}

impl DpmSolverSde {
    /// Plans steps of two evaluations, the last one of one; default spacing linspace.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`]; models that predict the sample are refused, as in the
    /// reference.
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_options(config)?;
        let schedule = NoiseSchedule::without_rescaling(config, BetaDefaults::LATENT_LINEAR)?;
        let rules = PlanRules {
            karras_ignores_limits: true,
            ..PlanRules::default()
        };
        let starts = SigmaPlan::new(config, &schedule, steps, rules)?;
        let evaluations = 2 * starts.sigmas.len() - 1;
        let mut plan = Self {
            timesteps: Vec::with_capacity(evaluations),
            sigmas: Vec::with_capacity(evaluations + 1),
            evaluated: Vec::with_capacity(evaluations),
            init_noise_sigma: starts.init_noise_sigma,
            prediction_type: config.prediction_type(),
            started: None,
            counter: StepCounter::new(evaluations),
        };
        for (index, (&timestep, &sigma)) in starts.timesteps.iter().zip(&starts.sigmas).enumerate()
        {
            plan.timesteps.push(timestep);
            plan.evaluated.push(sigma);
            plan.sigmas.push(sigma);
            if let Some(&next) = starts.sigmas.get(index + 1) {
                let midpoint = geometric_mean(sigma, next);
                plan.timesteps
                    .push(sigma_to_timestep(midpoint, &starts.train_sigmas));
                plan.evaluated.push(midpoint);
                plan.sigmas.push(next);
            }
        }
        plan.sigmas.push(0.0);
        Ok(plan)
    }
}

/// Weights of a step from one sigma down to another: of the sample, of the guess of the noise-free
/// sample, and of fresh noise.
#[derive(Debug, Clone, Copy)]
struct Weights {
    sample: f64,
    original: f64,
    noise: f64,
}

impl Weights {
    fn new(from: f64, to: f64) -> Self {
        let Ancestral { down, up } = Ancestral::new(from, to);
        Self {
            sample: down / from,
            original: 1.0 - down / from,
            noise: up,
        }
    }
}

fn refuse_options(config: &SchedulerConfig) -> Result<(), DiffusionError> {
    refuse_flow_prediction(config)?;
    if config.prediction_type() == PredictionType::Sample {
        return Err(DiffusionError::Unsupported {
            option: "prediction_type",
            value: "sample".to_owned(),
            hint: " by DPM-Solver SDE; choose epsilon or v_prediction",
        });
    }
    if let Some(seed) = config
        .noise_sampler_seed
        .as_ref()
        .filter(|seed| **seed != Value::Null)
    {
        return Err(DiffusionError::Unsupported {
            option: "noise_sampler_seed",
            value: seed.to_string(),
            hint: "; only null is possible, noise comes from the seed of the request",
        });
    }
    Ok(())
}

impl Scheduler for DpmSolverSde {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::DpmSolverSde
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn evaluations_per_step(&self) -> usize {
        2
    }

    fn model_input_scale(&self, step_index: usize) -> f64 {
        input_scale(self.evaluated[step_index])
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        NoiseLevel {
            signal: 1.0,
            noise: self.evaluated[step_index],
        }
    }

    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        self.counter.skip(first)
    }

    fn first_step(&self) -> usize {
        self.counter.next()
    }

    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        // 1. The guess of the noise-free sample.
        let sigma = self.evaluated[step_index];
        let denoised = Denoised::new(self.prediction_type, sigma);
        let original = map_pair(sample, model_output, |sample, output| {
            denoised.original(sample, output)
        });
        let prev_sample = if step_index + 1 == self.timesteps.len() {
            // 2. The last step has no noise to end in: Euler to sigma zero, which is the guess.
            original.clone()
        } else if let Some((start, first_half)) = self.started.take() {
            // 2. From the start of the step, with the derivative at its midpoint and the noise of
            // the whole step: its halves by the square roots of their lengths.
            let (from, to) = (self.sigmas[step_index - 1], self.sigmas[step_index]);
            let step = Weights::new(from, to);
            let second_half = noise.normals(sample.dim());
            let share = |length: f64| step.noise * (length / (from - to)).sqrt();
            weighted_sum(&[
                (step.sample, start.view()),
                (step.original, original.view()),
                (share(from - sigma), first_half.view()),
                (share(sigma - to), second_half.view()),
            ])
        } else {
            // 2. To the midpoint, with the noise of the first half.
            let step = Weights::new(sigma, self.evaluated[step_index + 1]);
            let first_half = noise.normals(sample.dim());
            let midpoint = weighted_sum(&[
                (step.sample, sample),
                (step.original, original.view()),
                (step.noise, first_half.view()),
            ]);
            self.started = Some((sample.to_owned(), first_half));
            midpoint
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample: original,
        })
    }
}
