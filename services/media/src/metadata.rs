//! What tools wrote into a file beside its pixels.

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::{Deserialize, Serialize};

use crate::container::RawMetadata;
use crate::exif;
use crate::iptc;
use crate::limits::Limits;
use crate::xmp;

/// Keyword under which PNG carries XMP (XMP specification, part 3).
const PNG_XMP_KEYWORD: &str = "XML:com.adobe.xmp";
/// Longest keyword of a PNG text (PNG 11.3.3.2).
const KEYWORD_CHARACTERS_MAX: usize = 79;

/// Where a metadata item was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "place", content = "name")]
pub enum Place {
    /// A PNG text chunk with this keyword.
    PngText(String),
    /// An EXIF tag with this name.
    Exif(String),
    /// An XMP property with this local name.
    Xmp(String),
    /// An IPTC-IIM dataset with this name.
    Iptc(String),
    /// A JPEG comment.
    JpegComment,
    /// Content Credentials (a `caBX` or `C2PA` chunk, JUMBF in APP11): seen, not read.
    ContentCredentials,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PngText(keyword) => {
                write!(
                    f,
                    "png text \"{}\"",
                    printable(keyword, KEYWORD_CHARACTERS_MAX)
                )
            }
            Self::Exif(tag) => write!(f, "exif {tag}"),
            Self::Xmp(property) => write!(f, "xmp {property}"),
            Self::Iptc(dataset) => write!(f, "iptc {dataset}"),
            Self::JpegComment => f.write_str("jpeg comment"),
            Self::ContentCredentials => f.write_str("content credentials"),
        }
    }
}

/// One statement found in a file. Its words are those of whoever wrote the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataItem {
    /// Where it was found.
    #[serde(flatten)]
    pub place: Place,
    /// Its text; for Content Credentials the size of the box in bytes.
    pub value: String,
}

impl MetadataItem {
    pub(crate) fn new(place: Place, value: impl Into<String>) -> Self {
        Self {
            place,
            value: value.into(),
        }
    }
}

/// Reads the raw items in file order; returns them with the number of those left out.
pub(crate) fn read(raw: &[RawMetadata<'_>], limits: &Limits) -> (Vec<MetadataItem>, u32) {
    let mut items = Vec::new();
    let mut skipped: u32 = 0;
    for piece in raw {
        if items.len() >= limits.metadata_items_max {
            skipped = skipped.saturating_add(1);
            continue;
        }
        match read_one(piece, limits.metadata_bytes_max) {
            Some(found) => items.extend(found),
            None => skipped = skipped.saturating_add(1),
        }
    }
    items.truncate(limits.metadata_items_max);
    (items, skipped)
}

/// Reads one raw item; none when it is malformed or over the limit.
fn read_one(raw: &RawMetadata<'_>, bytes_max: usize) -> Option<Vec<MetadataItem>> {
    let within = |data: &[u8]| data.len() <= bytes_max;
    match *raw {
        RawMetadata::PngText(data) if within(data) => png_text(data).map(png_item),
        RawMetadata::PngCompressedText(data) => png_compressed(data, bytes_max).map(png_item),
        RawMetadata::PngInternationalText(data) => png_international(data, bytes_max).map(png_item),
        RawMetadata::Exif(data) if within(data) => exif::read(data),
        RawMetadata::Xmp(data) if within(data) => xmp::read(data),
        RawMetadata::ImageResources(data) if within(data) => iptc::read(data),
        RawMetadata::JpegComment(data) if within(data) => {
            let text = String::from_utf8_lossy(data)
                .trim_end_matches('\0')
                .to_owned();
            Some(vec![MetadataItem::new(Place::JpegComment, text)])
        }
        RawMetadata::ContentCredentials(bytes) => Some(vec![MetadataItem::new(
            Place::ContentCredentials,
            bytes.to_string(),
        )]),
        _ => None,
    }
}

/// A PNG text as items: XMP packets are read further.
fn png_item((keyword, text): (String, String)) -> Vec<MetadataItem> {
    if keyword == PNG_XMP_KEYWORD {
        return xmp::read(text.as_bytes()).unwrap_or_default();
    }
    vec![MetadataItem::new(Place::PngText(keyword), text)]
}

/// `tEXt`: keyword, zero, Latin-1 text (PNG 11.3.3.2). Many tools write UTF-8 here, so valid
/// UTF-8 is read as such.
fn png_text(data: &[u8]) -> Option<(String, String)> {
    let (keyword, text) = split_keyword(data)?;
    Some((keyword, latin1_or_utf8(text)))
}

/// `zTXt`: keyword, zero, method 0, zlib data (PNG 11.3.3.3).
fn png_compressed(data: &[u8], bytes_max: usize) -> Option<(String, String)> {
    let (keyword, rest) = split_keyword(data)?;
    let (&method, compressed) = rest.split_first()?;
    if method != 0 {
        return None;
    }
    let text = decompress_to_vec_zlib_with_limit(compressed, bytes_max).ok()?;
    Some((keyword, latin1_or_utf8(&text)))
}

/// `iTXt`: keyword, zero, compression flag and method, language, zero, translated keyword,
/// zero, UTF-8 text (PNG 11.3.3.4).
fn png_international(data: &[u8], bytes_max: usize) -> Option<(String, String)> {
    let (keyword, rest) = split_keyword(data)?;
    let (&flag, rest) = rest.split_first()?;
    let (&method, rest) = rest.split_first()?;
    let (_language, rest) = split_at_zero(rest)?;
    let (_translated, text) = split_at_zero(rest)?;
    let text = match (flag, method) {
        (0, _) if text.len() <= bytes_max => text.to_vec(),
        (1, 0) => decompress_to_vec_zlib_with_limit(text, bytes_max).ok()?,
        _ => return None,
    };
    String::from_utf8(text).ok().map(|text| (keyword, text))
}

fn split_keyword(data: &[u8]) -> Option<(String, &[u8])> {
    let (keyword, rest) = split_at_zero(data)?;
    if keyword.is_empty() || keyword.len() > KEYWORD_CHARACTERS_MAX {
        return None;
    }
    Some((latin1_or_utf8(keyword), rest))
}

fn split_at_zero(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let zero = data.iter().position(|&byte| byte == 0)?;
    Some((&data[..zero], &data[zero + 1..]))
}

fn latin1_or_utf8(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// The text in one printable line of at most `characters_max` characters: what may be shown,
/// logged or put into an error. Characters that turn the writing direction or are invisible become
/// spaces too: with them, text of a file could pass for text of ours.
pub(crate) fn printable(text: &str, characters_max: usize) -> String {
    let mut line = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == characters_max {
            line.push('…');
            break;
        }
        let hidden = matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        line.push(if character.is_control() || hidden {
            ' '
        } else {
            character
        });
    }
    line
}
