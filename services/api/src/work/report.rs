//! What was found about an upload, as the page shows it and a case keeps it.

use detector::calibration::StratumThresholds;
use detector::{Assessment, Evidence, ImageTrace, StratumRange};
use media::{Decoded, Format, Orientation};
use provenance::Digest;
use serde::{Deserialize, Serialize};

use super::Examination;

/// The trace of a picture as one curve, and the range of photographs to hold it against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TraceCurve {
    /// Noise levels, rising: standard deviations of noise in a picture in [-1, 1].
    pub noise_levels: Vec<f64>,
    /// At each level the natural logarithm of the root mean square of the predicted noise, mean
    /// over the patches.
    pub log_rms: Vec<f64>,
    /// The same for nine tenths of the photographs of this measured quality that the detector was
    /// not fitted on; null where the detector's folder does not say.
    #[schema(value_type = Option<Object>)]
    pub range: Option<StratumRange>,
}

impl TraceCurve {
    /// The curve of a trace; none where no patch was looked at.
    #[must_use]
    pub fn new(trace: &ImageTrace, range: Option<StratumRange>) -> Option<Self> {
        let log_rms = detector::range::curve(trace);
        (!log_rms.is_empty()).then(|| Self {
            noise_levels: trace.config.noise_levels.clone(),
            log_rms,
            range,
        })
    }
}

/// How the file was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPicture {
    /// Format by content.
    pub format: Format,
    /// Width in pixels, as stored.
    pub width: u32,
    /// Height in pixels, as stored.
    pub height: u32,
    /// Which side is up.
    pub orientation: Orientation,
    /// Digest of the pixels as the file stores them.
    pub pixel_sha256: Digest,
    /// What was done to the picture before it was examined, a lower-case sentence each.
    pub notes: Vec<String>,
}

impl ReadPicture {
    fn new(decoded: &Decoded, pixel_sha256: Digest) -> Self {
        Self {
            format: decoded.format,
            width: decoded.width,
            height: decoded.height,
            orientation: decoded.orientation,
            pixel_sha256,
            notes: decoded.notes(),
        }
    }
}

/// Everything about a score that can be shown again without the upload and without the models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// Verdict, probability, evidence and heatmap.
    pub assessment: Assessment,
    /// The thresholds that decided; none where nothing was measured.
    pub thresholds: Option<StratumThresholds>,
    /// The trace as a curve.
    pub curve: Option<TraceCurve>,
    /// How the file was read.
    pub picture: ReadPicture,
}

impl ScoreReport {
    /// The report of an examination.
    #[must_use]
    pub fn new(examination: &Examination) -> Self {
        let assessment = &examination.assessment;
        Self {
            assessment: assessment.clone(),
            thresholds: assessment.thresholds.clone(),
            curve: examination.curve.clone(),
            picture: ReadPicture::new(&examination.decoded, examination.pixel_sha256),
        }
    }
}

/// The stratum that the picture's measured quality falls into.
pub(super) fn stratum(assessment: &Assessment) -> Option<&str> {
    let found = &mut assessment.evidence.iter();
    found.find_map(|finding| match finding {
        Evidence::PriorTrace { stratum, .. } => Some(stratum.as_str()),
        _ => None,
    })
}
