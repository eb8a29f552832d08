//! Copies of pictures in which format, size and compression say nothing about the label.
//!
//! Originals give the label away: photographs are JPEG files of odd sizes, generated pictures lossless files of 512 or
//! 1024 pixels. So every copy, whatever its label, is made by one random recipe, as
//! `models/training/detector/whole_copies.py` does, drawn anew for each tier:
//!
//! 1. history: a picture that was never compressed with loss is compressed with the tables of a random photograph, as
//!    often as photographs have such a history themselves;
//! 2. size: half of the larger pictures are reduced as a whole, the others keep their pixels; half of all are
//!    rescaled besides, and of the hard tier all;
//! 3. cut: a rectangle at a random offset. Its sides come from the draw alone, so that they are the same for every
//!    picture that is large enough at all;
//! 4. delivery: `clean`: the tables of a random photograph, or without loss; `web`: JPEG of quality 60; `hard`: JPEG
//!    of quality 40.

use media::{JpegTables, Limits, decode, encode_jpeg_with_tables, encode_png, resample};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::draws::Draws;
use crate::error::TrainingError;

/// Names the recipe; a change of any step needs a new one, so that older measurements are not mixed with newer.
pub const RECIPE_VERSION: &str = "whole-copies-1";
/// Pictures with a shorter side are too small for the recipe.
pub const SIDE_MIN: u32 = 256;
/// Larger pictures are looked at through a window of this side, as the recipe's own sizes are small.
const WINDOW_SIDE: u32 = 2000;
/// Pictures whose shorter side is longer than this are reduced as a whole half of the time, to a side in between.
const LARGE_SIDE: u32 = 420;
const REDUCED_SIDES: (f64, f64) = (336.0, 384.0);
/// Side of a cut before its aspect, and the aspect.
const CUT_SIDES: (f64, f64) = (272.0, 337.0);
const ASPECTS: (f64, f64) = (0.8, 1.25);
/// Share of copies that keep their scale, and of clean ones that are delivered without loss.
const NATIVE_SHARE: f64 = 0.5;
const LOSSLESS_SHARE: f64 = 0.3;
const WHOLE_SHARE: f64 = 0.5;
const WEB_QUALITY: u8 = 60;
const HARD_QUALITY: u8 = 40;
/// Tables where no photograph brings any: what cameras and programs commonly use.
const COMMON_QUALITIES: [u8; 4] = [75, 85, 90, 95];
/// Side of the tiny grey picture of a copy.
pub const THUMBNAIL_SIDE: u32 = 16;
/// Numbers about a copy's file; the last one is its bytes for each pixel.
pub const CONTAINER_COLUMNS: usize = 15;

/// How a copy is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// As a photograph would be.
    Clean,
    /// As the web does.
    Web,
    /// Reduced and compressed hard.
    Hard,
}

impl Tier {
    /// All tiers.
    pub const ALL: [Self; 3] = [Self::Clean, Self::Web, Self::Hard];

    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Web => "web",
            Self::Hard => "hard",
        }
    }

    fn scales(self) -> (f64, f64) {
        match self {
            Self::Clean => (0.7, 1.3),
            Self::Web => (0.7, 1.0),
            Self::Hard => (0.65, 0.9),
        }
    }
}

/// The compressions of the photographs, from which every copy draws.
#[derive(Clone, Debug)]
pub struct Pool {
    tables: Vec<JpegTables>,
    history_share: f64,
}

impl Pool {
    /// From the tables of all photographs, in any order; `None` stands for one without.
    #[must_use]
    pub fn new(photographs: &[Option<JpegTables>]) -> Self {
        let mut tables: Vec<JpegTables> = photographs.iter().flatten().cloned().collect();
        // The same photographs give the same copies in whatever order they were read.
        tables.sort_unstable();
        let history_share = tables.len() as f64 / photographs.len().max(1) as f64;
        if tables.is_empty() {
            tables = COMMON_QUALITIES.map(JpegTables::of_quality).to_vec();
        }
        Self {
            tables,
            history_share,
        }
    }

    /// Photographs that brought tables, of all.
    #[must_use]
    pub fn history_share(&self) -> f64 {
        self.history_share
    }

    /// What tells this pool from others, 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.history_share.to_le_bytes());
        for number in self.tables.iter().flat_map(JpegTables::numbers) {
            hash.update(number.to_le_bytes());
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// A picture as it came: RGB8 pixels.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Width and height in pixels, both at least [`SIDE_MIN`].
    pub size: (u32, u32),
    /// Interleaved, rows from the top.
    pub rgb: &'a [u8],
    /// Whether it has been compressed with loss before.
    pub is_lossy: bool,
}

/// One copy as it would be uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyFile {
    /// How it is delivered.
    pub tier: Tier,
    /// Quality of the delivery, 0 to 100.
    pub quality: f64,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Decoded pixels.
    pub rgb: Vec<u8>,
    /// [`CONTAINER_COLUMNS`] numbers about the file.
    pub container: Vec<f32>,
    /// Grey levels in [0, 1] of a picture of [`THUMBNAIL_SIDE`] pixels a side.
    pub thumbnail: Vec<f32>,
}

/// Everything that is drawn for one copy. All draws happen in one order, whatever the picture is.
struct Drawn<'a> {
    history: Option<&'a JpegTables>,
    delivery: &'a JpegTables,
    scale: f64,
    is_lossless: bool,
    side: f64,
    aspect: f64,
    reduced: Option<f64>,
    offset: (f64, f64),
}

impl<'a> Drawn<'a> {
    fn new(pool: &'a Pool, tier: Tier, draws: &mut Draws) -> Self {
        let history = &pool.tables[draws.below(pool.tables.len())];
        let delivery = &pool.tables[draws.below(pool.tables.len())];
        let gets_history = draws.unit() < pool.history_share;
        let native = draws.unit() < NATIVE_SHARE;
        let is_lossless = draws.unit() < LOSSLESS_SHARE;
        let side = draws.between(CUT_SIDES.0, CUT_SIDES.1);
        let (low, high) = tier.scales();
        let scale = draws.between(low, high);
        let whole = draws.unit() < WHOLE_SHARE;
        let aspect = draws.between(ASPECTS.0, ASPECTS.1);
        let reduced = draws.between(REDUCED_SIDES.0, REDUCED_SIDES.1);
        Self {
            history: gets_history.then_some(history),
            delivery,
            scale: if native && tier != Tier::Hard {
                1.0
            } else {
                scale
            },
            is_lossless,
            side,
            aspect,
            reduced: whole.then_some(reduced),
            offset: (draws.unit(), draws.unit()),
        }
    }

    /// Width and height of the cut: what every picture can give.
    fn cut(&self) -> (u32, u32) {
        let most = f64::from(SIDE_MIN) * self.scale;
        let width = (self.side / self.aspect.sqrt()).min(most);
        let height = (self.side * self.aspect.sqrt()).min(most);
        (width.floor() as u32, height.floor() as u32)
    }
}

/// Pixels on their way through the recipe.
struct Pixels {
    size: (u32, u32),
    rgb: Vec<u8>,
}

impl Pixels {
    fn decoded(bytes: &[u8]) -> Result<Self, TrainingError> {
        let decoded = decode(bytes, &Limits::default())?;
        Ok(Self {
            size: (decoded.width, decoded.height),
            rgb: decoded.rgb,
        })
    }

    fn shorter(&self) -> u32 {
        self.size.0.min(self.size.1)
    }

    fn scaled(self, scale: f64) -> Result<Self, TrainingError> {
        let length = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        let size = (length(self.size.0), length(self.size.1));
        let picture = resample(self.size, &self.rgb, size)?;
        Ok(Self {
            size,
            rgb: picture.rgb().to_vec(),
        })
    }

    /// A rectangle whose free room to the left and above is a share of all free room.
    fn cut(&self, size: (u32, u32), offset: (f64, f64)) -> Self {
        let size = (size.0.min(self.size.0), size.1.min(self.size.1));
        let start =
            |free: u32, share: f64| ((f64::from(free + 1) * share) as usize).min(free as usize);
        let left = start(self.size.0 - size.0, offset.0);
        let top = start(self.size.1 - size.1, offset.1);
        let mut rgb = Vec::with_capacity(size.0 as usize * size.1 as usize * 3);
        for row in top..top + size.1 as usize {
            let at = (row * self.size.0 as usize + left) * 3;
            rgb.extend(&self.rgb[at..at + size.0 as usize * 3]);
        }
        Self { size, rgb }
    }
}

/// The copy of a picture for one tier. `name` tells the picture from all others: the same name and seed draw the same
/// recipe.
///
/// # Errors
/// [`TrainingError::Media`] for pixels that do not fit their size.
pub fn copy(
    original: &Original<'_>,
    tier: Tier,
    pool: &Pool,
    (seed, name): (u64, &str),
) -> Result<CopyFile, TrainingError> {
    let drawn = Drawn::new(
        pool,
        tier,
        &mut Draws::new(seed, &["recipe", name, tier.name()]),
    );
    let all = Pixels {
        size: original.size,
        rgb: Vec::new(),
    };
    let mut pixels = window(&all, original);
    if let Some(tables) = drawn.history.filter(|_| !original.is_lossy) {
        pixels = Pixels::decoded(&encode_jpeg_with_tables(pixels.size, &pixels.rgb, tables)?)?;
    }
    if let Some(reduced) = drawn.reduced.filter(|_| pixels.shorter() > LARGE_SIDE) {
        let scale = reduced / f64::from(pixels.shorter());
        pixels = pixels.scaled(scale)?;
    }
    #[expect(clippy::float_cmp, reason = "exactly one means that the scale is kept")]
    let keeps_scale = drawn.scale == 1.0;
    if !keeps_scale {
        pixels = pixels.scaled(drawn.scale)?;
    }
    let pixels = pixels.cut(drawn.cut(), drawn.offset);
    let tables = match tier {
        Tier::Web => Some(JpegTables::of_quality(WEB_QUALITY)),
        Tier::Hard => Some(JpegTables::of_quality(HARD_QUALITY)),
        Tier::Clean if drawn.is_lossless => None,
        Tier::Clean => Some(drawn.delivery.clone()),
    };
    let bytes = match &tables {
        Some(tables) => encode_jpeg_with_tables(pixels.size, &pixels.rgb, tables)?,
        None => encode_png(pixels.size.0, pixels.size.1, &pixels.rgb, &[])?,
    };
    let quality = match tier {
        Tier::Web => f64::from(WEB_QUALITY),
        Tier::Hard => f64::from(HARD_QUALITY),
        Tier::Clean => tables.as_ref().map_or(100.0, JpegTables::luminance_quality),
    };
    let seen = Pixels::decoded(&bytes)?;
    Ok(CopyFile {
        tier,
        quality,
        container: container_row(seen.size, bytes.len(), tables.as_ref()),
        thumbnail: thumbnail(&seen)?,
        size: seen.size,
        rgb: seen.rgb,
    })
}

/// The middle of a very large picture, all of any other.
fn window(all: &Pixels, original: &Original<'_>) -> Pixels {
    let inside = |length: u32| length.min(WINDOW_SIDE);
    let size = (inside(all.size.0), inside(all.size.1));
    let source = Pixels {
        size: original.size,
        rgb: original.rgb.to_vec(),
    };
    if size == all.size {
        source
    } else {
        source.cut(size, (0.5, 0.5))
    }
}

/// Size, kind and tables of a file.
fn container_row(size: (u32, u32), bytes: usize, tables: Option<&JpegTables>) -> Vec<f32> {
    /// Places in the luminance table that encoders differ in, in natural order.
    const PLACES: [usize; 7] = [0, 1, 8, 16, 2, 9, 63];
    let (width, height) = (size.0 as f32, size.1 as f32);
    let numbers = tables.map(JpegTables::numbers).unwrap_or_default();
    let at = |place: usize| numbers.get(place).copied().map_or(0.0, f32::from);
    let luminance: f32 = (0..64).map(at).sum::<f32>() / 64.0;
    let mut out = vec![
        width,
        height,
        width / height,
        f32::from(u8::from(tables.is_some())),
        at(128),
        at(129),
        luminance,
    ];
    out.extend(PLACES.map(at));
    out.push(bytes as f32 / (width * height));
    debug_assert_eq!(out.len(), CONTAINER_COLUMNS);
    out
}

fn thumbnail(pixels: &Pixels) -> Result<Vec<f32>, TrainingError> {
    let small = resample(pixels.size, &pixels.rgb, (THUMBNAIL_SIDE, THUMBNAIL_SIDE))?;
    let grey =
        |pixel: &[u8]| pixel.iter().map(|value| f32::from(*value)).sum::<f32>() / (3.0 * 255.0);
    Ok(small.rgb().chunks_exact(3).map(grey).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(size: (u32, u32), name: &str) -> Vec<u8> {
        let mut draws = Draws::new(4, &[name]);
        (0..size.0 * size.1 * 3)
            .map(|_| draws.below(256) as u8)
            .collect()
    }

    #[test]
    fn size_and_tables_of_a_copy_do_not_depend_on_the_picture() {
        let pool = Pool::new(&[
            Some(JpegTables::of_quality(88)),
            Some(JpegTables::of_quality(71)),
            None,
        ]);
        for tier in Tier::ALL {
            for name in ["a", "b", "c", "d"] {
                let containers: Vec<Vec<f32>> =
                    [((256, 256), true), ((300, 700), false), ((900, 640), false)]
                        .map(|(size, is_lossy)| {
                            let rgb = noise(size, name);
                            let original = Original {
                                size,
                                rgb: &rgb,
                                is_lossy,
                            };
                            let mut container =
                                copy(&original, tier, &pool, (1, name)).unwrap().container;
                            container.pop();
                            container
                        })
                        .to_vec();
                assert_eq!(containers[0], containers[1], "{tier:?} {name}");
                assert_eq!(containers[0], containers[2], "{tier:?} {name}");
            }
        }
    }

    #[test]
    fn the_same_draw_makes_the_same_copy_and_another_seed_another_one() {
        let rgb = noise((400, 300), "again");
        let original = Original {
            size: (400, 300),
            rgb: &rgb,
            is_lossy: false,
        };
        let pool = Pool::new(&[Some(JpegTables::of_quality(90))]);
        let made = |seed| copy(&original, Tier::Clean, &pool, (seed, "again")).unwrap();
        assert_eq!(made(1), made(1));
        assert_ne!(made(1).rgb, made(2).rgb);
        assert_eq!(
            made(1).thumbnail.len(),
            (THUMBNAIL_SIDE * THUMBNAIL_SIDE) as usize
        );
    }

    #[test]
    fn a_pool_is_known_by_its_tables_and_not_by_their_order() {
        let (a, b) = (
            Some(JpegTables::of_quality(90)),
            Some(JpegTables::of_quality(70)),
        );
        let digest = |photographs: &[Option<JpegTables>]| Pool::new(photographs).digest();
        assert_eq!(
            digest(&[a.clone(), b.clone()]),
            digest(&[b.clone(), a.clone()])
        );
        assert_ne!(digest(&[a.clone(), b]), digest(std::slice::from_ref(&a)));
        assert!((Pool::new(&[a, None]).history_share() - 0.5).abs() < 1e-12);
    }
}
