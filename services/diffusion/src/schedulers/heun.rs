//! Heun's second-order method in the sigma parametrisation (Karras et al. 2022, arXiv 2206.00364,
//! algorithm 1): an Euler step, then a second evaluation at its end that corrects it.

use ndarray::{Array4, ArrayView4};

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::prediction::clip;
use crate::schedulers::sigma_plan::{
    Denoised, PlanRules, SigmaPlan, input_scale, twice_after_first,
};
use crate::schedulers::{
    Correction, StepCounter, map_pair, map_triple, refuse_flow_prediction, refuse_shapes,
};
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// What the Euler half of a step leaves to the other half.
#[derive(Debug, Clone)]
struct FirstHalf {
    sample: Array4<f32>,
    derivative: Array4<f32>,
}

/// The Heun scheduler.
#[derive(Debug, Clone)]
pub struct Heun {
    /// One per evaluation: every timestep but the first stands twice.
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    clip: f32,
    first_half: Option<FirstHalf>,
    counter: StepCounter,
}

impl Heun {
    /// Plans the steps; default spacing linspace, default betas linear from 0.00085 to 0.012.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = NoiseSchedule::without_rescaling(config, BetaDefaults::LATENT_LINEAR)?;
        let plan = SigmaPlan::new(config, &schedule, steps, PlanRules::default())?;
        let mut sigmas = twice_after_first(&plan.sigmas);
        sigmas.push(0.0);
        let timesteps = twice_after_first(&plan.timesteps);
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            sigmas,
            init_noise_sigma: plan.init_noise_sigma,
            prediction_type: config.prediction_type(),
            clip: match Correction::clipping(config, false)? {
                Correction::Clip(limit) => limit,
                _ => f32::INFINITY,
            },
            first_half: None,
        })
    }
}

impl Scheduler for Heun {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Heun
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
        input_scale(self.sigmas[step_index])
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        NoiseLevel {
            signal: 1.0,
            noise: self.sigmas[step_index],
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
        _noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        // 1. The noise-free sample at the sigma that the evaluation lies at, clipped.
        let sigma = self.sigmas[step_index];
        let denoised = Denoised::new(self.prediction_type, sigma);
        let limit = self.clip;
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            clip(denoised.original(sample, output), limit)
        });
        let original = pred_original_sample.view();
        let inverse_sigma = (1.0 / sigma) as f32;
        let prev_sample = match self.first_half.take() {
            None => {
                // 2. Lines 4 and 5: derivative and Euler step.
                let derivative = map_pair(sample, original, |sample, original| {
                    (sample - original) * inverse_sigma
                });
                let step = (self.sigmas[step_index + 1] - sigma) as f32;
                let prev_sample = map_pair(sample, derivative.view(), |sample, derivative| {
                    sample + derivative * step
                });
                self.first_half = Some(FirstHalf {
                    sample: sample.to_owned(),
                    derivative,
                });
                prev_sample
            }
            Some(first) => {
                // 3. Lines 7 and 8: the mean of both derivatives, from where the step started.
                let step = (sigma - self.sigmas[step_index - 1]) as f32;
                let mean = map_triple(
                    [sample, original, first.derivative.view()],
                    |sample, original, derivative| {
                        0.5 * ((sample - original) * inverse_sigma + derivative)
                    },
                );
                map_pair(first.sample.view(), mean.view(), |sample, derivative| {
                    sample + derivative * step
                })
            }
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
