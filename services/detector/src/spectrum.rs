//! Power spectrum of a square map: radial profile and peaks where upsamplers leave them.
//!
//! Decoders that upsample by 2, 4 and 8 leave peaks at 1/2, 1/4 and 1/8 of the sampling frequency
//! (Corvi et al. 2023, arXiv 2304.06408). A Hann window keeps the picture's own edges from
//! spreading into them.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};
use serde::{Deserialize, Serialize};

use crate::statistics::{ln, mean};

/// Number of bins of the radial profile.
pub const RADIAL_BINS: usize = 8;

/// Half width of the neighbourhood that a peak is compared with, and of the peak itself.
const NEIGHBOURHOOD: isize = 3;
const PEAK: isize = 1;

/// What is kept of one spectrum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpectrumStatistics {
    /// ln(mean power in the ring / mean power), rings of equal width from 0 to 1/2 of the sampling
    /// frequency; the corners beyond belong to the last ring.
    pub radial: Vec<f64>,
    /// ln(power at the frequency / mean power around it) at 1/2, 1/4 and 1/8: means over the
    /// horizontal and vertical axis.
    pub axis_peaks: [f64; 3],
    /// The same on the diagonals.
    pub diagonal_peaks: [f64; 3],
}

/// A planned transform for maps of one side, a multiple of 8.
pub struct Spectrum {
    side: usize,
    window: Vec<f64>,
    fft: Arc<dyn Fft<f64>>,
}

impl std::fmt::Debug for Spectrum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spectrum")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

impl Spectrum {
    /// Plans for maps of `side` x `side`.
    #[must_use]
    pub fn new(side: usize) -> Self {
        let window = (0..side)
            .map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * (i as f64 + 0.5) / side as f64).cos())
            .collect();
        Self {
            side,
            window,
            fft: FftPlanner::new().plan_fft_forward(side),
        }
    }

    /// Statistics of a `side` x `side` map after its mean is taken off.
    #[must_use]
    pub fn statistics(&self, map: ArrayView2<'_, f32>) -> SpectrumStatistics {
        let power = self.power(map);
        let side = self.side as isize;
        let peaks = |diagonal: bool| {
            [2, 4, 8].map(|divisor| {
                let k = side / divisor;
                let places = if diagonal {
                    [(k, k), (k, side - k)]
                } else {
                    [(0, k), (k, 0)]
                };
                mean(places.iter().map(|(v, u)| peak(&power, *v, *u)))
            })
        };
        SpectrumStatistics {
            radial: self.radial(&power),
            axis_peaks: peaks(false),
            diagonal_peaks: peaks(true),
        }
    }

    fn power(&self, map: ArrayView2<'_, f32>) -> Array2<f64> {
        let side = self.side;
        debug_assert_eq!(map.dim(), (side, side), "the plan is for one side");
        let average = mean(map.iter().map(|v| f64::from(*v)));
        let mut rows: Vec<Complex<f64>> = map
            .indexed_iter()
            .map(|((y, x), v)| (f64::from(*v) - average) * self.window[y] * self.window[x])
            .map(|value| Complex::new(value, 0.0))
            .collect();
        self.fft.process(&mut rows);
        let mut columns = vec![Complex::default(); side * side];
        for y in 0..side {
            for x in 0..side {
                columns[x * side + y] = rows[y * side + x];
            }
        }
        self.fft.process(&mut columns);
        Array2::from_shape_fn((side, side), |(v, u)| columns[u * side + v].norm_sqr())
    }

    fn radial(&self, power: &Array2<f64>) -> Vec<f64> {
        let mut sums = [0.0; RADIAL_BINS];
        let mut counts = [0_usize; RADIAL_BINS];
        for ((v, u), value) in power.indexed_iter() {
            let (fy, fx) = (self.frequency(v), self.frequency(u));
            let radius = (fy * fy + fx * fx).sqrt();
            let bin = ((radius * 2.0 * RADIAL_BINS as f64) as usize).min(RADIAL_BINS - 1);
            sums[bin] += value;
            counts[bin] += 1;
        }
        let total = ln(mean(power.iter().copied()));
        sums.iter()
            .zip(counts)
            .map(|(sum, n)| ln(sum / n.max(1) as f64) - total)
            .collect()
    }

    /// Frequency of a bin in cycles per pixel, from 0 to 1/2 without its sign.
    fn frequency(&self, bin: usize) -> f64 {
        bin.min(self.side - bin) as f64 / self.side as f64
    }
}

/// ln of the mean power within [`PEAK`] bins of (v, u) over the mean of the ring around it, with
/// indices that wrap.
fn peak(power: &Array2<f64>, v: isize, u: isize) -> f64 {
    let side = power.nrows() as isize;
    let (mut inner, mut inner_count, mut outer, mut outer_count) = (0.0, 0_u32, 0.0, 0_u32);
    for dv in -NEIGHBOURHOOD..=NEIGHBOURHOOD {
        for du in -NEIGHBOURHOOD..=NEIGHBOURHOOD {
            let at = (
                (v + dv).rem_euclid(side) as usize,
                (u + du).rem_euclid(side) as usize,
            );
            if dv.abs() <= PEAK && du.abs() <= PEAK {
                inner += power[at];
                inner_count += 1;
            } else {
                outer += power[at];
                outer_count += 1;
            }
        }
    }
    ln(inner / f64::from(inner_count)) - ln(outer / f64::from(outer_count))
}
