//! Formats and how they are recognised.

use serde::{Deserialize, Serialize};

use crate::error::MediaError;

/// The picture formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Portable Network Graphics (W3C recommendation, third edition).
    Png,
    /// JPEG (ITU-T T.81), baseline and progressive.
    Jpeg,
    /// WebP (RFC 9649).
    Webp,
}

impl Format {
    /// The registered media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// The format that a file name's ending promises, if it is one of ours.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "png" | "apng" => Some(Self::Png),
            "jpg" | "jpeg" | "jpe" | "jfif" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// The format that a media type promises, if it is one of ours. Parameters are ignored.
    #[must_use]
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "image/png" | "image/apng" => Some(Self::Png),
            "image/jpeg" | "image/jpg" => Some(Self::Jpeg),
            "image/webp" => Some(Self::Webp),
            _ => None,
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        })
    }
}

/// Names the format from the first bytes alone; names and types that came with the file play
/// no part.
///
/// # Errors
/// `Empty`, `UnknownFormat`, or `UnsupportedFormat` with the name of a known picture format
/// that is not decoded here.
pub fn sniff(bytes: &[u8]) -> Result<Format, MediaError> {
    if bytes.is_empty() {
        return Err(MediaError::Empty);
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok(Format::Png);
    }
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Ok(Format::Jpeg);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Ok(Format::Webp);
    }
    match foreign_format(bytes) {
        Some(name) => Err(MediaError::UnsupportedFormat { name }),
        None => Err(MediaError::UnknownFormat),
    }
}

/// Recognises other picture formats, so that the refusal can name them.
fn foreign_format(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"GIF8") {
        return Some("gif");
    }
    if bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0, 0, 0, 0]) {
        return Some("bmp");
    }
    if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") {
        return Some("tiff");
    }
    if bytes.starts_with(&[0xff, 0x0a]) || bytes.starts_with(b"\0\0\0\x0cJXL ") {
        return Some("jpeg xl");
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return match bytes.get(8..12) {
            Some(b"avif" | b"avis") => Some("avif"),
            Some(b"heic" | b"heix" | b"mif1" | b"msf1") => Some("heic"),
            _ => Some("mp4-family"),
        };
    }
    None
}

/// Refuses a file whose name or media type promises one of our formats while its bytes are
/// another. Labels that promise nothing (no ending, `application/octet-stream`) pass.
///
/// # Errors
/// `Mislabelled`.
pub fn check_label(
    file_name: Option<&str>,
    media_type: Option<&str>,
    found: Format,
) -> Result<(), MediaError> {
    let by_name = file_name.and_then(Format::from_file_name);
    let by_type = media_type.and_then(Format::from_media_type);
    for label in [by_name, by_type].into_iter().flatten() {
        if label != found {
            return Err(MediaError::Mislabelled { label, found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_picture_formats_are_refused_by_name() {
        for (bytes, name) in [
            (&b"GIF89a......"[..], "gif"),
            (b"II*\0........", "tiff"),
            (b"\0\0\0\x1cftypavif", "avif"),
        ] {
            assert_eq!(sniff(bytes), Err(MediaError::UnsupportedFormat { name }));
        }
        assert_eq!(sniff(b"hello"), Err(MediaError::UnknownFormat));
        assert_eq!(sniff(b""), Err(MediaError::Empty));
    }

    #[test]
    fn a_label_that_contradicts_the_bytes_is_refused_and_an_empty_label_passes() {
        assert!(check_label(Some("a.JPG"), Some("image/jpeg"), Format::Jpeg).is_ok());
        assert!(check_label(Some("a"), Some("application/octet-stream"), Format::Webp).is_ok());
        assert_eq!(
            check_label(Some("a.jpg"), None, Format::Png),
            Err(MediaError::Mislabelled {
                label: Format::Jpeg,
                found: Format::Png
            })
        );
        assert!(check_label(None, Some("image/png; q=1"), Format::Webp).is_err());
    }
}
