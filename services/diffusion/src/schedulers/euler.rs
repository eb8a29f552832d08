//! Euler steps in the sigma parametrisation (Karras et al. 2022, arXiv 2206.00364, algorithm 2
//! without its random part).

use ndarray::ArrayView4;

use crate::config::{FinalSigmasType, PredictionType, SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::{StepCounter, map_pair, refuse_flow_prediction, refuse_shapes};
use crate::seed::NoiseSource;
use crate::spacing::{
    falling_timesteps, interpolate, karras_sigmas, refuse_steps, sigma_to_timestep,
};

/// The Euler scheduler. Samples are `x0 + sigma * noise`; the model sees them divided by
/// `sqrt(sigma^2 + 1)`.
#[derive(Debug, Clone)]
pub struct Euler {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    counter: StepCounter,
}

impl Euler {
    /// Plans `steps` steps; default spacing linspace.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler`].
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, DiffusionError> {
        refuse_options(config)?;
        let schedule = config.noise_schedule()?;
        refuse_steps(steps, &schedule)?;
        let spacing = config.spacing_or(TimestepSpacing::Linspace);
        let train_sigmas = schedule.sigmas();
        let mut timesteps =
            falling_timesteps(spacing, config, schedule.num_train_timesteps(), steps);
        let mut sigmas: Vec<f64> = timesteps
            .iter()
            .map(|&timestep| interpolate(&train_sigmas, timestep))
            .collect();
        if config.karras() {
            let sigma_min = config.sigma_min.unwrap_or(sigmas[sigmas.len() - 1]);
            let sigma_max = config.sigma_max.unwrap_or(sigmas[0]);
            sigmas = karras_sigmas(sigma_min, sigma_max, sigmas.len());
            timesteps = sigmas
                .iter()
                .map(|&sigma| sigma_to_timestep(sigma, &train_sigmas))
                .collect();
        }
        sigmas.push(match config.final_sigmas_type() {
            FinalSigmasType::Zero => 0.0,
            FinalSigmasType::SigmaMin => train_sigmas[0],
        });
        let sigma_max = sigmas.iter().copied().fold(0.0, f64::max);
        let init_noise_sigma = match spacing {
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigma_max,
            TimestepSpacing::Leading => (sigma_max * sigma_max + 1.0).sqrt(),
        };
        Ok(Self {
            // The reference holds timesteps in 32 bits; models see that value.
            timesteps: timesteps.into_iter().map(|t| f64::from(t as f32)).collect(),
            counter: StepCounter::new(sigmas.len() - 1),
            sigmas,
            init_noise_sigma,
            prediction_type: config.prediction_type(),
        })
    }
}

fn refuse_options(config: &SchedulerConfig) -> Result<(), DiffusionError> {
    refuse_flow_prediction(config)?;
    SchedulerConfig::refuse_switches(&[
        ("use_exponential_sigmas", config.use_exponential_sigmas),
        ("use_beta_sigmas", config.use_beta_sigmas),
    ])?;
    let interpolation = config.interpolation_type.as_deref();
    SchedulerConfig::refuse_other_than("interpolation_type", interpolation, &["linear"])?;
    let timestep_type = config.timestep_type.as_deref();
    SchedulerConfig::refuse_other_than("timestep_type", timestep_type, &["discrete"])
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
        let sigma = self.sigmas[step_index];
        1.0 / (sigma * sigma + 1.0).sqrt()
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
        let (sigma, sigma_next) = (self.sigmas[step_index], self.sigmas[step_index + 1]);
        // 1. The noise-free sample D(x; sigma) of equation 7, by prediction type.
        let variance = sigma * sigma + 1.0;
        let (from_sample, from_output) = match self.prediction_type {
            PredictionType::Epsilon => (1.0, -sigma),
            PredictionType::Sample => (0.0, 1.0),
            PredictionType::VPrediction => (1.0 / variance, -sigma / variance.sqrt()),
            PredictionType::FlowPrediction => unreachable!("refused when the plan was made"),
        };
        let (from_sample, from_output) = (from_sample as f32, from_output as f32);
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            from_sample * sample + from_output * output
        });
        // 2. The derivative d = (x - D) / sigma of algorithm 2, line 7, and
        // 3. the Euler step x + (sigma_next - sigma) d of line 8, in one pass.
        let ratio = ((sigma_next - sigma) / sigma) as f32;
        let prev_sample = map_pair(sample, pred_original_sample.view(), |sample, original| {
            sample + (sample - original) * ratio
        });
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
