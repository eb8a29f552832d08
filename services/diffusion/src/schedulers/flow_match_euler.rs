//! Euler steps along the straight paths of flow matching (Lipman et al. 2023, arXiv 2210.02747;
//! Esser et al. 2024, arXiv 2403.03206, the sampler of Stable Diffusion 3 and Flux): samples are
//! `(1 - sigma) x0 + sigma * noise`, and the model predicts the velocity `noise - x0`.

use ndarray::ArrayView4;

use crate::config::{SchedulerConfig, TimeShiftType};
use crate::error::DiffusionError;
use crate::schedule::{NUM_TRAIN_TIMESTEPS, NUM_TRAIN_TIMESTEPS_MAX};
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::sigma_plan::in_32_bits;
use crate::schedulers::{StepCounter, map_pair, refuse_shapes};
use crate::seed::NoiseSource;
use crate::spacing::{Steps, beta_sigmas, exponential_sigmas, karras_sigmas, linspace};

/// The dynamic shift `mu` for an image of that many tokens (latent pixels over the patch area): on
/// the straight line through `base_shift` at `base_image_seq_len` and `max_shift` at
/// `max_image_seq_len`, by default 0.5 at 256 and 1.15 at 4096.
pub fn dynamic_shift(config: &SchedulerConfig, tokens: usize) -> f64 {
    let (base, max) = (
        config.base_shift.unwrap_or(0.5),
        config.max_shift.unwrap_or(1.15),
    );
    let base_tokens = config.base_image_seq_len.unwrap_or(256) as f64;
    let max_tokens = config.max_image_seq_len.unwrap_or(4096) as f64;
    let slope = (max - base) / (max_tokens - base_tokens);
    slope * tokens as f64 + base - slope * base_tokens
}

/// The sigmas that Flux hands to its scheduler: evenly from 1 to `1 / steps`.
pub fn flux_sigmas(steps: usize) -> Vec<f64> {
    linspace(1.0, 1.0 / steps.max(1) as f64, steps)
}

/// The flow-matching Euler scheduler.
#[derive(Debug, Clone)]
pub struct FlowMatchEuler {
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f64>,
    stochastic: bool,
    counter: StepCounter,
}

impl FlowMatchEuler {
    /// Plans the steps, by default evenly spread and not shifted.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`]; a configuration with dynamic shifting is refused
    /// unless [`SchedulerConfig::mu`] says how far (see [`dynamic_shift`]).
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let total = num_train_timesteps(config)?;
        let sigmas: Vec<f64> = match steps {
            Steps::Count(count) => {
                if !(1..=total).contains(&count) {
                    return Err(DiffusionError::Steps {
                        steps: count,
                        steps_max: total,
                    });
                }
                // The smallest sigma of training has gone through the fixed shift already.
                let mut smallest = 1.0 / total as f64;
                if !dynamic(config) {
                    smallest = in_32_bits(fixed_shift(config, smallest));
                }
                linspace(1.0, smallest, count)
            }
            Steps::At(list) => {
                if list.is_empty() || list.windows(2).any(|pair| pair[0] <= pair[1]) {
                    return Err(DiffusionError::Timesteps {
                        reason: "each timestep is lower than the one before, and there is one",
                    });
                }
                let sigmas = list.iter().map(|timestep| timestep / total as f64);
                let sigmas: Vec<f64> = sigmas.collect();
                refuse_sigmas(&sigmas)?;
                sigmas
            }
        };
        let mut plan = Self::plan(config, &sigmas)?;
        if let Steps::At(list) = steps {
            // As in the reference, the model is told the timesteps as they were given.
            plan.timesteps = list.iter().copied().map(in_32_bits).collect();
        }
        Ok(plan)
    }

    /// Plans steps at given sigmas before any shift, as Flux does (see [`flux_sigmas`]).
    ///
    /// # Errors
    /// [`DiffusionError::Timesteps`] for sigmas that do not fall within 0..=1, and the errors of
    /// [`FlowMatchEuler::new`].
    pub fn at_sigmas(config: &SchedulerConfig, sigmas: &[f64]) -> Result<Self, DiffusionError> {
        refuse_sigmas(sigmas)?;
        Self::plan(config, sigmas)
    }

    fn plan(config: &SchedulerConfig, sigmas: &[f64]) -> Result<Self, DiffusionError> {
        let total = num_train_timesteps(config)? as f64;
        // 1. The shift towards noise: fixed, or for the size of the image.
        let mut sigmas: Vec<f64> = if dynamic(config) {
            let mu = config.mu.ok_or(DiffusionError::Unsupported {
                option: "use_dynamic_shifting",
                value: "true".to_owned(),
                hint: " without the size of the image",
            })?;
            let shift = match config.time_shift_type.unwrap_or(TimeShiftType::Exponential) {
                TimeShiftType::Exponential => libm::exp(mu),
                TimeShiftType::Linear => mu,
            };
            let shifted = |&sigma: &f64| shift / (shift + (1.0 / sigma - 1.0));
            sigmas.iter().map(shifted).collect()
        } else {
            let shifted = |&sigma: &f64| fixed_shift(config, sigma);
            sigmas.iter().map(shifted).collect()
        };
        // 2. Stretched so that the last one is the terminal sigma.
        if let Some(terminal) = config.shift_terminal.filter(|terminal| *terminal != 0.0) {
            let scale = (1.0 - sigmas[sigmas.len() - 1]) / (1.0 - terminal);
            for sigma in &mut sigmas {
                *sigma = 1.0 - (1.0 - *sigma) / scale;
            }
        }
        // 3. Another spread between the same ends.
        sigmas = respread(config, sigmas);
        let mut sigmas: Vec<f64> = sigmas.into_iter().map(in_32_bits).collect();
        // 4. The other direction, for models that count from data to noise.
        let inverted = config.invert_sigmas.unwrap_or(false);
        if inverted {
            for sigma in &mut sigmas {
                *sigma = 1.0 - *sigma;
            }
        }
        let timestep_of = |&sigma: &f64| in_32_bits(sigma * total);
        let timesteps: Vec<f64> = sigmas.iter().map(timestep_of).collect();
        sigmas.push(if inverted { 1.0 } else { 0.0 });
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            sigmas,
            stochastic: config.stochastic_sampling.unwrap_or(false),
        })
    }
}

fn num_train_timesteps(config: &SchedulerConfig) -> Result<usize, DiffusionError> {
    let total = config.num_train_timesteps.unwrap_or(NUM_TRAIN_TIMESTEPS);
    if (1..=NUM_TRAIN_TIMESTEPS_MAX).contains(&total) {
        return Ok(total);
    }
    Err(DiffusionError::Unsupported {
        option: "num_train_timesteps",
        value: total.to_string(),
        hint: "; between 1 and 100000 are possible",
    })
}

fn dynamic(config: &SchedulerConfig) -> bool {
    config.use_dynamic_shifting.unwrap_or(false)
}

/// Esser et al. 2024, equation 23.
fn fixed_shift(config: &SchedulerConfig, sigma: f64) -> f64 {
    let shift = config.shift.unwrap_or(1.0);
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

fn refuse_sigmas(sigmas: &[f64]) -> Result<(), DiffusionError> {
    let inside = sigmas.iter().all(|sigma| *sigma > 0.0 && *sigma <= 1.0);
    let falling = sigmas.windows(2).all(|pair| pair[0] > pair[1]);
    if inside && falling && !sigmas.is_empty() {
        return Ok(());
    }
    Err(DiffusionError::Timesteps {
        reason: "sigmas of a flow fall from at most 1 to above 0, and there is one",
    })
}

fn respread(config: &SchedulerConfig, sigmas: Vec<f64>) -> Vec<f64> {
    let count = sigmas.len();
    let sigma_min = config.sigma_min.unwrap_or(sigmas[count - 1]);
    let sigma_max = config.sigma_max.unwrap_or(sigmas[0]);
    if config.karras() {
        karras_sigmas(sigma_min, sigma_max, count)
    } else if config.use_exponential_sigmas == Some(true) {
        exponential_sigmas(sigma_min, sigma_max, count)
    } else if config.use_beta_sigmas == Some(true) {
        beta_sigmas(sigma_min, sigma_max, count)
    } else {
        sigmas
    }
}

impl Scheduler for FlowMatchEuler {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::FlowMatchEuler
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        let sigma = self.sigmas[step_index];
        NoiseLevel {
            signal: 1.0 - sigma,
            noise: sigma,
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
        let end = self.sigmas[self.sigmas.len() - 1];
        // 1. The noise-free sample: straight on to the end of the path.
        let to_end = (end - sigma) as f32;
        let pred_original_sample = map_pair(sample, model_output, |sample, velocity| {
            sample + to_end * velocity
        });
        let prev_sample = if self.stochastic {
            // 2. Either fresh noise at the next level,
            let fresh = noise.normals(sample.dim());
            let (signal, level) = ((1.0 - sigma_next) as f32, sigma_next as f32);
            map_pair(
                pred_original_sample.view(),
                fresh.view(),
                |original, fresh| signal * original + level * fresh,
            )
        } else {
            // 3. or the Euler step along the velocity.
            let step = (sigma_next - sigma) as f32;
            map_pair(sample, model_output, |sample, velocity| {
                sample + step * velocity
            })
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
