//! Whether an image is the recorded one.

use std::path::Path;

use provenance::{Digest, RecordedImage};

use crate::input::{self, InputError};
use crate::report::{Check, Reason};

/// The check of the file's bytes.
pub const FILE_CHECK: &str = "image file";
/// The check of the decoded pixels.
const PIXEL_CHECK: &str = "image pixels";

/// Reads an image file up to the limit of the decoder.
pub fn read(path: &Path) -> Result<Vec<u8>, InputError> {
    input::read(path, media::Limits::default().bytes_max)
}

/// Compares a file with the recorded image: first its bytes, then its pixels. The entry speaks about
/// the bytes; equal pixels in other bytes mean that somebody saved the image again.
pub fn check(recorded: &RecordedImage, bytes: &[u8]) -> Vec<Check> {
    let sha256 = Digest::of(bytes);
    let same_file = sha256 == recorded.sha256;
    let pixels = pixel_digest(bytes);
    let same_pixels = pixels
        .as_ref()
        .is_ok_and(|pixels| *pixels == recorded.pixel_sha256);
    let file_check = if same_file {
        Check::ok(FILE_CHECK, format!("sha256 {sha256}"))
    } else if same_pixels {
        let detail = format!(
            "the pixels are the recorded ones, but the file is not (sha256 {sha256}, recorded {}): \
             it was saved again",
            recorded.sha256
        );
        Check::failed(FILE_CHECK, Reason::new("image-resaved", detail))
    } else {
        let detail = format!("sha256 {sha256}, recorded {}", recorded.sha256);
        Check::failed(FILE_CHECK, Reason::new("image-differs", detail))
    };
    vec![file_check, pixel_check(recorded, same_file, pixels)]
}

fn pixel_check(
    recorded: &RecordedImage,
    same_file: bool,
    pixels: Result<Digest, media::MediaError>,
) -> Check {
    match pixels {
        Ok(pixels) if pixels == recorded.pixel_sha256 => {
            Check::ok(PIXEL_CHECK, format!("sha256 {pixels}"))
        }
        Ok(pixels) => {
            let detail = format!("sha256 {pixels}, recorded {}", recorded.pixel_sha256);
            Check::failed(PIXEL_CHECK, Reason::new("pixels-differ", detail))
        }
        // The file's own digest says more than its pixels could.
        Err(error) if same_file => Check::skipped(
            PIXEL_CHECK,
            Reason::new("image-undecodable", format!("not needed: {error}")),
        ),
        Err(error) => Check::failed(
            PIXEL_CHECK,
            Reason::new("image-undecodable", error.to_string()),
        ),
    }
}

/// The digest of the pixels as the file stores them.
pub fn pixel_digest(bytes: &[u8]) -> Result<Digest, media::MediaError> {
    let stored = media::decode_stored(bytes, &media::Limits::default())?;
    Ok(Digest::of(&stored.pixel_preimage()))
}
