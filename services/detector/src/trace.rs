//! The trace: the ordered record of one inversion, for each patch of a picture.

use diffusion::NoisePredictor;
use ndarray::{Array2, Array4, ArrayView2, ArrayView3, Axis, Slice, stack};
use serde::{Deserialize, Serialize};

use crate::config::TraceConfig;
use crate::error::DetectorError;
use crate::inversion::{InversionPath, invert, signal_scale};
use crate::patches::{Obstacle, Place, choose};
use crate::picture::{PictureStatistics, PictureView, differences, high_pass, luma};
use crate::spectrum::{Spectrum, SpectrumStatistics};
use crate::statistics::{
    Moments, autocorrelation, correlation, ln, mean, phase_contrast, phase_energy, window,
};

/// Version of the trace: a change of any statistic raises it, and heads name the one they were
/// trained for.
pub const TRACE_VERSION: u32 = 1;

/// One step of the inversion of one patch, at one noise level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceStep {
    /// Noise level of the step.
    pub noise_level: f64,
    /// ln of the root mean square of the predicted noise; 0 would be noise as strong as the level.
    pub log_rms: f64,
    /// Mean absolute value over root mean square: 0.8 for Gaussian noise, less for few large values.
    pub evenness: f64,
    /// ln of the fourth moment over the squared second: ln 3 for Gaussian noise.
    pub log_kurtosis: f64,
    /// Autocorrelation of the channels' mean at (0,1), (0,2), (1,0), (2,0), (1,1), (1,-1).
    pub autocorrelation: [f64; 6],
    /// Correlations red-green, red-blue, green-blue.
    pub channel_correlation: [f64; 3],
    /// Correlation of the predicted noise's size with luma, with the local luma step, and of its
    /// luma with the high-passed luma of the picture.
    pub picture_correlation: [f64; 3],
    /// How far the energies of the four 2x2 phases lie apart, and the two diagonals of them.
    pub phase_2: [f64; 2],
    /// How much one row (column) phase of 8 stands out.
    pub phase_8: [f64; 2],
    /// Spectrum of the channels' mean.
    pub spectrum: SpectrumStatistics,
    /// Cosine between this and the next level's predicted noise; absent at the last level.
    pub cosine_to_next: Option<f64>,
    /// ln of the step error: root mean square of going one level up and back down with the next
    /// level's prediction (Ma et al. 2023, arXiv 2307.06272); absent at the last level.
    pub log_step_error: Option<f64>,
}

/// The trace of one patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatchTrace {
    /// Where the patch lies.
    #[serde(flatten)]
    pub place: Place,
    /// Statistics of the patch itself.
    pub picture: PictureStatistics,
    /// One record for each noise level, rising.
    pub steps: Vec<TraceStep>,
    /// Distance between the path's ends over its length: 1 for a straight path.
    pub straightness: f64,
}

/// The trace of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageTrace {
    /// [`TRACE_VERSION`] at the time of writing.
    pub version: u32,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// How the trace was taken.
    pub config: TraceConfig,
    /// Why there is no patch, where there is none.
    pub obstacle: Option<Obstacle>,
    /// The patches in order of rising texture.
    pub patches: Vec<PatchTrace>,
}

/// Takes the trace of a picture. A picture without a usable patch gives a trace without patches
/// that names the [`Obstacle`].
///
/// `predictor` is the photo prior: [`NoisePredictor::predict`] with the noise level as timestep.
///
/// # Errors
/// [`DetectorError::Config`], [`DetectorError::Prediction`], [`DetectorError::BadPrediction`].
pub fn extract<P>(
    picture: &PictureView<'_>,
    config: &TraceConfig,
    predictor: &mut P,
) -> Result<ImageTrace, DetectorError>
where
    P: NoisePredictor + ?Sized,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    config.check()?;
    let (places, obstacle) = match choose(picture, config) {
        Ok(places) => (places, None),
        Err(obstacle) => (Vec::new(), Some(obstacle)),
    };
    let patches = trace_patches(picture, &places, config, predictor)?;
    Ok(ImageTrace {
        version: TRACE_VERSION,
        width: picture.width(),
        height: picture.height(),
        config: config.clone(),
        obstacle,
        patches,
    })
}

fn trace_patches<P>(
    picture: &PictureView<'_>,
    places: &[Place],
    config: &TraceConfig,
    predictor: &mut P,
) -> Result<Vec<PatchTrace>, DetectorError>
where
    P: NoisePredictor + ?Sized,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let cuts: Vec<_> = places
        .iter()
        .map(|place| picture.patch(place.x, place.y, config.patch_side))
        .collect();
    let views: Vec<_> = cuts.iter().map(|cut| cut.view()).collect();
    let batch = stack(Axis(0), &views).expect("all patches have one shape");
    let path = invert(batch, &config.noise_levels, predictor)?;
    let spectrum = Spectrum::new(config.interior_side());
    let traces = places.iter().enumerate().map(|(index, place)| {
        let inside = Inside {
            path: &path,
            index,
            border: config.border,
        };
        inside.patch_trace(*place, &spectrum)
    });
    Ok(traces.collect())
}

/// One patch of a path, without its border.
struct Inside<'a> {
    path: &'a InversionPath,
    index: usize,
    border: usize,
}

/// Maps of the picture that every step is compared with.
struct PictureMaps {
    luma: Array2<f32>,
    steps: Array2<f32>,
    high_pass: Array2<f32>,
}

impl<'a> Inside<'a> {
    fn cut(&self, batch: &'a Array4<f32>) -> ArrayView3<'a, f32> {
        let inside = Slice::from(self.border..batch.dim().2 - self.border);
        let mut cut = batch.index_axis(Axis(0), self.index);
        cut.slice_axis_inplace(Axis(1), inside);
        cut.slice_axis_inplace(Axis(2), inside);
        cut
    }

    fn patch_trace(&self, place: Place, spectrum: &Spectrum) -> PatchTrace {
        let interior = self.cut(&self.path.samples[0]);
        let maps = PictureMaps::of(interior);
        let levels = self.path.noise_levels.len();
        PatchTrace {
            place,
            picture: PictureStatistics::of(interior, spectrum),
            steps: (0..levels)
                .map(|step| self.step(step, &maps, spectrum))
                .collect(),
            straightness: self.straightness(),
        }
    }

    fn step(&self, step: usize, maps: &PictureMaps, spectrum: &Spectrum) -> TraceStep {
        let noise_pred = self.cut(&self.path.noise_preds[step]);
        let next = self
            .path
            .noise_preds
            .get(step + 1)
            .map(|batch| self.cut(batch));
        let moments = Moments::of(noise_pred.iter());
        let channels_mean = noise_pred.mean_axis(Axis(0)).expect("three channels");
        let map = channels_mean.view();
        let channel = |index: usize| noise_pred.index_axis(Axis(0), index);
        let shifts = [(0, 1), (0, 2), (1, 0), (2, 0), (1, 1), (1, -1)];
        TraceStep {
            noise_level: self.path.noise_levels[step],
            log_rms: ln(moments.square.sqrt()),
            evenness: moments.absolute / moments.square.sqrt().max(1e-6),
            log_kurtosis: ln(moments.fourth) - 2.0 * ln(moments.square),
            autocorrelation: shifts.map(|(dy, dx)| autocorrelation(map, dy, dx)),
            channel_correlation: [
                correlation(channel(0), channel(1)),
                correlation(channel(0), channel(2)),
                correlation(channel(1), channel(2)),
            ],
            picture_correlation: maps.correlations(noise_pred),
            phase_2: phase_2(map),
            phase_8: [true, false].map(|by_row| phase_contrast(&phase_energy(map, 8, by_row))),
            spectrum: spectrum.statistics(map),
            cosine_to_next: next.map(|next| cosine(noise_pred, next)),
            log_step_error: next.map(|next| self.log_step_error(step, noise_pred, next)),
        }
    }

    /// Up one level with this prediction and down again with the next one leaves
    /// `(a(s) * s' / a(s') - s) * (noise_pred - next)`: no further prediction is needed.
    fn log_step_error(
        &self,
        step: usize,
        noise_pred: ArrayView3<'_, f32>,
        next: ArrayView3<'_, f32>,
    ) -> f64 {
        let (level, next_level) = (
            self.path.noise_levels[step],
            self.path.noise_levels[step + 1],
        );
        let factor = signal_scale(level) * next_level / signal_scale(next_level) - level;
        ln(factor * distance(noise_pred, next))
    }

    fn straightness(&self) -> f64 {
        let samples = &self.path.samples;
        let cut = |index: usize| self.cut(&samples[index]);
        let last = samples.len() - 1;
        let length: f64 = (0..last).map(|i| distance(cut(i), cut(i + 1))).sum();
        if length > 0.0 {
            distance(cut(0), cut(last)) / length
        } else {
            1.0
        }
    }
}

impl PictureMaps {
    fn of(interior: ArrayView3<'_, f32>) -> Self {
        let luma = luma(interior);
        let (right, below) = (
            differences(luma.view(), false),
            differences(luma.view(), true),
        );
        let (all, but_last) = (Slice::from(..), Slice::from(..-1));
        let steps = window(right.view(), but_last, all).mapv(f32::abs)
            + window(below.view(), all, but_last).mapv(f32::abs);
        let high_pass = high_pass(luma.view());
        Self {
            luma,
            steps,
            high_pass,
        }
    }

    fn correlations(&self, noise_pred: ArrayView3<'_, f32>) -> [f64; 3] {
        let size = noise_pred
            .mapv(f32::abs)
            .mean_axis(Axis(0))
            .expect("three channels");
        let noise_luma = luma(noise_pred);
        let (but_last, inside) = (Slice::from(..-1), Slice::new(1, Some(-1), 1));
        [
            correlation(size.view(), self.luma.view()),
            correlation(window(size.view(), but_last, but_last), self.steps.view()),
            correlation(
                window(noise_luma.view(), inside, inside),
                self.high_pass.view(),
            ),
        ]
    }
}

/// Root mean square of the difference.
fn distance(a: ArrayView3<'_, f32>, b: ArrayView3<'_, f32>) -> f64 {
    mean(
        a.iter()
            .zip(b.iter())
            .map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)),
    )
    .sqrt()
}

fn cosine(a: ArrayView3<'_, f32>, b: ArrayView3<'_, f32>) -> f64 {
    let dot = mean(
        a.iter()
            .zip(b.iter())
            .map(|(x, y)| f64::from(*x) * f64::from(*y)),
    );
    let scale = (Moments::of(a.iter()).square * Moments::of(b.iter()).square).sqrt();
    if scale > 0.0 { dot / scale } else { 0.0 }
}

/// ln(largest / smallest) of the four phase energies, and the absolute ln of one diagonal over the
/// other: a colour filter array shows in the second.
fn phase_2(map: ArrayView2<'_, f32>) -> [f64; 2] {
    let mut energies = [0.0; 4];
    for (index, energy) in energies.iter_mut().enumerate() {
        let every_second = |start: usize| Slice::new(start as isize, None, 2);
        let phase = window(map, every_second(index / 2), every_second(index % 2));
        *energy = ln(mean(phase.iter().map(|v| f64::from(*v).powi(2))));
    }
    let largest = energies.iter().copied().fold(f64::MIN, f64::max);
    let smallest = energies.iter().copied().fold(f64::MAX, f64::min);
    let diagonals = energies[0] + energies[3] - energies[1] - energies[2];
    [largest - smallest, diagonals.abs() / 2.0]
}
