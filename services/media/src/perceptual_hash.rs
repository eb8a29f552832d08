//! PDQ, a perceptual hash of 256 bits (Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ
//! Image-Hashing Algorithm", 2019).
//!
//! Copies that were re-compressed, reduced or lightly retouched have hashes a small Hamming distance
//! apart: by convention up to 31 is a match. Cropped and rotated copies are far apart; the eight hashes
//! of [`dihedral_hashes`] find quarter turns and mirrors. A hash of low quality (under 50) comes from a
//! picture with so little structure that many others share it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Side of the picture that the transform works on.
const SIDE: usize = 64;
/// Frequencies of each direction that are kept, beginning with the first above zero.
const KEPT: usize = 16;
/// Passes of the box filter in each direction: two make a tent.
const PASSES: usize = 2;
/// Smallest side that can be hashed.
const SIDE_MIN: u32 = 5;
/// Pictures whose shorter side has twice as many pixels are reduced first; up to there the hash is the
/// published one, bit for bit but for rounding.
const EXACT_SIDE_MAX: usize = 1024;
/// Greatest distance that counts as a match by convention.
pub const MATCH_DISTANCE_MAX: u32 = 31;
/// Hashes of a lower quality than this are shared by too many pictures to mean anything.
pub const MATCH_QUALITY_MIN: u8 = 50;

/// A hash: 256 bits as 32 bytes, written as 64 lower-case hexadecimal digits in the order in which the
/// reference implementation prints them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PerceptualHash([u8; 32]);

/// A hash with its quality from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashAndQuality {
    /// The hash.
    pub hash: PerceptualHash,
    /// How much structure the picture has: 0 for none.
    pub quality: u8,
}

/// Why a text is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a perceptual hash is written as 64 hexadecimal digits")]
pub struct NotAPerceptualHash;

impl PerceptualHash {
    /// The hash with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The number of bits that differ, 0 to 256.
    #[must_use]
    pub fn distance(&self, other: &Self) -> u32 {
        let pairs = self.0.iter().zip(&other.0);
        pairs.map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PerceptualHash {
    type Err = NotAPerceptualHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotAPerceptualHash);
        }
        let value = |digit: u8| char::from(digit).to_digit(16).ok_or(NotAPerceptualHash);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let both = value(pair[0])? << 4 | value(pair[1])?;
            *byte = u8::try_from(both).expect("two digits are a byte");
        }
        Ok(Self(bytes))
    }
}

impl Serialize for PerceptualHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PerceptualHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The hash of RGB8 pixels, interleaved, rows from the top, `height * width * 3` bytes. Pictures with a
/// side under 5 pixels have the hash of zeros and quality 0.
#[must_use]
pub fn perceptual_hash(width: u32, height: u32, rgb: &[u8]) -> HashAndQuality {
    let (transform, quality) = transformed(width, height, rgb);
    HashAndQuality {
        hash: bits_of(&transform),
        quality,
    }
}

/// The hashes of the picture and of its seven turns and mirrors: as it is; turned by 90, 180 and 270
/// degrees counter-clockwise; mirrored along the height, along the width, along the main diagonal and
/// along the other one. Shapes as for [`perceptual_hash`].
#[must_use]
pub fn dihedral_hashes(width: u32, height: u32, rgb: &[u8]) -> ([PerceptualHash; 8], u8) {
    let (original, quality) = transformed(width, height, rgb);
    // Mirroring a direction changes the sign of its odd frequencies, which have even places, since the
    // kept frequencies begin with the first. Turning is mirroring and exchanging the directions.
    let variant = |exchange: bool, odd_rows: bool, odd_columns: bool| {
        let mut changed = [[0.0; KEPT]; KEPT];
        for (i, row) in changed.iter_mut().enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                let from = if exchange {
                    original[j][i]
                } else {
                    original[i][j]
                };
                let negative = (odd_rows && i % 2 == 0) != (odd_columns && j % 2 == 0);
                *value = if negative { -from } else { from };
            }
        }
        bits_of(&changed)
    };
    let hashes = [
        variant(false, false, false),
        variant(true, true, false),
        variant(false, true, true),
        variant(true, false, true),
        variant(false, true, false),
        variant(false, false, true),
        variant(true, false, false),
        variant(true, true, true),
    ];
    (hashes, quality)
}

type Transform = [[f32; KEPT]; KEPT];

/// The kept frequencies and the quality.
fn transformed(width: u32, height: u32, rgb: &[u8]) -> (Transform, u8) {
    if width < SIDE_MIN || height < SIDE_MIN {
        return ([[0.0; KEPT]; KEPT], 0);
    }
    let (columns, rows) = (width as usize, height as usize);
    // 1. Luma (ITU-R BT.601).
    let (mut plane, columns, rows) = luma(rgb, columns, rows);
    // 2. Smooth, so that picking pixels keeps what lies between them; 64 by 64 needs neither.
    if (columns, rows) != (SIDE, SIDE) {
        smooth(&mut plane, columns, rows);
    }
    // 3. Pick the pixels in the middle of each of 64 by 64 parts.
    let pick = |place: usize, length: usize| (2 * place + 1) * length / (2 * SIDE);
    let small: [[f32; SIDE]; SIDE] = std::array::from_fn(|i| {
        let row = pick(i, rows) * columns;
        std::array::from_fn(|j| plane[row + pick(j, columns)])
    });
    (low_frequencies(&small), quality_of(&small))
}

/// Luma with its columns and rows. Pictures that are much larger than the transform are averaged over
/// whole squares of pixels while they are read, which keeps memory small and changes a bit or two.
fn luma(rgb: &[u8], columns: usize, rows: usize) -> (Vec<f32>, usize, usize) {
    let factor = (columns.min(rows) / EXACT_SIDE_MAX).max(1);
    let (small_columns, small_rows) = (columns / factor, rows / factor);
    let of_pixel = |pixel: &[u8]| {
        0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2])
    };
    if factor == 1 {
        return (rgb.chunks_exact(3).map(of_pixel).collect(), columns, rows);
    }
    let mut plane = vec![0.0; small_columns * small_rows];
    let share = 1.0 / (factor * factor) as f32;
    for (y, row) in rgb
        .chunks_exact(columns * 3)
        .take(small_rows * factor)
        .enumerate()
    {
        let out = &mut plane[y / factor * small_columns..][..small_columns];
        for (out, pixels) in out.iter_mut().zip(row.chunks_exact(3 * factor)) {
            *out += share * pixels.chunks_exact(3).map(of_pixel).sum::<f32>();
        }
    }
    (plane, small_columns, small_rows)
}

/// Box filters along rows and columns, twice.
fn smooth(plane: &mut [f32], columns: usize, rows: usize) {
    let window = |length: usize| length.div_ceil(2 * SIDE);
    let mut between = vec![0.0; plane.len()];
    for _ in 0..PASSES {
        for (row, out) in plane
            .chunks_exact(columns)
            .zip(between.chunks_exact_mut(columns))
        {
            filter_row(row, out, window(columns));
        }
        filter_columns(&between, plane, columns, window(rows));
    }
}

/// How far a window reaches, behind a value and from it onwards: one further onwards where the window
/// is even.
fn reach(window: usize) -> (usize, usize) {
    let onwards = (window + 2) / 2;
    (window - onwards, onwards)
}

/// The mean over a window around each value of a row, cut at its ends.
fn filter_row(row: &[f32], out: &mut [f32], window: usize) {
    let (back, onwards) = reach(window);
    let mut sum: f32 = row.iter().take(onwards - 1).sum();
    for (at, out) in out.iter_mut().enumerate() {
        if let Some(entering) = row.get(at + onwards - 1) {
            sum += entering;
        }
        if at > back {
            sum -= row[at - back - 1];
        }
        let until = (at + onwards).min(row.len());
        *out = sum / (until - at.saturating_sub(back)) as f32;
    }
}

/// The same along the columns, one row after another, as memory lies.
fn filter_columns(plane: &[f32], out: &mut [f32], columns: usize, window: usize) {
    let (back, onwards) = reach(window);
    let rows = plane.len() / columns;
    let row = |at: usize| &plane[at * columns..(at + 1) * columns];
    let mut sums = vec![0.0_f32; columns];
    let add = |sums: &mut [f32], sign: f32, values: &[f32]| {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += sign * value;
        }
    };
    for entering in 0..(onwards - 1).min(rows) {
        add(&mut sums, 1.0, row(entering));
    }
    for (at, out) in out.chunks_exact_mut(columns).enumerate() {
        if at + onwards - 1 < rows {
            add(&mut sums, 1.0, row(at + onwards - 1));
        }
        if at > back {
            add(&mut sums, -1.0, row(at - back - 1));
        }
        let count = (at + onwards).min(rows) - at.saturating_sub(back);
        for (out, sum) in out.iter_mut().zip(&sums) {
            *out = sum / count as f32;
        }
    }
}

/// How strongly neighbours differ, in hundredths of the range of values.
fn quality_of(small: &[[f32; SIDE]; SIDE]) -> u8 {
    // Whole hundredths, towards zero, as the published definition counts.
    let step = |a: f32, b: f32| ((a - b) * 100.0 / 255.0).abs() as u32;
    let mut sum = 0;
    for i in 0..SIDE {
        for j in 0..SIDE {
            if i + 1 < SIDE {
                sum += step(small[i][j], small[i + 1][j]);
            }
            if j + 1 < SIDE {
                sum += step(small[i][j], small[i][j + 1]);
            }
        }
    }
    u8::try_from((sum / 90).min(100)).expect("at most 100")
}

/// Discrete cosine transform, type II, frequencies 1 to 16 of each direction.
fn low_frequencies(small: &[[f32; SIDE]; SIDE]) -> Transform {
    let scale = (2.0 / SIDE as f64).sqrt();
    let waves: [[f32; SIDE]; KEPT] = std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let turn = std::f64::consts::PI / 2.0 / SIDE as f64;
            (scale * (turn * ((i + 1) * (2 * j + 1)) as f64).cos()) as f32
        })
    });
    let half: [[f32; SIDE]; KEPT] = std::array::from_fn(|i| {
        std::array::from_fn(|j| (0..SIDE).map(|k| waves[i][k] * small[k][j]).sum())
    });
    std::array::from_fn(|i| {
        std::array::from_fn(|j| (0..SIDE).map(|k| half[i][k] * waves[j][k]).sum())
    })
}

/// One bit for each frequency: whether it is over the lower median of all.
fn bits_of(transform: &Transform) -> PerceptualHash {
    let mut sorted: Vec<f32> = transform.iter().flatten().copied().collect();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2 - 1];
    let mut bytes = [0; 32];
    for (place, value) in transform.iter().flatten().enumerate() {
        if *value > median {
            // The first frequency is the lowest bit of the number that is printed.
            bytes[31 - place / 8] |= 1 << (place % 8);
        }
    }
    PerceptualHash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = PerceptualHash::from_bytes(std::array::from_fn(|n| n as u8 * 7));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<PerceptualHash>(&json).unwrap(), hash);
        for wrong in ["", "00", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<PerceptualHash>(), Err(NotAPerceptualHash));
        }
    }

    #[test]
    fn distances_count_bits() {
        let zero = PerceptualHash::from_bytes([0; 32]);
        let ones = PerceptualHash::from_bytes([255; 32]);
        assert_eq!((zero.distance(&zero), zero.distance(&ones)), (0, 256));
    }

    #[test]
    fn pictures_without_structure_have_quality_zero() {
        for (width, height) in [(4, 900), (1, 1), (64, 64), (300, 5), (0, 0)] {
            let rgb = vec![80; width as usize * height as usize * 3];
            assert_eq!(perceptual_hash(width, height, &rgb).quality, 0);
        }
    }
}
