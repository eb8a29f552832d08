//! The predictor-corrector sampler of Song et al. 2021 (arXiv 2011.13456, algorithm 1 with the
//! ancestral predictor of equation 4 and the Langevin corrector of algorithm 5) for the
//! variance-preserving process, with the score of [`crate::score`].
//!
//! Each step asks the model twice: once to go down a noise level, once to move the sample along the
//! score of the new level, where fresh noise keeps it from settling on the nearest mode. The last
//! evaluation removes the noise that is left (Tweedie's formula, appendix G).

use ndarray::{Array4, ArrayView4, Axis};

use crate::config::SchedulerConfig;
use crate::error::DiffusionError;
use crate::scheduler::{NoiseLevel, Scheduler, SchedulerKind, StepOutput};
use crate::schedulers::probability_flow::VpPlan;
use crate::schedulers::{Conversion, StepCounter, map_pair, map_triple, refuse_shapes};
use crate::score::score_factor;
use crate::seed::NoiseSource;
use crate::spacing::Steps;

/// Signal-to-noise ratio `r` of a Langevin step, the paper's choice for CIFAR-10.
pub const SNR: f64 = 0.16;

/// The predictor-corrector scheduler.
#[derive(Debug, Clone)]
pub struct PredictorCorrector {
    plan: VpPlan,
    conversions: Vec<Conversion>,
    snr: f64,
    counter: StepCounter,
}

impl PredictorCorrector {
    /// Plans the steps; default spacing linspace, default signal-to-noise ratio [`SNR`].
    ///
    /// # Errors
    /// As [`SchedulerConfig::scheduler_at`], and for a signal-to-noise ratio that is not positive.
    pub fn new(config: &SchedulerConfig, steps: Steps<'_>) -> Result<Self, DiffusionError> {
        let snr = config.snr.unwrap_or(SNR);
        if !(snr > 0.0 && snr.is_finite()) {
            return Err(DiffusionError::Unsupported {
                option: "snr",
                value: snr.to_string(),
                hint: "; the signal-to-noise ratio is a positive number",
            });
        }
        let plan = VpPlan::new(config, steps)?;
        let evaluations = 0..plan.timesteps.len();
        Ok(Self {
            conversions: evaluations
                .map(|index| plan.conversion(config, index))
                .collect(),
            counter: StepCounter::new(plan.timesteps.len()),
            plan,
            snr,
        })
    }

    /// Equation 4: `(x + beta score) / sqrt(1 - beta) + sqrt(beta) z`, with the beta between the
    /// two levels of the plan. The arrays are the sample, the predicted noise and fresh noise.
    fn predict(&self, step_index: usize, arrays: [ArrayView4<'_, f32>; 3]) -> Array4<f32> {
        let alphas_cumprod = &self.plan.alphas_cumprod;
        let alpha_prod = alphas_cumprod[step_index];
        let alpha = alpha_prod / alphas_cumprod[step_index + 1];
        let beta = 1.0 - alpha;
        let from_noise_pred = (beta * score_factor(alpha_prod)) as f32;
        let factor = (1.0 / alpha.sqrt()) as f32;
        let deviation = beta.sqrt() as f32;
        map_triple(arrays, |sample, noise_pred, fresh| {
            (sample + from_noise_pred * noise_pred) * factor + deviation * fresh
        })
    }

    /// Algorithm 5: `x + step score + sqrt(2 step) z`, where for each image alone
    /// `step = 2 alpha (r |z| / |score|)^2`. The arrays are those of the predictor.
    fn correct(&self, step_index: usize, arrays: [ArrayView4<'_, f32>; 3]) -> Array4<f32> {
        let [sample, noise_pred, fresh] = arrays;
        let factor = score_factor(self.plan.alphas_cumprod[step_index]);
        let alpha = self.plan.alphas[step_index];
        let mut corrected = sample.to_owned();
        for (image, mut corrected) in corrected.axis_iter_mut(Axis(0)).enumerate() {
            let noise_pred = noise_pred.index_axis(Axis(0), image);
            let fresh = fresh.index_axis(Axis(0), image);
            let norm = |values: &ndarray::ArrayView3<'_, f32>| {
                let squares = values.iter().map(|&value| f64::from(value).powi(2));
                squares.sum::<f64>().sqrt()
            };
            let score_norm = factor.abs() * norm(&noise_pred);
            // Where the score vanishes there is nowhere to go.
            if score_norm <= 0.0 {
                continue;
            }
            let ratio = self.snr * norm(&fresh) / score_norm;
            let step = 2.0 * alpha * ratio * ratio;
            let (from_noise_pred, deviation) = ((step * factor) as f32, (2.0 * step).sqrt() as f32);
            corrected.zip_mut_with(&noise_pred, |value, noise_pred| {
                *value += from_noise_pred * noise_pred;
            });
            corrected.zip_mut_with(&fresh, |value, fresh| *value += deviation * fresh);
        }
        corrected
    }
}

impl Scheduler for PredictorCorrector {
    fn kind(&self) -> SchedulerKind {
        SchedulerKind::PredictorCorrector
    }

    fn timesteps(&self) -> &[f64] {
        &self.plan.timesteps
    }

    fn evaluations_per_step(&self) -> usize {
        2
    }

    fn noise_level(&self, step_index: usize) -> NoiseLevel {
        self.plan.level(step_index)
    }

    fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        self.counter.skip(first)
    }

    fn first_step(&self) -> usize {
        self.counter.next()
    }

    fn step(
        &mut self,
        step_index: usize,
        model_output: ArrayView4<'_, f32>,
        sample: ArrayView4<'_, f32>,
        noise: &mut dyn NoiseSource,
    ) -> Result<StepOutput, DiffusionError> {
        refuse_shapes(&model_output, &sample)?;
        self.counter.advance(step_index)?;
        let conversion = self.conversions[step_index];
        let pred_original_sample = map_pair(sample, model_output, |sample, output| {
            conversion.original(sample, output)
        });
        // 1. The last evaluation removes the noise that is left.
        if step_index + 1 == self.plan.timesteps.len() {
            return Ok(StepOutput {
                prev_sample: pred_original_sample.clone(),
                pred_original_sample,
            });
        }
        let noise_pred = map_pair(sample, model_output, |sample, output| {
            conversion.epsilon(sample, output)
        });
        let fresh = noise.normals(sample.dim());
        // 2. In turn the predictor goes down a level and the corrector moves within it.
        let arrays = [sample, noise_pred.view(), fresh.view()];
        let prev_sample = if step_index.is_multiple_of(2) {
            self.predict(step_index, arrays)
        } else {
            self.correct(step_index, arrays)
        };
        Ok(StepOutput {
            prev_sample,
            pred_original_sample,
        })
    }
}
