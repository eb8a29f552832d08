//! The autoencoder: latents to samples in -1..1, and back.

use std::time::Duration;

use ndarray::{Array4, ArrayView4, Axis, Ix4};

use crate::error::OnnxError;
use crate::folder::ModelFolder;
use crate::part::{Feed, Part};
use crate::part_config::VaeConfig;
use crate::runtime::Runtime;

const DECODER: &str = "vae_decoder";
const ENCODER: &str = "vae_encoder";
/// Bounds of the logarithm of the latents' variance, as in the reference.
const LOG_VARIANCE_MIN: f32 = -30.0;
const LOG_VARIANCE_MAX: f32 = 20.0;

/// Latents to samples.
pub(crate) struct VaeDecoder {
    part: Part,
    input: String,
    output: String,
    config: VaeConfig,
}

impl VaeDecoder {
    pub(crate) fn open(runtime: &Runtime, folder: &ModelFolder) -> Result<Self, OnnxError> {
        let config: VaeConfig = folder.part_config(DECODER)?;
        let part = Part::open(runtime, DECODER, &folder.model_path(DECODER))?;
        Ok(Self {
            input: only_input(&part, "latent_sample")?,
            output: part.output(&["sample"])?.name.clone(),
            part,
            config,
        })
    }

    /// What the configuration says.
    pub(crate) fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Decodes latents of shape (1, channels, height, width): `latents / scaling_factor +
    /// shift_factor` goes into the model.
    pub(crate) fn decode(
        &mut self,
        latents: ArrayView4<'_, f32>,
    ) -> Result<Array4<f32>, OnnxError> {
        let (scale, shift) = (self.config.scaling_factor(), self.config.shift_factor());
        let scaled = latents.map(|value| value / scale + shift);
        let feeds = [(self.input.as_str(), Feed::Real(scaled.view().into_dyn()))];
        let output = self.part.run(&feeds, &self.output)?;
        four_axes(DECODER, &self.output, output)
    }

    pub(crate) fn take_session_time(&mut self) -> Duration {
        self.part.take_session_time()
    }
}

/// Samples to latents.
pub(crate) struct VaeEncoder {
    part: Part,
    input: String,
    output: String,
    config: VaeConfig,
}

impl VaeEncoder {
    pub(crate) fn open(runtime: &Runtime, folder: &ModelFolder) -> Result<Self, OnnxError> {
        let config = folder.part_config(ENCODER)?;
        let part = Part::open(runtime, ENCODER, &folder.model_path(ENCODER))?;
        Ok(Self {
            input: only_input(&part, "sample")?,
            output: part
                .output(&["latent_parameters", "latent_sample"])?
                .name
                .clone(),
            part,
            config,
        })
    }

    /// Encodes a sample of shape (1, 3, height, width) to the means of latents of `channels`
    /// channels, scaled.
    pub(crate) fn encode(
        &mut self,
        sample: ArrayView4<'_, f32>,
        channels: usize,
    ) -> Result<Array4<f32>, OnnxError> {
        let posterior = self.posterior(sample, channels)?;
        Ok(self.scale(&posterior.mean))
    }

    /// Encodes a sample of shape (1, 3, height, width). The model answers with means, followed by
    /// log variances in most exports.
    pub(crate) fn posterior(
        &mut self,
        sample: ArrayView4<'_, f32>,
        channels: usize,
    ) -> Result<Posterior, OnnxError> {
        let feeds = [(self.input.as_str(), Feed::Real(sample.into_dyn()))];
        let output = self.part.run(&feeds, &self.output)?;
        let parameters = four_axes(ENCODER, &self.output, output)?;
        let found = parameters.dim().1;
        if found != channels && found != 2 * channels {
            return Err(OnnxError::PortKind {
                part: ENCODER.to_owned(),
                port: format!("output {:?}", self.output),
                found: format!("{found} channels"),
                expected: format!("{channels} or {}", 2 * channels),
            });
        }
        let (mean, log_variance) = parameters.view().split_at(Axis(1), channels);
        // The reference clamps the logarithm so that the deviation stays a number.
        let deviation = (found != channels).then(|| {
            log_variance.map(|&value| (0.5 * value.clamp(LOG_VARIANCE_MIN, LOG_VARIANCE_MAX)).exp())
        });
        Ok(Posterior {
            mean: mean.to_owned(),
            deviation,
        })
    }

    pub(crate) fn take_session_time(&mut self) -> Duration {
        self.part.take_session_time()
    }

    /// `(latents - shift_factor) * scaling_factor`.
    pub(crate) fn scale(&self, latents: &Array4<f32>) -> Array4<f32> {
        let (scale, shift) = (self.config.scaling_factor(), self.config.shift_factor());
        latents.map(|value| (value - shift) * scale)
    }
}

/// The normal distribution of the latents of a picture, before scaling.
pub(crate) struct Posterior {
    /// Shape (1, channels, height, width).
    pub(crate) mean: Array4<f32>,
    /// Standard deviations; `None` where the export gives no variance.
    pub(crate) deviation: Option<Array4<f32>>,
}

fn only_input(part: &Part, expected: &str) -> Result<String, OnnxError> {
    part.refuse_inputs_beyond(&[expected])?;
    Ok(part.input(expected)?.name.clone())
}

fn four_axes(
    part: &str,
    output: &str,
    array: ndarray::ArrayD<f32>,
) -> Result<Array4<f32>, OnnxError> {
    let found = format!("of shape {:?}", array.shape());
    array
        .into_dimensionality::<Ix4>()
        .map_err(|_| OnnxError::PortKind {
            part: part.to_owned(),
            port: format!("output {output:?}"),
            found,
            expected: "(1, channels, height, width)".to_owned(),
        })
}
