//! PNG chunks (W3C PNG third edition, section 5).

use super::{Header, RawMetadata, Walk, be_u32};
use crate::colour_profile::EmbeddedProfile;
use crate::error::MediaError;
use crate::format::Format;

/// Length, type and checksum of a chunk, around its data.
const CHUNK_OVERHEAD: usize = 12;

fn truncated(what: &'static str) -> MediaError {
    MediaError::Truncated {
        format: Format::Png,
        what,
    }
}

fn malformed(what: &'static str) -> MediaError {
    MediaError::Malformed {
        format: Format::Png,
        what,
    }
}

/// Walks the chunks from the signature to `IEND`.
pub(super) fn walk(bytes: &[u8]) -> Result<Walk<'_>, MediaError> {
    let mut at = 8;
    let (width, height) = image_header(bytes)?;
    let mut frames = 1;
    let mut has_data = false;
    let (mut colour_profile, mut profile_chunks) = (None, Vec::new());
    let mut metadata = Vec::new();
    loop {
        let (kind, data) = chunk(bytes, at)?;
        at += CHUNK_OVERHEAD + data.len();
        match kind {
            b"IHDR" => {}
            b"IDAT" => has_data = true,
            b"acTL" => {
                frames = be_u32(data, 0)
                    .ok_or(malformed("short animation header"))?
                    .max(1);
            }
            b"iCCP" => {
                profile_chunks.push(at - CHUNK_OVERHEAD - data.len()..at);
                // One at most, and before the picture's data (PNG, table 5.3); viewers heed the first.
                if !has_data && colour_profile.is_none() {
                    colour_profile = Some(EmbeddedProfile::Deflated(data));
                }
            }
            b"tEXt" => metadata.push(RawMetadata::PngText(data)),
            b"zTXt" => metadata.push(RawMetadata::PngCompressedText(data)),
            b"iTXt" => metadata.push(RawMetadata::PngInternationalText(data)),
            b"eXIf" => metadata.push(RawMetadata::Exif(data)),
            b"caBX" => metadata.push(RawMetadata::ContentCredentials(data.len())),
            b"IEND" => break,
            _ => {}
        }
    }
    if !has_data {
        return Err(malformed("no image data"));
    }
    Ok(Walk {
        header: Header {
            format: Format::Png,
            width,
            height,
            frames,
        },
        metadata,
        quantisation_tables: [None; 4],
        is_lossy: false,
        colour_sampling: None,
        trailing_bytes: (bytes.len() - at) as u64,
        colour_profile,
        profile_chunks,
        is_cmyk: false,
    })
}

/// Width and height from the `IHDR` chunk, which must come first.
fn image_header(bytes: &[u8]) -> Result<(u32, u32), MediaError> {
    let (kind, data) = chunk(bytes, 8)?;
    if kind != b"IHDR" || data.len() != 13 {
        return Err(malformed("the first chunk is no image header"));
    }
    match (be_u32(data, 0), be_u32(data, 4)) {
        (Some(width), Some(height)) => Ok((width, height)),
        _ => Err(malformed("short image header")),
    }
}

/// Type and data of the chunk at `at`.
fn chunk(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), MediaError> {
    let length = be_u32(bytes, at).ok_or(truncated("no end chunk"))? as usize;
    if length > 0x7fff_ffff {
        return Err(malformed("a chunk longer than the format allows"));
    }
    let kind = bytes
        .get(at + 4..at + 8)
        .ok_or(truncated("a chunk without its type"))?;
    let data = bytes
        .get(at + 8..at + 8 + length)
        .ok_or(truncated("a chunk is cut"))?;
    if bytes.len() < at + CHUNK_OVERHEAD + length {
        return Err(truncated("a chunk without its checksum"));
    }
    Ok((kind, data))
}
