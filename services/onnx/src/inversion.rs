//! "Was it made by this model?": the image is encoded, led to noise by DDIM inversion with the
//! empty prompt, led back, and compared with itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use diffusion::{SchedulerKind, Trace, invert, reconstruct};
use ndarray::{Array4, ArrayView4};
use serde::{Deserialize, Serialize};

use crate::denoiser::UnguidedDenoiser;
use crate::error::OnnxError;
use crate::generator::{Generator, decode, preview_indices};
use crate::pixels;
use crate::request::Picture;

/// Steps of an inversion when neither the request nor `inversion.json` names a number.
pub const STEPS: u32 = 20;
/// Added to mean squares before their logarithm is taken; equal pictures have 0.
const MEAN_SQUARE_FLOOR: f64 = 1e-8;
/// Corrections of the latents when `inversion.json` names no number.
const REFINEMENTS: usize = 4;
/// Most corrections of the latents: each runs decoder and encoder once.
pub const REFINEMENTS_MAX: usize = 64;
/// The version of `inversion.json` that is known.
const RULE_VERSION: u32 = 1;

/// A picture to invert.
#[derive(Debug, Clone, Copy)]
pub struct InvertRequest<'a> {
    /// The picture; one of another size than the model's is resized.
    pub picture: &'a Picture,
    /// Steps of inversion and reconstruction; those of `inversion.json` when `None`. The verdict
    /// needs the rule's own number.
    pub steps: Option<u32>,
    /// How many pictures of the way to noise, and as many of the way back, to decode for a strip.
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
    /// Samples along the way back from that noise, decoded, evenly spread, ending with the picture
    /// that came back.
    pub strip_back: Vec<Picture>,
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
    /// Calibrated probability that this model made the picture, where its own pictures and others
    /// were equally frequent.
    pub value: f64,
    /// Values above it say yes.
    pub threshold: f64,
    /// Whether the picture looks like an output of this model.
    pub made_by_this_model: bool,
}

/// `inversion.json`: a logistic calibration on statistics of the inversion with the empty prompt
/// and without guidance. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct InversionRule {
    /// Version of this form; 1.
    pub version: u32,
    /// Names of [`STATISTICS`].
    pub statistics: Vec<String>,
    /// One for each statistic.
    pub coefficients: Vec<f64>,
    /// Added to the weighted statistics.
    pub intercept: f64,
    /// Probabilities above it say yes.
    pub threshold_probability: f64,
    /// Corrections of the latents that the rule was fitted with.
    #[serde(default)]
    pub refinements: Option<usize>,
    /// Steps of inversion and reconstruction that the rule was fitted with; absent when it does not
    /// depend on them.
    #[serde(default)]
    pub inversion_steps: Option<u32>,
}

/// The statistics, natural logarithms all. With x the picture in -1..1, E the encoder's mean and D
/// the decoder clipped to -1..1: z = E(x), and the corrections `z_(k+1) = z_k + E(x) - E(D(z_k))`
/// from `z_0 = z`. A picture that the decoder made is in its range, so that the corrections find it.
///
/// - `reconstruction_log_mse`: mean square of D(z) - x.
/// - `refined_reconstruction_log_mse`: the same for the last corrected latents.
/// - `refinement_gain`: the second minus the first.
/// - `cycle_log_mse`: mean square of E(D(z)) - z.
/// - `inversion_log_mse`: mean square of the latents that came back minus z.
/// - `noise_log_mean_square`: of the noise that the inversion ended in.
/// - `first_step_log_mean_square`: of the model's output at the first step.
pub const STATISTICS: [&str; 7] = [
    "reconstruction_log_mse",
    "refined_reconstruction_log_mse",
    "refinement_gain",
    "cycle_log_mse",
    "inversion_log_mse",
    "noise_log_mean_square",
    "first_step_log_mean_square",
];

impl InversionRule {
    /// Refuses another version, statistics that are not known, and lists of two lengths. The reason
    /// comes back as text for the caller's error.
    pub(crate) fn refuse_unknown(&self) -> Result<(), String> {
        if self.version != RULE_VERSION {
            return Err(format!(
                "version {} is not known; {RULE_VERSION} is",
                self.version
            ));
        }
        let known = |name: &&String| STATISTICS.contains(&name.as_str());
        if let Some(name) = self.statistics.iter().find(|name| !known(name)) {
            return Err(format!("the statistic {name:?} is not known"));
        }
        if self.statistics.len() != self.coefficients.len() {
            return Err(format!(
                "{} statistics with {} coefficients",
                self.statistics.len(),
                self.coefficients.len()
            ));
        }
        if self
            .refinements
            .is_some_and(|count| count > REFINEMENTS_MAX)
        {
            return Err(format!("more than {REFINEMENTS_MAX} refinements"));
        }
        Ok(())
    }

    /// Applies the rule.
    fn apply(&self, statistics: &BTreeMap<String, f64>) -> InversionVerdict {
        let weighted = self.statistics.iter().zip(&self.coefficients);
        let logit: f64 = weighted
            .map(|(name, coefficient)| coefficient * statistics[name])
            .sum::<f64>()
            + self.intercept;
        let value = 1.0 / (1.0 + (-logit).exp());
        InversionVerdict {
            value,
            threshold: self.threshold_probability,
            made_by_this_model: value > self.threshold_probability,
        }
    }
}

impl Generator {
    /// Whether the model folder has what an inversion needs.
    pub fn can_invert(&self) -> bool {
        // The inversion is that of DDIM: of models that predict noise, from the sample alone.
        let has_way_in = self.decoder.is_none() || self.encoder.is_some();
        has_way_in
            && !self.family.is_flow()
            && !self.denoiser.is_inpainting()
            && self.class_count().is_none()
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
        let steps = self.inversion_steps(request.steps);
        let (picture, resized) = self.fit(request.picture)?;
        let image = pixels::sample(&picture);
        let latents = self.encode_sample(image.view())?;
        let autoencoded = decode(&mut self.decoder, latents.view())?;
        let (trace, back) = self.there_and_back(steps, &latents, on_step)?;
        let reconstructed_latents = back.last().unwrap_or(&latents).clone();
        let reconstructed = decode(&mut self.decoder, reconstructed_latents.view())?;
        let statistics = statistics(
            &self.refine(image.view(), &latents)?,
            &trace,
            &reconstructed_latents,
        );
        let rule = self.inversion_rule.as_ref().filter(|rule| {
            rule.inversion_steps
                .is_none_or(|fitted| fitted as usize == steps)
        });
        let verdict = rule.map(|rule| rule.apply(&statistics));
        let out: Vec<_> = trace.steps.iter().map(|step| step.sample.view()).collect();
        let strip = self.decode_some(&out, request.preview_steps)?;
        let back: Vec<_> = back.iter().map(|sample| sample.view()).collect();
        let strip_back = self.decode_some(&back, request.preview_steps)?;
        Ok(Inversion {
            latents,
            trace,
            reconstruction: pixels::picture("vae_decoder", reconstructed.view())?,
            reconstructed_latents,
            autoencoded: pixels::picture("vae_decoder", autoencoded.view())?,
            strip,
            strip_back,
            resized,
            statistics,
            verdict,
        })
    }

    /// The noise that the inversion of a picture ends in, shape (1, channels, height, width): what
    /// [`Generator::invert`] finds on its way, and no more.
    ///
    /// # Errors
    /// As [`Generator::invert`].
    pub fn noise_of(&mut self, picture: &Picture) -> Result<Array4<f32>, OnnxError> {
        let steps = self.inversion_steps(None);
        let (picture, _) = self.fit(picture)?;
        let latents = self.encode_sample(pixels::sample(&picture).view())?;
        let conditioning = self.empty_conditions()?.conditioning(&self.denoiser);
        let config = self.scheduler_config.for_inversion();
        let mut inverse = config.scheduler(SchedulerKind::DdimInverse, steps)?;
        let mut predictor = UnguidedDenoiser::new(&mut self.denoiser, &conditioning);
        let mut go_on = |_: &_| ControlFlow::Continue(());
        let trace = invert(&mut predictor, inverse.as_mut(), latents, &mut go_on)?;
        Ok(trace.noise().clone())
    }

    /// Whether the starting noise of this model's images can carry a watermark, and give it back.
    pub fn carries_watermark(&self) -> bool {
        let (channels, height, width) = self.sample_shape();
        self.can_invert() && channels * height * width >= diffusion::watermark::VALUES_MIN
    }

    /// Steps of an inversion: those that were asked for, or the rule's.
    fn inversion_steps(&self, asked: Option<u32>) -> usize {
        let rule = self.inversion_rule.as_ref();
        let steps = asked.or(rule.and_then(|rule| rule.inversion_steps));
        steps.unwrap_or(STEPS) as usize
    }

    /// Decodes some of the samples, evenly spread and ending with the last one.
    fn decode_some(
        &mut self,
        samples: &[ArrayView4<'_, f32>],
        wanted: usize,
    ) -> Result<Vec<Picture>, OnnxError> {
        let indices = preview_indices(samples.len(), wanted);
        let pictures = indices.into_iter().map(|index| {
            let sample = decode(&mut self.decoder, samples[index])?;
            pixels::picture("vae_decoder", sample.view())
        });
        pictures.collect()
    }

    /// Inversion with the empty prompt and without guidance, then reconstruction: the trace, and
    /// the samples after each step of the way back.
    fn there_and_back(
        &mut self,
        steps: usize,
        latents: &Array4<f32>,
        on_step: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(Trace, Vec<Array4<f32>>), OnnxError> {
        let conditioning = self.empty_conditions()?.conditioning(&self.denoiser);
        let config = self.scheduler_config.for_inversion();
        let mut inverse = config.scheduler(SchedulerKind::DdimInverse, steps)?;
        let mut forward = config.scheduler(SchedulerKind::Ddim, steps)?;
        let all = inverse.timesteps().len() + forward.timesteps().len();
        let mut predictor = UnguidedDenoiser::new(&mut self.denoiser, &conditioning);
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
        let mut back = Vec::with_capacity(forward.timesteps().len());
        reconstruct(&mut predictor, forward.as_mut(), &trace, &mut |report| {
            back.push(report.sample.clone());
            done += 1;
            on_step(done, all)
        })?;
        Ok((trace, back))
    }

    /// Corrects the latents of a picture step by step, see [`STATISTICS`].
    fn refine(
        &mut self,
        image: ArrayView4<'_, f32>,
        latents: &Array4<f32>,
    ) -> Result<Refinement, OnnxError> {
        let rule = self.inversion_rule.as_ref();
        let refinements = rule.and_then(|rule| rule.refinements);
        let mut corrected = latents.clone();
        let mut decoded = self.decode_clipped(corrected.view())?;
        let first_log_mse = log_mse(decoded.view(), image);
        let mut cycle_log_mse = None;
        for _ in 0..refinements.unwrap_or(REFINEMENTS) {
            let again = self.encode_sample(decoded.view())?;
            cycle_log_mse.get_or_insert_with(|| log_mse(again.view(), latents.view()));
            corrected = corrected + latents - &again;
            decoded = self.decode_clipped(corrected.view())?;
        }
        Ok(Refinement {
            first_log_mse,
            last_log_mse: log_mse(decoded.view(), image),
            // Without any correction there was no second encoding.
            cycle_log_mse: match cycle_log_mse {
                Some(value) => value,
                None => log_mse(self.encode_sample(decoded.view())?.view(), latents.view()),
            },
        })
    }

    fn decode_clipped(&mut self, latents: ArrayView4<'_, f32>) -> Result<Array4<f32>, OnnxError> {
        let sample = decode(&mut self.decoder, latents)?;
        Ok(sample.mapv_into(|value| value.clamp(-1.0, 1.0)))
    }

    fn encode_sample(&mut self, image: ArrayView4<'_, f32>) -> Result<Array4<f32>, OnnxError> {
        let channels = self.sample_shape().0;
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
}

/// What the corrections of the latents found.
struct Refinement {
    first_log_mse: f64,
    last_log_mse: f64,
    cycle_log_mse: f64,
}

fn statistics(
    refinement: &Refinement,
    trace: &Trace,
    reconstructed_latents: &Array4<f32>,
) -> BTreeMap<String, f64> {
    let first_output = trace.steps.first().map(|step| step.noise_pred.view());
    let values = [
        refinement.first_log_mse,
        refinement.last_log_mse,
        refinement.last_log_mse - refinement.first_log_mse,
        refinement.cycle_log_mse,
        log_mse(reconstructed_latents.view(), trace.original.view()),
        log_mean_square(trace.noise().view()),
        first_output.map_or(f64::NAN, log_mean_square),
    ];
    let names = STATISTICS.map(str::to_owned);
    names.into_iter().zip(values).collect()
}

fn log_mse(left: ArrayView4<'_, f32>, right: ArrayView4<'_, f32>) -> f64 {
    let pairs = left.iter().zip(right.iter());
    let squares = pairs.map(|(&left, &right)| (f64::from(left) - f64::from(right)).powi(2));
    (squares.sum::<f64>() / left.len().max(1) as f64 + MEAN_SQUARE_FLOOR).ln()
}

fn log_mean_square(array: ArrayView4<'_, f32>) -> f64 {
    let squares = array.iter().map(|&value| f64::from(value).powi(2));
    (squares.sum::<f64>() / array.len().max(1) as f64 + MEAN_SQUARE_FLOOR).ln()
}
