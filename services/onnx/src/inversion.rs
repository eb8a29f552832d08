//! "Was it made by this model?": the image is encoded, led to noise by DDIM inversion with the
//! empty prompt, led back, and compared with itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use diffusion::{SchedulerKind, Trace, invert, reconstruct};
use ndarray::{Array4, ArrayView4};
use serde::{Deserialize, Serialize};

use crate::error::OnnxError;
use crate::generator::{Generator, decode, preview_indices};
use crate::pixels;
use crate::request::Picture;
use crate::unet::{ConditionedUnet, Conditioning};

/// Steps of an inversion when neither the request nor `inversion.json` names a number.
pub const STEPS: u32 = 20;
/// Smallest value whose logarithm is taken; statistics of equal pictures are 0.
const LOG_FLOOR: f64 = 1e-12;

/// A picture to invert.
#[derive(Debug, Clone, Copy)]
pub struct InvertRequest<'a> {
    /// The picture; one of another size than the model's is resized.
    pub picture: &'a Picture,
    /// Steps of inversion and reconstruction; those of `inversion.json` when `None`. The verdict
    /// needs the rule's own number.
    pub steps: Option<u32>,
    /// How many pictures of the way to decode, for a strip.
    pub preview_steps: usize,
}

/// What an inversion found.
#[derive(Debug, Clone)]
pub struct Inversion {
    /// The encoded picture, shape (1, channels, height, width).
    pub latents: Array4<f32>,
    /// The way to noise.
    pub trace: Trace,
    /// The latents that came back.
    pub reconstructed_latents: Array4<f32>,
    /// The picture that came back.
    pub reconstruction: Picture,
    /// The picture after encoding and decoding alone.
    pub autoencoded: Picture,
    /// Samples along the way to noise, decoded, evenly spread, ending with the noise.
    pub strip: Vec<Picture>,
    /// Whether the picture had to be resized.
    pub resized: bool,
    /// Every statistic of [`STATISTICS`], by name.
    pub statistics: BTreeMap<String, f64>,
    /// The verdict, where the model folder has an `inversion.json` and its number of steps ran.
    pub verdict: Option<InversionVerdict>,
}

/// The rule of `inversion.json` applied to one picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InversionVerdict {
    /// `bias` plus the weighted statistics.
    pub value: f64,
    /// Values above it say yes.
    pub threshold: f64,
    /// Whether the picture looks like an output of this model.
    pub made_by_this_model: bool,
}

/// `inversion.json`: `value = bias + sum of weight * statistic` (or its natural logarithm), and
/// values above `threshold` say that the model made the picture. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct InversionRule {
    /// Version of this form; 1.
    pub version: u32,
    /// Steps of inversion and reconstruction that the rule was fitted with.
    pub steps: u32,
    /// Added to the sum.
    #[serde(default)]
    pub bias: f64,
    /// Values above it say yes.
    pub threshold: f64,
    /// The weighted statistics.
    pub terms: Vec<InversionTerm>,
}

/// One weighted statistic.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct InversionTerm {
    /// A name of [`STATISTICS`].
    pub statistic: String,
    /// Its weight; negative where small values speak for the model.
    pub weight: f64,
    /// Whether the natural logarithm is taken first (of at least 1e-12).
    #[serde(default)]
    pub log: bool,
}

/// The statistics: x is the picture in -1..1, z its latents, D and E decoder and encoder.
///
/// - `autoencoder_l1`, `autoencoder_mse`: mean |x - D(E(x))| and its square.
/// - `latent_reconstruction_mse`: mean square of z minus the latents that came back.
/// - `image_reconstruction_mse`: mean square of x minus the decoded latents that came back.
/// - `path_original_mse`: mean, over the steps, of the mean square of z minus the model's guess of
///   the noise-free sample.
/// - `path_original_last_mse`: the same at the last step.
/// - `noise_mean_abs`, `noise_std`, `noise_kurtosis`: of the noise at the end; 0, 1 and 3 for
///   standard normal noise.
/// - `noise_neighbour_correlation`: correlation of horizontal and vertical neighbours in the noise.
pub const STATISTICS: [&str; 10] = [
    "autoencoder_l1",
    "autoencoder_mse",
    "latent_reconstruction_mse",
    "image_reconstruction_mse",
    "path_original_mse",
    "path_original_last_mse",
    "noise_mean_abs",
    "noise_std",
    "noise_kurtosis",
    "noise_neighbour_correlation",
];

impl InversionRule {
    /// Applies the rule.
    ///
    /// # Errors
    /// [`OnnxError::Request`] for another version or a statistic that is not known.
    pub fn apply(&self, statistics: &BTreeMap<String, f64>) -> Result<InversionVerdict, OnnxError> {
        if self.version != 1 {
            return Err(OnnxError::request(format!(
                "inversion.json has version {}; 1 is known",
                self.version
            )));
        }
        let mut value = self.bias;
        for term in &self.terms {
            let statistic = statistics.get(&term.statistic).ok_or_else(|| {
                OnnxError::request(format!(
                    "inversion.json names the statistic {:?}, which is not known",
                    term.statistic
                ))
            })?;
            let input = if term.log {
                statistic.max(LOG_FLOOR).ln()
            } else {
                *statistic
            };
            value += term.weight * input;
        }
        Ok(InversionVerdict {
            value,
            threshold: self.threshold,
            made_by_this_model: value > self.threshold,
        })
    }
}

impl Generator {
    /// Whether the model folder has what an inversion needs.
    pub fn can_invert(&self) -> bool {
        self.decoder.is_none() || self.encoder.is_some()
    }

    /// Inverts a picture. `on_step` is called with the number of steps done and of all steps (of
    /// inversion and reconstruction together) and may stop the work.
    ///
    /// # Errors
    /// As [`Generator::generate`]; [`OnnxError::FileMissing`] when the folder has no `vae_encoder`.
    pub fn invert(
        &mut self,
        request: &InvertRequest<'_>,
        on_step: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Inversion, OnnxError> {
        let rule_steps = self.inversion_rule.as_ref().map(|rule| rule.steps);
        let steps = request.steps.or(rule_steps).unwrap_or(STEPS) as usize;
        let (picture, resized) = self.fit(request.picture)?;
        let image = pixels::sample(&picture);
        let latents = self.encode_sample(image.view())?;
        let autoencoded = decode(&mut self.decoder, latents.view())?;
        let (trace, reconstructed_latents) = self.there_and_back(steps, &latents, on_step)?;
        let reconstructed = decode(&mut self.decoder, reconstructed_latents.view())?;
        let statistics = statistics(&Comparison {
            image: image.view(),
            autoencoded: autoencoded.view(),
            reconstructed: reconstructed.view(),
            reconstructed_latents: reconstructed_latents.view(),
            trace: &trace,
        });
        let rule = self
            .inversion_rule
            .as_ref()
            .filter(|rule| rule.steps as usize == steps);
        let verdict = rule.map(|rule| rule.apply(&statistics)).transpose()?;
        let mut strip = Vec::with_capacity(request.preview_steps);
        for index in preview_indices(trace.steps.len(), request.preview_steps) {
            let sample = decode(&mut self.decoder, trace.steps[index].sample.view())?;
            strip.push(pixels::picture("vae_decoder", sample.view())?);
        }
        Ok(Inversion {
            latents,
            trace,
            reconstruction: pixels::picture("vae_decoder", reconstructed.view())?,
            reconstructed_latents,
            autoencoded: pixels::picture("vae_decoder", autoencoded.view())?,
            strip,
            resized,
            statistics,
            verdict,
        })
    }

    /// Inversion with the empty prompt and without guidance, then reconstruction.
    fn there_and_back(
        &mut self,
        steps: usize,
        latents: &Array4<f32>,
        on_step: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(Trace, Array4<f32>), OnnxError> {
        let conditioning = match &mut self.text_encoder {
            Some(text_encoder) => Conditioning::Prompt(text_encoder.encode("")?.0),
            None => Conditioning::None,
        };
        let config = self.scheduler_config.for_inversion();
        let mut inverse = config.scheduler(SchedulerKind::DdimInverse, steps)?;
        let mut forward = config.scheduler(SchedulerKind::Ddim, steps)?;
        let all = inverse.timesteps().len() + forward.timesteps().len();
        let mut predictor = ConditionedUnet {
            unet: &mut self.unet,
            conditioning: &conditioning,
        };
        let mut done = 0;
        let trace = invert(
            &mut predictor,
            inverse.as_mut(),
            latents.clone(),
            &mut |_| {
                done += 1;
                on_step(done, all)
            },
        )?;
        let back = reconstruct(&mut predictor, forward.as_mut(), &trace, &mut |_| {
            done += 1;
            on_step(done, all)
        })?;
        Ok((trace, back))
    }

    fn encode_sample(&mut self, image: ArrayView4<'_, f32>) -> Result<Array4<f32>, OnnxError> {
        let channels = self.unet.sample_shape().0;
        match (&mut self.encoder, &self.decoder) {
            (Some(encoder), _) => encoder.encode(image, channels),
            (None, None) => Ok(image.to_owned()),
            (None, Some(_)) => Err(OnnxError::FileMissing {
                path: "vae_encoder/model.onnx".into(),
            }),
        }
    }

    /// The picture in the model's own size, and whether it had to be resized.
    fn fit(&mut self, picture: &Picture) -> Result<(Picture, bool), OnnxError> {
        let bytes = picture.width as usize * picture.height as usize * 3;
        if bytes == 0 || picture.rgb.len() != bytes {
            return Err(OnnxError::request(format!(
                "a picture of {} x {} pixels with {} bytes; expected {bytes}",
                picture.width,
                picture.height,
                picture.rgb.len()
            )));
        }
        let (width, height) = self.picture_size()?;
        if (picture.width, picture.height) == (width, height) {
            return Ok((picture.clone(), false));
        }
        Ok((pixels::resize(picture, width, height), true))
    }

    /// Width and height of the model's pictures, found by decoding once.
    pub fn picture_size(&mut self) -> Result<(u32, u32), OnnxError> {
        if let Some(size) = self.picture_size {
            return Ok(size);
        }
        let (channels, height, width) = self.unet.sample_shape();
        let blank = Array4::zeros((1, channels, height, width));
        let sample = decode(&mut self.decoder, blank.view())?;
        let (_, _, height, width) = sample.dim();
        let size = (width as u32, height as u32);
        self.picture_size = Some(size);
        Ok(size)
    }
}

/// What the statistics are computed from.
struct Comparison<'a> {
    image: ArrayView4<'a, f32>,
    autoencoded: ArrayView4<'a, f32>,
    reconstructed: ArrayView4<'a, f32>,
    reconstructed_latents: ArrayView4<'a, f32>,
    trace: &'a Trace,
}

fn statistics(comparison: &Comparison<'_>) -> BTreeMap<String, f64> {
    let trace = comparison.trace;
    let latents = trace.original.view();
    let path: Vec<f64> = trace
        .steps
        .iter()
        .map(|step| mean_square(latents, step.pred_original_sample.view()))
        .collect();
    let noise = trace.noise();
    let count = noise.len() as f64;
    let mean = noise.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let moment = |power: i32| {
        let deviations = noise
            .iter()
            .map(|&value| (f64::from(value) - mean).powi(power));
        deviations.sum::<f64>() / count
    };
    let variance = moment(2).max(f64::MIN_POSITIVE);
    let values = [
        mean_abs(comparison.image, comparison.autoencoded),
        mean_square(comparison.image, comparison.autoencoded),
        mean_square(latents, comparison.reconstructed_latents),
        mean_square(comparison.image, comparison.reconstructed),
        path.iter().sum::<f64>() / path.len().max(1) as f64,
        path.last().copied().unwrap_or(0.0),
        mean.abs(),
        variance.sqrt(),
        moment(4) / (variance * variance),
        neighbour_covariance(noise.view(), mean) / variance,
    ];
    let names = STATISTICS.map(str::to_owned);
    names.into_iter().zip(values).collect()
}

fn mean_square(left: ArrayView4<'_, f32>, right: ArrayView4<'_, f32>) -> f64 {
    mean_of(left, right, |difference| difference * difference)
}

fn mean_abs(left: ArrayView4<'_, f32>, right: ArrayView4<'_, f32>) -> f64 {
    mean_of(left, right, f64::abs)
}

fn mean_of(
    left: ArrayView4<'_, f32>,
    right: ArrayView4<'_, f32>,
    measure: impl Fn(f64) -> f64,
) -> f64 {
    let pairs = left.iter().zip(right.iter());
    let total: f64 = pairs
        .map(|(&left, &right)| measure(f64::from(left) - f64::from(right)))
        .sum();
    total / left.len().max(1) as f64
}

/// Mean product of the deviations of horizontal and vertical neighbours.
fn neighbour_covariance(noise: ArrayView4<'_, f32>, mean: f64) -> f64 {
    let (batch, channels, height, width) = noise.dim();
    let (mut total, mut pairs) = (0.0, 0_usize);
    for row in 0..batch {
        for channel in 0..channels {
            for y in 0..height {
                for x in 0..width {
                    let here = f64::from(noise[[row, channel, y, x]]) - mean;
                    if x + 1 < width {
                        total += here * (f64::from(noise[[row, channel, y, x + 1]]) - mean);
                        pairs += 1;
                    }
                    if y + 1 < height {
                        total += here * (f64::from(noise[[row, channel, y + 1, x]]) - mean);
                        pairs += 1;
                    }
                }
            }
        }
    }
    total / pairs.max(1) as f64
}
