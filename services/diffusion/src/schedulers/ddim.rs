//! Denoising diffusion implicit models (Song, Meng and Ermon 2021, arXiv 2010.02502) with eta = 0.

use ndarray::ArrayView4;

use crate::config::{SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::{Conversion, StepCounter, map_pair, refuse_shapes};
use crate::seed::NoiseSource;
use crate::spacing::{falling_timesteps, refuse_steps};

/// One transition of DDIM between two noise levels, given as cumulative products. The inverse
/// scheduler makes the same transition towards noise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transition {
    pub(crate) conversion: Conversion,
    /// The noise level that the transition starts from.
    pub(crate) source: NoiseLevel,
    /// Largest magnitude of the guess of the noise-free sample; infinite when it is not clipped.
    pub(crate) clip: f32,
    /// Weight of the noise-free sample in the next sample.
    pub(crate) next_signal: f32,
    /// Weight of the noise in the next sample.
    pub(crate) next_noise: f32,
}

impl Transition {
    pub(crate) fn new(config: &SchedulerConfig, alpha_prod_t: f64, alpha_prod_next: f64) -> Self {
        let clip = if config.clip_sample.unwrap_or(true) {
            // A range cannot be negative; the absolute value keeps a wrong file from a panic.
            config.clip_sample_range.unwrap_or(1.0).abs()
        } else {
            f64::INFINITY
        };
        Self {
            conversion: Conversion::new(
                config.prediction_type(),
                alpha_prod_t.sqrt(),
                (1.0 - alpha_prod_t).sqrt(),
            ),
            source: NoiseLevel {
                signal: alpha_prod_t.sqrt(),
                noise: (1.0 - alpha_prod_t).sqrt(),
            },
            clip: clip as f32,
            next_signal: alpha_prod_next.sqrt() as f32,
            next_noise: (1.0 - alpha_prod_next).sqrt() as f32,
        }
    }

    pub(crate) fn apply(
        self,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
    ) -> StepOutput {
        let conversion = self.conversion;
        // 1. The predicted x0 of equation 12, clipped where the configuration says so.
        let original = |sample: f32, output: f32| {
            let original = conversion.original(sample, output);
            // Two choices instead of `clamp`: vector instructions know them, and NaN stays NaN.
            let below = if original > self.clip {
                self.clip
            } else {
                original
            };
            if below < -self.clip {
                -self.clip
            } else {
                below
            }
        };
        let pred_original_sample = map_pair(sample, model_output, original);
        // 2. Equation 12 with sigma_t = 0: x0 and the direction pointing to x_t, each at its level.
        let prev_sample = map_pair(sample, model_output, |sample, output| {
            self.next_signal * original(sample, output)
                + self.next_noise * conversion.epsilon(sample, output)
        });
        StepOutput {
            prev_sample,
            pred_original_sample,
        }
    }
}

/// The cumulative product that stands beyond the first timestep.
pub(crate) fn beyond_first(config: &SchedulerConfig, schedule: &NoiseSchedule) -> f64 {
    if config.set_alpha_to_one.unwrap_or(true) {
        1.0
    } else {
        schedule.alphas_cumprod()[0]
    }
}

/// The DDIM scheduler.
#[derive(Debug, Clone)]
pub struct Ddim {
    timesteps: Vec<f64>,
    transitions: Vec<Transition>,
    counter: StepCounter,
}

impl Ddim {
    /// Plans `steps` steps; default spacing leading.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler`].
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, DiffusionError> {
        SchedulerConfig::refuse_switches(&[("thresholding", config.thresholding)])?;
        let schedule = config.noise_schedule()?;
        refuse_steps(steps, &schedule)?;
        let spacing = config.spacing_or(TimestepSpacing::Leading);
        let total = schedule.num_train_timesteps();
        let timesteps: Vec<f64> = falling_timesteps(spacing, config, total, steps)
            .into_iter()
            .map(f64::round_ties_even)
            .collect();
        let ratio = (total / steps) as i64;
        let beyond = beyond_first(config, &schedule);
        let mut transitions = Vec::with_capacity(timesteps.len());
        for &timestep in &timesteps {
            let timestep = timestep as i64;
            let alpha_prod_t = schedule.alpha_cumprod_or(timestep, beyond)?;
            let alpha_prod_t_prev = schedule.alpha_cumprod_or(timestep - ratio, beyond)?;
            transitions.push(Transition::new(config, alpha_prod_t, alpha_prod_t_prev));
        }
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            transitions,
        })
    }
}

impl Scheduler for Ddim {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Ddim
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.transitions[step_index].source
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
        Ok(self.transitions[step_index].apply(model_output, sample))
    }
}
