//! From the model's output to the noise-free sample and the noise.

use ndarray::{Array4, ArrayView4, Axis};

use crate::config::{PredictionType, SchedulerConfig};
use crate::error::DiffusionError;
use crate::schedulers::map_pair;

/// Default quantile of dynamic thresholding.
const THRESHOLDING_RATIO: f64 = 0.995;

/// `(from_sample * sample + from_output * output) * factor`. The factor stands outside, because
/// sample and output nearly cancel at high noise: weights that were divided by a small signal level
/// before would carry their rounding into the difference.
#[derive(Debug, Clone, Copy)]
struct Combination {
    from_sample: f32,
    from_output: f32,
    factor: f32,
}

impl Combination {
    fn new(from_sample: f64, from_output: f64, factor: f64) -> Self {
        Self {
            from_sample: from_sample as f32,
            from_output: from_output as f32,
            factor: factor as f32,
        }
    }

    fn apply(self, sample: f32, output: f32) -> f32 {
        (self.from_sample * sample + self.from_output * output) * self.factor
    }
}

/// Turns (sample, model output) into the noise-free sample and into the noise, for a sample
/// `x = signal * x0 + noise * epsilon`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversion {
    original: Combination,
    epsilon: Combination,
}

impl Conversion {
    /// `signal` is the square root of the cumulative product, `noise` that of its complement; for
    /// flow models `noise` is sigma and `signal` its complement.
    pub(crate) fn new(prediction_type: PredictionType, signal: f64, noise: f64) -> Self {
        let output_itself = Combination::new(0.0, 1.0, 1.0);
        let (original, epsilon) = match prediction_type {
            // x0 = (x - noise * output) / signal.
            PredictionType::Epsilon => (Combination::new(1.0, -noise, 1.0 / signal), output_itself),
            // epsilon = (x - signal * output) / noise.
            PredictionType::Sample => (output_itself, Combination::new(1.0, -signal, 1.0 / noise)),
            // Salimans and Ho 2022 (arXiv 2202.00512), appendix D: v = signal * epsilon - noise * x0.
            PredictionType::VPrediction => (
                Combination::new(signal, -noise, 1.0),
                Combination::new(noise, signal, 1.0),
            ),
            // Liu et al. 2022 (arXiv 2209.03003), equation 1, with signal = 1 - noise:
            // output = epsilon - x0.
            PredictionType::FlowPrediction => (
                Combination::new(1.0, -noise, 1.0),
                Combination::new(1.0, signal, 1.0),
            ),
        };
        Self { original, epsilon }
    }

    pub(crate) fn original(self, sample: f32, output: f32) -> f32 {
        self.original.apply(sample, output)
    }

    pub(crate) fn epsilon(self, sample: f32, output: f32) -> f32 {
        self.epsilon.apply(sample, output)
    }

    /// Weights of sample and model output in the noise.
    pub(crate) fn epsilon_weights(self) -> (f64, f64) {
        let Combination {
            from_sample,
            from_output,
            factor,
        } = self.epsilon;
        let factor = f64::from(factor);
        (
            f64::from(from_sample) * factor,
            f64::from(from_output) * factor,
        )
    }

    /// The guess of the noise-free sample, corrected.
    pub(crate) fn corrected_original(
        self,
        correction: Correction,
        sample: ArrayView4<'_, f32>,
        output: ArrayView4<'_, f32>,
    ) -> Array4<f32> {
        match correction {
            Correction::None => map_pair(sample, output, |sample, output| {
                self.original(sample, output)
            }),
            Correction::Clip(limit) => map_pair(sample, output, |sample, output| {
                clip(self.original(sample, output), limit)
            }),
            Correction::Threshold { ratio, limit } => {
                let mut original = map_pair(sample, output, |sample, output| {
                    self.original(sample, output)
                });
                threshold(&mut original, ratio, limit);
                original
            }
        }
    }
}

/// Refuses a prediction of flow velocities, for schedulers of the variance-preserving process.
pub(crate) fn refuse_flow_prediction(config: &SchedulerConfig) -> Result<(), DiffusionError> {
    if config.prediction_type() == PredictionType::FlowPrediction {
        return Err(DiffusionError::Unsupported {
            option: "prediction_type",
            value: "flow_prediction".to_owned(),
            hint: " by this scheduler; choose epsilon, sample or v_prediction",
        });
    }
    Ok(())
}

/// What keeps the guess of the noise-free sample in the range of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Correction {
    /// Nothing.
    None,
    /// Values beyond plus or minus the limit become the limit.
    Clip(f32),
    /// Dynamic thresholding with a quantile and the largest threshold.
    Threshold { ratio: f64, limit: f32 },
}

impl Correction {
    /// Thresholding where the configuration asks for it.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for a ratio outside 0..=1 or a largest threshold that is not
    /// positive.
    pub(crate) fn thresholding(config: &SchedulerConfig) -> Result<Self, DiffusionError> {
        if !config.thresholding.unwrap_or(false) {
            return Ok(Self::None);
        }
        let ratio = config
            .dynamic_thresholding_ratio
            .unwrap_or(THRESHOLDING_RATIO);
        if !(0.0..=1.0).contains(&ratio) {
            return Err(DiffusionError::Unsupported {
                option: "dynamic_thresholding_ratio",
                value: ratio.to_string(),
                hint: "; a quantile lies between 0 and 1",
            });
        }
        let limit = config.sample_max_value.unwrap_or(1.0) as f32;
        if !(limit > 0.0 && limit.is_finite()) {
            return Err(DiffusionError::Unsupported {
                option: "sample_max_value",
                value: limit.to_string(),
                hint: "; the largest threshold is a positive number",
            });
        }
        Ok(Self::Threshold { ratio, limit })
    }

    /// Clipping, where `clip_sample` (with its default for the scheduler) says so.
    ///
    /// # Errors
    /// [`DiffusionError::Unsupported`] for a range that is not positive.
    pub(crate) fn clipping(
        config: &SchedulerConfig,
        clip_by_default: bool,
    ) -> Result<Self, DiffusionError> {
        if !config.clip_sample.unwrap_or(clip_by_default) {
            return Ok(Self::None);
        }
        let limit = config.clip_sample_range.unwrap_or(1.0) as f32;
        if limit > 0.0 {
            return Ok(Self::Clip(limit));
        }
        Err(DiffusionError::Unsupported {
            option: "clip_sample_range",
            value: limit.to_string(),
            hint: "; the largest magnitude is a positive number",
        })
    }

    /// Thresholding where the configuration asks for it, otherwise clipping where it does.
    ///
    /// # Errors
    /// As [`Correction::thresholding`] and [`Correction::clipping`].
    pub(crate) fn thresholding_or_clipping(
        config: &SchedulerConfig,
        clip_by_default: bool,
    ) -> Result<Self, DiffusionError> {
        match Self::thresholding(config)? {
            Self::None => Self::clipping(config, clip_by_default),
            thresholding => Ok(thresholding),
        }
    }
}

/// Two choices instead of `clamp`: vector instructions know them, and NaN stays NaN.
pub(crate) fn clip(value: f32, limit: f32) -> f32 {
    let below = if value > limit { limit } else { value };
    if below < -limit { -limit } else { below }
}

/// Dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487, section 2.3), image by image: the
/// threshold is a quantile of the magnitudes, at least 1 and at most `limit`; values are clipped to
/// it and divided by it.
fn threshold(original: &mut Array4<f32>, ratio: f64, limit: f32) {
    for mut image in original.axis_iter_mut(Axis(0)) {
        // As bits: those of numbers that are not negative come in the order of the numbers.
        let mut magnitudes: Vec<u32> = image.iter().map(|value| value.abs().to_bits()).collect();
        if magnitudes.is_empty() {
            return;
        }
        let threshold = quantile(&mut magnitudes, ratio).max(1.0).min(limit);
        image.mapv_inplace(|value| clip(value, threshold) / threshold);
    }
}

/// The quantile of values that are not negative, given by their bits, by linear interpolation between neighbours.
fn quantile(values: &mut [u32], ratio: f64) -> f32 {
    let place = ratio * (values.len() - 1) as f64;
    let low = place.floor() as usize;
    let (_, at_low, above) = values.select_nth_unstable(low);
    let at_low = f32::from_bits(*at_low);
    let next = above.iter().min().map(|&next| f32::from_bits(next));
    let weight = (place - low as f64) as f32;
    next.map_or(at_low, |next| at_low + weight * (next - at_low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let mut values = [4.0_f32, 1.0, 3.0, 2.0].map(f32::to_bits);
        assert_eq!(quantile(&mut values, 0.5), 2.5);
        assert_eq!(quantile(&mut values, 0.0), 1.0);
        assert_eq!(quantile(&mut values, 1.0), 4.0);
    }

    #[test]
    fn a_ratio_that_is_no_quantile_is_refused_by_name() {
        let config =
            SchedulerConfig::parse(r#"{"thresholding": true, "dynamic_thresholding_ratio": 1.5}"#)
                .unwrap();
        let error = Correction::thresholding(&config).unwrap_err().to_string();
        assert_eq!(
            error,
            "scheduler option dynamic_thresholding_ratio = 1.5 is not supported; a quantile lies \
             between 0 and 1"
        );
    }
}
