//! The encoders.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::MediaError;
use crate::exif::{self, ExifTexts};

/// Encodes RGB8 pixels as PNG with text chunks. The same input gives the same bytes: filter
/// and compression are fixed, and nothing is added by itself.
///
/// ASCII texts become `tEXt` chunks, others `iTXt`, before the image data, in the given order.
///
/// # Errors
/// `PixelCount` when `rgb` is not `width * height * 3` long, `Encode` for a keyword that PNG
/// does not allow (1 to 79 Latin-1 characters).
pub fn encode_png(
    width: u32,
    height: u32,
    rgb: &[u8],
    texts: &[(&str, &str)],
) -> Result<Vec<u8>, MediaError> {
    check_pixels((width, height), rgb)?;
    write_png(width, height, rgb, texts).map_err(|error| MediaError::Encode {
        cause: error.to_string(),
    })
}

/// Encodes RGB8 pixels of a size (width, height) as JPEG of a quality from 1 to 100, with texts in
/// an EXIF block. The same input gives the same bytes.
///
/// # Errors
/// `PixelCount` when `rgb` is not `width * height * 3` long, `Encode` for sides over 65,535 and
/// texts that do not fit into one segment.
pub fn encode_jpeg(
    size: (u32, u32),
    rgb: &[u8],
    quality: u8,
    texts: &ExifTexts<'_>,
) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100));
    encode_with_exif(encoder, size, rgb, texts)?;
    Ok(bytes)
}

/// Encodes RGB8 pixels of a size (width, height) as WebP without loss, with texts in an EXIF block.
/// The same input gives the same bytes.
///
/// # Errors
/// `PixelCount` when `rgb` is not `width * height * 3` long, `Encode` for sides over 16,384.
pub fn encode_webp(
    size: (u32, u32),
    rgb: &[u8],
    texts: &ExifTexts<'_>,
) -> Result<Vec<u8>, MediaError> {
    let mut bytes = Vec::new();
    encode_with_exif(WebPEncoder::new_lossless(&mut bytes), size, rgb, texts)?;
    Ok(bytes)
}

fn encode_with_exif(
    mut encoder: impl ImageEncoder,
    size: (u32, u32),
    rgb: &[u8],
    texts: &ExifTexts<'_>,
) -> Result<(), MediaError> {
    check_pixels(size, rgb)?;
    let refused = |cause: String| MediaError::Encode { cause };
    encoder
        .set_exif_metadata(exif::write(texts))
        .map_err(|error| refused(error.to_string()))?;
    encoder
        .write_image(rgb, size.0, size.1, ExtendedColorType::Rgb8)
        .map_err(|error| refused(error.to_string()))
}

pub(crate) fn check_pixels((width, height): (u32, u32), rgb: &[u8]) -> Result<(), MediaError> {
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
    Ok(())
}

fn write_png(
    width: u32,
    height: u32,
    rgb: &[u8],
    texts: &[(&str, &str)],
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    for (keyword, text) in texts {
        if text.is_ascii() {
            encoder.add_text_chunk((*keyword).to_owned(), (*text).to_owned())?;
        } else {
            encoder.add_itxt_chunk((*keyword).to_owned(), (*text).to_owned())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(bytes)
}
