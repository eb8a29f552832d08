//! Untrusted bytes to pixels within limits, metadata of other tools, encoders.
//!
//! The way of an upload: [`sniff`] names the format from its first bytes, [`probe`] walks the
//! container without decoding (sizes, frames, truncation) and applies every cap of [`Limits`],
//! and only then does [`decode`] touch the pixels, and brings their colours to sRGB by the file's colour
//! profile; [`decode_stored`] stops before that. What other tools wrote into the file comes
//! back as [`MetadataItem`]s, and [`generator_marks`] names those that say "a generator made me".
//! Such marks are claims of whoever wrote the file: evidence, never proof.
//!
//! The crate is pure: no files, no clock, no environment, no threads. It does not defend
//! itself against a decoder that crashes or loops: callers with untrusted bytes run it in a
//! child process.

mod blur;
mod colour_profile;
mod container;
mod decode;
mod encode;
mod error;
mod exif;
mod format;
mod inks;
mod invisible_watermark;
mod iptc;
mod jpeg_tables;
mod limits;
mod marks;
mod metadata;
mod orientation;
mod painting;
mod perceptual_hash;
mod picture;
mod quantisation;
mod resample;
mod srgb;
mod xmp;

pub use colour_profile::{ColourProfile, ProfileColours, ProfileTreatment};
pub use container::{Header, probe};
pub use decode::{Decoded, Stored, decode, decode_stored, pixel_preimage};
pub use encode::{encode_jpeg, encode_png, encode_webp};
pub use error::MediaError;
pub use exif::ExifTexts;
pub use format::{Format, check_label, sniff};
pub use invisible_watermark::{
    InvisibleWatermark, WATERMARK_FALSE_POSITIVE_RATE_MAX, WatermarkPlane, invisible_watermark,
    watermark_agreements, watermark_block_bits,
};
pub use jpeg_tables::{JpegTables, encode_jpeg_with_tables};
pub use limits::Limits;
pub use marks::{Mark, MarkKind, generator_marks};
pub use metadata::{MetadataItem, Place};
pub use orientation::Orientation;
pub use painting::{Canvas, PaintMask, Painting, PaintingOptions};
pub use perceptual_hash::{
    HashAndQuality, MATCH_DISTANCE_MAX, MATCH_QUALITY_MIN, NotAPerceptualHash, PerceptualHash,
    dihedral_hashes, perceptual_hash,
};
pub use picture::{HeatSquare, Picture, overlay_heatmap, strip};
pub use quantisation::QualityEstimate;
pub use resample::resample;
