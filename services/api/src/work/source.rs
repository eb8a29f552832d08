//! Pictures that a generation starts from.

use std::fmt;

use base64::engine::general_purpose::STANDARD;
use ndarray::{Array4, Axis};
use provenance::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A picture to start from, parsed in the confined child.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePicture {
    /// SHA-256 of the uploaded file.
    pub sha256: Digest,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 8-bit RGB, rows from the top; transparency lies on white.
    #[serde(with = "in_base64")]
    pub rgb: Vec<u8>,
}

/// Where a source picture is painted over, parsed in the confined child.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMask {
    /// SHA-256 of the uploaded file.
    pub sha256: Digest,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// One byte for each pixel: above 127 is painted anew.
    #[serde(with = "in_base64")]
    pub luma: Vec<u8>,
}

/// Starting samples that the caller brought, of shape (images, channels, height, width).
#[derive(Clone, PartialEq)]
pub struct OwnLatents(pub Array4<f32>);

impl fmt::Debug for SourcePicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}x{}", self.sha256, self.width, self.height)
    }
}

impl fmt::Debug for SourceMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same file can be read by its transparency or by its brightness.
        let read = Digest::of(&self.luma);
        let (width, height) = (self.width, self.height);
        write!(f, "{} read as {read} of {width}x{height}", self.sha256)
    }
}

impl fmt::Debug for OwnLatents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digests = (0..self.images()).filter_map(|index| self.digest(index));
        f.debug_list().entries(digests).finish()
    }
}

impl OwnLatents {
    /// Number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.0.dim().0
    }

    /// The digest that entries state of the latents of one image: over batch 1, channels, height
    /// and width as big-endian u32s, then the values as little-endian f32s, row by row.
    #[must_use]
    pub fn digest(&self, image_index: usize) -> Option<Digest> {
        if image_index >= self.images() {
            return None;
        }
        let image = self.0.index_axis(Axis(0), image_index);
        let mut bytes = Vec::with_capacity(16 + 4 * image.len());
        for side in std::iter::once(&1).chain(image.shape()) {
            bytes.extend(u32::try_from(*side).ok()?.to_be_bytes());
        }
        for value in &image {
            bytes.extend(value.to_le_bytes());
        }
        Some(Digest::of(&bytes))
    }
}

/// Bytes as base64 in JSON.
mod in_base64 {
    use super::{Deserialize, Deserializer, STANDARD, Serializer};
    use base64::Engine as _;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_latents_is_that_of_their_dimensions_and_values() {
        let latents = OwnLatents(Array4::from_shape_fn((2, 1, 1, 2), |(n, _, _, x)| {
            (10 * n + x) as f32
        }));
        // Made with Python: hashlib.sha256(struct.pack(">4I", 1, 1, 1, 2) + struct.pack("<2f", 10, 11)).
        let expected = "5c8bae6806d7daeeb48f6a4699b92589bd888087402b79bd10e1de05f706f73a";
        assert_eq!(latents.digest(1).unwrap().to_string(), expected);
        assert_ne!(latents.digest(0), latents.digest(1));
        assert_eq!(latents.digest(2), None);
    }

    #[test]
    fn a_source_picture_survives_json_and_is_named_by_its_digest_when_printed() {
        let picture = SourcePicture {
            sha256: Digest::of(b"file"),
            width: 1,
            height: 2,
            rgb: vec![0, 127, 255, 1, 2, 3],
        };
        let json = serde_json::to_string(&picture).unwrap();
        let again: SourcePicture = serde_json::from_str(&json).unwrap();
        assert_eq!(again, picture);
        assert!(format!("{picture:?}").contains(&picture.sha256.to_string()));
    }
}
