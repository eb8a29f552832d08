//! Linear multistep of Adams and Bashforth in the sigma parametrisation (Karras et al. 2022, arXiv
//! 2206.00364, equation 4 for the derivative; the variable-step coefficients as in k-diffusion).

use std::collections::VecDeque;

use ndarray::{Array4, ArrayView4};

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::{Denoised, PlanRules, SigmaPlan, input_scale};
use crate::schedulers::{
    StepCounter, map_pair, refuse_flow_prediction, refuse_shapes, weighted_sum,
};
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// Most derivatives that a step looks at.
const ORDER: usize = 4;

/// The linear multistep scheduler.
#[derive(Debug, Clone)]
pub struct Lms {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    /// The last derivatives, the newest first.
    derivatives: VecDeque<Array4<f32>>,
    counter: StepCounter,
}

impl Lms {
    /// Plans the steps; default spacing linspace. The reference takes no list of timesteps; here
    /// they get their own sigmas, as Euler's do.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = NoiseSchedule::without_rescaling(config, BetaDefaults::DDPM)?;
        let rules = PlanRules {
            karras_ignores_limits: true,
            ..PlanRules::default()
        };
        let mut plan = SigmaPlan::new(config, &schedule, steps, rules)?;
        plan.sigmas.push(0.0);
        Ok(Self {
            counter: StepCounter::new(plan.timesteps.len()),
            timesteps: plan.timesteps,
            sigmas: plan.sigmas,
            init_noise_sigma: plan.init_noise_sigma,
            prediction_type: config.prediction_type(),
            derivatives: VecDeque::with_capacity(ORDER + 1),
        })
    }

    /// The weight of the derivative of `age` steps ago: the integral over the step of the Lagrange
    /// polynomial through the last `order` sigmas. Two Gauss-Legendre points are exact for the
    /// cubics that occur here.
    fn coefficient(&self, step_index: usize, order: usize, age: usize) -> f64 {
        let (start, end) = (self.sigmas[step_index], self.sigmas[step_index + 1]);
        let (middle, half) = (f64::midpoint(start, end), 0.5 * (end - start));
        let own = self.sigmas[step_index - age];
        let polynomial = |sigma: f64| -> f64 {
            let others = (0..order).filter(|&other| other != age);
            others
                .map(|other| {
                    let other = self.sigmas[step_index - other];
                    (sigma - other) / (own - other)
                })
                .product()
        };
        let offset = half / 3.0_f64.sqrt();
        half * (polynomial(middle - offset) + polynomial(middle + offset))
    }
}

impl Scheduler for Lms {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Lms
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
        let sigma = self.sigmas[step_index];
        // 1. The noise-free sample D(x; sigma).
        let denoised = Denoised::new(self.prediction_type, sigma);
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            denoised.original(sample, output)
        });
        // 2. The derivative (x - D) / sigma, kept for the next three steps.
        let inverse_sigma = (1.0 / sigma) as f32;
        let derivative = map_pair(sample, pred_original_sample.view(), |sample, original| {
            (sample - original) * inverse_sigma
        });
        self.derivatives.push_front(derivative);
        self.derivatives.truncate(ORDER);
        // 3. The multistep formula, of the order that the history allows. (After a skipped start
        // the reference takes the coefficients of a longer history than it has; here they fit.)
        let order = self.derivatives.len();
        let mut terms = vec![(1.0, sample)];
        for (age, derivative) in self.derivatives.iter().enumerate() {
            terms.push((self.coefficient(step_index, order, age), derivative.view()));
        }
        let prev_sample = weighted_sum(&terms);
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TimestepSpacing;

    #[test]
    fn listing_the_timesteps_of_its_own_spacing_changes_nothing() {
        let config = SchedulerConfig {
            timestep_spacing: Some(TimestepSpacing::Trailing),
            ..SchedulerConfig::default()
        };
        let spaced = Lms::new(&config, Steps::Count(10)).unwrap();
        let listed = Lms::new(&config, Steps::At(spaced.timesteps())).unwrap();
        assert_eq!(listed.timesteps(), spaced.timesteps());
        assert_eq!(listed.sigmas(), spaced.sigmas());
        let scales = (listed.init_noise_sigma(), spaced.init_noise_sigma());
        assert_eq!(scales.0.to_bits(), scales.1.to_bits());
    }
}
