//! The exponential integrals of DPM-Solver, which its multistep and its singlestep form share.

use crate::config::{AlgorithmType, SchedulerConfig, SolverType};
use crate::error::DiffusionError;
use crate::schedulers::solver_plan::{Level, Variable};

/// The largest order of DPM-Solver.
pub(crate) const ORDER_MAX: usize = 3;

/// Algorithm, order and form of a DPM-Solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) algorithm: AlgorithmType,
    pub(crate) order: usize,
    pub(crate) heun: bool,
}

impl Form {
    /// Reads algorithm, order and form; the names of other solvers stand for the default, as in the
    /// reference.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for another order than 1, 2 or 3 and for a solver of the
    /// noise that would end without noise.
    pub(crate) fn new(config: &SchedulerConfig) -> Result<Self, DiffusionError> {
        let algorithm = match config.algorithm_type {
            None | Some(AlgorithmType::Deis) => AlgorithmType::DpmsolverPlusPlus,
            Some(algorithm) => algorithm,
        };
        let order = config.solver_order.unwrap_or(2);
        if !(1..=ORDER_MAX as u32).contains(&order) {
            return Err(DiffusionError::Unsupported {
                option: "solver_order",
                value: order.to_string(),
                hint: "; choose 1, 2 or 3",
            });
        }
        let form = Self {
            algorithm,
            order: order as usize,
            heun: config.solver_type == Some(SolverType::Heun),
        };
        let ends_at_zero = config.final_sigmas_type() == crate::config::FinalSigmasType::Zero;
        if form.variable() == Variable::Noise && ends_at_zero {
            return Err(DiffusionError::Unsupported {
                option: "final_sigmas_type",
                value: "zero".to_owned(),
                hint: " with algorithm_type dpmsolver or sde-dpmsolver; choose sigma_min",
            });
        }
        Ok(form)
    }

    pub(crate) fn variable(self) -> Variable {
        match self.algorithm {
            AlgorithmType::Dpmsolver | AlgorithmType::SdeDpmsolver => Variable::Noise,
            _ => Variable::Data,
        }
    }

    /// Whether steps draw fresh noise.
    pub(crate) fn is_random(self) -> bool {
        matches!(
            self.algorithm,
            AlgorithmType::SdeDpmsolver | AlgorithmType::SdeDpmsolverPlusPlus
        )
    }
}

/// Weights of a step from one level to another: of the sample, of the solver's variable and its
/// first and second derivative in lambda (in units of the step), and of fresh noise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gains {
    pub(crate) sample: f64,
    pub(crate) value: f64,
    /// The first derivative by the midpoint rule.
    pub(crate) slope_midpoint: f64,
    /// The first derivative integrated exactly.
    pub(crate) slope_exact: f64,
    pub(crate) curvature: f64,
    pub(crate) noise: f64,
}

impl Gains {
    /// Lu et al. 2022 (arXiv 2211.01095), equations 9 to 12 and appendix A for the data prediction;
    /// arXiv 2206.00927, appendix B, for the noise prediction. Written with ratios of the levels
    /// instead of exponentials of lambda, which stay finite where there is no noise.
    pub(crate) fn new(algorithm: AlgorithmType, from: Level, to: Level) -> Self {
        let h = to.lambda - from.lambda;
        match algorithm {
            AlgorithmType::Dpmsolver => {
                // noise * (exp(h) - 1).
                let growth = to.signal * from.noise / from.signal - to.noise;
                Self {
                    sample: to.signal / from.signal,
                    value: -growth,
                    slope_midpoint: -0.5 * growth,
                    slope_exact: -(growth / h - to.noise),
                    curvature: -((growth - to.noise * h) / (h * h) - 0.5 * to.noise),
                    noise: 0.0,
                }
            }
            AlgorithmType::SdeDpmsolver => {
                let grown = to.signal * from.noise / from.signal;
                let growth = grown - to.noise;
                Self {
                    sample: to.signal / from.signal,
                    value: -2.0 * growth,
                    slope_midpoint: -growth,
                    slope_exact: -2.0 * (growth / h - to.noise),
                    // There is no form of third order, which the multistep solver refuses.
                    curvature: 0.0,
                    noise: (grown * grown - to.noise * to.noise).max(0.0).sqrt(),
                }
            }
            AlgorithmType::SdeDpmsolverPlusPlus => {
                let decay = decay(from, to);
                let lost = 1.0 - decay * decay;
                Self {
                    sample: to.noise / from.noise * decay,
                    value: to.signal * lost,
                    slope_midpoint: 0.5 * to.signal * lost,
                    slope_exact: to.signal * (1.0 - lost / (2.0 * h)),
                    curvature: to.signal * ((lost - 2.0 * h) / (4.0 * h * h) - 0.5),
                    noise: to.noise * lost.max(0.0).sqrt(),
                }
            }
            AlgorithmType::DpmsolverPlusPlus | AlgorithmType::Deis => {
                let lost = 1.0 - decay(from, to);
                Self {
                    sample: to.noise / from.noise,
                    value: to.signal * lost,
                    slope_midpoint: 0.5 * to.signal * lost,
                    slope_exact: to.signal * (1.0 - lost / h),
                    curvature: -to.signal * ((h - lost) / (h * h) - 0.5),
                    noise: 0.0,
                }
            }
        }
    }

    pub(crate) fn slope(&self, heun: bool) -> f64 {
        if heun {
            self.slope_exact
        } else {
            self.slope_midpoint
        }
    }
}

/// `exp(-h)`, from the levels.
fn decay(from: Level, to: Level) -> f64 {
    (from.signal / from.noise) * (to.noise / to.signal)
}
