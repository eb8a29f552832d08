//! A picture's own statistics: what the trace is normalised by.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::error::DetectorError;
use crate::spectrum::{Spectrum, SpectrumStatistics};
use crate::statistics::{autocorrelation, ln, mean, phase_contrast, phase_energy, window};

/// Weights of red, green and blue in the luma of ITU-R BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Decoded pixels: RGB8, interleaved, rows from the top.
#[derive(Clone, Copy, Debug)]
pub struct PictureView<'a> {
    width: u32,
    height: u32,
    rgb: &'a [u8],
}

impl<'a> PictureView<'a> {
    /// Looks at `rgb` as `height` rows of `width` pixels of three bytes.
    ///
    /// # Errors
    /// [`DetectorError::PixelBytes`] where the buffer's length does not fit.
    pub fn new(width: u32, height: u32, rgb: &'a [u8]) -> Result<Self, DetectorError> {
        let expected = width as usize * height as usize * 3;
        if rgb.len() != expected {
            return Err(DetectorError::PixelBytes {
                width,
                height,
                expected,
                found: rgb.len(),
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All pixels: RGB8, interleaved, rows from the top.
    #[must_use]
    pub fn rgb(&self) -> &'a [u8] {
        self.rgb
    }

    /// The three bytes of a pixel inside the picture.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width as usize + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// A square cut, shape (3, side, side), values in [-1, 1].
    #[must_use]
    pub fn patch(&self, x: usize, y: usize, side: usize) -> Array3<f32> {
        Array3::from_shape_fn((3, side, side), |(channel, row, column)| {
            f32::from(self.pixel(x + column, y + row)[channel]) / 127.5 - 1.0
        })
    }
}

/// Statistics of one patch before any noise prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureStatistics {
    /// ln of the mean absolute difference of neighbouring luma values (in [-1, 1] units).
    pub log_gradient: f64,
    /// Mean luma in [-1, 1].
    pub luma_mean: f64,
    /// ln of the standard deviation of luma.
    pub log_luma_deviation: f64,
    /// ln of the root mean square of luma after a 3x3 binomial blur is taken off.
    pub log_high_pass: f64,
    /// ln of the high-pass energy of the colour differences (blue and red minus luma) over that of luma.
    pub log_chroma_ratio: f64,
    /// Correlation of the high-passed luma with itself two pixels to the right, and two below.
    pub high_pass_autocorrelation: [f64; 2],
    /// How much one column (row) phase of 8 stands out in the steps between neighbours: blockiness.
    pub blockiness: [f64; 2],
    /// Share of neighbouring pixels with exactly the same luma.
    pub flat_share: f64,
    /// Share of pixels with a channel at the end of its range.
    pub clipped_share: f64,
    /// Spectrum of luma.
    pub spectrum: SpectrumStatistics,
}

/// Luma of a patch of shape (3, h, w).
#[must_use]
pub fn luma(patch: ArrayView3<'_, f32>) -> Array2<f32> {
    let (_, height, width) = patch.dim();
    Array2::from_shape_fn((height, width), |(y, x)| {
        LUMA[0] * patch[[0, y, x]] + LUMA[1] * patch[[1, y, x]] + LUMA[2] * patch[[2, y, x]]
    })
}

/// The map less its 3x3 binomial blur; one pixel smaller at each side.
#[must_use]
pub fn high_pass(map: ArrayView2<'_, f32>) -> Array2<f32> {
    let (height, width) = map.dim();
    Array2::from_shape_fn((height - 2, width - 2), |(y, x)| {
        let row = |dy: usize| map[[y + dy, x]] + 2.0 * map[[y + dy, x + 1]] + map[[y + dy, x + 2]];
        map[[y + 1, x + 1]] - (row(0) + 2.0 * row(1) + row(2)) / 16.0
    })
}

/// Differences to the right-hand (`by_row = false`) or lower neighbour.
#[must_use]
pub fn differences(map: ArrayView2<'_, f32>, by_row: bool) -> Array2<f32> {
    let (later, earlier, all) = (Slice::from(1..), Slice::from(..-1), Slice::from(..));
    if by_row {
        &window(map, later, all) - &window(map, earlier, all)
    } else {
        &window(map, all, later) - &window(map, all, earlier)
    }
}

impl PictureStatistics {
    /// Statistics of the interior of a patch, shape (3, side, side).
    #[must_use]
    pub fn of(patch: ArrayView3<'_, f32>, spectrum: &Spectrum) -> Self {
        let luma_map = luma(patch);
        let (right, below) = (
            differences(luma_map.view(), false),
            differences(luma_map.view(), true),
        );
        let steps = || right.iter().chain(below.iter()).map(|v| f64::from(v.abs()));
        let luma_mean = mean(luma_map.iter().map(|v| f64::from(*v)));
        let variance = mean(luma_map.iter().map(|v| (f64::from(*v) - luma_mean).powi(2)));
        let high = high_pass(luma_map.view());
        let high_energy = energy(&high);
        let chroma_energy = [0, 2]
            .map(|channel| {
                energy(&high_pass(
                    (&patch.index_axis(Axis(0), channel) - &luma_map).view(),
                ))
            })
            .iter()
            .sum::<f64>();
        Self {
            log_gradient: ln(mean(steps())),
            luma_mean,
            log_luma_deviation: ln(variance.sqrt()),
            log_high_pass: ln(high_energy.sqrt()),
            log_chroma_ratio: ln(chroma_energy) - ln(high_energy),
            high_pass_autocorrelation: [
                autocorrelation(high.view(), 0, 2),
                autocorrelation(high.view(), 2, 0),
            ],
            blockiness: [blockiness(&right, false), blockiness(&below, true)],
            // Two luma values closer than a quarter of a grey level are equal.
            flat_share: mean(steps().map(|step| f64::from(u8::from(step < 0.25 / 127.5)))),
            clipped_share: mean(patch.iter().map(|v| f64::from(u8::from(v.abs() > 0.999)))),
            spectrum: spectrum.statistics(luma_map.view()),
        }
    }
}

fn energy(map: &Array2<f32>) -> f64 {
    mean(map.iter().map(|v| f64::from(*v).powi(2)))
}

/// ln of the strongest phase of 8 over the mean phase, of mean absolute steps.
fn blockiness(steps: &Array2<f32>, by_row: bool) -> f64 {
    let roots = steps.mapv(|v| v.abs().sqrt());
    phase_contrast(&phase_energy(roots.view(), 8, by_row))
}
