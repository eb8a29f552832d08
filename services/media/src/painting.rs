//! Painting a part of a picture anew, as A1111's web interface does it: the mask's edge is softened, the part
//! round the mask may be cut out and worked on at full size, what lies under the mask may start from the colours
//! round it, and the result goes back into the picture, of which every pixel outside the mask stays as it was.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};

use crate::blur::Plane;
use crate::error::MediaError;
use crate::picture::Picture;
use crate::resample::resample;

/// The softening that [`PaintingOptions::blur`] names is cut off after so many deviations.
const BLUR_REACH: f32 = 2.5;
/// Deviations in pixels of the blurred copies that fill what is painted over, and how often each is laid on the one
/// before: far colours first, so that near ones lie on top.
const FILL: [(f32, u32); 6] = [
    (256.0, 1),
    (64.0, 1),
    (16.0, 2),
    (4.0, 4),
    (2.0, 2),
    (0.0, 1),
];

/// How a part is painted anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaintingOptions {
    /// Deviation in pixels of the Gaussian that softens the mask's edge; 0 leaves it sharp.
    pub blur: f32,
    /// Pixels round the mask that are worked on with it; none works on the whole picture.
    pub padding: Option<u32>,
    /// Whether what is painted over starts from the colours round it.
    pub fill: bool,
    /// Width and height at which the part is worked on.
    pub size: (u32, u32),
}

/// One byte for each pixel: how much of it is painted anew, 0 to 255.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaintMask {
    width: u32,
    height: u32,
    luma: Vec<u8>,
}

/// A rectangle inside a picture; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// A painting under way: what the finished part goes back into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Painting {
    base: Picture,
    mask: PaintMask,
    region: Region,
}

/// What is to be worked on, at the size of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    /// The picture to start from.
    pub picture: Picture,
    /// Where it is painted anew.
    pub mask: PaintMask,
}

impl PaintMask {
    /// A mask of `width * height` bytes, rows from the top.
    ///
    /// # Errors
    /// `PixelCount` when the buffer has another length, or none.
    pub fn new(width: u32, height: u32, luma: Vec<u8>) -> Result<Self, MediaError> {
        let (expected, got) = (u64::from(width) * u64::from(height), luma.len() as u64);
        if expected == 0 || expected != got {
            return Err(MediaError::PixelCount {
                width,
                height,
                expected,
                got,
            });
        }
        Ok(Self {
            width,
            height,
            luma,
        })
    }

    /// The bytes, rows from the top.
    #[must_use]
    pub fn luma(&self) -> &[u8] {
        &self.luma
    }

    fn softened(&self, deviation: f32) -> Self {
        if deviation <= 0.0 {
            return self.clone();
        }
        let plane = Plane {
            width: self.width as usize,
            height: self.height as usize,
            values: self.luma.iter().map(|&value| f32::from(value)).collect(),
        };
        let blurred = plane.blurred(deviation, (BLUR_REACH * deviation + 0.5) as usize);
        Self {
            luma: blurred.values.iter().map(|&value| byte(value)).collect(),
            ..self.clone()
        }
    }

    /// The smallest rectangle that holds everything that is painted.
    fn bounds(&self) -> Option<Region> {
        let width = self.width as usize;
        let rows = self.luma.chunks_exact(width);
        let painted = |row: &[u8]| row.iter().any(|&value| value > 0);
        let top = rows.clone().position(painted)?;
        let bottom = rows.clone().rposition(painted)?;
        let left = rows
            .clone()
            .filter_map(|row| row.iter().position(|&value| value > 0))
            .min()?;
        let right = rows
            .filter_map(|row| row.iter().rposition(|&value| value > 0))
            .max()?;
        Some(Region {
            x: left as u32,
            y: top as u32,
            width: (right - left + 1) as u32,
            height: (bottom - top + 1) as u32,
        })
    }

    fn doubled(&self) -> Self {
        Self {
            luma: self
                .luma
                .iter()
                .map(|value| value.saturating_mul(2))
                .collect(),
            ..self.clone()
        }
    }

    fn cropped(&self, region: Region) -> Self {
        Self {
            width: region.width,
            height: region.height,
            luma: crop(&self.luma, self.width, region, 1),
        }
    }

    fn resized(&self, (width, height): (u32, u32)) -> Self {
        if (self.width, self.height) == (width, height) {
            return self.clone();
        }
        let buffer = ImageBuffer::<Luma<u8>, _>::from_raw(self.width, self.height, &self.luma[..])
            .expect("a mask has all its bytes");
        Self {
            width,
            height,
            luma: resize(&buffer, width, height, FilterType::Triangle).into_raw(),
        }
    }
}

impl Region {
    /// All of a picture.
    fn of((width, height): (u32, u32)) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    /// Grown by `padding` on every side and then to the shape of `size`, as far as the picture goes. The shape is
    /// reached by growing alone, so a picture that is too small keeps another one.
    fn grown(self, padding: u32, size: (u32, u32), picture: (u32, u32)) -> Self {
        let grow = |start: u32, length: u32, whole: u32| {
            let end = (start + length).saturating_add(padding).min(whole);
            let start = start.saturating_sub(padding);
            (start, end - start)
        };
        let (x, width) = grow(self.x, self.width, picture.0);
        let (y, height) = grow(self.y, self.height, picture.1);
        let scaled = |side: u32, by: u32, over: u32| {
            u32::try_from(u64::from(side) * u64::from(by) / u64::from(over)).unwrap_or(u32::MAX)
        };
        let (wanted_width, wanted_height) = (
            width.max(scaled(height, size.0, size.1)),
            height.max(scaled(width, size.1, size.0)),
        );
        let (x, width) = stretch((x, width), wanted_width, picture.0);
        let (y, height) = stretch((y, height), wanted_height, picture.1);
        Self {
            x,
            y,
            width,
            height,
        }
    }
}

/// A stretch of a line, made as long as wanted about its middle, moved and at last cut to stay inside.
fn stretch((start, length): (u32, u32), wanted: u32, whole: u32) -> (u32, u32) {
    let wanted = wanted.clamp(length, whole.max(length));
    let start = start.saturating_sub((wanted - length) / 2);
    (start.min(whole.saturating_sub(wanted)), wanted)
}

impl Painting {
    /// Prepares what is to be worked on.
    ///
    /// # Errors
    /// `MaskSize` when picture and mask have different sizes, `MaskBlank` when nothing is to be painted, and
    /// `PixelCount` for a size of nothing.
    pub fn prepare(
        picture: &Picture,
        mask: &PaintMask,
        options: PaintingOptions,
    ) -> Result<(Self, Canvas), MediaError> {
        let own_size = (picture.width(), picture.height());
        if own_size != (mask.width, mask.height) {
            return Err(MediaError::MaskSize {
                picture: own_size,
                mask: (mask.width, mask.height),
            });
        }
        let soft = mask.softened(options.blur);
        let bounds = soft.bounds().ok_or(MediaError::MaskBlank)?;
        let size = options.size;
        let (painting, part_mask) = match options.padding {
            Some(padding) => {
                let region = bounds.grown(padding, size, own_size);
                let part_mask = soft.cropped(region).resized(size);
                let base = picture.clone();
                let mask = soft;
                (Self { base, mask, region }, part_mask)
            }
            None => {
                let base = resample(own_size, picture.rgb(), size)?;
                let part_mask = soft.resized(size);
                // What is half painted is painted in full, so that no seam of the old picture stays.
                let mask = part_mask.doubled();
                let region = Region::of(size);
                (Self { base, mask, region }, part_mask)
            }
        };
        let part = painting.part(size)?;
        let canvas = Canvas {
            picture: match options.fill {
                true => filled(&part, &part_mask),
                false => part,
            },
            mask: part_mask,
        };
        Ok((painting, canvas))
    }

    /// The part that is worked on, at the size at which it is.
    fn part(&self, size: (u32, u32)) -> Result<Picture, MediaError> {
        let region = self.region;
        let rgb = crop(self.base.rgb(), self.base.width(), region, 3);
        resample((region.width, region.height), &rgb, size)
    }

    /// Puts a finished part back: outside the mask every pixel is the old one, on its soft edge a mixture.
    ///
    /// # Errors
    /// `PixelCount`, should the part be of no size.
    pub fn finish(&self, part: &Picture) -> Result<Picture, MediaError> {
        let region = self.region;
        let part = resample(
            (part.width(), part.height()),
            part.rgb(),
            (region.width, region.height),
        )?;
        let mut rgb = self.base.rgb().to_vec();
        let weights = crop(&self.mask.luma, self.mask.width, region, 1);
        let row_bytes = 3 * self.base.width() as usize;
        let first = region.y as usize * row_bytes + 3 * region.x as usize;
        let part_bytes = 3 * region.width as usize;
        let rows = rgb[first..].chunks_mut(row_bytes);
        let parts = part.rgb().chunks_exact(part_bytes);
        let weights = weights.chunks_exact(region.width as usize);
        for ((row, part), weights) in rows.zip(parts).zip(weights) {
            let pixels = row.chunks_exact_mut(3).zip(part.chunks_exact(3));
            for ((old, new), &weight) in pixels.zip(weights) {
                for (old, &new) in old.iter_mut().zip(new) {
                    *old = mixed(*old, new, weight);
                }
            }
        }
        Picture::new(self.base.width(), self.base.height(), rgb)
    }
}

/// A mean of two bytes, `weight / 255` of it the new one.
fn mixed(old: u8, new: u8, weight: u8) -> u8 {
    let (old, new, weight) = (u32::from(old), u32::from(new), u32::from(weight));
    u8::try_from((old * (255 - weight) + new * weight + 127) / 255).expect("a mean of bytes")
}

/// The picture with what is painted over replaced by the colours round it.
fn filled(picture: &Picture, mask: &PaintMask) -> Picture {
    let kept: Vec<f32> = mask
        .luma
        .iter()
        .map(|&value| 1.0 - f32::from(value) / 255.0)
        .collect();
    // Colours times opacity, then the opacity itself.
    let planes: [Plane; 4] = std::array::from_fn(|channel| {
        let values = kept.iter().zip(picture.rgb().chunks_exact(3));
        let values = values.map(|(&kept, pixel)| match channel {
            3 => kept,
            _ => kept * f32::from(pixel[channel]),
        });
        Plane {
            width: picture.width() as usize,
            height: picture.height() as usize,
            values: values.collect(),
        }
    });
    let mut out = [(); 4].map(|()| vec![0.0_f32; kept.len()]);
    for (deviation, times) in FILL {
        let layer = planes
            .each_ref()
            .map(|plane| plane.blurred_by_boxes(deviation));
        for _ in 0..times {
            for (out, layer_values) in out.iter_mut().zip(&layer) {
                let over = out.iter_mut().zip(&layer_values.values);
                for ((below, &above), &opacity) in over.zip(&layer[3].values) {
                    *below = above + *below * (1.0 - opacity);
                }
            }
        }
    }
    let [red, green, blue, opacity] = out;
    let mut rgb = Vec::with_capacity(3 * kept.len());
    for (at, &opacity) in opacity.iter().enumerate() {
        let level = |plane: &[f32]| byte(plane[at] / opacity.max(f32::MIN_POSITIVE));
        rgb.extend([level(&red), level(&green), level(&blue)]);
    }
    Picture::new(picture.width(), picture.height(), rgb).expect("as many pixels as before")
}

fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// The bytes of a region, `channels` for each pixel.
fn crop(bytes: &[u8], width: u32, region: Region, channels: usize) -> Vec<u8> {
    let rows = bytes.chunks_exact(width as usize * channels);
    let rows = rows.skip(region.y as usize).take(region.height as usize);
    let columns = region.x as usize * channels..(region.x + region.width) as usize * channels;
    rows.flat_map(|row| row[columns.clone()].iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grey that grows to the right, `side` pixels square.
    fn slope(side: u32) -> Picture {
        let pixels = (0..side).flat_map(|_| (0..side).flat_map(|x| [(2 * x) as u8; 3]));
        Picture::new(side, side, pixels.collect()).unwrap()
    }

    fn square_mask(side: u32, from: u32, to: u32) -> PaintMask {
        let inside = |at: u32| (from..to).contains(&at);
        let luma = (0..side)
            .flat_map(|y| (0..side).map(move |x| if inside(x) && inside(y) { 255 } else { 0 }));
        PaintMask::new(side, side, luma.collect()).unwrap()
    }

    fn options(padding: Option<u32>) -> PaintingOptions {
        PaintingOptions {
            blur: 0.0,
            padding,
            fill: false,
            size: (64, 64),
        }
    }

    fn flat(side: u32, level: u8) -> Picture {
        Picture::new(side, side, vec![level; (side * side * 3) as usize]).unwrap()
    }

    #[test]
    fn outside_the_mask_every_pixel_stays_and_inside_it_is_the_new_one() {
        let (picture, mask) = (slope(100), square_mask(100, 40, 60));
        let (painting, canvas) = Painting::prepare(&picture, &mask, options(Some(4))).unwrap();
        assert_eq!((canvas.picture.width(), canvas.picture.height()), (64, 64));
        let done = painting.finish(&flat(64, 200)).unwrap();
        assert_eq!((done.width(), done.height()), (100, 100));
        for (at, (pixel, old)) in done
            .rgb()
            .chunks_exact(3)
            .zip(picture.rgb().chunks_exact(3))
            .enumerate()
        {
            let expected = if mask.luma[at] > 0 {
                &[200; 3][..]
            } else {
                old
            };
            assert_eq!(pixel, expected, "pixel {at}");
        }
    }

    #[test]
    fn a_soft_edge_mixes_both_and_is_cut_off_in_the_distance() {
        let (picture, mask) = (flat(100, 0), square_mask(100, 40, 60));
        let soft = PaintingOptions {
            blur: 4.0,
            ..options(Some(0))
        };
        let (painting, _) = Painting::prepare(&picture, &mask, soft).unwrap();
        let done = painting.finish(&flat(64, 255)).unwrap();
        let level = |x: usize| done.rgb()[(50 * 100 + x) * 3];
        assert!((110..=145).contains(&level(40)), "{}", level(40));
        assert!(level(36) > 0 && level(36) < level(40) && level(50) > 200);
        assert_eq!(level(29), 0);
    }

    #[test]
    fn without_padding_the_whole_picture_is_worked_on_at_the_size_asked_for() {
        let (picture, mask) = (slope(128), square_mask(128, 0, 64));
        let (painting, canvas) = Painting::prepare(&picture, &mask, options(None)).unwrap();
        assert_eq!(canvas.mask.luma().len(), 64 * 64);
        let done = painting.finish(&flat(64, 9)).unwrap();
        assert_eq!((done.width(), done.height()), (64, 64));
        assert_eq!(done.rgb()[..3], [9, 9, 9]);
        assert_eq!(
            done.rgb()[64 * 64 * 3 - 1],
            canvas.picture.rgb()[64 * 64 * 3 - 1]
        );
    }

    #[test]
    fn the_region_takes_the_shape_of_the_size_and_stays_inside_the_picture() {
        let region = |x, y, width, height| Region {
            x,
            y,
            width,
            height,
        };
        let picture = (100, 80);
        let grown = |of: Region, padding, size| of.grown(padding, size, picture);
        assert_eq!(
            grown(region(40, 30, 20, 10), 5, (64, 64)),
            region(35, 20, 30, 30)
        );
        assert_eq!(
            grown(region(0, 0, 10, 10), 0, (64, 32)),
            region(0, 0, 20, 10)
        );
        assert_eq!(
            grown(region(90, 70, 10, 10), 0, (32, 64)),
            region(90, 60, 10, 20)
        );
        // Taller than the picture: it cannot have the shape.
        assert_eq!(
            grown(region(10, 0, 10, 80), 900, (64, 512)),
            region(0, 0, 100, 80)
        );
    }

    #[test]
    fn what_is_painted_over_starts_from_the_colours_round_it() {
        let mut rgb = flat(64, 0).rgb().to_vec();
        for pixel in rgb.chunks_exact_mut(3) {
            pixel.copy_from_slice(&[10, 200, 30]);
        }
        let mask = square_mask(64, 16, 48);
        for (at, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            if mask.luma[at] > 0 {
                pixel.copy_from_slice(&[255, 0, 255]);
            }
        }
        let picture = Picture::new(64, 64, rgb).unwrap();
        let fill = PaintingOptions {
            fill: true,
            ..options(None)
        };
        let (_, canvas) = Painting::prepare(&picture, &mask, fill).unwrap();
        for pixel in canvas.picture.rgb().chunks_exact(3) {
            let apart = pixel.iter().zip([10, 200, 30]);
            assert!(
                apart.into_iter().all(|(a, b)| a.abs_diff(b) <= 1),
                "{pixel:?}"
            );
        }
    }

    #[test]
    fn a_blank_mask_and_one_of_another_size_are_refused() {
        let picture = slope(32);
        let blank = PaintMask::new(32, 32, vec![0; 32 * 32]).unwrap();
        let refused = Painting::prepare(&picture, &blank, options(None)).unwrap_err();
        assert!(matches!(refused, MediaError::MaskBlank));
        let other = square_mask(16, 0, 8);
        let refused = Painting::prepare(&picture, &other, options(None)).unwrap_err();
        assert!(matches!(refused, MediaError::MaskSize { .. }));
        assert!(PaintMask::new(4, 4, vec![0; 15]).is_err());
    }
}
