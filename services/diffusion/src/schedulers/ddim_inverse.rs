//! DDIM run towards noise (Song, Meng and Ermon 2021, arXiv 2010.02502, section 4.3).

use ndarray::ArrayView4;

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::ddim::Chain;
use crate::seed::NoiseSource;
use crate::spacing::{Direction, Steps};

/// The inverse DDIM scheduler: timesteps rise, and the model is asked at the timestep that the
/// step leads to.
#[derive(Debug, Clone)]
pub struct DdimInverse(Chain);

impl DdimInverse {
    /// Plans the steps; default spacing leading. Explicit timesteps rise; the first step starts
    /// below the first training timestep.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`]; linspace spacing is refused, as in the reference, and
    /// so is a model that predicts the sample when the first step starts without any noise, because
    /// the noise cannot be told from such a prediction.
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let chain = Chain::new(config, steps, Direction::Rising)?;
        let starts_noiseless =
            (0..chain.timesteps.len()).any(|step_index| chain.source(step_index).noise <= 0.0);
        if config.prediction_type() == PredictionType::Sample && starts_noiseless {
            return Err(DiffusionError::Unsupported {
                option: "prediction_type",
                value: "sample".to_owned(),
                hint: " in inversion that starts without noise; set set_alpha_to_one to false",
            });
        }
        Ok(Self(chain))
    }
}

impl Scheduler for DdimInverse {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::DdimInverse
    }

    fn timesteps(&self) -> &[f64] {
        &self.0.timesteps
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.0.source(step_index)
    }

    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        self.0.counter.skip(first)
    }

    fn first_step(&self) -> usize {
        self.0.counter.next()
    }

    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        self.0.step(step_index, model_output, sample, noise)
    }
}
