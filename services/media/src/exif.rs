//! The few EXIF tags that say which program or camera wrote a file (CIPA DC-008, TIFF 6.0).

use crate::metadata::{MetadataItem, Place};

/// Entries per directory that are looked at; real directories have a few dozen.
const ENTRIES_MAX: u16 = 512;

const EXIF_DIRECTORY: u16 = 0x8769;
const USER_COMMENT: u16 = 0x9286;

/// Tags that are kept. Location tags are deliberately not among them.
const TAGS: [(u16, &str); 6] = [
    (0x010e, "ImageDescription"),
    (0x010f, "Make"),
    (0x0110, "Model"),
    (0x0131, "Software"),
    (0x013b, "Artist"),
    (USER_COMMENT, "UserComment"),
];

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

/// Reads the kept tags; none when the block is no TIFF.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<MetadataItem>> {
    let big_endian = match bytes.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let tiff = Tiff { bytes, big_endian };
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
    fn u16(&self, at: usize) -> Option<u16> {
        let raw = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
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
