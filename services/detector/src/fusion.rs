//! Both experts' raw scores as one probability (`fusion.json`).

use serde::{Deserialize, Serialize};

use crate::calibration::{StratumThresholds, Thresholds};
use crate::error::DetectorError;

/// Logistic regression on both raw scores in one range of measured quality: probability =
/// 1 / (1 + exp(-(trace_weight * trace + semantic_weight * semantic + intercept))), at equal base
/// rates of both classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionStratum {
    /// Name of the calibration's stratum.
    pub name: String,
    /// Weight of the trace's raw score, not negative.
    pub trace_weight: f64,
    /// Weight of the semantic raw score, not negative.
    pub semantic_weight: f64,
    /// Log-odds where both raw scores are 0.
    pub intercept: f64,
}

impl FusionStratum {
    /// Calibrated probability of two raw scores.
    #[must_use]
    pub fn probability(&self, trace: f64, semantic: f64) -> f64 {
        let log_odds = self.trace_weight * trace + self.semantic_weight * semantic + self.intercept;
        1.0 / (1.0 + (-log_odds).exp())
    }
}

/// Fusion of trace and semantic expert with the thresholds of the fused probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fusion {
    /// Version, named in every answer that rests on it.
    pub version: String,
    /// One for each stratum of the calibration.
    pub strata: Vec<FusionStratum>,
    /// Thresholds on the fused probability, one for each stratum.
    pub thresholds: Thresholds,
}

impl Fusion {
    /// Reads `fusion.json`.
    ///
    /// # Errors
    /// [`DetectorError::Json`], and [`DetectorError::Profile`] for negative weights, strata without
    /// thresholds, and thresholds that cross.
    pub fn parse(text: &str) -> Result<Self, DetectorError> {
        let fusion: Self = serde_json::from_str(text).map_err(|source| DetectorError::Json {
            what: "fusion",
            source,
        })?;
        let refused = |reason: String| Err(DetectorError::Profile { reason });
        for stratum in &fusion.strata {
            let weights = [stratum.trace_weight, stratum.semantic_weight];
            if weights
                .iter()
                .any(|weight| !weight.is_finite() || *weight < 0.0)
            {
                let name = &stratum.name;
                return refused(format!(
                    "fusion weights of stratum {name} must be 0 or more"
                ));
            }
            if fusion.thresholds.of(&stratum.name).is_none() {
                return refused(format!("no fused thresholds for stratum {}", stratum.name));
            }
        }
        fusion.thresholds.check()?;
        Ok(fusion)
    }

    /// Weights and thresholds of a stratum.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<(&FusionStratum, &StratumThresholds)> {
        let stratum = self.strata.iter().find(|stratum| stratum.name == name)?;
        Some((stratum, self.thresholds.of(name)?))
    }
}
