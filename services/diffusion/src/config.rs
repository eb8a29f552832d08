//! `scheduler_config.json`, as published with diffusion models.
//!
//! A configuration written for one scheduler is valid for the others: keys that a scheduler does
//! not know are ignored, absent keys take the default of the scheduler that is asked for.

use serde::Deserialize;

use crate::error::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::scheduler::{Scheduler, SchedulerKind};
use crate::schedulers::ddim::Ddim;
use crate::schedulers::ddim_inverse::DdimInverse;
use crate::schedulers::dpm_solver_multistep::DpmSolverMultistep;
use crate::schedulers::euler::Euler;

/// How the training noise grows with the timestep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Betas rise linearly.
    Linear,
    /// The square roots of the betas rise linearly.
    ScaledLinear,
    /// The cosine schedule of Nichol and Dhariwal 2021 (arXiv 2102.09672), betas capped at 0.999.
    SquaredcosCapV2,
}

/// What the model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// The noise-free sample.
    #[serde(alias = "original_sample")]
    Sample,
    /// The velocity of Salimans and Ho 2022 (arXiv 2202.00512).
    VPrediction,
}

/// How the inference timesteps are spread over the training timesteps (Lin et al. 2023, arXiv
/// 2305.08891, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Evenly from the first to the last timestep, both included.
    Linspace,
    /// Multiples of the step ratio, starting at 0 (plus `steps_offset`).
    Leading,
    /// Multiples of the step ratio, ending at the last timestep.
    Trailing,
}

/// The noise level that the last step ends at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigmasType {
    /// No noise.
    Zero,
    /// The smallest noise level of training.
    SigmaMin,
}

/// The form of the second-order update of DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolverType {
    /// Midpoint. The names that other multistep solvers use stand for it too, as in the reference.
    #[serde(alias = "logrho", alias = "bh1", alias = "bh2")]
    Midpoint,
    /// Heun.
    Heun,
}

/// A scheduler configuration. `None` means that the key is absent and the scheduler's own default
/// holds; the accessor methods and the schedulers name these defaults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SchedulerConfig {
    /// Name of the reference class that the file was written for.
    #[serde(rename = "_class_name")]
    pub class_name: Option<String>,
    /// Length of the training schedule; default 1000.
    pub num_train_timesteps: Option<usize>,
    /// First beta; default 0.0001.
    pub beta_start: Option<f64>,
    /// Last beta; default 0.02.
    pub beta_end: Option<f64>,
    /// Shape of the schedule; default linear.
    pub beta_schedule: Option<BetaSchedule>,
    /// The betas themselves, instead of a shape.
    pub trained_betas: Option<Vec<f64>>,
    /// What the model predicts; default epsilon.
    pub prediction_type: Option<PredictionType>,
    /// Spread of the timesteps; default leading for DDIM, linspace for Euler and DPM-Solver++.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Added to the timesteps of leading spacing; default 0.
    pub steps_offset: Option<i64>,
    /// Rescales the betas so that the last timestep is pure noise; default false.
    pub rescale_betas_zero_snr: Option<bool>,
    /// DDIM: clips the guess of the noise-free sample; default **true**.
    pub clip_sample: Option<bool>,
    /// DDIM: largest magnitude after clipping; default 1.
    pub clip_sample_range: Option<f64>,
    /// DDIM: the step beyond the first timestep has no noise at all; default true.
    pub set_alpha_to_one: Option<bool>,
    /// Dynamic thresholding; only `false` is supported.
    pub thresholding: Option<bool>,
    /// Euler: how sigmas between timesteps are found; only `linear` is supported.
    pub interpolation_type: Option<String>,
    /// Euler: only `discrete` is supported.
    pub timestep_type: Option<String>,
    /// Spreads the sigmas as Karras et al. 2022 (arXiv 2206.00364, equation 5); default false.
    pub use_karras_sigmas: Option<bool>,
    /// Only `false` is supported.
    pub use_exponential_sigmas: Option<bool>,
    /// Only `false` is supported.
    pub use_beta_sigmas: Option<bool>,
    /// Only `false` is supported.
    pub use_lu_lambdas: Option<bool>,
    /// Only `false` is supported.
    pub use_flow_sigmas: Option<bool>,
    /// Euler with Karras sigmas: smallest sigma; default the schedule's own.
    pub sigma_min: Option<f64>,
    /// Euler with Karras sigmas: largest sigma; default the schedule's own.
    pub sigma_max: Option<f64>,
    /// Where the last step ends; default zero.
    pub final_sigmas_type: Option<FinalSigmasType>,
    /// DPM-Solver++: 1 or 2; default 2.
    pub solver_order: Option<u32>,
    /// DPM-Solver++: only `dpmsolver++` (and `deis`, which the reference maps to it).
    pub algorithm_type: Option<String>,
    /// DPM-Solver++: form of the second-order update; default midpoint.
    pub solver_type: Option<SolverType>,
    /// DPM-Solver++: first order in the last step when there are fewer than 15; default true.
    pub lower_order_final: Option<bool>,
    /// DPM-Solver++: first order in the last step always; default false.
    pub euler_at_final: Option<bool>,
    /// DPM-Solver++: timesteps whose lambda lies below are left out; default minus infinity.
    pub lambda_min_clipped: Option<f64>,
    /// DPM-Solver++: learned variances change the model's output shape; only absent is supported.
    pub variance_type: Option<String>,
}

impl SchedulerConfig {
    /// Reads the text of a `scheduler_config.json`. The bare words `Infinity`, `-Infinity` and
    /// `NaN`, which Python writes into JSON, count as absent.
    ///
    /// # Errors
    /// [`DiffusionError::Config`] when the text is no JSON object or a known key has a value of
    /// the wrong type.
    pub fn parse(text: &str) -> Result<Self, DiffusionError> {
        serde_json::from_str(&null_for_python_words(text)).map_err(|error| DiffusionError::Config {
            reason: error.to_string(),
        })
    }

    /// The scheduler that the file was written for, if this crate has it.
    pub fn kind(&self) -> Option<SchedulerKind> {
        SchedulerKind::from_class_name(self.class_name.as_deref()?)
    }

    /// A scheduler of `kind` with `num_inference_steps` steps.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for an option that `kind` knows and this crate does not
    /// implement, [`DiffusionError::Steps`] and [`DiffusionError::Timestep`] for impossible steps.
    pub fn scheduler(
        &self,
        kind: SchedulerKind,
        num_inference_steps: usize,
    ) -> Result<Box<dyn Scheduler>, DiffusionError> {
        Ok(match kind {
            SchedulerKind::Ddim => Box::new(Ddim::new(self, num_inference_steps)?),
            SchedulerKind::DdimInverse => Box::new(DdimInverse::new(self, num_inference_steps)?),
            SchedulerKind::Euler => Box::new(Euler::new(self, num_inference_steps)?),
            SchedulerKind::DpmSolverMultistep => {
                Box::new(DpmSolverMultistep::new(self, num_inference_steps)?)
            }
            other => {
                return Err(DiffusionError::Unsupported {
                    option: "scheduler",
                    value: other.to_string(),
                    hint: "",
                });
            }
        })
    }

    /// The configuration for inversion and reconstruction: samples are not clipped, because a
    /// clipped step cannot be undone, and linspace spacing, which the inverse scheduler does not
    /// have, becomes leading.
    pub fn for_inversion(&self) -> Self {
        let mut config = self.clone();
        config.clip_sample = Some(false);
        if config.timestep_spacing == Some(TimestepSpacing::Linspace) {
            config.timestep_spacing = Some(TimestepSpacing::Leading);
        }
        config
    }

    /// The noise schedule of training.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for an empty schedule or betas outside 0..=1.
    pub fn noise_schedule(&self) -> Result<NoiseSchedule, DiffusionError> {
        NoiseSchedule::new(self)
    }

    pub(crate) fn prediction_type(&self) -> PredictionType {
        self.prediction_type.unwrap_or(PredictionType::Epsilon)
    }

    pub(crate) fn spacing_or(&self, default: TimestepSpacing) -> TimestepSpacing {
        self.timestep_spacing.unwrap_or(default)
    }

    pub(crate) fn karras(&self) -> bool {
        self.use_karras_sigmas.unwrap_or(false)
    }

    pub(crate) fn final_sigmas_type(&self) -> FinalSigmasType {
        self.final_sigmas_type.unwrap_or(FinalSigmasType::Zero)
    }

    /// Refuses switches that are on and not implemented.
    pub(crate) fn refuse_switches(
        switches: &[(&'static str, Option<bool>)],
    ) -> Result<(), DiffusionError> {
        for &(option, value) in switches {
            if value == Some(true) {
                return Err(DiffusionError::Unsupported {
                    option,
                    value: "true".to_owned(),
                    hint: "",
                });
            }
        }
        Ok(())
    }

    /// Refuses a named choice other than `accepted`.
    pub(crate) fn refuse_other_than(
        option: &'static str,
        value: Option<&str>,
        accepted: &[&str],
    ) -> Result<(), DiffusionError> {
        match value {
            Some(value) if !accepted.contains(&value) => Err(DiffusionError::Unsupported {
                option,
                value: value.to_owned(),
                hint: "",
            }),
            _ => Ok(()),
        }
    }
}

/// Replaces the bare words that Python's JSON writer uses for non-finite numbers by `null`, outside
/// of strings.
fn null_for_python_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(character) = rest.chars().next() {
        if in_string {
            let escaped = if character == '\\' {
                rest.chars().nth(1).map_or(0, char::len_utf8)
            } else {
                0
            };
            in_string = character != '"';
            let taken = character.len_utf8() + escaped;
            out.push_str(&rest[..taken]);
            rest = &rest[taken..];
            continue;
        }
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
        } else {
            in_string = character == '"';
            out.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_accepts_what_python_writes_for_infinity() {
        let config = SchedulerConfig::parse(
            r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity,
                "note": "a \"NaN\" inside a string", "unknown": [1, Infinity]}"#,
        )
        .unwrap();
        assert_eq!(config.kind(), Some(SchedulerKind::DpmSolverMultistep));
        assert_eq!(config.lambda_min_clipped, None);
    }

    #[test]
    fn configuration_refuses_a_prediction_type_that_is_not_known() {
        let error = SchedulerConfig::parse(r#"{"prediction_type": "flow_prediction"}"#);
        assert!(matches!(error, Err(DiffusionError::Config { .. })));
    }

    #[test]
    fn an_empty_configuration_takes_each_schedulers_own_spacing() {
        let config = SchedulerConfig::default();
        let ddim = config.scheduler(SchedulerKind::Ddim, 4).unwrap();
        let euler = config.scheduler(SchedulerKind::Euler, 4).unwrap();
        assert_eq!(ddim.timesteps(), [750.0, 500.0, 250.0, 0.0]);
        assert_eq!(euler.timesteps(), [999.0, 666.0, 333.0, 0.0]);
    }

    #[test]
    fn unsupported_options_are_refused_by_name() {
        let config = SchedulerConfig::parse(r#"{"thresholding": true}"#).unwrap();
        let error = config.scheduler(SchedulerKind::Ddim, 4).err().unwrap();
        assert_eq!(
            error.to_string(),
            "scheduler option thresholding = true is not supported"
        );
    }
}
