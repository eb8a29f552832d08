//! What the solvers in lambda share: DPM-Solver multistep and singlestep, UniPC, DEIS. Lambda is
//! half the logarithm of the signal-to-noise ratio, `ln(signal / noise)` (Lu et al. 2022, arXiv
//! 2206.00927, section 3.1).

use ndarray::{Array4, ArrayView4, Axis};

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedule::{BetaDefaults, NoiseSchedule};
use crate::scheduler::NoiseLevel;
use crate::schedulers::solver_spread::{Draft, Family, Spread};
use crate::schedulers::{Conversion, Correction, StepCounter, map_pair, refuse_shapes};
use crate::spacing::Steps;

/// What the solver's polynomials run through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variable {
    /// The noise-free sample (data prediction).
    Data,
    /// The noise.
    Noise,
}

/// One noise level of a plan: samples there are `signal * x0 + noise * epsilon`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    pub(crate) signal: f64,
    pub(crate) noise: f64,
    /// `ln(signal / noise)`; infinite where there is no noise.
    pub(crate) lambda: f64,
}

impl Level {
    fn new(sigma: f64, flow: bool) -> Self {
        if flow {
            return Self {
                signal: 1.0 - sigma,
                noise: sigma,
                lambda: libm::log((1.0 - sigma) / sigma),
            };
        }
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self {
            signal,
            noise: sigma * signal,
            lambda: -libm::log(sigma),
        }
    }
}

/// A step's sample and model output, as the solver uses them.
#[derive(Debug)]
pub(crate) struct Predicted {
    /// The value of the solver's variable.
    pub(crate) value: Array4<f32>,
    /// The guess of the noise-free sample.
    pub(crate) original: Array4<f32>,
    level: Level,
    variable: Variable,
}

impl Predicted {
    /// The terms of an update that start from the sample and its prediction, which have the given
    /// weights. A solver of the noise takes the sample apart into noise-free sample and noise first:
    /// at high noise the two weights are large and nearly cancel, and 32 bits would show it.
    pub(crate) fn first_terms<'a>(
        &'a self,
        (from_sample, from_value): (f64, f64),
        sample: ArrayView4<'a, f32>,
    ) -> Vec<(f64, ArrayView4<'a, f32>)> {
        match self.variable {
            Variable::Data => vec![(from_sample, sample), (from_value, self.value.view())],
            Variable::Noise => vec![
                (from_sample * self.level.signal, self.original.view()),
                (
                    from_value + from_sample * self.level.noise,
                    self.value.view(),
                ),
            ],
        }
    }
}

/// Timesteps, noise levels and the reading of the model's output.
#[derive(Debug, Clone)]
pub(crate) struct SolverPlan {
    pub(crate) timesteps: Vec<f64>,
    /// The sigmas as the reference lists them, one more than timesteps: `noise / signal`, or the
    /// share of noise of a flow model.
    pub(crate) sigmas: Vec<f64>,
    /// One more than timesteps.
    pub(crate) levels: Vec<Level>,
    pub(crate) counter: StepCounter,
    variable: Variable,
    conversions: Vec<Conversion>,
    correction: Correction,
    /// The model's output may have a second half of channels, for the variance.
    variance_is_learned: bool,
}

impl SolverPlan {
    /// Reads the configuration and plans the steps by the rules of `family`.
    pub(crate) fn new(
        config: &SchedulerConfig,
        steps: Steps<'_>,
        family: Family,
        variable: Variable,
    ) -> Result<Self, DiffusionError> {
        let schedule = match family {
            Family::Multistep | Family::UniPc => config.noise_schedule()?,
            Family::Singlestep | Family::Deis => {
                NoiseSchedule::without_rescaling(config, BetaDefaults::DDPM)?
            }
        };
        let spread = Spread::of(config, family)?;
        let flow = matches!(spread, Spread::Flow | Spread::KarrasFlow);
        refuse_prediction(config, flow, variable, family)?;
        let draft = Draft {
            config,
            train_sigmas: schedule.sigmas(),
            family,
        };
        let (timesteps, sigmas) = draft.timesteps_and_sigmas(&schedule, spread, steps)?;
        let levels: Vec<Level> = sigmas
            .iter()
            .map(|&sigma| Level::new(sigma, flow))
            .collect();
        let prediction_type = config.prediction_type();
        Ok(Self {
            counter: StepCounter::new(timesteps.len()),
            timesteps,
            variable,
            conversions: levels
                .iter()
                .map(|level| Conversion::new(prediction_type, level.signal, level.noise))
                .collect(),
            levels,
            sigmas,
            correction: Correction::thresholding(config)?,
            variance_is_learned: prediction_type == PredictionType::Epsilon
                && config.variance_type.is_some_and(|kind| kind.is_learned()),
        })
    }

    /// Number of steps.
    pub(crate) fn steps(&self) -> usize {
        self.timesteps.len()
    }

    pub(crate) fn noise_level(&self, step_index: usize) -> NoiseLevel {
        let level = self.levels[step_index];
        NoiseLevel {
            signal: level.signal,
            noise: level.noise,
        }
    }

    /// Counts the step and turns sample and model output into the solver's variable.
    pub(crate) fn predict(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
    ) -> Result<Predicted, DiffusionError> {
        let output = self.without_variance(model_output, &sample);
        refuse_shapes(&output, &sample)?;
        self.counter.advance(step_index)?;
        let conversion = self.conversions[step_index];
        let original = conversion.corrected_original(self.correction, sample, output);
        let value = match (self.variable, self.correction) {
            (Variable::Data, _) => original.clone(),
            (Variable::Noise, Correction::None) => map_pair(sample, output, |sample, output| {
                conversion.epsilon(sample, output)
            }),
            // The noise that belongs to the corrected guess.
            (Variable::Noise, _) => {
                let level = self.levels[step_index];
                let (signal, noise) = (level.signal as f32, level.noise as f32);
                map_pair(sample, original.view(), |sample, original| {
                    (sample - signal * original) / noise
                })
            }
        };
        Ok(Predicted {
            value,
            original,
            level: self.levels[step_index],
            variable: self.variable,
        })
    }

    /// The first half of the channels of a model that predicts variances too.
    fn without_variance<'a>(
        &self,
        model_output: ArrayView4<'a, f32>,
        sample: &ArrayView4<'_, f32>,
    ) -> ArrayView4<'a, f32> {
        let channels = sample.dim().1;
        if self.variance_is_learned && model_output.dim().1 == 2 * channels {
            return model_output.split_at(Axis(1), channels).0;
        }
        model_output
    }
}

fn refuse_prediction(
    config: &SchedulerConfig,
    flow: bool,
    variable: Variable,
    family: Family,
) -> Result<(), DiffusionError> {
    if config.prediction_type() != PredictionType::FlowPrediction {
        return Ok(());
    }
    let refused = |hint| {
        Err(DiffusionError::Unsupported {
            option: "prediction_type",
            value: "flow_prediction".to_owned(),
            hint,
        })
    };
    if !flow {
        return refused(" without use_flow_sigmas; set it to true");
    }
    // DEIS goes through the noise-free sample.
    if variable == Variable::Noise && family != Family::Deis {
        return refused(" by a solver of the noise; choose dpmsolver++ or predict_x0");
    }
    Ok(())
}
