//! Pixels.

use std::io::Cursor;

use image::{DynamicImage, ImageError, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};

use crate::container::{RawMetadata, walk};
use crate::error::MediaError;
use crate::exif;
use crate::format::Format;
use crate::limits::Limits;
use crate::metadata::{self, MetadataItem};
use crate::orientation::Orientation;
use crate::quantisation::QualityEstimate;

/// A decoded picture with everything that was read beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoded {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// RGB8, interleaved, rows from the top, `height * width * 3` bytes. The EXIF orientation
    /// is not applied, transparency is composited on white, colour profiles are ignored: what is
    /// examined is what is stored. [`Decoded::notes`] says so in words.
    /// Left out of the serialised form: whoever ships a `Decoded` ships the pixels apart.
    #[serde(skip)]
    pub rgb: Vec<u8>,
    /// The alpha channel, one byte for each pixel, where the picture has one: 0 is transparent.
    /// Left out of the serialised form as the pixels are.
    #[serde(skip)]
    pub alpha: Option<Vec<u8>>,
    /// Format by content.
    pub format: Format,
    /// Whether the picture has an alpha channel that was composited on white.
    pub has_alpha: bool,
    /// Which side is up; not applied to the pixels.
    pub orientation: Orientation,
    /// Bits of one channel of one pixel after decoding; more than 8 are reduced to 8.
    pub bits_per_channel: u8,
    /// Whether the file brings a colour profile (ICC), which is not applied.
    pub has_colour_profile: bool,
    /// Whether the colours were four inks, converted by a fixed rule.
    pub is_cmyk: bool,
    /// Frames in the file; only the first one is decoded.
    pub frames: u32,
    /// Whether the file has Content Credentials, which are not read here.
    pub has_content_credentials: bool,
    /// Bytes behind the container's end, which no viewer shows.
    pub trailing_bytes: u64,
    /// What the quantisation tables say.
    pub quality: QualityEstimate,
    /// Whether the pixels were compressed with loss, as far as the container says.
    pub is_lossy: bool,
    /// How many pixels, across and down, share one colour sample, of a JPEG with three components.
    pub colour_sampling: Option<(u8, u8)>,
    /// What tools wrote into the file, in file order.
    pub metadata: Vec<MetadataItem>,
    /// Metadata items that were left out: malformed, or over the metadata limits.
    pub metadata_skipped: u32,
}

impl Decoded {
    /// What was done to the picture before it was examined, and what the file holds beside it: one
    /// lower-case sentence each, without any words of the file.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let trailing = format!(
            "{} bytes lie behind the picture's end, where no viewer looks",
            self.trailing_bytes
        );
        let skipped = format!(
            "{} pieces of metadata were left out: malformed, or over their limits",
            self.metadata_skipped
        );
        let turned = format!(
            "the file says which side is up (EXIF orientation {}): it was examined as stored and \
             is shown upright",
            self.orientation.exif()
        );
        let reduced = format!("{} bits a channel were reduced to 8", self.bits_per_channel);
        let inks = "four inks (CMYK) were converted to red, green and blue".to_owned();
        let profile = "a colour profile is in the file and was not applied: colours may look \
                       different elsewhere"
            .to_owned();
        let all = [
            (!self.orientation.is_upright(), turned),
            (self.has_alpha, "transparency was put on white".to_owned()),
            (self.bits_per_channel > 8, reduced),
            (self.is_cmyk, inks),
            (self.has_colour_profile, profile),
            (self.trailing_bytes > 0, trailing),
            (self.metadata_skipped > 0, skipped),
        ];
        let applies = all.into_iter().filter(|(applies, _)| *applies);
        applies.map(|(_, note)| note).collect()
    }
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
    let colour = picture.color();
    let bits = colour.bits_per_pixel() / u16::from(colour.channel_count());
    let orientation = walk.metadata.iter().find_map(|raw| match raw {
        RawMetadata::Exif(block) => exif::orientation(block),
        _ => None,
    });
    let (rgb, alpha) = into_rgb(picture);
    let (metadata, metadata_skipped) = metadata::read(&walk.metadata, limits);
    Ok(Decoded {
        width: header.width,
        height: header.height,
        rgb,
        has_alpha: alpha.is_some(),
        alpha,
        format: header.format,
        orientation: orientation.unwrap_or_default(),
        bits_per_channel: u8::try_from(bits).unwrap_or(u8::MAX),
        has_colour_profile: walk.has_colour_profile,
        is_cmyk: walk.is_cmyk,
        frames: header.frames,
        has_content_credentials: walk
            .metadata
            .iter()
            .any(|raw| matches!(raw, RawMetadata::ContentCredentials(_))),
        trailing_bytes: walk.trailing_bytes,
        quality: QualityEstimate::from_tables(&walk.quantisation_tables),
        is_lossy: walk.is_lossy,
        colour_sampling: walk.colour_sampling,
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

/// Eight bits, three channels; transparency on white, rounded to nearest, and the alpha channel.
fn into_rgb(picture: DynamicImage) -> (Vec<u8>, Option<Vec<u8>>) {
    if !picture.color().has_alpha() {
        return (picture.into_rgb8().into_raw(), None);
    }
    let rgba = picture.into_rgba8().into_raw();
    let alpha = rgba.chunks_exact(4).map(|pixel| pixel[3]).collect();
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for pixel in rgba.chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        for &channel in &pixel[..3] {
            let value = (u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255;
            rgb.push(u8::try_from(value).expect("a weighted mean of bytes is a byte"));
        }
    }
    (rgb, Some(alpha))
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
