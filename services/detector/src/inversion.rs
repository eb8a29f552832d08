//! DDIM inversion over noise levels: the deterministic forward path of a picture under the prior.
//!
//! With `x` the sample at noise level `s` and `a(s) = sqrt(1 - s^2)`:
//! `x0 = (x - s * noise_pred) / a(s)`, `x' = a(s') * x0 + s' * noise_pred` (Song et al. 2020, arXiv
//! 2010.02502, eq. 13, run towards more noise). The picture itself is taken as the sample at the
//! first level.

use diffusion::NoisePredictor;
use ndarray::{Array4, Zip};

use crate::error::DetectorError;

/// Signal scale at a noise level.
#[must_use]
pub fn signal_scale(noise_level: f64) -> f64 {
    (1.0 - noise_level * noise_level).sqrt()
}

/// The path of a batch: what the prior predicted at each level, and the samples it was asked about.
#[derive(Debug)]
pub struct InversionPath {
    /// Noise levels, rising.
    pub noise_levels: Vec<f64>,
    /// For each level the predicted noise, shape (batch, 3, side, side).
    pub noise_preds: Vec<Array4<f32>>,
    /// For each level the sample, same shape.
    pub samples: Vec<Array4<f32>>,
}

/// Runs the inversion of `sample` (values in [-1, 1]) over rising `noise_levels`.
///
/// # Errors
/// [`DetectorError::Prediction`] and [`DetectorError::BadPrediction`].
pub fn invert<P>(
    sample: Array4<f32>,
    noise_levels: &[f64],
    predictor: &mut P,
) -> Result<InversionPath, DetectorError>
where
    P: NoisePredictor + ?Sized,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut path = InversionPath {
        noise_levels: noise_levels.to_vec(),
        noise_preds: Vec::with_capacity(noise_levels.len()),
        samples: Vec::with_capacity(noise_levels.len()),
    };
    let mut sample = sample;
    for (index, &noise_level) in noise_levels.iter().enumerate() {
        let noise_pred = predict(&sample, noise_level, predictor)?;
        let next = noise_levels.get(index + 1).map(|&next_level| {
            let (scale, next_scale) = (signal_scale(noise_level), signal_scale(next_level));
            let of_sample = (next_scale / scale) as f32;
            let of_noise = (next_level - next_scale * noise_level / scale) as f32;
            Zip::from(&sample)
                .and(&noise_pred)
                .map_collect(|x, e| of_sample * x + of_noise * e)
        });
        path.noise_preds.push(noise_pred);
        path.samples.push(sample);
        match next {
            Some(next) => sample = next,
            None => break,
        }
    }
    Ok(path)
}

/// The reverse process from the end of a path back over its levels: the samples at each lower
/// level in falling order, and last the noise-free estimate at the lowest one. With a prior that
/// were exact the last one would be the picture itself.
///
/// # Errors
/// [`DetectorError::Prediction`] and [`DetectorError::BadPrediction`].
pub fn reconstruct<P>(
    path: &InversionPath,
    predictor: &mut P,
) -> Result<Vec<Array4<f32>>, DetectorError>
where
    P: NoisePredictor + ?Sized,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut samples = Vec::with_capacity(path.noise_levels.len());
    let Some(mut sample) = path.samples.last().cloned() else {
        return Ok(samples);
    };
    for (index, &noise_level) in path.noise_levels.iter().enumerate().rev() {
        let noise_pred = predict(&sample, noise_level, predictor)?;
        // Below the lowest level there is no noise left.
        let next_level = index
            .checked_sub(1)
            .map_or(0.0, |next| path.noise_levels[next]);
        let (scale, next_scale) = (signal_scale(noise_level), signal_scale(next_level));
        let of_sample = (next_scale / scale) as f32;
        let of_noise = (next_level - next_scale * noise_level / scale) as f32;
        sample = Zip::from(&sample)
            .and(&noise_pred)
            .map_collect(|x, e| of_sample * x + of_noise * e);
        samples.push(sample.clone());
    }
    Ok(samples)
}

/// One prediction, refused where it has another shape or is not finite.
fn predict<P>(
    sample: &Array4<f32>,
    noise_level: f64,
    predictor: &mut P,
) -> Result<Array4<f32>, DetectorError>
where
    P: NoisePredictor + ?Sized,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let noise_pred = predictor
        .predict(sample.view(), noise_level)
        .map_err(|error| DetectorError::Prediction {
            noise_level,
            source: error.into(),
        })?;
    let refuse = |what| Err(DetectorError::BadPrediction { noise_level, what });
    if noise_pred.dim() != sample.dim() {
        return refuse("another shape");
    }
    if noise_pred.iter().any(|value| !value.is_finite()) {
        return refuse("values not finite");
    }
    Ok(noise_pred)
}
