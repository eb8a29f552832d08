//! One patch on its way towards noise and back under the photo prior, as pictures for people.

use diffusion::NoisePredictor;
use ndarray::{Array4, Axis};

use crate::config::TraceConfig;
use crate::error::DetectorError;
use crate::inversion::{invert, reconstruct};
use crate::picture::PictureView;

/// Standard deviations of the predicted noise that fill the scale from black to white.
const NOISE_SCALE: f32 = 3.0;

/// The inversion of one patch and the reverse process from its end. Pictures are RGB8, `side` rows
/// of `side` pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchPath {
    /// Left column of the patch in pixels.
    pub x: u32,
    /// Top row of the patch in pixels.
    pub y: u32,
    /// Side of the patch in pixels.
    pub side: u32,
    /// Noise levels, rising.
    pub noise_levels: Vec<f64>,
    /// The sample at each level; the first is the patch itself.
    pub samples: Vec<Vec<u8>>,
    /// The noise that the prior predicted at each level: grey is none, and three standard
    /// deviations fill the scale.
    pub noise_preds: Vec<Vec<u8>>,
    /// The samples of the reverse process at each lower level in falling order, ending with the
    /// noise-free estimate.
    pub way_back: Vec<Vec<u8>>,
}

/// Takes the path of the patch whose left upper corner is at (`x`, `y`).
///
/// # Errors
/// [`DetectorError::Config`] for a patch that leaves the picture, [`DetectorError::Prediction`],
/// [`DetectorError::BadPrediction`].
pub fn patch_path<P>(
    picture: &PictureView<'_>,
    (x, y): (u32, u32),
    config: &TraceConfig,
    predictor: &mut P,
) -> Result<PatchPath, DetectorError>
where
    P: NoisePredictor + ?Sized,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    config.check()?;
    let side = config.patch_side;
    let fits = |at: u32, whole: u32| at as usize + side <= whole as usize;
    if !fits(x, picture.width()) || !fits(y, picture.height()) {
        return Err(DetectorError::Config {
            reason: "the patch leaves the picture",
        });
    }
    let patch = picture.patch(x as usize, y as usize, side);
    let path = invert(patch.insert_axis(Axis(0)), &config.noise_levels, predictor)?;
    let back = reconstruct(&path, predictor)?;
    let all = |batches: &[Array4<f32>], scale: f32| {
        batches.iter().map(|batch| bytes(batch, scale)).collect()
    };
    Ok(PatchPath {
        x,
        y,
        side: side as u32,
        noise_levels: path.noise_levels.clone(),
        samples: all(&path.samples, 1.0),
        noise_preds: all(&path.noise_preds, NOISE_SCALE),
        way_back: all(&back, 1.0),
    })
}

/// The first of a batch as RGB8; -`scale` is black and `scale` is white.
fn bytes(batch: &Array4<f32>, scale: f32) -> Vec<u8> {
    let picture = batch.index_axis(Axis(0), 0);
    let pixels = picture.permuted_axes([1, 2, 0]);
    let byte = |value: &f32| (value / scale * 127.5 + 127.5).clamp(0.0, 255.0).round() as u8;
    pixels.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView4;

    use super::*;

    /// Finds the same share of every sample to be noise.
    struct Share(f32);

    impl NoisePredictor for Share {
        type Error = diffusion::DiffusionError;

        fn predict(
            &mut self,
            sample: ArrayView4<'_, f32>,
            _: f64,
        ) -> Result<Array4<f32>, Self::Error> {
            Ok(sample.mapv(|value| value * self.0))
        }
    }

    fn grey(side: u32) -> Vec<u8> {
        (0..side * side)
            .flat_map(|at| [(at % 251) as u8, 90, 200])
            .collect()
    }

    #[test]
    fn a_path_has_a_picture_for_every_level_out_and_back() {
        let rgb = grey(200);
        let picture = PictureView::new(200, 200, &rgb).unwrap();
        let config = TraceConfig::default();
        let path = patch_path(&picture, (30, 40), &config, &mut Share(0.1)).unwrap();
        assert_eq!((path.x, path.y, path.side), (30, 40, 128));
        let levels = config.noise_levels.len();
        for row in [&path.samples, &path.noise_preds, &path.way_back] {
            assert_eq!(row.len(), levels);
            assert!(row.iter().all(|picture| picture.len() == 128 * 128 * 3));
        }
        let at = (40 * 200 + 30) * 3;
        assert_eq!(path.samples[0][..3], rgb[at..at + 3]);
    }

    #[test]
    fn without_noise_the_way_back_ends_where_the_way_out_began() {
        let rgb = grey(128);
        let picture = PictureView::new(128, 128, &rgb).unwrap();
        let path = patch_path(&picture, (0, 0), &TraceConfig::default(), &mut Share(0.0)).unwrap();
        let last = path.way_back.last().unwrap();
        let furthest = last.iter().zip(&rgb).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(furthest <= Some(1), "{furthest:?}");
        assert!(path.noise_preds.iter().flatten().all(|value| *value == 128));
    }

    #[test]
    fn a_patch_that_leaves_the_picture_is_refused() {
        let rgb = grey(128);
        let picture = PictureView::new(128, 128, &rgb).unwrap();
        let path = patch_path(&picture, (1, 0), &TraceConfig::default(), &mut Share(0.0));
        assert!(
            matches!(path, Err(DetectorError::Config { .. })),
            "{path:?}"
        );
    }
}
