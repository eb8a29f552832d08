//! How the timesteps and sigmas of the solvers in lambda are spread, by the rules of each class of
//! the reference.

use crate::config::{
    BetaSchedule, FinalSigmasType, SchedulerConfig, TimeShiftType, TimestepSpacing,
};
use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::spacing::{
    Direction, Steps, beta_sigmas, exponential_sigmas, interpolate, karras_sigmas, linspace,
    refuse_steps, refuse_timesteps, sigma_to_timestep, trailing_timesteps,
};

/// How far the first flow sigma of UniPC stays below one, where lambda would be infinite.
const FLOW_SIGMA_MARGIN: f64 = 1e-6;

/// The reference class whose rules a plan follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Multistep,
    Singlestep,
    UniPc,
    Deis,
}

/// How the sigmas are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Those of the training schedule at the timesteps.
    Trained,
    Karras,
    /// Even in lambda.
    Lu,
    Exponential,
    Beta,
    Flow,
    /// Karras, turned into flow sigmas (UniPC alone).
    KarrasFlow,
}

impl Spread {
    pub(crate) fn of(config: &SchedulerConfig, family: Family) -> Result<Self, DiffusionError> {
        let on = |switch: Option<bool>| switch.unwrap_or(false);
        let refused = |option, hint| {
            Err(DiffusionError::Unsupported {
                option,
                value: "true".to_owned(),
                hint,
            })
        };
        let switches = [
            on(config.use_karras_sigmas),
            on(config.use_exponential_sigmas),
            on(config.use_beta_sigmas),
        ];
        if switches.iter().filter(|&&on| on).count() > 1 {
            return refused(
                "use_karras_sigmas, use_exponential_sigmas or use_beta_sigmas",
                "; only one of the three can be on",
            );
        }
        let spread = match switches {
            [true, _, _] => Self::Karras,
            _ if family == Family::Multistep && on(config.use_lu_lambdas) => Self::Lu,
            [_, true, _] => Self::Exponential,
            [_, _, true] => Self::Beta,
            _ => Self::Trained,
        };
        match (spread, on(config.use_flow_sigmas)) {
            (spread, false) => Ok(spread),
            (Self::Trained, true) => Ok(Self::Flow),
            (Self::Karras, true) if family == Family::UniPc => Ok(Self::KarrasFlow),
            (_, true) => refused(
                "use_flow_sigmas",
                " beside another spread of the sigmas; switch one of them off",
            ),
        }
    }
}

/// What the parts of a plan are made from.
pub(crate) struct Draft<'a> {
    pub(crate) config: &'a SchedulerConfig,
    pub(crate) train_sigmas: Vec<f64>,
    pub(crate) family: Family,
}

impl Draft<'_> {
    /// Whole timesteps, and sigmas rounded to 32 bits as the reference holds them, one more.
    pub(crate) fn timesteps_and_sigmas(
        &self,
        schedule: &NoiseSchedule,
        spread: Spread,
        steps: Steps<'_>,
    ) -> Result<(Vec<f64>, Vec<f64>), DiffusionError> {
        let total = schedule.num_train_timesteps();
        let (timesteps, mut sigmas) = match steps {
            Steps::Count(steps) => {
                refuse_steps(steps, schedule)?;
                self.spread_steps(spread, steps, total)?
            }
            Steps::At(_) if spread != Spread::Trained => {
                return Err(DiffusionError::Timesteps {
                    reason: "the configuration spreads the sigmas itself; switch that off",
                });
            }
            Steps::At(list) => {
                refuse_timesteps(list, Direction::Falling, total)?;
                (list.to_vec(), self.trained_sigmas(list))
            }
        };
        let Some(&last) = sigmas.last() else {
            return Err(DiffusionError::Steps {
                steps: 0,
                steps_max: total,
            });
        };
        sigmas.push(self.final_sigma(spread, last));
        let timesteps: Vec<f64> = timesteps.into_iter().map(f64::trunc).collect();
        let inside = 0.0..total as f64;
        if let Some(outside) = timesteps
            .iter()
            .find(|timestep| !inside.contains(*timestep))
        {
            return Err(DiffusionError::Timestep {
                timestep: *outside as i64,
                num_train_timesteps: total,
            });
        }
        let rounded = sigmas.into_iter().map(|sigma| f64::from(sigma as f32));
        Ok((timesteps, rounded.collect()))
    }

    /// The sigma that the last step ends at.
    fn final_sigma(&self, spread: Spread, last: f64) -> f64 {
        let smallest = match (self.family, spread) {
            (Family::Multistep | Family::Singlestep, _) | (_, Spread::Trained) => {
                self.train_sigmas[0]
            }
            (Family::UniPc | Family::Deis, _) => last,
        };
        let ends_at_zero =
            self.family != Family::Deis && self.config.final_sigmas_type() == FinalSigmasType::Zero;
        if ends_at_zero { 0.0 } else { smallest }
    }

    fn spread_steps(
        &self,
        spread: Spread,
        steps: usize,
        total: usize,
    ) -> Result<(Vec<f64>, Vec<f64>), DiffusionError> {
        let table = &self.train_sigmas;
        let sigmas = match spread {
            Spread::Trained => {
                let timesteps = self.trained_timesteps(steps, total)?;
                let sigmas = self.trained_sigmas(&timesteps);
                return Ok((timesteps, sigmas));
            }
            Spread::Flow if self.family == Family::UniPc => {
                self.uni_pc_flow_sigmas(steps, total)?
            }
            Spread::Flow => self.flow_sigmas(steps, total),
            Spread::Lu => {
                // The reference takes the logarithms of the table in 32 bits.
                let log = |sigma: f64| f64::from(libm::log(sigma) as f32);
                linspace(log(table[total - 1]), log(table[0]), steps)
                    .into_iter()
                    .map(libm::exp)
                    .collect()
            }
            Spread::Karras | Spread::KarrasFlow | Spread::Exponential | Spread::Beta => {
                let (sigma_min, sigma_max) = self.spread_ends(total)?;
                match spread {
                    Spread::Exponential => exponential_sigmas(sigma_min, sigma_max, steps),
                    Spread::Beta => beta_sigmas(sigma_min, sigma_max, steps),
                    _ => karras_sigmas(sigma_min, sigma_max, steps),
                }
            }
        };
        let sigmas: Vec<f64> = match spread {
            Spread::KarrasFlow => sigmas.iter().map(|sigma| sigma / (sigma + 1.0)).collect(),
            _ => sigmas,
        };
        // Only multistep leaves the timesteps of a cosine schedule unrounded.
        let rounds = matches!(spread, Spread::Karras | Spread::Lu)
            && !(self.family == Family::Multistep
                && self.config.beta_schedule == Some(BetaSchedule::SquaredcosCapV2));
        let timesteps = sigmas.iter().map(|&sigma| match spread {
            Spread::Flow | Spread::KarrasFlow => sigma * total as f64,
            _ if rounds => sigma_to_timestep(sigma, table).round_ties_even(),
            _ => sigma_to_timestep(sigma, table),
        });
        let timesteps = timesteps.collect();
        Ok((timesteps, sigmas))
    }

    /// Timesteps of the schedule as it was trained. The one that would follow the last is left
    /// out: it stands for the end of the last step.
    fn trained_timesteps(&self, steps: usize, total: usize) -> Result<Vec<f64>, DiffusionError> {
        let clips = matches!(self.family, Family::Multistep | Family::Singlestep);
        // lambda = -ln(sigma) falls with the timestep; those below the limit are left out.
        let last = match self.config.lambda_min_clipped {
            Some(lambda_min) if clips => self
                .train_sigmas
                .partition_point(|&sigma| -libm::log(sigma) >= lambda_min),
            _ => total,
        };
        let spacing = match self.family {
            Family::Singlestep => TimestepSpacing::Linspace,
            _ => self.config.spacing_or(TimestepSpacing::Linspace),
        };
        // With fewer timesteps than that, the same one would come twice.
        if last <= steps && spacing != TimestepSpacing::Trailing {
            return Err(DiffusionError::Steps {
                steps,
                steps_max: last.saturating_sub(1),
            });
        }
        Ok(match spacing {
            TimestepSpacing::Linspace => linspace(0.0, last as f64 - 1.0, steps + 1)
                .into_iter()
                .skip(1)
                .rev()
                .map(f64::round_ties_even)
                .collect(),
            TimestepSpacing::Leading => {
                let ratio = last / (steps + 1);
                let offset = self.config.steps_offset.unwrap_or(0) as f64;
                (1..=steps)
                    .rev()
                    .map(|index| (index * ratio) as f64 + offset)
                    .collect()
            }
            TimestepSpacing::Trailing => trailing_timesteps(last, total, steps),
        })
    }

    fn trained_sigmas(&self, timesteps: &[f64]) -> Vec<f64> {
        let table = &self.train_sigmas;
        timesteps
            .iter()
            .map(|&timestep| interpolate(table, timestep))
            .collect()
    }

    /// Smallest and largest sigma of a spread.
    fn spread_ends(&self, total: usize) -> Result<(f64, f64), DiffusionError> {
        let sigma_min = self.config.sigma_min.unwrap_or(self.train_sigmas[0]);
        let sigma_max = self
            .config
            .sigma_max
            .unwrap_or(self.train_sigmas[total - 1]);
        if sigma_min > 0.0 && sigma_min <= sigma_max && sigma_max.is_finite() {
            return Ok((sigma_min, sigma_max));
        }
        Err(DiffusionError::Unsupported {
            option: "sigma_min, sigma_max",
            value: format!("{sigma_min}, {sigma_max}"),
            hint: "; they are positive and the first is not above the second",
        })
    }

    /// Flow sigmas of DPM-Solver and DEIS: even, shifted, from just below one.
    fn flow_sigmas(&self, steps: usize, total: usize) -> Vec<f64> {
        let shift = match self.config.mu {
            Some(mu) if self.config.use_dynamic_shifting.unwrap_or(false) => libm::exp(mu),
            _ => self.config.flow_shift.unwrap_or(1.0),
        };
        linspace(1.0, 1.0 / total as f64, steps + 1)
            .into_iter()
            .skip(1)
            .rev()
            .map(|alpha| shifted(1.0 - alpha, shift))
            .collect()
    }

    /// Flow sigmas of UniPC: even, shifted, from one, which is left out by a margin.
    fn uni_pc_flow_sigmas(&self, steps: usize, total: usize) -> Result<Vec<f64>, DiffusionError> {
        let mut sigmas = linspace(1.0, 1.0 / total as f64, steps + 1);
        sigmas.truncate(steps);
        if self.config.use_dynamic_shifting.unwrap_or(false) {
            let Some(mu) = self.config.mu else {
                return Err(DiffusionError::Unsupported {
                    option: "use_dynamic_shifting",
                    value: "true".to_owned(),
                    hint: " without the shift mu for the size of the image",
                });
            };
            let shift = match self
                .config
                .time_shift_type
                .unwrap_or(TimeShiftType::Exponential)
            {
                TimeShiftType::Exponential => libm::exp(mu),
                TimeShiftType::Linear => mu,
            };
            for sigma in &mut sigmas {
                *sigma = shift / (shift + (1.0 / *sigma - 1.0));
            }
        } else {
            let shift = self.config.flow_shift.unwrap_or(1.0);
            for sigma in &mut sigmas {
                *sigma = shifted(*sigma, shift);
            }
        }
        if let Some(terminal) = self
            .config
            .shift_terminal
            .filter(|&terminal| terminal != 0.0)
        {
            let scale = (1.0 - sigmas[sigmas.len() - 1]) / (1.0 - terminal);
            for sigma in &mut sigmas {
                *sigma = 1.0 - (1.0 - *sigma) / scale;
            }
        }
        if (sigmas[0] - 1.0).abs() < FLOW_SIGMA_MARGIN {
            sigmas[0] -= FLOW_SIGMA_MARGIN;
        }
        Ok(sigmas)
    }
}

/// A flow sigma moved towards noise (Esser et al. 2024, arXiv 2403.03206, equation 23).
fn shifted(sigma: f64, shift: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}
