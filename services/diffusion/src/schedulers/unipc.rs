//! The unified predictor-corrector (Zhao et al. 2023, arXiv 2302.04867).

use ndarray::{Array4, ArrayView4};
use serde_json::Value;

use crate::config::{SchedulerConfig, SolverType};
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::solver_plan::{Level, SolverPlan, Variable};
use crate::schedulers::solver_spread::Family;
use crate::schedulers::weighted_sum;
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// Largest order: beyond it, the small systems of equations lose the accuracy that they are for.
const ORDER_MAX: usize = 4;

/// The UniPC scheduler.
#[derive(Debug, Clone)]
pub struct UniPc {
    plan: SolverPlan,
    variable: Variable,
    order: usize,
    /// `B(h) = h` instead of `exp(h) - 1`.
    bh1: bool,
    lower_order_final: bool,
    /// Step indices after which the corrector is left out.
    disable_corrector: Vec<usize>,
    /// The (corrected) sample that the last step started from, and that step's order.
    last: Option<(Array4<f32>, usize)>,
    /// Earlier values of the solver's variable, the latest first.
    history: Vec<Array4<f32>>,
}

impl UniPc {
    /// Plans the steps; default spacing linspace, order two, bh2, data prediction,
    /// `lower_order_final`, corrector in every step but the first.
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`].
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        refuse_options(config)?;
        let variable = if config.predict_x0.unwrap_or(true) {
            Variable::Data
        } else {
            Variable::Noise
        };
        let order = config.solver_order.unwrap_or(2) as usize;
        if !(1..=ORDER_MAX).contains(&order) {
            return Err(DiffusionError::Unsupported {
                option: "solver_order",
                value: order.to_string(),
                hint: "; choose 1 to 4",
            });
        }
        Ok(Self {
            plan: SolverPlan::new(config, steps, Family::UniPc, variable)?,
            variable,
            order,
            bh1: config.solver_type == Some(SolverType::Bh1),
            lower_order_final: config.lower_order_final.unwrap_or(true),
            disable_corrector: config.disable_corrector.clone().unwrap_or_default(),
            last: None,
            history: Vec::with_capacity(order),
        })
    }

    /// The order of a predictor step.
    fn order(&self, step_index: usize) -> usize {
        let levels = &self.plan.levels;
        let h = levels[step_index + 1].lambda - levels[step_index].lambda;
        // Without noise at the end lambda is infinite, and a spread may end on the smallest sigma
        // twice: neither step has derivatives.
        if !(h.is_finite() && h > 0.0) {
            return 1;
        }
        let order = if self.lower_order_final {
            self.order.min(self.plan.steps() - step_index)
        } else {
            self.order
        };
        order.min(self.history.len() + 1)
    }

    /// UniC (equation 9): the sample that the last step would have led to, had it known the model's
    /// answer at its end.
    fn corrected(
        &self,
        step_index: usize,
        sample: ArrayView4<'_, f32>,
        value: ArrayView4<'_, f32>,
    ) -> Option<Array4<f32>> {
        let (last_sample, order) = self.last.as_ref()?;
        if self.disable_corrector.contains(&(step_index - 1)) {
            return None;
        }
        let integrals = self.integrals(step_index - 1, *order);
        let rhos = if *order == 1 {
            vec![0.5]
        } else {
            solve(&integrals.places, &integrals.moments, *order)
        };
        let (at_end, earlier) = rhos.split_last().expect("the order is at least one");
        let mut terms = integrals.terms(last_sample.view(), &self.history, earlier);
        // The value at the end has place one: its difference to the last value stands alone.
        let weight = integrals.residual * at_end;
        terms[1].0 -= weight;
        terms.push((weight, value));
        debug_assert_eq!(sample.dim(), last_sample.dim());
        Some(weighted_sum(&terms))
    }

    /// What predictor and corrector of one interval share.
    fn integrals(&self, step_index: usize, order: usize) -> Integrals {
        let levels = &self.plan.levels;
        let (from, to) = (levels[step_index], levels[step_index + 1]);
        let h = to.lambda - from.lambda;
        let mut places: Vec<f64> = (1..order)
            .map(|back| (levels[step_index - back].lambda - from.lambda) / h)
            .collect();
        places.push(1.0);
        Integrals::new(self.variable, self.bh1, [from, to], places)
    }
}

/// The parts of an update over one interval in lambda.
#[derive(Debug)]
struct Integrals {
    /// Weight of the sample at the start.
    sample: f64,
    /// Weight of the value at the start.
    value: f64,
    /// Weight of the weighted differences to the value at the start: `B(h)` times the level's
    /// factor.
    residual: f64,
    /// Places of the other values, in units of the interval: negative for earlier ones, 1 for the
    /// interval's end (the last).
    places: Vec<f64>,
    /// The right side of the equations, divided by `B(h)`.
    moments: Vec<f64>,
}

impl Integrals {
    fn new(variable: Variable, bh1: bool, [from, to]: [Level; 2], places: Vec<f64>) -> Self {
        let h = to.lambda - from.lambda;
        let (sign, sample, factor) = match variable {
            Variable::Data => (-1.0, to.noise / from.noise, -to.signal),
            Variable::Noise => (1.0, to.signal / from.signal, -to.noise),
        };
        let hh = sign * h;
        let phi_1 = libm::expm1(hh);
        let value = match variable {
            Variable::Data => factor * phi_1,
            // noise * (exp(h) - 1), finite also where there is no noise.
            Variable::Noise => to.noise - to.signal * from.noise / from.signal,
        };
        let scale = if bh1 { hh } else { phi_1 };
        // h phi_(k+1)(h) of appendix A, by its recurrence, times k!.
        let mut phi = phi_1 / hh - 1.0;
        let mut factorial = 1.0;
        let moments = (1..=places.len())
            .map(|k| {
                let moment = phi * factorial / scale;
                factorial *= (k + 1) as f64;
                phi = phi / hh - 1.0 / factorial;
                moment
            })
            .collect();
        Self {
            sample,
            value,
            residual: factor * scale,
            places,
            moments,
        }
    }

    /// The terms of the update: the sample, the value at the start (second), and the earlier values
    /// by their weights `rhos`. `values` holds the value at the start first.
    fn terms<'a>(
        &self,
        sample: ArrayView4<'a, f32>,
        values: &'a [Array4<f32>],
        rhos: &[f64],
    ) -> Vec<(f64, ArrayView4<'a, f32>)> {
        let mut terms = vec![(self.sample, sample), (self.value, values[0].view())];
        for ((rho, place), value) in rhos.iter().zip(&self.places).zip(&values[1..]) {
            let weight = self.residual * rho / place;
            terms[1].0 -= weight;
            terms.push((weight, value.view()));
        }
        terms
    }
}

/// Solves `sum over k of place_k^i * rho_k = moment_i` for the first `count` places and moments, by
/// elimination with pivots.
fn solve(places: &[f64], moments: &[f64], count: usize) -> Vec<f64> {
    let mut rows: Vec<Vec<f64>> = (0..count)
        .map(|power| {
            let powers = places[..count].iter().map(|place| place.powi(power as i32));
            powers.chain([moments[power]]).collect()
        })
        .collect();
    for column in 0..count {
        let pivot = (column..count)
            .max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))
            .expect("there is a row left");
        rows.swap(column, pivot);
        let pivot_row = rows[column].clone();
        for (index, row) in rows.iter_mut().enumerate() {
            if index != column {
                let factor = row[column] / pivot_row[column];
                for (value, pivot_value) in row.iter_mut().zip(&pivot_row) {
                    *value -= factor * pivot_value;
                }
            }
        }
    }
    (0..count)
        .map(|index| rows[index][count] / rows[index][index])
        .collect()
}

fn refuse_options(config: &SchedulerConfig) -> Result<(), DiffusionError> {
    if let Some(predictor) = config
        .solver_p
        .as_ref()
        .filter(|value| **value != Value::Null)
    {
        return Err(DiffusionError::Unsupported {
            option: "solver_p",
            value: predictor.to_string(),
            hint: "; only null is possible",
        });
    }
    let terminal = config.shift_terminal;
    if terminal.is_some() && !config.use_flow_sigmas.unwrap_or(false) {
        return Err(DiffusionError::Unsupported {
            option: "shift_terminal",
            value: terminal.unwrap_or_default().to_string(),
            hint: " without use_flow_sigmas; set it to true",
        });
    }
    Ok(())
}

impl Scheduler for UniPc {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::UniPc
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
        // 1. The value of the solver's variable.
        let predicted = self.plan.predict(step_index, model_output, sample)?;
        // 2. UniC corrects the sample that the last step led to.
        let sample = self
            .corrected(step_index, sample, predicted.value.view())
            .unwrap_or_else(|| sample.to_owned());
        // 3. UniP (equation 3): from the corrected sample to the next level.
        let order = self.order(step_index);
        self.history.truncate(self.order - 1);
        self.history.insert(0, predicted.value);
        let integrals = self.integrals(step_index, order);
        let rhos = match order {
            1 => Vec::new(),
            // The solution for every h up to terms of higher order (section 3.3).
            2 => vec![0.5],
            _ => solve(&integrals.places, &integrals.moments, order - 1),
        };
        let prev_sample = weighted_sum(&integrals.terms(sample.view(), &self.history, &rhos));
        self.last = Some((sample, order));
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
    fn the_equations_of_the_weights_are_solved() {
        // rho_0 + rho_1 = 3 and -2 rho_0 + rho_1 = 0.
        assert_eq!(solve(&[-2.0, 1.0], &[3.0, 0.0], 2), [1.0, 2.0]);
    }
}
