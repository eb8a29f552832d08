//! Sums over maps: moments, correlations, autocorrelation. All sums run in `f64` in row order, so
//! that a score does not depend on the machine.

use ndarray::{ArrayView2, Slice};

/// Smallest argument of a logarithm here: an exactly empty map gives about -27.6, not infinity.
pub const LOG_FLOOR: f64 = 1e-12;

/// Natural logarithm with a floor.
#[must_use]
pub fn ln(value: f64) -> f64 {
    value.max(LOG_FLOOR).ln()
}

/// Mean, or 0 of nothing.
#[must_use]
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| {
        (sum + value, count + 1)
    });
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Moments about zero of a set of values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Mean absolute value.
    pub absolute: f64,
    /// Mean square.
    pub square: f64,
    /// Mean fourth power.
    pub fourth: f64,
}

impl Moments {
    /// Moments of all values.
    pub fn of<'a>(values: impl Iterator<Item = &'a f32>) -> Self {
        let mut sums = Self::default();
        let mut count = 0_usize;
        for value in values {
            let value = f64::from(*value);
            let square = value * value;
            sums.absolute += value.abs();
            sums.square += square;
            sums.fourth += square * square;
            count += 1;
        }
        let count = count.max(1) as f64;
        Self {
            absolute: sums.absolute / count,
            square: sums.square / count,
            fourth: sums.fourth / count,
        }
    }
}

/// Pearson correlation of two maps of one shape; 0 where one of them is constant.
#[must_use]
pub fn correlation(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> f64 {
    let mean_a = mean(a.iter().map(|v| f64::from(*v)));
    let mean_b = mean(b.iter().map(|v| f64::from(*v)));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b.iter()) {
        let (x, y) = (f64::from(*x) - mean_a, f64::from(*y) - mean_b);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    let scale = (aa * bb).sqrt();
    if scale < LOG_FLOOR { 0.0 } else { ab / scale }
}

/// A cut of a map by rows and columns. (The macro of `ndarray` for this expands to code that the
/// lint against `unsafe` refuses.)
#[must_use]
pub fn window<'a>(map: ArrayView2<'a, f32>, rows: Slice, columns: Slice) -> ArrayView2<'a, f32> {
    let mut cut = map;
    cut.slice_each_axis_inplace(|axis| {
        if axis.axis.index() == 0 {
            rows
        } else {
            columns
        }
    });
    cut
}

/// Correlation of a map with itself moved by `dy` rows (0 or more) and `dx` columns (any sign).
#[must_use]
pub fn autocorrelation(map: ArrayView2<'_, f32>, dy: usize, dx: isize) -> f64 {
    let (height, width) = map.dim();
    let shift = dx.unsigned_abs();
    if dy >= height || shift >= width {
        return 0.0;
    }
    let (left, right) = if dx >= 0 { (0, shift) } else { (shift, 0) };
    let span = width - shift;
    let rows = height - dy;
    correlation(
        window(map, Slice::from(..rows), Slice::from(left..left + span)),
        window(map, Slice::from(dy..), Slice::from(right..right + span)),
    )
}

/// Energy of a map by phase of rows and columns modulo `period`.
#[must_use]
pub fn phase_energy(map: ArrayView2<'_, f32>, period: usize, by_row: bool) -> Vec<f64> {
    let mut energy = vec![0.0; period];
    let mut count = vec![0_usize; period];
    for ((y, x), value) in map.indexed_iter() {
        let phase = if by_row { y } else { x } % period;
        energy[phase] += f64::from(*value) * f64::from(*value);
        count[phase] += 1;
    }
    energy
        .iter()
        .zip(&count)
        .map(|(sum, n)| sum / (*n).max(1) as f64)
        .collect()
}

/// Logarithm of the largest over the mean: how much one phase stands out.
#[must_use]
pub fn phase_contrast(energy: &[f64]) -> f64 {
    let largest = energy.iter().copied().fold(0.0, f64::max);
    ln(largest + LOG_FLOOR) - ln(mean(energy.iter().copied()) + LOG_FLOOR)
}
