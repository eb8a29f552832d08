//! What a scheduler is: a list of timesteps and a rule for one step.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array4, ArrayView4};
use serde::{Deserialize, Serialize};

use crate::error::DiffusionError;
use crate::seed::NoiseSource;

/// The schedulers of this crate: one kind per class of the reference, and short names for settings
/// of a class that users know as a scheduler of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum SchedulerKind {
    /// Denoising diffusion probabilistic models, ancestral sampling.
    Ddpm,
    /// Denoising diffusion implicit models; deterministic at eta = 0.
    Ddim,
    /// DDIM run towards noise.
    DdimInverse,
    /// Pseudo numerical methods: Runge-Kutta starting steps, then linear multistep steps.
    Pndm,
    /// Linear multistep of Adams and Bashforth in the sigma parametrisation.
    Lms,
    /// Heun's method in the sigma parametrisation: two evaluations a step.
    Heun,
    /// Euler steps in the sigma parametrisation.
    Euler,
    /// Euler steps followed by fresh noise.
    EulerAncestral,
    /// DPM-Solver-2 of Karras et al.: a midpoint step, two evaluations a step.
    Kdpm2,
    /// The same followed by fresh noise.
    Kdpm2Ancestral,
    /// DPM-Solver multistep, order and algorithm from the configuration; DPM-Solver++ of order two
    /// ("2M") by default.
    DpmSolverMultistep,
    /// DPM-Solver++ multistep of order three ("3M").
    DpmSolverMultistep3,
    /// SDE-DPM-Solver++ multistep of order two ("2M SDE").
    DpmSolverMultistepSde,
    /// DPM-Solver singlestep, order and algorithm from the configuration.
    DpmSolverSinglestep,
    /// DPM-Solver++ for the stochastic differential equation, two evaluations a step.
    DpmSolverSde,
    /// The unified predictor-corrector.
    UniPc,
    /// Diffusion exponential integrator sampler.
    Deis,
    /// Multistep sampling of latent consistency models.
    Lcm,
    /// Strategic stochastic sampling of trajectory consistency models.
    Tcd,
    /// Euler steps along the straight paths of flow matching.
    FlowMatchEuler,
    /// The probability-flow ODE of the variance-preserving process.
    ProbabilityFlow,
    /// Reverse diffusion with a Langevin corrector.
    PredictorCorrector,
}

/// One row per kind: kind, short name, class of the reference (`None`: it has no such class with
/// the same model interface).
const KINDS: [(SchedulerKind, &str, Option<&str>); 22] = [
    (SchedulerKind::Ddpm, "ddpm", Some("DDPMScheduler")),
    (SchedulerKind::Ddim, "ddim", Some("DDIMScheduler")),
    (
        SchedulerKind::DdimInverse,
        "ddim-inverse",
        Some("DDIMInverseScheduler"),
    ),
    (SchedulerKind::Pndm, "pndm", Some("PNDMScheduler")),
    (SchedulerKind::Lms, "lms", Some("LMSDiscreteScheduler")),
    (SchedulerKind::Heun, "heun", Some("HeunDiscreteScheduler")),
    (
        SchedulerKind::Euler,
        "euler",
        Some("EulerDiscreteScheduler"),
    ),
    (
        SchedulerKind::EulerAncestral,
        "euler-ancestral",
        Some("EulerAncestralDiscreteScheduler"),
    ),
    (
        SchedulerKind::Kdpm2,
        "kdpm2",
        Some("KDPM2DiscreteScheduler"),
    ),
    (
        SchedulerKind::Kdpm2Ancestral,
        "kdpm2-ancestral",
        Some("KDPM2AncestralDiscreteScheduler"),
    ),
    (
        SchedulerKind::DpmSolverMultistep,
        "dpm++2m",
        Some("DPMSolverMultistepScheduler"),
    ),
    (SchedulerKind::DpmSolverMultistep3, "dpm++3m", None),
    (SchedulerKind::DpmSolverMultistepSde, "dpm++2m-sde", None),
    (
        SchedulerKind::DpmSolverSinglestep,
        "dpm++2s",
        Some("DPMSolverSinglestepScheduler"),
    ),
    (
        SchedulerKind::DpmSolverSde,
        "dpm++sde",
        Some("DPMSolverSDEScheduler"),
    ),
    (
        SchedulerKind::UniPc,
        "unipc",
        Some("UniPCMultistepScheduler"),
    ),
    (SchedulerKind::Deis, "deis", Some("DEISMultistepScheduler")),
    (SchedulerKind::Lcm, "lcm", Some("LCMScheduler")),
    (SchedulerKind::Tcd, "tcd", Some("TCDScheduler")),
    (
        SchedulerKind::FlowMatchEuler,
        "flow-match-euler",
        Some("FlowMatchEulerDiscreteScheduler"),
    ),
    (SchedulerKind::ProbabilityFlow, "probability-flow", None),
    (
        SchedulerKind::PredictorCorrector,
        "predictor-corrector",
        None,
    ),
];

impl SchedulerKind {
    /// The schedulers that lead from noise to an image.
    pub const GENERATIVE: [Self; 21] = [
        Self::Ddpm,
        Self::Ddim,
        Self::Pndm,
        Self::Lms,
        Self::Heun,
        Self::Euler,
        Self::EulerAncestral,
        Self::Kdpm2,
        Self::Kdpm2Ancestral,
        Self::DpmSolverMultistep,
        Self::DpmSolverMultistep3,
        Self::DpmSolverMultistepSde,
        Self::DpmSolverSinglestep,
        Self::DpmSolverSde,
        Self::UniPc,
        Self::Deis,
        Self::Lcm,
        Self::Tcd,
        Self::FlowMatchEuler,
        Self::ProbabilityFlow,
        Self::PredictorCorrector,
    ];

    /// Whether the scheduler draws fresh noise in its steps, so that its image depends on more than
    /// the starting sample. (DDIM, Euler, flow matching and TCD may do so or not, by their options.)
    pub fn is_stochastic(self) -> bool {
        matches!(
            self,
            Self::Ddpm
                | Self::EulerAncestral
                | Self::Kdpm2Ancestral
                | Self::DpmSolverMultistepSde
                | Self::DpmSolverSde
                | Self::Lcm
                | Self::PredictorCorrector
        )
    }

    /// Whether the scheduler leads from noise to an image.
    pub fn is_generative(self) -> bool {
        Self::GENERATIVE.contains(&self)
    }

    /// Whether the scheduler is for flow-matching models alone, which predict the velocity of a
    /// straight path; all others are for models of the variance-preserving process.
    pub fn is_flow(self) -> bool {
        self == Self::FlowMatchEuler
    }

    /// The short name, as command line and HTTP interface spell it.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The reference class that this kind is, if there is one and the kind does not only stand for
    /// a setting of it.
    pub fn class_name(self) -> Option<&'static str> {
        self.row().2
    }

    /// The kind whose reference class is called `class_name`, if this crate has it.
    pub fn from_class_name(class_name: &str) -> Option<Self> {
        let mut rows = KINDS.iter();
        let found = rows.find(|(_, _, class)| *class == Some(class_name));
        found.map(|&(kind, _, _)| kind)
    }

    fn row(self) -> &'static (Self, &'static str, Option<&'static str>) {
        let mut rows = KINDS.iter();
        rows.find(|(kind, _, _)| *kind == self)
            .expect("every kind has a row")
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl From<SchedulerKind> for &'static str {
    fn from(kind: SchedulerKind) -> Self {
        kind.name()
    }
}

impl TryFrom<String> for SchedulerKind {
    type Error = DiffusionError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl FromStr for SchedulerKind {
    type Err = DiffusionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = KINDS.iter().find(|(_, short, _)| *short == name);
        found
            .map(|&(kind, _, _)| kind)
            .ok_or_else(|| DiffusionError::UnknownScheduler {
                name: name.to_owned(),
                accepted: Self::GENERATIVE.map(Self::name).join(", "),
            })
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

/// How much of the noise-free sample and how much standard normal noise a noisy sample holds:
/// `signal * x0 + noise * epsilon`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevel {
    /// Weight of the noise-free sample.
    pub signal: f64,
    /// Weight of the noise.
    pub noise: f64,
}

/// A discretisation of the reverse process (or, for [`SchedulerKind::DdimInverse`], of its
/// inversion) with a fixed number of model evaluations. One value serves one run of the loop.
pub trait Scheduler: Send {
    /// Which scheduler this is.
    fn kind(&self) -> SchedulerKind;

    /// The timesteps on the training scale, one per model evaluation, in the order of the loop.
    /// Schedulers that evaluate the model twice or more in one step list that many values.
    fn timesteps(&self) -> &[f64];

    /// The noise levels sigma of the evaluations, one more than timesteps, where the scheduler
    /// works in that parametrisation; empty elsewhere.
    fn sigmas(&self) -> &[f64] {
        &[]
    }

    /// Standard deviation that standard normal noise is scaled to before the first step.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// Model evaluations per step of the plan: 2 for the schedulers of second order that look
    /// ahead (the reference's `order`). An image-to-image run leaves out whole steps.
    fn evaluations_per_step(&self) -> usize {
        1
    }

    /// Factor on the sample before it goes into the model at `step_index`.
    fn model_input_scale(&self, step_index: usize) -> f64 {
        let _ = step_index;
        1.0
    }

    /// The noise level of the sample that evaluation `step_index` starts from.
    ///
    /// # Panics
    /// When `step_index` is not below the number of timesteps.
    fn noise_level(&self, step_index: usize) -> NoiseLevel;

    /// The forward process: the noisy sample that evaluation `step_index` starts from, made from a
    /// noise-free sample and standard normal noise of one shape.
    ///
    /// # Errors
    /// [`DiffusionError::Shape`] when the two shapes differ, [`DiffusionError::StepIndex`] for an
    /// evaluation that the plan does not have.
    fn add_noise(
        &self,
        original: ArrayView4<'_, f32>,
        noise: ArrayView4<'_, f32>,
        step_index: usize,
    ) -> Result<Array4<f32>, DiffusionError> {
        crate::schedulers::refuse_shapes_of("noise", &noise, &original)?;
        let steps = self.timesteps().len();
        if step_index >= steps {
            return Err(DiffusionError::StepIndex {
                step_index,
                steps,
                next: self.first_step(),
            });
        }
        let level = self.noise_level(step_index);
        let (from_signal, from_noise) = (level.signal as f32, level.noise as f32);
        Ok(crate::schedulers::map_pair(
            original,
            noise,
            |original, noise| from_signal * original + from_noise * noise,
        ))
    }

    /// Leaves out the first `first` evaluations: the loop starts at step index `first`, as it does
    /// when an image that is already there is changed. Call it before the first step, with a
    /// multiple of [`Scheduler::evaluations_per_step`].
    ///
    /// # Errors
    /// [`DiffusionError::StepIndex`] when nothing would be left to do.
    fn skip(&mut self, first: usize) -> Result<(), DiffusionError>;

    /// The step index that comes next: 0, or what [`Scheduler::skip`] set, before the loop.
    fn first_step(&self) -> usize;

    /// Goes from the sample at `step_index` to the next one. `model_output` and `sample` have the
    /// same shape (batch, channels, height, width); `sample` is the unscaled sample. Random steps
    /// draw fresh noise from `noise`; deterministic ones leave it alone.
    ///
    /// # Errors
    /// [`DiffusionError::StepIndex`] when called out of order, [`DiffusionError::Shape`] when the
    /// two shapes differ.
    #[expect(
        clippy::too_many_arguments,
        reason = "four things beside the scheduler itself, which the limit counts too"
    )]
    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError>;
}

/// How many model evaluations an image-to-image run of `strength` leaves out of a plan with
/// `steps` steps: all but `min(trunc(steps * strength), steps)` steps. `strength` of 1 starts from
/// pure noise, 0 does nothing at all.
///
/// # Errors
/// [`DiffusionError::Strength`] when `strength` is outside 0..=1 or leaves no step to do.
pub fn skipped_evaluations(
    scheduler: &dyn Scheduler,
    steps: usize,
    strength: f64,
) -> Result<usize, DiffusionError> {
    let kept = if (0.0..=1.0).contains(&strength) {
        ((steps as f64 * strength) as usize).min(steps)
    } else {
        0
    };
    if kept == 0 {
        return Err(DiffusionError::Strength { strength, steps });
    }
    Ok((steps - kept) * scheduler.evaluations_per_step())
}
