//! WebP chunks (RFC 9649, section 2).

use super::{Header, RawMetadata, Walk, le_u32};
use crate::colour_profile::EmbeddedProfile;
use crate::error::MediaError;
use crate::format::Format;

fn truncated(what: &'static str) -> MediaError {
    MediaError::Truncated {
        format: Format::Webp,
        what,
    }
}

fn malformed(what: &'static str) -> MediaError {
    MediaError::Malformed {
        format: Format::Webp,
        what,
    }
}

/// Walks the chunks of the RIFF file.
pub(super) fn walk(bytes: &[u8]) -> Result<Walk<'_>, MediaError> {
    let riff = le_u32(bytes, 4).ok_or(truncated("no file size"))? as usize;
    let end = riff.saturating_add(8);
    if end > bytes.len() {
        return Err(truncated("the file is shorter than it declares"));
    }
    let body = &bytes[..end];
    let mut at = 12;
    let mut canvas = None;
    let mut picture = None;
    let mut frames: u32 = 0;
    let (mut colour_profile, mut is_lossy) = (None, false);
    let mut metadata = Vec::new();
    while at < body.len() {
        let (kind, data) = chunk(body, at)?;
        // Chunks are padded to even sizes; the last pad byte may be missing.
        at += 8 + data.len() + (data.len() & 1);
        match kind {
            b"VP8X" => canvas = Some(extended_size(data)?),
            b"VP8 " => {
                picture = Some(lossy_size(data)?);
                is_lossy = true;
            }
            b"VP8L" => picture = Some(lossless_size(data)?),
            b"ANMF" => frames = frames.saturating_add(1),
            b"ICCP" => {
                colour_profile.get_or_insert(EmbeddedProfile::Whole(data));
            }
            b"EXIF" => {
                let tiff = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
                metadata.push(RawMetadata::Exif(tiff));
            }
            b"XMP " => metadata.push(RawMetadata::Xmp(data)),
            b"C2PA" => metadata.push(RawMetadata::ContentCredentials(data.len())),
            _ => {}
        }
    }
    if picture.is_none() && frames == 0 {
        return Err(malformed("no image data"));
    }
    let (width, height) = canvas.or(picture).ok_or(malformed("no size"))?;
    Ok(Walk {
        header: Header {
            format: Format::Webp,
            width,
            height,
            frames: frames.max(1),
        },
        metadata,
        quantisation_tables: [None; 4],
        is_lossy,
        colour_sampling: None,
        trailing_bytes: (bytes.len() - end) as u64,
        colour_profile,
        profile_chunks: Vec::new(),
        is_cmyk: false,
    })
}

/// Type and data of the chunk at `at`.
fn chunk(body: &[u8], at: usize) -> Result<(&[u8], &[u8]), MediaError> {
    let kind = body
        .get(at..at + 4)
        .ok_or(truncated("a chunk without its type"))?;
    let length = le_u32(body, at + 4).ok_or(truncated("a chunk without its length"))? as usize;
    let data = at
        .checked_add(8)
        .and_then(|start| body.get(start..start.checked_add(length)?))
        .ok_or(truncated("a chunk is cut"))?;
    Ok((kind, data))
}

/// Canvas size of `VP8X`: two 24-bit little-endian numbers, minus one each.
fn extended_size(data: &[u8]) -> Result<(u32, u32), MediaError> {
    let sizes = data.get(4..10).ok_or(malformed("short extended header"))?;
    let number = |part: &[u8]| {
        part.iter()
            .rev()
            .fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte))
            + 1
    };
    Ok((number(&sizes[..3]), number(&sizes[3..])))
}

/// Frame size of a lossy picture: key-frame start code, then two 14-bit numbers.
fn lossy_size(data: &[u8]) -> Result<(u32, u32), MediaError> {
    if data.get(3..6) != Some(&[0x9d, 0x01, 0x2a]) {
        return Err(malformed("no key frame"));
    }
    let sizes = le_u32(data, 6).ok_or(malformed("short key frame"))?;
    Ok((sizes & 0x3fff, (sizes >> 16) & 0x3fff))
}

/// Size of a lossless picture: signature byte, then two 14-bit numbers, minus one each.
fn lossless_size(data: &[u8]) -> Result<(u32, u32), MediaError> {
    if data.first() != Some(&0x2f) {
        return Err(malformed("no lossless signature"));
    }
    let bits = le_u32(data, 1).ok_or(malformed("short lossless header"))?;
    Ok(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
}
