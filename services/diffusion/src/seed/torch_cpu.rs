//! The normals that torch draws on the processor: `torch.randn` with a generator on the CPU.
//!
//! The generator is MT19937 (Matsumoto and Nishimura 1998, ACM TOMACS 8.1) seeded with the lower 32
//! bits of the seed. What becomes of its words depends on the size of the tensor:
//!
//! * 16 values and more: one 24-bit uniform per value, then Box-Muller inside blocks of 16, whose
//!   first eight values are the radii and last eight the angles of eight pairs. When the size is no
//!   multiple of 16, the last 16 values are drawn once more, so that they overlap the block before.
//! * fewer: one normal at a time from two 53-bit uniforms, by Box-Muller in 64 bits; the sine half
//!   of a pair waits for the next value, across calls.
//!
//! Compared with torch 2.15 on sizes under, at and over 16, multiples and not, in several calls in
//! a row (`tests/golden/schedulers/torch_noise.json`). torch's vector instructions take logarithm,
//! sine and cosine from a 32-bit polynomial, so values agree to a few units of the last place, not
//! bit by bit.

use super::NormalStream;

/// Words of the state.
const WORDS: usize = 624;
/// Distance of the two words that one new word is mixed from.
const SHIFT: usize = 397;
/// Values of a block of the vectorised transform.
const BLOCK: usize = 16;

/// MT19937.
struct MersenneTwister {
    words: [u32; WORDS],
    next: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut words = [0; WORDS];
        words[0] = seed;
        for index in 1..WORDS {
            let previous: u32 = words[index - 1];
            words[index] = 1_812_433_253_u32
                .wrapping_mul(previous ^ (previous >> 30))
                .wrapping_add(index as u32);
        }
        Self { words, next: WORDS }
    }

    fn twist(&mut self) {
        for index in 0..WORDS {
            let upper = self.words[index] & 0x8000_0000;
            let mixed = upper | (self.words[(index + 1) % WORDS] & 0x7fff_ffff);
            let matrix = if mixed & 1 == 0 { 0 } else { 0x9908_b0df };
            self.words[index] = self.words[(index + SHIFT) % WORDS] ^ (mixed >> 1) ^ matrix;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }
}

/// The stream of one seed.
pub(crate) struct TorchCpu {
    twister: MersenneTwister,
    /// The sine half of a pair that was drawn for a tensor of fewer than 16 values.
    spare: Option<f64>,
}

impl TorchCpu {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            twister: MersenneTwister::new(seed as u32),
            spare: None,
        }
    }

    /// A uniform in [0, 1) of 24 bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.twister.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// A uniform in [0, 1) of 53 bits, from two words, the upper one first.
    fn uniform_f64(&mut self) -> f64 {
        let upper = u64::from(self.twister.next_u32());
        let lower = u64::from(self.twister.next_u32());
        let bits = ((upper << 32) | lower) & ((1 << 53) - 1);
        bits as f64 / super::TWO_POW_53
    }

    /// One normal of a small tensor.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let angle = std::f64::consts::TAU * self.uniform_f64();
        let radius = (-2.0 * libm::log1p(-self.uniform_f64())).sqrt();
        let (sine, cosine) = libm::sincos(angle);
        self.spare = Some(radius * sine);
        radius * cosine
    }

    fn uniforms(&mut self, values: &mut [f32]) {
        for value in values {
            *value = self.uniform_f32();
        }
    }
}

/// Turns 16 uniforms into 16 normals.
fn transform(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (first, second) in first.iter_mut().zip(second) {
        // 1 - u lies in (0, 1], so that its logarithm exists.
        let radius = (-2.0 * libm::log(f64::from(1.0 - *first))).sqrt();
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * f64::from(*second));
        *first = (radius * cosine) as f32;
        *second = (radius * sine) as f32;
    }
}

impl NormalStream for TorchCpu {
    fn fill(&mut self, values: &mut [f32]) {
        if values.len() < BLOCK {
            for value in values {
                *value = self.normal() as f32;
            }
            return;
        }
        self.uniforms(values);
        let mut blocks = values.chunks_exact_mut(BLOCK);
        for block in &mut blocks {
            transform(block);
        }
        if !blocks.into_remainder().is_empty() {
            let last = values.len() - BLOCK;
            self.uniforms(&mut values[last..]);
            transform(&mut values[last..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_thousandth_word_of_the_standard_seed_is_the_published_one() {
        // ISO C++ [rand.predef]: the 10000th value of a default-seeded mt19937.
        let mut twister = MersenneTwister::new(5489);
        let word = (0..10_000).map(|_| twister.next_u32()).last();
        assert_eq!(word, Some(4_123_659_995));
    }
}
