//! Pixels.

use std::borrow::Cow;
use std::io::Cursor;

use image::{DynamicImage, ImageError, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};

use crate::colour_profile::{
    ColourProfile, EmbeddedProfile, ProfileColours, ProfileTreatment, ReadProfile,
};
use crate::container::{RawMetadata, Walk, walk};
use crate::error::MediaError;
use crate::exif;
use crate::format::Format;
use crate::inks::inks;
use crate::limits::Limits;
use crate::metadata::{self, MetadataItem};
use crate::orientation::Orientation;
use crate::quantisation::QualityEstimate;
use crate::srgb::{Samples, Values, converted};

/// A decoded picture with everything that was read beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoded {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// RGB8 in sRGB, interleaved, rows from the top, `height * width * 3` bytes: the colours as a viewer
    /// shows them, by the file's colour profile where it has a usable one. Transparency is composited
    /// on white; the EXIF orientation is not applied. [`Decoded::notes`] says so in words.
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
    /// The colour profile (ICC) that the file brings, and what was done about it.
    pub colour_profile: Option<ColourProfile>,
    /// Whether the colours were four inks, converted by the colour profile or else by a fixed rule.
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
    /// lower-case sentence each, without any words of the file but the name of its colour profile,
    /// which is one printable line of bounded length in quotation marks.
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
        let profile = self.colour_profile.as_ref();
        let by_rule = profile.is_none_or(|found| found.treatment != ProfileTreatment::Converted);
        let all = [
            (!self.orientation.is_upright(), turned),
            (self.has_alpha, "transparency was put on white".to_owned()),
            (self.bits_per_channel > 8, reduced),
            (self.is_cmyk && by_rule, inks),
            (
                profile.is_some(),
                profile.map(ColourProfile::note).unwrap_or_default(),
            ),
            (self.trailing_bytes > 0, trailing),
            (self.metadata_skipped > 0, skipped),
        ];
        let applies = all.into_iter().filter(|(applies, _)| *applies);
        applies.map(|(_, note)| note).collect()
    }
}

/// A picture whose samples are as the file stores them: its colour profile has not been applied yet.
///
/// The pixel digest is one of these samples. Conversions of different programs, and of one program in
/// different versions, differ in the last bit; the samples do not.
#[derive(Debug)]
pub struct Stored<'a> {
    /// The picture, with the stored samples as its colours.
    decoded: Decoded,
    bytes: &'a [u8],
    limits: Limits,
    profile: Option<EmbeddedProfile<'a>>,
    /// The samples, where they have more channels, or bits, or fewer channels, than the colours.
    samples: Option<DynamicImage>,
}

/// Decodes a PNG, JPEG or WebP picture after every cap has been checked on its container, and brings its
/// colours to sRGB.
///
/// # Errors
/// The cap that was broken, or what is wrong with the file. A colour profile that is broken is no error:
/// [`Decoded::colour_profile`] says that it was ignored.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    Ok(decode_stored(bytes, limits)?.into_shown())
}

/// The same, before the colour profile is applied.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_stored<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Stored<'a>, MediaError> {
    let walk = walk(bytes, limits)?;
    let header = walk.header;
    let picture = decode_pixels(&without_profiles(bytes, &walk), header.format, limits)?;
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
    let has_profile = walk.colour_profile.is_some();
    let ((rgb, alpha), samples) = match picture {
        DynamicImage::ImageRgb8(picture) => ((picture.into_raw(), None), None),
        picture => (rgb_of(&picture), has_profile.then_some(picture)),
    };
    let (metadata, metadata_skipped) = metadata::read(&walk.metadata, limits);
    let decoded = Decoded {
        width: header.width,
        height: header.height,
        rgb,
        has_alpha: alpha.is_some(),
        alpha,
        format: header.format,
        orientation: orientation.unwrap_or_default(),
        bits_per_channel: u8::try_from(bits).unwrap_or(u8::MAX),
        colour_profile: None,
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
    };
    Ok(Stored {
        decoded,
        bytes,
        limits: *limits,
        profile: walk.colour_profile,
        samples,
    })
}

impl Stored<'_> {
    /// The bytes whose SHA-256 is the pixel digest, see [`pixel_preimage`].
    #[must_use]
    pub fn pixel_preimage(&self) -> Vec<u8> {
        pixel_preimage(self.decoded.width, self.decoded.height, &self.decoded.rgb)
    }

    /// The picture with the colours that a viewer shows.
    #[must_use]
    pub fn into_shown(mut self) -> Decoded {
        let Some(profile) = &self.profile else {
            return self.decoded;
        };
        let ReadProfile {
            name,
            colours,
            needed,
        } = ReadProfile::new(profile, self.limits.colour_profile_bytes_max);
        let rgb = needed.and_then(|needed| self.converted(&needed, colours));
        let treatment = rgb.as_ref().err().copied();
        if let Ok(mut rgb) = rgb {
            if let Some(alpha) = &self.decoded.alpha {
                put_on_white(&mut rgb, alpha);
            }
            self.decoded.rgb = rgb;
        }
        self.decoded.colour_profile = Some(ColourProfile {
            name,
            colours,
            treatment: treatment.unwrap_or(ProfileTreatment::Converted),
        });
        self.decoded
    }

    /// RGB8 without regard to transparency, or why the profile is not applied.
    fn converted(
        &self,
        profile: &[u8],
        colours: Option<ProfileColours>,
    ) -> Result<Vec<u8>, ProfileTreatment> {
        let inks;
        let samples = if self.decoded.is_cmyk {
            if colours != Some(ProfileColours::Cmyk) {
                return Err(ProfileTreatment::OtherColours);
            }
            inks = inks_of(self.bytes, &self.limits, self.decoded.rgb.len() / 3)?;
            Samples {
                colours: ProfileColours::Cmyk,
                per_pixel: 4,
                values: Values::Eight(&inks),
            }
        } else {
            match &self.samples {
                Some(picture) => samples_of(picture)?,
                None => Samples {
                    colours: ProfileColours::Rgb,
                    per_pixel: 3,
                    values: Values::Eight(&self.decoded.rgb),
                },
            }
        };
        if colours != Some(samples.colours) {
            return Err(ProfileTreatment::OtherColours);
        }
        converted(profile, samples)
    }
}

/// Ink values for so many pixels.
fn inks_of(bytes: &[u8], limits: &Limits, pixels: usize) -> Result<Vec<u8>, ProfileTreatment> {
    inks(bytes, limits)
        .filter(|values| values.len() == 4 * pixels)
        .ok_or(ProfileTreatment::Unsupported)
}

/// The samples of a picture, as they lie in memory.
fn samples_of(picture: &DynamicImage) -> Result<Samples<'_>, ProfileTreatment> {
    use DynamicImage as Image;
    let values = match picture {
        Image::ImageLuma8(picture) => Values::Eight(picture),
        Image::ImageLumaA8(picture) => Values::Eight(picture),
        Image::ImageRgb8(picture) => Values::Eight(picture),
        Image::ImageRgba8(picture) => Values::Eight(picture),
        Image::ImageLuma16(picture) => Values::Sixteen(picture),
        Image::ImageLumaA16(picture) => Values::Sixteen(picture),
        Image::ImageRgb16(picture) => Values::Sixteen(picture),
        Image::ImageRgba16(picture) => Values::Sixteen(picture),
        // Floats, which none of the formats has.
        _ => return Err(ProfileTreatment::Unsupported),
    };
    let colour = picture.color();
    Ok(Samples {
        colours: match colour.has_color() {
            true => ProfileColours::Rgb,
            false => ProfileColours::Grey,
        },
        per_pixel: usize::from(colour.channel_count()),
        values,
    })
}

/// The file without a PNG's profiles: the picture decoder would inflate them, within no limit but its own.
fn without_profiles<'a>(bytes: &'a [u8], walk: &Walk<'_>) -> Cow<'a, [u8]> {
    if walk.profile_chunks.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut rest = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for chunk in &walk.profile_chunks {
        rest.extend_from_slice(&bytes[at..chunk.start]);
        at = chunk.end;
    }
    rest.extend_from_slice(&bytes[at..]);
    Cow::Owned(rest)
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

/// Eight bits, three channels; transparency on white, and the alpha channel.
fn rgb_of(picture: &DynamicImage) -> (Vec<u8>, Option<Vec<u8>>) {
    if !picture.color().has_alpha() {
        return (picture.to_rgb8().into_raw(), None);
    }
    let rgba = match picture {
        DynamicImage::ImageRgba8(picture) => Cow::Borrowed(picture.as_raw()),
        picture => Cow::Owned(picture.to_rgba8().into_raw()),
    };
    let pixels = rgba.as_chunks::<4>().0;
    let alpha: Vec<u8> = pixels.iter().map(|pixel| pixel[3]).collect();
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        rgb.extend_from_slice(&pixel[..3]);
    }
    put_on_white(&mut rgb, &alpha);
    (rgb, Some(alpha))
}

/// Composites colours on white by their alpha, rounded to nearest.
fn put_on_white(rgb: &mut [u8], alpha: &[u8]) {
    for (pixel, &alpha) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(alpha) {
        let alpha = u32::from(alpha);
        for channel in pixel {
            let value = (u32::from(*channel) * alpha + 255 * (255 - alpha) + 127) / 255;
            *channel = u8::try_from(value).expect("a weighted mean of bytes is a byte");
        }
    }
}

/// First bytes of every pixel preimage: keeps pixel digests apart from all other digests.
const PIXEL_DOMAIN: &[u8] = b"retrace/pixels/rgb8/v1\n";

/// The bytes whose SHA-256 is the pixel digest: the domain string `retrace/pixels/rgb8/v1\n`,
/// width and height as big-endian u32, then the RGB8 pixels. Two files with the same pixels
/// have the same pixel digest, whatever their format, compression and metadata. The pixels of a file are
/// its samples as stored, before any colour profile, see [`Stored`]; of four inks, the colours that a fixed
/// rule makes of them.
#[must_use]
pub fn pixel_preimage(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let mut preimage = Vec::with_capacity(PIXEL_DOMAIN.len() + 8 + rgb.len());
    preimage.extend_from_slice(PIXEL_DOMAIN);
    preimage.extend_from_slice(&width.to_be_bytes());
    preimage.extend_from_slice(&height.to_be_bytes());
    preimage.extend_from_slice(rgb);
    preimage
}
