//! Noise: one random stream per image, drawn on the host.
//!
//! Image `k` of a request with seed `s` has the seed `s + k` (wrapping), so that every image of a
//! batch can be made again alone. The stream is ChaCha20 (RFC 8439, zero nonce, counter from 0)
//! whose key is the seed as eight little-endian bytes followed by [`DOMAIN`]. Each pair of 64-bit
//! words gives two standard normals by the Box-Muller transform in f64, rounded to f32. The
//! logarithm and the sine come from the `libm` crate, not from the platform, so the bits are the
//! same everywhere.

mod torch_cpu;
mod torch_cuda;

use std::fmt;
use std::str::FromStr;

use ndarray::{Array4, Axis};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::error::DiffusionError;
use torch_cpu::TorchCpu;
use torch_cuda::TorchCuda;

/// The last 24 bytes of every key. A change of the transform needs a new version here.
pub const DOMAIN: &[u8; 24] = b"retrace/initial-noise/v1";

/// A source of standard normal noise for the images of one loop.
///
/// Every image of a batch has a stream of its own: row `i` of what a batch draws is what image `i`
/// would draw alone.
pub trait NoiseSource: Send {
    /// The next standard normals, shape (batch, channels, height, width).
    ///
    /// # Panics
    /// When the batch has another number of images than the source has streams.
    fn normals(&mut self, shape: (usize, usize, usize, usize)) -> Array4<f32>;
}

/// The source for loops that draw no noise. It answers zeros.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNoise;

impl NoiseSource for NoNoise {
    fn normals(&mut self, shape: (usize, usize, usize, usize)) -> Array4<f32> {
        Array4::zeros(shape)
    }
}

/// Which random numbers a seed stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NoiseKind {
    /// ChaCha20 and Box-Muller in 64 bits, the same bits on every platform.
    #[default]
    #[serde(rename = "chacha20")]
    ChaCha20,
    /// The normals of torch's generator on the processor.
    #[serde(rename = "torch-cpu")]
    TorchCpu,
    /// The normals of torch's generator on a CUDA device.
    #[serde(rename = "torch-cuda")]
    TorchCuda,
}

impl NoiseKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::ChaCha20, Self::TorchCpu, Self::TorchCuda];

    /// The name, as command line and HTTP interface spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChaCha20 => "chacha20",
            Self::TorchCpu => "torch-cpu",
            Self::TorchCuda => "torch-cuda",
        }
    }
}

impl fmt::Display for NoiseKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for NoiseKind {
    type Err = DiffusionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| DiffusionError::UnknownNoise {
            name: name.to_owned(),
        })
    }
}

/// The noise of several images, one stream per seed.
pub fn noise_source(kind: NoiseKind, seeds: &[u64]) -> Box<dyn NoiseSource> {
    let streams = seeds.iter().map(|&seed| stream(kind, seed)).collect();
    Box::new(Streams(streams))
}

fn stream(kind: NoiseKind, seed: u64) -> Box<dyn NormalStream> {
    match kind {
        NoiseKind::ChaCha20 => Box::new(Normals::new(seed)),
        NoiseKind::TorchCpu => Box::new(TorchCpu::new(seed)),
        NoiseKind::TorchCuda => Box::new(TorchCuda::new(seed)),
    }
}

/// One stream of standard normals. A call stands for one tensor: what a call takes from the
/// underlying generator may depend on its size.
pub(crate) trait NormalStream: Send {
    /// Fills `values` with the next standard normals.
    fn fill(&mut self, values: &mut [f32]);
}

struct Streams(Vec<Box<dyn NormalStream>>);

impl NoiseSource for Streams {
    fn normals(&mut self, shape: (usize, usize, usize, usize)) -> Array4<f32> {
        assert_eq!(shape.0, self.0.len(), "one stream per image of the batch");
        let mut values = vec![0.0; shape.0 * shape.1 * shape.2 * shape.3];
        let row = (shape.1 * shape.2 * shape.3).max(1);
        for (values, stream) in values.chunks_exact_mut(row).zip(&mut self.0) {
            stream.fill(values);
        }
        Array4::from_shape_vec(shape, values).expect("as many values as the shape holds")
    }
}

/// Shape of one sample without its batch axis: (channels, height, width).
pub type SampleShape = (usize, usize, usize);

/// The seed of the image with index `image_index` in a request with seed `seed`.
pub fn image_seed(seed: u64, image_index: usize) -> u64 {
    seed.wrapping_add(image_index as u64)
}

/// Standard normal noise of shape (1, channels, height, width) for one image.
pub fn initial_noise(seed: u64, shape: SampleShape) -> Array4<f32> {
    let (channels, height, width) = shape;
    let mut values = vec![0.0; channels * height * width];
    Normals::new(seed).fill(&mut values);
    Array4::from_shape_vec((1, channels, height, width), values)
        .expect("as many as the shape holds")
}

/// Noise for several images, shape (seeds, channels, height, width): row `i` is exactly
/// [`initial_noise`] of seed `i`.
pub fn initial_noise_batch(seeds: &[u64], shape: SampleShape) -> Array4<f32> {
    let (channels, height, width) = shape;
    let mut batch = Array4::zeros((seeds.len(), channels, height, width));
    for (mut row, &seed) in batch.axis_iter_mut(Axis(0)).zip(seeds) {
        row.assign(&initial_noise(seed, shape).index_axis(Axis(0), 0));
    }
    batch
}

/// The stream of standard normals of one seed.
pub(crate) struct Normals {
    stream: ChaCha20Rng,
    spare: Option<f64>,
}

impl NormalStream for Normals {
    fn fill(&mut self, values: &mut [f32]) {
        let spare = self.spare.take_if(|_| !values.is_empty());
        if let Some(spare) = spare {
            values[0] = spare as f32;
        }
        let rest = &mut values[usize::from(spare.is_some())..];
        for values in rest.chunks_mut(2 * BLOCK_PAIRS) {
            let mut words = [0_u8; 16 * BLOCK_PAIRS];
            let words = &mut words[..16 * values.len().div_ceil(2)];
            self.stream.fill_bytes(words);
            for (values, words) in values.chunks_mut(2).zip(words.chunks_exact(16)) {
                let (cosine, sine) = box_muller(words);
                values[0] = cosine as f32;
                match values.get_mut(1) {
                    Some(second) => *second = sine as f32,
                    None => self.spare = Some(sine),
                }
            }
        }
    }
}

impl Normals {
    fn new(seed: u64) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].copy_from_slice(DOMAIN);
        Self::of(ChaCha20Rng::from_seed(key))
    }

    /// The normals of a stream of random bytes.
    pub(crate) fn of(stream: ChaCha20Rng) -> Self {
        Self {
            stream,
            spare: None,
        }
    }
}

/// Box and Muller 1958: `sqrt(-2 ln u) (cos, sin)(2 pi v)`, of two little-endian 64-bit words.
fn box_muller(words: &[u8]) -> (f64, f64) {
    // u lies in (0, 1], so that its logarithm exists; v in [0, 1).
    let u = (upper_53_bits(&words[..8]) + 1.0) / TWO_POW_53;
    let v = upper_53_bits(&words[8..]) / TWO_POW_53;
    let radius = (-2.0 * libm::log(u)).sqrt();
    let (sine, cosine) = libm::sincos(std::f64::consts::TAU * v);
    (radius * cosine, radius * sine)
}

/// The upper 53 bits of a little-endian 64-bit word, as an exact f64.
fn upper_53_bits(word: &[u8]) -> f64 {
    let word = word.try_into().expect("a word has eight bytes");
    (u64::from_le_bytes(word) >> 11) as f64
}

/// Pairs of normals that are drawn at once: 4 KiB of the stream.
const BLOCK_PAIRS: usize = 256;
/// 2^53: one more than the largest integer below which every integer is an f64.
const TWO_POW_53: f64 = 9_007_199_254_740_992.0;
