//! Ancestral sampling with Euler steps in the sigma parametrisation: a step goes further down than
//! its target, and fresh noise leads back up (Song et al. 2021, arXiv 2011.13456, appendix F, in
//! the form of k-diffusion).

use ndarray::ArrayView4;

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::{Ancestral, Denoised, PlanRules, SigmaPlan, input_scale};
use crate::schedulers::{StepCounter, map_pair, map_triple, refuse_flow_prediction, refuse_shapes};
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// The ancestral Euler scheduler.
#[derive(Debug, Clone)]
pub struct EulerAncestral {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    counter: StepCounter,
}

impl EulerAncestral {
    /// Plans the steps; default spacing linspace. The switches for other spreads of the sigmas are
    /// ignored, as in the reference; explicit timesteps, which it does not take, get their own
    /// sigmas.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let schedule = NoiseSchedule::new(config, BetaDefaults::DDPM)?;
        let rules = PlanRules {
            ignores_spreads: true,
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
        })
    }
}

impl Scheduler for EulerAncestral {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::EulerAncestral
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
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        let (sigma, sigma_next) = (self.sigmas[step_index], self.sigmas[step_index + 1]);
        // 1. The noise-free sample.
        let denoised = Denoised::new(self.prediction_type, sigma);
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            denoised.original(sample, output)
        });
        let original = pred_original_sample.view();
        // 2. The derivative and the Euler step down, in one pass.
        let Ancestral { down, up } = Ancestral::new(sigma, sigma_next);
        let (ratio, up) = (((down - sigma) / sigma) as f32, up as f32);
        let stepped = |sample: f32, original: f32| sample + (sample - original) * ratio;
        // 3. Fresh noise leads back up; the last step ends without any, and draws none.
        let prev_sample = if sigma_next > 0.0 {
            let fresh = noise.normals(sample.dim());
            map_triple(
                [sample, original, fresh.view()],
                |sample, original, fresh| stepped(sample, original) + fresh * up,
            )
        } else {
            map_pair(sample, original, stepped)
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
