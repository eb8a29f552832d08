//! What the crate refuses, and why.

/// Every way in which a trace, a score or a profile can be refused.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The pixel buffer does not have three bytes for each pixel.
    #[error("{width}x{height} RGB pixels need {expected} bytes, found {found}")]
    PixelBytes {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes that the sizes ask for.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// A trace configuration that cannot be run.
    #[error("trace configuration refused: {reason}")]
    Config {
        /// Which rule it broke.
        reason: &'static str,
    },
    /// The noise predictor failed.
    #[error("photo prior failed at noise level {noise_level}")]
    Prediction {
        /// Noise level of the step.
        noise_level: f64,
        /// What the predictor said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The noise predictor answered with another shape or with values that are not finite.
    #[error("photo prior answered at noise level {noise_level} with {what}")]
    BadPrediction {
        /// Noise level of the step.
        noise_level: f64,
        /// What was wrong.
        what: &'static str,
    },
    /// The head gave another number of raw scores than there are patches, or one not finite.
    #[error("{patches} patches need as many finite raw scores, found {found}")]
    RawScores {
        /// Patches of the trace.
        patches: usize,
        /// Finite scores that came.
        found: usize,
    },
    /// Features, calibration or thresholds were made for another version or another length.
    #[error("detector profile refused: {reason}")]
    Profile {
        /// What does not fit.
        reason: String,
    },
    /// A JSON document cannot be read.
    #[error("{what} cannot be read as JSON")]
    Json {
        /// Which document.
        what: &'static str,
        /// What the reader said.
        source: serde_json::Error,
    },
}
