//! Containers, walked structurally and without decoding any pixel.

mod jpeg;
mod png;
mod webp;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::colour_profile::EmbeddedProfile;
use crate::error::MediaError;
use crate::format::{Format, sniff};
use crate::limits::Limits;

/// What the container declares about its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Format by content.
    pub format: Format,
    /// Declared width in pixels.
    pub width: u32,
    /// Declared height in pixels.
    pub height: u32,
    /// Frames: 1 for a still picture.
    pub frames: u32,
}

/// One raw piece of metadata, still in its own encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RawMetadata<'a> {
    /// PNG `tEXt` data.
    PngText(&'a [u8]),
    /// PNG `zTXt` data.
    PngCompressedText(&'a [u8]),
    /// PNG `iTXt` data.
    PngInternationalText(&'a [u8]),
    /// A TIFF block with EXIF tags.
    Exif(&'a [u8]),
    /// An XMP packet.
    Xmp(&'a [u8]),
    /// Adobe's image resource blocks, with their prefix.
    ImageResources(&'a [u8]),
    /// A JPEG comment.
    JpegComment(&'a [u8]),
    /// A box or chunk of Content Credentials; its size in bytes.
    ContentCredentials(usize),
}

/// A walked container.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) header: Header,
    pub(crate) metadata: Vec<RawMetadata<'a>>,
    /// JPEG quantisation tables by their identifier, in natural (row) order.
    pub(crate) quantisation_tables: [Option<[u16; 64]>; 4],
    /// Whether the pixels were compressed with loss.
    pub(crate) is_lossy: bool,
    /// How many pixels, across and down, share one colour sample of a colour JPEG.
    pub(crate) colour_sampling: Option<(u8, u8)>,
    /// Bytes after the container's end.
    pub(crate) trailing_bytes: u64,
    /// The colour profile (ICC) that the file brings.
    pub(crate) colour_profile: Option<EmbeddedProfile<'a>>,
    /// Where a PNG's chunks with profiles lie, each from its length to its checksum.
    pub(crate) profile_chunks: Vec<Range<usize>>,
    /// Whether the colours are four inks.
    pub(crate) is_cmyk: bool,
}

/// Reads format, sizes and frames and applies every cap that can be applied before decoding.
///
/// # Errors
/// Which cap was broken, or what is wrong with the container.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, MediaError> {
    walk(bytes, limits).map(|walk| walk.header)
}

/// Walks the container to its end and applies the caps.
pub(crate) fn walk<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Walk<'a>, MediaError> {
    let length = bytes.len() as u64;
    if length > limits.bytes_max {
        return Err(MediaError::TooManyBytes {
            bytes: length,
            bytes_max: limits.bytes_max,
        });
    }
    let walk = match sniff(bytes)? {
        Format::Png => png::walk(bytes)?,
        Format::Jpeg => jpeg::walk(bytes)?,
        Format::Webp => webp::walk(bytes)?,
    };
    check_header(&walk.header, limits)?;
    Ok(walk)
}

fn check_header(header: &Header, limits: &Limits) -> Result<(), MediaError> {
    let Header {
        width,
        height,
        frames,
        ..
    } = *header;
    let side_max = limits.side_max;
    if width == 0 || height == 0 || width > side_max || height > side_max {
        return Err(MediaError::Side {
            width,
            height,
            side_max,
        });
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.pixels_max {
        return Err(MediaError::TooManyPixels {
            pixels,
            pixels_max: limits.pixels_max,
        });
    }
    if frames > limits.frames_max {
        return Err(MediaError::TooManyFrames {
            frames,
            frames_max: limits.frames_max,
        });
    }
    Ok(())
}

/// Reads a big-endian u32 at `at`.
pub(crate) fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    bytes.get(at..end)?.try_into().ok().map(u32::from_be_bytes)
}

/// Reads a big-endian u16 at `at`.
pub(crate) fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let end = at.checked_add(2)?;
    bytes.get(at..end)?.try_into().ok().map(u16::from_be_bytes)
}

/// Reads a little-endian u32 at `at`.
pub(crate) fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    bytes.get(at..end)?.try_into().ok().map(u32::from_le_bytes)
}

/// Whether `needle` occurs in `haystack`.
pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}
