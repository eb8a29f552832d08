//! Where the inference timesteps lie on the training scale, and the sigmas between them.

use crate::config::{SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;

/// Exponent of the Karras spread (Karras et al. 2022, arXiv 2206.00364, table 1).
const KARRAS_RHO: f64 = 7.0;

/// Refuses zero steps and more steps than the training schedule has timesteps.
///
/// # Errors
/// [`DiffusionError::Steps`].
pub fn refuse_steps(steps: usize, schedule: &NoiseSchedule) -> Result<(), DiffusionError> {
    let steps_max = schedule.num_train_timesteps();
    if (1..=steps_max).contains(&steps) {
        return Ok(());
    }
    Err(DiffusionError::Steps { steps, steps_max })
}

/// Falling timesteps for DDIM and Euler, before any rounding of `linspace`.
pub(crate) fn falling_timesteps(
    spacing: TimestepSpacing,
    config: &SchedulerConfig,
    num_train_timesteps: usize,
    steps: usize,
) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Linspace => {
            let mut rising = linspace(0.0, (num_train_timesteps - 1) as f64, steps);
            rising.reverse();
            rising
        }
        TimestepSpacing::Leading => {
            let ratio = num_train_timesteps / steps;
            let offset = config.steps_offset.unwrap_or(0) as f64;
            (0..steps)
                .rev()
                .map(|index| (index * ratio) as f64 + offset)
                .collect()
        }
        TimestepSpacing::Trailing => {
            trailing_timesteps(num_train_timesteps, num_train_timesteps, steps)
        }
    }
}

/// `num_train_timesteps / steps` apart, from `last` down, each rounded and lowered by one.
pub(crate) fn trailing_timesteps(
    last: usize,
    num_train_timesteps: usize,
    steps: usize,
) -> Vec<f64> {
    let ratio = num_train_timesteps as f64 / steps as f64;
    let count = (last as f64 / ratio).ceil() as usize;
    (0..count)
        .map(|index| (last as f64 - index as f64 * ratio).round_ties_even() - 1.0)
        .collect()
}

/// `count` evenly spaced values from `start` to `end`, both included (only `start` for one).
pub(crate) fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    if count == 1 {
        return vec![start];
    }
    let step = (end - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count)
        .map(|index| start + step * index as f64)
        .collect();
    values[count - 1] = end;
    values
}

/// The value of a table at a real index, by linear interpolation, clamped at both ends.
pub(crate) fn interpolate(table: &[f64], index: f64) -> f64 {
    let last = table.len() - 1;
    let index = index.clamp(0.0, last as f64);
    let low = (index.floor() as usize).min(last);
    let high = (low + 1).min(last);
    let weight = index - low as f64;
    table[low] + (table[high] - table[low]) * weight
}

/// Karras et al. 2022 (arXiv 2206.00364), equation 5: `steps` falling sigmas.
pub(crate) fn karras_sigmas(sigma_min: f64, sigma_max: f64, steps: usize) -> Vec<f64> {
    let min_root = libm::pow(sigma_min, 1.0 / KARRAS_RHO);
    let max_root = libm::pow(sigma_max, 1.0 / KARRAS_RHO);
    linspace(0.0, 1.0, steps)
        .into_iter()
        .map(|ramp| libm::pow(max_root + ramp * (min_root - max_root), KARRAS_RHO))
        .collect()
}

/// The real timestep whose sigma is `sigma`, by interpolation of the logarithms. `sigmas` rise.
pub(crate) fn sigma_to_timestep(sigma: f64, sigmas: &[f64]) -> f64 {
    let log_sigma = libm::log(sigma.max(1e-10));
    let above = sigmas.partition_point(|&other| libm::log(other) <= log_sigma);
    let low = above.saturating_sub(1).min(sigmas.len().saturating_sub(2));
    let high = (low + 1).min(sigmas.len() - 1);
    let (log_low, log_high) = (libm::log(sigmas[low]), libm::log(sigmas[high]));
    if high == low {
        return low as f64;
    }
    let weight = ((log_low - log_sigma) / (log_low - log_high)).clamp(0.0, 1.0);
    (1.0 - weight) * low as f64 + weight * high as f64
}
