//! Frozen numbers: quality measurement, calibration and thresholds.

use ndarray::{ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::error::DetectorError;

/// A linear estimate of a picture's compression quality from the mean of its feature rows. It is
/// measured from pixels, not read from the file, because re-saving hides what happened before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityModel {
    /// One weight for each feature.
    pub weights: Vec<f64>,
    /// Estimate where all features are 0.
    pub intercept: f64,
}

impl QualityModel {
    /// Estimate on the scale of JPEG quality, kept within 0 to 100.
    #[must_use]
    pub fn measure(&self, mean_row: ArrayView1<'_, f64>) -> f64 {
        let sum: f64 = self
            .weights
            .iter()
            .zip(mean_row)
            .map(|(weight, value)| weight * value)
            .sum();
        (sum + self.intercept).clamp(0.0, 100.0)
    }
}

/// Mean of the feature rows of a picture.
#[must_use]
pub fn mean_row(rows: ArrayView2<'_, f32>) -> ndarray::Array1<f64> {
    let count = rows.nrows().max(1) as f64;
    rows.mapv(f64::from).sum_axis(Axis(0)) / count
}

/// Platt's calibration for one range of measured quality (Platt 1999): probability =
/// 1 / (1 + exp(-(slope * raw score + intercept))), at equal base rates of both classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stratum {
    /// Name, for example `web`.
    pub name: String,
    /// Smallest measured quality of the stratum; the strata are listed from the highest down and
    /// the last one begins at 0.
    pub quality_min: f64,
    /// Platt's slope, not negative.
    pub slope: f64,
    /// Platt's intercept.
    pub intercept: f64,
}

/// Calibration of raw scores (`calibration.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Version, named in every answer.
    pub version: String,
    /// Measures quality.
    pub quality: QualityModel,
    /// From the highest quality to the lowest.
    pub strata: Vec<Stratum>,
}

impl Calibration {
    /// Reads `calibration.json`.
    ///
    /// # Errors
    /// [`DetectorError::Json`], and [`DetectorError::Profile`] for strata out of order.
    pub fn parse(text: &str) -> Result<Self, DetectorError> {
        let calibration: Self =
            serde_json::from_str(text).map_err(|source| DetectorError::Json {
                what: "calibration",
                source,
            })?;
        let falling = calibration
            .strata
            .windows(2)
            .all(|s| s[0].quality_min > s[1].quality_min);
        let reaches_zero = calibration
            .strata
            .last()
            .is_some_and(|s| s.quality_min <= 0.0);
        let slopes = calibration.strata.iter().all(|s| s.slope >= 0.0);
        if !(falling && reaches_zero && slopes) {
            let reason = "calibration strata must fall to quality 0 with slopes of 0 or more";
            return Err(DetectorError::Profile {
                reason: reason.to_owned(),
            });
        }
        Ok(calibration)
    }

    /// The stratum of a measured quality.
    #[must_use]
    pub fn stratum(&self, quality: f64) -> &Stratum {
        self.strata
            .iter()
            .find(|stratum| quality >= stratum.quality_min)
            .or(self.strata.last())
            .expect("parse() refuses a calibration without strata")
    }
}

impl Stratum {
    /// Calibrated probability of a raw score.
    #[must_use]
    pub fn probability(&self, raw_score: f64) -> f64 {
        1.0 / (1.0 + (-(self.slope * raw_score + self.intercept)).exp())
    }
}

/// Thresholds of the verdict in one stratum, on calibrated probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StratumThresholds {
    /// Name of the stratum.
    pub name: String,
    /// At or above: likely generated. Absent: no score of this stratum is strong enough.
    pub generated_min: Option<f64>,
    /// At or below: likely not generated. Absent: no score of this stratum is strong enough.
    pub not_generated_max: Option<f64>,
}

/// Thresholds (`thresholds.json`), frozen on validation pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Version, named in every answer.
    pub version: String,
    /// One for each stratum of the calibration.
    pub strata: Vec<StratumThresholds>,
}

impl Thresholds {
    /// Reads `thresholds.json`.
    ///
    /// # Errors
    /// [`DetectorError::Json`], and [`DetectorError::Profile`] where a lower threshold is not below
    /// the upper one.
    pub fn parse(text: &str) -> Result<Self, DetectorError> {
        let thresholds: Self =
            serde_json::from_str(text).map_err(|source| DetectorError::Json {
                what: "thresholds",
                source,
            })?;
        thresholds.check()?;
        Ok(thresholds)
    }

    /// Refuses thresholds that cross.
    pub(crate) fn check(&self) -> Result<(), DetectorError> {
        let crossed = self.strata.iter().find(|stratum| {
            matches!((stratum.not_generated_max, stratum.generated_min), (Some(low), Some(high)) if low >= high)
        });
        if let Some(stratum) = crossed {
            let reason = format!("thresholds of stratum {} cross", stratum.name);
            return Err(DetectorError::Profile { reason });
        }
        Ok(())
    }

    /// The thresholds of a stratum.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&StratumThresholds> {
        self.strata.iter().find(|stratum| stratum.name == name)
    }
}
