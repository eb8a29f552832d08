//! Logistic regression with a ridge, by L-BFGS.

use std::collections::VecDeque;

use ndarray::ArrayView2;

use crate::error::TrainingError;

/// Steps that the curvature is estimated from (Nocedal and Wright 2006, algorithm 7.4).
const MEMORY: usize = 10;
/// Armijo's share of the promised decrease.
const DECREASE: f64 = 1e-4;
/// Halvings of one step at most; a step shorter than that changes nothing.
const HALVINGS_MAX: usize = 40;
/// Added to deviations, as the reference does.
const DEVIATION_MIN: f64 = 1e-6;

/// Some rows of a table with their labels and weights.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// Shape (rows, columns).
    pub rows: ArrayView2<'a, f32>,
    /// Which rows take part; `labels` and `weights` go with them.
    pub chosen: &'a [usize],
    /// Whether the row is of the positive class.
    pub labels: &'a [bool],
    /// How much the row weighs.
    pub weights: &'a [f64],
}

/// How a logistic regression is fitted.
#[derive(Clone, Copy, Debug)]
pub struct LogisticSettings {
    /// The inverse of the ridge: half the squared weights are added to this times the weighted loss.
    pub strength: f64,
    /// Whether the ridge looks at columns of mean 0 and deviation 1.
    pub standardised: bool,
    /// Steps at most.
    pub steps_max: usize,
    /// Ends where no part of the gradient, over `strength` times the sum of the weights, is larger.
    pub tolerance: f64,
}

impl LogisticSettings {
    /// For one or two columns: as good as the numbers allow.
    #[must_use]
    pub fn small(strength: f64) -> Self {
        Self {
            strength,
            standardised: false,
            steps_max: 500,
            tolerance: 1e-10,
        }
    }
}

/// A raw score: the sum of the weighted columns, and an intercept.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// One weight for each column.
    pub weights: Vec<f64>,
    /// Score where all columns are 0.
    pub intercept: f64,
}

impl Linear {
    /// Raw score of a row.
    #[must_use]
    pub fn score(&self, row: &[f32]) -> f64 {
        dot(row, &self.weights) + self.intercept
    }
}

impl Samples<'_> {
    /// Refuses lists of different lengths, rows that are not there, and one class alone.
    ///
    /// # Errors
    /// [`TrainingError::Shape`], [`TrainingError::OneClass`], [`TrainingError::NotFinite`].
    pub fn check(&self) -> Result<(), TrainingError> {
        let shape = |reason| Err(TrainingError::Shape { reason });
        if self.labels.len() != self.chosen.len() || self.weights.len() != self.chosen.len() {
            return shape("there are other numbers of labels or weights than rows");
        }
        if self.chosen.iter().any(|row| *row >= self.rows.nrows()) {
            return shape("a chosen row is not in the table");
        }
        if !self.rows.is_standard_layout() {
            return shape("rows must lie one behind the other");
        }
        let positive = self.labels.iter().filter(|label| **label).count();
        let negative = self.labels.len() - positive;
        if positive == 0 || negative == 0 {
            return Err(TrainingError::OneClass { positive, negative });
        }
        let finite = |row: &usize| self.row(*row).iter().all(|value| value.is_finite());
        if !self.chosen.iter().all(finite) {
            return Err(TrainingError::NotFinite { what: "a feature" });
        }
        Ok(())
    }

    /// One row of the table.
    fn row(&self, row: usize) -> &[f32] {
        let columns = self.rows.ncols();
        let values = self.rows.as_slice().expect("check() refuses other layouts");
        &values[row * columns..(row + 1) * columns]
    }
}

/// Fits by minimising `strength * sum(weight * loss) + |weights|^2 / 2`; the intercept is not shrunk. `start` saves
/// steps and changes nothing else than what the tolerance leaves open.
///
/// # Errors
/// As [`Samples::check`].
pub fn fit_logistic(
    samples: &Samples<'_>,
    settings: &LogisticSettings,
    start: Option<&Linear>,
) -> Result<Linear, TrainingError> {
    samples.check()?;
    let objective = Objective::new(samples, settings);
    let columns = samples.rows.ncols();
    let mut at = vec![0.0; columns + 1];
    if let Some(start) = start.filter(|start| start.weights.len() == columns) {
        objective.place(start, &mut at);
    }
    minimise(&objective, settings, &mut at);
    let fitted = objective.linear(&at);
    if fitted
        .weights
        .iter()
        .chain([&fitted.intercept])
        .all(|value| value.is_finite())
    {
        Ok(fitted)
    } else {
        Err(TrainingError::NotFinite {
            what: "a fitted weight",
        })
    }
}

/// The loss in the space of standardised columns, without a standardised copy of the rows.
struct Objective<'a> {
    samples: Samples<'a>,
    strength: f64,
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl<'a> Objective<'a> {
    fn new(samples: &Samples<'a>, settings: &LogisticSettings) -> Self {
        let columns = samples.rows.ncols();
        let (mut mean, mut deviation) = (vec![0.0; columns], vec![1.0; columns]);
        if settings.standardised {
            let count = samples.chosen.len() as f64;
            for row in samples.chosen {
                add_scaled(&mut mean, samples.row(*row), 1.0);
            }
            mean.iter_mut().for_each(|sum| *sum /= count);
            let mut squares = vec![0.0; columns];
            for row in samples.chosen {
                for ((sum, mean), value) in squares.iter_mut().zip(&mean).zip(samples.row(*row)) {
                    *sum += (f64::from(*value) - mean).powi(2);
                }
            }
            for (deviation, sum) in deviation.iter_mut().zip(squares) {
                *deviation = (sum / count).sqrt() + DEVIATION_MIN;
            }
        }
        Self {
            samples: *samples,
            strength: settings.strength,
            mean,
            deviation,
        }
    }

    /// What the columns themselves are weighted with.
    fn linear(&self, at: &[f64]) -> Linear {
        let (weights, intercept) = at.split_at(self.mean.len());
        let weights: Vec<f64> = weights
            .iter()
            .zip(&self.deviation)
            .map(|(w, d)| w / d)
            .collect();
        let shift: f64 = weights.iter().zip(&self.mean).map(|(w, m)| w * m).sum();
        Linear {
            intercept: intercept[0] - shift,
            weights,
        }
    }

    /// The inverse of [`Self::linear`].
    fn place(&self, start: &Linear, at: &mut [f64]) {
        let shift: f64 = start
            .weights
            .iter()
            .zip(&self.mean)
            .map(|(w, m)| w * m)
            .sum();
        for ((at, weight), deviation) in at.iter_mut().zip(&start.weights).zip(&self.deviation) {
            *at = weight * deviation;
        }
        at[self.mean.len()] = start.intercept + shift;
    }

    /// Loss and gradient.
    fn evaluate(&self, at: &[f64], gradient: &mut [f64]) -> f64 {
        let linear = self.linear(at);
        let columns = self.mean.len();
        gradient.fill(0.0);
        let (slopes, intercept) = gradient.split_at_mut(columns);
        let mut loss = 0.0;
        let samples = &self.samples;
        for ((row, label), weight) in samples
            .chosen
            .iter()
            .zip(samples.labels)
            .zip(samples.weights)
        {
            let row = samples.row(*row);
            let score = linear.score(row);
            let signed = if *label { score } else { -score };
            // ln(1 + exp(-signed)) without overflow.
            loss += weight * ((-signed.abs()).exp().ln_1p() + (-signed).max(0.0));
            let pull = weight * (logistic(score) - f64::from(u8::from(*label)));
            add_scaled(slopes, row, pull);
            intercept[0] += pull;
        }
        let pull = intercept[0];
        for ((slope, mean), deviation) in slopes.iter_mut().zip(&self.mean).zip(&self.deviation) {
            *slope = self.strength * (*slope - mean * pull) / deviation;
        }
        intercept[0] *= self.strength;
        for (slope, weight) in slopes.iter_mut().zip(at) {
            *slope += weight;
        }
        let ridge: f64 = at[..columns].iter().map(|weight| weight * weight).sum();
        self.strength * loss + ridge / 2.0
    }
}

/// L-BFGS with backtracking; the objective is convex, so every descent ends at its one minimum.
fn minimise(objective: &Objective<'_>, settings: &LogisticSettings, at: &mut Vec<f64>) {
    let mut gradient = vec![0.0; at.len()];
    let mut value = objective.evaluate(at, &mut gradient);
    let total: f64 = objective.samples.weights.iter().sum();
    let tolerance = settings.tolerance * settings.strength * total;
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..settings.steps_max {
        if gradient.iter().all(|part| part.abs() <= tolerance) {
            return;
        }
        let mut direction = descent(&gradient, &memory);
        let mut slope = inner(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding has spoilt the estimate of the curvature: downhill is always right.
            memory.clear();
            direction = gradient.iter().map(|part| -part).collect();
            slope = inner(&direction, &gradient);
        }
        let mut length = if memory.is_empty() {
            1.0 / inner(&gradient, &gradient).sqrt().max(1.0)
        } else {
            1.0
        };
        let mut next_gradient = vec![0.0; at.len()];
        let mut found = None;
        for _ in 0..HALVINGS_MAX {
            let next: Vec<f64> = at
                .iter()
                .zip(&direction)
                .map(|(a, d)| a + length * d)
                .collect();
            let next_value = objective.evaluate(&next, &mut next_gradient);
            if next_value <= value + DECREASE * length * slope {
                found = Some((next, next_value));
                break;
            }
            length /= 2.0;
        }
        let Some((next, next_value)) = found else {
            return;
        };
        let step: Vec<f64> = next.iter().zip(at.iter()).map(|(n, a)| n - a).collect();
        let change: Vec<f64> = next_gradient
            .iter()
            .zip(&gradient)
            .map(|(n, g)| n - g)
            .collect();
        if inner(&step, &change) > 0.0 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((step, change));
        }
        (*at, value) = (next, next_value);
        std::mem::swap(&mut gradient, &mut next_gradient);
    }
}

/// The two loops of L-BFGS.
fn descent(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|part| -part).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (step, change) in memory.iter().rev() {
        let share = inner(step, &direction) / inner(step, change);
        direction
            .iter_mut()
            .zip(change)
            .for_each(|(d, c)| *d -= share * c);
        shares.push(share);
    }
    if let Some((step, change)) = memory.back() {
        let scale = inner(step, change) / inner(change, change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for ((step, change), share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = inner(change, &direction) / inner(step, change);
        direction
            .iter_mut()
            .zip(step)
            .for_each(|(d, s)| *d += (share - back) * s);
    }
    direction
}

/// 1 / (1 + exp(-score)).
#[must_use]
pub fn logistic(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Lanes of partial sums: the compiler may then add several at once, always in the same order.
const LANES: usize = 8;

fn dot(row: &[f32], weights: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (rows, weights_of) = (row.chunks_exact(LANES), weights.chunks_exact(LANES));
    let rest: f64 = rows
        .remainder()
        .iter()
        .zip(weights_of.remainder())
        .map(|(value, weight)| f64::from(*value) * weight)
        .sum();
    for (values, weights) in rows.zip(weights_of) {
        for lane in 0..LANES {
            sums[lane] += f64::from(values[lane]) * weights[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(sums: &mut [f64], row: &[f32], scale: f64) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += scale * f64::from(*value);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn without_columns_that_tell_the_intercept_is_the_log_odds() {
        let rows = Array2::zeros((4, 1));
        let samples = Samples {
            rows: rows.view(),
            chosen: &[0, 1, 2, 3],
            labels: &[true, true, true, false],
            weights: &[1.0; 4],
        };
        let fitted = fit_logistic(&samples, &LogisticSettings::small(1.0), None).unwrap();
        assert!((fitted.intercept - 3.0_f64.ln()).abs() < 1e-7, "{fitted:?}");
        assert_eq!(fitted.weights, [0.0]);
    }

    #[test]
    fn standardised_columns_may_be_scaled_and_shifted_without_a_change_of_scores() {
        let rows: Array2<f32> = array![
            [0.0, 5.0],
            [1.0, 4.0],
            [2.0, 9.0],
            [0.5, 2.0],
            [3.0, 1.0],
            [2.5, 7.0]
        ];
        let moved = rows.mapv(|value| value * 4.0 - 16.0);
        let fit = |rows: &Array2<f32>| {
            let samples = Samples {
                rows: rows.view(),
                chosen: &[0, 1, 2, 3, 4, 5],
                labels: &[false, false, true, false, true, true],
                weights: &[1.0, 2.0, 1.0, 1.0, 0.5, 1.0],
            };
            let settings = LogisticSettings {
                standardised: true,
                ..LogisticSettings::small(0.7)
            };
            let fitted = fit_logistic(&samples, &settings, None).unwrap();
            rows.rows()
                .into_iter()
                .map(|row| fitted.score(row.as_slice().unwrap()))
                .collect::<Vec<_>>()
        };
        for (a, b) in fit(&rows).iter().zip(fit(&moved)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn a_start_elsewhere_ends_at_the_same_place() {
        let rows: Array2<f32> = array![[0.0], [1.0], [2.0], [3.0]];
        let samples = Samples {
            rows: rows.view(),
            chosen: &[0, 1, 2, 3],
            labels: &[false, true, false, true],
            weights: &[1.0; 4],
        };
        let settings = LogisticSettings::small(10.0);
        let plain = fit_logistic(&samples, &settings, None).unwrap();
        let start = Linear {
            weights: vec![-30.0],
            intercept: 40.0,
        };
        let other = fit_logistic(&samples, &settings, Some(&start)).unwrap();
        assert!((plain.weights[0] - other.weights[0]).abs() < 1e-6);
    }

    #[test]
    fn one_class_values_that_are_not_finite_and_lists_that_do_not_fit_are_refused() {
        let rows: Array2<f32> = array![[0.0], [f32::NAN]];
        let samples = |labels, weights| Samples {
            rows: rows.view(),
            chosen: &[0, 1],
            labels,
            weights,
        };
        let fit =
            |samples: &Samples<'_>| fit_logistic(samples, &LogisticSettings::small(1.0), None);
        assert!(matches!(
            fit(&samples(&[true, true], &[1.0; 2])),
            Err(TrainingError::OneClass { .. })
        ));
        assert!(matches!(
            fit(&samples(&[true, false], &[1.0; 2])),
            Err(TrainingError::NotFinite { .. })
        ));
        assert!(matches!(
            fit(&samples(&[true], &[1.0; 2])),
            Err(TrainingError::Shape { .. })
        ));
    }
}
