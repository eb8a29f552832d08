//! Initial noise: one random stream per image, drawn on the host.
//!
//! Image `k` of a request with seed `s` has the seed `s + k` (wrapping), so that every image of a
//! batch can be made again alone. The stream is ChaCha20 (RFC 8439, zero nonce, counter from 0)
//! whose key is the seed as eight little-endian bytes followed by [`DOMAIN`]. Each pair of 64-bit
//! words gives two standard normals by the Box-Muller transform in f64, rounded to f32. The
//! logarithm and the sine come from the `libm` crate, not from the platform, so the bits are the
//! same everywhere.

use ndarray::{Array4, Axis};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The last 24 bytes of every key. A change of the transform needs a new version here.
pub const DOMAIN: &[u8; 24] = b"retrace/initial-noise/v1";

/// Shape of one sample without its batch axis: (channels, height, width).
pub type SampleShape = (usize, usize, usize);

/// The seed of the image with index `image_index` in a request with seed `seed`.
pub fn image_seed(seed: u64, image_index: usize) -> u64 {
    seed.wrapping_add(image_index as u64)
}

/// Standard normal noise of shape (1, channels, height, width) for one image.
pub fn initial_noise(seed: u64, shape: SampleShape) -> Array4<f32> {
    let (channels, height, width) = shape;
    let mut normals = Normals::new(seed);
    Array4::from_shape_simple_fn((1, channels, height, width), || normals.next_f32())
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
struct Normals {
    stream: ChaCha20Rng,
    spare: Option<f64>,
}

impl Normals {
    fn new(seed: u64) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].copy_from_slice(DOMAIN);
        Self {
            stream: ChaCha20Rng::from_seed(key),
            spare: None,
        }
    }

    /// Box and Muller 1958: `sqrt(-2 ln u) (cos, sin)(2 pi v)`, cosine first.
    fn next_f32(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare as f32;
        }
        // u lies in (0, 1], so that its logarithm exists; v in [0, 1).
        let u = (self.next_53_bits() + 1.0) / TWO_POW_53;
        let v = self.next_53_bits() / TWO_POW_53;
        let radius = (-2.0 * libm::log(u)).sqrt();
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * v);
        self.spare = Some(radius * sine);
        (radius * cosine) as f32
    }

    /// The upper 53 bits of the next little-endian 64-bit word, as an exact f64.
    fn next_53_bits(&mut self) -> f64 {
        (self.stream.next_u64() >> 11) as f64
    }
}

/// 2^53: one more than the largest integer below which every integer is an f64.
const TWO_POW_53: f64 = 9_007_199_254_740_992.0;
