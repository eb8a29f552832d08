//! The file of an image: format, texts inside it, digests.

use credentials::{
    CredentialSigner, CredentialsError, Ingredient, ModelStatement, Operator, SoftBinding,
    Software, Statement, Work,
};
use diffusion::WatermarkId;
use media::{Format, HashAndQuality, MediaError, perceptual_hash, pixel_preimage};
use onnx::{GeneratedImage, Picture, Task};
use provenance::{Digest, RecordedModel};

use super::WorkError;
use super::order::FileOptions;
use crate::time_stamps::HttpAuthority;

/// Keyword under which A1111's web interface writes prompt and settings into PNG files.
const PARAMETERS: &str = "parameters";
/// The text that names this service in its pictures.
const SOFTWARE: &str = concat!("Retrace ", env!("CARGO_PKG_VERSION"));
/// Quality of pictures of the way.
const PREVIEW_QUALITY: u8 = 85;

/// An encoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PictureFile {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: &'static str,
    /// The digest of what a decoder reads from the file. A JPEG file does not give back the
    /// generator's own pixels, so they are read from the file itself.
    pub(super) pixel_sha256: Digest,
    /// What finds changed copies, of the same pixels.
    pub(super) perceptual: HashAndQuality,
}

/// Encodes an image with the name of this service, the request's id and, where they are wanted,
/// prompt and settings. The texts are marks, not proofs: only the ledger is one.
pub(super) fn encode(
    image: &GeneratedImage,
    options: FileOptions,
    request_id: &str,
    parameters: Option<&str>,
) -> Result<PictureFile, WorkError> {
    let (width, height, rgb) = (image.width, image.height, image.rgb.as_slice());
    let exif = || media::ExifTexts {
        software: SOFTWARE,
        user_comment: parameters,
    };
    let bytes = match options.format {
        Format::Png => {
            let mut texts = vec![("Software", SOFTWARE), ("Retrace-Request", request_id)];
            texts.extend(parameters.map(|text| (PARAMETERS, text)));
            media::encode_png(width, height, rgb, &texts)
        }
        Format::Jpeg => media::encode_jpeg((width, height), rgb, options.quality, &exif()),
        Format::Webp => media::encode_webp((width, height), rgb, &exif()),
    };
    let bytes = bytes.map_err(WorkError::Encode)?;
    let decoded = match options.format {
        Format::Png | Format::Webp => None,
        Format::Jpeg => {
            let decoded = media::decode(&bytes, &media::Limits::default());
            Some(decoded.map_err(WorkError::Encode)?.rgb)
        }
    };
    let pixels = decoded.as_deref().unwrap_or(rgb);
    Ok(PictureFile {
        bytes,
        media_type: options.format.media_type(),
        pixel_sha256: Digest::of(&pixel_preimage(width, height, pixels)),
        perceptual: perceptual_hash(width, height, pixels),
    })
}

/// What the manifest of one image says, ready for another thread.
#[derive(Debug)]
pub(super) struct ManifestText {
    pub(super) format: Format,
    pub(super) operator: String,
    pub(super) log: String,
    pub(super) model: RecordedModel,
    pub(super) task: Task,
    pub(super) ingredient: Option<Ingredient>,
    pub(super) request_id: String,
    pub(super) image_index: u32,
    pub(super) created_at_ms: u64,
    /// The fingerprint of the pixels, as entries state it.
    pub(super) fingerprint: [u8; 32],
    /// The mark in the starting noise.
    pub(super) watermark: Option<WatermarkId>,
}

impl ManifestText {
    /// The file with its manifest, which covers every other byte of it.
    ///
    /// # Errors
    /// When it cannot be signed, or not time-stamped where that is required.
    pub(super) fn sign(
        &self,
        signer: &CredentialSigner,
        authority: Option<&HttpAuthority>,
        file: Vec<u8>,
    ) -> Result<Vec<u8>, CredentialsError> {
        let digest = self.model.digest.to_string();
        let work = match (&self.ingredient, self.task) {
            (None, _) => Work::Created,
            (Some(ingredient), Task::Inpainting) => Work::Composed(ingredient),
            (Some(ingredient), _) => Work::Edited(ingredient),
        };
        let algorithms = (
            fingerprint_algorithm(&self.log),
            watermark_algorithm(&self.log),
        );
        let mark = self.watermark.map(WatermarkId::to_bytes);
        let mut soft_bindings = vec![SoftBinding {
            algorithm: &algorithms.0,
            value: &self.fingerprint,
        }];
        soft_bindings.extend(mark.iter().map(|mark| SoftBinding {
            algorithm: &algorithms.1,
            value: mark,
        }));
        let statement = Statement {
            format: self.format,
            software: Software {
                name: "Retrace",
                version: env!("CARGO_PKG_VERSION"),
            },
            operator: Operator {
                name: &self.operator,
                log: &self.log,
            },
            model: ModelStatement {
                name: &self.model.name,
                digest: &digest,
            },
            work,
            request_id: &self.request_id,
            image_index: self.image_index,
            created_at_ms: self.created_at_ms,
            soft_bindings: &soft_bindings,
        };
        let Some(authority) = authority else {
            return signer.sign(file, &statement);
        };
        match signer.sign_stamped(file.clone(), &statement, authority) {
            Err(CredentialsError::TimeStamp { cause }) => {
                authority.conclude(Some(&cause));
                if authority.is_required() {
                    return Err(CredentialsError::TimeStamp { cause });
                }
                signer.sign(file, &statement)
            }
            Ok(signed) => {
                authority.conclude(None);
                Ok(signed)
            }
            Err(error) => Err(error),
        }
    }
}

/// The name of PDQ in the log's own name space: its host name reversed, `pdq`, version 1. Manifests state
/// it, and the look-ups of soft bindings take it.
#[must_use]
pub fn fingerprint_algorithm(origin: &str) -> String {
    algorithm(origin, "pdq.1")
}

/// The name of the watermark in the starting noise, in the same name space. Its value is the five bytes of the id.
#[must_use]
pub fn watermark_algorithm(origin: &str) -> String {
    algorithm(origin, "noise.1")
}

fn algorithm(origin: &str, name: &str) -> String {
    let host = origin.split('/').next().unwrap_or_default();
    let reversed: Vec<&str> = host.split('.').rev().collect();
    format!("{}.{name}", reversed.join("."))
}

/// A picture of the way to an image, which is neither signed nor recorded. A PNG says so.
///
/// # Errors
/// When the encoder refuses.
pub fn unsigned_file(picture: &Picture, format: Format) -> Result<Vec<u8>, MediaError> {
    let size = (picture.width, picture.height);
    let texts = media::ExifTexts {
        software: SOFTWARE,
        user_comment: Some("Retrace-Signed: no"),
    };
    match format {
        Format::Png => {
            let texts = [("Software", SOFTWARE), ("Retrace-Signed", "no")];
            media::encode_png(size.0, size.1, &picture.rgb, &texts)
        }
        Format::Jpeg => media::encode_jpeg(size, &picture.rgb, PREVIEW_QUALITY, &texts),
        Format::Webp => media::encode_webp(size, &picture.rgb, &texts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algorithm_has_the_reversed_host_name_of_the_log() {
        assert_eq!(
            fingerprint_algorithm("log.example.org/retrace"),
            "org.example.log.pdq.1"
        );
        assert_eq!(
            fingerprint_algorithm("retrace.local/log"),
            "local.retrace.pdq.1"
        );
    }

    #[test]
    fn every_format_carries_its_texts_and_the_digest_of_its_own_pixels() {
        let rgb = (0..16 * 16 * 3).map(|n| (n % 251) as u8).collect();
        let image = GeneratedImage {
            width: 16,
            height: 16,
            rgb,
            seed: Some(7),
        };
        let parameters = "a red heart, façade\nSteps: 4, Seed: 7, Size: 16x16";
        for format in [Format::Png, Format::Jpeg, Format::Webp] {
            let options = FileOptions {
                format,
                ..FileOptions::default()
            };
            let file = encode(&image, options, "request-1", Some(parameters)).unwrap();
            let decoded = media::decode(&file.bytes, &media::Limits::default()).unwrap();
            assert_eq!(decoded.format, format);
            let preimage = media::pixel_preimage(16, 16, &decoded.rgb);
            assert_eq!(file.pixel_sha256, Digest::of(&preimage), "{format}");
            let texts: Vec<_> = decoded.metadata.iter().map(|item| &item.value).collect();
            assert!(
                texts.iter().any(|text| *text == parameters),
                "{format}: {texts:?}"
            );
            let silent = encode(&image, options, "request-1", None).unwrap();
            let decoded = media::decode(&silent.bytes, &media::Limits::default()).unwrap();
            assert!(
                decoded
                    .metadata
                    .iter()
                    .all(|item| !item.value.contains("heart"))
            );
        }
    }
}
