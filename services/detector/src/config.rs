//! How a trace is taken. The head is trained for exactly one configuration.

use serde::{Deserialize, Serialize};

use crate::error::DetectorError;

/// Settings of the inversion and of the choice of patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceConfig {
    /// Rising noise levels (standard deviation of the noise in a picture in [-1, 1]), each in
    /// (0, 1). 0.01 is about one grey level of 8-bit pixels, 0.3 is about 38.
    pub noise_levels: Vec<f64>,
    /// Side of a square patch in pixels, a multiple of 16.
    pub patch_side: usize,
    /// Pixels at each side of a patch that are left out of the statistics, because the prior's
    /// convolutions see padding there. A multiple of 8.
    pub border: usize,
    /// How many of the patches with the most texture are taken.
    pub richest: usize,
    /// How many of the patches with the least texture are taken.
    pub flattest: usize,
    /// How many patches are taken evenly from the ranks between.
    pub spread: usize,
}

impl Default for TraceConfig {
    /// Six levels, each about twice the one before, on at most six patches of 128 pixels: 36
    /// evaluations of the prior, most of what a score costs.
    fn default() -> Self {
        Self {
            noise_levels: vec![0.01, 0.02, 0.04, 0.08, 0.15, 0.3],
            patch_side: 128,
            border: 8,
            richest: 2,
            flattest: 2,
            spread: 2,
        }
    }
}

impl TraceConfig {
    /// The largest number of patches that a picture gives.
    #[must_use]
    pub fn patches_max(&self) -> usize {
        self.richest + self.flattest + self.spread
    }

    /// Side of the part of a patch that statistics are taken from.
    #[must_use]
    pub fn interior_side(&self) -> usize {
        self.patch_side.saturating_sub(2 * self.border)
    }

    /// Refuses settings that the statistics cannot work with.
    ///
    /// # Errors
    /// [`DetectorError::Config`] with the rule that was broken.
    pub fn check(&self) -> Result<(), DetectorError> {
        let rising = self.noise_levels.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = self
            .noise_levels
            .iter()
            .all(|level| *level > 0.0 && *level < 1.0);
        let reason = if self.noise_levels.len() < 2 || !rising || !inside {
            "noise levels must be at least two, rising, and between 0 and 1"
        } else if !self.patch_side.is_multiple_of(16) || !self.border.is_multiple_of(8) {
            "patch side must be a multiple of 16 and border a multiple of 8"
        } else if self.interior_side() < 48 {
            "the interior of a patch must be at least 48 pixels wide"
        } else if self.patches_max() == 0 {
            "at least one patch must be taken"
        } else {
            return Ok(());
        };
        Err(DetectorError::Config { reason })
    }
}
