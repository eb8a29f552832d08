//! Caps on the boxes of a manifest store (JUMBF, ISO 19566-5), counted before anything is read of
//! them. Headers alone are looked at, without recursion.

use std::fmt;

/// Bytes of a box header: length and type.
const HEADER: usize = 8;
/// The box types that hold boxes.
const SUPERBOX: &[u8; 4] = b"jumb";
/// A compressed box.
const COMPRESSED: &[u8; 4] = b"brob";

/// Caps on one manifest store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BoxCaps {
    pub(crate) bytes_max: u64,
    /// Boxes of any kind. A manifest with ten assertions has about fifty.
    pub(crate) boxes_max: usize,
    /// How deep boxes lie in each other. The specification's own structure is five deep.
    pub(crate) depth_max: usize,
    /// Compressed boxes. A store has one manifest for each step of a picture's history.
    pub(crate) compressed_max: usize,
}

impl Default for BoxCaps {
    fn default() -> Self {
        Self {
            bytes_max: 8 << 20,
            boxes_max: 4_096,
            depth_max: 12,
            compressed_max: 8,
        }
    }
}

/// A cap that a store breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenCap {
    Bytes { bytes: u64, bytes_max: u64 },
    Boxes { boxes_max: usize },
    Depth { depth_max: usize },
    Compressed { compressed_max: usize },
}

impl fmt::Display for BrokenCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { bytes, bytes_max } => write!(
                f,
                "the manifests have {bytes} bytes, the limit manifest_bytes_max is {bytes_max}"
            ),
            Self::Boxes { boxes_max } => {
                write!(f, "the manifests have more than {boxes_max} boxes")
            }
            Self::Depth { depth_max } => {
                write!(f, "the manifests' boxes lie more than {depth_max} deep")
            }
            Self::Compressed { compressed_max } => write!(
                f,
                "the manifests have more than {compressed_max} compressed boxes"
            ),
        }
    }
}

/// Counts the boxes of a store. What is malformed is left to the reader, which refuses it.
pub(crate) fn check(store: &[u8], caps: BoxCaps) -> Result<(), BrokenCap> {
    let bytes = store.len() as u64;
    if bytes > caps.bytes_max {
        return Err(BrokenCap::Bytes {
            bytes,
            bytes_max: caps.bytes_max,
        });
    }
    let (mut boxes, mut compressed) = (0, 0);
    // Ends of the superboxes around the present place.
    let mut around: Vec<usize> = vec![store.len()];
    let mut at = 0;
    while let Some(&end) = around.last() {
        if at >= end {
            around.pop();
            continue;
        }
        let Some((kind, start, stop)) = header(store, at, end) else {
            return Ok(());
        };
        boxes += 1;
        if boxes > caps.boxes_max {
            return Err(BrokenCap::Boxes {
                boxes_max: caps.boxes_max,
            });
        }
        if kind == COMPRESSED {
            compressed += 1;
            if compressed > caps.compressed_max {
                return Err(BrokenCap::Compressed {
                    compressed_max: caps.compressed_max,
                });
            }
        }
        if kind == SUPERBOX {
            if around.len() > caps.depth_max {
                return Err(BrokenCap::Depth {
                    depth_max: caps.depth_max,
                });
            }
            around.push(stop);
            at = start;
        } else {
            at = stop;
        }
    }
    Ok(())
}

/// Type, start of the content and end of the box at `at`; none where it does not fit.
fn header(store: &[u8], at: usize, end: usize) -> Option<(&[u8; 4], usize, usize)> {
    let head = store.get(at..at.checked_add(HEADER)?)?;
    let length = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    let kind: &[u8; 4] = head[4..].try_into().ok()?;
    let (start, length) = match length {
        // The length stands behind the type in 64 bits.
        1 => {
            let long = store.get(at + HEADER..at + 2 * HEADER)?;
            let long = u64::from_be_bytes(long.try_into().ok()?);
            (at + 2 * HEADER, usize::try_from(long).ok()?)
        }
        // To the end of what it lies in.
        0 => (at + HEADER, end - at),
        length => (at + HEADER, length),
    };
    let stop = at.checked_add(length)?;
    (start <= stop && stop <= end).then_some((kind, start, stop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (HEADER + content.len()) as u32;
        [&length.to_be_bytes()[..], kind, content].concat()
    }

    fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(Vec::new(), |inner, _| boxed(SUPERBOX, &inner))
    }

    #[test]
    fn boxes_are_counted_and_their_depth_is_capped() {
        let caps = BoxCaps::default();
        assert_eq!(check(&nested(caps.depth_max), caps), Ok(()));
        let depth_max = caps.depth_max;
        let broken = Err(BrokenCap::Depth { depth_max });
        assert_eq!(check(&nested(depth_max + 1), caps), broken);
        assert_eq!(check(&nested(200_000), caps), broken);
        let many = boxed(b"json", b"{}").repeat(caps.boxes_max + 1);
        let boxes_max = caps.boxes_max;
        assert_eq!(check(&many, caps), Err(BrokenCap::Boxes { boxes_max }));
        let bombs = boxed(COMPRESSED, b"x").repeat(caps.compressed_max + 1);
        assert!(matches!(
            check(&bombs, caps),
            Err(BrokenCap::Compressed { .. })
        ));
    }

    #[test]
    fn malformed_boxes_end_the_count_and_never_loop() {
        let caps = BoxCaps::default();
        for store in [
            b"".as_slice(),
            b"\0\0\0",
            b"\0\0\0\x04jumb",
            b"\0\0\0\x09jumb\0",
            b"\0\0\0\x01jumb\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\0\0\0jumb\0\0\0\0jumb\0\0\0\0json",
            b"\xff\xff\xff\xffjumb",
        ] {
            assert_eq!(check(store, caps), Ok(()), "{store:?}");
        }
    }
}
