//! The plan of the schedulers in the sigma parametrisation (Karras et al. 2022, arXiv 2206.00364):
//! samples are `x0 + sigma * noise`, and the model sees them divided by `sqrt(sigma^2 + 1)`.

use crate::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::spacing::{
    Direction, Steps, beta_sigmas, exponential_sigmas, falling_timesteps, interpolate,
    karras_sigmas, refuse_steps, refuse_timesteps, sigma_to_timestep,
};

/// What a scheduler leaves to the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlanRules {
    /// The switches `use_karras_sigmas`, `use_exponential_sigmas` and `use_beta_sigmas` are ignored.
    pub(crate) ignores_spreads: bool,
    /// `interpolation_type` is known.
    pub(crate) knows_interpolation: bool,
    /// The Karras spread ignores `sigma_min` and `sigma_max`.
    pub(crate) karras_ignores_limits: bool,
    /// The timesteps of the Karras spread are whole numbers.
    pub(crate) karras_rounds_timesteps: bool,
}

/// Timesteps and sigmas, one of each per step, before the last sigma is appended.
#[derive(Debug, Clone)]
pub(crate) struct SigmaPlan {
    pub(crate) timesteps: Vec<f64>,
    /// One more than timesteps when they are interpolated by their logarithms.
    pub(crate) sigmas: Vec<f64>,
    /// The sigmas of training, one per training timestep, rising.
    pub(crate) train_sigmas: Vec<f64>,
    pub(crate) init_noise_sigma: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    Karras,
    Exponential,
    Beta,
}

impl SigmaPlan {
    /// # Errors
    /// [`DiffusionError::Unsupported`] for contradictory switches, or a spread of the sigmas
    /// together with explicit timesteps; [`DiffusionError::Steps`], [`DiffusionError::Timesteps`]
    /// and [`DiffusionError::Timestep`] for impossible steps.
    pub(crate) fn new(
        config: &SchedulerConfig,
        schedule: &NoiseSchedule,
        steps: Steps<'_>,
        rules: PlanRules,
    ) -> Result<Self, DiffusionError> {
        let spread = Spread::of(config, rules)?;
        let spacing = config.spacing_or(TimestepSpacing::Linspace);
        let total = schedule.num_train_timesteps();
        let train_sigmas = schedule.sigmas();
        // 1. The timesteps. The reference holds them in 32 bits; models see that value.
        let timesteps = match steps {
            Steps::Count(count) => {
                refuse_steps(count, schedule)?;
                falling_timesteps(spacing, config, total, count)
            }
            Steps::At(list) => {
                refuse_timesteps(list, Direction::Falling, total)?;
                refuse_list_with(spread)?;
                list.to_vec()
            }
        };
        let mut timesteps: Vec<f64> = timesteps.into_iter().map(in_32_bits).collect();
        let count = timesteps.len();
        // 2. Their sigmas.
        let log_linear = rules.knows_interpolation && log_linear(config)?;
        let mut sigmas = if log_linear {
            // Evenly spread logarithms between the ends of training, whatever the timesteps are.
            exponential_sigmas(train_sigmas[0], train_sigmas[total - 1], count + 1)
        } else {
            let sigma_at = |&timestep: &f64| interpolate(&train_sigmas, timestep);
            timesteps.iter().map(sigma_at).collect()
        };
        // 3. Another spread between the same ends, and the timesteps that belong to it.
        if let Some(spread) = spread {
            let limited = !(spread == Spread::Karras && rules.karras_ignores_limits);
            let limit = |limit: Option<f64>, own: f64| limit.filter(|_| limited).unwrap_or(own);
            let sigma_min = limit(config.sigma_min, sigmas[sigmas.len() - 1]);
            let sigma_max = limit(config.sigma_max, sigmas[0]);
            sigmas = spread.sigmas(sigma_min, sigma_max, count);
            let timestep_of = |&sigma: &f64| sigma_to_timestep(sigma, &train_sigmas);
            timesteps = sigmas.iter().map(timestep_of).collect();
            if spread == Spread::Karras && rules.karras_rounds_timesteps {
                timesteps = timesteps.into_iter().map(f64::round_ties_even).collect();
            }
        }
        let sigmas: Vec<f64> = sigmas.into_iter().map(in_32_bits).collect();
        Ok(Self {
            timesteps: timesteps.into_iter().map(in_32_bits).collect(),
            init_noise_sigma: init_noise_sigma(spacing, &sigmas),
            sigmas,
            train_sigmas,
        })
    }
}

impl Spread {
    /// The spread that the configuration asks for, if any.
    fn of(config: &SchedulerConfig, rules: PlanRules) -> Result<Option<Self>, DiffusionError> {
        if rules.ignores_spreads {
            return Ok(None);
        }
        let switches = [
            (config.use_karras_sigmas, Self::Karras),
            (config.use_exponential_sigmas, Self::Exponential),
            (config.use_beta_sigmas, Self::Beta),
        ];
        let mut chosen = switches.iter().filter(|(on, _)| *on == Some(true));
        match (chosen.next(), chosen.next()) {
            (None, _) => Ok(None),
            (Some(&(_, spread)), None) => Ok(Some(spread)),
            (Some(_), Some(&(_, second))) => Err(DiffusionError::Unsupported {
                option: second.option(),
                value: "true".to_owned(),
                hint: " together with another spread of the sigmas",
            }),
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Karras => "use_karras_sigmas",
            Self::Exponential => "use_exponential_sigmas",
            Self::Beta => "use_beta_sigmas",
        }
    }

    /// `count` falling sigmas between two ends.
    fn sigmas(self, sigma_min: f64, sigma_max: f64, count: usize) -> Vec<f64> {
        match self {
            Self::Exponential => exponential_sigmas(sigma_min, sigma_max, count),
            Self::Karras => karras_sigmas(sigma_min, sigma_max, count),
            Self::Beta => beta_sigmas(sigma_min, sigma_max, count),
        }
    }
}

fn refuse_list_with(spread: Option<Spread>) -> Result<(), DiffusionError> {
    match spread {
        None => Ok(()),
        Some(spread) => Err(DiffusionError::Unsupported {
            option: spread.option(),
            value: "true".to_owned(),
            hint: " together with explicit timesteps",
        }),
    }
}

fn log_linear(config: &SchedulerConfig) -> Result<bool, DiffusionError> {
    let interpolation = config.interpolation_type.as_deref();
    let accepted = ["linear", "log_linear"];
    SchedulerConfig::refuse_other_than("interpolation_type", interpolation, &accepted)?;
    Ok(interpolation == Some("log_linear"))
}

/// The value after rounding to 32 bits.
pub(crate) fn in_32_bits(value: f64) -> f64 {
    f64::from(value as f32)
}

/// Leading spacing starts below the last training timestep, where some signal is left; the other
/// two take the largest sigma for pure noise.
fn init_noise_sigma(spacing: TimestepSpacing, sigmas: &[f64]) -> f64 {
    let sigma_max = sigmas.iter().copied().fold(0.0, f64::max);
    match spacing {
        TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigma_max,
        TimestepSpacing::Leading => (sigma_max * sigma_max + 1.0).sqrt(),
    }
}

/// The noise-free sample D(x; sigma) of equation 7 by prediction type: `from_sample * x +
/// from_output * output`, for the unscaled sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Denoised {
    from_sample: f32,
    from_output: f32,
}

impl Denoised {
    pub(crate) fn new(prediction_type: PredictionType, sigma: f64) -> Self {
        let variance = sigma * sigma + 1.0;
        let (from_sample, from_output) = match prediction_type {
            // Refused when the scheduler was built; a flow's velocity leads to x0 in the same way.
            PredictionType::Epsilon | PredictionType::FlowPrediction => (1.0, -sigma),
            PredictionType::Sample => (0.0, 1.0),
            PredictionType::VPrediction => (1.0 / variance, -sigma / variance.sqrt()),
        };
        Self {
            from_sample: from_sample as f32,
            from_output: from_output as f32,
        }
    }

    pub(crate) fn original(self, sample: f32, output: f32) -> f32 {
        self.from_sample * sample + self.from_output * output
    }
}

/// Factor on a sample before it goes into the model.
pub(crate) fn input_scale(sigma: f64) -> f64 {
    1.0 / (sigma * sigma + 1.0).sqrt()
}

/// The ancestral split of a step (Song et al. 2021, arXiv 2011.13456, appendix F; the algorithm of
/// k-diffusion): a deterministic step down to `down`, then fresh noise of deviation `up`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ancestral {
    pub(crate) down: f64,
    pub(crate) up: f64,
}

impl Ancestral {
    /// `up^2 = to^2 (from^2 - to^2) / from^2` and `down^2 = to^2 - up^2`, which is `to^4 / from^2`:
    /// taken from there, it stays exact where the difference of two large squares would not.
    pub(crate) fn new(from: f64, to: f64) -> Self {
        Self {
            down: to * to / from,
            up: to * ((from - to) * (from + to)).max(0.0).sqrt() / from,
        }
    }
}

/// Every value twice, but for the first one.
pub(crate) fn twice_after_first(values: &[f64]) -> Vec<f64> {
    let (first, rest) = values.split_at(1);
    let rest = rest.iter().flat_map(|&value| [value, value]);
    first.iter().copied().chain(rest).collect()
}

/// The midpoint of two sigmas on the logarithmic scale, in 32 bits; zero when one of them is zero.
pub(crate) fn geometric_mean(first: f64, second: f64) -> f64 {
    in_32_bits((first * second).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ancestral_split_keeps_the_variance_even_after_a_huge_step() {
        for (from, to) in [(2e4, 0.05), (14.6, 9.7), (0.03, 0.0)] {
            let Ancestral { down, up } = Ancestral::new(from, to);
            assert!((down * down + up * up - to * to).abs() <= 1e-12 * to * to);
            assert!(down.is_finite() && up.is_finite());
        }
    }

    #[test]
    fn two_spreads_at_once_are_refused_by_name() {
        let config = SchedulerConfig {
            use_karras_sigmas: Some(true),
            use_beta_sigmas: Some(true),
            ..SchedulerConfig::default()
        };
        let schedule = config.noise_schedule().unwrap();
        let rules = PlanRules::default();
        let error = SigmaPlan::new(&config, &schedule, Steps::Count(4), rules).unwrap_err();
        assert_eq!(
            error.to_string(),
            "scheduler option use_beta_sigmas = true is not supported together with another spread \
             of the sigmas"
        );
    }

    #[test]
    fn logarithms_are_spread_over_the_whole_training_range() {
        let config = SchedulerConfig {
            interpolation_type: Some("log_linear".to_owned()),
            ..SchedulerConfig::default()
        };
        let schedule = config.noise_schedule().unwrap();
        let rules = PlanRules {
            knows_interpolation: true,
            ..PlanRules::default()
        };
        let plan = SigmaPlan::new(&config, &schedule, Steps::Count(4), rules).unwrap();

        assert_eq!(plan.sigmas.len(), 5);
        assert_eq!(plan.sigmas[0], plan.train_sigmas[999]);
    }
}
