//! The marks that reference programs of known generators hide in pixels with the Python package
//! `invisible-watermark`, method `dwtDct`.
//!
//! The method changes one coefficient in each block of 4 by 4 of the Haar low band of the chroma
//! plane U: the one of largest magnitude, the first excepted, is moved to a quarter or three quarters
//! of a step of 36, for a bit of 0 or 1. Blocks carry the bits of a message in turn, so each bit is
//! read by a vote. (The package's name speaks of a cosine transform; its release 0.2.0 applies none.)
//!
//! The mark is open: there is no key, and anyone can put it on any picture. Cropping by other than
//! whole blocks, resizing and strong compression destroy it. It is evidence, never proof.

use serde::{Deserialize, Serialize};

/// The step of the method, for sums of four values divided by two.
const STEP: f32 = 36.0;
/// Side of a block in coefficients.
const BLOCK: usize = 4;
/// Smallest picture that the package marks, in pixels.
const PIXELS_MIN: u64 = 256 * 256;
/// Blocks that are read, from the top: some hundred votes for each bit of the longest message.
const BLOCKS_MAX: usize = 1 << 16;
/// A message is reported where chance alone reaches its number of agreeing bits this rarely, over
/// all messages and planes that are tried.
pub const WATERMARK_FALSE_POSITIVE_RATE_MAX: f64 = 1e-6;

/// A message that reference programs embed.
struct Message {
    /// What embeds it, for people.
    name: &'static str,
    bits: Bits,
}

/// A message's bits, the first one first.
enum Bits {
    /// A number of so many bits.
    Number(u64, usize),
    /// The bits of each byte, the highest one first.
    Text(&'static [u8]),
}

/// Least share of a message's bits that must agree besides. Texts of other programs share bits with
/// texts that are known here, as the highest bit of each letter, so that coins are no model for them.
const AGREEING_SHARE_MIN: f64 = 0.8;

/// The messages, as the programs' public sources state them. FLUX's is declared with 48 bits, but its
/// program writes the number without leading zeros.
const MESSAGES: [Message; 5] = [
    Message {
        name: "Stable Diffusion XL",
        bits: Bits::Number(
            0b1011_0011_1110_1100_1001_0000_0111_1011_1011_0001_1001_1110,
            48,
        ),
    },
    Message {
        name: "FLUX",
        bits: Bits::Number(
            0b10_1010_1111_1110_1000_0111_1001_1100_1111_0101_0010_1110,
            46,
        ),
    },
    Message {
        name: "Stable Diffusion 1",
        bits: Bits::Text(b"StableDiffusionV1"),
    },
    Message {
        name: "Stable Diffusion 1 inpainting",
        bits: Bits::Text(b"StableDiffusionV1-Inpainting"),
    },
    Message {
        name: "Stable Diffusion 2",
        bits: Bits::Text(b"SDV2"),
    },
];

impl Bits {
    fn len(&self) -> usize {
        match self {
            Self::Number(_, count) => *count,
            Self::Text(text) => text.len() * 8,
        }
    }

    fn at(&self, place: usize) -> bool {
        match self {
            Self::Number(number, count) => number >> (count - 1 - place) & 1 == 1,
            Self::Text(text) => text[place / 8] >> (7 - place % 8) & 1 == 1,
        }
    }
}

/// The chroma planes in which the programs embed. They differ in what zero means for magnitude, and
/// in whether the program handed red and blue over in the order that the package expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatermarkPlane {
    /// U of 8-bit pictures, in whole numbers around 128: Stable Diffusion 1 and 2.
    Bytes,
    /// U of floating-point pictures, around 0.5: Stable Diffusion XL and FLUX.
    Floats,
    /// The same with red and blue exchanged: early versions of the pipelines for XL.
    FloatsExchanged,
}

const PLANES: [WatermarkPlane; 3] = [
    WatermarkPlane::Bytes,
    WatermarkPlane::Floats,
    WatermarkPlane::FloatsExchanged,
];

/// A known message that was found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvisibleWatermark {
    /// What embeds this message.
    pub generator: String,
    /// Bits that agree with the message.
    pub agreeing_bits: u32,
    /// Bits of the message.
    pub bits: u32,
    /// How often fair coins reach as many agreeing bits in any message and plane that is tried.
    pub false_positive_rate: f64,
}

/// The known message in RGB8 pixels, interleaved, rows from the top, `height * width * 3` bytes: the one
/// that chance explains least, since a picture has room for one. Pictures of fewer than 65,536 pixels,
/// which the package does not mark, have none.
#[must_use]
pub fn invisible_watermark(width: u32, height: u32, rgb: &[u8]) -> Option<InvisibleWatermark> {
    if u64::from(width) * u64::from(height) < PIXELS_MIN {
        return None;
    }
    let tried = (PLANES.len() * MESSAGES.len()) as f64;
    let found = watermark_agreements(width, height, rgb).into_iter();
    let found = found.map(|(name, agreeing_bits, bits)| InvisibleWatermark {
        generator: name.to_owned(),
        agreeing_bits,
        bits,
        false_positive_rate: (upper_tail(bits, agreeing_bits) * tried).min(1.0),
    });
    found
        .filter(|mark| {
            mark.false_positive_rate <= WATERMARK_FALSE_POSITIVE_RATE_MAX
                && f64::from(mark.agreeing_bits) >= AGREEING_SHARE_MIN * f64::from(mark.bits)
        })
        .min_by(|a, b| a.false_positive_rate.total_cmp(&b.false_positive_rate))
}

/// The most agreeing bits of each known message over all planes, by the generator's name, with the
/// message's number of bits: for measuring where thresholds belong.
#[must_use]
pub fn watermark_agreements(width: u32, height: u32, rgb: &[u8]) -> Vec<(&'static str, u32, u32)> {
    let reads: Vec<Vec<bool>> = PLANES
        .into_iter()
        .map(|plane| watermark_block_bits(width, height, rgb, plane))
        .collect();
    let agreement = |message: &Message| {
        let best = reads
            .iter()
            .filter_map(|blocks| agreeing(&message.bits, blocks));
        let best = best.max().unwrap_or(0);
        (message.name, best as u32, message.bits.len() as u32)
    };
    MESSAGES.iter().map(agreement).collect()
}

/// The bit of each block of a plane, row by row, up to the stripe of blocks with the 65,536th. Blocks
/// that the edge cuts are left out; a picture of less than a block has none.
#[must_use]
pub fn watermark_block_bits(
    width: u32,
    height: u32,
    rgb: &[u8],
    plane: WatermarkPlane,
) -> Vec<bool> {
    let row_bytes = width as usize * 3;
    let columns = width as usize / 8;
    let mut bits = Vec::with_capacity(columns * (height as usize / 8));
    // A block is 8 by 8 pixels; one coefficient is 2 by 2.
    for stripe in rgb.chunks_exact(row_bytes.max(1) * 8) {
        if bits.len() >= BLOCKS_MAX {
            break;
        }
        for column in 0..columns {
            let coefficient = |n: usize| {
                let (y, x) = (n / BLOCK * 2, column * 8 + n % BLOCK * 2);
                let at = y * row_bytes + x * 3;
                let below = at + row_bytes;
                low_band(plane, &stripe[at..at + 6], &stripe[below..below + 6])
            };
            let mut largest = 0.0_f32;
            for n in 1..BLOCK * BLOCK {
                let magnitude = coefficient(n).abs();
                if magnitude > largest {
                    largest = magnitude;
                }
            }
            bits.push(largest % STEP > STEP / 2.0);
        }
    }
    bits
}

/// The Haar low band of U over two pixels and the two below them: their sum, halved.
fn low_band(plane: WatermarkPlane, upper: &[u8], lower: &[u8]) -> f32 {
    let pixels = [&upper[..3], &upper[3..], &lower[..3], &lower[3..]];
    match plane {
        WatermarkPlane::Bytes => {
            let sum: i32 = pixels.into_iter().map(chroma_of_bytes).sum();
            sum as f32 / 2.0
        }
        WatermarkPlane::Floats => half_sum(pixels, [0, 1, 2]),
        WatermarkPlane::FloatsExchanged => half_sum(pixels, [2, 1, 0]),
    }
}

/// U of one pixel in whole numbers (ITU-R BT.601 luma; 0.492 of blue's distance from it; weights of 14
/// bits, rounded, as computer vision libraries do).
fn chroma_of_bytes(pixel: &[u8]) -> i32 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
    let luma = (4899 * red + 9617 * green + 1868 * blue + (1 << 13)) >> 14;
    let chroma = (8061 * (blue - luma) + (128 << 14) + (1 << 13)) >> 14;
    chroma.clamp(0, 255)
}

/// Half the sum of U in floating point, with the channels in the given order: four times the offset of
/// 0.5, halved, is 1.
fn half_sum(pixels: [&[u8]; 4], order: [usize; 3]) -> f32 {
    let sum = |channel: usize| -> f32 {
        let sum: u16 = pixels.iter().map(|pixel| u16::from(pixel[channel])).sum();
        f32::from(sum)
    };
    let [red, green, blue] = order.map(sum);
    let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
    0.492 * (blue - luma) / 2.0 + 1.0
}

/// Bits of a message that the blocks' votes agree with; none where a bit has no block. As in the
/// package, a bit is 1 where at least half of its blocks say so.
fn agreeing(message: &Bits, blocks: &[bool]) -> Option<usize> {
    let length = message.len();
    if blocks.len() < length {
        return None;
    }
    let mut votes = vec![(0_u32, 0_u32); length];
    for (block, &bit) in blocks.iter().enumerate() {
        let (ones, all) = &mut votes[block % length];
        *ones += u32::from(bit);
        *all += 1;
    }
    let agrees = |(place, &(ones, all)): (usize, &(u32, u32))| {
        let read = 2 * ones >= all;
        read == message.at(place)
    };
    Some(
        votes
            .iter()
            .enumerate()
            .filter(|vote| agrees(*vote))
            .count(),
    )
}

/// How often `count` fair coins give at least `least` heads.
fn upper_tail(count: u32, least: u32) -> f64 {
    // The chance of exactly k heads, from that of k - 1; logarithms keep 2^-224 within range.
    let mut log_chance = -f64::from(count) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for heads in 0..=count {
        if heads > 0 {
            log_chance += (f64::from(count - heads + 1) / f64::from(heads)).ln();
        }
        if heads >= least {
            tail += log_chance.exp();
        }
    }
    tail.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_fair_coins_is_the_binomial_one() {
        assert!((upper_tail(3, 2) - 0.5).abs() < 1e-12);
        assert!((upper_tail(32, 32) / 0.5_f64.powi(32) - 1.0).abs() < 1e-9);
        assert!((upper_tail(48, 0) - 1.0).abs() < 1e-9);
        assert!(upper_tail(224, 224) > 0.0);
    }

    #[test]
    fn messages_have_the_bits_of_their_programs() {
        let bits = |message: &Message| -> String {
            let bit = |place| if message.bits.at(place) { '1' } else { '0' };
            (0..message.bits.len()).map(bit).collect()
        };
        let all: Vec<String> = MESSAGES.iter().map(bits).collect();
        assert_eq!(all[0], "101100111110110010010000011110111011000110011110");
        assert_eq!(all[1], "1010101111111010000111100111001111010100101110");
        assert_eq!(all[4], "01010011010001000101011000110010");
        assert_eq!((all[2].len(), all[3].len()), (136, 224));
    }

    #[test]
    fn a_picture_of_one_colour_carries_no_message() {
        for colour in [[0_u8; 3], [255; 3], [10, 200, 40], [250, 3, 250]] {
            let rgb = colour.repeat(300 * 300);
            assert_eq!(invisible_watermark(300, 300, &rgb), None);
        }
    }

    #[test]
    fn pictures_that_are_too_small_or_too_narrow_are_no_trouble() {
        assert_eq!(invisible_watermark(7, 20_000, &[9; 7 * 20_000 * 3]), None);
        assert_eq!(invisible_watermark(1, 1, &[0; 3]), None);
        assert_eq!(invisible_watermark(0, 0, &[]), None);
    }
}
