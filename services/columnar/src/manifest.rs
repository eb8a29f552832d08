//! The manifest inside a file of columns.

use std::io::{self, Read, Seek, SeekFrom};

use provenance::export::MANIFEST_BYTES_MAX;

/// The key of the manifest in the metadata of the file.
pub const MANIFEST_KEY: &str = "retrace.manifest";
/// Longest metadata of a file that is read: a row group of 20,000 entries takes about 3 KB of it.
pub const FOOTER_BYTES_MAX: u64 = 256 << 20;

/// What ends every file: the length of its metadata, and four letters.
const TAIL_BYTES: u64 = 8;
const MAGIC: &[u8] = b"PAR1";

/// A manifest and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundManifest {
    /// Where the value begins that the digest leaves out.
    pub start: u64,
    /// How long that value is, with the spaces that fill it up.
    pub length: u64,
    /// The signed manifest.
    pub signed: Vec<u8>,
}

/// Finds the manifest in a file of columns; none in a file that has none, or several. Nothing else of the file is
/// parsed: until its digest was compared, somebody may have made it to do harm.
///
/// # Errors
/// When the file cannot be read.
pub fn find_manifest(file: &mut (impl Read + Seek)) -> io::Result<Option<FoundManifest>> {
    let length = file.seek(SeekFrom::End(0))?;
    if length < TAIL_BYTES {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(length - TAIL_BYTES))?;
    let mut tail = [0; TAIL_BYTES as usize];
    file.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    let footer_length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let before = length - TAIL_BYTES;
    if magic != MAGIC || footer_length > before.min(FOOTER_BYTES_MAX) {
        return Ok(None);
    }
    let start = before - footer_length;
    file.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    file.take(footer_length).read_to_end(&mut footer)?;
    let Some((offset, value)) = locate(&footer) else {
        return Ok(None);
    };
    let end = value.iter().rposition(|byte| *byte != b' ');
    let signed = value[..end.map_or(0, |end| end + 1)].to_vec();
    Ok(Some(FoundManifest {
        start: start + offset as u64,
        length: value.len() as u64,
        signed,
    }))
}

/// The value of the manifest's key in metadata, with its place. The metadata holds no text that others chose, so
/// the key can stand there once.
pub(crate) fn locate(footer: &[u8]) -> Option<(usize, &[u8])> {
    let marker = marker();
    let mut places = footer
        .windows(marker.len())
        .enumerate()
        .filter(|(_, window)| *window == marker);
    let (place, _) = places.next()?;
    if places.next().is_some() {
        return None;
    }
    let length_at = place + marker.len();
    let (length, digits) = varint(&footer[length_at..])?;
    let from = length_at + digits;
    let value = footer.get(from..from.checked_add(length)?)?;
    Some((from, value))
}

/// The key as Thrift's compact protocol spells it, and the header of the value after it: a field of bytes, the
/// next one of its structure.
fn marker() -> Vec<u8> {
    const FIELD: u8 = 0x18;
    let length = u8::try_from(MANIFEST_KEY.len()).expect("the key is short");
    [&[FIELD, length], MANIFEST_KEY.as_bytes(), &[FIELD]].concat()
}

/// A length of at most [`MANIFEST_BYTES_MAX`] in Thrift's compact protocol, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_usize;
    for (place, byte) in bytes.iter().enumerate().take(3) {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return (value <= MANIFEST_BYTES_MAX).then_some((value, place + 1));
        }
    }
    None
}
