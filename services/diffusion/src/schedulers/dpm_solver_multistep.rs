//! DPM-Solver and DPM-Solver++ multistep of order one to three, for the probability-flow ODE (Lu et
//! al. 2022, arXiv 2206.00927 and arXiv 2211.01095, algorithm 2) and for the reverse SDE.

use ndarray::{Array4, ArrayView4};

use crate::config::{AlgorithmType, FinalSigmasType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::dpm_solver::{Form, Gains};
use crate::schedulers::solver_plan::SolverPlan;
use crate::schedulers::solver_spread::Family;
use crate::schedulers::weighted_sum;
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// With fewer steps than this, `lower_order_final` lowers the order of the last steps.
const LOWER_ORDER_FINAL_STEPS: usize = 15;

/// The DPM-Solver multistep scheduler.
#[derive(Debug, Clone)]
pub struct DpmSolverMultistep {
    kind: SchedulerKind,
    plan: SolverPlan,
    form: Form,
    first_order_at_last: bool,
    second_order_before_last: bool,
    /// Earlier values of the solver's variable, the latest first.
    history: Vec<Array4<f32>>,
}

impl DpmSolverMultistep {
    /// Plans the steps; default spacing linspace, order two, midpoint, `lower_order_final`.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        Self::of_kind(SchedulerKind::DpmSolverMultistep, config, steps)
    }

    /// As [`DpmSolverMultistep::new`], with what `kind` fixes in place of what the configuration
    /// says: order three of `dpmsolver++`, or order two of `sde-dpmsolver++`.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn of_kind(
        kind: SchedulerKind,
        config: &SchedulerConfig,
        steps: Steps<'_>,
    ) -> Result<Self, DiffusionError> {
        let fixed = match kind {
            SchedulerKind::DpmSolverMultistep3 => Some((3, AlgorithmType::DpmsolverPlusPlus)),
            SchedulerKind::DpmSolverMultistepSde => Some((2, AlgorithmType::SdeDpmsolverPlusPlus)),
            _ => None,
        };
        let mut config = config.clone();
        if let Some((order, algorithm)) = fixed {
            config.solver_order = Some(order);
            config.algorithm_type = Some(algorithm);
        }
        let form = Form::new(&config)?;
        if form.order == 3 && form.algorithm == AlgorithmType::SdeDpmsolver {
            return Err(DiffusionError::Unsupported {
                option: "solver_order",
                value: "3".to_owned(),
                hint: " with algorithm_type sde-dpmsolver; choose 1 or 2",
            });
        }
        let plan = SolverPlan::new(&config, steps, Family::Multistep, form.variable())?;
        let lowers =
            config.lower_order_final.unwrap_or(true) && plan.steps() < LOWER_ORDER_FINAL_STEPS;
        Ok(Self {
            kind,
            form,
            first_order_at_last: lowers
                || config.euler_at_final.unwrap_or(false)
                || config.final_sigmas_type() == FinalSigmasType::Zero,
            second_order_before_last: lowers,
            plan,
            history: Vec::with_capacity(form.order),
        })
    }

    /// The order of a step, by the place in the plan and the history that is there.
    fn order(&self, step_index: usize) -> usize {
        let left = self.plan.steps() - step_index;
        let allowed = match left {
            1 if self.first_order_at_last => 1,
            2 if self.second_order_before_last => 2,
            _ => self.form.order,
        };
        allowed.min(self.form.order).min(self.history.len() + 1)
    }

    /// Weights of the sample, of the last values of the solver's variable, the latest first, and of
    /// fresh noise.
    fn weights(&self, step_index: usize) -> (f64, [f64; 3], f64) {
        let levels = &self.plan.levels;
        let (from, to) = (levels[step_index], levels[step_index + 1]);
        let gains = Gains::new(self.form.algorithm, from, to);
        let h = to.lambda - from.lambda;
        // A spread may end on the smallest sigma twice: a step of no length has no slope.
        let order = if h > 0.0 { self.order(step_index) } else { 1 };
        let values = match order {
            1 => [gains.value, 0.0, 0.0],
            2 => {
                // Algorithm 2: the slope is (m0 - m1) / r.
                let r = (from.lambda - levels[step_index - 1].lambda) / h;
                let slope = gains.slope(self.form.heun) / r;
                [gains.value + slope, -slope, 0.0]
            }
            _ => {
                // Divided differences: d0 = (m0 - m1) / r0 and d1 = (m1 - m2) / r1 give slope
                // d0 + r0 / (r0 + r1) (d0 - d1) and curvature (d0 - d1) / (r0 + r1).
                let (before, earlier) = (levels[step_index - 1], levels[step_index - 2]);
                let r0 = (from.lambda - before.lambda) / h;
                let r1 = (before.lambda - earlier.lambda) / h;
                let difference = (gains.slope_exact * r0 + gains.curvature) / (r0 + r1);
                let d0 = (gains.slope_exact + difference) / r0;
                let d1 = -difference / r1;
                [gains.value + d0, d1 - d0, -d1]
            }
        };
        (gains.sample, values, gains.noise)
    }
}

impl Scheduler for DpmSolverMultistep {
    fn kind(&self) -> SchedulerKind {
        self.kind
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
        // 2. The update of algorithm 2 as one linear combination of the sample, this and the
        // earlier values, and fresh noise.
        let (from_sample, from_values, from_noise) = self.weights(step_index);
        let fresh = self.form.is_random().then(|| noise.normals(sample.dim()));
        let weights = (from_sample, from_values[0]);
        let mut terms = predicted.first_terms(weights, sample);
        for (&weight, value) in from_values[1..].iter().zip(&self.history) {
            terms.push((weight, value.view()));
        }
        if let Some(fresh) = &fresh {
            terms.push((from_noise, fresh.view()));
        }
        let prev_sample = weighted_sum(&terms);
        // 3. This value is the next step's earlier one.
        self.history.truncate(self.form.order.saturating_sub(2));
        self.history.insert(0, predicted.value);
        Ok(StepOutput {
            prev_sample,
            pred_original_sample: predicted.original,
        })
    }
}
