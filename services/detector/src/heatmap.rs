//! Where in the picture the patches were taken, and what the head said about each alone.

use serde::{Deserialize, Serialize};

use crate::trace::ImageTrace;

/// Raw scores of single patches. A patch score is the head's answer on that patch alone: it is not
/// calibrated, it is no probability, and one patch is much less certain than the picture. Places
/// between the patches were not looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heatmap {
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Side of each square in pixels.
    pub side: u32,
    /// The squares, which may overlap.
    pub cells: Vec<HeatmapCell>,
}

/// One square of a heatmap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeatmapCell {
    /// Left column in pixels.
    pub x: u32,
    /// Top row in pixels.
    pub y: u32,
    /// Raw score of this patch alone; above 0 leans to generated.
    pub raw_score: f32,
}

impl Heatmap {
    /// Puts the patch scores where the patches lie. Extra scores or patches are left out.
    #[must_use]
    pub fn of(trace: &ImageTrace, patch_scores: &[f32]) -> Self {
        let cells = trace
            .patches
            .iter()
            .zip(patch_scores)
            .map(|(patch, raw_score)| HeatmapCell {
                x: patch.place.x as u32,
                y: patch.place.y as u32,
                raw_score: *raw_score,
            });
        Self {
            width: trace.width,
            height: trace.height,
            side: trace.config.patch_side as u32,
            cells: cells.collect(),
        }
    }
}
