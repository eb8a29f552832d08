//! The ink values of a JPEG with four inks, which the picture decoder turns into colours by a rule of its own.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::limits::Limits;

/// Cyan, magenta, yellow and black, interleaved, 255 for all of an ink; none where the file does not give them.
pub(crate) fn inks(jpeg: &[u8], limits: &Limits) -> Option<Vec<u8>> {
    let side_max = limits.side_max as usize;
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(side_max)
        .set_max_height(side_max);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    decoder.decode_headers().ok()?;
    let stored = decoder.input_colorspace()?;
    // As stored: then nothing is lost on the way.
    decoder.set_options(options.jpeg_set_out_colorspace(stored));
    let mut values = decoder.decode().ok()?;
    match stored {
        // Programs write 255 for no ink, whether or not the file says so.
        ColorSpace::CMYK => values.iter_mut().for_each(|value| *value = 255 - *value),
        ColorSpace::YCCK => values.as_chunks_mut().0.iter_mut().for_each(from_ycck),
        _ => return None,
    }
    Some(values)
}

/// Luma and colour differences (JFIF 1.02) of the three coloured inks, and the black one.
fn from_ycck(pixel: &mut [u8; 4]) {
    let [luma, blue, red, black] = pixel.map(f32::from);
    let (blue, red) = (blue - 128.0, red - 128.0);
    // A float becomes the nearest byte within the range.
    let byte = |value: f32| value.round() as u8;
    *pixel = [
        byte(luma + 1.402 * red),
        byte(luma - 0.344_136 * blue - 0.714_136 * red),
        byte(luma + 1.772 * blue),
        byte(255.0 - black),
    ];
}
