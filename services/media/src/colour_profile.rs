//! Colour profiles (ICC.1:2022) of files, put together within limits and cut down to what a conversion needs.
//!
//! A profile is a table of tags, and every part of it comes from whoever made the file. So the library that
//! converts never sees it: it gets a new profile with the few tags that say which colours the samples are, each
//! once. Texts, which a table can state a million times over, are not among them.

use std::borrow::Cow;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};
use serde::{Deserialize, Serialize};

use crate::container::be_u32;
use crate::metadata::printable;

/// The header, before the number of tags (ICC.1:2022, 7.2).
const HEADER_BYTES: usize = 128;
/// Signature, place and size of a tag (7.3).
const TAG_BYTES: usize = 12;
/// Tags of a profile; the largest ones for printing have about 40.
const TAGS_MAX: usize = 100;
/// Characters of a name that are repeated.
const NAME_CHARACTERS_MAX: usize = 60;
/// Longest name of a profile in PNG (PNG 11.3.2.3), which says nothing that the profile does not.
const PNG_NAME_BYTES_MAX: usize = 79;
/// Segments of a profile in JPEG: their number is a byte (ICC.1:2022, B.4).
const SEGMENTS_MAX: usize = 255;
/// Tags with which red, green and blue become XYZ.
const MATRIX_TAGS: [&[u8; 4]; 6] = [b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"];
/// The table from device colours for the perceptual intent, as viewers use it, and the one that stands in.
const TABLE_TAGS: [&[u8; 4]; 2] = [b"A2B0", b"A2B1"];

/// A profile as its container holds it.
#[derive(Debug, Clone)]
pub(crate) enum EmbeddedProfile<'a> {
    /// Data of a PNG `iCCP` chunk: a name, a method, a zlib stream.
    Deflated(&'a [u8]),
    /// JPEG segments in file order, from their number on.
    Segments(Vec<&'a [u8]>),
    /// Data of a WebP `ICCP` chunk.
    Whole(&'a [u8]),
}

/// What sort of colours samples or a profile are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileColours {
    /// Red, green and blue.
    Rgb,
    /// Shades of grey.
    Grey,
    /// Cyan, magenta, yellow and black ink.
    Cmyk,
}

impl ProfileColours {
    fn words(self) -> &'static str {
        match self {
            Self::Rgb => "red, green and blue",
            Self::Grey => "shades of grey",
            Self::Cmyk => "four inks (CMYK)",
        }
    }
}

/// What was done about a colour profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileTreatment {
    /// The colours were converted to sRGB.
    Converted,
    /// It is sRGB: the colours are as stored.
    AlreadySrgb,
    /// Ignored: it breaks its format's rules, or makes one colour of all.
    Broken,
    /// Ignored: it is over `Limits::colour_profile_bytes_max`.
    TooLarge,
    /// Ignored: a kind of profile that is not converted from.
    Unsupported,
    /// Ignored: it is for other colours than the picture has.
    OtherColours,
}

/// The colour profile of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColourProfile {
    /// Its own name: one printable line of whoever made it, shortened. None where it states none.
    pub name: Option<String>,
    /// The colours that it is for; none where it is too broken to say, or for others than these.
    pub colours: Option<ProfileColours>,
    /// What was done about it.
    pub treatment: ProfileTreatment,
}

impl ColourProfile {
    /// A lower-case sentence, with the profile's own name in quotation marks.
    #[must_use]
    pub fn note(&self) -> String {
        let profile = match &self.name {
            Some(name) => format!("the file's colour profile \"{name}\""),
            None => "the file's colour profile".to_owned(),
        };
        let colours = self.colours.map_or("colours", ProfileColours::words);
        let ignored = "and was ignored: colours may look different elsewhere";
        match self.treatment {
            ProfileTreatment::Converted => {
                format!("{colours} were converted to sRGB by {profile}")
            }
            ProfileTreatment::AlreadySrgb => {
                format!("{profile} is sRGB: colours are as stored")
            }
            ProfileTreatment::Broken => format!("{profile} is broken {ignored}"),
            ProfileTreatment::TooLarge => {
                format!("{profile} is over the limit colour_profile_bytes_max {ignored}")
            }
            ProfileTreatment::Unsupported => {
                format!("{profile} is of a kind that is not supported {ignored}")
            }
            ProfileTreatment::OtherColours => {
                format!("{profile} is for {colours}, which the picture does not have, {ignored}")
            }
        }
    }
}

/// A profile that was read.
#[derive(Debug)]
pub(crate) struct ReadProfile {
    /// As in [`ColourProfile`].
    pub(crate) name: Option<String>,
    /// As in [`ColourProfile`].
    pub(crate) colours: Option<ProfileColours>,
    /// The profile with nothing but what a conversion needs, or why there is no conversion.
    pub(crate) needed: Result<Vec<u8>, ProfileTreatment>,
}

impl ReadProfile {
    /// Puts a profile together and reads it.
    pub(crate) fn new(embedded: &EmbeddedProfile<'_>, bytes_max: usize) -> Self {
        let read = whole(embedded, bytes_max).and_then(|bytes| match declared(&bytes) {
            Some(bytes) => Ok(read(bytes)),
            None => Err(ProfileTreatment::Broken),
        });
        read.unwrap_or_else(|treatment| Self {
            name: None,
            colours: None,
            needed: Err(treatment),
        })
    }
}

/// All bytes of a profile.
fn whole<'a>(
    embedded: &EmbeddedProfile<'a>,
    bytes_max: usize,
) -> Result<Cow<'a, [u8]>, ProfileTreatment> {
    let bytes = match embedded {
        EmbeddedProfile::Whole(bytes) => Cow::Borrowed(*bytes),
        EmbeddedProfile::Deflated(data) => Cow::Owned(inflated(data, bytes_max)?),
        EmbeddedProfile::Segments(segments) => Cow::Owned(joined(segments, bytes_max)?),
    };
    if bytes.len() > bytes_max {
        return Err(ProfileTreatment::TooLarge);
    }
    Ok(bytes)
}

fn inflated(data: &[u8], bytes_max: usize) -> Result<Vec<u8>, ProfileTreatment> {
    const BROKEN: ProfileTreatment = ProfileTreatment::Broken;
    let name = data.iter().take(PNG_NAME_BYTES_MAX + 1);
    let name = name.take_while(|byte| **byte != 0).count();
    // A name that is too long, and a method other than deflate, which is 0.
    if name > PNG_NAME_BYTES_MAX || data.get(name + 1) != Some(&0) {
        return Err(BROKEN);
    }
    let stream = data.get(name + 2..).ok_or(BROKEN)?;
    decompress_to_vec_zlib_with_limit(stream, bytes_max).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => ProfileTreatment::TooLarge,
        _ => BROKEN,
    })
}

/// Segments begin with their number, from 1, and how many there are; all must be there, once.
fn joined(segments: &[&[u8]], bytes_max: usize) -> Result<Vec<u8>, ProfileTreatment> {
    if segments.len() > SEGMENTS_MAX {
        return Err(ProfileTreatment::Broken);
    }
    let mut places = [None; SEGMENTS_MAX];
    let mut length = 0;
    for segment in segments {
        let [number, of, data @ ..] = segment else {
            return Err(ProfileTreatment::Broken);
        };
        let place = usize::from(*number).checked_sub(1);
        let place = place.filter(|place| *place < segments.len() && places[*place].is_none());
        let place = place.filter(|_| usize::from(*of) == segments.len());
        places[place.ok_or(ProfileTreatment::Broken)?] = Some(data);
        length += data.len();
    }
    if length > bytes_max {
        return Err(ProfileTreatment::TooLarge);
    }
    Ok(places.into_iter().flatten().flatten().copied().collect())
}

/// The bytes that the header counts; none where they are not all there.
fn declared(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..be_u32(bytes, 0)? as usize)
}

fn read(bytes: &[u8]) -> ReadProfile {
    let mut found = ReadProfile {
        name: None,
        colours: None,
        needed: Err(ProfileTreatment::Broken),
    };
    let Some(tags) = tags(bytes) else {
        return found;
    };
    let tag = |signature: &[u8; 4]| {
        let entry = tags.iter().find(|tag| tag.starts_with(signature))?;
        let (start, size) = (be_u32(entry, 4)? as usize, be_u32(entry, 8)? as usize);
        bytes.get(start..start.checked_add(size)?)
    };
    found.name = tag(b"desc").and_then(name);
    found.colours = match &bytes[16..20] {
        b"RGB " => Some(ProfileColours::Rgb),
        b"GRAY" => Some(ProfileColours::Grey),
        b"CMYK" => Some(ProfileColours::Cmyk),
        _ => None,
    };
    found.needed = needed(bytes, found.colours, tag);
    found
}

/// The entries of the tag table.
fn tags(bytes: &[u8]) -> Option<&[[u8; TAG_BYTES]]> {
    if bytes.get(36..40) != Some(b"acsp") {
        return None;
    }
    let count = be_u32(bytes, HEADER_BYTES)? as usize;
    let start = HEADER_BYTES + 4;
    let table = (count <= TAGS_MAX).then(|| bytes.get(start..start + count * TAG_BYTES))?;
    Some(table?.as_chunks().0)
}

/// A new profile of the tags that say which colours the samples are, or why there is none.
fn needed<'a>(
    bytes: &[u8],
    colours: Option<ProfileColours>,
    tag: impl Fn(&[u8; 4]) -> Option<&'a [u8]>,
) -> Result<Vec<u8>, ProfileTreatment> {
    // Major versions 2 and 4, and the few files of version 3; devices and colour spaces, but no links
    // between profiles, effects or lists of named colours.
    let is_known = matches!(bytes[8], 2..=4)
        && matches!(&bytes[12..16], b"scnr" | b"mntr" | b"prtr" | b"spac")
        && matches!(&bytes[20..24], b"XYZ " | b"Lab ");
    let colours = colours.filter(|_| is_known);
    let colours = colours.ok_or(ProfileTreatment::Unsupported)?;
    let table = TABLE_TAGS.iter().find_map(|signature| tag(signature));
    let mut kept: Vec<(&[u8; 4], &[u8])> = Vec::new();
    match colours {
        // The conversion knows shades of grey by a curve in light alone.
        ProfileColours::Grey if table.is_some() || &bytes[20..24] != b"XYZ " => {
            return Err(ProfileTreatment::Unsupported);
        }
        ProfileColours::Grey => kept.extend(tag(b"kTRC").map(|data| (b"kTRC", data))),
        ProfileColours::Rgb if table.is_none() => {
            let all: Option<Vec<_>> = MATRIX_TAGS
                .iter()
                .map(|signature| Some((*signature, tag(signature)?)))
                .collect();
            kept.extend(all.unwrap_or_default());
        }
        ProfileColours::Rgb | ProfileColours::Cmyk => {
            kept.extend(table.map(|data| (TABLE_TAGS[0], data)));
        }
    }
    if kept.is_empty() {
        return Err(ProfileTreatment::Broken);
    }
    Ok(assembled(bytes, &kept))
}

/// A profile of the same version, class and spaces with these tags.
fn assembled(bytes: &[u8], tags: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).expect("a profile is shorter than 4 GiB");
    let start = HEADER_BYTES + 4 + tags.len() * TAG_BYTES;
    let (mut table, mut body) = (Vec::new(), Vec::new());
    for (signature, data) in tags {
        table.extend_from_slice(*signature);
        table.extend_from_slice(&number(start + body.len()).to_be_bytes());
        table.extend_from_slice(&number(data.len()).to_be_bytes());
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut made = vec![0; HEADER_BYTES];
    made[..4].copy_from_slice(&number(start + body.len()).to_be_bytes());
    made[8..24].copy_from_slice(&bytes[8..24]);
    // A date, which must be one: year, month and day.
    made[24..30].copy_from_slice(&[0x07, 0xd0, 0, 1, 0, 1]);
    made[36..40].copy_from_slice(b"acsp");
    // The illuminant D50 in 16.16 bits (7.2.16).
    made[68..80].copy_from_slice(&[0, 0, 0xf6, 0xd6, 0, 1, 0, 0, 0, 0, 0xd3, 0x2d]);
    made.extend_from_slice(&number(tags.len()).to_be_bytes());
    made.extend(table);
    made.extend(body);
    made
}

/// The name in a description: ASCII of version 2, or the first text of version 4 (10.15), and for those who write
/// it a plain text.
fn name(tag: &[u8]) -> Option<String> {
    // Cut before it is turned into text: it may be as long as the profile.
    let head = |bytes: &[u8], most: usize| bytes[..bytes.len().min(most)].to_vec();
    let text = match tag.get(..4)? {
        b"desc" => {
            let length = be_u32(tag, 8)? as usize;
            let bytes = tag.get(12..12_usize.checked_add(length)?)?;
            String::from_utf8_lossy(&head(bytes, 4 * NAME_CHARACTERS_MAX)).into_owned()
        }
        b"mluc" => {
            let (length, start) = (be_u32(tag, 20)? as usize, be_u32(tag, 24)? as usize);
            let bytes = tag.get(start..start.checked_add(length)?)?;
            let bytes = head(bytes, 4 * NAME_CHARACTERS_MAX);
            let units = bytes
                .as_chunks()
                .0
                .iter()
                .map(|unit| u16::from_be_bytes(*unit));
            char::decode_utf16(units)
                .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        b"text" => {
            let bytes = tag.get(8..)?;
            String::from_utf8_lossy(&head(bytes, 4 * NAME_CHARACTERS_MAX)).into_owned()
        }
        _ => return None,
    };
    let text = text.split('\0').next().unwrap_or_default();
    // The name stands in quotation marks, and must not end them.
    let name = printable(text.trim(), NAME_CHARACTERS_MAX).replace('"', "'");
    (!name.trim().is_empty()).then_some(name)
}
