//! The few EXIF tags that say which program or camera wrote a file (CIPA DC-008, TIFF 6.0).

use crate::metadata::{MetadataItem, Place};
use crate::orientation::Orientation;

/// Entries per directory that are looked at; real directories have a few dozen.
const ENTRIES_MAX: u16 = 512;

const EXIF_DIRECTORY: u16 = 0x8769;
const SOFTWARE: u16 = 0x0131;
const USER_COMMENT: u16 = 0x9286;

/// Tags that are kept. Location tags are deliberately not among them.
const TAGS: [(u16, &str); 6] = [
    (0x010e, "ImageDescription"),
    (0x010f, "Make"),
    (0x0110, "Model"),
    (SOFTWARE, "Software"),
    (0x013b, "Artist"),
    (USER_COMMENT, "UserComment"),
];

const ORIENTATION: u16 = 0x0112;

/// A TIFF block and its byte order.
struct Tiff<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

/// One directory entry.
struct Entry<'a> {
    tag: u16,
    /// The value's bytes, wherever they lie.
    value: &'a [u8],
}

/// Which side is up, where the block says so in a number that means something.
pub(crate) fn orientation(bytes: &[u8]) -> Option<Orientation> {
    let tiff = Tiff::open(bytes)?;
    let mut found = None;
    tiff.directory(tiff.u32(4)? as usize, |entry| {
        if entry.tag == ORIENTATION && found.is_none() {
            found = tiff.short(entry.value).and_then(Orientation::from_exif);
        }
    });
    found
}

/// Reads the kept tags; none when the block is no TIFF.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<MetadataItem>> {
    let tiff = Tiff::open(bytes)?;
    let mut items = Vec::new();
    let first = tiff.u32(4)? as usize;
    let mut nested = None;
    tiff.directory(first, |entry| {
        if entry.tag == EXIF_DIRECTORY {
            nested = tiff.number(entry.value);
        }
        items.extend(tiff.item(&entry));
    });
    // One level only: the EXIF directory holds no further directory of interest, so a loop of
    // offsets cannot hold us.
    if let Some(offset) = nested {
        tiff.directory(offset as usize, |entry| items.extend(tiff.item(&entry)));
    }
    Some(items)
}

impl<'a> Tiff<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        Some(Self { bytes, big_endian })
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.short(self.bytes.get(at..at.checked_add(2)?)?)
    }

    fn short(&self, value: &[u8]) -> Option<u16> {
        let raw = value.get(..2)?.try_into().ok()?;
        Some(if self.big_endian {
            u16::from_be_bytes(raw)
        } else {
            u16::from_le_bytes(raw)
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.number(self.bytes.get(at..at.checked_add(4)?)?)
    }

    fn number(&self, value: &[u8]) -> Option<u32> {
        let raw = value.get(..4)?.try_into().ok()?;
        Some(if self.big_endian {
            u32::from_be_bytes(raw)
        } else {
            u32::from_le_bytes(raw)
        })
    }

    /// Calls `visit` with each well-formed entry of the directory at `offset`.
    fn directory(&self, offset: usize, mut visit: impl FnMut(Entry<'a>)) {
        let Some(count) = self.u16(offset) else {
            return;
        };
        for n in 0..usize::from(count.min(ENTRIES_MAX)) {
            if let Some(entry) = self.entry(offset.saturating_add(2 + 12 * n)) {
                visit(entry);
            }
        }
    }

    fn entry(&self, at: usize) -> Option<Entry<'a>> {
        let tag = self.u16(at)?;
        let unit: usize = match self.u16(at.checked_add(2)?)? {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 => 8,
            _ => return None,
        };
        let size = unit.checked_mul(self.u32(at.checked_add(4)?)? as usize)?;
        // Values of up to four bytes lie in the entry itself, others at an offset.
        let place = at.checked_add(8)?;
        let start = if size <= 4 {
            place
        } else {
            self.u32(place)? as usize
        };
        let length = size.max(if size <= 4 { 4 } else { 0 });
        let value = self.bytes.get(start..start.checked_add(length)?)?;
        Some(Entry { tag, value })
    }

    fn item(&self, entry: &Entry<'_>) -> Option<MetadataItem> {
        let (_, name) = TAGS.iter().find(|(tag, _)| *tag == entry.tag)?;
        let text = match entry.tag {
            USER_COMMENT => self.user_comment(entry.value)?,
            _ => String::from_utf8_lossy(entry.value).into_owned(),
        };
        let text = text.trim_matches(['\0', ' ']);
        (!text.is_empty()).then(|| MetadataItem::new(Place::Exif((*name).to_owned()), text))
    }

    /// A user comment: eight bytes name its character code (CIPA DC-008, 4.6.6).
    fn user_comment(&self, value: &[u8]) -> Option<String> {
        let (code, text) = value.split_at_checked(8)?;
        if code != b"UNICODE\0" {
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        let units: Vec<u16> = text
            .chunks_exact(2)
            .map(|pair| {
                let raw = [pair[0], pair[1]];
                // Some writers use big-endian text whatever the block's order is: text whose
                // first unit has a zero first byte can only be big-endian.
                if self.big_endian || text[0] == 0 {
                    u16::from_be_bytes(raw)
                } else {
                    u16::from_le_bytes(raw)
                }
            })
            .collect();
        Some(String::from_utf16_lossy(&units))
    }
}

/// Texts for the EXIF block of a file that is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExifTexts<'a> {
    /// The program, in ASCII.
    pub software: &'a str,
    /// The user comment, in any script.
    pub user_comment: Option<&'a str>,
}

/// Types of values: a text that ends in zero, 32 bits, bytes of any meaning.
const ASCII: u16 = 2;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;

/// Writes a block with these texts: big-endian, the first directory and, for the comment, the EXIF
/// directory behind it.
pub(crate) fn write(texts: &ExifTexts<'_>) -> Vec<u8> {
    let comment = texts.user_comment.map(|text| {
        let units = text.encode_utf16().flat_map(u16::to_be_bytes);
        b"UNICODE\0"
            .iter()
            .copied()
            .chain(units)
            .collect::<Vec<u8>>()
    });
    let software = [texts.software.as_bytes(), b"\0"].concat();
    let mut block = b"MM\0*".to_vec();
    block.extend(8_u32.to_be_bytes());
    let entries: u16 = if comment.is_some() { 2 } else { 1 };
    // Behind the directory: its count, twelve bytes an entry, and the place of the next one.
    let values = 8 + 2 + 12 * usize::from(entries) + 4;
    let nested = values + software.len() + software.len() % 2;
    block.extend(entries.to_be_bytes());
    block.extend(written_entry(SOFTWARE, ASCII, &software, values));
    if comment.is_some() {
        let place = length(nested).to_be_bytes();
        block.extend(written_entry(EXIF_DIRECTORY, LONG, &place, 0));
    }
    block.extend([0; 4]);
    block.extend(&software);
    block.resize(nested, 0);
    if let Some(comment) = comment {
        block.extend(1_u16.to_be_bytes());
        let place = nested + 2 + 12 + 4;
        block.extend(written_entry(USER_COMMENT, UNDEFINED, &comment, place));
        block.extend([0; 4]);
        block.extend(comment);
    }
    block
}

/// One directory entry; its value lies at `place` unless it fits into the entry itself.
fn written_entry(tag: u16, kind: u16, value: &[u8], place: usize) -> Vec<u8> {
    let count = if kind == LONG { 1 } else { value.len() };
    let mut entry = Vec::with_capacity(12);
    entry.extend(tag.to_be_bytes());
    entry.extend(kind.to_be_bytes());
    entry.extend(length(count).to_be_bytes());
    if value.len() <= 4 {
        entry.extend(value);
        entry.resize(12, 0);
    } else {
        entry.extend(length(place).to_be_bytes());
    }
    entry
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("texts are far shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_was_written_is_read_again() {
        let texts = |user_comment| ExifTexts {
            software: "Retrace 1",
            user_comment,
        };
        let read_again = |texts| -> Vec<String> {
            let items = read(&write(&texts)).unwrap();
            items.into_iter().map(|item| item.value).collect()
        };
        assert_eq!(read_again(texts(None)), ["Retrace 1"]);
        let comment = "ein rotes Herz, 赤\nSteps: 4";
        assert_eq!(read_again(texts(Some(comment))), ["Retrace 1", comment]);
    }
}
