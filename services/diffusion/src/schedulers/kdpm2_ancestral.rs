//! DPM-Solver-2 in the sigma parametrisation followed by fresh noise: the step of
//! [`super::kdpm2`] with the ancestral split of [`super::euler_ancestral`].

use ndarray::{Array4, ArrayView4};

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::kdpm2::MidpointPlan;
use crate::schedulers::sigma_plan::{Ancestral, Denoised, geometric_mean, input_scale};
use crate::schedulers::{StepCounter, map_pair, refuse_shapes, weighted_sum};
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// The ancestral KDPM2 scheduler.
#[derive(Debug, Clone)]
pub struct Kdpm2Ancestral {
    plan: MidpointPlan,
    prediction_type: PredictionType,
    /// The sample that the present step started from, between its two evaluations.
    start: Option<Array4<f32>>,
    counter: StepCounter,
}

impl Kdpm2Ancestral {
    /// Plans the steps; default spacing linspace, default betas linear from 0.00085 to 0.012. The
    /// reference takes no list of timesteps; here they get their own sigmas.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let plan = MidpointPlan::new(config, steps, |from, to| {
            geometric_mean(from, Ancestral::new(from, to).down)
        })?;
        Ok(Self {
            counter: StepCounter::new(plan.timesteps.len()),
            plan,
            prediction_type: config.prediction_type(),
            start: None,
        })
    }
}

impl Scheduler for Kdpm2Ancestral {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Kdpm2Ancestral
    }

    fn timesteps(&self) -> &[f64] {
        &self.plan.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.plan.sigmas
    }

    fn init_noise_sigma(&self) -> f64 {
        self.plan.init_noise_sigma
    }

    fn evaluations_per_step(&self) -> usize {
        2
    }

    fn model_input_scale(&self, step_index: usize) -> f64 {
        input_scale(self.plan.sigmas[step_index])
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        NoiseLevel {
            signal: 1.0,
            noise: self.plan.sigmas[step_index],
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
        let sigmas = &self.plan.sigmas;
        let (sigma, sigma_next) = (sigmas[step_index], sigmas[step_index + 1]);
        // 1. The noise-free sample at the sigma of the evaluation.
        let denoised = Denoised::new(self.prediction_type, sigma);
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            denoised.original(sample, output)
        });
        let original = pred_original_sample.view();
        let prev_sample = match self.start.take() {
            None => {
                // 2. First half: with the derivative of the start to the middle (or to zero).
                let ratio = ((sigma_next - sigma) / sigma) as f32;
                self.start = Some(sample.to_owned());
                map_pair(sample, original, |sample, original| {
                    sample + (sample - original) * ratio
                })
            }
            Some(start) => {
                // 3. Second half: from the start down, with the middle's derivative, and
                // 4. fresh noise back up.
                let from = sigmas[step_index - 1];
                let Ancestral { down, up } = Ancestral::new(from, sigma_next);
                let ratio = ((down - from) / sigma) as f32;
                let change = map_pair(sample, original, |sample, original| {
                    (sample - original) * ratio
                });
                let fresh = noise.normals(sample.dim());
                weighted_sum(&[
                    (1.0, start.view()),
                    (1.0, change.view()),
                    (up, fresh.view()),
                ])
            }
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
