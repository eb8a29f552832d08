//! Ridge regression whose strength is chosen by leaving one row out.

use ndarray::{Array2, ArrayView2};

use crate::error::TrainingError;
use crate::logistic::Linear;

/// Exponents of ten of the strengths that are tried, from 1 to 10,000 by half powers.
const STRENGTH_POWERS: std::ops::RangeInclusive<i32> = 0..=8;

/// Fits standardised columns to a target; a column that never changes gets no weight. The strength is the one with the
/// least squared error of rows left out one by one (Golub, Heath and Wahba 1979 give the closed form).
///
/// `rows` has shape (rows, columns).
///
/// # Errors
/// [`TrainingError::Shape`] for a target of another length or fewer than two rows, [`TrainingError::Singular`].
pub fn fit_ridge(rows: ArrayView2<'_, f64>, target: &[f64]) -> Result<Linear, TrainingError> {
    let (count, columns) = rows.dim();
    if target.len() != count || count < 2 {
        let reason = "a target for each of two rows or more is needed";
        return Err(TrainingError::Shape { reason });
    }
    let mean: Vec<f64> = rows
        .columns()
        .into_iter()
        .map(|column| column.sum() / count as f64)
        .collect();
    let deviation: Vec<f64> = rows
        .columns()
        .into_iter()
        .zip(&mean)
        .map(|(column, mean)| {
            let variance = column
                .iter()
                .map(|value| (value - mean).powi(2))
                .sum::<f64>()
                / count as f64;
            if variance > 0.0 { variance.sqrt() } else { 1.0 }
        })
        .collect();
    let scaled = Array2::from_shape_fn((count, columns), |(row, column)| {
        (rows[[row, column]] - mean[column]) / deviation[column]
    });
    let target_mean = target.iter().sum::<f64>() / count as f64;
    let centred: Vec<f64> = target.iter().map(|value| value - target_mean).collect();
    let products = scaled.t().dot(&scaled);
    let right = scaled
        .t()
        .dot(&ndarray::ArrayView1::from(&centred))
        .to_vec();
    let mut best: Option<(f64, Vec<f64>)> = None;
    for power in STRENGTH_POWERS {
        let strength = 10.0_f64.powf(f64::from(power) / 2.0);
        let factor = Cholesky::of(&products, strength)?;
        let weights = factor.solve(&right);
        let error = left_out_error(&scaled, &centred, &factor, &weights);
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, weights));
        }
    }
    let (_, scaled_weights) = best.expect("several strengths are tried");
    let weights: Vec<f64> = scaled_weights
        .iter()
        .zip(&deviation)
        .map(|(w, d)| w / d)
        .collect();
    let shift: f64 = weights.iter().zip(&mean).map(|(w, m)| w * m).sum();
    Ok(Linear {
        weights,
        intercept: target_mean - shift,
    })
}

/// Mean squared error of each row under a fit without it: its residual over one minus its leverage.
fn left_out_error(
    scaled: &Array2<f64>,
    centred: &[f64],
    factor: &Cholesky,
    weights: &[f64],
) -> f64 {
    let count = centred.len() as f64;
    let rows = scaled.rows().into_iter().zip(centred);
    let sum: f64 = rows
        .map(|(row, target)| {
            let values = row.to_vec();
            let fitted: f64 = values
                .iter()
                .zip(weights)
                .map(|(value, weight)| value * weight)
                .sum();
            let half = factor.half_solve(&values);
            // The intercept adds one part in `count` to every leverage.
            let leverage = half.iter().map(|value| value * value).sum::<f64>() + 1.0 / count;
            ((target - fitted) / (1.0 - leverage).max(1e-9)).powi(2)
        })
        .sum();
    sum / count
}

/// A lower triangle whose product with its own transpose is a symmetric matrix.
struct Cholesky {
    lower: Array2<f64>,
}

impl Cholesky {
    /// Factors `products + strength * identity`.
    fn of(products: &Array2<f64>, strength: f64) -> Result<Self, TrainingError> {
        let size = products.nrows();
        let mut lower = Array2::<f64>::zeros((size, size));
        for row in 0..size {
            for column in 0..=row {
                let mut sum = products[[row, column]];
                for k in 0..column {
                    sum -= lower[[row, k]] * lower[[column, k]];
                }
                if row == column {
                    let square = sum + strength;
                    if !(square.is_finite() && square > 0.0) {
                        return Err(TrainingError::Singular);
                    }
                    lower[[row, row]] = square.sqrt();
                } else {
                    lower[[row, column]] = sum / lower[[column, column]];
                }
            }
        }
        Ok(Self { lower })
    }

    /// The lower triangle's inverse times a vector.
    fn half_solve(&self, right: &[f64]) -> Vec<f64> {
        let mut out = right.to_vec();
        for row in 0..out.len() {
            let known = self.lower.row(row);
            let sum: f64 = known.iter().zip(&out[..row]).map(|(l, v)| l * v).sum();
            out[row] = (out[row] - sum) / known[row];
        }
        out
    }

    /// The inverse times a vector.
    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let mut out = self.half_solve(right);
        for row in (0..out.len()).rev() {
            let below: f64 = (row + 1..out.len())
                .map(|k| self.lower[[k, row]] * out[k])
                .sum();
            out[row] = (out[row] - below) / self.lower[[row, row]];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again_and_a_constant_column_gets_no_weight() {
        let rows = Array2::from_shape_fn(
            (400, 2),
            |(row, column)| if column == 0 { row as f64 } else { 3.0 },
        );
        let target: Vec<f64> = (0..400).map(|row| 2.0 * f64::from(row) + 1.0).collect();
        let fitted = fit_ridge(rows.view(), &target).unwrap();
        assert!((fitted.weights[0] - 2.0).abs() < 0.02, "{fitted:?}");
        assert_eq!(fitted.weights[1], 0.0);
        assert!((fitted.intercept - 1.0).abs() < 2.0, "{fitted:?}");
    }

    #[test]
    fn noise_alone_is_shrunk_away() {
        let mut draws = crate::draws::Draws::new(1, &["ridge"]);
        let rows = Array2::from_shape_fn((60, 20), |_| draws.between(-1.0, 1.0));
        let target: Vec<f64> = (0..60).map(|_| draws.between(-1.0, 1.0)).collect();
        let fitted = fit_ridge(rows.view(), &target).unwrap();
        assert!(
            fitted.weights.iter().all(|weight| weight.abs() < 0.1),
            "{fitted:?}"
        );
    }
}
