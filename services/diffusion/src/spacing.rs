//! Where the inference timesteps lie on the training scale, and the sigmas between them.

use crate::config::{SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::scheduler::SchedulerKind;

/// Exponent of the Karras spread (Karras et al. 2022, arXiv 2206.00364, table 1).
const KARRAS_RHO: f64 = 7.0;

/// Both shape parameters of the beta distribution whose quantiles spread the sigmas (Lee et al.
/// 2024, arXiv 2407.12173, section 5).
const BETA_SHAPE: f64 = 0.6;

/// Which steps a scheduler is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Steps<'a> {
    /// That many, spread as the configuration says.
    Count(usize),
    /// One model evaluation at each of these timesteps.
    At(&'a [f64]),
}

impl Steps<'_> {
    /// The number of steps, for a scheduler that takes no list of timesteps.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for a list.
    pub fn count_for(self, kind: SchedulerKind) -> Result<usize, DiffusionError> {
        match self {
            Self::Count(steps) => Ok(steps),
            Self::At(_) => Err(DiffusionError::Unsupported {
                option: "timesteps",
                value: format!("a list for {kind}"),
                hint: "; this scheduler takes a number of steps",
            }),
        }
    }
}

/// The order that a list of timesteps must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Towards the image.
    Falling,
    /// Towards noise.
    Rising,
}

/// Checks a list of explicit timesteps: not empty, whole numbers of the training schedule, each one
/// once, in order.
///
/// # Errors
/// [`DiffusionError::Timesteps`] and [`DiffusionError::Timestep`].
pub(crate) fn refuse_timesteps(
    timesteps: &[f64],
    direction: Direction,
    num_train_timesteps: usize,
) -> Result<(), DiffusionError> {
    let refused = |reason| Err(DiffusionError::Timesteps { reason });
    if timesteps.is_empty() {
        return refused("the list is empty");
    }
    if timesteps.iter().any(|timestep| timestep.fract() != 0.0) {
        return refused("a timestep is a whole number");
    }
    for &timestep in timesteps {
        if !(0.0..num_train_timesteps as f64).contains(&timestep) {
            return Err(DiffusionError::Timestep {
                timestep: timestep as i64,
                num_train_timesteps,
            });
        }
    }
    let in_order = |pair: &[f64]| match direction {
        Direction::Falling => pair[0] > pair[1],
        Direction::Rising => pair[0] < pair[1],
    };
    match (timesteps.windows(2).all(in_order), direction) {
        (true, _) => Ok(()),
        (false, Direction::Falling) => refused("each timestep is lower than the one before"),
        (false, Direction::Rising) => refused("each timestep is higher than the one before"),
    }
}

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

/// `steps` falling sigmas, evenly spread in their logarithm.
pub(crate) fn exponential_sigmas(sigma_min: f64, sigma_max: f64, steps: usize) -> Vec<f64> {
    linspace(libm::log(sigma_max), libm::log(sigma_min), steps)
        .into_iter()
        .map(libm::exp)
        .collect()
}

/// `steps` falling sigmas at the quantiles of a beta distribution: dense at both ends.
pub(crate) fn beta_sigmas(sigma_min: f64, sigma_max: f64, steps: usize) -> Vec<f64> {
    linspace(0.0, 1.0, steps)
        .into_iter()
        .map(|ramp| sigma_min + symmetric_beta_quantile(1.0 - ramp) * (sigma_max - sigma_min))
        .collect()
}

/// The value below which a variable with the beta distribution of [`BETA_SHAPE`] lies with the
/// given probability, by bisection.
fn symmetric_beta_quantile(probability: f64) -> f64 {
    if probability > 0.5 {
        return 1.0 - symmetric_beta_quantile(1.0 - probability);
    }
    if probability <= 0.0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 0.5);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return middle;
        }
        if symmetric_beta_probability(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The regularised incomplete beta function `I_x(a, a)` with `a` = [`BETA_SHAPE`] for `x` up to a
/// half, by its power series (DLMF 8.17.7): `x^a / B(a, a) * sum of (1 - a)_n x^n / (n! (a + n))`.
fn symmetric_beta_probability(x: f64) -> f64 {
    let a = BETA_SHAPE;
    let mut coefficient = 1.0;
    let mut sum = 1.0 / a;
    let mut n = 0.0;
    loop {
        coefficient *= (n + 1.0 - a) / (n + 1.0) * x;
        n += 1.0;
        let term = coefficient / (a + n);
        sum += term;
        // The terms fall at least as fast as x^n, and x is at most a half.
        if term < sum * f64::EPSILON {
            break;
        }
    }
    let beta = libm::exp(2.0 * libm::lgamma(a) - libm::lgamma(2.0 * a));
    libm::pow(x, a) / beta * sum
}

/// The real timestep whose sigma is `sigma`, by interpolation of the logarithms. `sigmas` rise. The
/// logarithms of the table are held in 32 bits, as the reference holds them: where a timestep is
/// cut to a whole number, that rounding decides which.
pub(crate) fn sigma_to_timestep(sigma: f64, sigmas: &[f64]) -> f64 {
    let table_log = |index: usize| libm::log(sigmas[index]) as f32;
    let log_sigma = libm::log(sigma.max(1e-10));
    let above = sigmas.partition_point(|&other| f64::from(libm::log(other) as f32) <= log_sigma);
    let low = above.saturating_sub(1).min(sigmas.len().saturating_sub(2));
    let high = (low + 1).min(sigmas.len() - 1);
    if high == low {
        return low as f64;
    }
    let (log_low, log_high) = (table_log(low), table_log(high));
    let weight = ((f64::from(log_low) - log_sigma) / f64::from(log_low - log_high)).clamp(0.0, 1.0);
    (1.0 - weight) * low as f64 + weight * high as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_beta_distribution_are_those_of_the_tables() {
        // scipy.stats.beta.ppf(p, 0.6, 0.6).
        for (probability, expected) in QUANTILES {
            let found = symmetric_beta_quantile(probability);
            assert!(
                (found - expected).abs() < 1e-12 * expected,
                "{probability}: {found} instead of {expected}"
            );
        }
    }

    const QUANTILES: [(f64, f64); 5] = [
        (0.001, 1.855873851745199e-05),
        (0.1, 0.03958440558878085),
        (0.4, 0.3627009907532143),
        (0.75, 0.824319621347305),
        (0.99, 0.9991387611784571),
    ];
}
