//! The range of the trace curve over photographs: what a picture's curve is drawn against. It
//! explains a score and decides nothing.

use serde::{Deserialize, Serialize};

use crate::config::TraceConfig;
use crate::error::DetectorError;
use crate::trace::ImageTrace;

/// The range of one stratum of measured quality. Each list holds one value for each noise level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StratumRange {
    /// Name, as in the calibration.
    pub name: String,
    /// Photographs that the range was measured on.
    pub copies: u32,
    /// One in twenty photographs lies below.
    pub lower: Vec<f64>,
    /// Half of them lie below.
    pub median: Vec<f64>,
    /// One in twenty lies above.
    pub upper: Vec<f64>,
}

/// Ranges of the trace curve (`trace_range.json`): natural logarithms of the root mean square of
/// the predicted noise, mean over the patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRange {
    /// Version.
    pub version: String,
    /// The noise levels of the curve.
    pub noise_levels: Vec<f64>,
    /// One range for each stratum.
    pub strata: Vec<StratumRange>,
}

impl TraceRange {
    /// Reads `trace_range.json`.
    ///
    /// # Errors
    /// [`DetectorError::Json`], and [`DetectorError::Profile`] for noise levels other than the
    /// detector's, for lists of another length, and for ends in the wrong order.
    pub fn parse(text: &str, config: &TraceConfig) -> Result<Self, DetectorError> {
        let range: Self = serde_json::from_str(text).map_err(|source| DetectorError::Json {
            what: "trace range",
            source,
        })?;
        let refuse = |reason: String| Err(DetectorError::Profile { reason });
        if range.noise_levels != config.noise_levels {
            return refuse("the trace range is one of other noise levels".to_owned());
        }
        for stratum in &range.strata {
            let lists = [&stratum.lower, &stratum.median, &stratum.upper];
            let levels = range.noise_levels.len();
            let in_order = (0..levels).all(|level| {
                let at = |list: &Vec<f64>| list.get(level).copied().unwrap_or(f64::NAN);
                at(lists[0]) <= at(lists[1]) && at(lists[1]) <= at(lists[2])
            });
            if !in_order || lists.iter().any(|list| list.len() != levels) {
                let name = &stratum.name;
                return refuse(format!("the trace range of stratum {name} is not in order"));
            }
        }
        Ok(range)
    }

    /// The range of a stratum.
    #[must_use]
    pub fn of(&self, stratum: &str) -> Option<&StratumRange> {
        self.strata.iter().find(|range| range.name == stratum)
    }
}

/// The curve of a picture, one value for each noise level: natural logarithm of the root mean
/// square of the predicted noise, mean over the patches. Empty for a trace without patches.
#[must_use]
pub fn curve(trace: &ImageTrace) -> Vec<f64> {
    let patches = trace.patches.len();
    if patches == 0 {
        return Vec::new();
    }
    let level = |index: usize| {
        let values = trace
            .patches
            .iter()
            .filter_map(|patch| patch.steps.get(index));
        values.map(|step| step.log_rms).sum::<f64>() / patches as f64
    };
    (0..trace.config.noise_levels.len()).map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lower: &str) -> String {
        format!(
            r#"{{"version":"1","noise_levels":[0.01,0.02,0.04,0.08,0.15,0.3],"strata":[
            {{"name":"high","copies":9,"lower":{lower},"median":[0,0,0,0,0,0],"upper":[1,1,1,1,1,1]}}]}}"#
        )
    }

    #[test]
    fn a_range_is_found_by_its_stratum() {
        let range = TraceRange::parse(&text("[-1,-1,-1,-1,-1,-1]"), &TraceConfig::default());
        let range = range.unwrap();
        assert_eq!(range.of("high").map(|range| range.copies), Some(9));
        assert_eq!(range.of("low"), None);
    }

    #[test]
    fn a_range_that_does_not_fit_the_detector_is_refused() {
        let config = TraceConfig::default();
        for lower in ["[-1,-1]", "[-1,-1,-1,-1,-1,2]"] {
            assert!(TraceRange::parse(&text(lower), &config).is_err(), "{lower}");
        }
        let other = TraceConfig {
            noise_levels: vec![0.1, 0.2],
            ..TraceConfig::default()
        };
        assert!(TraceRange::parse(&text("[-1,-1,-1,-1,-1,-1]"), &other).is_err());
    }
}
