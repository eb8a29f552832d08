//! How what lies under a mask is painted anew, in the way of A1111's web interface.

use media::{PaintMask, Painting, PaintingOptions};
use onnx::{GenerateRequest, GeneratedImage, Mask, MaskFill, Picture};
use provenance::Decimal;
use serde::{Deserialize, Serialize};

use super::source::{SourceMask, SourcePicture};
use super::{Plan, WorkError};
use crate::config::Limits;

/// Largest softening of a mask's edge in pixels, the end of the slider in A1111's interface.
const MASK_BLUR_MAX: f32 = 64.0;

/// How a masked part is painted. Without it a mask is sharp, the whole picture goes through the model, and what lies
/// under the mask starts from the picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskPainting {
    /// Deviation in pixels of the Gaussian that softens the mask's edge.
    pub blur: f32,
    /// What lies under the mask at the start.
    pub content: MaskedContent,
    /// Pixels round the mask that are worked on with it; none works on the whole picture.
    pub padding: Option<u32>,
}

/// What lies under a mask at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskedContent {
    /// The colours round it.
    Fill,
    /// The picture.
    Original,
    /// Noise, as latents.
    LatentNoise,
    /// Latents of zero.
    LatentNothing,
}

impl MaskedContent {
    /// All, in the order of their numbers in A1111's interface.
    pub const ALL: [Self; 4] = [
        Self::Fill,
        Self::Original,
        Self::LatentNoise,
        Self::LatentNothing,
    ];

    /// Its name in entries and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Original => "original",
            Self::LatentNoise => "latent noise",
            Self::LatentNothing => "latent nothing",
        }
    }

    fn in_latents(self) -> MaskFill {
        match self {
            Self::Fill | Self::Original => MaskFill::Picture,
            Self::LatentNoise => MaskFill::Noise,
            Self::LatentNothing => MaskFill::Zeros,
        }
    }
}

impl MaskPainting {
    /// Refuses values out of range, and a part of a picture that is over the limit of what this service makes: the
    /// part comes back inside it.
    pub(super) fn check(
        &self,
        sources: (Option<&SourcePicture>, Option<&SourceMask>),
        limits: &Limits,
    ) -> Result<(), WorkError> {
        let (Some(picture), Some(_)) = sources else {
            let detail = "softening, content and padding belong to a picture and its mask";
            return Err(WorkError::invalid("mask", detail));
        };
        if !(0.0..=MASK_BLUR_MAX).contains(&self.blur) {
            let detail = format!(
                "mask_blur is {}, it must be 0 to {MASK_BLUR_MAX}",
                self.blur
            );
            return Err(WorkError::invalid("mask_blur", detail));
        }
        let (width, height) = (picture.width, picture.height);
        let most = limits.picture_pixels_max;
        if self.padding.is_some() && u64::from(width) * u64::from(height) > most {
            let detail = format!(
                "the picture is {width}x{height}, over picture_pixels_max ({most}): without \
                 inpaint_full_res it would be made smaller first"
            );
            return Err(WorkError::invalid("init_images", detail));
        }
        Ok(())
    }

    /// Names and values for entries.
    pub(super) fn settings(&self) -> Result<Vec<(&'static str, String)>, WorkError> {
        let area = match self.padding {
            Some(_) => "only masked",
            None => "whole picture",
        };
        let mut settings = vec![
            ("mask_blur", Decimal::from_f32(self.blur)?.to_string()),
            ("masked_content", self.content.name().to_owned()),
            ("inpaint_area", area.to_owned()),
        ];
        let padding = self.padding.map(|padding| padding.to_string());
        settings.extend(padding.map(|padding| ("masked_area_padding", padding)));
        Ok(settings)
    }
}

impl Plan {
    /// The request for the generator, and what its images go back into where a part of a picture is painted. Blocks:
    /// a wide blur of a large picture takes its time.
    ///
    /// # Errors
    /// A mask that is blank.
    pub(super) fn prepared(&self) -> Result<(GenerateRequest, Option<Painting>), WorkError> {
        let request = self.request();
        let (Some(how), Some(picture), Some(mask), Some(size)) = (
            self.painting,
            &request.init_image,
            &request.mask,
            request.size,
        ) else {
            return Ok((request, None));
        };
        let refused = |error: media::MediaError| WorkError::invalid("mask", error.to_string());
        let picture = media::Picture::new(picture.width, picture.height, picture.rgb.clone());
        let mask = PaintMask::new(mask.width, mask.height, mask.luma.clone());
        let options = PaintingOptions {
            blur: how.blur,
            padding: how.padding,
            fill: how.content == MaskedContent::Fill,
            size,
        };
        let (painting, canvas) =
            Painting::prepare(&picture.map_err(refused)?, &mask.map_err(refused)?, options)
                .map_err(refused)?;
        let (width, height) = size;
        let request = GenerateRequest {
            init_image: Some(Picture {
                width,
                height,
                rgb: canvas.picture.rgb().to_vec(),
            }),
            mask: Some(Mask {
                width,
                height,
                luma: canvas.mask.luma().to_vec(),
            }),
            mask_fill: how.content.in_latents(),
            ..request
        };
        Ok((request, Some(painting)))
    }
}

/// Puts what the model painted back into its picture.
///
/// # Errors
/// Should the model have made a picture of no size.
pub(super) fn finish(
    painting: &Painting,
    part: &GeneratedImage,
) -> Result<GeneratedImage, WorkError> {
    let made = media::Picture::new(part.width, part.height, part.rgb.clone());
    let whole = made.and_then(|made| painting.finish(&made));
    let whole = whole.map_err(WorkError::Encode)?;
    Ok(GeneratedImage {
        width: whole.width(),
        height: whole.height(),
        rgb: whole.rgb().to_vec(),
        seed: part.seed,
    })
}
