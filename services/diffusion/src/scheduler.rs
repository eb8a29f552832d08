//! What a scheduler is: a list of timesteps and a rule for one step.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array4, ArrayView4};
use serde::{Deserialize, Serialize};

use crate::error::DiffusionError;

/// The schedulers of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SchedulerKind {
    /// Denoising diffusion implicit models, deterministic (eta = 0).
    #[serde(rename = "ddim")]
    Ddim,
    /// DDIM run towards noise.
    #[serde(rename = "ddim-inverse")]
    DdimInverse,
    /// Euler steps in the sigma parametrisation.
    #[serde(rename = "euler")]
    Euler,
    /// DPM-Solver++ multistep of order two ("2M").
    #[serde(rename = "dpm++2m")]
    DpmSolverMultistep,
}

impl SchedulerKind {
    /// The schedulers that lead from noise to an image.
    pub const GENERATIVE: [Self; 3] = [Self::Ddim, Self::Euler, Self::DpmSolverMultistep];

    /// The short name, as command line and HTTP interface spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::DdimInverse => "ddim-inverse",
            Self::Euler => "euler",
            Self::DpmSolverMultistep => "dpm++2m",
        }
    }

    /// The kind whose reference class is called `class_name`, if this crate has it.
    pub fn from_class_name(class_name: &str) -> Option<Self> {
        match class_name {
            "DDIMScheduler" => Some(Self::Ddim),
            "DDIMInverseScheduler" => Some(Self::DdimInverse),
            "EulerDiscreteScheduler" => Some(Self::Euler),
            "DPMSolverMultistepScheduler" => Some(Self::DpmSolverMultistep),
            _ => None,
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = DiffusionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "ddim" => Ok(Self::Ddim),
            "ddim-inverse" => Ok(Self::DdimInverse),
            "euler" => Ok(Self::Euler),
            "dpm++2m" => Ok(Self::DpmSolverMultistep),
            _ => Err(DiffusionError::UnknownScheduler {
                name: name.to_owned(),
            }),
        }
    }
}

/// What one step yields. Both arrays have the shape of the sample, (batch, channels, height, width).
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// The sample at the next timestep of the loop.
    pub prev_sample: Array4<f32>,
    /// The model's present guess of the noise-free sample.
    pub pred_original_sample: Array4<f32>,
}

/// A discretisation of the reverse process (or, for [`SchedulerKind::DdimInverse`], of its
/// inversion) with a fixed number of steps. One value serves one run of the loop.
pub trait Scheduler: Send {
    /// Which scheduler this is.
    fn kind(&self) -> SchedulerKind;

    /// The timesteps on the training scale, in the order of the loop.
    fn timesteps(&self) -> &[f64];

    /// The noise levels sigma of the steps, one more than timesteps, where the scheduler works in
    /// that parametrisation; empty elsewhere.
    fn sigmas(&self) -> &[f64] {
        &[]
    }

    /// Standard deviation that standard normal noise is scaled to before the first step.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// Factor on the sample before it goes into the model at `step_index`.
    fn model_input_scale(&self, step_index: usize) -> f64 {
        let _ = step_index;
        1.0
    }

    /// Goes from the sample at `step_index` to the next one. `model_output` and `sample` have the
    /// same shape (batch, channels, height, width); `sample` is the unscaled sample.
    ///
    /// # Errors
    /// [`DiffusionError::StepIndex`] when called out of order, [`DiffusionError::Shape`] when the
    /// two shapes differ.
    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
    ) -> Result<StepOutput, DiffusionError>;
}
