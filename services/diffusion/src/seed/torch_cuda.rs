//! The normals that torch draws on a CUDA device: `torch.randn` with a generator on the GPU.
//!
//! The generator is Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
//! 3"), a counter-based generator: value `i` of a tensor comes from the counter `(call, 0, i, 0)`
//! (each as the low and high half of a 64-bit number) under the seed as key, where `call` counts
//! the tensors that were drawn before. Of the four words that one counter gives, the first two go
//! through Box-Muller in 32 bits; the sine comes first.
//!
//! What is verified: Philox against the published test vectors of its authors, the transform and
//! the layout against the values that torch users have published for a CUDA device, listed in the
//! tests. No run on a GPU stands behind this file. What is not covered: a tensor with more values
//! than the device has resident threads (221,184 on an A100, 40,960 on a T4), where one thread fills
//! four values and the layout depends on the device; there this source goes on as if threads were
//! unlimited, as other programs that imitate torch do. Logarithm and sine of CUDA's 32-bit
//! functions differ from exact ones in the last places.

use super::NormalStream;

/// Multipliers of the two halves.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// Added to the key after each round: the golden ratio, and the square root of three less one.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
/// Rounds of the variant that CUDA uses.
const ROUNDS: usize = 10;

/// Philox 4x32-10.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut counter, mut key) = (counter, key);
    for _ in 0..ROUNDS {
        let first = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let second = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The sine half of Box-Muller, from two words. The uniforms are centred in their 32-bit cells, so
/// that zero does not occur.
fn normal(first: u32, second: u32) -> f32 {
    let uniform = (first as f32).mul_add(CELL, CELL / 2.0);
    let angle = (second as f32).mul_add(CELL * TAU, CELL * TAU / 2.0);
    let radius = (-2.0 * libm::log(f64::from(uniform))).sqrt();
    (radius * libm::sin(f64::from(angle))) as f32
}

/// 2^-32.
const CELL: f32 = 1.0 / 4_294_967_296.0;
/// Two pi in 32 bits.
const TAU: f32 = std::f32::consts::TAU;

/// The stream of one seed.
pub(crate) struct TorchCuda {
    key: [u32; 2],
    calls: u64,
}

impl TorchCuda {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            key: halves(seed),
            calls: 0,
        }
    }
}

/// The low and the high half.
fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

impl NormalStream for TorchCuda {
    fn fill(&mut self, values: &mut [f32]) {
        let [call_low, call_high] = halves(self.calls);
        for (index, value) in values.iter_mut().enumerate() {
            let [low, high] = halves(index as u64);
            let [first, second, ..] = philox([call_low, call_high, low, high], self.key);
            *value = normal(first, second);
        }
        self.calls += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_zero_gives_the_values_that_torch_users_published_for_a_cuda_device() {
        // `torch.manual_seed(0)`, then a tensor of 8 by 8 drawn on the device (torch 2.2.0), as
        // printed in published notes on compiling with torch.
        let published = [
            -0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, //
            -1.0745, -0.3631, -1.6711, 2.2655, 0.3117, -0.1842, 1.2866, 1.1820, //
            -0.1271, 1.2169, 1.4353, 1.0605, -0.4941, -1.4244, -0.7244, -1.2973, //
            0.0697, -0.0074, 1.8969, 0.6878, -0.0779, -0.8373, 1.3506, -0.2879, //
            -0.5965, -0.3283, -0.9086, -0.8059, -0.7407, -0.0504, 0.5435, 1.5150, //
            0.0141, 0.4532, 1.6349, 0.7124, -0.1806, 1.0252, -1.4622, -0.7554, //
            -0.1836, 0.3824, 0.3918, -0.0830, 0.8971, -1.1123, 0.1116, 0.4863, //
            -0.5499, -0.3231, -0.5469, 0.9049, 0.2837, 0.1210, 0.4730, -1.0823,
        ];
        let mut values = [0.0; 64];
        TorchCuda::new(0).fill(&mut values);
        for (found, published) in values.iter().zip(published) {
            assert!((found - published).abs() < 6e-5_f32, "{found} {published}");
        }
    }

    #[test]
    fn philox_gives_the_words_that_its_authors_published() {
        // kat_vectors of the Random123 distribution, philox4x32 with 10 rounds.
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
