//! The named choices of a scheduler configuration.

use serde::Deserialize;

/// How the training noise grows with the timestep. Every scheduler of this crate takes every shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Betas rise linearly.
    Linear,
    /// The square roots of the betas rise linearly.
    ScaledLinear,
    /// The cosine schedule of Nichol and Dhariwal 2021 (arXiv 2102.09672), betas capped at 0.999.
    SquaredcosCapV2,
    /// The signal power falls as `exp(-12 t)`, betas capped at 0.999.
    Exp,
    /// The Laplace schedule of Hang and Gu 2024 (arXiv 2407.03297), betas capped at 0.999.
    Laplace,
    /// Betas follow a logistic curve from -6 to 6 (GeoDiff, Xu et al. 2022, arXiv 2203.02923).
    Sigmoid,
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
    /// The velocity `noise - x0` of rectified flow (Liu et al. 2022, arXiv 2209.03003).
    FlowPrediction,
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

/// The form of a solver's update of second or higher order. Each solver knows some of them and
/// takes its own default for the others, as the reference does when a configuration moves from one
/// class to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolverType {
    /// DPM-Solver: midpoint.
    Midpoint,
    /// DPM-Solver: Heun.
    Heun,
    /// DEIS: polynomials in the logarithm of rho.
    Logrho,
    /// UniPC: `B(h) = h`.
    Bh1,
    /// UniPC: `B(h) = exp(h) - 1`.
    Bh2,
}

/// The differential equation that a DPM-Solver solves, and in which variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AlgorithmType {
    /// The probability-flow ODE in the noise prediction (Lu et al. 2022, arXiv 2206.00927).
    #[serde(rename = "dpmsolver")]
    Dpmsolver,
    /// The probability-flow ODE in the data prediction (Lu et al. 2022, arXiv 2211.01095).
    #[serde(rename = "dpmsolver++")]
    DpmsolverPlusPlus,
    /// The reverse SDE in the noise prediction.
    #[serde(rename = "sde-dpmsolver")]
    SdeDpmsolver,
    /// The reverse SDE in the data prediction.
    #[serde(rename = "sde-dpmsolver++")]
    SdeDpmsolverPlusPlus,
    /// The exponential integrator of Zhang and Chen 2022 (arXiv 2204.13902).
    #[serde(rename = "deis")]
    Deis,
}

impl AlgorithmType {
    /// The spelling of the configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dpmsolver => "dpmsolver",
            Self::DpmsolverPlusPlus => "dpmsolver++",
            Self::SdeDpmsolver => "sde-dpmsolver",
            Self::SdeDpmsolverPlusPlus => "sde-dpmsolver++",
            Self::Deis => "deis",
        }
    }
}

/// The variance of the reverse process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VarianceType {
    /// The posterior variance.
    FixedSmall,
    /// The posterior variance, through its logarithm.
    FixedSmallLog,
    /// The beta of the timestep.
    FixedLarge,
    /// The beta of the timestep, through its logarithm.
    FixedLargeLog,
    /// The model predicts the variance in a second half of its output channels.
    Learned,
    /// The model predicts where the variance lies between the posterior variance and beta, in a
    /// second half of its output channels.
    LearnedRange,
}

impl VarianceType {
    /// Whether the model's output has twice the sample's channels.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Learned | Self::LearnedRange)
    }
}

/// The curve that moves the sigmas of a flow model with the size of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeShiftType {
    /// By `exp(mu)`.
    Exponential,
    /// By `mu`.
    Linear,
}
