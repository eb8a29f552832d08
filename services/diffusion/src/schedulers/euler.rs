//! Euler steps in the sigma parametrisation (Karras et al. 2022, arXiv 2206.00364, algorithm 2,
//! without its second-order correction).

use ndarray::{Array4, ArrayView4};

use crate::config::{FinalSigmasType, PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::{Denoised, PlanRules, SigmaPlan, in_32_bits, input_scale};
use crate::schedulers::{StepCounter, map_pair, refuse_flow_prediction, refuse_shapes};
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// The random part of algorithm 2: before a step the noise level is raised by fresh noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// `S_churn`: how much, over the whole loop; 0 makes the steps deterministic.
    pub amount: f64,
    /// `S_tmin`: the smallest sigma at which it happens.
    pub sigma_min: f64,
    /// `S_tmax`: the largest sigma at which it happens.
    pub sigma_max: f64,
    /// `S_noise`: standard deviation of the fresh noise.
    pub deviation: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            amount: 0.0,
            sigma_min: 0.0,
            sigma_max: f64::INFINITY,
            deviation: 1.0,
        }
    }
}

impl Churn {
    /// The rise `gamma` of a step with noise level `sigma`, line 5 of algorithm 2.
    fn rise(&self, sigma: f64, sigmas: usize) -> f64 {
        if (self.sigma_min..=self.sigma_max).contains(&sigma) {
            (self.amount / (sigmas - 1) as f64).min(2.0_f64.sqrt() - 1.0)
        } else {
            0.0
        }
    }
}

/// The Euler scheduler. Samples are `x0 + sigma * noise`; the model sees them divided by
/// `sqrt(sigma^2 + 1)`.
#[derive(Debug, Clone)]
pub struct Euler {
    timesteps: Vec<f64>,
    /// One more than timesteps (two more when interpolated by their logarithms).
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    churn: Churn,
    counter: StepCounter,
}

impl Euler {
    /// Plans the steps; default spacing linspace, no churn.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_flow_prediction(config)?;
        let continuous = continuous_timesteps(config)?;
        if continuous && matches!(steps, Steps::At(_)) {
            return Err(DiffusionError::Unsupported {
                option: "timestep_type",
                value: "continuous".to_owned(),
                hint: " together with explicit timesteps",
            });
        }
        let schedule = NoiseSchedule::new(config, BetaDefaults::DDPM)?;
        let rules = PlanRules {
            knows_interpolation: true,
            ..PlanRules::default()
        };
        let plan = SigmaPlan::new(config, &schedule, steps, rules)?;
        let (mut timesteps, mut sigmas) = (plan.timesteps, plan.sigmas);
        sigmas.push(match config.final_sigmas_type() {
            FinalSigmasType::Zero => 0.0,
            FinalSigmasType::SigmaMin => plan.train_sigmas[0],
        });
        if continuous {
            // Equation 7's preconditioning: the model is told a quarter of the logarithm of sigma.
            let quarter_log = |&sigma: &f64| in_32_bits(0.25 * libm::log(sigma));
            timesteps = sigmas[..sigmas.len() - 1].iter().map(quarter_log).collect();
        }
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            sigmas,
            init_noise_sigma: plan.init_noise_sigma,
            prediction_type: config.prediction_type(),
            churn: config.churn.unwrap_or_default(),
        })
    }
}

/// Whether timesteps are noise levels; as in the reference only for models that predict v.
fn continuous_timesteps(config: &SchedulerConfig) -> Result<bool, DiffusionError> {
    let timestep_type = config.timestep_type.as_deref();
    let accepted = ["discrete", "continuous"];
    SchedulerConfig::refuse_other_than("timestep_type", timestep_type, &accepted)?;
    Ok(timestep_type == Some("continuous")
        && config.prediction_type() == PredictionType::VPrediction)
}

impl Scheduler for Euler {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Euler
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
        let sigma = self.sigmas[step_index];
        // 1. Lines 5 and 6: fresh noise raises the noise level. (The model was asked before, at the
        // level without it: diffusers' form of the algorithm, which needs no second evaluation.)
        let rise = self.churn.rise(sigma, self.sigmas.len());
        let sigma_hat = sigma * (rise + 1.0);
        let churned: Option<Array4<f32>> = (rise > 0.0).then(|| {
            let added = (sigma_hat * sigma_hat - sigma * sigma).sqrt() * self.churn.deviation;
            let fresh = noise.normals(sample.dim());
            map_pair(sample, fresh.view(), |sample, fresh| {
                sample + fresh * added as f32
            })
        });
        let sample = churned.as_ref().map_or(sample, |churned| churned.view());
        // 2. The noise-free sample D(x; sigma) of equation 7, by prediction type.
        let denoised = Denoised::new(
            self.prediction_type,
            match self.prediction_type {
                PredictionType::VPrediction => sigma,
                _ => sigma_hat,
            },
        );
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            denoised.original(sample, output)
        });
        // 3. The derivative d = (x - D) / sigma of line 7 and the step of line 8, in one pass.
        let ratio = ((self.sigmas[step_index + 1] - sigma_hat) / sigma_hat) as f32;
        let prev_sample = map_pair(sample, pred_original_sample.view(), |sample, original| {
            sample + (sample - original) * ratio
        });
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
