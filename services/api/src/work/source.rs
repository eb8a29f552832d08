//! Pictures that a generation starts from.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::engine::general_purpose::STANDARD;
use credentials::Ingredient;
use media::Decoded;
use ndarray::{Array4, Axis};
use provenance::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::WorkError;
use crate::sandbox::Sandbox;
use crate::state::AppState;

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
    /// What the manifest of an image that is made from it will say about it.
    pub ingredient: Ingredient,
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

/// Where the last samples of a generation are left for the caller of this process.
#[derive(Clone, Default)]
pub struct LatentsSink(Arc<Mutex<Option<Array4<f32>>>>);

impl LatentsSink {
    /// The samples, once.
    #[must_use]
    pub fn take(&self) -> Option<Array4<f32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, latents: &Array4<f32>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(latents.clone());
    }
}

impl fmt::Debug for LatentsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LatentsSink")
    }
}

/// Where the samples are left does not change what is ordered.
impl PartialEq for LatentsSink {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

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

/// An uploaded file that a generation is to start from.
#[derive(Clone)]
pub struct SourceFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its name, where one came with it.
    pub file_name: Option<String>,
    /// Its media type, where one came with it.
    pub media_type: Option<String>,
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile of {} bytes", self.bytes.len())
    }
}

/// What of a mask's file says where to paint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskReading {
    /// Full transparency, as in OpenAI's interface; the file must have an alpha channel.
    Transparency,
    /// Brightness; of a file with transparency, its alpha channel, as in A1111's interface.
    Brightness,
}

impl SourcePicture {
    /// Parses a picture in a confined child.
    ///
    /// # Errors
    /// Why there is no picture, or that its label contradicts its bytes.
    pub async fn parse(sandbox: &Sandbox, file: SourceFile) -> Result<Self, WorkError> {
        let bytes = file.bytes.clone();
        let (sha256, decoded) = open(sandbox, file).await?;
        let ingredient = match decoded.has_content_credentials {
            true => sandbox.ingredient(&bytes, decoded.format).await?,
            false => Ingredient::without_manifest(decoded.format),
        };
        Ok(Self {
            sha256,
            width: decoded.width,
            height: decoded.height,
            rgb: decoded.rgb,
            ingredient,
        })
    }
}

impl SourceMask {
    /// Parses a mask in a confined child.
    ///
    /// # Errors
    /// As [`SourcePicture::parse`], and a mask without transparency where transparency is read.
    pub async fn parse(
        sandbox: &Sandbox,
        file: SourceFile,
        reading: MaskReading,
    ) -> Result<Self, WorkError> {
        let (sha256, decoded) = open(sandbox, file).await?;
        let luma = match (reading, decoded.alpha) {
            (MaskReading::Transparency, Some(alpha)) => {
                let painted = alpha.iter().map(|&alpha| if alpha == 0 { 255 } else { 0 });
                painted.collect()
            }
            (MaskReading::Transparency, None) => {
                let detail =
                    "the mask has no transparency; where it is fully transparent is painted";
                return Err(WorkError::invalid("mask", detail));
            }
            (MaskReading::Brightness, Some(alpha)) if alpha.iter().any(|&alpha| alpha != 255) => {
                alpha
            }
            (MaskReading::Brightness, _) => decoded.rgb.chunks_exact(3).map(brightness).collect(),
        };
        Ok(Self {
            sha256,
            width: decoded.width,
            height: decoded.height,
            luma,
        })
    }
}

/// Parses an uploaded picture in a confined child.
///
/// # Errors
/// Why there is no picture, or that its label contradicts its bytes.
pub async fn open_picture(
    state: &Arc<AppState>,
    file: SourceFile,
) -> Result<SourcePicture, WorkError> {
    let shared = Arc::clone(state);
    let parsed = async move { SourcePicture::parse(&shared.sandbox, file).await };
    state.run(parsed).await
}

/// Parses an uploaded mask in a confined child.
///
/// # Errors
/// As [`open_picture`], and a mask without transparency where transparency is read.
pub async fn open_mask(
    state: &Arc<AppState>,
    file: SourceFile,
    reading: MaskReading,
) -> Result<SourceMask, WorkError> {
    let shared = Arc::clone(state);
    let parsed = async move { SourceMask::parse(&shared.sandbox, file, reading).await };
    state.run(parsed).await
}

/// Reads what tools wrote into an uploaded picture, in a confined child. The picture is not kept.
///
/// # Errors
/// As [`open_picture`].
pub async fn read_metadata(
    state: &Arc<AppState>,
    file: SourceFile,
) -> Result<Vec<media::MetadataItem>, WorkError> {
    let shared = Arc::clone(state);
    let parsed = async move { Ok(open(&shared.sandbox, file).await?.1.metadata) };
    state.run(parsed).await
}

async fn open(sandbox: &Sandbox, file: SourceFile) -> Result<(Digest, Decoded), WorkError> {
    let format = media::sniff(&file.bytes)?;
    let (name, media_type) = (file.file_name.as_deref(), file.media_type.as_deref());
    media::check_label(name, media_type, format)?;
    let decoded = sandbox.parse(&file.bytes).await?.decoded;
    Ok((Digest::of(&file.bytes), decoded))
}

/// The luma of ITU-R BT.601 in whole numbers, as image programs turn colours into grey.
fn brightness(pixel: &[u8]) -> u8 {
    let weighted = pixel
        .iter()
        .zip([299_u32, 587, 114])
        .map(|(&channel, weight)| u32::from(channel) * weight);
    let mean = (weighted.sum::<u32>() + 500) / 1_000;
    u8::try_from(mean).expect("a weighted mean of bytes is a byte")
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
            ingredient: Ingredient::without_manifest(media::Format::Png),
        };
        let json = serde_json::to_string(&picture).unwrap();
        let again: SourcePicture = serde_json::from_str(&json).unwrap();
        assert_eq!(again, picture);
        assert!(format!("{picture:?}").contains(&picture.sha256.to_string()));
    }
}
