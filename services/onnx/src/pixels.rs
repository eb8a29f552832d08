//! Between samples in -1..1, shape (1, 3, height, width), and 8-bit pictures.

use ndarray::{Array4, ArrayView4};

use crate::error::OnnxError;
use crate::request::Picture;

/// Rounds a decoded sample to 8 bits: `(x / 2 + 0.5)` clipped to 0..1, times 255, to the nearest,
/// halves to even, as the reference does.
///
/// # Errors
/// [`OnnxError::PortKind`] when the sample does not have one row and three channels.
pub(crate) fn picture(part: &str, sample: ArrayView4<'_, f32>) -> Result<Picture, OnnxError> {
    let (batch, channels, height, width) = sample.dim();
    if batch != 1 || channels != 3 {
        return Err(OnnxError::PortKind {
            part: part.to_owned(),
            port: "decoded sample".to_owned(),
            found: format!("of shape {:?}", sample.shape()),
            expected: "(1, 3, height, width)".to_owned(),
        });
    }
    let mut rgb = Vec::with_capacity(height * width * 3);
    for row in 0..height {
        for column in 0..width {
            for channel in 0..3 {
                let value = sample[[0, channel, row, column]];
                let level = (value / 2.0 + 0.5).clamp(0.0, 1.0);
                // NaN becomes 0 here; images are checked before, previews may be dark.
                rgb.push((level * 255.0).round_ties_even() as u8);
            }
        }
    }
    Ok(Picture {
        width: width as u32,
        height: height as u32,
        rgb,
    })
}

/// The sample of a picture: `value / 127.5 - 1`. The picture's buffer has its full length.
pub(crate) fn sample(picture: &Picture) -> Array4<f32> {
    let (height, width) = (picture.height as usize, picture.width as usize);
    Array4::from_shape_fn((1, 3, height, width), |(_, channel, row, column)| {
        f32::from(picture.rgb[(row * width + column) * 3 + channel]) / 127.5 - 1.0
    })
}

/// Whether every pixel has the same colour.
pub(crate) fn is_constant(picture: &Picture) -> bool {
    let mut pixels = picture.rgb.chunks_exact(3);
    let first = pixels.next();
    pixels.all(|pixel| Some(pixel) == first)
}

/// Resizes by a triangle filter whose support grows with the reduction, so that nothing is skipped;
/// first along rows, then along columns.
pub(crate) fn resize(picture: &Picture, width: u32, height: u32) -> Picture {
    let (from_width, from_height) = (picture.width as usize, picture.height as usize);
    let columns = triangle_weights(from_width, width as usize);
    let rows = triangle_weights(from_height, height as usize);
    let mut wide = vec![0.0_f32; from_height * columns.len() * 3];
    for row in 0..from_height {
        for (column, (start, weights)) in columns.iter().enumerate() {
            for channel in 0..3 {
                let taps = weights.iter().enumerate().map(|(tap, weight)| {
                    let source = (row * from_width + start + tap) * 3 + channel;
                    weight * f32::from(picture.rgb[source])
                });
                wide[(row * columns.len() + column) * 3 + channel] = taps.sum();
            }
        }
    }
    let mut rgb = Vec::with_capacity(rows.len() * columns.len() * 3);
    for (start, weights) in &rows {
        for offset in 0..columns.len() * 3 {
            let taps = weights
                .iter()
                .enumerate()
                .map(|(tap, weight)| weight * wide[(start + tap) * columns.len() * 3 + offset]);
            let value: f32 = taps.sum();
            rgb.push(value.round_ties_even().clamp(0.0, 255.0) as u8);
        }
    }
    Picture { width, height, rgb }
}

/// For each target position the first source position and the weights from there on, summing to
/// one.
fn triangle_weights(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f32 / to as f32;
    let support = scale.max(1.0);
    (0..to)
        .map(|target| {
            let centre = (target as f32 + 0.5) * scale;
            let start = (centre - support).floor().max(0.0) as usize;
            let end = ((centre + support).ceil() as usize).min(from);
            let weights: Vec<f32> = (start..end)
                .map(|source| (1.0 - ((source as f32 + 0.5 - centre) / support).abs()).max(0.0))
                .collect();
            let total: f32 = weights.iter().sum();
            (start, weights.iter().map(|weight| weight / total).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_keeps_a_constant_picture_constant() {
        let picture = Picture {
            width: 7,
            height: 5,
            rgb: [10, 200, 90].repeat(35),
        };
        for (width, height) in [(3, 2), (7, 5), (16, 11)] {
            let resized = resize(&picture, width, height);
            assert_eq!(resized.rgb, [10, 200, 90].repeat((width * height) as usize));
        }
    }

    #[test]
    fn pictures_survive_the_way_to_a_sample_and_back() {
        let rgb: Vec<u8> = (0..=255)
            .flat_map(|level| [level, 255 - level, 128])
            .collect();
        let original = Picture {
            width: 16,
            height: 16,
            rgb,
        };
        assert_eq!(picture("test", sample(&original).view()).unwrap(), original);
    }
}
