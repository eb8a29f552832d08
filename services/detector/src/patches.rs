//! Which patches of a picture are looked at.
//!
//! Rich and flat regions keep a decoder's traces differently (PatchCraft, Zhong et al. 2023, arXiv
//! 2311.12397), so both ends of the ranking by texture are taken, and some between.

use serde::{Deserialize, Serialize};

use crate::config::TraceConfig;
use crate::picture::PictureView;

/// Patches start at multiples of this, so that 2x2 and 8x8 phases keep the picture's own origin.
const GRID: usize = 8;

/// More clipped pixels than this make a patch useless: clipping erases noise.
const CLIPPED_SHARE_MAX: f64 = 0.5;

/// Mean absolute luma step, in grey levels, below which a patch is empty: a quarter of what
/// rounding to 8 bits alone leaves.
const STEP_MIN: f64 = 0.06;

/// Why a patch was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Among the patches with the most texture.
    Richest,
    /// Among the patches with the least texture.
    Flattest,
    /// From the ranks between.
    Spread,
}

/// A chosen square of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Left column.
    pub x: usize,
    /// Top row.
    pub y: usize,
    /// Why it was taken.
    pub selection: Selection,
}

/// Why a picture gives no patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// Smaller than one patch.
    TooSmall,
    /// Every patch is empty or clipped.
    NoTexture,
}

/// Sums over cells of 8x8 pixels.
struct Cells {
    columns: usize,
    steps: Vec<f64>,
    clipped: Vec<f64>,
}

/// Chooses at most [`TraceConfig::patches_max`] places, in order of rising texture.
///
/// # Errors
/// The [`Obstacle`] where there is none.
pub fn choose(picture: &PictureView<'_>, config: &TraceConfig) -> Result<Vec<Place>, Obstacle> {
    let side = config.patch_side;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width < side || height < side {
        return Err(Obstacle::TooSmall);
    }
    let cells = Cells::of(picture);
    let (xs, ys) = (starts(width, side), starts(height, side));
    let mut candidates: Vec<(f64, usize, usize)> = ys
        .iter()
        .flat_map(|y| xs.iter().map(move |x| (*x, *y)))
        .filter_map(|(x, y)| {
            let (step, clipped) = cells.means(x, y, side);
            (clipped <= CLIPPED_SHARE_MAX && step >= STEP_MIN).then_some((step, x, y))
        })
        .collect();
    if candidates.is_empty() {
        return Err(Obstacle::NoTexture);
    }
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)).then(a.1.cmp(&b.1)));
    Ok(ranks(candidates.len(), config)
        .into_iter()
        .map(|(rank, selection)| Place {
            x: candidates[rank].1,
            y: candidates[rank].2,
            selection,
        })
        .collect())
}

/// Which ranks of `count` candidates are taken: few candidates are taken whole.
fn ranks(count: usize, config: &TraceConfig) -> Vec<(usize, Selection)> {
    let flattest = config.flattest.min(count);
    let richest = config.richest.min(count - flattest);
    let between = count - flattest - richest;
    let spread = config.spread.min(between);
    let mut chosen: Vec<_> = (0..flattest)
        .map(|rank| (rank, Selection::Flattest))
        .collect();
    chosen.extend((0..spread).map(|i| {
        let rank = flattest + (2 * i + 1) * between / (2 * spread);
        (rank, Selection::Spread)
    }));
    chosen.extend((count - richest..count).map(|rank| (rank, Selection::Richest)));
    chosen
}

/// Evenly spread starts along one axis, at most three quarters of a patch apart.
fn starts(length: usize, side: usize) -> Vec<usize> {
    let free = length - side;
    let gaps = free.div_ceil(side * 3 / 4);
    if gaps == 0 {
        return vec![0];
    }
    (0..=gaps).map(|i| free * i / gaps / GRID * GRID).collect()
}

impl Cells {
    fn of(picture: &PictureView<'_>) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let columns = width / GRID;
        let mut steps = vec![0.0; columns * (height / GRID)];
        let mut clipped = steps.clone();
        // Green stands for luma here: half of a camera's samples are green, and one channel is
        // a third of the work on a picture of many megapixels.
        let green = |x: usize, y: usize| i32::from(picture.pixel(x, y)[1]);
        for y in 0..height / GRID * GRID {
            let below = (y + 1).min(height - 1);
            for x in 0..columns * GRID {
                let cell = y / GRID * columns + x / GRID;
                let here = green(x, y);
                let right = green((x + 1).min(width - 1), y);
                let step = (here - right).abs() + (here - green(x, below)).abs();
                steps[cell] += f64::from(step) / 2.0;
                clipped[cell] += f64::from(u8::from(here == 0 || here == 255));
            }
        }
        Self {
            columns,
            steps,
            clipped,
        }
    }

    /// Mean step and clipped share of a patch whose corner lies on the grid.
    fn means(&self, x: usize, y: usize, side: usize) -> (f64, f64) {
        let (mut step, mut clipped) = (0.0, 0.0);
        for row in y / GRID..(y + side) / GRID {
            let at = row * self.columns + x / GRID;
            step += self.steps[at..at + side / GRID].iter().sum::<f64>();
            clipped += self.clipped[at..at + side / GRID].iter().sum::<f64>();
        }
        let pixels = (side * side) as f64;
        (step / pixels, clipped / pixels)
    }
}
