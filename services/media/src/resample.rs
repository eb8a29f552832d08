//! Other sizes of a picture, for models that take one size only.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Rgb};

use crate::error::MediaError;
use crate::picture::Picture;

/// A reduction by more than this times a whole factor is first averaged by that factor: the bicubic
/// filter's cost grows with the source, and averaging whole pixels loses nothing that it would keep.
const BOX_GAP: u32 = 2;

/// The picture at another size: averaged by a whole factor where it is reduced by four or more, then
/// by Keys' cubic convolution (a = -0.5), widened for reductions so that nothing aliases.
///
/// `rgb` holds `width * height` interleaved RGB8 pixels, rows from the top; `size` is width and height
/// of the result in pixels.
///
/// # Errors
/// `PixelCount` when the buffer's length is not `width * height * 3`, or a size is zero.
pub fn resample(
    (width, height): (u32, u32),
    rgb: &[u8],
    size: (u32, u32),
) -> Result<Picture, MediaError> {
    let refused = || MediaError::PixelCount {
        width,
        height,
        expected: u64::from(width) * u64::from(height) * 3,
        got: rgb.len() as u64,
    };
    if size.0 == 0 || size.1 == 0 || width == 0 || height == 0 {
        return Err(refused());
    }
    let source = ImageBuffer::<Rgb<u8>, &[u8]>::from_raw(width, height, rgb).ok_or_else(refused)?;
    let factor = (width / size.0).min(height / size.1) / BOX_GAP;
    let bytes = if factor > 1 {
        let (small, averaged) = averaged((width, height), rgb, factor);
        let small = ImageBuffer::<Rgb<u8>, Vec<u8>>::from_raw(small.0, small.1, averaged);
        let small = small.ok_or_else(refused)?;
        resize(&small, size.0, size.1, FilterType::CatmullRom).into_raw()
    } else if (width, height) == size {
        rgb[..width as usize * height as usize * 3].to_vec()
    } else {
        resize(&source, size.0, size.1, FilterType::CatmullRom).into_raw()
    };
    Picture::new(size.0, size.1, bytes)
}

/// Means of squares of `factor` pixels; those at the right and lower edge may hold fewer.
fn averaged((width, height): (u32, u32), rgb: &[u8], factor: u32) -> ((u32, u32), Vec<u8>) {
    let (columns, rows) = (width.div_ceil(factor), height.div_ceil(factor));
    let row_bytes = width as usize * 3;
    let mut out = Vec::with_capacity(columns as usize * rows as usize * 3);
    let mut sums = vec![0_u32; columns as usize * 3];
    for band in rgb.chunks(row_bytes * factor as usize) {
        sums.fill(0);
        for row in band.chunks_exact(row_bytes) {
            for (sum, pixels) in sums
                .chunks_exact_mut(3)
                .zip(row.chunks(3 * factor as usize))
            {
                for pixel in pixels.chunks_exact(3) {
                    for (sum, &value) in sum.iter_mut().zip(pixel) {
                        *sum += u32::from(value);
                    }
                }
            }
        }
        let band_rows = (band.len() / row_bytes) as u32;
        for (column, sum) in sums.chunks_exact(3).enumerate() {
            let count = factor.min(width - column as u32 * factor) * band_rows;
            out.extend(sum.iter().map(|sum| {
                u8::try_from((sum + count / 2) / count).expect("a mean of bytes is a byte")
            }));
        }
    }
    ((columns, rows), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduction_keeps_a_flat_picture_flat_and_means_where_they_were() {
        let rgb: Vec<u8> = (0..1000 * 700)
            .flat_map(|at| {
                if at % 1000 < 500 {
                    [10, 20, 30]
                } else {
                    [200, 100, 50]
                }
            })
            .collect();
        let small = resample((1000, 700), &rgb, (100, 70)).unwrap();
        assert_eq!((small.width(), small.height()), (100, 70));
        assert_eq!(small.rgb()[..3], [10, 20, 30]);
        assert_eq!(small.rgb()[small.rgb().len() - 3..], [200, 100, 50]);
    }

    #[test]
    fn squares_at_the_edge_are_averaged_over_what_they_hold() {
        let rgb: Vec<u8> = (0..5_u8).flat_map(|at| [at * 10; 3]).collect();
        let (size, means) = averaged((5, 1), &rgb, 2);
        assert_eq!(
            (size, means),
            ((3, 1), vec![5, 5, 5, 25, 25, 25, 40, 40, 40])
        );
    }

    #[test]
    fn a_buffer_that_does_not_fit_is_refused() {
        assert!(matches!(
            resample((10, 10), &[0; 299], (5, 5)),
            Err(MediaError::PixelCount { .. })
        ));
        assert!(resample((10, 10), &[0; 300], (0, 5)).is_err());
    }
}
