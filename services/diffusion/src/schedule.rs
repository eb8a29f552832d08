//! The noise schedule of training: betas, their cumulative products, sigmas.
//!
//! Published weights were trained with tables held in 32-bit floats. The small noise levels depend
//! on that rounding (one minus 0.9999 keeps four digits), so the tables are rounded where the
//! reference rounds; everything that is derived from them is computed in f64.

use crate::config::{BetaSchedule, SchedulerConfig};
use crate::error::DiffusionError;

/// Default length of the training schedule.
pub const NUM_TRAIN_TIMESTEPS: usize = 1000;
/// Largest accepted length: far above every published model, small enough to allocate freely.
pub const NUM_TRAIN_TIMESTEPS_MAX: usize = 100_000;
/// Cap of the betas that are made from a falling curve.
const BETA_MAX: f64 = 0.999;
/// How fast the signal power of [`BetaSchedule::Exp`] falls.
const EXP_RATE: f64 = 12.0;
/// Where the logistic curve of [`BetaSchedule::Sigmoid`] starts (negated) and ends.
const SIGMOID_REACH: f32 = 6.0;
/// Stands for zero in the last cumulative product of a schedule that was rescaled to zero terminal
/// signal, so that its sigma stays finite: the smallest 16-bit float, 2^-24.
const ALPHA_CUMPROD_FLOOR: f32 = 1.0 / 16_777_216.0;

/// What a scheduler assumes where the configuration names no betas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BetaDefaults {
    /// First beta.
    pub start: f64,
    /// Last beta.
    pub end: f64,
    /// Shape between the two.
    pub shape: BetaSchedule,
}

impl BetaDefaults {
    /// The schedule of Ho, Jain and Abbeel 2020 (arXiv 2006.11239), the default of most schedulers.
    pub const DDPM: Self = Self {
        start: 0.0001,
        end: 0.02,
        shape: BetaSchedule::Linear,
    };
    /// The default of Heun, KDPM2 and DPM-Solver SDE.
    pub const LATENT_LINEAR: Self = Self {
        start: 0.00085,
        end: 0.012,
        shape: BetaSchedule::Linear,
    };
    /// The schedule of latent diffusion (Rombach et al. 2022, arXiv 2112.10752), the default of LCM
    /// and TCD.
    pub const LATENT: Self = Self {
        start: 0.00085,
        end: 0.012,
        shape: BetaSchedule::ScaledLinear,
    };
}

/// The tables of a training schedule, one value per timestep.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    betas: Vec<f32>,
    alphas_cumprod: Vec<f64>,
}

impl NoiseSchedule {
    /// Builds the tables.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for an empty or over-long schedule or betas outside 0..=1.
    pub fn new(config: &SchedulerConfig, defaults: BetaDefaults) -> Result<Self, DiffusionError> {
        let betas = betas(config, defaults)?;
        Ok(if config.rescale_betas_zero_snr.unwrap_or(false) {
            Self::from_betas(rescale_zero_terminal_snr(&betas))
        } else {
            Self::from_betas(betas)
        })
    }

    /// Builds the tables for a scheduler that does not know `rescale_betas_zero_snr` and leaves the
    /// betas as they are, as the reference does for DEIS, DPM-Solver singlestep and SDE, Heun,
    /// KDPM2, LMS and PNDM.
    ///
    /// # Errors
    /// As [`NoiseSchedule::new`].
    pub fn without_rescaling(
        config: &SchedulerConfig,
        defaults: BetaDefaults,
    ) -> Result<Self, DiffusionError> {
        Ok(Self::from_betas(betas(config, defaults)?))
    }

    fn from_betas(betas: Vec<f32>) -> Self {
        // The running product is kept in f64 and each stored value is rounded, as the reference's
        // tensor library does.
        let mut product = 1.0_f64;
        let alphas_cumprod = betas
            .iter()
            .map(|beta| {
                product *= f64::from(1.0 - beta);
                f64::from(product as f32)
            })
            .collect();
        Self {
            betas,
            alphas_cumprod,
        }
    }

    /// Number of training timesteps.
    pub fn num_train_timesteps(&self) -> usize {
        self.betas.len()
    }

    /// The betas.
    pub fn betas(&self) -> &[f32] {
        &self.betas
    }

    /// Cumulative products of `1 - beta`: the share of signal power left at each timestep.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// The cumulative product at a timestep, or `beyond` for a negative one.
    ///
    /// # Errors
    /// [`DiffusionError::Timestep`] beyond the last timestep.
    pub fn alpha_cumprod_or(&self, timestep: i64, beyond: f64) -> Result<f64, DiffusionError> {
        let Ok(index) = usize::try_from(timestep) else {
            return Ok(beyond);
        };
        self.alphas_cumprod
            .get(index)
            .copied()
            .ok_or(DiffusionError::Timestep {
                timestep,
                num_train_timesteps: self.num_train_timesteps(),
            })
    }

    /// `sqrt((1 - alpha_cumprod) / alpha_cumprod)` for each timestep, rising, computed in 32 bits as
    /// the reference does.
    pub fn sigmas(&self) -> Vec<f64> {
        self.alphas_cumprod
            .iter()
            .map(|&alpha| {
                let alpha = if alpha > 0.0 {
                    alpha as f32
                } else {
                    ALPHA_CUMPROD_FLOOR
                };
                f64::from(((1.0 - alpha) / alpha).sqrt())
            })
            .collect()
    }
}

fn betas(config: &SchedulerConfig, defaults: BetaDefaults) -> Result<Vec<f32>, DiffusionError> {
    let betas = match &config.trained_betas {
        Some(trained) => {
            refuse_length(trained.len())?;
            trained.iter().map(|&beta| beta as f32).collect()
        }
        None => {
            let count = config.num_train_timesteps.unwrap_or(NUM_TRAIN_TIMESTEPS);
            refuse_length(count)?;
            let defaults = BetaDefaults {
                start: config.beta_start.unwrap_or(defaults.start),
                end: config.beta_end.unwrap_or(defaults.end),
                shape: config.beta_schedule.unwrap_or(defaults.shape),
            };
            shaped_betas(defaults, count)
        }
    };
    match betas.iter().find(|beta| !(0.0..=1.0).contains(*beta)) {
        None => Ok(betas),
        Some(beta) => Err(DiffusionError::Unsupported {
            option: "betas",
            value: beta.to_string(),
            hint: "; every beta lies between 0 and 1",
        }),
    }
}

fn shaped_betas(range: BetaDefaults, count: usize) -> Vec<f32> {
    let (start, end) = (range.start as f32, range.end as f32);
    match range.shape {
        BetaSchedule::Linear => linspace_f32(start, end, count),
        BetaSchedule::ScaledLinear => {
            linspace_f32(range.start.sqrt() as f32, range.end.sqrt() as f32, count)
                .into_iter()
                .map(|root| root * root)
                .collect()
        }
        // Nichol and Dhariwal 2021 (arXiv 2102.09672), equation 17.
        BetaSchedule::SquaredcosCapV2 => betas_of_alpha_bar(count, |time| {
            let cosine = libm::cos((time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2);
            cosine * cosine
        }),
        BetaSchedule::Exp => betas_of_alpha_bar(count, |time| libm::exp(-EXP_RATE * time)),
        BetaSchedule::Laplace => betas_of_alpha_bar(count, laplace_alpha_bar),
        BetaSchedule::Sigmoid => linspace_f32(-SIGMOID_REACH, SIGMOID_REACH, count)
            .into_iter()
            .map(|place| {
                let logistic = 1.0 / (1.0 + libm::exp(-f64::from(place)));
                logistic as f32 * (end - start) + start
            })
            .collect(),
    }
}

fn refuse_length(count: usize) -> Result<(), DiffusionError> {
    if (1..=NUM_TRAIN_TIMESTEPS_MAX).contains(&count) {
        return Ok(());
    }
    Err(DiffusionError::Unsupported {
        option: "num_train_timesteps",
        value: count.to_string(),
        hint: "; between 1 and 100000 are possible",
    })
}

/// Evenly spaced 32-bit values from `start` to `end`, counted from the nearer end, which keeps both
/// ends exact. The step is rounded to 32 bits, its multiple is added before rounding: what the
/// reference's tensor library does with a fused multiply-add.
fn linspace_f32(start: f32, end: f32, count: usize) -> Vec<f32> {
    if count == 1 {
        return vec![start];
    }
    let step = f64::from((end - start) / (count - 1) as f32);
    (0..count)
        .map(|index| {
            let value = if index < count / 2 {
                f64::from(start) + step * index as f64
            } else {
                f64::from(end) - step * (count - 1 - index) as f64
            };
            value as f32
        })
        .collect()
}

/// Betas from the ratio of two values of a falling curve over times from 0 to 1. The timesteps are
/// divided as real numbers.
fn betas_of_alpha_bar(count: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<f32> {
    (0..count)
        .map(|index| {
            let now = alpha_bar(index as f64 / count as f64);
            let next = alpha_bar((index + 1) as f64 / count as f64);
            (1.0 - next / now).min(BETA_MAX) as f32
        })
        .collect()
}

/// Signal level whose half logarithmic signal-to-noise ratio follows a Laplace distribution (Hang
/// and Gu 2024, arXiv 2407.03297, table 1, with mean 0 and scale 0.5).
fn laplace_alpha_bar(time: f64) -> f64 {
    let from_middle = 0.5 - time;
    // The small number keeps the logarithm finite at both ends.
    let tail = libm::log(1.0 - 2.0 * from_middle.abs() + 1e-6);
    let snr = libm::exp(-0.5 * from_middle.signum() * tail);
    (snr / (1.0 + snr)).sqrt()
}

/// Lin et al. 2023 (arXiv 2305.08891), algorithm 1: shifts and scales the square roots of the
/// cumulative products so that the last one is zero and the first one is kept.
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    let roots: Vec<f32> = betas
        .iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            (product as f32).sqrt()
        })
        .collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let bars: Vec<f32> = roots
        .iter()
        .map(|root| {
            let shifted = (root - last) * (first / (first - last));
            shifted * shifted
        })
        .collect();
    let mut previous = 1.0;
    bars.iter()
        .map(|&bar| {
            let alpha = bar / previous;
            previous = bar;
            1.0 - alpha
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_betas_rise_from_almost_nothing_to_the_cap() {
        let config = SchedulerConfig {
            beta_schedule: Some(BetaSchedule::SquaredcosCapV2),
            ..SchedulerConfig::default()
        };
        let schedule = config.noise_schedule().unwrap();
        let betas = schedule.betas();
        assert!(betas[0] > 1e-5 && betas[0] < 1e-4, "{}", betas[0]);
        assert!(betas.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(betas[999], 0.999);
    }

    #[test]
    fn zero_terminal_snr_leaves_no_signal_at_the_last_timestep() {
        let config = SchedulerConfig {
            rescale_betas_zero_snr: Some(true),
            ..SchedulerConfig::default()
        };
        let schedule = config.noise_schedule().unwrap();
        assert_eq!(schedule.alphas_cumprod()[999], 0.0);
        assert!(schedule.sigmas()[999].is_finite());
    }

    #[test]
    fn an_empty_schedule_is_refused() {
        let config = SchedulerConfig {
            trained_betas: Some(Vec::new()),
            ..SchedulerConfig::default()
        };
        assert!(config.noise_schedule().is_err());
    }
}
