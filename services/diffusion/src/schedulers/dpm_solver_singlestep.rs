//! DPM-Solver and DPM-Solver++ singlestep of order one to three (Lu et al. 2022, arXiv 2206.00927,
//! algorithms 1 and 2, and arXiv 2211.01095, algorithm 1).
//!
//! Steps come in blocks of rising order, all from the block's first sample: the evaluations of a
//! block of order three stand at its start and at two points on the way.

use ndarray::{Array4, ArrayView4};

use crate::config::{AlgorithmType, FinalSigmasType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::dpm_solver::{Form, Gains, ORDER_MAX};
use crate::schedulers::solver_plan::SolverPlan;
use crate::schedulers::solver_spread::Family;
use crate::schedulers::weighted_sum;
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// The DPM-Solver singlestep scheduler.
#[derive(Debug, Clone)]
pub struct DpmSolverSinglestep {
    plan: SolverPlan,
    form: Form,
    /// The order of each step.
    orders: Vec<usize>,
    /// The sample that the present block started from.
    block_sample: Option<Array4<f32>>,
    /// Values of the solver's variable, the latest first.
    history: Vec<Array4<f32>>,
}

impl DpmSolverSinglestep {
    /// Plans the steps; spacing is always linspace, order two and midpoint are the default.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let form = Form::new(config)?;
        if form.algorithm == AlgorithmType::SdeDpmsolver {
            return Err(DiffusionError::Unsupported {
                option: "algorithm_type",
                value: form.algorithm.name().to_owned(),
                hint: " by the singlestep solver; choose dpmsolver, dpmsolver++ or sde-dpmsolver++",
            });
        }
        let plan = SolverPlan::new(config, steps, Family::Singlestep, form.variable())?;
        let ends_at_zero = config.final_sigmas_type() == FinalSigmasType::Zero;
        // Uneven numbers of steps and an end without noise need lower orders at the end.
        let lowers = config.lower_order_final.unwrap_or(false)
            || ends_at_zero
            || plan.steps() % form.order != 0;
        let mut orders = orders(plan.steps(), form.order, lowers);
        if let Some(last) = orders.last_mut().filter(|_| ends_at_zero) {
            *last = 1;
        }
        Ok(Self {
            plan,
            form,
            orders,
            block_sample: None,
            history: Vec::with_capacity(ORDER_MAX),
        })
    }

    /// Weights of the block's first sample, of the last values of the solver's variable, the latest
    /// first, and of fresh noise.
    fn weights(&self, step_index: usize, order: usize) -> (f64, [f64; ORDER_MAX], f64) {
        let levels = &self.plan.levels;
        let lambda = |back: usize| levels[step_index - back].lambda;
        let (from, to) = (levels[step_index + 1 - order], levels[step_index + 1]);
        let gains = Gains::new(self.form.algorithm, from, to);
        let h = to.lambda - from.lambda;
        let values = match order {
            1 => [gains.value, 0.0, 0.0],
            2 => {
                // The slope is (m0 - m1) / r, from the block's start at m1.
                let r = (lambda(0) - from.lambda) / h;
                let slope = gains.slope(self.form.heun) / r;
                [slope, gains.value - slope, 0.0]
            }
            _ => {
                // d0 = (m0 - m2) / r0 and d1 = (m1 - m2) / r1, from the block's start at m2.
                let (r0, r1) = ((lambda(0) - from.lambda) / h, (lambda(1) - from.lambda) / h);
                let (by_d0, by_d1) = if self.form.heun {
                    // Slope (r0 d1 - r1 d0) / (r0 - r1), curvature 2 (d0 - d1) / (r0 - r1).
                    let (slope, curvature) = (gains.slope_exact, 2.0 * gains.curvature);
                    (
                        (curvature - r1 * slope) / (r0 - r1),
                        (r0 * slope - curvature) / (r0 - r1),
                    )
                } else {
                    (gains.slope_exact, 0.0)
                };
                let (first, second) = (by_d0 / r0, by_d1 / r1);
                [first, second, gains.value - first - second]
            }
        };
        (gains.sample, values, gains.noise)
    }
}

/// The order of each step: blocks of rising order. With `lowers` the last block is cut short, so
/// that the steps always suffice and the last one may end without noise.
fn orders(steps: usize, order: usize, lowers: bool) -> Vec<usize> {
    let block = 1..=order;
    let mut orders: Vec<usize> = block.cycle().take(steps).collect();
    // What is left of the last block is a block of its own; a whole one ends with first order.
    if lowers && steps.is_multiple_of(order) && order > 1 {
        orders[steps - 1] = 1;
    }
    orders
}

impl Scheduler for DpmSolverSinglestep {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::DpmSolverSinglestep
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
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        // 1. The value of the solver's variable.
        let predicted = self.plan.predict(step_index, model_output, sample)?;
        self.history.truncate(self.form.order - 1);
        self.history.insert(0, predicted.value);
        let fresh = self.form.is_random().then(|| noise.normals(sample.dim()));
        // 2. The place in the block. A run that starts inside of a block starts a block.
        let order = self.orders[step_index].min(self.history.len());
        let start = match self.block_sample.take() {
            Some(start) if order > 1 => start,
            _ => sample.to_owned(),
        };
        // 3. The update from the block's start, as one linear combination.
        let (from_sample, from_values, from_noise) = self.weights(step_index, order);
        let mut terms = vec![(from_sample, start.view())];
        for (&weight, value) in from_values.iter().zip(&self.history) {
            terms.push((weight, value.view()));
        }
        if let Some(fresh) = &fresh {
            terms.push((from_noise, fresh.view()));
        }
        let prev_sample = weighted_sum(&terms);
        self.block_sample = Some(start);
        Ok(StepOutput {
            prev_sample,
            pred_original_sample: predicted.original,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_rising_order_end_with_low_orders_where_they_must() {
        assert_eq!(orders(6, 3, false), [1, 2, 3, 1, 2, 3]);
        assert_eq!(orders(6, 3, true), [1, 2, 3, 1, 2, 1]);
        assert_eq!(orders(7, 3, true), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(orders(8, 3, true), [1, 2, 3, 1, 2, 3, 1, 2]);
        assert_eq!(orders(4, 2, true), [1, 2, 1, 1]);
        assert_eq!(orders(5, 2, true), [1, 2, 1, 2, 1]);
        assert_eq!(orders(3, 1, true), [1, 1, 1]);
    }
}
