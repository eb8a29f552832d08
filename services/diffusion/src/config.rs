//! `scheduler_config.json`, as published with diffusion models.
//!
//! A configuration written for one scheduler is valid for the others: keys that a scheduler does
//! not know are ignored, absent keys take the default of the scheduler that is asked for.

mod options;
mod python_json;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::options::{
    AlgorithmType, BetaSchedule, FinalSigmasType, PredictionType, SolverType, TimeShiftType,
    TimestepSpacing, VarianceType,
};
use self::python_json::null_for_python_words;
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::{Scheduler, SchedulerKind};
use crate::schedulers::ddim::Ddim;
use crate::schedulers::ddim_inverse::DdimInverse;
use crate::schedulers::ddpm::Ddpm;
use crate::schedulers::deis::Deis;
use crate::schedulers::dpm_solver_multistep::DpmSolverMultistep;
use crate::schedulers::dpm_solver_sde::DpmSolverSde;
use crate::schedulers::dpm_solver_singlestep::DpmSolverSinglestep;
use crate::schedulers::euler::{Churn, Euler};
use crate::schedulers::euler_ancestral::EulerAncestral;
use crate::schedulers::flow_match_euler::FlowMatchEuler;
use crate::schedulers::heun::Heun;
use crate::schedulers::kdpm2::Kdpm2;
use crate::schedulers::kdpm2_ancestral::Kdpm2Ancestral;
use crate::schedulers::lcm::Lcm;
use crate::schedulers::lms::Lms;
use crate::schedulers::pndm::Pndm;
use crate::schedulers::predictor_corrector::PredictorCorrector;
use crate::schedulers::probability_flow::ProbabilityFlow;
use crate::schedulers::tcd::Tcd;
use crate::schedulers::unipc::UniPc;
use crate::spacing::Steps;

/// A scheduler configuration. `None` means that the key is absent and the scheduler's own default
/// holds; the accessor methods and the schedulers name these defaults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SchedulerConfig {
    /// Name of the reference class that the file was written for.
    #[serde(rename = "_class_name")]
    pub class_name: Option<String>,

    /// Length of the training schedule; default 1000.
    pub num_train_timesteps: Option<usize>,
    /// First beta; default 0.0001 (0.00085 for Heun, KDPM2, DPM-Solver SDE, LCM and TCD).
    pub beta_start: Option<f64>,
    /// Last beta; default 0.02 (0.012 for the same).
    pub beta_end: Option<f64>,
    /// Shape of the schedule; default linear (scaled linear for LCM and TCD).
    pub beta_schedule: Option<BetaSchedule>,
    /// The betas themselves, instead of a shape.
    pub trained_betas: Option<Vec<f64>>,
    /// Rescales the betas so that the last timestep is pure noise; default false.
    pub rescale_betas_zero_snr: Option<bool>,

    /// What the model predicts; default epsilon.
    pub prediction_type: Option<PredictionType>,
    /// The variance of DDPM, default fixed small; learned variances double the model's channels,
    /// of which the solvers read the first half.
    pub variance_type: Option<VarianceType>,
    /// Clips the guess of the noise-free sample; default **true** for DDIM and DDPM.
    pub clip_sample: Option<bool>,
    /// Largest magnitude after clipping; default 1.
    pub clip_sample_range: Option<f64>,
    /// Dynamic thresholding of the guess of the noise-free sample (Saharia et al. 2022, arXiv
    /// 2205.11487, section 2.3); default false. It comes before clipping.
    pub thresholding: Option<bool>,
    /// The quantile of dynamic thresholding; default 0.995.
    pub dynamic_thresholding_ratio: Option<f64>,
    /// The largest threshold; default 1.
    pub sample_max_value: Option<f64>,

    /// Spread of the timesteps; default leading for DDPM, DDIM, PNDM, LCM and TCD, linspace for the
    /// others.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Added to the timesteps of leading spacing; default 0.
    pub steps_offset: Option<i64>,
    /// The step beyond the first timestep has no noise at all; default true (false for PNDM).
    pub set_alpha_to_one: Option<bool>,
    /// DDIM inverse: older name of `set_alpha_to_one`; wins where both are there.
    pub set_alpha_to_zero: Option<bool>,

    /// Spreads the sigmas as Karras et al. 2022 (arXiv 2206.00364, equation 5); default false.
    pub use_karras_sigmas: Option<bool>,
    /// Spreads the sigmas evenly in their logarithm; default false.
    pub use_exponential_sigmas: Option<bool>,
    /// Spreads the sigmas by the quantiles of a beta distribution (Lee et al. 2024, arXiv
    /// 2407.12173); default false.
    pub use_beta_sigmas: Option<bool>,
    /// DPM-Solver multistep: spreads lambda evenly (Lu et al. 2022, arXiv 2211.01095, "lu");
    /// default false.
    pub use_lu_lambdas: Option<bool>,
    /// The sigmas are those of a flow model, where the signal is `1 - sigma`; default false.
    pub use_flow_sigmas: Option<bool>,
    /// Shift of the flow sigmas towards noise; default 1.
    pub flow_shift: Option<f64>,
    /// The shift depends on the size of the image, through [`SchedulerConfig::mu`]; default false.
    pub use_dynamic_shifting: Option<bool>,
    /// The curve of that shift; default exponential.
    pub time_shift_type: Option<TimeShiftType>,
    /// The flow sigma that the last model evaluation is stretched to; default none.
    pub shift_terminal: Option<f64>,
    /// Smallest sigma of a spread; default the schedule's own.
    pub sigma_min: Option<f64>,
    /// Largest sigma of a spread; default the schedule's own.
    pub sigma_max: Option<f64>,
    /// Where the last step ends; default zero.
    pub final_sigmas_type: Option<FinalSigmasType>,
    /// Euler: how sigmas between timesteps are found; default `linear`.
    pub interpolation_type: Option<String>,
    /// Euler: `discrete` or `continuous` timesteps; default `discrete`.
    pub timestep_type: Option<String>,

    /// Order of a solver; default 2.
    pub solver_order: Option<u32>,
    /// The equation that a DPM-Solver solves; default `dpmsolver++`.
    pub algorithm_type: Option<AlgorithmType>,
    /// Form of the update; default midpoint (bh2 for UniPC).
    pub solver_type: Option<SolverType>,
    /// Lower orders in the last steps when there are few; default true (false for DPM-Solver
    /// singlestep).
    pub lower_order_final: Option<bool>,
    /// DPM-Solver multistep: first order in the last step always; default false.
    pub euler_at_final: Option<bool>,
    /// DPM-Solver: timesteps whose lambda lies below are left out; default minus infinity.
    pub lambda_min_clipped: Option<f64>,
    /// UniPC: works on the data prediction instead of the noise prediction; default true.
    pub predict_x0: Option<bool>,
    /// UniPC: step indices after which the corrector is left out; default none.
    pub disable_corrector: Option<Vec<usize>>,
    /// UniPC: another scheduler as predictor; only null is supported.
    pub solver_p: Option<Value>,
    /// DPM-Solver SDE: seed of the noise; only null is supported, as noise comes from the caller.
    pub noise_sampler_seed: Option<Value>,

    /// PNDM: leaves out the Runge-Kutta steps at the start; default false.
    pub skip_prk_steps: Option<bool>,
    /// LCM and TCD: length of the schedule that the model was distilled from; default 50.
    pub original_inference_steps: Option<usize>,
    /// LCM and TCD: factor on the timesteps in the boundary conditions; default 10.
    pub timestep_scaling: Option<f64>,
    /// Flow matching: shift of the sigmas towards noise; default 1.
    pub shift: Option<f64>,
    /// Flow matching: `mu` at the smallest image; default 0.5.
    pub base_shift: Option<f64>,
    /// Flow matching: `mu` at the largest image; default 1.15.
    pub max_shift: Option<f64>,
    /// Flow matching: tokens of the smallest image; default 256.
    pub base_image_seq_len: Option<usize>,
    /// Flow matching: tokens of the largest image; default 4096.
    pub max_image_seq_len: Option<usize>,
    /// Flow matching: runs the sigmas from data to noise; default false.
    pub invert_sigmas: Option<bool>,
    /// Flow matching: draws fresh noise in every step; default false.
    pub stochastic_sampling: Option<bool>,

    /// Predictor-corrector: signal-to-noise ratio of its Langevin steps; default 0.16.
    pub snr: Option<f64>,

    /// No key of the file but an argument of the reference's steps: the share of fresh noise in
    /// the steps of DDIM (default 0) and TCD.
    #[serde(skip)]
    pub eta: Option<f64>,
    /// No key of the file but arguments of the reference's step: the random part of Euler steps;
    /// default none.
    #[serde(skip)]
    pub churn: Option<Churn>,
    /// No key of the file but an argument of the reference's `set_timesteps`: the dynamic shift of
    /// flow models for the size of the image.
    #[serde(skip)]
    pub mu: Option<f64>,
}

impl SchedulerConfig {
    /// Reads the text of a `scheduler_config.json`. The bare words `Infinity`, `-Infinity` and
    /// `NaN`, which Python writes into JSON, count as absent, and so do the keys that the file lists
    /// under `_use_default_values`.
    ///
    /// # Errors
    /// [`DiffusionError::Config`] when the text is no JSON object or a known key has a value of
    /// the wrong type; the message names the key and what is accepted.
    pub fn parse(text: &str) -> Result<Self, DiffusionError> {
        let refused = |reason: String| DiffusionError::Config { reason };
        let mut keys: Map<String, Value> = serde_json::from_str(&null_for_python_words(text))
            .map_err(|error| refused(error.to_string()))?;
        if let Some(Value::Array(defaults)) = keys.remove("_use_default_values") {
            for key in defaults.iter().filter_map(Value::as_str) {
                keys.remove(key);
            }
        }
        Self::deserialize(Value::Object(keys.clone())).map_err(|error| {
            // Alone, the key that is at fault is refused again.
            let key = keys.into_iter().find(|(key, value)| {
                let alone = Map::from_iter([(key.clone(), value.clone())]);
                Self::deserialize(Value::Object(alone)).is_err()
            });
            refused(match key {
                Some((key, _)) => format!("{key}: {error}"),
                None => error.to_string(),
            })
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
        self.build(kind, Steps::Count(num_inference_steps))
    }

    /// A scheduler of `kind` whose model evaluations lie at the given timesteps: whole numbers on
    /// the training scale, falling (rising for [`SchedulerKind::DdimInverse`]).
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler`]; [`DiffusionError::Timesteps`] for a list that is empty or
    /// in the wrong order, and [`DiffusionError::Unsupported`] for a kind that takes no list and
    /// for a configuration that spreads the sigmas itself.
    pub fn scheduler_at(
        &self,
        kind: SchedulerKind,
        timesteps: &[f64],
    ) -> Result<Box<dyn Scheduler>, DiffusionError> {
        self.build(kind, Steps::At(timesteps))
    }

    fn build(
        &self,
        kind: SchedulerKind,
        steps: Steps<'_>,
    ) -> Result<Box<dyn Scheduler>, DiffusionError> {
        Ok(match kind {
            SchedulerKind::Ddim => Box::new(Ddim::new(self, steps)?),
            SchedulerKind::DdimInverse => Box::new(DdimInverse::new(self, steps)?),
            SchedulerKind::Ddpm => Box::new(Ddpm::new(self, steps)?),
            SchedulerKind::Pndm => Box::new(Pndm::new(self, steps)?),
            SchedulerKind::Lms => Box::new(Lms::new(self, steps)?),
            SchedulerKind::Heun => Box::new(Heun::new(self, steps)?),
            SchedulerKind::Euler => Box::new(Euler::new(self, steps)?),
            SchedulerKind::EulerAncestral => Box::new(EulerAncestral::new(self, steps)?),
            SchedulerKind::Kdpm2 => Box::new(Kdpm2::new(self, steps)?),
            SchedulerKind::Kdpm2Ancestral => Box::new(Kdpm2Ancestral::new(self, steps)?),
            SchedulerKind::Lcm => Box::new(Lcm::new(self, steps)?),
            SchedulerKind::Tcd => Box::new(Tcd::new(self, steps)?),
            SchedulerKind::FlowMatchEuler => Box::new(FlowMatchEuler::new(self, steps)?),
            SchedulerKind::ProbabilityFlow => Box::new(ProbabilityFlow::new(self, steps)?),
            SchedulerKind::PredictorCorrector => Box::new(PredictorCorrector::new(self, steps)?),
            SchedulerKind::DpmSolverMultistep
            | SchedulerKind::DpmSolverMultistep3
            | SchedulerKind::DpmSolverMultistepSde => {
                Box::new(DpmSolverMultistep::of_kind(kind, self, steps)?)
            }
            SchedulerKind::DpmSolverSinglestep => Box::new(DpmSolverSinglestep::new(self, steps)?),
            SchedulerKind::DpmSolverSde => Box::new(DpmSolverSde::new(self, steps)?),
            SchedulerKind::UniPc => Box::new(UniPc::new(self, steps)?),
            SchedulerKind::Deis => Box::new(Deis::new(self, steps)?),
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

    /// The noise schedule of training, with the defaults that most schedulers share.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for an empty schedule or betas outside 0..=1.
    pub fn noise_schedule(&self) -> Result<NoiseSchedule, DiffusionError> {
        NoiseSchedule::new(self, BetaDefaults::DDPM)
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
    fn a_value_that_is_not_known_is_refused_with_its_key_and_what_is_accepted() {
        let error = SchedulerConfig::parse(r#"{"steps_offset": 1, "prediction_type": "score"}"#);
        let message = error.unwrap_err().to_string();
        assert!(message.contains("prediction_type: "), "{message}");
        assert!(message.contains("`v_prediction`"), "{message}");
    }

    #[test]
    fn keys_that_the_file_marks_as_defaults_are_left_to_the_scheduler() {
        let config = SchedulerConfig::parse(
            r#"{"_use_default_values": ["solver_order"], "solver_order": 3, "steps_offset": 1}"#,
        )
        .unwrap();
        assert_eq!(config.solver_order, None);
        assert_eq!(config.steps_offset, Some(1));
    }

    #[test]
    fn an_empty_configuration_takes_each_schedulers_own_spacing() {
        let config = SchedulerConfig::default();
        let ddim = config.scheduler(SchedulerKind::Ddim, 4).unwrap();
        let euler = config.scheduler(SchedulerKind::Euler, 4).unwrap();
        assert_eq!(ddim.timesteps(), [750.0, 500.0, 250.0, 0.0]);
        assert_eq!(euler.timesteps(), [999.0, 666.0, 333.0, 0.0]);
    }
}
