//! The PNG encoder.

use crate::error::MediaError;

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
    write_png(width, height, rgb, texts).map_err(|error| MediaError::Encode {
        cause: error.to_string(),
    })
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
