//! The service's own watermark: its keys, and which id an image carries.

use diffusion::{WatermarkId, WatermarkKey, WatermarkReading};
use ndarray::ArrayView4;
use provenance::{NOISE_WATERMARK, SecretSeed, commit};

/// Marks the starting noise of images and reads such marks. Whoever has the seed can do both, and can mark
/// what the service never made.
pub struct Watermarker {
    noise: WatermarkKey,
    ids: [u8; 32],
}

impl Watermarker {
    /// With the secrets that grow from a seed.
    #[must_use]
    pub fn new(seed: &SecretSeed) -> Self {
        Self {
            noise: WatermarkKey::new(*seed.derive("retrace/watermark-noise/v1")),
            ids: *seed.derive("retrace/watermark-id/v1"),
        }
    }

    /// The id of an image: the first five bytes of the HMAC-SHA256 of everything that makes its pixels, so
    /// that the same request gives the same pixels, and the id tells nobody what was asked for.
    pub(crate) fn id(&self, makes_pixels: &str) -> WatermarkId {
        let [a, b, c, d, e, ..] = *commit(&self.ids, makes_pixels.as_bytes()).as_bytes();
        WatermarkId::from_bytes([a, b, c, d, e])
    }

    /// Marks with these ids for a request.
    pub(crate) fn marks(&self, ids: Vec<WatermarkId>) -> onnx::Watermark {
        onnx::Watermark {
            key: self.noise.clone(),
            ids,
        }
    }

    /// The mark in the noise that an inversion ended in.
    #[must_use]
    pub fn read(&self, noise: ArrayView4<'_, f32>) -> Option<WatermarkReading> {
        self.noise.read(noise)
    }
}

impl std::fmt::Debug for Watermarker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watermarker")
    }
}

/// How entries state a mark.
pub(crate) fn recorded(id: Option<WatermarkId>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| format!("{NOISE_WATERMARK}{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_has_the_same_id_under_the_same_seed_alone() {
        let one = Watermarker::new(&SecretSeed::from_bytes([1; 32]));
        let other = Watermarker::new(&SecretSeed::from_bytes([2; 32]));
        assert_eq!(one.id("a red heart"), one.id("a red heart"));
        assert_ne!(one.id("a red heart"), one.id("a blue heart"));
        assert_ne!(one.id("a red heart"), other.id("a red heart"));
    }

    #[test]
    fn entries_state_the_id_in_digits() {
        let id = WatermarkId::from_bytes([0, 0x12, 0xab, 0, 1]);
        assert_eq!(recorded(Some(id)), "noise-v1:0012ab0001");
        assert_eq!(recorded(None), "none");
    }
}
