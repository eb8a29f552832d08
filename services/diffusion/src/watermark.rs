//! A watermark in the starting noise: keyed, carrying an id, and leaving the noise of every single
//! image standard normal.
//!
//! The idea is that of Gaussian Shading (Yang et al. 2024, arXiv 2404.04956): choose the starting
//! noise instead of drawing it, and read it back by inversion. The code is another one. An id has five
//! bytes. The first chooses one of 256 carriers, streams of standard normals under the key. Position
//! `p` of the sample (channel by channel, row by row) belongs to block `p mod 4`, and is its place
//! `(p / 4) mod 256`; each of the other four bytes chooses one of 256 Walsh functions, whose sign at
//! that place multiplies the carrier. Signs do not change the distribution of a normal, so that to
//! anybody without the key the noise of one image is standard normal, exactly. Two images whose ids
//! have different first bytes have independent noise.
//!
//! A reading of `z`, the noise that an inversion ended in, takes the id with the greatest
//! `T = <z, noise of the id> / |z|`. The carriers are independent of a picture that was made without
//! the key, so for each of the 2^40 ids `T` is then standard normal whatever `z` is, and a `T` above
//! `t` comes up by chance in at most `2^40 Q(t)` of such pictures, `Q` the upper tail of the normal
//! distribution. Nothing is calibrated.
//!
//! The key shows who marked a picture only as long as it is secret, and a mark can be carried over:
//! whoever inverts a marked picture with a similar model can start another picture from its noise. A
//! mark alone therefore says nothing about what the picture shows.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array4, ArrayView4};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::error::DiffusionError;
use crate::seed::{NormalStream, Normals, SampleShape};

/// Fewest values of a sample that carries a mark: one for each place of each block.
pub const VALUES_MIN: usize = BLOCKS * PLACES;
/// Readings that chance gives more often than this are none.
pub const FALSE_POSITIVE_RATE: f64 = 1e-6;

/// Bytes of an id.
const ID_BYTES: usize = 5;
const BLOCKS: usize = ID_BYTES - 1;
/// Places of a block, and Walsh functions on them.
const PLACES: usize = 256;
/// How many ids there are.
const IDS: f64 = 1_099_511_627_776.0;
/// Walsh functions of a block that a reading considers, the likeliest first.
const CONSIDERED: usize = 2;

/// What marks are made and read with.
#[derive(Clone, PartialEq, Eq)]
pub struct WatermarkKey([u8; 32]);

/// What a mark carries: 40 bits, written as ten hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatermarkId([u8; ID_BYTES]);

/// A mark that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct WatermarkReading {
    /// The ids that it may carry, the likeliest first: where a place was read badly, the true one may
    /// be a later one.
    pub ids: Vec<WatermarkId>,
    /// `T` of the first id, in standard deviations of an unmarked picture's.
    pub score: f64,
    /// How often chance alone gives as much, at most.
    pub false_positive_rate: f64,
}

impl WatermarkKey {
    /// A key of 32 secret random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The marked starting noise of one image, shape (1, channels, height, width).
    ///
    /// # Errors
    /// [`DiffusionError::WatermarkRoom`] for samples of fewer than [`VALUES_MIN`] values.
    pub fn noise(
        &self,
        id: WatermarkId,
        (channels, height, width): SampleShape,
    ) -> Result<Array4<f32>, DiffusionError> {
        let mut values = vec![0.0; channels * height * width];
        refuse_little_room(values.len())?;
        self.carrier(id.0[0], &mut values);
        for (position, value) in values.iter_mut().enumerate() {
            let (block, place) = seat(position);
            if walsh_is_negative(id.0[1 + block], place) {
                *value = -*value;
            }
        }
        Ok(Array4::from_shape_vec((1, channels, height, width), values)
            .expect("as many as the shape holds"))
    }

    /// Reads the mark in the noise of one image, shape (1, channels, height, width). None is found
    /// where chance would give as much more often than [`FALSE_POSITIVE_RATE`], and in samples of
    /// fewer than [`VALUES_MIN`] values.
    #[must_use]
    pub fn read(&self, noise: ArrayView4<'_, f32>) -> Option<WatermarkReading> {
        let values: Vec<f32> = noise.iter().copied().collect();
        let squares = values.iter().map(|&value| f64::from(value).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        if values.len() < VALUES_MIN || !norm.is_finite() || norm == 0.0 {
            return None;
        }
        let mut carrier = vec![0.0; values.len()];
        let mut best: Option<(f64, u8, [[Row; CONSIDERED]; BLOCKS])> = None;
        for first in 0..=u8::MAX {
            self.carrier(first, &mut carrier);
            let rows = likeliest_rows(&values, &carrier);
            let sum = rows.iter().map(|rows| rows[0].correlation).sum();
            if best.as_ref().is_none_or(|(most, ..)| sum > *most) {
                best = Some((sum, first, rows));
            }
        }
        let (sum, first, rows) = best?;
        let score = sum / norm;
        let false_positive_rate = chance_of(score);
        (false_positive_rate <= FALSE_POSITIVE_RATE).then(|| WatermarkReading {
            ids: likely_ids(first, &rows, norm),
            score,
            false_positive_rate,
        })
    }

    /// Fills `values` with a carrier: normals of the ChaCha20 stream of that number.
    fn carrier(&self, number: u8, values: &mut [f32]) {
        let mut stream = ChaCha20Rng::from_seed(self.0);
        stream.set_stream(u64::from(number));
        Normals::of(stream).fill(values);
    }
}

impl WatermarkId {
    /// The id of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub fn to_bytes(self) -> [u8; ID_BYTES] {
        self.0
    }

    /// The id as a number below 2^40.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        self.0
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

/// Refuses samples that have no room for a mark.
fn refuse_little_room(values: usize) -> Result<(), DiffusionError> {
    if values < VALUES_MIN {
        return Err(DiffusionError::WatermarkRoom {
            values,
            values_min: VALUES_MIN,
        });
    }
    Ok(())
}

/// Block and place of a position.
fn seat(position: usize) -> (usize, usize) {
    (position % BLOCKS, position / BLOCKS % PLACES)
}

/// Whether a Walsh function, in the order of Hadamard, is -1 at a place.
fn walsh_is_negative(row: u8, place: usize) -> bool {
    (usize::from(row) & place).count_ones() % 2 == 1
}

/// A Walsh function and how a block correlates with it.
#[derive(Clone, Copy)]
struct Row {
    number: u8,
    correlation: f64,
}

/// The Walsh functions of each block that correlate most, the likeliest first.
fn likeliest_rows(values: &[f32], carrier: &[f32]) -> [[Row; CONSIDERED]; BLOCKS] {
    let mut sums = [[0.0; PLACES]; BLOCKS];
    for (position, (&value, &carried)) in values.iter().zip(carrier).enumerate() {
        let (block, place) = seat(position);
        sums[block][place] += f64::from(value) * f64::from(carried);
    }
    sums.map(|mut sums| {
        walsh_hadamard(&mut sums);
        let mut rows: Vec<Row> = (0..=u8::MAX)
            .zip(sums)
            .map(|(number, correlation)| Row {
                number,
                correlation,
            })
            .collect();
        rows.sort_by(|a, b| b.correlation.total_cmp(&a.correlation));
        [rows[0], rows[1]]
    })
}

/// The fast Walsh-Hadamard transform, in place: correlations with all functions, in the order of
/// Hadamard.
fn walsh_hadamard(sums: &mut [f64; PLACES]) {
    let mut half = 1;
    while half < PLACES {
        for pair in sums.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (left, right) in left.iter_mut().zip(right) {
                (*left, *right) = (*left + *right, *left - *right);
            }
        }
        half *= 2;
    }
}

/// Every combination of the considered rows that chance would not give either, the likeliest first.
fn likely_ids(first: u8, rows: &[[Row; CONSIDERED]; BLOCKS], norm: f64) -> Vec<WatermarkId> {
    let mut found: Vec<(f64, WatermarkId)> = (0..CONSIDERED.pow(BLOCKS as u32))
        .map(|choice| {
            let mut bytes = [first; ID_BYTES];
            let mut sum = 0.0;
            for (block, rows) in rows.iter().enumerate() {
                let row = rows[choice / CONSIDERED.pow(block as u32) % CONSIDERED];
                bytes[1 + block] = row.number;
                sum += row.correlation;
            }
            (sum / norm, WatermarkId(bytes))
        })
        .filter(|(score, _)| chance_of(*score) <= FALSE_POSITIVE_RATE)
        .collect();
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    found.into_iter().map(|(_, id)| id).collect()
}

/// How often an unmarked picture has this score or a greater one, at most.
fn chance_of(score: f64) -> f64 {
    let upper_tail = 0.5 * libm::erfc(score / std::f64::consts::SQRT_2);
    (IDS * upper_tail).min(1.0)
}

impl fmt::Debug for WatermarkKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WatermarkKey(secret)")
    }
}

impl fmt::Display for WatermarkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for WatermarkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for WatermarkId {
    type Err = DiffusionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DiffusionError::WatermarkId {
            text: text.to_owned(),
        };
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 2 * ID_BYTES || !text.bytes().all(is_lower_hex) {
            return Err(unknown());
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| unknown())?;
        let bytes = number.to_be_bytes();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&bytes[8 - ID_BYTES..]);
        Ok(Self(id))
    }
}
