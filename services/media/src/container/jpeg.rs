//! JPEG segments (ITU-T T.81, annex B).

use super::{Header, RawMetadata, Walk, be_u16, contains};
use crate::colour_profile::EmbeddedProfile;
use crate::error::MediaError;
use crate::format::Format;
use crate::iptc;

/// Position in natural order of the k-th coefficient in zigzag order (T.81, figure 5).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Components of a frame header with four inks (T.81, B.2.2).
const INKS: u8 = 4;

const ICC_PREFIX: &[u8] = b"ICC_PROFILE\0";
const EXIF_PREFIX: &[u8] = b"Exif\0\0";
const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

fn truncated(what: &'static str) -> MediaError {
    MediaError::Truncated {
        format: Format::Jpeg,
        what,
    }
}

fn malformed(what: &'static str) -> MediaError {
    MediaError::Malformed {
        format: Format::Jpeg,
        what,
    }
}

/// Walks the segments from start to end of image.
pub(super) fn walk(bytes: &[u8]) -> Result<Walk<'_>, MediaError> {
    let mut at = 2;
    let mut size = None;
    let mut has_scan = false;
    let (mut profile_segments, mut is_cmyk) = (Vec::new(), false);
    let mut metadata = Vec::new();
    let mut tables = [None; 4];
    let mut colour_sampling = None;
    loop {
        let marker;
        (marker, at) = next_marker(bytes, at)?;
        match marker {
            0xd9 => break,
            // Restart markers and TEM stand alone.
            0x01 | 0xd0..=0xd7 => continue,
            0xd8 => return Err(malformed("a second start of image")),
            _ => {}
        }
        let data = segment(bytes, at)?;
        at += 2 + data.len();
        match marker {
            0xdb => quantisation_tables(data, &mut tables)?,
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                if size.is_some() {
                    return Err(malformed("two frame headers"));
                }
                size = Some(frame_size(data)?);
                is_cmyk = data.get(5) == Some(&INKS);
                colour_sampling = sampling(data);
            }
            0xda => {
                if size.is_none() {
                    return Err(malformed("a scan before the frame header"));
                }
                has_scan = true;
                at = end_of_scan(bytes, at)?;
            }
            0xe2 if data.starts_with(ICC_PREFIX) => {
                profile_segments.push(&data[ICC_PREFIX.len()..]);
            }
            _ => metadata.extend(metadata_segment(marker, data)),
        }
    }
    let (width, height) = size.ok_or(malformed("no frame header"))?;
    if !has_scan {
        return Err(malformed("no scan"));
    }
    Ok(Walk {
        header: Header {
            format: Format::Jpeg,
            width,
            height,
            frames: 1,
        },
        metadata,
        quantisation_tables: tables,
        is_lossy: true,
        colour_sampling,
        trailing_bytes: (bytes.len() - at) as u64,
        colour_profile: (!profile_segments.is_empty())
            .then_some(EmbeddedProfile::Segments(profile_segments)),
        profile_chunks: Vec::new(),
        is_cmyk,
    })
}

/// The marker at `at`, after any fill bytes, and the place behind it.
fn next_marker(bytes: &[u8], mut at: usize) -> Result<(u8, usize), MediaError> {
    const NO_END: &str = "no end of image";
    if *bytes.get(at).ok_or(truncated(NO_END))? != 0xff {
        return Err(malformed("a segment does not start with a marker"));
    }
    while *bytes.get(at).ok_or(truncated(NO_END))? == 0xff {
        at += 1;
    }
    Ok((bytes[at], at + 1))
}

/// Data of the segment whose length field is at `at`.
fn segment(bytes: &[u8], at: usize) -> Result<&[u8], MediaError> {
    let length = usize::from(be_u16(bytes, at).ok_or(truncated("a segment without its length"))?);
    if length < 2 {
        return Err(malformed("a segment shorter than its length field"));
    }
    bytes
        .get(at + 2..at + length)
        .ok_or(truncated("a segment is cut"))
}

/// Skips entropy-coded data: up to the next marker that is neither stuffing nor a restart.
fn end_of_scan(bytes: &[u8], mut at: usize) -> Result<usize, MediaError> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let offset = rest
            .iter()
            .position(|&byte| byte == 0xff)
            .ok_or(truncated("no end of image"))?;
        at += offset;
        match bytes.get(at + 1) {
            None => return Err(truncated("no end of image")),
            Some(0x00 | 0xd0..=0xd7) => at += 2,
            Some(0xff) => at += 1,
            Some(_) => return Ok(at),
        }
    }
}

/// Width and height of a frame header; a height of zero (set later by DNL) is refused, since
/// caps could not be checked before decoding.
fn frame_size(data: &[u8]) -> Result<(u32, u32), MediaError> {
    match (be_u16(data, 1), be_u16(data, 3)) {
        (Some(height), Some(width)) if height > 0 && width > 0 => {
            Ok((u32::from(width), u32::from(height)))
        }
        (Some(_), Some(_)) => Err(malformed("a frame header without a size")),
        _ => Err(malformed("short frame header")),
    }
}

/// Pixels, across and down, that share one colour sample, of a frame header with three components whose colours are
/// sampled alike (T.81, B.2.2 and A.1.1).
fn sampling(data: &[u8]) -> Option<(u8, u8)> {
    if data.get(5) != Some(&3) {
        return None;
    }
    let factors = |component: usize| {
        let both = data.get(7 + 3 * component)?;
        Some((both >> 4, both & 0x0f))
    };
    let (luma, blue, red) = (factors(0)?, factors(1)?, factors(2)?);
    let whole = |all: u8, part: u8| (part > 0 && all.is_multiple_of(part)).then(|| all / part);
    if blue != red {
        return None;
    }
    Some((whole(luma.0, blue.0)?, whole(luma.1, blue.1)?))
}

/// Reads the tables of one DQT segment (T.81, B.2.4.1).
fn quantisation_tables(
    mut data: &[u8],
    tables: &mut [Option<[u16; 64]>; 4],
) -> Result<(), MediaError> {
    const SHORT: MediaError = MediaError::Malformed {
        format: Format::Jpeg,
        what: "short quantisation table",
    };
    while let Some((&head, rest)) = data.split_first() {
        let (precision, identifier) = (head >> 4, usize::from(head & 0x0f));
        let slot = tables
            .get_mut(identifier)
            .ok_or(malformed("quantisation table number over 3"))?;
        let width = match precision {
            0 => 1,
            1 => 2,
            _ => return Err(malformed("quantisation table of unknown precision")),
        };
        let values = rest.get(..64 * width).ok_or(SHORT)?;
        let mut table = [0_u16; 64];
        for (k, value) in values.chunks_exact(width).enumerate() {
            table[ZIGZAG[k]] = value
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u16::from(byte));
        }
        *slot = Some(table);
        data = &rest[64 * width..];
    }
    Ok(())
}

/// Metadata that a segment carries, if it is one of the kinds that are read.
fn metadata_segment(marker: u8, data: &[u8]) -> Option<RawMetadata<'_>> {
    match marker {
        0xe1 => data
            .strip_prefix(EXIF_PREFIX)
            .map(RawMetadata::Exif)
            .or_else(|| data.strip_prefix(XMP_PREFIX).map(RawMetadata::Xmp)),
        // JUMBF in APP11 (ISO 19566-5): "JP", box instance, sequence number, box. The box of
        // Content Credentials is labelled c2pa in its description, which comes first.
        0xeb if data.starts_with(b"JP") && contains(&data[..data.len().min(96)], b"c2pa") => {
            Some(RawMetadata::ContentCredentials(data.len()))
        }
        0xed if data.starts_with(iptc::PREFIX) => Some(RawMetadata::ImageResources(data)),
        0xfe => Some(RawMetadata::JpegComment(data)),
        _ => None,
    }
}
