//! From raw scores to a verdict.

use serde::{Deserialize, Serialize};

use crate::calibration::{Calibration, StratumThresholds, Thresholds, mean_row};
use crate::error::DetectorError;
use crate::evidence::Evidence;
use crate::features::{FeatureSchema, Features};
use crate::heatmap::Heatmap;
use crate::patches::Obstacle;
use crate::trace::ImageTrace;

/// The decision under frozen thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The probability is at or above the stratum's upper threshold.
    LikelyGenerated,
    /// The probability is at or below the stratum's lower threshold.
    LikelyNotGenerated,
    /// In between, or nothing could be measured.
    Inconclusive,
}

/// Why the verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// At or above the upper threshold.
    AboveThreshold,
    /// At or below the lower threshold.
    BelowThreshold,
    /// Between the thresholds.
    BetweenThresholds,
    /// At this quality the detector is not reliable enough for the verdict that the score leans to.
    QualityTooLow,
    /// Smaller than one patch.
    TooSmall,
    /// Every patch is empty or clipped.
    NoTexture,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LikelyGenerated => "LikelyGenerated",
            Self::LikelyNotGenerated => "LikelyNotGenerated",
            Self::Inconclusive => "Inconclusive",
        })
    }
}

impl Reason {
    /// A sentence for people.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::AboveThreshold => {
                "the score is above what all but few real pictures of this quality reach"
            }
            Self::BelowThreshold => {
                "the score is below what all but few generated pictures of this quality reach"
            }
            Self::BetweenThresholds => "real and generated pictures both reach this score",
            Self::QualityTooLow => "at this quality no score is reliable enough for a verdict",
            Self::TooSmall => "too small: the picture is smaller than one patch",
            Self::NoTexture => "no texture: every patch is empty or clipped",
        }
    }
}

/// The frozen numbers of a detector, all of one folder.
#[derive(Clone, Debug)]
pub struct DetectorProfile {
    /// Name and version, for example `photo-prior-trees 1`.
    pub detector_version: String,
    /// Columns of the features.
    pub schema: FeatureSchema,
    /// Calibration of the raw score.
    pub calibration: Calibration,
    /// Thresholds of the verdict.
    pub thresholds: Thresholds,
}

impl DetectorProfile {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`DetectorError::Profile`] where they were not made for one another.
    pub fn new(
        detector_version: String,
        schema: FeatureSchema,
        calibration: Calibration,
        thresholds: Thresholds,
    ) -> Result<Self, DetectorError> {
        if calibration.quality.weights.len() != schema.names.len() {
            let reason = format!(
                "{} quality weights for {} features",
                calibration.quality.weights.len(),
                schema.names.len()
            );
            return Err(DetectorError::Profile { reason });
        }
        let missing = calibration
            .strata
            .iter()
            .find(|s| thresholds.of(&s.name).is_none());
        if let Some(stratum) = missing {
            let reason = format!("no thresholds for stratum {}", stratum.name);
            return Err(DetectorError::Profile { reason });
        }
        Ok(Self {
            detector_version,
            schema,
            calibration,
            thresholds,
        })
    }
}

/// The answer about one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// The decision.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Calibrated probability of being generated, at equal base rates; absent where nothing could
    /// be measured.
    pub probability: Option<f32>,
    /// Mean of the patches' raw scores.
    pub raw_score: Option<f32>,
    /// Name and version of the detector.
    pub detector_version: String,
    /// Version of the calibration.
    pub calibration_version: String,
    /// Version of the thresholds.
    pub thresholds_version: String,
    /// Findings beside the probability.
    pub evidence: Vec<Evidence>,
    /// Where the patches lie and what each alone gave.
    pub heatmap: Heatmap,
    /// What the detector does not look for: [`crate::SCOPE`].
    pub scope: String,
}

/// Decides about a picture. `patch_scores` are the head's raw scores of `rows`, in order.
/// The evidence in the answer begins with the trace; add other findings behind it.
///
/// # Errors
/// [`DetectorError::RawScores`] where scores and patches differ in number or a score is not finite.
pub fn assess(
    trace: &ImageTrace,
    features: &Features,
    patch_scores: &[f32],
    profile: &DetectorProfile,
) -> Result<Assessment, DetectorError> {
    let found = patch_scores
        .iter()
        .filter(|score| score.is_finite())
        .count();
    if found != trace.patches.len() || patch_scores.len() != found {
        return Err(DetectorError::RawScores {
            patches: trace.patches.len(),
            found,
        });
    }
    let mut assessment = Assessment {
        verdict: Verdict::Inconclusive,
        reason: Reason::NoTexture,
        probability: None,
        raw_score: None,
        detector_version: profile.detector_version.clone(),
        calibration_version: profile.calibration.version.clone(),
        thresholds_version: profile.thresholds.version.clone(),
        evidence: Vec::new(),
        heatmap: Heatmap::of(trace, patch_scores),
        scope: crate::SCOPE.to_owned(),
    };
    if patch_scores.is_empty() {
        if trace.obstacle == Some(Obstacle::TooSmall) {
            assessment.reason = Reason::TooSmall;
        }
        return Ok(assessment);
    }
    // 1. Pool: the mean of the patches' raw scores.
    let sum: f64 = patch_scores.iter().map(|score| f64::from(*score)).sum();
    let raw_score = sum / patch_scores.len() as f64;
    // 2. Calibrate for the measured quality.
    let quality = profile
        .calibration
        .quality
        .measure(mean_row(features.rows.view()).view());
    let stratum = profile.calibration.stratum(quality);
    let probability = stratum.probability(raw_score);
    // 3. Decide.
    let thresholds = profile
        .thresholds
        .of(&stratum.name)
        .expect("new() checked every stratum");
    (assessment.verdict, assessment.reason) = decide(probability, thresholds);
    assessment.probability = Some(probability as f32);
    assessment.raw_score = Some(raw_score as f32);
    let range = patch_scores
        .iter()
        .fold([f32::MAX, f32::MIN], |range, score| {
            [range[0].min(*score), range[1].max(*score)]
        });
    assessment.evidence.push(Evidence::PriorTrace {
        raw_score: raw_score as f32,
        raw_score_range: range,
        patches: patch_scores.len(),
        measured_quality: quality as f32,
        stratum: stratum.name.clone(),
    });
    Ok(assessment)
}

fn decide(probability: f64, thresholds: &StratumThresholds) -> (Verdict, Reason) {
    match (thresholds.generated_min, thresholds.not_generated_max) {
        (Some(high), _) if probability >= high => {
            (Verdict::LikelyGenerated, Reason::AboveThreshold)
        }
        (_, Some(low)) if probability <= low => {
            (Verdict::LikelyNotGenerated, Reason::BelowThreshold)
        }
        (None, _) if probability >= 0.5 => (Verdict::Inconclusive, Reason::QualityTooLow),
        (_, None) if probability < 0.5 => (Verdict::Inconclusive, Reason::QualityTooLow),
        _ => (Verdict::Inconclusive, Reason::BetweenThresholds),
    }
}
