//! DPM-Solver-2 in the sigma parametrisation (Lu et al. 2022, arXiv 2206.00927, algorithm 1 with
//! r = 1/2; Karras et al. 2022, arXiv 2206.00364, for the form): a step to the geometric mean of
//! two sigmas, and from the start with the derivative that was found there.

use ndarray::{Array4, ArrayView4};

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::{Denoised, PlanRules, SigmaPlan, geometric_mean, input_scale};
use crate::schedulers::{StepCounter, map_pair, refuse_flow_prediction, refuse_shapes};
use crate::seed::NoiseSource;
use crate::spacing::{Steps, sigma_to_timestep};

/// The plan of both KDPM2 schedulers: per step the sigma that it starts from, and the sigma in its
/// middle where the model is asked again.
#[derive(Debug, Clone)]
pub(crate) struct MidpointPlan {
    /// One per evaluation.
    pub(crate) timesteps: Vec<f64>,
    /// The sigma of each evaluation, start and middle in turn, and a last one of zero.
    pub(crate) sigmas: Vec<f64>,
    pub(crate) init_noise_sigma: f64,
}

impl MidpointPlan {
    /// `middle` is told the sigmas that a step leads from and to.
    pub(crate) fn new(
        config: &SchedulerConfig,
        steps: Steps<'_>,
        middle: impl Fn(f64, f64) -> f64,
    ) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = NoiseSchedule::without_rescaling(config, BetaDefaults::LATENT_LINEAR)?;
        let rules = PlanRules {
            karras_rounds_timesteps: true,
            ..PlanRules::default()
        };
        let plan = SigmaPlan::new(config, &schedule, steps, rules)?;
        let mut timesteps = vec![plan.timesteps[0]];
        let mut sigmas = vec![plan.sigmas[0]];
        for (index, pair) in plan.sigmas.windows(2).enumerate() {
            let middle = middle(pair[0], pair[1]);
            timesteps.push(sigma_to_timestep(middle, &plan.train_sigmas));
            timesteps.push(plan.timesteps[index + 1]);
            sigmas.extend([middle, pair[1]]);
        }
        sigmas.push(0.0);
        Ok(Self {
            timesteps,
            sigmas,
            init_noise_sigma: plan.init_noise_sigma,
        })
    }
}

/// The KDPM2 scheduler.
#[derive(Debug, Clone)]
pub struct Kdpm2 {
    plan: MidpointPlan,
    prediction_type: PredictionType,
    /// The sample that the present step started from, between its two evaluations.
    start: Option<Array4<f32>>,
    counter: StepCounter,
}

impl Kdpm2 {
    /// Plans the steps; default spacing linspace, default betas linear from 0.00085 to 0.012. The
    /// reference takes no list of timesteps; here they get their own sigmas.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let plan = MidpointPlan::new(config, steps, geometric_mean)?;
        Ok(Self {
            counter: StepCounter::new(plan.timesteps.len()),
            plan,
            prediction_type: config.prediction_type(),
            start: None,
        })
    }
}

impl Scheduler for Kdpm2 {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Kdpm2
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
        _noise: &mut dyn NoiseSource,
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
                // 3. Second half: from the start over the whole step, with the middle's derivative.
                let ratio = ((sigma_next - sigmas[step_index - 1]) / sigma) as f32;
                let change = map_pair(sample, original, |sample, original| {
                    (sample - original) * ratio
                });
                start + change
            }
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
