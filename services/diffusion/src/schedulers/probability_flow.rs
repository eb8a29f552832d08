//! The probability-flow ODE of the variance-preserving process (Song et al. 2021, arXiv
//! 2011.13456, section 4.3), integrated by Heun's method: the deterministic path whose samples have
//! at every time the density of the forward process.
//!
//! In the time of the SDE the ODE is `dx/dt = -beta/2 (x + score)` (equation 13). Its right side
//! grows without bound towards the data, so a fixed step is of little use there. Here it is
//! integrated over the angle `theta` with `cos(theta) = sqrt(alpha_bar)` instead, where with
//! `score = -epsilon / sin(theta)` it reads
//!
//! `dx/dtheta = (epsilon - sin(theta) x) / cos(theta) = v`,
//!
//! the velocity of Salimans and Ho 2022 (arXiv 2202.00512, appendix D), which is bounded.

use ndarray::{Array4, ArrayView4};

use crate::config::{SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::twice_after_first;
use crate::schedulers::{
    Conversion, StepCounter, map_pair, refuse_flow_prediction, refuse_shapes, weighted_sum,
};
use crate::seed::NoiseSource;
use crate::spacing::{Direction, Steps, falling_timesteps, refuse_steps, refuse_timesteps};

/// The plan of the samplers that evaluate the model at the start and at the end of each step, on
/// whole training timesteps.
#[derive(Debug, Clone)]
pub(crate) struct VpPlan {
    /// One per evaluation: every timestep but the first stands twice.
    pub(crate) timesteps: Vec<f64>,
    /// The cumulative product of each evaluation.
    pub(crate) alphas_cumprod: Vec<f64>,
    /// One minus the training beta of each evaluation.
    pub(crate) alphas: Vec<f64>,
}

impl VpPlan {
    pub(crate) fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = config.noise_schedule()?;
        let total = schedule.num_train_timesteps();
        let timesteps: Vec<f64> = match steps {
            Steps::Count(count) => {
                refuse_steps(count, &schedule)?;
                let spacing = config.spacing_or(TimestepSpacing::Linspace);
                let timesteps = falling_timesteps(spacing, config, total, count);
                timesteps.into_iter().map(f64::round_ties_even).collect()
            }
            Steps::At(list) => {
                refuse_timesteps(list, Direction::Falling, total)?;
                list.to_vec()
            }
        };
        let timesteps = twice_after_first(&timesteps);
        let mut alphas_cumprod = Vec::with_capacity(timesteps.len());
        let mut alphas = Vec::with_capacity(timesteps.len());
        for &timestep in &timesteps {
            alphas_cumprod.push(schedule.alpha_cumprod_or(timestep as i64, 1.0)?);
            alphas.push(1.0 - f64::from(schedule.betas()[timestep as usize]));
        }
        Ok(Self {
            timesteps,
            alphas_cumprod,
            alphas,
        })
    }

    pub(crate) fn level(&self, step_index: usize) -> NoiseLevel {
        let alpha_prod = self.alphas_cumprod[step_index];
        NoiseLevel {
            signal: alpha_prod.sqrt(),
            noise: (1.0 - alpha_prod).sqrt(),
        }
    }

    pub(crate) fn conversion(&self, config: &SchedulerConfig, step_index: usize) -> Conversion {
        let level = self.level(step_index);
        Conversion::new(config.prediction_type(), level.signal, level.noise)
    }
}

/// What the first half of a step leaves to the other half.
#[derive(Debug, Clone)]
struct FirstHalf {
    sample: Array4<f32>,
    velocity: Array4<f32>,
}

/// The scheduler of the probability-flow ODE.
#[derive(Debug, Clone)]
pub struct ProbabilityFlow {
    plan: VpPlan,
    /// The angle of each evaluation, and zero, where the noise-free sample lies.
    angles: Vec<f64>,
    conversions: Vec<Conversion>,
    first_half: Option<FirstHalf>,
    counter: StepCounter,
}

impl ProbabilityFlow {
    /// Plans the steps; default spacing linspace.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let plan = VpPlan::new(config, steps)?;
        let evaluations = 0..plan.timesteps.len();
        let angle = |step_index: usize| {
            let level = plan.level(step_index);
            libm::atan2(level.noise, level.signal)
        };
        let conversions = evaluations
            .clone()
            .map(|index| plan.conversion(config, index));
        Ok(Self {
            angles: evaluations.map(angle).chain([0.0]).collect(),
            conversions: conversions.collect(),
            counter: StepCounter::new(plan.timesteps.len()),
            plan,
            first_half: None,
        })
    }
}

impl Scheduler for ProbabilityFlow {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::ProbabilityFlow
    }

    fn timesteps(&self) -> &[f64] {
        &self.plan.timesteps
    }

    fn evaluations_per_step(&self) -> usize {
        2
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.plan.level(step_index)
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
        // 1. The velocity dx/dtheta = cos(theta) epsilon - sin(theta) x0.
        let conversion = self.conversions[step_index];
        let level = self.plan.level(step_index);
        let (signal, noise) = (level.signal as f32, level.noise as f32);
        let velocity = map_pair(sample, model_output, |sample, output| {
            signal * conversion.epsilon(sample, output)
                - noise * conversion.original(sample, output)
        });
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            conversion.original(sample, output)
        });
        let prev_sample = match self.first_half.take() {
            None => {
                // 2. First half: an Euler step to the next angle.
                let step = (self.angles[step_index + 1] - self.angles[step_index]) as f32;
                let prev_sample = map_pair(sample, velocity.view(), |sample, velocity| {
                    sample + step * velocity
                });
                self.first_half = Some(FirstHalf {
                    sample: sample.to_owned(),
                    velocity,
                });
                prev_sample
            }
            Some(first) => {
                // 3. Second half: the mean of both velocities, from where the step started.
                let half = 0.5 * (self.angles[step_index] - self.angles[step_index - 1]);
                weighted_sum(&[
                    (1.0, first.sample.view()),
                    (half, first.velocity.view()),
                    (half, velocity.view()),
                ])
            }
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
