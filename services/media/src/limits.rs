//! Caps on untrusted pictures.

use serde::{Deserialize, Serialize};

/// Every cap that a file must pass. All are checked before any pixel is decoded, except
/// `decoder_alloc_bytes_max`, which the decoder applies while it works, and the metadata caps,
/// and that of the colour profile, which leave items out instead of refusing the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Size of the file in bytes.
    pub bytes_max: u64,
    /// Longest side in pixels.
    pub side_max: u32,
    /// Width times height.
    pub pixels_max: u64,
    /// Frames of an animation; 1 refuses animations.
    pub frames_max: u32,
    /// Memory that the decoder may ask for at once, best effort: the hard limit is the child
    /// process's.
    pub decoder_alloc_bytes_max: u64,
    /// Bytes of one metadata item after inflating; longer items are left out and counted.
    pub metadata_bytes_max: usize,
    /// Number of metadata items that are kept; further ones are left out and counted.
    pub metadata_items_max: usize,
    /// Bytes of a colour profile after inflating; a longer one is ignored, and the picture's notes say so.
    pub colour_profile_bytes_max: usize,
}

impl Default for Limits {
    /// 32 MiB, sides of 16,384 pixels, 64 megapixels (larger than common cameras), no
    /// animations, 512 MiB for the decoder (64 megapixels at 8 bytes each), metadata items
    /// of 2 MiB (larger than the workflow graphs that tools embed), 256 of them, colour profiles of
    /// 4 MiB (those of printing presses have 0.5 to 3).
    fn default() -> Self {
        Self {
            bytes_max: 32 << 20,
            side_max: 16_384,
            pixels_max: 64_000_000,
            frames_max: 1,
            decoder_alloc_bytes_max: 512 << 20,
            metadata_bytes_max: 2 << 20,
            metadata_items_max: 256,
            colour_profile_bytes_max: 4 << 20,
        }
    }
}
