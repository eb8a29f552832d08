//! The few IPTC-IIM datasets that say how a picture came to be (IPTC IIM 4.2, inside Adobe's image
//! resource blocks as JPEG carries them in APP13).

use crate::container::{be_u16, be_u32};
use crate::metadata::{MetadataItem, Place};

/// First bytes of the segment.
pub(crate) const PREFIX: &[u8] = b"Photoshop 3.0\0";
/// First bytes of each resource block.
const RESOURCE: &[u8] = b"8BIM";
/// The resource that holds the IIM datasets.
const IIM: u16 = 0x0404;
/// First byte of each dataset, and the record of the application's own.
const MARKER: u8 = 0x1c;
const APPLICATION: u8 = 2;
/// Blocks and datasets that are looked at; real files have a few dozen.
const PARTS_MAX: usize = 256;

/// Datasets that are kept: who made it, with what, and for whom.
const DATASETS: [(u8, &str); 4] = [
    (65, "OriginatingProgram"),
    (80, "Byline"),
    (110, "Credit"),
    (115, "Source"),
];

/// Reads the kept datasets behind the prefix; none when a block is malformed.
pub(crate) fn read(data: &[u8]) -> Option<Vec<MetadataItem>> {
    let mut items = Vec::new();
    let mut at = PREFIX.len();
    for _ in 0..PARTS_MAX {
        // Some writers pad the segment.
        if data.len() < at.checked_add(12)? {
            break;
        }
        if data.get(at..at + 4)? != RESOURCE {
            return None;
        }
        let identifier = be_u16(data, at + 4)?;
        // A name with its length before it, both together of even size.
        let name = usize::from(*data.get(at + 6)?);
        let start = at + 6 + (1 + name).next_multiple_of(2);
        let length = be_u32(data, start)? as usize;
        let body = data.get(start + 4..(start + 4).checked_add(length)?)?;
        if identifier == IIM {
            datasets(body, &mut items);
        }
        at = start + 4 + length.next_multiple_of(2);
    }
    Some(items)
}

/// Adds the kept datasets up to the first that is malformed.
fn datasets(mut data: &[u8], items: &mut Vec<MetadataItem>) {
    for _ in 0..PARTS_MAX {
        let [MARKER, record, dataset, high, low, rest @ ..] = data else {
            return;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // A length of more than 15 bits would follow in bytes of its own; no text here is as long.
        let Some(value) = rest.get(..length).filter(|_| length < 0x8000) else {
            return;
        };
        let kept = DATASETS.iter().find(|(number, _)| number == dataset);
        if let (APPLICATION, Some((_, name))) = (*record, kept) {
            let text = String::from_utf8_lossy(value);
            let text = text.trim_matches(['\0', ' ']);
            if !text.is_empty() {
                items.push(MetadataItem::new(Place::Iptc((*name).to_owned()), text));
            }
        }
        data = &rest[length..];
    }
}
