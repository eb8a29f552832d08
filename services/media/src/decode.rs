//! Pixels.

use std::io::Cursor;

use image::{DynamicImage, ImageError, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};

use crate::container::walk;
use crate::error::MediaError;
use crate::format::Format;
use crate::limits::Limits;
use crate::metadata::{self, MetadataItem};
use crate::quantisation::QualityEstimate;

/// A decoded picture with everything that was read beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoded {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// RGB8, interleaved, rows from the top, `height * width * 3` bytes. The EXIF orientation
    /// is not applied, transparency is composited on white, colour profiles are ignored.
    /// Left out of the serialised form: whoever ships a `Decoded` ships the pixels apart.
    #[serde(skip)]
    pub rgb: Vec<u8>,
    /// Format by content.
    pub format: Format,
    /// Whether the picture has an alpha channel that was composited on white.
    pub has_alpha: bool,
    /// Frames in the file; only the first one is decoded.
    pub frames: u32,
    /// Bytes behind the container's end, which no viewer shows.
    pub trailing_bytes: u64,
    /// What the quantisation tables say.
    pub quality: QualityEstimate,
    /// What tools wrote into the file, in file order.
    pub metadata: Vec<MetadataItem>,
    /// Metadata items that were left out: malformed, or over the metadata limits.
    pub metadata_skipped: u32,
}

/// Decodes a PNG, JPEG or WebP picture after every cap has been checked on its container.
///
/// # Errors
/// The cap that was broken, or what is wrong with the file.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let walk = walk(bytes, limits)?;
    let header = walk.header;
    let picture = decode_pixels(bytes, header.format, limits)?;
    if (picture.width(), picture.height()) != (header.width, header.height) {
        return Err(MediaError::Malformed {
            format: header.format,
            what: "the picture's size differs from the declared one",
        });
    }
    let has_alpha = picture.color().has_alpha();
    let (metadata, metadata_skipped) = metadata::read(&walk.metadata, limits);
    Ok(Decoded {
        width: header.width,
        height: header.height,
        rgb: into_rgb(picture),
        format: header.format,
        has_alpha,
        frames: header.frames,
        trailing_bytes: walk.trailing_bytes,
        quality: QualityEstimate::from_tables(&walk.quantisation_tables),
        metadata,
        metadata_skipped,
    })
}

fn decode_pixels(
    bytes: &[u8],
    format: Format,
    limits: &Limits,
) -> Result<DynamicImage, MediaError> {
    let decoder = match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Webp => ImageFormat::WebP,
    };
    let mut caps = image::Limits::no_limits();
    caps.max_image_width = Some(limits.side_max);
    caps.max_image_height = Some(limits.side_max);
    caps.max_alloc = Some(limits.decoder_alloc_bytes_max);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), decoder);
    reader.limits(caps);
    reader.decode().map_err(|error| match error {
        ImageError::Limits(_) => MediaError::DecoderMemory {
            decoder_alloc_bytes_max: limits.decoder_alloc_bytes_max,
        },
        other => MediaError::Undecodable {
            format,
            cause: metadata::printable(&other.to_string(), 160),
        },
    })
}

/// Eight bits, three channels; transparency on white, rounded to nearest.
fn into_rgb(picture: DynamicImage) -> Vec<u8> {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into_raw();
    }
    let rgba = picture.into_rgba8().into_raw();
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for pixel in rgba.chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        for &channel in &pixel[..3] {
            let value = (u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255;
            rgb.push(u8::try_from(value).expect("a weighted mean of bytes is a byte"));
        }
    }
    rgb
}

/// First bytes of every pixel preimage: keeps pixel digests apart from all other digests.
const PIXEL_DOMAIN: &[u8] = b"retrace/pixels/rgb8/v1\n";

/// The bytes whose SHA-256 is the pixel digest: the domain string `retrace/pixels/rgb8/v1\n`,
/// width and height as big-endian u32, then the RGB8 pixels. Two files with the same pixels
/// have the same pixel digest, whatever their format, compression and metadata.
#[must_use]
pub fn pixel_preimage(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let mut preimage = Vec::with_capacity(PIXEL_DOMAIN.len() + 8 + rgb.len());
    preimage.extend_from_slice(PIXEL_DOMAIN);
    preimage.extend_from_slice(&width.to_be_bytes());
    preimage.extend_from_slice(&height.to_be_bytes());
    preimage.extend_from_slice(rgb);
    preimage
}
