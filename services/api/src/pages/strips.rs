//! The process in pictures: out to noise and back, with the photo prior and with the generator.

use detector::PatchPath;
use media::{MediaError, Picture};

use super::pictures;
use super::view::{Strip, StripTile};
use crate::work::{Examination, InversionStrip};

/// Pictures of each way of the generator: every step of the built-in one, and of others that many.
pub(super) const STRIP_PICTURES: usize = 24;

/// Half the range of 8-bit pixels: noise levels are measured on pixels from -1 to 1.
const GREY_LEVELS: f64 = 127.5;

/// Every strip that the examination has pictures for. It draws: for a blocking thread.
pub(super) fn draw(examination: &Examination) -> Result<Vec<Strip>, MediaError> {
    let mut strips = Vec::new();
    if let Some(path) = &examination.patch_path {
        strips.extend(patch(path)?);
    }
    if let Some(strip) = &examination.strip {
        strips.extend(generator(strip)?);
    }
    Ok(strips)
}

/// The patch under the photo prior: samples, predicted noise, and the way back.
fn patch(path: &PatchPath) -> Result<[Strip; 3], MediaError> {
    let level = |noise_level: f64| format!("{:.1}", noise_level * GREY_LEVELS);
    let tile = |rgb: &Vec<u8>, (caption, what): (String, &str)| {
        let picture = Picture::new(path.side, path.side, rgb.clone())?;
        Ok(StripTile {
            source: pictures::inline(&picture)?,
            alt: format!("{what}, {caption}"),
            caption,
        })
    };
    let each = |rgbs: &[Vec<u8>], what| -> Result<Vec<StripTile>, MediaError> {
        let levels = rgbs.iter().zip(&path.noise_levels);
        levels
            .map(|(rgb, at)| tile(rgb, (level(*at), what)))
            .collect()
    };
    let lower = path.noise_levels.iter().rev().skip(1).map(|at| level(*at));
    let captions = lower.chain(["came back".to_owned()]);
    let back = path.way_back.iter().zip(captions);
    let back: Result<Vec<_>, _> = back
        .map(|(rgb, caption)| tile(rgb, (caption, "The way back")))
        .collect();
    Ok([
        Strip {
            title: "The photo prior's inversion of one patch",
            explanation: format!(
                "The patch with the highest raw score ({} pixels from the left, {} from the top, as \
                 stored) at each noise level, in grey levels. Inversion adds only the noise that the \
                 prior finds in the picture, so that it stays recognisable.",
                path.x, path.y
            ),
            large: true,
            tiles: each(&path.samples, "The sample")?,
        },
        Strip {
            title: "The noise that the prior predicts there",
            explanation:
                "Grey is none; three standard deviations fill the scale. The trace is made \
                          of these: their size, their texture, and how they change from level to \
                          level. The probability rests on all patches, not on this one."
                    .to_owned(),
            large: true,
            tiles: each(&path.noise_preds, "The predicted noise")?,
        },
        Strip {
            title: "The reverse process of the same patch",
            explanation: "From the highest level back to a picture without noise.".to_owned(),
            large: true,
            tiles: back?,
        },
    ])
}

/// The whole picture under the generator, out and back.
fn generator(strip: &InversionStrip) -> Result<[Strip; 2], MediaError> {
    let size = if strip.resized {
        ", after resizing to the generator's own size"
    } else {
        ""
    };
    let tile = |picture: &onnx::Picture, caption: String| {
        Ok(StripTile {
            source: pictures::inline_output(picture)?,
            alt: format!("The picture, {caption}"),
            caption,
        })
    };
    let way = |pictures: &[onnx::Picture], last: &str| -> Result<Vec<StripTile>, MediaError> {
        let count = pictures.len();
        let numbered = (1..).zip(pictures);
        numbered
            .map(|(number, picture)| {
                let caption = if number == count {
                    last.to_owned()
                } else {
                    format!("{number} of {count}")
                };
                tile(picture, caption)
            })
            .collect()
    };
    let mut forward = vec![tile(&strip.autoencoded, "start".to_owned())?];
    forward.extend(way(&strip.to_noise, "noise")?);
    Ok([
        Strip {
            title: "The generator's inversion, towards noise",
            explanation: format!(
                "This service's own generator ({}) leads the whole picture to noise by DDIM \
                 inversion{size}. The strip belongs to the question whether this one generator made \
                 the picture, and has no part in the probability above.",
                strip.model
            ),
            large: false,
            tiles: forward,
        },
        Strip {
            title: "The reverse process, from that noise",
            explanation:
                "What the same generator makes of the noise, step by step. Its own outputs \
                          come back almost unchanged; other pictures less so."
                    .to_owned(),
            large: false,
            tiles: way(&strip.way_back, "came back")?,
        },
    ])
}
