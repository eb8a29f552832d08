//! From raw scores to a verdict.

use serde::{Deserialize, Serialize};

use crate::calibration::{Calibration, StratumThresholds, Thresholds, mean_row};
use crate::error::DetectorError;
use crate::evidence::Evidence;
use crate::features::{FeatureSchema, Features};
use crate::fusion::Fusion;
use crate::heatmap::Heatmap;
use crate::patches::Obstacle;
use crate::semantic::{SemanticAnswer, SemanticScores};
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
    /// Trace and semantic expert alone would decide against each other.
    ExpertsDisagree,
    /// A finding beside the probability speaks against the verdict that the probability gives.
    EvidenceConflicts,
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
            Self::ExpertsDisagree => {
                "the trace and what the picture shows point in opposite directions"
            }
            Self::EvidenceConflicts => {
                "the score and a mark or record found point in opposite directions"
            }
        }
    }
}

/// The frozen numbers of a detector, all of one folder.
#[derive(Clone, Debug)]
pub struct DetectorProfile {
    /// Name and version, for example `trace-and-views 2`.
    pub detector_version: String,
    /// Columns of the features.
    pub schema: FeatureSchema,
    /// Calibration of the raw score.
    pub calibration: Calibration,
    /// Thresholds of the verdict where the trace speaks alone.
    pub thresholds: Thresholds,
    /// How the semantic expert's raw score joins the trace's, where the detector has one.
    pub fusion: Option<Fusion>,
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
            fusion: None,
        })
    }

    /// Adds the fusion with a semantic expert.
    ///
    /// # Errors
    /// [`DetectorError::Profile`] where a stratum of the calibration is missing in it.
    pub fn with_fusion(mut self, fusion: Fusion) -> Result<Self, DetectorError> {
        let mut strata = self.calibration.strata.iter();
        if let Some(stratum) = strata.find(|stratum| fusion.of(&stratum.name).is_none()) {
            let reason = format!("no fusion for stratum {}", stratum.name);
            return Err(DetectorError::Profile { reason });
        }
        self.fusion = Some(fusion);
        Ok(self)
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
    /// Mean of the patches' raw scores: the trace's, without the semantic expert's.
    pub raw_score: Option<f32>,
    /// The thresholds that the probability was held against; absent where nothing was measured.
    #[serde(default)]
    pub thresholds: Option<StratumThresholds>,
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

/// What the experts said about a picture.
#[derive(Clone, Debug)]
pub struct Scores<'a> {
    /// The head's raw scores of the trace's patches, in order.
    pub patches: &'a [f32],
    /// The semantic expert's part.
    pub semantic: SemanticAnswer,
}

/// Decides about a picture. The evidence in the answer begins with the trace and the semantic expert;
/// add other findings behind them, then call [`Assessment::heed_conflicts`].
///
/// # Errors
/// [`DetectorError::RawScores`] where scores and patches (or views) differ in number or a score is
/// not finite.
pub fn assess(
    trace: &ImageTrace,
    features: &Features,
    scores: &Scores<'_>,
    profile: &DetectorProfile,
) -> Result<Assessment, DetectorError> {
    let patch_scores = scores.patches;
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
    let mut assessment = Assessment::undecided(trace, patch_scores, profile);
    if patch_scores.is_empty() {
        return Ok(assessment);
    }
    // 1. Pool: the mean of the patches' raw scores.
    let sum: f64 = patch_scores.iter().map(|score| f64::from(*score)).sum();
    let raw_score = sum / patch_scores.len() as f64;
    assessment.raw_score = Some(raw_score as f32);
    // 2. Calibrate for the measured quality and decide as if the trace were alone.
    let quality = profile
        .calibration
        .quality
        .measure(mean_row(features.rows.view()).view());
    let stratum = profile.calibration.stratum(quality);
    let thresholds = profile
        .thresholds
        .of(&stratum.name)
        .expect("new() checked every stratum");
    let alone = Decision::under(thresholds, stratum.probability(raw_score));
    let range = span(patch_scores);
    assessment.evidence.push(Evidence::PriorTrace {
        raw_score: raw_score as f32,
        raw_score_range: range,
        patches: patch_scores.len(),
        measured_quality: quality as f32,
        stratum: stratum.name.clone(),
    });
    // 3. Join the semantic expert, where it spoke.
    let decision = match (&scores.semantic, &profile.fusion) {
        (SemanticAnswer::Scores(semantic), Some(fusion)) => {
            let joined = join(&stratum.name, raw_score, semantic, fusion)?;
            assessment.calibration_version = format!("fusion {}", fusion.version);
            assessment.thresholds_version = format!("fusion {}", fusion.thresholds.version);
            assessment.evidence.push(semantic_evidence(semantic)?);
            joined.unless_opposed_by(&alone)
        }
        (SemanticAnswer::Silent(silence), _) => {
            assessment
                .evidence
                .push(Evidence::SemanticSilent { silence: *silence });
            alone
        }
        _ => alone,
    };
    assessment.verdict = decision.verdict;
    assessment.reason = decision.reason;
    assessment.probability = Some(decision.probability as f32);
    assessment.thresholds = Some(decision.thresholds);
    Ok(assessment)
}

impl Assessment {
    /// The answer where nothing could be measured.
    fn undecided(trace: &ImageTrace, patch_scores: &[f32], profile: &DetectorProfile) -> Self {
        let reason = match trace.obstacle {
            Some(Obstacle::TooSmall) => Reason::TooSmall,
            _ => Reason::NoTexture,
        };
        Self {
            verdict: Verdict::Inconclusive,
            reason,
            probability: None,
            raw_score: None,
            thresholds: None,
            detector_version: profile.detector_version.clone(),
            calibration_version: profile.calibration.version.clone(),
            thresholds_version: profile.thresholds.version.clone(),
            evidence: Vec::new(),
            heatmap: Heatmap::of(trace, patch_scores),
            scope: crate::SCOPE.to_owned(),
        }
    }

    /// Makes a verdict `Inconclusive` that a finding beside the probability speaks against: a score
    /// and a record that contradict each other need a person.
    pub fn heed_conflicts(&mut self) {
        let opposed = match self.verdict {
            Verdict::LikelyNotGenerated => self.evidence.iter().any(Evidence::says_generated),
            Verdict::LikelyGenerated => self.evidence.iter().any(Evidence::says_not_generated),
            Verdict::Inconclusive => false,
        };
        if opposed {
            self.verdict = Verdict::Inconclusive;
            self.reason = Reason::EvidenceConflicts;
        }
    }
}

/// A probability and what thresholds make of it.
struct Decision {
    probability: f64,
    verdict: Verdict,
    reason: Reason,
    thresholds: StratumThresholds,
}

impl Decision {
    fn under(thresholds: &StratumThresholds, probability: f64) -> Self {
        let (verdict, reason) = decide(probability, thresholds);
        Self {
            probability,
            verdict,
            reason,
            thresholds: thresholds.clone(),
        }
    }

    /// Two experts of whom one alone would say the opposite give no verdict.
    fn unless_opposed_by(self, other: &Self) -> Self {
        let opposed = matches!(
            (self.verdict, other.verdict),
            (Verdict::LikelyGenerated, Verdict::LikelyNotGenerated)
                | (Verdict::LikelyNotGenerated, Verdict::LikelyGenerated)
        );
        if !opposed {
            return self;
        }
        Self {
            verdict: Verdict::Inconclusive,
            reason: Reason::ExpertsDisagree,
            ..self
        }
    }
}

fn join(
    stratum: &str,
    trace: f64,
    semantic: &SemanticScores,
    fusion: &Fusion,
) -> Result<Decision, DetectorError> {
    let raw_score = pooled(semantic)?;
    let (weights, thresholds) = fusion
        .of(stratum)
        .expect("with_fusion() checked every stratum");
    let probability = weights.probability(trace, raw_score);
    Ok(Decision::under(thresholds, probability))
}

fn pooled(semantic: &SemanticScores) -> Result<f64, DetectorError> {
    semantic.raw_score().ok_or(DetectorError::RawScores {
        patches: semantic.views.len(),
        found: semantic.raw_scores.len(),
    })
}

fn semantic_evidence(semantic: &SemanticScores) -> Result<Evidence, DetectorError> {
    Ok(Evidence::SemanticViews {
        raw_score: pooled(semantic)? as f32,
        raw_score_range: span(&semantic.raw_scores),
        views: semantic.views.len(),
    })
}

/// Smallest and largest.
fn span(scores: &[f32]) -> [f32; 2] {
    scores.iter().fold([f32::MAX, f32::MIN], |range, score| {
        [range[0].min(*score), range[1].max(*score)]
    })
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
