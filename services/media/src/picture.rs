//! Small pictures that explain a score: heatmaps over the upload and strips of a process.

use crate::encode::encode_png;
use crate::error::MediaError;

/// RGB8 pixels with their size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture from interleaved RGB8 pixels, rows from the top.
    ///
    /// # Errors
    /// `PixelCount` when the buffer's length is not `width * height * 3`, or zero.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, MediaError> {
        let expected = u64::from(width) * u64::from(height) * 3;
        let got = rgb.len() as u64;
        if expected == 0 || expected != got {
            return Err(MediaError::PixelCount {
                width,
                height,
                expected,
                got,
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Interleaved RGB8 pixels.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The picture as PNG, without any text.
    ///
    /// # Errors
    /// `Encode`, should the encoder refuse.
    pub fn to_png(&self) -> Result<Vec<u8>, MediaError> {
        encode_png(self.width, self.height, &self.rgb, &[])
    }

    /// The picture reduced by averaging whole pixels so that no side is longer than
    /// `side_max`; unchanged when it already fits.
    #[must_use]
    pub fn fit(&self, side_max: u32) -> Self {
        let longest = self.width.max(self.height);
        if longest <= side_max || side_max == 0 {
            return self.clone();
        }
        let scaled = |side: u32| {
            let scaled = u64::from(side) * u64::from(side_max) / u64::from(longest);
            u32::try_from(scaled).expect("a reduced side fits").max(1)
        };
        let (width, height) = (scaled(self.width), scaled(self.height));
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height {
            let rows = span(y, height, self.height);
            for x in 0..width {
                rgb.extend(self.mean(span(x, width, self.width), rows.clone()));
            }
        }
        Self { width, height, rgb }
    }

    /// Mean colour of a rectangle that is not empty.
    fn mean(&self, columns: std::ops::Range<u32>, rows: std::ops::Range<u32>) -> [u8; 3] {
        let mut sums = [0_u64; 3];
        for y in rows.clone() {
            for x in columns.clone() {
                let at = (y as usize * self.width as usize + x as usize) * 3;
                for (sum, &value) in sums.iter_mut().zip(&self.rgb[at..at + 3]) {
                    *sum += u64::from(value);
                }
            }
        }
        let count = (columns.len() * rows.len()) as u64;
        sums.map(|sum| u8::try_from((sum + count / 2) / count).expect("a mean of bytes"))
    }
}

/// The source pixels that target pixel `at` of `target` covers; never empty.
fn span(at: u32, target: u32, source: u32) -> std::ops::Range<u32> {
    let edge = |at: u32| {
        let edge = u64::from(at) * u64::from(source) / u64::from(target);
        u32::try_from(edge).expect("an edge inside the picture")
    };
    let start = edge(at);
    start..edge(at + 1).max(start + 1)
}

/// A square of a heatmap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeatSquare {
    /// Left column in pixels.
    pub x: u32,
    /// Top row in pixels.
    pub y: u32,
    /// Side in pixels.
    pub side: u32,
    /// Value from 0 to 1.
    pub value: f32,
}

/// Five stops of the viridis colour map (matplotlib), from 0 to 1: readable without colour
/// vision and in grey.
const VIRIDIS: [[u8; 3]; 5] = [
    [68, 1, 84],
    [59, 82, 139],
    [33, 145, 140],
    [94, 201, 98],
    [253, 231, 37],
];

/// Blends squares in equal parts over the picture, the mean value where squares overlap. Parts
/// outside the picture and squares whose value is no number are left out.
#[must_use]
pub fn overlay_heatmap(picture: &Picture, squares: &[HeatSquare]) -> Picture {
    let mut out = picture.clone();
    let mut sums = vec![(0.0_f32, 0_u16); picture.rgb.len() / 3];
    for square in squares.iter().filter(|square| square.value.is_finite()) {
        let right = square.x.saturating_add(square.side).min(picture.width);
        let bottom = square.y.saturating_add(square.side).min(picture.height);
        for y in square.y..bottom {
            for x in square.x..right {
                let (sum, count) = &mut sums[y as usize * picture.width as usize + x as usize];
                *sum += square.value;
                *count = count.saturating_add(1);
            }
        }
    }
    for ((sum, count), pixel) in sums.into_iter().zip(out.rgb.chunks_exact_mut(3)) {
        if count > 0 {
            for (channel, tint) in pixel.iter_mut().zip(viridis(sum / f32::from(count))) {
                *channel = channel.midpoint(tint);
            }
        }
    }
    out
}

/// The colour of a value, clamped to 0..1, between the two stops around it.
fn viridis(value: f32) -> [u8; 3] {
    let place = value.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f32;
    // Truncation picks the stop below; the clamp above keeps it in range.
    let below = (place as usize).min(VIRIDIS.len() - 2);
    let part = place - below as f32;
    std::array::from_fn(|channel| {
        let (from, to) = (
            f32::from(VIRIDIS[below][channel]),
            f32::from(VIRIDIS[below + 1][channel]),
        );
        (from + part * (to - from)).round() as u8
    })
}

/// Puts pictures side by side on white, top-aligned, with `gap` white pixels between them.
///
/// # Errors
/// `PixelCount` when there is no picture, or the strip would be too wide to count.
pub fn strip(pictures: &[Picture], gap: u32) -> Result<Picture, MediaError> {
    let height = pictures.iter().map(Picture::height).max().unwrap_or(0);
    let gaps = u64::from(gap) * (pictures.len() as u64).saturating_sub(1);
    let width = pictures.iter().map(|p| u64::from(p.width)).sum::<u64>() + gaps;
    let too_wide = MediaError::PixelCount {
        width: u32::MAX,
        height,
        expected: 0,
        got: 0,
    };
    let width = u32::try_from(width).map_err(|_| too_wide)?;
    let mut rgb = vec![255; width as usize * height as usize * 3];
    let mut left = 0;
    for picture in pictures {
        let row_bytes = picture.width as usize * 3;
        for (y, row) in picture.rgb.chunks_exact(row_bytes).enumerate() {
            let at = (y * width as usize + left) * 3;
            rgb[at..at + row_bytes].copy_from_slice(row);
        }
        left += picture.width as usize + gap as usize;
    }
    Picture::new(width, height, rgb)
}
