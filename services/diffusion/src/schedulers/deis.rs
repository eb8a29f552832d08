//! Diffusion exponential integrator sampler, multistep, with polynomials in the logarithm of
//! rho = noise / signal (Zhang and Chen 2022, arXiv 2204.13902, section 4, "rhoAB" in log-rho).

use ndarray::{Array4, ArrayView4};

use crate::config::{AlgorithmType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::dpm_solver::ORDER_MAX;
use crate::schedulers::solver_plan::{SolverPlan, Variable};
use crate::schedulers::solver_spread::Family;
use crate::schedulers::weighted_sum;
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// With fewer steps than this, `lower_order_final` lowers the order of the last steps.
const LOWER_ORDER_FINAL_STEPS: usize = 15;

/// The DEIS scheduler.
#[derive(Debug, Clone)]
pub struct Deis {
    plan: SolverPlan,
    order: usize,
    lowers_at_last: bool,
    /// Earlier predictions of the noise, the latest first.
    history: Vec<Array4<f32>>,
}

impl Deis {
    /// Plans the steps; default spacing linspace, order two, `lower_order_final`. The last step
    /// ends at the smallest sigma.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        match config.algorithm_type {
            // The names of the deterministic DPM-Solvers stand for DEIS, as in the reference.
            None
            | Some(
                AlgorithmType::Deis | AlgorithmType::Dpmsolver | AlgorithmType::DpmsolverPlusPlus,
            ) => {}
            Some(other) => {
                return Err(DiffusionError::Unsupported {
                    option: "algorithm_type",
                    value: other.name().to_owned(),
                    hint: " by DEIS; choose deis, dpmsolver or dpmsolver++",
                });
            }
        }
        let order = config.solver_order.unwrap_or(2);
        if !(1..=ORDER_MAX as u32).contains(&order) {
            return Err(DiffusionError::Unsupported {
                option: "solver_order",
                value: order.to_string(),
                hint: "; choose 1, 2 or 3",
            });
        }
        let plan = SolverPlan::new(config, steps, Family::Deis, Variable::Noise)?;
        Ok(Self {
            lowers_at_last: config.lower_order_final.unwrap_or(true)
                && plan.steps() < LOWER_ORDER_FINAL_STEPS,
            plan,
            order: order as usize,
            history: Vec::with_capacity(ORDER_MAX),
        })
    }

    /// Weights of the sample and of the last predictions of the noise, the latest first.
    fn weights(&self, step_index: usize) -> (f64, [f64; ORDER_MAX]) {
        let levels = &self.plan.levels;
        let (from, to) = (levels[step_index], levels[step_index + 1]);
        let left = self.plan.steps() - step_index;
        let allowed = match left {
            1 | 2 if self.lowers_at_last => left,
            _ => self.order,
        };
        // log rho is minus lambda.
        let log_rho = |back: usize| -levels[step_index - back].lambda;
        let to_rho = libm::exp(-to.lambda);
        let from_rho = libm::exp(-from.lambda);
        let integral = |integrand: &dyn Fn(f64, f64) -> f64| {
            integrand(to_rho, -to.lambda) - integrand(from_rho, -from.lambda)
        };
        // The integral over rho of each basis polynomial of Lagrange in log rho.
        let values = match allowed.min(self.order).min(self.history.len() + 1) {
            1 => [to_rho - from_rho, 0.0, 0.0],
            2 => {
                let basis = |at: f64, zero: f64| {
                    integral(&|rho, log| rho * (log - 1.0 - zero)) / (at - zero)
                };
                let (now, before) = (log_rho(0), log_rho(1));
                [basis(now, before), basis(before, now), 0.0]
            }
            _ => {
                let basis = |at: f64, [one, two]: [f64; 2]| {
                    let antiderivative = |rho: f64, log: f64| {
                        rho * ((log - 1.0) * (log - 1.0) + 1.0 - (one + two) * (log - 1.0)
                            + one * two)
                    };
                    integral(&antiderivative) / ((at - one) * (at - two))
                };
                let (now, before, earlier) = (log_rho(0), log_rho(1), log_rho(2));
                [
                    basis(now, [before, earlier]),
                    basis(before, [earlier, now]),
                    basis(earlier, [now, before]),
                ]
            }
        };
        (
            to.signal / from.signal,
            values.map(|value| to.signal * value),
        )
    }
}

impl Scheduler for Deis {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::Deis
    }

    fn timesteps(&self) -> &[f64] {
        &self.plan.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.plan.sigmas
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.plan.noise_level(step_index)
    }

    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        self.plan.counter.skip(first)
    }

    fn first_step(&self) -> usize {
        self.plan.counter.next()
    }

    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        _noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        // 1. The noise.
        let predicted = self.plan.predict(step_index, model_output, sample)?;
        // 2. Equation 14: the sample carried along and the integrals of the polynomial through the
        // last predictions, as one linear combination.
        let (from_sample, from_values) = self.weights(step_index);
        let weights = (from_sample, from_values[0]);
        let mut terms = predicted.first_terms(weights, sample);
        for (&weight, value) in from_values[1..].iter().zip(&self.history) {
            terms.push((weight, value.view()));
        }
        let prev_sample = weighted_sum(&terms);
        // 3. This prediction is the next step's earlier one.
        self.history.truncate(self.order.saturating_sub(2));
        self.history.insert(0, predicted.value);
        Ok(StepOutput {
            prev_sample,
            pred_original_sample: predicted.original,
        })
    }
}
