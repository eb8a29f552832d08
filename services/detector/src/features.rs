//! Traces as rows of named numbers: the input of the head.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::config::TraceConfig;
use crate::error::DetectorError;
use crate::picture::PictureStatistics;
use crate::spectrum::{RADIAL_BINS, SpectrumStatistics};
use crate::trace::{ImageTrace, PatchTrace, TRACE_VERSION, TraceStep};

/// Names of the two axes and diagonals of a spectrum's peaks.
const PEAK_DIVISORS: [u32; 3] = [2, 4, 8];

/// The rows of a picture, one for each patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Shape (patches, features); the columns are those of [`names`].
    pub rows: Array2<f32>,
}

/// The schema that a head was trained for (`features.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSchema {
    /// [`TRACE_VERSION`] of the traces.
    pub trace_version: u32,
    /// How the traces were taken.
    pub config: TraceConfig,
    /// Names of the columns in order.
    pub names: Vec<String>,
}

impl FeatureSchema {
    /// The schema that this crate writes under a configuration.
    #[must_use]
    pub fn of(config: &TraceConfig) -> Self {
        Self {
            trace_version: TRACE_VERSION,
            config: config.clone(),
            names: names(config),
        }
    }

    /// Reads `features.json`.
    ///
    /// # Errors
    /// [`DetectorError::Json`], and [`DetectorError::Profile`] where this crate would write other
    /// columns under the same configuration.
    pub fn parse(text: &str) -> Result<Self, DetectorError> {
        let schema: Self = serde_json::from_str(text).map_err(|source| DetectorError::Json {
            what: "feature schema",
            source,
        })?;
        schema.config.check()?;
        if schema.trace_version != TRACE_VERSION {
            let reason = format!(
                "made for trace version {}, this program writes {TRACE_VERSION}",
                schema.trace_version
            );
            return Err(DetectorError::Profile { reason });
        }
        if schema.names != names(&schema.config) {
            let reason = "feature names differ from those that this program writes".to_owned();
            return Err(DetectorError::Profile { reason });
        }
        Ok(schema)
    }
}

/// Flattens a trace.
#[must_use]
pub fn features(trace: &ImageTrace) -> Features {
    let columns = names(&trace.config).len();
    let mut rows = Array2::zeros((trace.patches.len(), columns));
    for (mut row, patch) in rows.rows_mut().into_iter().zip(&trace.patches) {
        for (cell, value) in row.iter_mut().zip(patch_row(patch)) {
            *cell = value as f32;
        }
    }
    Features { rows }
}

/// Names of the columns: `picture.…` for the patch itself, `path.…` for the whole inversion,
/// `level0.…` and so on for its steps.
#[must_use]
pub fn names(config: &TraceConfig) -> Vec<String> {
    let mut out: Vec<String> = [
        "log_gradient",
        "luma_mean",
        "log_luma_deviation",
        "log_high_pass",
        "log_chroma_ratio",
        "high_pass_autocorrelation_right",
        "high_pass_autocorrelation_down",
        "blockiness_columns",
        "blockiness_rows",
        "flat_share",
        "clipped_share",
    ]
    .map(|name| format!("picture.{name}"))
    .to_vec();
    out.extend(spectrum_names("picture"));
    out.push("path.straightness".to_owned());
    for level in 0..config.noise_levels.len() {
        let last = level + 1 == config.noise_levels.len();
        out.extend(step_names(&format!("level{level}"), last));
    }
    out
}

fn step_names(prefix: &str, last: bool) -> Vec<String> {
    let mut out: Vec<String> = [
        "log_rms",
        "evenness",
        "log_kurtosis",
        "autocorrelation_right1",
        "autocorrelation_right2",
        "autocorrelation_down1",
        "autocorrelation_down2",
        "autocorrelation_diagonal",
        "autocorrelation_antidiagonal",
        "correlation_red_green",
        "correlation_red_blue",
        "correlation_green_blue",
        "correlation_with_luma",
        "correlation_with_step",
        "correlation_with_high_pass",
        "phase2_spread",
        "phase2_diagonals",
        "phase8_rows",
        "phase8_columns",
    ]
    .map(|name| format!("{prefix}.{name}"))
    .to_vec();
    out.extend(spectrum_names(prefix));
    if !last {
        out.extend(["cosine_to_next", "log_step_error"].map(|name| format!("{prefix}.{name}")));
    }
    out
}

fn spectrum_names(prefix: &str) -> Vec<String> {
    let radial = (0..RADIAL_BINS).map(|bin| format!("{prefix}.radial{bin}"));
    let axis = PEAK_DIVISORS.map(|divisor| format!("{prefix}.axis_peak{divisor}"));
    let diagonal = PEAK_DIVISORS.map(|divisor| format!("{prefix}.diagonal_peak{divisor}"));
    radial.chain(axis).chain(diagonal).collect()
}

fn patch_row(patch: &PatchTrace) -> Vec<f64> {
    let mut out = picture_row(&patch.picture);
    out.push(patch.straightness);
    for step in &patch.steps {
        out.extend(step_row(step));
    }
    out
}

fn picture_row(picture: &PictureStatistics) -> Vec<f64> {
    let mut out = vec![
        picture.log_gradient,
        picture.luma_mean,
        picture.log_luma_deviation,
        picture.log_high_pass,
        picture.log_chroma_ratio,
    ];
    out.extend(picture.high_pass_autocorrelation);
    out.extend(picture.blockiness);
    out.extend([picture.flat_share, picture.clipped_share]);
    out.extend(spectrum_row(&picture.spectrum));
    out
}

fn step_row(step: &TraceStep) -> Vec<f64> {
    let mut out = vec![step.log_rms, step.evenness, step.log_kurtosis];
    out.extend(step.autocorrelation);
    out.extend(step.channel_correlation);
    out.extend(step.picture_correlation);
    out.extend(step.phase_2);
    out.extend(step.phase_8);
    out.extend(spectrum_row(&step.spectrum));
    out.extend(step.cosine_to_next);
    out.extend(step.log_step_error);
    out
}

fn spectrum_row(spectrum: &SpectrumStatistics) -> Vec<f64> {
    let mut out = spectrum.radial.clone();
    out.extend(spectrum.axis_peaks);
    out.extend(spectrum.diagonal_peaks);
    out
}
